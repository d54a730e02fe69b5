"""Two-compartment cells behind units in Brian2, and the curves by which units drive and hear them.

Both are measured over a grid of somatic and apical currents, with the cells themselves at the time
step of the run, so that neither noise nor discretisation leaves a bias.
"""

import numpy as np
from scipy.interpolate import RectBivariateSpline

from neurosim.circuits.lone_cells import LoneCell
from neurosim.levels.spiking.brian import b2
from neurosim.levels.spiking.cells import PREFIX, Guests, made
from neurosim.levels.spiking.neurons import LONG_AGO, Neurons
from neurosim.levels.spiking.pyramids import (
    INPUTS,
    KEPT,
    PATHWAYS,
    Line,
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


SOMATIC, APICAL = np.linspace(0, 1000e-12, 11), np.linspace(-400e-12, 500e-12, 10)
"""The grid of currents (A)."""

CELLS = 150
"""At each of its points."""

SETTLING, DURATION = 0.3, 3.0
"""Seconds before counting, and of counting."""

SHARE_STEP = 1 / 1024
"""Between two probabilities of the table of apical currents."""

CYCLES = 500
"""Cells at the base whose states are kept."""


SETTINGS = NOISE, TAU_NOISE, SOMATIC, APICAL, CELLS, SETTLING, DURATION
"""What curves depend on beside the cells."""

TALLIES = ("event_count", "burst_count", "events", "bursts")
"""What units count, in the order of `Measured`."""


def measure(neurons: Neurons) -> Measured:
    """What the cells do at all currents of the grid, by simulation."""
    somatic, apical = np.meshgrid(SOMATIC, APICAL, indexing="ij")
    found, _ = _counted(neurons, somatic.ravel(), apical.ravel(), CELLS, DURATION)
    return Measured(*(each.reshape(somatic.shape) / (CELLS * DURATION) for each in found))


def _counted(
    neurons: Neurons, somatic: np.ndarray, apical: np.ndarray, cells: int, duration: float
) -> tuple[list[np.ndarray], dict[str, np.ndarray]]:
    """Tallies of units of so many cells at these currents, and all states of cells in the end."""
    assert neurons.cell is not None
    clock = b2.Clock(neurons.dt * b2.second)
    units = b2.NeuronGroup(
        len(somatic),
        "\n".join(f"{name} : 1" for name in (*INPUTS, *TALLIES)),
        clock=clock,
        name="tried_units",
    )
    count, limit = len(somatic) * cells, neurons.limit_steps
    unit = np.arange(count) // cells
    group_ = group(neurons.cell, count, limit, clock, "tried_cells")
    for told, currents in zip(INPUTS, (somatic, apical), strict=True):
        setattr(group_, told, b2.linked_var(units, told, index=unit))
        units.variables[told].get_value()[:] = currents
    group_.variables["last_spike"].get_value()[:] = LONG_AGO
    telling = b2.Synapses(
        group_, units, on_pre=neurons.on_spike, clock=clock, namespace={}, name="tried_telling"
    )
    telling.connect(i=np.arange(count), j=unit)
    brian = b2.Network(group_, units, telling)
    kept = np.random.get_state()
    target, b2.prefs.codegen.target = b2.prefs.codegen.target, "numpy"  # compiling takes longer
    try:
        b2.seed(0)
        brian.run(SETTLING * b2.second, namespace={})
        before = [np.array(units.variables[name].get_value()) for name in TALLIES]
        brian.run(duration * b2.second, namespace={})
    finally:
        np.random.set_state(kept)
        b2.prefs.codegen.target = target
    after = [np.array(units.variables[name].get_value()) for name in TALLIES]
    step = clock.variables["timestep"].get_value().item()
    states = {name: np.array(group_.variables[name].get_value()) for name in cycled(neurons.cell)}
    states["last_spike"] = states["last_spike"] - step
    return [b - a for a, b in zip(before, after, strict=True)], states


def cycled(cell: LoneCell) -> list[str]:
    """All states of a cell, among them its noise and what it keeps of its spikes."""
    noises = [f"stimulus_{number}" for number in range(len(INPUTS))]
    return [*(PREFIX + name for name in cell.states), *noises, *KEPT]


def working(neurons: Neurons, measured: Measured) -> Working:
    """How units drive and hear cells of these curves.

    Along two lines through the base, where events come at the base rate and burst with the base
    probability: over somatic currents at its apical one and over apical currents at its somatic
    one. What cells do off these lines, units do not know.
    """
    grid = SOMATIC * 1e12, APICAL * 1e12
    roots = [RectBivariateSpline(*grid, np.sqrt(rates), s=0) for rates in measured]
    fine = [np.linspace(grid[0], grid[-1], 400) for grid in (SOMATIC, APICAL)]

    def along(axis: int, base: list[float]) -> list[np.ndarray]:
        points = [np.atleast_1d(at) for at in base]
        points[axis] = fine[axis]
        return [(root(*(p * 1e12 for p in points)) ** 2).ravel() for root in roots]

    base = [SOMATIC.mean(), APICAL.mean()]
    for _ in range(20):
        events, *_ = along(0, base)
        base[0] = float(np.interp(neurons.base_rate, *_increasing(events, fine[0])))
        events, bursts, *_ = along(1, base)
        share = bursts / events
        base[1] = float(np.interp(neurons.base_probability, *_increasing(share, fine[1])))
    events, _, depressing, _ = along(0, base)
    rates, currents = _increasing(events, fine[0])
    rate_step = neurons.table_step
    table = rate_step * np.arange(round(neurons.max_rate / rate_step) + 2)
    drive = np.interp(table, rates, currents)
    used = np.abs(events - neurons.base_rate) <= 2 * neurons.gain
    heard = _fitted(depressing[used], events[used])
    events, bursts, depressing, facilitating = along(1, base)
    share, ratio = bursts / events, facilitating / depressing
    shares, currents = _increasing(share, fine[1])
    apical = np.interp(SHARE_STEP * np.arange(round(1 / SHARE_STEP) + 2), shares, currents)
    used = np.abs(share - neurons.base_probability) <= 2 * neurons.probability_gain
    of_share = _fitted(ratio[used], share[used])
    _, cycle = _counted(neurons, np.array(base[:1]), np.array(base[1:]), CYCLES, 0.2)
    more = apical, SHARE_STEP, heard, of_share, cycle
    return Working((base[0], base[1]), drive, rate_step, *more)


def _increasing(found: np.ndarray, currents: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(what is found, currents) where it rises to new heights."""
    high = np.maximum.accumulate(found)
    keep = np.concatenate([[True], np.diff(high) > 0])
    return high[keep], currents[keep]


def _fitted(x: np.ndarray, y: np.ndarray) -> Line:
    slope, offset = np.polyfit(x, y, 1)
    return Line(float(offset), float(slope))
