"""What the text of a group of cells may call: maps of its layer, beside elementary functions."""

from collections.abc import Callable, Mapping
from typing import Any

from jaxtyping import Array

from neurosim.circuits.description import Circuit
from neurosim.circuits.populations import Group
from neurosim.functions.activations import Activation, Bernoulli
from neurosim.networks.elementary import ELEMENTARY
from neurosim.networks.network import Network

DRAWN = "rand"
"""What stochastic units have drawn, each for itself: uniform between 0 and 1."""


def functions(
    circuit: Circuit, network: Network, group: Group | None, drawn: Array | None = None
) -> Mapping[str, Callable[..., Any]]:
    """What the text of a group may call; that of the input elementary functions alone.

    drawn: what the cells of a layer of stochastic units have drawn; without it `s` is their mean.
    """
    if group is None:
        return ELEMENTARY
    i = layer(circuit, network, group)

    def inverse(h: Array) -> Array:
        return network.activations[i - 1].inverse(h)

    def transfer(a: Array) -> Array:
        activation = network.activations[i - 1]
        if drawn is None or not isinstance(activation, Bernoulli):
            return network.s(i, a)
        return activation.sampled(a, drawn)

    return ELEMENTARY | {
        "s": transfer,
        "slope": lambda a: network.slope(i, a),
        "s_inv": inverse,
        "t": lambda a: network.decode(i, a),
        "t_slope": lambda a: network.decode_slope(i, a),
        "encode": lambda h, b: h if network.form == "autoencoder" else inverse(h) - b,
    }


def layer(circuit: Circuit, network: Network, group: Group) -> int:
    """The layer whose transfer function a group has."""
    i = group.layer + circuit.population[group.population].mirrors
    return min(max(i, 1), network.depth)


def drawing(circuit: Circuit, network: Network) -> tuple[Group, ...]:
    """The groups of stochastic units."""
    return tuple(
        group
        for group in circuit.groups
        if isinstance(_of(circuit, network, group), Bernoulli)
        and any("s" in e.right.functions for e in circuit.cell(group).equations)
    )


def _of(circuit: Circuit, network: Network, group: Group) -> Activation:
    return network.activations[layer(circuit, network, group) - 1]
