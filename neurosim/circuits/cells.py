"""Cells: the equations of one neuron's compartments, as text in Brian2's notation.

    basal    = forward + bias                         # a quantity that follows at once
    dsoma/dt = (s(basal) - soma)/tau_soma             # a compartment with a time of its own

A cell is elementwise: it sees its own quantities, what its synapses bring, and parameters, and
knows nothing of other units. Quantities that nobody asks for are no part of it.
"""

import ast
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from neurosim.circuits.expressions import FORBIDDEN, Expression, ExpressionError, parse
from neurosim.errors import unknown

LINE = re.compile(r"(?:d(?P<state>\w+)\s*/\s*dt|(?P<name>\w+))\s*=\s*(?P<right>[^=].*)")
UNIT = re.compile(r"\s*:\s*1\s*$")
"""The unit that Brian2 wants behind an equation; here everything is without."""


@dataclass(frozen=True)
class Equation:
    """One line. moves: whether it is a differential equation."""

    name: str
    right: Expression
    moves: bool


@dataclass(frozen=True)
class Cell:
    """Equations by what they define, in the order of the text."""

    equations: tuple[Equation, ...]

    @classmethod
    def read(cls, text: str, functions: Mapping[str, int], like: "Cell | None" = None) -> "Cell":
        """The cell that a text describes. like: one whose other lines it takes over.

        Raises:
            ExpressionError: a line is no equation; the message quotes it and counts lines from 1.
        """
        kept = {} if like is None else {e.name: e for e in like.equations}
        own: dict[str, Equation] = {}
        for number, line in enumerate(text.splitlines(), start=1):
            line = UNIT.sub("", line.split("#")[0]).strip()
            if not line:
                continue
            try:
                equation = _equation(line, functions)
                if equation.name in own:
                    raise ExpressionError(f"{equation.name!r} is defined twice")
            except ExpressionError as error:
                raise ExpressionError(f"line {number} of the equations: {error}") from None
            own[equation.name] = equation
        return cls(tuple((kept | own).values()))

    @cached_property
    def _by_name(self) -> dict[str, Equation]:
        return {equation.name: equation for equation in self.equations}

    @cached_property
    def states(self) -> tuple[str, ...]:
        """What moves in time, in the order of the text."""
        return tuple(e.name for e in self.equations if e.moves)

    @property
    def defined(self) -> tuple[str, ...]:
        """Everything that it defines."""
        return tuple(e.name for e in self.equations)

    def needed(self, names: Iterable[str]) -> tuple[str, ...]:
        """What has to be known, defined here or not, to know `names`; of states also how they move.

        Raises:
            ExpressionError: quantities that follow at once depend on each other in a circle.
        """
        found: dict[str, None] = {}
        for name in names:
            self._need(name, (), found)
        return tuple(found)

    def _need(self, name: str, way: tuple[str, ...], found: dict[str, None]) -> None:
        equation = self._by_name.get(name)
        if name in way and not (equation and equation.moves):
            circle = " -> ".join((*way[way.index(name) :], name))
            raise ExpressionError(
                f"an algebraic loop: {circle}; give one of them a time constant: "
                f"d{name}/dt = (... - {name})/tau"
            )
        if name in found and not (equation and not equation.moves and way):
            return
        found[name] = None
        if equation is None:
            return
        below = () if equation.moves else (*way, name)
        for other in sorted(equation.right.names):
            if not (equation.moves and other == name):
                self._need(other, below, found)

    def right(self, name: str) -> Expression:
        """The right side of the equation of `name`."""
        return self._by_name[name].right

    def alias(self, name: str) -> str:
        """The quantity of the cell that `name` is but another name of; itself if it is of none."""
        equation = self._by_name.get(name)
        if equation is None or equation.moves or equation.right.text not in self._by_name:
            return name
        return self.alias(equation.right.text)

    @cached_property
    def transferred(self) -> frozenset[str]:
        """The quantities that the transfer function `s` is applied to."""
        calls = (node for e in self.equations for node in ast.walk(e.right.tree))
        found = set()
        for node in calls:
            match node:
                case ast.Call(func=ast.Name(id="s"), args=[ast.Name(id=name)]):
                    found.add(self.alias(name))
        return frozenset(found)

    def roots(self, name: str) -> frozenset[str]:
        """States, and what is given, that `name` follows at once; no loop is left."""
        equation = self._by_name.get(name)
        if equation is None or equation.moves:
            return frozenset({name})
        return frozenset().union(*(self.roots(other) for other in equation.right.names))

    def follows(self, names: Iterable[str], state: str) -> bool:
        """Whether any of these follows a state at once."""
        return state in frozenset().union(*map(self.roots, names))

    def restricted(self, names: Iterable[str]) -> "Cell":
        """The part of it that `names` need."""
        kept = set(self.needed(names))
        return Cell(tuple(e for e in self.equations if e.name in kept))

    def check(self, given: Iterable[str], wanted: Iterable[str]) -> None:
        """Whether all that is needed for `wanted` is defined or among `given`.

        Raises:
            ExpressionError: what is missing, with the nearest name; a name that Brian2 forbids.
        """
        available = {*given, *self.defined}
        for name in self.defined:
            if name in FORBIDDEN:
                raise ExpressionError(f"{name!r} has another meaning in Brian2; use another name")
        for name in wanted:
            if name not in self._by_name:
                raise ExpressionError(f"{name} is not defined; expected a line '{name} = ...'")
        for name in self.needed(wanted):
            if name not in available:
                raise ExpressionError(unknown("name", name, sorted(available)))


def with_lines(text: str, lines: str) -> str:
    """A text of equations with other lines in place of those that define the same."""

    def defined(line: str) -> str | None:
        match = LINE.fullmatch(UNIT.sub("", line.split("#")[0]).strip())
        return None if match is None else match["state"] or match["name"]

    own: dict[str, list[str]] = {}
    for line in lines.splitlines():
        if line.split("#")[0].strip():
            own.setdefault(defined(line) or line, []).append(line)
    kept = [own.pop(defined(line) or "", [line]) for line in text.splitlines()]
    return "\n".join([*(line for found in [*kept, *own.values()] for line in found), ""])


def _equation(line: str, functions: Mapping[str, int]) -> Equation:
    match = LINE.fullmatch(line)
    if match is None:
        raise ExpressionError(f"{line!r} is no equation; expected 'name = ...' or 'dname/dt = ...'")
    name = match["state"] or match["name"]
    return Equation(name, parse(match["right"], functions), match["state"] is not None)
