"""Points of a sweep that differ in numbers alone, one by one and so many side by side.

    taskset -c 0 python benchmarks/side_by_side.py

Seconds of processor time for 20 presentations of every point of quickstart's task at rest, the best
of some turns, after everything is compiled; and how far the weights are from those of single runs.
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
GROUPS, PRESENTATIONS, SEEDS, TURNS = (1, 2, 4, 12), 20, [0], 5


def row(settings: list[Setting]) -> tuple[list[float], float]:
    """Processor seconds of all points, by size of group; how far weights are from single runs."""
    loops = {size: [Loop(*settings[k : k + size]) for k in range(0, 12, size)] for size in GROUPS}
    took = {size: np.full((TURNS, len(of)), np.inf) for size, of in loops.items()}
    found: dict[int, list[Any]] = {}
    for turn in range(TURNS + 1):  # the first of which compiles
        for size, of in loops.items():
            found[size] = []
            for k, loop in enumerate(of):
                states, orders = loop.begun(), loop.orders(0)
                began = time.process_time()
                ended, _, _ = jax.block_until_ready(
                    loop.advance(0, states, orders, 0, PRESENTATIONS)
                )
                if turn:
                    took[size][turn - 1, k] = time.process_time() - began
                found[size].append([np.asarray(a) for a in jax.tree.leaves(ended.weights)])
    every = [[np.concatenate(of) for of in zip(*groups, strict=True)] for groups in found.values()]
    alone = every[0]
    apart = [np.abs(a - b).max() for of in every for a, b in zip(of, alone, strict=True)]
    return [float(seconds.min(axis=0).sum()) for seconds in took.values()], float(max(apart))


def main() -> None:
    """Print the table of docs/sweeps.md."""
    sizes = " | ".join("one by one" if size == 1 else f"by {size}" for size in GROUPS)
    print(f"| layers, batch | over | {sizes} | weights apart |\n|{' --- |' * (3 + len(GROUPS))}")
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
                took, apart = row(settings)
            shape, over = "-".join(map(str, layers)), key.rpartition(".")[2]
            cells = " | ".join(f"{seconds:.3f}" for seconds in took)
            print(f"| {shape}, {batch} | {over} | {cells} | {apart:.1e} |", flush=True)


if __name__ == "__main__":
    main()
