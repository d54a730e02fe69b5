"""Two-compartment cells behind units in Brian2, and the curves by which units drive and hear them.

Both are measured over a grid of somatic and apical currents, with the cells themselves at the time
step of the run, so that neither noise nor discretisation leaves a bias.
"""

import numpy as np
from scipy.interpolate import RectBivariateSpline
from scipy.spatial import cKDTree

from neurosim.circuits.lone_cells import LoneCell
from neurosim.errors import InputError
from neurosim.levels.spiking.brian import b2
from neurosim.levels.spiking.cells import PREFIX, Guests, made
from neurosim.levels.spiking.neurons import LONG_AGO, Neurons
from neurosim.levels.spiking.pyramids import (
    COLUMNS,
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

FINE, SHARES = 401, 1025
"""Currents along a line, and probabilities of the table of apical currents."""

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
    unit = np.arange(len(somatic) * cells) // cells
    kept = np.random.get_state()
    target, b2.prefs.codegen.target = b2.prefs.codegen.target, "numpy"  # compiling takes longer
    try:
        b2.seed(0)  # before the cells are made, whose noise is drawn then
        clock = b2.Clock(neurons.dt * b2.second)
        counted = "\n".join(f"{name} : 1" for name in (*INPUTS, *TALLIES))
        units = b2.NeuronGroup(len(somatic), counted, clock=clock, name="tried_units")
        tried = group(neurons.cell, len(unit), neurons.limit_steps, clock, "tried_cells")
        for told, currents in zip(INPUTS, (somatic, apical), strict=True):
            setattr(tried, told, b2.linked_var(units, told, index=unit))
            units.variables[told].get_value()[:] = currents
        tried.variables["last_spike"].get_value()[:] = LONG_AGO
        telling = b2.Synapses(
            tried, units, on_pre=neurons.on_spike, clock=clock, namespace={}, name="tried_telling"
        )
        telling.connect(i=np.arange(len(unit)), j=unit)
        brian = b2.Network(tried, units, telling)
        brian.run(SETTLING * b2.second, namespace={})
        before = [np.array(units.variables[name].get_value()) for name in TALLIES]
        brian.run(duration * b2.second, namespace={})
    finally:
        np.random.set_state(kept)
        b2.prefs.codegen.target = target
    after = [np.array(units.variables[name].get_value()) for name in TALLIES]
    step = clock.variables["timestep"].get_value().item()
    states = {name: np.array(tried.variables[name].get_value()) for name in cycled(neurons.cell)}
    states["last_spike"] = states["last_spike"] - step
    return [b - a for a, b in zip(before, after, strict=True)], states


def cycled(cell: LoneCell) -> list[str]:
    """All states of a cell, among them its noise and what it keeps of its spikes."""
    noises = [f"stimulus_{number}" for number in range(len(INPUTS))]
    return [*(PREFIX + name for name in cell.states), *noises, *KEPT]


def working(neurons: Neurons, measured: Measured) -> Working:
    """How units drive and hear cells of these curves.

    The base is where events come at the base rate and burst with the base probability; lines are
    those over somatic currents at its apical one, and over apical currents at its somatic one.

    Raises:
        InputError: no currents of the grid make the base, or `max_rate`.
    """
    curves = _Curves(measured, neurons.max_rate)
    (base,) = curves.currents(np.array([neurons.base_rate]), np.array([neurons.base_probability]))
    of_rate, of_share = curves.along(0, base[1]), curves.along(1, base[0])
    _check(neurons, of_rate.events, of_share.share)
    rates = np.linspace(0, neurons.max_rate, COLUMNS)
    shares = np.linspace(0, 1, COLUMNS)
    joint = neurons.currents == "joint"
    asked = np.meshgrid(rates, shares if joint else [neurons.base_probability], indexing="ij")
    somatic = curves.currents(*asked)[..., 0]
    asked = np.meshgrid(shares, rates if joint else [neurons.base_rate], indexing="ij")
    apical = curves.currents(*asked[::-1])[..., 1]
    table = neurons.table_step * np.arange(round(neurons.max_rate / neurons.table_step) + 2)
    used = np.abs(of_rate.events - neurons.base_rate) <= 2 * neurons.gain
    near = np.abs(of_share.share - neurons.base_probability) <= 2 * neurons.probability_gain
    heard = _fitted(of_rate.depressing[used], of_rate.events[used])
    ratio = of_share.facilitating / heard(of_share.depressing)
    _, cycle = _counted(neurons, base[:1], base[1:], CYCLES, 0.2)
    return Working(
        base=(float(base[0]), float(base[1])),
        drive=_finer(table, rates, somatic),
        rate_step=neurons.table_step,
        apical_drive=_finer(np.linspace(0, 1, SHARES), shares, apical),
        share_step=1 / (SHARES - 1),
        events=heard,
        share=_fitted(ratio[near], of_share.share[near]),
        cycle=cycle,
    )


class _Curves:
    """What is measured, between the points of the grid: by its roots, as they scatter alike.

    highest: the rate (Hz) that differences of rates are held against.
    """

    def __init__(self, measured: Measured, highest: float) -> None:
        grid = SOMATIC * 1e12, APICAL * 1e12
        self._fine = [np.linspace(of[0], of[-1], FINE) for of in (SOMATIC, APICAL)]
        roots = [RectBivariateSpline(*grid, np.sqrt(rates), s=0) for rates in measured]
        self._values = Measured(*(root(*(of * 1e12 for of in self._fine)) ** 2 for root in roots))
        events, share = self._values.events, self._values.share
        # Too much into the dendrite, and cells burst less again; there is another way to that.
        rising = share >= np.maximum.accumulate(share, axis=1)
        self._highest, self._pairs = highest, np.argwhere(rising)
        self._found = cKDTree(np.stack([events[rising] / highest, share[rising]], axis=1))

    def along(self, axis: int, other: float) -> Measured:
        """Over somatic (0) or apical (1) currents; other: the other current."""
        at = int(np.argmin(np.abs(self._fine[1 - axis] - other)))
        return Measured(*(v[:, at] if axis == 0 else v[at] for v in self._values))

    def currents(self, rates: np.ndarray, shares: np.ndarray) -> np.ndarray:
        """Both currents of rates of events and burst probabilities, or of those nearest to them."""
        _, nearest = self._found.query(np.stack([rates / self._highest, shares], axis=-1))
        pairs = self._pairs[nearest]
        return np.stack([self._fine[k][pairs[..., k]] for k in (0, 1)], axis=-1)


def _finer(table: np.ndarray, x: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Columns over x as a table of `COLUMNS`; a single one is that of all."""
    found = np.stack([np.interp(table, x, column) for column in columns.T], axis=1)
    return np.broadcast_to(found, (len(table), COLUMNS)).copy()


def _check(neurons: Neurons, over_somatic: np.ndarray, over_apical: np.ndarray) -> None:
    """Refuse what the cells cannot do."""
    wrong = []
    rates, shares = ([each.min(), each.max()] for each in (over_somatic, over_apical))
    for key in ("base_rate", "max_rate"):
        asked = getattr(neurons, key)
        if not rates[0] < asked < rates[-1]:
            wrong.append(
                f"model.spiking.{key}: {asked:g} Hz; {neurons.kind} cells fire events at "
                f"{rates[0]:.2g} to {rates[-1]:.2g} Hz where {neurons.base_probability:g} of them "
                "are bursts; expected a rate within"
            )
    if not shares[0] < neurons.base_probability < shares[-1]:
        wrong.append(
            f"model.spiking.base_probability: {neurons.base_probability:g}; of the events of "
            f"{neurons.kind} cells at {neurons.base_rate:g} Hz {shares[0]:.2g} to "
            f"{shares[-1]:.2g} are bursts; expected a probability within"
        )
    if wrong:
        raise InputError(wrong)


def _fitted(x: np.ndarray, y: np.ndarray) -> Line:
    slope, offset = np.polyfit(x, y, 1)
    return Line(float(offset), float(slope))
