"""Two recordings of cells in one picture."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from neurosim.comparison import Recorded
from neurosim.figures.distributions import SIDES, shares
from neurosim.figures.runs import DOTS, INK, envelope, new_figure, spread, title
from neurosim.traces.naming import stem

ROWS = 3
"""Sweeps that are shown one below the other."""


def _labelled(name: str, of: dict[str, Any]) -> str:
    unit = "" if of["unit"] == "1" else f" ({of['unit']})"
    return f"{name.rpartition('.')[2] or name}{unit}"


def paired_recordings(found: Recorded) -> Figure:
    """A few sweeps of the first quantity of both, rates against current, and spike statistics."""
    report, letters = found.report, iter("abcdefg")
    names = [f"{report[side]['cell']}, {stem(report[side]['path'])}" for side in "ab"]
    rows = 1 + bool(report["spikes"])
    figure = new_figure(f"{names[0]} against {names[1]}", 10, 3.2 * rows + 0.6)
    grid = figure.add_gridspec(rows, 1, height_ratios=(1.4, 1)[:rows])
    rates = report["sweeps"].get("rate", {"a": None, "b": None})
    amplitudes = report["sweeps"].get("amplitude", {"a": None, "b": None})
    labels = "current (pA)", "rate (Hz)", "rate against current"
    curves = [(amplitudes[s], rates[s]) for s in "ab" if amplitudes[s] and rates[s]]
    if len(report["curve"]) > 1:
        (against, x), (name, y) = list(report["curve"].items())[:2]
        curves = [(x[s], y[s]) for s in "ab" if x[s] and y[s]]
        labels = _labelled(against, x), _labelled(name, y), f"{name} over sweeps"
    curve = len(curves) == 2 and len(curves[0][0]) > 2
    top = grid[0].subgridspec(1, 1 + curve, width_ratios=(2.2, 1)[: 1 + curve])
    if found.courses:
        course = found.courses[0]
        chosen = spread(list(range(len(course.sweeps))), ROWS)
        cells = top[0].subgridspec(len(chosen), 1, hspace=0.06)
        first = figure.add_subplot(cells[0])
        for k, sweep in enumerate(chosen):
            axes = first if k == 0 else figure.add_subplot(cells[k], sharex=first, sharey=first)
            for values, colour, width in ((course.b, SIDES[1], 1.6), (course.a, SIDES[0], 0.8)):
                axes.plot(*envelope(course.time, values[sweep, 0], 700), color=colour, lw=width)
            axes.annotate(f"sweep {course.sweeps[sweep]}", (1, 1), (-2, -2), "axes fraction",
                          "offset points", ha="right", va="top", size=7.5, color=INK)  # fmt: skip
            axes.tick_params(labelbottom=k == len(chosen) - 1)
            if k == len(chosen) // 2:
                axes.set_ylabel(f"{course.variable} ({course.unit})")
        axes.set(xlabel="time (ms)", xlim=(course.time[0], course.time[-1]))
        what = "potentials" if course.unit == "mV" else course.variable
        title(first, next(letters), f"{what} of both")
    if curve:
        axes = figure.add_subplot(top[1])
        for (x, y), colour in zip(curves, SIDES, strict=True):
            order = np.argsort(x)
            axes.plot(np.array(x)[order], np.array(y, float)[order], color=colour, **DOTS)
        axes.set(xlabel=labels[0], ylabel=labels[1])
        if not report["curve"]:
            axes.set_ylim(0, None)
        title(axes, next(letters), labels[2])
    for population, *sides in found.trains[: rows - 1]:
        own = [row for row in report["spikes"] if row["population"] == population]
        below = grid[1].subgridspec(1, len(own))
        for k, row in enumerate(own):
            shares(figure.add_subplot(below[k]), next(letters), row, (sides[0], sides[1]))
    handles = [Line2D([], [], color=c, label=n) for c, n in zip(SIDES, names, strict=True)]
    figure.legend(handles=handles, loc="outside lower right", ncols=2)
    return figure
