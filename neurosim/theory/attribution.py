"""What a learning signal is made of: target propagation, reconstruction errors, higher orders.

With r_i = attenuation_i / attenuation_{i+1} (μ/(1−μ) in the mixture, 1 when multiplexed) the
displacement δ_i of a neuron from what its basal dendrite predicts obeys, at a fixed point,

    δ_i = r_i (g_i(f_{i+1}(h_i) + δ_{i+1}) − h_i),

whose expansion to first order is T 6.22 (mixture) and T 6.53, 6.57 (multiplexing):

    δ_i = r_i ρ_i + r_i J_{g_i} δ_{i+1} + …,   ρ_i = g_i(f_{i+1}(h_i)) − h_i.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Scalar

from neurosim.credit.backprop import backprop
from neurosim.dynamics.base import Dynamics, Readout
from neurosim.network import Layers, Network, Weights
from neurosim.theory.closed_forms import carried_down


class Attribution(NamedTuple):
    """The learning signal of every layer and its parts, all of the signal's own scale.

    signal: what the neurons have, = tp + reconstruction + approximation. tp: e^TP, the output error
    carried down by the Jacobians of the feedback [T 6.22, 6.57]. reconstruction: e^rec, the
    reconstruction errors of this layer and those handed down. approximation: e^approx, the rest:
    higher orders, and what the layers below send up. gauss_newton, backprop: what e^GN and e^BP of
    the same output error would be, scaled by η̂ attenuation_i [T 5.60, 5.61].
    """

    signal: Layers
    tp: Layers
    reconstruction: Layers
    approximation: Layers
    gauss_newton: Layers
    backprop: Layers


def attribute(
    dynamics: Dynamics,
    network: Network,
    weights: Weights,
    now: Readout,
    free: Readout | None,
    signal: Layers,
    step: Scalar | float,
    label: Float[Array, " n_L"],
) -> Attribution:
    """The parts of one sample's learning signal at the fixed point of a taught phase.

    now: of that phase. free: of the free phase, where the signal is the difference of the two;
    reconstruction errors are then those of both, subtracted. step: η̂. The output error is that of
    the free phase where there is one (a frozen target), of the taught phase otherwise.
    """
    depth = network.depth
    scale = [dynamics.attenuation(network, i) for i in range(1, depth + 1)]
    before = now if free is None else free
    error = -step * network.loss.error(before.rate[-1], label)
    tp = [scale[-1] * error]
    for i in range(depth - 1, 0, -1):
        ratio = scale[i - 1] / scale[i]
        tp.append(ratio * _feedback(network, weights, now, i, tp[-1])[1])
    tp.reverse()
    reconstruction = _reconstruction(network, weights, now, scale)
    if free is not None:
        past = _reconstruction(network, weights, free, scale)
        reconstruction = tuple(a - b for a, b in zip(reconstruction, past, strict=True))
    down = carried_down(network, weights, before, error)
    descent = backprop(network, weights, before, None, label)
    return Attribution(
        signal,
        tuple(tp),
        reconstruction,
        tuple(s - t - r for s, t, r in zip(signal, tp, reconstruction, strict=True)),
        tuple(a * d for a, d in zip(scale, down, strict=True)),
        tuple(step * a * d for a, d in zip(scale, descent, strict=True)),
    )


def _feedback(network: Network, weights: Weights, now: Readout, i: int, above):
    """g_i at f_{i+1}(h_i), and J_{g_i} there times `above`."""
    predicted = network.f(weights, i + 1, now.rate[i - 1])
    return jax.jvp(lambda h: network.g(weights, i, h), (predicted,), (above,))


def _reconstruction(network: Network, weights: Weights, now: Readout, scale) -> Layers:
    """e^rec: r_i (ρ_i + J_{g_i} e^rec_{i+1}), from the top [T 6.22, 6.53]."""
    errors = [jnp.zeros_like(now.rate[-1])]
    for i in range(network.depth - 1, 0, -1):
        back, handed_down = _feedback(network, weights, now, i, errors[-1])
        errors.append(scale[i - 1] / scale[i] * (back - now.rate[i - 1] + handed_down))
    return tuple(reversed(errors))


def angle(a: Float[Array, " n"], b: Float[Array, " n"]) -> Float[Array, ""]:
    """Between two vectors, in degrees, exact for small ones too; NaN where one of them is zero."""
    a, b = a / jnp.linalg.norm(a), b / jnp.linalg.norm(b)
    return jnp.degrees(2 * jnp.arctan2(jnp.linalg.norm(a - b), jnp.linalg.norm(a + b)))
