"""A circuit: who stands where, who hears whom, and what follows what at once."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from neurosim.circuits.cells import SPIKES, Cell
from neurosim.circuits.expressions import Expression, ExpressionError
from neurosim.circuits.populations import Group, Population, Projection, Synapses

FUNCTIONS = {"s": 1, "slope": 1, "s_inv": 1, "t": 1, "t_slope": 1, "encode": 2}
"""What a cell may call beside elementary functions: the transfer function of its layer, its
derivative and inverse; what decodes apical potentials, and its derivative; and what apical synapses
below receive of an activity and a bias, by `form`. With how many arguments they take."""

SIGNALS = ("target", "teach")
"""What a phase sets: the target of the output, which is what it answers itself where nothing is
taught, and 1 while something is, else 0."""


@dataclass(frozen=True)
class Circuit:
    """Who hears whom. sizes: n_0 … n_L. readout: the quantity that is the network's answer.

    attenuation: by how much the teaching signal of layer i of L is expected to shrink.
    parameters: names; those of one cell as `cell.name`. cells: the cell of every population. cut:
    states, as `population.name`, that sweeps would not find. varied: parameters of which every cell
    has its own value, which lies among the weights, as `population.name`.
    """

    sizes: tuple[int, ...]
    populations: tuple[Population, ...]
    projections: tuple[Projection, ...]
    readout: tuple[Group, str]
    attenuation: Expression
    parameters: tuple[str, ...]
    cells: tuple[tuple[str, str], ...]
    cut: tuple[str, ...]
    varied: tuple[str, ...]

    @property
    def depth(self) -> int:
        """L, the number of layers above the input."""
        return len(self.sizes) - 1

    @cached_property
    def population(self) -> dict[str, Population]:
        """By name."""
        return {population.name: population for population in self.populations}

    @cached_property
    def projection(self) -> dict[str, Projection]:
        """By name."""
        return {projection.name: projection for projection in self.projections}

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """From layer 1 up; in a layer in the order of the file."""
        return tuple(
            Group(population.name, layer)
            for layer in range(1, self.depth + 1)
            for population in self.populations
            if layer in population.layers
        )

    @cached_property
    def arriving(self) -> dict[tuple[Group, str], tuple[Synapses, ...]]:
        """By group and input, in the order of the file."""
        found: dict[tuple[Group, str], tuple[Synapses, ...]] = {}
        for projection in self.projections:
            for synapses in projection.synapses:
                at = synapses.post, synapses.received
                found[at] = (*found.get(at, ()), synapses)
        return found

    @cached_property
    def inputs(self) -> dict[str, frozenset[str]]:
        """Of every population the inputs that synapses bring, in whichever layer."""
        found: dict[str, set[str]] = {population.name: set() for population in self.populations}
        for group, name in self.arriving:
            found[group.population].add(name)
        return {name: frozenset(names) for name, names in found.items()}

    @cached_property
    def biased(self) -> Projection | None:
        """The projection with the biases, if there are any."""
        return next((p for p in self.projections if p.bias), None)

    def cell(self, group: Group) -> Cell:
        """The equations of a group."""
        return self.population[group.population].cell

    def size(self, group: Group | None) -> int:
        """How many cells a group has; None stands for the input."""
        if group is None:
            return self.sizes[0]
        return self.population[group.population].size(group.layer)

    def weights(self, synapses: Synapses) -> tuple[int, ...]:
        """The shape of weights: post- and pre-synaptic units, one each, or a kernel."""
        if synapses.convolution is not None:
            return synapses.convolution.weights
        post = int(self.size(synapses.post))
        return (post, int(self.size(synapses.pre))) if synapses.dense else (post,)

    def biases(self, synapses: Synapses) -> int:
        """How many biases the cells have that synapses reach: one each, or one a map."""
        of = synapses.convolution
        return self.size(synapses.post) if of is None else of.post[0]

    @cached_property
    def convolves(self) -> bool:
        """Whether any units share weights."""
        return any(s.convolution is not None for s in self.sending)

    def place(self, group: Group) -> str:
        """What a trace calls a group: `layer1` where it is the first of its layer."""
        first = next(other for other in self.groups if other.layer == group.layer)
        return f"layer{group.layer}" if group == first else f"{group.population}{group.layer}"

    def parameter(self, population: str, name: str) -> str | None:
        """The key of what a population calls a parameter; None if it is none."""
        own = f"{dict(self.cells)[population]}.{name}"
        return own if own in self.parameters else name if name in self.parameters else None

    def naming(self, parameters: Sequence[str]) -> tuple[tuple[Group, str], ...]:
        """The groups whose equations name these parameters, and what they call them."""
        return tuple(
            (group, name)
            for group in self.groups
            for name in sorted(self.cell(group).names)
            if self.parameter(group.population, name) in parameters
        )

    @cached_property
    def values(self) -> dict[str, tuple[Group, ...]]:
        """Of every varied parameter the groups with values of their own, as `population.name`."""
        found: dict[str, tuple[Group, ...]] = {}
        for group in self.groups:
            cell = self.cell(group)
            for name in sorted(cell.names):
                if self.parameter(group.population, name) in self.varied:
                    key = f"{group.population}.{name}"
                    found[key] = (*found.get(key, ()), group)
        return found

    def dependence(self, group: Group, name: str) -> Iterator[tuple[Group, str]]:
        """What a quantity follows at once, of whichever group."""
        cell = self.cell(group)
        if name in cell.states:
            return
        if name in cell.defined:
            for other in sorted(cell.right(name).names):
                yield group, other
        elif name == "target":
            yield self.readout
        else:
            for synapses in self.arriving.get((group, name), ()):
                if synapses.pre is not None:
                    yield synapses.pre, synapses.sent

    def ordered(self, wanted: Sequence[tuple[Group, str]]) -> list[tuple[Group, str]]:
        """All that `wanted` follow at once and they themselves, each after what it follows.

        Raises:
            ExpressionError: some follow each other in a circle.
        """
        found: dict[tuple[Group, str], None] = {}

        def visit(node: tuple[Group, str], way: tuple[tuple[Group, str], ...]) -> None:
            if node in way:
                circle = (*way[way.index(node) :], node)
                named = " -> ".join(f"{n} of {g.population}[{g.layer}]" for g, n in circle)
                raise ExpressionError(
                    f"an algebraic loop: {named}; give one of them a time constant: "
                    f"d{node[1]}/dt = (... - {node[1]})/tau"
                )
            if node in found:
                return
            for other in self.dependence(*node):
                visit(other, (*way, node))
            found[node] = None

        for node in wanted:
            visit(node, ())
        return list(found)

    @property
    def ensembles(self) -> tuple[str, ...]:
        """The populations whose units stand for many neurons each, where they spike."""
        return tuple(p.name for p in self.populations if p.carried)

    @cached_property
    def sending(self) -> tuple[Synapses, ...]:
        """All synapses, in the order of the file."""
        return tuple(s for projection in self.projections for s in projection.synapses)

    @cached_property
    def observed(self) -> tuple[tuple[Group, str], ...]:
        """What can be recorded: all that cells define, in the order of the text.

        Neither other names of the same, nor what is only encoded to be sent.
        """
        return tuple(
            (group, name)
            for group in self.groups
            for name in self.cell(group).defined
            if self.cell(group).alias(name) == name and not self._encoded(group, name)
        )

    def _encoded(self, group: Group, name: str) -> bool:
        """Whether a quantity is another in an encoded form, which serves nothing but being sent.

        What spikes carry or the network answers, and what the cell itself needs, serves more.
        """
        cell, population = self.cell(group), self.population[group.population]
        return (
            "encode" in cell.right(name).functions
            and name not in (*cell.states, *(population.carried or ()))
            and (group, name) != self.readout
            and name not in cell.names
        )

    def _sent(self, population: str) -> tuple[str, ...]:
        """What synapses take from a population, in whichever layer."""
        found = (s.sent for s in self.sending if s.pre and s.pre.population == population)
        return tuple(dict.fromkeys(found))

    def activity(self, group: Group) -> tuple[str, ...]:
        """Which of the observed quantities of a group are what it says to others, or answers.

        What spikes carry; where that is nothing, what synapses take, or what they take is made of.
        """
        cell, population = self.cell(group), self.population[group.population]
        said = list(population.carried or ())
        for name in () if said else map(cell.alias, self._sent(population.name)):
            encoded = self._encoded(group, name)
            said += [n for n in cell.defined if n in cell.right(name).names] if encoded else [name]
        if group == self.readout[0]:
            said.append(self.readout[1])
        return tuple(dict.fromkeys(map(cell.alias, said)))

    def measured(self, group: Group, name: str) -> bool:
        """Whether a quantity does not follow from others: a state, what comes in, own spikes."""
        cell = self.cell(group)
        fires = cell.firing is not None and name == SPIKES
        comes = bool(cell.right(name).names & self.inputs[group.population])
        return name in cell.states or fires or comes

    @cached_property
    def chain(self) -> bool:
        """Whether W carries every layer to the next, as in a feed-forward network."""
        forward = self.projection.get("W")
        if forward is None or not forward.wire.dense:
            return False
        ends = [(0 if s.pre is None else s.pre.layer, s.post.layer) for s in forward.synapses]
        return ends == [(i, i + 1) for i in range(self.depth)] and all(
            self.size(s.post) == self.sizes[s.post.layer] for s in forward.synapses
        )

    @cached_property
    def feedforward(self) -> bool:
        """Whether every state is drawn to what earlier ones say, so that one sweep finds the rest.

        Earlier are those of layers below, and those that stand before it in its cell.
        """
        if any(s.pre is not None and s.pre.layer >= s.post.layer for s in self.sending):
            return False
        for population in self.populations:
            cell = population.cell
            if "target" in cell.names:
                return False
            for k, name in enumerate(cell.states):
                right, later = cell.right(name), set(cell.states[k:])
                others = right.names - {name}
                if right.towards(name) is None or any(cell.follows(others, n) for n in later):
                    return False
        return True

    @cached_property
    def moving(self) -> tuple[tuple[Group, str], ...]:
        """All states, group by group."""
        return tuple((group, name) for group in self.groups for name in self.cell(group).states)
