"""What a protocol asks for that cannot be had, key by key."""

import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from neurosim.building import ingredients, transfers
from neurosim.building.facts import facts, noise
from neurosim.credit import named
from neurosim.errors import InputError, unknown
from neurosim.levels.schemes import SCHEMES
from neurosim.levels.spiking.neurons import COUNTED, PYRAMIDAL
from neurosim.models import circuitry, parameters
from neurosim.models.conditions import Problem, phase_problems
from neurosim.process import caller
from neurosim.specs import (
    ModelSpec,
    PhaseSpec,
    ProtocolSpec,
    RateSpec,
    StageSpec,
)
from neurosim.units import format_time, shorter_step, steps


def problems(spec: ProtocolSpec) -> Iterator[Problem]:
    """Everything that makes the protocol impossible."""
    yield from circuitry.problems(spec)
    if any(circuitry.unreadable(spec.model)):
        return
    yield from _model_problems(spec.model)
    yield from transfers.draw_problems(spec)
    yield from _level_problems(spec)
    for number, stage in enumerate(spec.stages):
        yield from _stage_problems(spec, stage, ("stages", number))
    yield from _record_problems(spec)
    yield from _task_problems(spec)


def _task_problems(spec: ProtocolSpec) -> Iterator[Problem]:
    """What the task refuses, and layers that do not fit it, as far as no file must be read."""
    given = spec.task
    try:
        task = ingredients.task(spec, Path())
    except InputError as error:
        name = given.get("name")
        for message in error.messages:
            what = message.removeprefix(f"{name}: ")
            key, _, rest = what.partition(": ")
            place = re.fullmatch(r"(\w+)(?:\[(\d+)\])?", key)
            if place is None or place[1] not in given:
                yield ("task",), message
            else:
                at = () if place[2] is None else (int(place[2]),)
                yield ("task", place[1], *at), rest
        return
    inputs, outputs = getattr(task, "inputs", None), getattr(task, "outputs", None)
    if inputs is not None and outputs is not None:
        yield from misfits(spec.model, inputs, outputs)


def misfits(model: ModelSpec, inputs: int, outputs: int) -> Iterator[Problem]:
    """Layers of other sizes than a task of so many inputs and outputs needs."""
    first, last = model.layers[0], model.layers[-1] - model.auxiliary
    if (first, last) != (inputs, outputs):
        beside = f" beside {model.auxiliary} auxiliary ones" if model.auxiliary else ""
        yield (
            ("model", "layers"),
            f"{model.layers} does not fit the task, which has {inputs} inputs and {outputs} "
            f"outputs{beside}",
        )


def of_model(model: ModelSpec) -> Iterator[Problem]:
    """The same of a model without a protocol."""
    strange = list(circuitry.unreadable(model))
    yield from strange or _model_problems(model)


def _model_problems(model: ModelSpec) -> Iterator[Problem]:
    if model.loss == "cross-entropy" and model.output != "softmax":
        yield ("model", "loss"), 'the cross-entropy needs output = "softmax"'
    if model.auxiliary >= model.layers[-1]:
        yield (
            ("model", "auxiliary"),
            f"{model.auxiliary} of the {model.layers[-1]} output units; at least one must have a "
            f"label: expected at most {model.layers[-1] - 1}",
        )
    elif model.auxiliary and model.credit is None:
        yield (
            ("model", "auxiliary"),
            "phases teach the whole output layer; expected 0, or a credit of its own such as "
            "model.credit = 'ao-sdtp'",
        )
    yield from transfers.problems(model)


def _level_problems(spec: ProtocolSpec) -> Iterator[Problem]:
    if spec.level == "equilibrium":
        rate = caller.option("level", "rate")
        for key in noise(spec.model):
            which = "it" if key[-1] == "noise" else "xi"
            yield key, f"the equilibrium level has no noise; use {rate}, or drop {which}"
        if spec.plasticity == "online" and spec.rate is None:
            yield (
                ("rate",),
                "missing; weights that flow are stepped in time, neurons at rest or not; expected "
                'a table [rate] with dt, such as dt = "5 ms"',
            )
        return
    if spec.level == "spiking":
        yield from _spiking_problems(spec)
        return
    if spec.rate is None:
        yield ("rate",), 'missing; the rate level needs a table [rate] with dt, such as dt = "5 ms"'
        return
    if noise(spec.model) and (not SCHEMES[spec.rate.scheme].noisy or spec.rate.adaptive):
        able = " or ".join(repr(name) for name, scheme in SCHEMES.items() if scheme.noisy)
        yield ("rate", "scheme"), f"noise needs {able} with adaptive = false"
    yield from _solver_problems(spec.rate, spec.precision)


def _solver_problems(rate: RateSpec, precision: str) -> Iterator[Problem]:
    """A solver that cannot adapt, and tolerances below what the precision carries.

    The stages of a step round some eight times; activities of order one by half of eps.
    """
    scheme = SCHEMES[rate.scheme]
    if rate.adaptive and not scheme.estimates:
        able = " or ".join(repr(name) for name, other in SCHEMES.items() if other.estimates)
        yield (
            ("rate", "adaptive"),
            f"steps adapt to an estimate of their error, which {rate.scheme!r} has not; use "
            f"scheme = {able}, or adaptive = false",
        )
    elif rate.adaptive or scheme.implicit:
        eps = float(np.finfo(precision).eps)
        hint = ', or precision = "float64"' if precision == "float32" else ""
        for key, given, least in (("rtol", rate.rtol, 8 * eps), ("atol", rate.atol, eps / 2)):
            if given is not None and given < least:
                message = f"{given:g} is below what {precision} carries; expected at least"
                yield ("rate", key), f"{message} {least:.2g}{hint}"


def _spiking_problems(spec: ProtocolSpec) -> Iterator[Problem]:
    model = spec.model
    yield from circuitry.spiking_problems(model)
    yield from transfers.spiking_problems(model)
    if spec.test_draws > 1:
        yield (
            ("test_draws",),
            "the spiking level draws spikes, and averages over spiking.window; leave it out",
        )
    if spec.spiking.engine == "jax":
        yield from _scan_problems(model)
    yield from _step_problems(spec, ingredients.neurons(spec).kind)
    if circuitry.circuit(model).ensembles:
        yield from _ensemble_problems(spec)
    for key in ("window", "plasticity_every"):
        try:
            steps(getattr(spec.spiking, key), spec.spiking.dt)
        except ValueError as problem:
            yield ("spiking", key), str(problem).replace("dt =", "spiking.dt =")


def _scan_problems(model: ModelSpec) -> Iterator[Problem]:
    """What spikes in Brian2 alone."""
    made = circuitry.circuit(model)
    if model.spiking.soma == PYRAMIDAL and made.ensembles:
        yield (
            ("spiking", "engine"),
            f"'jax' does not compute the two-compartment cells of model.spiking.soma = "
            f"{PYRAMIDAL!r}; expected 'brian2', or 'poisson', for event/burst neurons by chance",
        )
    own = [p.name for p in made.populations if p.cell.firing is not None]
    if own:
        yield (
            ("spiking", "engine"),
            f"'jax' does not compute cells with a threshold of their own, as "
            f"{', '.join(own)} have; expected 'brian2'",
        )


def _ensemble_problems(spec: ProtocolSpec) -> Iterator[Problem]:
    """What cannot be of the neurons behind every unit."""
    model, given = spec.model, spec.model.spiking
    where = ("model", "spiking")
    longest, made = 1 / given.max_rate, ingredients.neurons(spec)
    if given.interneurons and given.soma != PYRAMIDAL:
        yield (
            (*where, "interneurons"),
            f"divide what is heard of the bursts of {PYRAMIDAL!r} cells; got soma = {given.soma!r}",
        )
    if given.soma == PYRAMIDAL and not model.bursting:
        yield (
            (*where, "soma"),
            f"{PYRAMIDAL!r} speaks of two quantities by events and bursts, and the model's spikes "
            "speak of one; expected 'poisson' or 'lif', or a model such as multiplexing",
        )
        return
    by_chance = made.kind == "bursting"
    dead = made.dead_time - made.dt if by_chance else 0.0
    least = max(1.25 * dead, made.dead_time) if by_chance else 1.05 * given.refractory
    least = least if by_chance or made.kind == "lif" else 0.0
    highest = _below(1 / max(least, spec.spiking.dt / 0.2))
    possible = f'at most "{highest:g} Hz"' if highest > given.base_rate else None
    if given.max_rate <= given.base_rate:
        yield (
            (*where, "max_rate"),
            f"{given.max_rate:g} Hz is not above the base rate of {given.base_rate:g} Hz; expected "
            + (f"more, and {possible}, or " if possible else "")
            + f'base_rate = "{_below(given.max_rate / 3):g} Hz"',
        )
    if by_chance:
        if longest < least:
            yield (
                (*where, "max_rate"),
                f"events {format_time(round(longest, 6))} apart cannot be told from bursts, which "
                f"take {format_time(round(dead, 9))}; expected "
                + (possible or f'"{highest:g} Hz" with base_rate = "{_below(highest / 3):g} Hz"'),
            )
        if made.burst_interval >= made.burst_limit:
            yield (
                (*where, "burst_interval"),
                f"must be shorter than burst_limit in steps of {format_time(made.dt)}, and is "
                f"{made.interval_steps} against {made.limit_steps}; expected burst_limit = "
                f'"{format_time((made.interval_steps + 1) * made.dt)}" or longer',
            )
    elif made.kind == "lif" and longest <= least:
        yield (
            (*where, "max_rate"),
            f"{given.max_rate:g} Hz cannot be reached with a refractory time of "
            f"{format_time(given.refractory)}; expected {f'{possible}, or ' if possible else ''}"
            f'refractory = "{format_time(_below(longest / 1.05))}"',
        )
    if given.max_rate * spec.spiking.dt > 0.2:
        yield (
            ("spiking", "dt"),
            f"{format_time(spec.spiking.dt)} is too long for {given.max_rate:g} Hz; expected at "
            f'most "{format_time(shorter_step(spec.spiking.dt, 0.2 / given.max_rate))}"',
        )


def _below(value: float) -> float:
    """The nearest smaller number of two digits."""
    step = 10.0 ** (math.floor(math.log10(value)) - 1)
    return round((math.ceil(value / step - 1e-9) - 1) * step, 15)


def _step_problems(spec: ProtocolSpec, kind: str) -> Iterator[Problem]:
    """Times of neurons and compartments that a step of the spiking level passes over."""
    model, given, dt = spec.model, spec.model.spiking, spec.spiking.dt
    shorter = f'of spiking.dt = {format_time(dt)}; expected at least "{format_time(dt)}", or steps'

    def part(time: float) -> str:
        return format_time(shorter_step(dt, time))

    ensembles = circuitry.circuit(model).ensembles
    for key in COUNTED[kind] if ensembles else ():
        time = getattr(given, key)
        if time < dt / 2:
            yield (
                ("model", "spiking", key),
                f'{format_time(time)} is less than half a step {shorter} of "{part(time)}"',
            )
    own = parameters.values(model).items()
    taus: dict[tuple[str, ...], Any] = {
        ("parameters", name): value for name, value in own if name.startswith("tau")
    }
    if ensembles:
        taus["spiking", "tau_synapse"] = given.tau_synapse
        taus["spiking", "tau_burst"] = given.tau_burst if model.bursting else 0
        taus["spiking", "tau_membrane"] = given.tau_membrane if kind == "lif" else 0
    for place, tau in taus.items():
        if tau and tau < dt:
            yield (
                ("model", *place),
                f"{format_time(tau)}, which decays within a step, is overshot by Euler's steps "
                f'{shorter} of "{part(tau)}"',
            )


def _stage_problems(
    spec: ProtocolSpec, stage: StageSpec, where: tuple[str | int, ...]
) -> Iterator[Problem]:
    if (stage.epochs is None) == (stage.presentations is None):
        yield where, "give either epochs or presentations, such as epochs = 5"
    names = [phase.name for phase in stage.phases]
    for name in {name for name in names if names.count(name) > 1}:
        yield (*where, "phases"), f"two phases are called {name!r}; give each its own name"
    if stage.order == "top-down" and not any(_descends(spec.model, p) for p in stage.phases):
        yield (
            (*where, "order"),
            "'top-down' orders feedback plasticity, which no phase opens; expected plastic = "
            "['feedback'] in one, or order = 'together'",
        )
    free = False
    credit = named(spec.model.credit)
    if credit.own_channel:
        yield from phase_problems(stage, spec.model, where)
    for number, phase in enumerate(stage.phases):
        at = (*where, "phases", number)
        if spec.timed:
            yield from _time_problems(spec, phase, at)
        if phase.teaching in ("frozen", "held") and not free:
            takes = {"frozen": "freezes the target", "held": "holds the output"}[phase.teaching]
            other = "use 'following', or " if phase.teaching == "frozen" else ""
            yield (
                (*at, "teaching"),
                f"{phase.teaching!r} {takes} at the end of a free phase (teaching = 'none'), and "
                f"none comes before; {other}put one before",
            )
        yield from _taught_by_nothing(spec.model, phase, stage.phases[:number], at)
        free |= phase.teaching == "none"


def _taught_by_nothing(
    model: ModelSpec, phase: PhaseSpec, passed: Sequence[PhaseSpec], at: tuple[str | int, ...]
) -> Iterator[Problem]:
    """Rules that compare a phase without teaching with an earlier one just like it."""
    made = circuitry.circuit(model)
    alike = [p.name for p in passed if (p.teaching, p.parameters) == ("none", phase.parameters)]
    for name in circuitry.opened(model, phase.plastic) if phase.teaching == "none" else ():
        remembered = made.projection[name].remembered if name in made.projection else ()
        for written, recalled in remembered:
            if recalled.phase in alike:
                yield (
                    (*at, "plastic"),
                    f"plasticity of {name} is open in a phase that teaches nothing, as "
                    f"{recalled.phase!r} did, which its rule compares it with as {written}; "
                    "expected teaching = 'following' or 'frozen'",
                )
                return


def _descends(model: ModelSpec, phase: PhaseSpec) -> bool:
    """Whether a phase opens feedback plasticity."""
    descends = circuitry.learning(model)
    return any(descends[name] for name in circuitry.opened(model, phase.plastic))


def _time_problems(
    spec: ProtocolSpec, phase: PhaseSpec, at: tuple[str | int, ...]
) -> Iterator[Problem]:
    if phase.duration is None:
        yield (
            (*at, "duration"),
            f"missing; the {spec.level} level needs to know how long the phase lasts, such as "
            'duration = "600 ms"',
        )
        return
    if phase.until == "settled" and spec.level != "spiking":
        if noise(spec.model):
            yield (*at, "until"), "a noisy network never settles; write until = 'duration'"
        if spec.plasticity == "online":
            yield (
                (*at, "until"),
                "online plasticity is open all along the phase; write until = 'duration'",
            )
    dt = _step(spec)
    if dt is not None:
        try:
            steps(phase.duration, dt)
        except ValueError as problem:
            yield (*at, "duration"), str(problem)
    if spec.level == "spiking" and spec.plasticity == "online":
        try:
            steps(phase.duration, spec.spiking.plasticity_every)
        except ValueError as problem:
            yield (*at, "duration"), str(problem).replace("dt =", "spiking.plasticity_every =")
    every = spec.record.every
    if every is not None:
        try:
            steps(phase.duration, every)
        except ValueError as problem:
            yield (*at, "duration"), str(problem).replace("dt =", "record.every =")


def _step(spec: ProtocolSpec) -> float | None:
    """The time step of the level, where it is fixed."""
    if spec.level == "spiking":
        return spec.spiking.dt
    if not spec.timed or spec.rate is None or spec.rate.adaptive:
        return None
    return spec.rate.dt


def _record_problems(spec: ProtocolSpec) -> Iterator[Problem]:
    observed = facts(spec.model).observed
    for number, name in enumerate(spec.record.variables or ()):
        if name not in observed:
            yield ("record", "variables", number), unknown("variable", name, observed)
    for number, layer in enumerate(spec.record.layers or ()):
        if layer > spec.model.depth:
            yield (
                ("record", "layers", number),
                f"layer {layer} of a network with {spec.model.depth} layers above its input; "
                f"expected 1 to {spec.model.depth}",
            )
    every, dt = spec.record.every, _step(spec)
    if every is not None and dt is not None:
        try:
            steps(every, dt)
        except ValueError as problem:
            yield ("record", "every"), str(problem)
    if spec.record.decomposition and (spec.plasticity == "online" or spec.level == "spiking"):
        yield (
            ("record", "decomposition"),
            "takes signals apart at the fixed points of the phases, which online plasticity and "
            "spikes do not have; leave it out",
        )
    elif spec.record.decomposition and circuitry.circuit(spec.model).convolves:
        yield (
            ("record", "decomposition"),
            "compares signals with those of pseudo-inverses, which convolutions do not have; leave "
            "it out",
        )
    samples, units = spec.record.samples, spec.record.units
    if isinstance(samples, int) and samples > spec.batch:
        yield (
            ("record", "samples"),
            f"{samples} samples of a batch of {spec.batch}; expected at most {spec.batch}",
        )
    for number, sample in enumerate(samples if isinstance(samples, list) else ()):
        if sample >= spec.batch:
            yield (
                ("record", "samples", number),
                f"sample {sample} of a batch of {spec.batch}, whose samples are 0 to "
                f"{spec.batch - 1}",
            )
    shown = [
        n for n in spec.record.layers or range(1, spec.model.depth + 1) if n <= spec.model.depth
    ]
    largest = max((spec.model.layers[i] for i in shown), default=0)
    for number, unit in enumerate(units if isinstance(units, list) else ()):
        if unit >= largest:
            yield (
                ("record", "units", number),
                f"unit {unit}, but the units of the largest recorded layer are 0 to {largest - 1}",
            )
