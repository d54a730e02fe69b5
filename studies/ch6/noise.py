"""Prediction 4: in noise the decaying signal of the mixture is lost with depth [T 6.4, 6.9].

Signals that multiplex do not decay: does their signal-to-noise ratio stay flat?
"""

from pathlib import Path

import equinox as eqx
import jax
import matplotlib
import numpy as np

from ch6.common import (
    METHODS,
    STEP,
    STYLE,
    TAU,
    Batch,
    Result,
    band,
    batch,
    draw_band,
    new_figure,
    shipped,
)
from neurosim.levels.rate import Rate
from neurosim.levels.settling import Problem, Span
from neurosim.networks.dynamics import Target
from neurosim.theory import fixed_points
from neurosim.theory.linearisation import System
from neurosim.theory.signal_to_noise import OfPhases, learning_signal

SIGMA, MU, N = 1e-3, 0.1, 8
"""Noise of every compartment; activity is about 1."""

DEPTHS = (2, 4, 8)
CASES = {"linear": DEPTHS, "leaky ReLU": DEPTHS[-1:]}
MODELS = {
    "mixture": ("mixture", {"noise.soma": SIGMA, "parameters.mu": MU}),
    "mixture, two phases": ("mixture-two-phase", {"noise.soma": SIGMA, "parameters.mu": MU}),
    "multiplexing": ("multiplexing", {"noise.basal": SIGMA, "noise.apical": SIGMA}),
}
COLOUR = [METHODS[name] for name in ("one phase", "two phases", "multiplexing")]
SETTLED = eqx.filter_jit(fixed_points.phases)

DRAWS, CHECKED = 512, 4
"""Of the simulation that checks the theory: samples of noise, and layers of the network."""


def run(seeds: range, folder: Path) -> Result:
    """Signal-to-noise of every layer from the linearised network, checked by simulation."""
    measured: dict = {}
    for activation, depths in CASES.items():
        for depth in depths:
            given = batch((N,) * (depth + 1), activation, seeds)
            for model in MODELS:
                ratios = np.array([_ratios(model, given, k) for k in range(len(seeds))])
                measured[f"{activation}, {model}, L={depth}"] = [band(r) for r in ratios.T]
    checks = _checks(seeds)
    slopes = {model: _slope(measured[f"linear, {model}, L={DEPTHS[-1]}"]) for model in MODELS}
    mixing = 2 * np.log10((1 - MU) / MU)
    flat = abs(slopes["multiplexing"]) < 0.25
    decays = all(abs(slopes[m] - mixing) < 0.25 for m in ("mixture", "mixture, two phases"))
    deepest = measured[f"linear, multiplexing, L={DEPTHS[-1]}"]
    loss = deepest[0]["median"] / deepest[-2]["median"]
    agree = max(abs(c["simulated"] / c["theory"] - 1) for c in checks.values())
    return Result(
        prediction="noise drowns the signal of mixture networks exponentially with depth; "
        "multiplexing networks keep it",
        source="T 6.4, 6.8, 6.59",
        measured=measured
        | {"decades_of_power_per_layer": slopes, "simulated_noise": checks, "sigma": SIGMA},
        seeds=f"{len(seeds)} networks ({seeds.start}–{seeds.stop - 1}) of {N} units a layer, "
        f"μ = {MU}; median and 5–95 %; simulation: {DRAWS} draws of the first network",
        verdict="holds"
        if decays and flat and loss > 0.5
        else "holds in part"
        if decays or flat
        else "fails",
        because=f"power ratio over {DEPTHS[-1]} linear layers: {slopes['mixture']:.2f} (one phase) "
        f"and {slopes['mixture, two phases']:.2f} (two) decades lost a layer, from attenuation "
        f"alone {mixing:.2f}; multiplexing {slopes['multiplexing']:.2f}, not flat: every layer "
        f"passed adds its own noise, and the lowest layer keeps {loss:.0%} of the ratio below the "
        f"output; simulated noise within {agree:.0%} of theory",
        figures={"noise": _figure(measured)},
    )


def _slope(bands: list[dict[str, float]]) -> float:
    """Decades of power a layer, by least squares over the hidden layers."""
    medians = np.log10([b["median"] for b in bands[:-1]])
    return float(np.polyfit(np.arange(len(medians)), medians, 1)[0])


def _phases(model: str, given: Batch, k: int):
    """The signal of network k, and the systems at their fixed points that it compares."""
    name, changes = MODELS[model]
    dynamics, network = shipped(name, given.network.sizes, changes), given.network
    weights, x, y = jax.tree.map(lambda a: a[k], (given.weights, given.x, given.y))
    drive = dynamics.drive(network, weights, x, Target("none"))
    system = System(dynamics, network, weights, drive)
    taught = "following" if name == "mixture" else "frozen"
    kinds = {None: taught} if name == "mixture" else {"free": "none", None: taught}
    found = SETTLED(system, STEP, y, [taught])
    rests = {
        of: (system._replace(drive=found[kind][0]), found[kind][1].state)
        for of, kind in kinds.items()
    }
    before = {of: dynamics.read(*phase[1:], state) for of, (phase, state) in rests.items()}
    now = before.pop(None)
    phases = [(*rest, OfPhases(of, now, before)) for of, rest in rests.items()]
    return phases, phases[-1][2](phases[-1][0], now), y


def _ratios(model: str, given: Batch, k: int) -> list[float]:
    phases, signal, _ = _phases(model, given, k)
    return [ratio.snr for ratio in learning_signal(phases, signal)]


def _checks(seeds: range) -> dict[str, dict[str, float]]:
    """Noise in the lowest layer's signal of one linear network, from theory and simulation."""
    given = batch((N,) * (CHECKED + 1), "linear", seeds[:1])
    level = Rate("heun", TAU / 10, False, 1e-6, 1e-9, 1e-3)
    found = {}
    for model in MODELS:
        phases, signal, y = _phases(model, given, 0)
        expected = learning_signal(phases, signal)[0].noise

        @jax.jit
        def draw(key, phases=phases, y=y):
            seen = {}
            for number, (system, start, reading) in enumerate(phases):
                problem = Problem(*system, STEP, y)
                span = Span(20 * TAU, False, jax.random.fold_in(key, number))
                state, _, _ = level.settle(problem, start, span)
                seen[reading.phase] = system.dynamics.read(*system[1:], state)
            now = seen.pop(None)
            return OfPhases(None, now, seen)(phases[-1][0], now)[0]

        drawn = np.asarray(jax.vmap(draw)(jax.random.split(jax.random.key(0), DRAWS)))
        simulated = float(np.sqrt(np.sum(np.var(drawn, axis=0, ddof=1))))
        found[model] = {"theory": expected, "simulated": simulated}
    return found


@matplotlib.rc_context(STYLE)
def _figure(measured: dict):
    figure = new_figure("Prediction 4: signal-to-noise ratio of learning signals", 11, 3.8)
    panels = figure.subplots(1, 3)
    depth = DEPTHS[-1]
    for axes, activation in zip(panels[:2], ("linear", "leaky ReLU"), strict=True):
        for model, colour in zip(MODELS, COLOUR, strict=True):
            bands = measured[f"{activation}, {model}, L={depth}"]
            draw_band(axes, range(1, depth + 1), bands, color=colour, label=model)
        axes.set(yscale="log", xlabel="layer", ylabel="signal over noise (power)")
        axes.set_title(f"{activation}, L = {depth}")
    for model, colour in zip(MODELS, COLOUR, strict=True):
        bands = [measured[f"linear, {model}, L={d}"][0] for d in DEPTHS]
        draw_band(panels[2], DEPTHS, bands, color=colour, label=model)
    panels[2].set(yscale="log", xlabel="depth L", ylabel="signal over noise (power)")
    panels[2].set_title("lowest layer, linear")
    panels[0].legend()
    return figure
