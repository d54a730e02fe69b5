"""The curves by which neurons were calibrated, as a trace holds them."""

import numpy as np

from neurosim.levels.spiking.calibration import Curve, currents
from neurosim.levels.spiking.neurons import PYRAMIDAL, Neurons
from neurosim.levels.spiking.pyramids import APICAL, SOMATIC, Calibration, Measured
from neurosim.traces.layout import Axis, Variable


def axes(neurons: Neurons) -> list[Axis]:
    """What the curves are over."""
    if neurons.kind != PYRAMIDAL:
        return [Axis("current", currents(neurons), "1", "current into a neuron, threshold 1")]
    counts = np.array(Measured._fields)
    told = "counts of cells, and what depressing and facilitating synapses pass of their spikes"
    return [
        Axis("somatic", 1e12 * SOMATIC, "pA", "current into the soma"),
        Axis("apical", 1e12 * APICAL, "pA", "current into the apical dendrite"),
        Axis("count", counts, None, told),
        Axis("other", counts, None, told),
    ]


def variables(neurons: Neurons) -> list[Variable]:
    """The curves."""
    if neurons.kind != PYRAMIDAL:
        return [Variable("calibration/rate", ("current",), "Hz", "firing rate: the f–I curve")]
    over = ("somatic", "apical", "count")
    return [
        Variable("calibration/rate", over, "Hz", "counts a second and cell", "float64"),
        Variable("calibration/covariance", (*over, "other"), "Hz",
                 "of the counts of a cell over windows, a second", "float64"),
    ]  # fmt: skip


def arrays(curves: Curve | Calibration) -> dict[str, np.ndarray]:
    """The same as numbers, by name."""
    if isinstance(curves, Curve):
        return {"rate": curves.rate}
    return {"rate": np.stack(curves.rates, axis=-1), "covariance": curves.covariance}
