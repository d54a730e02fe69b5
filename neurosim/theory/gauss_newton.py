"""Gauss–Newton steps on the activations of hidden layers, and factorised pseudo-inverses.

All on arrays of numpy or JAX; leading axes are trials.
"""

from collections.abc import Sequence
from functools import reduce
from types import ModuleType

import numpy as np
from jaxtyping import Float


def jacobians_to_the_output(
    jacobians: Sequence[Float[np.ndarray, "*trials _ _"]],
) -> list[np.ndarray]:
    """J_i = ∂h_L/∂h_i of the layers 1 … L−1, from ∂h_k/∂h_{k−1} of the layers 2 … L [T 5.35]."""
    found = [jacobians[-1]]
    for jacobian in reversed(jacobians[:-1]):
        found.append(found[-1] @ jacobian)
    return found[::-1]


def full_step(blocks: Sequence[np.ndarray] | np.ndarray, error: np.ndarray) -> np.ndarray:
    """−J^† e with J the blocks J_i side by side: all hidden layers at once [T 4.46].

    blocks: (*trials, outputs, n_i) each, with the samples of a batch one below the other. error:
    (*trials, outputs). Returns (*trials, Σ n_i).
    """
    return -_solve(np.concatenate(blocks, axis=-1), error)


def block_diagonal_step(blocks: Sequence[np.ndarray] | np.ndarray, error: np.ndarray) -> np.ndarray:
    """−J_i^† e layer by layer: the curvature without its blocks between layers [T 4.2, 4.3]."""
    return -np.concatenate([_solve(J, error) for J in blocks], axis=-1)


def _solve(J: np.ndarray, error: np.ndarray) -> np.ndarray:
    return (np.linalg.pinv(J) @ error[..., None])[..., 0]


def factorised_pseudo_inverse(
    weights: Sequence[np.ndarray], slopes: Sequence[np.ndarray], xp: ModuleType = np
) -> np.ndarray:
    """J_i^f = W_{i+1}^† D_{i+1}⁻¹ … W_L^† D_L⁻¹ [T 5.48]; weights, slopes of the layers i+1 … L.

    Equal to J_i^† if and only if n_L = … = n_{i+2} ≤ n_{i+1}, at full ranks [T 4.8].
    """
    factors = [xp.linalg.pinv(W) / s[..., None, :] for W, s in zip(weights, slopes, strict=True)]
    return reduce(xp.matmul, factors)
