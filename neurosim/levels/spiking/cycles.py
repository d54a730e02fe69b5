"""What the neurons behind a unit do in a step, as text: for Brian2 (`neurons.py`) and for JAX
(`generators.py`).

It has the notation of cells, and beside what a cell may name `now`, the number of the step, and
what neurons keep of their spikes, which are numbers of steps, or 1 and 0. Parameters are those of
`Neurons`; `dead_steps`, `interval_steps` and `limit_steps` are its times in steps.
"""

from dataclasses import dataclass, field

import numpy as np

from neurosim.circuits.cells import Cell, Firing, assignments, condition
from neurosim.circuits.expressions import Expression, parse

CALLED = {"rand": 0, "fi_current": 1}
"""What it may call beside elementary functions: a uniform number, the current for a rate (Hz)."""

RATE = parse("clip(base_rate + gain*h, 0, max_rate)")
"""What a unit asks of its neurons, in Hz, for what it has to say, h."""

PROBABILITY = parse("clip(base_probability + probability_gain*h, 0, 1)")
"""The same of the share of their events that are bursts."""


@dataclass(frozen=True)
class Cycle:
    """What neurons of one kind do.

    drive: what their unit tells them, from the `rate` it asks for; burst_probability is told as it
    is. cell: what moves in them, when they spike, and what becomes of them then. kept: what they
    know of their spikes, by name, and as what. heard: by what a spike adds to what their unit
    hears in its step, from what was kept before it.
    """

    drive: Expression
    cell: Cell
    heard: dict[str, Expression]
    kept: dict[str, type] = field(default_factory=dict)

    @property
    def firing(self) -> Firing:
        """When they spike, and what then becomes of them."""
        assert self.cell.firing is not None, "neurons spike"
        return self.cell.firing


def _cycle(
    drive: str,
    threshold: str,
    heard: dict[str, str],
    *,
    equations: str = "",
    reset: str = "",
    refractory: str = "",
    kept: dict[str, type] | None = None,
) -> Cycle:
    waits = parse(refractory) if refractory else None
    firing = Firing(condition(threshold, CALLED), assignments(reset, CALLED), waits)
    return Cycle(
        drive=parse(drive, CALLED),
        cell=Cell(Cell.read(equations, {}).equations, firing),
        heard={name: parse(text) for name, text in heard.items()},
        kept=kept or {},
    )


CYCLES = {
    "poisson": _cycle("rate*dt", "rand() < drive", {"spikes": "1"}),
    "lif": _cycle(
        "fi_current(rate)",
        "v > 1",
        {"spikes": "1"},
        equations=(
            "dv/dt = (drive - v)/tau_membrane + membrane_noise*sqrt(2/tau_membrane)*xi"
            " (unless refractory)"
        ),
        reset="v = 0",
        refractory="refractory",
    ),
    # An event waits until it cannot be taken for the second spike of a burst; the hazard that then
    # comes makes up for that. Units hear of bursts by the intervals between spikes alone.
    "bursting": _cycle(
        "rate*dt / (1 - rate*(dead_time - dt))",
        "(pending > 0 and now >= last_spike + interval_steps)"
        " or (pending < 1 and now >= free_at and rand() < drive)",
        {
            "events": "int(now - last_spike >= limit_steps)",
            "bursts": "int(now - last_spike < limit_steps) * int(in_burst < 1)",
        },
        reset="""
            in_burst = int(now - last_spike < limit_steps)
            free_at = free_at*int(pending > 0) + (now + dead_steps)*int(pending < 1)
            pending = int(pending < 1) * int(rand() < burst_probability)
            last_spike = now
        """,
        kept={"pending": np.int8, "in_burst": np.int8, "free_at": np.int32, "last_spike": np.int32},
    ),
}
"""By kind."""
