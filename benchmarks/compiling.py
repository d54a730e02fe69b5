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
    """Trace and compile every compiled function of a run, ahead of time and one by one."""
    import jax
    from bench import Bench, protocol

    from neurosim.running import computing

    jax.devices(device)
    spent = {"import": {"total": since(BEGAN)}}
    given = protocol(name, json.loads(changes))
    with computing(given.spec, device):
        bench, made = timed(lambda: Bench(given, [given.spec.seed]))
        spent["prepare"] = {"total": made}
        engine, kind = bench.engine, type(bench.engine)
        data = (bench.samples.train, bench.samples.axis)
        first = bench.orders[:, 0]
        calls = {
            "evaluate": (
                kind.evaluate,
                (bench.weights, bench.samples.test, bench.samples.axis, bench.keys),
            ),
            "advance": (kind.advance, bench.advance_arguments(1)),
            "examine": (
                kind.examine,
                (bench.states, *data, first, bench.keys, 0, bench.times, 4),
            ),
        }
        for label, (function, arguments) in calls.items():
            traced, tracing = timed(lambda f=function, a=arguments: f.lower(engine, *a))
            _, compiling = timed(traced.compile)
            spent[label] = {"trace": tracing, "compile": compiling}
    print(json.dumps(spent))


if __name__ == "__main__":
    main(*sys.argv[1:])
