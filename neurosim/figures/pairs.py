"""Two traces of the same protocol in one picture."""

from os import PathLike
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from neurosim.comparing import COUNTED, Pair, pairs
from neurosim.figures.runs import (
    COLOURS,
    DOTS,
    GREY,
    INK,
    STYLE,
    TAUGHT,
    UNTAUGHT,
    above,
    aside,
    band,
    decades,
    new_figure,
    save,
    spread,
    title,
    words,
)
from neurosim.naming import stem
from neurosim.scenes import Trace
from neurosim.store import studying


@matplotlib.rc_context(STYLE)
def comparison(a: str | PathLike[str], b: str | PathLike[str], out: str | PathLike[str]) -> Path:
    """What `compare` says as a picture, saved at `out` (PNG, SVG or PDF). Returns where it is.

    Raises:
        InputError: as `compare` does, or `out` cannot be written.
    """
    with studying(a) as tree_a, studying(b) as tree_b:
        figure = _figure(Trace(a, tree_a), Trace(b, tree_b))
    return save(figure, Path(out))


def _figure(left: Trace, right: Trace) -> Figure:
    seen = pairs(left, right)
    first = min(pair.presentation for pair in seen)
    shown = [pair for pair in seen if pair.presentation == first and pair.variable in COUNTED]
    names = [_name(trace) for trace in (left, right)]
    if names[0] == names[1]:
        names = [f"{name} ({stem(t.path)})" for name, t in zip(names, (left, right), strict=True)]
    protocol = left.tree.attrs["protocol"]
    figure = new_figure(f"{protocol}: {names[0]} against {names[1]}, presentation {first}", 11, 6.6)
    rows = figure.add_gridspec(2, 1, height_ratios=(1.15, 1))
    top = rows[0].subgridspec(1, 2, width_ratios=(2, 1))
    _courses(figure, top[0], shown, names)
    _scatter(figure.add_subplot(top[1]), shown, names)
    below = rows[1].subgridspec(1, 2 + left.classes)
    _errors(figure.add_subplot(below[0]), shown)
    panels = [figure.add_subplot(below[k]) for k in range(1, below.ncols)]
    _learning(panels, left, right, names)
    return figure


def _name(trace: Trace) -> str:
    return f"{trace.tree.attrs['level']} level, seed {trace.seeds[0]}"


def _courses(figure: Figure, cell: Any, shown: list[Pair], names: list[str]) -> None:
    """A few units of one sample over time: one trace as lines, the other as dots."""
    variable = shown[0].variable
    layers = spread(sorted({pair.layer for pair in shown}), 3)
    cells = cell.subgridspec(len(layers), 1, hspace=0.06)
    for k, layer in enumerate(layers):
        axes = figure.add_subplot(cells[k])
        mine = [pair for pair in shown if pair.layer == layer and pair.variable == variable]
        order = np.argsort(mine[-1].a[0, -1])
        begin = 0.0
        for pair in mine:
            end = float(pair.time[-1])
            axes.axvspan(begin, end, color=UNTAUGHT if pair is mine[0] else TAUGHT, lw=0, zorder=-2)
            if k == 0:
                axes.annotate(pair.phase, ((begin + end) / 2, 1), (0, 2), ha="center", size=8,
                              xycoords=("data", "axes fraction"), textcoords="offset points",
                              color=GREY)  # fmt: skip
            for unit, colour in zip(spread(order.tolist(), 4), COLOURS, strict=False):
                axes.plot(pair.time, pair.a[0][:, unit], color=colour, zorder=2)
                axes.plot(pair.time, pair.b[0][:, unit], ".", ms=3, color=colour, alpha=0.5)
            begin = end
        axes.set(ylabel=f"layer {layer}", xlim=(0, begin or 1.0))
        axes.tick_params(labelbottom=k == len(layers) - 1)
        if k == 0:
            title(axes, "a", f"{words(variable)} of four units (a.u.)", pad=16)
            line, dots = axes.lines[:2]
            line.set_label(names[0])
            dots.set_label(names[1])
            above(axes, [line, dots], 12)
    axes.set_xlabel("time in the presentation (ms)")


def _scatter(axes: Axes, shown: list[Pair], names: list[str]) -> None:
    """Every unit of every sample at the end of its phase."""
    low, high = np.inf, -np.inf
    for pair in shown:
        a, b, _ = pair.final()
        label = f"layer {pair.layer}" if pair.phase == shown[0].phase else None
        if pair.variable != shown[0].variable:
            continue
        axes.plot(a.ravel(), b.ravel(), ".", ms=3, alpha=0.5, mew=0,
                  color=COLOURS[(pair.layer - 1) % len(COLOURS)], label=label)  # fmt: skip
        low, high = min(low, a.min(), b.min()), max(high, a.max(), b.max())
    axes.plot([low, high], [low, high], color=GREY, lw=0.8, zorder=-1)
    axes.set(xlabel=names[0], ylabel=names[1], aspect="equal")
    title(axes, "b", "ends of the phases (a.u.)", pad=16)
    aside(axes)


def _errors(axes: Axes, shown: list[Pair]) -> None:
    """The rmse of every layer and phase beside what counting spikes must cause."""
    labels, found, expected = [], [], []
    for pair in shown:
        a, b, noise = pair.final()
        several = len({p.variable for p in shown}) > 1
        variable = f"\n{words(pair.variable)}" if several else ""
        labels.append(f"{pair.layer}, {pair.phase}{variable}")
        found.append(np.sqrt(np.mean((a - b) ** 2)))
        expected.append(noise)
    place = np.arange(len(labels))
    axes.barh(place, found, 0.55, color=COLOURS[0], label="found")
    if any(expected):
        axes.plot(expected, place, "|", ms=12, mew=1.5, color=INK, label="Poisson counting")
    axes.set(yticks=place, yticklabels=labels, xlabel="rmse (a.u.)", ylabel="layer, phase")
    axes.invert_yaxis()
    title(axes, "c", "error at the ends of the phases", pad=16)
    axes.set_xlim(0, 1.05 * max(*found, *expected) or 1.0)  # equal runs have no difference
    above(axes, axes.get_legend_handles_labels()[0])


def _learning(panels: list[Axes], left: Trace, right: Trace, names: list[str]) -> None:
    kinds = [("loss", 1.0, "test loss"), ("error", 100.0, "test error (%)")]
    for axes, letter, (kind, scale, label) in zip(panels, "de", kinds, strict=False):
        values = []
        for trace, name, colour in zip((left, right), names, COLOURS, strict=False):
            x, y = trace.series(f"evaluation/{kind}")
            band(axes, x, scale * y, colour, name, **DOTS)
            values.append(scale * y.ravel())
        decades(axes, np.concatenate(values), 10)
        axes.yaxis.set_major_formatter(lambda v, _: f"{v:g}")
        axes.set(xlabel="presentations", ylabel=label)
        title(axes, letter, "learning" if kind == "loss" else "test error")
    panels[0].legend(loc="best")
