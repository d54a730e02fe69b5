"""The spikes of a presentation over the rates they make."""

from os import PathLike
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from neurosim.errors import InputError
from neurosim.figures.runs import STYLE, colour_of, new_figure, save, shade, title
from neurosim.naming import beside
from neurosim.scenes import Scene, Trace
from neurosim.store import studying

NEURONS = 60
"""Rows of a raster; more cannot be told apart."""


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
    path = Path(trace)
    with studying(trace) as tree:
        shown = Trace(trace, tree)
        if "spikes" not in tree.children:
            raise InputError(f"{path}: holds no spikes; they are recorded at the spiking level")
        scene = shown.scene(presentation, shown.first(sample), shown.seeds[0])
        number = max(shown.recorded()) if presentation is None else presentation
        figure = _figure(shown, scene, number, shown.samples[0] if sample is None else sample)
    return save(figure, Path(out) if out else beside(trace, "-raster.png"))


def _figure(trace: Trace, scene: Scene, number: int, sample: int) -> Figure:
    traces, end = trace.tree["traces"], scene.phases[-1].end
    row = traces["presentation"].values.tolist().index(number)
    begin = row * float(traces["time"].values[-1])  # the longest presentation sets the pace
    neurons, sizes = int(trace.model["spiking"]["neurons"]), trace.model["layers"]
    populations = sorted(trace.tree["spikes"].children.items(), key=lambda kv: int(kv[0][5:]))
    figure = new_figure(f"{trace.tree.attrs['protocol']}: spikes, {scene.title}", 9, 6)
    grid = figure.add_gridspec(
        2 * len(populations), 1, height_ratios=(2, 1) * len(populations), hspace=0.05
    )
    first = None
    for k, (name, group) in enumerate(populations):
        layer, colour = int(name[5:]), colour_of(int(name[5:]), scene.depth)
        times, nodes = group["timestamps"].values - begin, group["node_ids"].values.astype(int)
        count = sizes[layer] * neurons
        mine = (nodes // count == sample) & (times >= 0) & (times <= end)
        times, nodes = times[mine], nodes[mine] % count
        spikes = figure.add_subplot(grid[2 * k], sharex=first)
        rate = figure.add_subplot(grid[2 * k + 1], sharex=spikes)
        first = first or spikes
        every = max(1, count // NEURONS)
        chosen = nodes % every == 0
        spikes.plot(times[chosen], nodes[chosen] // every, "|", ms=2.5, mew=0.6, color=colour)
        spikes.set(ylabel=f"layer {layer}\n{len(range(0, count, every))} neurons", yticks=[])
        bins = np.linspace(0, end, 101)
        heights = np.histogram(times, bins)[0] / (count * (bins[1] - bins[0]) / 1e3)
        rate.stairs(heights, bins, color=colour)
        rate.set(ylabel="Hz", ylim=(0, None))
        for axes in (spikes, rate):
            shade(axes, scene, named=axes is first)
            axes.set_xlim(0, end)
            axes.tick_params(labelbottom=axes is rate and k == len(populations) - 1)
        if k == 0:
            title(spikes, "a", "spikes, and the mean rate of a neuron", pad=16)
    rate.set_xlabel("time in the presentation (ms)")
    return figure
