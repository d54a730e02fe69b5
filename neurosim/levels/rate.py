"""The rate level: compartments as ODEs, or SDEs where they are noisy, integrated by diffrax.

Every sample is a solve of its own (`jax.vmap`), so its steps, and when it stops, do not depend on
its batch-mates. Time runs in units of `dt`, so that fixed steps are whole numbers.
"""

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
from jaxtyping import PRNGKeyArray

from neurosim.dynamics.base import Dynamics, State, field
from neurosim.levels.schemes import SCHEMES
from neurosim.levels.settling import Problem, Report, Span, imbalance

MAX_ADAPTIVE_STEPS = 1 << 16

LOOK_EVERY = 5
"""Fixed steps between two looks at whether a phase has settled; a look costs a vector field."""


def amplification(scheme: str, z: np.ndarray) -> np.ndarray:
    """By which one step multiplies a mode, for z = dt times its eigenvalue: R(z) of the scheme.

    1 + z bᵀ(I − zA)⁻¹ 1 for a Runge–Kutta method with the tableau A, b.
    """
    if scheme == "euler":
        return 1 + z
    tableau = SCHEMES[scheme].make(1e-6, 1e-6).tableau
    stages = len(tableau.b_sol)
    A = np.zeros((stages, stages))
    for i, row in enumerate(tableau.a_lower, start=1):
        A[i, : len(row)] = row
    if tableau.a_diagonal is not None:
        A += np.diag(tableau.a_diagonal)
    inner = np.eye(stages) - np.asarray(z)[..., None, None] * A
    return 1 + z * (np.linalg.solve(inner, np.ones((stages, 1)))[..., 0] @ tableau.b_sol)


class Ended(NamedTuple):
    """How a solve ended: whether it got through, in how many steps, and when (s)."""

    done: Any
    steps: Any
    stopped: Any


class Noise(NamedTuple):
    """What makes an ODE an SDE.

    spread: the deviation per √s of every leaf of y; None for leaves that are quiet. key: of the
    draws; or one key a sample, where the batch is the first axis of all noisy leaves.
    """

    spread: Any
    key: PRNGKeyArray


class _Brownian(dfx.AbstractBrownianPath):
    """Brownian motion of the noisy leaves of a flat y, and zero for the quiet ones."""

    leaves: list[jax.ShapeDtypeStruct] = eqx.field(static=True)
    noisy: tuple[bool, ...] = eqx.field(static=True)
    key: PRNGKeyArray
    levy_area: type[dfx.BrownianIncrement] = eqx.field(static=True)
    t0: ClassVar = -jnp.inf
    t1: ClassVar = jnp.inf

    def evaluate(self, t0, t1=None, left=True, use_levy=False):
        by_sample = self.key.ndim > 0
        shapes = [
            jax.ShapeDtypeStruct(leaf.shape[1:] if by_sample else leaf.shape, leaf.dtype)
            for leaf, noisy in zip(self.leaves, self.noisy, strict=True)
            if noisy
        ]

        def draw(key):
            return dfx.UnsafeBrownianPath(shapes, key).evaluate(t0, t1)

        drawn = iter(jax.vmap(draw)(self.key) if by_sample else draw(self.key))
        return [
            next(drawn) if noisy else jnp.zeros(leaf.shape, leaf.dtype)
            for leaf, noisy in zip(self.leaves, self.noisy, strict=True)
        ]


class Rate(eqx.Module):
    """How time is stepped.

    scheme: a name of `SCHEMES`. dt: step (s), the first one when `adaptive`. rtol, atol: of the
    step control and of implicit stages. tolerance: residual at which a settling phase ends, as a
    fraction of the expected learning signal.
    """

    scheme: str = eqx.field(static=True)
    dt: float = eqx.field(static=True)
    adaptive: bool = eqx.field(static=True)
    rtol: float = eqx.field(static=True)
    atol: float = eqx.field(static=True)
    tolerance: float = eqx.field(static=True)

    def integrate(
        self,
        vector_field: Callable[[Any], Any],
        start: Any,
        duration: float,
        *,
        noise: Noise | None = None,
        stop: Callable[[Any], Any] | None = None,
        watch: tuple[Any, Callable[[Any], Any]] | None = None,
        most: Any = None,
    ) -> tuple[Any, Any, Ended]:
        """Solve dy/dt = vector_field(y) from `start` over `duration` (s).

        stop: y → whether to end here.
        watch: (times in s, function of y). most: end after so many of the fixed steps. Returns the
        final y, the function's values at the times (after an early end: its final value) and how
        it ended.
        """
        # The solver sees a flat list: it cannot carry containers that are empty.
        leaves, shape_of = jax.tree.flatten(start)

        def whole(y: list) -> Any:
            return jax.tree.unflatten(shape_of, y)

        def flat_field(t, y, args):
            rates = jax.tree.leaves(vector_field(whole(y)))
            return [self.dt * rate for rate in rates]

        terms: Any = dfx.ODETerm(flat_field)
        if noise is not None:
            deviations = jax.tree.leaves(noise.spread, is_leaf=lambda d: d is None)
            path = _Brownian(
                leaves=[jax.ShapeDtypeStruct(v.shape, v.dtype) for v in leaves],
                noisy=tuple(d is not None for d in deviations),
                key=noise.key,
                levy_area=dfx.BrownianIncrement,
            )
            spread = [
                jnp.full_like(v, (d or 0.0) * self.dt**0.5)
                for d, v in zip(deviations, leaves, strict=True)
            ]
            diffusion = dfx.ControlTerm(lambda t, y, args: lx.DiagonalLinearOperator(spread), path)
            terms = dfx.MultiTerm(terms, diffusion)
        saved = [dfx.SubSaveAt(t1=True)]
        if watch is not None:
            length = duration / self.dt if self.adaptive else round(duration / self.dt)
            ts = jnp.minimum(jnp.asarray(watch[0], jnp.result_type(float)) / self.dt, length)

            def seen(t, y, args):
                return watch[1](whole(y))

            saved.append(dfx.SubSaveAt(ts=ts, fn=seen))
        steps = round(duration / self.dt)
        solution = dfx.diffeqsolve(
            terms,
            SCHEMES[self.scheme].make(self.rtol, self.atol),
            t0=0.0,
            t1=duration / self.dt if self.adaptive else (float(steps) if most is None else most),
            dt0=1.0,
            y0=leaves,
            saveat=dfx.SaveAt(subs=saved),
            stepsize_controller=dfx.PIDController(rtol=self.rtol, atol=self.atol)
            if self.adaptive
            else dfx.ConstantStepSize(),
            event=None if stop is None else dfx.Event(lambda t, y, args, **kw: stop(whole(y))),
            adjoint=dfx.ForwardMode(),
            max_steps=MAX_ADAPTIVE_STEPS if self.adaptive else steps + 1,
            throw=False,
        )
        end = whole([v[-1] for v in solution.ys[0]])
        ended = Ended(
            dfx.is_okay(solution.result) | dfx.is_event(solution.result),
            solution.stats["num_steps"].astype(jnp.result_type(float)),
            solution.ts[0][-1] * self.dt,
        )
        if watch is None:
            return end, None, ended
        reached = ts <= solution.ts[0][-1]
        watched = jax.tree.map(
            lambda rows, last: jnp.where(reached.reshape(-1, *[1] * last.ndim), rows, last),
            solution.ys[1],
            watch[1](end),
        )
        return end, watched, ended

    def settle(self, problem: Problem, state: State, span: Span) -> tuple[State, Report, Any]:
        """One phase of one sample: the state at its end, how it ended, what was watched."""

        def vector_field(v):
            return field(*problem[:4], v)

        def look(v):
            return imbalance(problem, v, self.tolerance)

        if span.stop and not self.adaptive:
            if span.watch is None:
                end, ended = self._until_settled(vector_field, look, state, span)
                watched = None
            else:
                end, watched, ended = self._watched_until_settled(vector_field, look, state, span)
        else:
            end, watched, ended = self.integrate(
                vector_field,
                state,
                span.duration,
                noise=noise_of(problem.dynamics, state, span.key),
                stop=(lambda v: look(v)[1]) if span.stop else None,
                watch=span.watch,
            )
        worst, settled = look(end)
        worst = jnp.where(ended.done, worst, jnp.nan)
        report = Report(
            worst, settled & ended.done, ended.steps, ended.stopped, jnp.zeros_like(settled)
        )
        return end, report, watched

    def _until_settled(self, vector_field, look, state: State, span: Span) -> tuple[State, Ended]:
        """Fixed steps, a few at a time, until settled or out of time."""
        steps = float(round(span.duration / self.dt))
        dtype = jnp.result_type(float)

        def unsettled(carry):
            _, taken, worst, settled = carry
            return ~settled & (taken < steps) & jnp.isfinite(worst)

        def go_on(carry):
            state, taken, _, _ = carry
            most = jnp.minimum(LOOK_EVERY, steps - taken)
            state, _, ended = self.integrate(
                vector_field, state, LOOK_EVERY * self.dt, most=most.astype(dtype)
            )
            worst, settled = look(state)
            return state, taken + most, jnp.where(ended.done, worst, jnp.nan), settled

        first = (state, jnp.zeros((), dtype), look(state)[0], jnp.array(False))
        state, taken, worst, _ = jax.lax.while_loop(unsettled, go_on, first)
        return state, Ended(jnp.isfinite(worst), taken, taken * self.dt)

    def _watched_until_settled(self, vector_field, look, state: State, span: Span):
        """The same steps to the end of the phase, cut afterwards where the looks say it settled."""
        assert span.watch is not None
        function = span.watch[1]
        steps = round(span.duration / self.dt)
        looks = self.dt * jnp.minimum(jnp.arange(LOOK_EVERY, steps + LOOK_EVERY, LOOK_EVERY), steps)
        times = jnp.asarray(span.watch[0], looks.dtype)
        grid = jnp.sort(jnp.concatenate([times, looks]))
        _, rows, ended = self.integrate(
            vector_field, state, span.duration, watch=(grid, lambda v: (v, function(v)))
        )
        states = jax.tree.map(lambda v: v[jnp.searchsorted(grid, looks)], rows[0])
        worst, settled = jax.vmap(look)(states)
        over = settled | ~jnp.isfinite(worst)
        last = jnp.where(over.any(), jnp.argmax(over), len(looks) - 1)
        end = jax.tree.map(lambda v: v[last], states)
        stopped = looks[last]
        reached = times <= stopped + self.dt / 4  # times are sums of floats
        watched = jax.tree.map(
            lambda row, final: jnp.where(
                reached.reshape(-1, *[1] * final.ndim), row[jnp.searchsorted(grid, times)], final
            ),
            rows[1],
            function(end),
        )
        taken = jnp.round(stopped / self.dt)
        return end, watched, Ended(ended.done, taken, stopped)


def noise_of(dynamics: Dynamics, state: State, key: PRNGKeyArray | None) -> Noise | None:
    """The noise of every compartment, of deviation σ_c √(2/τ_c) per √s; None without any.

    A compartment left alone is then an Ornstein–Uhlenbeck process of deviation σ_c, whatever dt.
    """
    if not dynamics.noise:
        return None
    assert key is not None, "noise is drawn with a key"
    taus = dynamics.time_constants

    def deviation(name):
        return dynamics.noise[name] * (2 / taus[name]) ** 0.5 if name in dynamics.noise else None

    return Noise({name: tuple(deviation(name) for _ in state[name]) for name in state}, key)
