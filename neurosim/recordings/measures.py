"""What electrophysiologists measure in sweeps of current steps."""

import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

STEADY = 0.1
"""The last part of a step, and of what precedes it, over which a potential is averaged."""

ROUNDING = 1e-9
"""Relative; copies that differ by less are the same."""

SPREAD = "_spread"
"""Behind the name of a measure: its standard deviation over copies."""


@dataclass(frozen=True)
class Measures:
    """In SI units; means over copies, NaN where there is no such number.

    sweeps: by name of a quantity, a number for every sweep. cell: of the cell as a whole.
    sweep_spreads, cell_spreads: the standard deviations over copies. omitted: what has no meaning
    for such a cell, and why.
    """

    sweeps: dict[str, Float[np.ndarray, " sweeps"]]
    cell: dict[str, float]
    sweep_spreads: dict[str, Float[np.ndarray, " sweeps"]]
    cell_spreads: dict[str, float]
    omitted: dict[str, str]


UNITS = {
    "amplitude": ("", "of the step"),
    "spikes": ("1", "during the step"),
    "rate": ("Hz", "spikes a second during the step"),
    "fano_factor": ("1", "variance of the number of spikes over copies, over its mean"),
    "latency": ("ms", "from the start of the step to the first spike"),
    "first_interval": ("ms", "between the first two spikes"),
    "last_interval": ("ms", "between the last two spikes"),
    "adaptation": ("1", "(last - first interval)/(last + first interval)"),
    "interval_cv": ("1", "coefficient of variation of the intervals"),
    "deflection": ("mV", "of the potential at the end of the step, of recorded copies"),
}
"""Of every sweep: the unit it is shown in, and what it is."""

OF_ALL = ("amplitude", "fano_factor")
"""What copies have together."""

OF_STEPS = ("amplitude", "latency", "deflection")
"""What only a step of current has."""

OF_CELL = {
    "resting_potential": ("mV", "before the step, of recorded copies"),
    "input_resistance": ("MOhm", "deflection over current, fitted to the silent sweeps"),
    "time_constant": ("ms", "of an exponential fitted to the smallest downward step"),
    "rheobase": ("pA", "the smallest step at which it spiked"),
    "silent_below": ("pA", "the largest step below it at which it did not"),
}
"""Of the cell: the unit it is shown in, and what it is."""

OF_POTENTIAL = ("resting_potential", "input_resistance", "time_constant")
OF_THRESHOLD = ("rheobase", "silent_below")
"""Of these, what a membrane has, and what a threshold has that is not passed by chance."""


@dataclass(frozen=True)
class Steps:
    """Of every sweep, when a step begins and ends (s), and how large it is (A).

    amplitude: None where all of the sweep counts, as of cells that nothing reaches.
    """

    start: Float[np.ndarray, " sweeps"]
    stop: Float[np.ndarray, " sweeps"]
    amplitude: Float[np.ndarray, " sweeps"] | None


def plain(value: float) -> float | None:
    """A number as files and summaries have it; None where there is no such number."""
    return float(f"{value:.12g}") if math.isfinite(value) else None


def measure(
    given: Steps,
    times: Float[np.ndarray, " moments"],
    potential: Float[np.ndarray, "sweeps copies moments"] | None,
    spikes: list[list[np.ndarray]],
    omitted: dict[str, str],
) -> Measures:
    """Of copies of a cell.

    times: of the potential of the first copies; None if it is no voltage. spikes: of every sweep
    and copy, when. omitted: what has no meaning for such a cell, and why.
    """
    copies = range(len(spikes[0]))
    recorded = 0 if potential is None else potential.shape[1]
    sweeps, cells = [], []
    for copy in copies:
        shown = potential[:, copy] if potential is not None and copy < recorded else None
        of_sweeps, of_cell = _of_copy(given, times, shown, [sweep[copy] for sweep in spikes])
        sweeps.append(of_sweeps)
        cells.append({name: v for name, v in of_cell.items() if name not in omitted})
    found = {name: np.stack([copy[name] for copy in sweeps]) for name in sweeps[0]}
    cell = {name: np.array([copy[name] for copy in cells]) for name in cells[0]}
    means = {name: _over(np.mean, values) for name, values in found.items()}
    spreads = {name: _over(_deviation, values) for name, values in found.items()}
    if len(copies) > 1:
        counts = spreads["spikes"] ** 2
        means["fano_factor"] = counts / np.where(means["spikes"] > 0, means["spikes"], np.nan)
    if given.amplitude is not None:
        means["amplitude"] = given.amplitude
    return Measures(
        {name: means[name] for name in UNITS if name in means},
        {name: float(_over(np.mean, values)) for name, values in cell.items()},
        spreads,
        {name: float(_over(_deviation, values)) for name, values in cell.items()},
        omitted,
    )


def _over(statistic: Callable[[np.ndarray], Any], values: np.ndarray) -> np.ndarray:
    """A statistic of those copies that have a number; NaN where none has."""
    columns = values.reshape(len(values), -1).T
    living = [column[np.isfinite(column)] for column in columns]
    found = [statistic(column) if len(column) else np.nan for column in living]
    return np.array(found).reshape(values.shape[1:])


def _deviation(values: np.ndarray) -> float:
    return float(values.std(ddof=1)) if len(values) > 1 else np.nan


def _of_copy(
    given: Steps,
    times: np.ndarray,
    potential: np.ndarray | None,
    spikes: list[np.ndarray],
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """The numbers of one copy: of every sweep, and of the cell."""
    amplitude, start, stop = given.amplitude, given.start, given.stop
    apart = OF_ALL if amplitude is not None else (*OF_ALL, *OF_STEPS)
    found = {name: np.full(len(start), np.nan) for name in UNITS if name not in apart}
    for k, all_spikes in enumerate(spikes):
        within = all_spikes[(all_spikes > start[k]) & (all_spikes <= stop[k])]
        found["spikes"][k] = len(within)
        found["rate"][k] = len(within) / (stop[k] - start[k])
        if len(within) and amplitude is not None:
            found["latency"][k] = within[0] - start[k]
        intervals = np.diff(within)
        if len(intervals):
            low, high = intervals[0], intervals[-1]
            found["first_interval"][k], found["last_interval"][k] = low, high
        if len(intervals) > 1:
            found["adaptation"][k] = (high - low) / (high + low)
            found["interval_cv"][k] = intervals.std() / intervals.mean()
    if amplitude is None:
        return found, {}
    cell = _rheobase(amplitude, found["spikes"])
    if potential is not None:
        rest, found["deflection"] = _deflections(start, stop, times, potential)
        silent = [k for k, sweep in enumerate(spikes) if not len(sweep) and amplitude[k] != 0]
        passive = _passive(amplitude, start, stop, times, potential, found["deflection"], silent)
        cell = {"resting_potential": rest} | passive | cell
    else:
        cell = dict.fromkeys(OF_POTENTIAL, np.nan) | cell
    return found, cell


def in_words(
    cell: Mapping[str, float | None], units: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    """What was measured of a cell and over its copies, each with its unit."""
    for name, value in cell.items():
        if value is None or name.endswith(SPREAD):
            continue
        spread = cell.get(name + SPREAD)
        apart = f" ± {spread:.2g}" if spread and spread > ROUNDING * abs(value) else ""
        unit = units[name].replace("MOhm", "MΩ")
        yield name.replace("_", " "), f"{value:.4g}{apart} {unit}".removesuffix(" 1")


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
    return float(tau) if 0 < tau <= stop - start else np.nan
