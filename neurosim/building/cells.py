"""From a file name and overrides to a checked protocol of a cell."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from neurosim.building.loaded import Loaded
from neurosim.building.loading import (
    from_here,
    is_of_cell,
    overriding,
)
from neurosim.building.shipped import find
from neurosim.circuits.lone_cells import LoneCell, lone
from neurosim.errors import InputError, arrived, unknown
from neurosim.seeds import gaussian, host_stream
from neurosim.specs import CellProtocolSpec, StimulusSpec
from neurosim.specs.toml import (
    Document,
    Source,
    Sources,
    dotted,
    merge,
    override,
    read,
    split_key,
)
from neurosim.specs.validation import validate
from neurosim.stimuli import NEEDED, SAMPLED, Stimulus, stimulus
from neurosim.units import format_time, steps

Key = tuple[str | int, ...]

LISTED = ("amplitude", "start", "duration", "frequency")
"""What a stimulus may have another one of in every sweep."""


class CellProtocol(Loaded[CellProtocolSpec]):
    """A checked protocol of a cell."""

    @property
    def sweeps(self) -> int:
        """How many sweeps it has."""
        return _sweeps(self.spec)

    @property
    def cells(self) -> int:
        """How many cells it has: the copies of every sweep."""
        return self.sweeps * self.spec.copies

    @cached_property
    def cell(self) -> LoneCell:
        """The cell that it is about; a copy is the same in every sweep, whatever it has drawn."""
        found, spec = lone(self.spec.model, _reached(self.spec), _ignored), self.spec
        assert found is not None, "checked at load"
        return drawn(found, "parameter", spec.copies, self.sweeps, spec.seed)

    @property
    def stepped(self) -> bool:
        """Whether the cell moves in fixed steps: where it jumps, or what reaches it is sampled."""
        sampled = any(given.kind in SAMPLED for given in self.spec.stimuli)
        return sampled or self.cell.jumps

    def stimuli(self) -> list[Stimulus]:
        """What reaches the cells.

        Raises:
            InputError: a file does not fit, with its place.
        """
        spec, found = self.spec, []
        for number, given in enumerate(spec.stimuli):
            more = spec.copies, spec.duration, spec.dt, spec.seed, self.folder
            try:
                found.append(stimulus(given, number, self.sweeps, *more))
            except InputError as error:
                where = self.where(("stimuli", number, "file"))
                text = str(error).removeprefix("file: ")
                raise InputError(f"{where}: {text}") from None
        return found


def drawn(cell: LoneCell, stream: str, count: int, sweeps: int, seed: int) -> LoneCell:
    """A cell whose parameters with a spread are numbers of every cell, the same in every sweep."""
    found = {}
    for name, spread in cell.spreads.items():
        random = host_stream(seed, f"{stream} {name}")
        found[name] = np.tile(gaussian(random, cell.parameters[name], spread, count), sweeps)
    return replace(cell, parameters={**cell.parameters, **found})


def load_cell_protocol(
    name: str | Path, overrides: Mapping[str, Any] | None = None
) -> CellProtocol:
    """Read and check a protocol of a cell.

    name: a path, or the bare name of a shipped protocol. overrides: values by dotted key, such as
    {"model.parameters.g_leak": "12 nS"}, or in tables. Where they choose another `model.use`, what
    the protocol says of its own cell does not count, and where equations are given, no other cell.

    Raises:
        InputError: every mistake in the files and overrides, one a line; it is of a network.
    """
    document = read(find("protocols", name))
    given = overriding(overrides)
    if not is_of_cell(document.data):
        raise InputError(f"{name}: is a protocol of a network; run it: neurosim.run({str(name)!r})")
    given = {key: from_here(split_key(key), value) for key, value in given.items()}
    folder, data = document.path.parent, dict(document.data)
    if "model.use" in given and isinstance(data.get("model"), Mapping):
        data["model"] = {}  # what it says of its own cell does not count for another
    data = override(data, given)
    sources = [Source(document)]
    if isinstance(data.get("model"), Mapping):
        data["model"], more = with_neuron(document, ("model",), data["model"], folder)
        sources += more
    found = Sources(tuple(sources))
    spec = validate(CellProtocolSpec, data, found, given)
    protocol = CellProtocol(spec, folder, found, given)
    if wrong := list(_problems(spec)):
        raise InputError([f"{protocol.where(key)}: {what}" for key, what in wrong])
    protocol.stimuli()
    return protocol


def with_neuron(
    document: Document, key: Key, given: Mapping[str, Any], folder: Path
) -> tuple[dict[str, Any], list[Source]]:
    """A table of a cell merged over the neuron that it uses, and where that is written.

    key: of the table in the document. Where there are equations, no other cell counts.

    Raises:
        InputError: there is no such neuron.
    """
    rest = {name: value for name, value in given.items() if name != "use"}
    if "equations" in given or "use" not in given:
        return rest, []
    use, at = given["use"], (*key, "use")
    if not isinstance(use, str):
        what = f"got {arrived(use)}; expected a neuron, such as 'adex'"
        raise InputError(f"{document.locate(at)[0]}: {dotted(at)}: {what}")
    try:
        theirs = read(find("neurons", use, folder))
    except InputError as error:
        raise InputError(f"{document.locate(at)[0]}: {dotted(at)}: {error}") from None
    return merge(theirs.data, rest), [Source(theirs, at=key)]


def _sweeps(spec: CellProtocolSpec) -> int:
    lengths = [len(getattr(s, key) or [0]) for s in spec.stimuli for key in LISTED]
    return max([1, *lengths, len(spec.sweeps or [0])])


def _reached(spec: CellProtocolSpec) -> dict[str, str]:
    """The dimensions of what stimuli bring to inputs, of those written with units."""
    found = {}
    for given in spec.stimuli:
        dimension = getattr(given.amplitude[0], "dimension", None)
        if given.reversal is not None:
            dimension = "current"
        if dimension is not None:
            found[given.into] = dimension
    return found


def _ignored(key: Key, message: str) -> None:
    pass


def _problems(spec: CellProtocolSpec) -> Iterator[tuple[Key, str]]:
    """All that is wrong with a protocol, key by key."""
    wrong: list[tuple[Key, str]] = []
    cell = lone(spec.model, _reached(spec), lambda k, m: wrong.append((("model", *k), m)))
    yield from wrong
    for key, value in (("duration", spec.duration), ("record.every", spec.record.every)):
        try:
            steps(value or spec.dt, spec.dt)
        except ValueError as problem:
            yield tuple(key.split(".")), str(problem)
    if spec.record.every is not None and spec.record.every > spec.duration:
        yield ("record", "every"), f"longer than the protocol, {format_time(spec.duration)}"
    if spec.record.copies > spec.copies:
        yield ("record", "copies"), f"got {spec.record.copies}; there are {spec.copies}"
    sweeps = _sweeps(spec)
    if spec.sweeps is not None and len(spec.sweeps) != sweeps:
        yield ("sweeps",), f"{len(spec.sweeps)} names for {sweeps} sweeps; expected one for each"
    for number, given in enumerate(spec.stimuli):
        reached = Reached("the cell", spec.model.inputs, spec.copies, sweeps, spec.duration)
        for key, what in of_stimulus(given, given.into, reached):
            yield ("stimuli", number, key), what
        if cell is not None and (undriven := driving(given, given.into, cell)):
            yield ("stimuli", number, "reversal"), undriven
    known = {} if cell is None else dict.fromkeys((*cell.cell.defined, *cell.inputs))
    for number, name in enumerate(spec.record.variables or ()):
        if cell is not None and name not in known:
            yield ("record", "variables", number), unknown("quantity", name, known)


@dataclass(frozen=True)
class Reached:
    """Cells that a stimulus reaches. what: they are, in words. count: of them in every sweep."""

    what: str
    inputs: Sequence[str]
    count: int
    sweeps: int
    duration: float


def driving(given: StimulusSpec, into: str, cell: LoneCell) -> str | None:
    """What is wrong with a conductance in a cell, if anything is."""
    if given.reversal is None or into not in cell.inputs:
        return None
    driven = cell.driven(into)
    if len(driven) == 1:
        return None
    what = f"asks for the one potential that {into} moves; here that is "
    return what + (", ".join(driven) or "none")


def of_stimulus(given: StimulusSpec, into: str, cells: Reached) -> Iterator[tuple[str, str]]:
    """All that is wrong with a stimulus into an input of cells, key by key."""
    if not cells.inputs:
        yield "into", f"{cells.what} has no inputs, so that nothing reaches it; use stimuli = []"
    elif into not in cells.inputs:
        yield "into", unknown(f"input of {cells.what}", into, cells.inputs)
    for key in LISTED:
        count = len(getattr(given, key) or [0])
        if count not in (1, cells.sweeps):
            yield key, f"{count} values for {cells.sweeps} sweeps; expected one, or one for each"
    needed = NEEDED[given.kind]
    for key in sorted({key for keys in NEEDED.values() for key in keys}):
        value = getattr(given, key)
        if value is None and key in needed:
            yield key, f"missing; {given.kind} needs it"
        if value is not None and key not in needed:
            kinds = " or ".join(kind for kind, keys in NEEDED.items() if key in keys)
            yield key, f"{given.kind} has none; it belongs to {kinds}"
    if given.shared and given.kind != "ornstein-uhlenbeck":
        yield "shared", f"{given.kind} has no noise that could be"
    if given.width is not None and given.frequency is not None:
        longest = 1 / max(given.frequency)
        if given.width >= longest:
            yield "width", f"got {format_time(given.width)}; the pulses come every {longest:g} s"
    dimensions = {getattr(value, "dimension", None) for value in given.amplitude}
    if len(dimensions) > 1:
        yield "amplitude", "values with different units; expected the same for all sweeps"
    elif given.reversal is not None and dimensions != {"conductance"}:
        yield "amplitude", 'with a reversal it is that of a conductance; expected such as "10 nS"'
    for number, unit in enumerate(given.units or ()):
        if unit >= cells.count:
            yield (
                "units",
                f"number {number}: there is no copy {unit}; expected 0 to {cells.count - 1}",
            )
    if max(given.start) >= cells.duration:
        yield "start", f"after the end of the protocol, {format_time(cells.duration)}"
