"""Commands on protocols and recordings of a cell."""

import os
from pathlib import Path
from typing import Any

from neurosim.cli.console import Output
from neurosim.cli.pictures import columns, figure_at, pictures
from neurosim.errors import InputError
from neurosim.traces.naming import beside


def of_network(command: str, **options: Any) -> None:
    """Refuse options that only protocols of networks have."""
    for name, value in options.items():
        if value not in (None, False):
            raise InputError(
                f"--{name}: belongs to protocols of networks; {command} of a cell has none"
            )


def record(output: Output, protocol: Any, out: Path | None, force: bool) -> None:
    """Record cells, draw them, and say what was measured."""
    from neurosim.recordings import recording, synapses

    about = synapses if _of_synapses(protocol) else recording
    trace = about.trace_path(protocol.spec, out)
    figure = figure_at(None, beside(trace, ".png"), force or os.path.exists(trace))
    recorded(output, recording.record(protocol, out=trace, force=force), figure)


def is_recording(done: Any) -> bool:
    """Whether cells were recorded, and no network was run."""
    from neurosim.recordings import recording, synapses

    return isinstance(done, recording.Recording | synapses.SynapticRecording)


def recorded(output: Output, done: Any, figure: Path) -> None:
    """Draw a finished recording and say what was measured."""
    from neurosim.recordings import recording, synapses

    about = synapses if isinstance(done, synapses.SynapticRecording) else recording
    figures = pictures(("recording", done.path, figure))
    report = done.summary | {"figures": figures}
    output.result(report, about.in_words(done, figures, columns()))


def check_cell(output: Output, protocol: Any, out: Path | None) -> None:
    """Say what a protocol of cells is."""
    from neurosim.reports import recordings, synapses

    about = synapses if _of_synapses(protocol) else recordings
    report = about.check(protocol, out)
    output.result(report, about.checked(protocol, report))


def _of_synapses(protocol: Any) -> bool:
    from neurosim.building.synapses import SynapticProtocol

    return isinstance(protocol, SynapticProtocol)
