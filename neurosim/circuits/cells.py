"""Cells: the equations of one neuron's compartments, as text in Brian2's notation.

    basal    = forward + bias                         # a quantity that follows at once
    dsoma/dt = (s(basal) - soma)/tau_soma             # a compartment with a time of its own

A cell may spike by itself, where it has a threshold: then it sends `spikes`, their train. A cell is
elementwise: it sees its own quantities, what its synapses bring, and parameters, and
knows nothing of other units. Quantities that nobody asks for are no part of it.
"""

import ast
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from neurosim.circuits.expressions import FORBIDDEN, Expression, ExpressionError, parse
from neurosim.errors import unknown

LINE = re.compile(r"(?:d(?P<state>\w+)\s*/\s*dt|(?P<name>\w+))\s*=\s*(?P<right>[^=].*)")
UNIT = re.compile(r"\s*:\s*1\s*$")
"""The unit that Brian2 wants behind an equation; here everything is without."""

HELD = re.compile(r"\s*\(\s*unless\s+refractory\s*\)\s*$")
"""Behind a state that stands still while its cell is refractory."""

RESET = re.compile(r"(?P<name>\w+)\s*(?P<how>[-+*/]?)=\s*(?P<right>[^=].*)")

SPIKES = "spikes"
"""What a cell that spikes by itself sends: the train of its spikes, in Hz."""

NOISE = "xi"
"""White noise, of unit intensity."""

STEP = "dt"
"""What a threshold and a reset may name beside the cell: the time step."""


@dataclass(frozen=True)
class Equation:
    """One line.

    moves: whether it is a differential equation. held: whether its state stands still while the
    cell is refractory.
    """

    name: str
    right: Expression
    moves: bool
    held: bool = False


@dataclass(frozen=True)
class Firing:
    """How a cell spikes by itself.

    threshold: a condition under which it does. reset: what states become then, one after the other.
    refractory: for how long it spikes no more (s), or a condition under which it does not.
    """

    threshold: Expression
    reset: tuple[tuple[str, Expression], ...] = ()
    refractory: Expression | None = None

    @property
    def texts(self) -> dict[str, tuple[Expression, ...]]:
        """Its expressions, by what they are."""
        waits = () if self.refractory is None else (self.refractory,)
        resets = tuple(right for _, right in self.reset)
        return {"threshold": (self.threshold,), "reset": resets, "refractory": waits}

    @property
    def draws(self) -> bool:
        """Whether it spikes by chance."""
        return "rand" in self.threshold.functions

    @property
    def names(self) -> frozenset[str]:
        """The quantities it needs."""
        found = (text.names for texts in self.texts.values() for text in texts)
        return frozenset().union(*found) - {STEP}


@dataclass(frozen=True)
class Cell:
    """Equations by what they define, in the order of the text.

    firing: how it spikes by itself, if it does. start: values of states before anything is shown,
    where that is not 0.
    """

    equations: tuple[Equation, ...]
    firing: Firing | None = None
    start: tuple[tuple[str, float], ...] = ()

    @classmethod
    def read(cls, text: str, functions: Mapping[str, int], like: "Cell | None" = None) -> "Cell":
        """The cell that a text describes. like: one whose other lines it takes over.

        Raises:
            ExpressionError: a line is no equation; the message quotes it and counts lines from 1.
        """
        kept = {} if like is None else {e.name: e for e in like.equations}
        own: dict[str, Equation] = {}
        for number, line in enumerate(text.splitlines(), start=1):
            line = line.split("#")[0].strip()
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

    def spiking(self, firing: Firing) -> "Cell":
        """The same with a threshold; of text that says nothing of `spikes`, they are all it has."""
        said = () if SPIKES in self.defined else (Equation(SPIKES, parse("0"), False),)
        return replace(self, equations=(*self.equations, *said), firing=firing)

    @cached_property
    def names(self) -> frozenset[str]:
        """All that its text names."""
        texts = [equation.right.names for equation in self.equations]
        return frozenset().union(*texts, self.firing.names if self.firing else ())

    @property
    def noisy(self) -> bool:
        """Whether white noise enters it."""
        return any(NOISE in equation.right.names for equation in self.equations)

    @property
    def silent(self) -> bool:
        """Whether it has a threshold and no line that says at which rate it spikes."""
        return self.firing is not None and self.right(SPIKES).text == "0"

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
        fired = () if self.firing is None else (SPIKES, *self.firing.names)
        kept = set(self.needed((*names, *(n for n in fired if n in self._by_name))))
        equations = tuple(e for e in self.equations if e.name in kept)
        start = tuple((name, value) for name, value in self.start if name in kept)
        return replace(self, equations=equations, start=start)

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
        match = LINE.fullmatch(_bare(line.split("#")[0]))
        return None if match is None else match["state"] or match["name"]

    own: dict[str, list[str]] = {}
    for line in lines.splitlines():
        if line.split("#")[0].strip():
            own.setdefault(defined(line) or line, []).append(line)
    kept = [own.pop(defined(line) or "", [line]) for line in text.splitlines()]
    return "\n".join([*(line for found in [*kept, *own.values()] for line in found), ""])


def _bare(line: str) -> str:
    """A line without what Brian2 wants behind it."""
    return UNIT.sub("", HELD.sub("", line)).strip()


def _equation(line: str, functions: Mapping[str, int]) -> Equation:
    match = LINE.fullmatch(_bare(line))
    if match is None:
        raise ExpressionError(f"{line!r} is no equation; expected 'name = ...' or 'dname/dt = ...'")
    name, held = match["state"] or match["name"], HELD.search(line) is not None
    if held and match["state"] is None:
        raise ExpressionError(f"{line!r}: only a line 'd{name}/dt = ...' can be refractory")
    return Equation(name, parse(match["right"], functions), match["state"] is not None, held)


def condition(text: str, functions: Mapping[str, int]) -> Expression:
    """The condition that a text writes.

    Raises:
        ExpressionError: it is none.
    """
    found = parse(text, functions)
    if not found.compares:
        raise ExpressionError(f"{found.text!r} is no condition; expected such as 'v > v_threshold'")
    return found


def assignments(text: str, functions: Mapping[str, int]) -> tuple[tuple[str, Expression], ...]:
    """The statements of a reset, one a line, or with semicolons between them.

    Raises:
        ExpressionError: one of them is none; the message quotes it.
    """
    lines = (line.split("#")[0].strip() for line in text.replace(";", "\n").splitlines())
    return tuple(_assignment(line, functions) for line in lines if line)


def _assignment(line: str, functions: Mapping[str, int]) -> tuple[str, Expression]:
    """`v = v_reset` or `w += b`: a state and what it becomes."""
    match = RESET.fullmatch(line)
    if match is None:
        raise ExpressionError(f"{line!r} resets nothing; expected such as 'v = v_reset'")
    name, how, right = match["name"], match["how"], match["right"]
    return name, parse(f"{name} {how} ({right})" if how else right, functions)
