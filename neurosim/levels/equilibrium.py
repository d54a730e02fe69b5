"""The equilibrium level: the fixed point of a phase, without time.

Symmetric Gauss–Seidel sweeps, which contract by about 4μ(1−μ)cos²(π/(L+1)) each; where they stall
or blow up, Newton steps on the residual, of all but small networks by a Krylov method.
"""

from collections.abc import Iterable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import optimistix as optx
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int, Scalar

from neurosim.functions.inverses import inverse
from neurosim.levels.settling import Looked, Problem, Report, Span, imbalance, where
from neurosim.networks.dynamics import State, residual, sweep

DENSE = 100
"""Numbers of a sample up to which its slopes as a matrix are as fast to solve with as GMRES is."""

_Sweeping = tuple[State, Looked, Int[Array, "..."], Int[Array, ""]]
"""What sweeps carry on: the state, the last look at it, sweeps of each sample and of all."""

_Rescuing = tuple[State, Float[Array, "..."], Bool[Array, "..."], Bool[Array, "..."]]
"""The state, the last look at it, and which samples were rescued."""


class Equilibrium(eqx.Module):
    """tolerance: residual allowed, as a fraction of the expected learning signal.

    max_sweeps: sweeps before the root solver takes over. max_newton: its steps; 0 for none.
    """

    tolerance: Scalar | float
    max_sweeps: int = eqx.field(static=True)
    max_newton: int = eqx.field(static=True)

    def settle(self, problem: Problem, state: State, span: Span) -> tuple[State, Report, Any]:
        """The fixed point reached from `state`, how well, and what is seen there.

        Of the span only `watch` matters; its function is seen once, at the fixed point.
        """
        known = problem.each(lambda one: one.dynamics.fixed_point(*one[1:4]))
        if known is None:
            state, report = self._sought(problem, state)
        else:  # in closed form: one pass, nothing left to settle where it is finite
            state, report = known, problem.each(_closed, known)
        if span.watch is None:
            return state, report, None
        function = span.watch[1]
        seen = problem.each(lambda one, v: jax.tree.map(lambda a: a[None], function(one, v)), state)
        return state, report, seen

    def _sought(self, problem: Problem, start: State) -> tuple[State, Report]:
        """Sweeps until every sample has settled, then the root solver where they stalled."""

        def look(state: State) -> Looked:
            return problem.each(lambda one, v: imbalance(one, v, self.tolerance), state)

        def moving(looked: Looked) -> Bool[Array, "..."]:
            worst, settled = looked
            return ~settled & jnp.isfinite(worst)

        def unsettled(carry: _Sweeping) -> Bool[Array, ""]:
            _, looked, _, turn = carry
            return moving(looked).any() & (turn < self.max_sweeps)

        def swept(looked: Looked, state: State, layers: Iterable[int]) -> tuple[State, Looked]:
            """And looked at before those are held still that move no more: it has the same sums."""

            def each(one: Problem, v: State) -> State:
                return sweep(*one[:4], v, layers)

            new = problem.each(each, state)
            return where(moving(looked), (new, look(new)), (state, looked))

        def once_more(carry: _Sweeping) -> _Sweeping:
            state, looked, sweeps, turn = carry
            if problem.dynamics.cut:
                new = problem.each(_cut, state)
                new, seen = where(moving(looked), (new, look(new)), (state, looked))
            else:
                up_and_down = (*range(2, top + 1), *range(top - 1, 0, -1)) or (1,)
                new, seen = swept(looked, state, up_and_down)
            return new, seen, sweeps + moving(looked), turn + 1

        top = problem.network.depth
        at_start = look(start)
        # Going up again would set layer 1 to what it is: only the first sweep begins there.
        begun = swept(at_start, start, (1,))[0]
        none = jnp.zeros(at_start[0].shape, jnp.int32)
        first = begun, at_start, none, jnp.zeros((), jnp.int32)
        state, (worst, settled), sweeps, _ = jax.lax.while_loop(unsettled, once_more, first)
        rescued = jnp.zeros_like(settled)
        if self.max_newton:
            hopeless = ~jnp.isfinite(at_start[0])
            carry = state, worst, settled, rescued
            state, worst, settled, rescued = self._rescue(problem, carry, start, hopeless)
        effort = sweeps.astype(worst.dtype)
        whole = jnp.ones_like(worst)
        return state, Report(worst, settled, effort, jnp.zeros_like(worst), rescued, whole)

    def _rescue(
        self, problem: Problem, carry: _Rescuing, start: State, hopeless: Bool[Array, "..."]
    ) -> _Rescuing:
        """Where sweeps stalled, the root solver; kept only if it does better.

        A loop over the samples that stalled, most often none. They go one after the other: for all
        at once it would take long to compile.
        """

        def stalled(carry: _Rescuing) -> Bool[Array, "..."]:
            _, _, settled, rescued = carry
            return ~settled & ~rescued & ~hopeless

        def one_more(carry: _Rescuing) -> _Rescuing:
            place = jnp.unravel_index(jnp.argmax(stalled(carry)), hopeless.shape)
            (state, worst, _, _), begin = jax.tree.map(lambda a: a[place], (carry, start))
            one = problem.at(place)
            found = self._root(one, where(jnp.isfinite(worst), state, begin))
            found_worst, found_settled = imbalance(one, found, self.tolerance)
            better = found_settled | (found_worst < worst)
            kept = where(better, (found, found_worst), (state, worst))
            new = *kept, found_settled, jnp.array(True)
            return jax.tree.map(lambda a, b: a.at[place].set(b), carry, new)

        return jax.lax.while_loop(lambda carry: stalled(carry).any(), one_more, carry)

    def _root(self, problem: Problem, state: State) -> State:
        """The root found from the state of one sample."""
        flat, whole = ravel_pytree(state)
        eps = float(jnp.finfo(flat.dtype).eps)
        solution: Any = optx.root_find(
            lambda v, _: ravel_pytree(residual(*problem[:4], whole(v)))[0],
            optx.Newton(rtol=eps, atol=eps, linear_solver=_linear_solver(flat.size, eps)),
            flat,
            max_steps=self.max_newton,
            throw=False,
        )
        return whole(solution.value)


def _linear_solver(size: int, eps: float) -> lx.AbstractLinearSolver:
    """What finds a Newton step in so many numbers."""
    if size <= DENSE:
        return lx.LU()
    return lx.GMRES(rtol=1e-3, atol=eps, restart=20, max_steps=20)


def _cut(problem: Problem, state: State) -> State:
    """One Newton step on the states that the dynamics names as cut, the rest swept up for each.

    Where sweeps cannot converge because a few states are fed back strongly, such as those of a
    controller, but the rest is found in one sweep once they are given. Of one sample.
    """
    names = problem.dynamics.cut
    cut = {name: state[name] for name in names}
    flat, whole = ravel_pytree(cut)

    def left(values: Float[Array, " n"]) -> tuple[Float[Array, " n"], State]:
        """What the cut states are off, once all others have followed them; those others."""
        layers = range(1, problem.network.depth + 1)
        swept = sweep(*problem[:4], state | whole(values), layers)
        pull = problem.dynamics.at(*problem[1:4], swept).pull
        off = {
            name: tuple(pull(name, k) - v for k, v in enumerate(swept[name], start=1))
            for name in names
        }
        return ravel_pytree(off)[0], swept

    off, _ = left(flat)
    slopes = jax.jacfwd(lambda values: left(values)[0])(flat)
    return left(flat - inverse(slopes) @ off)[1]


def _closed(problem: Problem, state: State) -> Report:
    """How one sample settled whose fixed point is known."""
    output = problem.dynamics.read(*problem[1:4], state).rate[-1]
    finite = jnp.isfinite(output).all()
    left = jnp.where(finite, 0.0, jnp.nan).astype(output.dtype)
    one, none = jnp.ones_like(left), jnp.zeros_like(left)
    return Report(left, finite, one, none, jnp.array(False), one)
