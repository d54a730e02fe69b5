"""Heun's method as diffrax has it, with its two stages written out."""

from typing import Any

import diffrax as dfx
import jax
import jax.numpy as jnp


class Heun(dfx.Heun):
    """diffrax's Heun, to rounding.

    Its loop over the stages, made for methods of many and for differentiating backwards, takes
    small networks longer than to evaluate their field.
    """

    def step(
        self,
        terms: dfx.AbstractTerm,
        t0: Any,
        t1: Any,
        y0: Any,
        args: Any,
        solver_state: Any,
        made_jump: Any,
    ) -> tuple[Any, Any, dict[str, Any], None, Any]:
        """One step; see `diffrax.AbstractSolver.step`."""
        control = terms.contr(t0, t1)
        first = terms.vf_prod(t0, y0, args, control)
        then = jax.tree.map(jnp.add, y0, first)
        second = terms.vf_prod(t1, then, args, control)
        y1 = jax.tree.map(lambda y, a, b: y + (0.5 * a + 0.5 * b), y0, first, second)
        error = jax.tree.map(lambda a, b: 0.5 * a - 0.5 * b, first, second)
        stages = jax.tree.map(lambda a, b: jnp.stack([a, b]), first, second)
        return y1, error, {"y0": y0, "y1": y1, "k": stages}, solver_state, dfx.RESULTS.successful
