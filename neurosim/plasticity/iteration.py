"""One presentation of a credit that has a channel of its own, as the algorithms A.4 – A.17 of T.

The forward weights move in their order, then the feedback weights learn under the forward weights
as they have become, from the activity and the targets as they were.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray, Scalar

from neurosim.dynamics.base import Layered, Readout
from neurosim.network import Layers, Network, Weights
from neurosim.plasticity.learning import Learning, Moment, nothing, replaced
from neurosim.plasticity.rank_one import Pair, factors, refreshed, robust_update
from neurosim.plasticity.rules import bias
from neurosim.plasticity.signals import Forward, forward_signals

DRIFT_EVERY = 32
"""Presentations between two looks at how far kept inverses have drifted: a look costs n³."""


class Shown(NamedTuple):
    """A batch, batch first, and the rest of the network under it."""

    x: Float[Array, "batch n_0"]
    labels: Float[Array, "batch n_L"]
    readout: Readout


class Iteration(NamedTuple):
    """What one presentation did: the weights, the optimisers' state, the change before rates.

    teaching: the signals of the batch. drift: of kept inverses, the largest over layers; NaN where
    there are none or nobody looked.
    """

    weights: Weights
    optimizer: Any
    change: Weights
    teaching: Layers
    drift: Float[Array, ""]


def iterate(
    learning: Learning,
    dynamics: Layered,
    network: Network,
    weights: Weights,
    shown: Shown,
    state: Any,
    key: PRNGKeyArray,
    moment: Moment,
    plastic: tuple[str, ...],
) -> Iteration:
    """One presentation. state: of the optimisers. plastic: what is open: forward, feedback."""
    forward, feedback = "forward" in plastic, "feedback" in plastic
    x, labels, rest = shown
    teaching = learning.teaching(dynamics, network, weights, labels, rest, None)
    readout = learning.taught(dynamics, network, weights, labels, rest)
    signals = forward_signals(x, readout, teaching) if forward else ()
    change, moved, states = nothing(weights), weights, list(state[0])
    for i, signal in enumerate(signals, start=1):
        if learning.order == "bottom-up":
            signal = _as_it_became(network, moved, i, x, readout)
        made = _made(learning, signal, weights, i, moment)
        change = _with_layer(change, i, made)
        if learning.credit.exact and i > 1:
            moved = _move_pair(learning, moved, i, made, moment.factor)
        else:
            moved, states[i - 1] = learning.move_layer(moved, i, made, states[i - 1], moment.factor)
    drift = jnp.full((), jnp.nan, x.dtype)
    if learning.credit.exact:
        moved, drift = _refresh(moved, moment.presentation % DRIFT_EVERY == 0, learning.refresh)
    feedback_state = state[1]
    if feedback and learning.probe is not None:
        data = (x, labels)
        made = learning.feedback_change(network, moved, readout, key, moment.turn, data).Q
        change = change._replace(Q=made)
        moved, feedback_state = learning.move_feedback(moved, made, feedback_state, moment.factor)
    optimizer = (tuple(states), feedback_state)
    return Iteration(learning.constrain(moved), optimizer, change, teaching, drift)


def _made(learning: Learning, signal: Forward, weights: Weights, i: int, moment: Moment) -> Layers:
    """What the forward rule makes of the signals of layer i, where it may move."""
    rule, turn = learning.forward_rule, moment.moves[i - 1]
    made = turn * rule(signal, weights.W[i - 1])
    return (made, turn * bias(rule, signal, weights.b[i - 1])) if weights.b else (made,)


def _as_it_became(
    network: Network, weights: Weights, i: int, x: Float[Array, "batch n_0"], readout: Readout
) -> Forward:
    """The signals of layer i towards its old target, on what the moved layers below send now."""

    def one(x: Float[Array, " n_0"], target: Float[Array, " n_i"]) -> Forward:
        below = x
        for k in range(1, i):
            below = network.f(weights, k, below)
        a = network.potential(weights, i, below)
        h = network.s(i, a)
        return Forward(below, h, network.slope(i, a), target - h)

    return jax.vmap(one)(x, readout.teacher[i - 1])


def _move_pair(
    learning: Learning, weights: Weights, i: int, change: Layers, factor: Float[Array, ""]
) -> Weights:
    """W_i and its inverse Q_{i−1} moved together by a change of rank one."""
    rate = factor * learning.forward_rates[i - 1]
    u, v = factors(change[0])
    pair = Pair(weights.W[i - 1], weights.Q[i - 2])
    W, inverse = robust_update(pair, rate * u, v, learning.threshold)
    b = replaced(weights.b, i, weights.b[i - 1] + rate * change[1]) if weights.b else ()
    return Weights(replaced(weights.W, i, W), b, replaced(weights.Q, i - 1, inverse))


def _refresh(
    weights: Weights, look: Bool[Array, ""], limit: Scalar | float
) -> tuple[Weights, Float[Array, ""]]:
    """The weights with inverses that drifted too far computed anew; the largest drift."""
    Q, drifts = [], []
    for W, inverse in zip(weights.W[1:], weights.Q, strict=True):
        pair, drift = refreshed(Pair(W, inverse), look, limit)
        Q.append(pair.inverse)
        drifts.append(drift)
    return weights._replace(Q=tuple(Q)), jnp.max(jnp.stack(drifts))


def _with_layer(weights: Weights, i: int, layer: Layers) -> Weights:
    b = replaced(weights.b, i, layer[1]) if weights.b else ()
    return weights._replace(W=replaced(weights.W, i, layer[0]), b=b)
