"""Fixed steps that are cut where they are too long: a phase that failed goes again from its start.

Learning moves the modes of a network, and feedback that learns can make a phase so stiff that steps
which suited its first presentations amplify it. Whether they do shows in how the phase ends. It is
then gone through again with steps of a half, a quarter, …, for the samples that need it, each
judged by its own end alone.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from neurosim.levels.settling import where

MOST = 64
"""Into how many parts a step is cut at most."""

Attempt = Callable[[Int[Array, ""], Bool[Array, "..."]], tuple[Any, Bool[Array, "..."]]]
"""(parts, which are wanted) → what a phase leaves with steps cut into so many parts, and which
failed; what leads is that of the mask."""


def shortened(attempt: Attempt, lead: tuple[int, ...]) -> Any:
    """What a phase leaves, by the longest steps that do: whole ones, halves, …, 1/`MOST`.

    lead: the shape of what is judged, one by one. What no step does is left as by whole ones: it is
    no matter of the step.

    One loop with one attempt in it, which nearly always turns once: a second copy of the phase
    would compile as long again.
    """
    attempt = jax.jit(attempt, inline=True)  # traced once, for its shapes and for the loop
    every = jnp.ones(lead, bool)
    shapes, _ = jax.eval_shape(attempt, jnp.int32(1), every)
    nothing = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)

    def again(carry: tuple[Any, Any, Any]) -> tuple[Any, Any, Any]:
        parts, wanted, kept = carry
        found, failed = attempt(parts, wanted)
        kept = where((wanted & ~failed) | (parts == 1), found, kept)
        return 2 * parts, wanted & failed, kept

    def lacking(carry: tuple[Any, Any, Any]) -> Bool[Array, ""]:
        parts, wanted, _ = carry
        return wanted.any() & (parts <= MOST)

    return jax.lax.while_loop(lacking, again, (jnp.int32(1), every, nothing))[2]
