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


def device_stream(seed: int, name: str) -> jax.Array:
    """The JAX key of stream `name` of `seed`, for what is drawn inside a run."""
    import jax

    return jax.random.fold_in(jax.random.key(seed), zlib.crc32(name.encode()))
