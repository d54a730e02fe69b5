"""What the text of a model may call, in JAX."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from neurosim.circuits import expressions


def _exprel(x: Any) -> Any:
    """(exp x − 1)/x, 1 at 0."""
    small = jnp.abs(x) < 1e-5
    safe = jnp.where(small, 1.0, x)
    return jnp.where(small, 1 + x / 2, jnp.expm1(safe) / safe)


OWN: dict[str, Callable] = {
    "int": lambda condition: condition * 1.0,
    "exprel": _exprel,
    "nernst": expressions.nernst(jnp.log),
}
"""Elementary functions that JAX does not have under these names."""

ELEMENTARY = {name: OWN.get(name) or getattr(jnp, name) for name in expressions.ELEMENTARY}
