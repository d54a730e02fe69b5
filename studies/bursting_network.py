"""Do networks of bursting cells learn? Against event/burst neurons by chance, and against rates.

    python studies/bursting_network.py              # half an hour of one core, with a C++ compiler
    python studies/bursting_network.py signals

`signals` runs the protocol `bursting-xor` without learning, over sizes of ensembles and windows,
and takes the cosine between the teaching signal of the hidden layer, its burst probability in the
learning phase less that in the free one, and the rate model's under the same weights. `learning`
trains over seeds, beside networks whose hidden layer keeps its first weights. Writes traces,
`bursting-network.png` and `results.json` to `outputs/bursting-network/`.
"""

import json
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from matplotlib.figure import Figure

import neurosim as ns
from neurosim.figures import save

OUT = Path("outputs/bursting-network")
PROTOCOL = "bursting-xor"

CELLS: dict[str, tuple[dict[str, Any], str]] = {
    "bursting cells": ({}, "#D55E00"),
    "bursting cells, currents apart": ({"model.spiking.currents": "separate"}, "#CC79A7"),
    "by chance": ({"model.spiking.soma": "poisson"}, "#0072B2"),
}
"""What fires: changes of the protocol, and a colour."""

FROZEN = {"model.projections.W.rate": [0.0, 0.2]}
SETTINGS = ((50, 0.4), (200, 0.2), (200, 0.4), (200, 0.8), (800, 0.4))
"""Neurons of an ensemble and windows (s); phases begin 200 ms before."""

REPEATS = 8
"""Presentations under the same weights, which differ in their spikes."""

SMOOTHING = 8


def recorded(path: Path, changes: dict[str, Any], level: str, seeds: int, force: bool) -> Path:
    """A run; a trace that is there already is not made again."""
    if force or not path.exists():
        protocol = ns.load_protocol(PROTOCOL, changes)
        ns.run(protocol, level=level, seeds=range(seeds), out=path, force=True)
    return path


# ------------------------------------------------------------------------------------- signals


def still(neurons: int, window: float) -> dict[str, Any]:
    """Nothing learns, everything that rules would read is recorded."""
    phase = f"{window + 0.2:g} s"
    return {
        "model.projections.W.rate": [0.0, 0.0],
        "model.projections.Q.rate": 0.0,
        "model.spiking.neurons": neurons,
        "stages.0.presentations": REPEATS,
        "stages.0.phases.0.duration": phase,
        "stages.0.phases.1.duration": phase,
        "spiking.window": f"{window:g} s",
        "spiking.test": 4,
        "record.presentations": REPEATS,
        "record.every": phase,
    }


def differences(path: Path, group: str) -> np.ndarray:
    """Of the bursts of the hidden layer between the phases, and below them the events of the free
    one, shape (2, seed, presentation, sample, unit), the samples of a presentation in its order."""
    with ns.open_trace(path) as trace:
        layer = trace[f"{group}/layer1"]
        bursts, events = (
            layer[name].transpose("seed", "presentation", "sample", "phase", ..., "unit").values
            for name in ("burst_signal", "event_rate")
        )
    if bursts.ndim == 6:  # moments of every phase, of which the last is its end
        bursts, events = bursts[..., -1, :], events[..., -1, :]
    return np.stack([bursts[..., 1, :] - bursts[..., 0, :], events[..., 0, :]])


def in_order(rates: np.ndarray, spikes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Teaching signals of every seed and presentation, samples alike in all of them, flat."""
    (signal, free), heard = rates, spikes[0]
    found = []
    for s in range(len(free)):
        apart = ((free[s][:, :, None] - free[s][0]) ** 2).sum(-1)  # presentation, here, there
        order = apart.argmin(1)
        pick = np.arange(len(order))[:, None]
        found.append((signal[s][pick, order].reshape(len(order), -1),
                      heard[s][pick, order].reshape(len(order), -1)))  # fmt: skip
    return np.array([a for a, _ in found]), np.array([b for _, b in found])


def agreement(exact: np.ndarray, heard: np.ndarray) -> dict[str, Any]:
    """Of signals (presentation, entry) of one seed.

    single: the mean cosine of one presentation. limit: what it tends to where noise averages out,
    from products of different presentations. noise: over the size of the signal.
    """
    exact, count = exact[0], len(heard)
    size = np.linalg.norm(exact)
    single = np.mean([h @ exact / np.linalg.norm(h) / size for h in heard])
    products = heard @ heard.T
    across = (products.sum() - np.trace(products)) / (count * (count - 1))
    mean = heard.mean(0)
    noise = np.sqrt(heard.var(0, ddof=1).sum())
    return {
        "single": float(single),
        "limit": float(mean @ exact / size / np.sqrt(max(across, 1e-12))),
        "noise": float(noise / size),
        "gain": float(mean @ exact / size**2),
    }


def signals(seeds: int, force: bool) -> dict[str, Any]:
    """Agreement with the rate model of every kind of cell, size and window: over seeds."""
    found: dict[str, Any] = {}
    for name, (changes, _) in CELLS.items():
        for neurons, window in SETTINGS if "apart" not in name else [(200, 0.4)]:
            given = still(neurons, window) | changes
            label = f"{name.replace(', ', '-').replace(' ', '-')}-{neurons}-{window:g}"
            paths = [
                recorded(OUT / f"signals-{label}-{level}.h5", given, level, seeds, force)
                for level in ("equilibrium", "spiking")
            ]
            pair = differences(paths[0], "traces"), differences(paths[1], "estimates")
            each = [agreement(*both) for both in zip(*in_order(*pair), strict=True)]
            row = {key: [one[key] for one in each] for key in each[0]}
            found[f"{name}, {neurons}, {window:g} s"] = row
            told = ", ".join(f"{k} {np.mean(v):.2f} ({min(v):.2f}-{max(v):.2f})"
                             for k, v in row.items())  # fmt: skip
            print(f"{name:32} N {neurons:4} T {window:g}: {told}", flush=True)
    return found


# ------------------------------------------------------------------------------------ learning


def learning(seeds: int, force: bool) -> dict[str, Any]:
    """Learning curves (seed, presentation) and tests at the end."""
    runs = {name: (changes, "spiking") for name, (changes, _) in CELLS.items()}
    runs["bursting cells, frozen"] = FROZEN, "spiking"
    runs["rates"], runs["rates, frozen"] = ({}, "equilibrium"), (FROZEN, "equilibrium")
    found: dict[str, Any] = {}
    for name, (changes, level) in runs.items():
        more = {"record.presentations": 0, "spiking.target": "standalone"} | changes
        path = OUT / f"learning-{name.replace(', ', '-').replace(' ', '-')}.h5"
        with ns.open_trace(recorded(path, more, level, seeds, force)) as trace:
            curve = trace["metrics/loss"].transpose("seed", "presentation").values
            ends = {kind: trace[f"evaluation/{kind}"].values[-1] for kind in ("loss", "error")}
        found[name] = {"curve": curve.tolist()} | {k: v.tolist() for k, v in ends.items()}
        print(f"{name:32} loss {np.round(ends['loss'], 3)} error {ends['error']}", flush=True)
    return found


# -------------------------------------------------------------------------------------- figure


def drawn(found: dict[str, Any]) -> Figure:
    """Agreement over N T, and learning curves."""
    figure = Figure(figsize=(9, 3.6), layout="constrained", dpi=150)
    left, right = figure.subplots(1, 2)
    for name, (_, colour) in CELLS.items():
        if "signals" in found:
            rows = {k: v for k, v in found["signals"].items() if k.startswith(f"{name}, ")}
            rows = {k: v for k, v in rows.items() if k.count(",") == name.count(",") + 2}
            sizes = [float(k.split(", ")[-2]) * float(k.split(", ")[-1][:-2]) for k in rows]
            order = np.argsort(sizes, kind="stable")
            for kind, dash in (("single", "-"), ("limit", ":")):
                values = np.array([rows[k][kind] for k in rows])[order]
                x = np.array(sizes)[order]
                left.plot(x, values.mean(1), "o" + dash, ms=3, color=colour,
                          label=name if kind == "single" else None)  # fmt: skip
                left.vlines(x, values.min(1), values.max(1), color=colour, lw=0.8)
    left.set(xscale="log", xlabel="neurons times seconds of the window", ylim=(0, 1.02))
    left.set_ylabel("cosine with the rate model's signal")
    left.legend(frameon=False, fontsize=8, loc="lower right")
    left.set_title("one presentation (dotted: many)", loc="left", fontsize=9)
    colours = {name: (colour, "-") for name, (_, colour) in CELLS.items()}
    colours |= {"bursting cells, frozen": ("#D55E00", ":"), "rates": ("#222222", "-")}
    colours |= {"rates, frozen": ("#222222", ":")}
    for name, run in found.get("learning", {}).items():
        curves = np.array(run["curve"])
        window = np.ones(SMOOTHING) / SMOOTHING
        smooth = np.apply_along_axis(np.convolve, 1, curves, window, "valid")
        colour, dash = colours[name]
        x = np.arange(smooth.shape[1]) + SMOOTHING / 2
        right.plot(x, np.median(smooth, 0), dash, color=colour, label=name)
        right.fill_between(x, smooth.min(0), smooth.max(0), color=colour, alpha=0.12, lw=0)
    right.set(xlabel="presentations of the four pairs", ylabel="loss", xlim=(0, None))
    right.set_ylim(0, 0.6)
    right.legend(frameon=False, fontsize=7)
    right.set_title("median and range of seeds", loc="left", fontsize=9)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    return figure


PARTS = {"signals": signals, "learning": learning}


def main(
    parts: Annotated[list[str] | None, typer.Argument(help="Which; all if not given.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="How many.")] = 3,
    force: Annotated[bool, typer.Option("--force", help="Run again what has been run.")] = False,
) -> None:
    """Run the study."""
    for part in parts or PARTS:
        if part not in PARTS:
            raise typer.BadParameter(f"{part}: expected one of {', '.join(PARTS)}")
    OUT.mkdir(parents=True, exist_ok=True)
    path = OUT / "results.json"
    found = json.loads(path.read_text()) if path.exists() else {}
    for part in parts or PARTS:
        found[part] = PARTS[part](seeds, force)
    path.write_text(json.dumps(found, indent=1))
    save(drawn(found), OUT / "bursting-network.png")


if __name__ == "__main__":
    typer.run(main)
