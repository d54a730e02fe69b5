"""What a circuit asks of the model file and the protocol that use it."""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from neurosim.circuits import reading, starts
from neurosim.circuits.description import Circuit
from neurosim.circuits.expressions import ExpressionError, parse
from neurosim.circuits.reading import Tables
from neurosim.conditions import Problem
from neurosim.errors import InputError, unknown
from neurosim.plasticity import PROBES
from neurosim.spec import ModelSpec, PhaseSpec, ProtocolSpec, RateLaw, SpreadSpec
from neurosim.toml import dotted

REPLACED = {
    "credit": "the rules of the projections (post and pre)",
    "mu": "parameters.mu",
    "tau_soma": "parameters.tau_soma",
    "tau_basal": "parameters.tau_basal",
    "tau_apical": "parameters.tau_apical",
    "bias": "projections.W.bias",
    "weights": "projections.W.init",
    "forward": "projections.W.rate and its other keys",
    "feedback": "projections.Q.rate and its other keys, or model.form",
}
"""Keys of layered models, and what has their place in a circuit."""


def tables(model: ModelSpec) -> Tables:
    """What a model file says of its circuit."""
    return Tables(
        model.layers,
        model.cells,
        model.populations,
        model.projections,
        parameters(model),
        model.attenuation,
        model.readout,
        model.cut,
        tuple(spreads(model)),
        ("tied", *PROBES),
    )


def circuit(model: ModelSpec) -> Circuit:
    """The circuit of a checked model."""
    return reading.circuit(tables(model))


def layered(model: ModelSpec) -> str:
    """What is said of a layered model that should be a circuit."""
    tables = "[cells], [populations] and [projections]"
    return f"{model.name} is a layered model; expected a circuit, which has {tables}"


def sound(model: ModelSpec) -> Circuit:
    """The circuit of a model that no protocol has checked.

    Raises:
        InputError: it is a layered model, or all that is wrong with the circuit, one a line.
    """
    if not model.circuit:
        raise InputError(layered(model))
    wrong = reading.problems(tables(model))
    if wrong:
        raise InputError([f"{model.name}: {dotted(key)}: {message}" for key, message in wrong])
    return circuit(model)


def _given(model: ModelSpec) -> dict[str, Any]:
    """All parameters as they are given, those of one cell as `cell.name`."""
    own = {f"{n}.{key}": v for n, cell in model.cells.items() for key, v in cell.parameters.items()}
    return dict(model.parameters) | own


def parameters(model: ModelSpec) -> dict[str, float]:
    """All parameters; of those with a spread the mean, of those in a file 1."""

    def one(given: Any) -> float:
        if not isinstance(given, SpreadSpec):
            return given
        return 1.0 if given.mean is None else given.mean

    return {key: one(given) for key, given in _given(model).items()}


def spreads(model: ModelSpec) -> dict[str, SpreadSpec]:
    """The parameters that every cell has its own value of."""
    return {key: given for key, given in _given(model).items() if isinstance(given, SpreadSpec)}


def opened(made: Circuit, plastic: Iterable[str]) -> tuple[str, ...]:
    """The projections that a phase opens.

    `feedback` stands for all that learn and carry something from a layer above, `forward` for all
    others that learn.
    """
    learning = [p for p in made.projections if p.learns and p.rule != "tied"]
    groups = {
        "forward": [p.name for p in learning if not p.descends],
        "feedback": [p.name for p in learning if p.descends],
    }
    found = [name for given in plastic for name in groups.get(given, [given])]
    return tuple(dict.fromkeys(found))


class _Asked(NamedTuple):
    """A protocol and the circuit of its model."""

    spec: ProtocolSpec
    circuit: Circuit


def problems(spec: ProtocolSpec) -> Iterator[Problem]:
    """Everything that makes the circuit of a protocol impossible."""
    model = spec.model
    for name, place in REPLACED.items():
        if name in model.model_fields_set and getattr(model, name) is not None:
            yield ("model", name), f"belongs to layered models; a circuit has {place}"
    wrong = reading.problems(tables(model))
    for key, message in wrong:
        yield ("model", *key), message
    if wrong:
        return
    asked = _Asked(spec, circuit(model))
    yield from _starts(asked)
    yield from _noise(asked)
    yield from _varied(asked)
    yield from _rates(asked)
    for number, stage in enumerate(spec.stages):
        passed: list[str] = []
        for k, phase in enumerate(stage.phases):
            yield from _phase(asked, phase, passed, ("stages", number, "phases", k))
            passed.append(phase.name)


def _starts(asked: _Asked) -> Iterator[Problem]:
    model = asked.spec.model
    weighed = {p.name: begins(model, p.name) for p in asked.circuit.projections if p.weighed}
    for name, message in starts.problems(weighed, model.parameters):
        yield ("model", "projections", name, "init"), message
    for projection in asked.circuit.projections:
        name, where = projection.name, ("model", "projections", projection.name, "rule")
        if projection.rule == "tied" and (name not in weighed or weighed[name] in starts.DRAWS):
            yield (
                where,
                "'tied' keeps weights at an expression over others, which init must then be",
            )
        elif projection.rule in PROBES and not (asked.circuit.chain and name == "Q"):
            yield (
                where,
                f"{projection.rule!r} sends noise up a chain of layers and back: expected "
                "projections W, from every layer to the next, and Q, from every layer to the one "
                "below",
            )
    for name, text in weighed.items():
        if text == "file" and model.projections[name].file is None:
            first = asked.circuit.projection[name].synapses[0].number
            yield (
                ("model", "projections", name, "file"),
                f"missing; init = 'file' needs an .npz with {name}{first} …",
            )


def begins(model: ModelSpec, name: str) -> str:
    """Where the weights of a projection start."""
    return model.projections[name].init or "xavier"


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
    for projection in asked.circuit.projections:
        given = spec.model.projections[projection.name]
        key = "model", "projections", projection.name
        rate = given.rate
        if isinstance(rate, RateLaw):
            try:
                for name in sorted(parse(rate.text).names - set(known)):
                    yield (*key, "rate"), unknown("name", name, known)
            except ExpressionError as error:
                yield (*key, "rate"), str(error)
        elif len(rate.values) not in (1, len(projection.synapses)):
            yield (
                (*key, "rate"),
                f"{len(rate.values)} rates; expected one, or one for each of the "
                f"{len(projection.synapses)} weights",
            )
        if not projection.learns:
            continue
        if any(rate.values) and rate.per_second != online:
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
        if online and projection.remembered and spec.model.tau_memory is None:
            yield (
                ("model", "tau_memory"),
                f"missing; online, {projection.remembered[0][0]} of projections."
                f"{projection.name} is a slow memory, whose time constant this is; expected a "
                'time such as "20 ms"',
            )


def spiking_problems(model: ModelSpec) -> Iterator[Problem]:
    """What keeps a sound circuit from spiking."""
    found = circuit(model)
    kinds = set()
    for population in found.populations:
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
    if kinds == {0}:
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
    made = asked.circuit
    learning = {p.name: p for p in made.projections if p.learns and p.rule != "tied"}
    for number, name in enumerate(phase.plastic):
        if name in ("forward", "feedback"):
            continue
        if name in asked.circuit.projection and name not in learning:
            yield (
                (*at, "plastic", number),
                f"projections.{name} has no rule that learns; give it post and pre, or leave it "
                "out here",
            )
        elif name not in learning:
            known = [*learning, "forward", "feedback"]
            yield (*at, "plastic", number), unknown("projection with a rule", name, known)
    for name in opened(made, phase.plastic):
        if name in learning:
            for written, recalled in learning[name].remembered:
                if recalled.phase not in passed:
                    before = ", ".join(map(repr, passed)) or "none"
                    yield (
                        (*at, "plastic"),
                        f"the rule of {name} names {written}, {recalled.quantity} at the end of "
                        f"phase {recalled.phase!r}, which does not come before (those that do: "
                        f"{before})",
                    )
    for name in phase.parameters:
        if name not in asked.circuit.parameters:
            yield (*at, "parameters", name), unknown("parameter", name, asked.circuit.parameters)
