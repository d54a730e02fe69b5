"""What the rules of a chain look at when a channel teaches its layers."""

import jax
from jaxtyping import Array, Float

from neurosim.circuits.chain import links
from neurosim.circuits.tables import TEACHING
from neurosim.networks.circuit import CircuitDynamics, Signals
from neurosim.networks.network import Layers, Network, Weights
from neurosim.networks.vocabulary import DRAWN, functions


def with_teaching(
    dynamics: CircuitDynamics, readout: Signals, teaching: dict[int, Array]
) -> Signals:
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
    return with_teaching(dynamics, signals, {i - 1: teacher[i - 1] - mean})
