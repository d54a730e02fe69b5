"""How well the models learn digits, against backprop with the same seeds and presentations."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from bench import protocol
from measure import Row

import neurosim as ns

SEEDS = range(5, 15)
"""Each with a split of the data of its own; none chose a rate."""

DEEP: dict[str, Any] = {"model.layers": [64, 32, 32, 10]}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "backprop-digits": ("backprop-digits", {}),
    "quickstart, rate": ("quickstart", {}),
    "quickstart, equilibrium": ("quickstart", {"level": "equilibrium"}),
    "multiplexing-digits, rate": ("multiplexing-digits", {}),
    "multiplexing-digits, equilibrium": ("multiplexing-digits", {"level": "equilibrium"}),
    "backprop-digits, 64-32-32-10": ("backprop-digits", DEEP),
    "quickstart, rate, 64-32-32-10": (
        "quickstart",
        DEEP | {"model.parameters.mu": 0.08, "model.projections.W.rate": 0.1},
    ),
    "multiplexing-digits, rate, 64-32-32-10": (
        "multiplexing-digits",
        DEEP | {"model.projections.W.rate": 5.0},
    ),
}


def learning(device: str, small: bool = False) -> list[Row]:
    """Test error after 30 epochs over ten seeds, in percent; diverged seeds are counted apart."""
    rows = []
    seeds, epochs = (range(1), 1) if small else (SEEDS, 30)
    for title, (name, changes) in list(CASES.items())[: 1 if small else None]:
        told = {"record.presentations": 0, "stages.0.epochs": epochs}
        given = protocol(name, changes | told)
        with tempfile.TemporaryDirectory() as folder:
            try:
                run = ns.run(given, seeds=seeds, out=Path(folder) / "trace.h5", device=device)
            except ns.DivergedError as error:
                rows.append(
                    Row(
                        f"{title}: seeds that diverged", len(error.run.diverged), f"of {len(seeds)}"
                    )
                )
                continue
        missed = 100 * np.array(run.metrics["test_error"], float)
        lived = missed[np.isfinite(missed)]
        rows += [
            Row(f"{title}: mean test error", float(lived.mean()), "%", float(lived.min())),
            Row(f"{title}: worst seed", float(lived.max()), "%"),
            Row(f"{title}: seeds that diverged", float(len(run.diverged)), f"of {len(seeds)}"),
        ]
    return rows
