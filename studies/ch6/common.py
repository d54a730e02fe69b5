"""What the predictions share: batches of random networks, bands over them, results and figures."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
from matplotlib.figure import Figure

from neurosim.building import assembly
from neurosim.building.loading import load_model
from neurosim.figures.runs import COLOURS, INK, STYLE, new_figure, save
from neurosim.functions.activations import Activation, LeakyReLU, Linear, Tanh
from neurosim.functions.losses import Loss
from neurosim.models.initialisers import drawn
from neurosim.networks.circuit import CircuitDynamics, CircuitWeights
from neurosim.networks.dynamics import Readout, State, Target
from neurosim.networks.network import Layers, Network
from neurosim.plasticity.local import teaching
from neurosim.seeds import host_stream
from neurosim.theory import fixed_points
from neurosim.theory.linearisation import System

TAU, STEP = 0.02, 0.1
HALF = Loss("half-squared", "linear")
ACTIVATIONS: dict[str, Activation] = {
    "linear": Linear(),
    "leaky ReLU": LeakyReLU(0.35),
    "tanh": Tanh(),
}
METHODS = dict(
    zip(("BP", "DTP-AI", "one phase", "two phases", "multiplexing"), COLOURS, strict=False)
)
"""The colour of a method, in every figure; one and two phases are those of the mixture."""

ALL_MUS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.49)
MIXING = dict(zip(ALL_MUS, matplotlib.colormaps["viridis"](np.linspace(0, 0.92, 7)), strict=True))
"""The colour of a μ, in every figure."""

__all__ = ["COLOURS", "INK", "STYLE", "new_figure", "save"]


@dataclass(frozen=True)
class Result:
    """What became of a prediction.

    verdict: `holds`, `holds in part` or `fails`, computed from `measured`; because: in one line.
    """

    prediction: str
    source: str
    measured: dict[str, Any]
    seeds: str
    verdict: str
    because: str
    figures: dict[str, Figure] = field(default_factory=dict)

    @property
    def report(self) -> dict[str, Any]:
        """Plain data for chapter6.json."""
        names = ("prediction", "source", "verdict", "because", "seeds", "measured")
        return {name: plain(getattr(self, name)) for name in names}


class Batch(NamedTuple):
    """Networks of one shape with one sample each; the first axis of all arrays is the network."""

    network: Network
    weights: CircuitWeights
    x: jax.Array
    y: jax.Array


def batch(
    sizes: Sequence[int],
    activation: str,
    seeds: Sequence[int],
    init: str = "conditioned",
    error: float = 0.0,
) -> Batch:
    """Random networks with (pseudo-)inverses that are wrong by `error`.

    init: `conditioned`, orthogonal times singular values uniform in (0.7, 1.4), or an initialiser
    of the library. error: Q_i = (I + error E/√n) W_{i+1}^† with E Gaussian, so that what comes back
    of an activity h is off by about error ‖h‖.
    """
    each = [_draw(tuple(sizes), seed, init, error) for seed in seeds]
    stacked = jax.tree.map(lambda *arrays: jnp.stack([jnp.asarray(a) for a in arrays]), *each)
    hidden = ACTIVATIONS[activation]
    acts = (*[hidden] * (len(sizes) - 2), Linear())
    return Batch(Network(tuple(sizes), acts, "inverse", HALF), *stacked)


def _draw(sizes: tuple[int, ...], seed: int, init: str, error: float):
    rng = host_stream(seed, f"chapter 6, {sizes}")
    kind = "orthogonal" if init == "conditioned" else init
    W = [drawn(kind, (n, below), rng) for below, n in pairwise(sizes)]
    if init == "conditioned":
        W = [w * rng.uniform(0.7, 1.4, w.shape[1]) for w in W]
    wrong = host_stream(seed, "inverse errors")  # the same directions for every size of the error
    Q = [
        q + error / math.sqrt(len(q)) * wrong.standard_normal((len(q), len(q))) @ q
        for q in map(np.linalg.pinv, W[1:])
    ]
    weights = {"W": tuple(W), "Q": tuple(Q)}
    return weights, rng.standard_normal(sizes[0]), rng.standard_normal(sizes[-1])


NOTHING: Mapping[str, Any] = {}


def shipped(
    model: str, sizes: Sequence[int], changes: Mapping[str, Any] = NOTHING, **parameters: Any
) -> CircuitDynamics:
    """Of a shipped model with layers of these sizes.

    changes: of its file, by dotted key. parameters: arrays, also those of a program, so that it is
    one for all their values.
    """
    found = _loaded(model, tuple(sizes), tuple(changes.items()))
    return replace(found, parameters=found.parameters | parameters)


@cache
def _loaded(
    model: str, sizes: tuple[int, ...], changes: tuple[tuple[str, Any], ...]
) -> CircuitDynamics:
    given = load_model(model, {"layers": list(sizes), **dict(changes)})
    return assembly.dynamics(given).with_layers()


def somata(state: State) -> Layers:
    """Those of a mixture, layer 1 first."""
    return (*state["pyramidal.soma"], *state["output.soma"])


def of_somata(layers: Sequence[jax.Array]) -> State:
    """The state of a mixture whose dendrites follow at once, from its somata, layer 1 first."""
    return {"pyramidal.soma": tuple(layers[:-1]), "output.soma": (layers[-1],)}


class Rested(NamedTuple):
    """Readouts of the free phase and of a taught one, and whether both came to rest.

    teaching: what the rule of W learns from. settled: to rounding. residual: the larger one of the
    two, in units of the state.
    """

    free: Readout
    taught: Readout
    teaching: Layers
    settled: jax.Array
    residual: jax.Array


@eqx.filter_jit
def rested(dynamics: CircuitDynamics, given: Batch, kind: str, step: float = STEP) -> Rested:
    """Every network of the batch in the free phase and under `kind` of teaching."""
    network = given.network

    def one(weights, x, y):
        drive = dynamics.drive(network, weights, x, Target("none"))
        system = System(dynamics, network, weights, drive)
        found = fixed_points.phases(system, step, y, [kind])
        read = [
            dynamics.read(network, weights, found[k][0], found[k][1].state) for k in ("none", kind)
        ]
        free, taught = found["none"][1], found[kind][1]
        residual = jnp.maximum(free.residual, taught.residual)
        return *read, free.settled & taught.settled, residual

    free, taught, settled, residual = jax.vmap(one)(given.weights, given.x, given.y)
    return Rested(
        dynamics.layers(network, free),
        dynamics.layers(network, taught),
        teaching(dynamics, network, given.weights, taught, {"free": free}),
        settled,
        residual,
    )


def norms(layer: jax.Array) -> np.ndarray:
    """Norm of every sample's vector."""
    return np.asarray(jnp.linalg.norm(layer, axis=-1))


def cosine(a: jax.Array, b: jax.Array) -> np.ndarray:
    """Of every sample's pair of vectors."""
    return np.asarray(
        jnp.sum(a * b, -1) / (jnp.linalg.norm(a, axis=-1) * jnp.linalg.norm(b, axis=-1))
    )


def band(values: np.ndarray) -> dict[str, float]:
    """Median and the 5th and 95th percentile over the seeds that have a value, and how many."""
    there = np.asarray(values, float)
    there = there[np.isfinite(there)]
    if not there.size:
        return {"median": math.nan, "low": math.nan, "high": math.nan, "n": 0}
    low, middle, high = np.quantile(there, (0.05, 0.5, 0.95))
    return {"median": float(middle), "low": float(low), "high": float(high), "n": int(there.size)}


def proportion(hits: int, of: int) -> dict[str, float]:
    """A fraction and its 95 % interval (Wilson 1927)."""
    z, p = 1.96, hits / of
    centre = (p + z**2 / (2 * of)) / (1 + z**2 / of)
    half = z / (1 + z**2 / of) * math.sqrt(p * (1 - p) / of + z**2 / (4 * of**2))
    return {"fraction": p, "low": max(0.0, centre - half), "high": min(1.0, centre + half), "n": of}


def draw_band(
    axes: Any, x: Sequence[float], bands: Sequence[dict[str, float]], **look: Any
) -> None:
    """Medians as a line, the band around them."""
    middle, low, high = (np.array([b[k] for b in bands]) for k in ("median", "low", "high"))
    line = axes.plot(x, middle, marker="o", ms=3, **look)[0]
    axes.fill_between(x, low, high, color=line.get_color(), alpha=0.18, lw=0)


def plain(value: Any) -> Any:
    """As JSON has it, rounded to six digits, with None for what is not a number."""
    if isinstance(value, dict):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    if isinstance(value, np.generic | np.ndarray):
        return plain(value.tolist())
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value


def write(path: Path, report: dict[str, Any]) -> None:
    """A report as JSON, whole or not at all."""
    scratch = path.with_suffix(".part")
    scratch.write_text(json.dumps(report, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    scratch.replace(path)
