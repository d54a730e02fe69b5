"""Convolutions under every learning channel and under difference target propagation.

    python studies/convolution.py channels FOLDER   # Fashion-MNIST, files in the format of MNIST
    python studies/convolution.py step              # how long B 4.3 takes, on images of noise

Both write to `outputs/convolution/`. What `channels` measures is kept in `docs/convolution.json`,
and only what is not there is run.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from learning_channels import accuracies, said

import neurosim as ns

OUT = Path("outputs/convolution")
RESULTS = Path("docs/convolution.json")
"""Test accuracies of the seeds (%), by credit; None of one that diverged."""

SEEDS = 3
LAYERS = [[1, 28, 28], [6, 14, 14], [12, 7, 7], 48, 10]
SAMPLES, TESTS, UPDATES, BATCH = 5000, 2000, 100, 50
RATE = 0.1
STEP = 0.1
"""η̂: targets lie a tenth of the gradient away, and rates are ten times as large."""

ADAPTIVE = {"rate": RATE}
LEARNED = {"init": "xavier", "rate": 0.01}
CREDITS: dict[str, dict[str, Any]] = {
    "backprop": {},
    "rbp": {"init": "xavier"},
    "srbp": {"init": "xavier"},
    "dtp-drl": LEARNED,
    "original-dtp": LEARNED,
    "bp-fixed": {},
    "asrbp": {"init": "xavier"} | ADAPTIVE,
    "arbp": {"init": "xavier"} | ADAPTIVE,
    "sbp": {},
    "dtp-ldrl": LEARNED,
    "dtp": {"init": "xavier", "rate": 0.003, "noise": 0.3, "optimizer": "rmsprop"},
    "dtp-fixed": {"init": "xavier"},
    "bdfa": {"init": "xavier", "rate": 1e-4},
}
"""What `[credit]` says beside the name; of dtp as in the model of Lee et al. 2015."""

TARGETS = ("original-dtp", "dtp-drl", "dtp-ldrl", "dtp-fixed")


def changes(name: str, folder: Path) -> dict[str, Any]:
    """What a credit makes of the shipped protocol on digits."""
    learns = "rate" in CREDITS[name]
    rate = RATE / STEP if name in TARGETS else RATE
    own = {"model.projections.W.rate": rate}
    if name == "dtp":
        own = {"model.projections.W.rate": 0.001, "model.projections.W.optimizer": "rmsprop"}
    return own | {
        "model.layers": LAYERS,
        "model.credit": {"name": name} | CREDITS[name],
        "model.target_step": STEP,
        "model.projections.W": {"kernel": 5, "pool": 3, "stride": 2},
        "task": {"name": "idx", "path": str(folder.resolve()), "train": SAMPLES, "test": TESTS},
        "batch": BATCH,
        "stages.0.epochs": None,
        "stages.0.presentations": UPDATES,
        "stages.0.phases.0.plastic": ["forward", "feedback"] if learns else ["forward"],
        "record.presentations": 0,
    }


def channels(folder: Path) -> None:
    """A row of the table for every credit: test accuracies after so many updates (%)."""
    OUT.mkdir(parents=True, exist_ok=True)
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name in CREDITS:
        path, begin = OUT / f"{name}.h5", time.time()
        if name not in known:
            protocol = ns.load_protocol("convolution-digits", changes(name, folder))
            try:
                ns.run(protocol, seeds=range(SEEDS), out=path, force=True)
            except ns.DivergedError as error:
                print(f"{name}: {error}", flush=True)
            known[name] = accuracies(path)
            RESULTS.write_text(json.dumps(known, indent=1) + "\n")
        taken = f"{time.time() - begin:.0f} s"
        print(f"| `{name}` | {said(known[name])} |  <!-- {taken} -->", flush=True)


def step() -> None:
    """Seconds of an update of B 4.3, over images of noise in CIFAR-10's format."""
    folder = OUT / "noise"
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for file in (*(f"data_batch_{k}.bin" for k in range(1, 6)), "test_batch.bin"):
        records = rng.integers(0, 256, (128, 3073), np.uint8)
        records[:, 0] %= 10
        (folder / file).write_bytes(records.tobytes())
    found = {}
    for name in ("backprop", "srbp"):
        changed = {"task.path": str(folder.resolve()), "model.credit.name": name}
        changed |= {"stages.0.epochs": 1, "record.presentations": 0}
        cost = ns.check(ns.load_protocol("convolution-cifar10", changed), cost=True)["cost"]
        found[name] = {key: cost[key] for key in ("compile_s", "presentation_s", "memory_bytes")}
        print(name, found[name], flush=True)
    (OUT / "step.json").write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["channels", folder]:
            channels(Path(folder))
        case ["step"]:
            step()
        case _:
            sys.exit(__doc__)
