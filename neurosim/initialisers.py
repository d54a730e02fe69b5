"""The weights that a network starts from, drawn by NumPy in float64."""

from collections.abc import Mapping, Sequence
from functools import reduce
from itertools import pairwise

import numpy as np

from neurosim.errors import InputError
from neurosim.wirings import WIRINGS


def forward_weights(
    kind: str, sizes: tuple[int, ...], gain: float, rng: np.random.Generator
) -> list[np.ndarray]:
    """Random W_1 … W_L in float64.

    `lecun`: Gaussian of variance gain²/n_{i-1}; `xavier`: of variance 2 gain²/(n_i + n_{i-1});
    `orthogonal`: gain times a matrix with orthonormal rows or columns.
    """
    weights = []
    for n_in, n_out in pairwise(sizes):
        draw = rng.standard_normal((n_out, n_in))
        match kind:
            case "lecun":
                w = draw / np.sqrt(n_in)
            case "xavier":
                w = draw * np.sqrt(2 / (n_in + n_out))
            case "orthogonal":
                u, _, vt = np.linalg.svd(draw, full_matrices=False)
                w = u @ vt
            case _:
                raise ValueError(f"no forward initialiser {kind!r}")
        weights.append(gain * w)
    return weights


def feedback_weights(
    kind: str,
    forward: list[np.ndarray],
    gain: float,
    rng: np.random.Generator,
    wiring: str = "layers",
) -> list[np.ndarray]:
    """The feedback weights of a wiring for given W_1 … W_L, in float64.

    `exact-inverse` W_{i+1}⁻¹, `pseudo-inverse` W_{i+1}^†, `transpose` W_{i+1}^T, of the product of
    the weights in between where there are several; `random`: Gaussian of variance gain²/n, n the
    size of the layer above.
    """
    feedback = []
    for i, above in WIRINGS[wiring](len(forward)):
        w = reduce(lambda below, w: w @ below, forward[i:above])
        n_above, n = w.shape
        match kind:
            case "exact-inverse":
                q = np.linalg.inv(w)
            case "pseudo-inverse":
                q = np.linalg.pinv(w)
            case "transpose":
                q = w.T
            case "random":
                q = gain * rng.standard_normal((n, n_above)) / np.sqrt(n_above)
            case _:
                raise ValueError(f"no feedback initialiser {kind!r}")
        feedback.append(q)
    return feedback


def weights_from_arrays(
    arrays: Mapping[str, np.ndarray],
    letter: str,
    shapes: Sequence[tuple[int, ...]],
    where: str,
    first: int = 1,
) -> list[np.ndarray]:
    """The arrays `letter`1, `letter`2, … of a weights file, each of the shape the network needs.

    first: the number that they begin with.
    """
    problems, found = [], []
    for k, shape in enumerate(shapes, start=first):
        name = f"{letter}{k}"
        if name not in arrays:
            problems.append(f"{where}: array {name!r} is missing; it holds {sorted(arrays)}")
        elif arrays[name].shape != shape:
            problems.append(f"{where}: {name} has shape {arrays[name].shape}; expected {shape}")
        elif not np.all(np.isfinite(arrays[name])):
            problems.append(f"{where}: {name} holds numbers that are not finite")
        else:
            found.append(np.asarray(arrays[name], dtype=np.float64))
    if problems:
        raise InputError(problems)
    return found
