"""Where the time before the first presentation goes, in a process of its own; prints JSON.

Usage: python compiling.py PROTOCOL CHANGES DEVICE, with changes as JSON by dotted key.
"""

import json
import sys
import time
from collections.abc import Callable
from typing import Any

BEGAN = time.perf_counter(), time.process_time()


def since(began: tuple[float, float]) -> dict[str, float]:
    """Seconds of the clock and of all this process's threads."""
    return {
        "wall": time.perf_counter() - began[0],
        "cpu": time.process_time() - began[1],
    }


def timed(call: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    """What a call returns, and what it cost."""
    began = time.perf_counter(), time.process_time()
    result = call()
    return result, since(began)


def main(name: str, changes: str, device: str) -> None:
    """Make the programs of a run one by one, by using each for the first time."""
    import jax
    import jax.numpy as jnp
    from bench import Bench, protocol

    from neurosim.runs.launch import computing

    jax.devices(device)
    spent = {"import": {"total": since(BEGAN)}}
    given = protocol(name, json.loads(changes))
    with computing(given.spec, device):
        bench, made = timed(lambda: Bench(given, [given.spec.seed]))
        spent["prepare"] = {"total": made}
        engine = bench.engine
        data = (bench.samples.train, bench.samples.axis)
        first = bench.orders[:, 0]
        calls: dict[str, Callable[[], Any]] = {
            "evaluate": lambda: engine.evaluate(
                bench.weights, bench.samples.test, bench.samples.axis, bench.keys
            ),
            "advance": lambda: engine.advance(*bench.advance_arguments(0)),
            "examine": lambda: engine.examine(
                bench.states, *data, first, bench.keys, jnp.int32(0), bench.times, 4
            ),
        }
        for label, call in calls.items():
            _, made = timed(lambda call=call: jax.block_until_ready(call()))  # type: ignore[misc]
            spent[label] = {"total": made}
    print(json.dumps(spent))


if __name__ == "__main__":
    main(*sys.argv[1:])
