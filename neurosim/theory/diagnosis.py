"""How the teaching signals of a batch stand to those of the theory: norms and cosines a layer."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Scalar

from neurosim.credit import Credit
from neurosim.dynamics.base import Readout
from neurosim.network import Layers, Network, Weights
from neurosim.plasticity.iteration import Iteration
from neurosim.theory.decomposition import attribution, gradient_signals


def diagnosis(
    dynamics: Any,
    network: Network,
    weights: Weights,
    now: Readout,
    free: Readout | None,
    labels: Float[Array, "batch n_L"],
    teaching: Layers,
    step: Scalar | float,
    targets: bool,
    own_channel: bool,
) -> dict[str, Float[Array, " L"]]:
    """Means over the batch, of every layer: see `measures.measured`.

    now, free: readouts of the phase that teaches and of the free phase the signal is compared with,
    if it is. teaching: before any depth compensation. All batch first. own_channel: whether targets
    come down through maps g of their own, beside the activity.
    """

    def one(
        now: Readout, free: Readout | None, label: Array, teaching: Layers
    ) -> dict[str, Float[Array, " L"]]:
        if targets:
            direct = teaching[len(weights.Q) :] if own_channel else ()
            parts = attribution(dynamics, network, weights, now, free, label, step, direct)
            parts["approx"] = tuple(t - e for t, e in zip(teaching, parts["tp"], strict=True))
        else:
            parts = gradient_signals(network, weights, now.rate, label, step)
        found = {"norm_teaching": _each(jnp.linalg.norm, teaching)}
        found |= {f"norm_{name}": _each(jnp.linalg.norm, e) for name, e in parts.items()}
        return found | {
            f"cosine_{name}": _each(cosine, teaching, parts[name])
            for name in ("tp", "gn", "bp")
            if name in parts
        }

    axes = (0, None if free is None else 0, 0, 0)
    return jax.tree.map(
        lambda a: jnp.mean(a, axis=0), jax.vmap(one, axes)(now, free, labels, teaching)
    )


def of_phases(
    credit: Credit,
    dynamics: Any,
    network: Network,
    weights: Weights,
    phases: Sequence[Any],
    readouts: Sequence[Readout],
    labels: Float[Array, "batch n_L"],
    step: Scalar | float,
    iteration: Iteration | None = None,
) -> dict[str, Float[Array, " L"]]:
    """`diagnosis` of the last phase that opens forward plasticity; empty where none does.

    phases: of the engine, one a readout. iteration: of a credit with a channel of its own.
    """
    if iteration is not None:
        given = dynamics, network, weights, readouts[0], None, labels, iteration.teaching, step
        return diagnosis(*given, credit.form is not None, True)
    plastic = [k for k, phase in enumerate(phases) if "forward" in phase.plastic]
    if not plastic:
        return {}
    now, free = readouts[plastic[-1]], None
    if credit.kind == "two-phase":
        before = [k for k in range(plastic[-1]) if phases[k].teaching == "none"]
        free = readouts[before[-1]]
    assign = jax.vmap(
        lambda now, free, y: credit.assign(network, weights, now, free, y, step),
        (0, None if free is None else 0, 0),
    )
    teaching = assign(now, free, labels)
    return diagnosis(dynamics, network, weights, now, free, labels, teaching, step, True, False)


def cosine(a: Float[Array, " n"], b: Float[Array, " n"]) -> Float[Array, ""]:
    """Of the angle between two vectors; NaN where one of them is zero."""
    return a @ b / (jnp.linalg.norm(a) * jnp.linalg.norm(b))


def angle(a: Float[Array, " n"], b: Float[Array, " n"]) -> Float[Array, ""]:
    """Between two vectors, in degrees, exact for small ones too; NaN where one of them is zero."""
    a, b = a / jnp.linalg.norm(a), b / jnp.linalg.norm(b)
    return jnp.degrees(2 * jnp.arctan2(jnp.linalg.norm(a - b), jnp.linalg.norm(a + b)))


def _each(function: Callable[..., Array], *layers: Layers) -> Array:
    return jnp.stack([function(*of_layer) for of_layer in zip(*layers, strict=True)])
