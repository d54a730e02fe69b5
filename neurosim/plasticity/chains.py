"""The weights of a chain of layers, among those of its circuit and layer by layer."""

import jax
from jaxtyping import Array, Float

from neurosim.circuits.chain import links
from neurosim.circuits.populations import Projection
from neurosim.circuits.tables import TEACHING
from neurosim.networks.circuit import CircuitDynamics, CircuitWeights, Signals
from neurosim.networks.network import Layers, Network, Weights
from neurosim.networks.vocabulary import DRAWN, functions


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


def taught_by(dynamics: CircuitDynamics, readout: Signals, teaching: dict[int, Array]) -> Signals:
    """What rules look at, with the teaching of layers, counted from 0."""
    chain = links(dynamics.circuit) or ()
    brought = {
        f"{dynamics.circuit.place(chain[k].group)}.{TEACHING}": signal
        for k, signal in teaching.items()
    }
    return readout._replace(of=readout.of | brought)


def as_it_became(
    dynamics: CircuitDynamics,
    network: Network,
    weights: Weights,
    i: int,
    x: Float[Array, "batch n_0"],
    readout: Signals,
    teacher: Layers,
) -> Signals:
    """What the rule of layer i looks at when the layers below have moved: the way to its old
    target from what they send now."""
    below, found = x, dict(readout.of)
    synapses = dynamics.circuit.projection["W"].synapses
    for k, link in enumerate((links(dynamics.circuit) or ())[:i], start=1):
        place = dynamics.circuit.place(link.group)
        a = jax.vmap(network.potential, (None, None, 0))(weights, k, below)
        mean = network.s(k, a)
        drawn = found.get(f"{place}.{DRAWN}")
        called = functions(dynamics.circuit, network, link.group, drawn)
        below = called["s"](a)
        found |= {f"{place}.{link.potential}": a, f"{place}.{link.rate}": below}
        sent = {s.sent for s in synapses if s.pre == link.group} | {link.sent}  # by any name
        found |= dict.fromkeys((f"{place}.{name}" for name in sent), network.sent(k, below))
    signals = readout._replace(of=found)
    return taught_by(dynamics, signals, {i - 1: teacher[i - 1] - mean})
