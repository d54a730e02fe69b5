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
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Literal

from neurosim.circuits.cell_tables import DRAWN
from neurosim.circuits.cells import LINE, RESET, UNIT
from neurosim.circuits.expressions import Expression, ExpressionError, parse

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


def listed(synapses: Mapping[str, Synapse], group: str) -> Iterator[tuple[Synapse, Side]]:
    """All synapses that keep something in the cells of a group, and on which side."""
    for synapse in synapses.values():
        for at in SIDES:
            if synapse.group(at) == group and synapse.own(at):
                yield synapse, at
