"""From descriptions to things that run: network, dynamics, weights, data and engines."""

import dataclasses
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from neurosim.activations import ACTIVATIONS, Activation, Elementwise
from neurosim.credit import CREDITS
from neurosim.dynamics import DYNAMICS, Dynamics
from neurosim.engine import Engine, Phase, Plasticity
from neurosim.errors import InputError, unknown
from neurosim.levels.equilibrium import Equilibrium
from neurosim.levels.rate import Rate
from neurosim.losses import Loss
from neurosim.network import (
    Network,
    Weights,
    feedback_weights,
    forward_weights,
    weights_from_arrays,
)
from neurosim.plasticity import FEEDBACK_RULES, FORWARD_RULES, FeedbackRule
from neurosim.plasticity.rules import apical_delta
from neurosim.seeds import device_stream, host_stream
from neurosim.spec import ActivationSpec, ModelSpec, ProtocolSpec, StageSpec
from neurosim.tasks import TASKS
from neurosim.tasks.data import Data
from neurosim.tasks.student_teacher import near_teacher


def activation(given: Any) -> Activation:
    """An activation from its description, from an object, or from a plain function."""
    if isinstance(given, ActivationSpec):
        parameters = {} if given.slope is None else {"slope": given.slope}
        return ACTIVATIONS[given.name](**parameters)
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
        loss=Loss(model.loss, model.output),
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
    name = parameters.pop("name", None)
    if name not in TASKS:
        raise InputError(unknown("task", str(name), TASKS))
    kind = TASKS[name]
    allowed = {f.name for f in dataclasses.fields(kind) if f.init}
    for key in parameters:
        if key not in allowed:
            raise InputError(unknown(f"key of the {name} task", key, allowed))
    if "path" in parameters:
        parameters["path"] = folder / str(parameters["path"])
    try:
        return kind(**parameters)
    except TypeError as problem:
        raise InputError(f"the {name} task: {problem}") from None


def load_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz file of weights; nothing in it is executed."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except Exception as problem:
        raise InputError(f"{path}: not an .npz file of plain arrays ({problem})") from None


def weights(model: ModelSpec, seed: int, data: Data, folder: Path) -> Weights:
    """The initial weights of one seed, as float64 numpy arrays."""
    sizes = tuple(model.layers)
    rng = host_stream(seed, "weights")
    shapes = list(zip(sizes[1:], sizes[:-1], strict=True))
    b = [np.zeros(n) for n in sizes[1:]] if model.bias else []
    spec = model.weights
    match spec.init:
        case "file":
            path = folder / str(spec.file)
            arrays = load_arrays(path)
            W = weights_from_arrays(arrays, "W", shapes, str(path))
            if model.bias and "b1" in arrays:
                b = weights_from_arrays(arrays, "b", [(n,) for n in sizes[1:]], str(path))
        case "near-teacher":
            if data.teacher is None:
                raise InputError(
                    "model.weights.init: 'near-teacher' needs a task with a teacher "
                    "network, such as student-teacher"
                )
            W = list(near_teacher(data.teacher, spec.distance, rng=rng))
        case kind:
            W = forward_weights(kind, sizes, spec.gain, rng)
    rng = host_stream(seed, "feedback")
    feedback = model.feedback
    if model.credit == "backprop":
        Q: list[np.ndarray] = []
    elif feedback.init == "file":
        path = folder / str(feedback.file or spec.file)
        shapes = list(zip(sizes[1:-1], sizes[2:], strict=True))
        Q = weights_from_arrays(load_arrays(path), "Q", shapes, str(path))
    else:
        Q = feedback_weights(feedback.init, W, feedback.gain, rng)
    return Weights(tuple(W), tuple(b), tuple(Q))


def stack(per_seed: list[Weights]) -> Weights:
    """The weights of several seeds with the seed as first axis, in the default precision."""

    def one(*arrays):
        return jnp.asarray(np.stack(arrays), dtype=jnp.result_type(float))

    columns = zip(*per_seed_leaves(per_seed), strict=True)
    leaves = [one(*column) for column in columns]
    shape = per_seed[0]
    n_w, n_b = len(shape.W), len(shape.b)
    return Weights(
        tuple(leaves[:n_w]), tuple(leaves[n_w : n_w + n_b]), tuple(leaves[n_w + n_b :])
    )


def per_seed_leaves(per_seed: list[Weights]) -> list[list[np.ndarray]]:
    """W, b and Q of every seed as flat lists."""
    return [[*w.W, *w.b, *w.Q] for w in per_seed]


def plasticity(protocol: ProtocolSpec, stage: StageSpec) -> Plasticity:
    """The rules of a model under one stage of a protocol."""
    model = protocol.model
    rule = model.forward.rule
    forward_rule = FORWARD_RULES[rule][0] if isinstance(rule, str) else rule
    feedback = model.feedback
    entry: FeedbackRule
    if isinstance(feedback.rule, str):
        entry = FEEDBACK_RULES[feedback.rule]
    else:
        entry = FeedbackRule(feedback.rule, "given")
    final = protocol.schedule.final
    schedules = {
        "constant": lambda p: jnp.ones_like(p),
        "linear": lambda p: 1 - (1 - final) * p,
        "exponential": lambda p: final**p,
    }
    return Plasticity(
        credit=CREDITS[model.credit],
        forward_rule=forward_rule,
        forward_rates=tuple(model.forward.rate.of_layer(i) for i in range(1, model.depth + 1)),
        depth_compensation=model.forward.depth_compensation,
        feedback_rule=apical_delta,
        probe=entry.probe,
        feedback_rates=tuple(
            feedback.rate.of_layer(i)
            for i in range(1, model.depth if model.credit != "backprop" else 1)
        ),
        decay=feedback.decay,
        noise=feedback.noise,
        tied=feedback.init if feedback.rule == "tied" else None,
        tau_memory=model.tau_memory or 0.0,
        optimizers=(model.forward.optimizer, feedback.optimizer),
        schedule=schedules[protocol.schedule.kind],
        top_down=stage.order == "top-down",
    )


def level(protocol: ProtocolSpec) -> Equilibrium | Rate:
    """The level a protocol is to be run at, with its settings."""
    if protocol.level == "equilibrium":
        settings = protocol.equilibrium
        return Equilibrium(settings.tolerance, settings.max_sweeps, settings.max_newton)
    rate = protocol.rate
    assert rate is not None, "checked at load"
    return Rate(rate.scheme, rate.dt, rate.adaptive, rate.rtol, rate.atol, rate.tolerance)


def engine(protocol: ProtocolSpec, stage: StageSpec, presentations: int) -> Engine:
    """The engine of one stage, which lasts so many presentations."""
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
    return Engine(
        dynamics=dynamics(protocol.model),
        network=network(protocol.model),
        level=level(protocol),
        phases=phases,
        plasticity=plasticity(protocol, stage),
        target_step=protocol.model.target_step,
        online=protocol.plasticity == "online",
        presentations=presentations,
        noise_key=device_stream(protocol.seed, "test-noise"),
    )
