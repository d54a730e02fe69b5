"""Burst-dependent learning: digits beside backprop, angles to its gradient, spikes beside rates.

    python studies/burst_networks.py              # all of it, some minutes on two cores
    python studies/burst_networks.py spikes

`digits` trains over seeds with feedback that is fixed, learned or symmetric, with hidden layers that
are not taught, and by backprop, with the rates that a part of the training data chose (`--choose`
tries them again). `angles` measures how far what hidden layers learn is from the gradient, while
digits are learned. `spikes` compares event and burst neurons with the rate level over sizes of
ensembles and windows. Writes traces, `burst-networks.png` and `results.json` to
`outputs/burst-networks/`.
"""

import json
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from matplotlib.figure import Figure

import neurosim as ns

OUT = Path("outputs/burst-networks")
CCN, PROP, BACKPROP = "burst-ccn-digits", "burstprop-digits", "backprop-digits"

NO_SILENCING = {
    "stages.0.epochs": None,
    "stages.0.presentations": 1,
    "stages.0.phases.0.plastic": [],
    "stages.1.phases.0.plastic": [],
}
LEARNED = {"model.use": "burstprop-learned", "stages.0.phases.1.plastic": ["W", "Y"]}
AS_BURSTS = {
    "batch": 10,
    "stages.0.epochs": 30,
    "model.activation": {"name": "sigmoid"},
    "model.output_activation": {"name": "sigmoid"},
    "model.output": "linear",
    "model.loss": "half-squared",
    "model.projections.W.init": "xavier",
    "model.projections.W.bias": True,
}

VARIANTS: dict[str, tuple[str, dict[str, Any], bool]] = {
    "BurstCCN, Q learned": (CCN, {}, False),
    "BurstCCN, Q learned in advance": (
        CCN,
        {"stages.0.epochs": 20, "stages.1.phases.0.plastic": []},
        False,
    ),
    "BurstCCN, Q given": (
        CCN,
        NO_SILENCING | {"model.projections.Q": {"init": "p_b*Y[i]", "rule": "fixed"}},
        False,
    ),
    "BurstCCN, symmetric": (CCN, NO_SILENCING | {"model.use": "burst-ccn-symmetric"}, False),
    "BurstCCN, hidden layer frozen": (CCN, {}, True),
    "burstprop, Y fixed": (PROP, {}, False),
    "burstprop, Y learned": (PROP, LEARNED, False),
    "burstprop, softmax": (PROP, {"model.use": "burstprop-softmax"}, False),
    "burstprop, hidden layer frozen": (PROP, {}, True),
    "backprop": (BACKPROP, AS_BURSTS, False),
    "backprop, hidden layer frozen": (BACKPROP, AS_BURSTS, True),
}
"""Of each: protocol, what is changed in it, and whether W of the hidden layer stays."""

RATES = (0.25, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Of W of the output; that of the hidden layer is five times as large. Of backprop half of each, as
bursts teach p_b times the gradient."""


def named(variant: str) -> str:
    return variant.replace(", ", "-").replace(" ", "-")


def trained(
    variant: str, rate: float, seeds: int, more: dict[str, Any], name: str, force: bool
) -> list[float]:
    """Errors over seeds, NaN of those that diverged. A trace that is there is not made again."""
    protocol, changes, frozen = VARIANTS[variant]
    rate = rate / 2 if protocol == BACKPROP else rate
    rates = {"model.projections.W.rate": [0.0 if frozen else 5 * rate, rate]}
    if changes == LEARNED:
        rates["model.projections.Y.rate"] = rate
    given = {"record.presentations": 0} | changes | rates | more
    path = OUT / f"{name}.h5"
    if force or not path.exists():
        try:
            ns.run(ns.load_protocol(protocol, given), seeds=range(seeds), out=path, force=True)
        except ns.DivergedError:  # of all seeds
            return [np.nan] * seeds
    with ns.open_trace(path) as trace:
        return trace["evaluation/error"].values[-1].tolist()


def chosen(seeds: int, force: bool) -> dict[str, float]:
    """The rates of W with the least error on a part of the training data that is not trained on.

    A seed that diverges counts as an error of 1. Where errors are equal, the lower rate.
    """
    found: dict[str, float] = {}
    for variant in VARIANTS:
        means = {}
        for rate in RATES:
            name = f"validation-{named(variant)}-{rate:g}"
            errors = trained(variant, rate, seeds, {"task.validation": 0.2}, name, force)
            means[rate] = float(np.mean(np.nan_to_num(errors, nan=1.0)))
            print(f"{variant:32} rate {rate:5g}: {100 * means[rate]:.2f} % held out", flush=True)
        found[variant] = min(means, key=lambda rate: (round(means[rate], 9), rate))
    return found


CHOSEN: dict[str, float] = {}
"""What `chosen` found."""


def digits(seeds: int, choose: bool, force: bool) -> dict[str, Any]:
    """Test errors of all variants."""
    rates = chosen(seeds, force) if choose else CHOSEN
    found = {}
    for variant in VARIANTS:
        rate = rates[variant]
        errors = 100 * np.array(trained(variant, rate, seeds, {}, named(variant), force))
        print(
            f"{variant:32} rate {rate:5g}: {np.nanmean(errors):.2f} % "
            f"({np.nanmin(errors):.2f} to {np.nanmax(errors):.2f}), "
            f"{np.sum(np.isnan(errors))} of {seeds} diverged",
            flush=True,
        )
        found[variant] = {"errors": errors.tolist(), "rate": rate}
    return found


def main(
    parts: Annotated[list[str] | None, typer.Argument(help="digits, angles, spikes; all if none.")]
    = None,
    seeds: Annotated[int, typer.Option(min=1, help="How many.")] = 5,
    choose: Annotated[bool, typer.Option(help="Try rates on a part of the training data.")] = False,
    force: Annotated[bool, typer.Option(help="Train again what has been trained.")] = False,
) -> None:
    """Run the study."""
    OUT.mkdir(parents=True, exist_ok=True)
    digits(seeds, choose, force)


if __name__ == "__main__":
    typer.run(main)
