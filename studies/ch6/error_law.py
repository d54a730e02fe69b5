"""Prediction 1, the error law: signals shrink by μ/(1−μ) a layer [T 6.15, 6.16].

h_i* − f_i(h_{i−1}*) ≈ −η̂ (μ/(1−μ))^{L+1−i} J_{f_{i+1}}⁻¹ … J_{f_L}⁻¹ e_L, derived for μ → 0.
"""

from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib
import numpy as np

from ch6.common import (
    ACTIVATIONS,
    COLOURS,
    MIXING,
    STEP,
    STYLE,
    Result,
    band,
    batch,
    draw_band,
    new_figure,
    norms,
    proportion,
    rested,
    shipped,
)
from neurosim.networks.network import Weights
from neurosim.theory.decomposition import gauss_newton_signal

MUS, DEPTHS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.4), (2, 3, 4, 6)
N = 10
EPS = float(np.finfo(float).eps)


def run(seeds: range, folder: Path) -> Result:
    """Measured against predicted signals of every layer, over μ, depth and activation."""
    measured: dict = {"relative_error": {}, "attenuation": {}, "exact_networks": {}}
    for name in ACTIVATIONS:
        for depth in DEPTHS:
            given = batch((N,) * (depth + 1), name, seeds)
            for mu in MUS:
                _one(measured, name, depth, mu, given)
    linear, leaky = (
        [k for k in measured["relative_error"] if k.startswith(name)]
        for name in ("linear", "leaky ReLU")
    )
    exact = {
        name: min(measured["exact_networks"][k]["fraction"] for k in keys)
        for name, keys in (("linear", linear), ("leaky ReLU", leaky))
    }
    settled = min(measured["relative_error"][k]["n"] / len(seeds) for k in leaky)
    small = [measured["exact_networks"][f"leaky ReLU L={d} μ={MUS[1]}"]["fraction"] for d in DEPTHS]
    first_order = [
        max(measured["relative_error"][f"tanh L={d} μ={mu}"]["median"] for d in DEPTHS)
        for mu in (MUS[0], MUS[-1])
    ]
    holds = exact["linear"] == 1
    return Result(
        prediction="the learning signal shrinks by (μ/(1−μ)) a layer and points along the "
        "inverse Jacobians",
        source="T 6.15, 6.16",
        measured=measured
        | {
            "fewest_exact": exact,
            "fewest_settled_leaky": settled,
            "tanh_largest_median_error": dict(zip((MUS[0], MUS[-1]), first_order, strict=True)),
        },
        seeds=f"{len(seeds)} networks ({seeds.start}–{seeds.stop - 1}), one sample each; "
        "median and 5–95 %",
        verdict="holds" if holds else "fails",
        because=f"linear: exact to rounding in {exact['linear']:.0%} of networks for every μ up to "
        f"{MUS[-1]}, not only for μ → 0; leaky ReLU: exact unless a unit crosses its kink, in "
        f"{min(small):.0%} of networks or more at μ = {MUS[1]}, {exact['leaky ReLU']:.0%} at "
        f"worst ({settled:.0%} settle); tanh: first order, median error at most "
        f"{first_order[0]:.0e} at μ = {MUS[0]} and {first_order[1]:.0e} at μ = {MUS[-1]}",
        figures={"error-law": _figure(measured)},
    )


def _one(measured: dict, name: str, depth: int, mu: float, given) -> None:
    mixture = shipped("mixture", given.network.sizes, mu=jnp.asarray(mu))
    found = rested(mixture, given, "following")
    rate = found.taught.rate
    down = _carried(given, rate)
    r, key = mu / (1 - mu), f"{name} L={depth} μ={mu}"
    settled = np.asarray(found.settled)
    errors, sizes, exact = [], [], np.ones(len(settled), bool)
    for i in range(1, depth + 1):
        law = r ** (depth + 1 - i) * down[i - 1]
        signal = found.teaching[i - 1]
        floor = 1e-8 * norms(law) + 100 * EPS * norms(rate[i - 1])
        exact &= norms(signal - law) <= floor
        errors.append(np.where(settled, norms(signal - law) / norms(law), np.nan))
        sizes.append(np.where(settled, norms(signal) / norms(down[i - 1]), np.nan))
    measured["relative_error"][key] = band(np.max(errors, axis=0))
    measured["attenuation"][key] = [band(size) for size in sizes]
    measured["exact_networks"][key] = proportion(int(np.sum(exact & settled)), int(settled.sum()))


@eqx.filter_jit
def _carried(given, rates):
    """−η̂ J⁻¹ … J⁻¹ e_L of every network, layer by layer."""

    def one(weights, rates, y):
        chain = Weights(weights["W"], (), weights["Q"])
        return gauss_newton_signal(given.network, chain, rates, y, STEP)

    return jax.vmap(one)(given.weights, rates, given.y)


@matplotlib.rc_context(STYLE)
def _figure(measured: dict):
    figure = new_figure("Prediction 1: the error law", 11, 3.6)
    panels = figure.subplots(1, 3)
    depth = DEPTHS[-1]
    layers = np.arange(1, depth + 1)
    for axes, name in zip(panels[:2], ("linear", "leaky ReLU"), strict=True):
        for mu in MUS:
            colour = MIXING[mu]
            bands = measured["attenuation"][f"{name} L={depth} μ={mu}"]
            law = (mu / (1 - mu)) ** (depth + 1 - layers)
            axes.plot(layers, law, color=colour, lw=0.8, ls="--")
            draw_band(axes, layers, bands, color=colour, ls="", label=f"μ = {mu}")
        axes.set(yscale="log", xlabel="layer", xticks=layers, ylabel="attenuation of the signal")
        axes.set_title(f"{name}, L = {depth}; dashed: law")
    panels[0].legend()
    axes = panels[2]
    for name, colour in zip(ACTIVATIONS, COLOURS, strict=False):
        bands = [measured["relative_error"][f"{name} L={depth} μ={mu}"] for mu in MUS]
        draw_band(axes, MUS, bands, color=colour, label=name)
    axes.set(yscale="log", xlabel="μ", ylabel="relative error of the law, worst layer")
    axes.set_title(f"deviation, L = {depth}")
    axes.legend()
    return figure
