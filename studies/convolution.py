"""Convolutions under every learning channel and under difference target propagation.

    python studies/convolution.py channels FOLDER   # Fashion-MNIST, files in the format of MNIST
    python studies/convolution.py step              # how long B 4.3 takes, on images of noise

Both write to `outputs/convolution/`; `channels` keeps the runs that are there.
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
    "dtp": LEARNED,
    "dtp-fixed": {"init": "xavier"},
    "bdfa": {"init": "xavier", "rate": 1e-4},
}
"""What `[credit]` says beside the name."""

TARGETS = ("original-dtp", "dtp-drl", "dtp-ldrl", "dtp-fixed")


def changes(name: str, folder: Path) -> dict[str, Any]:
    """What a credit makes of the shipped protocol on digits."""
    learns = "rate" in CREDITS[name]
    rate: Any = RATE / STEP if name in TARGETS else RATE
    if name == "dtp":  # whose output follows the gradient itself
        rate = [RATE / STEP] * (len(LAYERS) - 2) + [RATE]
    return {
        "model.layers": LAYERS,
        "model.credit": {"name": name} | CREDITS[name],
        "model.target_step": STEP,
        "model.projections.W": {"kernel": 5, "pool": 3, "stride": 2},
        "model.projections.W.rate": rate,
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
    for name in CREDITS:
        path, running, begin = OUT / f"{name}.h5", OUT / f"{name}.running.h5", time.time()
        if not path.exists():
            protocol = ns.load_protocol("convolution-digits", changes(name, folder))
            try:
                ns.run(protocol, seeds=range(SEEDS), out=running, force=True)
            except ns.DivergedError as error:
                print(f"{name}: {error}", flush=True)
            running.rename(path)
        taken = f"{time.time() - begin:.0f} s"
        print(f"| `{name}` | {said(accuracies(path))} |  <!-- {taken} -->", flush=True)


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
