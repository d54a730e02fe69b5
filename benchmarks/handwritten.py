"""The same spiking network written by hand in Brian2, as one would without neurosim.

Mixture network of sigmoid units, N Poisson neurons each, parallel copies, presentations of a free
and a learning phase; spikes are counted over the end of each phase and weights written between
presentations. No learning rule: what is compared is the simulation.
"""

from typing import Any

import brian2 as b2
import numpy as np


def network(
    sizes: tuple[int, ...], copies: int, count: int, dt: float, phase: float, window: float
) -> Any:
    """run(W, Q, x, targets): as many presentations as targets; mean rates by phase and layer."""
    b2.prefs.codegen.target = "cython"
    clock = b2.Clock(dt * b2.second)
    base, gain, top = 1.0, 98.0, 100.0
    namespace = {
        "tau_soma": 20 * b2.ms,
        "tau_dend": 5 * b2.ms,
        "mu": 0.2,
        "per_spike": 1 / (count * dt * gain),
        "offset": base / gain,
        "base": base,
        "gain": gain,
        "top": top,
        "step": dt,
    }
    depth = len(sizes) - 1
    units: list[Any] = []
    cells: list[Any] = []
    told: list[Any] = []
    basal: list[Any] = []
    apical: list[Any] = []
    for i in range(1, depth + 1):
        fed_back = "s_apical" if i < depth else "taught * target + (1 - taught) * soma"
        equations = f"""
        dbasal/dt = (basal_in - basal)/tau_dend : 1
        dsoma/dt = ((1 - mu)/(1 + exp(-basal)) + mu * fed_back - soma)/tau_soma : 1
        fed_back = {fed_back} : 1
        p_spike = clip(base + gain * soma, 0, top) * step : 1 (constant over dt)
        sent = spikes * per_spike - offset : 1 (constant over dt)
        basal_in : 1
        spikes : 1
        total : 1
        """
        if i < depth:
            equations += """
            dapical/dt = (apical_in - apical)/tau_dend : 1
            apical_in : 1
            s_apical = 1/(1 + exp(-apical)) : 1
            """
        else:
            equations += "target : 1\ntaught : 1\n"
        group = b2.NeuronGroup(
            copies * sizes[i], equations, method="euler", clock=clock, namespace=namespace
        )
        group.run_regularly("spikes = 0", when="after_groups", clock=clock)
        neurons = b2.NeuronGroup(
            len(group) * count,
            "p_spike : 1 (linked)",
            threshold="rand() < p_spike",
            method="euler",
            clock=clock,
        )
        unit = np.arange(len(neurons)) // count
        neurons.p_spike = b2.linked_var(group, "p_spike", index=unit)
        counting = b2.Synapses(
            neurons, group, on_pre="spikes_post += 1\ntotal_post += 1", clock=clock
        )
        counting.connect(i=np.arange(len(neurons)), j=unit)
        units.append(group)
        cells.append(neurons)
        told.append(counting)
    for i in range(1, depth):
        for kind, pre, post, kept in (("basal", i, i + 1, basal), ("apical", i + 1, i, apical)):
            dense = b2.Synapses(
                units[pre - 1],
                units[post - 1],
                f"w : 1\n{kind}_in_post = w * sent_pre : 1 (summed)",
                clock=clock,
            )
            copy, q, p = np.meshgrid(
                np.arange(copies), np.arange(sizes[post]), np.arange(sizes[pre]), indexing="ij"
            )
            dense.connect(i=(copy * sizes[pre] + p).ravel(), j=(copy * sizes[post] + q).ravel())
            kept.append(dense)

    rates: list[list[np.ndarray]] = []
    task: dict[str, Any] = {}
    length, opening = round(phase / dt), round((phase - window) / dt)
    before: list[np.ndarray] = []

    def value(group: Any, name: str) -> np.ndarray:
        return group.variables[name].get_value()

    @b2.network_operation(clock=clock, when="before_start")
    def act() -> None:
        step = task["step"]
        task["step"] += 1
        number, within = divmod(step, length)
        if within == opening:
            before[:] = [value(group, "total").copy() for group in units]
        if within:
            return
        if number:
            now = [value(group, "total") for group in units]
            rates.append([(b - a) / (count * window) for a, b in zip(before, now, strict=True)])
        presentation, learning = divmod(number, 2)
        if presentation == len(task["targets"]):
            return
        value(units[-1], "taught")[:] = learning
        value(units[-1], "target")[:] = task["targets"][presentation].ravel()
        if not learning:
            for group in units:
                for name in ("basal", "soma", "apical", "spikes"):
                    if name in group.variables:
                        value(group, name)[:] = 0
            for dense, matrix in zip((*basal, *apical), task["weights"], strict=True):
                value(dense, "w").reshape(copies, -1)[:] = matrix.ravel()
            value(units[0], "basal_in")[:] = task["drive"].ravel()

    brian = b2.Network(*units, *cells, *told, *basal, *apical, act)

    def run(W: Any, Q: Any, x: np.ndarray, targets: np.ndarray) -> list[list[np.ndarray]]:
        rates.clear()
        task.update(step=0, weights=(*W[1:], *Q), drive=x @ W[0].T, targets=targets)
        flags = b2.prefs.codegen.cpp.extra_compile_args_gcc
        usual = ["-O3" if flag == "-O1" else flag for flag in flags]
        b2.prefs.codegen.cpp.extra_compile_args_gcc = usual  # not what neurosim sets
        try:
            brian.run(2 * len(targets) * length * clock.dt, namespace={})
        finally:
            b2.prefs.codegen.cpp.extra_compile_args_gcc = flags
        return rates

    return run
