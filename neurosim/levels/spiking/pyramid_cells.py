"""Two-compartment cells behind units in Brian2, and the curves by which units drive and hear them.

Both are measured over a grid of somatic and apical currents, with the cells themselves at the time
step of the run, so that neither noise nor discretisation leaves a bias.
"""

import numpy as np

from neurosim.circuits.lone_cells import LoneCell
from neurosim.levels.spiking.brian import b2
from neurosim.levels.spiking.cells import PREFIX, Guests, made
from neurosim.levels.spiking.neurons import LONG_AGO, Neurons
from neurosim.levels.spiking.pyramid_curves import Curves
from neurosim.levels.spiking.pyramids import (
    APICAL,
    COLUMNS,
    INPUTS,
    KEPT,
    PATHWAYS,
    SOMATIC,
    Calibration,
    Measured,
    Working,
    after_spikes,
)
from neurosim.stimuli import Stimulus

NOISE, TAU_NOISE = 450e-12, 2e-3
"""Deviation (A) and correlation time (s) of what every cell has of its own in both compartments."""


def noise(dt: float, into: str) -> Stimulus:
    """The noise of every cell."""
    one = np.ones(1)
    return Stimulus(
        "ornstein-uhlenbeck", into, None, NOISE * one, 0 * one, np.inf * one, 0 * one, 0.0, dt,
        None, np.zeros(1, int), TAU_NOISE,
    )  # fmt: skip


def group(cell: LoneCell, count: int, limit: int, clock: b2.Clock, name: str) -> b2.NeuronGroup:
    """The cells of all units. limit: spikes fewer steps apart are of one burst."""
    lines = [f"{told} : 1 (linked)" for told in INPUTS]
    lines += ["last_spike : integer", "in_burst : integer"]
    lines += [f"{kept} : 1" for pathway in PATHWAYS for kept in pathway.kept]
    dt = float(clock.dt_)
    guests = Guests(
        lines=lines,
        brought={into: [told] for told, into in INPUTS.items()},
        resets=after_spikes(limit, dt),
    )
    stimuli = [noise(dt, into) for into in INPUTS.values()]
    return made(cell, stimuli, count, dt, 1, name, guests, clock)


CELLS = 150
"""At each of its points."""

SETTLING, WINDOW, DURATION = 0.3, 0.3, 3.0
"""Seconds before counting, of a window of it, and of all of it: multiples of the window."""

SHARES = 1025
"""Probabilities of the table of apical currents."""

CYCLES = 500
"""Cells at the base whose states are kept."""


SETTINGS = NOISE, TAU_NOISE, SOMATIC, APICAL, CELLS, SETTLING, WINDOW, DURATION
"""What curves depend on beside the cells."""

TALLIES = ("event_count", "burst_count", "events", "bursts")
"""What units count, in the order of `Measured`."""


def measure(neurons: Neurons) -> Calibration:
    """What the cells do at all currents of the grid, by simulation."""
    shape = len(SOMATIC), len(APICAL)
    somatic, apical = np.meshgrid(SOMATIC, APICAL, indexing="ij")
    found, _ = _counted(neurons, somatic.ravel(), apical.ravel(), CELLS, DURATION)
    rates = Measured(*(each.mean(axis=(1, 2)).reshape(shape) / WINDOW for each in found))
    apart = found - found.mean(axis=(2, 3), keepdims=True)
    covariance = np.einsum("apcw,bpcw->pab", apart, apart)
    covariance /= (found.shape[2] * found.shape[3] - 1) * WINDOW
    return Calibration(rates, covariance.reshape(*shape, *covariance.shape[1:]))


def _counted(
    neurons: Neurons, somatic: np.ndarray, apical: np.ndarray, cells: int, duration: float
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Tallies of cells at these currents, and all states of cells in the end.

    Of shape (tally, current, cell, window): of every cell, window by window.
    """
    assert neurons.cell is not None
    who = np.arange(len(somatic) * cells)
    somatic, apical = (np.repeat(currents, cells) for currents in (somatic, apical))
    kept = np.random.get_state()
    target, b2.prefs.codegen.target = b2.prefs.codegen.target, "numpy"  # compiling takes longer
    try:
        b2.seed(0)  # before the cells are made, whose noise is drawn then
        clock = b2.Clock(neurons.dt * b2.second)
        counted = "\n".join(f"{name} : 1" for name in (*INPUTS, *TALLIES))
        units = b2.NeuronGroup(len(somatic), counted, clock=clock, name="tried_units")
        tried = group(neurons.cell, len(who), neurons.limit_steps, clock, "tried_cells")
        for told, currents in zip(INPUTS, (somatic, apical), strict=True):
            setattr(tried, told, b2.linked_var(units, told, index=who))
            units.variables[told].get_value()[:] = currents
        tried.variables["last_spike"].get_value()[:] = LONG_AGO
        telling = b2.Synapses(
            tried, units, on_pre=neurons.on_spike, clock=clock, namespace={}, name="tried_telling"
        )
        telling.connect(i=who, j=who)
        looks = b2.StateMonitor(units, TALLIES, record=True, dt=WINDOW * b2.second)
        brian = b2.Network(tried, units, telling, looks)
        brian.run((SETTLING + duration) * b2.second, namespace={})
        looks.record_single_timestep()  # the end itself
    finally:
        np.random.set_state(kept)
        b2.prefs.codegen.target = target
    tallies = np.stack([np.asarray(getattr(looks, name)) for name in TALLIES])
    tallies = np.diff(tallies[..., round(SETTLING / WINDOW) :], axis=-1)
    step = clock.variables["timestep"].get_value().item()
    states = {name: np.array(tried.variables[name].get_value()) for name in cycled(neurons.cell)}
    states["last_spike"] = states["last_spike"] - step
    return tallies.reshape(len(TALLIES), -1, cells, tallies.shape[-1]), states


def cycled(cell: LoneCell) -> list[str]:
    """All states of a cell, among them its noise and what it keeps of its spikes."""
    noises = [f"stimulus_{number}" for number in range(len(INPUTS))]
    return [*(PREFIX + name for name in cell.states), *noises, *KEPT]


def working(neurons: Neurons, measured: Measured) -> Working:
    """How units drive and hear cells of these curves.

    The base is where events come at the base rate and burst with the base probability.

    Raises:
        InputError: no currents of the grid make the base, or `max_rate`.
    """
    curves = Curves(neurons, measured)
    lines = curves.lines
    rates, shares = np.linspace(0, neurons.max_rate, COLUMNS), np.linspace(0, 1, COLUMNS)
    somatic, apical = curves.driving(rates[:, None], shares)
    table = neurons.table_step * np.arange(round(neurons.max_rate / neurons.table_step) + 2)
    somatic_base, apical_base = (np.array([current]) for current in curves.base)
    _, cycle = _counted(neurons, somatic_base, apical_base, CYCLES, 0.2)
    return Working(
        base=curves.base,
        drive=_finer(table, rates, somatic),
        rate_step=neurons.table_step,
        apical_drive=_finer(np.linspace(0, 1, SHARES), shares, apical.T),
        share_step=1 / (SHARES - 1),
        events=lines.events,
        share=lines.share,
        cycle=cycle,
    )


def _finer(table: np.ndarray, x: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Columns over x as a table."""
    return np.stack([np.interp(table, x, column) for column in columns.T], axis=1)
