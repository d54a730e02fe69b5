"""What backprop and Gauss–Newton would have made of a presentation, for circuits of any kind.

Both are those of the feed-forward network that is left of a circuit where W alone brings anything.
Pseudo-inverses are NumPy's.
"""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

import neurosim as ns
from neurosim.building import assembly
from neurosim.circuits.chain import links
from neurosim.networks.circuit import CircuitDynamics
from neurosim.networks.network import Layers, Network
from neurosim.specs import ModelSpec
from neurosim.theory.gauss_newton import block_diagonal_step


def passed(dynamics: CircuitDynamics, network: Network, weights: Any, x: Array) -> Layers:
    """h_1 … h_L; of a circuit that is not read as a chain, s_i(W_i h_{i−1} + b_i)."""
    found = dynamics.forward_pass(network, weights, x)
    if found is not None:
        return found
    h, b, found = x, weights.get("b", (0.0,) * network.depth), ()
    for i in range(1, network.depth + 1):
        h = network.s(i, weights["W"][i - 1] @ h + b[i - 1])
        found = (*found, h)
    return found


class Linear(NamedTuple):
    """The feed-forward network of a batch: its loss, the gradient of it, and what it passes.

    below: h_{i−1}. slopes: s_i'. blocks: J_i = ∂h_L/∂h_i, of units that do not move 0. All a layer,
    samples first.
    """

    loss: Array
    gradient: Layers
    error: Float[Array, "batch n_L"]
    below: Layers
    slopes: Layers
    blocks: tuple[Float[Array, "batch n_L n_i"], ...]


def linear(
    dynamics: CircuitDynamics,
    network: Network,
    weights: Any,
    x: Float[Array, "batch n_0"],
    y: Float[Array, "batch n_L"],
) -> Linear:
    """Of a batch."""
    W = weights["W"]

    def loss(W: Layers) -> Array:
        def one(x: Array, y: Array) -> Array:
            return network.loss(passed(dynamics, network, weights | {"W": W}, x)[-1], y)

        return jnp.mean(jax.vmap(one)(x, y))

    def around(x: Array, y: Array) -> tuple[Any, ...]:
        h = (x, *passed(dynamics, network, weights, x))

        def moved(d: Array, i: int) -> tuple[Array, Array]:
            """Layer i and the output where d is added to what W brings to layer i."""
            V = W[i - 1] + jnp.outer(d, h[i - 1]) / jnp.vdot(h[i - 1], h[i - 1])
            new = passed(dynamics, network, weights | {"W": (*W[: i - 1], V, *W[i:])}, x)
            return new[i - 1], new[-1]

        both = [jax.jacobian(moved)(jnp.zeros_like(h[i]), i) for i in range(1, len(h))]
        slopes = tuple(jnp.diagonal(own) for own, _ in both)
        # A unit below its threshold, whose slope is 0, can bring nothing: its column is 0.
        blocks = tuple(
            answer * jnp.where(s == 0, 0, 1 / s)
            for (_, answer), s in zip(both, slopes, strict=True)
        )
        return network.loss.error(h[-1], y), h[:-1], slopes, blocks

    # One sample after the other: together their Jacobians would take gigabytes of large layers.
    return Linear(*jax.value_and_grad(loss)(W), *jax.lax.map(lambda one: around(*one), (x, y)))


def newton(at: Linear) -> list[np.ndarray]:
    """ΔW_i of a Gauss–Newton step on the activities of each layer, ⟨s_i' ⊙ (−J_i^† e) h_{i−1}^T⟩.

    Of the output it is the gradient's.
    """
    sizes = [s.shape[-1] for s in at.slopes]
    steps = block_diagonal_step([np.asarray(J) for J in at.blocks], np.asarray(at.error))
    split = np.split(steps, np.cumsum(sizes)[:-1], axis=-1)
    layers = zip(at.slopes, split, at.below, strict=True)
    return [np.einsum("bi,bi,bj->ij", *layer) / len(steps) for layer in layers]


def angles(model: ModelSpec, path: Path) -> dict[str, list[float]]:
    """Angles of ΔW_i of a layer to what backprop and Gauss–Newton make of it (degrees).

    path: a trace of the model, of several seeds, with the weights of recorded presentations, of
    which every second one follows the one before. Medians over seeds that lived and moments. Empty
    where the model, untaught, is no feed-forward network.
    """
    dynamics, network = assembly.dynamics(model).with_layers(), assembly.network(model)
    with ns.open_trace(path) as trace:
        kept = {
            k: [np.asarray(trace[f"snapshots/{k}{i}"], float) for i in range(1, network.depth + 1)]
            for k in "Wb"
            if f"{k}1" in trace["snapshots"]
        }
        x, y = (np.asarray(trace[f"traces/{n}"], float) for n in ("input", "label"))
        shown = trace["traces/presentation"]
        losses = np.asarray(trace["metrics/loss"].sel(presentation=shown))
    found = []
    with jax.enable_x64(True):
        look = jax.jit(lambda weights, x, y: linear(dynamics, network, weights, x, y))
        for m, k in np.argwhere(np.isfinite(losses[1::2])):  # moments; seeds
            m *= 2  # each moment with the one after it
            weights = {key: tuple(jnp.asarray(a[m, k]) for a in of) for key, of in kept.items()}
            at = jax.device_get(look(weights, x[m, k], y[m, k]))
            if not np.isfinite(at.loss) or (
                links(dynamics.circuit) is None and not np.isclose(at.loss, losses[m, k], 1e-3)
            ):
                return {}
            change = [W[m + 1, k] - W[m, k] for W in kept["W"]]
            ways = [-g for g in at.gradient], newton(at)
            found.append([[apart(*of) for of in zip(change, way, strict=True)] for way in ways])
    to_backprop, to_newton = np.nanmedian(found, axis=0).tolist()
    return {"backprop": to_backprop, "gauss_newton": to_newton}


def apart(a: np.ndarray, b: np.ndarray) -> float:
    """The angle between two arrays (degrees); NaN where one of them is zero."""
    sizes = np.linalg.norm(a) * np.linalg.norm(b)
    return float(np.degrees(np.arccos(np.clip(np.vdot(a, b) / sizes, -1, 1)))) if sizes else np.nan
