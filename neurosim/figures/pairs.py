"""Two traces in one picture."""

from os import PathLike
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from neurosim.comparison import Comparison, Pair, Recorded, hold
from neurosim.comparison.words import tested_on
from neurosim.figures.distributions import SIDES, distances
from neurosim.figures.paired_recordings import paired_recordings
from neurosim.figures.runs import (
    DOTS,
    GREY,
    INK,
    STYLE,
    TAUGHT,
    UNTAUGHT,
    above,
    band,
    colour_of,
    decades,
    envelope,
    new_figure,
    save,
    spread,
    title,
    words,
)
from neurosim.traces.naming import stem

PALE = "#8a8a8a"
"""Of the second trace, where the colour of the first says the layer."""


def comparison(a: str | PathLike[str], b: str | PathLike[str], out: str | PathLike[str]) -> Path:
    """What `compare` says as a picture, saved at `out` (PNG, SVG or PDF). Returns where it is.

    Raises:
        InputError: as `compare` does, or `out` cannot be written.
    """
    return comparison_of(hold(a, b), out)


def comparison_of(found: Comparison | Recorded, out: str | PathLike[str]) -> Path:
    """The same of a comparison that was made before."""
    return save(comparison_figure(found), Path(out))


@matplotlib.rc_context(STYLE)
def comparison_figure(found: Comparison | Recorded) -> Figure:
    """The figure that `comparison` saves."""
    if isinstance(found, Recorded):
        return paired_recordings(found)
    report = found.report
    names = _names(report)
    first = report["presentations"][0] if report["presentations"] else None
    text = f"{names[0]} against {names[1]}"
    if report["a"]["protocol"] == report["b"]["protocol"]:
        text = f"{report['a']['protocol']}: {text}"
    text += "" if first is None else f", presentation {first}"
    sent = [(layer, name) for layer, names in found.sent.items() for name in names]
    shown = [
        p
        for p in found.pairs
        if p.presentation == first and (p.layer, p.variable.partition(" / ")[0]) in sent
    ]
    rows = [
        r
        for r in report["agreement"]
        if r["presentation"] == first and (r["layer"], r["variable"].partition(" / ")[0]) in sent
    ]
    signals = [r for r in report["signals"] if r["presentation"] == first]
    timed = any(len(pair.time) > 1 for pair in shown)
    spikes = report["spikes"]
    figure = new_figure(text, 14.5 if spikes else 12, 6.8 if timed else 3.6)
    grid = figure.add_gridspec(1 + timed, 1, height_ratios=(1.15, 1)[not timed :])
    letters, panels = iter("abcdefg"), list[Any]()
    if timed:
        top = grid[0].subgridspec(1, 2, width_ratios=(2.4, 1))
        _courses(figure, top[0], next(letters), shown, names)
        _scatter(figure.add_subplot(top[1]), next(letters), shown, names)
    elif shown:
        panels.append(lambda axes: _scatter(axes, next(letters), shown, names))
    panels += [lambda axes: _errors(axes, next(letters), rows)] if rows else []
    panels += [lambda axes: _signals(axes, next(letters), signals, names)] if signals else []
    on = tested_on(report)
    for kind, curves in found.curves.items():
        panels.append(lambda axes, k=kind, c=curves: _learning(axes, next(letters), on, k, c))
    panels += [lambda axes: distances(axes, next(letters), spikes)] if spikes else []
    below = grid[-1].subgridspec(1, len(panels))
    drawn = [figure.add_subplot(below[k]) for k in range(len(panels))]
    for axes, draw in zip(drawn, panels, strict=True):
        draw(axes)
    handles = [Line2D([], [], color=c, label=n, **DOTS) for c, n in zip(SIDES, names, strict=True)]
    figure.legend(handles=handles, loc="outside lower right", ncols=2)
    return figure


def _names(report: dict[str, Any]) -> list[str]:
    """What tells the two apart, in a few words."""
    sides = report["a"], report["b"]
    telling = [key for key in ("model", "level") if sides[0][key] != sides[1][key]]
    if sides[0]["seeds"] != sides[1]["seeds"]:
        telling.append("seeds")
    changed = [d for d in report["differs"] if d["key"].startswith("model.")]
    names = []
    for side, letter in zip(sides, "ab", strict=True):
        parts = [_seeds(side["seeds"]) if key == "seeds" else str(side[key]) for key in telling]
        if "model" not in telling and len(changed) == 1:
            key = changed[0]["key"].removeprefix("model.")
            parts.append(f"{key} = {changed[0][letter]}")
        names.append(", ".join(parts))
    if names[0] == names[1]:
        names = [stem(side["path"]) for side in sides]
    return names if names[0] != names[1] else [str(side["path"]) for side in sides]


def _seeds(seeds: list[int]) -> str:
    return f"seed {seeds[0]}" if len(seeds) == 1 else f"{len(seeds)} seeds"


def _courses(figure: Figure, cell: Any, letter: str, shown: list[Pair], names: list[str]) -> None:
    """A few units of one sample over time, each trace in its own stroke; their ends as dots."""
    named: dict[int, str] = {}
    for pair in shown:  # cells of other layers may have other names for what they send
        named.setdefault(pair.layer, pair.variable)
    one = len(set(named.values())) == 1
    layers = spread(sorted({pair.layer for pair in shown}), 3)
    depth = max(pair.layer for pair in shown)
    cells = cell.subgridspec(len(layers), 1, hspace=0.06)
    for k, layer in enumerate(layers):
        axes = figure.add_subplot(cells[k])
        mine = [pair for pair in shown if (pair.layer, pair.variable) == (layer, named[layer])]
        order = np.argsort(np.nan_to_num(mine[-1].a_end[0]))
        colour, begin = colour_of(layer, depth), 0.0
        for pair in mine:
            end = float(pair.time[-1]) or begin + 1.0
            axes.axvspan(begin, end, color=UNTAUGHT if pair is mine[0] else TAUGHT, lw=0, zorder=-2)
            if k == 0:
                axes.annotate(pair.phase, ((begin + end) / 2, 1), (0, 2), ha="center", size=8,
                              xycoords=("data", "axes fraction"), textcoords="offset points",
                              color=GREY)  # fmt: skip
            for unit in spread(order.tolist(), 3):
                for values, ends, faint in (
                    (pair.b, pair.b_end, True),
                    (pair.a, pair.a_end, False),
                ):
                    stroke = PALE if faint else colour
                    x, y = envelope(pair.time, values[0][:, unit])
                    axes.plot(x, y, color=stroke, lw=0.8 if faint else 1.3, zorder=2 - faint)
                    axes.plot([end], [ends[0, unit]], "s" if faint else "o", ms=4, mew=0.8,
                              mfc="none" if faint else colour, mec=stroke, clip_on=False,
                              zorder=4)  # fmt: skip
            begin = end
        what = "" if one else f"\n{words(named[layer])}"
        axes.set(ylabel=f"layer {layer}{what}\n(a.u.)", xlim=(0, begin))
        axes.margins(y=0.08)
        axes.tick_params(labelbottom=k == len(layers) - 1)
        if k == 0:
            what = words(named[layer]) if one else "activity"
            marks = "three units; marks: as plasticity reads it"
            title(axes, letter, f"{what} of {marks}", pad=16)
    axes.set_xlabel("time in the presentation (ms)")
    handles = [
        Line2D([], [], color=INK, marker="o", ms=4, label=names[0]),
        Line2D([], [], color=PALE, marker="s", mfc="none", ms=4, label=names[1]),
    ]
    axes.legend(handles=handles, loc="upper left", bbox_to_anchor=(0, -0.4), ncols=2)


def _scatter(axes: Axes, letter: str, shown: list[Pair], names: list[str]) -> None:
    """Every unit of every sample at the end of its phase."""
    mine = [pair for pair in shown if pair.variable == shown[0].variable]
    depth = max(pair.layer for pair in mine)
    for pair in mine:
        label = f"layer {pair.layer}" if pair.phase == mine[0].phase else None
        alpha = float(np.clip(60 / pair.a_end.size, 0.15, 0.6))
        axes.plot(pair.a_end.ravel(), pair.b_end.ravel(), ".", ms=3.5, alpha=alpha, mew=0,
                  color=colour_of(pair.layer, depth), rasterized=pair.a_end.size > 2000,
                  label=label)  # fmt: skip
    ends = np.concatenate([np.concatenate([p.a_end.ravel(), p.b_end.ravel()]) for p in mine])
    limits = np.nanmin(ends), np.nanmax(ends)
    axes.plot(limits, limits, color=GREY, lw=0.8, zorder=-1)
    axes.set(xlabel=f"{names[0]} (a.u.)", ylabel=f"{names[1]} (a.u.)", aspect="equal")
    axes.set_box_aspect(1)
    title(axes, letter, "ends of the phases", pad=16)
    above(axes, axes.get_legend_handles_labels()[0])


def _errors(axes: Axes, letter: str, rows: list[dict[str, Any]]) -> None:
    """The rmse of every layer and phase beside what is expected; of other units sizes."""
    several = len({row["variable"] for row in rows}) > 1
    labels = [
        f"{row['layer']}, {row['phase']}" + (f"\n{words(row['variable'])}" if several else "")
        for row in rows
    ]
    place = np.arange(len(rows))
    if "rmse" in rows[0]:
        found = [row["rmse"] or 0.0 for row in rows]
        axes.barh(place, found, 0.55, color=PALE, label="found")
        expected = [row["expected"] or np.nan for row in rows]
        if np.isfinite(expected).any():
            axes.plot(expected, place, "|", ms=12, mew=1.5, color=INK, label="expected of noise")
        axes.set_xlabel("rmse (a.u.)")
        title(axes, letter, "differences at the ends", pad=16)
        above(axes, axes.get_legend_handles_labels()[0])
    else:
        for side, colour, off in zip("ab", SIDES, (-0.12, 0.12), strict=True):
            sizes = [row[f"size_{side}"] or np.nan for row in rows]
            axes.plot(sizes, place + off, "o", ms=4, color=colour)
        axes.set_xlabel("RMS (a.u.)")
        title(axes, letter, "activity", pad=16)
    shown = spread(place.tolist(), 14)
    axes.set(yticks=shown, yticklabels=[labels[k] for k in shown], ylabel="layer, phase")
    axes.invert_yaxis()
    axes.set_xlim(0, None)


def _signals(axes: Axes, letter: str, rows: list[dict[str, Any]], names: list[str]) -> None:
    """How large the teaching signals of both are, beside the noise that is expected in them."""
    layers = np.array([row["layer"] for row in rows])
    drawn = []
    for side, colour, off in zip("ab", SIDES, (-0.1, 0.1), strict=True):
        sizes = np.array([row[f"size_{side}"] or np.nan for row in rows])
        axes.plot(layers + off, sizes, "o", ms=4, color=colour)
        drawn.append(sizes)
    noise = np.array([row.get("expected") or np.nan for row in rows])
    if np.isfinite(noise).any():
        axes.plot(layers, noise, "_", ms=16, mew=1.5, color=INK, label="noise expected")
        above(axes, axes.lines[-1:])
        drawn.append(noise)
    decades(axes, np.concatenate(drawn), 10)
    axes.set(xlabel="layer", xticks=spread(layers.tolist(), 10), ylabel="RMS (a.u.)")
    axes.set_xlim(layers.min() - 0.5, layers.max() + 0.5)
    title(axes, letter, "teaching signals", pad=16)


def _learning(axes: Axes, letter: str, on: str, kind: str, curves: list[Any]) -> None:
    """Means and ranges over the seeds of both."""
    scale = 100.0 if kind == "error" else 1.0
    for (x, y), colour in zip(curves, SIDES, strict=True):
        band(axes, x, scale * y, colour, "", **DOTS)
    decades(axes, np.concatenate([scale * y.ravel() for _, y in curves]), 10)
    axes.yaxis.set_major_formatter(lambda v, _: f"{v:g}")
    axes.set(xlabel="presentations", ylabel=f"{on} {kind} ({'%' if kind == 'error' else 'a.u.'})")
    title(axes, letter, f"{on} {kind}", pad=16)
