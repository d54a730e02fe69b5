"""Local rules of a circuit: what the synapses of a projection make of the cells on either side.

    ΔW = η (⟨post pre^T⟩ − λ W),

the mean over the batch of the product of an expression over the post-synaptic and one over the
pre-synaptic cell. An expression sees the names of its own cell, as they are now and as they were at
the end of earlier phases, and nothing else.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray, Scalar

from neurosim.circuits.description import FUNCTIONS, Circuit
from neurosim.circuits.expressions import Expression, parse
from neurosim.circuits.populations import Group, Projection, Remembered, Synapses
from neurosim.circuits.starts import Start
from neurosim.circuits.tables import ATTENUATION, TEACHING
from neurosim.credit import LOCAL, Credit
from neurosim.errors import asked, of_shape
from neurosim.functions.inverses import inverse, pseudo_inverse
from neurosim.levels.simulator import Phase
from neurosim.networks import convolution
from neurosim.networks.circuit import (
    CircuitDynamics,
    CircuitWeights,
    Signals,
)
from neurosim.networks.dynamics import Dynamics, Readout
from neurosim.networks.elementary import ELEMENTARY
from neurosim.networks.network import Layers, Network
from neurosim.networks.vocabulary import functions
from neurosim.plasticity import FEEDBACK_RULES
from neurosim.plasticity.learning import OPTIMIZERS, Earlier, Moment, nothing, progressed
from neurosim.plasticity.signals import apical_delta

MATRICES = ELEMENTARY | {
    "pinv": pseudo_inverse,
    "inv": inverse,
    "transpose": jnp.transpose,
    "dot": jnp.matmul,
}
"""What an expression for weights that are tied may call."""


RULE = "rule(post, pre, W) -> the change of W, where post(text) and pre(text) are (batch, units)"
"""What a rule of a script must be."""


class LocalLearning(eqx.Module):
    """The rules and rates of a circuit in one stage.

    rates: of every projection, one for each of its weights, per presentation, or per second when
    online. decay: λ. noise: σ of rules that inject some. limits: how large weights may become, none
    for no limit. tied: projections whose weights are an expression over others all along, in the
    order in which they follow. tau_memory: of what cells remember of an earlier phase (s).
    top_down: projections that come down take turns by layer.
    """

    circuit: Circuit = eqx.field(static=True)
    parameters: dict[str, Scalar | float]
    rates: dict[str, tuple[Float[Array, ""], ...]]
    decay: dict[str, Scalar | float]
    noise: dict[str, Scalar | float]
    limits: dict[str, Scalar | float]
    optimizers: dict[str, str] = eqx.field(static=True)
    tied: tuple[tuple[str, Start], ...] = eqx.field(static=True)
    schedule: str = eqx.field(static=True)
    final: Scalar | float
    top_down: bool = eqx.field(static=True)
    tau_memory: Scalar | float | None

    credit: ClassVar[Credit] = LOCAL

    def moment(
        self,
        progress: Float[Array, ""],
        key: PRNGKeyArray | None = None,
        presentation: Int[Array, ""] | int = 0,
    ) -> Moment:
        """The rates' factor at this progress (0 … 1) of the stage, and whose turn it is."""
        count = self.circuit.depth - 1
        factor, turn = progressed(self.schedule, progress, self.final, self.top_down, count)
        return Moment(factor, turn, jnp.ones(0), jnp.asarray(presentation))

    # --- changes ----------------------------------------------------------------------------

    def change(
        self,
        dynamics: CircuitDynamics,
        network: Network,
        weights: CircuitWeights,
        x: Float[Array, "batch n_0"],
        labels: Float[Array, "batch n_L"],
        readout: Signals,
        earlier: Earlier,
        key: PRNGKeyArray,
        moment: Moment,
        phase: Phase,
        changed: Mapping[str, Any],
    ) -> CircuitWeights:
        """What the rules make of the signals of a phase, before rates.

        changed: the parameters that have other values in it.
        """
        before = {passed.name: left for passed, left in earlier}
        parameters = self.parameters | dict(changed)
        change = nothing(weights)
        for projection in self.circuit.projections:
            if projection.name not in phase.plastic:
                continue
            given = x, readout, before, weights, parameters
            sides = Sides(dynamics, network, projection, *given)
            decay, kept = self.decay[projection.name], weights[projection.name]
            if callable(projection.rule):
                of = zip(projection.synapses, kept, strict=True)
                made = [sides.given(synapses, w) for synapses, w in of]
            elif projection.post is None:
                made = self._probed(projection, dynamics, network, weights, readout, key)
            else:
                made = [sides.change(synapses) for synapses in projection.synapses]
            posts = [s.post.layer - 1 if s.descends else None for s in projection.synapses]
            turns = [1 if at is None else moment.turn[at] for at in posts]
            change[projection.name] = tuple(
                turn * (d - decay * w) for turn, d, w in zip(turns, made, kept, strict=True)
            )
            if projection.bias:
                of = zip(projection.synapses, weights["b"], strict=True)
                change["b"] = tuple(sides.bias(synapses, b) for synapses, b in of)
        return self._handed(change, weights, phase)

    def _handed(
        self, change: CircuitWeights, weights: CircuitWeights, phase: Phase
    ) -> CircuitWeights:
        """Changes with what weights that are tied would learn, handed to those they are made of.

        By the chain rule: through the transpose of the derivative of what they are made by.
        """
        handed, learn = dict(change), {name for name, _ in self.tied if name in phase.plastic}
        for name, begin in reversed(self.tied):
            if name not in learn:
                continue

            def made(of: CircuitWeights, name: str = name, begin: Start = begin) -> Layers:
                return self._tied(name, begin, weights | of)

            others = {other: weights[other] for other in begin.projections}
            (given,) = jax.vjp(made, others)[1](handed[name])
            for other, parts in given.items():
                handed[other] = tuple(map(jnp.add, handed[other], parts))
            learn |= set(others)
            handed[name] = nothing(handed)[name]
        return handed

    def _probed(
        self,
        projection: Projection,
        dynamics: Dynamics,
        network: Network,
        weights: CircuitWeights,
        readout: Signals,
        key: PRNGKeyArray,
    ) -> list[Array]:
        """What a rule that sends noise through the chain of layers makes of it, layer by layer."""
        chain, probe = dynamics.chain(weights), FEEDBACK_RULES[projection.rule].probe
        assert chain is not None and probe is not None, "checked at load"
        forward = self.circuit.projection["W"]
        sent = [
            readout.of[f"{self.circuit.place(s.pre)}.{s.sent}"]
            for s in forward.synapses
            if s.pre is not None
        ]
        whole = Readout((*sent, readout.rate[-1]), (), ())
        signals = probe(network, chain, whole, self.noise[projection.name], key)
        of = [synapses.convolution for synapses in projection.synapses]
        return [apical_delta(s, q, 0.0, c) for s, q, c in zip(signals, chain.Q, of, strict=True)]

    # --- memory, online -----------------------------------------------------------------------

    @property
    def _remembered(self) -> dict[str, tuple[Group, Remembered]]:
        """By `phase:place.quantity`."""
        found = {}
        for projection in self.circuit.projections:
            for synapses in projection.synapses:
                for name, recalled in projection.remembered:
                    for side, group in (
                        (projection.post, synapses.post),
                        (projection.pre, synapses.pre),
                    ):
                        if group is not None and side is not None and name in side.names:
                            place = self.circuit.place(group)
                            key = f"{recalled.phase}:{place}.{recalled.quantity}"
                            found[key] = group, recalled
        return found

    def blank(self, network: Network, lead: tuple[int, ...], dtype: Any) -> dict[str, Array]:
        """The memory of a batch that has seen nothing."""
        return {
            key: jnp.zeros((*lead, self.circuit.size(group)), dtype)
            for key, (group, _) in self._remembered.items()
        }

    def remember(
        self, phase: Phase, readout: Signals, memory: dict[str, Array]
    ) -> dict[str, Array]:
        """How memories move, per second: towards what is there now, in the phase they are of."""

        def moved(key: str, kept: Array) -> Array:
            of, _, quantity = key.partition(":")
            if of != phase.name or self.tau_memory is None:
                return jnp.zeros_like(kept)
            return (readout.of[quantity] - kept) / self.tau_memory

        return {key: moved(key, kept) for key, kept in memory.items()}

    def after(
        self, phase: Phase, readout: Signals, memory: dict[str, Array], dt: float
    ) -> dict[str, Array]:
        """The memory after dt in which the readout stays as it is."""
        if self.tau_memory is None:
            return memory
        share = -jnp.expm1(-dt / self.tau_memory)

        def moved(key: str, kept: Array) -> Array:
            of, _, quantity = key.partition(":")
            return kept + share * (readout.of[quantity] - kept) if of == phase.name else kept

        return {key: moved(key, kept) for key, kept in memory.items()}

    def recalled(
        self, phases: tuple[Phase, ...], readout: Signals, memory: dict[str, Array]
    ) -> tuple[Signals, ...]:
        """What is remembered of every phase."""

        def of(phase: Phase) -> Signals:
            kept = {
                key.partition(":")[2]: value
                for key, value in memory.items()
                if key.partition(":")[0] == phase.name
            }
            return readout._replace(of=readout.of | kept)

        return tuple(map(of, phases))

    # --- steps --------------------------------------------------------------------------------

    def rated(self, change: CircuitWeights, factor: Float[Array, ""]) -> CircuitWeights:
        """A change times its rates and `factor`."""
        return {
            name: tuple(factor * r * d for r, d in zip(self._rates(name), arrays, strict=True))
            if self._moves(name)
            else arrays
            for name, arrays in change.items()
        }

    def _moves(self, name: str) -> bool:
        """Whether anything among the weights learns: synapses with a rule, and their biases."""
        if name == "b":
            return self.circuit.biased is not None and self.circuit.biased.learns
        return name in self.circuit.projection and self.circuit.projection[name].learns

    def _rates(self, name: str) -> tuple[Float[Array, ""], ...]:
        """Of a projection, or of the biases, which learn as the synapses beside them."""
        return self.rates[self._named(name)]

    def _named(self, name: str) -> str:
        if name in self.circuit.projection:
            return name
        assert self.circuit.biased is not None, "only biases have no projection"
        return self.circuit.biased.name

    def constrain(self, weights: CircuitWeights) -> CircuitWeights:
        """The weights within their limits, those that are tied following the others."""
        found = {
            name: tuple(jnp.clip(w, -self.limits[name], self.limits[name]) for w in arrays)
            if name in self.limits
            else arrays
            for name, arrays in weights.items()
        }
        for name, begin in self.tied:
            found[name] = self._tied(name, begin, found)
        return found

    def _tied(self, name: str, begin: Start, weights: CircuitWeights) -> Layers:
        """What the weights of a projection are, as an expression over those of others."""
        given = self.parameters | {"L": self.circuit.depth}
        return tuple(
            begin.value(self.circuit, s.number, weights, given, MATRICES)
            for s in self.circuit.projection[name].synapses
        )

    def begin(self, weights: CircuitWeights) -> dict[str, Any]:
        """The optimisers' state at the start of a stage."""
        return {
            name: self._optimizer(name).init(arrays)
            for name, arrays in weights.items()
            if self._moves(name)
        }

    def _optimizer(self, name: str) -> Any:
        return OPTIMIZERS[self.optimizers[self._named(name)]]()

    def step(
        self,
        weights: CircuitWeights,
        change: CircuitWeights,
        state: dict[str, Any],
        factor: Float[Array, ""],
    ) -> tuple[CircuitWeights, dict[str, Any]]:
        """One quasi-static step of the weights, and the optimisers' new state."""
        moved, states = dict(weights), {}
        for name, arrays in weights.items():
            if not self._moves(name):
                continue
            steps, states[name] = self._optimizer(name).update(change[name], state[name])
            rates = zip(arrays, self._rates(name), steps, strict=True)
            moved[name] = tuple(w + factor * r * d for w, r, d in rates)
        return self.constrain(moved), states


class Sides:
    """What the cells on both sides of a projection say to its rule; arrays have the batch first.

    bare: whether slopes, and what teaching has shrunk by on its way, count as 1.
    """

    def __init__(
        self,
        dynamics: CircuitDynamics,
        network: Network,
        projection: Projection,
        x: Float[Array, "batch n_0"],
        now: Signals,
        before: Mapping[str, Signals],
        weights: CircuitWeights,
        parameters: Mapping[str, Any],
        bare: bool = False,
    ) -> None:
        self.dynamics, self.circuit, self.network = dynamics, dynamics.circuit, network
        self.bare = bare
        self.weights, self.parameters = weights, parameters
        self.projection, self.x, self.now, self.before = projection, x, now, before

    def change(
        self, synapses: Synapses, quantizer: Callable[[Array], Array] | None = None
    ) -> Array:
        """Mean over the batch of post times pre; quantizer: of what every sample adds to it."""
        post, pre = self._post(synapses), self._pre(synapses)
        if synapses.convolution is not None:
            of, K = synapses.convolution, self.dynamics.weight(self.weights, synapses)
            assert K is not None, "convolutions have weights"
            if quantizer is None:
                return convolution.change(of, K, post, pre)
            each = jax.vmap(lambda one, other: convolution.change(of, K, one, other))
            return jnp.mean(quantizer(each(post[:, None], pre[:, None])), axis=0)
        if quantizer is not None:
            return jnp.mean(quantizer(post[:, :, None] * pre[:, None, :]), axis=0)
        if synapses.dense:
            return post.T @ pre / len(self.x)
        return jnp.mean(post * pre, axis=0)

    def bias(
        self, synapses: Synapses, b: Array, quantizer: Callable[[Array], Array] | None = None
    ) -> Array:
        """A bias is a synapse from a neuron that always sends 1."""
        if callable(self.projection.rule):
            ones = jnp.ones((len(self.x), 1))

            def post(text: str) -> Float[Array, "batch biases"]:
                of, asked = synapses.convolution, self._asked(synapses.post, text)
                return asked if of is None else convolution.shared(of, asked)

            return self._ruled(post, lambda _: ones, b[:, None])[:, 0]
        sent = self._post(synapses)
        if synapses.convolution is not None:
            sent = convolution.shared(synapses.convolution, sent)
        return jnp.mean(sent if quantizer is None else quantizer(sent), axis=0)

    def given(self, synapses: Synapses, W: Array) -> Array:
        """What a rule of a script makes of both sides, each a function of the text it asks for."""
        sides = [partial(self._asked, group) for group in (synapses.post, synapses.pre)]
        return self._ruled(*sides, W)

    def _ruled(self, *given: Any) -> Array:
        """What a rule of a script makes of these sides and weights."""
        key = f"model.projections.{self.projection.name}.rule"
        made = asked(key, self.projection.rule, RULE, *given)
        return of_shape(key, made, given[-1].shape, RULE)

    def _asked(self, group: Group | None, text: str) -> Float[Array, "batch n"]:
        return self.side(parse(text, FUNCTIONS), group)

    def _post(self, synapses: Synapses) -> Float[Array, "batch post"]:
        assert self.projection.post is not None, "a rule has both sides"
        return self.side(self.projection.post, synapses.post)

    def _pre(self, synapses: Synapses) -> Float[Array, "batch pre"]:
        assert self.projection.pre is not None, "a rule has both sides"
        return self.side(self.projection.pre, synapses.pre)

    def side(self, text: Expression, group: Group | None) -> Float[Array, "batch n"]:
        """The value of a text for a group of cells; None stands for the input."""
        called = dict(functions(self.circuit, self.network, group))
        if self.bare:
            called["slope"] = jnp.ones_like
        if group is None:
            found = text({name: self.x for name in sorted(text.names)}, called)
            return jnp.broadcast_to(found, self.x.shape)
        found = text({name: self._named(group, name) for name in sorted(text.names)}, called)
        return jnp.broadcast_to(found, (len(self.x), self.circuit.size(group)))

    def _named(self, group: Group, name: str) -> Any:
        if name == ATTENUATION and self.bare:
            return 1.0
        if name == ATTENUATION:
            return self.dynamics.attenuation(self.network, group.layer)
        now, place = self.now.of, self.circuit.place(group)
        own = f"{group.population}.{name}"
        if own in self.weights:
            return self.weights[own][self.circuit.values[own].index(group)]
        key = self.circuit.parameter(group.population, name)
        if key is not None:
            return self.parameters[key]
        quantity, _, phase = name.rpartition("_")
        if f"{place}.{name}" not in now and phase in self.before:
            return self.before[phase].of[f"{place}.{quantity}"]
        return now[f"{place}.{name}"]


def teaching(
    dynamics: CircuitDynamics,
    network: Network,
    weights: CircuitWeights,
    now: Signals,
    before: Mapping[str, Signals],
) -> Layers:
    """What the rule of W learns from in every layer of a chain, batch first.

    Its post-synaptic side without the slope and without depth compensation: h_i − f_i [T 6.17],
    h_i^l − h_i^f [T 6.35]. now: of the phase that teaches. before: of earlier phases by name.
    """
    projection = dynamics.circuit.projection["W"]
    assert projection.post is not None, "asked of rules that are text"
    some = next(iter(now.of.values()))
    given = jnp.zeros((len(some), network.sizes[0]), some.dtype), now, before, weights
    sides = Sides(dynamics, network, projection, *given, dynamics.parameters, bare=True)
    return tuple(sides.side(projection.post, s.post) for s in projection.synapses)


def looked_at(circuit: Circuit) -> tuple[tuple[Group, str], ...]:
    """Every quantity that a rule names, now or of an earlier phase; a script's may name all."""
    found: dict[tuple[Group, str], None] = {}
    for projection in circuit.projections:
        recalled = dict(projection.remembered)
        for synapses in projection.synapses:
            for side, group in ((projection.post, synapses.post), (projection.pre, synapses.pre)):
                if group is None:
                    continue
                if callable(projection.rule):
                    found |= {(group, name): None for name in circuit.cell(group).defined}
                for name in sorted(side.names - {ATTENUATION, TEACHING} if side else ()):
                    name = recalled[name].quantity if name in recalled else name
                    if circuit.parameter(group.population, name) is None:
                        found[group, name] = None
    if any(projection.probed for projection in circuit.projections):
        for synapses in circuit.projection["W"].synapses:
            if synapses.pre is not None:
                found[synapses.pre, synapses.sent] = None
    return tuple(found)
