"""What a file and overrides make: a checked description that knows where each key was said."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from neurosim.errors import arrived
from neurosim.process import caller
from neurosim.specs import Spec
from neurosim.specs.toml import Sources, dotted

SpecT = TypeVar("SpecT", bound=Spec)


@dataclass(frozen=True, repr=False)
class Loaded(Generic[SpecT]):
    """A checked protocol and where it came from.

    folder: what relative paths in it are meant from. sources: to point at its keys in errors.
    """

    spec: SpecT
    folder: Path
    sources: Sources
    overrides: Mapping[str, Any]

    def __repr__(self) -> str:
        sources = self.sources.sources
        place = f" of {sources[0].document.path}" if sources else ""
        changes = ", ".join(f"{key}={arrived(value)}" for key, value in self.overrides.items())
        name = f"<{type(self).__name__} {getattr(self.spec, 'name', '')}{place}"
        return f"{name}{': ' if changes else ''}{changes}>"

    def where(self, key: tuple[str | int, ...]) -> str:
        """`file:line: dotted.key`, or the override it came from."""
        name = dotted(key)
        if any(name == given or name.startswith(f"{given}.") for given in self.overrides):
            return caller.override(name)
        place, shown = self.sources.locate(key)
        return f"{place}: {dotted(shown)}" if place else name
