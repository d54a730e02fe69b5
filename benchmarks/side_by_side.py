"""Points of a sweep that differ in numbers alone, one by one and so many side by side.

    taskset -c 0 python benchmarks/side_by_side.py

Seconds of processor time for 20 presentations of every point of quickstart's task at rest, the best
of four, after everything is compiled; and how far the weights are from those of single runs.
"""

import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

import neurosim as ns
from neurosim.runs.launch import computing, initial_weights, prepare
from neurosim.runs.loop import Loop
from neurosim.runs.members import Setting

MU = "model.parameters.mu", [0.02 + 0.3 * k / 12 for k in range(1, 13)]
RATE = "model.projections.W.rate", [0.01 + 0.2 * k / 12 for k in range(1, 13)]
NETWORKS = (([64, 8, 10], 10), ([64, 16, 10], 50), ([64, 64, 10], 50))
GROUPS, PRESENTATIONS, SEEDS = (1, 2, 4, 12), 20, [0]


def measured(settings: list[Setting], together: int) -> tuple[float, list[Any]]:
    """Processor seconds of all points in groups of so many, and the weights of each."""
    took, weights = 0.0, []
    for k in range(0, len(settings), together):
        loop = Loop(*settings[k : k + together])
        states, orders, each = loop.begun(), loop.orders(0), []
        for _ in range(5):  # the first of which compiles
            began = time.process_time()
            found, _, _ = loop.advance(0, states, orders, 0, PRESENTATIONS)
            jax.block_until_ready(found)
            each.append(time.process_time() - began)
        took += min(each[1:])
        arrays = [np.asarray(a) for a in jax.tree.leaves(found.weights)]
        count = len(SEEDS)
        weights += [[a[i : i + count] for a in arrays] for i in range(0, len(arrays[0]), count)]
    return took, weights


def main() -> None:
    for layers, batch in NETWORKS:
        for key, values in (MU, RATE):
            fixed = {"level": "equilibrium", "model.layers": layers, "batch": batch}
            points = [ns.load_protocol("quickstart", fixed | {key: v}) for v in values]
            with computing(points[0].spec, None):
                samples, drawn = prepare(points[0], SEEDS)
                settings = [
                    Setting(p, SEEDS, Path("none"), samples, initial_weights(p, SEEDS, drawn), {})
                    for p in points
                ]
                alone: list[Any] = []
                for together in GROUPS:
                    took, weights = measured(settings, together)
                    alone = alone or weights
                    off = max(
                        float(np.abs(a - b).max())
                        for one, other in zip(weights, alone, strict=True)
                        for a, b in zip(one, other, strict=True)
                    )
                    print(f"{layers} {batch} {key} {together}: {took:.3f} s, off {off:.1e}")


if __name__ == "__main__":
    main()
