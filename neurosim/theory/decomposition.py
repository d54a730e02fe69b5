"""What the teaching signal of a network is made of [T 5.38–5.41, 5.57–5.61, 6.20–6.22, 6.53–6.57].

Pure functions of one sample at a fixed point; signals are tuples over the layers 1 … L. `rates` are
h_1 … h_L, `step` is η̂. With attenuations α_i ((μ/(1−μ))^{L+1−i} in the mixture, 1 where nothing
mixes) the displacement δ_i of a neuron from what its basal dendrite predicts obeys

    δ_i = r_i (g_i(f_{i+1}(h_i) + δ_{i+1}) − h_i),   r_i = α_i/α_{i+1},   δ_L = −η̂ α_L e_L,

in target propagation, in the mixture and when multiplexed alike. To first order,

    δ_i = r_i (ρ_i + J_{g_i} δ_{i+1}) + …,   ρ_i = g_i(f_{i+1}(h_i)) − h_i,

is the useful signal e^TP plus reconstruction errors e^rec; what is left is e^approx.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from neurosim.functions.inverses import pseudo_inverse
from neurosim.networks.circuit import CircuitDynamics
from neurosim.networks.dynamics import Readout
from neurosim.networks.network import Layers, Network, Weights

Attenuation = Sequence[Any] | None
"""α_1 … α_L; None where all are 1."""


def decomposition(
    network: Network,
    weights: Weights,
    rates: Layers,
    label: Float[Array, " n_L"],
    step: Any,
    attenuation: Attenuation = None,
    direct: Layers = (),
) -> dict[str, Layers]:
    """The signals a layer should or could get, by name.

    `tp` useful signal through the Jacobians of g [T 5.57, 6.22]; `rec` reconstruction errors
    [T 5.58, 6.22]; `gn` Gauss–Newton direction by factorised pseudo-inverses [T 5.60]; `bp`
    backprop's [T 5.61]. All carry the factor η̂ α_i but `rec`. The teaching minus `tp` is the
    approximation error in one pass [T 5.59]. direct: what the uppermost layers are taught without
    a map g, the output's last; none: −η̂ e_L for the output alone.
    """
    direct = direct or (-step * network.loss.error(rates[-1], label),)
    return {
        "tp": target_signal(network, weights, rates, direct, attenuation),
        "rec": reconstruction_error(network, weights, rates, len(direct), attenuation),
        **gradient_signals(network, weights, rates, label, step, attenuation),
    }


def attribution(
    dynamics: CircuitDynamics,
    network: Network,
    weights: Weights,
    now: Readout,
    free: Readout | None,
    label: Float[Array, " n_L"],
    step: Any,
    direct: Layers = (),
) -> dict[str, Layers]:
    """`decomposition` of what the neurons of a taught phase are taught.

    weights: of the chain of layers. now: of that phase, at its fixed point. free: of the free
    phase, where the signal is the difference of the two: reconstruction errors are then those of
    both, subtracted, and the output error is that of the free phase.
    """
    attenuation = [dynamics.attenuation(network, i) for i in range(1, network.depth + 1)]
    before = now if free is None else free
    parts = decomposition(network, weights, before.rate, label, step, attenuation, direct)
    if free is not None:
        present = reconstruction_error(network, weights, now.rate, 1, attenuation)
        parts["rec"] = tuple(a - b for a, b in zip(present, parts["rec"], strict=True))
    return parts


def gradient_signals(
    network: Network,
    weights: Weights,
    rates: Layers,
    label: Float[Array, " n_L"],
    step: Any,
    attenuation: Attenuation = None,
) -> dict[str, Layers]:
    """`gn` and `bp` alone, which need no feedback weights."""
    given = (network, weights, rates, label, step, attenuation)
    return {"gn": gauss_newton_signal(*given), "bp": backprop_signal(*given)}


def target_signal(
    network: Network,
    weights: Weights,
    rates: Layers,
    direct: Layers,
    attenuation: Attenuation = None,
) -> Layers:
    """e_i^TP = α_i J_{g_i} … J_{g_{L−1}} (−η̂ e_L), from the `direct` signals [T 5.57, 6.22]."""
    return _down(
        network.depth,
        direct,
        lambda i, v: _through_g(network, weights, rates, i, v)[1],
        attenuation,
    )


def reconstruction_error(
    network: Network,
    weights: Weights,
    rates: Layers,
    top: int = 1,
    attenuation: Attenuation = None,
) -> Layers:
    """e_i^rec = r_i (g_i(f_{i+1}(h_i)) − h_i + J_{g_i} e_{i+1}^rec), 0 in the `top` uppermost
    layers, to which no g leads [T 5.58, 6.22].
    """

    def from_above(i: int, v: Array) -> Array:
        back, handed_down = _through_g(network, weights, rates, i, v)
        own = back - rates[i - 1]
        return (own if attenuation is None else own / attenuation[i]) + handed_down

    nothing = tuple(jnp.zeros_like(h) for h in rates[-top:])
    return _down(network.depth, nothing, from_above, attenuation)


def gauss_newton_signal(
    network: Network,
    weights: Weights,
    rates: Layers,
    label: Float[Array, " n_L"],
    step: Any,
    attenuation: Attenuation = None,
) -> Layers:
    """e_i^GN = −η̂ α_i W_{i+1}^† D_{i+1}⁻¹ … W_L^† D_L⁻¹ e_L [T 5.60].

    With exact inverses it is the error law of the mixture [T 6.16].
    """
    return _down(
        network.depth,
        (-step * network.loss.error(rates[-1], label),),
        lambda i, v: pseudo_inverse(weights.W[i]) @ (v / _slope(network, weights, rates, i + 1)),
        attenuation,
    )


def backprop_signal(
    network: Network,
    weights: Weights,
    rates: Layers,
    label: Float[Array, " n_L"],
    step: Any,
    attenuation: Attenuation = None,
) -> Layers:
    """e_i^BP = −η̂ α_i W_{i+1}^T D_{i+1} … W_L^T D_L e_L [T 5.61]."""
    return _down(
        network.depth,
        (-step * network.loss.error(rates[-1], label),),
        lambda i, v: weights.W[i].T @ (_slope(network, weights, rates, i + 1) * v),
        attenuation,
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


def _through_g(
    network: Network, weights: Weights, rates: Layers, i: int, v: Array
) -> tuple[Array, Array]:
    """g_i and J_{g_i} v, at f_{i+1}(h_i): what layer i sends up, which in a pass is h_{i+1}."""
    sent = network.f(weights, i + 1, rates[i - 1])
    return jax.jvp(lambda above: network.g(weights, i, above), (sent,), (v,))


def _down(
    depth: int,
    top: Layers,
    from_above: Callable[[int, Array], Array],
    attenuation: Attenuation,
) -> Layers:
    """A signal of every layer from those of the `top` layers and maps of layer i+1's to layer i's.

    All times α_i.
    """
    signals = list(reversed(top))
    for i in range(depth - len(top), 0, -1):
        signals.append(from_above(i, signals[-1]))
    signals.reverse()
    if attenuation is None:
        return tuple(signals)
    return tuple(a * signal for a, signal in zip(attenuation, signals, strict=True))
