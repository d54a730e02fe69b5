"""The f–I curve of integrate-and-fire neurons: measured, and read backwards.

The curve is what Brian2 itself makes of the neurons at the time step of the run, so that neither
noise nor discretisation leaves a bias.
"""

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from neurosim.levels.spiking.neurons import Neurons

CURRENTS, CELLS = 128, 150
"""Currents tried, and how many neurons at each."""

SETTLING, DURATION = 0.1, 4.0
"""Seconds before counting, and of counting."""


class Curve(NamedTuple):
    """An f–I curve: currents (threshold 1) and the rates (Hz) they cause."""

    current: np.ndarray
    rate: np.ndarray


def calibrated(neurons: Neurons, curve: Curve) -> Neurons:
    """The same neurons with the table that turns rates into currents."""
    entries = round(neurons.max_rate / neurons.table_step) + 2
    rates = neurons.table_step * np.arange(entries)
    return replace(neurons, current=np.interp(rates, *_increasing(curve)))


def _increasing(curve: Curve) -> tuple[np.ndarray, np.ndarray]:
    """(rates, currents) from the last silent current on; ties, which noise can make, go."""
    rate = np.maximum.accumulate(curve.rate)
    last_silent = max(0, int(np.searchsorted(rate, 0, side="right")) - 1)
    rate, current = rate[last_silent:], curve.current[last_silent:]
    keep = np.concatenate([[True], np.diff(rate) > 0])
    return rate[keep], current[keep]


def currents(neurons: Neurons) -> np.ndarray:
    """The currents to try: from silence to a little more than `max_rate` takes."""
    top = neurons.noiseless_current(1.05 * neurons.max_rate)
    return np.linspace(1 - 4 * neurons.membrane_noise, top, CURRENTS)


def measure(neurons: Neurons) -> Curve:
    """Rates at currents up to where the neurons fire at `max_rate`, by simulation."""
    from neurosim.levels.spiking.brian import b2

    current = currents(neurons)
    clock = b2.Clock(neurons.dt * b2.second)
    namespace = {
        "tau_membrane": neurons.tau_membrane * b2.second,
        "membrane_noise": neurons.membrane_noise,
    }
    cells = b2.NeuronGroup(
        CURRENTS * CELLS,
        neurons.equations.replace("(linked)", ""),
        threshold=neurons.threshold,
        reset=neurons.reset,
        refractory=neurons.refractory * b2.second,
        method="euler",
        clock=clock,
        namespace=namespace,
    )
    rng = np.random.default_rng(0)
    cells.variables["drive"].get_value()[:] = np.repeat(current, CELLS)
    cells.variables["v"].get_value()[:] = rng.random(len(cells))
    counter = b2.SpikeMonitor(cells, record=False)
    brian = b2.Network(cells, counter)
    kept = np.random.get_state()
    target, b2.prefs.codegen.target = b2.prefs.codegen.target, "numpy"  # compiling takes longer
    try:
        b2.seed(0)
        brian.run(SETTLING * b2.second, namespace={})
        before = np.array(counter.count)
        brian.run(DURATION * b2.second, namespace={})
    finally:
        np.random.set_state(kept)
        b2.prefs.codegen.target = target
    rate = (np.array(counter.count) - before).reshape(CURRENTS, CELLS).mean(1) / DURATION
    return Curve(current, rate)
