"""What a protocol names, made in NumPy before any level computes: data, weights, neurons."""

import dataclasses
import os
import re
import warnings
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from neurosim.building.shipped import find
from neurosim.circuits.description import Circuit
from neurosim.circuits.lone_cells import LoneCell, lone
from neurosim.circuits.populations import Projection
from neurosim.credit import named
from neurosim.errors import InputError, NeurosimWarning, arrived, either, unknown
from neurosim.levels.spiking.neurons import PYRAMIDAL, Neurons
from neurosim.models import circuitry, parameters
from neurosim.models.initialisers import (
    circuit_weights,
    feedback_weights,
    shapes,
    weights_from_arrays,
    weights_named,
)
from neurosim.seeds import gaussian, host_stream
from neurosim.specs import CellModelSpec, ModelSpec, ProtocolSpec
from neurosim.specs.toml import read
from neurosim.tasks import TASKS
from neurosim.tasks.data import Data
from neurosim.tasks.student_teacher import near_teacher
from neurosim.traces.weight_files import refuse_others, weights_of

CONDITIONING = 0.4
"""σ_min σ_max that a student near its teacher must exceed, as the teacher does [T 5.1.3]."""


def task(protocol: ProtocolSpec, folder: Path) -> Any:
    """The task of a protocol; relative paths are meant from `folder`.

    Raises:
        InputError: an unknown task or parameter, or a value the task refuses.
    """
    given = protocol.task
    if not isinstance(given, dict):
        return given
    keys = dict(given)
    if "name" not in keys:
        raise InputError(f"name is missing; expected {either(TASKS)}")
    name = keys.pop("name")
    if not isinstance(name, str) or name not in TASKS:
        word = name if isinstance(name, str) else arrived(name)
        raise InputError(f"name: {unknown('task', word, TASKS)}")
    kind = TASKS[name]
    allowed = {f.name: f for f in dataclasses.fields(kind) if f.init}
    wrong = [f"{name}: {k}: {unknown('key', k, allowed)}" for k in keys if k not in allowed]
    needed = [key for key, field in allowed.items() if field.default is dataclasses.MISSING]
    missing = [f"{name}: {key} is missing" for key in needed if key not in keys]
    if missing:
        raise InputError(wrong + missing)
    for key in ("path", "test_path"):
        if key in keys:
            keys[key] = located(folder, keys[key])
    known = {key: value for key, value in keys.items() if key in allowed}
    made = None
    while made is None:  # it refuses one at a time; the default then stands for what was refused
        try:
            made = kind(**known)
        except InputError as error:
            wrong += error.messages
            key = re.split(r"\W", error.messages[0].removeprefix(f"{name}: "))[0]
            if key in needed or key not in known:
                break
            del known[key]
    if wrong:
        raise InputError(wrong)
    return made


def located(folder: Path, name: Any) -> Path:
    """A file named in a protocol, meant from the protocol's folder."""
    return folder / os.path.expanduser(str(name))


def weights(
    model: ModelSpec, seed: int, data: Data | None, folder: Path
) -> dict[str, list[np.ndarray]]:
    """The initial weights of one seed by projection, in float64.

    With those of a credit's channel, biases `b`, and parameters that every cell has its own of.
    """

    def stream(name: str) -> np.random.Generator:
        return host_stream(seed, STREAMS.get(name, name))

    made = circuitry.circuit(model)
    begins = {
        name: (circuitry.begins(model, name), projection.gain)
        for name, projection in model.projections.items()
    }
    given = from_files(model, seed, folder)
    for name, (kind, _) in begins.items():
        if kind == "near-teacher":
            given[name] = _near_teacher(model, made, name, data, stream(name))
    found = circuit_weights(made, begins, parameters.values(model), stream, given)
    if circuitry.channel(model):
        channel = _channel(model, found["W"], stream(circuitry.CHANNEL), seed, folder)
        found[circuitry.CHANNEL] = channel
    return found | _values(model, made, seed, folder)


def _channel(
    model: ModelSpec, W: list[np.ndarray], rng: np.random.Generator, seed: int, folder: Path
) -> list[np.ndarray]:
    """The weights of the channel of a credit."""
    credit, wires = model.credit, circuitry.channel(model)
    assert credit is not None, "only credits have channels"
    if credit.init != "file":
        law = credit.sparse, credit.signs == "congruent", circuitry.served(model)
        where = named(credit).wiring
        return feedback_weights(credit.init, W, credit.gain, rng, where, *law, sizes=model.layers)
    file = credit.file or model.projections["W"].file
    wanted = {
        f"{circuitry.CHANNEL}{i}": shape
        for (i, _), shape in zip(wires, circuitry.channel_shapes(model), strict=True)
    }
    where = str(located(folder, file))
    arrays = weights_of(str(file), folder, seed, _names(model, str(file)))
    return weights_named(arrays, wanted, where)


STREAMS = {"W": "weights", "Q": "feedback"}
"""The random streams of projections that have another name than they; of others it is theirs."""


def from_files(model: ModelSpec, seed: int, folder: Path) -> dict[str, list[np.ndarray]]:
    """The weights of projections that start from files, and biases where such a file has some.

    Raises:
        InputError: files that cannot be read, or hold something else.
    """
    made = circuitry.circuit(model)
    found: dict[str, list[np.ndarray]] = {}
    for name, file in circuitry.files(model).items():
        if name not in made.projection:  # it connects nothing in a network of one layer
            continue
        names = _names(model, file, model.projections[name].names)
        where, arrays = str(located(folder, file)), weights_of(file, folder, seed, names)
        _refuse_unused(model, made, arrays, where)
        found[name] = _taken(made, made.projection[name], name, arrays, where)
        biased = made.biased is not None and made.biased.name == name
        if biased and any(re.fullmatch(r"b\d+", array) for array in arrays):
            found["b"] = _taken(made, made.projection[name], "b", arrays, where)
    return found


def _names(model: ModelSpec, file: str, own: Mapping[str, str] | None = None) -> Mapping[str, str]:
    """What arrays are called in a file, by our names: as is said of it, or of W for the same."""
    common = model.projections.get("W")
    return own or (common.names if common is not None and common.file == file else {})


def _taken(
    made: Circuit, projection: Projection, letter: str, arrays: dict[str, np.ndarray], where: str
) -> list[np.ndarray]:
    """The weights of a projection, or its biases, of a file that has all of them."""
    of = shapes(made, projection)
    if letter == "b":
        of = [(made.biases(s),) for s in projection.synapses]
    numbers = [s.post.layer if letter == "b" else s.number for s in projection.synapses]
    wanted = {f"{letter}{number}": shape for number, shape in zip(numbers, of, strict=True)}
    return weights_named(arrays, wanted, where)


def _refuse_unused(
    model: ModelSpec, made: Circuit, arrays: dict[str, np.ndarray], where: str
) -> None:
    """Nothing that a file of weights holds is dropped in silence."""
    wires = circuitry.channel(model)
    of = {p.name: [f"{p.name}{s.number}" for s in p.synapses] for p in made.projections}
    of |= {circuitry.CHANNEL: [f"{circuitry.CHANNEL}{i}" for i, _ in wires]} if wires else {}
    biases = [] if made.biased is None else [f"b{s.post.layer}" for s in made.biased.synapses]
    varied = [f"{key}{group.layer}" for key, groups in made.values.items() for group in groups]
    refuse_others(arrays, [*(n for names in of.values() for n in names), *biases, *varied], where)
    for name, names in of.items():
        dropped = [array for array in names if array in arrays]
        given: Any = model.projections.get(name, model.credit)
        key = f"projections.{name}" if name in model.projections else "credit"
        if dropped and given.init != "file" and given.rule != "tied":
            warnings.warn(
                f"{where}: {', '.join(dropped)} not used, as model.{key}.init is "
                f"{given.init or circuitry.begins(model, name)!r}; 'file' takes them over",
                NeurosimWarning,
                stacklevel=2,
            )


def _near_teacher(
    model: ModelSpec, made: Circuit, name: str, data: Data | None, rng: np.random.Generator
) -> list[np.ndarray]:
    """Weights of a projection at a distance from those of the task's teacher [T 5.1.3]."""
    where = f"projections.{name}.init: 'near-teacher' needs"
    if data is None or data.teacher is None:
        raise InputError(f"{where} a task with a teacher network, such as student-teacher")
    expected = [w.shape for w in data.teacher]
    if shapes(made, made.projection[name]) != expected:
        teacher = [w.shape[1] for w in data.teacher] + [data.teacher[-1].shape[0]]
        raise InputError(
            f"{where} a student of the teacher's layers; it has {list(model.layers)}, the teacher "
            f"{teacher}; use another initialiser"
        )
    distance = model.projections[name].distance
    return list(near_teacher(data.teacher, distance, CONDITIONING, rng))


def _values(
    model: ModelSpec, made: Circuit, seed: int, folder: Path
) -> dict[str, list[np.ndarray]]:
    """The parameters that cells have their own values of, as `population.name`."""
    found = {}
    for key, groups in made.values.items():
        population, _, name = key.partition(".")
        parameter = made.parameter(population, name)
        assert parameter is not None, "only parameters vary"
        spread = parameters.spreads(model)[parameter]
        if spread.file is not None:
            where, arrays = str(located(folder, spread.file)), weights_of(spread.file, folder, seed)
            # Traces have several parameters, and say in their names which is which.
            letter = key if f"{key}{groups[0].layer}" in arrays else population
            places = {
                group: weights_from_arrays(
                    arrays, letter, [(made.size(group),)], where, group.layer
                )[0]
                for group in groups
            }
            found[key] = [places[group] for group in groups]
            continue
        rng, mean = host_stream(seed, f"parameter {key}"), spread.mean or 0.0
        found[key] = [gaussian(rng, mean, spread.spread, made.size(group)) for group in groups]
    return found


def neurons(protocol: ProtocolSpec) -> Neurons:
    """The neurons behind every unit at the spiking level."""
    given = protocol.model.spiking
    fields = given.model_dump(exclude={"soma", "neurons", "tau_synapse"})
    bursting = protocol.model.bursting and given.soma != PYRAMIDAL
    kind = "bursting" if bursting else given.soma
    cell = _shipped_cell(kind) if kind == PYRAMIDAL else None
    return Neurons(kind=kind, count=given.neurons, dt=protocol.spiking.dt, cell=cell, **fields)


@cache
def _shipped_cell(name: str) -> LoneCell:
    """A neuron that ships, as a protocol of it would have it."""
    given = CellModelSpec.model_validate(read(find("neurons", name)).data)
    cell = lone(given, {}, lambda key, message: None)
    assert cell is not None, "shipped neurons are sound"
    return cell
