"""What the teaching signal of target propagation is made of [T 5.38–5.41, 5.57–5.61].

Pure functions of one sample at the rest of a feed-forward network; signals are tuples over the
layers 1 … L. `rates` are h_1 … h_L, `step` is η̂.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from neurosim.network import Layers, Network, Weights


def decomposition(
    network: Network,
    weights: Weights,
    rates: Layers,
    label: Float[Array, " n_L"],
    step: float,
) -> dict[str, Layers]:
    """The signals a layer should or could get, by name.

    `tp` useful signal through the Jacobians of g [T 5.57]; `rec` reconstruction errors [T 5.58];
    `gn` Gauss–Newton direction by factorised pseudo-inverses [T 5.60]; `bp` backprop's [T 5.61].
    All carry the factor η̂ but `rec`. The teaching minus `tp` is the approximation error [T 5.59].
    """
    return {
        "tp": target_signal(network, weights, rates, label, step),
        "rec": reconstruction_error(network, weights, rates),
        **gradient_signals(network, weights, rates, label, step),
    }


def gradient_signals(
    network: Network, weights: Weights, rates: Layers, label: Float[Array, " n_L"], step: float
) -> dict[str, Layers]:
    """`gn` and `bp` alone, which need no feedback weights."""
    return {
        "gn": gauss_newton_signal(network, weights, rates, label, step),
        "bp": backprop_signal(network, weights, rates, label, step),
    }


def target_signal(
    network: Network, weights: Weights, rates: Layers, label: Float[Array, " n_L"], step: float
) -> Layers:
    """e_i^TP = −η̂ J_{g_i} … J_{g_{L−1}} e_L [T 5.57]."""
    return _down(
        network,
        -step * network.loss.error(rates[-1], label),
        lambda i, v: _through_g(network, weights, rates, i, v),
    )


def reconstruction_error(network: Network, weights: Weights, rates: Layers) -> Layers:
    """e_i^rec = g_i(h_{i+1}) − h_i + J_{g_i} e_{i+1}^rec, 0 at the top [T 5.58]."""

    def from_above(i, v):
        own = network.g(weights, i, rates[i]) - rates[i - 1]
        return own + _through_g(network, weights, rates, i, v)

    return _down(network, jnp.zeros_like(rates[-1]), from_above)


def gauss_newton_signal(
    network: Network, weights: Weights, rates: Layers, label: Float[Array, " n_L"], step: float
) -> Layers:
    """e_i^GN = −η̂ W_{i+1}^† D_{i+1}⁻¹ … W_L^† D_L⁻¹ e_L [T 5.60]."""
    return _down(
        network,
        -step * network.loss.error(rates[-1], label),
        lambda i, v: jnp.linalg.pinv(weights.W[i]) @ (v / _slope(network, weights, rates, i + 1)),
    )


def backprop_signal(
    network: Network, weights: Weights, rates: Layers, label: Float[Array, " n_L"], step: float
) -> Layers:
    """e_i^BP = −η̂ W_{i+1}^T D_{i+1} … W_L^T D_L e_L [T 5.61]."""
    return _down(
        network,
        -step * network.loss.error(rates[-1], label),
        lambda i, v: weights.W[i].T @ (_slope(network, weights, rates, i + 1) * v),
    )


def output_jacobian(
    network: Network, weights: Weights, rates: Layers, i: int
) -> Float[Array, "n_L n_i"]:
    """J_i = ∂h_L/∂h_i = D_L W_L … D_{i+1} W_{i+1} [T 5.35]."""
    J = jnp.eye(network.sizes[i], dtype=rates[0].dtype)
    for k in range(i + 1, network.depth + 1):
        J = _slope(network, weights, rates, k)[:, None] * (weights.W[k - 1] @ J)
    return J


def _slope(network: Network, weights: Weights, rates: Layers, k: int) -> Array:
    """The diagonal of D_k, k ≥ 2."""
    return network.slope(k, network.potential(weights, k, rates[k - 2]))


def _through_g(network: Network, weights: Weights, rates: Layers, i: int, v: Array) -> Array:
    """J_{g_i} v at h_{i+1}."""
    return jax.jvp(lambda above: network.g(weights, i, above), (rates[i],), (v,))[1]


def _down(network: Network, top: Array, from_above: Callable[[int, Array], Array]) -> Layers:
    """A signal of every layer from the top's and the map of layer i+1's to layer i's."""
    signals = [top]
    for i in range(network.depth - 1, 0, -1):
        signals.append(from_above(i, signals[-1]))
    return tuple(reversed(signals))
