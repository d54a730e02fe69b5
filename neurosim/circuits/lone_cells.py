"""A cell alone, with its numbers: it hears no synapses, only what stimuli bring to its inputs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from neurosim.circuits import dimensions
from neurosim.circuits.cell_tables import CellTables
from neurosim.circuits.cells import NOISE, SPIKES, STEP, Cell
from neurosim.circuits.expressions import FORBIDDEN, ExpressionError
from neurosim.circuits.tables import NAME, Key
from neurosim.errors import unknown


@dataclass(frozen=True)
class LoneCell:
    """Equations that stand for themselves.

    parameters: by name, in SI units; of those that cells differ in a number for every cell, or the
    mean before they are drawn. spreads: the deviations of these. inputs: what stimuli bring.
    readout: the potential that is looked at. units: the dimensions of what was written with a unit.
    """

    cell: Cell
    parameters: Mapping[str, Any]
    spreads: Mapping[str, float]
    inputs: tuple[str, ...]
    readout: str
    units: Mapping[str, str]

    @property
    def states(self) -> tuple[str, ...]:
        """What moves, in the order of the text."""
        return self.cell.states

    @property
    def start(self) -> dict[str, float]:
        """What states begin with."""
        return dict.fromkeys(self.states, 0.0) | dict(self.cell.start)

    @property
    def noisy(self) -> bool:
        """Whether white noise enters it."""
        return self.cell.noisy

    @property
    def jumps(self) -> bool:
        """Whether its states are reset, held or driven by noise, so that it moves in fixed steps.

        A threshold alone only says when it spikes.
        """
        firing = self.cell.firing
        if firing is None:
            return self.noisy
        held = any(equation.held for equation in self.cell.equations)
        return bool(firing.reset) or held or self.noisy or firing.draws

    def driven(self, name: str) -> tuple[str, ...]:
        """The potentials that an input moves."""
        voltages = (state for state in self.states if self.dimensions[state] == "voltage")
        return tuple(
            state
            for state in voltages
            if name in frozenset().union(*map(self.cell.roots, self.cell.right(state).names))
        )

    @cached_property
    def dimensions(self) -> dict[str, str | None]:
        """Of what it defines and of its inputs, by name: "voltage", or None of what has none."""
        return dimensions.found(self.cell, self.units)


def lone(
    given: Any,
    reached: Mapping[str, str],
    say: Callable[[Key, str], None],
) -> LoneCell | None:
    """The cell that a table says; None if it cannot be.

    given: the table, of `CellModelSpec`. reached: the dimensions that stimuli bring to its inputs,
    if they have one. say: takes what is wrong, with the key of the table.
    """
    wrong: list[Key] = []

    def wrongly(key: Key, message: str) -> None:
        wrong.append(key)
        say(key, message)

    (cell,) = CellTables({"cell": given}, {}, lambda k, m: wrongly(k[2:], m)).cells.values()
    for name, value in given.parameters.items():
        _named(("parameters", name), name, wrongly)
        if getattr(value, "mean", value) is None:
            message = "a cell alone draws its value; expected mean and spread"
            wrongly(("parameters", name), message)
        if name in {*cell.defined, *given.inputs}:
            wrongly(("parameters", name), "is a quantity of the cell; use another name")
    for number, name in enumerate(given.inputs):
        _named(("inputs", number), name, wrongly)
        if name in cell.defined:
            wrongly(("inputs", number), f"{name!r} is defined by the equations; leave one out")
        elif name not in cell.names and not wrong:
            wrongly(("inputs", number), unknown("name", name, sorted(_free(cell, given))))
    if wrong:
        return None
    known = {*given.parameters, *given.inputs, NOISE}
    firing = cell.firing.names if cell.firing else frozenset()
    quantities = [n for n in cell.defined if n != SPIKES or not cell.silent]
    try:
        cell.check(known, [*quantities, *(n for n in firing if n in cell.defined)])
    except ExpressionError as error:
        wrongly(("equations",), str(error))
    for name in sorted(firing - set(cell.defined) - known):
        wrongly(("threshold",), unknown("name", name, sorted({*cell.defined, *known})))
    for name in () if wrong else set(given.parameters) - cell.names:
        wrongly(("parameters", name), unknown("parameter", name, sorted(_free(cell, given))))
    if not cell.states and cell.firing is None:
        wrongly(("equations",), "no quantity moves; expected a line such as dv/dt = ...")
    if not quantities:
        wrongly(("equations",), "define nothing; expected a line such as dv/dt = ...")
    readout = given.readout or next(iter((*cell.states, *quantities)), "")
    if given.readout is not None and given.readout not in cell.defined:
        wrongly(("readout",), unknown("quantity", given.readout, cell.defined))
    if wrong:
        return None
    means = {name: getattr(value, "mean", value) for name, value in given.parameters.items()}
    units = {name: v.dimension for name, v in means.items() if hasattr(v, "dimension")}
    units |= {n: v.dimension for n, v in given.start.items() if hasattr(v, "dimension")}
    try:
        dimensions.check(cell, units | dict(reached))
    except ExpressionError as error:
        wrongly(("equations",), str(error))
        return None
    numbers = {name: float(value) for name, value in means.items()}
    spreads = {n: float(v.spread) for n, v in given.parameters.items() if hasattr(v, "spread")}
    return LoneCell(cell, numbers, spreads, tuple(given.inputs), readout, units | dict(reached))


def _named(key: Key, name: str, say: Callable[[Key, str], None]) -> None:
    if not NAME.fullmatch(name) and not name.isidentifier():
        say(key, f"{name!r} cannot be a name; expected letters, digits and _, a letter first")
    elif name in {*FORBIDDEN, STEP, SPIKES}:
        say(key, f"{name!r} has a meaning of its own; use another name")


def _free(cell: Cell, given: Any) -> set[str]:
    """What its equations name and nothing says."""
    return set(cell.names) - set(cell.defined) - {NOISE, STEP}
