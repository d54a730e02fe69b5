"""All plasticity of a model under a protocol: which rules, at which rates, in which order."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray, Scalar

from neurosim.credit import Credit
from neurosim.dynamics.base import Layered, Readout
from neurosim.network import Layers, Network, Weights, tie
from neurosim.plasticity.rules import bias
from neurosim.plasticity.signals import forward_signals
from neurosim.simulator import Phase

Earlier = tuple[tuple[Phase, Any], ...]
"""The phases of a presentation so far, with what the state at their end means."""

OPTIMIZERS: dict[str, Callable[[], optax.GradientTransformation]] = {
    "sgd": optax.identity,
    "momentum": lambda: optax.trace(0.9),
    "rmsprop": optax.scale_by_rms,
    "adam": optax.scale_by_adam,
}

SCHEDULES: dict[str, Callable[[Array, Scalar | float], Array]] = {
    "constant": lambda progress, final: jnp.ones_like(progress),
    "linear": lambda progress, final: 1 - (1 - final) * progress,
    "exponential": lambda progress, final: final**progress,
}
"""progress through the stage (0 … 1) → factor on all rates."""


ORDERS = ("together", "random", "output", "bottom-up")
"""Which forward weights move in a presentation: all, one random layer, the output's, or all one
after the other from the bottom, each on what the layers below have become."""


class Moment(NamedTuple):
    """Where in a stage a presentation stands: the factor on all rates, and whose turn it is.

    turn: of each feedback matrix, 1 where it may learn and 0 where it has to wait. moves: the same
    of each forward matrix. presentation: its number, from 0.
    """

    factor: Float[Array, ""]
    turn: Float[Array, " Q"]
    moves: Float[Array, " L"]
    presentation: Int[Array, ""]


def random_layer(key: PRNGKeyArray, depth: int) -> Int[Array, ""]:
    """The layer, 1 … L, that moves in a presentation with this key [T A.2]."""
    return jax.random.randint(jax.random.fold_in(key, 0x1A7E), (), 1, depth + 1)


class Learning(NamedTuple):
    """Rules and rates of a model in one stage.

    forward_rates, feedback_rates: one a layer, per presentation, or per second when online.
    probe: where apical synapses get their signals; None when they do not learn. tied: the
    initialiser that Q follows, or None. tau_memory: of the neurons' memory of the free phase (s).
    optimizers: of the forward and the feedback weights. top_down: feedback matrices take turns.
    order: of `ORDERS`. threshold, refresh: ε of the robust Sherman–Morrison update, and the drift
    past which an inverse is computed anew.
    """

    credit: Credit
    target_step: Scalar | float
    forward_rule: Callable
    forward_rates: tuple[Float[Array, ""], ...]
    depth_compensation: bool
    feedback_rule: Callable
    probe: Callable | None
    sees_data: bool
    feedback_rates: tuple[Float[Array, ""], ...]
    decay: Scalar | float
    noise: Scalar | float
    tied: str | None
    tau_memory: Scalar | float | None
    optimizers: tuple[str, str]
    schedule: str
    final: Scalar | float
    top_down: bool
    order: str
    threshold: Scalar | float
    refresh: Scalar | float

    def moment(
        self,
        progress: Float[Array, ""],
        key: PRNGKeyArray | None = None,
        presentation: Int[Array, ""] | int = 0,
    ) -> Moment:
        """The rates' factor and the turns at this progress (0 … 1) of the stage.

        key: of the presentation, which picks the random layer.
        """
        count = len(self.feedback_rates)
        turn = jnp.ones(count)
        if self.top_down:
            whose = count - 1 - jnp.floor(progress * count).astype(jnp.int32)
            turn = (jnp.arange(count) == whose).astype(turn.dtype)
        depth = len(self.forward_rates)
        moves = jnp.ones(depth)
        if self.order == "random":
            assert key is not None, "the random layer is drawn with a key"
            moves = (jnp.arange(1, depth + 1) == random_layer(key, depth)).astype(moves.dtype)
        elif self.order == "output":
            moves = moves.at[:-1].set(0)
        factor = SCHEDULES[self.schedule](progress, self.final)
        return Moment(factor, turn, moves, jnp.asarray(presentation))

    def change(
        self,
        dynamics: Layered,
        network: Network,
        weights: Weights,
        x: Float[Array, "batch n_0"],
        labels: Float[Array, "batch n_L"],
        readout: Readout,
        earlier: Earlier,
        key: PRNGKeyArray,
        moment: Moment,
        phase: Phase,
    ) -> Weights:
        """What the rules make of the signals of a phase, before rates."""
        change = nothing(weights)
        free = [left for passed, left in earlier if passed.teaching == "none"]
        if self.credit.own_channel:
            readout = self.taught(dynamics, network, weights, labels, readout)
        if "forward" in phase.plastic:
            given = x, labels, readout, free[-1] if free else None
            change = self.forward_change(dynamics, network, weights, *given)
        if "feedback" in phase.plastic:
            feedback = self.feedback_change(network, weights, readout, key, moment.turn)
            change = change._replace(Q=feedback.Q)
        return change

    def blank(self, network: Network, lead: tuple[int, ...], dtype: Any) -> Layers:
        """The memory of a batch that has seen nothing."""
        return tuple(jnp.zeros((*lead, n), dtype) for n in network.sizes[1:])

    def remember(self, phase: Phase, readout: Readout, memory: Layers) -> Layers:
        """How the memory of the free phase moves, per second."""
        shut = phase.teaching != "none" or self.tau_memory is None
        gate: Any = 0.0 if shut else 1 / self.tau_memory  # type: ignore[operator]
        return tuple(gate * (t - m) for t, m in zip(readout.teacher, memory, strict=True))

    def after(self, phase: Phase, readout: Readout, memory: Layers, dt: float) -> Layers:
        """The memory after dt in which the readout stays as it is."""
        if phase.teaching != "none" or self.tau_memory is None:
            return memory
        share = -jnp.expm1(-dt / self.tau_memory)
        return tuple(m + share * (t - m) for m, t in zip(memory, readout.teacher, strict=True))

    def recalled(self, phases: tuple[Phase, ...], readout: Readout, memory: Layers) -> tuple:
        """What earlier phases left, as far as it is remembered."""
        return (readout._replace(teacher=memory),) * len(phases)

    def forward_change(
        self,
        dynamics: Layered,
        network: Network,
        weights: Weights,
        x: Float[Array, "batch n_0"],
        labels: Float[Array, "batch n_L"],
        readout: Readout,
        free: Readout | None,
    ) -> Weights:
        """What the rules make of a phase's signals at the basal synapses, before rates."""
        teaching = self.teaching(dynamics, network, weights, labels, readout, free)
        signals = forward_signals(x, readout, teaching)
        rule = self.forward_rule
        return nothing(weights)._replace(
            W=tuple(rule(s, w) for s, w in zip(signals, weights.W, strict=True)),
            b=tuple(bias(rule, s, b) for s, b in zip(signals, weights.b, strict=False)),
        )

    def teaching(
        self,
        dynamics: Layered,
        network: Network,
        weights: Weights,
        labels: Float[Array, "batch n_L"],
        readout: Readout,
        free: Readout | None,
    ) -> Layers:
        """The teaching signals of the batch, scaled up by depth where the model says so."""
        axes = (0, None if free is None else 0, 0)
        assign = self.credit.assign
        teaching = jax.vmap(
            lambda now, then, y: assign(network, weights, now, then, y, self.target_step), axes
        )(readout, free, labels)
        if not self.depth_compensation:
            return teaching
        return tuple(t / dynamics.attenuation(network, i) for i, t in enumerate(teaching, start=1))

    def taught(
        self,
        dynamics: Layered,
        network: Network,
        weights: Weights,
        labels: Float[Array, "batch n_L"],
        readout: Readout,
    ) -> Readout:
        """The readout of a network whose credit has a channel of its own, with what it brings.

        The teacher becomes the target h_i + teaching_i, and the apical rates what g_i makes of the
        layer above.
        """
        teaching = self.teaching(dynamics, network, weights, labels, readout, None)
        teacher = tuple(h + t for h, t in zip(readout.rate, teaching, strict=True))
        if self.credit.form is None:
            return readout._replace(teacher=teacher)
        heard = range(1, len(weights.Q) + 1)
        potential = tuple(
            jax.vmap(network.apical, (None, None, 0))(weights, i, readout.rate[i]) for i in heard
        )
        apical = tuple(network.decode(i, v) for i, v in zip(heard, potential, strict=True))
        return readout._replace(teacher=teacher, apical=apical, apical_potential=potential)

    def feedback_change(
        self,
        network: Network,
        weights: Weights,
        readout: Readout,
        key: PRNGKeyArray,
        turn: Float[Array, " Q"],
        data: tuple[Array, Array] | None = None,
    ) -> Weights:
        """What the rules make of a phase's signals at the apical synapses, before rates.

        data: inputs and labels of the batch, for a probe that sees them.
        """
        if self.probe is None:
            return nothing(weights)
        more = (data,) if self.sees_data else ()
        signals = self.probe(network, weights, readout, self.noise, key, *more)
        return nothing(weights)._replace(
            Q=tuple(
                t * self.feedback_rule(s, q, self.decay)
                for s, q, t in zip(signals, weights.Q, turn, strict=True)
            )
        )

    def rated(self, change: Weights, factor: Float[Array, ""]) -> Weights:
        """A change times its rates and `factor`."""
        return Weights(
            tuple(factor * r * d for r, d in zip(self.forward_rates, change.W, strict=True)),
            tuple(factor * r * d for r, d in zip(self.forward_rates, change.b, strict=False)),
            tuple(factor * r * d for r, d in zip(self.feedback_rates, change.Q, strict=True)),
        )

    def constrain(self, weights: Weights) -> Weights:
        """The weights with Q following W, where it is tied to it."""
        return tie(weights, self.tied) if self.tied else weights

    def begin(self, weights: Weights) -> Any:
        """The optimisers' state at the start of a stage: of every forward layer, and of Q."""
        forward, feedback = (OPTIMIZERS[name]() for name in self.optimizers)
        layers = range(1, len(weights.W) + 1)
        return tuple(forward.init(layer_of(weights, i)) for i in layers), feedback.init(weights.Q)

    def step(
        self, weights: Weights, change: Weights, state: Any, factor: Float[Array, ""]
    ) -> tuple[Weights, Any]:
        """One quasi-static step of the weights, and the optimisers' new state."""
        moved, states = weights, []
        for i, layer_state in enumerate(state[0], start=1):
            moved, layer_state = self.move_layer(moved, i, layer_of(change, i), layer_state, factor)
            states.append(layer_state)
        moved, feedback_state = self.move_feedback(moved, change.Q, state[1], factor)
        return self.constrain(moved), (tuple(states), feedback_state)

    def move_layer(
        self, weights: Weights, i: int, change: Layers, state: Any, factor: Float[Array, ""]
    ) -> tuple[Weights, Any]:
        """The weights with W_i and b_i moved by the optimiser's step for their change."""
        step, state = OPTIMIZERS[self.optimizers[0]]().update(change, state)
        rate = factor * self.forward_rates[i - 1]
        W = replaced(weights.W, i, weights.W[i - 1] + rate * step[0])
        b = replaced(weights.b, i, weights.b[i - 1] + rate * step[1]) if weights.b else ()
        return weights._replace(W=W, b=b), state

    def move_feedback(
        self, weights: Weights, change: Layers, state: Any, factor: Float[Array, ""]
    ) -> tuple[Weights, Any]:
        """The weights with Q moved by the optimiser's step for its change."""
        steps, state = OPTIMIZERS[self.optimizers[1]]().update(change, state)
        rates = zip(weights.Q, self.feedback_rates, steps, strict=True)
        return weights._replace(Q=tuple(q + factor * r * d for q, r, d in rates)), state


def layer_of(weights: Weights, i: int) -> Layers:
    """W_i, and b_i where there is one."""
    return (weights.W[i - 1], *weights.b[i - 1 : i])


def replaced(layers: Layers, i: int, value: Array) -> Layers:
    """The layers with number i (from 1) replaced."""
    return (*layers[: i - 1], value, *layers[i:])


def nothing(weights: Any) -> Any:
    """No change."""
    return jax.tree.map(jnp.zeros_like, weights)
