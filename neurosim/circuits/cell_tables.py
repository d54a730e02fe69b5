"""From the tables of cells in a model file to cells, or to what is wrong with them."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from neurosim.circuits.cells import Cell, Firing, assignments, condition
from neurosim.circuits.expressions import Expression, ExpressionError, parse
from neurosim.circuits.tables import Key
from neurosim.errors import unknown
from neurosim.units import parse as quantity

DRAWN = {"rand": 0}
"""What a threshold and a reset may call beside: `rand()` is uniform between 0 and 1."""


def _refractory(text: str, functions: Mapping[str, int]) -> Expression:
    """A time, or an expression."""
    try:
        return parse(repr(quantity(text, "time")))
    except ValueError:
        return parse(text, functions)


TEXTS: dict[str, Callable[[str, Mapping[str, int]], Any]] = {
    "threshold": lambda text, functions: condition(text, {**functions, **DRAWN}),
    "reset": lambda text, functions: assignments(text, {**functions, **DRAWN}),
    "refractory": _refractory,
}
"""How a cell spikes by itself: key → what reads it."""


class CellTables:
    """The cells of a file.

    cells: by name. own: what each defines itself; what it takes over may be of no use to it.
    Args: given: the tables by name. functions: what cells may call, with the number of arguments.
    say: takes what is wrong, with the key it stands at.
    """

    def __init__(
        self,
        given: Mapping[str, Any],
        functions: Mapping[str, int],
        say: Callable[[Key, str], None],
    ) -> None:
        self.given, self._functions, self._say = given, functions, say
        self._read = partial(Cell.read, functions=functions)
        self.cells = {name: self._cell(name) for name in given}
        self.own = {name: self._own(name) for name in given}

    def _cell(self, name: str) -> Cell:
        given, key = self.given[name], ("cells", name)
        like = given.like
        if like is not None and (like not in self.given or self.given[like].like):
            others = [n for n, c in self.given.items() if c.like is None and n != name]
            self._say((*key, "like"), unknown("cell", like, others))
            return Cell(())
        try:
            above = None if like is None else self._read(self.given[like].equations)
        except ExpressionError:
            return Cell(())  # said of the other
        try:
            cell = self._read(given.equations, like=above)
        except ExpressionError as error:
            self._say((*key, "equations"), str(error))
            return Cell(())
        return self._started(name, self._firing(name, cell))

    def said(self, name: str, key: str) -> tuple[str, Any]:
        """What a cell says under a key, or the one that it is like; with the cell that says it."""
        given = self.given[name]
        if given.like is None or getattr(given, key) is not None:
            return name, getattr(given, key)
        return given.like, getattr(self.given[given.like], key)

    def _firing(self, name: str, cell: Cell) -> Cell:
        """The cell with its threshold, if it has one."""
        if self.said(name, "threshold")[1] is None:
            for key in ("reset", "refractory"):
                if getattr(self.given[name], key) is not None:
                    self._say(
                        ("cells", name, key),
                        "of a cell without threshold; expected such as threshold = 'v > 1'",
                    )
            if any(equation.held for equation in cell.equations):
                message = "(unless refractory) stands in a cell without threshold"
                self._say(("cells", name, "equations"), message)
            return cell
        texts: dict[str, Any] = {}
        for key, read in TEXTS.items():
            place, text = self.said(name, key)
            try:
                texts[key] = None if text is None else read(text, self._functions)
            except ExpressionError as error:
                self._say(("cells", place, key), str(error))
                return cell
        firing = Firing(texts["threshold"], texts["reset"] or (), texts["refractory"])
        for state, _ in firing.reset:
            if state not in cell.states:
                place, _ = self.said(name, "reset")
                self._say(("cells", place, "reset"), unknown("state", state, cell.states))
        return cell.spiking(firing)

    def _started(self, name: str, cell: Cell) -> Cell:
        """The cell with the values that its states begin with."""
        given = self.given[name]
        above = {} if given.like is None else self.given[given.like].start
        for state in given.start:
            if state not in cell.states:
                self._say(("cells", name, "start", state), unknown("state", state, cell.states))
        kept = {state: value for state, value in above.items() if state in cell.states}
        return replace(cell, start=tuple((kept | given.start).items()))

    def _own(self, name: str) -> tuple[str, ...]:
        """What a cell defines itself; what it takes over may be of no use to it."""
        try:
            return self._read(self.given[name].equations).defined
        except ExpressionError:
            return ()
