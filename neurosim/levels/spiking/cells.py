"""Lone cells that are reset when they spike, or noisy, or driven by samples: Brian2."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from neurosim.circuits.cells import SPIKES, STEP
from neurosim.circuits.lone_cells import NOISE, LoneCell
from neurosim.levels.cells import Recorded, Spikes
from neurosim.levels.spiking.brian import b2
from neurosim.levels.spiking.runtime import use
from neurosim.stimuli import Stimulus

PREFIX = "of_"
"""Before the cell's own names, some of which mean something else to Brian2."""


def record(
    lone: LoneCell,
    stimuli: Sequence[Stimulus],
    cells: int,
    dt: float,
    times: Float[np.ndarray, " moments"],
    wanted: Sequence[str],
    seen: Sequence[int],
    seed: int,
    target: str,
) -> tuple[Recorded, Spikes]:
    """Let cells move in steps of dt by Runge–Kutta's fourth-order scheme, Heun's where noisy.

    times: multiples of dt, the last one the end. seen: the numbers of the cells that are looked at.

    Returns:
        The wanted quantities, of the cells seen, and the spikes of all: at the end of the step in
        which the threshold was passed.
    """
    use(target)
    kept = np.random.get_state()
    steps = round(times[-1] / dt)
    every = round((times[1] - times[0]) / dt) if len(times) > 1 else steps
    try:
        b2.seed(seed)
        group, namespace = _group(lone, stimuli, cells, dt, steps)
        monitor = b2.StateMonitor(
            group, [PREFIX + name for name in wanted], list(seen), dt=every * dt * b2.second
        )
        fires = lone.cell.firing is not None
        spikes = b2.SpikeMonitor(group) if fires else None
        network = b2.Network(group, monitor, *([spikes] if fires else []))
        network.run(steps * dt * b2.second, namespace=namespace)
        monitor.record_single_timestep()  # the end itself
    finally:
        np.random.set_state(kept)
    recorded = {
        name: np.asarray(getattr(monitor, PREFIX + name + "_")).T[: len(times)] for name in wanted
    }
    if spikes is None:
        return recorded, (np.zeros(0), np.zeros(0, int))
    return recorded, (np.asarray(spikes.t_) + dt, np.asarray(spikes.i[:]))


def _group(
    lone: LoneCell, stimuli: Sequence[Stimulus], cells: int, dt: float, steps: int
) -> tuple[b2.NeuronGroup, dict[str, Any]]:
    """The cells, and the stimuli and parameters that their equations name."""
    cell = lone.cell
    names = {name: PREFIX + name for name in {*cell.defined, *lone.inputs}}
    names |= {name: PREFIX + name for name in lone.parameters}
    names |= {STEP: "(dt/second)"}
    lines: list[str] = []
    arrays: dict[str, b2.TimedArray] = {}
    courses: dict[str, np.ndarray] = {}
    for name in lone.inputs:
        parts = ["0"]
        for stimulus in (s for s in stimuli if s.into == name):
            label = f"stimulus_{len(arrays)}"
            values, course = stimulus.held(steps)
            arrays[label] = b2.TimedArray(values, dt * b2.second, name=label)
            courses[f"{label}_course"] = course
            lines.append(f"{label}_course : integer (constant)")
            # All stages of a step see the same.
            lines.append(f"{label}_now = {label}(t, {label}_course) : 1 (constant over dt)")
            parts.append(f"{label}_now")
            if stimulus.reversal is not None:
                (potential,) = lone.driven(name)
                parts[-1] += f" * ({stimulus.reversal!r} - {names[potential]})"
        lines.append(f"{names[name]} = {' + '.join(parts)} : 1")
    for equation in cell.equations:
        if equation.name == SPIKES and cell.silent:
            continue
        noise = {NOISE: f"(xi_{equation.name} * second**0.5)"}
        right = equation.right.written(names | noise, {})
        held = " (unless refractory)" if equation.held else ""
        if equation.moves:
            lines.append(f"d{names[equation.name]}/dt = ({right})/second : 1{held}")
        else:
            lines.append(f"{names[equation.name]} = {right} : 1")
    # Numbers that stand in the namespace, not in the text: other ones compile nothing.
    numbers = {PREFIX + name: v for name, v in lone.parameters.items() if name not in lone.spreads}
    lines += [f"{PREFIX}{name} : 1 (constant)" for name in lone.spreads]
    group = b2.NeuronGroup(
        cells,
        "\n".join(lines),
        method="heun" if lone.noisy else "rk4",
        dt=dt * b2.second,
        name="cells",
        **_firing(lone, names),
    )
    for name, value in (lone.start | {n: lone.parameters[n] for n in lone.spreads}).items():
        setattr(group, PREFIX + name, value)
    for name, course in courses.items():
        setattr(group, name, course)
    return group, arrays | numbers


def _firing(lone: LoneCell, names: Mapping[str, str]) -> dict[str, str]:
    """How the cells spike, as Brian2 is told."""
    firing = lone.cell.firing
    if firing is None:
        return {}
    passed = firing.threshold.written(names, {})
    told = {"threshold": passed}
    if firing.reset:
        resets = (f"{names[n]} = {right.written(names, {})}" for n, right in firing.reset)
        told["reset"] = "\n".join(resets)
    elif not firing.draws:
        told["refractory"] = passed  # one spike each time that it is passed
    if firing.refractory is not None:
        waits = firing.refractory.written(names, {})
        # A spike falls on the end of its step, and Brian2 counts from the beginning.
        told["refractory"] = waits if firing.refractory.compares else f"{waits}*second + dt"
    return told
