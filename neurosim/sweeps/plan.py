"""The points of a sweep: what each is, that it can be had, and which share compiled programs."""

import hashlib
import json
import re
import warnings
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from itertools import product
from math import prod
from pathlib import Path
from typing import Any

from neurosim.building import facts
from neurosim.building.continuing import started
from neurosim.building.loading import Protocol, ensemble, load_protocol, overriding
from neurosim.building.samples import draw, refuse
from neurosim.errors import InputError, NeurosimWarning
from neurosim.process import caller
from neurosim.runs import draws
from neurosim.runs.contents import Contents
from neurosim.runs.contents import Plan as Course
from neurosim.sweeps.axes import Axis, axes, given_by, label
from neurosim.tasks.data import Data
from neurosim.traces.weight_files import located

MOST = 100_000
"""Points of a sweep; each is a file."""

SAID = 8
"""Messages of points that are said in full."""


@dataclass(frozen=True)
class Point:
    """One run of a sweep.

    place: along every axis. digest: of everything that decides its numbers but the machine.
    program: points of equal number run the same compiled programs. bytes: of its trace, about.
    """

    place: tuple[int, ...]
    protocol: Protocol
    digest: str
    program: int
    presentations: int
    bytes: int


@dataclass(frozen=True)
class Plan:
    """All points of a sweep, in the order of its axes; the last axis changes fastest."""

    protocol: Protocol
    axes: Sequence[Axis]
    seeds: list[int]
    points: Sequence[Point]

    @property
    def programs(self) -> int:
        """How many sets of programs the points need."""
        return len({point.program for point in self.points})

    def values(self, point: Point) -> dict[str, Any]:
        """What a point has for the keys of the axes."""
        places = zip(self.axes, point.place, strict=True)
        return {axis.key: axis.values[k] for axis, k in places}

    def words(self, point: Point) -> str:
        """Which point it is."""
        return _words(self.axes, point.place)


def plan(
    protocol: Protocol | str | Path,
    over: Mapping[str, Any] | None = None,
    seeds: Iterable[int] | None = None,
    level: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    start: str | Path | None = None,
) -> Plan:
    """Every point of a sweep, loaded and checked; see `sweep`.

    Raises:
        InputError: all that is wrong with the axes, or with points of them.
    """
    given = overriding(overrides) | ({} if level is None else {"level": level})
    if isinstance(protocol, Protocol):
        sources = protocol.sources.sources
        file: str | Path = sources[0].document.path
        given = dict(protocol.overrides) | given
        base = protocol if level is None else protocol.changed(level=level)
    else:
        file = protocol
        base = load_protocol(file, given)
    table = base.spec.sweep
    if over is None:
        if table is None or not table.over:
            raise InputError(
                f"{base.spec.name}: no axis; give {given_by('over')}, or a table such as "
                "[sweep.over] with model.parameters.mu = [0.1, 0.2] in the protocol"
            )
        over = table.over
    found = axes(over, given)
    if seeds is None and table is not None:
        seeds = table.seeds
    chosen = [base.spec.seed] if seeds is None else ensemble(seeds)
    said = given | {axis.key: axis.values for axis in found}
    if objects := [key for key, value in said.items() if not _plain(value)]:
        warnings.warn(
            f"{objects[0]}: an object of a script is known by its name alone; where it is "
            "another one than before, give force=True",
            NeurosimWarning,
            stacklevel=3,
        )
    count = prod(len(axis.values) for axis in found)
    if count > MOST:
        raise InputError(f"{count} points; expected at most {MOST}, each is a trace")
    return Plan(base, found, chosen, _points(file, given, found, chosen, start))


def _plain(value: Any) -> bool:
    """Whether a file could say it."""
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return True


def _words(axes: Sequence[Axis], place: tuple[int, ...]) -> str:
    pairs = zip(axes, place, strict=True)
    return ", ".join(f"{axis.name}={label(axis.values[k])}" for axis, k in pairs)


def _points(
    file: str | Path,
    given: Mapping[str, Any],
    axes: list[Axis],
    seeds: list[int],
    start: str | Path | None,
) -> list[Point]:
    """Loaded, with all that is wrong with any of them at once."""
    made: list[Point] = []
    wrong: dict[str, list[tuple[int, ...]]] = {}
    doubts: dict[str, None] = {}
    programs: dict[Hashable, int] = {}
    known: dict[str, tuple[bool, list[Data]]] = {}
    places = list(product(*(range(len(axis.values)) for axis in axes)))
    for place in places:
        values = {axis.key: axis.values[k] for axis, k in zip(axes, place, strict=True)}
        try:
            with warnings.catch_warnings(record=True) as heard:
                warnings.simplefilter("always", NeurosimWarning)
                protocol = _alone(load_protocol(file, {**given, **values}))
                if start is not None:
                    protocol = started(protocol, start, seeds[0])
                made.append(_point(place, protocol, seeds, known, programs))
        except InputError as error:
            for message in error.messages:
                wrong.setdefault(_over(message, axes), []).append(place)
        doubts |= dict.fromkeys(_over(str(w.message), axes) for w in heard)
    if wrong:
        raise InputError(_shortened([_where(m, at, places, axes) for m, at in wrong.items()]))
    for message in _shortened(list(doubts)):
        warnings.warn(message, NeurosimWarning, stacklevel=3)
    return made


def _alone(protocol: Protocol) -> Protocol:
    """Without the table of the sweep that it is a point of."""
    spec = protocol.spec.model_copy(update={"sweep": None})
    return Protocol(spec, protocol.folder, protocol.sources, protocol.overrides)


def _over(message: str, axes: Sequence[Axis]) -> str:
    """What is said of an override, as the option that gave it."""
    keys = "|".join(re.escape(axis.key) for axis in axes)
    said, option = re.escape(caller.override("").rstrip()), given_by("over")
    return re.sub(rf"^{said} (?=(?:{keys})\b)", f"{option} ", message)


def _where(
    message: str,
    at: list[tuple[int, ...]],
    places: list[tuple[int, ...]],
    axes: Sequence[Axis],
) -> str:
    """A message with the first point it is said of, unless it is said of all."""
    if len(at) == len(places):
        return message
    more = f" and {len(at) - 1} more" if len(at) > 1 else ""
    return f"{message} (at {_words(axes, at[0])}{more})"


def _shortened(messages: list[str]) -> list[str]:
    if len(messages) <= SAID:
        return messages
    return [*messages[:SAID], f"and {len(messages) - SAID} more of that kind"]


def _point(
    place: tuple[int, ...],
    protocol: Protocol,
    seeds: list[int],
    known: dict[str, tuple[bool, list[Data]]],
    programs: dict[Hashable, int],
) -> Point:
    """One point, checked with its data. known: data so far, by their task."""
    from neurosim.runs.environment import commit, fingerprint

    spec = protocol.spec
    task = spec.model_dump_json(include={"task"}) + str(protocol.folder)
    if task not in known or not isinstance(spec.task, dict):
        known[task] = draw(protocol, seeds)
    shared, data = known[task]
    refuse(protocol, data[0])
    next(draws.weights(protocol, seeds[:1], data[:1]))
    course = Course(spec, len(data[0].x_train) // spec.batch)
    tests = len(data[0].x_test)
    contents = Contents(spec, course, facts.observed(spec.model), seeds, tests)
    said = {
        "protocol": spec.model_dump(
            mode="json", exclude_none=True, exclude={"name", "description", "seed"}
        ),
        "seeds": seeds,
        "data": fingerprint(data),
        "files": _files(protocol),
        "neurosim": [version("neurosim"), commit()],
    }
    digest = hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]
    shape = (shared, len(seeds), data[0].x_train.shape, data[0].x_test.shape)
    number = programs.setdefault((_program(protocol), shape), len(programs))
    return Point(place, protocol, digest, number, course.total, contents.bytes)


def _files(protocol: Protocol) -> list[str]:
    """Digests of the files in which first weights and values of cells stand."""
    model = protocol.spec.model
    named = [*model.projections.values(), *model.parameters.values(), model.credit]
    names = {file for table in named if (file := getattr(table, "file", None)) is not None}
    files = [located(name, protocol.folder)[0] for name in sorted(names)]
    return [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]


def _program(protocol: Protocol) -> Hashable:
    """What decides which programs a run is compiled to, besides the shapes of its data.

    That is what `neurosim.process.compiled` tells programs apart by, and for spiking networks all
    settings of Brian2, which makes another program for each.
    """
    import equinox as eqx
    import jax

    from neurosim.building import assembly
    from neurosim.process import devices

    spec = protocol.spec
    parts: list[Hashable] = [spec.batch, spec.precision, spec.record.model_dump_json()]
    if spec.level == "spiking":
        parts += [spec.spiking.model_dump_json(), spec.model.spiking.model_dump_json()]
    with devices.numbers(spec.precision == "float64"), jax.default_device(jax.devices("cpu")[0]):
        for stage in spec.stages:
            engine = assembly.engine(spec, stage, 1)
            arrays, others = eqx.partition(getattr(engine, "rules", engine), eqx.is_array)
            leaves, structure = jax.tree.flatten(others)
            shapes = tuple((a.shape, str(a.dtype)) for a in jax.tree.leaves(arrays))
            parts += [tuple(leaves), structure, shapes]
    key = tuple(parts)
    try:
        hash(key)
    except TypeError:  # objects of a script that cannot be told apart
        return object()
    return key
