"""What feedback weights connect, and which of them follow the forward weights."""

import math
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

from neurosim.functions.deferred import Deferred

WIRINGS: dict[str, Callable[[int], list[tuple[int, int]]]] = {
    "none": lambda depth: [],
    "layers": lambda depth: [(i, i + 1) for i in range(1, depth)],
    "hidden": lambda depth: [(i, i + 1) for i in range(1, depth - 1)],
    "direct": lambda depth: [(i, depth) for i in range(1, depth)],
    "from-input": lambda depth: [(i, i + 1) for i in range(depth)],
}
"""Depth → of every feedback matrix, the layer it belongs to and the layer it hears."""


def transposed(w: Any) -> Any:
    """W^T as weights of the channel; a kernel is the same both ways."""
    return w if w.ndim == 4 else w.T


def shared(wiring: str, convolutions: Sequence[Any]) -> list[Any]:
    """Of every feedback matrix, the convolution whose kernel it replaces, None of others.

    convolutions: of W_1 … W_L. What skips layers is dense.
    """
    if wiring == "direct":
        return [None for _ in WIRINGS[wiring](len(convolutions))]
    return [convolutions[i] for i, _ in WIRINGS[wiring](len(convolutions))]


TIES: dict[str, Callable] = {
    "exact-inverse": Deferred("neurosim.functions.inverses:inverse"),
    "pseudo-inverse": Deferred("neurosim.functions.inverses:pseudo_inverse"),
    "transpose": transposed,
}
"""Feedback matrices that are functions of the forward ones: Q_i = tie(W_{i+1})."""


def random_channel(
    kind: str, draw: Any, path: Any, gain: Any, sparse: Any = None, congruent: bool = False
) -> Any:
    """A random matrix of the learning channel, of NumPy or of JAX.

    `random`: Gaussian of variance gain²/n_above; `xavier`: of 2 gain²/(n + n_above). sparse: gain
    with probability sparse/n, so many in each column on average, and 0 elsewhere [Baldi, Sadowski &
    Lu 2018, figure 3]. congruent: with the signs of the transposed way up.

    Of a kernel (maps above, maps, rows, columns), n_above counts what one unit hears, and n those
    that one reaches.

    Args:
        draw: standard normal numbers, or uniform ones in [0, 1) where it is sparse; of shape
            (n, n_above), or (n, weights of a neuron, n_above), or of a kernel's.
        path: the forward weights from the layer to the one it hears, (n_above, n), or the kernel.
    """
    n, n_above = draw.shape[0], draw.shape[-1]
    if draw.ndim == 4:
        n, n_above = (maps * math.prod(draw.shape[2:]) for maps in draw.shape[1::-1])
    if sparse is not None:
        found = gain * (draw < sparse / n)
    else:
        found = gain * draw * (1 / n_above if kind == "random" else 2 / (n + n_above)) ** 0.5
    if not congruent:
        return found
    way = transposed(path)
    signs = (way > 0) * 1.0 - (way < 0)
    return abs(found) * (signs[:, None] if draw.ndim == 3 else signs)


def ways(wiring: str, forward: Any) -> list[Any]:
    """Of every feedback matrix, the product of the forward weights up to the layer it hears.

    None past a convolution, which is no matrix.
    """

    def way(i: int, above: int) -> Any:
        passed = forward[i:above]
        if wiring == "direct" and any(w.ndim == 4 for w in passed):
            return None
        return reduce(lambda below, w: w @ below, passed)

    return [way(*ends) for ends in WIRINGS[wiring](len(forward))]
