"""Two-compartment cells behind a unit, and what short-term plastic synapses pass of their spikes.

A unit tells its cells two currents, into the soma and into the apical dendrite, at which they fire
events at the rate r and bursts with the probability p that it wants: read from curves that are
measured with the cells themselves (`pyramid_cells.py`). Others hear the cells through two kinds of
synapses (Tsodyks, Pawelzik & Markram 1998; f apart from U as in Payeur et al. 2021): depressing
ones pass the first spike of an event and little more, facilitating ones nothing of a single spike.
Feed-forward inhibition that follows the one divides what the other brings (Naud & Sprekeler 2018).
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

COLUMNS = 65
"""Of the other quantity, in tables of currents."""

SOMATIC, APICAL = np.linspace(0, 1000e-12, 11), np.linspace(-400e-12, 500e-12, 10)
"""The grid of currents (A)."""

INPUTS = {"drive": "current", "apical_drive": "apical_current"}
"""By what a unit tells its cells, the input that it reaches."""


@dataclass(frozen=True)
class ShortTerm:
    """Resources x and what a spike takes of them, u: du/dt = (U − u)/τ_f, dx/dt = (1 − x)/τ_d.

    A spike passes u x; then x loses that, and u gains f (1 − u). Only spikes ask for u and x, which
    are therefore moved from spike to spike. mark: in the names of what is kept.
    """

    mark: str
    U: float
    f: float
    tau_f: float
    tau_d: float

    @property
    def kept(self) -> tuple[str, str]:
        """What every cell keeps: u and x right after its last spike."""
        return f"u_{self.mark}", f"x_{self.mark}"

    def passed(self, end: str = "") -> list[str]:
        """u and x at a spike, `gap` after the last one, and what it passes. end: of kept names."""
        u, x = self.kept
        return [
            f"{u}_now = {self.U!r} + ({u}{end} - {self.U!r}) * exp(-gap / {self.tau_f!r})",
            f"{x}_now = 1 + ({x}{end} - 1) * exp(-gap / {self.tau_d!r})",
            f"passed_{self.mark} = {u}_now * {x}_now",
        ]

    @property
    def left(self) -> list[str]:
        """What a spike leaves behind."""
        u, x = self.kept
        return [
            f"{x} = {x}_now - passed_{self.mark}",
            f"{u} = {u}_now + {self.f!r} * (1 - {u}_now)",
        ]


DEPRESSING = ShortTerm("depressing", U=0.99, f=0.0, tau_f=50e-3, tau_d=50e-3)
FACILITATING = ShortTerm("facilitating", U=0.0, f=1.0, tau_f=10e-3, tau_d=30e-3)
PATHWAYS = DEPRESSING, FACILITATING
"""What reads events, and what reads bursts."""

KEPT = ("last_spike", "in_burst", *DEPRESSING.kept, *FACILITATING.kept)
"""What every cell keeps of its spikes."""


class Measured(NamedTuple):
    """Of one cell at every point of the grid, shape (somatic, apical), in Hz: events, bursts, and
    what depressing and facilitating synapses pass."""

    events: np.ndarray
    bursts: np.ndarray
    depressing: np.ndarray
    facilitating: np.ndarray

    @property
    def share(self) -> np.ndarray:
        """The burst probability; 0 where there are no events."""
        return self.bursts / np.maximum(self.events, 1e-9)


class Calibration(NamedTuple):
    """Of one cell at every point of the grid.

    rates: of what is counted. covariance: of the counts, a second (Hz), in the order of `Measured`.
    """

    rates: Measured
    covariance: Float[np.ndarray, "somatic apical 4 4"]


@dataclass(frozen=True)
class Line:
    """y = offset + slope x."""

    offset: float = 0.0
    slope: float = 1.0

    def __call__(self, x: Any) -> Any:
        return self.offset + self.slope * x

    def inverse(self, y: float) -> float:
        """x of y."""
        return (y - self.offset) / self.slope

    def text(self, x: str) -> str:
        """The same as an expression."""
        return f"({self.offset!r} + {self.slope!r} * ({x}))"


@dataclass(frozen=True)
class Working:
    """How the cells of a unit are driven and heard.

    base: somatic and apical current (A) at the base rate and the base probability. drive: somatic
    current by rate, in steps of `rate_step` from 0, and by `COLUMNS` probabilities from 0 to 1.
    apical_drive: apical current by probability, in steps of `share_step` from 0, and by as many
    rates from 0 to the highest. events: the rate of events (Hz) over what depressing synapses
    pass. share: the burst probability over what facilitating ones pass, divided by that rate.
    cycle: states of cells at the base, by name, of steps relative to now.
    """

    base: tuple[float, float]
    drive: np.ndarray
    rate_step: float
    apical_drive: np.ndarray
    share_step: float
    events: Line
    share: Line
    cycle: dict[str, np.ndarray] = field(repr=False)

    def tables(self, b2: Any) -> dict[str, Any]:
        """For the units' namespace: tables over a rate or a probability, as ones over time."""
        return {
            "somatic_current": b2.TimedArray(
                self.drive, dt=self.rate_step * b2.second, name="somatic_table"
            ),
            "apical_current": b2.TimedArray(
                self.apical_drive, dt=self.share_step * b2.second, name="apical_table"
            ),
        }

    def start(self, rng: np.random.Generator, size: int, step: int) -> dict[str, np.ndarray]:
        """Where cells at the base are at time step `step`: as others are that were there long."""
        chosen = rng.integers(len(self.cycle["last_spike"]), size=size)
        found = {name: values[chosen] for name, values in self.cycle.items()}
        found["last_spike"] = found["last_spike"] + step
        return found


def after_spikes(limit: int, dt: float) -> list[str]:
    """What a spike changes of what is kept. limit: spikes fewer steps apart are of one burst."""
    return [
        _gap(dt, ""),
        *(line for pathway in PATHWAYS for line in (*pathway.passed(), *pathway.left)),
        f"in_burst = int(t_in_timesteps - last_spike < {limit})",
        "last_spike = t_in_timesteps",
    ]


def on_spike(limit: int, dt: float) -> str:
    """What a spike tells its unit: what is passed of it, and whether it begins an event or a burst.

    That is told from intervals alone.
    """
    lines = [
        _gap(dt, "_pre"),
        *(line for pathway in PATHWAYS for line in pathway.passed("_pre")),
        f"close = int(t_in_timesteps - last_spike_pre < {limit})",
        f"events_post += passed_{DEPRESSING.mark}",
        f"bursts_post += passed_{FACILITATING.mark}",
        "event_count_post += 1 - close",
        "burst_count_post += close * (1 - in_burst_pre)",
    ]
    return "\n".join(lines)


def _gap(dt: float, end: str) -> str:
    return f"gap = (t_in_timesteps - last_spike{end}) * {dt!r}"
