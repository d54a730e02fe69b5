"""Where outputs of bursting cells come to say more than those of the rate model: step by step.

    python studies/bursting_transmission.py         # ten minutes of one core

Runs one presentation of the protocol `bursting-xor` without learning, as it is, without feedback,
so that the hidden layer bursts as it does at rest, and with a free phase that is a second longer.
From what hidden units ask of their cells to what these fire, to what others hear of that, to what
the cells of the output fire: the slope of each over the one before. Writes traces and
`results.json` to `outputs/bursting-transmission/`.
"""

import json
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from bursting_network import differences, recorded, seeded, still

import neurosim as ns
from neurosim.comparison.scattering import Scattering
from neurosim.comparison.sides import Side
from neurosim.traces.reader import studying
from neurosim.traces.scenes import Trace

OUT = Path("outputs/bursting-transmission")

ONCE = {"stages.0.presentations": 1, "record.presentations": 1, "spiking.target": "numpy"}

SETTINGS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "no feedback": {"model.projections.Q.init": "zeros"},
    "a second later": {"stages.0.phases.0.duration": "1600 ms", "record.every": "200 ms"},
}
"""Changes of the protocol."""


def steps(rates: Path, spikes: Path) -> dict[str, list[float]]:
    """Of every seed, in the free phase: slopes of each step over the one before."""
    with ns.open_trace(spikes) as trace:
        W, b = (seeded(trace[f"weights/{name}2"], "moment", ...)[:, 0] for name in "Wb")
        hidden, output, bursts = (
            seeded(trace[f"estimates/{name}"], "presentation", "sample", "phase", "unit")[..., 0, :]
            for name in ("layer1/basal", "layer2/basal", "layer1/apical")
        )
    with studying(spikes) as tree:
        law = Scattering(Side(Trace(spikes, tree))).fluctuations
    asked = np.tanh(hidden)

    def told(said: np.ndarray) -> np.ndarray:
        return np.einsum("sij,spbj->spbi", W, said) + b[:, None, None]

    fired = [differences(spikes, "estimates", layer)[1] for layer in (1, 2)]
    pairs = {
        "fired, hidden layer": (fired[0], asked),
        "heard, output": (output, told(asked)),
        "heard, over the curves": (output, told(law.heard_of_events(asked, bursts))),
        "fired, output": (fired[1], output),
        "in all": (fired[1], differences(rates, "traces", 2)[1]),
    }
    return {
        name: [float(s) for s in (one * of).sum((1, 2, 3)) / (of**2).sum((1, 2, 3))]
        for name, (one, of) in pairs.items()
    }


def main(
    seeds: Annotated[int, typer.Option(min=1, help="How many networks.")] = 3,
    force: Annotated[bool, typer.Option("--force", help="Run again what has been run.")] = False,
) -> None:
    """Run, and print the slopes."""
    OUT.mkdir(parents=True, exist_ok=True)
    found = {}
    for setting, changes in SETTINGS.items():
        given = still(200, 0.4) | ONCE | changes
        label = setting.replace(" ", "-")
        paths = [
            recorded(OUT / f"{label}-{level}.h5", given, level, seeds, force)
            for level in ("equilibrium", "spiking")
        ]
        found[setting] = steps(*paths)
        for name, slopes in found[setting].items():
            print(
                f"{setting:16} {name:24} {np.mean(slopes):5.2f}  {np.round(slopes, 2)}", flush=True
            )
        (OUT / "results.json").write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    typer.run(main)
