"""A thousand adaptive neurons for a second, beside Brian2 by hand and beside NEST."""

from collections.abc import Callable
from typing import Any

import brian2 as b2
import numpy as np
from contests import GateError, raced
from measure import Absent, Entry, Row, duration, excess, interleaved, ratio

from neurosim.building.cells import load_cell_protocol
from neurosim.levels.keeping import Forgetful
from neurosim.levels.spiking import cells

COUNT, DURATION, DT, REPEATS = 1000, 1.0, 1e-4, 5

EQUATIONS = """
dv/dt = (g_L*(E_L - v) + g_L*D*exp((clip(v, -1*volt, V_p) - V_T)/D) - w + I(t))/C : volt
dw/dt = (a*(v - E_L) - w)/tau_w : amp
"""


def single_cells(device: str, small: bool = False) -> list[Entry]:
    """Both integrate by fourth-order Runge–Kutta and keep spikes and one potential.

    Their spikes have to be the same, to a step.
    """
    del device
    count, repeats = (10, 1) if small else (COUNT, REPEATS)
    calls = {"ours": ours(count), "by hand": by_hand(count)}
    what = f"{count} adaptive neurons, {DURATION:g} s, over a script by hand"
    try:
        agreed(calls["ours"]()[1][0], calls["by hand"]()[1], 1.5 * DT)
    except GateError as error:
        return [Absent(what, str(error))]
    taken = interleaved(calls, repeats)
    return [excess(what, taken["ours"], taken["by hand"], ("<=", 10.0))]


def ours(count: int) -> Callable[[], Any]:
    """The neurons by neurosim, from a checked protocol to the numbers."""
    stimulus = {"amplitude": "800 pA", "start": "100 ms"}
    changes: dict[str, Any] = {"model.use": "adex", "stimuli": [stimulus], "copies": count}
    protocol = load_cell_protocol("current-clamp", changes | {"duration": f"{DURATION} s"})
    times = np.arange(round(DURATION / DT) + 1) * DT
    observed: Any = (times, ["v"], [0], 0, "cython", Forgetful())
    given = protocol.cell, protocol.stimuli(), count, DT, *observed
    return lambda: cells.record(*given)


def agreed(found: np.ndarray, expected: np.ndarray, within: float) -> None:
    """Whether two simulations spiked at the same times (s); raises GateError if not."""
    if len(found) != len(expected):
        raise GateError(f"{len(found)} spikes here and {len(expected)} there")
    off = np.abs(np.sort(found) - np.sort(expected)).max()
    if off > within:
        raise GateError(f"spikes are up to {1e3 * off:.2g} ms apart, {1e3 * within:.2g} ms allowed")


def against_nest(device: str, small: bool = False) -> list[Entry]:
    """NEST's `aeif_psc_delta`, which adapts its steps within 0.1 ms, on one thread.

    Each simulates the second once more for every repeat; building the network is part of it, as it
    is of ours. Spike times may differ by a millisecond, as our steps are of fixed length.
    """
    del device
    count, repeats = (10, 1) if small else (COUNT, REPEATS)
    title = f"{count} adaptive neurons, {DURATION:g} s"
    given = {"count": count, "duration": DURATION, "dt": DT}
    sides = {"neurosim": ("cells_neurosim", given), "NEST": ("cells_nest", given)}
    taken, absent = raced(sides, repeats)
    if absent:
        return [Absent(f"{title}: {name}", why) for name, why in absent.items()]
    ours, theirs = taken["neurosim"], taken["NEST"]
    try:
        agreed(ours.solution["times"], theirs.solution["times"], 1e-3)
    except GateError as error:
        return [Absent(f"{title}: NEST", str(error))]
    rows: list[Entry] = []
    for name, there in (("neurosim", ours), ("NEST", theirs)):
        rows += [
            duration(f"{title}: {name}", there.seconds, "s"),
            Row(f"{title}: {name}, start", there.start, "s"),
            Row(f"{title}: {name}, first run", there.first, "s"),
            Row(f"{title}: {name}, peak memory", there.peak, "MB"),
        ]
    what, pair = f"{title}: NEST over neurosim", (theirs.processors, ours.processors)
    return [
        *rows,
        ratio(what, theirs.seconds, ours.seconds),
        ratio(f"{what}, processor time", *pair),
    ]


def by_hand(count: int) -> Callable[[], Any]:
    """The same as one would write it."""
    constants = {
        "C": 281 * b2.pF,
        "g_L": 30 * b2.nS,
        "E_L": -70.6 * b2.mV,
        "D": 2 * b2.mV,
        "V_T": -50.4 * b2.mV,
        "V_p": -40.4 * b2.mV,
        "tau_w": 144 * b2.ms,
        "a": 4 * b2.nS,
        "b": 0.0805 * b2.nA,
    }
    steps = np.where(np.arange(round(DURATION / DT)) * DT < 0.1, 0.0, 800.0)

    def run() -> Any:
        b2.prefs.codegen.target = "cython"
        current = b2.TimedArray(steps * b2.pA, DT * b2.second)
        neurons = b2.NeuronGroup(
            count,
            EQUATIONS,
            threshold="v > V_p",
            reset="v = E_L\nw += b",
            method="rk4",
            dt=DT * b2.second,
        )
        neurons.v = -70.6 * b2.mV
        potential, spikes = b2.StateMonitor(neurons, "v", [0]), b2.SpikeMonitor(neurons)
        network = b2.Network(neurons, potential, spikes)
        network.run(DURATION * b2.second, namespace=constants | {"I": current})
        return np.asarray(potential.v), np.asarray(spikes.t)

    return run
