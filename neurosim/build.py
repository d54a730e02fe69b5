"""From descriptions to things that run: network, dynamics, weights and engines."""

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from neurosim import circuitry, ingredients
from neurosim.activations import ACTIVATIONS, Activation, Elementwise, LeakyReLU
from neurosim.circuits.expressions import parse
from neurosim.circuits.starts import in_order, start
from neurosim.credit import named
from neurosim.dynamics import DYNAMICS
from neurosim.dynamics.base import Dynamics
from neurosim.dynamics.circuit import CircuitDynamics
from neurosim.engine import Engine
from neurosim.initialisers import MATRICES
from neurosim.levels.equilibrium import Equilibrium
from neurosim.levels.rate import Rate
from neurosim.levels.schemes import TOLERANCES
from neurosim.losses import Loss
from neurosim.network import Network, Weights
from neurosim.plasticity import FEEDBACK_RULES, FORWARD_RULES, FeedbackRule
from neurosim.plasticity.learning import Learning
from neurosim.plasticity.local import LocalLearning, looked_at
from neurosim.plasticity.rules import apical_delta
from neurosim.simulator import Phase, Simulator
from neurosim.spec import (
    ActivationSpec,
    LearningRate,
    ModelSpec,
    ProtocolSpec,
    RateLaw,
    StageSpec,
)
from neurosim.tasks.data import Data
from neurosim.wirings import WIRINGS


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
        form=model.form if model.circuit else model.feedback.form,
        loss=Loss(model.loss, model.output, model.auxiliary),
    )


def dynamics(model: ModelSpec) -> Any:
    """The dynamics of a model, from its name and parameters or as given."""
    sigma = {name: deviation for name, deviation in model.noise.items() if deviation}
    if model.circuit:
        made = circuitry.circuit(model)
        values: dict[str, Any] = dict(circuitry.parameters(model))
        return CircuitDynamics(made, values, dict(sigma), looked_at(made))
    if not isinstance(model.dynamics, str):
        assert model.dynamics is not None, "checked at load"
        return model.dynamics
    kind = DYNAMICS[model.dynamics]
    fields = {f.name for f in dataclasses.fields(kind)}
    parameters = {
        name: getattr(model, name)
        for name in ("mu", "tau_soma", "tau_basal", "tau_apical")
        if name in fields
    }
    return kind(**parameters, sigma=sigma)


def weights(model: ModelSpec, seed: int, data: Data, folder: Path) -> Any:
    """The initial weights of one seed, drawn in float64, in the default precision."""
    return placed(ingredients.weights(model, seed, data, folder))


def placed(drawn: Any) -> Any:
    """Weights on the device, in the default precision."""
    if isinstance(drawn, dict):
        return {name: tuple(map(_on_device, arrays)) for name, arrays in drawn.items()}
    return Weights(*(tuple(map(_on_device, arrays)) for arrays in drawn))


def stack(per_seed: list[Any]) -> Any:
    """The weights of several seeds with the seed as first axis."""
    return jax.tree.map(lambda *arrays: jnp.stack(arrays), *per_seed)


def _on_device(array: ArrayLike) -> jax.Array:
    return jnp.asarray(array, jnp.result_type(float))


def learning(protocol: ProtocolSpec, stage: StageSpec) -> Learning | LocalLearning:
    """The rules and rates of a model in one stage of a protocol."""
    model = protocol.model
    if model.circuit:
        return _local(protocol, stage)
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


def _local(protocol: ProtocolSpec, stage: StageSpec) -> LocalLearning:
    """The rules of a circuit."""
    model = protocol.model
    made = circuitry.circuit(model)
    values: dict[str, Any] = dict(circuitry.parameters(model))
    pace = stage.pace * (protocol.spiking.pace if protocol.level == "spiking" else 1.0)
    weighed = {p.name: p for p in made.projections if p.weighed}
    given = {name: model.projections[name] for name in weighed}
    begins = {name: circuitry.begins(model, name) for name in weighed}

    def rates(name: str) -> tuple[jax.Array, ...]:
        rate, numbers = given[name].rate, [s.number for s in weighed[name].synapses]
        if isinstance(rate, RateLaw):
            law = parse(rate.text)
            found = [law(values | {"i": i, "L": made.depth}, MATRICES) for i in numbers]
        else:
            found = [rate.of_layer(k) for k in range(1, len(numbers) + 1)]
        return tuple(_on_device(pace * each) for each in found)

    return LocalLearning(
        circuit=made,
        parameters=values,
        rates={name: rates(name) for name in weighed},
        noise={name: each.noise for name, each in given.items()},
        tied=tuple((n, start(begins[n])) for n in in_order(begins) if given[n].rule == "tied"),
        top_down=stage.order == "top-down",
        decay={name: each.decay for name, each in given.items()},
        limits={name: each.limit for name, each in given.items() if each.limit is not None},
        optimizers={name: each.optimizer for name, each in given.items()},
        schedule=protocol.schedule.kind,
        final=protocol.schedule.final,
        tau_memory=model.tau_memory,
    )


def with_synapses(moving: Dynamics, tau: float) -> Dynamics:
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
    return clock(protocol)


def clock(protocol: ProtocolSpec) -> Rate | None:
    """What steps time at the JAX levels; None where nothing asks for it."""
    rate = protocol.rate
    if rate is None:
        return None
    rtol, atol = TOLERANCES[protocol.precision]
    return Rate(
        rate.scheme,
        rate.dt,
        rate.adaptive,
        rtol if rate.rtol is None else rate.rtol,
        atol if rate.atol is None else rate.atol,
        rate.tolerance,
    )


def engine(protocol: ProtocolSpec, stage: StageSpec, presentations: int) -> Simulator:
    """The engine of one stage, which lasts so many presentations."""
    rules = _rules(protocol, stage, presentations)
    if protocol.level != "spiking":
        return rules
    from neurosim.spiking import CircuitSpikingEngine, SpikingEngine

    if protocol.model.circuit:
        tau = protocol.model.spiking.tau_synapse
        neurons = ingredients.neurons(protocol)
        return CircuitSpikingEngine(rules, neurons, tau, protocol.spiking, protocol.batch)
    leak = protocol.model.spiking.leak
    return SpikingEngine(
        rules, ingredients.neurons(protocol), leak, protocol.spiking, protocol.batch
    )


def _rules(protocol: ProtocolSpec, stage: StageSpec, presentations: int) -> Engine:
    opened: Callable = tuple
    if protocol.model.circuit:
        opened = partial(circuitry.opened, circuitry.circuit(protocol.model))
    phases = tuple(
        Phase(
            phase.name,
            phase.duration or 0.0,
            phase.until == "settled",
            phase.teaching,
            opened(phase.plastic),
            tuple(sorted(phase.parameters.items())),
        )
        for phase in stage.phases
    )
    moving = dynamics(protocol.model)
    if protocol.level == "spiking" and not protocol.model.circuit:
        moving = with_synapses(moving, protocol.model.spiking.tau_synapse)
    elif protocol.model.circuit or isinstance(protocol.model.dynamics, str):
        moving = _as_arguments(moving)
    return Engine(
        dynamics=moving,
        network=network(protocol.model),
        level=_as_arguments(level(protocol)),
        phases=phases,
        learning=_as_arguments(learning(protocol, stage)),
        target_step=_on_device(protocol.model.target_step),
        online=protocol.plasticity == "online",
        clock=_as_arguments(clock(protocol)) if protocol.plasticity == "online" else None,
        presentations=_on_device(presentations),
        decompose=protocol.record.decomposition,
    )


def _as_arguments(part: Any) -> Any:
    """With arrays for numbers, so that others run the same compiled program."""
    return jax.tree.map(lambda leaf: _on_device(leaf) if isinstance(leaf, float) else leaf, part)
