"""From a table of synapses, and the cells on either side, to synapses or to what is wrong."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import Any

from neurosim.circuits import dimensions
from neurosim.circuits.cells import Cell, Equation
from neurosim.circuits.expressions import FORBIDDEN, Expression, ExpressionError, parse
from neurosim.circuits.lone_cells import LoneCell
from neurosim.circuits.synapses import (
    BROUGHT,
    POTENTIAL,
    RELEASE,
    SIDES,
    WEIGHT,
    Change,
    Line,
    Side,
    Synapse,
    bare,
    read_changes,
    read_lines,
    side,
)
from neurosim.circuits.tables import Key
from neurosim.errors import unknown

TAKEN = {*FORBIDDEN, "pre", "post", "delay", "lastupdate"}
"""Names that Brian2's synapses give to other things."""


class SynapseTable:
    """One table of synapses.

    Args:
        name: of the synapses.
        given: the table, of `SynapseSpec`.
        cells: those on either side, None where they have no equations.
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
        self._lines: dict[str, Line] = {}
        self._changes: dict[Side, tuple[Change, ...]] = {}
        with self._placing("equations"):
            self._lines = read_lines(given.equations)
        for at in SIDES:
            with self._placing(f"on_{at}"):
                self._changes[at] = read_changes(getattr(given, f"on_{at}"))
        if RELEASE not in self._lines and RELEASE in self._named:
            self._lines[RELEASE] = Line(RELEASE, parse("1"))

    def read(self) -> Synapse | None:
        """The synapses; None if they cannot be."""
        given = self.given
        start: dict[str, float] = {}
        units: Mapping[str, str | None] = {}
        steps: tuple[Callable[[], None], ...] = (
            self._check_names,
            self._check_brought,
            self._check_lines,
            self._check_changes,
            self._check_use,
            self._check_order,
        )
        for check in steps:
            if self._wrong:  # what comes later takes for granted what comes before
                return None
            check()
        with self._placing("equations"):
            units = self._dimensions()
        start = self._start()
        if self._wrong:
            return None
        return Synapse(
            self.name,
            given.pre,
            given.post,
            given.into,
            self._potential,
            tuple(self._lines.values()),
            self._changes,
            {name: float(value) for name, value in given.parameters.items()},
            start,
            float(given.weight),
            given.delay,
            given.one_to_one,
            given.chance,
            units,
        )

    # --- what is there

    @property
    def _all_changes(self) -> list[Change]:
        return [change for several in self._changes.values() for change in several]

    @property
    def _named(self) -> frozenset[str]:
        """All that the texts name on their right sides."""
        texts = [line.right for line in self._lines.values() if line.right is not None]
        texts += [change.right for change in self._all_changes]
        return frozenset().union(*(text.names for text in texts))

    @cached_property
    def _cell(self) -> Cell:
        """The lines as those of a cell, whose names say the sides."""
        return Cell(
            tuple(
                Equation(line.name, line.right, line.moves)
                for line in self._lines.values()
                if line.right is not None
            )
        )

    @cached_property
    def _potential(self) -> str | None:
        """The one potential that the input moves; None if there is none."""
        cell, into = self.cells["post"], self.given.into
        driven = () if cell is None or into not in cell.inputs else cell.driven(into)
        return driven[0] if len(driven) == 1 else None

    def _offered(self, at: Side) -> dict[str, str]:
        """Names that a side offers, by what its cell calls them; the lines' own ones hide them."""
        cell = self.cells[at]
        if cell is None:
            return {}
        names = (*cell.cell.defined, *cell.parameters, *cell.inputs)
        return {f"{n}_{at}": n for n in names if n != "spikes" and f"{n}_{at}" not in self._lines}

    @property
    def _known(self) -> set[str]:
        found = {*self._lines, WEIGHT, *self.given.parameters}
        found |= {name for at in SIDES for name in self._offered(at)}
        return found | ({POTENTIAL} if self._potential is not None else set())

    # --- what is wrong

    def _say(self, key: Key, message: str) -> None:
        self._wrong = True
        self._said(key, message)

    @contextmanager
    def _placing(self, key: str) -> Iterator[None]:
        """In which what is wrong with a text is said of a key."""
        try:
            yield
        except ExpressionError as error:
            self._say((key,), str(error))

    def _check_names(self) -> None:
        for name in self._lines:
            if bare(name) in TAKEN:
                self._say(("equations",), f"{name!r} has another meaning in Brian2; use another")
        for name, value in self.given.parameters.items():
            key = ("parameters", name)
            if name in self._lines or name == WEIGHT:
                self._say(key, "is a quantity of the synapse; use another name")
            elif name in TAKEN or not name.isidentifier() or side(name):
                message = f"{name!r} cannot be the name of a parameter, which has no side"
                self._say(key, f"{message}; expected letters, digits and _")
            elif not isinstance(value, int | float):
                what = "all synapses have one value; expected a number, or text with a unit"
                self._say(key, what)

    def _check_brought(self) -> None:
        """Whether there is an input that the current can be brought to."""
        cell, into, line = self.cells["post"], self.given.into, self._lines.get(BROUGHT)
        if line is None:
            return
        if line.moves or line.right is None:
            self._say(("equations",), f"{BROUGHT} is brought at once; expected '{BROUGHT} = ...'")
        if cell is None:
            message = f"{self.given.post} has no equations that {BROUGHT} could be brought to"
            self._say(("post",), message)
        elif into not in cell.inputs:
            self._say(("into",), unknown(f"input of {self.given.post}", into, cell.inputs))

    def _check_lines(self) -> None:
        for line in self._lines.values():
            if line.right is None:
                continue
            self._check_known("equations", line.name, line.right)
            at = side(line.name)
            if at is not None and line.name != BROUGHT:
                self._check_side("equations", line.name, line.right, at)
        with self._placing("equations"):
            for name in self._cell.defined:
                self._cell.needed([name])
        post = self.cells["post"]
        other = POTENTIAL in self._named and self._potential not in (None, "v")
        if other and post is not None and "v" in post.cell.defined:
            message = f"{POTENTIAL} could be v, or {self._potential}, which {self.given.into} moves"
            self._say(("into",), f"{message}; name that one")

    def _check_known(self, key: str, name: str, right: Expression) -> None:
        for other in sorted(right.names - self._known):
            message = unknown("name", other, sorted(self._known))
            if other == POTENTIAL:
                moved = f"{self.given.post} has no potential that {self.given.into} moves"
                message = f"{POTENTIAL}: {moved}"
            self._say((key,), f"{name}: {message}")

    def _check_side(self, key: str, name: str, right: Expression, at: Side) -> None:
        for other in sorted(right.names):
            if side(other) != at and other not in self.given.parameters:
                message = (
                    f"{name} is kept once in every {at}synaptic cell, which knows no {other!r}"
                )
                self._say((key,), f"{message}; expected parameters and names that end in _{at}")

    def _check_changes(self) -> None:
        states = {line.name for line in self._lines.values() if line.state}
        for end, cell in self.cells.items():
            states |= {f"{name}_{end}" for name in (() if cell is None else cell.states)}
        states |= {WEIGHT} | ({POTENTIAL} & self._known)
        for at, changes in self._changes.items():
            key = f"on_{at}"
            for change in changes:
                if change.name not in states:
                    self._say((key,), unknown("state", change.name, sorted(states)))
                    continue
                self._check_known(key, change.name, change.right)
                self._check_end(key, change, at)

    def _check_end(self, key: str, change: Change, at: Side) -> None:
        """Whether the cells that keep a quantity can hear of a change at a spike on a side."""
        end = side(change.name)
        if end == at:
            self._check_side(key, change.name, change.right, at)
        elif end is not None and (
            change.how not in ("+", "-") or change.name in change.right.names
        ):
            message = f"{change.name} hears many synapses at once, so what one does must add up"
            self._say((key,), f"{message}; expected such as '{change.name} += weight'")

    def _check_use(self) -> None:
        used = self._named | {v for v in self.given.start.values() if isinstance(v, str)}
        for name in sorted(set(self.given.parameters) - used):
            message = unknown("parameter", name, sorted(used - set(self._lines)))
            self._say(("parameters", name), message)

    def _check_order(self) -> None:
        """What a spike releases is told before the spike changes it."""
        behind = self._cell.roots(RELEASE) if RELEASE in self._lines else frozenset()
        changed: set[str] = set()
        for change in self._changes["pre"]:
            late = sorted(behind & changed) if RELEASE in change.right.names else []
            if late and change.name not in changed:
                what = (
                    f"{change.name} would hear of {RELEASE} after the spike has changed {late[0]}"
                )
                self._say(("on_pre",), f"{what}; in use, name the receptor first")
                return
            changed.add(change.name)

    def _start(self) -> dict[str, float]:
        """What states begin with."""
        states = [x.name for x in self._lines.values() if x.state and x.name != WEIGHT]
        found, parameters = dict.fromkeys(states, 0.0), self.given.parameters
        for name, value in self.given.start.items():
            if name not in states:
                self._say(("start", name), unknown("state", name, states))
            elif isinstance(value, str) and value not in parameters:
                self._say(("start", name), unknown("parameter", value, parameters))
            else:
                found[name] = float(parameters[value] if isinstance(value, str) else value)
        return found

    def _dimensions(self) -> Mapping[str, str | None]:
        given = self.given
        units: dict[str, str | None] = {}
        for at, cell in self.cells.items():
            if cell is None:
                continue
            known = cell.dimensions
            units |= {name: known.get(own) for name, own in self._offered(at).items()}
            if at == "post":
                units |= {BROUGHT: known.get(given.into)}
            if at == "post" and self._potential is not None:
                units |= {POTENTIAL: known[self._potential]}
        written = {**given.parameters, WEIGHT: given.weight, **given.start}
        units |= {n: v.dimension for n, v in written.items() if hasattr(v, "dimension")}
        told = {name: dimension for name, dimension in units.items() if dimension is not None}
        becoming = [(change.name, change.becomes) for change in self._all_changes]
        return dimensions.found(self._cell, told, becoming, (RELEASE,))
