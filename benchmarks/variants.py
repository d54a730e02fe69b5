"""Quickstart at five values of mu, five seeds and three epochs each; prints JSON.

Usage: python variants.py DEVICE [VALUES SEEDS], fewer where they are given.
"""

import json
import sys
import tempfile
from pathlib import Path

from bench import protocol

import neurosim as ns


def main(device: str, values: str = "5", seeds: str = "5") -> None:
    """Run them, as a script of a user's would."""
    errors = {}
    several = range(int(seeds)) if int(seeds) > 1 else None
    with tempfile.TemporaryDirectory() as folder:
        for mu in (0.04, 0.05, 0.06, 0.07, 0.08)[: int(values)]:
            given = protocol("quickstart", {"model.parameters.mu": mu, "stages.0.epochs": 3})
            path = Path(folder) / f"mu-{mu}.h5"
            run = ns.run(given, level="equilibrium", seeds=several, out=path, device=device)
            errors[mu] = run.metrics["test_error"]
    print(json.dumps(errors))


if __name__ == "__main__":
    main(*sys.argv[1:])
