"""Products of weights and what they are shown, written so that a batch of them is one product."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def through(matrix: Float[Array, "n m"], sent: Float[Array, " m"]) -> Float[Array, " n"]:
    """A matrix times a vector, as the vector times the transpose.

    The product of a batch then comes out sample by sample. `matrix @ sent` would come out unit by
    unit, and all that is made of it would read it across: at the equilibrium level half of a sweep
    of fifteen seeds.
    """
    return jnp.tensordot(sent, matrix, axes=(0, 1))
