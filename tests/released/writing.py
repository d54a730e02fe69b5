"""Write a trace of every kind as this version of neurosim does, for the tests of all later ones.

    python tests/released/writing.py /home/example

It writes into `tests/released/N/`, N being the version of the schema; once for every version,
before a release brings it. What is there is never written again. The traces say nothing of the
machine but its processor. The folder is where they say that they were written; it must not be there
yet, and goes again.
"""

import gzip
import shutil
import socket
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tiny_runs import TINY

import neurosim as ns
from neurosim.building.loading import load_protocol
from neurosim.runs import loop
from neurosim.traces import schema

HERE = Path(__file__).parent

SMALLER = {
    "model.layers": [2, 3, 2],
    "task.layers": [2, 3, 2],
    "record.samples": 1,
    "record.every": "100 ms",
    "record.weights": True,
}
RUNS = {
    "equilibrium": {},
    "rate": {},
    "spiking": {
        "batch": 2,
        "spiking.target": "numpy",
        "spiking.dt": "1 ms",
        "spiking.window": "100 ms",
        "spiking.presentations": 4,
        "spiking.test": 4,
        "model.spiking.neurons": 2,
        "record.presentations": [0, 2],
    },
}
"""Changes to the tiny protocol, by level."""

CELLS = {
    "cell": (
        "current-clamp",
        {
            "duration": "200 ms",
            "stimuli.0.duration": "80 ms",
            "stimuli.0.amplitude.count": 2,
            "record.every": "1 ms",
        },
    ),
    "synapse": ("stdp-window", {"cells.after.spikes.shift.count": 4, "record.every": "2 ms"}),
}
"""Shipped protocols of recordings, and changes to them."""

HOST = "example"
"""The machine, as they say."""


def run(level, out, **options):
    """The tiny protocol at a level, into a trace; the protocol goes beside it."""
    file = out.with_name("tiny.toml")
    file.write_text(TINY)
    protocol = load_protocol(file, SMALLER | RUNS[level] | {"level": level})
    return ns.run(protocol, out=out, **options)


def record(name, out):
    protocol, changes = CELLS[name]
    return ns.record(protocol, changes, out=out)


def interrupted(out):
    """A run that Ctrl-C stopped after some presentations, with its checkpoint."""

    def stop(progress):
        if progress.done > 4:
            raise KeyboardInterrupt

    try:
        run("equilibrium", out, progress=stop)
    except KeyboardInterrupt:
        return
    raise AssertionError("it came to its end")


def main():
    target, folder = HERE / str(schema.VERSION), Path(sys.argv[1])
    target.mkdir()
    folder.mkdir()
    loop.CHUNK_SECONDS = 0.0
    socket.gethostname = lambda: HOST
    for level in RUNS:
        run(level, folder / f"{level}.h5")
    for cell in CELLS:
        record(cell, folder / f"{cell}.h5")
    interrupted(folder / "interrupted.h5")
    for path in sorted(folder.glob("*.h5*")):
        packed = gzip.compress(path.read_bytes(), mtime=0)
        (target / f"{path.name}.gz").write_bytes(packed)
        print(path.name, path.stat().st_size, len(packed))
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
