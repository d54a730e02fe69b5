"""What two-compartment cells do over a grid of currents: read backwards, and how it scatters.

Counts of a cell over a while T have the covariance C T where T is longer than what its spikes
remember, C being measured over windows. What an ensemble of N such cells tells of a rate or a
probability scatters by the gradient g of what is told with these counts: gᵀ C g/(N T).
"""

from typing import NamedTuple

import numpy as np
from scipy.interpolate import RectBivariateSpline, RegularGridInterpolator
from scipy.spatial import cKDTree

from neurosim.errors import InputError
from neurosim.levels.spiking.neurons import Neurons
from neurosim.levels.spiking.pyramids import APICAL, SOMATIC, Calibration, Line, Measured

FINE = 401
"""Currents along a line between its points."""


STEP = 0.5
"""Between activities over whose curves slopes are taken."""


class Lines(NamedTuple):
    """How cells are heard: see `Working`."""

    events: Line
    share: Line


class Intensities(NamedTuple):
    """Of the white noise in what an ensemble says of a rate or a probability, in its own unit (s).

    counted: in counts of its spikes, that rules read. heard: in what synapses pass of them. both:
    of the one with the other.
    """

    counted: np.ndarray
    heard: np.ndarray
    both: np.ndarray


class Curves:
    """What is measured, between the points of the grid: by its roots, as they scatter alike."""

    def __init__(self, neurons: Neurons, measured: Measured) -> None:
        grid = SOMATIC * 1e12, APICAL * 1e12
        self._neurons = neurons
        self._fine = [np.linspace(of[0], of[-1], FINE) for of in (SOMATIC, APICAL)]
        roots = [RectBivariateSpline(*grid, np.sqrt(rates), s=0) for rates in measured]
        self._values = Measured(*(root(*(of * 1e12 for of in self._fine)) ** 2 for root in roots))
        events, share = self._values.events, self._values.share
        # Too much into the dendrite, and cells burst less again; there is another way to that.
        rising = share >= np.maximum.accumulate(share, axis=1)
        self._pairs = np.argwhere(rising)
        scaled = events[rising] / neurons.max_rate
        self._found = cKDTree(np.stack([scaled, share[rising]], axis=1))
        somatic, apical = self._currents(neurons.base_rate, neurons.base_probability)
        self.base = float(somatic), float(apical)

    def _along(self, axis: int) -> Measured:
        """Over somatic (0) or apical (1) currents, the other current that of the base."""
        at = int(np.argmin(np.abs(self._fine[1 - axis] - self.base[1 - axis])))
        return Measured(*(v[:, at] if axis == 0 else v[at] for v in self._values))

    def _currents(self, rates: np.ndarray | float, shares: np.ndarray | float) -> np.ndarray:
        """Both currents of rates of events and burst probabilities, or of those nearest to them."""
        asked = np.stack(np.broadcast_arrays(rates / self._neurons.max_rate, shares), axis=-1)
        _, nearest = self._found.query(asked)
        pairs = self._pairs[nearest]
        return np.stack([self._fine[k][pairs[..., k]] for k in (0, 1)])

    def driving(self, rates: np.ndarray, shares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The somatic and the apical current that units which ask for these tell their cells."""
        if self._neurons.currents == "joint":
            somatic, apical = self._currents(rates, shares)
            return somatic, apical
        rates, shares = np.broadcast_arrays(rates, shares)
        somatic = self._currents(rates, self._neurons.base_probability)[0]
        return somatic, self._currents(self._neurons.base_rate, shares)[1]

    @property
    def lines(self) -> Lines:
        """Fitted to the curve over somatic currents at the apical one of the base, and to that over
        apical currents at its somatic one.

        Raises:
            InputError: the cells fire and burst at neither.
        """
        neurons, of_rate, of_share = self._neurons, self._along(0), self._along(1)
        _check(neurons, of_rate.events, of_share.share)
        used = np.abs(of_rate.events - neurons.base_rate) <= 2 * neurons.gain
        near = np.abs(of_share.share - neurons.base_probability) <= 2 * neurons.probability_gain
        events = _fitted(of_rate.depressing[used], of_rate.events[used])
        ratio = of_share.facilitating / events(of_share.depressing)
        return Lines(events, _fitted(ratio[near], of_share.share[near]))


class Fluctuations:
    """How much what is told of such cells scatters."""

    def __init__(self, neurons: Neurons, calibration: Calibration) -> None:
        curves = Curves(neurons, calibration.rates)
        self._neurons, self._driving, self._lines = neurons, curves.driving, curves.lines
        grid = SOMATIC, APICAL
        rates = np.stack(calibration.rates, axis=-1)
        self._rates = RegularGridInterpolator(grid, rates)
        self._covariance = RegularGridInterpolator(grid, calibration.covariance)

    def intensities(self, carrier: int, event: np.ndarray, burst: np.ndarray) -> Intensities:
        """Of events (0) or bursts (1) of units of these activities, in units of the activity."""
        neurons = self._neurons
        driven = self._at(event, burst)
        rates, covariance = self._rates(driven), self._covariance(driven)
        said = (self._of_events, self._of_bursts)[carrier](rates)
        counted, heard = (gradient / (neurons.gain, neurons.probability_gain)[carrier]
                          for gradient in said)  # fmt: skip
        return Intensities(*(
            np.einsum("...i,...ij,...j->...", a, covariance, b) / neurons.count
            for a, b in ((counted, counted), (heard, heard), (counted, heard))
        ))  # fmt: skip

    def mixed(self, carrier: int, event: np.ndarray, burst: np.ndarray) -> list[np.ndarray]:
        """How what is heard of events (0) or bursts (1) changes with what units tell of both,
        beyond what it is told of itself, in units of the activities."""
        found = []
        for other in (0, 1):
            at = [np.stack([event, burst]) for _ in range(2)]
            at[0][other] -= STEP
            at[1][other] += STEP
            before, after = (self._heard(carrier, *told) for told in at)
            found.append((after - before) / (2 * STEP) - (carrier == other))
        return found

    def heard_of_events(self, event: np.ndarray, burst: np.ndarray) -> np.ndarray:
        """What others hear of the events of units of these activities, in units of the activity."""
        return self._heard(0, event, burst) - self._neurons.base_in_h

    def _heard(self, carrier: int, event: np.ndarray, burst: np.ndarray) -> np.ndarray:
        neurons = self._neurons
        _, _, depressing, facilitating = np.moveaxis(self._rates(self._at(event, burst)), -1, 0)
        events = self._lines.events(depressing)
        if carrier == 0:
            return events / neurons.gain
        return self._lines.share(facilitating / events) / neurons.probability_gain

    def _at(self, event: np.ndarray, burst: np.ndarray) -> np.ndarray:
        """Both currents of units of these activities."""
        neurons = self._neurons
        rate = np.clip(neurons.base_rate + neurons.gain * event, 0, neurons.max_rate)
        share = np.clip(neurons.base_probability + neurons.probability_gain * burst, 0, 1)
        return np.stack(self._driving(rate, share), axis=-1)

    def _of_events(self, rates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What is counted and heard of events, differentiated by the rates of `Measured`."""
        counted, heard = np.zeros_like(rates), np.zeros_like(rates)
        counted[..., 0], heard[..., 2] = 1.0, self._lines.events.slope
        return counted, heard

    def _of_bursts(self, rates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The same of bursts: of their share, and of the ratio that is heard in its place."""
        events, bursts, depressing, facilitating = np.moveaxis(rates, -1, 0)
        events = np.maximum(events, 1e-9)
        counted, heard = np.zeros_like(rates), np.zeros_like(rates)
        counted[..., 0], counted[..., 1] = -bursts / events**2, 1 / events
        told, slope = self._lines.events(depressing), self._lines.share.slope
        heard[..., 2] = -slope * facilitating / told**2 * self._lines.events.slope
        heard[..., 3] = slope / told
        return counted, heard


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
