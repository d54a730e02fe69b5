"""Where weights start: a random draw by name, or an expression over the weights of others.

init = "orthogonal"                      a draw
init = "pinv(W[i+1])"                    of the layer above
init = "-B[i]"                           lateral synapses that cancel what comes down
init = "W[i+1]*g_b/(g_b + g_l)"          with parameters, i and L
init = "5*normal()*int(rand() < 0.2)"    with draws, here of sparse weights
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Any

from neurosim.circuits.description import Circuit
from neurosim.circuits.expressions import Expression, ExpressionError, parse
from neurosim.circuits.wires import Layer, layer
from neurosim.errors import unknown

DRAWS = ("lecun", "xavier", "orthogonal", "normal", "uniform", "zeros", "ones", "identity")
"""Starts by name. `normal` has the deviation `gain` over the root of how many units send, `uniform`
lies within ± `gain`."""

GIVEN = ("file", "near-teacher")
"""Starts from weights that are there."""

NAMED = (*DRAWS, *GIVEN)

MATRICES = {"pinv": 1, "inv": 1, "transpose": 1, "dot": 2}
"""Functions of whole matrices that an expression may call, with their numbers of arguments."""

RANDOM = {"rand", "lecun", "xavier", "orthogonal", "normal", "uniform"}
"""What an expression may draw, `normal()` being what the start by that name draws; `rand()` is
uniform between 0 and 1, each weight's own."""

_INDEXED = re.compile(r"([A-Za-z]\w*)\[([^\[\]]*)\]")


@dataclass(frozen=True)
class Start:
    """An expression, with what stands in it for the weights of others: projection and layer."""

    expression: Expression
    weights: tuple[tuple[str, str, Layer], ...]

    @property
    def projections(self) -> tuple[str, ...]:
        """Those that must have started before."""
        return tuple(name for _, name, _ in self.weights)

    def value(
        self,
        circuit: Circuit,
        number: int,
        weights: Mapping[str, Sequence[Any]],
        given: Mapping[str, Any],
        functions: Mapping[str, Callable[..., Any]],
    ) -> Any:
        """Its value for one of the weights of a projection.

        weights: of the others. given: parameters, and L.

        Raises:
            ExpressionError: another projection has no weights of the number that is asked for.
        """
        values: dict[str, Any] = dict(given) | {"i": number}
        for stand_in, other, where in self.weights:
            numbers = [s.number for s in circuit.projection[other].synapses]
            at = where.at(number, circuit.depth)
            if at not in numbers:
                raise ExpressionError(
                    f"asks {other} for number {at} in layer {number}; it has "
                    f"{', '.join(map(str, numbers))}"
                )
            values[stand_in] = weights[other][numbers.index(at)]
        return self.expression(values, functions)

    @property
    def draws(self) -> frozenset[str]:
        """What it draws."""
        return self.expression.functions & RANDOM

    @property
    def names(self) -> frozenset[str]:
        """Everything else that it names."""
        return self.expression.names - {stand_in for stand_in, _, _ in self.weights}


def start(text: str) -> Start:
    """The expression that a text writes.

    Raises:
        ExpressionError: it is none.
    """
    found: list[tuple[str, str, Layer]] = []

    def replaced(match: re.Match[str]) -> str:
        stand_in = f"weights_{len(found)}"
        found.append((stand_in, match[1], layer(match[2])))
        return stand_in

    plain = _INDEXED.sub(replaced, text)
    return Start(parse(plain, MATRICES | dict.fromkeys(RANDOM, 0)), tuple(found))


def in_order(starts: Mapping[str, str]) -> list[str]:
    """The projections, each after those that its weights are made from. starts: by name.

    Raises:
        CycleError: some are made from each other in a circle, which is its second argument.
    """
    made_from = {
        name: () if text in NAMED else start(text).projections for name, text in starts.items()
    }
    return [name for name in TopologicalSorter(made_from).static_order() if name in starts]


def problems(starts: Mapping[str, str], parameters: Iterable[str]) -> Iterator[tuple[str, str]]:
    """What is wrong with the starts of projections that have weights: which one, and what."""
    sound = True
    known = ["i", "L", *parameters]
    for name, text in starts.items():
        if text in NAMED:
            continue
        if "[" not in text and "(" not in text:
            hint = ", or an expression over other projections such as 'pinv(W[i+1])'"
            yield name, unknown("start", text, NAMED) + hint
            sound = False
            continue
        try:
            found = start(text)
        except ExpressionError as error:
            yield name, str(error)
            sound = False
            continue
        for other in found.projections:
            if other not in starts:
                yield name, unknown("projection with weights", other, starts)
        for other in sorted(found.names - set(known)):
            yield name, unknown("name", other, known)
    if sound:
        try:
            in_order(starts)
        except CycleError as error:
            circle = error.args[1]
            yield circle[0], f"waits for itself: {' -> '.join(circle)}"
