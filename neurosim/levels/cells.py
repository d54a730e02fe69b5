"""Lone cells that move smoothly: diffrax, every cell in steps of its own."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from neurosim.circuits.expressions import Expression
from neurosim.circuits.lone_cells import LoneCell
from neurosim.networks.elementary import ELEMENTARY
from neurosim.stimuli import Stimulus
from neurosim.units import shown_in

RTOL = 1e-8
"""Relative to a state, or to the unit that its dimension is shown in: 1e-8 mV, or 1e-8."""

MAX_STEPS, MAX_STEPS_A_MOMENT = 2**20, 64
"""What needs more has no solution there."""

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
    quantities = partial(_quantities, lone, stimuli)
    threshold = None if lone.cell.firing is None else lone.cell.firing.threshold.excess
    scale = jnp.asarray([shown_in(lone.dimensions[name])[1] for name in lone.states])

    def velocity(t: Any, state: Array, cell: Any) -> Array:
        of = quantities(t, state, cell)
        return jnp.stack([jnp.asarray(of(f"d{name}")) for name in lone.states])

    def solved(cell: Any) -> tuple[Array, Array]:
        """States at all moments, in units of their scales, and how they move there."""
        # Where a trial step goes so far that exponentials overflow, the controller is lost.
        longest = times[1] - times[0]
        controller: diffrax.AbstractStepSizeController = diffrax.PIDController(
            rtol=RTOL, atol=RTOL, dtmax=longest
        )
        if stimuli:
            edges = jnp.concatenate([jnp.asarray(stimulus.edges)[cell] for stimulus in stimuli])
            beyond = 2 * times[-1]  # what lies at the very start or after the end is no jump
            jumps = jnp.where((edges > 0) & (edges < times[-1]), edges, beyond)
            controller = diffrax.ClipStepSizeController(controller, jump_ts=jnp.sort(jumps))
        start = jnp.asarray([lone.start[name] for name in lone.states]) / scale
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(lambda t, y, _: velocity(t, y * scale, cell) / scale),
            diffrax.Tsit5(),
            times[0],
            times[-1],
            longest / 100,
            start,
            saveat=diffrax.SaveAt(ts=jnp.asarray(times)),
            stepsize_controller=controller,
            max_steps=max(MAX_STEPS, MAX_STEPS_A_MOMENT * len(times)),
            throw=False,
        )
        states = jnp.where(jnp.isfinite(solution.ys), solution.ys, jnp.nan) * scale
        return states, jax.vmap(lambda t, y: velocity(t, y, cell))(jnp.asarray(times), states)

    def seen(t: Any, state: Array, moving: Array, cell: Any) -> tuple[Array, Array, Array]:
        """What is wanted, and how far above threshold, and how fast that moves."""
        of = quantities(t, state, cell)
        shown = jnp.stack([jnp.asarray(of(name), float) for name in wanted])
        if threshold is None:
            return shown, jnp.zeros(()), jnp.zeros(())

        def excess(state: Array) -> Array:
            at = quantities(t, state, cell)
            return at(threshold)

        value, slope = jax.jvp(excess, (state,), (moving,))
        return shown, value, slope

    @jax.jit
    def all_cells(numbers: Array) -> tuple[Array, Array, Array]:
        states, moving = jax.vmap(solved)(numbers)
        over = jax.vmap(seen, (0, 0, 0, None))
        return jax.vmap(over, (None, 0, 0, 0))(jnp.asarray(times), states, moving, numbers)

    shown, excess, slope = map(np.asarray, all_cells(jnp.arange(cells)))
    recorded = {name: shown[:, :, k].T for k, name in enumerate(wanted)}
    return recorded, _crossings(times, excess, slope)


def _quantities(lone: LoneCell, stimuli: Sequence[Stimulus], t: Any, state: Any, cell: Any) -> Any:
    """What a cell's names mean at a time: of a name, `d` and a state, or an expression."""
    known: dict[str, Any] = dict(lone.parameters)
    known |= {name: state[k] for k, name in enumerate(lone.states)}
    rights = {equation.name: equation.right for equation in lone.cell.equations}

    def value(text: Expression) -> Any:
        return text({name: of(name) for name in text.names}, ELEMENTARY)

    def of(what: str | Expression) -> Any:
        if isinstance(what, Expression):
            return value(what)
        if what in known:
            return known[what]
        if what.startswith("d") and what[1:] in lone.states and what not in rights:
            return value(rights[what[1:]])
        if what in lone.inputs:
            known[what] = brought(what)
        else:
            known[what] = value(rights[what])
        return known[what]

    def brought(name: str) -> Any:
        total: Any = 0.0
        for stimulus in stimuli:
            if stimulus.into == name:
                amount = stimulus(t, cell, jnp)
                if stimulus.reversal is not None:
                    amount = amount * (stimulus.reversal - of(lone.readout))
                total = total + amount
        return total

    return of


def _crossings(
    times: np.ndarray, excess: Float[np.ndarray, "cells moments"], slope: np.ndarray
) -> Spikes:
    """Where a quantity rises through zero between two moments, by Hermite's cubic."""
    cells, before = np.nonzero((excess[:, :-1] <= 0) & (excess[:, 1:] > 0))
    step = times[before + 1] - times[before]
    low, high = excess[cells, before], excess[cells, before + 1]
    rises = step * slope[cells, before], step * slope[cells, before + 1]
    below, above = np.zeros(len(cells)), np.ones(len(cells))
    for _ in range(40):  # halves the bracket each time
        u = (below + above) / 2
        cubic = (
            low * (1 + 2 * u) * (1 - u) ** 2
            + rises[0] * u * (1 - u) ** 2
            + high * u**2 * (3 - 2 * u)
            - rises[1] * u**2 * (1 - u)
        )
        below, above = np.where(cubic <= 0, u, below), np.where(cubic <= 0, above, u)
    at = times[before] + step * below
    order = np.argsort(at, kind="stable")
    return at[order], cells[order]
