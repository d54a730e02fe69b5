"""Table 3.1: the methods on images, against each other.

`python studies/table31.py [--mnist FOLDER] [--epochs 10] [--seeds 5]`: on MNIST-format
files where a folder is given, on scikit-learn's digits otherwise. Prints test errors and seconds.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

import neurosim as ns

METHODS: dict[str, dict[str, Any]] = {
    "backprop": {"model.projections.W.rate": 0.001},
    "bp-fixed": {"model.projections.W.rate": 0.001},
    "rbp": {"model.projections.W.rate": 0.001},
    "srbp": {"model.projections.W.rate": 0.001},
    "bdfa": {"model.projections.W.rate": 0.001},
    "dtp": {"model.projections.W.rate": 0.001, "model.credit.noise": 0.1},
    "original-dtp": {"model.projections.W.rate": 0.001},
    "ao-sdtp": {"model.projections.W.rate": 0.001},
    "original-tp": {"model.projections.W.rate": 0.001},
}
LEARNED = ("bdfa", "dtp", "original-dtp", "ao-sdtp", "original-tp")


def protocol(method: str, folder: Path | None, epochs: int) -> ns.Protocol:
    """A tanh network with softmax output, RMSprop as in Lee et al. 2015."""
    hidden, inputs = ([256, 256], 784) if folder else ([64, 64], 64)
    outputs = hidden[-1] if method == "ao-sdtp" else 10
    own = METHODS[method] | {
        "model.credit": method,
        "model.layers": [inputs, *hidden, outputs],
        "model.auxiliary": outputs - 10,
        "model.activation": "tanh",
        "model.output": "softmax",
        "model.loss": "cross-entropy",
        "model.projections.W.init": "orthogonal",
        "model.projections.W.optimizer": "rmsprop",
        "model.target_step": 1.0 if method == "dtp" else 0.1,
        "model.projections.W.bias": True,
        "precision": "float32",
        "batch": 50,
        "task": {"name": "idx", "path": str(folder)} if folder else {"name": "digits"},
        "stages.0.epochs": epochs,
        "record.presentations": 0,
        "record.decomposition": False,
    }
    if method in LEARNED:
        own |= {"model.credit.rate": 0.001, "model.credit.optimizer": "rmsprop"}
        own |= {"model.credit.init": "random"}
    else:
        own["stages.0.phases.0.plastic"] = ["forward"]
        own["model.credit.rate"] = 0.0
    return ns.load_protocol("target-propagation", own)


def main() -> None:
    """Run every method."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mnist", type=Path)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--out", type=Path, default=Path("outputs/chapter5"))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    rows = {}
    for method in given.methods:
        marks: list[tuple[int, float, float]] = []

        def note(step: Any, marks: list = marks) -> None:
            marks.append((step.done, time.perf_counter(), time.process_time()))

        trace = given.out / f"table-3-1-{method}.h5"
        run = ns.run(
            protocol(method, given.mnist, given.epochs),
            seeds=range(given.seeds),
            out=trace,
            force=True,
            progress=note,
        )
        error = 100 * np.atleast_1d(np.array(run.metrics["test_error"], float))
        lived = error[np.isfinite(error)]
        late = [m for m in marks if m[0] > marks[-1][0] / 3]  # past compilation
        batches = marks[-1][0] / given.epochs
        span = [(late[-1][k] - late[0][k]) / (late[-1][0] - late[0][0]) * batches for k in (1, 2)]
        rows[method] = {
            "test_error_percent": error.tolist(),
            "mean": float(lived.mean()) if lived.size else None,
            "diverged": len(run.diverged),
            "seconds_an_epoch": span[0],
            "cpu_seconds_an_epoch": span[1],
        }
        print(method, json.dumps(rows[method]), flush=True)
    name = "table-3-1-mnist.json" if given.mnist else "table-3-1-digits.json"
    (given.out / name).write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
