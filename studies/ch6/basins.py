"""Prediction 7: is the fixed point globally stable, or within some region around it [T 6.7]?

T asks. A stable linear network has one fixed point, and it attracts everything.
"""

from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
from jax.flatten_util import ravel_pytree

from ch6.common import (
    MIXING,
    STEP,
    STYLE,
    TAU,
    Batch,
    Result,
    batch,
    new_figure,
    of_somata,
    proportion,
    shipped,
    somata,
)
from neurosim.levels.rate import Rate
from neurosim.levels.settling import Problem, Span
from neurosim.networks.dynamics import Target, rest
from neurosim.theory import fixed_points, linearisation
from neurosim.theory.linearisation import System

N, DEPTH, STARTS = 6, 3, 16
RADII = (0.1, 1.0, 10.0, 100.0)
ALL_RADII = range(len(RADII))
MUS, ERRORS = (0.05, 0.2, 0.4), (0.0, 0.5)
ACTIVATIONS = ("linear", "leaky ReLU", "tanh")
LEVEL = Rate("heun", TAU / 8, False, 1e-6, 1e-9, 1e-9)
LONG = 200 * TAU
WRONG = (1.0, 2.0, 4.0)
"""Errors of the inverses so large that linear networks are unstable more often than not."""

NEAR = 1e-4
"""Of the activity; a trajectory that ends nearer than this has returned."""


def run(seeds: range, folder: Path) -> Result:
    """Fraction of displaced states that return, and how many fixed points there are."""
    measured: dict = {}
    for activation in ACTIVATIONS:
        for error in ERRORS:
            given = batch((N,) * (DEPTH + 1), activation, seeds, error=error)
            for mu in MUS:
                key = f"{activation}, μ={mu}, error {error}"
                measured[key] = _one(given, jnp.asarray(mu), len(seeds))

    counts = {
        f"μ={mu}, error {error}": _counts(
            batch((N,) * (DEPTH + 1), "leaky ReLU", seeds, error=error), jnp.asarray(mu), len(seeds)
        )
        for error in WRONG
        for mu in MUS[1:]
    }
    none = max(c["none"] for c in counts.values())
    many = sum(c["several"] for c in counts.values())

    def returned(activation, error=0.0, mus=MUS, radii=ALL_RADII):
        return [measured[f"{activation}, μ={m}, error {error}"]["returned"][r]["fraction"]
                for m in mus for r in radii]  # fmt: skip

    linear = min(returned("linear"))
    leaky = min(returned("leaky ReLU"))
    safe = min(returned("leaky ReLU", mus=MUS[:1]))
    tanh_near = min(returned("tanh", radii=[0]))
    tanh_far = max(returned("tanh", radii=[len(RADII) - 1]))
    several = {k: v["several"]["fraction"] for k, v in measured.items()}
    exact = max(v for k, v in several.items() if k.endswith("error 0.0"))
    wrong = max(v for k, v in several.items() if not k.endswith("error 0.0"))
    globally = linear == 1 and leaky == 1
    verdict = "holds" if globally and tanh_far == 1 else "holds in part" if linear == 1 else "fails"
    return Result(
        prediction="the fixed point may be stable globally, or in a region around it",
        source="T 6.7 (an open question)",
        measured=measured | {"leaky_fixed_points_with_wrong_inverses": counts},
        seeds=f"{len(seeds)} networks ({seeds.start}–{seeds.stop - 1}) of {DEPTH} × {N} units, "
        f"{STARTS} starts a radius; fractions with 95 % intervals (starts of one network are not "
        "independent, so these are too narrow across networks)",
        verdict=verdict,
        because=f"with exact inverses linear networks return from {RADII[-1]:g} times their "
        f"activity in {linear:.0%} of starts; leaky ReLU in {safe:.0%} or more at μ = {MUS[0]} and "
        f"{leaky:.0%} at worst up to μ = {MUS[-1]}; tanh from a tenth in {tanh_near:.0%} or "
        f"more, from {RADII[-1]:g} times in {tanh_far:.0%} at most, because states beyond the "
        f"range of tanh have no inverse; several fixed points: in at most {exact:.0%} of networks "
        f"with exact inverses, {wrong:.0%} with inverses 50 % wrong. Many fixed points "
        f"are rare even where inverses are 100 to 400 % wrong ({many} of "
        f"{len(counts) * len(seeds)}); up to {none} of {len(seeds)} then have none that was found",
        figures={"basins": _figure(measured)},
    )


def _one(given: Batch, mu, count: int) -> dict:
    ends = jax.tree.map(np.asarray, _displaced(given, mu))
    returned, left, rests = ends
    points = [_points(given, mu, k) for k in range(count)]
    good = int(rests.sum())
    return {
        "returned": [
            proportion(int(returned[rests][:, r].sum()), max(good * STARTS, 1))
            for r in range(len(RADII))
        ],
        "left": [
            proportion(int(left[rests][:, r].sum()), max(good * STARTS, 1))
            for r in range(len(RADII))
        ],
        "networks_where_sweeps_settle": proportion(good, count),
        "several": proportion(sum(len(p) > 1 for p in points), count),
        "stable_points": [sum(p) for p in points],
        "unstable_points": [len(p) - sum(p) for p in points],
    }


def _counts(given: Batch, mu, count: int) -> dict[str, int]:
    """How many networks have no, one or several fixed points, and only unstable ones."""
    points = [_points(given, mu, k) for k in range(count)]
    return {
        "none": sum(not p for p in points),
        "one": sum(len(p) == 1 for p in points),
        "several": sum(len(p) > 1 for p in points),
        "only_unstable": sum(bool(p) and not any(p) for p in points),
    }


@eqx.filter_jit
def _displaced(given: Batch, mu):
    """Of every network, radius and start: whether it returned, and whether it left all bounds."""
    dynamics, network = shipped("mixture", given.network.sizes, mu=mu), given.network

    def one(weights, x, y, key):
        drive = dynamics.drive(network, weights, x, Target("none"))
        system = System(dynamics, network, weights, drive)
        drive, place = fixed_points.phases(system, STEP, y, ["frozen"])["frozen"]
        here = jnp.concatenate(somata(place.state))
        size = jnp.sqrt(jnp.mean(here**2))
        problem = Problem(dynamics, network, weights, drive, STEP, y)

        def go(radius, key):
            start = here + radius * size * jax.random.normal(key, here.shape)
            state = of_somata(jnp.split(start, DEPTH))
            end, _, _ = LEVEL.settle(problem, state, Span(LONG, False))
            end = jnp.concatenate(somata(end))
            away = jnp.linalg.norm(end - here)  # NaN where it left the range of an inverse
            return away < NEAR * (1 + size), ~(away < 1e6)

        keys = jax.random.split(key, len(RADII) * STARTS).reshape(len(RADII), STARTS)
        return *jax.vmap(jax.vmap(go, (None, 0)))(jnp.array(RADII), keys), place.residual < 1e-8

    keys = jax.random.split(jax.random.key(0), len(given.x))
    return jax.vmap(one)(given.weights, given.x, given.y, keys)


@eqx.filter_jit
def _clamped(network, weights, x, y, mu):
    dynamics = shipped("mixture", network.sizes, mu=mu)
    drive = dynamics.drive(network, weights, x, Target("none"))
    system = System(dynamics, network, weights, drive)
    drive = fixed_points.phases(system, STEP, y, ["frozen"])["frozen"][0]
    return system._replace(drive=drive)


def _flat(layers: jax.Array) -> jax.Array:
    """The flat state whose somata these are, layer 1 first."""
    return ravel_pytree(of_somata(jnp.split(layers, DEPTH)))[0]


def _points(given: Batch, mu, k: int) -> list[bool]:
    """Of every fixed point that starts around rest find: whether it is stable."""
    weights, x, y = jax.tree.map(lambda a: a[k], (given.weights, given.x, given.y))
    system = _clamped(given.network, weights, x, y, mu)
    starts = jnp.concatenate(
        [
            fixed_points.starts(system, STARTS // 2, spread, jax.random.key(k))
            for spread in (0.5, 3.0)
        ]
    )
    found = fixed_points.search(system, jax.vmap(_flat)(starts))
    unravel = ravel_pytree(rest(system.dynamics, given.network, x.dtype))[1]
    stable = []
    for point in found.states:
        place = unravel(jnp.asarray(point))
        stable.append(linearisation.spectrum(linearisation.jacobian(system, place)).stable)
    return stable


@matplotlib.rc_context(STYLE)
def _figure(measured: dict):
    figure = new_figure("Prediction 7: from how far away does the state return?", 11, 3.8)
    panels = figure.subplots(1, 3, sharey=True)
    for axes, activation in zip(panels, ACTIVATIONS, strict=True):
        for mu in MUS:
            for error, dash in zip(ERRORS, ("-", "--"), strict=True):
                rows = measured[f"{activation}, μ={mu}, error {error}"]["returned"]
                label = f"μ = {mu}" + (f", inverses {error:.0%} wrong" if error else "")
                axes.plot(RADII, [100 * r["fraction"] for r in rows], "o", ms=3, ls=dash,
                          color=MIXING[mu], label=label)  # fmt: skip
        axes.set(xscale="log", xlabel="displacement (activity)", ylim=(-4, 104))
        axes.set(ylabel="trajectories that return (%)", title=activation)
    panels[0].legend(loc="lower left")
    return figure
