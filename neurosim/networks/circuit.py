"""The dynamics of a circuit: what its equations say at a moment, of all groups of cells at once."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Scalar

from neurosim.circuits.chain import Link, links
from neurosim.circuits.description import Circuit
from neurosim.circuits.expressions import Expression
from neurosim.circuits.populations import Group, Synapses
from neurosim.networks import convolution
from neurosim.networks.dynamics import (
    Drive,
    Dynamics,
    PerUnit,
    Readout,
    State,
    Target,
    rest,
    sweep,
    white,
)
from neurosim.networks.elementary import ELEMENTARY
from neurosim.networks.network import Layers, Network, Weights
from neurosim.networks.products import through
from neurosim.networks.vocabulary import DRAWN, drawing, functions

CircuitWeights = dict[str, Layers]
"""Projection → its weights in the order of their numbers, (n_post, n_pre) each, (n,) where one
reaches one, a kernel where positions share them; `b`: biases of the cells that have some, in the
order of their layers; and as `population.name` the values of parameters that every cell has its own
of, which never change."""


class Signals(NamedTuple):
    """What a state means to a run: the answer, and all that the rules look at.

    rate: of layer L alone, what the network answers. of: by `place.quantity`; as `place.rand` what
    stochastic units have drawn.
    """

    rate: Layers
    of: dict[str, Array]


class CircuitDynamics(Dynamics):
    """The cells of a circuit with their parameters.

    parameters: by name; times in s. sigma: of noise, by compartment, the stationary deviation of
    one left alone. looked_at: the quantities that rules look at.
    """

    circuit: Circuit = eqx.field(static=True)
    parameters: dict[str, Scalar | float]
    sigma: dict[str, Scalar | float] = eqx.field(default_factory=dict)
    looked_at: tuple[tuple[Group, str], ...] = eqx.field(static=True, default=())

    @property
    def cut(self) -> tuple[str, ...]:
        return self.circuit.cut

    # --- states -----------------------------------------------------------------------------

    def shapes(self, network: Network) -> dict[str, tuple[int, ...]]:
        """`population.variable` → its size in every layer of the population."""
        return {
            f"{population.name}.{name}": population.sizes
            for population in self.circuit.populations
            for name in population.cell.states
        }

    def start(self, name: str) -> float:
        """The value of `population.variable` before anything is shown."""
        population, _, variable = name.partition(".")
        return dict(self.circuit.population[population].cell.start).get(variable, 0.0)

    def visits(self, network: Network, layer: int) -> list[tuple[str, int]]:
        """What a sweep sets in a layer: states, and their place among the layers of their kind."""
        return [
            (f"{group.population}.{name}", self._index(group))
            for group, name in self.circuit.moving
            if group.layer == layer and f"{group.population}.{name}" not in self.cut
        ]

    def _index(self, group: Group) -> int:
        """The place of a group among the layers of its population, from 1."""
        return self.circuit.population[group.population].layers.index(group.layer) + 1

    def _group(self, name: str, index: int) -> tuple[Group, str]:
        population, _, variable = name.partition(".")
        layer = self.circuit.population[population].layers[index - 1]
        return Group(population, layer), variable

    # --- a phase ----------------------------------------------------------------------------

    def drive(
        self, network: Network, weights: CircuitWeights, x: Float[Array, " n_0"], target: Target
    ) -> Drive:
        """What a phase holds fixed for one sample; what the input brings is computed once."""
        brought = {
            f"{s.projection}{s.number}": _through(s, self.weight(weights, s), x)
            for synapses in self.circuit.arriving.values()
            for s in synapses
            if s.pre is None
        }
        return Drive(x, brought, target)

    def weight(self, weights: CircuitWeights, synapses: Synapses) -> Array | None:
        """Those of one layer of a projection; None where it has none."""
        if not synapses.weighed:
            return None
        numbers = [s.number for s in self.circuit.projection[synapses.projection].synapses]
        return weights[synapses.projection][numbers.index(synapses.number)]

    def at(self, network: Network, weights: CircuitWeights, drive: Drive, state: State) -> "Moment":
        """Everything at a moment."""
        return Moment(self, network, weights, drive, state)

    def fixed_point(self, network: Network, weights: CircuitWeights, drive: Drive) -> State | None:
        """The forward pass of a circuit in which nothing comes back."""
        if not self.circuit.feedforward:
            return None
        start = rest(self, network, drive.x.dtype)
        return sweep(self, network, weights, drive, start, range(1, network.depth + 1))

    def forward_pass(
        self, network: Network, weights: CircuitWeights, x: Float[Array, " n_0"]
    ) -> Layers | None:
        """What the layers of a chain say where W alone brings anything: the feed-forward network.

        h_i = s_i(v_i), v_i being where the potential that s is applied to then rests: a_i = W_i
        h_{i−1} + b_i itself, or, where other conductances pull at it, a share of it. The output may
        answer v_L. Not a number where as many sweeps as a cell has states do not find its rest.
        None where the circuit is no such chain.
        """
        chain = links(self.circuit)
        if chain is None:
            return None
        drive, h = self.drive(network, weights, x, Target("none")), x
        found: list[Array] = []
        for i, link in enumerate(chain, start=1):
            h = self._driven_alone(network, weights, drive, network.sent(i - 1, h), link)
            h = h if link.rate == link.potential else network.s(i, h)
            found.append(h)
        return tuple(found)

    def _driven_alone(
        self, network: Network, weights: CircuitWeights, drive: Drive, below: Array, link: Link
    ) -> Array:
        """Where the potential of a layer rests if W alone, from `below`, brings anything."""
        state, cell = rest(self, network, below.dtype), self.circuit.cell(link.group)
        index = self._index(link.group)
        names = {name: f"{link.group.population}.{name}" for name in cell.states}

        def moment() -> Moment:
            return _Alone(self, network, weights, drive, state, below=below)

        for name in list(names) * len(names):
            pulled = moment().pull(names[name], index)
            layers = state[names[name]]
            state = state | {names[name]: (*layers[: index - 1], pulled, *layers[index:])}
        now = moment()
        potential = now.whole(link.group, link.potential)
        moved = cell.roots(link.potential) & names.keys()
        off = [now.pull(names[name], index) - state[names[name]][index - 1] for name in moved]
        size = 1 + jnp.max(jnp.abs(potential))
        lost = sum(jnp.max(jnp.abs(d)) > jnp.sqrt(jnp.finfo(size.dtype).eps) * size for d in off)
        return jnp.where(lost, jnp.nan, potential)

    def read(
        self, network: Network, weights: CircuitWeights, drive: Drive, state: State
    ) -> Signals:
        """What the state means."""
        now = self.at(network, weights, drive, state)
        place = self.circuit.place
        of = {f"{place(group)}.{name}": now.whole(group, name) for group, name in self.looked_at}
        for group in drawing(self.circuit, network):
            if (drawn := now.drawn(group)) is not None:
                of[f"{place(group)}.{DRAWN}"] = drawn
        return Signals((now.whole(*self.circuit.readout),), of)

    def look(
        self,
        network: Network,
        weights: CircuitWeights,
        drive: Drive,
        state: State,
        known: Mapping[tuple[Group, str], Array] | None = None,
    ) -> dict[str, dict[str, Array]]:
        """Place → variable → what is recorded of every group.

        known: quantities, (n,) each, that are not what they would be in the state.
        """
        now = Moment(self, network, weights, drive, state, known)
        found: dict[str, dict[str, Array]] = {}
        for group, name in self.circuit.observed:
            found.setdefault(self.circuit.place(group), {})[name] = now.whole(group, name)
        return found

    def attenuation(self, network: Network, layer: int) -> Scalar | float:
        """By how much the teaching signal of a layer is expected to shrink on its way down."""
        given = self.parameters | {"i": layer, "L": self.circuit.depth}
        return self.circuit.attenuation(given, ELEMENTARY)

    def expected(self, network: Network, name: str, index: int) -> Scalar | float:
        """The same of the layer of a state."""
        return self.attenuation(network, self._group(name, index)[0].layer)

    def with_layers(self) -> "CircuitDynamics":
        """The same, looked at as a chain of layers too, where it is one: see `layers`."""
        found = dict.fromkeys(self.looked_at)
        for link in links(self.circuit) or ():
            names = link.rate, link.potential, link.downward, link.sent
            found |= dict.fromkeys((link.group, name) for name in names)
        return replace(self, looked_at=tuple(found))

    def layers(self, network: Network, readout: Signals) -> Readout:
        """What a readout says of the layers of a chain; of `with_layers`.

        The rate of stochastic units is their mean.
        """
        found: list[tuple[Array, ...]] = []
        stochastic = drawing(self.circuit, network)
        for i, link in enumerate(links(self.circuit) or (), start=1):
            place = self.circuit.place(link.group)
            drawn, potential, downward = (
                readout.of[f"{place}.{name}"] for name in (link.rate, link.potential, link.downward)
            )
            rate = network.s(i, potential) if link.group in stochastic else drawn
            found.append((rate, network.slope(i, potential), downward, drawn, potential))
        rates, slopes, sent, draws, potentials = zip(*found, strict=True)
        return Readout(rates, slopes, sent, draws, potential=potentials)

    def chain(self, weights: CircuitWeights) -> Weights | None:
        if not self.circuit.chain:
            return None
        biases = self.circuit.biased
        own = biases is not None and biases.name == "W"
        return Weights(weights["W"], weights["b"] if own else (), weights.get("Q", ()))

    @property
    def noise(self) -> dict[str, Scalar | float]:
        """Whether anything is noisy: σ by compartment, and `xi` where the text has it."""
        written = {
            f"{group.population}.{name}": 1.0
            for group, name in self.circuit.moving
            if "xi" in self.circuit.cell(group).right(name).names
        }
        return written | self.sigma

    def deviations(
        self, network: Network, state: State, per_unit: PerUnit = white
    ) -> dict[str, tuple]:
        """Of every state its noise per √s, None where it is quiet: what σ asks for, and `xi`.

        A state decays by itself at the rate −F' at rest and without input.
        """
        none = Moment(self, network, {}, None, None)

        def of(name: str, index: int) -> Any:
            return none.deviation(*self._group(name, index), per_unit)

        return {
            name: tuple(of(name, k) for k in range(1, len(layers) + 1))
            for name, layers in state.items()
        }


class Moment:
    """All quantities of all groups in one state, each computed once, when it is asked for.

    A state of None stands for a network at rest without input, of which only parameters matter; a
    target is held there, so that a cell that answers is no target of its own.
    known: quantities that are known otherwise; of them the others follow.
    """

    def __init__(
        self,
        dynamics: CircuitDynamics,
        network: Network,
        weights: CircuitWeights,
        drive: Drive | None,
        state: State | None,
        known: Mapping[tuple[Group, str], Array] | None = None,
    ) -> None:
        self.dynamics, self.circuit = dynamics, dynamics.circuit
        self.network, self.weights, self.drive, self.state = network, weights, drive, state
        self._known: dict[tuple[Group, str], Any] = dict(known or {})

    def __call__(self, group: Group, name: str) -> Any:
        """A quantity of a group, defined by its cell or given to it."""
        if (group, name) not in self._known:
            self._known[group, name] = self._found(group, name)
        return self._known[group, name]

    def whole(self, group: Group, name: str) -> Float[Array, " n"]:
        """The same as an array over the cells, also where it is one number for all."""
        return jnp.broadcast_to(self(group, name), (self.circuit.size(group),))

    def _found(self, group: Group, name: str) -> Any:
        cell = self.circuit.cell(group)
        if name in cell.states:
            if self.state is None:
                return self._start(group, name)
            index = self.dynamics._index(group)
            return self.state[f"{group.population}.{name}"][index - 1]
        if name in cell.defined:
            return self._evaluated(group, name, lambda other: self(group, other))
        return self._given(group, name)

    def _start(self, group: Group, name: str) -> Array:
        return jnp.asarray(self.dynamics.start(f"{group.population}.{name}"), float)

    def _given(self, group: Group, name: str) -> Any:
        own = f"{group.population}.{name}"
        if own in self.weights:
            return self.weights[own][self.circuit.values[own].index(group)]
        key = self.circuit.parameter(group.population, name)
        if key is not None:
            drawn = f"{self.circuit.place(group)}.{name}"
            return self._parameter(drawn if drawn in self._changed else key)
        if name == "xi":
            return 0.0
        if self.state is None or self.drive is None:
            return jnp.asarray(name == "teach", float)  # an output left alone hears not itself
        if name == "bias":
            return self._bias(group)
        if name == "teach":
            return self.drive.target.teach
        if name == "target":
            return self.drive.target(self.network, self(*self.circuit.readout))
        total: Any = None
        for synapses in self.circuit.arriving.get((group, name), ()):
            came = self._came(synapses)
            total = came if total is None else total + came
        return jnp.zeros(self.circuit.size(group)) if total is None else total

    def _parameter(self, key: str) -> Any:
        if key in self._changed:
            return self._changed[key]
        return self.dynamics.parameters[key]

    @property
    def _changed(self) -> Mapping[str, Any]:
        """What the phase changes: parameters, and as `place.name` what cells have drawn of them."""
        return {} if self.drive is None else self.drive.changed

    def _bias(self, group: Group) -> Any:
        biased = self.circuit.biased
        if biased is None:
            return 0.0
        layers = [s.post.layer for s in biased.synapses if s.post.population == group.population]
        if group.layer not in layers:
            return 0.0
        at = [s.post for s in biased.synapses].index(group)
        of, b = biased.synapses[at].convolution, self.weights["b"][at]
        return b if of is None else convolution.everywhere(of, b)

    def _came(self, synapses: Synapses) -> Array:
        if synapses.pre is None:
            assert self.drive is not None, "a network with a state has an input"
            return self.drive.basal[f"{synapses.projection}{synapses.number}"]
        weight = self.dynamics.weight(self.weights, synapses)
        return _through(synapses, weight, self._sent(synapses.pre, synapses.sent))

    def _sent(self, group: Group, name: str) -> Float[Array, " n"]:
        """What others receive of a quantity."""
        return self.whole(group, name)

    def _evaluated(self, group: Group, name: str, of: Callable[[str], Any]) -> Any:
        return self._value(self.circuit.cell(group).right(name), group, of)

    def drawn(self, group: Group) -> Array | None:
        """What the cells of a group have drawn; None if nothing."""
        return self._changed.get(f"{self.circuit.place(group)}.{DRAWN}")

    def _value(self, text: Expression, group: Group, of: Callable[[str], Any]) -> Any:
        called = functions(self.circuit, self.network, group, self.drawn(group))
        return text({other: of(other) for other in sorted(text.names)}, called)

    # --- how states move --------------------------------------------------------------------

    def velocity(self, name: str, index: int) -> Float[Array, " n"]:
        """How a state moves, per second."""
        group, variable = self.dynamics._group(name, index)
        moved = self._evaluated(group, variable, lambda other: self(group, other))
        return jnp.broadcast_to(moved, (self.circuit.size(group),))

    def pull(self, name: str, index: int) -> Float[Array, " n"]:
        """v − F(v)/F'(v): where F vanishes, if it is linear in v; a Newton step towards it if not.

        F' is elementwise: what synapses bring is held, but for what comes back at once by wires
        that are one to one. Of F = (p − v)/τ that is p, if neither follows v at once in its cell.
        """
        group, variable = self.dynamics._group(name, index)
        cell, v = self.circuit.cell(group), self.whole(group, variable)
        right = cell.right(variable)
        towards = right.towards(variable)
        if towards is not None and not cell.follows(right.names - {variable}, variable):
            pulled = self._value(towards, group, lambda other: self(group, other))
            return jnp.broadcast_to(pulled, v.shape)
        moved, slope = self._with_slope(group, variable, v)
        return v - moved / slope

    def _with_slope(self, group: Group, variable: str, v: Array) -> tuple[Array, Array]:
        """F(v) and F'(v) of a state, held being what synapses bring.

        What leaves the cell and comes back at once, through one-to-one wires and cells without a
        time of their own, is not held: an error that a cell next to it computes from v.
        """
        known: dict[tuple[Group, str], Any] = {}

        def of(group: Group, name: str) -> Any:
            if (group, name) not in known:
                known[group, name] = found(group, name)
            return known[group, name]

        def found(group: Group, name: str) -> Any:
            cell = self.circuit.cell(group)
            if name in cell.defined and name not in cell.states:
                return self._evaluated(group, name, partial(of, group))
            arriving = self.circuit.arriving.get((group, name), ())
            if self.state is None or all(s.dense or s.pre is None for s in arriving):
                return self(group, name)
            total: Any = 0.0
            for synapses in arriving:
                if synapses.dense or synapses.pre is None:
                    total = total + self._came(synapses)
                else:
                    weight = self.dynamics.weight(self.weights, synapses)
                    total = total + _through(synapses, weight, of(synapses.pre, synapses.sent))
            return total

        def velocity(v: Array) -> Array:
            known[group, variable] = v
            return jnp.broadcast_to(self._evaluated(group, variable, partial(of, group)), v.shape)

        return jax.jvp(velocity, (v,), (jnp.ones_like(v),))

    def deviation(self, group: Group, variable: str, per_unit: PerUnit) -> Any:
        """The noise of a state per √s, None where it is quiet.

        What the text writes with `xi` has the amplitude that it says.
        """
        sigma = self.dynamics.sigma.get(
            f"{group.population}.{variable}", self.dynamics.sigma.get(variable)
        )
        found = None
        if sigma is not None:
            _, slope = self._with_slope(group, variable, self._start(group, variable))
            found = sigma * per_unit(-slope)
        if "xi" not in self.circuit.cell(group).right(variable).names:
            return found

        def with_noise(xi: float) -> Any:
            return self._evaluated(
                group, variable, lambda other: xi if other == "xi" else self(group, other)
            )

        written = with_noise(1.0) - with_noise(0.0)
        return written if found is None else jnp.hypot(found, written)


class _Alone(Moment):
    """A moment in which W alone brings anything to a cell. below: what it carries from there."""

    def __init__(self, *moment: Any, below: Array) -> None:
        super().__init__(*moment)
        self._below = below

    def _came(self, synapses: Synapses) -> Array:
        if synapses.projection != "W":
            return jnp.zeros(self.circuit.size(synapses.post))
        weight = self.dynamics.weight(self.weights, synapses)
        return _through(synapses, weight, self._below)


def _through(synapses: Synapses, weight: Array | None, sent: Array) -> Array:
    """What synapses make of what is sent."""
    if weight is None:
        return sent
    if synapses.convolution is not None:
        return convolution.carried(synapses.convolution, weight, sent)
    return through(weight, sent) if synapses.dense else weight * sent
