"""neurosim: continuous-time networks of pyramidal neurons that learn by target propagation."""

from typing import TYPE_CHECKING, Any

from neurosim.errors import DivergedError, InputError, NeurosimError, NeurosimWarning, StoppedError

if TYPE_CHECKING:
    from neurosim import figures, theory
    from neurosim.analysing import analyze
    from neurosim.checking import check
    from neurosim.comparing import compare
    from neurosim.inspecting import inspect
    from neurosim.listing import catalog
    from neurosim.loading import Protocol, load_model, load_protocol
    from neurosim.results import Run
    from neurosim.resuming import resume
    from neurosim.running import run
    from neurosim.store import open_trace, repair

_LAZY = {
    "Protocol": "neurosim.loading",
    "Run": "neurosim.results",
    "analyze": "neurosim.analysing",
    "catalog": "neurosim.listing",
    "check": "neurosim.checking",
    "compare": "neurosim.comparing",
    "inspect": "neurosim.inspecting",
    "load_model": "neurosim.loading",
    "load_protocol": "neurosim.loading",
    "open_trace": "neurosim.store",
    "repair": "neurosim.store",
    "resume": "neurosim.resuming",
    "run": "neurosim.running",
}

__all__ = [
    "DivergedError",
    "InputError",
    "NeurosimError",
    "NeurosimWarning",
    "Protocol",
    "Run",
    "StoppedError",
    "analyze",
    "catalog",
    "check",
    "compare",
    "figures",
    "inspect",
    "load_model",
    "load_protocol",
    "open_trace",
    "repair",
    "resume",
    "run",
    "theory",
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
