"""Learning from a credit that has a channel of its own, as the algorithms A.4 – A.17 of T.

The forward weights W of a chain of layers move in the order of the credit, by the rule of their
projection, which names the teaching; then the feedback weights Q of the channel learn under the
forward weights as they have become, from the activity and the targets as they were.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, PRNGKeyArray, Scalar

from neurosim.circuits.populations import Projection
from neurosim.credit import Credit
from neurosim.credit.channel import Passage
from neurosim.credit.local_goals import missed
from neurosim.errors import InputError, arrived, asked, of_shape
from neurosim.functions.quantization import Quantizer
from neurosim.levels.simulator import Phase
from neurosim.networks.circuit import CircuitDynamics, CircuitWeights, Signals
from neurosim.networks.dynamics import Readout
from neurosim.networks.network import Layers, Network, Weights, tie
from neurosim.networks.wirings import WIRINGS, shared
from neurosim.plasticity import FeedbackRule
from neurosim.plasticity.chains import among, chain_of, layer, part_of, replaced, with_layer
from neurosim.plasticity.learning import OPTIMIZERS, Earlier, Moment, nothing, progressed
from neurosim.plasticity.local import Sides
from neurosim.plasticity.nodes import Nodes
from neurosim.plasticity.rank_one import Pair, factors, refreshed_layers, robust_update
from neurosim.plasticity.redrawing import Redrawing
from neurosim.plasticity.signals import apical_delta
from neurosim.plasticity.teaching import as_it_became, with_teaching

ASSIGN = "assign(network, weights, now, label, step) -> one teaching signal a layer, as a tuple"
PROBE = "probe(network, weights, readout, sigma, key) -> one Feedback a feedback matrix"
"""What a credit, and a rule of its feedback weights, of a script must be."""

DRIFT_EVERY = 32
"""Presentations between two looks at how far kept inverses have drifted: a look costs n³."""


class Shown(NamedTuple):
    """A batch, batch first, and the rest of the network under it.

    ids: the samples' places in the data set, which select what is drawn for them.
    """

    x: Float[Array, "batch n_0"]
    labels: Float[Array, "batch n_L"]
    readout: Signals
    ids: Int[Array, " batch"]


class Iteration(NamedTuple):
    """What one presentation did: the weights, the optimisers' state, the change before rates.

    teaching: the signals of the batch. drift: of kept inverses, the largest over layers; NaN where
    there are none or nobody looked.
    """

    weights: CircuitWeights
    optimizer: Any
    change: CircuitWeights
    teaching: Layers
    drift: Float[Array, ""]


def random_layer(key: PRNGKeyArray, depth: int) -> Int[Array, ""]:
    """The layer, 1 … L, that moves in a presentation with this key [T A.2]."""
    return jax.random.randint(jax.random.fold_in(key, 0x1A7E), (), 1, depth + 1)


class ChannelLearning(eqx.Module):
    """The rules and rates of a chain of layers that a credit teaches, in one stage.

    projection: of the forward weights, with their rule. parameters: of the circuit. rates,
    feedback_rates: of every matrix, per presentation, or per second when online. decays: λ of
    forward and feedback weights. limit: how large forward weights may become. feedback: the rule of
    Q. noise: σ of rules that inject some. tied: the start that Q follows, or None. optimizers: of
    forward and feedback weights. top_down: feedback matrices take turns. threshold, refresh: ε of
    the robust Sherman–Morrison update, and the drift past which an inverse is computed anew.
    passage: what becomes of errors on their way, where the credit sends some. redrawing: how random
    weights of the channel are drawn in every presentation. quantizer: of what every sample adds to
    a forward weight. nodes: of a credit that gives hidden layers goals of their own.
    """

    credit: Credit = eqx.field(static=True)
    projection: Projection = eqx.field(static=True)
    parameters: dict[str, Scalar | float]
    target_step: Scalar | float
    rates: tuple[Float[Array, ""], ...]
    feedback_rates: tuple[Float[Array, ""], ...]
    decays: tuple[Scalar | float, Scalar | float]
    limit: Scalar | float | None
    feedback: FeedbackRule = eqx.field(static=True)
    noise: Scalar | float
    tied: str | None = eqx.field(static=True)
    optimizers: tuple[str, str] = eqx.field(static=True)
    schedule: str = eqx.field(static=True)
    final: Scalar | float
    top_down: bool = eqx.field(static=True)
    threshold: Scalar | float
    refresh: Scalar | float
    passage: Passage
    redrawing: Redrawing | None
    quantizer: Quantizer | None
    nodes: Nodes | None

    def moment(
        self,
        progress: Float[Array, ""],
        key: PRNGKeyArray | None = None,
        presentation: Int[Array, ""] | int = 0,
    ) -> Moment:
        """The rates' factor and the turns at this progress (0 … 1) of the stage.

        key: of the presentation, which picks the random layer.
        """
        given = progress, self.final, self.top_down, len(self.feedback_rates)
        factor, turn = progressed(self.schedule, *given)
        depth = len(self.rates)
        moves = jnp.ones(depth)
        if self.credit.order == "random":
            assert key is not None, "the random layer is drawn with a key"
            moves = (jnp.arange(1, depth + 1) == random_layer(key, depth)).astype(moves.dtype)
        elif self.credit.order == "output":
            moves = moves.at[:-1].set(0)
        elif self.nodes is not None and key is not None:
            moves = self.nodes.turns(key, depth)
        return Moment(factor, turn, moves, jnp.asarray(presentation))

    # --- teaching ---------------------------------------------------------------------------

    def teaching(
        self,
        network: Network,
        chain: Weights,
        labels: Float[Array, "batch n_L"],
        readout: Readout,
        keys: Key[Array, " batch"] | None = None,
    ) -> Layers:
        """The teaching signals of the batch. keys: of samples, without which none are dropped."""

        def one(now: Readout, y: Float[Array, "..."], key: PRNGKeyArray | None) -> Layers:
            passage = replace(self.passage, key=key)
            more: tuple[Any, ...] = () if self.credit.route is None else (passage,)
            more = more if self.nodes is None else (self.nodes.goals,)
            given = network, chain, now, y, self.target_step, *more
            found = asked("model.credit", self.credit.assign, ASSIGN, *given)
            if not isinstance(found, tuple) or len(found) != len(now.rate):
                got = f"{len(found)} entries" if isinstance(found, tuple) else arrived(found)
                raise InputError(
                    f"model.credit: returned {got} for {len(now.rate)} layers; expected {ASSIGN}"
                )
            layers = zip(found, now.rate, strict=True)
            return tuple(of_shape("model.credit", t, h.shape, ASSIGN) for t, h in layers)

        if self.nodes is not None:  # whose goals are of the batch as a whole
            return one(readout, labels, None)
        return jax.vmap(one)(readout, labels, keys)

    def taught(
        self, network: Network, chain: Weights, readout: Readout, teaching: Layers
    ) -> Readout:
        """The readout with what the channel brings to it."""
        teacher = tuple(h + t for h, t in zip(readout.rate, teaching, strict=True))
        if self.credit.form is None:
            errors = map(self.passage.sent, readout.slope, teaching)
            sent = dict(enumerate(errors, start=1))
            wires = WIRINGS[self.credit.wiring](network.depth)
            carried = tuple(sent[above] for _, above in wires)

            def through(i: int, above: int) -> Array | None:
                if self.credit.wiring != "layers":
                    return None
                return jax.vmap(network.passed, (None, None, 0))(chain, i, readout.rate[i - 1])

            passed = tuple(through(*ends) for ends in wires)
            return readout._replace(teacher=teacher, carried=carried, passed=passed)
        heard = range(1, len(chain.Q) + 1)
        potential = tuple(
            jax.vmap(network.apical, (None, None, 0))(chain, i, readout.rate[i]) for i in heard
        )
        apical = tuple(network.decode(i, v) for i, v in zip(heard, potential, strict=True))
        return readout._replace(teacher=teacher, apical=apical, apical_potential=potential)

    # --- changes, before rates --------------------------------------------------------------

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
        ids: Int[Array, " batch"] | None = None,
    ) -> CircuitWeights:
        """What the rules make of the signals of a phase, all weights at once.

        ids: the samples' places in the data set, without which none are dropped.
        """
        parameters = self.parameters | dict(changed)
        chain, layers = chain_of(dynamics, weights), dynamics.layers(network, readout)
        keys = None if ids is None else self.keys(key, ids)
        teaching = self.teaching(network, chain, labels, layers, keys)
        taught = self.taught(network, chain, layers, teaching)
        change = nothing(chain)
        if "W" in phase.plastic:
            signals = with_teaching(dynamics, readout, dict(enumerate(teaching)))
            for i in range(1, network.depth + 1):
                asked_of = dynamics, network, weights, x, signals, parameters
                made = self._made(*asked_of, taught, i)
                change = with_layer(change, i, tuple(moment.moves[i - 1] * d for d in made))
        if "Q" in phase.plastic:
            made = self._feedback(network, chain, taught, key, moment.turn, (x, labels), chain)
            change = change._replace(Q=made)
        return among(change, nothing(weights))

    def _made(
        self,
        dynamics: CircuitDynamics,
        network: Network,
        weights: CircuitWeights,
        x: Float[Array, "batch n_0"],
        signals: Signals,
        parameters: Mapping[str, Any],
        taught: Readout,
        i: int,
    ) -> Layers:
        """What the rule of W makes of layer i, whatever the channel serves."""
        asked_of = dynamics, network, weights, x, signals, parameters
        if i <= len(weights.get("Q", ())) and weights["Q"][i - 1].ndim == 3:
            return self._served(*asked_of, taught.carried[i - 1], i)
        return self._forward(*asked_of, i)

    def _forward(
        self,
        dynamics: CircuitDynamics,
        network: Network,
        weights: CircuitWeights,
        x: Float[Array, "batch n_0"],
        signals: Signals,
        parameters: Mapping[str, Any],
        i: int,
    ) -> Layers:
        """What the rule of W makes of layer i: ΔW_i, and Δb_i where there is one."""
        given = x, signals, dict[str, Signals](), weights, parameters
        sides = Sides(dynamics, network, self.projection, *given, bare=not self.passage.slope)
        synapses, W = self.projection.synapses[i - 1], weights["W"][i - 1]
        own = callable(self.projection.rule)
        made = sides.given(synapses, W) if own else sides.change(synapses, self.quantizer)
        if self.nodes is not None and i < network.depth:
            assert self.projection.pre is not None, "a rule has both sides"
            made = self.nodes.forward(W, made, sides.side(self.projection.pre, synapses.pre))
        change = (made - self.decays[0] * W,)
        if not self.projection.bias:
            return change
        return (*change, sides.bias(synapses, weights["b"][i - 1], self.quantizer))

    def _served(
        self,
        dynamics: CircuitDynamics,
        network: Network,
        weights: CircuitWeights,
        x: Float[Array, "batch n_0"],
        signals: Signals,
        parameters: Mapping[str, Any],
        error: Float[Array, "batch n_L"],
        i: int,
    ) -> Layers:
        """The same of a layer whose weights have each a channel of its own, (n_i, weights, n_L).

        The rule is linear in the teaching: what it makes of each output's error, weighed by those.
        """
        given = dynamics, network, weights, x
        undecayed = replace(self, decays=(0.0, self.decays[1]))

        def of_one(error: Float[Array, " batch"]) -> Float[Array, "n_i weights"]:
            teaching = jnp.broadcast_to(error[:, None], (len(x), network.sizes[i]))
            taught = with_teaching(dynamics, signals, {i - 1: teaching})
            made = undecayed._forward(*given, taught, parameters, i)
            return jnp.concatenate([made[0], *(b[:, None] for b in made[1:])], axis=1)

        every = jnp.einsum("kij,ijk->ij", jax.vmap(of_one, in_axes=1)(error), weights["Q"][i - 1])
        W = weights["W"][i - 1]
        change = every[:, : W.shape[1]] - self.decays[0] * W
        return (change, every[:, -1]) if self.projection.bias else (change,)

    def _feedback(
        self,
        network: Network,
        chain: Weights,
        readout: Readout,
        key: PRNGKeyArray,
        turn: Float[Array, " Q"],
        data: tuple[Array, Array],
        before: Weights,
    ) -> Layers:
        """What the rule of Q makes of the activity.

        data: inputs and labels of the batch. before: the weights under which it came about.
        """
        if self.feedback.solved:
            assert self.nodes is not None, "checked at load"
            found = missed(network, before, readout, data[1], self.nodes.goals)
            return self.nodes.backward(chain, readout, found)
        if self.feedback.probe is None:
            return nothing(chain.Q)
        more = (data,) if self.feedback.sees_data else ()
        given = network, chain, readout, self.noise, key, *more
        signals = asked("model.credit.rule", self.feedback.probe, PROBE, *given)
        of = shared(self.credit.wiring, network.convolutions or (None,) * network.depth)
        return tuple(
            t * apical_delta(s, q, self.decays[1], c)
            for s, q, t, c in zip(signals, chain.Q, turn, of, strict=True)
        )

    # --- memory: there is none --------------------------------------------------------------

    def blank(self, network: Network, lead: tuple[int, ...], dtype: Any) -> tuple[()]:
        """What a batch that has seen nothing remembers."""
        return ()

    def remember(self, phase: Phase, readout: Signals, memory: tuple[()]) -> tuple[()]:
        """How that moves, per second."""
        return ()

    def after(self, phase: Phase, readout: Signals, memory: tuple[()], dt: float) -> tuple[()]:
        """What it is after dt."""
        return ()

    def recalled(
        self, phases: tuple[Phase, ...], readout: Signals, memory: tuple[()]
    ) -> tuple[Signals, ...]:
        """What earlier phases left, as far as it is remembered."""
        return (readout,) * len(phases)

    # --- steps ------------------------------------------------------------------------------

    def rated(self, change: CircuitWeights, factor: Float[Array, ""]) -> CircuitWeights:
        """A change times its rates and `factor`."""
        of = {"W": self.rates, "b": self.rates, "Q": self.feedback_rates}
        return {
            name: tuple(factor * r * d for r, d in zip(of[name], arrays, strict=True))
            if name in of
            else arrays
            for name, arrays in change.items()
        }

    def constrain(self, weights: CircuitWeights) -> CircuitWeights:
        """The weights within their limit, Q following W where it is tied to it."""
        if self.limit is not None:
            within = tuple(jnp.clip(w, -self.limit, self.limit) for w in weights["W"])
            weights = weights | {"W": within}
        if self.tied is None or "Q" not in weights:
            return weights
        reached = weights["W"][: len(weights["Q"]) + 1]
        return weights | {"Q": tie(Weights(reached, (), ()), self.tied).Q}

    def begin(self, weights: CircuitWeights) -> Any:
        """The optimisers' state at the start of a stage: of every forward layer, and of Q.

        Of nodes, also the forward weights of the presentation before.
        """
        forward, feedback = (OPTIMIZERS[name]() for name in self.optimizers)
        chain = part_of(weights, self.projection)
        states = tuple(forward.init(layer(chain, i)) for i in range(1, len(chain.W) + 1))
        return states, feedback.init(chain.Q), () if self.nodes is None else weights["W"]

    def available(self, weights: CircuitWeights, state: Any, moment: Moment) -> CircuitWeights:
        """The weights that a batch goes through: of a node whose turn it is not, those before."""
        if self.nodes is None:
            return weights
        pairs = zip(moment.moves, weights["W"], state[2], strict=True)
        return weights | {"W": tuple(jnp.where(on > 0, new, old) for on, new, old in pairs)}

    def step(
        self, weights: CircuitWeights, change: CircuitWeights, state: Any, factor: Float[Array, ""]
    ) -> tuple[CircuitWeights, Any]:
        """One quasi-static step of all weights at once, and the optimisers' new state."""
        moved, made = (part_of(of, self.projection) for of in (weights, change))
        states = []
        for i, layer_state in enumerate(state[0], start=1):
            moved, layer_state = self._move_layer(moved, i, layer(made, i), layer_state, factor)
            states.append(layer_state)
        moved, feedback_state = self._move_feedback(moved, made.Q, state[1], factor)
        return self.constrain(among(moved, weights)), (tuple(states), feedback_state, state[2])

    def _move_layer(
        self, weights: Weights, i: int, change: Layers, state: Any, factor: Float[Array, ""]
    ) -> tuple[Weights, Any]:
        """The weights with W_i and b_i moved by the optimiser's step for their change."""
        step, state = OPTIMIZERS[self.optimizers[0]]().update(change, state)
        rate = factor * self.rates[i - 1]
        W = replaced(weights.W, i, weights.W[i - 1] + rate * step[0])
        b = replaced(weights.b, i, weights.b[i - 1] + rate * step[1]) if weights.b else ()
        return weights._replace(W=W, b=b), state

    def _move_feedback(
        self, weights: Weights, change: Layers, state: Any, factor: Float[Array, ""]
    ) -> tuple[Weights, Any]:
        """The weights with Q moved by the optimiser's step for its change."""
        steps, state = OPTIMIZERS[self.optimizers[1]]().update(change, state)
        rates = zip(weights.Q, self.feedback_rates, steps, strict=True)
        return weights._replace(Q=tuple(q + factor * r * d for q, r, d in rates)), state

    def drawn(
        self, dynamics: CircuitDynamics, weights: CircuitWeights, key: PRNGKeyArray
    ) -> CircuitWeights:
        """The weights that a presentation begins with, random ones of the channel drawn anew.

        key: of the first phase of the presentation.
        """
        if self.redrawing is None:
            return weights
        return weights | {"Q": self.redrawing(chain_of(dynamics, weights), key)}

    def keys(self, key: PRNGKeyArray, ids: Int[Array, " batch"]) -> Key[Array, " batch"] | None:
        """Of every sample, for what its channel drops; None where it drops nothing."""
        if self.passage.dropout is None:
            return None
        key = jax.random.fold_in(key, 0xD509)
        return jax.vmap(lambda sample: jax.random.fold_in(key, sample))(ids)

    # --- one presentation -------------------------------------------------------------------

    def iterate(
        self,
        dynamics: CircuitDynamics,
        network: Network,
        weights: CircuitWeights,
        shown: Shown,
        state: Any,
        key: PRNGKeyArray,
        moment: Moment,
        plastic: tuple[str, ...],
        changed: Mapping[str, Any],
    ) -> Iteration:
        """One presentation. state: of the optimisers. plastic: what is open, of W and Q. changed:
        parameters that have other values in its phase.
        """
        parameters = self.parameters | dict(changed)
        x, labels, rest, ids = shown
        chain, layers = chain_of(dynamics, weights), dynamics.layers(network, rest)
        teaching = self.teaching(network, chain, labels, layers, self.keys(key, ids))
        readout = self.taught(network, chain, layers, teaching)
        signals = with_teaching(dynamics, rest, dict(enumerate(teaching)))
        change, moved, states = nothing(chain), chain, list(state[0])
        for i in range(1, network.depth + 1) if "W" in plastic else ():
            if self.credit.order == "bottom-up":
                signals = as_it_became(dynamics, network, moved, i, x, rest, readout.teacher)
            now = among(moved, weights) if self.credit.order == "bottom-up" else weights
            made = self._made(dynamics, network, now, x, signals, parameters, readout, i)
            made = tuple(moment.moves[i - 1] * d for d in made)
            change = with_layer(change, i, made)
            if self.credit.exact and i > 1:
                moved = self._move_pair(moved, i, made, moment.factor)
            else:
                given = made, states[i - 1], moment.factor
                moved, states[i - 1] = self._move_layer(moved, i, *given)
        drift = jnp.full((), jnp.nan, x.dtype)
        if self.credit.exact:
            moved, drift = refreshed_layers(
                moved, moment.presentation % DRIFT_EVERY == 0, self.refresh
            )
        feedback_state = state[1]
        if "Q" in plastic and (self.feedback.probe is not None or self.feedback.solved):
            asked_of = network, moved, readout, key, moment.turn, (x, labels)
            feedback = self._feedback(*asked_of, chain)
            change = change._replace(Q=feedback)
            given_feedback = feedback, feedback_state, moment.factor
            moved, feedback_state = self._move_feedback(moved, *given_feedback)
        return Iteration(
            self.constrain(among(moved, weights)),
            (tuple(states), feedback_state, () if self.nodes is None else weights["W"]),
            among(change, nothing(weights)),
            teaching,
            drift,
        )

    def _move_pair(
        self, weights: Weights, i: int, change: Layers, factor: Float[Array, ""]
    ) -> Weights:
        """W_i and its inverse Q_{i−1} moved together by a change of rank one."""
        rate = factor * self.rates[i - 1]
        u, v = factors(change[0])
        pair = Pair(weights.W[i - 1], weights.Q[i - 2])
        W, inverse = robust_update(pair, rate * u, v, self.threshold)
        b = replaced(weights.b, i, weights.b[i - 1] + rate * change[1]) if weights.b else ()
        return Weights(replaced(weights.W, i, W), b, replaced(weights.Q, i - 1, inverse))
