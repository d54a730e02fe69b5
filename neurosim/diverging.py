"""What left the finite numbers, where and when."""

import math
from collections.abc import Sequence

import numpy as np

from neurosim.engine import Examined
from neurosim.network import Network, Weights
from neurosim.spec import ProtocolSpec, StageSpec

EXPLODED = 1e12
"""Activity, weights and losses beyond this have diverged, finite or not."""


def inside(array) -> np.ndarray:
    """Which numbers are finite and not exploded; false for NaN."""
    return np.abs(np.asarray(array)) < EXPLODED


def exploded_weights(weights: Weights, s: int) -> str | None:
    """The first of the weights of seed number s that are out of bounds."""
    for letter, arrays in (("W", weights.W), ("b", weights.b), ("Q", weights.Q)):
        for i, array in enumerate(arrays, start=1):
            if not inside(array[s]).all():
                return f"{letter}{i}"
    return None


def sound(weights: Weights) -> np.ndarray:
    """Which seeds have all their weights in bounds."""
    groups = (*weights.W, *weights.b, *weights.Q)
    return np.all([inside(a).reshape(len(a), -1).all(axis=1) for a in groups], axis=0)


def place(
    spec: ProtocolSpec,
    stage: StageSpec,
    seen: Examined,
    times: Sequence[Sequence[float]],
    s: int,
) -> str | None:
    """The phase, moment, variable and layer that seed number s left the bounds in first.

    seen: the presentation in detail, all samples of its batch. None if it was in bounds throughout.
    """
    for phase, trace, moments in zip(stage.phases, seen.traces, times, strict=True):
        earliest: tuple[int, str] | None = None
        for name, layers in trace.items():
            for i, layer in enumerate(layers, start=1):
                bad = ~inside(layer[s]).all(axis=(0, 2))
                if bad.any() and (earliest is None or np.argmax(bad) < earliest[0]):
                    earliest = int(np.argmax(bad)), f"{name} of layer {i}"
        if earliest is not None:
            when = f" at {moments[earliest[0]] * 1e3:.4g} ms" if spec.level != "equilibrium" else ""
            return f"phase {phase.name!r}{when}: {earliest[1]} left all bounds"
    return None


def domain(network: Network) -> str:
    """A hint where an inverse may have been asked for outside its domain."""
    if network.form != "inverse":
        return ""
    for i, activation in enumerate(network.activations[1:], start=2):
        low, high = activation.domain or (-math.inf, math.inf)
        if math.isfinite(low) or math.isfinite(high):
            return (
                f"; the inverse of layer {i}'s activation exists only on ({low:g}, {high:g}), "
                "which mixed or nudged activity can leave"
            )
    return ""
