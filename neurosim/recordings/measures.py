"""What electrophysiologists measure in sweeps of current steps."""

import math
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

STEADY = 0.1
"""The last part of a step, and of what precedes it, over which a potential is averaged."""


@dataclass(frozen=True)
class Measures:
    """In SI units; NaN where there is no such number.

    sweeps: by name of a quantity, a number for every sweep. cell: of the cell as a whole.
    """

    sweeps: dict[str, Float[np.ndarray, " sweeps"]]
    cell: dict[str, float]


UNITS = {
    "amplitude": ("", "of the step"),
    "spikes": ("1", "during the step, the mean over copies"),
    "rate": ("Hz", "spikes a second during the step, the mean over copies"),
    "latency": ("ms", "from the start of the step to the first spike of the first copy"),
    "first_interval": ("ms", "between the first two spikes of the first copy"),
    "last_interval": ("ms", "between the last two spikes of the first copy"),
    "adaptation": ("1", "(last - first interval)/(last + first interval) of the first copy"),
    "interval_cv": ("1", "coefficient of variation of the intervals of the first copy"),
    "deflection": ("mV", "of the potential at the end of the step, of the first copy"),
}
"""Of every sweep: the unit it is shown in, and what it is."""

OF_CELL = {
    "resting_potential": ("mV", "before the step"),
    "input_resistance": ("MOhm", "deflection over current, fitted to the silent sweeps"),
    "time_constant": ("ms", "of an exponential fitted to the smallest downward step"),
    "rheobase": ("pA", "the smallest step at which it spiked"),
    "silent_below": ("pA", "the largest step below it at which it did not"),
}
"""Of the cell: the unit it is shown in, and what it is."""


def plain(value: float) -> float | None:
    """A number as files and summaries have it; None where there is no such number."""
    return float(f"{value:.12g}") if math.isfinite(value) else None


def measure(
    amplitude: Float[np.ndarray, " sweeps"],
    start: Float[np.ndarray, " sweeps"],
    stop: Float[np.ndarray, " sweeps"],
    times: Float[np.ndarray, " moments"],
    potential: Float[np.ndarray, "sweeps moments"] | None,
    spikes: list[list[np.ndarray]],
) -> Measures:
    """Of steps of current.

    start, stop: of the step, for every sweep. times: of the potential of the first copy; None if it
    is no voltage. spikes: of every sweep and copy, when.
    """
    sweeps = range(len(amplitude))
    found = {name: np.full(len(amplitude), np.nan) for name in UNITS}
    found["amplitude"] = amplitude
    for k in sweeps:
        within = [s[(s > start[k]) & (s <= stop[k])] for s in spikes[k]]
        found["spikes"][k] = np.mean([len(s) for s in within])
        found["rate"][k] = found["spikes"][k] / (stop[k] - start[k])
        first = within[0]
        if len(first):
            found["latency"][k] = first[0] - start[k]
        intervals = np.diff(first)
        if len(intervals):
            low, high = intervals[0], intervals[-1]
            found["first_interval"][k], found["last_interval"][k] = low, high
        if len(intervals) > 1:
            found["adaptation"][k] = (high - low) / (high + low)
            found["interval_cv"][k] = intervals.std() / intervals.mean()
    cell = _rheobase(amplitude, found["spikes"])
    if potential is not None:
        rest, found["deflection"] = _deflections(start, stop, times, potential)
        cell |= {"resting_potential": rest}
        silent = [k for k in sweeps if not any(map(len, spikes[k])) and amplitude[k] != 0]
        cell |= _passive(amplitude, start, stop, times, potential, found["deflection"], silent)
    return Measures(found, cell)


def _rheobase(amplitude: np.ndarray, spikes: np.ndarray) -> dict[str, float]:
    fires = spikes > 0
    if not fires.any():
        return {"rheobase": np.nan, "silent_below": np.nan}
    rheobase = float(amplitude[fires].min())
    below = amplitude[~fires & (amplitude < rheobase)]
    return {"rheobase": rheobase, "silent_below": float(below.max()) if len(below) else np.nan}


def _deflections(
    start: np.ndarray, stop: np.ndarray, times: np.ndarray, potential: np.ndarray
) -> tuple[float, np.ndarray]:
    """The potential before the steps, and how far it has moved at their end."""
    rest, moved = np.full(len(start), np.nan), np.full(len(start), np.nan)
    for k, (begin, end) in enumerate(zip(start, np.minimum(stop, times[-1]), strict=True)):
        before = (times <= begin) & (times >= begin * (1 - STEADY))
        late = (times <= end) & (times >= end - STEADY * (end - begin))
        rest[k] = potential[k, before].mean()
        moved[k] = potential[k, late].mean() - rest[k]
    return float(rest.mean()), moved


def _passive(
    amplitude: np.ndarray,
    start: np.ndarray,
    stop: np.ndarray,
    times: np.ndarray,
    potential: np.ndarray,
    deflection: np.ndarray,
    silent: list[int],
) -> dict[str, float]:
    """Input resistance and time constant, from downward steps if there are any."""
    downward = [k for k in silent if amplitude[k] < 0]
    chosen = downward or silent
    none = {"input_resistance": np.nan, "time_constant": np.nan}
    if not chosen:
        return none
    current, moved = amplitude[chosen], deflection[chosen]
    resistance = float(current @ moved / (current @ current))
    smallest = min(chosen, key=lambda k: abs(amplitude[k]))
    return {
        "input_resistance": resistance,
        "time_constant": _time_constant(
            times, potential[smallest], start[smallest], min(stop[smallest], times[-1])
        ),
    }


def _time_constant(times: np.ndarray, potential: np.ndarray, start: float, stop: float) -> float:
    """Of the exponential that a potential follows from the start of a step to its extreme."""
    from scipy.optimize import OptimizeWarning, curve_fit

    during = np.flatnonzero((times >= start) & (times <= stop))
    if len(during) < 4:
        return np.nan
    moved = potential[during] - potential[during[0]]
    end = int(np.argmax(np.abs(moved)))
    t, v = times[during[: end + 1]] - start, moved[: end + 1]
    if len(t) < 4 or v[-1] == 0:
        return np.nan

    def exponential(t: Any, tau: float, size: float) -> Any:
        return -size * np.expm1(-t / tau)

    guess = float(t[np.argmax(np.abs(v) >= (1 - np.exp(-1)) * abs(v[-1]))]) or float(t[1])
    with warnings.catch_warnings():
        warnings.simplefilter("error", OptimizeWarning)
        try:
            (tau, _), _ = curve_fit(exponential, t, v, p0=(guess, v[-1]), maxfev=2000)
        except (RuntimeError, OptimizeWarning):
            return np.nan
    return float(tau)
