"""From a file name and overrides to a checked protocol."""

import os
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from neurosim.building import samples
from neurosim.building.concerns import Concern, closed, concerns
from neurosim.building.consistency import problems
from neurosim.building.ingredients import located
from neurosim.building.loaded import Loaded
from neurosim.building.shipped import bundled, find
from neurosim.circuits.cells import with_lines
from neurosim.credit import defaults
from neurosim.errors import InputError, NeurosimWarning, arrived, unknown
from neurosim.models import circuitry, parameters
from neurosim.models.conditions import Problem
from neurosim.plain import plain
from neurosim.process import caller
from neurosim.specs import ModelSpec, ProtocolSpec, named_credit
from neurosim.specs.toml import (
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
from neurosim.specs.validation import validate, without_faults
from neurosim.traces.naming import placed


def names_file(key: KeyPath) -> bool:
    """Whether a key of a protocol names a file; there it is meant from the protocol's folder."""
    of_task = key in (("task", "path"), ("task", "test_path"))
    return of_task or (key[0] in ("model", "stimuli") and key[-1] == "file")


class Protocol(Loaded[ProtocolSpec]):
    """A checked protocol of a network."""

    def changed(self, **changes: Any) -> "Protocol":
        """The same protocol with top-level keys replaced, checked again."""
        given = {key: plain(value) for key, value in changes.items() if value is not None}
        if not given:
            return self
        overrides = {**self.overrides, **given}
        return _protocol({**dict(self.spec), **given}, self.folder, self.sources, overrides)

    def overridden(self, changes: Mapping[str, Any]) -> "Protocol":
        """The same protocol with more overrides, by dotted key, checked again."""
        overrides = {**self.overrides, **changes}
        data, sources = _composed(self.sources.sources[0].document, overrides)
        return _protocol(data, self.folder, sources, overrides)

    def shipped(self, key: tuple[str | int, ...]) -> bool:
        """Whether a key stands in a file of neurosim's own; () for the protocol itself."""
        name = dotted(key)
        if any(name == given or name.startswith(f"{given}.") for given in self.overrides):
            return False
        own = {str(path) for kind in ("models", "protocols") for path in bundled(kind).values()}
        document = self.sources.sources[0].document.path
        place = self.sources.locate(key)[0] if key else str(document)
        return any(place == path or place.startswith(f"{path}:") for path in own)

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
            key = next((k for k, f in self._files(table) if message.startswith(f)), (table,))
            return f"{self.where(key)}: {message}"
        return self.where((table, *parts)) + rest.removeprefix(".".join(parts))

    def _files(self, table: str) -> Iterator[tuple[KeyPath, str]]:
        """Keys of a table that name files, and the names as messages about them begin with."""
        given = getattr(self.spec, table)
        within = given.model_dump() if isinstance(given, BaseModel) else given
        if isinstance(within, Mapping):
            for key, name in flat(within).items():
                parts = (table, *split_key(key))
                if name is not None and names_file(parts):
                    yield parts, str(located(self.folder, name))


def _with_model(
    document: Document, data: dict[str, Any], folder: Path, overrides: Mapping[str, Any]
) -> tuple[dict[str, Any], Sources]:
    """The protocol's data with its `[model]` table merged over the model file it uses."""
    table = data.get("model")
    if not isinstance(table, Mapping) or "use" not in table:
        return data, Sources((Source(document),))
    use = table["use"]
    if not isinstance(use, str):
        raise InputError(
            f"{document.path}: model.use: got {arrived(use)}; expected the name or path of a "
            "model, such as 'mixture'"
        )
    try:
        model, documents = _model(use, folder)
    except InputError as error:
        place = document.locate(("model", "use"))[0]
        raise InputError(f"{place}: model.use: {error}") from None
    rest = {key: value for key, value in table.items() if key != "use"}
    base = _without_circuit(model) if _another_circuit(overrides) else model
    merged = {**data, "model": _merged(base, rest)}
    return merged, Sources((Source(document), *(Source(d, at=("model",)) for d in documents)))


def is_of_cell(data: Mapping[str, Any]) -> bool:
    """Whether the data of a protocol are of a cell alone: it lasts a duration and has no task."""
    return "duration" in data and "task" not in data


CIRCUIT = frozenset(
    {"cells", "populations", "projections", "parameters", "readout", "cut", "form", "attenuation"}
    | {"credit"}
)
"""Keys of a model that say what its circuit is."""


def _kept(model: Mapping[str, Any], overrides: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a protocol says of its model, as far as overrides do not ask for another one."""
    if "model.use" in overrides or (_another_circuit(overrides) and "use" in model):
        return {key: value for key, value in model.items() if key == "use"}
    return _without_circuit(model) if _another_circuit(overrides) else model


def _without(document: Document, gone: Iterable[str]) -> Document:
    """A protocol in which keys of its model stand nowhere."""
    keys = {("model", key) for key in gone}
    lines = {key: line for key, line in document.lines.items() if key[:2] not in keys}
    return replace(document, lines=lines)


def _another_circuit(overrides: Mapping[str, Any]) -> bool:
    """Whether overrides say a circuit of their own."""
    parts = [split_key(key) for key in overrides]
    given = {part[1] for part in parts if part[0] == "model" and len(part) > 1}
    return {"cells", "populations", "projections"} <= given


def _without_circuit(model: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in model.items() if key not in CIRCUIT}


def _model(
    name: str | Path, folder: Path | None = None
) -> tuple[Mapping[str, Any], list[Document]]:
    """The data of a model file, and the documents it stands in: its own, and that it is like."""
    document = read(find("models", name, folder))
    like, place = document.data.get("like"), document.locate(("like",))[0]
    if like is None:
        return document.data, [document]
    if not isinstance(like, str):
        raise InputError(
            f"{place}: like: got {arrived(like)}; expected the name or path of a model, such as "
            "'mixture'"
        )
    try:
        other = read(find("models", like, document.path.parent))
    except InputError as error:
        raise InputError(f"{place}: like: {error}") from None
    if "like" in other.data:
        raise InputError(
            f"{place}: like: {like!r} is itself like {other.data['like']!r}; expected a model that "
            "says all of its circuit"
        )
    own = {key: value for key, value in document.data.items() if key != "like"}
    cells = dict(_table(own, "cells"))
    for key, cell in cells.items():
        given, theirs = _table(cells, key), _table(_table(other.data, "cells"), key)
        texts = theirs.get("equations"), given.get("equations")
        if all(isinstance(text, str) for text in texts):
            cells[key] = {**cell, "equations": with_lines(*texts)}  # type: ignore[arg-type]
    return _merged(other.data, {**own, "cells": cells} if cells else own), [document, other]


def _merged(base: Any, patch: Any) -> Any:
    """The tables of a model with those of a protocol over them."""
    if not (isinstance(base, Mapping) and isinstance(patch, Mapping)):
        return merge(base, patch)
    projections = _table(patch, "projections")
    said = {(name, key) for name in projections for key in _table(projections, name)}
    return merge(_open(base, said), _open(patch, set()))


def _open(model: Any, said: set[tuple[str, str]]) -> Any:
    """The data of a model, open to changes: its credit a table, no rule that a change replaces.

    A rule is said by its name, or by post and pre. said: of projections, the keys that change.
    """
    if not isinstance(model, Mapping):
        return model
    model = dict(model)
    if model.get("credit") is not None:
        model["credit"] = named_credit(model["credit"])
    projections = dict(_table(model, "projections"))
    for name, table in projections.items():
        dropped = {"post", "pre"} if (name, "rule") in said else set()
        dropped |= {"rule"} if (name, "post") in said else set()
        if isinstance(table, Mapping):
            projections[name] = {k: v for k, v in table.items() if k not in dropped}
    return {**model, "projections": projections} if projections else model


def _table(data: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = data.get(key)
    return found if isinstance(found, Mapping) else {}


def _said(keys: Iterable[str], *table: str) -> set[tuple[str, str]]:
    """Which keys of which projections of a model change. table: where the model stands."""
    way = (*table, "projections")
    parts = [split_key(key) for key in keys]
    return {key[-2:] for key in parts if key[:-2] == way}  # type: ignore[misc]


def from_here(key: KeyPath, value: Any) -> Any:
    """The value of an override, with file names as a shell means them."""
    if isinstance(value, Mapping):
        return {part: from_here((*key, part), inner) for part, inner in value.items()}
    if isinstance(value, str) and names_file(key):
        return os.path.abspath(os.path.expanduser(value))
    return value


def overriding(overrides: Mapping[str, Any] | None) -> dict[str, Any]:
    """Overrides as files would say them."""
    if overrides is None:
        return {}
    if not isinstance(overrides, Mapping) or not all(isinstance(key, str) for key in overrides):
        raise InputError(
            f"overrides: got {arrived(overrides)}; expected values by dotted key, such as "
            '{"model.parameters.mu": 0.2}'
        )
    return flat(plain(overrides))


def _by_name(overrides: dict[str, Any], key: str) -> dict[str, Any]:
    """The same with a credit that is given alone as its name, beside what is said of it."""
    if overrides.get(key) is None:
        return overrides
    return {f"{key}.name" if k == key else k: value for k, value in overrides.items()}


def load_protocol(name: str | Path, overrides: Mapping[str, Any] | None = None) -> Protocol:
    """Read and check a protocol.

    name: a path, or the bare name of a shipped protocol. overrides: values by dotted key, such as
    {"model.target_step": 0.2}, or in tables, which are merged into those of the file, as in
    {"model": {"target_step": 0.2}}; where a name of an activation, rule, credit or task is
    expected, the value may be the object itself. Numbers and lists may be NumPy's, file names may
    be paths; they are meant from the working directory. Of a protocol for which overrides choose
    another `model.use`, or give cells, populations and projections, what it says of its own model
    does not count.

    Raises:
        InputError: every mistake in the files and overrides, one a line.
    """
    given = _by_name(overriding(overrides), "model.credit")
    overrides = {key: from_here(split_key(key), value) for key, value in given.items()}
    document = read(find("protocols", name))
    if is_of_cell(document.data):
        raise InputError(
            f"{name}: is a protocol of a cell; neurosim.record({str(name)!r}) takes it"
        )
    data, sources = _composed(document, overrides)
    return _protocol(data, document.path.parent, sources, overrides)


def _composed(document: Document, overrides: Mapping[str, Any]) -> tuple[dict[str, Any], Sources]:
    """The data of a protocol with that of its model and with overrides, and where all is from."""
    folder, data = document.path.parent, dict(document.data)
    if isinstance(data.get("model"), Mapping):
        own = _kept(data["model"], overrides)
        document = _without(document, [key for key in data["model"] if key not in own])
        data["model"] = _open(own, _said(overrides, "model"))
    data = override(data, overrides)
    data, sources = _with_model(document, data, folder, overrides)
    return ({**data, "model": with_credit(data["model"])} if "model" in data else data), sources


def _protocol(
    data: Mapping[str, Any], folder: Path, sources: Sources, overrides: Mapping[str, Any]
) -> Protocol:
    """The checked protocol of merged data.

    Raises:
        InputError: all that is wrong with it at once, as far as one mistake does not hide another.
    """
    try:
        spec = validate(ProtocolSpec, data, sources, overrides)
    except InputError as error:
        rest, wrong = without_faults(ProtocolSpec, data)
        found: list[str] = []
        if rest is not None:
            left, tables = Protocol(rest, folder, sources, overrides), {key[:-1] for key in wrong}
            counts = any(key[:2] in COUNTING for key in wrong)
            # What is said of a table that has lost a key may only say that it is lost.
            all_of_it = [] if counts else problems(rest)
            known = [(k, what) for k, what in all_of_it if tuple(k)[:-1] not in tables - {()}]
            found = [f"{left.where(k)}: {what}" for k, what in known if tuple(k) not in wrong]
            found += samples.also(left, {*wrong, *(tuple(k) for k, _ in known)})
        raise InputError([*error.messages, *found]) from None
    protocol = Protocol(spec, folder, sources, overrides)
    check(protocol)
    return protocol


COUNTING = {
    ("model", name) for name in ("layers", "cells", "populations", "projections", "parameters")
}
"""Tables of which every key counts for others."""


def load_model(name: str | Path, overrides: Mapping[str, Any] | None = None) -> ModelSpec:
    """Read a model file, by path or bare name, with overrides by dotted key.

    Raises:
        InputError: every mistake in the file and overrides, one a line.
    """
    overrides = _by_name(overriding(overrides), "credit")
    model, documents = _model(name)
    data = with_credit(override(_open(model, _said(overrides)), overrides))
    return validate(ModelSpec, data, Sources(tuple(map(Source, documents))), overrides)


def with_credit(model: Any) -> Any:
    """The data of a model with the rules that belong to its credit, where it names none."""
    return merge(defaults(model), model) if isinstance(model, Mapping) else model


def check(protocol: Protocol) -> None:
    """Refuse what cannot be had and warn of what can hardly be meant.

    Raises:
        InputError: all that is impossible, one a line.
    """
    found = list(problems(protocol.spec)) or list(_strays(protocol))
    doubts = [] if found else [*concerns(protocol.spec), *_left_closed(protocol)]
    found += [(doubt.key, doubt.message) for doubt in doubts if doubt.fatal]
    if found:
        wrong = samples.also(protocol, {tuple(key) for key, _ in found})
        raise InputError([*_placed(protocol, found), *wrong])
    for doubt in doubts:
        message = f"{protocol.where(doubt.key)}: {doubt.message}"
        warnings.warn(message, NeurosimWarning, stacklevel=3)


def _left_closed(protocol: Protocol) -> list[Concern]:
    """Rules that a change brings to a protocol, whose phases, left as they were, open none."""
    found, changes = list(closed(protocol.spec)), protocol.overrides
    if not found or not changes or any(key.startswith("stages") for key in changes):
        return []
    with suppress(InputError, ValidationError):
        data, _ = _composed(protocol.sources.sources[0].document, {})
        before = {doubt.key for doubt in closed(ProtocolSpec.model_validate(data))}
        return [doubt for doubt in found if doubt.key not in before]
    return []


def _strays(protocol: Protocol) -> Iterator[Problem]:
    """Parameters that a protocol gives to a model that has none of that name.

    One that the model's own file brings may be idle, where the protocol replaces what reads it.
    """
    model, (own, *others) = protocol.spec.model, protocol.sources.sources
    idle = circuitry.unread(model)
    for name in idle:
        cell, _, last = name.rpartition(".")
        key: KeyPath = ("model", *(("cells", cell) if cell else ()), "parameters", last)
        given = any(f"{dotted(key)}.".startswith(f"{each}.") for each in protocol.overrides)
        given |= bool(others) and own.document.line(key) is not None
        brought = any(at and s.document.line(at) for s in others if (at := s.translate(key)))
        if given and not brought:
            read = [other for other in parameters.values(model) if other not in idle]
            yield key, f"nothing reads it: {unknown('parameter', last, read)}"


def _placed(protocol: Protocol, found: Sequence[Problem]) -> list[str]:
    """What is wrong, with its place: of what stands in a shipped file, the user's own change.

    That is the one without which it would not be wrong.
    """
    theirs = [problem for problem in found if protocol.shipped(problem[0])]
    causes: dict[KeyPath, str] = {}
    known = {key for key, _ in found}
    for place, other in _otherwise(protocol) if theirs else ():
        still = {key for key, _ in problems(other)}
        still |= set() if still else {doubt.key for doubt in concerns(other) if doubt.fatal}
        for key, _ in theirs if still <= known else ():  # else something else went wrong with it
            if key not in still:
                causes.setdefault(key, place)
    lines = []
    for key, what in found:
        cause = causes.get(key)
        place = protocol.where(key) if cause is None else f"{cause}: {dotted(key)}"
        lines.append(f"{place}: {what}")
    return lines


def _otherwise(protocol: Protocol) -> Iterator[tuple[str, ProtocolSpec]]:
    """What the protocol would be without one change of the user's, each with its place."""
    document = protocol.sources.sources[0].document
    given = document.data.get("model")
    model = given if isinstance(given, Mapping) and not protocol.shipped(()) else {}
    changes: list[tuple[str, Document, dict[str, Any]]] = []
    for name in reversed(list(protocol.overrides)):  # what was said last is what was tried
        rest = {key: value for key, value in protocol.overrides.items() if key != name}
        changes.append((caller.override(name), document, rest))
    for key in model:
        own = {name: value for name, value in model.items() if name != key}
        other = replace(document, data={**document.data, "model": own})
        place = f"{document.locate(('model', key))[0]}: model.{key}"
        if key != "use":
            changes.append((place, other, dict(protocol.overrides)))
    for place, written, overrides in changes:
        with suppress(InputError, ValidationError):
            yield place, ProtocolSpec.model_validate(_composed(written, overrides)[0])


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
    chosen = [protocol.spec.seed] if seeds is None else ensemble(seeds)
    return protocol, chosen, trace_path(protocol.spec, out)


def ensemble(seeds: Iterable[int]) -> list[int]:
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
