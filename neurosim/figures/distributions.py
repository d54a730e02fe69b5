"""Distributions of what spike trains are like, of two traces."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes

from neurosim.comparison.trains import Trains
from neurosim.figures.runs import COLOURS, INK, above, spread, title, words

SIDES = (COLOURS[0], COLOURS[1])
"""Of the two traces, where colours do not mean layers."""

BAND = "#c9c9c9"

LABELS = {
    "rate": "rate (Hz)",
    "interval_cv": "CV of intervals",
    "correlation": "correlation of counts",
}
"""What a statistic is called on an axis."""


def distances(axes: Axes, letter: str, rows: list[dict[str, Any]]) -> None:
    """Kolmogorov and Smirnov's distances beside what sampling alone gives."""
    place = np.arange(len(rows))
    band = [row["band"] or 0.0 for row in rows]
    axes.barh(place, band, 0.55, color=BAND, label="by sampling, 95 %")
    axes.plot([row["distance"] for row in rows], place, "o", ms=4, color=INK, label="found")
    named = {"rate": "rate", "interval_cv": "CV", "correlation": "corr."}
    labels = [f"{words(row['population'])}, {named[row['of']]}" for row in rows]
    shown = spread(place.tolist(), 14)
    axes.set(yticks=shown, yticklabels=[labels[k] for k in shown], xlabel="distance")
    axes.invert_yaxis()
    axes.set_xlim(0, None)
    title(axes, letter, "spike statistics", pad=16)
    above(axes, axes.get_legend_handles_labels()[0])


def shares(axes: Axes, letter: str, row: dict[str, Any], sides: tuple[Trains, Trains]) -> None:
    """Which share of neurons, or pairs, lies below a value, in both. row: of the report."""
    of = row["of"]
    for trains, colour in zip(sides, SIDES, strict=True):
        values = np.sort(getattr(trains, of))
        values = values[np.isfinite(values)]
        axes.ecdf(values, color=colour) if len(values) else None
    axes.set(xlabel=LABELS[of], ylabel="share below", ylim=(0, 1))
    found, band = (None if row[key] is None else f"{row[key]:.2g}" for key in ("distance", "band"))
    apart = "" if found is None else f": {found} apart" + (f", {band} by sampling" if band else "")
    title(axes, letter, LABELS[of].partition(" (")[0] + apart)
