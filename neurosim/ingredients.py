"""What a protocol names, made in NumPy before any level computes: data, weights, neurons."""

import dataclasses
import os
import warnings
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from neurosim import circuitry
from neurosim.archives import read_arrays
from neurosim.circuits.description import Circuit
from neurosim.credit import named
from neurosim.errors import InputError, NeurosimWarning, arrived, either, unknown
from neurosim.initialisers import (
    circuit_weights,
    feedback_weights,
    forward_weights,
    weights_from_arrays,
)
from neurosim.levels.spiking.neurons import Neurons
from neurosim.seeds import host_stream
from neurosim.spec import ModelSpec, ProtocolSpec
from neurosim.tasks import TASKS
from neurosim.tasks.data import Data
from neurosim.tasks.student_teacher import near_teacher
from neurosim.weight_files import refuse_others, weights_of
from neurosim.wirings import WIRINGS

CONDITIONING = 0.4
"""σ_min σ_max that a student near its teacher must exceed, as the teacher does [T 5.1.3]."""


class Drawn(NamedTuple):
    """Of one seed of a layered network; `neurosim.network.Weights` says what the letters are."""

    W: list[np.ndarray]
    b: list[np.ndarray]
    Q: list[np.ndarray]


def task(protocol: ProtocolSpec, folder: Path) -> Any:
    """The task of a protocol; relative paths are meant from `folder`.

    Raises:
        InputError: an unknown task or parameter, or a value the task refuses.
    """
    given = protocol.task
    if not isinstance(given, dict):
        return given
    parameters = dict(given)
    if "name" not in parameters:
        raise InputError(f"name is missing; expected {either(TASKS)}")
    name = parameters.pop("name")
    if not isinstance(name, str) or name not in TASKS:
        word = name if isinstance(name, str) else arrived(name)
        raise InputError(f"name: {unknown('task', word, TASKS)}")
    kind = TASKS[name]
    allowed = {f.name: f for f in dataclasses.fields(kind) if f.init}
    wrong = [f"{name}: {k}: {unknown('key', k, allowed)}" for k in parameters if k not in allowed]
    for key, field in allowed.items():
        if field.default is dataclasses.MISSING and key not in parameters:
            wrong.append(f"{name}: {key} is missing")
    if wrong:
        raise InputError(wrong)
    if "path" in parameters:
        parameters["path"] = located(folder, parameters["path"])
    return kind(**parameters)


def located(folder: Path, name: Any) -> Path:
    """A file named in a protocol, meant from the protocol's folder."""
    return folder / os.path.expanduser(str(name))


def weights(
    model: ModelSpec, seed: int, data: Data, folder: Path
) -> Drawn | dict[str, list[np.ndarray]]:
    """The initial weights of one seed, in float64; of a circuit by projection."""
    if model.circuit:
        return _of_circuit(model, seed, folder)
    sizes = tuple(model.layers)
    rng = host_stream(seed, "weights")
    shapes = [(n, below) for below, n in pairwise(sizes)]
    b = [np.zeros(n) for n in sizes[1:]] if model.bias else []
    spec = model.weights
    match spec.init:
        case "file":
            where = str(located(folder, spec.file))
            arrays = weights_of(str(spec.file), folder, seed)
            _refuse_unused(model, arrays, where)
            W = weights_from_arrays(arrays, "W", shapes, where)
            if any(name.startswith("b") for name in arrays):
                b = weights_from_arrays(arrays, "b", [(n,) for n in sizes[1:]], where)
        case "near-teacher":
            if data.teacher is None:
                raise InputError(
                    "weights.init: 'near-teacher' needs a task with a teacher "
                    "network, such as student-teacher"
                )
            teacher = [w.shape[1] for w in data.teacher] + [data.teacher[-1].shape[0]]
            if list(sizes) != teacher:
                raise InputError(
                    f"weights.init: 'near-teacher' needs a student of the teacher's layers; "
                    f"it has {list(sizes)}, the teacher {teacher}; use another initialiser"
                )
            W = list(near_teacher(data.teacher, spec.distance, CONDITIONING, rng))
        case kind:
            W = forward_weights(kind, sizes, spec.gain, rng)
    rng = host_stream(seed, "feedback")
    feedback, wiring = model.feedback, named(model.credit).wiring
    wires = WIRINGS[wiring](model.depth)
    if wires and feedback.init == "file":
        file = feedback.file or spec.file
        shapes = [(sizes[i], sizes[above]) for i, above in wires]
        arrays = weights_of(str(file), folder, seed)
        Q = weights_from_arrays(arrays, "Q", shapes, str(located(folder, file)), wires[0][0])
    else:
        Q = feedback_weights(feedback.init, W, feedback.gain, rng, wiring)
    return Drawn(W, b, Q)


STREAMS = {"W": "weights", "Q": "feedback"}
"""The random streams of projections that layered models have too; others have their own names."""


def _of_circuit(model: ModelSpec, seed: int, folder: Path) -> dict[str, list[np.ndarray]]:
    def stream(name: str) -> np.random.Generator:
        return host_stream(seed, STREAMS.get(name, name))

    def read(name: str) -> dict[str, np.ndarray]:
        return weights_of(model.projections[name].file or "", folder, seed)

    begins = {
        name: (circuitry.begins(model, name), projection.gain)
        for name, projection in model.projections.items()
    }
    made = circuitry.circuit(model)
    found = circuit_weights(made, begins, circuitry.parameters(model), stream, read)
    return found | _values(model, made, seed, folder)


def _values(
    model: ModelSpec, made: Circuit, seed: int, folder: Path
) -> dict[str, list[np.ndarray]]:
    """The parameters that cells have their own values of, as `population.name`."""
    found = {}
    for key, groups in made.values.items():
        population, _, name = key.partition(".")
        parameter = made.parameter(population, name)
        assert parameter is not None, "only parameters vary"
        spread = circuitry.spreads(model)[parameter]
        if spread.file is not None:
            path = located(folder, spread.file)
            arrays = read_arrays(path)
            places = {
                group: weights_from_arrays(
                    arrays, population, [(made.size(group),)], str(path), group.layer
                )[0]
                for group in groups
            }
            found[key] = [places[group] for group in groups]
            continue
        rng, mean = host_stream(seed, f"parameter {key}"), spread.mean or 0.0
        found[key] = [_drawn(rng, mean, spread.spread, made.size(group)) for group in groups]
    return found


def _drawn(rng: np.random.Generator, mean: float, spread: float, count: int) -> np.ndarray:
    """Gaussian numbers of the sign of their mean."""
    values = mean + spread * rng.standard_normal(count)
    while mean and (wrong := values * mean <= 0).any():
        values[wrong] = mean + spread * rng.standard_normal(int(wrong.sum()))
    return values


def _refuse_unused(model: ModelSpec, arrays: dict[str, np.ndarray], where: str) -> None:
    """Nothing that a file of weights holds is dropped in silence."""
    layers = range(1, model.depth + 1)
    feedback = [name for name in arrays if name.startswith("Q")]
    own = [f"W{i}" for i in layers] + [f"b{i}" for i in layers if model.bias]
    refuse_others(arrays, [*own, *feedback], where)
    wiring, init = named(model.credit).wiring, model.feedback.init
    if feedback and wiring != "none" and init != "file" and model.feedback.rule != "tied":
        warnings.warn(
            f"{where}: {', '.join(feedback)} not used, as model.feedback.init is {init!r}; "
            "'file' takes them over",
            NeurosimWarning,
            stacklevel=2,
        )


def neurons(protocol: ProtocolSpec) -> Neurons:
    """The neurons behind every unit at the spiking level."""
    given = protocol.model.spiking
    fields = given.model_dump(exclude={"soma", "neurons", "tau_synapse", "leak"})
    kind = "bursting" if protocol.model.bursting else given.soma
    return Neurons(kind=kind, count=given.neurons, dt=protocol.spiking.dt, **fields)
