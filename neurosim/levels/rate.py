"""The rate level: compartments as ODEs, or SDEs where they are noisy, stepped by diffrax's solvers.

Fixed steps are one loop for all samples, which holds those still that have settled; with adaptive
steps every sample is a solve of its own. Either way, its steps, and when it stops, do not depend on
its batch-mates. Time runs in units of the step, so that fixed steps are whole numbers.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, Literal, NamedTuple

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Int, Key, PRNGKeyArray, Scalar

from neurosim.levels.schemes import SCHEMES
from neurosim.levels.settling import Looked, Problem, Report, Span, imbalance, where
from neurosim.levels.shortening import shortened
from neurosim.levels.stability import stepped, too_long
from neurosim.networks.dynamics import Dynamics, State, field, white
from neurosim.networks.network import Network

MAX_ADAPTIVE_STEPS = 1 << 16

LOOK_EVERY = 5
"""Fixed steps between two looks at whether a phase has settled; a look costs a vector field."""


class Ended(NamedTuple):
    """How a solve ended: whether it got through, in how many steps, and when (s)."""

    done: Any
    steps: Any
    stopped: Any


class Noise(NamedTuple):
    """What makes an ODE an SDE.

    spread: the deviation per √s of every leaf of y; None for leaves that are quiet. key: of the
    draws, one a sample where the noisy leaves have samples as leading axes.
    """

    spread: Any
    key: Key[Array, "..."]


class _Brownian(dfx.AbstractBrownianPath):
    """Brownian motion of the noisy leaves of a flat y, and zero for the quiet ones."""

    leaves: list[jax.ShapeDtypeStruct] = eqx.field(static=True)
    noisy: tuple[bool, ...] = eqx.field(static=True)
    key: Key[Array, "..."]
    levy_area: type[dfx.BrownianIncrement] = eqx.field(static=True)
    t0: ClassVar = -jnp.inf
    t1: ClassVar = jnp.inf

    def evaluate(
        self, t0: Any, t1: Any = None, left: bool = True, use_levy: bool = False
    ) -> list[Array]:
        leading = self.key.ndim
        shapes = [
            jax.ShapeDtypeStruct(leaf.shape[leading:], leaf.dtype)
            for leaf, noisy in zip(self.leaves, self.noisy, strict=True)
            if noisy
        ]

        def draw(key: PRNGKeyArray) -> Any:
            return dfx.UnsafeBrownianPath(shapes, key).evaluate(t0, t1)

        for _ in range(leading):
            draw = jax.vmap(draw)
        drawn = iter(draw(self.key))
        return [
            next(drawn) if noisy else jnp.zeros(leaf.shape, leaf.dtype)
            for leaf, noisy in zip(self.leaves, self.noisy, strict=True)
        ]


class Rate(eqx.Module):
    """How time is stepped.

    scheme: a name of `SCHEMES`. dt: step (s), the first one when `adaptive`. rtol, atol: of the
    step control and of implicit stages. tolerance: residual at which a settling phase ends, as a
    fraction of the expected learning signal. parts: into how many equal ones fixed steps are cut;
    what is seen, and how much longer a phase lasts, stays a matter of whole ones.
    """

    scheme: str = eqx.field(static=True)
    dt: float = eqx.field(static=True)
    adaptive: bool = eqx.field(static=True)
    rtol: float = eqx.field(static=True)
    atol: float = eqx.field(static=True)
    tolerance: Scalar | float
    parts: Int[Array, ""] | int = 1

    @property
    def step(self) -> Scalar | float:
        """What is stepped by (s)."""
        return self.dt / self.parts

    def settle(self, problem: Problem, state: State, span: Span) -> tuple[State, Report, Any]:
        """One phase: the state at its end, how it ended, and what was watched.

        Fixed steps are shortened for samples that need it; see `shortened`.
        """

        if not self.adaptive:
            lead = jax.tree.leaves(state)[0].shape[: len(problem.axes)]
            return shortened(partial(self._settle_by, problem, state, span), lead)

        def one(
            problem: Problem, state: State, key: PRNGKeyArray | None
        ) -> tuple[State, Any, Ended, Looked]:
            return self._settle_adaptively(problem, state, span, key)

        end, watched, ended, looked = problem.each(one, state, span.key)
        return end, self.report(ended, looked), watched

    def _settle_by(
        self,
        problem: Problem,
        state: State,
        span: Span,
        parts: Int[Array, ""],
        wanted: Bool[Array, "..."],
    ) -> tuple[tuple[State, Report, Any], Bool[Array, "..."]]:
        """`settle` by steps cut into so many parts; which samples need shorter ones."""
        level = replace(self, parts=parts)

        def look(v: State) -> Looked:
            return problem.each(level._look, v)

        step = level._step_of_each(problem, state, span.key)
        seen, leading = _seen_of_each(problem, span), len(problem.axes)
        given = span.duration, seen, leading, span.stop and look, span.longer
        end, watched, ended, looked = level._march(step, state, *given, wanted)
        report = level.report(ended, looked or look(end))
        failed = level.failed(problem, state, end, report, wanted)
        return (end, report, watched), failed

    def report(self, ended: "Ended", looked: Looked) -> Report:
        """How a phase ended, for every sample that was looked at."""
        worst, settled = looked
        every = jnp.ones_like(worst)
        return Report(
            jnp.where(ended.done, worst, jnp.nan),
            settled & ended.done,
            jnp.broadcast_to(ended.steps, worst.shape),
            jnp.broadcast_to(ended.stopped, worst.shape),
            jnp.zeros_like(settled),
            self.parts * every,
        )

    def failed(
        self, problem: Problem, start: State, end: State, report: Report, wanted: Bool[Array, "..."]
    ) -> Bool[Array, "..."]:
        """Which of the wanted samples the steps were too long for, as far as their end tells.

        start: where the phase began. A sample failed if it left the numbers, unless it could not
        even move where it began, or if the steps amplify how it moves (`too_long`), which noise
        would hide.
        """
        gone = ~jnp.isfinite(report.residual)

        def one(problem: Problem, state: State, gone: Bool[Array, ""]) -> Bool[Array, ""]:
            def ahead(v: State, _: None) -> tuple[State, Array]:
                moved = jax.tree.map(lambda rate: self.step * rate, field(*problem[:4], v))
                return jax.tree.map(jnp.add, v, moved), ravel_pytree(moved)[0]

            _, moves = jax.lax.scan(ahead, state, None, length=2)  # one field to compile
            free, amplified = too_long(self.scheme, ravel_pytree(state)[0], moves)
            return jnp.where(gone, free, False if problem.dynamics.noise else amplified)

        def judge() -> Bool[Array, "..."]:
            return problem.each(one, where(gone, start, end), gone)

        doubtful = wanted & ~report.settled
        return doubtful & jax.lax.cond(doubtful.any(), judge, lambda: jnp.zeros_like(doubtful))

    def _look(self, problem: Problem, state: State) -> Looked:
        return imbalance(problem, state, self.tolerance)

    def integrate(
        self,
        vector_field: Callable[[Any], Any],
        start: Any,
        duration: float,
        *,
        noise: Noise | None = None,
        watch: tuple[Any, Callable[[Any], Any]] | None = None,
        longer: Scalar | None = None,
    ) -> tuple[Any, Any, Ended]:
        """Solve dy/dt = vector_field(y) from `start` over `duration` (s), as one system.

        watch: (times in s, function of y). longer: see `Span`. Returns the final y, the function's
        values at the times (time first) and how it ended.
        """
        if self.adaptive:
            given = vector_field, start, duration
            return self._adaptively(*given, noise=noise, watch=watch, longer=longer)
        step = self._step(vector_field, start, noise)
        return self._march(step, start, duration, watch, longer=longer)[:3]

    def _more(self, longer: Scalar | None) -> Int[Array, ""] | int:
        """How many whole steps more."""
        return 0 if longer is None else jnp.floor(longer / self.dt).astype(jnp.int32)

    def noise(
        self, dynamics: Dynamics, network: Network, state: State, key: Key[Array, "*each"] | None
    ) -> Noise | None:
        """The noise of every compartment; None without any. key: one, or one of each sample.

        A compartment left alone then has the stationary deviation σ_c, whatever the fixed step.
        """
        if not dynamics.noise:
            return None
        assert key is not None, "noise is drawn with a key"
        if self.adaptive:
            return Noise(dynamics.deviations(network, state, white), key)
        per_unit = stepped(self.scheme, self.dt)
        spread = dynamics.deviations(network, state, lambda rate: per_unit(self._slowed(rate)))
        return Noise(spread, key)

    def _slowed(self, rate: Any) -> Any:
        """A rate, for steps that are cut: whole ones of a time that passes slower by the parts.

        A factor of the step itself would be no number known as the program is compiled, and
        another rounding of every step.
        """
        return rate if isinstance(self.parts, int) else rate * (1 / self.parts)

    # --- fixed steps ----------------------------------------------------------------------------

    def _step(
        self, vector_field: Callable[[Any], Any], like: Any, noise: Noise | None
    ) -> Callable[[Any, Any], Any]:
        """(k, y) → y after the fixed step k, by the solver's own `step`."""
        terms = self._terms(vector_field, like, noise)
        solver = SCHEMES[self.scheme].make(self.rtol, self.atol)
        shape_of = jax.tree.structure(like)

        def step(k: Int[Array, ""], y: Any) -> Any:
            leaves = jax.tree.leaves(y)
            t = k.astype(jnp.result_type(float))
            state = solver.init(terms, t, t + 1, leaves, None)
            moved, _, _, _, result = solver.step(terms, t, t + 1, leaves, None, state, False)
            if SCHEMES[self.scheme].implicit:  # a stage without a solution
                moved = [jnp.where(dfx.is_okay(result), v, jnp.nan) for v in moved]
            return jax.tree.unflatten(shape_of, moved)

        return step

    def _step_of_each(
        self, problem: Problem, state: State, key: Key[Array, "..."] | None
    ) -> Callable[[Any, State], State]:
        """The same for all samples of a problem."""
        if SCHEMES[self.scheme].implicit:

            def one(problem: Problem, state: State, k: Int[Array, ""]) -> State:
                return self._step(lambda v: field(*problem[:4], v), state, None)(k, state)

            def step(k: Int[Array, ""], state: State) -> State:
                return problem.each(lambda problem, v: one(problem, v, k), state)

            return step

        def field_of(problem: Problem, v: State) -> State:
            return field(*problem[:4], v)

        def all_fields(v: State) -> State:
            return problem.each(field_of, v)

        return self._step(
            all_fields, state, self.noise(problem.dynamics, problem.network, state, key)
        )

    def _march(
        self,
        step: Callable[[Any, Any], Any],
        start: Any,
        duration: float,
        watch: tuple[Any, Callable[[Any], Any]] | None,
        leading: int = 0,
        look: Callable[[Any], Looked] | Literal[False] | None = None,
        longer: Scalar | None = None,
        wanted: Bool[Array, "..."] | None = None,
    ) -> tuple[Any, Any, Ended, Looked | None]:
        """Fixed steps over the duration, or until every sample has settled.

        watch: (times, function of y). leading: axes in front of what is watched. look: y →
        residuals and whether they are small enough, which ends a sample. wanted: the samples that
        are waited for. Returns the end, what was watched, how it ended, and the last look.
        """
        least = round(duration / self.dt)
        steps = (least + self._more(longer)) * self.parts
        moments = _Moments(self, watch, least, start)

        def go_on(first: Any, last: Any, y: Any, rows: Any) -> tuple[Any, Any]:
            def once(k: Int[Array, ""], carry: tuple[Any, Any]) -> tuple[Any, Any]:
                y, rows = carry
                return step(k, y), moments.note(rows, k, y)

            return jax.lax.fori_loop(first, last, once, (y, rows))

        if not look:
            end, rows = go_on(0, steps, start, moments.empty)
            taken, done, looked = jnp.asarray(steps, jnp.int32), jnp.array(True), None
        else:
            seen = jax.eval_shape(look, start)
            none, looked = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), seen)
            first = (
                start,
                moments.empty,
                jnp.zeros((), jnp.int32),
                (none, looked if wanted is None else ~wanted),
                jnp.zeros(none.shape, jnp.int32),
            )

            def moving(looked: Looked) -> Bool[Array, "..."]:
                worst, settled = looked
                return ~settled & jnp.isfinite(worst)

            def unsettled(carry: Any) -> Bool[Array, ""]:
                _, _, k, looked, _ = carry
                return moving(looked).any() & (k < steps)

            def a_few(carry: Any) -> Any:
                y, rows, k, looked, taken = carry
                last = jnp.minimum(k + LOOK_EVERY * self.parts, steps)
                moved, rows = go_on(k, last, y, rows)
                new, old = (moved, look(moved), last), (y, looked, taken)
                y, looked, taken = where(moving(looked), new, old)
                return y, rows, last, looked, taken

            end, rows, _, looked, taken = jax.lax.while_loop(unsettled, a_few, first)
            done = jnp.isfinite(looked[0])
        number = taken.astype(jnp.result_type(float))
        ended = Ended(done, number, number * self.step)
        return end, moments.seen(rows, end, taken, leading), ended, looked

    # --- adaptive steps -------------------------------------------------------------------------

    def _settle_adaptively(
        self, problem: Problem, state: State, span: Span, key: PRNGKeyArray | None
    ) -> tuple[State, Any, Ended, Looked]:
        """One sample by itself."""
        watch = span.watch and (span.watch[0], partial(span.watch[1], problem))
        end, watched, ended = self._adaptively(
            lambda v: field(*problem[:4], v),
            state,
            span.duration,
            noise=self.noise(problem.dynamics, problem.network, state, key),
            stop=(lambda v: self._look(problem, v)[1]) if span.stop else None,
            watch=watch,
            longer=span.longer,
        )
        return end, watched, ended, self._look(problem, end)

    def _adaptively(
        self,
        vector_field: Callable[[Any], Any],
        start: Any,
        duration: float,
        *,
        noise: Noise | None,
        watch: tuple[Any, Callable[[Any], Any]] | None,
        stop: Callable[[Any], Bool[Array, ""]] | None = None,
        longer: Scalar | None = None,
    ) -> tuple[Any, Any, Ended]:
        """`integrate`; stop: y → whether to end here. What comes after is seen as at the end."""
        leaves, shape_of = jax.tree.flatten(start)

        def whole(y: list) -> Any:
            return jax.tree.unflatten(shape_of, y)

        saved = [dfx.SubSaveAt(t1=True)]
        if watch is not None:
            ts = jnp.asarray(watch[0], jnp.result_type(float)) / self.dt
            ts = jnp.minimum(ts, duration / self.dt)
            saved.append(dfx.SubSaveAt(ts=ts, fn=lambda t, y, args: watch[1](whole(y))))
        solution = dfx.diffeqsolve(
            self._terms(vector_field, start, noise),
            SCHEMES[self.scheme].make(self.rtol, self.atol),
            t0=0.0,
            t1=duration / self.dt + self._more(longer),
            dt0=1.0,
            y0=leaves,
            saveat=dfx.SaveAt(subs=saved),
            stepsize_controller=dfx.PIDController(rtol=self.rtol, atol=self.atol),
            event=None if stop is None else dfx.Event(lambda t, y, args, **kw: stop(whole(y))),
            adjoint=dfx.ForwardMode(),
            max_steps=MAX_ADAPTIVE_STEPS,
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
        return end, where(reached, solution.ys[1], watch[1](end)), ended

    # --- both -----------------------------------------------------------------------------------

    def _terms(self, vector_field: Callable[[Any], Any], like: Any, noise: Noise | None) -> Any:
        """What diffrax integrates, with time in steps.

        It sees a flat list: it cannot carry containers that are empty.
        """
        leaves, shape_of = jax.tree.flatten(like)

        def flat_field(t: Any, y: list[Array], args: Any) -> list[Array]:
            rates = jax.tree.leaves(vector_field(jax.tree.unflatten(shape_of, y)))
            return [self.dt * self._slowed(rate) for rate in rates]

        terms = dfx.ODETerm(flat_field)
        if noise is None:
            return terms
        deviations = jax.tree.leaves(noise.spread, is_leaf=lambda d: d is None)
        path = _Brownian(
            leaves=[jax.ShapeDtypeStruct(v.shape, v.dtype) for v in leaves],
            noisy=tuple(d is not None for d in deviations),
            key=noise.key,
            levy_area=dfx.BrownianIncrement,
        )
        spread = [
            jnp.full_like(v, 0.0 if d is None else d * self.dt**0.5)
            for d, v in zip(deviations, leaves, strict=True)
        ]
        diffusion = dfx.ControlTerm(lambda t, y, args: lx.DiagonalLinearOperator(spread), path)
        return dfx.MultiTerm(terms, diffusion)


class _Moments:
    """What is to be seen after which fixed steps; everything is empty where nothing is."""

    def __init__(
        self, level: Rate, watch: tuple[Any, Callable[[Any], Any]] | None, steps: int, start: Any
    ) -> None:
        self.empty: Any = None
        if watch is None:
            return
        times, self._function = watch
        self._parts = level.parts
        at = np.rint(np.asarray(times) / level.dt).astype(int)
        if not np.allclose(at * level.dt, times, rtol=0, atol=1e-6 * level.dt):
            raise ValueError(f"times to watch are no multiples of dt = {level.dt} s: {times}")
        self._steps, self._rows = np.unique(np.minimum(at, steps), return_inverse=True)
        slots = np.full(steps + 1, len(self._steps))
        slots[self._steps] = np.arange(len(self._steps))
        self._slots = jnp.asarray(slots)
        self.empty = jax.tree.map(
            lambda s: jnp.zeros((len(self._steps), *s.shape), s.dtype),
            jax.eval_shape(self._function, start),
        )

    def note(self, rows: Any, k: Int[Array, ""], y: Any) -> Any:
        """The rows with what is seen of y, as it is before step k."""
        if self.empty is None:
            return None
        slot = self._slots.at[k // self._parts].get(mode="fill", fill_value=len(self._steps))
        slot = jnp.where(k % self._parts == 0, slot, len(self._steps))

        def write(rows: Any) -> Any:
            return jax.tree.map(lambda row, v: row.at[slot].set(v), rows, self._function(y))

        return jax.lax.cond(slot < len(self._steps), write, lambda rows: rows, rows)

    def seen(self, rows: Any, end: Any, taken: Int[Array, "..."], leading: int) -> Any:
        """All that was asked for, times behind the leading axes; from its end on, as at its end."""
        if self.empty is None:
            return None
        steps = self._steps.reshape(-1, *[1] * taken.ndim)
        rows = where(jnp.asarray(steps) * self._parts < taken, rows, self._function(end))
        return jax.tree.map(lambda row: jnp.moveaxis(row[self._rows], 0, leading), rows)


def _seen_of_each(problem: Problem, span: Span) -> tuple[Any, Callable[[Any], Any]] | None:
    """What is watched, as a function of the states of all samples."""
    if span.watch is None:
        return None
    times, function = span.watch
    return times, lambda v: problem.each(function, v)
