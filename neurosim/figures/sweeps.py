"""The picture of a sweep: how well it learned along its axes, and how it came there."""

from collections.abc import Iterator
from itertools import product
from os import PathLike
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from neurosim.figures.runs import (
    COLOURS,
    GREY,
    STYLE,
    aside,
    band,
    decades,
    new_figure,
    save,
    shades,
    spread,
    title,
)

LINES = 8
"""Combinations of further axes that are drawn; of more, so many of them, evenly."""


class _Swept:
    """A dataset of `neurosim.sweep` with the axis that runs along the abscissa last.

    names: the other axes, of which every combination is a line. tested: "test" or "validation".
    """

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset
        dims = [str(name) for name in dataset["state"].dims]
        long = [d for d in dims if dataset.sizes[d] > 1] or dims
        numeric = [d for d in long if dataset[d].dtype.kind in "if"]
        self.along = max(numeric or long, key=lambda d: dataset.sizes[d])
        self.names = [d for d in dims if d != self.along]
        ends = [str(n) for n in dataset.data_vars if str(n).endswith(("_error", "_loss"))]
        ends.sort(key=lambda name: name.endswith("_loss"))
        self.metric = next((n for n in ends if np.isfinite(dataset[n].values).any()), None)
        self.tested, _, self.kind = (self.metric or "test_loss").rpartition("_")
        self.factor = 100 if self.kind == "error" else 1
        self.unit = " (%)" if self.kind == "error" else ""

    @property
    def lines(self) -> list[dict[str, Any]]:
        """The combinations of the other axes, each as what it selects."""
        values = [range(self.dataset.sizes[name]) for name in self.names]
        every = [dict(zip(self.names, places, strict=True)) for places in product(*values)]
        return spread(every, LINES)

    def label(self, at: dict[str, int]) -> str:
        """A combination in words."""
        found = []
        for name, k in at.items():
            value = self.dataset[name].values[k]
            text = f"{value:g}" if self.dataset[name].dtype.kind in "if" else str(value)
            found.append(f"{name} {text}")
        return ", ".join(found)


def _ends(axes: Axes, swept: _Swept) -> None:
    """Final values along an axis: mean and range over the seeds, a line a combination."""
    dataset, lines = swept.dataset, swept.lines
    values = dataset[swept.along].values
    numeric = values.dtype.kind in "if"
    x = values.astype(float) if numeric else np.arange(len(values), dtype=float)
    order = np.argsort(x)
    every = []
    for at, colour in zip(lines, _colours(len(lines)), strict=True):
        y = dataset[swept.metric].isel(at).transpose(swept.along, "seed").values * swept.factor
        y = y[order]
        every.append(y)
        band(axes, x[order], y, colour, swept.label(at), marker="o", ms=3)
        if y.shape[1] > 1:
            for at_x, row in zip(x[order], y, strict=True):
                axes.plot(np.full(len(row), at_x), row, "o", ms=1.8, color=colour, alpha=0.5)
    decades(axes, np.concatenate(every), 10)
    axes.yaxis.set_major_formatter(lambda v, _: f"{v:g}")
    if not numeric:
        axes.set_xticks(x, [str(value) for value in values])
        axes.margins(x=0.15)
    elif x.min() > 0 and x.max() >= 10 * x.min():
        axes.set_xscale("log")
        axes.set_xticks(x, [f"{value:g}" for value in x], minor=False)
        axes.minorticks_off()
    axes.set(xlabel=dataset[swept.along].attrs.get("key", swept.along))
    axes.set_ylabel(f"{swept.tested} {swept.kind}{swept.unit}")
    if swept.names:
        aside(axes)


def _courses(axes: Axes, swept: _Swept) -> None:
    """Tests over the runs of the first combination, a line for each value along the axis."""
    dataset, at = swept.dataset, swept.lines[0]
    values = dataset[swept.along].values
    places = spread(range(len(values)), LINES)
    every = []
    for k, colour in zip(places, _colours(len(places)), strict=True):
        here = dataset.isel({**at, swept.along: k})
        y = here[swept.kind].transpose("test", "seed").values * swept.factor
        x = here["presentation"].values.astype(float)
        there = np.isfinite(x)
        value = f"{values[k]:g}" if values.dtype.kind in "if" else str(values[k])
        if there.any() and np.isfinite(y).any():
            band(axes, x[there], y[there], colour, value, marker="o", ms=2.5)
            every.append(y.ravel())
    if every:
        decades(axes, np.concatenate(every), 10)
    axes.yaxis.set_major_formatter(lambda v, _: f"{v:g}")
    axes.set(xlabel="presentations", ylabel=f"{swept.tested} {swept.kind}{swept.unit}")
    aside(axes, swept.along)


def _colours(count: int) -> Iterator[Any]:
    yield from COLOURS[:count] if count <= 3 else shades(count)


@matplotlib.rc_context(STYLE)
def sweep_figure(dataset: Any) -> Figure:
    """The figure that `sweep` saves."""
    swept = _Swept(dataset)
    seeds = dataset.sizes["seed"]
    of_seeds = f"{seeds} seeds (mean and range)" if seeds > 1 else "one seed"
    text = f"{dataset.attrs['protocol']}: {dataset['state'].size} points, {of_seeds}"
    for state in ("failed", "lost", "missing"):
        count = int((dataset["state"].values == state).sum())
        text += f"; {count} {state}" if count else ""
    figure = new_figure(text, 9.6, 3.4)
    ends, courses = figure.subplots(1, 2)
    if swept.metric is None:
        for axes in (ends, courses):
            axes.text(0.5, 0.5, "no point is finished", transform=axes.transAxes, ha="center",
                      color=GREY)  # fmt: skip
        return figure
    _ends(ends, swept)
    title(ends, "a", f"{swept.tested} {swept.kind} at the end")
    _courses(courses, swept)
    first = swept.label(swept.lines[0])
    title(courses, "b", f"over the run{f', {first}' if first else ''}")
    return figure


@matplotlib.rc_context(STYLE)
def sweep(dataset: Any, out: str | PathLike[str]) -> Path:
    """Final errors (or losses) of a sweep over its axes, and learning curves; bands over seeds.

    dataset: as `ns.sweep` returns it. out: PNG, SVG or PDF by its ending. Returns where it is.

    Raises:
        InputError: `out` cannot be written.
    """
    return save(sweep_figure(dataset), Path(out))
