"""Table 1 of Baldi, Sadowski & Lu 2018: what networks learn from errors of which channel."""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

import neurosim as ns
from neurosim.figures import save

HIDDEN = [100] * 4
RATE, DECAY = 0.1, 1e-6
"""Of all weights, and by how much a rate shrinks with every update [B 4.1]."""

COLUMNS = {"BP": "backprop", "SBP": "sbp", "RBP": "rbp", "SRBP": "srbp", "top layer": "bp-fixed"}
RANDOM = ("RBP", "SRBP")

ROWS: dict[str, dict[str, Any]] = {
    "baseline": {},
    "no f'": {"slope": False},
    "adaptive": {"rate": RATE},
    "sparse-8": {"sparse": 8},
    "sparse-2": {"sparse": 2},
    "sparse-1": {"sparse": 1},
    "quantized error, 5 bits": {"error_bits": 5},
    "quantized error, 3 bits": {"error_bits": 3},
    "quantized error, 1 bit": {"error_bits": 1},
    "quantized update, 5 bits": {"update_bits": 5},
    "quantized update, 3 bits": {"update_bits": 3},
    "quantized update, 1 bit": {"update_bits": 1},
    "dropout 10 %": {"dropout": 0.1},
    "dropout 20 %": {"dropout": 0.2},
    "dropout 50 %": {"dropout": 0.5},
    "redrawn every batch": {"redrawn": True},
    "redrawn, congruent": {"redrawn": True, "signs": "congruent"},
    "congruent at the start": {"signs": "congruent"},
    "a channel per weight": {"per": "weight"},
}
"""What `[credit]` says beside the name; the last four are of section 4.2."""

PUBLISHED: dict[str, dict[str, float]] = {
    "baseline": {"BP": 97.9, "RBP": 97.2, "SRBP": 97.2, "top layer": 84.7},
    "no f'": {"BP": 89.9, "RBP": 88.3, "SRBP": 88.4},
    "adaptive": {"RBP": 97.3, "SRBP": 97.3},
    "sparse-8": {"RBP": 96.0, "SRBP": 96.9},
    "sparse-2": {"RBP": 96.3, "SRBP": 95.8},
    "sparse-1": {"RBP": 90.3, "SRBP": 94.6},
    "quantized error, 5 bits": {"BP": 97.6, "RBP": 95.4, "SRBP": 95.1},
    "quantized error, 3 bits": {"BP": 96.5, "RBP": 92.5, "SRBP": 93.2},
    "quantized error, 1 bit": {"BP": 94.6, "RBP": 89.8, "SRBP": 91.6},
    "quantized update, 5 bits": {"BP": 95.2, "RBP": 94.0, "SRBP": 93.3},
    "quantized update, 3 bits": {"BP": 96.5, "RBP": 91.0, "SRBP": 92.2},
    "quantized update, 1 bit": {"BP": 92.5, "RBP": 9.6, "SRBP": 90.7},
    "dropout 10 %": {"BP": 97.7, "RBP": 96.5, "SRBP": 97.1},
    "dropout 20 %": {"BP": 97.8, "RBP": 96.7, "SRBP": 97.2},
    "dropout 50 %": {"BP": 97.7, "RBP": 96.7, "SRBP": 97.1},
}
"""Test accuracies on MNIST (%), after 100 epochs of 60 000 images [B, table 1]."""

OWN_WEIGHTS = ("adaptive", "sparse", "redrawn", "congruent")

Found = dict[str, dict[str, list[float | None]]]
"""Row → column → test accuracies of the seeds (%); None of one that diverged."""


def cells() -> list[tuple[str, str]]:
    """The cells of the table, in the order in which they are run."""
    found = []
    for row in ROWS:
        for column in COLUMNS:
            random = row.startswith(OWN_WEIGHTS)
            if column == "top layer" and row != "baseline":
                continue
            if column == "SBP" and row not in ("baseline", "no f'"):
                continue
            if random and column not in RANDOM:
                continue
            if row == "a channel per weight" and column != "SRBP":
                continue
            found.append((row, column))
    return found


def changes(row: str, column: str, folder: Path | None, epochs: int) -> dict[str, Any]:
    """What a cell of the table makes of the shipped protocol of backprop on digits."""
    asked, name = dict(ROWS[row]), COLUMNS[column]
    rate, plastic = RATE, ["forward"]
    if row == "adaptive":
        name, plastic = f"a{name}", ["forward", "feedback"]
        if column == "RBP":  # "to keep the weights from growing too quickly" [B, figure 2]
            rate, asked["rate"] = 0.1 * RATE, 0.1 * RATE
    if column in RANDOM:
        asked |= {"init": "xavier"}
    if "sparse" in asked and column == "RBP":  # [B, figure 4]
        asked["gain"] = asked["sparse"] ** -0.5
    updates = epochs * (100 if folder else 14)
    decays = not row.startswith("quantized update")  # [B 5.2]
    task = {"name": "idx", "path": str(folder), "train": 10_000} if folder else {"name": "digits"}
    return {
        "model.layers": [784 if folder else 64, *HIDDEN, 10],
        "model.activation": "tanh",
        "model.credit": {"name": name} | asked,
        "model.projections.W.init": "xavier",
        "model.projections.W.bias": True,
        "model.projections.W.rate": rate,
        "task": task,
        "batch": 100,
        "schedule.kind": "exponential" if decays else "constant",
        "schedule.final": (1 - DECAY) ** updates if decays else 1.0,
        "stages.0.epochs": epochs,
        "stages.0.phases.0.plastic": plastic,
        "record.presentations": 0,
    }


def measured(out: Path, folder: Path | None, epochs: int, seeds: int, only: str = "") -> Found:
    """Runs what is not there yet, the rows that take longest last, and keeps what all reach."""
    out.mkdir(parents=True, exist_ok=True)
    file = out.with_suffix(".json")
    found: Found = json.loads(file.read_text()) if file.exists() else {}
    for row, column in sorted(cells(), key=lambda cell: cell[0].startswith("quantized update")):
        if only and only not in (row, column):
            continue
        name, begin = f"{row}-{column}".replace(" ", "-").replace("'", ""), time.time()
        path, running = out / f"{name}.h5", out / f"{name}.running.h5"
        if not path.exists():
            protocol = ns.load_protocol("backprop-digits", changes(row, column, folder, epochs))
            try:
                ns.run(protocol, seeds=range(seeds), out=running, force=True)
            except ns.DivergedError as error:
                print(f"{row}, {column}: {error}", flush=True)
            running.rename(path)
        reached = accuracies(path)
        found.setdefault(row, {})[column] = reached
        file.write_text(json.dumps({row: found[row] for row in ROWS if row in found}, indent=1))
        print(f"{row}, {column}: {said(reached)}, {time.time() - begin:.0f} s", flush=True)
    return {row: found[row] for row in ROWS if row in found}


def accuracies(path: Path) -> list[float | None]:
    """Of every seed at the end (%)."""
    with ns.open_trace(path) as trace:
        final = np.atleast_1d(trace["evaluation/error"].values[-1])
    return [100 - 100 * float(e) if np.isfinite(e) else None for e in final]


def said(reached: list[float | None]) -> str:
    """Mean and sample deviation, as the source has them."""
    kept = [a for a in reached if a is not None]
    lost = f", {len(reached) - len(kept)} diverged" if len(kept) < len(reached) else ""
    if not kept:
        return "diverged"
    spread = f" ({np.std(kept, ddof=1):.1f})" if len(kept) > 1 else ""
    return f"{np.mean(kept):.1f}{spread}{lost}"


def in_words(found: Found, reference: dict[str, dict[str, float]] | None = None) -> str:
    """The table, with a reference in brackets behind."""
    lines = [f"| | {' | '.join(COLUMNS)} |", f"| --- |{' --- |' * len(COLUMNS)}"]
    for row, of in found.items():
        published = (reference or {}).get(row, {})
        told = [
            (said(of[column]) if column in of else "")
            + (f" [{published[column]}]" if column in published else "")
            for column in COLUMNS
        ]
        lines.append(f"| {row} | {' | '.join(told)} |")
    return "\n".join(lines) + "\n"


COLORS = {
    "BP": "#000000",
    "SBP": "#999999",
    "RBP": "#D55E00",
    "SRBP": "#0072B2",
    "top layer": "#E69F00",
}


TITLES = {"images": "images, 784-100⁴-10", "digits": "digits, 64-100⁴-10"}


def drawn(out: Path, picture: Path) -> None:
    """Test errors of all rows, ours as dots, seeds as small ones, the published ones as rings."""
    figure = Figure(figsize=(8.0, 6.0), layout="constrained", dpi=150)
    panels = figure.subplots(1, 2, sharey=True)
    for axes, name in zip(panels, ("images", "digits"), strict=True):
        found: Found = json.loads((out / f"{name}.json").read_text())
        for at, row in enumerate(ROWS):
            axes.axhline(at + 0.5, color="#eeeeee", lw=0.8, zorder=0)
            for k, (column, color) in enumerate(COLORS.items()):
                y = at + 0.16 * (k - 2)
                errors = [100 - a for a in found.get(row, {}).get(column, []) if a is not None]
                if errors:
                    label = column if at == 0 else None
                    axes.plot(errors, [y] * len(errors), ".", color=color, alpha=0.35, ms=4)
                    axes.plot(np.mean(errors), y, "o", color=color, ms=4, label=label)
                published = PUBLISHED.get(row, {}).get(column)
                if name == "images" and published is not None:
                    axes.plot(100 - published, y, "o", mfc="none", color=color, ms=6)
        axes.plot([], [], "o", mfc="none", color="#000000", ms=6, label="published (MNIST)")
        axes.set(xlabel="test error (%)", xscale="log", xlim=(1.5, 100), title=TITLES[name])
        ticks = (2, 5, 10, 20, 50, 100)
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
        axes.minorticks_off()
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_yticks(range(len(ROWS)), list(ROWS), fontsize=8)
    panels[0].invert_yaxis()
    told = panels[0].get_legend_handles_labels()
    panels[1].legend(*told, frameon=False, fontsize=8, loc="upper right")
    save(figure, picture)
