"""Adaptive exponential neurons under a step of current, by neurosim in Brian2."""

from typing import Any

from serving import Problem, Solution, Solve, serve


def make(given: Problem) -> Solve:
    """From a checked protocol to spike times (s)."""
    import numpy as np

    from neurosim.building.cells import load_cell_protocol
    from neurosim.levels.keeping import Forgetful
    from neurosim.levels.spiking import cells

    count, duration, dt = given["count"], given["duration"], given["dt"]
    changes = {"model.use": "adex", "stimuli": [{"amplitude": "800 pA", "start": "100 ms"}]}
    changes |= {"copies": count, "duration": f"{duration} s"}
    protocol = load_cell_protocol("current-clamp", changes)
    times = np.arange(round(duration / dt) + 1) * dt

    def solve() -> Solution:
        seen: Any = (times, ["v"], [0], 0, "cython", Forgetful())
        found = cells.record(protocol.cell, protocol.stimuli(), count, dt, *seen)
        return {"times": found[1][0]}

    return solve


serve(make)
