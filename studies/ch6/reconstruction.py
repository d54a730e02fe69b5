"""Prediction 2: reconstruction errors swamp the signal of one phase and cancel in two [T 6.5, 6.6].

They are scaled by μ/(1−μ), the signal by (μ/(1−μ))^{L+1−i}.
"""

from pathlib import Path

import equinox as eqx
import jax
import matplotlib
import numpy as np

from ch6.common import (
    INK,
    METHODS,
    STEP,
    STYLE,
    Result,
    band,
    batch,
    cosine,
    draw_band,
    new_figure,
    norms,
    rested,
    shipped,
)
from neurosim.networks.circuit import CircuitDynamics
from neurosim.networks.network import Layers
from neurosim.theory.decomposition import attribution

ERRORS = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3)
KINDS = ("linear", "leaky ReLU", "tanh")
N, DEPTH = 10, 4
SIZES = (N,) * (DEPTH + 1)
ONE_PHASE = {"projections.W.post": "slope(basal)*(burst_signal - event_rate)"}
MODELS = {
    "mixture, one phase": (shipped("mixture", SIZES, mu=0.08), "following"),
    "mixture, two phases": (shipped("mixture-two-phase", SIZES, mu=0.08), "frozen"),
    "multiplexing, one phase": (shipped("multiplexing", SIZES, ONE_PHASE), "following"),
    "multiplexing, two phases": (shipped("multiplexing", SIZES), "frozen"),
}
"""μ = 0.08 keeps leaky ReLUs of slope 0.35 safe from their kinks: 4μ(1−μ) < 0.35."""


LINES = {
    "mixture": {name: {"color": METHODS[name]} for name in ("one phase", "two phases")},
    "multiplexing": {
        "one phase": {"color": METHODS["multiplexing"], "ls": "--"},
        "two phases": {"color": METHODS["multiplexing"]},
    },
}
"""How each is drawn: one colour a method in all of the chapter."""


def run(seeds: range, folder: Path) -> Result:
    """Cosine of every layer's signal with e^TP and with that of exact inverses."""
    measured: dict = {}
    for activation in KINDS:
        for error in ERRORS:
            given = batch(SIZES, activation, seeds, error=error)
            for model in MODELS:
                measured[f"{activation}, {model}, error {error}"] = _one(model, given)

    def lowest(model, error, activation, of="to_clean"):
        return measured[f"{activation}, {model}, error {error}"][of][0]

    bad = max(lowest("mixture, one phase", 0.05, a)["median"] for a in ("linear", "leaky ReLU"))
    good = min(lowest("mixture, two phases", 0.3, a)["median"] for a in KINDS)
    good_low = min(lowest("mixture, two phases", 0.3, a)["low"] for a in KINDS)
    exact = {a: lowest("mixture, two phases", 0.3, a, "to_exact") for a in KINDS}
    to_exact = min(found["median"] for found in exact.values())
    exact_low = min(found["low"] for found in exact.values())
    share = band_text(measured["linear, mixture, one phase, error 0.05"]["share"][0])
    swamps, cancels = bad < 0.5, good > 0.9
    return Result(
        prediction="reconstruction errors dominate the signal of one phase and nearly cancel "
        "between two",
        source="T 6.22, 6.36, 6.8",
        measured=measured
        | {
            "one_phase_at_5_percent": bad,
            "two_phases_at_30_percent": good,
            "two_phases_at_30_percent_to_exact": exact,
        },
        seeds=f"{len(seeds)} networks ({seeds.start}–{seeds.stop - 1}) of {DEPTH} × {N} units with "
        "well-conditioned weights (orthogonal, times singular values of 0.7 to 1.4), μ = 0.08, one "
        "sample each; median and 5–95 %",
        verdict="holds"
        if swamps and cancels
        else "holds in part"
        if swamps or cancels
        else "fails",
        because="e^TP is the output error as the network's own feedback carries it down, without "
        "reconstruction errors; in the lowest layer, with inverses 5 % wrong, the signal of one "
        f"phase has a median cosine of at most {bad:.2f} with it (e^rec is {share} times e^TP, "
        f"linear), and with inverses 30 % wrong that of two phases one of {good:.3f} or more "
        f"(5th percentile {good_low:.2f}). Such feedback is wrong itself: with what exact inverses "
        f"would carry down the same signal has a median cosine of {to_exact:.3f} or more (5th "
        f"percentile {exact_low:.2f})",
        figures={"reconstruction": _figure(measured)},
    )


def band_text(found: dict[str, float]) -> str:
    """A median and its band."""
    return f"{found['median']:.0f} ({found['low']:.0f} to {found['high']:.0f})"


def _one(model: str, given) -> dict:
    """clean: e^TP of the network's own feedback; exact: what exact inverses would carry down."""
    found = rested(MODELS[model][0], given, MODELS[model][1])
    parts = _parts(*MODELS[model], given, found)
    there = np.asarray(found.settled)

    def bands(pairs):
        return [band(np.where(there, values, np.nan)) for values in pairs]

    layers = range(DEPTH)
    return {
        "to_clean": bands(cosine(found.teaching[i], parts["tp"][i]) for i in layers),
        "to_exact": bands(cosine(found.teaching[i], parts["gn"][i]) for i in layers),
        "share": bands(norms(parts["rec"][i]) / norms(parts["tp"][i]) for i in layers),
        "settled": float(there.mean()),
    }


@eqx.filter_jit
def _parts(dynamics: CircuitDynamics, kind: str, given, found) -> dict[str, Layers]:
    """What the signal of every network is made of."""

    def one(weights, now, free, y):
        past = free if kind == "frozen" else None
        chain = dynamics.chain(weights)
        return attribution(dynamics, given.network, chain, now, past, y, STEP)

    return jax.vmap(one)(given.weights, found.taught, found.free, given.y)


@matplotlib.rc_context(STYLE)
def _figure(measured: dict):
    figure = new_figure(
        f"Prediction 2: reconstruction errors, {DEPTH} layers, lowest one in bold", 11, 6
    )
    panels = figure.subplots(2, 3, sharex=True, sharey=True)
    x = [100 * error for error in ERRORS]
    for row, family in zip(panels, LINES, strict=True):
        for axes, activation in zip(row, KINDS, strict=True):
            for phases, look in LINES[family].items():

                def bands(of, i, phases=phases, family=family, activation=activation):
                    names = (f"{activation}, {family}, {phases}, error {e}" for e in ERRORS)
                    return [measured[name][of][i] for name in names]

                draw_band(axes, x, bands("to_clean", 0), lw=2, label=phases, **look)
                for i in range(1, DEPTH):
                    axes.plot(x, [b["median"] for b in bands("to_clean", i)], lw=0.6, **look)
            exact = [b["median"] for b in bands("to_exact", 0)]
            axes.plot(
                x, exact, color=INK, lw=1, ls=":", label="two phases, e$^{TP}$ of exact inverses"
            )
            axes.set(title=f"{family}, {activation}", ylabel="cosine of signal and e$^{TP}$")
        row[0].legend(loc="lower left")
    for axes in panels[1]:
        axes.set_xlabel("error of the inverses (%)")
    return figure
