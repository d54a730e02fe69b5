"""What `neurosim check` and `inspect` say of cells."""

from pathlib import Path
from typing import Any

from neurosim import wording
from neurosim.building.cells import CellProtocol
from neurosim.circuits.lone_cells import LoneCell
from neurosim.reports import variables
from neurosim.reports.provenance import named, origin, what, when
from neurosim.specs import StimulusSpec
from neurosim.specs.toml import written
from neurosim.units import format_quantity, format_time


def check(protocol: CellProtocol, out: str | Path | None = None) -> dict[str, Any]:
    """Everything that recording the cell would begin with, as plain data.

    `protocol`, resolved; `cell`, with its equations; `level`, `rate` or `spiking`; `sweeps` and
    `copies`; `trace`, where it would go.
    """
    from neurosim.recordings.recording import trace_path

    spec, cell = protocol.spec, protocol.cell
    return {
        "protocol": spec.model_dump(mode="json", exclude_none=True),
        "cell": {
            "name": spec.model.name,
            "source": spec.model.source,
            "equations": equations(cell),
            "inputs": list(cell.inputs),
            "readout": cell.readout,
        },
        "level": "spiking" if protocol.stepped else "rate",
        "sweeps": protocol.sweeps,
        "copies": spec.copies,
        "trace": str(trace_path(spec, out)),
    }


def checked(protocol: CellProtocol, report: dict[str, Any]) -> str:
    """What `check` returns, as a protocol file: the words are its comments."""
    spec, about = protocol.spec, report["cell"]
    how = f"Brian2, in steps of {format_time(spec.dt)}"
    how = how if protocol.stepped else "diffrax, in steps of its own"
    lasts, copies = format_time(spec.duration), wording.plural(spec.copies, "cell")
    words = [
        f"{spec.name}: {about['name']}, {report['sweeps']} sweeps of {lasts}, {copies} each",
        *(f"  {line}" for line in about["equations"]),
        *(in_short(given) for given in spec.stimuli),
        f"integrated by {how}",
        f"trace: {report['trace']}",
    ]
    comments = "\n".join(f"# {line}" for line in words)
    return f"{comments}\n\n{written(report['protocol'])}"


def equations(cell: LoneCell) -> list[str]:
    """The lines of a cell, and how it spikes."""
    lines = [
        f"{f'd{e.name}/dt' if e.moves else e.name} = {e.right.text}"
        for e in cell.cell.equations
        if not (cell.cell.silent and e.name == "spikes")
    ]
    firing = cell.cell.firing
    if firing is not None:
        lines.append(f"spikes when {firing.threshold.text}")
        lines += [f"then {name} = {right.text}" for name, right in firing.reset]
    return lines


def in_short(given: StimulusSpec) -> str:
    """One stimulus in words."""
    first = given.amplitude[0]
    dimension = getattr(first, "dimension", None)

    def written(value: float) -> str:
        return format_quantity(value, dimension) if dimension else f"{value:g}"

    values = [written(value) for value in given.amplitude]
    told = ", ".join(values if len(values) <= 4 else [values[0], "…", values[-1]])
    since = ", ".join(format_time(start) for start in given.start)
    lasts = given.duration and ", ".join(format_time(each) for each in given.duration)
    ends = f" for {lasts}" if lasts else ""
    return f"{given.kind} of {told} into {given.into}, from {since}{ends}"


def inspect(path: str | Path) -> dict[str, Any]:
    """What a recording of a cell is and what it holds, as plain data.

    Among the keys: `protocol`, `cell`, `measures` (see `recording.Recording`), `variables`,
    `resolved`, the protocol.

    Raises:
        InputError: there is no such file, or it is no intact recording.
    """
    said, about, summary = origin(path)
    measures = {key: summary.get(key, {}) for key in ("cell", "sweeps", "units")}
    return said | {"cell": about["model"], "measures": measures}


def in_words(report: dict[str, Any], width: int) -> str:
    """What `inspect` returns, as text for people."""
    from neurosim.recordings.measures import in_words as measured

    measures = report["measures"]
    told = ", ".join(map(" ".join, measured(measures["cell"], measures["units"])))
    rows = [
        *what(report),
        ("cell", named(report["cell"], report)),
        ("status", report["status"]),
        *([("measured", told)] if told else []),
        *when(report),
    ]
    return "\n".join(
        [
            f"{report['path']}: a recording of {wording.size(report['bytes'])}",
            *wording.labelled(rows, width),
            "  variables:",
            *variables.in_words(report, width),
        ]
    )
