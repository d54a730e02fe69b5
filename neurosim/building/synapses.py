"""From a file name and overrides to a checked protocol of cells with synapses between them."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from neurosim.building.cells import (
    LISTED,
    CellProtocol,
    Key,
    Reached,
    drawn,
    driving,
    load_cell_protocol,
    of_stimulus,
    with_neuron,
)
from neurosim.building.loaded import Loaded
from neurosim.building.loading import (
    Protocol,
    from_here,
    is_of_cell,
    load_protocol,
    overriding,
)
from neurosim.building.shipped import find
from neurosim.circuits.cells import with_lines
from neurosim.circuits.lone_cells import LoneCell, lone
from neurosim.circuits.synapse_tables import SynapseTable
from neurosim.circuits.synapses import SIDES
from neurosim.circuits.tables import NAME
from neurosim.circuits.wired_cells import Group, WiredCells
from neurosim.errors import InputError, arrived, unknown
from neurosim.specs import SpikesSpec, SynapsePartSpec, SynapseSpec, SynapticProtocolSpec
from neurosim.specs.toml import Document, Source, Sources, dotted, override, read, split_key
from neurosim.specs.validation import validate
from neurosim.stimuli import Stimulus, stimulus
from neurosim.trains import NEEDED, OPTIONAL, Train, train
from neurosim.units import format_time, steps

SHIFTED = ("start", "frequency", "shift")
"""What trains of spikes may have another one of in every sweep."""

OF_GROUP = ("count", "spikes")
"""Keys of a group that are none of its cell."""

OF_WIRING = tuple(set(SynapseSpec.model_fields) - set(SynapsePartSpec.model_fields))
"""Keys of synapses that no file of theirs says."""

TRACED = ("time", "sweep", "bin", "against")
"""What traces call other things beside groups and synapses."""

TEXTS = ("equations", "on_pre", "on_post")


class SynapticProtocol(Loaded[SynapticProtocolSpec]):
    """A checked protocol of cells and synapses."""

    @property
    def sweeps(self) -> int:
        """How many sweeps it has."""
        return _sweeps(self.spec)

    @cached_property
    def wired(self) -> WiredCells:
        """The groups and synapses that it is about."""
        found, wrong = _wired(self.spec)
        assert found is not None and not wrong, "checked at load"
        sweeps, seed = self.sweeps, self.spec.seed
        groups = {
            name: group
            if group.cell is None
            else replace(
                group, cell=drawn(group.cell, f"parameter {name}", group.count, sweeps, seed)
            )
            for name, group in found.groups.items()
        }
        return replace(found, groups=groups)

    def stimuli(self) -> dict[str, list[Stimulus]]:
        """What reaches the cells of every group, in the order of the file.

        Raises:
            InputError: a file does not fit, with its place.
        """
        spec = self.spec
        found: dict[str, list[Stimulus]] = {name: [] for name in spec.cells}
        for number, given in enumerate(spec.stimuli):
            group, _, into = given.into.partition(".")
            own = given.model_copy(update={"into": into})
            more = spec.cells[group].count, spec.duration, spec.dt, spec.seed, self.folder
            with _Placing(self, ("stimuli", number)):
                found[group].append(stimulus(own, number, self.sweeps, *more, drawn=False))
        return found

    def trains(self) -> dict[str, Train]:
        """The spikes of groups that are made to spike.

        Raises:
            InputError: a spike would come before the first step, with its place.
        """
        spec, found = self.spec, {}
        for name, group in spec.cells.items():
            if group.spikes is None:
                continue
            more = group.count, spec.duration, spec.dt, spec.seed
            with _Placing(self, ("cells", name, "spikes")):
                found[name] = train(group.spikes, name, self.sweeps, *more)
        return found

    @cached_property
    def against(self) -> tuple[list[float], str | None]:
        """What the curve is drawn against, of every sweep, and its dimension."""
        assert self.spec.curve is not None
        found = _against(self.spec, self.spec.curve.against)
        assert found is not None, "checked at load"
        return found


class _Placing:
    """In which an error that begins with a key of a table is placed there."""

    def __init__(self, protocol: SynapticProtocol, table: Key) -> None:
        self._protocol, self._table = protocol, table

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, InputError):
            key, _, text = str(error).partition(": ")
            raise InputError(f"{self._protocol.where((*self._table, key))}: {text}") from None


def load(
    name: str | Path, overrides: Mapping[str, Any] | None = None
) -> Protocol | CellProtocol | SynapticProtocol:
    """Read and check a protocol, of a network, of a cell, or of synapses.

    Raises:
        InputError: as `load_protocol`, `load_cell_protocol` and `load_synaptic_protocol` do.
    """
    data = read(find("protocols", name)).data
    if "cells" in data and "task" not in data:
        return load_synaptic_protocol(name, overrides)
    return (load_cell_protocol if is_of_cell(data) else load_protocol)(name, overrides)


def load_synaptic_protocol(
    name: str | Path, overrides: Mapping[str, Any] | None = None
) -> SynapticProtocol:
    """Read and check a protocol of cells and synapses.

    name: a path, or the bare name of a shipped protocol. overrides: values by dotted key, such as
    {"synapses.stdp.parameters.tau_plus": "15 ms"}, or in tables. Where they choose another `use` of
    cells or synapses, what the protocol says of its own does not count.

    Raises:
        InputError: every mistake in the files and overrides, one a line.
    """
    document = read(find("protocols", name))
    given = {k: from_here(split_key(k), v) for k, v in overriding(overrides).items()}
    folder, data = document.path.parent, dict(document.data)
    for table, kept in (("cells", OF_GROUP), ("synapses", OF_WIRING)):
        data[table] = _chosen(data.get(table, {}), table, kept, given)
    data = override(data, given)
    sources = [Source(document)]
    for table, read_one in (("cells", with_neuron), ("synapses", _with_parts)):
        if not isinstance(data.get(table), Mapping):
            continue
        data[table] = dict(data[table])
        for one, said in data[table].items():
            if isinstance(said, Mapping):
                data[table][one], more = read_one(document, (table, one), said, folder)
                sources += more
    found = Sources(tuple(sources))
    spec = validate(SynapticProtocolSpec, data, found, given)
    protocol = SynapticProtocol(spec, folder, found, given)
    if wrong := list(_problems(spec)):
        raise InputError([f"{protocol.where(key)}: {what}" for key, what in wrong])
    protocol.stimuli()
    protocol.trains()
    return protocol


def _chosen(tables: Any, table: str, kept: tuple[str, ...], given: Mapping[str, Any]) -> Any:
    """The tables, of which those that use another file keep only what is none of a file's."""
    if not isinstance(tables, Mapping):
        return tables
    return {
        name: {key: value for key, value in said.items() if key in kept}
        if isinstance(said, Mapping) and f"{table}.{name}.use" in given
        else said
        for name, said in tables.items()
    }


def _with_parts(
    document: Document, key: Key, given: Mapping[str, Any], folder: Path
) -> tuple[dict[str, Any], list[Source]]:
    """A table of synapses with the texts and numbers of the files that it uses before its own.

    Raises:
        InputError: there is no such file, or two of them mean different things by a name.
    """
    use, at = given.get("use", []), (*key, "use")
    names = use if isinstance(use, list) else [use]
    own = {name: value for name, value in given.items() if name != "use"}
    where = f"{document.locate(at)[0]}: {dotted(at)}"
    data: dict[str, Any] = {}
    sources = []
    for name in names:
        if not isinstance(name, str):
            raise InputError(f"{where}: got {arrived(name)}; expected a synapse, such as 'ampa'")
        try:
            part = read(find("synapses", name, folder))
        except InputError as error:
            raise InputError(f"{where}: {error}") from None
        both = set(data.get("parameters", {})) & set(part.data.get("parameters", {}))
        if both:
            what = f"two of {', '.join(map(str, names))} have a parameter {min(both)!r}"
            raise InputError(f"{where}: {what}; give one of them another name in a file of yours")
        data = _together(data, part.data)
        sources.append(Source(part, at=key))
    return _together(data, own), sources


def _together(first: Mapping[str, Any], then: Mapping[str, Any]) -> dict[str, Any]:
    """Two parts as one: texts one after the other, a line in place of one that defines the same."""
    data = {**first, **then}
    for key in TEXTS:
        a, b = first.get(key), then.get(key)
        if isinstance(a, str) and isinstance(b, str):
            data[key] = with_lines(a, b) if key == "equations" else f"{a.rstrip()}\n{b}"
    for key in ("parameters", "start"):
        a, b = first.get(key, {}), then.get(key, {})
        if isinstance(a, Mapping) and isinstance(b, Mapping) and (a or b):
            data[key] = {**a, **b}
    for key, between in (("name", " + "), ("source", "; ")):
        told = [part[key] for part in (first, then) if isinstance(part.get(key), str)]
        if told:
            data[key] = between.join(told)
    return data


# --- what is wrong --------------------------------------------------------------------------------


def _sweeps(spec: SynapticProtocolSpec) -> int:
    trains = [group.spikes for group in spec.cells.values() if group.spikes is not None]
    lengths = [len(getattr(s, key) or [0]) for s in spec.stimuli for key in LISTED]
    lengths += [len(getattr(t, key) or [0]) for t in trains for key in SHIFTED]
    return max([1, *lengths, len(spec.sweeps or [0])])


def _against(spec: SynapticProtocolSpec, key: str) -> tuple[list[float], str | None] | None:
    """The numbers that stand at a dotted key, one of every sweep, and their dimension."""
    node: Any = spec
    try:
        for part in split_key(key):
            node = node[int(part)] if isinstance(node, list) else dict(node)[part]
    except (InputError, KeyError, IndexError, ValueError, TypeError):
        return None
    numbers = isinstance(node, list) and all(isinstance(v, int | float) for v in node)
    if not numbers or len(node) != _sweeps(spec):
        return None
    dimension = getattr(node[0], "dimension", None)
    last = split_key(key)[-1]
    if dimension is None:
        dimension = {"frequency": "rate", "amplitude": None}.get(last, "time")
    return [float(value) for value in node], dimension


Wrong = list[tuple[Key, str]]


def _cell(name: str, spec: SynapticProtocolSpec, wrong: Wrong) -> LoneCell | None:
    """The cell of a group; None if it has no equations, or cannot be."""
    group = spec.cells[name]
    if not group.equations:
        if group.spikes is None:
            wrong.append((("cells", name), "has neither use, equations nor spikes; expected one"))
        return None
    if group.spikes is not None and group.threshold is not None:
        what = "the cells have a threshold of their own; leave one of both out"
        wrong.append((("cells", name, "spikes"), what))
    reached = {}
    for given in spec.stimuli:
        dimension = getattr(given.amplitude[0], "dimension", None)
        if given.reversal is not None:
            dimension = "current"
        if given.into.startswith(f"{name}.") and dimension is not None:
            reached[given.into.partition(".")[2]] = dimension
    return lone(group, reached, lambda key, what: wrong.append((("cells", name, *key), what)))


def _wired(spec: SynapticProtocolSpec) -> tuple[WiredCells | None, Wrong]:
    """All groups and synapses, and what is wrong with them."""
    wrong: Wrong = []
    cells = {name: _cell(name, spec, wrong) for name in spec.cells}
    if wrong:
        return None, wrong
    groups = {
        name: Group(cells[name], group.count, group.spikes is not None)
        for name, group in spec.cells.items()
    }
    synapses = {}
    for name, given in spec.synapses.items():
        at = ("synapses", name)
        unknown_ends = [end for end in SIDES if getattr(given, end) not in groups]
        wrong += [
            ((*at, end), unknown("group of cells", getattr(given, end), groups))
            for end in unknown_ends
        ]
        if unknown_ends:
            continue
        counts = [groups[getattr(given, end)].count for end in SIDES]
        if given.one_to_one and counts[0] != counts[1]:
            what = f"{counts[0]} cells to {counts[1]}; expected as many on either side"
            wrong.append(((*at, "one_to_one"), what))
        if given.one_to_one and given.chance is not None:
            wrong.append(((*at, "chance"), "of synapses one to one, which have none"))
        if not groups[given.pre].spikes:
            wrong += _silent(at, given)
        ends = {end: cells[getattr(given, end)] for end in SIDES}
        table = SynapseTable(name, given, ends, _saying(wrong, at))
        if (found := table.read()) is not None:
            synapses[name] = found
    return (None if wrong else WiredCells(groups, synapses)), wrong


def _silent(at: Key, given: Any) -> Wrong:
    """Presynaptic cells that never spike make what is said of their spikes void."""
    if not given.on_pre.strip():
        return []
    return [((*at, "pre"), f"{given.pre} never spikes; expected a threshold, or spikes")]


def _saying(wrong: Wrong, at: Key) -> Any:
    return lambda key, what: wrong.append(((*at, *key), what))


def _problems(spec: SynapticProtocolSpec) -> Iterator[tuple[Key, str]]:
    """All that is wrong with a protocol, key by key."""
    yield from _of_names(spec)
    wired, wrong = _wired(spec)
    yield from wrong
    yield from _of_times(spec)
    sweeps = _sweeps(spec)
    if spec.sweeps is not None and len(spec.sweeps) != sweeps:
        yield ("sweeps",), f"{len(spec.sweeps)} names for {sweeps} sweeps; expected one for each"
    for name, group in spec.cells.items():
        if group.spikes is not None:
            for key, what in _of_spikes(group.spikes, spec, sweeps):
                yield ("cells", name, "spikes", key), what
    for number, given in enumerate(spec.stimuli):
        name, _, into = given.into.partition(".")
        own = spec.cells.get(name)
        if own is None or not into:
            inputs = [f"{n}.{i}" for n, g in spec.cells.items() if g.equations for i in g.inputs]
            yield ("stimuli", number, "into"), unknown("input", given.into, inputs)
            continue
        reached = own.inputs if own.equations else []
        cells = Reached(name, reached, own.count, sweeps, spec.duration)
        for key, what in of_stimulus(given, into, cells):
            yield ("stimuli", number, key), what
        cell = None if wired is None else wired.groups[name].cell
        if cell is not None and (undriven := driving(given, into, cell)):
            yield ("stimuli", number, "reversal"), undriven
    if wired is not None:
        yield from _of_quantities(spec, wired)


def _of_names(spec: SynapticProtocolSpec) -> Iterator[tuple[Key, str]]:
    for table in ("cells", "synapses"):
        for name in getattr(spec, table):
            if name in TRACED:
                yield (table, name), f"{name!r} has a meaning of its own; use another name"
            elif not NAME.fullmatch(name):
                message = "expected letters, digits and _, a letter first and no digit last"
                yield (table, name), f"{name!r} cannot be a name; {message}"
    for name in sorted(set(spec.cells) & set(spec.synapses)):
        yield ("synapses", name), "is the name of a group of cells as well; use another"


def _of_times(spec: SynapticProtocolSpec) -> Iterator[tuple[Key, str]]:
    times: dict[Key, float | None] = {("duration",): spec.duration}
    times |= {("record", key): getattr(spec.record, key) for key in ("every", "bin")}
    times |= {("synapses", name, "delay"): each.delay for name, each in spec.synapses.items()}
    for key, value in times.items():
        try:
            steps(spec.dt if value is None else value, spec.dt)
        except ValueError as problem:
            yield key, str(problem)
        if key[0] == "record" and value is not None and value > spec.duration:
            yield key, f"longer than the protocol, {format_time(spec.duration)}"


def _of_spikes(
    given: SpikesSpec, spec: SynapticProtocolSpec, sweeps: int
) -> Iterator[tuple[str, str]]:
    for key in SHIFTED:
        count = len(getattr(given, key) or [0])
        if count not in (1, sweeps):
            yield key, f"{count} values for {sweeps} sweeps; expected one, or one for each"
    takes = (*NEEDED[given.kind], *OPTIONAL[given.kind])
    for key in ("times", "frequency", "count", "stop"):
        value = getattr(given, key)
        if value is None and key in NEEDED[given.kind]:
            yield key, f"missing; {given.kind} needs it"
        if value is not None and key not in takes:
            yield key, f"{given.kind} has none"
    if given.kind == "regular" and given.frequency is None and (given.count or 1) > 1:
        yield "frequency", "missing; several spikes need it"
    if max(given.start) >= spec.duration:
        yield "start", f"after the end of the protocol, {format_time(spec.duration)}"


def quantities(wired: WiredCells) -> list[str]:
    """All that can be looked at, as `owner.quantity`."""
    found = []
    for name, group in wired.groups.items():
        cell = group.cell
        if cell is not None:
            shown = (n for n in cell.cell.defined if n != "spikes" or not cell.cell.silent)
            found += [f"{name}.{quantity}" for quantity in (*shown, *cell.inputs)]
    for name, synapse in wired.synapses.items():
        found += [f"{name}.{quantity}" for quantity in synapse.quantities]
    return found


def _of_quantities(spec: SynapticProtocolSpec, wired: WiredCells) -> Iterator[tuple[Key, str]]:
    known = quantities(wired)
    for number, name in enumerate(spec.record.variables or ()):
        if name not in known:
            yield ("record", "variables", number), unknown("quantity", name, known)
    most = max(group.count for group in spec.cells.values())
    if spec.record.cells > most:
        yield ("record", "cells"), f"got {spec.record.cells}; no group has more than {most}"
    if spec.curve is None:
        return
    for number, name in enumerate(spec.curve.of):
        if name not in known:
            yield ("curve", "of", number), unknown("quantity", name, known)
    if _against(spec, spec.curve.against) is None:
        what = f"got {spec.curve.against!r}; expected the key of a list of one number a sweep"
        yield ("curve", "against"), f"{what}, such as cells.{next(iter(spec.cells))}.spikes.shift"
