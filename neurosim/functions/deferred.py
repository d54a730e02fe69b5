"""Functions by name, for tables that say what there is without importing all of it."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any


@dataclass(frozen=True)
class Deferred:
    """A function that is imported when it is called. place: `module:name`."""

    place: str

    @property
    def function(self) -> Callable[..., Any]:
        """The function itself."""
        module, _, name = self.place.partition(":")
        return getattr(import_module(module), name)

    def __call__(self, *args: Any, **kw: Any) -> Any:
        """Call it."""
        return self.function(*args, **kw)
