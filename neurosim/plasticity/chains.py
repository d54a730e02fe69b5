"""The weights of a chain of layers, among those of its circuit and layer by layer."""

from jaxtyping import Array

from neurosim.circuits.populations import Projection
from neurosim.networks.circuit import CircuitDynamics, CircuitWeights
from neurosim.networks.network import Layers, Weights


def chain_of(dynamics: CircuitDynamics, weights: CircuitWeights) -> Weights:
    """The chain that a circuit, found to be one at load, makes of its weights."""
    found = dynamics.chain(weights)
    assert found is not None, "checked at load"
    return found


def part_of(weights: CircuitWeights, projection: Projection) -> Weights:
    """The weights of the chain whose forward projection this is."""
    b = weights["b"] if projection.bias else ()
    return Weights(weights["W"], b, weights.get("Q", ()))


def among(chain: Weights, like: CircuitWeights) -> CircuitWeights:
    """The weights of a chain among all those of its circuit."""
    return like | {name: layers for name, layers in chain._asdict().items() if layers}


def layer(weights: Weights, i: int) -> Layers:
    """W_i, and b_i where there is one."""
    return (weights.W[i - 1], *weights.b[i - 1 : i])


def with_layer(weights: Weights, i: int, layer: Layers) -> Weights:
    """The weights with W_i, and b_i where there is one, replaced."""
    b = replaced(weights.b, i, layer[1]) if weights.b else ()
    return weights._replace(W=replaced(weights.W, i, layer[0]), b=b)


def replaced(layers: Layers, i: int, value: Array) -> Layers:
    """The layers with number i (from 1) replaced."""
    return (*layers[: i - 1], value, *layers[i:])
