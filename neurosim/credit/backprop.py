"""Backprop: the error channel every biological rule is compared with."""

from jaxtyping import Array, Float, Scalar

from neurosim.networks.dynamics import Readout
from neurosim.networks.network import Layers, Network, Weights


def backprop(
    network: Network,
    weights: Weights,
    now: Readout,
    label: Float[Array, " n"],
    step: Scalar | float = 1.0,
) -> Layers:
    """−∂ℓ/∂h_i for every layer: −e_L at the top, W_{i+1}^T D_{i+1} (·) below [T 5.61]."""
    teaching = [-network.loss.error(now.rate[-1], label)]
    for i in range(network.depth - 1, 0, -1):
        teaching.append(weights.W[i].T @ (now.slope[i] * teaching[-1]))
    return tuple(reversed(teaching))
