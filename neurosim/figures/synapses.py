"""A recording of cells and the synapses between them: spikes, quantities, and a curve."""

import json
from string import ascii_lowercase
from typing import Any

import numpy as np
import xarray
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from neurosim.figures.runs import (
    COLOURS,
    DOTS,
    GREY,
    INK,
    above,
    envelope,
    new_figure,
    shades,
    spread,
    title,
)

ROWS, SWEEPS, CELLS = 6, 4, 40
"""Quantities that are shown, sweeps of each, and cells of every group in a raster."""


def synaptic_figure(tree: xarray.DataTree) -> Figure:
    """The figure of a recording of synapses."""
    names = list(map(str, tree.to_dataset()["sweep"].values))
    chosen = spread(list(range(len(names))), SWEEPS)
    colours = shades(len(chosen))
    quantities = [
        (owner, str(name))
        for owner, group in tree["recording"].children.items()
        for name in group.to_dataset().data_vars
    ][:ROWS]
    groups = list(tree["spikes"].children) if "spikes" in tree.children else []
    curve = "curve" in tree.children
    binned = "populations" in tree.children
    rows = bool(groups) + len(quantities)
    figure = new_figure(str(tree.attrs["protocol"]), 9 if curve or binned else 6.5,
                        max(1.1 + 1.0 * rows, 3.2))  # fmt: skip
    wide = 1 + (curve or binned)
    ratios = [1.6, 1.0] if curve else [1.2, 1.0]
    cells = figure.add_gridspec(rows, wide, width_ratios=ratios[:wide], hspace=0.06)
    time = tree["recording"].to_dataset()["time"].values
    letters = iter(ascii_lowercase)
    panels: list[Axes] = []
    if groups:
        axes = figure.add_subplot(cells[0, 0])
        _raster(axes, tree, groups, chosen, colours, float(time[-1]))
        title(axes, next(letters), "spikes")
        panels.append(axes)
    for row, (owner, name) in enumerate(quantities, start=bool(groups)):
        axes = figure.add_subplot(cells[row, 0], sharex=panels[0] if panels else None)
        values = tree[f"recording/{owner}"].to_dataset()[name]
        unit = str(values.attrs["units"])
        for sweep, colour in zip(chosen, colours, strict=True):
            axes.plot(*envelope(time, values.values[sweep, 0], 700), color=colour, lw=1,
                      label=_called(tree, sweep, names))  # fmt: skip
        axes.set_ylabel(f"{owner}\n{name}" + (f" ({unit})" if unit != "1" else ""))
        if row == bool(groups):
            title(axes, next(letters), "what changes")
            if len(chosen) > 1:
                above(axes, axes.lines)
        panels.append(axes)
    for axes in panels[:-1]:
        axes.tick_params(labelbottom=False)
    panels[-1].set_xlabel("time (ms)")
    panels[-1].set_xlim(0, time[-1])
    figure.align_ylabels(panels)
    if curve:
        _curve(figure.add_subplot(cells[:, 1]), tree, next(letters))
    elif binned:
        _populations(figure, cells, tree, next(letters))
    return figure


def _called(tree: xarray.DataTree, sweep: int, names: list[str]) -> str:
    """What a sweep is called: its name, or what it differs in."""
    if names[sweep] != str(sweep) or "curve" not in tree.children:
        return names[sweep]
    against = tree["curve"].to_dataset()["against"]
    unit = str(against.attrs["units"])
    return f"{against.values[sweep]:.4g}" + (f" {unit}" if unit != "1" else "")


def _raster(
    axes: Axes,
    tree: xarray.DataTree,
    groups: list[str],
    sweeps: list[int],
    colours: list[Any],
    end: float,
) -> None:
    """Ticks, group below group: a row for each of the sweeps shown, or for each cell of one."""
    base, places = 0.0, []
    for number, name in enumerate(groups):
        spikes = tree[f"spikes/{name}"].to_dataset()
        cells, at = int(spikes.attrs["cells"]), spikes["timestamps"].values
        who = spikes["node_ids"].values.astype(int)
        several = len(sweeps) > 1
        rows = [(k * cells, c) for k, c in zip(sweeps, colours, strict=True)]
        if not several:
            rows = [(c, COLOURS[number % len(COLOURS)]) for c in range(min(cells, CELLS))]
        for row, (cell, colour) in enumerate(rows):
            own = at[who == cell]
            axes.vlines(own, -base - row - 0.9, -base - row - 0.1, color=colour, lw=0.9)
        places.append(-base - len(rows) / 2)
        base += len(rows) * 1.2
    axes.set_yticks(places, groups)
    for number, label in enumerate(axes.get_yticklabels() if len(sweeps) == 1 else ()):
        label.set_color(COLOURS[number % len(COLOURS)])
    axes.tick_params(axis="y", length=0)
    axes.set(ylim=(-base, 0.5), xlim=(0, end))
    axes.spines["left"].set_visible(False)


def _words(tree: xarray.DataTree, key: str) -> str:
    """A key of the protocol that sweeps differ in, in words."""
    parts = key.split(".")
    if parts[0] == "cells":
        return f"{parts[-1]} of {parts[1]}"
    if parts[0] == "stimuli":
        resolved = json.loads(str(tree["provenance"].to_dataset()["protocol_json"].values))
        into = resolved["stimuli"][int(parts[1])]["into"]
        return f"{parts[-1]} of what goes into {into}"
    return key


def _curve(axes: Axes, tree: xarray.DataTree, letter: str) -> None:
    """One number of every sweep against what they differ in."""
    against = tree["curve"].to_dataset()["against"]
    x, order = against.values, np.argsort(against.values)
    unit = str(against.attrs["units"])
    found = [
        (owner, str(name), values)
        for owner, group in tree["curve"].children.items()
        for name, values in group.to_dataset().data_vars.items()
    ]
    for number, (owner, name, values) in enumerate(found):
        axes.plot(x[order], values.values[order], color=COLOURS[number % len(COLOURS)],
                  label=f"{owner}.{name}", **DOTS)  # fmt: skip
    take = str(found[0][2].attrs["long_name"])
    units = str(found[0][2].attrs["units"])
    what = f"{found[0][0]}.{found[0][1]}" if len(found) == 1 else found[0][1]
    label = f"change of {what}" if take == "change" else f"{what} at the end"
    axes.set_ylabel(label + (f" ({units})" if units != "1" else ""))
    axes.set_xlabel(_words(tree, str(against.attrs["long_name"])) + f" ({unit})")
    if np.nanmin([v.values.min() for *_, v in found]) < 0:
        axes.axhline(0, color=GREY, lw=0.6, zorder=-1)
    if x.min() < 0 < x.max():
        axes.axvline(0, color=GREY, lw=0.6, zorder=-1)
    if len(found) > 1:
        axes.legend(loc="best")
    title(axes, letter, "over all sweeps", color=INK)


def _populations(figure: Figure, cells: Any, tree: xarray.DataTree, letter: str) -> None:
    """Rates of the first sweep in bins of time, in the colours of the raster."""
    group = tree["populations"]
    begins = group.to_dataset()["bin"].values
    inner = cells[:, 1].subgridspec(3, 1, hspace=0.06)
    for row, what in enumerate(("rate", "events", "burst_probability")):
        axes = figure.add_subplot(inner[row])
        for number, own in enumerate(group.children.values()):
            values = own.to_dataset()[what]
            look: dict[str, Any] = {"color": COLOURS[number % len(COLOURS)], "lw": 1}
            axes.step(begins, values.values[0], where="post", **look)
        unit = str(values.attrs["units"])
        axes.set_ylabel(what.replace("_", " ") + (f" ({unit})" if unit != "1" else ""))
        axes.tick_params(labelbottom=row == 2)
        if row == 0:
            title(axes, letter, "populations")
    axes.set_xlabel("time (ms)")
