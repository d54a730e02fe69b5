"""What cells draw in a phase."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.scipy.special import erf, erfinv
from jaxtyping import Array, Float, PRNGKeyArray, Scalar


def of_a_sign(
    key: PRNGKeyArray, mean: Scalar | float, spread: Scalar | float, shape: tuple[int], dtype: Any
) -> Float[Array, " n"]:
    """Gaussian numbers of the sign of their mean, of both where it is 0.

    By the inverse of the distribution function. What it is asked for stays above its lower end:
    `jax.random.truncated_normal` takes that too, once in 2^23 numbers of float32, and gives 10^38.
    """
    root = jnp.sqrt(jnp.asarray(2, dtype))
    least = -jnp.abs(mean) / jnp.maximum(spread, 1e-30)
    end = jnp.nextafter(jnp.asarray(-1, dtype), jnp.asarray(0, dtype))
    low = jnp.where(mean == 0, end, jnp.maximum(erf(least.astype(dtype) / root), end))
    drawn = root * erfinv(jax.random.uniform(key, shape, dtype, low, 1))
    drawn = jnp.where(mean == 0, drawn, jnp.maximum(drawn, least))
    return mean + jnp.where(mean < 0, -spread, spread) * drawn
