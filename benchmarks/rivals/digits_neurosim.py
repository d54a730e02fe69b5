"""Quickstart by neurosim, as a script runs it, on the split that is told."""

import sys
import tempfile
from pathlib import Path

import numpy as np
from racing import finish

import neurosim as ns

with np.load(sys.argv[1]) as given:
    seed, level, epochs = int(given["seed"]), str(given["level"]), int(given["epochs"])
    changes = {"level": level, "precision": "float32", "stages.0.epochs": epochs}
    changes |= {"record.presentations": 0}
protocol = ns.load_protocol("quickstart", changes | {"seed": seed, "task.split_seed": seed})
with tempfile.TemporaryDirectory() as folder:
    run = ns.run(protocol, out=Path(folder) / "trace.h5", device="cpu")
finish(float(np.ravel(run.metrics["test_error"])[0]))
