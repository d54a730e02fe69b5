"""How the teaching signals of a batch stand to those of the theory: norms and cosines a layer."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from neurosim.network import Layers, Network, Weights
from neurosim.theory.decomposition import decomposition, gradient_signals

PARTS: dict[str, str] = {
    "tp": "the useful signal through the Jacobians of g",
    "rec": "reconstruction errors",
    "approx": "the approximation error, teaching minus the useful signal",
    "gn": "the Gauss–Newton signal",
    "bp": "backprop's signal",
}
"""What the teaching signal is compared with [T 5.57–5.61]."""


def measured(targets: bool) -> dict[str, str]:
    """The names of what `diagnosis` measures, each with what it is.

    targets: whether the credit sends targets through maps g; the others have only `gn` and `bp`.
    """
    parts = PARTS if targets else {name: PARTS[name] for name in ("gn", "bp")}
    norms = {f"norm_{name}": f"norm of {text}" for name, text in parts.items()}
    cosines = {
        f"cosine_{name}": f"cosine of the teaching signal to {text}"
        for name, text in parts.items()
        if name in ("tp", "gn", "bp")
    }
    return {"norm_teaching": "norm of the teaching signal", **norms, **cosines}


def diagnosis(
    network: Network,
    weights: Weights,
    rates: Layers,
    labels: Float[Array, "batch n_L"],
    teaching: Layers,
    step: float,
    targets: bool,
) -> dict[str, Float[Array, " L"]]:
    """Means over the batch, of every layer: see `measured`. rates, teaching: batch first."""

    def one(rates: Layers, label: Array, teaching: Layers) -> dict[str, Array]:
        if targets:
            parts = decomposition(network, weights, rates, label, step)
            parts["approx"] = tuple(t - e for t, e in zip(teaching, parts["tp"], strict=True))
        else:
            parts = gradient_signals(network, weights, rates, label, step)
        found = {"norm_teaching": _each(jnp.linalg.norm, teaching)}
        found |= {f"norm_{name}": _each(jnp.linalg.norm, e) for name, e in parts.items()}
        return found | {
            f"cosine_{name}": _each(cosine, teaching, parts[name])
            for name in ("tp", "gn", "bp")
            if name in parts
        }

    return jax.tree.map(lambda a: jnp.mean(a, axis=0), jax.vmap(one)(rates, labels, teaching))


def cosine(a: Float[Array, " n"], b: Float[Array, " n"]) -> Float[Array, ""]:
    """Of the angle between two vectors; NaN where one of them is zero."""
    return a @ b / (jnp.linalg.norm(a) * jnp.linalg.norm(b))


def _each(function, *layers: Layers) -> Array:
    return jnp.stack([function(*of_layer) for of_layer in zip(*layers, strict=True)])
