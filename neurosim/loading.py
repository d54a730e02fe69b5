"""From a file name and overrides to a checked protocol."""

import os
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from neurosim import caller
from neurosim._plain import plain
from neurosim.concerns import concerns
from neurosim.consistency import problems
from neurosim.credit import defaults
from neurosim.errors import InputError, NeurosimWarning, arrived, nearest
from neurosim.naming import expanded, placed
from neurosim.spec import LAYERED, ModelSpec, ProtocolSpec
from neurosim.toml import (
    Document,
    KeyPath,
    Source,
    Sources,
    dotted,
    flat,
    merge,
    override,
    read,
    split_key,
)
from neurosim.validation import validate

PACKAGE = Path(__file__).parent

FILES: tuple[KeyPath, ...] = (
    ("task", "path"),
    ("model", "weights", "file"),
    ("model", "feedback", "file"),
)
"""Keys of a protocol that name a file; in the protocol itself they are meant from its folder."""


@dataclass(frozen=True, repr=False)
class Protocol:
    """A checked protocol and where it came from.

    folder: what relative paths in it are meant from. sources: to point at its keys in errors.
    """

    spec: ProtocolSpec
    folder: Path
    sources: Sources
    overrides: Mapping[str, Any]

    def __repr__(self) -> str:
        sources = self.sources.sources
        place = f" of {sources[0].document.path}" if sources else ""
        changes = ", ".join(f"{key}={arrived(value)}" for key, value in self.overrides.items())
        return f"<Protocol {self.spec.name}{place}{': ' if changes else ''}{changes}>"

    def changed(self, **changes: Any) -> "Protocol":
        """The same protocol with top-level keys replaced, checked again."""
        given = {key: plain(value) for key, value in changes.items() if value is not None}
        if not given:
            return self
        overrides = {**self.overrides, **given}
        spec = validate(ProtocolSpec, {**dict(self.spec), **given}, self.sources, overrides)
        protocol = replace(self, spec=spec, overrides=overrides)
        check(protocol)
        return protocol

    def where(self, key: tuple[str | int, ...]) -> str:
        """`file:line: dotted.key`, or the override it came from."""
        name = dotted(key)
        if any(name == given or name.startswith(f"{given}.") for given in self.overrides):
            return caller.override(name)
        place, shown = self.sources.locate(key)
        return f"{place}: {dotted(shown)}" if place else name

    @contextmanager
    def placing(self, table: str, alias: object = None) -> Iterator[None]:
        """In which what is refused is placed: at the key of `table` that a message begins with.

        alias: what messages call the table, as in "digits: split_seed: got -1".
        """
        try:
            yield
        except InputError as error:
            raise InputError([self._placed(table, alias, m) for m in error.messages]) from None

    def _placed(self, table: str, alias: object, message: str) -> str:
        rest = message.removeprefix(f"{alias}: ")
        parts = re.split(r"[:\[ ]", rest, maxsplit=1)[0].split(".")
        node = getattr(self.spec, table)
        for part in parts:
            node = dict(node).get(part) if isinstance(node, Mapping | BaseModel) else None
        if node is None:
            return f"{self.where((table,))}: {message}"
        return self.where((table, *parts)) + rest.removeprefix(".".join(parts))


def bundled(kind: str) -> dict[str, Path]:
    """The shipped files of a kind (`models` or `protocols`), by bare name."""
    for folder in (PACKAGE / "shipped" / kind, PACKAGE.parent / kind):
        if folder.is_dir():
            return {path.stem: path for path in sorted(folder.glob("*.toml"))}
    return {}


def find(kind: str, name: str | Path, folder: Path | None = None) -> Path:
    """The file that `name` means: a path, from `folder` if given, or a shipped file's bare name.

    Raises:
        InputError: there is no such file.
    """
    if not isinstance(name, str | os.PathLike):
        raise InputError(f"{arrived(name)} is no {kind.removesuffix('s')}; expected a file or name")
    path = expanded(name)
    for candidate in ([folder / path] if folder else []) + [path]:
        if os.path.isfile(candidate):  # false for names that no system takes
            return candidate
    shipped = bundled(kind)
    if str(name) in shipped:
        return shipped[str(name)]
    singular = kind.removesuffix("s")
    close = nearest(path.stem, shipped)
    hint = f"; did you mean {close!r}?" if close else ""
    raise InputError(
        f"{name}: no such {singular} file, and no shipped {singular} of that name{hint} "
        f"(shipped: {', '.join(shipped)})"
    )


def _with_model(
    document: Document, data: dict[str, Any], folder: Path, overrides: Mapping[str, Any]
) -> tuple[dict[str, Any], Sources]:
    """The protocol's data with its `[model]` table merged over the model file it uses."""
    table = data.get("model")
    if not isinstance(table, Mapping) or "use" not in table:
        return data, Sources((Source(document),))
    use = table["use"]
    if not isinstance(use, str):
        raise InputError(f"{document.path}: model.use: expected the name or path of a model")
    try:
        model = read(find("models", use, folder))
    except InputError as error:
        place = document.locate(("model", "use"))[0]
        raise InputError(f"{place}: model.use: {error}") from None
    rest, base = {key: value for key, value in table.items() if key != "use"}, model.data
    given = {split_key(key)[1] for key in overrides if key.startswith("model.")}
    if "cells" in given:  # a circuit in place of the layers of the file
        base = {key: value for key, value in base.items() if key not in LAYERED}
    if "cells" in given or ("use" in given and "cells" in base):
        # What the protocol says of a model is said of its own.
        rest = {key: value for key, value in rest.items() if key in given}
    merged = {**data, "model": merge(base, rest)}
    return merged, Sources((Source(document), Source(model, at=("model",))))


def _from_here(key: KeyPath, value: Any) -> Any:
    """The value of an override, with file names as a shell means them."""
    if isinstance(value, Mapping):
        return {part: _from_here((*key, part), inner) for part, inner in value.items()}
    if key in FILES and isinstance(value, str):
        return os.path.abspath(os.path.expanduser(value))
    return value


def _written(overrides: Mapping[str, Any] | None) -> dict[str, Any]:
    """Overrides as files would say them."""
    if overrides is None:
        return {}
    if not isinstance(overrides, Mapping) or not all(isinstance(key, str) for key in overrides):
        raise InputError(
            f"overrides: got {arrived(overrides)}; expected values by dotted key, such as "
            '{"model.mu": 0.2}'
        )
    return flat(plain(overrides))


def load_protocol(name: str | Path, overrides: Mapping[str, Any] | None = None) -> Protocol:
    """Read and check a protocol.

    name: a path, or the bare name of a shipped protocol. overrides: values by dotted key, such as
    {"model.mu": 0.2}, or in tables, which are merged into those of the file, as in
    {"model": {"mu": 0.2}}; where a name of an activation, dynamics, rule or task is expected, the
    value may be the object itself. Numbers and lists may be NumPy's, file names may be paths; they
    are meant from the working directory.

    Raises:
        InputError: every mistake in the files and overrides, one a line.
    """
    given = _written(overrides)
    overrides = {key: _from_here(split_key(key), value) for key, value in given.items()}
    document = read(find("protocols", name))
    folder = document.path.parent
    data = override(document.data, overrides)
    data, sources = _with_model(document, data, folder, overrides)
    data = {**data, "model": with_credit(data["model"])} if "model" in data else data
    spec = validate(ProtocolSpec, data, sources, overrides)
    protocol = Protocol(spec, folder, sources, overrides)
    check(protocol)
    return protocol


def load_model(name: str | Path, overrides: Mapping[str, Any] | None = None) -> ModelSpec:
    """Read a model file, by path or bare name, with overrides by dotted key.

    Raises:
        InputError: every mistake in the file and overrides, one a line.
    """
    overrides = _written(overrides)
    document = read(find("models", name))
    data = with_credit(override(document.data, overrides))
    return validate(ModelSpec, data, document, overrides)


def with_credit(model: Any) -> Any:
    """The data of a model with the rules that belong to its credit, where it names none."""
    return merge(defaults(model), model) if isinstance(model, Mapping) else model


def check(protocol: Protocol) -> None:
    """Refuse what cannot be had and warn of what can hardly be meant.

    Raises:
        InputError: all that is impossible, one a line.
    """
    found = [f"{protocol.where(key)}: {what}" for key, what in problems(protocol.spec)]
    doubts = [] if found else list(concerns(protocol.spec))
    found += [f"{protocol.where(doubt.key)}: {doubt.message}" for doubt in doubts if doubt.fatal]
    if found:
        raise InputError(found)
    for doubt in doubts:
        message = f"{protocol.where(doubt.key)}: {doubt.message}"
        warnings.warn(message, NeurosimWarning, stacklevel=3)


def resolve(
    protocol: Protocol | str | Path,
    level: str | None,
    seed: int | None,
    seeds: Iterable[int] | None,
    out: str | Path | None,
) -> tuple[Protocol, list[int], Path]:
    """What `run` was given: the checked protocol, its seeds and where its trace goes."""
    given = {k: v for k, v in (("level", level), ("seed", seed)) if v is not None}
    if isinstance(protocol, Protocol):
        protocol = protocol.changed(**given)
    else:
        protocol = load_protocol(protocol, given)
    if seed is not None and seeds is not None:
        raise InputError("seed and seeds: got both; expected one of them")
    chosen = [protocol.spec.seed] if seeds is None else _ensemble(seeds)
    return protocol, chosen, trace_path(protocol.spec, out)


def _ensemble(seeds: Iterable[int]) -> list[int]:
    """The seeds of an ensemble as plain whole numbers, distinct and such that a protocol may have.

    A single number is refused, as it may mean how many or which one.
    """
    given = plain(seeds)
    try:
        chosen = [plain(entry) for entry in given]
    except TypeError:
        chosen = []
    numbers = {n for n in chosen if type(n) is int and 0 <= n < 2**31}
    if not numbers or len(numbers) < len(chosen):
        one = isinstance(given, int) and not isinstance(given, bool)
        hint = f"; one run is seed={given}, an ensemble seeds=range({given})" if one else ""
        raise InputError(
            f"seeds {arrived(given)}: expected distinct whole numbers of at least 0 and below 2**31"
            f", such as range(3){hint}"
        )
    return chosen


def trace_path(spec: ProtocolSpec, out: str | Path | None) -> Path:
    """Where a trace goes: `out` if given.

    Raises:
        InputError: no trace can be called so, or no file can be there.
    """
    return placed(out or Path("outputs") / f"{spec.name}-{spec.level}.h5")
