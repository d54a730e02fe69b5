"""From the tables of a model file to a circuit, or to all that is wrong with them."""

from collections.abc import Mapping, Sequence
from typing import Any

from neurosim.circuits import dimensions
from neurosim.circuits.cell_tables import CellTables
from neurosim.circuits.cells import STEP, Cell
from neurosim.circuits.description import FUNCTIONS, SIGNALS, Circuit
from neurosim.circuits.expressions import Expression, ExpressionError, parse
from neurosim.circuits.maps import Convolution, Maps
from neurosim.circuits.populations import Group, Population, Projection, Remembered, Synapses
from neurosim.circuits.tables import ATTENUATION, TEACHING, Key, Tables, Wrong, misnamed
from neurosim.circuits.variables import clashes
from neurosim.circuits.wires import INPUT, End, Wire, wire
from neurosim.errors import unknown


def circuit(tables: Tables) -> Circuit:
    """The circuit of checked tables."""
    found = _Reading(tables)
    assert found.circuit is not None, found.wrong
    return found.circuit


def problems(tables: Tables) -> list[Wrong]:
    """What is wrong with the tables, each with the key it stands at; empty if nothing is."""
    return _Reading(tables).wrong


class _Reading:
    """The tables read once: a circuit, or what is wrong. Later parts need the earlier ones."""

    def __init__(self, tables: Tables) -> None:
        self.tables, self.depth = tables, len(tables.layers) - 1
        self.wrong: list[Wrong] = []
        self.circuit: Circuit | None = None
        self.parameters = dict(tables.parameters)
        for key, message in misnamed(tables):
            self._say(key, message)
        self.written = CellTables(tables.cells, FUNCTIONS, self._say)
        self.cells, self.own = self.written.cells, self.written.own
        if self.wrong:
            return
        self.layers = {name: self._layers(name) for name in tables.populations}
        self.wires = {name: self._wire(name) for name in tables.projections}
        if self.wrong:
            return
        synapses = {name: self._synapses(name) for name in tables.projections}
        if self.wrong:
            return
        reaching = [name for name in tables.projections if synapses[name]]
        projections = [self._projection(name, synapses[name]) for name in reaching]
        readout = self._readout()
        decay = self._text(("attenuation",), tables.attenuation)
        if self.wrong or readout is None or decay is None:
            return
        self._check_attenuation(decay)
        needed = self._needed(projections, readout)
        standing = [name for name in tables.populations if self.layers[name]]
        populations = [self._population(name, needed[name], projections) for name in standing]
        found = Circuit(
            tuple(tables.layers),
            tuple(populations),
            tuple(projections),
            readout,
            decay,
            tuple(self.parameters),
            tuple((name, self._cell_of(name)) for name in standing),
            (tables.cut,) if tables.cut else (),
            tuple(tables.varied),
        )
        states = [f"{group.population}.{name}" for group, name in found.moving]
        if tables.cut is not None and tables.cut not in states:
            self._say(("cut",), unknown("state", tables.cut, dict.fromkeys(states)))
        self._check_names(found)
        if not self.wrong:
            self._check_loops(found)
        if not self.wrong:
            self.circuit = found

    def _say(self, key: Key, message: str) -> None:
        if message not in {said for _, said in self.wrong}:
            self.wrong.append((key, message))

    def _text(
        self, key: Key, text: str, functions: Mapping[str, int] | None = None
    ) -> Expression | None:
        try:
            return parse(text, functions)
        except ExpressionError as error:
            self._say(key, str(error))
            return None

    # --- cells and populations ------------------------------------------------------------------

    def _cell_of(self, population: str) -> str:
        return self.tables.populations[population].cell or population

    def _layers(self, name: str) -> tuple[int, ...]:
        given, key = self.tables.populations[name], ("populations", name)
        if self._cell_of(name) not in self.tables.cells:
            self._say(key, unknown("cell", self._cell_of(name), self.tables.cells))
        everywhere = range(1, self.depth + 1)
        named = {"hidden": everywhere[:-1], "output": everywhere[-1:], "all": everywhere}
        if isinstance(given.layers, str):
            return tuple(named[given.layers])
        beyond = [layer for layer in given.layers if layer not in everywhere]
        if beyond or not given.layers:
            self._say((*key, "layers"), f"got {given.layers}; expected layers 1 to {self.depth}")
        return tuple(sorted(set(given.layers)))

    def _size(self, population: str, layer: int) -> int:
        size = self.tables.populations[population].size
        if isinstance(size, int):
            return size
        sizes = self.tables.layers
        place = {"layer": layer, "above": layer + 1, "below": layer - 1}[size]
        if place > self.depth:
            self._say(
                ("populations", population, "size"), "'above': there is no layer above the output"
            )
            return 0
        return sizes[place]

    def _population(
        self, name: str, needed: Sequence[str], projections: Sequence[Projection]
    ) -> Population:
        cell, layers = self.cells[self._cell_of(name)], self.layers[name]
        kept = [n for n in (*needed, *self.own[self._cell_of(name)]) if n in cell.defined]
        try:
            cell = cell.restricted(kept)
        except ExpressionError as error:
            self._say(("cells", self._cell_of(name), "equations"), str(error))
        mirrors = {"above": 1, "below": -1}.get(self.tables.populations[name].size, 0)
        sizes = tuple(self._size(name, layer) for layer in layers)
        carried = self._carried(name, cell, projections)
        return Population(name, cell, layers, sizes, mirrors, carried)

    def _carried(
        self, name: str, cell: Cell, projections: Sequence[Projection]
    ) -> tuple[str, ...] | None:
        """What the spikes of a population speak of; None where that cannot be told."""
        given = self.tables.populations[name].spikes
        if cell.firing is not None:
            if given is not None:
                message = f"{self._cell_of(name)} has a threshold and spikes by that; leave it out"
                self._say(("populations", name, "spikes"), message)
            return ()
        if given is not None:
            carried = tuple(given) if isinstance(given, list) else (given,) if given else ()
            for quantity in carried:
                if quantity not in cell.defined:
                    message = unknown(f"quantity of {name}", quantity, cell.defined)
                    self._say(("populations", name, "spikes"), message)
            return carried
        sent = {
            s.sent for p in projections for s in p.synapses if s.pre and s.pre.population == name
        }
        if self._readout_of(name):
            sent.add(self._readout_of(name))
        sent = {cell.alias(quantity) for quantity in sent}
        if len(sent) > 1:
            sent = set().union(*(cell.roots(q) for q in sent)) & set(cell.defined)
        return tuple(sent) if len(sent) == 1 else None

    # --- projections ----------------------------------------------------------------------------

    def _wire(self, name: str) -> Wire | None:
        try:
            found = wire(self.tables.projections[name].wire)
        except ExpressionError as error:
            self._say(("projections", name, "wire"), str(error))
            return None
        for end in (found.pre, found.post):
            known = [*self.tables.populations, *([INPUT] if end is found.pre else [])]
            if end.population is not None and end.population not in known:
                message = unknown("population", end.population, known)
                self._say(("projections", name, "wire"), message)
        return found

    def _synapses(self, name: str) -> tuple[Synapses, ...]:
        way, given = self.wires[name], self.tables.projections[name]
        assert way is not None, "wires were read"
        weighed = way.dense or given.init is not None or given.post is not None
        found = []
        for i in range(1, self.depth + 1) if way.runs else [0]:
            below, above = (end.layer.at(i, self.depth) for end in (way.pre, way.post))
            posts = self._standing(name, way.post, above, defines=False)
            pres = self._standing(name, way.pre, below, defines=True)
            if posts and pres:
                (pre,), (post,) = pres, posts
                ends = Group(pre, below) if pre != INPUT else None, Group(post, above)
                self._fit(name, way, *ends)
                number = i if way.runs else above
                names = way.pre.name, way.post.name
                shared = self._convolution(name, *ends)
                between = ends[0], names[0], ends[1], names[1]
                found.append(Synapses(name, number, *between, way.dense, weighed, shared))
        if not found and all(self.layers.values()):  # none is missing: there are hidden layers
            self._say(("projections", name, "wire"), self._nothing(way))
        self._check_kernel(name, way, found)
        return tuple(found)

    def _convolution(self, name: str, pre: Group | None, post: Group) -> Convolution | None:
        """How a projection with a kernel convolves between two layers of maps."""
        given = self.tables.projections[name]
        sizes = [self.tables.layers[0] if pre is None else self._size(*pre), self._size(*post)]
        down = pre is not None and pre.layer > post.layer
        shapes = [size.shape for size in sizes if isinstance(size, Maps)]
        if given.kernel is None or len(shapes) < 2:
            return None
        below, above = reversed(shapes) if down else shapes
        found = Convolution(below, above, given.kernel, given.pool, given.stride, down)
        if found.misfit is not None:
            self._say(("projections", name, "stride"), found.misfit)
        return found

    def _check_kernel(self, name: str, way: Wire, found: Sequence[Synapses]) -> None:
        given = self.tables.projections[name]
        if given.kernel is None:
            for key in ("pool", "stride"):
                if getattr(given, key) != 1:
                    self._say(
                        ("projections", name, key), "is about a convolution; give it a kernel, too"
                    )
        elif not way.dense:
            self._say(
                ("projections", name, "kernel"),
                "'=>' is one to one; expected '->', a wire from units to many",
            )
        elif found and all(s.convolution is None for s in found):
            self._say(
                ("projections", name, "kernel"),
                "joins no two layers of maps; expected layers given by their maps, rows and "
                "columns, such as layers = [[1, 28, 28], [8, 14, 14], 10]",
            )

    def _standing(self, name: str, end: End, layer: int, defines: bool) -> list[str]:
        """The population that an end means in a layer; none if there is none.

        Where the text names none, the first of the layer if it has such a quantity or input, else
        the only other one.
        """
        if layer == 0 and defines:
            return [INPUT]
        found = []
        for population, layers in self.layers.items():
            if layer not in layers or end.population not in (None, population):
                continue
            cell = self.cells[self._cell_of(population)]
            takes = cell.names - set(cell.defined)
            if end.name in (cell.defined if defines else takes):
                found.append(population)
        standing = [population for population, layers in self.layers.items() if layer in layers]
        if len(found) > 1 and found[0] == standing[0]:
            return found[:1]
        if len(found) > 1:
            what = "defined" if defines else "taken"
            self._say(
                ("projections", name, "wire"),
                f"{end.name} is {what} by {' and '.join(found)} in layer {layer}; write such as "
                f"{found[0]}.{end.name}",
            )
            return []
        return found

    def _nothing(self, way: Wire) -> str:
        """Why a wire connects nothing."""
        cells = [self.cells[self._cell_of(name)] for name in self.layers]
        defined = {name for cell in cells for name in cell.defined}
        taken = frozenset().union(*(cell.names for cell in cells))
        if way.pre.layer != ("", 0) and way.pre.name not in defined:
            return unknown("quantity", way.pre.name, sorted(defined))
        if way.post.name not in taken:
            inputs = sorted(taken - defined - set(self.parameters) - set(SIGNALS))
            return f"no cell takes {unknown('input', way.post.name, inputs)}"
        return "connects nothing: its ends stand in no layer i together"

    def _fit(self, name: str, way: Wire, pre: Group | None, post: Group) -> None:
        if way.dense:
            return
        sizes = self.tables.layers[0] if pre is None else self._size(*pre), self._size(*post)
        if sizes[0] != sizes[1]:
            ends = f"{way.pre} has {sizes[0]} units and {way.post} {sizes[1]}"
            self._say(
                ("projections", name, "wire"),
                f"'=>' is one to one, but in layer {post.layer} {ends}; expected equal numbers, "
                "or '->' for dense weights",
            )

    def _projection(self, name: str, synapses: tuple[Synapses, ...]) -> Projection:
        given, key = self.tables.projections[name], ("projections", name)
        way = self.wires[name]
        assert way is not None, "wires were read"
        if given.pre is not None and given.post is None:
            self._say((*key, "post"), "missing; a rule is post times pre")
        named = ["fixed", *self.tables.rules, *self.tables.taught]
        if isinstance(given.rule, str) and given.rule not in named:
            self._say((*key, "rule"), unknown("rule", given.rule, named))
        if given.rule not in ("fixed", "tied") and given.post is not None:
            self._say((*key, "rule"), "got both rule and post; expected one of them")
        sides: list[Expression | None] = [None, None]
        remembered: dict[str, Remembered] = {}
        taught = isinstance(given.rule, str) and self.tables.taught.get(given.rule)
        written = self._taught(key, taught, synapses) if taught else given.post
        if written is not None:
            for k, (side, group) in enumerate(
                (("post", synapses[0].post), ("pre", synapses[0].pre))
            ):
                text = written if side == "post" else given.pre or way.pre.name
                sides[k] = self._text((*key, side), text, FUNCTIONS)
                if sides[k] is not None:
                    remembered |= self._side((*key, side), sides[k], group, way)
        others = [n for n, p in self.tables.projections.items() if p.bias and n != name]
        if given.bias and others:
            self._say(
                (*key, "bias"), f"{others[0]} has the biases already; one projection has them"
            )
        post, pre = sides
        return Projection(
            name, way, synapses, bool(given.bias), post, pre, given.rule, tuple(remembered.items())
        )

    def _taught(self, key: Key, text: str, synapses: Sequence[Synapses]) -> str | None:
        """A rule by name for what its cells call their potential."""
        cell = self.cells[self._cell_of(synapses[0].post.population)]
        if len(cell.transferred) != 1:
            found = ", ".join(sorted(cell.transferred)) or "nothing"
            self._say(
                (*key, "rule"),
                "asks for the one quantity that the transfer function s is applied to; here that "
                f"is {found}",
            )
            return None
        return text.format(*cell.transferred)

    def _side(self, key: Key, text: Any, group: Group | None, way: Wire) -> dict[str, Remembered]:
        """What one side of a rule names of earlier phases; all names are looked up."""
        if group is None:
            known = [way.pre.name]
        else:
            cell = self.cells[self._cell_of(group.population)]
            own = {
                *cell.defined,
                *cell.names - {*SIGNALS, "xi"},
                *self._parameters(group.population),
            }
            known = sorted({*own, ATTENUATION, *([TEACHING] if self.tables.taught else [])})
            for name in sorted({ATTENUATION, TEACHING} & text.names & set(cell.defined)):
                self._say(
                    key,
                    f"{name!r} has a meaning of its own in rules, and is defined by the "
                    "cell too; use another name there",
                )
        remembered = {}
        for name in sorted(text.names):
            quantity, _, phase = name.rpartition("_")
            if name in known:
                continue
            if quantity in known:
                remembered[name] = Remembered(quantity, phase)
            else:
                self._say(
                    key,
                    unknown("name", name, known)
                    + "; a rule sees the cell on its side, name_phase is a name at the end of an "
                    "earlier phase",
                )
        return remembered

    def _parameters(self, population: str) -> set[str]:
        own = f"{self._cell_of(population)}."
        return {n for n in self.parameters if "." not in n} | {
            n.removeprefix(own) for n in self.parameters if n.startswith(own)
        }

    def _readout_of(self, population: str) -> str:
        """The quantity of a population that answers; empty where it does not."""
        found = self._readout()
        return found[1] if found is not None and found[0].population == population else ""

    # --- the whole ------------------------------------------------------------------------------

    def _readout(self) -> tuple[Group, str] | None:
        """The quantity of the output layer that answers."""
        standing = [name for name, layers in self.layers.items() if self.depth in layers]
        if not standing:
            self._say(("populations",), f"none stands in the output layer, {self.depth}")
            return None
        given = self.tables.readout
        taught = [name for name in standing if "target" in self.cells[self._cell_of(name)].names]
        forward = self.wires.get("W")
        sent = "up" if forward is None else forward.pre.name
        population, _, name = (given or f"{(taught or standing)[0]}.{sent}").rpartition(".")
        population = population or (taught or standing)[0]
        if population not in standing:
            self._say(("readout",), unknown("population of the output layer", population, standing))
            return None
        defined = self.cells[self._cell_of(population)].defined
        if name not in defined:
            self._say(("readout",), unknown(f"quantity of {population}", name, defined))
            return None
        if self._size(population, self.depth) != self.tables.layers[-1]:
            self._say(
                ("readout",),
                f"{population} has {self._size(population, self.depth)} units; expected the "
                f"{self.tables.layers[-1]} of the output layer",
            )
        return Group(population, self.depth), name

    def _check_attenuation(self, decay: Expression) -> None:
        known = ["i", "L", *(n for n in self.parameters if "." not in n)]
        for name in sorted(decay.names - set(known)):
            self._say(("attenuation",), unknown("name", name, known))

    def _needed(
        self, projections: Sequence[Projection], readout: tuple[Group, str]
    ) -> dict[str, list[str]]:
        """Of every population what the others, the rules and the readout ask it for."""
        found: dict[str, list[str]] = {name: [] for name in self.layers}
        found[readout[0].population].append(readout[1])
        for projection in projections:
            recalled = dict(projection.remembered)
            for synapses in projection.synapses:
                for side, group in (
                    (projection.post, synapses.post),
                    (projection.pre, synapses.pre),
                ):
                    if group is not None and side is not None:
                        found[group.population] += [
                            recalled[n].quantity if n in recalled else n
                            for n in side.names - {ATTENUATION, TEACHING}
                        ]
                if synapses.pre is not None:
                    found[synapses.pre.population].append(synapses.sent)
        return found

    def _check_names(self, found: Circuit) -> None:
        for population in found.populations:
            key = ("cells", self._cell_of(population.name), "equations")
            given = {*found.inputs[population.name], *self._parameters(population.name)}
            given |= {"teach", "xi"}
            if any(
                self.tables.projections[s.projection].bias is not None
                for s in found.sending
                if s.post.population == population.name
            ):
                given.add("bias")
            if population.name == found.readout[0].population and len(population.layers) == 1:
                given.add("target")
            units = {n: found.parameter(population.name, n) or "" for n in given}
            known = {n: self.tables.units[k] for n, k in units.items() if k in self.tables.units}
            try:
                population.cell.check(given, population.cell.defined)
                dimensions.check(population.cell, known)
            except ExpressionError as error:
                self._say(key, self._hint(str(error), population, found))
            self._check_firing(population, given - {"xi"})
            for message in clashes(found, population):
                self._say(key, message)

    def _check_firing(self, population: Population, given: set[str]) -> None:
        """Whether all that its threshold, reset and refractoriness name is known."""
        cell, name = population.cell, self._cell_of(population.name)
        known = sorted({*given, *cell.defined, STEP})
        for key, texts in (cell.firing.texts if cell.firing else {}).items():
            place, _ = self.written.said(name, key)
            for other in sorted(frozenset().union(*(text.names for text in texts))):
                if other not in known:
                    self._say(("cells", place, key), unknown("name", other, known))

    def _hint(self, message: str, population: Population, found: Circuit) -> str:
        if "'target'" in message:
            return (
                f"{message}; only cells that answer, {found.readout[0].population}, and stand in "
                "the output layer alone have one"
            )
        if "'bias'" in message:
            return (
                f"{message}; bias = true of a projection that reaches {population.name} gives one, "
                "bias = false one of 0"
            )
        return message

    def _check_loops(self, found: Circuit) -> None:
        nodes = [(g, n) for g in found.groups for n in found.cell(g).defined]
        for group, name in (*nodes, *found.arriving):
            try:
                found.ordered([(group, name)])
            except ExpressionError as error:
                key = "cells", self._cell_of(group.population), "equations"
                self._say(key, str(error))
                return
