"""neurosim: continuous-time networks of pyramidal neurons that learn by target propagation."""

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from neurosim.errors import DivergedError, InputError, NeurosimError, NeurosimWarning

if TYPE_CHECKING:
    from neurosim.catalog import catalog
    from neurosim.check import check
    from neurosim.inspect import inspect
    from neurosim.loading import Protocol, load_model, load_protocol
    from neurosim.run import Run, run
    from neurosim.store import open_trace

_LAZY = {
    "Protocol": "neurosim.loading",
    "Run": "neurosim.run",
    "catalog": "neurosim.catalog",
    "check": "neurosim.check",
    "inspect": "neurosim.inspect",
    "load_model": "neurosim.loading",
    "load_protocol": "neurosim.loading",
    "open_trace": "neurosim.store",
    "run": "neurosim.run",
}

__all__ = [
    "DivergedError",
    "InputError",
    "NeurosimError",
    "NeurosimWarning",
    "Protocol",
    "Run",
    "catalog",
    "check",
    "inspect",
    "load_model",
    "load_protocol",
    "open_trace",
    "run",
]


def __getattr__(name: str) -> Any:
    """Import what a script asks for when it asks, so that the command line starts at once."""
    if name in _LAZY:
        from importlib import import_module

        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'neurosim' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)


class _Package(ModuleType):
    """Keeps `neurosim.run` the function: importing a module binds its name on the package."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _LAZY and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
