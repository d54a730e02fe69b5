"""The f–I curve a run calibrated its integrate-and-fire neurons with."""

from os import PathLike
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from neurosim.errors import InputError
from neurosim.figures.runs import (
    COLOURS,
    GREY,
    INK,
    PALE,
    STYLE,
    colour_of,
    new_figure,
    save,
    title,
)
from neurosim.specs import NeuronsSpec
from neurosim.traces.naming import beside
from neurosim.traces.reader import studying
from neurosim.traces.scenes import Trace


@matplotlib.rc_context(STYLE)
def calibration(trace: str | PathLike[str], out: str | PathLike[str] | None = None) -> Path:
    """The measured f–I curve beside the rates that the units were given; returns the figure.

    out: PNG, SVG or PDF by its ending.

    Raises:
        InputError: the trace holds no f–I curve, or `out` cannot be written.
    """
    path = Path(trace)
    with studying(trace) as tree:
        if "calibration" not in tree.children:
            raise InputError(
                f"{path}: holds no f-I curve; integrate-and-fire neurons (spiking.soma = 'lif') "
                "are calibrated at the spiking level"
            )
        figure = _figure(Trace(trace, tree))
    return save(figure, Path(out) if out else beside(trace, "-calibration.png"))


def _figure(trace: Trace) -> Figure:
    curve, neurons = trace.tree["calibration"], NeuronsSpec.model_validate(trace.model["spiking"])
    current, rate = curve["current"].values, curve["rate"].values
    base, gain, top = neurons.base_rate, neurons.gain, neurons.max_rate
    recorded = bool(trace.recorded())
    figure = new_figure(f"{trace.tree.attrs['protocol']}: calibrated neurons", 8, 3.6)
    left, *right = figure.subplots(1, 1 + recorded, sharey=True, squeeze=False)[0]
    above = current > 1 + 1e-6
    interval = neurons.refractory - neurons.tau_membrane * np.log1p(-1 / current[above])
    left.plot(current[above], 1 / interval, "--", color=GREY, label="without noise, closed form")
    left.plot(current, rate, color=COLOURS[0], label="measured")
    left.axhline(base, color=INK, lw=0.8, ls=":")
    left.axhline(top, color=INK, lw=0.8, ls=":")
    left.annotate("base rate, h = 0", (current[0], base), (2, 3), textcoords="offset points")
    left.annotate("highest rate", (current[0], top), (2, 3), textcoords="offset points")
    left.set(xlabel="current (threshold 1)", ylabel="firing rate (Hz)", ylim=(0, 1.1 * top))
    left.set_xlim(current[0], current[-1])
    left.legend(loc="lower right")
    title(left, "a", "f–I curve of one neuron")
    for axes in right:
        _working_range(axes, trace, base, gain, top)
    other = (right or [left])[-1].secondary_yaxis(
        "right", functions=(lambda r: (r - base) / gain, lambda h: base + gain * h)
    )
    other.set_ylabel("activity h")
    return figure


def _working_range(axes: Axes, trace: Trace, base: float, gain: float, top: float) -> None:
    """How often the units of every layer were given which rate."""
    layers, depth = trace.model["layers"], len(trace.model["layers"]) - 1
    every = np.median(np.diff(trace.tree["traces"]["time"].values)) / 1e3
    spike = 1 / (trace.model["spiking"]["neurons"] * every)  # rates are counted in steps of this
    width = spike * max(1, round(top / 40 / spike))
    bins = np.arange(-0.5 * width, 1.1 * top, width)
    for i in range(1, depth + 1):
        counted = next((name for name, way in trace.sent(i).items() if way == "up"), None)
        if counted is None:
            continue
        rates = base + gain * trace.tree[f"traces/layer{i}/{counted}"].values.ravel()
        share = np.histogram(rates[np.isfinite(rates)], bins)[0] / np.isfinite(rates).sum()
        axes.stairs(
            100 * share,
            bins,
            orientation="horizontal",
            color=colour_of(i, depth),
            label=f"layer {i}, {layers[i]} units",
        )
    axes.axhline(base, color=PALE, lw=0.8, ls=":")
    axes.axhline(top, color=PALE, lw=0.8, ls=":")
    axes.set(xlabel="% of recorded moments", xlim=(0, None))
    axes.legend(loc="upper right")
    title(axes, "b", "rates in the recorded presentations")
