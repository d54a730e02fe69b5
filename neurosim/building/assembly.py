"""From descriptions to things that run: network, dynamics, weights and engines."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from neurosim.building import ingredients
from neurosim.circuits.chain import links
from neurosim.circuits.expressions import parse
from neurosim.circuits.populations import Projection
from neurosim.circuits.starts import in_order, start
from neurosim.credit import named
from neurosim.credit.channel import Passage
from neurosim.credit.local_goals import Goals
from neurosim.errors import asked, of_shape
from neurosim.functions.activations import ACTIVATIONS, Activation, Elementwise
from neurosim.functions.losses import Loss
from neurosim.functions.penalized_weights import Penalties
from neurosim.functions.quantization import Quantizer
from neurosim.learning.engine import Engine
from neurosim.levels.equilibrium import Equilibrium
from neurosim.levels.rate import Rate
from neurosim.levels.schemes import TOLERANCES
from neurosim.levels.simulator import Phase, Simulator
from neurosim.models import circuitry, parameters
from neurosim.models.initialisers import MATRICES
from neurosim.networks.circuit import CircuitDynamics, CircuitWeights
from neurosim.networks.network import Carried, Network
from neurosim.plasticity import FEEDBACK_RULES, PENALIZED, FeedbackRule
from neurosim.plasticity.channel import ChannelLearning
from neurosim.plasticity.local import LocalLearning, looked_at
from neurosim.plasticity.nodes import Nodes
from neurosim.plasticity.redrawing import Redrawing
from neurosim.process import devices
from neurosim.specs import (
    ActivationSpec,
    CreditSpec,
    LearningRate,
    ModelSpec,
    NodesSpec,
    PhaseSpec,
    ProtocolSpec,
    RateLaw,
    StageSpec,
)
from neurosim.tasks.data import Data


def activation(given: Any) -> Activation:
    """An activation from its description, from an object, or from a plain function."""
    if isinstance(given, ActivationSpec):
        own = () if given.number is None else (given.number,)
        return ACTIVATIONS[given.name](*own)
    _tried("model.activation", given)
    made = given if hasattr(given, "derivative") else Elementwise(given)
    if made.domain is not None:
        _tried("model.activation.inverse", made.inverse)
    return made


def _tried(key: str, function: Any) -> None:
    """Refuses a function of a script that does not give an array for an array.

    Raises:
        InputError: it fails, or what it returns has another shape.
    """
    expected = "a function of a JAX array, unit by unit"

    def tried(a: jax.Array) -> jax.Array:
        return of_shape(key, asked(key, function, expected, a), a.shape, expected)

    jax.eval_shape(tried, jnp.full(3, 0.5))


def network(model: ModelSpec) -> Network:
    """The fixed part of a model."""
    hidden = activation(model.activation)
    top = activation(model.output_activation)
    made = circuitry.circuit(model)
    chain = made.projection["W"].synapses if made.chain and made.convolves else ()
    return Network(
        sizes=tuple(model.layers),
        activations=(*[hidden] * (model.depth - 1), top),
        form=model.form,
        loss=Loss(model.loss, model.output, model.auxiliary),
        convolutions=tuple(s.convolution for s in chain),
        **({} if model.credit is None else _of_channel(model, model.credit)),
    )


def _of_channel(model: ModelSpec, credit: CreditSpec) -> dict[str, Any]:
    """What a credit with a channel of its own looks at beside transfer functions."""
    coders = {key: getattr(credit, key) for key in ("encoder", "decoder")}
    found: dict[str, Any] = {key: given and activation(given) for key, given in coders.items()}
    chain = links(circuitry.circuit(model)) or ()
    carried = tuple(link.carried and Carried(link.rate, link.carried) for link in chain)
    return found | ({"carried": carried} if any(carried) else {})


def dynamics(model: ModelSpec) -> CircuitDynamics:
    """The dynamics of a model, from the text of its cells."""
    sigma: dict[str, Any] = {name: sigma for name, sigma in model.noise.items() if sigma}
    made, values = circuitry.circuit(model), dict[str, Any](parameters.values(model))
    found = CircuitDynamics(made, values, sigma, looked_at(made))
    return found if model.credit is None else found.with_layers()


def weights(model: ModelSpec, seed: int, data: Data | None, folder: Path) -> Any:
    """The initial weights of one seed, drawn in float64, in the default precision.

    data: needed where weights start from what they are to learn.
    """
    return placed(ingredients.weights(model, seed, data, folder))


def placed(drawn: Mapping[str, Sequence[Any]]) -> CircuitWeights:
    """Weights on the device, in the default precision."""
    return {name: tuple(map(devices.copied, arrays)) for name, arrays in drawn.items()}


def stack(per_seed: Sequence[Mapping[str, Sequence[Any]]]) -> CircuitWeights:
    """The weights of several seeds with the seed as first axis, on the device."""
    return placed(
        {
            name: [np.stack(arrays) for arrays in zip(*(w[name] for w in per_seed), strict=True)]
            for name in per_seed[0]
        }
    )


def learning(protocol: ProtocolSpec, stage: StageSpec) -> ChannelLearning | LocalLearning:
    """The rules and rates of a model in one stage of a protocol."""
    model = protocol.model
    pace = stage.pace * (protocol.spiking.pace if protocol.level == "spiking" else 1.0)
    if model.credit is not None:
        return _channel(protocol, stage, pace)
    made, values = circuitry.circuit(model), dict[str, Any](parameters.values(model))
    weighed = {p.name: p for p in made.projections if p.weighed}
    given = {name: model.projections[name] for name in weighed}
    begins = {name: circuitry.begins(model, name) for name in weighed}
    return LocalLearning(
        circuit=made,
        parameters=values,
        rates={
            name: _rates(each.rate, weighed[name], values, model.depth, pace)
            for name, each in given.items()
        },
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


def _rates(
    rate: LearningRate | RateLaw,
    projection: Projection,
    values: Mapping[str, Any],
    depth: int,
    pace: float,
) -> tuple[jax.Array, ...]:
    """Of every matrix of a projection."""
    numbers = [s.number for s in projection.synapses]
    if isinstance(rate, RateLaw):
        law = parse(rate.text)
        found = [law({**values, "i": i, "L": depth}, MATRICES) for i in numbers]
    else:
        found = [rate.of_layer(k) for k, _ in enumerate(numbers, start=1)]
    return tuple(devices.copied(pace * each) for each in found)


def _channel(protocol: ProtocolSpec, stage: StageSpec, pace: float) -> ChannelLearning:
    """The rules of a chain of layers that a credit teaches."""
    model, credit = protocol.model, protocol.model.credit
    assert credit is not None, "asked of models with a credit"
    values: dict[str, Any] = dict(parameters.values(model))
    forward, projection = model.projections["W"], circuitry.circuit(model).projection["W"]
    given: Any = credit.rule
    rule = FEEDBACK_RULES[given] if isinstance(given, str) else FeedbackRule(given, "given")
    matrices = range(1, len(circuitry.channel(model)) + 1)
    rounding = float(np.finfo(protocol.precision).eps)
    return ChannelLearning(
        credit=named(credit),
        projection=projection,
        parameters=values,
        target_step=model.target_step,
        rates=_rates(forward.rate, projection, values, model.depth, pace),
        feedback_rates=tuple(devices.copied(pace * credit.rate.of_layer(i)) for i in matrices),
        decays=(forward.decay, credit.decay),
        limit=forward.limit,
        feedback=rule,
        noise=credit.noise,
        tied=credit.init if credit.rule == "tied" else None,
        optimizers=(forward.optimizer, credit.optimizer),
        schedule=protocol.schedule.kind,
        final=protocol.schedule.final,
        top_down=stage.order == "top-down",
        threshold=credit.threshold,
        refresh=credit.refresh or rounding**0.5,
        passage=Passage(
            credit.slope,
            _quantizer(credit.error_bits, credit.error_scale),
            credit.dropout or None,
        ),
        redrawing=_redrawing(credit) if credit.redrawn else None,
        quantizer=_quantizer(credit.update_bits, credit.update_scale),
        nodes=_nodes(model, credit),
    )


def _nodes(model: ModelSpec, credit: CreditSpec) -> Nodes | None:
    """What hidden layers with goals of their own learn, None of other credits."""
    if not named(credit).nodes:
        return None
    given, rule = credit.nodes or NodesSpec(), model.projections["W"].rule
    goals = Goals(
        tuple(sorted(set(given.goals or [model.depth - 1]))),
        given.elsewhere == "own",
        given.from_above,
        given.from_below,
        given.correction,
        given.discrimination,
    )
    penalties = given.conditioning, given.coherence, given.log_det, given.similarity
    solved = PENALIZED.get(rule) if isinstance(rule, str) else None
    return Nodes(goals, Penalties(*penalties), solved, given.active)


def undisturbed(model: ModelSpec) -> tuple[Passage, ...]:
    """What a credit that sends errors also takes, of a channel that neither quantises nor drops."""
    credit = model.credit
    if credit is None or named(credit).route is None:
        return ()
    return (Passage(credit.slope),)


def _redrawing(credit: CreditSpec) -> Redrawing:
    congruent = credit.signs == "congruent"
    kind, law = credit.init, (credit.gain, credit.sparse, congruent)
    return Redrawing(named(credit).wiring, kind, *law)


def _quantizer(bits: int | None, scale: float) -> Quantizer | None:
    return None if bits is None else Quantizer(float(bits), scale)


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


def scripted(model: ModelSpec) -> bool:
    """Whether a script gave rules or a credit as objects."""
    rules = [given.rule for given in model.projections.values()]
    if model.credit is not None:
        rules += [model.credit.rule, model.credit.name]
    return not all(isinstance(rule, str) for rule in rules)


def engine(protocol: ProtocolSpec, stage: StageSpec, presentations: int) -> Simulator:
    """The engine of one stage, which lasts so many presentations."""
    rules = _rules(protocol, stage, presentations)
    if protocol.level != "spiking":
        return rules
    from neurosim.learning.spiking import SpikingEngine

    tau, neurons = protocol.model.spiking.tau_synapse, ingredients.neurons(protocol)
    return SpikingEngine(rules, neurons, tau, protocol.spiking, protocol.batch)


def _longer(phase: PhaseSpec) -> tuple[float, float] | None:
    """Mean and shape of the time by which a phase lasts longer."""
    given = phase.longer
    return None if given is None else (given.mean, given.shape or given.mean)


def _rules(protocol: ProtocolSpec, stage: StageSpec, presentations: int) -> Engine:
    phases = tuple(
        Phase(
            phase.name,
            phase.duration or 0.0,
            phase.until == "settled",
            phase.teaching,
            circuitry.opened(protocol.model, phase.plastic),
            tuple(sorted(phase.parameters)),
            _longer(phase),
        )
        for phase in stage.phases
    )
    moving = dynamics(protocol.model)
    if protocol.record.decomposition:
        moving = moving.with_layers()
    return Engine(
        dynamics=_as_arguments(moving),
        network=_as_arguments(network(protocol.model)),
        level=_as_arguments(level(protocol)),
        phases=phases,
        learning=_as_arguments(learning(protocol, stage)),
        changes=_as_arguments(tuple(_changes(phase) for phase in stage.phases)),
        draws=_as_arguments(tuple(_draws(phase) for phase in stage.phases)),
        target_step=devices.copied(protocol.model.target_step),
        online=protocol.plasticity == "online",
        clock=_as_arguments(clock(protocol)) if protocol.plasticity == "online" else None,
        presentations=devices.copied(presentations),
        test_draws=protocol.test_draws,
        decompose=protocol.record.decomposition,
    )


def _changes(phase: PhaseSpec) -> dict[str, float]:
    """The values of the parameters that a phase changes."""
    return {name: float(value) for name, value in phase.values.items()}


def _draws(phase: PhaseSpec) -> dict[str, tuple[float, float]]:
    """Mean and spread of the parameters of which cells draw values in a phase."""
    drawn = phase.drawn.items()
    return {name: (float(given.mean or 0), float(given.spread)) for name, given in drawn}


def _as_arguments(part: Any) -> Any:
    """With arrays for numbers, so that others run the same compiled program."""

    def argument(leaf: Any) -> Any:
        return devices.copied(leaf) if isinstance(leaf, float) else leaf

    return jax.tree.map(argument, part)
