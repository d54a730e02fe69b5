"""Pictures of traces: a run at a glance, and any recorded variable on demand.

Everything shown is read from the trace. Figures are made without pyplot: no display is needed and
no global state is touched.
"""

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator, NullFormatter
from matplotlib.transforms import ScaledTranslation

from neurosim import wording
from neurosim.errors import InputError, unknown
from neurosim.traces.naming import SOFTWARE, beside, pictured
from neurosim.traces.reader import studying
from neurosim.traces.scenes import Scene, Trace, lesson, rms

STYLE: Any = {
    **dict.fromkeys(("font.size", "axes.titlesize", "axes.labelsize"), 9),
    **dict.fromkeys(("xtick.labelsize", "ytick.labelsize", "legend.fontsize"), 8),
    **dict.fromkeys(("axes.spines.top", "axes.spines.right", "legend.frameon"), False),
    **{"legend.title_fontsize": 8, "legend.handlelength": 1.4, "legend.columnspacing": 1.2},
    **{"legend.borderpad": 0.1, "legend.borderaxespad": 0.3},
    **{"axes.titlelocation": "left", "lines.linewidth": 1.2},
}
TEXT: Any = {"pdf.fonttype": 42, "svg.fonttype": "none"}
"""Letters in vector files stay letters, which journals ask for and other programs can edit."""

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")  # Okabe & Ito 2008
INK, GREY, PALE, UNTAUGHT, TAUGHT = "#222222", "#666666", "#b5b5b5", "#e6ebf1", "#fbe7bd"
DASHES = ("-", (0, (3, 1.5)), ":", "-.")
DOTS: dict[str, Any] = {"marker": "o", "ms": 2.5}
ALIGNED = 0.1
"""An angle to backprop (degrees) that is none: rounding makes angles of equal changes as large."""

BINS, COUNTED_UNITS = 60, 3
"""Of spikes: bins of a presentation and units of a layer that can be told apart."""


def words(name: str) -> str:
    return "somatic rate" if name == "soma" else name.replace("_", " ")


def _scientific(x: float) -> str:
    mantissa, exponent = f"{x:.1e}".split("e") if np.isfinite(x) else ("0", "0")
    return rf"${mantissa}\times10^{{{int(exponent)}}}$" if float(mantissa) else "none"


def spread(items: Sequence, most: int) -> list:
    """At most so many of the items, evenly from the first to the last."""
    chosen = np.linspace(0, len(items) - 1, min(most, len(items))).round().astype(int)
    return [items[k] for k in chosen]


def envelope(x: np.ndarray, y: np.ndarray, most: int = 250) -> tuple[np.ndarray, np.ndarray]:
    """A curve of at most `most` bins, each drawn from its lowest to its highest value."""
    if len(x) <= 2 * most:
        return x, y
    edges = np.linspace(0, len(x), most + 1).astype(int)[:-1]
    ends = np.stack([np.fmin.reduceat(y, edges), np.fmax.reduceat(y, edges)], 1)
    return np.repeat(x[edges], 2), ends.ravel()


def _binned(x: np.ndarray, y: np.ndarray, place: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Counts of moments as means over bins of a phase, few enough to be told apart."""
    bins: list[np.ndarray] = []
    for k in np.unique(place):
        part = np.flatnonzero(place == k)
        bins += np.array_split(part, min(len(part), -(-BINS * len(part) // len(x))))
    return np.array([x[b].mean() for b in bins]), np.array([y[b].mean() for b in bins])


# ------------------------------------------------------------------------------------- panels


def colour_of(layer: int, depth: int) -> Any:
    """One colour a layer, the same in every panel."""
    if depth <= len(COLOURS):
        return COLOURS[layer - 1]
    return matplotlib.colormaps["viridis"](0.92 * (layer - 1) / (depth - 1))


def shades(count: int) -> list[Any]:
    """Colours of what has an order, such as sweeps."""
    if count == 1:
        return [COLOURS[0]]
    return [matplotlib.colormaps["viridis"](0.85 * k / (count - 1)) for k in range(count)]


def title(axes: Axes, letter: str, text: str, **options: Any) -> None:
    axes.set_title(rf"$\mathbf{{{letter}}}$  {text[0].upper()}{text[1:]}", **options)


def above(axes: Axes, lines: Iterable[Any], points: float = 0) -> None:
    """A legend outside, so many points above the right end."""
    up = axes.transAxes + ScaledTranslation(0, points / 72, axes.figure.dpi_scale_trans)
    place: dict[str, Any] = {"bbox_to_anchor": (1, 1), "bbox_transform": up, "ncols": 4}
    axes.legend(handles=list(lines), loc="lower right", **place)


def aside(axes: Axes, title: str | None = None) -> None:
    """A legend outside, on the right."""
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1), title=title, alignment="left")


def decades(axes: Axes, values: np.ndarray, spread: float) -> None:
    """A logarithmic axis with two labels at least, if positive values spread so far."""
    values = values[np.isfinite(values)]
    if not values.size or values.min() <= 0 or values.max() < spread * values.min():
        return
    low, high = np.log10(values.min()) - 0.1, np.log10(values.max()) + 0.1
    if np.floor(high) - np.ceil(low) < 1:
        low, high = np.floor(low), np.ceil(high)
    axes.set_yscale("log")
    axes.set_ylim(10.0**low, 10.0**high)
    axes.yaxis.set_minor_formatter(NullFormatter())


def shade(axes: Axes, scene: Scene, named: bool) -> None:
    """The phases of a presentation as areas, paler where the sample has settled."""
    done, last = scene.settled[-1], scene.phases[-1]
    stop = min(last.end, max(1.06 * done, last.begin + 0.25 * done)) or last.end
    for (name, taught, begin, end), settled in zip(scene.phases, scene.settled, strict=True):
        colour, end = TAUGHT if taught else UNTAUGHT, min(end, stop)
        axes.axvspan(begin, settled, color=colour, lw=0, zorder=-2)
        axes.axvspan(settled, end, color=colour, lw=0, alpha=0.35, zorder=-2)
        if settled < end:
            axes.axvline(settled, color=GREY, lw=0.7, ls=(0, (2, 2)), zorder=-1)
        roomy = min(settled - begin, end - settled) > 0.1 * stop
        spots = {name: (begin, settled if roomy else end)}
        spots |= {"settled": (settled, end)} if roomy else {}
        for text, span in spots.items() if named else ():
            axes.annotate(text, (sum(span) / 2, 1), (0, 2), xycoords=("data", "axes fraction"),
                          textcoords="offset points", ha="center", size=8, color=GREY)  # fmt: skip
    axes.set_xlim(0, stop)


def _units(axes: Axes, scene: Scene, layer: int, names: Sequence[str], most: int) -> None:
    """Units of a layer, in the order of activity: `most` of them over time.

    Where there is no time all of them: the first phase as dots, later ones as rings around them.
    """
    colour, values = colour_of(layer, scene.depth), scene.layers[layer]
    leading = next(iter(scene.sent[layer]), names[0])  # the same in every panel
    order = np.argsort(np.nan_to_num(values[leading][0 if scene.time is None else -1]))
    for name, dash, marker in zip(names, DASHES, "oDsv", strict=False):
        if scene.time is not None:
            counted = scene.estimates is not None
            shown = spread(order.tolist(), min(most, COUNTED_UNITS) if counted else most)
            for unit, alpha in zip(shown, np.linspace(0.45, 1, len(shown)), strict=True):
                stroke: dict[str, Any] = {"color": colour, "alpha": alpha}
                x, y = scene.time, values[name][:, unit]
                if scene.estimates is not None:
                    ends = scene.estimates[layer][name][:, unit]
                    axes.plot(
                        [p.end for p in scene.phases], ends, "o", ms=4, clip_on=False, **stroke
                    )
                    x, y = _binned(x, y, scene.place)
                axes.plot(x, y, ls=dash, label=words(name), gid=f"unit{unit}", **stroke)
            continue
        for k, phase in enumerate(scene.phases):
            look: dict[str, Any] = {"mfc": "none", "ms": 5 + k} if k else {"mfc": colour, "ms": 2}
            label = phase.name if len(names) == 1 or k == 0 else f"{words(name)}, {phase.name}"
            axes.plot(values[name][k, order], ls="", marker=marker, mew=0.7, mec=colour,
                      label=label, gid=name, **look)  # fmt: skip


def _column(figure: Figure, cells: Any, scene: Scene, names: Sequence[str],
            layers: Sequence[int], most: int) -> list[Axes]:  # fmt: skip
    """Units of some layers, one panel below the other."""
    rows: list[Axes] = []
    for k, layer in enumerate(layers):
        timed = scene.time is not None
        axes = figure.add_subplot(cells[k], sharex=rows[0] if rows and timed else None)
        there = [name for name in names if name in scene.layers[layer]]
        _units(axes, scene, layer, there, most)
        axes.set_ylabel(f"layer {layer}\n({scene.units[there[0]]})")
        if timed:
            shade(axes, scene, named=not rows)
            axes.tick_params(labelbottom=layer == layers[-1])
        else:
            axes.set_xticks([])
            axes.margins(x=0.02, y=0.15)
            if len(scene.phases) == 1:
                y = scene.layers[layer][there[0]][0]
                axes.vlines(np.arange(len(y)), 0, np.sort(y), color=colour_of(layer, scene.depth),
                            lw=0.8, alpha=0.5)  # fmt: skip
                axes.axhline(0, color=GREY, lw=0.6, zorder=-1)
        rows.append(axes)
    marks = "" if scene.estimates is None else "; dots: what plasticity reads"
    rows[-1].set_xlabel(f"time in the presentation (ms){marks}" if timed else "units, by activity")
    figure.align_ylabels(rows)
    lines = {str(line.get_label()): line for line in rows[0].lines if line.get_gid()}
    if len(lines) > 1:
        above(rows[0], lines.values(), 13 if timed else 0)
    return rows


def _activity(figure: Figure, cell: Any, letter: str, scene: Scene) -> None:
    """What the neurons do: units of up to four layers."""
    names = list(dict.fromkeys(n for i in scene.layers for n in scene.sent[i]))
    names = names or list(scene.units)[:1]
    layers = spread([i for i in scene.layers if set(names) & set(scene.layers[i])], 4)
    cells = cell.subgridspec(len(layers), 1, hspace=0.04)
    top = _column(figure, cells, scene, names, layers, 6 // len(names))[0]
    what = f"{words(names[0])}: " if len(names) == 1 else ""
    title(top, letter, f"{what}{scene.title}", pad=16)


def _lessons(scene: Scene) -> dict[int, Any]:
    """The teaching signal of every layer: of spikes, what plasticity read."""
    place = scene.place if scene.estimates is None else np.arange(len(scene.phases))
    layers = scene.layers if scene.estimates is None else scene.estimates
    return {i: lesson(v, place, scene.phases) for i, v in layers.items()}


def _teaching(axes: Axes, letter: str, scene: Scene) -> None:
    """How large the teaching signal is in every layer."""
    timed = scene.time is not None and scene.estimates is None
    lessons = _lessons(scene)
    shown = []
    for i, (variable, between, k, difference) in ((i, x) for i, x in lessons.items() if x):
        sizes, colour, units = rms(difference), colour_of(i, scene.depth), np.abs(difference[-1])
        sizes[sizes == 0] = np.nan
        label, what = f"layer {i}: {_scientific(sizes[-1])}", f"Δ {words(variable)}"
        if not timed:
            axes.plot(np.full(units.shape, i), units, "o", ms=3, mew=0, color=colour, alpha=0.35)
            axes.plot([i - 0.2, i + 0.2], sizes[[-1, -1]], lw=2.5, color=colour, label=label)
            axes.set(xlabel="layer", ylabel=f"|{what}| ({scene.units[variable]})")
            shown.append(units[units > 0])
        else:
            assert scene.time is not None
            time = scene.time[scene.place == k] - scene.phases[k].begin
            stop = max(1.06 * (scene.settled[k] - scene.phases[k].begin), time[-1] / 10)
            axes.plot(time, sizes, color=colour, label=label)
            axes.set(xlim=(0, stop), xlabel=f"time in the {scene.phases[k].name} phase (ms)",
                     ylabel=f"RMS of {what} ({scene.units[variable]})")  # fmt: skip
        shown.append(sizes)
        title(axes, letter, f"teaching signal: {between}", pad=16)
    if not timed:
        axes.set(xticks=list(lessons), xlim=(min(lessons) - 0.5, max(lessons) + 0.5))
    decades(axes, np.concatenate(shown), 1)
    aside(axes, "RMS at the end" if timed else "RMS")


def band(axes: Axes, x: np.ndarray, y: np.ndarray, colour: Any, label: str, **look: Any) -> None:
    """Mean and range over the seeds, (presentation, seed), that have a value."""
    there = np.isfinite(y).any(1)
    middle, low, high = np.full((3, len(y)), np.nan)
    middle[there] = np.nanmean(y[there], 1)
    low[there], high[there] = np.nanmin(y[there], 1), np.nanmax(y[there], 1)
    if there.sum() < 3:  # which no line shows
        look = {"marker": "o", "ms": 2.5} | look
    axes.plot(*envelope(x, middle), color=colour, label=label, **look)
    if y.shape[1] > 1:
        (at, low), (_, high) = envelope(x, low), envelope(x, high)
        axes.fill_between(at, low, high, color=colour, alpha=0.22, lw=0)


def _curves(panels: Sequence[Axes], letters: Iterator[str], trace: Trace) -> None:
    """Over presentations: the loss, the error and the angle to backprop, as far as known."""
    axes, *more = panels
    train, test = trace.series("metrics/loss"), trace.series("evaluation/loss")
    band(axes, *train, PALE, "training", lw=0.8)
    band(axes, *test, INK, trace.tested_on, **DOTS)
    decades(axes, np.append(train[1], test[1]), 10)
    loss = trace.model["loss"].replace("-squared", " squared")
    axes.set_ylabel(f"{loss} (nats)" if loss == "cross-entropy" else f"{loss} error (a.u.)")
    title(axes, next(letters), "loss")
    above(axes, axes.lines)
    if trace.classes:
        axes, *more = more
        x, error = trace.series("evaluation/error")
        band(axes, x, 100 * error, INK, trace.tested_on, **DOTS)
        decades(axes, 100 * error, 10)
        axes.yaxis.set_major_formatter(lambda v, _: f"{v:g}")
        axes.set_ylabel(f"{trace.tested_on} error (%)")
        title(axes, next(letters), f"{trace.tested_on} error")
    for axes in more:
        x, angles = trace.series("signals/angle")
        layers = trace.tree["signals/layer"].values.tolist()
        for i in spread(layers, 8):
            colour = colour_of(i, max(layers))
            wide = 1.2 + 2.4 * (max(layers) - i) / max(len(layers), 3)  # so that equal lines show
            band(axes, x, angles[..., layers.index(i)], colour, f"layer {i}", lw=wide, **DOTS)
        axes.axhline(90, color=GREY, lw=0.8, ls=(0, (4, 3)))
        axes.annotate("orthogonal", (0.99, 91), xycoords=("axes fraction", "data"), ha="right",
                      va="bottom", size=8, color=GREY)  # fmt: skip
        axes.set(ylim=(-4, max(100, 1.05 * np.nanmax(angles))), ylabel="angle (degrees)")
        title(axes, next(letters), "angle between ΔW and backprop's")
        aside(axes)
    reached = max(x[np.isfinite(y).any(1)].max(initial=1) for x, y in (train, test))
    for axes in panels:
        axes.set(xlabel="presentations", xlim=(-0.02 * reached, 1.02 * reached))
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        for name, first in trace.stages().items():
            axes.axvline(first, color=GREY, lw=0.8, ls=":")
            axes.annotate(name, (first, 0.98), (2, 0), xycoords=("data", "axes fraction"), size=8,
                          textcoords="offset points", va="top", color=GREY)  # fmt: skip


# ------------------------------------------------------------------------------------ figures


def _headline(trace: Trace) -> str:
    """Which run this is, and what came of it."""
    about, count = trace.tree.attrs, len(trace.seeds)
    seeds = f"seed {trace.seeds[0]}" if count == 1 else f"{count} seeds (mean and range)"
    parts = [f"{about['protocol']}: {about['model']} model, {about['level']} level, {seeds}"]
    kind = "error" if trace.classes else "loss"
    x, values = trace.series(f"evaluation/{kind}")
    there = np.flatnonzero(np.isfinite(values).any(1))
    if there.size:
        final = values[there[-1]]
        living = final[np.isfinite(final)].tolist()
        found = {f"{trace.tested_on}_{kind}": living if count > 1 else living[0]}
        [(label, text)] = wording.metrics(found)
        after = "" if there[-1] == len(x) - 1 else f" after {x[there[-1]]} presentations"
        parts.append(f"{label} {text}{after}")
    diverged = len(trace.summary.get("diverged", ()))
    if diverged:
        parts.append(f"{diverged} of {count} seeds diverged" if count > 1 else "diverged")
    elif about["status"] != "complete":
        parts.append({"running": "unfinished"}.get(about["status"], about["status"]))
    return "; ".join(parts)


def new_figure(title: str, width: float, height: float) -> Figure:
    layout = ConstrainedLayoutEngine(w_pad=0.09, h_pad=0.07)
    figure = Figure((width, height), dpi=130, layout=layout)
    text = textwrap.fill(title, int(11 * width))
    figure.suptitle(text, x=0.01, ha="left", size=10.5, weight="bold", parse_math=False)
    return figure


@matplotlib.rc_context(STYLE)
def overview_figure(path: str | PathLike[str]) -> Figure:
    """The figure that `overview` saves."""
    with studying(path) as tree:
        trace = Trace(path, tree)
        losses = [trace.series(f"{group}/loss")[1] for group in ("metrics", "evaluation")]
        if not any(np.isfinite(loss).any() for loss in losses):
            raise InputError(f"{path}: there is nothing to show: the run wrote no loss yet")
        scene = trace.scene() if trace.recorded() else None
        taught = scene is not None and any(_lessons(scene).values())
        bare = scene is not None and scene.time is None and not taught  # one dot a unit
        figure = new_figure(_headline(trace), 11, (5.4 if bare else 7) if scene else 3.6)
        letters = iter("abcde")
        ratios = (0.6 if bare else 1.15, 1)[not scene :]
        rows = figure.add_gridspec(1 + bool(scene), 1, height_ratios=ratios)
        if scene:
            cells = rows[0].subgridspec(1, 1 + taught, width_ratios=(2, 1)[: 1 + taught])
            _activity(figure, cells[0], next(letters), scene)
            if taught:
                _teaching(figure.add_subplot(cells[1]), next(letters), scene)
        found = trace.series("signals/angle")[1] if scene else np.zeros(0)
        angles = bool((found[np.isfinite(found)] > ALIGNED).any())  # backprop's own need none
        cells = rows[-1].subgridspec(1, 1 + trace.classes + int(angles))
        _curves([figure.add_subplot(cells[k]) for k in range(cells.ncols)], letters, trace)
        return figure


@matplotlib.rc_context(STYLE)
def variables_figure(path: str | PathLike[str], names: Sequence[str],
                     presentation: int | None = None, sample: int | None = None,
                     layers: Sequence[int] | None = None, seed: int | None = None,
) -> Figure:  # fmt: skip
    """The figure that `variables` saves."""
    with studying(path) as tree:
        trace = Trace(path, tree)
        scene = trace.scene(presentation, trace.first(sample), seed)
        for layer in layers or ():
            trace.check("layer", layer, scene.layers)
        shown = {n: [i for i in layers or scene.layers if n in scene.layers[i]] for n in names}
        for name in names:
            if not shown[name]:
                there = dict.fromkeys(n for i in layers or scene.layers for n in scene.layers[i])
                raise InputError(f"{path}: {unknown('variable', name, there)}")
        tallest = max(map(len, shown.values()))
        title = f"{tree.attrs['protocol']}, {tree.attrs['level']} level: {scene.title}"
        figure = new_figure(title, min(2.5 + 3.5 * len(shown), 14), min(1.5 + 1.8 * tallest, 14))
        columns = figure.add_gridspec(1, len(shown))
        for k, (name, rows) in enumerate(shown.items()):
            cells = columns[k].subgridspec(len(rows), 1)
            _column(figure, cells, scene, [name], rows, 10)[0].set_title(words(name), pad=16)
        return figure


@matplotlib.rc_context(STYLE)
def overview(trace: str | PathLike[str], out: str | PathLike[str] | None = None) -> Path:
    """A run at a glance: activity, teaching signal, learning curves and angles to backprop.

    out: PNG, SVG or PDF by its ending; next to the trace if not given. Returns where it is.

    Raises:
        InputError: the trace cannot be read, holds nothing yet, or `out` cannot be written.
    """
    return save(overview_figure(trace), Path(out) if out else beside(trace, ".png"))


@matplotlib.rc_context(STYLE)
def variables(
    trace: str | PathLike[str],
    names: Sequence[str],
    presentation: int | None = None,
    sample: int | None = None,
    layers: Sequence[int] | None = None,
    out: str | PathLike[str] | None = None,
    seed: int | None = None,
) -> Path:
    """Recorded variables of one sample of one presentation: a column each, a row a layer.

    presentation: the last one recorded in detail if not given. sample: the first recorded. layers:
    all that have the variable. seed: the first that did not diverge. out: as in `overview`.

    Raises:
        InputError: what is asked for was not recorded, or `out` cannot be written.
    """
    figure = variables_figure(trace, names, presentation, sample, layers, seed)
    return save(figure, Path(out) if out else beside(trace, f"-{'-'.join(names)}.png"))


def save(figure: Figure, path: Path) -> Path:
    path = pictured(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        about = {"Software": SOFTWARE} if path.suffix == ".png" else None
        with matplotlib.rc_context(STYLE | TEXT):
            laid_out(figure)
            figure.savefig(path, dpi="figure", metadata=about)
    except OSError as error:
        raise InputError(f"{path}: cannot be written there: {error.strerror}") from error
    return path


def laid_out(figure: Figure) -> None:
    """Its parts are where they will be; matplotlib would lay them out twice, half of the time."""
    if (layout := figure.get_layout_engine()) is not None:
        layout.execute(figure)
        figure.set_layout_engine("none")
