"""Peak memory of a run of so many epochs, in a process of its own; prints JSON.

Usage: python footprint.py EPOCHS DEVICE.
"""

import json
import resource
import sys
import tempfile
from pathlib import Path

from bench import protocol

import neurosim as ns


def main(epochs: str, device: str) -> None:
    """Run quickstart at the equilibrium level and print the peak, in MB of the host."""
    given = protocol("quickstart", {"level": "equilibrium", "stages.0.epochs": int(epochs)})
    with tempfile.TemporaryDirectory() as folder:
        ns.run(given, out=Path(folder) / "trace.h5", device=device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB on Linux
    print(json.dumps({"peak": peak * 1024 / 1e6}))


if __name__ == "__main__":
    main(*sys.argv[1:])
