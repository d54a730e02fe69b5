"""Local goals: what every node of a chain wants its linear response to become.

Kostadinov, Razeghi & Voloshynovskiy 2019 [K]. A node is a hidden layer l with weights A_l = W_l,
response q_l = A_l u_{l−1} and sparse representation u_l = soft(q_l, λ₁) [K 4]. With g_l what it
should be [K 12] and e_l = u_l − g_l by how much it is not [K 8],

    ν_l = e_l + λ_f B_l e_{l+1} + λ_b A_l e_{l−1}                                         [K 10, 15]
    y_l = soft(q_l − ν_l, λ₁)                                                                 [K 5]

and weights fit q_l to y_l − κ ν_l, where κ is 1 in K 17. All arrays carry the batch first, as a
goal is one of a batch. The output layer is no node: it reads the last one.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Scalar

from neurosim.functions.activations import SoftThreshold, soft_threshold
from neurosim.functions.local_goals import alternated, exclusive
from neurosim.networks.dynamics import Readout
from neurosim.networks.network import Layers, Network, Weights

SWEEPS = 5
"""Over classes, where the discrimination is a penalty."""


class Goals(eqx.Module):
    """Where goals are, and what becomes of how far they are missed.

    at: the layers with a goal. own: whether the others want what they say, u, and miss nothing, or
    else want nothing, 0 [K, footnote 2]. from_above, from_below: λ_f and λ_b. correction: κ.
    discrimination: λ₀ of the penalty, None where it is a constraint.
    """

    at: tuple[int, ...] = eqx.field(static=True)
    own: bool = eqx.field(static=True)
    from_above: Scalar | float
    from_below: Scalar | float
    correction: Scalar | float
    discrimination: Scalar | float | None


class Missed(NamedTuple):
    """Of the nodes 1 … L−1: e_l, ν_l and y_l − q_l, each (batch, n_l)."""

    error: Layers
    correction: Layers
    deviation: Layers


def missed(
    network: Network,
    weights: Weights,
    now: Readout,
    labels: Float[Array, "batch n_L"],
    goals: Goals,
) -> Missed:
    """What the nodes miss; now: of a batch. labels: one-hot."""
    nodes = range(1, network.depth)
    thresholds = {i: _threshold(network, i) for i in nodes}
    errors = {i: _error(i, thresholds[i], now, labels, goals) for i in nodes}
    corrections, deviations = [], []
    for i in nodes:
        nu, q = errors[i], now.potential[i - 1]
        if i + 1 in errors:
            nu = nu + goals.from_above * (errors[i + 1] @ weights.Q[i - 1].T)
        if i - 1 in errors:
            nu = nu + goals.from_below * (errors[i - 1] @ weights.W[i - 1].T)
        corrections.append(nu)
        deviations.append(soft_threshold(q - nu, thresholds[i]) - q)
    return Missed(tuple(errors.values()), tuple(corrections), tuple(deviations))


def _threshold(network: Network, i: int) -> Scalar | float:
    """λ₁ of node i."""
    s = network.activations[i - 1]
    assert isinstance(s, SoftThreshold), "checked at load"
    return s.threshold


def _error(
    i: int,
    threshold: Scalar | float,
    now: Readout,
    labels: Float[Array, "batch n_L"],
    goals: Goals,
) -> Float[Array, "batch n_i"]:
    """e_i."""
    q, u = now.potential[i - 1], now.rate[i - 1]
    if i not in goals.at:
        return jnp.zeros_like(u) if goals.own else u
    if goals.discrimination is None:
        return u - exclusive(q, labels, threshold)
    return u - alternated(q, labels, threshold, goals.discrimination, SWEEPS)


def local_goals(
    network: Network,
    weights: Weights,
    now: Readout,
    labels: Float[Array, "batch n_L"],
    step: Scalar | float,
    goals: Goals,
) -> Layers:
    """What weights should add to the response of every node, y_l − κ ν_l − q_l; the output follows
    its gradient."""
    found = missed(network, weights, now, labels, goals)
    pairs = zip(found.deviation, found.correction, strict=True)
    nodes = tuple(deviation - goals.correction * nu for deviation, nu in pairs)
    return (*nodes, -jax.vmap(network.loss.error)(now.rate[-1], labels))
