"""Memory of a process that runs networks of many shapes, one after the other; prints JSON.

Usage: python shapes.py COUNT DEVICE [bare], bare if nothing is to be recorded in detail.
"""

import gc
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench import protocol

import neurosim as ns

LOOKS = 10


def resident() -> float:
    """MB of the host that this process holds, on Linux."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def main(count: str, device: str, detail: str = "") -> None:
    """Run as many shapes and print the memory after every tenth part of them."""
    found, every = [], max(1, int(count) // LOOKS)
    small = {"batch": 10, "task.train": 50, "task.test": 10, "stages.0.epochs": 1}
    small |= {"record.presentations": 0} if detail == "bare" else {}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(int(count)):
            layers = [6, 7 + number, 6]
            shape = {"task.layers": layers, "model.layers": layers}
            changes: dict[str, Any] = {"model.projections.W.init": "lecun", "level": "equilibrium"}
            changes |= {"model.projections.Q.init": "pinv(W[i+1])"}
            changes |= {"equilibrium.max_newton": 0}  # which takes longest to compile
            given = protocol("student-teacher", small | shape | changes)
            ns.run(given, out=Path(folder) / "trace.h5", force=True, device=device)
            if (number + 1) % every == 0:
                gc.collect()
                found.append(resident())
                print(number + 1, round(found[-1]), "MB", file=sys.stderr, flush=True)
    print(json.dumps({"resident": found}))


if __name__ == "__main__":
    main(*sys.argv[1:])
