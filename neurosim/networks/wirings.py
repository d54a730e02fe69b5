"""What feedback weights connect, and which of them follow the forward weights."""

from collections.abc import Callable

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
