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
from neurosim.networks.elementary import ELEMENTARY
from neurosim.process.compiled import options
from neurosim.stimuli import Stimulus
from neurosim.units import shown_in

RTOL = 1e-8
"""Relative to a state, or to the unit that its dimension is shown in: 1e-8 mV, or 1e-8."""

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
) -> tuple[Recorded, Spikes]:
    """Let cells move and look at them at the given times, which begin with 0.

    Needs 64 bits. Spikes are where the threshold is crossed on the cubic through two moments.

    Returns:
        The wanted quantities, and spikes; NaN from where a solution could not be had.
    """
    firing, rights = lone.cell.firing, [lone.cell.right(name) for name in lone.states]
    threshold = None if firing is None else firing.threshold.excess
    scale = jnp.asarray([shown_in(lone.dimensions[name])[1] for name in lone.states])
    moments, longest = jnp.asarray(times), times[1] - times[0]

    def solved(of: _At, edges: Sequence[Array], cell: Any) -> tuple[Array, Array]:
        """States at all moments, and how they move there."""

        def velocity(t: Any, state: Array) -> Array:
            return jnp.stack([jnp.asarray(of(t, state, cell)(right)) for right in rights])

        # Where a trial step goes so far that exponentials overflow, the controller is lost.
        controller: diffrax.AbstractStepSizeController = diffrax.PIDController(
            rtol=RTOL, atol=RTOL, dtmax=longest
        )
        if edges:
            jumps, beyond = jnp.concatenate([each[cell] for each in edges]), 2 * times[-1]
            # What lies at the very start or after the end is no jump.
            jumps = jnp.where((jumps > 0) & (jumps < times[-1]), jumps, beyond)
            controller = diffrax.ClipStepSizeController(controller, jump_ts=jnp.sort(jumps))
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(lambda t, y, _: velocity(t, y * scale) / scale),
            diffrax.Tsit5(),
            times[0],
            times[-1],
            longest / 100,
            jnp.asarray([lone.start[name] for name in lone.states]) / scale,
            saveat=diffrax.SaveAt(ts=moments),
            stepsize_controller=controller,
            max_steps=max(MAX_STEPS, MAX_STEPS_A_MOMENT * len(times)),
            throw=False,
        )
        states = jnp.where(jnp.isfinite(solution.ys), solution.ys, jnp.nan) * scale
        return states, jax.vmap(velocity)(moments, states)

    def seen(of: _At, t: Any, state: Array, moving: Array, cell: Any) -> tuple[Array, ...]:
        """What is wanted, and how far above threshold, and how fast that moves."""
        now = of(t, state, cell)
        shown = jnp.stack([jnp.asarray(now(name), float) for name in wanted])
        if threshold is None:
            return shown, jnp.zeros(()), jnp.zeros(())
        return shown, *jax.jvp(lambda state: of(t, state, cell)(threshold), (state,), (moving,))

    def all_cells(parameters: Any, given: Any, edges: Any, numbers: Array) -> tuple[Array, ...]:
        own = [replace(stimulus, **a) for stimulus, a in zip(stimuli, given, strict=True)]
        of = partial(_quantities, lone, parameters, own)
        states, moving = jax.vmap(partial(solved, of, edges))(numbers)
        over = jax.vmap(partial(seen, of), (0, 0, 0, None))
        return jax.vmap(over, (None, 0, 0, 0))(moments, states, moving, numbers)

    # Numbers are arguments, so that other ones compile nothing.
    given = [{name: jnp.asarray(getattr(s, name)) for name in COURSE} for s in stimuli]
    parameters = {name: jnp.asarray(value) for name, value in lone.parameters.items()}
    program = jax.jit(all_cells, compiler_options=options())
    edges = [jnp.asarray(stimulus.edges) for stimulus in stimuli]
    found = program(parameters, given, edges, jnp.arange(cells))
    shown, excess, slope = map(np.asarray, found)
    recorded = {name: shown[:, :, k].T for k, name in enumerate(wanted)}
    return recorded, _crossings(times, excess, slope)


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
