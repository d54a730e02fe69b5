"""Peak memory of a run of so many epochs, in a process of its own; prints JSON.

Usage: python footprint.py EPOCHS DEVICE.
"""

import json
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
    # Not `getrusage`, which begins with what the process held that started this one.
    lines = Path("/proc/self/status").read_text().splitlines()
    (kilobytes,) = [line.split()[1] for line in lines if line.startswith("VmHWM")]
    print(json.dumps({"peak": int(kilobytes) * 1024 / 1e6}))


if __name__ == "__main__":
    main(*sys.argv[1:])
