"""What a run would take: memory and time, by running a little of it; nothing is written.

Every program of the run is compiled and called as the run would call it: some presentations of
each stage, one test, one look in detail. What a call takes beyond a second one is compilation.
"""

import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from neurosim.levels.simulator import RunState
from neurosim.runs.loop import CHUNK_SECONDS, Loop
from neurosim.runs.members import Setting

try:
    import resource
except ImportError:  # not on Windows
    resource = None  # type: ignore[assignment]


def cost(*settings: Setting, size: int = 1) -> dict[str, Any]:
    """The cost of a run, or of several side by side, as plain data; see `Loop`.

    Returns: `compile_s`; `presentation_s` of each stage, of all copies together; `test_s`;
    `wall_s`, all of it; `memory_bytes`, at most, of this process (None where the system does not
    tell); `device_bytes` of the accelerator, None where there is none; `measured_presentations`.
    """
    loop = Loop(*settings, size=size)
    plan = loop.plan
    compile_s, wall_s, tried = 0.0, 0.0, 0
    states = loop.begun()
    each = []
    for stage, (first, count) in enumerate(plan.stages):
        orders = loop.orders(first)
        states = loop.engines[stage].begin(states.weights, first, len(loop.keys))
        compiling, took, n = _paced(loop, stage, states, orders, min(count, plan.batches))
        compile_s += compiling
        each.append(took)
        tried += n
        wall_s += count * took
        here = [p for p in plan.recorded if first <= p < first + count]
        if here:
            compiling, took = _twice(partial(_look, loop, stage, states, orders[:, 0]))
            compile_s += compiling
            wall_s += len(here) * took
    compiling, test_s = _twice(lambda: loop.test(0, states.weights))
    compile_s += compiling
    # Every stage compiles its own test.
    compile_s += compiling * (len(plan.stages) - 1)
    wall_s += len(plan.evaluations) * test_s + compile_s
    return {
        "compile_s": compile_s,
        "presentation_s": each,
        "test_s": test_s,
        "wall_s": wall_s,
        "memory_bytes": _peak(),
        "device_bytes": _device_peak(),
        "measured_presentations": tried,
    }


def _paced(
    loop: Loop, stage: int, states: RunState, orders: Int[Array, "copies batches batch"], most: int
) -> tuple[float, float, int]:
    """Seconds to compile, seconds a presentation, and over how many that was measured.

    As many presentations as half a chunk holds, from the first on.
    """
    first = _timed(lambda: loop.advance(stage, states, orders, 0, 1))
    one = _timed(lambda: loop.advance(stage, states, orders, 0, 1))
    n = int(np.clip(0.5 * CHUNK_SECONDS / max(one, 1e-6), 1, most))
    took = _timed(lambda: loop.advance(stage, states, orders, 0, n)) / n if n > 1 else one
    return max(0.0, first - one), took, n


def _look(loop: Loop, stage: int, states: RunState, ids: Int[Array, "copies batch"]) -> Any:
    """All that is done about a recorded presentation but going through it."""
    seen = loop.look(stage, states, ids)
    return seen.traces, loop.angles(stage, states.weights, states.weights, ids)


def _twice(call: Callable[[], Any]) -> tuple[float, float]:
    """Seconds to compile a call, and seconds that it takes."""
    first, second = _timed(call), _timed(call)
    return max(0.0, first - second), second


def _timed(call: Callable[[], Any]) -> float:
    began = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - began


def _peak() -> int | None:
    """The largest resident memory of this process so far."""
    if resource is None:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def _device_peak() -> int | None:
    (device,) = jnp.zeros(()).devices()
    stats = device.memory_stats() if device.platform != "cpu" else None
    return None if stats is None else stats.get("peak_bytes_in_use")
