"""A recording of a cell: stimuli, potentials, spikes, and the rate against the current."""

from os import PathLike
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import xarray
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from neurosim.errors import InputError
from neurosim.figures.runs import (
    COLOURS,
    DOTS,
    GREY,
    INK,
    STYLE,
    above,
    envelope,
    new_figure,
    save,
    shades,
    spread,
    title,
)
from neurosim.figures.synapses import synaptic_figure
from neurosim.traces.naming import beside
from neurosim.traces.reader import studying

ROWS = 5
"""Sweeps that are shown one below the other, and copies of one that a raster shows."""


@matplotlib.rc_context(STYLE)
def recording(trace: str | PathLike[str], out: str | PathLike[str] | None = None) -> Path:
    """Draw a recording of a cell, or of several with synapses; returns the figure.

    out: PNG, SVG or PDF by its ending.

    Raises:
        InputError: the trace is none, or `out` cannot be written.
    """
    with studying(trace) as tree:
        if "recording" not in tree.children:
            raise InputError(
                f"{trace}: is no recording of a cell; neurosim inspect says what it is"
            )
        figure = recording_figure(tree)
    return save(figure, Path(out) if out else beside(trace, ".png"))


@matplotlib.rc_context(STYLE)
def recording_figure(tree: xarray.DataTree) -> Figure:
    """The same as a figure of matplotlib."""
    if "model" not in tree.attrs:
        return synaptic_figure(tree)
    group = tree["recording"].to_dataset()
    names = tree.to_dataset()["sweep"].values
    time = group["time"].values
    stimuli = sorted(n for n in map(str, group.data_vars) if n.startswith("stimulus"))
    chosen = spread(list(range(len(names))), ROWS)
    curve = _stepped(tree) and len(names) > 2
    heading = f"{tree.attrs['protocol']}: {tree.attrs['model']}"
    height = 1.2 + 0.7 * bool(stimuli) + 0.75 * len(chosen)
    figure = new_figure(heading, 8.5 if curve else 6.5, max(height, 3.2))
    cells = figure.add_gridspec(
        len(chosen) + bool(stimuli),
        1 + curve,
        width_ratios=[2.2, 1][: 1 + curve],
        height_ratios=[*([1.0] * bool(stimuli)), *([1.1] * len(chosen))],
        hspace=0.02,
    )
    colours = shades(len(chosen))
    top: Axes | None = None
    if stimuli:
        top = figure.add_subplot(cells[0, 0])
        _stimuli(top, group, stimuli, chosen, colours, time)
        title(top, "a", "stimuli")
    readout = str(tree.attrs["readout"])
    unit = group[readout].attrs["units"]
    shown = [readout, *_alike(group, readout, unit, stimuli)]
    panels: list[Axes] = []
    for row, (sweep, colour) in enumerate(zip(chosen, colours, strict=True)):
        axes = figure.add_subplot(
            cells[row + bool(stimuli), 0], sharex=top, sharey=panels[0] if panels else None
        )
        for k, name in enumerate(shown):
            values = group[name].values[sweep, 0]
            look: dict[str, Any] = (
                {"color": colour} if k == 0 else {"color": GREY, "ls": (0, (3, 1.5))}
            )
            axes.plot(*envelope(time, values, 700), lw=0.9, label=name, **look)
        _spikes(axes, tree, int(sweep))
        if len(chosen) > 1:
            axes.annotate(_named(tree, int(sweep)), (1, 1), (-2, -2), "axes fraction",
                          "offset points", ha="right", va="top", size=7.5, color=INK)  # fmt: skip
        axes.tick_params(labelbottom=row == len(chosen) - 1)
        panels.append(axes)
    what = "potential" if unit == "mV" else readout
    title(panels[0], "b" if stimuli else "a", f"{what}; ticks: spikes")
    if unit == "Hz":
        panels[0].set_ylim(min(0, panels[0].get_ylim()[0]), None)
    if len(shown) > 1:
        above(panels[0], panels[0].lines[: len(shown)])
    middle = panels[len(panels) // 2]
    middle.set_ylabel(f"{readout} ({unit})")
    if top is not None:
        top.tick_params(labelbottom=False)
    panels[-1].set_xlabel("time (ms)")
    panels[-1].set_xlim(time[0], time[-1])
    if curve:
        _curve(figure.add_subplot(cells[:, 1]), tree)
    return figure


def _stepped(tree: xarray.DataTree) -> bool:
    """Whether sweeps differ in a step of current, over which something is measured."""
    return "measures" in tree.children and "amplitude" in tree["measures"].to_dataset()


def _named(tree: xarray.DataTree, sweep: int) -> str:
    """What a sweep is called: its name, or its current where it has none."""
    name = str(tree.to_dataset()["sweep"].values[sweep])
    if name == str(sweep) and _stepped(tree):
        amplitude = tree["measures"].to_dataset()["amplitude"].values
        return f"{amplitude[sweep]:.4g} pA"
    return name


def _alike(group: Any, readout: str, unit: str, stimuli: list[str]) -> list[str]:
    """Other recorded quantities that share the readout's unit, if it has one."""
    if unit == "1":
        return []
    others = (str(name) for name in group.data_vars if name not in (readout, *stimuli))
    return [name for name in others if group[name].attrs.get("units") == unit]


def _stimuli(
    axes: Axes,
    group: Any,
    names: list[str],
    sweeps: list[int],
    colours: list[Any],
    time: np.ndarray,
) -> None:
    units = {group[name].attrs["units"] for name in names}
    for k, name in enumerate(names):
        style = ("-", (0, (3, 1.5)), ":", "-.")[k % 4]
        for sweep, colour in zip(sweeps, colours, strict=True):
            x, y = envelope(time, group[name].values[sweep, 0], 700)
            label = f"into {group[name].attrs['into']}" if sweep == sweeps[0] else None
            axes.plot(x, y, color=colour, ls=style, lw=1, label=label)
    axes.set_ylabel(" or ".join(sorted(units)).replace("1", ""))
    axes.margins(y=0.12)
    if len(names) > 1:
        lines = [line for line in axes.lines if not str(line.get_label()).startswith("_")]
        above(axes, lines)


def _spikes(axes: Axes, tree: xarray.DataTree, sweep: int) -> None:
    """Ticks where the first copy spikes."""
    if "spikes" not in tree.children:
        return
    spikes = tree[f"spikes/{tree.attrs['model']}"].to_dataset()
    copies = int(spikes.attrs["copies"])
    own = spikes["timestamps"].values[spikes["node_ids"].values == sweep * copies]
    if len(own):
        look: dict[str, Any] = {"transform": axes.get_xaxis_transform(), "clip_on": False}
        axes.plot(own, np.full(len(own), 0.97), "|", ms=5, mew=0.8, color=INK, **look)


def _curve(axes: Axes, tree: xarray.DataTree) -> None:
    """The rate against the current; where nothing spikes, the deflection."""
    measures = tree["measures"].to_dataset()
    current, rate = measures["amplitude"].values, measures["rate"].values
    order = np.argsort(current)
    if np.nansum(rate) > 0:
        axes.plot(current[order], rate[order], color=COLOURS[0], **DOTS)
        if "rate_spread" in measures:
            low, high = (rate + sign * measures["rate_spread"].values for sign in (-1, 1))
            look: dict[str, Any] = {"color": COLOURS[0], "alpha": 0.22, "lw": 0}
            axes.fill_between(current[order], low[order], high[order], **look)
        axes.set(ylabel="rate (Hz)", ylim=(0, None))
        title(axes, "c", "rate against current")
    else:
        axes.plot(current[order], measures["deflection"].values[order], color=COLOURS[0], **DOTS)
        axes.set_ylabel("deflection (mV)")
        title(axes, "c", "deflection against current")
    axes.set_xlabel("current (pA)")
