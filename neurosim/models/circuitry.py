"""What the circuit of a model asks of the file, and of the protocol that uses it."""

import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from neurosim.circuits import reading, starts
from neurosim.circuits.description import Circuit
from neurosim.circuits.expressions import Expression, ExpressionError, parse
from neurosim.circuits.maps import Convolution
from neurosim.circuits.populations import Group, Projection
from neurosim.circuits.tables import Tables
from neurosim.credit import named
from neurosim.errors import InputError, unknown
from neurosim.models import parameters
from neurosim.models.channels import channel_problems
from neurosim.models.conditions import Problem, credit_problems, unknown_credit
from neurosim.models.initialisers import MATRICES
from neurosim.models.nodes import node_problems
from neurosim.models.ties import tie_problems
from neurosim.networks.wirings import WIRINGS, shared
from neurosim.plasticity import FORWARD_RULES, PROBES
from neurosim.specs import (
    CreditSpec,
    ModelSpec,
    PhaseSpec,
    ProjectionSpec,
    ProtocolSpec,
    RateLaw,
)
from neurosim.specs.toml import dotted
from neurosim.units import Measured


def tables(model: ModelSpec) -> Tables:
    """What a model file says of its circuit."""
    return Tables(
        model.layers,
        model.cells,
        model.populations,
        model.projections,
        parameters.values(model),
        parameters.units(model),
        model.attenuation,
        model.readout,
        model.cut,
        tuple(parameters.spreads(model)),
        ("tied", *PROBES),
        {} if model.credit is None else {name: text for name, (text, _) in FORWARD_RULES.items()},
    )


def circuit(model: ModelSpec) -> Circuit:
    """The circuit of a checked model."""
    return reading.circuit(tables(model))


def sound(model: ModelSpec) -> Circuit:
    """The circuit of a model that no protocol has checked.

    Raises:
        InputError: all that is wrong with it, one a line.
    """
    wrong = reading.problems(tables(model))
    if wrong:
        raise InputError([f"{model.name}: {dotted(key)}: {message}" for key, message in wrong])
    return circuit(model)


def unread(model: ModelSpec) -> list[str]:
    """The parameters that no equation, rule, start or rate names; of one cell as `cell.name`."""
    made = circuit(model)
    seen: list[tuple[Group | None, Expression | None]] = [(None, made.attenuation)]
    for projection in made.projections:
        for synapses in projection.synapses:
            seen += [(synapses.post, projection.post), (synapses.pre, projection.pre)]
        rate = model.projections[projection.name].rate
        if isinstance(rate, RateLaw):
            seen.append((None, parse(rate.text)))
        if projection.weighed and (text := begins(model, projection.name)) not in starts.NAMED:
            seen.append((None, starts.start(text).expression))
    read = [(group, name) for group, text in seen if text is not None for name in text.names]
    read += [(group, name) for group in made.groups for name in made.cell(group).names]
    keys = {made.parameter(g.population, n) if g is not None else n for g, n in read}
    return [key for key in made.parameters if key not in keys]


CHANNEL = "Q"
"""What the feedback weights of a credit with a channel of its own are called."""


def channel(model: ModelSpec) -> list[tuple[int, int]]:
    """Of every feedback matrix of such a channel, the layer it belongs to and that it hears."""
    return WIRINGS[named(model.credit).wiring](model.depth)


def convolutions(model: ModelSpec) -> list[Convolution | None]:
    """Of every feedback matrix of such a channel, the convolution whose kernel it replaces."""
    return shared(
        named(model.credit).wiring, [s.convolution for s in circuit(model).projection["W"].synapses]
    )


def channel_shapes(model: ModelSpec) -> list[tuple[int, ...]]:
    """The shapes of the feedback weights of such a channel."""
    found: list[tuple[int, ...]] = []
    each = served(model)
    for k, ((i, above), of) in enumerate(zip(channel(model), convolutions(model), strict=True)):
        own = () if each is None else (each[k],)
        found.append((model.layers[i], *own, model.layers[above]) if of is None else of.weights)
    return found


def served(model: ModelSpec) -> list[int] | None:
    """Of the layers with feedback weights, how many weights of a neuron have each one of their own.

    None where a neuron's weights share them. A bias is a weight, the last.
    """
    if model.credit is None or model.credit.per == "neuron":
        return None
    biased = circuit(model).projection["W"].bias
    return [model.layers[i - 1] + biased for i, _ in channel(model)]


def learning(model: ModelSpec) -> dict[str, bool]:
    """What can learn, by name, and whether it carries something from a layer above."""
    found = {p.name: p.descends for p in circuit(model).projections if p.learns}
    taught = model.credit is not None and channel(model)
    return found | ({CHANNEL: True} if taught else {})


def opened(model: ModelSpec, plastic: Iterable[str]) -> tuple[str, ...]:
    """What a phase opens, by name.

    `feedback` stands for all that learn and carry something from a layer above, `forward` for all
    others that learn.
    """
    moving = {n: down for n, down in learning(model).items() if not _follows(model, n)}
    groups = {
        "forward": [name for name, descends in moving.items() if not descends],
        "feedback": [name for name, descends in moving.items() if descends],
    }
    found = [name for given in plastic for name in groups.get(given, [given])]
    return tuple(dict.fromkeys(found))


def _follows(model: ModelSpec, name: str) -> bool:
    """Whether weights follow others, or do not move, whatever a phase opens."""
    table = model.projections.get(name, model.credit)
    return (
        table is not None
        and table.rule in ("tied", "fixed", "sherman-morrison")
        and (getattr(table, "post", None) is None)
    )


class _Asked(NamedTuple):
    """A protocol and the circuit of its model."""

    spec: ProtocolSpec
    circuit: Circuit


def unreadable(model: ModelSpec) -> Iterator[Problem]:
    """Everything for which there is no circuit at all, or none that signals go through."""
    strange = list(unknown_credit(model))
    yield from strange
    if strange:
        return
    wrong = reading.problems(tables(model))
    for key, message in wrong:
        yield ("model", *key), message
    if not wrong:
        yield from _attenuated(model)


def problems(spec: ProtocolSpec) -> Iterator[Problem]:
    """Everything that makes the circuit of a protocol impossible."""
    model = spec.model
    strange = list(unreadable(model))
    yield from strange
    if strange:
        return
    asked = _Asked(spec, circuit(model))
    if spec.level != "spiking":
        yield from ((("level",), message) for message in unspoken(model, spec.level))
    if model.credit is not None:
        yield from credit_problems(spec, asked.circuit)
        yield from channel_problems(spec, asked.circuit)
        yield from node_problems(spec, asked.circuit)
    yield from _starts(asked)
    yield from _noise(asked)
    yield from _varied(asked)
    yield from _rates(asked)
    for number, stage in enumerate(spec.stages):
        passed: list[str] = []
        for k, phase in enumerate(stage.phases):
            yield from _phase(asked, phase, passed, ("stages", number, "phases", k))
            passed.append(phase.name)


def _attenuated(model: ModelSpec) -> Iterator[Problem]:
    """An attenuation that is no share."""
    law = circuit(model).attenuation
    for layer in range(1, model.depth + 1):
        found = _value(model, law, layer)
        if not (isinstance(found, float) and 0 < found <= 1):
            yield (
                ("model", "attenuation"),
                f"{found} in layer {layer}, with {_said(model, law)}; "
                "expected a share of more than 0 and at most 1",
            )
            return


def _value(model: ModelSpec, law: Expression, layer: int) -> float | str:
    """What an expression is in a layer, or why it is nothing."""
    values = parameters.values(model) | {"i": layer, "L": model.depth}
    try:
        with np.errstate(all="ignore"):
            found = law(values, MATRICES)
        return float(found) if np.isreal(found) else "not real"
    except ArithmeticError as error:
        return str(error)


def _said(model: ModelSpec, law: Expression) -> str:
    """The parameters of an expression and their values."""
    values = parameters.values(model)
    found = [f"{name} = {values[name]:g}" for name in sorted(law.names & set(values))]
    return " and ".join(found) or repr(law.text)


def _starts(asked: _Asked) -> Iterator[Problem]:
    model = asked.spec.model
    weighed = {p.name: begins(model, p.name) for p in asked.circuit.projections if p.weighed}
    for name, message in starts.problems(weighed, model.parameters):
        yield ("model", "projections", name, "init"), message
    yield from tie_problems(model, asked.circuit, weighed)
    for projection in asked.circuit.projections:
        if projection.probed and not (asked.circuit.chain and projection.name == "Q"):
            yield (
                ("model", "projections", projection.name, "rule"),
                f"{projection.rule!r} sends noise up a chain of layers and back: expected "
                "projections W, from every layer to the next, and Q, from every layer to the one "
                "below",
            )
    for name, text in weighed.items():
        if text == "file" and name not in files(model):
            first = asked.circuit.projection[name].synapses[0].number
            yield (
                ("model", "projections", name, "file"),
                f"missing; init = 'file' needs an .npz with {name}{first} …, or a trace",
            )


def begins(model: ModelSpec, name: str) -> str:
    """Where the weights of a projection start."""
    return model.projections[name].init or "xavier"


def files(model: ModelSpec) -> dict[str, str]:
    """The files of projections that start from one; of those that name none it is that of W."""
    common = model.projections["W"].file if "W" in model.projections else None
    found = {
        name: given.file or common
        for name, given in model.projections.items()
        if given.init == "file"
    }
    return {name: file for name, file in found.items() if file is not None}


def _noise(asked: _Asked) -> Iterator[Problem]:
    states = {name: None for _, name in asked.circuit.moving}
    states |= {f"{group.population}.{name}": None for group, name in asked.circuit.moving}
    for name in asked.spec.model.noise:
        if name not in states:
            message = unknown("noisy compartment", name, states)
            yield (
                ("model", "noise", name),
                f"{message}; what follows at once has no noise of its own",
            )


def _varied(asked: _Asked) -> Iterator[Problem]:
    """What cannot be where cells differ in a parameter."""
    made, noisy = asked.circuit, asked.spec.model.noise
    for group, name in made.moving:
        sigma = noisy.get(f"{group.population}.{name}", noisy.get(name))
        named = made.cell(group).right(name).names
        apart = [n for n in named if f"{group.population}.{n}" in made.values]
        if sigma and apart:
            yield (
                ("model", "noise"),
                f"{name} has noise and {apart[0]}, which cells differ in; write its noise into the "
                f"equation instead: + sigma*sqrt(2/{apart[0]})*xi",
            )
    for number, stage in enumerate(asked.spec.stages):
        for k, phase in enumerate(stage.phases):
            for name in set(phase.parameters) & set(made.varied):
                yield (
                    ("stages", number, "phases", k, "parameters", name),
                    "cells differ in it; a phase can only change parameters that all have alike",
                )


def _rates(asked: _Asked) -> Iterator[Problem]:
    spec, online = asked.spec, asked.spec.plasticity == "online"
    known = ["i", "L", *spec.model.parameters]
    if spec.model.credit is not None and not _follows(spec.model, CHANNEL):
        yield from _steps(("model", "credit"), spec.model.credit, online)
    for projection in asked.circuit.projections:
        given = spec.model.projections[projection.name]
        key = "model", "projections", projection.name
        rate = given.rate
        if isinstance(rate, RateLaw):
            try:
                law = parse(rate.text)
                strange = sorted(law.names - set(known))
                for name in strange:
                    yield (*key, "rate"), unknown("name", name, known)
                layers = [] if strange else [s.number for s in projection.synapses]
                found = {layer: _value(spec.model, law, layer) for layer in layers}
                for layer, value in found.items():
                    if not (isinstance(value, float) and math.isfinite(value)):
                        yield (
                            (*key, "rate"),
                            f"{value} in layer {layer}, with {_said(spec.model, law)}; expected a "
                            "number",
                        )
                        break
            except ExpressionError as error:
                yield (*key, "rate"), str(error)
        elif len(rate.values) not in (1, len(projection.synapses)):
            yield (
                (*key, "rate"),
                f"{len(rate.values)} rates; expected one, or one for each of the "
                f"{len(projection.synapses)} weights",
            )
        if not projection.learns or _follows(spec.model, projection.name):
            continue
        yield from _steps(key, given, online)
        if online and projection.remembered and spec.model.tau_memory is None:
            yield (
                ("model", "tau_memory"),
                f"missing; online, {projection.remembered[0][0]} of projections."
                f"{projection.name} is a slow memory, whose time constant this is; expected a "
                'time such as "20 ms"',
            )


def _steps(
    key: tuple[str, ...], given: ProjectionSpec | CreditSpec, online: bool
) -> Iterator[Problem]:
    """Rates and optimisers that do not go with the way in which weights move."""
    if any(given.rate.values) and given.rate.per_second != online:
        yield (
            (*key, "rate"),
            'online plasticity needs a rate per second such as "0.5 Hz"'
            if online
            else "quasi-static plasticity needs a bare number, the rate per presentation",
        )
    if online and given.optimizer != "sgd":
        yield (
            (*key, "optimizer"),
            f"{given.optimizer!r} has no continuous form; online plasticity knows 'sgd' only",
        )


def unspoken(model: ModelSpec, level: str) -> Iterator[str]:
    """What keeps a level without spikes from neurons that have a threshold and nothing else."""
    for population in circuit(model).populations:
        if population.cell.silent:
            yield (
                f"{population.name} spikes by a threshold, and no line says at which rate; "
                f"run it with --level spiking, or give the {level} level a line 'spikes = ...' in "
                "Hz, in whose place the threshold is at the spiking level"
            )


def spiking_problems(model: ModelSpec) -> Iterator[Problem]:
    """What keeps a sound circuit from spiking."""
    found = circuit(model)
    for projection in found.projections:
        if any(s.convolution is not None for s in projection.synapses):
            yield (
                ("level",),
                f"{projection.name} convolves, and spiking synapses have a weight each, with no "
                "windows of which the largest counts; convolutions run at the equilibrium and rate "
                "levels",
            )
    kinds = set()
    for population in found.populations:
        if population.cell.firing is not None:
            continue
        if population.carried is not None:
            kinds.add(len(population.carried))
            continue
        sent = {s.sent for s in found.sending if s.pre and s.pre.population == population.name}
        example = (*population.cell.states, "rate")[0]
        yield (
            ("model", "populations", population.name, "spikes"),
            f"missing; {population.name} sends {', '.join(sorted(sent)) or 'nothing'}, and spikes "
            "speak of one quantity, or of two by events and bursts: expected such as "
            f"{example!r}, or false for cells without spikes",
        )
    if kinds == {0} and all(p.cell.firing is None for p in found.populations):
        yield ("level",), "no population of this circuit spikes; run it with --level rate"
    if {1, 2} <= kinds:
        yield (
            ("model", "populations"),
            "some spike by events and bursts and others by single spikes; one kind of neuron "
            "stands behind all units of a model",
        )


def _phase(
    asked: _Asked, phase: PhaseSpec, passed: list[str], at: tuple[str | int, ...]
) -> Iterator[Problem]:
    made, model = asked.circuit, asked.spec.model
    moving = [name for name in learning(model) if not _follows(model, name)]
    for number, name in enumerate(phase.plastic):
        if name in ("forward", "feedback"):
            continue
        if name in made.projection and name not in moving:
            yield (
                (*at, "plastic", number),
                f"projections.{name} has no rule that learns; give it post and pre, or leave it "
                "out here",
            )
        elif name not in moving:
            known = [*moving, "forward", "feedback"]
            yield (*at, "plastic", number), unknown("projection with a rule", name, known)
    for name in opened(model, phase.plastic):
        if name in made.projection:
            yield from _memories(made.projection[name], phase, passed, at)
    dimensions = parameters.units(model)
    yield from _draws(asked, phase, at)
    for name, value in phase.values.items():
        if name not in made.parameters:
            yield (*at, "parameters", name), unknown("parameter", name, made.parameters)
        elif isinstance(value, Measured) and dimensions.get(name) not in (None, value.dimension):
            yield (
                (*at, "parameters", name),
                f"{value.written} is a {value.dimension}; {name} is a {dimensions[name]}",
            )


def _draws(asked: _Asked, phase: PhaseSpec, at: tuple[str | int, ...]) -> Iterator[Problem]:
    """Parameters that cells draw in a phase, where they cannot."""
    spec, made = asked.spec, asked.circuit
    for name, given in phase.drawn.items():
        key = (*at, "parameters", name)
        if given.file is not None:
            yield (*key, "file"), "a phase draws values; expected mean and spread"
        if spec.level == "spiking" or spec.plasticity == "online":
            how = "spikes" if spec.level == "spiking" else "weights that flow"
            yield (
                key,
                f"what cells draw for each sample is known to neurons at rest or moving under "
                f"weights at rest, not to {how}; give one number",
            )
        for other in opened(spec.model, phase.plastic):
            projection = made.projection.get(other)
            sides = () if projection is None else (projection.post, projection.pre)
            if any(side is not None and name in side.names for side in sides):
                yield (
                    key,
                    f"the rule of {other}, which is open, names it, but sees no draws; name it in "
                    "an equation, and the quantity so defined in the rule",
                )


def _memories(
    projection: Projection, phase: PhaseSpec, passed: list[str], at: tuple[str | int, ...]
) -> Iterator[Problem]:
    """Rules that name the end of a phase which does not come before."""
    for written, recalled in projection.remembered:
        if recalled.phase not in passed:
            before = ", ".join(map(repr, passed)) or "none"
            yield (
                (*at, "plastic"),
                f"the rule of {projection.name} names {written}, {recalled.quantity} at the end of "
                f"phase {recalled.phase!r}, which does not come before (those that do: {before})",
            )
