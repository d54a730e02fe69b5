"""Whether the equations of a cell add up: times to times, voltages to voltages.

Parameters that are written with a unit have its dimension, what transfer functions take and give
has none, and everything else, plain numbers too, has whatever dimension makes the equations hold.
An equation is refused where no dimension does.
"""

import ast
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from neurosim.circuits.cells import SPIKES, STEP, Cell, Equation, Firing
from neurosim.circuits.expressions import Expression, ExpressionError

BASES: dict[str, dict[str, int]] = {
    "time": {"s": 1},
    "rate": {"s": -1},
    "voltage": {"V": 1},
    "current": {"A": 1},
    "conductance": {"A": 1, "V": -1},
    "capacitance": {"A": 1, "s": 1, "V": -1},
    "concentration": {"mM": 1},
    "temperature": {"K": 1},
}
"""Dimensions in powers of seconds, volts, amperes, millimoles a liter and kelvins."""

SAME = ("abs", "clip", "t")
"""Functions that return what they are given; others take and give numbers."""


@dataclass(frozen=True)
class Dimension:
    """A product of powers of base units, and of dimensions that are not known yet, by name."""

    powers: tuple[tuple[str, Fraction], ...] = ()

    @classmethod
    def of(cls, powers: Mapping[str, Any]) -> "Dimension":
        """From powers by name, those of zero left out."""
        found = {name: Fraction(power) for name, power in powers.items()}
        return cls(tuple(sorted((n, p) for n, p in found.items() if p)))

    def times(self, other: "Dimension", power: Fraction | int = 1) -> "Dimension":
        """self · other^power."""
        found = dict(self.powers)
        for name, own in other.powers:
            found[name] = found.get(name, Fraction()) + own * power
        return Dimension.of(found)

    def __str__(self) -> str:
        units = [(name.replace("?", "unit of "), power) for name, power in self.powers]
        parts = [name if power == 1 else f"{name}^{power}" for name, power in units]
        return f"unit {' '.join(parts)}" if parts else "no unit"


GIVEN = {
    "teach": Dimension(),
    "xi": Dimension.of({"s": Fraction(-1, 2)}),
    STEP: Dimension.of(BASES["time"]),
}
"""What every cell may name."""


def _text(node: ast.expr) -> str:
    return re.sub(r"(?<=\d)\.0\b", "", ast.unparse(node))


def check(cell: Cell, units: Mapping[str, str]) -> None:
    """Whether the equations of a cell can hold.

    units: the dimensions of parameters that were written with a unit, by name.

    Raises:
        ExpressionError: an equation cannot; the message quotes it.
    """
    _learned(cell, units)


def found(
    cell: Cell,
    units: Mapping[str, str],
    changes: Collection[tuple[str, Expression]] = (),
    plain: Collection[str] = (),
) -> dict[str, str | None]:
    """The dimension of everything that a checked cell names; None of what has none, or another.

    changes: what its quantities become besides, such as at the spikes of others. plain: names of
    what has no unit.

    Raises:
        ExpressionError: an equation or a change cannot hold.
    """
    known = _learned(cell, units, plain)
    for name, right in changes:
        known.becomes(name, right, "")
    names = {Dimension.of(powers): name for name, powers in BASES.items()}
    every = {*cell.names, *cell.defined, *(name for name, _ in changes)}
    return {n: names.get(known.resolved(known.named(n))) for n in every}


def _learned(cell: Cell, units: Mapping[str, str], plain: Collection[str] = ()) -> "_Known":
    """What the equations of a cell tell of dimensions."""
    given = {name: Dimension.of(BASES[dimension]) for name, dimension in units.items()}
    given |= dict.fromkeys(plain, Dimension())
    known = _Known(given | GIVEN)
    if cell.firing is not None:
        known.given |= {SPIKES: Dimension.of(BASES["rate"])}
    for equation in cell.equations:
        known.read(equation)
    if cell.firing is not None:
        known.fires(cell.firing)
    return known


class _Known:
    """What equations read so far have told of dimensions; `given` those of parameters."""

    def __init__(self, given: Mapping[str, Dimension]) -> None:
        self.given = dict(given)
        self.told: dict[str, Dimension] = {}
        self._numbers = 0

    def read(self, equation: Equation) -> None:
        """Learn from an equation."""
        left = self.named(equation.name)
        if equation.moves:
            free = not equation.right.names & (self.given.keys() - GIVEN.keys() - {SPIKES})
            pace = {f"?{equation.name}": 1} if free else {"s": -1}
            left = left.times(Dimension.of(pace))  # free: numbers may stand for rates
        head = f"d{equation.name}/dt" if equation.moves else equation.name
        line = f"{head} = {equation.right.text}"
        right = self._dimension(equation.right.tree.body, line)
        self._same(left, right, f"{line}: its right side has {{1}}; expected {{0}}")

    def fires(self, firing: Firing) -> None:
        """Learn from how a cell spikes by itself."""
        self._dimension(firing.threshold.tree.body, f"threshold {firing.threshold.text}")
        for name, right in firing.reset:
            self.becomes(name, right, "reset ")
        if firing.refractory is not None:
            line = f"refractory {firing.refractory.text}"
            found = self._dimension(firing.refractory.tree.body, line)
            if not firing.refractory.compares:
                self._same(found, Dimension.of(BASES["time"]), f"{line} has {{0}}; expected {{1}}")

    def becomes(self, name: str, right: Expression, what: str) -> None:
        """Learn from what a quantity becomes at a spike."""
        line = f"{name} = {right.text}"
        found = self._dimension(right.tree.body, line)
        message = f"{what}{line}: its right side has {{1}}; expected {{0}}"
        self._same(self.named(name), found, message)

    def resolved(self, dimension: Dimension) -> Dimension:
        """With what is known by now in place of what was not."""
        found = Dimension()
        for name, power in dimension.powers:
            base = self.told.get(name)
            one = Dimension.of({name: 1}) if base is None else self.resolved(base)
            found = found.times(one, power)
        return found

    def named(self, name: str) -> Dimension:
        """Of a quantity, as far as it is known."""
        return self.given.get(name, Dimension.of({f"?{name}": 1}))

    def _same(self, one: Dimension, other: Dimension, message: str) -> None:
        """Two dimensions must be one: one unknown of them is what the others make it."""
        one, other = self.resolved(one), self.resolved(other)
        rest = dict(one.times(other, -1).powers)
        name = next((n for n in sorted(rest) if n.startswith("?")), None)
        if name is not None:
            power = rest.pop(name)
            self.told[name] = Dimension.of({n: -p / power for n, p in rest.items()})
        elif rest:
            raise ExpressionError(message.format(one, other))

    def _dimension(self, node: ast.expr, line: str) -> Dimension:
        def part(node: ast.expr) -> Dimension:
            return self._dimension(node, line)

        def alike(nodes: list[ast.expr]) -> Dimension:
            first, *others = nodes
            found = part(first)
            for other in others:
                text = f"{line}: {_text(first)} has {{0}}, and {_text(other)} {{1}}"
                self._same(found, part(other), text)
            return found

        match node:
            case ast.Name(id=name):
                return self.named(name)
            case ast.Constant():
                self._numbers += 1
                return Dimension.of({f"?number {self._numbers}": 1})
            case ast.UnaryOp(operand=operand):
                return part(operand)
            case ast.BinOp(left=left, op=ast.Mult(), right=right):
                return part(left).times(part(right))
            case ast.BinOp(left=left, op=ast.Div(), right=right):
                return part(left).times(part(right), -1)
            case ast.BinOp(left=left, op=ast.Pow(), right=right):
                return self._power(left, right, line)
            case ast.BinOp(left=left, right=right):
                return alike([left, right])
            case ast.Compare(left=left, comparators=others):
                alike([left, *others])
            case ast.BoolOp(values=conditions):
                for each in conditions:
                    part(each)
            case ast.Call(func=ast.Name(id=name), args=arguments) if name in SAME:
                return alike(list(arguments))
            case ast.Call(func=ast.Name(id="sqrt"), args=[argument]):
                return Dimension().times(part(argument), Fraction(1, 2))
            case ast.Call(func=ast.Name(id="int" | "t_slope"), args=[argument]):
                part(argument)
            case ast.Call(func=ast.Name(id="nernst"), args=[valence, inside, outside, warm]):
                alike([inside, outside])
                for argument, powers in ((valence, {}), (warm, BASES["temperature"])):
                    text = f"{line}: {_text(argument)} has {{0}}; expected {{1}}"
                    self._same(part(argument), Dimension.of(powers), text)
                return Dimension.of(BASES["voltage"])
            case ast.Call(args=arguments):
                for argument in arguments:
                    text = f"{line}: {_text(argument)} has {{0}}; expected {{1}}"
                    self._same(part(argument), Dimension(), text)
        return Dimension()

    def _power(self, base: ast.expr, exponent: ast.expr, line: str) -> Dimension:
        """Of a power: known where the exponent is a number, else all are numbers."""
        sign = 1
        if isinstance(exponent, ast.UnaryOp) and isinstance(exponent.op, ast.USub):
            sign, exponent = -1, exponent.operand
        found = self._dimension(base, line)
        if isinstance(exponent, ast.Constant) and isinstance(exponent.value, float):
            power = Fraction(exponent.value).limit_denominator(1000)
            return Dimension().times(found, sign * power)
        for node, given in ((base, found), (exponent, self._dimension(exponent, line))):
            text = f"{line}: {_text(node)} has {{0}}; expected {{1}}"
            self._same(given, Dimension(), text)
        return Dimension()
