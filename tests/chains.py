"""The shipped models as chains of layers of any sizes, with weights of a test's own."""

from itertools import pairwise
from typing import Any

import jax.numpy as jnp
import numpy as np

from neurosim.building import assembly
from neurosim.building.loading import load_model
from neurosim.models.initialisers import drawn
from neurosim.networks.circuit import CircuitDynamics, CircuitWeights
from neurosim.networks.network import Weights

FEEDFORWARD = "backprop"


def dynamics(
    model: str, sizes: Any, noise: dict[str, float] | None = None, bias: bool = False, **values: Any
) -> CircuitDynamics:
    """Of a shipped model with these layers, parameters (s) and noise."""
    changes: dict[str, Any] = {f"parameters.{name}": value for name, value in values.items()}
    changes |= {"layers": list(sizes), "noise": noise or {}, "projections.W.bias": bias}
    return assembly.dynamics(load_model(model, changes)).with_layers()


def circuit(chain: Weights) -> CircuitWeights:
    """The weights of a chain by projection."""
    found = {"W": chain.W, "Q": chain.Q, "b": chain.b}
    return {name: layers for name, layers in found.items() if layers}


def forward(kind: str, sizes: Any, gain: float, rng: np.random.Generator) -> list[np.ndarray]:
    """Random W_1 … W_L."""
    return [gain * drawn(kind, (n, below), rng) for below, n in pairwise(sizes)]


def layers(state: dict[str, Any], name: str) -> tuple[Any, ...]:
    """A compartment of all layers that have it, layer 1 first."""
    found = [key for key in state if key.partition(".")[2] == name]
    hidden_first = sorted(found, key=lambda key: key.startswith("output."))
    return tuple(layer for key in hidden_first for layer in state[key])


def state_of(dynamics: CircuitDynamics, **compartments: Any) -> dict[str, Any]:
    """The state with these compartments, one array a layer each, layer 1 first."""
    found: dict[str, list[Any]] = {}
    for group, name in dynamics.circuit.moving:
        array = jnp.asarray(compartments[name][group.layer - 1])
        found.setdefault(f"{group.population}.{name}", []).append(array)
    return {name: tuple(arrays) for name, arrays in found.items()}
