"""What feedback weights connect, and which of them follow the forward weights."""

from collections.abc import Callable
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


TIES: dict[str, Callable] = {
    "exact-inverse": Deferred("neurosim.functions.inverses:inverse"),
    "pseudo-inverse": Deferred("neurosim.functions.inverses:pseudo_inverse"),
    "transpose": Deferred("jax.numpy:transpose"),
}
"""Feedback matrices that are functions of the forward ones: Q_i = tie(W_{i+1})."""


def random_channel(
    kind: str, draw: Any, path: Any, gain: Any, sparse: Any = None, congruent: bool = False
) -> Any:
    """A random matrix of the learning channel, of NumPy or of JAX.

    `random`: Gaussian of variance gain²/n_above; `xavier`: of 2 gain²/(n + n_above). sparse: gain
    with probability sparse/n, so many in each column on average, and 0 elsewhere [Baldi, Sadowski &
    Lu 2018, figure 3]. congruent: with the signs of the transposed way up.

    Args:
        draw: standard normal numbers, or uniform ones in [0, 1) where it is sparse; of shape
            (n, n_above), or (n, weights of a neuron, n_above).
        path: the forward weights from the layer to the one it hears, (n_above, n).
    """
    n, n_above = draw.shape[0], draw.shape[-1]
    if sparse is not None:
        found = gain * (draw < sparse / n)
    else:
        found = gain * draw * (1 / n_above if kind == "random" else 2 / (n + n_above)) ** 0.5
    if not congruent:
        return found
    signs = (path.T > 0) * 1.0 - (path.T < 0)
    return abs(found) * (signs if draw.ndim == 2 else signs[:, None])


def ways(wiring: str, forward: Any) -> list[Any]:
    """Of every feedback matrix, the product of the forward weights up to the layer it hears."""
    return [
        reduce(lambda below, w: w @ below, forward[i:above])
        for i, above in WIRINGS[wiring](len(forward))
    ]
