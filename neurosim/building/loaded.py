"""What a file and overrides make: a checked description that knows where each key was said."""

import html
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from neurosim import wording
from neurosim.errors import arrived
from neurosim.process import caller
from neurosim.specs import Spec
from neurosim.specs.toml import Sources, dotted, written

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

    def _repr_html_(self) -> str:
        """A table, which notebooks show, above the protocol in full."""
        spec, sources = self.spec, self.sources.sources
        about = {name: getattr(spec, name, "") for name in ("name", "description", "level")}
        rows = [(label, str(value)) for label, value in about.items() if value]
        if model := getattr(spec, "model", None):
            rows.append(("model", model.name))
        rows += [("file", str(sources[0].document.path))] if sources else []
        rows += [(f"changed: {key}", arrived(value)) for key, value in self.overrides.items()]
        text = html.escape(written(spec.model_dump(mode="json", exclude_none=True)))
        whole = f"<details><summary>protocol</summary><pre>{text}</pre></details>"
        return wording.tabled(rows) + whole

    def where(self, key: tuple[str | int, ...]) -> str:
        """`file:line: dotted.key`, or the override it came from."""
        name = dotted(key)
        if any(name == given or name.startswith(f"{given}.") for given in self.overrides):
            return caller.override(name)
        place, shown = self.sources.locate(key)
        return f"{place}: {dotted(shown)}" if place else name
