"""Lone cells that are reset when they spike, or noisy, or driven by samples: Brian2."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float

from neurosim.circuits.cells import NOISE, SPIKES, STEP
from neurosim.circuits.lone_cells import LoneCell
from neurosim.levels.cells import Recorded, Spikes
from neurosim.levels.keeping import Keep
from neurosim.levels.spiking import pauses
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
    keep: Keep,
) -> tuple[Recorded, Spikes]:
    """Let cells move in steps of dt by Runge–Kutta's fourth-order scheme, Heun's where noisy.

    times: multiples of dt, the last one the end. seen: the numbers of the cells that are looked at.

    Returns:
        The wanted quantities, of the cells seen, NaN from where it was left, and the spikes of all:
        at the end of the step in which the threshold was passed.
    """
    use(target)
    kept = np.random.get_state()
    steps = round(times[-1] / dt)
    every = round((times[1] - times[0]) / dt) if len(times) > 1 else steps
    try:
        b2.seed(seed)
        group = made(lone, stimuli, cells, dt, steps)
        monitor = b2.StateMonitor(
            group,
            [PREFIX + name for name in wanted],
            list(seen),
            clock=b2.Clock(every * dt * b2.second, name="recorded_clock"),
            name="recorded",
        )
        fires = lone.cell.firing is not None
        spikes = b2.SpikeMonitor(group, name="counted") if fires else None
        network = b2.Network(group, monitor, *([spikes] if fires else []))
        if pauses.run(network, steps, dt, every * dt, keep):
            monitor.record_single_timestep()  # the end itself
    finally:
        np.random.set_state(kept)
    recorded = {
        name: whole(np.asarray(getattr(monitor, PREFIX + name + "_")), len(times)).T
        for name in wanted
    }
    if spikes is None:
        return recorded, (np.zeros(0), np.zeros(0, int))
    return recorded, (np.asarray(spikes.t_) + dt, np.asarray(spikes.i[:]))


def whole(seen: np.ndarray, moments: int) -> np.ndarray:
    """What was seen (number, moments), NaN from where it was left."""
    found = np.full((len(seen), moments), np.nan)
    found[:, : seen.shape[1]] = seen[:, :moments]
    return found


@dataclass(frozen=True)
class Guests:
    """What cells hold beside their own quantities.

    lines: of equations. brought: by input, texts that are added to it. numbers: by name, for the
    namespace. start: of states. firing: in place of a threshold and a reset of their own. resets:
    statements before those of the cells' own reset.
    """

    lines: Sequence[str] = ()
    brought: Mapping[str, Sequence[str]] = field(default_factory=dict)
    numbers: Mapping[str, Any] = field(default_factory=dict)
    start: Mapping[str, Any] = field(default_factory=dict)
    firing: Mapping[str, str] | None = None
    resets: Sequence[str] = ()


def made(
    lone: LoneCell,
    stimuli: Sequence[Stimulus],
    cells: int,
    dt: float,
    steps: int,
    name: str = "cells",
    guests: Guests | None = None,
    clock: b2.Clock | None = None,
) -> b2.NeuronGroup:
    """The cells, with the stimuli and parameters that their equations name, as a group.

    clock: whose steps of dt they take; one of their own if not given.
    """
    guests = guests or Guests()
    cell = lone.cell
    names = named(lone)
    lines: list[str] = []
    arrays: dict[str, b2.TimedArray] = {}
    courses: dict[str, np.ndarray] = {}
    drawn: dict[str, Stimulus] = {}
    number = 0
    for given in lone.inputs:
        parts = ["0", *guests.brought.get(given, ())]
        for stimulus in (s for s in stimuli if s.into == given):
            label = f"stimulus_{number}"
            number += 1
            if stimulus.tau is not None:
                drawn[label] = stimulus
                lines += [f"{label} : 1", f"{label}_size : 1 (constant)"]
                lines += [f"{label}_start : 1 (constant)", f"{label}_stop : 1 (constant)"]
                within = f"int(t/second >= {label}_start) * int(t/second < {label}_stop)"
                lines.append(f"{label}_now = {label} * {label}_size * {within} : 1")
                parts.append(_towards(f"{label}_now", stimulus, lone, names))
                continue
            values, course = stimulus.held(steps)
            arrays[label] = b2.TimedArray(values, dt * b2.second, name=f"{name}_{label}")
            courses[f"{label}_course"] = course
            lines.append(f"{label}_course : integer (constant)")
            # All stages of a step see the same.
            lines.append(f"{label}_now = {label}(t, {label}_course) : 1 (constant over dt)")
            parts.append(_towards(f"{label}_now", stimulus, lone, names))
        lines.append(f"{names[given]} = {' + '.join(parts)} : 1")
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
    numbers = {PREFIX + n: v for n, v in lone.parameters.items() if n not in lone.spreads}
    lines += [f"{PREFIX}{n} : 1 (constant)" for n in lone.spreads]
    firing = _firing(lone, names) if guests.firing is None else dict(guests.firing)
    if guests.resets:
        firing["reset"] = "\n".join([*guests.resets, firing.get("reset", "")])
    group = b2.NeuronGroup(
        cells,
        "\n".join([*lines, *guests.lines]),
        method="heun" if lone.noisy else "rk4",
        clock=clock or b2.Clock(dt * b2.second, name=f"{name}_clock"),
        name=name,
        namespace={**arrays, **numbers, **guests.numbers},
        **firing,
    )
    start = lone.start | {n: lone.parameters[n] for n in lone.spreads}
    start = {PREFIX + state: value for state, value in start.items()}
    for what, value in {**start, **courses, **guests.start}.items():
        setattr(group, what, value)
    for label, stimulus in drawn.items():
        _draw(group, label, stimulus, dt)
    return group


def _towards(amount: str, stimulus: Stimulus, lone: LoneCell, names: Mapping[str, str]) -> str:
    """What is brought: the amount itself, or of a conductance its current."""
    if stimulus.reversal is None:
        return amount
    (potential,) = lone.driven(stimulus.into)
    return f"{amount} * ({stimulus.reversal!r} - {names[potential]})"


def _draw(group: b2.NeuronGroup, label: str, stimulus: Stimulus, dt: float) -> None:
    """Let every cell draw its own noise step by step, exactly whatever the step."""
    assert stimulus.tau is not None
    kept = math.exp(-dt / stimulus.tau)
    spread = math.sqrt(-math.expm1(-2 * dt / stimulus.tau))
    setattr(group, f"{label}_size", stimulus.amplitude)
    setattr(group, f"{label}_start", stimulus.start)
    setattr(group, f"{label}_stop", np.minimum(stimulus.stop, 1e300))
    setattr(group, label, "randn()")
    step = f"{label} = {kept!r}*{label} + {spread!r}*randn()"
    group.run_regularly(step, clock=group.clock, when="before_groups")


def named(lone: LoneCell) -> dict[str, str]:
    """What Brian2 calls the names of a cell."""
    own = {*lone.cell.defined, *lone.inputs, *lone.parameters}
    return {name: PREFIX + name for name in own} | {STEP: "(dt/second)"}


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
