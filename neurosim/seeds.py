"""Named random streams derived from one seed.

Each consumer of randomness asks for its own stream by name, so that adding one
(a recorder, a figure, another noise source) never changes the numbers of another.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import jax


def host_stream(seed: int, name: str) -> np.random.Generator:
    """The numpy generator of stream `name` of `seed`, for weights and data."""
    return np.random.default_rng([seed, zlib.crc32(name.encode())])


def gaussian(random: np.random.Generator, mean: float, spread: float, count: int) -> np.ndarray:
    """Gaussian numbers of the sign of their mean, if that is not 0."""
    values = mean + spread * random.standard_normal(count)
    while mean and (wrong := values * mean <= 0).any():
        values[wrong] = mean + spread * random.standard_normal(int(wrong.sum()))
    return values


def device_stream(seed: int, name: str) -> jax.Array:
    """The JAX key of stream `name` of `seed`, for what is drawn inside a run."""
    import jax

    return substream(jax.random.key(seed), name)


def substream(key: jax.Array, name: str) -> jax.Array:
    """The stream `name` of what is itself a stream, as that of one presentation."""
    import jax

    return jax.random.fold_in(key, zlib.crc32(name.encode()))
