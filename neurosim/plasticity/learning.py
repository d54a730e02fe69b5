"""What all plasticity shares: where in a stage a presentation stands, schedules, optimisers."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Scalar

from neurosim.levels.simulator import Phase

Earlier = tuple[tuple[Phase, Any], ...]
"""The phases of a presentation so far, with what the state at their end means."""

OPTIMIZERS: dict[str, Callable[[], optax.GradientTransformation]] = {
    "sgd": optax.identity,
    "momentum": lambda: optax.trace(0.9),
    "rmsprop": optax.scale_by_rms,
    "adam": optax.scale_by_adam,
}

SCHEDULES: dict[str, Callable[[Array, Scalar | float], Array]] = {
    "constant": lambda progress, final: jnp.ones_like(progress),
    "linear": lambda progress, final: 1 - (1 - final) * progress,
    "exponential": lambda progress, final: final**progress,
}
"""progress through the stage (0 … 1) → factor on all rates."""


class Moment(NamedTuple):
    """Where in a stage a presentation stands: the factor on all rates, and whose turn it is.

    turn: of each feedback matrix, 1 where it may learn and 0 where it has to wait. moves: the same
    of each forward matrix. presentation: its number, from 0.
    """

    factor: Float[Array, ""]
    turn: Float[Array, " Q"]
    moves: Float[Array, " L"]
    presentation: Int[Array, ""]


def progressed(
    schedule: str, progress: Float[Array, ""], final: Scalar | float, top_down: bool, count: int
) -> tuple[Float[Array, ""], Float[Array, " Q"]]:
    """The rates' factor at this progress (0 … 1) of a stage, and whose turn it is among `count`
    feedback matrices: one after the other from the top, or all at once."""
    turn = jnp.ones(count)
    if top_down:
        whose = count - 1 - jnp.floor(progress * count).astype(jnp.int32)
        turn = (jnp.arange(count) == whose).astype(turn.dtype)
    return SCHEDULES[schedule](progress, final), turn


def nothing(weights: Any) -> Any:
    """No change."""
    return jax.tree.map(jnp.zeros_like, weights)
