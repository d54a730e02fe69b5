"""Synapses between cells: what they keep, bring and change at spikes, in Brian2's notation.

    dg_post/dt = -g_post/tau                     # once in every postsynaptic cell
    du_pre/dt = (U - u_pre)/tau_f                # once in every presynaptic cell
    de/dt = -e/tau_e   (event-driven)            # in every synapse, known at spikes only
    single_pre : 1                               # changes at spikes only
    current_post = g_post*(reversal - v_post)    # what it brings to the postsynaptic cell

Other names with an end are quantities and parameters of the cells on either side; `v_post` is the
potential that the current moves. `weight` is in every synapse; `release_pre`, which short-term
plasticity says, is 1 where no line does.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Any, Literal

from neurosim.circuits import dimensions
from neurosim.circuits.cell_tables import DRAWN
from neurosim.circuits.cells import LINE, RESET, UNIT, Cell, Equation
from neurosim.circuits.expressions import FORBIDDEN, Expression, ExpressionError, parse
from neurosim.circuits.lone_cells import LoneCell
from neurosim.circuits.tables import Key
from neurosim.errors import unknown

Side = Literal["pre", "post"]
SIDES: tuple[Side, Side] = ("pre", "post")

WEIGHT, BROUGHT, POTENTIAL = "weight", "current_post", "v_post"

RELEASE = "release_pre"
"""How much of its weight a spike transmits: 1 where no line says otherwise."""

KEPT = re.compile(r"(?P<name>\w+)\s*:\s*1")
"""A line that only says that there is such a quantity."""

EVENTS = re.compile(r"\s*\(\s*event-driven\s*\)\s*$")


@dataclass(frozen=True)
class Line:
    """One line of equations. right: None of what changes at spikes only. moves: whether it is a
    differential equation. at_events: whether that is integrated from spike to spike."""

    name: str
    right: Expression | None
    moves: bool = False
    at_events: bool = False

    @property
    def state(self) -> bool:
        """Whether it has a value of its own, which spikes may change."""
        return self.moves or self.right is None


@dataclass(frozen=True)
class Change:
    """What a spike does to a quantity. how: `+`, `-`, `*` or `/` of `name how= right`, or none."""

    name: str
    how: str
    right: Expression

    @property
    def becomes(self) -> Expression:
        """Its value afterwards."""
        if not self.how:
            return self.right
        return parse(f"{self.name} {self.how} ({self.right.text})", DRAWN)


def side(name: str) -> Side | None:
    """Which cell a name belongs to; None of what belongs to the synapse."""
    end = name.rpartition("_")[2]
    return next((known for known in SIDES if known == end and name != end), None)


def bare(name: str) -> str:
    """A name without the side that it belongs to."""
    return name if side(name) is None else name.rpartition("_")[0]


@dataclass(frozen=True)
class Synapse:
    """Synapses of one kind, with their numbers in SI units.

    pre, post: the names of the groups, which may be one. into, potential: the input that the
    current is brought to, and what that moves. cells: those on either side; None where cells have
    no equations. units: the dimensions of all that is defined here, None of what has none.
    """

    name: str
    pre: str
    post: str
    into: str
    potential: str | None
    lines: tuple[Line, ...]
    changes: Mapping[Side, tuple[Change, ...]]
    parameters: Mapping[str, float]
    start: Mapping[str, float]
    weight: float
    delay: float
    one_to_one: bool
    chance: float | None
    units: Mapping[str, str | None]

    def group(self, at: Side) -> str:
        """The cells on a side."""
        return self.pre if at == "pre" else self.post

    def own(self, at: Side | None) -> tuple[Line, ...]:
        """What is kept in the cells of a side, or in synapses; without what it brings."""
        return tuple(x for x in self.lines if side(x.name) == at and x.name != BROUGHT)

    @cached_property
    def by_name(self) -> dict[str, Line]:
        """The lines by what they define."""
        return {line.name: line for line in self.lines}

    @property
    def brought(self) -> Line | None:
        """What it brings to the postsynaptic cell, if it does."""
        return self.by_name.get(BROUGHT)

    @property
    def summed(self) -> bool:
        """Whether every synapse brings something else, so that it has to be summed at every step:
        where the line names more than the postsynaptic cell keeps."""
        found = self.brought
        names = frozenset() if found is None or found.right is None else found.right.names
        return any(side(name) != "post" and name not in self.parameters for name in names)

    @property
    def plastic(self) -> bool:
        """Whether weights change."""
        changed = (change.name for changes in self.changes.values() for change in changes)
        return WEIGHT in {*changed, *self.by_name}

    @property
    def states(self) -> tuple[str, ...]:
        """What has a value of its own: the weight first, if it changes."""
        own = [line.name for line in self.lines if line.state and line.name != WEIGHT]
        return (*([WEIGHT] if self.plastic else []), *own)

    @property
    def quantities(self) -> tuple[str, ...]:
        """All that can be looked at."""
        shown = {line.name: None for line in self.lines if not line.at_events}
        return tuple(({WEIGHT: None} if self.plastic else {}) | shown)

    def blocks(self, at: Side) -> list[tuple[bool, tuple[Change, ...]]]:
        """What a spike on a side changes, in the order of the text: of its cell alone, which
        happens once, or in every synapse of it."""
        changes = self.changes[at]
        return [
            (once, tuple(part)) for once, part in groupby(changes, lambda c: side(c.name) == at)
        ]


def read_lines(text: str) -> dict[str, Line]:
    """The lines of equations, by what they define.

    Raises:
        ExpressionError: one is no equation; the message quotes it and counts lines from 1.
    """
    found: dict[str, Line] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        line = line.split("#")[0].strip()
        if not line:
            continue
        try:
            one = _line(line)
            if one.name in found:
                raise ExpressionError(f"{one.name!r} is defined twice")
        except ExpressionError as error:
            raise ExpressionError(f"line {number} of the equations: {error}") from None
        found[one.name] = one
    return found


def _line(line: str) -> Line:
    kept = KEPT.fullmatch(line)
    if kept is not None:
        return Line(kept["name"], None)
    at_events = EVENTS.search(line) is not None
    match = LINE.fullmatch(UNIT.sub("", EVENTS.sub("", line)).strip())
    if match is None:
        raise ExpressionError(
            f"{line!r} is no equation; expected 'name = ...', 'dname/dt = ...' or 'name : 1'"
        )
    name, moves = match["state"] or match["name"], match["state"] is not None
    if at_events and (not moves or side(name)):
        raise ExpressionError(
            f"{line!r}: only a line 'dname/dt = ...' of synapses themselves can be event-driven"
        )
    return Line(name, parse(match["right"]), moves, at_events)


def read_changes(text: str) -> tuple[Change, ...]:
    """What a spike changes: statements, one a line, or with semicolons between them.

    Raises:
        ExpressionError: one of them is none; the message quotes it.
    """
    found = []
    for line in (part.split("#")[0].strip() for part in text.replace(";", "\n").splitlines()):
        if not line:
            continue
        match = RESET.fullmatch(line)
        if match is None:
            raise ExpressionError(f"{line!r} changes nothing; expected such as 'weight += rate'")
        found.append(Change(match["name"], match["how"], parse(match["right"], DRAWN)))
    return tuple(found)


class SynapseTable:
    """One table of synapses, read against the cells on either side.

    Args: given: the table, of `SynapseSpec`. cells: by side, None where cells have no equations.
    say: takes what is wrong, with the key of the table.
    """

    def __init__(
        self,
        name: str,
        given: Any,
        cells: Mapping[Side, LoneCell | None],
        say: Callable[[Key, str], None],
    ) -> None:
        self.name, self.given, self.cells = name, given, cells
        self._said = say
        self._wrong = False

    def read(self) -> Synapse | None:
        """The synapses; None if they cannot be."""
        given = self.given
        lines: dict[str, Line] = {}
        changes: dict[Side, tuple[Change, ...]] = {}
        with _placing(self._say, "equations"):
            lines = read_lines(given.equations)
        for at in SIDES:
            changes[at] = ()
            with _placing(self._say, f"on_{at}"):
                changes[at] = read_changes(getattr(given, f"on_{at}"))
        self._check_names(lines)
        if self._wrong:
            return None
        texts = [line.right for line in lines.values() if line.right is not None]
        texts += [change.right for several in changes.values() for change in several]
        if RELEASE not in lines and any(RELEASE in text.names for text in texts):
            lines[RELEASE] = Line(RELEASE, parse("1"))
        self._check_brought(lines)
        if self._wrong:
            return None
        self._check_lines(lines)
        for at in SIDES:
            self._check_changes(at, changes[at], lines)
        self._check_use(lines, changes)
        if self._wrong:
            return None
        self._check_order(lines, changes["pre"])
        units: Mapping[str, str | None] = {}
        with _placing(self._say, "equations"):
            units = self._dimensions(lines, changes)
        start = self._start(lines)
        if self._wrong:
            return None
        return Synapse(
            self.name,
            given.pre,
            given.post,
            given.into,
            self._potential,
            tuple(lines.values()),
            changes,
            {name: float(value) for name, value in given.parameters.items()},
            start,
            float(given.weight),
            given.delay,
            given.one_to_one,
            given.chance,
            units,
        )

    def _say(self, key: Key, message: str) -> None:
        self._wrong = True
        self._said(key, message)

    def _check_names(self, lines: Mapping[str, Line]) -> None:
        for name in lines:
            if bare(name) in FORBIDDEN or name in ("pre", "post", "delay", "lastupdate"):
                self._say(("equations",), f"{name!r} has another meaning in Brian2; use another")
        for name, value in self.given.parameters.items():
            key = ("parameters", name)
            if name in lines or name == WEIGHT:
                self._say(key, "is a quantity of the synapse; use another name")
            elif name in FORBIDDEN or not name.isidentifier() or side(name):
                message = f"{name!r} cannot be the name of a parameter, which has no side"
                self._say(key, f"{message}; expected letters, digits and _")
            elif not isinstance(value, int | float):
                self._say(
                    key, "all synapses have one value; expected a number, or text with a unit"
                )

    def _check_brought(self, lines: Mapping[str, Line]) -> None:
        """Whether there is an input that the current can be brought to."""
        cell, into, line = self.cells["post"], self.given.into, lines.get(BROUGHT)
        if line is None:
            return
        if line.moves or line.right is None:
            self._say(("equations",), f"{BROUGHT} is brought at once; expected '{BROUGHT} = ...'")
        if cell is None:
            message = f"{self.given.post} has no equations that {BROUGHT} could be brought to"
            self._say(("post",), message)
        elif into not in cell.inputs:
            self._say(("into",), unknown(f"input of {self.given.post}", into, cell.inputs))

    @cached_property
    def _potential(self) -> str | None:
        """The one potential that the input moves; None if there is none."""
        cell, into = self.cells["post"], self.given.into
        driven = () if cell is None or into not in cell.inputs else cell.driven(into)
        return driven[0] if len(driven) == 1 else None

    def _given(self, at: Side, lines: Mapping[str, Line]) -> dict[str, str]:
        """Names that a side offers, by what its cell calls them; the lines' own ones hide them."""
        cell = self.cells[at]
        if cell is None:
            return {}
        names = (*cell.cell.defined, *cell.parameters, *cell.inputs)
        return {f"{n}_{at}": n for n in names if n != "spikes" and f"{n}_{at}" not in lines}

    def _known(self, lines: Mapping[str, Line]) -> set[str]:
        offered = {name for at in SIDES for name in self._given(at, lines)}
        offered |= {POTENTIAL} if self._potential is not None else set()
        return {*lines, WEIGHT, *self.given.parameters} | offered

    def _check_lines(self, lines: Mapping[str, Line]) -> None:
        known = self._known(lines)
        for line in lines.values():
            if line.right is None:
                continue
            self._check_known("equations", line.name, line.right, known)
            at = side(line.name)
            if at is not None and line.name != BROUGHT:
                self._check_side("equations", line.name, line.right, at)
        cell = _as_cell(lines)
        with _placing(self._say, "equations"):
            for name in cell.defined:
                cell.needed([name])
        post = self.cells["post"]
        other = POTENTIAL in cell.names and self._potential not in (None, "v")
        if other and post is not None and "v" in post.cell.defined:
            message = f"{POTENTIAL} could be v, or {self._potential}, which {self.given.into} moves"
            self._say(("into",), f"{message}; name that one")

    def _check_known(self, key: str, name: str, right: Expression, known: Iterable[str]) -> None:
        for other in sorted(right.names - set(known)):
            message = unknown("name", other, sorted(known))
            if other == POTENTIAL:
                message = (
                    f"{POTENTIAL}: {self.given.post} has no potential that {self.given.into} moves"
                )
            self._say((key,), f"{name}: {message}")

    def _check_side(self, key: str, name: str, right: Expression, at: Side) -> None:
        for other in sorted(right.names):
            if side(other) != at and other not in self.given.parameters:
                message = (
                    f"{name} is kept once in every {at}synaptic cell, which knows no {other!r}"
                )
                self._say((key,), f"{message}; expected parameters and names that end in _{at}")

    def _check_changes(
        self, at: Side, changes: Iterable[Change], lines: Mapping[str, Line]
    ) -> None:
        key, states = f"on_{at}", [line.name for line in lines.values() if line.state]
        cells = {
            f"{name}_{end}"
            for end, cell in self.cells.items()
            for name in (() if cell is None else cell.states)
        }
        changing = {*states, WEIGHT, *cells, *({POTENTIAL} & self._known(lines))}
        for change in changes:
            if change.name not in changing:
                self._say((key,), unknown("state", change.name, sorted(changing)))
                continue
            self._check_known(key, change.name, change.right, self._known(lines))
            end = side(change.name)
            if end == at:
                self._check_side(key, change.name, change.right, at)
            elif end is not None and (
                change.how not in ("+", "-") or change.name in change.right.names
            ):
                message = f"{change.name} hears many synapses at once, so what one does must add up"
                self._say((key,), f"{message}; expected such as '{change.name} += weight'")

    def _check_order(self, lines: Mapping[str, Line], changes: Iterable[Change]) -> None:
        """What a spike releases is told before the spike changes it."""
        changed: set[str] = set()
        behind = _as_cell(lines).roots(RELEASE) if RELEASE in lines else frozenset()
        for change in changes:
            late = sorted(behind & changed) if RELEASE in change.right.names else []
            if late and change.name not in changed:
                message = (
                    f"{change.name} would hear of {RELEASE} after the spike has changed {late[0]}"
                )
                self._say(("on_pre",), f"{message}; in use, name the receptor first")
                return
            changed.add(change.name)

    def _check_use(
        self, lines: Mapping[str, Line], changes: Mapping[Side, Iterable[Change]]
    ) -> None:
        rights = [line.right for line in lines.values() if line.right is not None]
        rights += [change.right for several in changes.values() for change in several]
        used = frozenset().union(*(right.names for right in rights))
        used |= {value for value in self.given.start.values() if isinstance(value, str)}
        for name in () if self._wrong else sorted(set(self.given.parameters) - used):
            self._say(("parameters", name), unknown("parameter", name, sorted(used - set(lines))))

    def _start(self, lines: Mapping[str, Line]) -> dict[str, float]:
        """What states begin with."""
        states = [line.name for line in lines.values() if line.state and line.name != WEIGHT]
        found, parameters = dict.fromkeys(states, 0.0), self.given.parameters
        for name, value in self.given.start.items():
            if name not in states:
                self._say(("start", name), unknown("state", name, states))
            elif isinstance(value, str) and value not in parameters:
                self._say(("start", name), unknown("parameter", value, parameters))
            else:
                found[name] = float(parameters[value] if isinstance(value, str) else value)
        return found

    def _dimensions(
        self, lines: Mapping[str, Line], changes: Mapping[Side, Iterable[Change]]
    ) -> Mapping[str, str | None]:
        given = self.given
        units: dict[str, str | None] = {}
        for at, cell in self.cells.items():
            if cell is None:
                continue
            known = cell.dimensions
            units |= {name: known.get(own) for name, own in self._given(at, lines).items()}
            if at == "post":
                units |= {BROUGHT: known.get(given.into)}
            if at == "post" and self._potential is not None:
                units |= {POTENTIAL: known[self._potential]}
        written = {**given.parameters, WEIGHT: given.weight, **given.start}
        units |= {n: v.dimension for n, v in written.items() if hasattr(v, "dimension")}
        told = {name: dimension for name, dimension in units.items() if dimension is not None}
        becoming = [(c.name, c.becomes) for several in changes.values() for c in several]
        return dimensions.found(_as_cell(lines), told, becoming, (RELEASE,))


def _as_cell(lines: Mapping[str, Line]) -> Cell:
    """The lines as those of a cell, whose names say the sides."""
    return Cell(
        tuple(Equation(x.name, x.right, x.moves) for x in lines.values() if x.right is not None)
    )


class _placing:
    """In which what is wrong with a text is said of a key."""

    def __init__(self, say: Callable[[Key, str], None], key: str) -> None:
        self._say, self._key = say, key

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> bool:
        if not isinstance(error, ExpressionError):
            return False
        self._say((self._key,), str(error))
        return True


def listed(synapses: Mapping[str, Synapse], group: str) -> Iterator[tuple[Synapse, Side]]:
    """All synapses that keep something in the cells of a group, and on which side."""
    for synapse in synapses.values():
        for at in SIDES:
            if synapse.group(at) == group and synapse.own(at):
                yield synapse, at
