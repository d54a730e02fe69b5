"""Least control, control in a single phase, and broadcast errors of LIF neurons: digits learned.

    python studies/strong_feedback.py              # all, on two cores about ten minutes
    python studies/strong_feedback.py least        # or single, or broadcast

Trains over seeds, each with a split of its own, beside hidden layers that are not taught.
`--held-out` tests on a fifth of the training data, on which rates are chosen. Writes traces and
`results.json` to `outputs/strong-feedback/`.
"""

import json
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

import neurosim as ns

OUT = Path("outputs/strong-feedback")
RATE = "model.projections.W.rate"
LEAST, SINGLE = "least-control-digits", "feedback-control-single-phase"
BROADCAST = "broadcast-alignment-digits"
SHORT = {"stages.0.epochs": 2}
SPIKES = {
    "level": "spiking",
    "spiking": {"dt": "1 ms", "window": "100 ms", "presentations": 60, "test": 100},
    "stages.0.phases.0.duration": "200 ms",
}

VARIANTS: dict[str, dict[str, tuple[str, dict[str, Any]]]] = {
    "least": {
        "least control": (LEAST, {}),
        "least control, frozen": (LEAST, {RATE: [0.0, 0.3]}),
    },
    "single": {
        "single phase": (SINGLE, {}),
        "single phase, frozen": (SINGLE, {RATE: ["0 Hz", "2 Hz"]}),
    },
    "broadcast": {
        "broadcast": (BROADCAST, {}),
        "broadcast, frozen": (BROADCAST, {RATE: [0.0, 0.2]}),
        "broadcast, two epochs": (BROADCAST, SHORT),
        "broadcast, two epochs as rates": (BROADCAST, SHORT | {"level": "rate"}),
        "broadcast, spikes": (BROADCAST, SPIKES),
    },
}
"""Of each: protocol, and what is changed in it."""


def trained(name: str, protocol: str, changes: dict[str, Any], seeds: int) -> dict[str, Any]:
    """Test errors (%) and losses over seeds, before and after; what diverged is not a number."""
    path = OUT / f"{name.replace(', ', '-').replace(' ', '-')}.h5"
    given = {"record.presentations": 0} | changes
    ns.run(ns.load_protocol(protocol, given), seeds=range(seeds), out=path, force=True)
    with ns.open_trace(path) as trace:
        errors = 100 * trace["evaluation/error"].values[[0, -1]]
        losses = trace["evaluation/loss"].values[[0, -1]]
        found = {"errors": errors.tolist(), "losses": losses.tolist()}
        if "weights/Q1" in trace:  # what broadcasts, beside the transpose of W above
            back, ahead = trace["weights/Q1"].values[-1], trace["weights/W2"].values[-1]
            cosines = [
                np.vdot(b, a.T) / np.linalg.norm(a) / np.linalg.norm(b) if b.any() else 0.0
                for a, b in zip(ahead, back, strict=True)
            ]
            found["cosines"] = [float(c) for c in cosines]
    return found


def main(
    parts: Annotated[list[str] | None, typer.Argument(help="least, single, broadcast.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="How many.")] = 5,
    held_out: Annotated[bool, typer.Option(help="Test on a part of the training data.")] = False,
) -> None:
    """Run the study."""
    for part in parts or VARIANTS:
        if part not in VARIANTS:
            raise typer.BadParameter(f"{part!r}; expected {', '.join(VARIANTS)}")
    OUT.mkdir(parents=True, exist_ok=True)
    results = OUT / ("held-out.json" if held_out else "results.json")
    found = json.loads(results.read_text(encoding="utf-8")) if results.exists() else {}
    for part in parts or VARIANTS:
        for name, (protocol, changes) in VARIANTS[part].items():
            more = {"task.validation": 0.2} if held_out else {}
            found[name] = trained(name, protocol, changes | more, seeds)
            (_, error), (before, after) = found[name]["errors"], found[name]["losses"]
            print(
                f"{name:32} {np.mean(error):.2f} % ({min(error):.2f} to {max(error):.2f}); loss "
                f"{np.mean(before):.3g} to {np.mean(after):.3g}; {found[name].get('cosines', '')}",
                flush=True,
            )
            results.write_text(json.dumps(found, indent=1), encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
