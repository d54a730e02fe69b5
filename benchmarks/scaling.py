"""How the cost of a presentation grows with the network, the batch and the run.

An exponent is the slope of the least-squares line through log cost over log size; it is fitted to
every round apart, whose sizes are taken in turns. Seeds have a part of their own (`--only seeds`).
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from bench import Bench, protocol
from measure import Entry, Row, duration, interleaved

from neurosim.runs.launch import computing

SIZES = {
    "width": (64, 128, 256, 512),
    "depth": (2, 3, 4, 6, 8),  # the mixture's signal fades with depth
    "batch": (32, 64, 128, 256),
    "run length": (8, 16, 32, 64),
}
SMALL = {"width": (2, 4), "run length": (2, 4)}
WANTED = {"width": ("<=", 2.0)}
"""Everything else is to grow linearly at the most."""

REPEATS = 7


def scaling(device: str, small: bool = False) -> list[Entry]:
    """Of the two-phase mixture network, rate level, phases of full length, float64."""
    rows: list[Entry] = []
    for axis, sizes in (SMALL if small else SIZES).items():
        benches = {size: _bench(axis, size, small) for size in sizes}
        with computing(next(iter(benches.values()))[0].spec, device):
            calls = {
                str(size): _presenting(Bench(given, [0]), count)
                for size, (given, count) in benches.items()
            }
            taken = interleaved(calls, 1 if small else REPEATS)
        for size in sizes:
            rows.append(duration(f"scaling: {axis} {size}", taken[str(size)]))
        rows.append(_exponent(axis, sizes, taken))
    return rows


def _bench(axis: str, size: int, small: bool) -> tuple[Any, int]:
    """The protocol in which one thing has this size, and how many presentations are timed."""
    width, depth, batch = (8, 2, 4) if small else (64, 3, 50)
    of = {"width": width, "depth": depth, "batch": batch} | {axis: size}
    layers = [of["width"]] * (of["depth"] + 1)
    count = size if axis == "run length" else 4
    task: dict[str, Any] = {"name": "student-teacher", "layers": layers}
    task |= {"train": 64 * of["batch"], "test": 8}
    model: dict[str, Any] = {"layers": layers, "output": "linear", "loss": "squared"}
    model["projections.W.rate"] = 1e-6  # feedback stays near inverses: no step is cut
    changes: dict[str, Any] = {"task": task, "batch": of["batch"], "precision": "float64"}
    changes |= {f"model.{key}": value for key, value in model.items()}
    changes |= {f"stages.0.phases.{k}.until": "duration" for k in (0, 1)}
    return protocol("quickstart", changes | {"stages.0.epochs": 1}), count


def _presenting(bench: Bench, count: int) -> Callable[[], tuple]:
    arguments = bench.advance_arguments(count)
    assert jnp.isfinite(jnp.asarray(arguments[0].weights["W"][0])).all()
    return lambda: bench.engine.advance(*arguments)


def _exponent(axis: str, sizes: tuple[int, ...], taken: Mapping[str, np.ndarray]) -> Row:
    logs = np.log(np.array([taken[str(size)] for size in sizes]))  # (sizes, rounds)
    slopes = tuple(np.polyfit(np.log(sizes), logs, 1)[0])
    limit = WANTED.get(axis, ("<=", 1.0))
    best = float(np.polyfit(np.log(sizes), logs.min(axis=1), 1)[0])
    what = f"scaling: exponent of {axis}"
    return Row(what, float(np.median(slopes)), "", best, limit, slopes)
