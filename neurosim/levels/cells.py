"""Lone cells that move smoothly: diffrax, every cell in steps of its own."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.interpolate import CubicHermiteSpline

from neurosim.circuits.expressions import Expression
from neurosim.circuits.lone_cells import LoneCell
from neurosim.levels.keeping import Keep
from neurosim.networks.elementary import ELEMENTARY
from neurosim.process.compiled import options
from neurosim.stimuli import Stimulus
from neurosim.units import shown_in

RTOL = 1e-8
"""Relative to a state, or to the unit that its dimension is shown in: 1e-8 mV, or 1e-8."""

PART = 500
"""Moments after which a state can be kept."""

MAX_STEPS, MAX_STEPS_A_MOMENT = 2**20, 64
"""What needs more has no solution there."""

COURSE = ("amplitude", "start", "stop", "frequency")
"""Numbers of a stimulus, of every cell."""

_At = Callable[[Any, Array, Any], Callable[[str | Expression], Any]]

Recorded = dict[str, Float[np.ndarray, "moments cells"]]
"""Quantity → its values at the moments of a grid."""

Spikes = tuple[np.ndarray, np.ndarray]
"""When (s), ascending, and the numbers of the cells."""


def record(
    lone: LoneCell,
    stimuli: Sequence[Stimulus],
    cells: int,
    times: Float[np.ndarray, " moments"],
    wanted: Sequence[str],
    keep: Keep,
) -> tuple[Recorded, Spikes]:
    """Let cells move and look at them at the given times, which begin with 0.

    Needs 64 bits. Spikes are where the threshold is crossed on the cubic through two moments. Steps
    begin anew after every `PART` moments, so that a recording which goes on there has the numbers
    of one that never stopped.

    Returns:
        The wanted quantities, and spikes; NaN from where a solution could not be had or was left.
    """
    scale = jnp.asarray([shown_in(lone.dimensions[name])[1] for name in lone.states])
    program = _program(lone, stimuli, wanted, scale, times[1] - times[0])
    # Numbers are arguments, so that other ones compile nothing.
    given = [{name: jnp.asarray(getattr(s, name)) for name in COURSE} for s in stimuli]
    parameters = {name: jnp.asarray(value) for name, value in lone.parameters.items()}
    edges = [jnp.asarray(stimulus.edges) for stimulus in stimuli]
    part = min(PART, len(times) - 1)
    count = -(-(len(times) - 1) // part)
    step = times[1] - times[0]
    padded = np.append(times, times[-1] + step * np.arange(1, count * part + 2 - len(times)))
    start = np.array([float(lone.start[name]) for name in lone.states])
    states, found = np.tile(start, (cells, 1)), []
    if keep.state is not None:
        states, found = keep.state["states"], keep.state["found"]
    for k in range(len(found), count):
        moments = padded[k * part : (k + 1) * part + 1]
        numbers = jnp.arange(cells), jnp.asarray(moments), jnp.asarray(states)
        states, *seen = map(np.asarray, program(parameters, given, edges, *numbers))
        found.append(seen)
        if not np.isfinite(states).all():
            break
        wants = k + 1 < count and keep.due()
        if wants and not keep.save({"states": states, "found": found}, moments[-1]):
            break
    shown, excess, slope = (
        _joined([seen[number] for seen in found], len(times)) for number in range(3)
    )
    recorded = {name: shown[:, :, k].T for k, name in enumerate(wanted)}
    return recorded, _crossings(times, excess, slope)


def _joined(parts: Sequence[np.ndarray], moments: int) -> np.ndarray:
    """(cells, moments, …) of parts of which each begins where the one before ended."""
    whole = np.concatenate([parts[0], *(part[:, 1:] for part in parts[1:])], axis=1)
    found = np.full((len(whole), moments, *whole.shape[2:]), np.nan)
    known = min(moments, whole.shape[1])
    found[:, :known] = whole[:, :known]
    return found


def _program(
    lone: LoneCell, stimuli: Sequence[Stimulus], wanted: Sequence[str], scale: Array, longest: float
) -> Callable[..., tuple[Array, ...]]:
    """States of all cells at the last of some moments, and what is seen at all of them: what is
    wanted, how far a cell is above threshold, and how fast that moves."""
    firing, rights = lone.cell.firing, [lone.cell.right(name) for name in lone.states]
    threshold = None if firing is None else firing.threshold.excess

    def solved(
        of: _At, edges: Sequence[Array], moments: Array, cell: Any, start: Array
    ) -> tuple[Array, Array]:
        """States at all moments, and how they move there."""

        def velocity(t: Any, state: Array) -> Array:
            return jnp.stack([jnp.asarray(of(t, state, cell)(right)) for right in rights])

        # Where a trial step goes so far that exponentials overflow, the controller is lost.
        controller: diffrax.AbstractStepSizeController = diffrax.PIDController(
            rtol=RTOL, atol=RTOL, dtmax=longest
        )
        first, last = moments[0], moments[-1]
        if edges:
            jumps, beyond = jnp.concatenate([each[cell] for each in edges]), 2 * last
            # What lies at the very start or after the end is no jump.
            jumps = jnp.where((jumps > first) & (jumps < last), jumps, beyond)
            controller = diffrax.ClipStepSizeController(controller, jump_ts=jnp.sort(jumps))
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(lambda t, y, _: velocity(t, y * scale) / scale),
            diffrax.Tsit5(),
            first,
            last,
            longest / 100,
            start / scale,
            saveat=diffrax.SaveAt(ts=moments),
            stepsize_controller=controller,
            max_steps=max(MAX_STEPS, MAX_STEPS_A_MOMENT * len(moments)),
            throw=False,
        )
        states = jnp.where(jnp.isfinite(solution.ys), solution.ys, jnp.nan) * scale
        return states, jax.vmap(velocity)(moments, states)

    def seen(of: _At, t: Any, state: Array, moving: Array, cell: Any) -> tuple[Array, ...]:
        now = of(t, state, cell)
        shown = jnp.stack([jnp.asarray(now(name), float) for name in wanted])
        if threshold is None:
            return shown, jnp.zeros(()), jnp.zeros(())
        return shown, *jax.jvp(lambda state: of(t, state, cell)(threshold), (state,), (moving,))

    def all_cells(
        parameters: Any, given: Any, edges: Any, numbers: Array, moments: Array, start: Array
    ) -> tuple[Array, ...]:
        own = [replace(stimulus, **a) for stimulus, a in zip(stimuli, given, strict=True)]
        of = partial(_quantities, lone, parameters, own)
        states, moving = jax.vmap(partial(solved, of, edges, moments))(numbers, start)
        over = jax.vmap(partial(seen, of), (0, 0, 0, None))
        return states[:, -1], *jax.vmap(over, (None, 0, 0, 0))(moments, states, moving, numbers)

    return jax.jit(all_cells, compiler_options=options())


def _quantities(
    lone: LoneCell,
    parameters: Mapping[str, Array],
    stimuli: Sequence[Stimulus],
    t: Any,
    state: Array,
    cell: Any,
) -> Callable[[str | Expression], Any]:
    """What the names of a cell, and expressions in them, are at a time."""
    known: dict[str, Any] = {name: p[cell] if p.ndim else p for name, p in parameters.items()}
    known |= dict(zip(lone.states, state, strict=True))

    def of(what: str | Expression) -> Any:
        if isinstance(what, Expression):
            return what({name: of(name) for name in what.names}, ELEMENTARY)
        if what not in known:
            known[what] = brought(what) if what in lone.inputs else of(lone.cell.right(what))
        return known[what]

    def brought(name: str) -> Any:
        total: Any = 0.0
        for stimulus in (s for s in stimuli if s.into == name):
            amount = stimulus(t, cell, jnp)
            if stimulus.reversal is not None:
                (potential,) = lone.driven(name)
                amount = amount * (stimulus.reversal - of(potential))
            total = total + amount
        return total

    return of


def _crossings(
    times: np.ndarray, excess: Float[np.ndarray, "cells moments"], slope: np.ndarray
) -> Spikes:
    """Where a quantity rises through zero, on the cubics through its values and slopes."""
    at, who = [np.zeros(0)], [np.zeros(0, int)]
    for cell in np.flatnonzero(np.isfinite(excess).all(1) & (np.diff(excess > 0).any(1))):
        cubics = CubicHermiteSpline(times, excess[cell], slope[cell])
        roots = cubics.roots(extrapolate=False)
        rising = roots[np.isfinite(roots) & (cubics(roots, 1) > 0)]
        at.append(rising)
        who.append(np.full(len(rising), cell))
    order = np.argsort(np.concatenate(at), kind="stable")
    return np.concatenate(at)[order], np.concatenate(who)[order]
