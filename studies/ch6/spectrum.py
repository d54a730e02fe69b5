"""Prediction 3: the fixed point is stable; what does it bear, and how fast is it reached [T 6.7]?

T sampled 100 000 Jacobians with exact inverses, found all eigenvalues negative, and left open what
approximate inverses do.
"""

from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib
import numpy as np

from ch6.common import (
    COLOURS,
    MIXING,
    STEP,
    STYLE,
    TAU,
    Result,
    band,
    batch,
    draw_band,
    new_figure,
    proportion,
    rested,
    shipped,
    somata,
)
from neurosim.building.loading import load_model
from neurosim.levels.rate import Rate
from neurosim.levels.settling import Problem, Span
from neurosim.networks.dynamics import Target, rest
from neurosim.networks.network import Weights
from neurosim.seeds import host_stream
from neurosim.theory import stability
from neurosim.theory.closed_forms import taught_spectrum
from neurosim.theory.linearisation import System, jacobian
from neurosim.theory.relaxation import chain

N = 8
EQUAL, CONTRACTING = (N,) * 5, (8, 8, 6, 5, 4)
SHAPES = {"equal layers": EQUAL, "contracting layers": CONTRACTING}
MUS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.49)
ERRORS = (0.0, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
DEPTHS = (2, 4, 8)
RESTLESS = 1e-6
"""A residual above which a network did not come to rest; activity is about 1."""

SETTLED = 1e-2
"""A transient is over when it is this fraction of the learning signal of layer 1."""


def run(seeds: range, folder: Path) -> Result:
    """Spectra and settling times with exact inverses; unstable networks with wrong ones."""
    exact = _exact(seeds)
    times = _settling(seeds[:20])
    unstable, tolerated = _unstable(seeds)
    kinks = _kinks(seeds)
    ratio = max(abs(entry["ratio"]["median"] - 1) for entry in times.values())
    mild = [v for k, v in unstable.items() if k.endswith("error 0.1")]
    worst_mild = max(mild, key=lambda v: v["fraction"])
    holds = exact["unstable"]["fraction"] == 0
    first = {
        shape: next(
            (e for e in ERRORS if unstable[f"{shape}, μ={MUS[3]}, error {e}"]["fraction"] > 0.05),
            None,
        )
        for shape in SHAPES
    }
    return Result(
        prediction="with exact inverses the fixed point is stable; approximate ones are an open "
        "question",
        source="T 6.7, 6.40",
        measured={
            "exact": exact,
            "settling": times,
            "unstable": unstable,
            "tolerated_error": tolerated,
            "leaky_fixed_points": kinks,
            "first_error_with_5_percent_unstable_at_mu_0.3": first,
        },
        seeds=f"{len(seeds)} networks ({seeds.start}–{seeds.stop - 1}) a case, Gaussian weights; "
        "fractions with 95 % intervals, otherwise median and 5–95 %",
        verdict="holds" if holds else "fails",
        because=f"{exact['unstable']['n']} linear networks with exact inverses and Gaussian "
        f"weights of any scale: none unstable (interval up to {exact['unstable']['high']:.1%}), "
        f"eigenvalues as in closed form to {exact['deviation']['high']:.0e} (95th percentile); "
        f"settling times as "
        f"the chain tells, within {ratio:.1%}; with inverses 10 % wrong at most "
        f"{worst_mild['fraction']:.1%} are unstable (μ up to 0.49)",
        figures={"spectrum": _figure(unstable, times)},
    )


def _jacobians(given, mu: float) -> np.ndarray:
    """τ J of linear networks, whose Jacobian is the same everywhere; fixed target."""

    return np.asarray(_all_jacobians(given.network, given.weights, jnp.asarray(mu)))


@eqx.filter_jit
def _all_jacobians(network, weights, mu):
    dynamics, sizes = shipped("mixture", network.sizes, mu=mu), network.sizes

    def one(weights):
        target = Target("fixed", value=jnp.zeros(sizes[-1]))
        drive = dynamics.drive(network, weights, jnp.zeros(sizes[0]), target)
        state = rest(dynamics, network, float)
        return TAU * jacobian(System(dynamics, network, weights, drive), state)

    return jax.vmap(one)(weights)


def _exact(seeds: range) -> dict:
    """As T did: Gaussian weights of random scale, random μ; against the closed form."""
    count, unstable, deviations = 0, 0, []
    for depth in DEPTHS:
        given = batch((N,) * (depth + 1), "linear", seeds, init="lecun")
        scale = np.exp(host_stream(0, "scales").uniform(-2, 2, (len(seeds), depth)))
        W = tuple(w * scale[:, k, None, None] for k, w in enumerate(given.weights["W"]))
        Q = tuple(q / scale[:, k + 1, None, None] for k, q in enumerate(given.weights["Q"]))
        given = given._replace(weights={"W": W, "Q": Q})
        for mu in host_stream(depth, "mixing").uniform(0, 0.5, 5):
            eigenvalues = np.linalg.eigvals(_jacobians(given, mu))
            count += len(seeds)
            unstable += int(np.sum(eigenvalues.real.max(1) >= 0))
            law = taught_spectrum(mu, depth)
            deviations.append(np.abs(eigenvalues[..., None] - law).min(-1).max(-1))
    return {"unstable": proportion(unstable, count), "deviation": band(np.concatenate(deviations))}


def _settling(seeds: range) -> dict:
    """Simulated time until layer 1's transient is small against its signal; over the chain's."""
    found = {}
    for depth in DEPTHS[:2]:
        given = batch((N,) * (depth + 1), "linear", seeds)
        for mu in (0.05, 0.1, 0.2, 0.4):
            changes = {"layers": [N] * (depth + 1), "parameters.mu": mu}
            way = chain(load_model("mixture-two-phase", changes))
            signal = STEP * (mu / (1 - mu)) ** np.arange(depth, 0, -1)
            expected = way.until(np.zeros(depth), SETTLED * signal)
            measured = _simulated(given, mu, SETTLED * signal, expected)
            found[f"L={depth} μ={mu}"] = {
                "chain": expected / TAU,
                "measured": band(measured / TAU),
                "ratio": band(measured / expected),
                "slowest": way.slowest / TAU,
            }
    return found


def _simulated(given, mu: float, small: np.ndarray, expected: float) -> np.ndarray:
    """Times (s) at which the transient of the free phase falls below `small` of the activity."""
    times = tuple(np.linspace(0, 2 * expected, 401).tolist())
    level = Rate("tsit5", TAU / 4, True, 1e-10, 1e-13, 1e-9)

    network = given.network
    dynamics = shipped("mixture", network.sizes, mu=mu)

    @jax.jit
    def all_networks(weights, x, y):
        def one(weights, x, y):
            drive = dynamics.drive(network, weights, x, Target("none"))
            problem = Problem(dynamics, network, weights, drive, STEP, y)
            span = Span(times[-1], False, watch=(times, lambda _, state: somata(state)))
            way = level.settle(problem, rest(dynamics, network, x.dtype), span)[2]
            end = network.forward_pass(Weights(weights["W"], (), ()), x)
            return jnp.stack(
                [
                    jnp.linalg.norm(v - h, axis=-1) / jnp.linalg.norm(h)
                    for v, h in zip(way, end, strict=True)
                ],
                -1,
            )

        return jax.vmap(one)(weights, x, y)

    left = np.asarray(all_networks(given.weights, given.x, given.y))
    late = np.flip(np.maximum.accumulate(np.flip(left, 1), 1), 1)  # falls below for good
    return np.array(times)[np.argmax(np.all(late <= small, -1), 1)]


def _unstable(seeds: range) -> tuple[dict, dict]:
    """Fractions of unstable linear networks, and the error the small-gain bound surely allows."""
    found, tolerated = {}, {}
    for shape, sizes in SHAPES.items():
        for error in ERRORS:
            given = batch(sizes, "linear", seeds, init="lecun", error=error)
            for mu in MUS:
                eigenvalues = np.linalg.eigvals(_jacobians(given, mu))
                hits = int(np.sum(eigenvalues.real.max(1) >= 0))
                found[f"{shape}, μ={mu}, error {error}"] = proportion(hits, len(seeds))
        given = batch(sizes, "linear", seeds[:30], init="lecun")
        for mu in MUS[1:5:2]:
            tolerated[f"{shape}, μ={mu}"] = band(_tolerated(given, mu))
    return found, tolerated


def _tolerated(given, mu: float) -> np.ndarray:
    network, errors = given.network, []
    dynamics = shipped("mixture", network.sizes, mu=jnp.asarray(mu))
    for k in range(len(given.x)):
        weights = jax.tree.map(lambda a, k=k: a[k], given.weights)
        target = Target("fixed", value=given.y[k])
        drive = dynamics.drive(network, weights, given.x[k], target)
        system = System(dynamics, network, weights, drive)
        state = rest(dynamics, network, given.x.dtype)
        errors.append(stability.tolerated_error(system, state))
    return np.array(errors)


def _kinks(seeds: range) -> dict:
    """Leaky ReLU, exact inverses, large nudges: how many networks have no rest that sweeps find."""
    found = {}
    given = batch(EQUAL, "leaky ReLU", seeds, init="lecun")
    for mu in MUS[:5]:
        for step in (0.1, 1.0):
            mixture = shipped("mixture", EQUAL, mu=jnp.asarray(mu))
            rests = rested(mixture, given, "frozen", step)
            restless = int(np.sum(~(np.asarray(rests.residual) < RESTLESS)))
            found[f"μ={mu}, η̂={step}"] = proportion(restless, len(seeds))
    return found


@matplotlib.rc_context(STYLE)
def _figure(unstable: dict, times: dict):
    figure = new_figure("Prediction 3: stability and settling", 11, 3.8)
    panels = figure.subplots(1, 3)
    for axes, shape in zip(panels[:2], SHAPES, strict=True):
        for mu in MUS:
            rows = [unstable[f"{shape}, μ={mu}, error {e}"] for e in ERRORS]
            middle, low, high = (
                100 * np.array([r[k] for r in rows]) for k in ("fraction", "low", "high")
            )
            x = np.arange(len(ERRORS))
            axes.plot(x, middle, "o-", ms=3, color=MIXING[mu], label=f"μ = {mu}")
            axes.fill_between(x, low, high, color=MIXING[mu], alpha=0.15, lw=0)
        axes.set(xlabel="relative error of the inverses (%)", ylabel="unstable networks (%)")
        axes.set_xticks(np.arange(len(ERRORS)), [f"{100 * e:g}" for e in ERRORS])
        axes.set_title(f"{shape}, 4 layers", fontsize=9)
    panels[0].legend()
    axes = panels[2]
    for depth, colour in zip(DEPTHS[:2], COLOURS, strict=False):
        rows = {k: v for k, v in times.items() if k.startswith(f"L={depth} ")}
        mus = [float(k.split("μ=")[1]) for k in rows]
        draw_band(axes, mus, [v["measured"] for v in rows.values()], color=colour, ls="",
                  label=f"L = {depth}, simulated")  # fmt: skip
        axes.plot(mus, [v["chain"] for v in rows.values()], color=colour, lw=0.9, ls="--")
    axes.set(xlabel="μ", ylabel="time to settle (τ)", title="free phase; dashed: chain")
    axes.legend()
    return figure
