"""Inverses and factors of matrices in compiled programs, of a batch one after the other.

The kernels behind `jnp.linalg` share a batch out to the thread pool that they themselves run in,
and wait there; on a machine of few cores two of them can wait for each other for ever.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


@jax.custom_batching.sequential_vmap
def inverse(matrix: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """W⁻¹; not numbers where there is none."""
    return jnp.linalg.inv(matrix)


@jax.custom_batching.sequential_vmap
def pseudo_inverse(matrix: Float[Array, "n m"]) -> Float[Array, "m n"]:
    """W^†."""
    return jnp.linalg.pinv(matrix)


@jax.custom_batching.sequential_vmap
def singular(
    matrix: Float[Array, "n m"],
) -> tuple[Float[Array, "n k"], Float[Array, " k"], Float[Array, "k m"]]:
    """P, σ and R^T of W = P diag(σ) R^T; k is the smaller of n and m."""
    return tuple(jnp.linalg.svd(matrix, full_matrices=False))


@jax.custom_batching.sequential_vmap
def eigen(
    matrix: Float[Array, "n n"],
) -> tuple[Float[Array, " n"], Float[Array, "n n"]]:
    """Eigenvalues, the least first, and eigenvectors as columns, of a symmetric matrix."""
    return tuple(jnp.linalg.eigh(matrix))
