"""The spikes of a presentation over the rates they make."""

from os import PathLike
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from neurosim.errors import InputError
from neurosim.figures.runs import INK, STYLE, above, colour_of, new_figure, save, shade, title
from neurosim.places import is_layer, layer_of, spelled
from neurosim.specs import ModelSpec
from neurosim.traces.naming import beside
from neurosim.traces.reader import studying
from neurosim.traces.scenes import Scene, Trace
from neurosim.units import parse

NEURONS = 60
"""Rows of a raster; more cannot be told apart."""

MANY = 20_000
"""Spikes above which a vector file holds them as a picture."""


@matplotlib.rc_context(STYLE)
def raster(
    trace: str | PathLike[str],
    out: str | PathLike[str] | None = None,
    presentation: int | None = None,
    sample: int | None = None,
) -> Path:
    """Spikes of some neurons of every layer, above the rate of the layer; phases shaded.

    presentation: the last one recorded in detail if not given. sample: the first recorded.
    out: PNG, SVG or PDF by its ending.

    Raises:
        InputError: the trace holds no spikes, or `out` cannot be written.
    """
    figure = raster_figure(trace, presentation, sample)
    return save(figure, Path(out) if out else beside(trace, "-raster.png"))


@matplotlib.rc_context(STYLE)
def raster_figure(
    trace: str | PathLike[str], presentation: int | None = None, sample: int | None = None
) -> Figure:
    """The figure that `raster` saves."""
    path = Path(trace)
    with studying(trace) as tree:
        shown = Trace(trace, tree)
        if "spikes" not in tree.children:
            raise InputError(f"{path}: holds no spikes; they are recorded at the spiking level")
        scene = shown.scene(presentation, shown.first(sample), shown.seeds[0])
        number = max(shown.recorded()) if presentation is None else presentation
        return _figure(shown, scene, number, shown.samples[0] if sample is None else sample)


def in_burst(times: np.ndarray, nodes: np.ndarray, limit: float) -> np.ndarray:
    """Which spikes come less than `limit` after one of the same neuron: what others call bursts."""
    order = np.lexsort((times, nodes))
    near = (np.diff(nodes[order]) == 0) & (np.diff(times[order]) < limit - 1e-6)
    found = np.zeros(len(times), bool)
    found[order[1:]] = near
    return found


def _figure(trace: Trace, scene: Scene, number: int, sample: int) -> Figure:
    traces, end = trace.tree["traces"], scene.phases[-1].end
    row = traces["presentation"].values.tolist().index(number)
    begin = row * float(traces["time"].values[-1])  # the longest presentation sets the pace
    populations = sorted(
        trace.tree["spikes"].children.items(), key=lambda kv: (layer_of(kv[0]), not is_layer(kv[0]))
    )
    bursting = ModelSpec.model_validate(trace.model).bursting
    text = f"{trace.tree.attrs['protocol']}: spikes, {scene.title}"
    figure = new_figure(text, 9, min(1.6 + 2.2 * len(populations), 14))
    grid = figure.add_gridspec(
        2 * len(populations), 1, height_ratios=(2, 1) * len(populations), hspace=0.05
    )
    first = None
    for k, (name, group) in enumerate(populations):
        colour = colour_of(layer_of(name), scene.depth)
        units = traces[name]["unit"].values
        neurons, size = int(group.attrs["neurons"]), int(group.attrs["units"])
        count = len(units) * neurons
        times, nodes = group["timestamps"].values - begin, group["node_ids"].values.astype(int)
        mine = (nodes // (size * neurons) == sample) & (times >= 0) & (times <= end)
        times, nodes = times[mine], nodes[mine] % (size * neurons)
        nodes = np.searchsorted(units, nodes // neurons) * neurons + nodes % neurons
        spikes = figure.add_subplot(grid[2 * k], sharex=first)
        rate = figure.add_subplot(grid[2 * k + 1], sharex=spikes)
        first = first or spikes
        every = max(1, count // NEURONS)
        chosen = nodes % every == 0
        tall = max(2.0, 130 / len(range(0, count, every)))
        spikes.plot(times[chosen], nodes[chosen], "|", ms=tall, mew=0.6, color=colour,
                    rasterized=chosen.sum() > MANY)  # fmt: skip
        if bursting:
            step = parse(trace.protocol["spiking"]["dt"], "time")
            limit = parse(trace.model["spiking"]["burst_limit"], "time")
            limit = 1e3 * step * round(limit / step)
            more = chosen & in_burst(times, nodes, limit)
            spikes.plot(times[more], nodes[more], "|", ms=tall, mew=0.9, color=INK,
                        label="second spikes of bursts")  # fmt: skip
        spikes.set(ylabel=f"{spelled(name)}\nneuron", ylim=(-0.5 * every, count - 0.5 * every))
        spikes.yaxis.set_major_locator(MaxNLocator(3, integer=True))
        bins = np.linspace(0, end, 101)
        heights = np.histogram(times, bins)[0] / (count * (bins[1] - bins[0]) / 1e3)
        rate.stairs(heights, bins, color=colour, baseline=None)
        rate.set(ylabel="rate (Hz)", ylim=(0, None))
        for axes in (spikes, rate):
            shade(axes, scene, named=axes is first)
            axes.set_xlim(0, end)
            axes.tick_params(labelbottom=axes is rate and k == len(populations) - 1)
        if k == 0:
            shown = "" if every == 1 else f" of one in {every} neurons"
            title(spikes, "a", f"spikes{shown}, and the mean rate of all", pad=16)
            if bursting:
                above(spikes, spikes.lines[1:2], 12)
    rate.set_xlabel("time in the presentation (ms)")
    return figure
