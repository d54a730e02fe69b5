"""What a protocol can hardly mean: doubts, key by key, some of which no result would survive."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from neurosim.building.facts import facts, noise
from neurosim.building.ingredients import neurons
from neurosim.credit import named
from neurosim.errors import either
from neurosim.levels.schemes import SCHEMES
from neurosim.levels.spiking.neurons import COUNTED
from neurosim.models import circuitry
from neurosim.specs import (
    CreditSpec,
    LearningRate,
    ModelSpec,
    ProjectionSpec,
    ProtocolSpec,
    RateLaw,
    StageSpec,
)
from neurosim.specs.toml import dotted
from neurosim.theory.relaxation import chain
from neurosim.units import format_time, shorter_step

FINE = 1.0
"""Steps in units of the fastest time constant, which no scheme amplifies without rotation."""


class Concern(NamedTuple):
    """A key, what is doubtful about it, and whether it makes the results worthless."""

    key: tuple[str | int, ...]
    message: str
    fatal: bool


def concerns(spec: ProtocolSpec) -> Iterator[Concern]:
    """Everything that is possible and hardly meant."""
    yield from _unused(spec)
    yield from _nothing_opened(spec)
    yield from _lost_signals(spec)


def _unused(spec: ProtocolSpec) -> Iterator[Concern]:
    """Keys that say something, of what another key switches off."""
    read, credit = circuitry.files(spec.model).values(), spec.model.credit
    for key, unused, reader in (
        *(
            (
                ("model", "projections", name, "file"),
                given.file and given.file not in read,
                f"projections.{name}.init = 'file'",
            )
            for name, given in spec.model.projections.items()
        ),
        *(
            (
                ("model", "projections", name, "names"),
                given.names and given.file not in read,
                f"projections.{name}.init = 'file', and a file,",
            )
            for name, given in spec.model.projections.items()
        ),
        *(
            (
                ("model", "projections", name, "distance"),
                given.distance != ProjectionSpec(wire="").distance and given.init != "near-teacher",
                f"projections.{name}.init = 'near-teacher'",
            )
            for name, given in spec.model.projections.items()
        ),
        (
            ("model", "credit", "file"),
            credit is not None and credit.file is not None and credit.init != "file",
            "credit.init = 'file'",
        ),
        *(
            (("model", "credit", f"{what}_scale"), given, f"credit.{what}_bits")
            for what, given in _idle_scales(credit)
        ),
        *((("rate", key), given, "adaptive = true") for key, given in _idle_tolerances(spec)),
        (
            ("spiking", "target"),
            spec.level == "spiking"
            and spec.spiking.engine == "jax"
            and spec.spiking.target != "auto",
            "spiking.engine = 'brian2'",
        ),
        (
            ("schedule", "final"),
            spec.schedule.final != 1 and spec.schedule.kind == "constant",
            "schedule.kind = 'linear' or 'exponential'",
        ),
    ):
        if unused:
            yield Concern(key, f"is not used; {reader} would use it", fatal=False)


def _nothing_opened(spec: ProtocolSpec) -> Iterator[Concern]:
    """Phases that open the plasticity of weights that stay, or follow others, whatever is open."""
    model = spec.model
    descends = {p.name: p.descends for p in circuitry.circuit(model).projections if p.weighed}
    if circuitry.channel(model):
        descends[circuitry.CHANNEL] = True
    idle = {
        direction: ", ".join(name for name, down in descends.items() if down == falls)
        for direction, falls in (("forward", False), ("feedback", True))
        if not circuitry.opened(model, [direction])
    }
    sides = {"forward": "below", "feedback": "above"}
    for number, stage in enumerate(spec.stages):
        for k, phase in enumerate(stage.phases):
            for at, name in enumerate(phase.plastic):
                if name in idle:
                    lack = (
                        f"for lack of a rule that learns: {idle[name]}; give one, or leave it out"
                        if idle[name]
                        else f"as no weights carry anything from {sides[name]}; leave it out"
                    )
                    yield Concern(
                        ("stages", number, "phases", k, "plastic", at),
                        f"opens nothing, {lack}",
                        fatal=False,
                    )


def _still(rate: LearningRate | RateLaw) -> bool:
    """Whether a rate is 0 in all layers, as it is written."""
    return isinstance(rate, LearningRate) and not any(rate.values)


def closed(spec: ProtocolSpec) -> Iterator[Concern]:
    """Rules with a rate that no phase opens, where phases do open others.

    No concern by itself, as to keep feedback where it starts this is how one says so.
    """
    model, opening = spec.model, []
    opened: dict[str, None] = {}
    for number, stage in enumerate(spec.stages):
        for k, phase in enumerate(stage.phases):
            found = circuitry.opened(model, phase.plastic)
            opened |= dict.fromkeys(found)
            opening += [(number, k, phase)] if found else []
    if not opening:  # networks that are only looked at
        return
    number, k, phase = opening[-1]
    for name in circuitry.opened(model, ("forward", "feedback")):
        given = model.projections.get(name, model.credit)
        if name in opened or given is None or _still(given.rate):
            continue
        own = ("projections", name) if name in model.projections else ("credit",)
        yield Concern(
            ("model", *own, "rate"),
            f"no phase opens the plasticity of {name}, so that it stays as it starts; expected it "
            f"in one, such as stages.{number}.phases.{k}.plastic = {[*phase.plastic, name]}, or "
            f"{dotted(('model', *own, 'rate'))} = 0 if it is to stay",
            fatal=False,
        )


def _idle_scales(credit: CreditSpec | None) -> list[tuple[str, bool]]:
    """Scales of quantisers that there are not."""
    if credit is None:
        return []
    usual = {key: field.default for key, field in CreditSpec.model_fields.items()}
    of = {"error": credit.error_bits, "update": credit.update_bits}
    return [
        (what, bits is None and getattr(credit, f"{what}_scale") != usual[f"{what}_scale"])
        for what, bits in of.items()
    ]


def _idle_tolerances(spec: ProtocolSpec) -> list[tuple[str, float | None]]:
    """Tolerances of fixed, explicit steps."""
    rate = spec.rate
    if spec.level != "rate" or rate is None or rate.adaptive or SCHEMES[rate.scheme].implicit:
        return []
    return [("rtol", rate.rtol), ("atol", rate.atol)]


def _lost_signals(spec: ProtocolSpec) -> Iterator[Concern]:
    """Where precision or the length of a phase cannot carry the signal to the lowest layer.

    Estimates for exact inverses and an output error as large as the activity: the signal of layer
    i is then η̂ attenuation_i of the activity.
    """
    model = spec.model
    credit, attenuation = named(model.credit), facts(model).attenuation
    if credit.own_channel and credit.form is None:
        return
    signal = model.target_step * np.array(attenuation)
    lost = float(np.finfo(spec.precision).eps) / signal[0]
    if lost > 1e-2:
        yield Concern(
            ("precision",),
            f"{spec.precision} carries the learning signal of layer 1, about {signal[0]:.1e} of "
            f"the activity, only to {lost:.0%}; use {_larger(spec, signal[0])}",
            fatal=lost > 0.5,
        )
    if spec.level == "spiking":
        yield from _spiking_concerns(spec)
    if spec.level == "rate":
        for number, stage in enumerate(spec.stages):
            yield from _long_steps(spec, stage, ("stages", number))
    if spec.level == "rate" and not noise(model):
        for number, stage in enumerate(spec.stages):
            yield from _transient_concerns(spec.model, stage, ("stages", number), signal)


def _larger(spec: ProtocolSpec, signal: float) -> str:
    """What lets the precision carry a signal."""
    ways = []
    if np.finfo("float64").eps / signal <= 1e-2 and spec.precision != "float64":
        ways.append("precision = 'float64'")
    if "mu" in spec.model.parameters:
        ways.append("a larger model.parameters.mu")
    return either([*ways, "fewer layers"])


def _long_steps(
    spec: ProtocolSpec, stage: StageSpec, where: tuple[str | int, ...]
) -> Iterator[Concern]:
    """Fixed steps that amplify what decays, with exact inverses."""
    rate = spec.rate
    if rate is None or rate.adaptive or SCHEMES[rate.scheme].implicit:
        return
    for phase in stage.phases:
        way = chain(spec.model, phase.teaching, changed=phase.values)
        if way is None or not np.isfinite(way.slowest):
            continue
        eigenvalues = np.linalg.eigvals(way.A).astype(complex)
        if rate.dt * np.abs(eigenvalues).max() < FINE:
            continue
        from neurosim.levels.stability import longest_step  # which imports what integrates

        longest = longest_step(rate.scheme, eigenvalues, rate.dt)
        if longest < rate.dt:
            fitting = format_time(shorter_step(rate.dt, longest * (1 - 1e-6)))
            yield Concern(
                ("rate", "dt"),
                f"steps of {format_time(rate.dt)} amplify phase {phase.name!r} of "
                f"{'.'.join(map(str, where))} although it is stable, and will be cut; "
                f"{rate.scheme!r} needs less "
                f'than {format_time(round(longest, 6))}, such as "{fitting}", or adaptive = true',
                fatal=False,
            )
            return


def _transient_concerns(
    model: ModelSpec, stage: StageSpec, where: tuple[str | int, ...], signal: np.ndarray
) -> Iterator[Concern]:
    """Phases that end before the way to rest is short against the learning signals `signal`."""
    start = None
    for k, phase in enumerate(stage.phases):
        way = chain(model, phase.teaching, changed=phase.values)
        if way is None or not np.isfinite(way.slowest):  # nothing is known, or nothing settles
            return
        start = np.zeros_like(way.b) if start is None else start
        if phase.duration is not None:
            shares = way.transient(start, phase.duration) / signal
            worst = int(np.argmax(shares))
            if shares[worst] > 1e-1:
                needed = 1e3 * way.until(start, 1e-2 * signal)
                yield Concern(
                    (*where, "phases", k, "duration"),
                    f"after {format_time(phase.duration)} the transient is still about "
                    f"{_times(shares[worst])} the learning signal of layer {worst + 1}; about "
                    f"{needed:.0f} ms settle it",
                    fatal=shares[worst] > 10,
                )
        start = way.rest


def _spiking_concerns(spec: ProtocolSpec) -> Iterator[Concern]:
    """Times of neurons that steps round; counting that begins before anything has settled."""
    window, made = spec.spiking.window, neurons(spec)
    ensembles = circuitry.circuit(spec.model).ensembles
    for key in COUNTED[made.kind] if ensembles else ():
        asked, taken = getattr(spec.model.spiking, key), getattr(made, key)
        if abs(taken - asked) > 1e-9 * asked:
            yield Concern(
                ("model", "spiking", key),
                f"{format_time(asked)} is no multiple of spiking.dt = {format_time(made.dt)} and "
                f"is taken as {format_time(round(taken, 12))}; write that if it is meant",
                fatal=False,
            )
    for number, stage in enumerate(spec.stages):
        for k, phase in enumerate(stage.phases):
            if phase.duration is not None and phase.duration <= window:
                yield Concern(
                    ("stages", number, "phases", k, "duration"),
                    f"rates are counted over all {format_time(phase.duration)} of the phase, its "
                    f"transient included, as spiking.window is {format_time(window)}; expected "
                    f'a longer phase, such as "{format_time(2 * window)}", or a shorter window',
                    fatal=False,
                )


def _times(share: float) -> str:
    return f"{share:.0f} times" if share >= 2 else f"{share:.0%} of"
