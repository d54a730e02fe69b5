"""What spike trains are like, and how far two sets of them are apart.

A train is one neuron in one trial. Of every train there is its rate and the coefficient of
variation of its intervals, of every pair of the same trial the correlation of spike counts. How two
distributions of these differ is the distance of Kolmogorov and Smirnov, the largest difference of
the shares that lie below any value.

What sampling alone gives is found from the trains themselves. Of rates and intervals: trains that
could stand for each other (of the same sweep, or of the same unit, sample and presentation) are
dealt anew to both sides, so many to each as it has, `DEALS` times. Pairs of one trial cannot be
dealt to two, so of correlations: the neurons of a side are split into halves, whose pairs are held
against each other; such a distance shrinks at least as fast as one over the root of the number of
neurons, by which it is scaled from halves to sides.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy.special import gammaln

from neurosim.comparison.verdicts import AGREE, DIFFER, ROUNDING, UNKNOWN
from neurosim.seeds import host_stream

BIN = 20e-3
"""In which spikes are counted for correlations (s)."""

INTERVALS = 3
"""The fewest of which a coefficient of variation is taken."""

NEURONS, TRIALS = 60, 20
"""The most neurons of a trial, and trials, of which correlations are taken."""

DIGITS = 9
"""Beyond which numbers are rounding: intervals of a regular neuron are equal."""

DEALS = 200
BAND = 0.95
"""How many deals tell what sampling gives, and the share of them within its band."""

STATISTICS = {"rate": "Hz", "interval_cv": "1", "correlation": "1"}
"""What is compared, and its unit."""


@dataclass(frozen=True)
class Trains:
    """Trains by number, trial after trial, in each of which the neurons stand in the same order.

    rate: (Hz). interval_cv: NaN of fewer than `INTERVALS`. condition: trains of the same can stand
    for each other; together: of these, those with the same number are dealt together. correlations:
    of the counts of neurons, trial by trial; NaN of silent ones.
    """

    rate: Float[np.ndarray, " trains"]
    interval_cv: Float[np.ndarray, " trains"]
    condition: Int[np.ndarray, " trains"]
    together: Int[np.ndarray, " trains"]
    correlations: Float[np.ndarray, "trials neurons neurons"]

    @property
    def correlation(self) -> Float[np.ndarray, " pairs"]:
        """Of all pairs of all trials."""
        return _pairs(self.correlations)


def trains(
    times: Float[np.ndarray, " spikes"],
    who: Int[np.ndarray, " spikes"],
    durations: Float[np.ndarray, " trials"],
    neurons: int,
    condition: Int[np.ndarray, " trains"],
    together: Int[np.ndarray, " trains"],
) -> Trains:
    """Of spikes at times (s) in their trials, by the numbers of their trains."""
    count = len(durations) * neurons
    rate = np.bincount(who, minlength=count) / np.repeat(durations, neurons)
    order = np.lexsort((times, who))
    at, of = times[order], who[order]
    within = np.diff(of) == 0
    intervals, mine = np.diff(at)[within], of[1:][within]
    number = np.bincount(mine, minlength=count)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.bincount(mine, intervals, count) / number
        variance = np.bincount(mine, (intervals - mean[mine]) ** 2, count) / number
        cv = np.where(number >= INTERVALS, np.sqrt(variance) / mean, np.nan).round(DIGITS)
    chosen = _evenly(len(durations), TRIALS), _evenly(neurons, NEURONS)
    found = [
        _correlations(at, of - trial * neurons, chosen[1], durations[trial], neurons)
        for trial in chosen[0]
    ]
    return Trains(rate, cv, condition, together, np.array(found))


def _evenly(count: int, most: int) -> np.ndarray:
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int))


def _correlations(
    times: np.ndarray, who: np.ndarray, chosen: np.ndarray, duration: float, neurons: int
) -> np.ndarray:
    """Of the counts in consecutive bins, of some neurons of a trial."""
    bins = max(1, int(duration / BIN + ROUNDING))
    here = (who >= 0) & (who < neurons) & (times < bins * BIN)
    cells = who[here] * bins + np.minimum((times[here] / BIN).astype(int), bins - 1)
    counts = np.bincount(cells, minlength=neurons * bins).reshape(neurons, bins)[chosen]
    apart = counts - counts.mean(axis=1, keepdims=True)
    size = np.sqrt((apart**2).sum(axis=1))
    with np.errstate(divide="ignore", invalid="ignore"):
        return ((apart @ apart.T) / np.outer(size, size)).round(DIGITS)


def _pairs(correlations: np.ndarray) -> np.ndarray:
    """Each pair once, those that have a number."""
    rows, columns = np.triu_indices(correlations.shape[-1], 1)
    found = correlations[:, rows, columns].ravel()
    return found[np.isfinite(found)]


def distance(a: np.ndarray, b: np.ndarray) -> float | None:
    """Of Kolmogorov and Smirnov, of those values that are numbers; None where a side has none."""
    sides = [np.sort(v[np.isfinite(v)]) for v in (a, b)]
    if not all(len(v) for v in sides):
        return None
    # scipy's ks_2samp, which also asks what chance would do, takes twenty times as long.
    every = np.concatenate(sides)
    below = [np.searchsorted(v, every, "right") / len(v) for v in sides]
    return float(np.abs(below[0] - below[1]).max())


def held_apart(population: str, a: Trains, b: Trains, quiet: bool) -> Iterator[dict[str, Any]]:
    """Of every statistic the distance, what sampling gives, and what that says.

    quiet: whether nothing is drawn on either side, so that nothing is sampled.
    """
    for name in STATISTICS:
        random = host_stream(0, f"deals of {name}")
        values = getattr(a, name), getattr(b, name)
        if not any(np.isfinite(v).any() for v in values):
            continue
        found = distance(*values)
        if found is None:
            deals = np.zeros(0)
        elif quiet:
            deals = np.zeros(DEALS)
        elif name == "correlation":
            deals = _halves(a, b, random)
        else:
            deals = _deals(a, b, values, random)
        yield {
            "population": population,
            "of": name,
            "unit": STATISTICS[name],
            **{
                f"count_{side}": int(np.isfinite(v).sum())
                for side, v in zip("ab", values, strict=True)
            },
            **{f"mean_{side}": _mean(v) for side, v in zip("ab", values, strict=True)},
            **_judged(found, deals),
        }


def _mean(values: np.ndarray) -> float | None:
    values = values[np.isfinite(values)]
    return float(values.mean()) if len(values) else None


def _judged(found: float | None, deals: np.ndarray) -> dict[str, Any]:
    """A distance beside those that sampling gives: beyond all of them, the sides differ."""
    band = float(np.quantile(deals, BAND)) if len(deals) else None
    most = float(deals.max()) if len(deals) else None
    row = {"distance": found, "band": band, "allowed": most}
    if found == 0:
        return row | {"verdict": AGREE}
    if found is None or most is None:
        return row | {"verdict": UNKNOWN}
    return row | {"verdict": DIFFER if found > most + ROUNDING else AGREE}


def _deals(
    a: Trains, b: Trains, values: tuple[np.ndarray, np.ndarray], random: np.random.Generator
) -> np.ndarray:
    """Distances of sides that were dealt anew; none where there are too few ways to deal."""
    both = np.concatenate(values)
    side = np.repeat([0, 1], [len(v) for v in values])
    marks = [np.concatenate([getattr(t, n) for t in (a, b)]) for n in ("condition", "together")]
    _, first, block = np.unique(
        np.stack([*marks, side]), axis=1, return_index=True, return_inverse=True
    )
    block = block.ravel()
    _, condition = np.unique(marks[0][first], return_inverse=True)
    total, own = np.bincount(condition), np.bincount(condition, side[first] == 0)
    ways = gammaln(total + 1) - gammaln(own + 1) - gammaln(total - own + 1)
    if ways.sum() < np.log(DEALS):
        return np.zeros(0)
    begins = np.cumsum(total) - total
    found = []
    for _ in range(DEALS):
        order = np.lexsort((random.random(len(condition)), condition))
        mine = np.empty(len(condition), bool)
        mine[order] = np.arange(len(condition)) - begins[condition[order]] < own[condition[order]]
        found.append(distance(both[mine[block]], both[~mine[block]]))
    return np.array([d for d in found if d is not None])


def _halves(a: Trains, b: Trains, random: np.random.Generator) -> np.ndarray:
    """Distances between halves of a side, scaled to sides; none of fewer than 4 neurons."""
    sizes = [t.correlations.shape[-1] for t in (a, b)]
    if min(sizes) < 4:
        return np.zeros(0)
    found = []
    for side, size in zip((a, b), sizes, strict=True):
        scale = np.sqrt(sum(1 / n for n in sizes) / (1 / (size // 2) + 1 / (size - size // 2)))
        for _ in range(DEALS // 2):
            order = random.permutation(size)
            halves = order[: size // 2], order[size // 2 :]
            pairs = [_pairs(side.correlations[:, h[:, None], h]) for h in halves]
            apart = distance(*pairs)
            found += [] if apart is None else [scale * apart]
    return np.array(found)
