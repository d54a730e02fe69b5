"""The equilibrium level: the fixed point of a phase, without time.

Symmetric Gauss–Seidel sweeps, which contract by about 4μ(1−μ)cos²(π/(L+1)) each; where they stall
or blow up, Newton–Krylov steps on the residual.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import optimistix as optx

from neurosim.dynamics.base import State, residual, sweep
from neurosim.levels.settling import Problem, Report, Span, imbalance


class Equilibrium(eqx.Module):
    """tolerance: residual allowed, as a fraction of the expected learning signal.

    max_sweeps: sweeps before the root solver takes over. max_newton: its steps; 0 for none.
    """

    tolerance: float = eqx.field(static=True)
    max_sweeps: int = eqx.field(static=True)
    max_newton: int = eqx.field(static=True)

    def settle(self, problem: Problem, state: State, span: Span) -> tuple[State, Report, Any]:
        """The fixed point of one sample reached from `state`, how well, and what is seen there.

        Of the span only `watch` matters; its function is seen once, at the fixed point.
        """
        dynamics, network, weights, drive = problem[:4]
        known = dynamics.fixed_point(network, weights, drive)
        if known is not None:
            return self._known(problem, known, span)

        def look(state):
            return imbalance(problem, state, self.tolerance)

        def unsettled(carry):
            _, worst, settled, sweeps = carry
            return ~settled & (sweeps < self.max_sweeps) & jnp.isfinite(worst)

        def once_more(carry):
            state, _, _, sweeps = carry
            state = sweep(dynamics, network, weights, drive, state)
            return state, *look(state), sweeps + 1

        start, at_start = state, look(state)
        state, worst, settled, sweeps = jax.lax.while_loop(
            unsettled, once_more, (state, *at_start, jnp.zeros((), jnp.int32))
        )
        hopeless = ~jnp.isfinite(at_start[0])

        rescued = jnp.array(False)
        if self.max_newton:
            carry = (state, worst, settled, jnp.array(False))
            state, worst, settled, rescued = self._rescue(problem, look, carry, start, hopeless)
        effort = sweeps.astype(worst.dtype)
        report = Report(worst, settled, effort, jnp.zeros_like(worst), rescued)
        return state, report, self._seen(state, span)

    def _known(self, problem: Problem, state: State, span: Span) -> tuple[State, Report, Any]:
        """A fixed point in closed form: one pass, nothing left to settle where it is finite."""
        output = problem.dynamics.read(*problem[1:4], state).rate[-1]
        finite = jnp.isfinite(output).all()
        left = jnp.where(finite, 0.0, jnp.nan).astype(output.dtype)
        report = Report(left, finite, jnp.ones_like(left), jnp.zeros_like(left), jnp.array(False))
        return state, report, self._seen(state, span)

    def _seen(self, state: State, span: Span) -> Any:
        if span.watch is None:
            return None
        return jax.tree.map(lambda v: v[None], span.watch[1](state))

    def _rescue(self, problem: Problem, look, carry, start: State, hopeless):
        """Where sweeps stalled, the root solver; kept only if it does better.

        A loop of at most one turn, not a cond: under vmap it costs nothing when no sample needs
        it, where a cond would always run both branches.
        """

        def once(carry):
            state, worst, settled, _ = carry
            where = jax.tree.map(lambda s, s0: jnp.where(jnp.isfinite(worst), s, s0), state, start)
            found = self._newton(*problem[:4], where)
            found_worst, found_settled = look(found)
            better = found_settled | (found_worst < worst)
            state = jax.tree.map(lambda a, b: jnp.where(better, a, b), found, state)
            worst = jnp.where(better, found_worst, worst)
            return state, worst, found_settled | settled, jnp.array(True)

        return jax.lax.while_loop(lambda c: ~c[2] & ~c[3] & ~hopeless, once, carry)

    def _newton(self, dynamics, network, weights, drive, state):
        eps = float(jnp.finfo(jax.tree.leaves(state)[0].dtype).eps)
        krylov = lx.GMRES(rtol=1e-3, atol=eps, restart=20, max_steps=20)
        solution = optx.root_find(
            lambda v, _: residual(dynamics, network, weights, drive, v),
            optx.Newton(rtol=eps, atol=eps, linear_solver=krylov),
            state,
            max_steps=self.max_newton,
            throw=False,
        )
        return solution.value
