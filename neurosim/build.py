"""From descriptions to things that run: network, dynamics, weights, data and engines."""

import dataclasses
import os
from itertools import pairwise
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from neurosim.activations import ACTIVATIONS, Activation, Elementwise, LeakyReLU
from neurosim.archives import read_arrays
from neurosim.credit import named
from neurosim.dynamics import DYNAMICS, Dynamics
from neurosim.engine import Engine
from neurosim.errors import InputError, arrived, either, unknown
from neurosim.levels.equilibrium import Equilibrium
from neurosim.levels.rate import Rate
from neurosim.levels.spiking.neurons import Neurons
from neurosim.losses import Loss
from neurosim.network import (
    WIRINGS,
    Network,
    Weights,
    feedback_weights,
    forward_weights,
    weights_from_arrays,
)
from neurosim.plasticity import FEEDBACK_RULES, FORWARD_RULES, FeedbackRule
from neurosim.plasticity.learning import Learning
from neurosim.plasticity.rules import apical_delta
from neurosim.seeds import host_stream
from neurosim.simulator import Phase, Simulator
from neurosim.spec import ActivationSpec, LearningRate, ModelSpec, ProtocolSpec, StageSpec
from neurosim.tasks import TASKS
from neurosim.tasks.data import Data
from neurosim.tasks.student_teacher import near_teacher

CONDITIONING = 0.4
"""σ_min σ_max that a student near its teacher must exceed, as the teacher does [T 5.1.3]."""


def activation(given: Any) -> Activation:
    """An activation from its description, from an object, or from a plain function."""
    if isinstance(given, ActivationSpec):
        return LeakyReLU(given.slope) if given.slope else ACTIVATIONS[given.name]()
    if hasattr(given, "derivative"):
        return given
    return Elementwise(given)


def network(model: ModelSpec) -> Network:
    """The fixed part of a model."""
    hidden = activation(model.activation)
    top = activation(model.output_activation)
    return Network(
        sizes=tuple(model.layers),
        activations=(*[hidden] * (model.depth - 1), top),
        form=model.feedback.form,
        loss=Loss(model.loss, model.output, model.auxiliary),
    )


def dynamics(model: ModelSpec) -> Dynamics:
    """The dynamics of a model, from its name and parameters or as given."""
    if not isinstance(model.dynamics, str):
        return model.dynamics
    kind = DYNAMICS[model.dynamics]
    fields = {f.name for f in dataclasses.fields(kind)}
    parameters = {
        name: getattr(model, name)
        for name in ("mu", "tau_soma", "tau_basal", "tau_apical")
        if name in fields
    }
    return kind(**parameters, sigma=dict(model.noise))


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


def weights(model: ModelSpec, seed: int, data: Data, folder: Path) -> Weights:
    """The initial weights of one seed, drawn in float64, in the default precision."""
    sizes = tuple(model.layers)
    rng = host_stream(seed, "weights")
    shapes = [(n, below) for below, n in pairwise(sizes)]
    b = [np.zeros(n) for n in sizes[1:]] if model.bias else []
    spec = model.weights
    match spec.init:
        case "file":
            path = located(folder, spec.file)
            arrays = read_arrays(path)
            W = weights_from_arrays(arrays, "W", shapes, str(path))
            if model.bias and "b1" in arrays:
                b = weights_from_arrays(arrays, "b", [(n,) for n in sizes[1:]], str(path))
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
        path = located(folder, feedback.file or spec.file)
        shapes = [(sizes[i], sizes[above]) for i, above in wires]
        Q = weights_from_arrays(read_arrays(path), "Q", shapes, str(path), wires[0][0])
    else:
        Q = feedback_weights(feedback.init, W, feedback.gain, rng, wiring)
    return Weights(*(tuple(map(_on_device, arrays)) for arrays in (W, b, Q)))


def stack(per_seed: list[Weights]) -> Weights:
    """The weights of several seeds with the seed as first axis."""
    return jax.tree.map(lambda *arrays: jnp.stack(arrays), *per_seed)


def _on_device(array: ArrayLike) -> jax.Array:
    return jnp.asarray(array, jnp.result_type(float))


def learning(protocol: ProtocolSpec, stage: StageSpec) -> Learning:
    """The rules and rates of a model in one stage of a protocol."""
    model = protocol.model
    forward, feedback = model.forward, model.feedback
    pace = stage.pace * (protocol.spiking.pace if protocol.level == "spiking" else 1.0)
    given = feedback.rule
    rule = FEEDBACK_RULES[given] if isinstance(given, str) else FeedbackRule(given, "given")
    credit = named(model.credit)
    matrices = len(WIRINGS[credit.wiring](model.depth))
    rounding = float(np.finfo(protocol.precision).eps)

    def rates(given: LearningRate, count: int) -> tuple[jax.Array, ...]:
        return tuple(_on_device(pace * given.of_layer(i)) for i in range(1, count + 1))

    return Learning(
        credit=credit,
        target_step=model.target_step,
        forward_rule=FORWARD_RULES[forward.rule][0]
        if isinstance(forward.rule, str)
        else forward.rule,
        forward_rates=rates(forward.rate, model.depth),
        depth_compensation=forward.depth_compensation,
        feedback_rule=apical_delta,
        probe=rule.probe,
        sees_data=rule.sees_data,
        feedback_rates=rates(feedback.rate, matrices),
        decay=feedback.decay,
        noise=feedback.noise,
        tied=feedback.init if given == "tied" else None,
        tau_memory=model.tau_memory,
        optimizers=(forward.optimizer, feedback.optimizer),
        schedule=protocol.schedule.kind,
        final=protocol.schedule.final,
        top_down=stage.order == "top-down",
        order=forward.order,
        threshold=feedback.threshold,
        refresh=feedback.refresh or rounding**0.5,
    )


def _with_synapses(moving: Dynamics, tau: float) -> Dynamics:
    """The dynamics with a time constant for every dendrite: spikes have to be smoothed."""
    prompt = [n for n in ("tau_basal", "tau_apical") if getattr(moving, n, 0.0) is None]
    return dataclasses.replace(moving, **dict.fromkeys(prompt, tau))


def level(protocol: ProtocolSpec) -> Equilibrium | Rate | None:
    """The JAX level a protocol is to be run at, with its settings; None for the spiking level."""
    if protocol.level == "spiking":
        return None
    if protocol.level == "equilibrium":
        settings = protocol.equilibrium
        return Equilibrium(settings.tolerance, settings.max_sweeps, settings.max_newton)
    rate = protocol.rate
    assert rate is not None, "checked at load"
    return Rate(rate.scheme, rate.dt, rate.adaptive, rate.rtol, rate.atol, rate.tolerance)


def engine(protocol: ProtocolSpec, stage: StageSpec, presentations: int) -> Simulator:
    """The engine of one stage, which lasts so many presentations."""
    rules = _rules(protocol, stage, presentations)
    if protocol.level != "spiking":
        return rules
    from neurosim.spiking import SpikingEngine

    leak = protocol.model.spiking.leak
    return SpikingEngine(rules, neurons(protocol), leak, protocol.spiking, protocol.batch)


def neurons(protocol: ProtocolSpec) -> Neurons:
    """The neurons behind every unit at the spiking level."""
    given = protocol.model.spiking
    fields = given.model_dump(exclude={"soma", "neurons", "tau_synapse", "leak"})
    kind = "bursting" if protocol.model.dynamics == "multiplexing" else given.soma
    return Neurons(kind=kind, count=given.neurons, dt=protocol.spiking.dt, **fields)


def _rules(protocol: ProtocolSpec, stage: StageSpec, presentations: int) -> Engine:
    phases = tuple(
        Phase(
            phase.name,
            phase.duration or 0.0,
            phase.until == "settled",
            phase.teaching,
            "forward" in phase.plastic,
            "feedback" in phase.plastic,
        )
        for phase in stage.phases
    )
    moving = dynamics(protocol.model)
    if protocol.level == "spiking":
        moving = _with_synapses(moving, protocol.model.spiking.tau_synapse)
    elif isinstance(protocol.model.dynamics, str):
        moving = _as_arguments(moving)
    return Engine(
        dynamics=moving,
        network=network(protocol.model),
        level=_as_arguments(level(protocol)),
        phases=phases,
        learning=_as_arguments(learning(protocol, stage)),
        target_step=_on_device(protocol.model.target_step),
        online=protocol.plasticity == "online",
        presentations=_on_device(presentations),
        decompose=protocol.record.decomposition,
    )


def _as_arguments(part: Any) -> Any:
    """With arrays for numbers, so that others run the same compiled program."""
    return jax.tree.map(lambda leaf: _on_device(leaf) if isinstance(leaf, float) else leaf, part)
