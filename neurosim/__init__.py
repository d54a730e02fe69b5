"""neurosim: continuous-time networks of pyramidal neurons that learn by target propagation."""

from typing import TYPE_CHECKING, Any

from neurosim.errors import (
    DivergedError,
    IncompleteError,
    InputError,
    NeurosimError,
    NeurosimWarning,
    StoppedError,
)

if TYPE_CHECKING:
    from neurosim import figures, theory
    from neurosim.building.loading import Protocol, load_model, load_protocol
    from neurosim.comparison import compare
    from neurosim.comparison.differences import diff
    from neurosim.exports import export
    from neurosim.exports.blocks import to_neo
    from neurosim.exports.tables import to_tables
    from neurosim.recordings.recording import Recording, record
    from neurosim.recordings.resumption import resume
    from neurosim.recordings.synapses import SynapticRecording
    from neurosim.reports.analysis import analyze
    from neurosim.reports.catalogue import catalog
    from neurosim.reports.checks import check
    from neurosim.reports.inspection import inspect
    from neurosim.reports.pages import report
    from neurosim.reports.references import cite
    from neurosim.runs.launch import run
    from neurosim.runs.results import Run
    from neurosim.sweeps.launch import sweep
    from neurosim.traces.reader import open_trace
    from neurosim.traces.repairing import repair

_LAZY = {
    "Protocol": "neurosim.building.loading",
    "Run": "neurosim.runs.results",
    "Recording": "neurosim.recordings.recording",
    "SynapticRecording": "neurosim.recordings.synapses",
    "analyze": "neurosim.reports.analysis",
    "catalog": "neurosim.reports.catalogue",
    "cite": "neurosim.reports.references",
    "check": "neurosim.reports.checks",
    "compare": "neurosim.comparison",
    "diff": "neurosim.comparison.differences",
    "export": "neurosim.exports",
    "inspect": "neurosim.reports.inspection",
    "load_model": "neurosim.building.loading",
    "load_protocol": "neurosim.building.loading",
    "open_trace": "neurosim.traces.reader",
    "record": "neurosim.recordings.recording",
    "repair": "neurosim.traces.repairing",
    "report": "neurosim.reports.pages",
    "resume": "neurosim.recordings.resumption",
    "run": "neurosim.runs.launch",
    "sweep": "neurosim.sweeps.launch",
    "to_neo": "neurosim.exports.blocks",
    "to_tables": "neurosim.exports.tables",
}

__all__ = [
    "DivergedError",
    "IncompleteError",
    "InputError",
    "NeurosimError",
    "NeurosimWarning",
    "Protocol",
    "Recording",
    "Run",
    "StoppedError",
    "SynapticRecording",
    "analyze",
    "catalog",
    "check",
    "cite",
    "compare",
    "diff",
    "export",
    "figures",
    "inspect",
    "load_model",
    "load_protocol",
    "open_trace",
    "record",
    "repair",
    "report",
    "resume",
    "run",
    "sweep",
    "theory",
    "to_neo",
    "to_tables",
]


def __getattr__(name: str) -> Any:
    """Import what a script asks for when it asks, so that the command line starts at once."""
    from importlib import import_module

    if name in ("figures", "theory"):
        return import_module(f"neurosim.{name}")
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'neurosim' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
