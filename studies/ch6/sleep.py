"""Prediction 6: in a sleep phase exact inverses emerge from the top down [after T 6.26].

Without teaching and with exact inverses above, f_i(h_{i−1}) = h_i, so that T 6.26 becomes the rule
of the inverse, T 6.25. Awake it is not.
"""

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

import neurosim as ns
from ch6.common import COLOURS, STYLE, Result, band, draw_band, new_figure

PROTOCOLS = Path(__file__).parents[2] / "protocols" / "thesis"
CASES: dict[str, dict[str, Any]] = {
    "asleep, top-down": {},
    "asleep, together": {"stages.0.order": "together"},
    "awake, together": {"stages.0.order": "together", "stages.0.phases.0.teaching": "following",
                        "model.target_step": 0.5},
    "asleep, contracting": {"model.layers": [6, 6, 5, 4], "task.layers": [6, 6, 5, 4]},
}  # fmt: skip
EXACT = 1e-2
"""Distance ‖W_{i+1} Q_i − I‖/√n below which an inverse counts as learned."""


def run(seeds: range, folder: Path) -> Result:
    """Distance of W_{i+1} Q_i from the identity over the presentations."""
    measured, settled = {}, {}
    for case, changes in CASES.items():
        protocol = ns.load_protocol(PROTOCOLS / "ch6-sleep.toml", changes)
        trace = folder / f"ch6-{case.replace(', ', '-')}.h5"
        trace.parent.mkdir(parents=True, exist_ok=True)
        done = ns.run(protocol, seeds=seeds, out=trace, force=True)
        settled[case] = done.settled["sleep"]
        measured[case] = _distances(trace, [entry["seed"] for entry in done.diverged])
    final = {case: [layer[-1] for layer in found["layers"]] for case, found in measured.items()}
    down, together, awake, contracting = (
        max(layer["median"] for layer in final[case]) for case in CASES
    )
    emerged = max(layer["high"] for layer in final["asleep, top-down"]) < EXACT
    apart = awake > 3 * together
    return Result(
        prediction="without teaching, exact inverses emerge from the top down in layers of equal "
        "size; T 6.26 alone stays away from them",
        source="after T 6.26",
        measured=measured | {"settled": settled},
        seeds=f"{len(seeds)} seeds ({seeds.start}–{seeds.stop - 1}), 3000 presentations of 32; "
        "median and 5–95 %",
        verdict="holds" if emerged and apart else "holds in part" if emerged or apart else "fails",
        because=f"distance of W Q from the identity, worst matrix, median over seeds: {down:.0e} "
        f"after sleep from the top down, {together:.0e} after sleep with all matrices learning "
        f"together (the order matters {'little' if together < EXACT else 'much'}), {awake:.2f} "
        f"awake under teaching; contracting layers, which the thesis leaves out: {contracting:.2f}",
        figures={"sleep": _figure(measured)},
    )


def _distances(trace: Path, diverged: list[int]) -> dict[str, Any]:
    """Bands of ‖W_{i+1} Q_i − I‖/√n at every recorded presentation; 0 for pseudo-inverses too."""
    with ns.open_trace(trace) as tree:
        kept = tree["snapshots"]
        alive = ~np.isin(tree["seed"].values, diverged)
        presentations = kept["presentation"].values.tolist()
        layers = []
        count = sum(name.startswith("Q") for name in kept.data_vars)
        for i in range(1, count + 1):
            Q, W = kept[f"Q{i}"].values, kept[f"W{i + 1}"].values
            loop = W @ Q
            n = loop.shape[-1]
            far = np.linalg.norm(loop - np.eye(n), axis=(-2, -1)) / np.sqrt(n)
            layers.append([band(row[alive]) for row in far])
    return {"presentations": presentations, "layers": layers, "diverged": len(diverged)}


@matplotlib.rc_context(STYLE)
def _figure(measured: dict):
    figure = new_figure("Prediction 6: do inverses emerge?", 12, 3.6)
    panels = figure.subplots(1, len(CASES), sharey=True)
    for axes, case in zip(panels, CASES, strict=True):
        found = measured[case]
        for i, (bands, colour) in enumerate(zip(found["layers"], COLOURS, strict=False), start=1):
            draw_band(axes, found["presentations"], bands, color=colour, label=f"$Q_{i}$")
        axes.set(yscale="log", xlabel="presentations", title=case)
        axes.set_ylabel("distance of W Q from the identity")
    panels[0].legend()
    return figure
