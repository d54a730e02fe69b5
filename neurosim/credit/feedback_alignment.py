"""Feedback alignment: backprop's errors through weights that are not the transposes."""

from jaxtyping import Array, Float, Scalar

from neurosim.networks.dynamics import Readout
from neurosim.networks.network import Layers, Network, Weights


def feedback_alignment(
    network: Network,
    weights: Weights,
    now: Readout,
    label: Float[Array, " n_L"],
    step: Scalar | float = 1.0,
) -> Layers:
    """−e_L at the top, Q_i D_{i+1} (·) below [T 3.18]; Q_i = W_{i+1}^T would make it backprop."""
    teaching = [-network.loss.error(now.rate[-1], label)]
    for i in range(network.depth - 1, 0, -1):
        teaching.append(weights.Q[i - 1] @ (now.slope[i] * teaching[-1]))
    return tuple(reversed(teaching))


def bidirectional_feedback_alignment(
    network: Network,
    weights: Weights,
    now: Readout,
    label: Float[Array, " n_L"],
    step: Scalar | float = 1.0,
) -> Layers:
    """The same errors [T 3.23], where the feedback weights begin with Q_0, of the input."""
    weights = weights._replace(Q=weights.Q[1:])
    return feedback_alignment(network, weights, now, label, step)


def direct_feedback_alignment(
    network: Network,
    weights: Weights,
    now: Readout,
    label: Float[Array, " n_L"],
    step: Scalar | float = 1.0,
) -> Layers:
    """Q_i D_L (−e_L), straight from the output, with Q_i of shape (n_i, n_L) [T 3.21]."""
    error = -network.loss.error(now.rate[-1], label)
    sent = now.slope[-1] * error
    return (*(q @ sent for q in weights.Q), error)
