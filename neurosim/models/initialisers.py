"""The weights that a network starts from, drawn by NumPy in float64."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from neurosim.circuits.description import Circuit
from neurosim.circuits.expressions import ELEMENTARY, nernst
from neurosim.circuits.populations import Projection
from neurosim.circuits.starts import DRAWS, RANDOM, in_order, start
from neurosim.errors import InputError
from neurosim.networks.wirings import WIRINGS, random_channel, transposed, ways


def drawn(kind: str, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """One random matrix (post, pre), vector where one reaches one, or kernel, of gain 1.

    `lecun`, `normal`: Gaussian of variance 1/n_pre; `xavier`: of variance 2/(n_post + n_pre);
    `orthogonal`: orthonormal rows or columns; `uniform`: within ± 1; `rand`: within 0 and 1.
    Of a kernel (maps, maps below, rows, columns) n_pre are all that one unit hears, n_post all that
    hear one, and a row holds what a unit hears.
    """
    n_out, n_in = shape[:2] if len(shape) > 1 else (*shape, 1)
    n_out, n_in = (n * math.prod(shape[2:]) for n in (n_out, n_in))
    if kind == "rand":
        return rng.random(shape)
    if kind == "uniform":
        return rng.uniform(-1, 1, shape)
    draw = rng.standard_normal(shape)
    match kind:
        case "lecun" | "normal":
            return draw / np.sqrt(n_in)
        case "xavier":
            return draw * np.sqrt(2 / (n_in + n_out))
        case "orthogonal":
            rows = draw.reshape(shape[0], -1)
            u, _, vt = np.linalg.svd(rows, full_matrices=False)
            return (u @ vt).reshape(shape)
        case _:
            raise ValueError(f"no draw {kind!r}")


def identity(shape: tuple[int, ...]) -> np.ndarray:
    """What sends every unit on as it is, as far as there are as many."""
    if len(shape) == 1:
        return np.ones(shape)
    found = np.zeros(shape)
    same = np.arange(min(shape[:2]))
    if len(shape) == 2:
        found[same, same] = 1
    else:
        found[same, same, (shape[2] - 1) // 2, (shape[3] - 1) // 2] = 1
    return found


def _exprel(x: Any) -> Any:
    from scipy.special import exprel

    return exprel(x)


MATRICES: dict[str, Callable[..., Any]] = {
    "pinv": np.linalg.pinv,
    "inv": np.linalg.inv,
    "transpose": np.transpose,
    "dot": np.matmul,
    **{name: getattr(np, name) for name in ELEMENTARY if hasattr(np, name)},
    "exprel": _exprel,
    "int": lambda condition: condition * 1.0,
    "nernst": nernst(np.log),
}
"""What an expression for a start may call."""


def circuit_weights(
    circuit: Circuit,
    starts: Mapping[str, tuple[str, float]],
    parameters: Mapping[str, float],
    streams: Callable[[str], np.random.Generator],
    given: Mapping[str, list[np.ndarray]],
) -> dict[str, list[np.ndarray]]:
    """The weights of every projection of a circuit that has some, and its biases `b`, in float64.

    starts: of every projection, where its weights start, and their gain. streams: the random
    stream of a projection. given: those that are there before any is drawn; biases if they are.

    Raises:
        InputError: a start does not give the shape that the projection has, or no finite numbers.
    """
    found: dict[str, list[np.ndarray]] = {}
    weighed = [p.name for p in circuit.projections if p.weighed]
    for name in in_order({name: starts[name][0] for name in weighed}):
        found[name] = given.get(name) or _started(
            circuit, circuit.projection[name], starts[name], parameters, streams, found
        )
    if circuit.biased is not None:
        zeros = [np.zeros(circuit.biases(s)) for s in circuit.biased.synapses]
        found["b"] = given.get("b", zeros)
    return found


def shapes(circuit: Circuit, projection: Projection) -> list[tuple[int, ...]]:
    """Of the weights of a projection: (post-synaptic, pre-synaptic) units, one each, or kernels."""
    return [circuit.weights(s) for s in projection.synapses]


def _started(
    circuit: Circuit,
    projection: Projection,
    begins: tuple[str, float],
    parameters: Mapping[str, float],
    streams: Callable[[str], np.random.Generator],
    found: Mapping[str, list[np.ndarray]],
) -> list[np.ndarray]:
    """The weights of one projection."""
    kind, gain = begins
    of, where = shapes(circuit, projection), f"projections.{projection.name}"
    if kind == "identity":  # one to one, every weight is one of the diagonal
        return [gain * identity(shape) for shape in of]
    if kind in ("zeros", "ones"):
        return [np.full(shape, gain if kind == "ones" else 0.0) for shape in of]
    rng = streams(projection.name)
    if kind in DRAWS:
        return [gain * drawn(kind, shape, rng) for shape in of]
    begin, weights = start(kind), []
    for number, shape in zip([s.number for s in projection.synapses], of, strict=True):
        given = dict(parameters) | {"L": circuit.depth}
        functions = MATRICES | {name: partial(drawn, name, shape, rng) for name in RANDOM}
        try:
            array = np.asarray(begin.value(circuit, number, found, given, functions), float) * gain
        except (ValueError, np.linalg.LinAlgError) as error:
            hint = ""
            if isinstance(error, np.linalg.LinAlgError):
                hint = (
                    "; it has no inverse: expected weights that have one, such as init = "
                    "'orthogonal' of layers of equal size, or pinv(...)"
                )
            raise InputError(f"{where}.init: {kind!r} in layer {number}: {error}{hint}") from None
        if array.ndim == 0:
            array = np.full(shape, float(array))
        if array.shape != shape:
            raise InputError(
                f"{where}.init: {kind!r} has shape {array.shape} in layer {number}; expected "
                f"{shape}: "
                + ("a kernel" if len(shape) == 4 else "(post-synaptic, pre-synaptic) units")
            )
        if not np.isfinite(array).all():
            raise InputError(
                f"{where}.init: {kind!r} is not finite in layer {number}; expected finite numbers, "
                f"as of a smaller gain than {gain:g}, or of other parameters that it names"
            )
        weights.append(array)
    return weights


def feedback_weights(
    kind: str,
    forward: list[np.ndarray],
    gain: float,
    rng: np.random.Generator,
    wiring: str = "layers",
    sparse: float | None = None,
    congruent: bool = False,
    each: Sequence[int] | None = None,
    sizes: Sequence[int] | None = None,
) -> list[np.ndarray]:
    """The feedback weights of a wiring for given W_1 … W_L, in float64.

    `exact-inverse` W_{i+1}⁻¹, `pseudo-inverse` W_{i+1}^†, `transpose` W_{i+1}^T, of the product of
    the weights in between where there are several; `random` and `xavier` as
    `neurosim.networks.wirings.random_channel` has them. each: of every layer, how many weights of a
    neuron have a channel of their own. sizes: n_0 … n_L, where some of W are kernels.
    """
    feedback = []
    sizes = sizes or [forward[0].shape[1], *(len(w) for w in forward)]
    ends = WIRINGS[wiring](len(forward))
    for k, (way, (i, above)) in enumerate(zip(ways(wiring, forward), ends, strict=True)):
        n, n_above = sizes[i], sizes[above]
        match kind:
            case "exact-inverse":
                q = np.linalg.inv(way)
            case "pseudo-inverse":
                q = np.linalg.pinv(way)
            case "transpose":
                q = transposed(way)
            case "random" | "xavier":
                shape = (n, n_above) if each is None else (n, each[k], n_above)
                shape = shape if way is None or way.ndim == 2 else way.shape
                draw = rng.standard_normal(shape) if sparse is None else rng.random(shape)
                q = random_channel(kind, draw, way, gain, sparse, congruent)
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
    wanted = {f"{letter}{k}": shape for k, shape in enumerate(shapes, start=first)}
    return weights_named(arrays, wanted, where)


def weights_named(
    arrays: Mapping[str, np.ndarray], wanted: Mapping[str, tuple[int, ...]], where: str
) -> list[np.ndarray]:
    """The wanted arrays of a weights file, each of its shape, in float64.

    Raises:
        InputError: one is missing, of another shape, or not finite.
    """
    problems, found = [], []
    for name, shape in wanted.items():
        if name not in arrays:
            problems.append(f"{where}: array {name!r} is missing; it holds {sorted(arrays)}")
        elif arrays[name].shape != shape:
            hint = ""
            if len(shape) == 2 and arrays[name].shape == shape[::-1]:
                hint = ", a row for every cell that is reached; it may be transposed"
            problems.append(
                f"{where}: {name} has shape {arrays[name].shape}; expected {shape}{hint}"
            )
        elif not np.all(np.isfinite(arrays[name])):
            problems.append(f"{where}: {name} holds numbers that are not finite")
        else:
            found.append(np.asarray(arrays[name], dtype=np.float64))
    if problems:
        raise InputError(problems)
    return found
