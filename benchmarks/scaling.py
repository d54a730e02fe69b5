"""How the cost of a presentation grows with the network, the batch and the run.

An exponent is the slope of the least-squares line through log cost over log size; it is fitted to
every round apart, whose sizes are taken in turns. Sizes are such that products of matrices are most
of the cost, so that it shows how cost grows and not what a presentation costs at least. Seeds have
a part of their own (`--only seeds`).
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from bench import Bench, protocol
from contests import GateError
from measure import Absent, Entry, Row, duration, interleaved

from neurosim.runs.launch import computing

SIZES = {
    "width": (128, 256, 512),
    "hidden layers": (1, 2, 4, 8),
    "batch": (64, 128, 256),
    "run length": (4, 8, 16, 32),
}
SMALL = {"width": (4, 8)}
WANTED = {"width": ("<=", 2.0)}
"""Everything else is to grow linearly at the most."""

PRESENTED = 2
"""Presentations that are timed, where not their number is what grows."""

REPEATS = 5


def scaling(device: str, small: bool = False) -> list[Entry]:
    """Of the two-phase mixture network, rate level, phases of full length, float64.

    Gate: all states stay numbers at every size, by whole steps; else sizes would not do the same
    work.
    """
    rows: list[Entry] = []
    for axis, sizes in (SMALL if small else SIZES).items():
        of_axis = {size: _protocol(axis, size, small) for size in sizes}
        with computing(of_axis[sizes[0]].spec, device):
            calls = {}
            for size, given in of_axis.items():
                bench, count = Bench(given, [0]), size if axis == "run length" else PRESENTED
                call = bench.presenting(count)
                try:
                    _sound(bench.metrics(call(), count))
                except GateError as error:
                    rows.append(Absent(f"scaling: {axis} {size}", str(error)))
                else:
                    calls[str(size)] = call
            taken = interleaved(calls, 1 if small else REPEATS)
        rows += [duration(f"scaling: {axis} {size}", seconds) for size, seconds in taken.items()]
        if len(taken) == len(sizes):
            rows.append(_exponent(axis, taken))
    return rows


def _protocol(axis: str, size: int, small: bool) -> Any:
    """Quickstart in which one thing has this size."""
    width, hidden, batch = (8, 1, 4) if small else (128, 2, 50)
    of = {"width": width, "hidden layers": hidden, "batch": batch} | {axis: size}
    layers = [of["width"]] * (of["hidden layers"] + 2)
    task: dict[str, Any] = {"name": "student-teacher", "layers": layers}
    task |= {"train": max(SIZES["run length"]) * of["batch"], "test": 8}
    task["gain"] = of["width"] ** -0.5  # activities stay near 1
    model: dict[str, Any] = {"layers": layers, "output": "linear", "loss": "squared"}
    changes: dict[str, Any] = {"task": task, "batch": of["batch"], "precision": "float64"}
    changes |= {f"model.{key}": value for key, value in model.items()}
    changes |= {f"stages.0.phases.{k}.until": "duration" for k in (0, 1)}
    changes["stages.0.pace"] = 1e-6  # weights stay nearly as they are drawn: no step is cut
    return protocol("quickstart", changes | {"stages.0.epochs": 1})


def _sound(metrics: Mapping[str, np.ndarray]) -> None:
    """Raises GateError where states left the numbers, or steps were cut."""
    parts = metrics["parts"].max()
    if not np.isfinite(metrics["residual"]).all() or not np.isfinite(metrics["loss"]).all():
        raise GateError("some states are no numbers")
    if parts > 1:
        raise GateError(f"steps were cut into {parts:.0f} parts")


def _exponent(axis: str, taken: Mapping[str, np.ndarray]) -> Row:
    sizes, seconds = np.array([float(size) for size in taken]), np.array(list(taken.values()))
    logs = np.log(seconds)  # (sizes, rounds)
    slopes = tuple(np.polyfit(np.log(sizes), logs, 1)[0])
    limit = WANTED.get(axis, ("<=", 1.0))
    best = float(np.polyfit(np.log(sizes), logs.min(axis=1), 1)[0])
    what = f"scaling: exponent of {axis}"
    return Row(what, float(np.median(slopes)), "", best, limit, slopes)
