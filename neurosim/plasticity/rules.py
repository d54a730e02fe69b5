"""Plasticity rules: what local signals make of a synapse. A rule returns the mean over the batch.

A user's own rule is any object called like these.
"""

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Float, Scalar

from neurosim.plasticity.signals import Feedback, Forward


def delta(signal: Forward, W: Float[Array, "post pre"]) -> Float[Array, "post pre"]:
    """ΔW_i = (s_i'(a_i) ⊙ teaching_i) h_{i−1}^T [T 4.12, 6.17, 6.35, 6.58]."""
    return (signal.slope * signal.teaching).T @ signal.pre / signal.pre.shape[0]


def delta_over_slope(signal: Forward, W: Float[Array, "post pre"]) -> Float[Array, "post pre"]:
    """ΔW_i = (teaching_i / s_i'(a_i)) h_{i−1}^T, modified target propagation [T A.1, A.6]."""
    return (signal.teaching / signal.slope).T @ signal.pre / signal.pre.shape[0]


def apical_delta(
    signal: Feedback, Q: Float[Array, "post pre"], decay: Scalar | float
) -> Float[Array, "post pre"]:
    """ΔQ_i = (t_i' ⊙ (actual − predicted)) pre^T − λ Q_i [T 6.26, A.8, A.9]."""
    error = signal.slope * (signal.actual - signal.predicted)
    return error.T @ signal.pre / signal.pre.shape[0] - decay * Q


def bias(
    rule: Callable[[Forward, Array], Array], signal: Forward, b: Float[Array, " post"]
) -> Float[Array, " post"]:
    """A bias is a synapse from a neuron that always sends 1."""
    ones = jnp.ones((signal.pre.shape[0], 1), signal.pre.dtype)
    return rule(signal._replace(pre=ones), b[:, None])[:, 0]
