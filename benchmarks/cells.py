"""A thousand adaptive neurons for a second, beside the same script written by hand in Brian2."""

from collections.abc import Callable
from typing import Any

import brian2 as b2
import numpy as np
from measure import Row, excess, interleaved

from neurosim.building.cells import load_cell_protocol
from neurosim.levels.keeping import Forgetful
from neurosim.levels.spiking import cells

COUNT, DURATION, DT, REPEATS = 1000, 1.0, 1e-4, 5

EQUATIONS = """
dv/dt = (g_L*(E_L - v) + g_L*D*exp((clip(v, -1*volt, V_p) - V_T)/D) - w + I(t))/C : volt
dw/dt = (a*(v - E_L) - w)/tau_w : amp
"""


def single_cells(device: str) -> list[Row]:
    """Both integrate by fourth-order Runge–Kutta and keep spikes and one potential."""
    del device
    taken = interleaved({"ours": ours(), "by hand": by_hand()}, REPEATS)
    what = f"{COUNT} adaptive neurons, {DURATION:g} s, over a script by hand"
    return [excess(what, taken["ours"], taken["by hand"], ("<=", 10.0))]


def ours() -> Callable[[], Any]:
    """The neurons by neurosim, from a checked protocol to the numbers."""
    stimulus = {"amplitude": "800 pA", "start": "100 ms"}
    changes: dict[str, Any] = {"model.use": "adex", "stimuli": [stimulus], "copies": COUNT}
    protocol = load_cell_protocol("current-clamp", changes | {"duration": f"{DURATION} s"})
    times = np.arange(round(DURATION / DT) + 1) * DT
    given = (
        protocol.cell,
        protocol.stimuli(),
        COUNT,
        DT,
        times,
        ["v"],
        [0],
        0,
        "cython",
        Forgetful(),
    )
    return lambda: cells.record(*given)


def by_hand() -> Callable[[], Any]:
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
            COUNT,
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
