"""Burst-dependent learning: digits beside backprop, angles to its gradient, spikes beside rates.

    python studies/burst_networks.py              # all of it, some minutes on two cores
    python studies/burst_networks.py spikes
    python studies/burst_networks.py digits --only "BurstCCN, Y and Q learned"

`digits` trains over seeds with feedback that is fixed, learned or symmetric, with a hidden layer
that is not taught, and by backprop, with the rates that a part of the training data chose
(`--choose` tries them again), and looks at angles between what is learned and the gradient.
`regression` shows slow cosines in their order to a 3-50-1 network that follows a random teacher.
`spikes` compares one presentation to event and burst neurons with the rate level, over sizes of
ensembles and windows; it needs a C++ compiler. Writes traces, `burst-networks.png` and
`results.json` to `outputs/burst-networks/`.
"""

import itertools
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from matplotlib.figure import Figure

import neurosim as ns
from neurosim.figures import save

OUT = Path("outputs/burst-networks")
CCN, PROP, BACKPROP = "burst-ccn-digits", "burstprop-digits", "backprop-digits"

NO_SILENCING = {
    "stages.0.epochs": None,
    "stages.0.presentations": 1,
    "stages.0.phases.0.plastic": [],
    "stages.1.phases.0.plastic": [],
}
GIVEN = {"model.projections.Q": {"init": "p_b*Y[i]", "rule": "fixed"}}
CCN_LEARNED = NO_SILENCING | {
    "model.use": "burst-ccn-learned",
    "stages.1.phases.1.plastic": ["W", "Y", "Q"],
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
    "BurstCCN, Q given": (CCN, NO_SILENCING | GIVEN, False),
    "BurstCCN, Y and Q learned": (CCN, CCN_LEARNED, False),
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

FEEDBACK = {"BurstCCN, Y and Q learned": "YQ", "burstprop, Y learned": "Y"}
"""What comes down and learns at the rate of W."""

RATES = (0.25, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Of W of the output; that of the hidden layer is five times as large. Of backprop half of each, as
bursts teach p_b times the gradient."""


def named(variant: str) -> str:
    return variant.replace(", ", "-").replace(" ", "-")


def trained(
    variant: str, rate: float, seeds: int, more: dict[str, Any], path: Path, force: bool
) -> list[float]:
    """Errors over seeds, NaN of those that diverged. A trace that is there is not made again."""
    protocol, changes, frozen = VARIANTS[variant]
    rate = rate / 2 if protocol == BACKPROP else rate
    rates = {"model.projections.W.rate": [0.0 if frozen else 5 * rate, rate]}
    for name in FEEDBACK.get(variant, ""):
        rates[f"model.projections.{name}.rate"] = rate
    given = changes | rates | more
    if force or not path.exists():
        try:
            ns.run(ns.load_protocol(protocol, given), seeds=range(seeds), out=path, force=True)
        except ns.DivergedError:  # of all seeds
            return [np.nan] * seeds
    with ns.open_trace(path) as trace:
        return trace["evaluation/error"].values[-1].tolist()


def chosen(variants: Iterable[str], seeds: int, force: bool) -> dict[str, float]:
    """The rates of W with the least error on a part of the training data that is not trained on.

    A seed that diverges counts as an error of 1. Where errors are equal, the lower rate.
    """
    found: dict[str, float] = {}
    for variant in variants:
        means = {}
        for rate in RATES:
            path = OUT / f"validation-{named(variant)}-{rate:g}.h5"
            held_out = {"task.validation": 0.2, "record.presentations": 0}
            errors = trained(variant, rate, seeds, held_out, path, force)
            means[rate] = float(np.mean(np.nan_to_num(errors, nan=1.0)))
            print(f"{variant:32} rate {rate:5g}: {100 * means[rate]:.2f} % held out", flush=True)
        found[variant] = min(means, key=lambda rate: (round(means[rate], 9), rate))
    return found


CHOSEN = {
    "BurstCCN, Q learned": 2.0,
    "BurstCCN, Q learned in advance": 5.0,
    "BurstCCN, Y and Q learned": 5.0,
    "BurstCCN, Q given": 5.0,
    "BurstCCN, symmetric": 5.0,
    "BurstCCN, hidden layer frozen": 5.0,
    "burstprop, Y fixed": 5.0,
    "burstprop, Y learned": 10.0,
    "burstprop, softmax": 1.0,
    "burstprop, hidden layer frozen": 5.0,
    "backprop": 2.0,
    "backprop, hidden layer frozen": 5.0,
}
"""What `chosen` found."""

EPOCHS = 30
"""That W learns, whatever came before."""

SHOWN = 24
"""Presentations of a run at which its changes of weights are held against the gradient."""


def digits(
    variants: Sequence[str], seeds: int, choose: bool, force: bool
) -> dict[str, dict[str, Any]]:
    """Test errors of all variants, their course, and angles of ΔW to backprop's (degrees)."""
    rates = chosen(variants, seeds, force) if choose else CHOSEN
    found = {}
    for variant in variants:
        rate, path = rates[variant], OUT / f"{named(variant)}.h5"
        looked_at = {"record.presentations": SHOWN, "record.samples": 1}
        errors = 100 * np.array(trained(variant, rate, seeds, looked_at, path, force))
        own = {"errors": errors.tolist(), "rate": rate}
        angles = "not known"
        if not np.isnan(errors).all():
            own |= course(path)
            last = np.array(own["angles"])[-1]
            if np.isfinite(last).any():
                angles = str(np.round(np.nanmean(last, axis=0), 1))
        print(
            f"{variant:32} rate {rate:5g}: {np.nanmean(errors):.2f} % "
            f"({np.nanmin(errors):.2f} to {np.nanmax(errors):.2f}), "
            f"{np.sum(np.isnan(errors))} of {seeds} diverged; last angles {angles}",
            flush=True,
        )
        found[variant] = own
    return found


def course(path: Path) -> dict[str, Any]:
    """Errors (epoch, seed) and angles (time, seed, layer) while W learns; times in epochs."""
    with ns.open_trace(path) as trace:
        error, angle = trace["evaluation/error"], trace["signals/angle"]
        ends = error["presentation"].values[-EPOCHS - 1 :]
        shown = angle["presentation"].values
        angles = angle.transpose("presentation", "seed", "layer").values
        return {
            "course": (100 * error.values[-EPOCHS - 1 :]).tolist(),
            "shown": ((shown - ends[0]) / (ends[1] - ends[0]))[shown >= ends[0]].tolist(),
            "angles": angles[shown >= ends[0]].tolist(),
        }


# ----------------------------------------------------------------------------------- regression

TEACHER, STEPS, AFTER = [3, 50, 1], 20_000, 10_000
PERIODS, STEEP = (40, 400), 3.0
PACE = 0.05
"""Steps that are learned from, and that are only answered; of the cosines, in steps; the deviation
of what the teacher's units hear; the rate of W. The source has 1e6 steps and a rate of 1e-3."""

IN_TIME: dict[str, Any] = {
    "model.layers": TEACHER,
    "batch": 1,
    "shuffle": False,
    "schedule.kind": "constant",
    "schedule.final": 1.0,
    "record": {"presentations": 200, "samples": 1},
    "model.projections.W.rate": PACE,
}
UNTAUGHT = {"name": "untaught", "duration": "300 ms"}
TAUGHT = {"name": "taught", "duration": "300 ms", "teaching": "clamped", "plastic": ["W"]}
ALONG = TAUGHT | {"plastic": ["W", "Y", "Q"]}
"""Where feedback learns along with W."""

REGRESSION: dict[str, tuple[str, list[dict[str, Any]], dict[str, Any]]] = {
    "backprop": (
        BACKPROP,
        [{"name": "taught", "plastic": ["W"]}],
        AS_BURSTS | {"model.projections.W.rate": PACE / 2},
    ),
    "symmetric": (CCN, [TAUGHT], {"model.use": "burst-ccn-symmetric"}),
    "Q given": (CCN, [TAUGHT], GIVEN),
    "Q learned": (CCN, [UNTAUGHT | {"plastic": ["Q"]}, TAUGHT], {}),
    "Y and Q learned": (
        CCN,
        [ALONG],
        {"model.use": "burst-ccn-learned"} | {f"model.projections.{n}.rate": PACE for n in "YQ"},
    ),
    "hidden layer frozen": (CCN, [TAUGHT], GIVEN | {"model.projections.W.rate": [0.0, PACE]}),
}
"""Of each: protocol, phases, and what else is changed in it."""


def cosines(seed: int, path: Path) -> float:
    """Writes what a teacher says of cos(2πt/T_k + φ_k); returns half the variance of that."""
    rng = np.random.default_rng(seed)
    period, phase = rng.uniform(*PERIODS, TEACHER[0]), rng.uniform(0, 2 * np.pi, TEACHER[0])
    x = np.cos(2 * np.pi * np.arange(STEPS + AFTER)[:, None] / period + phase)
    y = x
    for below, above in itertools.pairwise(TEACHER):
        W = STEEP * rng.standard_normal((above, below)) / np.sqrt(below)
        y = 1 / (1 + np.exp(-y @ W.T))
    np.savez(path, x=x[:STEPS], y=y[:STEPS], x_test=x[STEPS:], y_test=y[STEPS:])
    return float(0.5 * y[STEPS:].var())


def regression(seeds: int) -> dict[str, Any]:
    """Loss after learning, over that of the best constant answer, and angles (degrees).

    Angles are those of the hidden layer, means over the second half of the steps.
    """
    found: dict[str, Any] = {}
    for variant, (protocol, phases, changes) in REGRESSION.items():
        shares, angles = [], []
        for seed in range(seeds):
            constant = cosines(seed, OUT / "cosines.npz")
            stages = [{"name": "training", "epochs": 1, "phases": phases}]
            task = {"name": "arrays", "path": str((OUT / "cosines.npz").absolute())}
            own = {"stages": stages, "task": task, "batch": 1, "seed": seed}
            given = {k: v for k, v in (IN_TIME | changes | own).items() if "stages." not in k}
            path = OUT / "regression.h5"
            ns.run(ns.load_protocol(protocol, given), out=path, force=True, progress=False)
            with ns.open_trace(path) as trace:
                shares.append(float(trace["evaluation/loss"].values[-1]) / constant)
                angle = trace["signals/angle"].isel(layer=0).values.ravel()
                angles.append(float(np.nanmean(angle[len(angle) // 2 :])))
        print(
            f"{variant:20} {100 * np.mean(shares):.2f} % of the variance left "
            f"({100 * min(shares):.2f} to {100 * max(shares):.2f}); angle {np.mean(angles):.1f}",
            flush=True,
        )
        found[variant] = {"shares": shares, "angles": angles}
    return found


# --------------------------------------------------------------------------------------- spikes

SIZES = [64, 16, 10]
WINDOW, DURATION = 0.8, 1.0
COUNTS = ((20, 0.8), (80, 0.2), (80, 0.8), (320, 0.8), (80, 3.2))
"""Neurons a unit, and how long they are counted (s)."""

STILL = {"duration": f"{DURATION} s", "until": "duration"}
SPIKING: dict[str, Any] = {
    "model.layers": SIZES,
    "precision": "float64",
    "batch": 8,
    "stages": [
        {
            "name": "training",
            "presentations": 1,
            "phases": [
                {"name": "prediction"} | STILL,
                {"name": "taught", "teaching": "clamped", "plastic": ["W"]} | STILL,
            ],
        }
    ],
    "record": {"presentations": [0], "samples": 8, "every": "100 ms"},
    "spiking": {"dt": "1 ms", "target": "standalone", "test": 1},
}
SPOKEN = {
    "BurstCCN": (CCN, GIVEN),
    "burstprop": (PROP, {}),
}
QUANTITIES = ("event_rate", "burst_signal")


def spikes(seeds: int, force: bool) -> dict[str, Any]:
    """Errors of what events and bursts say, and cosines of what is learned, against rates."""
    found: dict[str, Any] = {}
    for model, (protocol, changes) in SPOKEN.items():
        rates = said(protocol, changes, "rate", seeds, OUT / f"{model}-rate.h5", force)
        found[model] = []
        for neurons, window in COUNTS:
            path = OUT / f"{model}-{neurons}-{window}.h5"
            given = {"model.spiking.neurons": neurons, "spiking.window": f"{window} s"}
            for k in (0, 1):  # what is not counted is the way to rest
                given[f"stages.0.phases.{k}.duration"] = f"{window + DURATION - WINDOW} s"
            counted = said(protocol, changes | given, "spiking", seeds, path, force)
            row: dict[str, Any] = {"neurons": neurons, "window": window}
            for quantity in QUANTITIES:
                off = counted[quantity] - rates[quantity]
                row[quantity] = np.sqrt((off**2).mean(axis=(1, 2))).tolist()
            row["cosines"] = [
                [cosine(a, b) for a, b in zip(counted[W], rates[W], strict=True)]
                for W in ("W1", "W2")
            ]
            print(
                f"{model} N = {neurons}, T = {window} s: "
                + ", ".join(f"{q} {np.mean(row[q]):.4f}" for q in QUANTITIES)
                + f"; cosines {np.round(np.mean(row['cosines'], axis=1), 3)}",
                flush=True,
            )
            found[model].append(row)
    return found


def said(
    protocol: str, changes: dict[str, Any], level: str, seeds: int, path: Path, force: bool
) -> dict[str, np.ndarray]:
    """Quantities of the taught phase, (seed, sample, unit) over all layers, and changes of W."""
    if force or not path.exists():
        spec = ns.load_protocol(protocol, SPIKING | changes)
        ns.run(spec, level=level, seeds=range(seeds), out=path, force=True)
    order = ("presentation", "seed", "sample", "unit")
    found = {}
    with ns.open_trace(path) as trace:
        where, last = ("traces", "time") if level == "rate" else ("estimates", "phase")
        for quantity in QUANTITIES:
            layers = [trace[f"{where}/layer{i}/{quantity}"].isel({last: -1}) for i in (1, 2)]
            values = [layer.transpose(*order).values[0] for layer in layers]
            found[quantity] = np.concatenate(values, axis=2)
        for W in ("W1", "W2"):
            before, after = trace[f"weights/{W}"].values[[0, -1]]
            found[W] = after - before
    return found


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.vdot(a, b) / np.linalg.norm(a) / np.linalg.norm(b))


# --------------------------------------------------------------------------------------- picture

STYLES = {
    "BurstCCN, Q learned": ("#0072B2", "-"),
    "BurstCCN, symmetric": ("#56B4E9", "-"),
    "BurstCCN, Y and Q learned": ("#CC79A7", "-"),
    "burstprop, Y fixed": ("#D55E00", "-"),
    "burstprop, Y learned": ("#E69F00", "-"),
    "backprop": ("black", "--"),
    "backprop, hidden layer frozen": ("#999999", "--"),
}


def picture(found: dict[str, Any]) -> Figure:
    """Errors and angles over epochs, and how far spikes are from rates over N T."""
    figure = Figure(figsize=(10.0, 3.6), layout="constrained", dpi=150)
    learning, turning, counting = figure.subplots(1, 3)
    for variant, (color, style) in STYLES.items():
        of = found["digits"][variant]
        learning.plot(np.mean(of["course"], axis=1), style, color=color, label=variant)
        if not variant.startswith("backprop"):
            angles = np.array(of["angles"])[:, :, 0]
            turning.plot(of["shown"], angles.mean(1), style, color=color)
            turning.fill_between(
                of["shown"], angles.min(1), angles.max(1), color=color, alpha=0.15, lw=0
            )
    learning.set(xlabel="epoch", yscale="log")
    learning.set_title("test error (%)", loc="left", fontsize=9)
    learning.set_yticks([2, 5, 10, 20, 50], ["2", "5", "10", "20", "50"])
    turning.set(xlabel="epoch", ylim=(-3, 95))
    turning.set_title("hidden layer: angle to the gradient", loc="left", fontsize=9)
    turning.set_yticks([0, 30, 60, 90], ["0°", "30°", "60°", "90°"])
    markers = {"event_rate": ("o", "event rate e"), "burst_signal": ("s", "burst probability p")}
    colors = {"BurstCCN": "#0072B2", "burstprop": "#D55E00"}
    for model, rows in found["spikes"].items():
        at = np.array([row["neurons"] * row["window"] for row in rows])
        for quantity, (marker, label) in markers.items():
            errors = [np.mean(row[quantity]) for row in rows]
            counting.plot(at, errors, marker, color=colors[model], ms=5, label=f"{label}, {model}")
    first = np.array([min(at), max(at)])
    start = np.mean(found["spikes"]["BurstCCN"][0]["event_rate"])
    scale = start * np.sqrt(at[0])
    counting.plot(first, scale / np.sqrt(first), "k:", lw=1, label="1/√(N T)")
    counting.set(xscale="log", yscale="log", xlabel="N T (neurons × s)")
    counting.set_xticks(sorted(set(at)), [f"{x:g}" for x in sorted(set(at))])
    counting.set_yticks([0.005, 0.01, 0.02, 0.04], ["0.005", "0.01", "0.02", "0.04"])
    counting.set_title("error of spikes against rates", loc="left", fontsize=9)
    counting.legend(frameon=False, fontsize=7)
    for axes in (learning, turning, counting):
        axes.spines[["top", "right"]].set_visible(False)
    for axes in (learning, counting):
        axes.minorticks_off()
    handles, labels = learning.get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, fontsize=8, loc="outside lower center", ncols=3)
    return figure


def main(
    parts: Annotated[list[str] | None, typer.Argument(help="digits, regression, spikes.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="How many.")] = 5,
    choose: Annotated[bool, typer.Option(help="Try rates on a part of the training data.")] = False,
    force: Annotated[bool, typer.Option(help="Train again what has been trained.")] = False,
    only: Annotated[list[str] | None, typer.Option(help="A variant on digits, of many.")] = None,
) -> None:
    """Run the study."""
    known = ("digits", "regression", "spikes")
    if strange := [variant for variant in only or () if variant not in VARIANTS]:
        raise typer.BadParameter(f"{strange[0]!r}; expected {'; '.join(VARIANTS)}")
    if strange := [part for part in parts or () if part not in known]:
        raise typer.BadParameter(f"{strange[0]!r}; expected {', '.join(known)}")
    OUT.mkdir(parents=True, exist_ok=True)
    results = OUT / "results.json"
    found = json.loads(results.read_text(encoding="utf-8")) if results.exists() else {}
    for part in parts or known:
        if part == "digits":
            before = found.get(part, {}) if only else {}
            found[part] = before | digits(only or list(VARIANTS), seeds, choose, force)
        else:
            found[part] = regression(seeds) if part == "regression" else spikes(seeds, force)
    results.write_text(json.dumps(found, indent=1), encoding="utf-8")
    if all(part in found for part in known) and set(STYLES) <= set(found["digits"]):
        save(picture(found), OUT / "burst-networks.png")


if __name__ == "__main__":
    typer.run(main)
