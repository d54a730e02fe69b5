"""All plasticity of a model under a protocol: which rules, at which rates, in which order."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from neurosim.credit import Credit
from neurosim.dynamics.base import Dynamics, Readout
from neurosim.network import Layers, Network, Weights, tie
from neurosim.plasticity.rules import bias
from neurosim.plasticity.signals import forward_signals

OPTIMIZERS: dict[str, Callable[[], optax.GradientTransformation]] = {
    "sgd": optax.identity,
    "momentum": lambda: optax.trace(0.9),
    "rmsprop": optax.scale_by_rms,
    "adam": optax.scale_by_adam,
}

SCHEDULES: dict[str, Callable[[Array, float], Array]] = {
    "constant": lambda progress, final: jnp.ones_like(progress),
    "linear": lambda progress, final: 1 - (1 - final) * progress,
    "exponential": lambda progress, final: final**progress,
}
"""progress through the stage (0 … 1) → factor on all rates."""


class Moment(NamedTuple):
    """Where in a stage a presentation stands: the factor on all rates, and whose turn it is.

    turn: of each feedback matrix, 1 where it may learn and 0 where it has to wait.
    """

    factor: Float[Array, ""]
    turn: Float[Array, " L-1"]


class Learning(NamedTuple):
    """Rules and rates of a model in one stage.

    forward_rates, feedback_rates: one a layer, per presentation, or per second when online.
    probe: where apical synapses get their signals; None when they do not learn. tied: the
    initialiser that Q follows, or None. tau_memory: of the neurons' memory of the free phase (s).
    optimizers: of the forward and the feedback weights. top_down: feedback matrices take turns.
    """

    credit: Credit
    forward_rule: Callable
    forward_rates: tuple[float, ...]
    depth_compensation: bool
    feedback_rule: Callable
    probe: Callable | None
    feedback_rates: tuple[float, ...]
    decay: float
    noise: float
    tied: str | None
    tau_memory: float
    optimizers: tuple[str, str]
    schedule: str
    final: float
    top_down: bool

    def moment(self, progress: Float[Array, ""]) -> Moment:
        """The rates' factor and the turns at this progress (0 … 1) of the stage."""
        count = len(self.feedback_rates)
        turn = jnp.ones(count)
        if self.top_down:
            whose = count - 1 - jnp.floor(progress * count).astype(jnp.int32)
            turn = (jnp.arange(count) == whose).astype(turn.dtype)
        return Moment(SCHEDULES[self.schedule](progress, self.final), turn)

    def forward_change(
        self,
        dynamics: Dynamics,
        network: Network,
        weights: Weights,
        x: Float[Array, "batch n_0"],
        labels: Float[Array, "batch n_L"],
        readout: Readout,
        free: Readout | None,
    ) -> Weights:
        """What the rules make of a phase's signals at the basal synapses, before rates."""
        teaching = self._teaching(dynamics, network, weights, labels, readout, free)
        signals = forward_signals(x, readout, teaching)
        rule = self.forward_rule
        return nothing(weights)._replace(
            W=tuple(rule(s, w) for s, w in zip(signals, weights.W, strict=True)),
            b=tuple(bias(rule, s, b) for s, b in zip(signals, weights.b, strict=False)),
        )

    def _teaching(self, dynamics, network, weights, labels, readout, free) -> Layers:
        """The teaching signals of the batch, scaled up by depth where the model says so."""
        axes = (0, None if free is None else 0, 0)
        assign = self.credit.assign
        teaching = jax.vmap(lambda now, then, y: assign(network, weights, now, then, y), axes)(
            readout, free, labels
        )
        if not self.depth_compensation:
            return teaching
        return tuple(t / dynamics.attenuation(network, i) for i, t in enumerate(teaching, start=1))

    def feedback_change(
        self,
        network: Network,
        weights: Weights,
        readout: Readout,
        key: PRNGKeyArray,
        turn: Float[Array, " L-1"],
    ) -> Weights:
        """What the rules make of a phase's signals at the apical synapses, before rates."""
        if self.probe is None:
            return nothing(weights)
        signals = self.probe(network, weights, readout, self.noise, key)
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
        """The optimisers' state at the start of a stage."""
        forward, feedback = (OPTIMIZERS[name]() for name in self.optimizers)
        return forward.init((weights.W, weights.b)), feedback.init(weights.Q)

    def step(
        self, weights: Weights, change: Weights, state: Any, factor: Float[Array, ""]
    ) -> tuple[Weights, Any]:
        """One quasi-static step of the weights, and the optimisers' new state."""
        forward, feedback = (OPTIMIZERS[name]() for name in self.optimizers)
        (W, b), forward_state = forward.update((change.W, change.b), state[0])
        Q, feedback_state = feedback.update(change.Q, state[1])
        moved = jax.tree.map(jnp.add, weights, self.rated(Weights(W, b, Q), factor))
        return self.constrain(moved), (forward_state, feedback_state)


def nothing(weights: Weights) -> Weights:
    """No change."""
    return jax.tree.map(jnp.zeros_like, weights)
