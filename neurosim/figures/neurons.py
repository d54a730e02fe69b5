"""The curves a run calibrated its neurons with: of one current, or of two."""

from os import PathLike
from pathlib import Path
from typing import Any

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

SHOWN, SHADES = 4, np.linspace(0.1, 0.85, 4)
"""Curves of each kind, and their colours."""


@matplotlib.rc_context(STYLE)
def calibration(trace: str | PathLike[str], out: str | PathLike[str] | None = None) -> Path:
    """The measured curves beside the rates that the units were given; returns the figure.

    out: PNG, SVG or PDF by its ending.

    Raises:
        InputError: the trace holds no curves, or `out` cannot be written.
    """
    path = Path(trace)
    with studying(trace) as tree:
        if "calibration" not in tree.children:
            raise InputError(
                f"{path}: holds no f-I curve; neurons with membranes (spiking.soma = 'lif' or "
                "'bursting-pyramidal') are calibrated at the spiking level"
            )
        figure = _figure(Trace(trace, tree))
    return save(figure, Path(out) if out else beside(trace, "-calibration.png"))


def _figure(trace: Trace) -> Figure:
    curve, neurons = trace.tree["calibration"], NeuronsSpec.model_validate(trace.model["spiking"])
    recorded = bool(trace.recorded())
    bursting = "apical" in curve.dims
    draw, count = (_of_two_currents, 2) if bursting else (_of_one_current, 1)
    of = "cells" if bursting else "neurons"
    figure = new_figure(f"{trace.tree.attrs['protocol']}: calibrated {of}", 3.2 + 3 * count, 3.6)
    panels = figure.subplots(1, count + recorded, squeeze=False)[0]
    draw(curve, neurons, *panels[:count])
    rates = panels[0]
    if recorded:
        rates = panels[count]
        rates.sharey(panels[0])
        letter = "abc"[count]
        _working_range(rates, trace, neurons.base_rate, neurons.gain, neurons.max_rate, letter)
    base, gain = neurons.base_rate, neurons.gain
    other = rates.secondary_yaxis(
        "right", functions=(lambda r: (r - base) / gain, lambda h: base + gain * h)
    )
    other.set_ylabel("activity h")
    return figure


def _marked(axes: Axes, neurons: NeuronsSpec, x: float) -> None:
    """The rates that units ask for: from x on in words."""
    for rate, text in ((neurons.base_rate, "base rate, h = 0"), (neurons.max_rate, "highest rate")):
        axes.axhline(rate, color=INK, lw=0.8, ls=":")
        axes.annotate(text, (x, rate), (2, 3), textcoords="offset points")


def _of_one_current(curve: Any, neurons: NeuronsSpec, axes: Axes) -> None:
    current, rate = curve["current"].values, curve["rate"].values
    above = current > 1 + 1e-6
    interval = neurons.refractory - neurons.tau_membrane * np.log1p(-1 / current[above])
    axes.plot(current[above], 1 / interval, "--", color=GREY, label="without noise, closed form")
    axes.plot(current, rate, color=COLOURS[0], label="measured")
    _marked(axes, neurons, current[0])
    axes.set(xlabel="current (threshold 1)", ylabel="firing rate (Hz)")
    axes.set(xlim=(current[0], current[-1]), ylim=(0, 1.1 * neurons.max_rate))
    axes.legend(loc="lower right")
    title(axes, "a", "f–I curve of one neuron")


def _of_two_currents(curve: Any, neurons: NeuronsSpec, events: Axes, bursts: Axes) -> None:
    """Events over the somatic and bursts over the apical current, at some of the other."""
    somatic, apical = curve["somatic"].values, curve["apical"].values
    rates = curve["rate"].sel(count="events").values
    share = curve["rate"].sel(count="bursts").values / np.maximum(rates, 1e-9)
    for values, x, others, axes in (
        (rates.T, somatic, apical, events),
        (share, apical, somatic, bursts),
    ):
        chosen = np.linspace(0, len(others) - 1, SHOWN).round().astype(int)
        for k, colour in zip(chosen, matplotlib.colormaps["viridis"](SHADES), strict=True):
            axes.plot(x, values[k], color=colour, label=f"{others[k]:.0f} pA")
        axes.set_xlim(x[0], x[-1])
    _marked(events, neurons, somatic[0])
    events.set(xlabel="somatic current (pA)", ylabel="events (Hz)", ylim=(0, 2 * neurons.max_rate))
    events.legend(loc="upper left", title="apical current")
    title(events, "a", "events of one cell")
    bursts.axhline(neurons.base_probability, color=INK, lw=0.8, ls=":")
    bursts.annotate("base probability", (apical[0], neurons.base_probability), (2, 3),
                    textcoords="offset points")  # fmt: skip
    bursts.set(xlabel="apical current (pA)", ylabel="burst probability", ylim=(0, 1))
    bursts.legend(loc="upper left", title="somatic current")
    title(bursts, "b", "events that are bursts")


def _working_range(
    axes: Axes, trace: Trace, base: float, gain: float, top: float, letter: str
) -> None:
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
    title(axes, letter, "rates in the recorded presentations")
