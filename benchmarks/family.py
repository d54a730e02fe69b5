"""Target propagation: an epoch of every kind of method beside backprop's, and seeds as one axis."""

from typing import Any

import numpy as np
from bench import Bench, protocol
from measure import Row, duration, interleaved, ratio

from neurosim.building.loading import Protocol
from neurosim.runs.launch import computing
from neurosim.tasks.data import Data

REPEATS = 5
METHODS = ("backprop", "dtp", "original-dtp", "dtp-ai", "ao-sdtp", "srbp")
LIMITED = {"dtp", "original-dtp", "dtp-ai", "ao-sdtp"}


class Images:
    """Noise in the shape of so many MNIST images: time does not depend on what they show."""

    shared = True

    def __init__(self, count: int) -> None:
        self.count = count

    def draw(self, rng: np.random.Generator) -> Data:
        x, labels = rng.standard_normal((self.count, 784)), rng.integers(0, 10, self.count)
        y = np.eye(10)[labels]
        return Data(x, y, x[:100], y[:100], classes=True)


def family(device: str, small: bool = False) -> list[Row]:
    """784-256-256-10, tanh and softmax, RMSprop, batches of 50, float32; seeds of 6-6-6."""
    methods = METHODS[:2] if small else METHODS
    hidden, images = (8, 100) if small else (256, 10_000)
    given = {method: _images(method, hidden, images) for method in methods}
    repeats = 1 if small else REPEATS
    with computing(given["backprop"].spec, device):
        benches = {method: Bench(p, [0]) for method, p in given.items()}
        taken = interleaved({m: bench.epoch() for m, bench in benches.items()}, repeats)
    shape = "smallest" if small else "784-256-256-10, 10 000 images"
    rows = [duration(f"{shape}, {m}", s, "s") for m, s in taken.items()]
    for method in methods[1:]:
        limit = ("<=", 3.0) if method in LIMITED else None
        rows.append(ratio(f"{method} over backprop", taken[method], taken["backprop"], limit=limit))
    return rows if small else rows + _seeds(device)


def _images(method: str, hidden: int, images: int) -> Protocol:
    own: dict[str, Any] = {
        "model.credit": method,
        "model.layers": [784, hidden, hidden, 256 if method == "ao-sdtp" else 10],
        "model.auxiliary": 246 if method == "ao-sdtp" else 0,
        "model.activation": "tanh",
        "model.output": "softmax",
        "model.loss": "cross-entropy",
        "model.projections.W": {"init": "orthogonal", "rate": 0.001, "optimizer": "rmsprop"},
        "precision": "float32",
        "batch": 50,
        "task": Images(images),
        "stages.0.epochs": 5,
        "record.decomposition": False,
    }
    if method in LIMITED:
        own |= {"model.credit.rate": 0.001, "model.credit.optimizer": "rmsprop"}
    else:
        own["stages.0.phases.0.plastic"] = ["forward"]
    return protocol("target-propagation", own)


def _seeds(device: str) -> list[Row]:
    given = protocol("target-propagation", {"record.decomposition": True})
    with computing(given.spec, device):
        one, many = Bench(given, [0]), Bench(given, list(range(15)))
        taken = interleaved({"one": one.epoch(), "many": many.epoch()}, 4 * REPEATS)
    return [
        duration("student-teacher 6-6-6, dtp-ai, 1 seed", taken["one"]),
        duration("student-teacher 6-6-6, dtp-ai, 15 seeds", taken["many"]),
        ratio("15 seeds over 1", taken["many"], taken["one"]),
    ]
