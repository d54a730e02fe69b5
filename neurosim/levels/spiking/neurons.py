"""The spike generators: how an ensemble of neurons turns the rate of a unit into spikes.

A unit's activity h is carried by N neurons as deviations of their rate from a base rate,

    r = r_0 + γ h   (Hz),

clipped to what a neuron can fire. Poisson neurons fire at exactly that rate. Leaky
integrate-and-fire neurons are driven by the current that makes them fire at it, read from their
calibrated f–I curve. Event/burst neurons fire events at that rate, and make an event a burst with
probability p = p_0 + γ_p ĥ. Two-compartment cells do both by what their membranes make of the
currents they are given (`pyramids.py`).
"""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from neurosim.circuits.lone_cells import LoneCell
from neurosim.levels.spiking.cycles import CYCLES, PROBABILITY, RATE, Cycle
from neurosim.levels.spiking.interneurons import RATIO, Dividing
from neurosim.levels.spiking.pyramids import COLUMNS, INPUTS, Line, Working, on_spike

LONG_AGO = -(1 << 30)
"""A time step before every spike."""

LONG_BEFORE = -1e9
"""The same in seconds."""

PYRAMIDAL = "bursting-pyramidal"

COUNTED = {
    "poisson": (),
    "lif": ("refractory",),
    "bursting": ("burst_interval", "burst_limit"),
    PYRAMIDAL: ("burst_limit",),
}
"""Kind → its times that are whole steps."""

NUMBERS = (
    *("dt", "base_rate", "gain", "max_rate", "base_probability", "probability_gain"),
    *("dead_time", "tau_membrane", "membrane_noise"),
)
STEPS = "dead_steps", "interval_steps", "limit_steps"
"""What cycles are told as numbers, and as numbers of steps."""


@dataclass(frozen=True)
class Neurons:
    """An ensemble of one unit; rates in Hz, times in s.

    kind: `poisson`, `lif`, `bursting` or `bursting-pyramidal`. count: N. base_rate, gain: r_0 and
    γ. max_rate: the rate is clipped to (0, max_rate). dt: of the simulation.
    tau_membrane, refractory, membrane_noise: of `lif`; the noise is the stationary deviation of
    the free membrane, with reset at 0 and threshold at 1.
    base_probability, probability_gain: p_0 and γ_p; burst_interval: between the two spikes of a
    burst; burst_limit: inter-spike intervals below it belong to a burst; tau_burst: over which who
    receives them tells the fraction of events that are bursts.
    What is `COUNTED` is whole steps, at least one: rounded here, so that what waits for it and what
    makes up for the wait agree.
    current: of `lif`: the current that makes it fire at k times `table_step`.
    cell: of `bursting-pyramidal`: its text and numbers. currents: whether those of both
    compartments are found together. working: how it is driven and heard. interneurons: how many of
    a unit divide what is heard of its bursts; dividing: these.
    """

    kind: str
    count: int
    base_rate: float
    gain: float
    max_rate: float
    dt: float
    tau_membrane: float = 10e-3
    refractory: float = 2e-3
    membrane_noise: float = 0.1
    base_probability: float = 0.5
    probability_gain: float = 0.2
    burst_interval: float = 5e-3
    burst_limit: float = 16e-3
    tau_burst: float = 20e-3
    current: np.ndarray = field(default_factory=lambda: np.zeros(0), repr=False)
    currents: str = "joint"
    cell: LoneCell | None = field(default=None, repr=False)
    working: Working | None = field(default=None, repr=False)
    interneurons: int = 0
    dividing: Dividing | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        for name in COUNTED[self.kind]:
            steps = max(1, round(getattr(self, name) / self.dt))
            object.__setattr__(self, name, steps * self.dt)

    @property
    def bursts(self) -> bool:
        """Whether these neurons multiplex."""
        return self.kind in ("bursting", PYRAMIDAL)

    @property
    def per_spike(self) -> float:
        """What one spike of the ensemble in one step says of the rate, in units of h."""
        return 1 / (self.count * self.dt * self.gain)

    @property
    def base_in_h(self) -> float:
        """The base rate in units of h."""
        return self.base_rate / self.gain

    @property
    def events_heard(self) -> Line:
        """The rate of events, in units of h, over what of them is heard."""
        if self.working is None:
            return Line()
        line = self.working.events
        return Line(line.offset / self.gain, line.slope)

    @property
    def share_heard(self) -> Line:
        """The burst probability over the ratio of what is heard of bursts to the rate of events."""
        return Line() if self.working is None else self.working.share

    @property
    def least_heard(self) -> float:
        """The rate of events that divides, in units of h, where fewer are heard."""
        return self.base_in_h * (1e-3 if self.working is None else 0.1)

    @property
    def dead_time(self) -> float:
        """After an event no other may begin: else two would look like a burst."""
        return self.burst_interval + self.burst_limit + self.dt

    @property
    def inhibitory(self) -> "Neurons":
        """The interneurons of a unit, which fire `RATIO` times as often as its cells have events.

        What they say is in units of the activity.
        """
        return replace(
            self,
            kind="lif",
            count=self.interneurons,
            base_rate=RATIO * self.base_rate,
            gain=RATIO * self.gain,
            max_rate=RATIO * self.max_rate,
            cell=None,
            working=None,
            interneurons=0,
        )

    def noiseless_current(self, rate: float) -> float:
        """The current at which a noiseless integrate-and-fire neuron fires at a rate."""
        free = 1 / rate - self.refractory
        return 1 / -np.expm1(-free / self.tau_membrane)

    def drive(self, h: str) -> str:
        """What the unit tells its neurons: their rate, as a probability a step, or the current."""
        rate = RATE.written(self._numbers | {"h": h}, {})
        if self.kind == PYRAMIDAL:  # the current also depends on the burst probability
            return f"event_rate_asked = {rate} : 1"
        called = {"fi_current": lambda rate: f"fi_current({rate} * second)"}
        drive = self.cycle.drive.written(self._numbers | {"rate": rate}, called)
        return f"drive = {drive} : 1 (constant over dt)"

    def burst_drive(self, h: str) -> str:
        """The burst probability of the unit, or the current that makes it."""
        p = PROBABILITY.written(self._numbers | {"h": h}, {})
        if self.kind != PYRAMIDAL:
            return f"burst_probability = {p} : 1 (constant over dt)"
        last = COLUMNS - 1
        of_share = f"int(burst_probability_asked * {last} + 0.5)"
        of_rate = f"int(event_rate_asked * {last / self.max_rate!r} + 0.5)"
        somatic = f"somatic_current(event_rate_asked * second, {of_share})"
        apical = f"apical_current(burst_probability_asked * second, {of_rate})"
        return (
            f"burst_probability_asked = {p} : 1\n"
            f"drive = {somatic} : 1 (constant over dt)\n"
            f"apical_drive = {apical} : 1 (constant over dt)"
        )

    @property
    def cycle(self) -> Cycle:
        """What they do in a step; two-compartment cells have a text of their own."""
        return CYCLES[self.kind]

    @property
    def _numbers(self) -> dict[str, str]:
        """What stands in Brian2 for the names of a cycle."""
        own = {name: repr(getattr(self, name)) for name in NUMBERS}
        steps = {name: repr(getattr(self, name)) for name in STEPS}
        return own | steps | {"now": "t_in_timesteps"}

    @property
    def equations(self) -> str:
        """Of one neuron, with what it is told by its unit as linked variables."""
        held = " (unless refractory)"
        moving = (
            f"d{e.name}/dt = {e.right.text} : 1{held if e.held else ''}"
            for e in self.cycle.cell.equations
        )
        told = (f"{name} : 1 (linked)" for name in self.told)
        return "\n".join([*moving, *told, *(f"{name} : integer" for name in self.cycle.kept)])

    @property
    def threshold(self) -> str:
        """When it spikes."""
        return self.cycle.firing.threshold.written(self._numbers, {})

    @property
    def reset(self) -> str | None:
        """What a spike does to the neuron."""
        reset = self.cycle.firing.reset
        lines = (f"{name} = {right.written(self._numbers, {})}" for name, right in reset)
        return "\n".join(lines) or None

    def group(self, count: int, clock: Any, name: str, b2: Any) -> Any:
        """So many of them in Brian2, which have yet to be linked with what they are told."""
        waits = self.cycle.firing.refractory is not None
        return b2.NeuronGroup(
            count,
            self.equations,
            threshold=self.threshold,
            reset=self.reset,
            refractory=self.refractory * b2.second if waits else False,
            method="euler",
            clock=clock,
            namespace=self.namespace(b2),
            name=name,
        )

    @property
    def table_step(self) -> float:
        """Between two rates of the table of currents, in Hz: as a time, a whole number of steps."""
        return self.dt * max(1, round(self.max_rate / 4096 / self.dt))

    @property
    def table_parts(self) -> int:
        """Of `table_step`, to which Brian2 rounds a rate before it takes the entry below."""
        return int(2 ** np.ceil(np.log2(8 * round(self.table_step / self.dt))))

    @property
    def told(self) -> tuple[str, ...]:
        """What the unit tells its neurons."""
        if self.kind == PYRAMIDAL:
            return tuple(INPUTS)
        return ("drive", "burst_probability") if self.bursts else ("drive",)

    def namespace(self, b2: Any) -> dict[str, Any]:
        """What the equations call by name; b2: the Brian2 module."""
        if self.working is not None:
            return {"inf": np.inf, **self.working.tables(b2)}
        if self.kind != "lif":
            return {"inf": np.inf}
        return {
            "inf": np.inf,
            "tau_membrane": self.tau_membrane * b2.second,
            "membrane_noise": self.membrane_noise,
            # A table over the rate, as one over time: the library's way to look numbers up.
            "fi_current": b2.TimedArray(
                self.current, dt=self.table_step * b2.second, name="fi_table"
            ),
        }

    def start(self, rng: np.random.Generator, size: int, step: int) -> dict[str, np.ndarray]:
        """Where in their cycle neurons at the base rate are at time step `step`."""
        if self.working is not None:
            return self.working.start(rng, size, step)
        match self.kind:
            case "lif":
                return {
                    "v": rng.random(size),
                    "lastspike": np.full(size, LONG_BEFORE),
                    "not_refractory": np.ones(size, bool),
                }
            case "bursting":
                dead = self.dead_time / self.dt
                waiting = rng.random(size) < self.base_rate * self.dead_time
                return {
                    "free_at": step + np.where(waiting, rng.random(size) * dead, 0).astype(int),
                    "pending": np.zeros(size, int),
                    "in_burst": np.zeros(size, int),
                    "last_spike": np.full(size, LONG_AGO),
                }
            case _:
                return {}

    @property
    def dead_steps(self) -> int:
        """`dead_time` in steps."""
        return round(self.dead_time / self.dt)

    @property
    def interval_steps(self) -> int:
        """`burst_interval` in steps."""
        return round(self.burst_interval / self.dt)

    @property
    def limit_steps(self) -> int:
        """`burst_limit` in steps."""
        return round(self.burst_limit / self.dt)

    @property
    def on_spike(self) -> str:
        """What a spike tells the unit."""
        if self.kind == PYRAMIDAL:
            return on_spike(self.limit_steps, self.dt)
        names = self._numbers | {name: f"{name}_pre" for name in self.cycle.kept}
        return "\n".join(
            f"{name}_post += {text.written(names, {})}"
            for heard, text in self.cycle.heard.items()
            for name in (heard, counted(heard))
        )


def counted(heard: str) -> str:
    """What counts all that is heard."""
    return f"{heard.removesuffix('s')}_count"
