"""What spikes of many cells say: rates, events, and the probability that an event is a burst."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

BURST = 16e-3
"""Spikes of a cell that follow one another faster make a burst (Naud & Sprekeler 2018)."""

UNITS = {
    "rate": ("Hz", "spikes a second and cell"),
    "events": ("Hz", "single spikes and bursts a second and cell"),
    "burst_probability": ("1", "fraction of events that are bursts"),
}
"""Of populations: the unit, and what it is."""


@dataclass(frozen=True)
class Events:
    """Events of cells: when their first spike came (s), whose they are, and which are bursts."""

    at: Float[np.ndarray, " events"]
    who: Int[np.ndarray, " events"]
    bursts: np.ndarray


def events(at: Float[np.ndarray, " spikes"], who: Int[np.ndarray, " spikes"]) -> Events:
    """Spikes taken together, where they follow one another in less than `BURST`."""
    order = np.lexsort((at, who))
    at, who = at[order], who[order]
    # Times are multiples of a step, whose rounding shall not decide.
    near = np.zeros(len(at) + 1, bool)
    near[1:-1] = (np.diff(who) == 0) & (np.diff(at) < BURST - 1e-9)
    first = ~near[:-1]
    return Events(at[first], who[first], near[1:][first])


def in_bins(
    at: Float[np.ndarray, " spikes"],
    who: Int[np.ndarray, " spikes"],
    sweeps: int,
    cells: int,
    edges: Float[np.ndarray, " edges"],
) -> dict[str, Float[np.ndarray, "sweeps bins"]]:
    """The rates of `UNITS` in bins of time, over the cells of each sweep; NaN where no event is.

    A burst is counted where it begins.
    """
    found = events(at, who)

    def counted(times: np.ndarray, cell: np.ndarray) -> np.ndarray:
        rows = np.arange(sweeps + 1) * cells - 0.5
        return np.histogram2d(cell, times, [rows, edges])[0]

    per_cell = cells * np.diff(edges)
    # A spike falls on the end of its step, and with it into the bin that ends there.
    half = 1e-9
    spikes, single = counted(at - half, who), counted(found.at - half, found.who)
    bursts = counted(found.at[found.bursts] - half, found.who[found.bursts])
    with np.errstate(invalid="ignore"):
        share = bursts / single
    return {
        "rate": spikes / per_cell,
        "events": single / per_cell,
        "burst_probability": share,
    }
