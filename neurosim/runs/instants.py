"""At which times of a presentation a run is looked at."""

import itertools
import math

from neurosim.specs import PhaseSpec, ProtocolSpec
from neurosim.units import steps


def phase_times(spec: ProtocolSpec, phases: list[PhaseSpec]) -> tuple[tuple[float, ...], ...]:
    """When each phase is looked at (s from its start): the first one also at its very start."""
    if not spec.timed:
        return tuple((0.0,) for _ in phases)
    every = spec.record.every or default_interval(spec)
    times = []
    for number, phase in enumerate(phases):
        assert phase.duration is not None, "checked at load"
        count = steps(phase.duration, every)
        first = 0 if number == 0 else 1
        times.append(tuple(min(k * every, phase.duration) for k in range(first, count + 1)))
    return tuple(times)


def default_interval(spec: ProtocolSpec) -> float:
    """The recording interval of a protocol that names none: a step that fits all its phases.

    The largest that divides every phase and still gives the longest presentation 100 points, in
    whole time steps (whole microseconds where steps adapt).
    """
    unit = _unit(spec)
    durations = [[round((p.duration or 0) / unit) for p in stage.phases] for stage in spec.stages]
    common = math.gcd(*itertools.chain(*durations))
    wanted = max(map(sum, durations)) / 100
    fitting = [d for d in _divisors(common) if d <= wanted]
    return max(fitting, default=1) * unit


def _unit(spec: ProtocolSpec) -> float:
    """The time step, of which recorded moments are whole multiples."""
    if spec.level == "spiking":
        return spec.spiking.dt
    assert spec.rate is not None, "checked at load"
    return 1e-6 if spec.rate.adaptive else spec.rate.dt


def _divisors(n: int) -> list[int]:
    small = [d for d in range(1, math.isqrt(n) + 1) if n % d == 0]
    return [*small, *(n // d for d in small)]
