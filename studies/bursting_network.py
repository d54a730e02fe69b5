"""Do networks of bursting cells learn? Against event/burst neurons by chance, and against rates.

    python studies/bursting_network.py              # half an hour of one core, with a C++ compiler
    python studies/bursting_network.py signals

`plasticity` records the protocol `burst-plasticity`: what burst-dependent weights do while the
dendrites of their cells are driven more and less. `signals` runs the protocol `bursting-xor`
without learning, over sizes of ensembles and windows, and takes the cosine between the teaching
signal of the hidden layer, its burst probability in the learning phase less that in the free one,
and the rate model's under the same weights; `scatter` holds what presentations of it differ by
against what `compare` expects of spikes. `learning` trains over seeds, beside networks whose
hidden layer keeps its first weights; `burstprop` does so by burst-dependent plasticity, the
protocol `burstprop-xor`. Writes traces, `bursting-network.png` and `results.json` to
`outputs/bursting-network/`.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import neurosim as ns
from neurosim.comparison.expectations import Place
from neurosim.comparison.scattering import Scattering
from neurosim.comparison.sides import Side
from neurosim.figures import save
from neurosim.traces.reader import studying
from neurosim.traces.scenes import Trace

OUT = Path("outputs/bursting-network")
PROTOCOL, BURSTPROP = "bursting-xor", "burstprop-xor"

CELLS: dict[str, tuple[dict[str, Any], str]] = {
    "bursting cells": ({}, "#D55E00"),
    "by chance": ({"model.spiking.soma": "poisson"}, "#0072B2"),
    "bursting cells, currents apart": ({"model.spiking.currents": "separate"}, "#CC79A7"),
    "bursting cells, 20 ms": (
        {
            "model.parameters.tau_basal": "20 ms",
            "model.parameters.tau_apical": "20 ms",
            "model.spiking.tau_burst": "20 ms",
        },
        "#009E73",
    ),
}
"""What fires: changes of the protocol, and a colour."""

LEARNING = ("bursting cells", "bursting cells, currents apart", "by chance")
SIGNALS = ("bursting cells", "by chance", "bursting cells, 20 ms")
"""Those that are trained, and those of which the signals are compared."""

FROZEN = {"model.projections.W.rate": [0.0, 0.2]}
BURSTPROP_FROZEN = {"model.projections.W.rate": [0.0, 8.0]}
BURSTPROP_CELLS = {
    "model.spiking.soma": "bursting-pyramidal",
    "model.spiking.base_rate": "3 Hz",
    "model.spiking.gain": "8 Hz",
    "model.spiking.max_rate": "12 Hz",
    "model.spiking.base_probability": 0.4,
    "model.spiking.probability_gain": 0.6,
}
"""Of a soma whose events go up to 12 Hz."""

BURSTPROP_LEARNED = {
    "model.use": "burstprop-learned",
    "model.layers": [2, 4, 2],
    "model.projections.W.rate": [40.0, 8.0],
    "model.projections.Y.rate": 8.0,
    "model.projections.Y.gain": 3.0,
    "model.parameters.tau_basal": "50 ms",
    "model.parameters.tau_apical": "50 ms",
    "model.spiking.neurons": 200,
    "model.spiking.tau_burst": "50 ms",
}
"""Feedback that learns as fast as the weights whose transpose it becomes; it starts as the fixed
one of the protocol, of which another model keeps nothing."""

SETTINGS = ((50, 0.4), (200, 0.2), (200, 0.4))
"""Neurons of an ensemble and windows (s); phases begin 200 ms before."""

REPEATS, MANY = 8, 32
"""Presentations under the same weights, which differ in their spikes: of signals, of scatter."""

SMOOTHING = 8
LATE = 20
"""The last presentations, of which the mean loss is told: a single one is noisy."""


def recorded(
    path: Path, changes: dict[str, Any], level: str, seeds: int, force: bool, name: str = PROTOCOL
) -> Path:
    """A run; a trace that is there already is not made again."""
    if force or not path.exists():
        protocol = ns.load_protocol(name, changes)
        ns.run(protocol, level=level, seeds=range(seeds), out=path, force=True)
    return path


# ---------------------------------------------------------------------------------- plasticity


def plasticity(seeds: int, force: bool) -> dict[str, Any]:
    """Weights and burst probabilities over time; how far each change of the drive moves weights."""
    path = OUT / "burst-plasticity.h5"
    if force or not path.exists():
        ns.record("burst-plasticity", out=path, force=True)
    with ns.open_trace(path) as trace:
        time = trace["recording/time"].values / 1e3
        weight = trace["recording/plastic/weight"].values[0].mean(0)
        usual = trace["recording/plastic/usual_post"].values[0].mean(0)
        events, share = (
            trace[f"populations/after/{name}"].values[0] for name in ("events", "burst_probability")
        )
        before = float(trace["measures/before/events"].values[0])
    edges = [20, 45, 70, 95, 120, 145]
    ends = [float(weight[np.searchsorted(time, t - 1e-6)]) for t in edges]
    per = len(share) // int(time[-1])
    means = [[float(x[per * a : per * b].mean()) for a, b in zip([0, *edges], edges, strict=False)]
             for x in (share, events)]  # fmt: skip
    moved = np.diff(ends)
    expected = 3.5e-3 * 0.1 * before * 5 * np.array(means[1][1:]) * np.diff(means[0])
    for k, (found, exact) in enumerate(zip(moved, expected, strict=True)):
        print(f"{edges[k]:4} s: burst probability {means[0][k + 1]:.3f}, weights moved by "
              f"{found:+.4f}, eta E tau_e e tau dP is {exact:+.4f}", flush=True)  # fmt: skip
    return {
        "time": time.tolist(), "weight": weight.tolist(), "usual": usual.tolist(),
        "share": share.tolist(), "moved": moved.tolist(), "expected": expected.tolist(),
        "probability": means[0],
    }  # fmt: skip


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


def differences(path: Path, group: str, layer: int) -> np.ndarray:
    """Of the bursts of a layer between the phases, and below them the events of the free one,
    shape (2, seed, presentation, sample, unit), the samples of a presentation in its order."""
    with ns.open_trace(path) as trace:
        found = trace[f"{group}/layer{layer}"]
        bursts, events = (
            found[name].transpose("seed", "presentation", "sample", "phase", ..., "unit").values
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


def returned(path: Path) -> list[float]:
    """Of every seed the mean cosine between what the hidden layer's bursts say and Q times what the
    output's bursts say: how well the way back alone works, whatever the output got wrong."""
    with ns.open_trace(path) as trace:
        Q = trace["weights/Q1"].transpose("seed", "moment", ...).values[:, 0]
    below, above = (differences(path, "estimates", layer)[0] for layer in (1, 2))
    sent = np.einsum("sij,spbj->spbi", Q, above)
    cosines = (below * sent).sum((2, 3)) / np.sqrt((below**2).sum((2, 3)) * (sent**2).sum((2, 3)))
    return [float(c) for c in cosines.mean(1)]


def forward(rates: Path, spikes: Path) -> list[float]:
    """Of every seed the slope of what the output's events say over what its rates are."""
    exact, said = differences(rates, "traces", 2)[1], differences(spikes, "estimates", 2)[1]
    return [float(s) for s in (exact * said).sum((1, 2, 3)) / (exact**2).sum((1, 2, 3))]


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
    for name in SIGNALS:
        changes = CELLS[name][0]
        for neurons, window in SETTINGS if "," not in name else [(200, 0.4)]:
            given = still(neurons, window) | changes
            label = f"{name.replace(', ', '-').replace(' ', '-')}-{neurons}-{window:g}"
            paths = [
                recorded(OUT / f"signals-{label}-{level}.h5", given, level, seeds, force)
                for level in ("equilibrium", "spiking")
            ]
            pair = differences(paths[0], "traces", 1), differences(paths[1], "estimates", 1)
            each = [agreement(*both) for both in zip(*in_order(*pair), strict=True)]
            row = {key: [one[key] for one in each] for key in each[0]}
            row["returned"] = returned(paths[1])
            row["forward"] = forward(*paths)
            found[f"{name}, {neurons}, {window:g} s"] = row
            told = ", ".join(f"{k} {np.mean(v):.2f} ({min(v):.2f}-{max(v):.2f})"
                             for k, v in row.items())  # fmt: skip
            print(f"{name:32} N {neurons:4} T {window:g}: {told}", flush=True)
    return found


def sizes(seeds: int, force: bool) -> dict[str, Any]:
    """The same of one presentation: of ensembles four times as large, and where 50 spiking
    interneurons a unit divide what is heard of its bursts."""
    found: dict[str, Any] = {}
    for neurons, interneurons in ((200, 0), (800, 0), (200, 50)):
        once = {"stages.0.presentations": 1, "record.presentations": 1}
        given = still(neurons, 0.4) | once | {"model.spiking.interneurons": interneurons}
        if interneurons:
            given["spiking.target"] = "numpy"  # a network that nothing else runs is not compiled
        paths = [
            recorded(OUT / f"sizes-{neurons}-{interneurons}-{level}.h5", given, level, seeds, force)
            for level in ("equilibrium", "spiking")
        ]
        pair = differences(paths[0], "traces", 1), differences(paths[1], "estimates", 1)
        signal = list(zip(*in_order(*pair), strict=True))
        row = {
            "single": [float(cosine(exact[0], heard[0])) for exact, heard in signal],
            "returned": returned(paths[1]),
            "forward": forward(*paths),
        }
        told = ", ".join(f"{k} {np.mean(v):.2f} {np.round(v, 2)}" for k, v in row.items())
        print(f"N {neurons:4}, {interneurons:2} interneurons, T 0.4, one presentation: {told}",
              flush=True)  # fmt: skip
        found[f"{neurons}, {interneurons}"] = row
    return found


def cosine(a: np.ndarray, b: np.ndarray) -> np.floating[Any]:
    """Of two signals."""
    return a @ b / np.linalg.norm(a) / np.linalg.norm(b)


# ------------------------------------------------------------------------------------- scatter


def scatter(seeds: int, force: bool) -> dict[str, Any]:
    """Deviations over presentations under the same weights, and those that `compare` expects."""
    found: dict[str, Any] = {}
    for neurons, window in ((50, 0.4), (200, 0.4)):
        count = {"stages.0.presentations": MANY, "record.presentations": MANY}
        given = still(neurons, window) | count | {"spiking.target": "standalone"}
        path = OUT / f"scatter-{neurons}-{window:g}.h5"
        recorded(path, given, "spiking", 1, force)
        with studying(path) as tree:
            side = Side(Trace(path, tree))
            law = Scattering(side)
            rows = list(scattered(side, law))
            base = [law.fluctuations.intensities(k, np.zeros(1), np.zeros(1)) for k in (0, 1)]
            cells = law.neurons
        for row in rows:
            print(f"N {neurons:4} T {window:g} {row['phase']:8} layer {row['layer']} "
                  f"{row['variable']:12} {row['measured']:.4f}, expected {row['expected']:.4f}",
                  flush=True)  # fmt: skip
        chance = cells.base_rate, cells.base_probability * (1 - cells.base_probability)
        chance = chance[0] / cells.gain**2, chance[1] / cells.base_rate / cells.probability_gain**2
        for name, one, exact in zip(("events", "bursts"), base, chance, strict=True):
            print(f"{name} at the base, over Poisson's and chance's: counted "
                  f"{one.counted[0] * cells.count / exact:.2f}, heard "
                  f"{one.heard[0] * cells.count / exact:.2f}", flush=True)  # fmt: skip
        found[f"{neurons}, {window:g} s"] = rows
    return found


def scattered(side: Side, law: Scattering) -> Iterator[dict[str, Any]]:
    """Of every layer, phase and quantity: root mean squares over samples and units."""
    shown = [side.presentation(n) for n in range(MANY)]
    inputs = [side.shown(n) for n in range(MANY)]
    first = inputs[0][0]
    order = [((x[:, None] - first) ** 2).sum(-1).argmin(0) for x, _ in inputs]
    for layer in (1, 2):
        for phase, of in enumerate(shown[0].phases):
            for name in ("event_rate", "burst_signal"):
                said = [s.ends[layer][name][o, phase] for s, o in zip(shown, order, strict=True)]
                at = Place(shown[0], layer, phase, order[0])
                expected = law.deviation(at, name, np.mean(said, axis=0), side.window)
                yield {
                    "layer": layer, "phase": of.name, "variable": name,
                    "measured": float(np.sqrt(np.var(said, axis=0, ddof=1).mean())),
                    "expected": float(np.sqrt(np.mean(expected**2))),
                }  # fmt: skip


# ------------------------------------------------------------------------------------ learning


def learning(seeds: int, force: bool) -> dict[str, Any]:
    """The two-phase rule: learning curves (seed, presentation) and tests at the end."""
    runs = {name: (CELLS[name][0], "spiking") for name in LEARNING}
    runs["bursting cells, frozen"] = FROZEN, "spiking"
    runs["rates"], runs["rates, frozen"] = ({}, "equilibrium"), (FROZEN, "equilibrium")
    return trained("learning", PROTOCOL, runs, seeds, force)


def burstprop(seeds: int, force: bool) -> dict[str, Any]:
    """Burst-dependent plasticity: the same."""
    runs = {
        "bursting cells": (BURSTPROP_CELLS, "spiking"),
        "bursting cells, learned feedback": (BURSTPROP_LEARNED | BURSTPROP_CELLS, "spiking"),
        "by chance": ({}, "spiking"),
        "by chance, learned feedback": (BURSTPROP_LEARNED, "spiking"),
        "rates": ({}, "equilibrium"),
        "rates, learned feedback": (BURSTPROP_LEARNED, "equilibrium"),
        "rates, frozen": (BURSTPROP_FROZEN, "equilibrium"),
    }
    return trained("burstprop", BURSTPROP, runs, seeds, force)


def trained(
    part: str, protocol: str, runs: dict[str, Any], seeds: int, force: bool
) -> dict[str, Any]:
    """Runs of a protocol: changes and a level by name."""
    found: dict[str, Any] = {}
    for name, (changes, level) in runs.items():
        more = {"record.presentations": 0, "spiking.target": "standalone"} | changes
        path = OUT / f"{part}-{name.replace(', ', '-').replace(' ', '-')}.h5"
        with ns.open_trace(recorded(path, more, level, seeds, force, protocol)) as trace:
            curve = trace["metrics/loss"].transpose("seed", "presentation").values
            ends = {kind: trace[f"evaluation/{kind}"].values[-1] for kind in ("loss", "error")}
        found[name] = {"curve": curve.tolist()} | {k: v.tolist() for k, v in ends.items()}
        late = curve[:, -LATE:].mean(1)
        found[name]["late"] = late.tolist()
        print(f"{name:32} loss {np.round(late, 3)} error {ends['error']}", flush=True)
    return found


# -------------------------------------------------------------------------------------- figure


def drawn(found: dict[str, Any]) -> Figure:
    """Weights that follow a dendrite, agreement over N T, and learning curves of both rules."""
    figure = Figure(figsize=(9, 6.6), layout="constrained", dpi=150)
    panels = figure.subplots(2, 2)
    for axes, letter, (part, draw) in zip(panels.ravel(), "abcd", DRAWN.items(), strict=True):
        if part in found:
            draw(axes, found[part])
        axes.set_title(f"{letter}  {TITLES[part]}", loc="left", fontsize=9)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def draw_plasticity(axes: Axes, found: dict[str, Any]) -> None:
    time, share = np.array(found["time"]), np.array(found["share"])
    width = time[-1] / len(share)
    axes.plot((np.arange(len(share)) + 0.5) * width, share, color="#b5b5b5", lw=1,
              label="burst probability")  # fmt: skip
    axes.plot(time, found["usual"], color="#222222", lw=1, label="the usual one")
    axes.set(xlabel="time (s)", ylabel="burst probability", ylim=(0, 0.85), xlim=(0, time[-1]))
    weights = axes.twinx()
    weights.plot(time, found["weight"], color="#D55E00", label="mean weight")
    weights.set_ylabel("mean weight", color="#D55E00")
    weights.set_ylim(0.48, 0.512)
    weights.spines["top"].set_visible(False)
    axes.legend(frameon=False, fontsize=7, loc="upper left", ncols=2)


def draw_signals(axes: Axes, found: dict[str, Any]) -> None:
    for name in SIGNALS:
        colour = CELLS[name][1]
        rows = {k: v for k, v in found.items() if k.rpartition(", ")[0].rpartition(", ")[0] == name}
        sizes = [float(k.split(", ")[-2]) * float(k.split(", ")[-1][:-2]) for k in rows]
        order, x = np.argsort(sizes, kind="stable"), np.sort(sizes)
        for kind, dash in (("single", "-"), ("limit", ":")):
            values = np.array([rows[k][kind] for k in rows])[order]
            label = name if kind == "single" else None
            axes.plot(x, values.mean(1), "o" + dash, ms=3, color=colour, label=label)
            axes.vlines(x, values.min(1), values.max(1), color=colour, lw=0.8)
    axes.set(xlabel="neurons times seconds of the window", xlim=(0, None), ylim=(0, 1.06))
    axes.set_ylabel("cosine with the rate model's signal")
    axes.legend(frameon=False, fontsize=7, loc="lower right")


def draw_curves(axes: Axes, found: dict[str, Any]) -> None:
    colours = {name: (colour, "-") for name, (_, colour) in CELLS.items()}
    colours |= {"bursting cells, frozen": ("#D55E00", ":"), "rates": ("#222222", "-")}
    colours |= {"rates, frozen": ("#222222", ":")}
    for name, run in found.items():
        curves, window = np.array(run["curve"]), np.ones(SMOOTHING) / SMOOTHING
        smooth = np.apply_along_axis(np.convolve, 1, curves, window, "valid")
        colour, dash = colours[name]
        x = np.arange(smooth.shape[1]) + SMOOTHING / 2
        axes.plot(x, np.median(smooth, 0), dash, color=colour, label=name)
        axes.fill_between(x, smooth.min(0), smooth.max(0), color=colour, alpha=0.12, lw=0)
    axes.set(xlabel="presentations of the four pairs", ylabel="loss", xlim=(0, None), ylim=(0, 0.6))
    axes.legend(frameon=False, fontsize=7, loc="upper right")


DRAWN = {
    "plasticity": draw_plasticity,
    "signals": draw_signals,
    "learning": draw_curves,
    "burstprop": draw_curves,
}
TITLES = {
    "plasticity": "weights follow the dendrite",
    "signals": "one presentation (dotted: the mean of many)",
    "learning": "two phases, multiplexing",
    "burstprop": "burst-dependent plasticity",
}

PARTS = {
    "plasticity": plasticity,
    "signals": signals,
    "sizes": sizes,
    "scatter": scatter,
    "learning": learning,
    "burstprop": burstprop,
}


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
