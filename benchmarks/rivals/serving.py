"""How a contestant answers: told a problem, it makes ready, and solves it whenever it is asked.

Only NumPy and the standard library, so that any interpreter that has a rival can run its script.
Usage of every script beside this one: python SCRIPT PROBLEM.npz. Asked through standard input,
one line a run: empty, or the path of a file that the solution goes to. Answers are lines of JSON.
"""

import importlib
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Problem = dict[str, Any]
"""Arrays by name; what is one number or one word is plain."""

Solution = dict[str, Any]
"""What a run found, by name."""

Solve = Callable[[], Solution]
"""A run."""


def needed(name: str) -> Any:
    """A module by name; where it is missing, the process says so and ends."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        say(absent=f"{name.partition('.')[0]} is not installed here ({error})")
        raise SystemExit(0) from None


def serve(make: Callable[[Problem], Solve]) -> None:
    """Answer until standard input ends. make: the problem → what solves it once."""
    with np.load(sys.argv[1]) as given:
        solve = make({name: plain(given[name]) for name in given.files})
    say(ready=True)
    for line in sys.stdin:
        clock, processors = time.perf_counter(), time.process_time()
        solution = solve()
        say(
            seconds=time.perf_counter() - clock,
            processors=time.process_time() - processors,
            peak=peak(),
        )
        if path := line.strip():
            np.savez(path, **solution)
            say(kept=path)


def peak() -> float:
    """MB that this process held at the most, on Linux.

    Not what `getrusage` says, which begins with what the process held that started this one.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    (kilobytes,) = [line.split()[1] for line in lines if line.startswith("VmHWM")]
    return int(kilobytes) * 1024 / 1e6


def plain(array: np.ndarray) -> Any:
    """What is no array, as a number or a word."""
    return array if array.ndim else array.item()


def say(**answer: Any) -> None:
    """One line of JSON."""
    print(json.dumps(answer), flush=True)
