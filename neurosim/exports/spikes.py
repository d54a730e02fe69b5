"""Spikes of a trace, each with the trial and the neuron that it belongs to."""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

ROUNDING = 1e-6
"""What times may be off by (ms): far below any step of time."""


class Spikes(NamedTuple):
    """Spikes of a population.

    trial: the labels of every spike that say when it was: `presentation` and `sample`, or `sweep`,
    by number. neuron: those that say whose it is: `unit` and `neuron` of the unit, or `copy`, or
    `cell`. time: since its trial began (ms). all: of every neuron that could have been seen, the
    same labels as of `neuron`.
    """

    trial: dict[str, Int[np.ndarray, " spikes"]]
    neuron: dict[str, Int[np.ndarray, " spikes"]]
    time: Float[np.ndarray, " spikes"]
    all: dict[str, Int[np.ndarray, " neurons"]]


def populations(tree: Any) -> list[str]:
    """Whose spikes an open trace holds."""
    return list(tree["spikes"].children) if "spikes" in tree.children else []


def spikes(tree: Any, population: str) -> Spikes:
    """Those of a population of an open trace."""
    group = tree[f"spikes/{population}"]
    times = group["timestamps"].values.astype(float)
    nodes = group["node_ids"].values.astype(np.int64)
    if "units" in group.attrs:
        return _of_network(tree, population, times, nodes)
    kind = "copies" if "copies" in group.attrs else "cells"
    many = int(group.attrs[kind])
    name = {"copies": "copy", "cells": "cell"}[kind]
    sweep, own = nodes // many, nodes % many
    return Spikes({"sweep": sweep}, {name: own}, times, {name: np.arange(many)})


def _of_network(tree: Any, population: str, times: np.ndarray, nodes: np.ndarray) -> Spikes:
    """Presentations stand one after the other, each as long as the longest."""
    about = tree[f"spikes/{population}"].attrs
    size, neurons = int(about["units"]), int(about["neurons"])
    longest = float(tree["traces/time"].values[-1])
    numbers = tree["traces/presentation"].values
    row = np.minimum((times + ROUNDING) // longest, len(numbers) - 1).astype(np.int64)
    sample, own = nodes // (size * neurons), nodes % (size * neurons)
    recorded = tree[f"traces/{population}/unit"].values
    return Spikes(
        {"presentation": numbers[row], "sample": sample},
        {"unit": own // neurons, "neuron": own % neurons},
        np.maximum(times - row * longest, 0.0),
        {
            "unit": np.repeat(recorded, neurons),
            "neuron": np.tile(np.arange(neurons), len(recorded)),
        },
    )
