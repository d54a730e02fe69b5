"""How the teaching signals of a batch stand to those of the theory: norms and cosines a layer."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Scalar

from neurosim.networks.circuit import CircuitDynamics, CircuitWeights, Signals
from neurosim.networks.dynamics import Readout
from neurosim.networks.network import Layers, Network, Weights
from neurosim.plasticity.channel import Iteration
from neurosim.plasticity.local import teaching
from neurosim.theory.decomposition import attribution, gradient_signals


def diagnosis(
    dynamics: Any,
    network: Network,
    weights: Weights,
    now: Readout,
    free: Readout | None,
    labels: Float[Array, "batch n_L"],
    taught: Layers,
    step: Scalar | float,
    targets: bool,
    own_channel: bool,
) -> dict[str, Float[Array, " L"]]:
    """Means over the batch, of every layer: see `measures.measured`.

    now, free: readouts of the phase that teaches and of the free phase the signal is compared with,
    if it is. taught: the teaching signals, before any depth compensation. All batch first.
    own_channel: whether targets come down through maps g of their own, beside the activity.
    """

    def one(
        now: Readout, free: Readout | None, label: Array, taught: Layers
    ) -> dict[str, Float[Array, " L"]]:
        if targets:
            direct = taught[len(weights.Q) :] if own_channel else ()
            parts = attribution(dynamics, network, weights, now, free, label, step, direct)
            parts["approx"] = tuple(t - e for t, e in zip(taught, parts["tp"], strict=True))
        else:
            parts = gradient_signals(network, weights, now.rate, label, step)
        found = {"norm_teaching": _each(jnp.linalg.norm, taught)}
        found |= {f"norm_{name}": _each(jnp.linalg.norm, e) for name, e in parts.items()}
        return found | {
            f"cosine_{name}": _each(cosine, taught, parts[name])
            for name in ("tp", "gn", "bp")
            if name in parts
        }

    axes = (0, None if free is None else 0, 0, 0)
    return jax.tree.map(
        lambda a: jnp.mean(a, axis=0), jax.vmap(one, axes)(now, free, labels, taught)
    )


def of_phases(
    learning: Any,
    dynamics: CircuitDynamics,
    network: Network,
    weights: CircuitWeights,
    phases: Sequence[Any],
    readouts: Sequence[Signals],
    labels: Float[Array, "batch n_L"],
    step: Scalar | float,
    iteration: Iteration | None = None,
) -> dict[str, Float[Array, " L"]]:
    """`diagnosis` of the last phase that opens W of a chain; empty where none does.

    phases: of the engine, one a readout. iteration: of a credit with a channel of its own.
    """
    chain = dynamics.chain(weights)
    plastic = [k for k, phase in enumerate(phases) if "W" in phase.plastic]
    if chain is None or not (plastic or iteration):
        return {}
    if iteration is not None:
        now, targets = dynamics.layers(network, readouts[0]), learning.credit.form is not None
        given = dynamics, network, chain, now, None, labels, iteration.teaching, step
        return diagnosis(*given, targets, True)
    k, free = plastic[-1], None
    before = {phase.name: readouts[n] for n, phase in enumerate(phases[:k])}
    remembered = dynamics.circuit.projection["W"].remembered
    if remembered:
        free = dynamics.layers(network, before[remembered[0][1].phase])
    taught = teaching(dynamics, network, weights, readouts[k], before)
    now = dynamics.layers(network, readouts[k])
    return diagnosis(dynamics, network, chain, now, free, labels, taught, step, True, False)


def cosine(a: Float[Array, " n"], b: Float[Array, " n"]) -> Float[Array, ""]:
    """Of the angle between two vectors; NaN where one of them is zero."""
    return a @ b / (jnp.linalg.norm(a) * jnp.linalg.norm(b))


def angle(a: Float[Array, " n"], b: Float[Array, " n"]) -> Float[Array, ""]:
    """Between two vectors, in degrees, exact for small ones too; NaN where one of them is zero."""
    a, b = a / jnp.linalg.norm(a), b / jnp.linalg.norm(b)
    return jnp.degrees(2 * jnp.arctan2(jnp.linalg.norm(a - b), jnp.linalg.norm(a + b)))


def _each(function: Callable[..., Array], *layers: Layers) -> Array:
    return jnp.stack([function(*of_layer) for of_layer in zip(*layers, strict=True)])
