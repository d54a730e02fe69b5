"""Adaptive exponential neurons under a step of current, by NEST."""

import numpy as np
from serving import Problem, Solution, Solve, needed, serve

nest = needed("nest")

CONSTANTS = {
    "C_m": 281.0,
    "g_L": 30.0,
    "E_L": -70.6,
    "Delta_T": 2.0,
    "V_th": -50.4,
    "V_peak": -40.4,
    "V_reset": -70.6,
    "tau_w": 144.0,
    "a": 4.0,
    "b": 80.5,
    "t_ref": 0.0,
}
"""pF, nS, mV, ms and pA, as of `models/neurons/adex.toml`."""


def make(given: Problem) -> Solve:
    """Build, simulate, read the spike times (s)."""
    step, end = 1e3 * given["dt"], 1e3 * given["duration"]

    def solve() -> Solution:
        nest.ResetKernel()
        nest.set(resolution=step, local_num_threads=1, print_time=False)
        neurons = nest.Create("aeif_psc_delta", given["count"], CONSTANTS)
        neurons.V_m = -70.6
        timing = {"amplitude": 800.0, "start": 100.0 - step, "stop": end}
        nest.Connect(nest.Create("dc_generator", params=timing), neurons, syn_spec={"delay": step})
        spikes = nest.Create("spike_recorder")
        voltage = nest.Create("multimeter", params={"record_from": ["V_m"], "interval": step})
        nest.Connect(neurons, spikes)
        nest.Connect(voltage, neurons[0])
        nest.Simulate(end)
        return {"times": np.asarray(spikes.events["times"]) * 1e-3}

    return solve


serve(make)
