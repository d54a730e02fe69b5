"""Deep feedback control: what it learns of digits, and what reaches the lower layers.

    python studies/feedback_control.py              # all, some minutes on two cores
    python studies/feedback_control.py depth
    python studies/feedback_control.py depth --only "least control"
    python studies/feedback_control.py orthogonal   # the same, of orthogonal weights

`digits` trains over seeds with feedback that is learned from noise, with feedback that is given and
kept, with hidden layers that are not taught, and by backprop, with the rates that a part of the
training data chose (`--choose` tries them again). `depth` measures the teaching signals of networks
with one to four hidden layers before they learn, beside those of the two-phase mixture, of control
in a single phase and of least control; what has been measured stays (but with `--force`). Writes
traces, `depth.png`, `orthogonal.png` and `results.json` to `outputs/feedback-control/`.
"""

import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from matplotlib.figure import Figure

import neurosim as ns
from neurosim.figures import save

Found = dict[str, dict[str, list[list[dict[str, float]]]]]
"""Over depth: method, hidden layers, seed, layer, what of its signal."""

OUT = Path("outputs/feedback-control")
CONTROL, BACKPROP = "feedback-control-digits", "backprop-digits"
SINGLE, LEAST = "feedback-control-single-phase", "least-control-digits"

GIVEN = {
    "model.projections.Q.init": "transpose(W[i+1])",
    "model.projections.Q.rate": 0.0,
    "model.projections.D.rate": 0.0,
}
AS_BACKPROP = {"precision": "float64", "model.activation": {"name": "tanh"}}

VARIANTS: dict[str, tuple[str, dict[str, Any], str, bool]] = {
    "learned": (CONTROL, {}, "equilibrium", False),
    "learned, rate level": (CONTROL, {}, "rate", False),
    "given": (CONTROL, GIVEN, "equilibrium", False),
    "given, rate level": (CONTROL, GIVEN, "rate", False),
    "hidden layer frozen": (CONTROL, {}, "equilibrium", True),
    "backprop": (BACKPROP, AS_BACKPROP, "equilibrium", False),
    "backprop, hidden layer frozen": (BACKPROP, AS_BACKPROP, "equilibrium", True),
}
"""Of each: protocol, what is changed in it, level, and whether W of the hidden layer stays."""

RATES = {CONTROL: (5.0, 10.0, 20.0, 40.0, 80.0), BACKPROP: (0.1, 0.3, 1.0, 3.0, 10.0)}
"""Of W; five trials each."""

DEPTHS = (1, 2, 3, 4)
WIDTH, SHOWN, SLOPE, STEP = 32, 50, 0.35, 0.1
NOISES = 600
"""Presentations in which feedback is learned, before its signals are measured."""


# --------------------------------------------------------------------------------------- digits


def trained(
    variant: str, rate: float, seeds: range, more: dict[str, Any], name: str, force: bool
) -> dict[str, Any]:
    """Errors over seeds, and how many diverged. A trace that is there is not made again."""
    protocol, changes, level, frozen = VARIANTS[variant]
    W = "model.projections.W.rate"
    given = {"record.presentations": 0, W: [0.0, rate] if frozen else rate} | changes | more
    path = OUT / f"{name}.h5"
    if force or not path.exists():
        spec = ns.load_protocol(protocol, given)
        ns.run(spec, level=level, seeds=seeds, out=path, force=True)
    with ns.open_trace(path) as trace:
        errors = trace["evaluation/error"].values[-1]
        settled = trace["metrics/settled"].values
    return {
        "errors": errors.tolist(),
        "diverged": int(np.sum(~np.isfinite(errors))),
        "settled": float(np.nanmean(settled)),
    }


def chosen(seeds: int, force: bool) -> dict[str, float]:
    """The rate of W with the least error on a part of the training data that is not trained on.

    Levels share the rate of the equilibrium level. Where errors are equal, the lower rate.
    """
    found: dict[str, float] = {}
    for variant, (protocol, _, level, _) in VARIANTS.items():
        if level == "rate":
            continue
        means = {}
        for rate in RATES[protocol]:
            name = f"validation-{variant.replace(', ', '-').replace(' ', '-')}-{rate:g}"
            given = {"task.validation": 0.2}
            result = trained(variant, rate, range(seeds), given, name, force)
            means[rate] = np.mean(np.nan_to_num(result["errors"], nan=1.0))
            print(f"{variant:30} rate {rate:5g}: {100 * means[rate]:.2f} % held out", flush=True)
        found[variant] = min(means, key=lambda rate: (round(means[rate], 9), rate))
    return found


CHOSEN = {
    "learned": 40.0,
    "given": 40.0,
    "hidden layer frozen": 20.0,
    "backprop": 1.0,
    "backprop, hidden layer frozen": 3.0,
}
"""What `chosen` found."""


def digits(seeds: int, choose: bool, force: bool) -> dict[str, Any]:
    """Test errors of all variants, over as many seeds again, which chose no rate."""
    rates = chosen(seeds, force) if choose else CHOSEN
    found = {}
    for variant in VARIANTS:
        rate = rates[variant.removesuffix(", rate level")]
        name = variant.replace(", ", "-").replace(" ", "-")
        tested = range(seeds, 2 * seeds)
        result = trained(variant, rate, tested, {}, name, force) | {"rate": rate}
        errors = 100 * np.array(result["errors"])
        print(
            f"{variant:30} rate {rate:5g}: {np.nanmean(errors):.2f} % "
            f"({np.nanmin(errors):.2f} to {np.nanmax(errors):.2f}), {result['diverged']} of "
            f"{seeds} diverged",
            flush=True,
        )
        found[variant] = result
    return found


# ---------------------------------------------------------------------------------------- depth

METHODS = {
    "mixture": ("two-phase mixture", "#0072B2", "o-"),
    "control, given": ("feedback control, Q of transposes", "#E69F00", "s--"),
    "control, learned": ("feedback control, Q learned from noise", "#D55E00", "o-"),
    "single phase": ("feedback control in a single phase, Q learned", "#CC79A7", "^-"),
    "least control": ("least control", "#009E73", "D--"),
}
"""Q of transposes are those of the weights of the mixture's run, which has to come before."""
STRONG = ("single phase", "least control")
"""Whose outputs are held at the label itself."""
STARTS = {"depth": "xavier", "orthogonal": "orthogonal"}
"""First weights of either part; of the former transposes are no inverses."""
SHARED = {
    "precision": "float64",
    "batch": SHOWN,
    "model.activation": {"name": "leaky-relu", "slope": SLOPE},
    "model.target_step": STEP,
    "record.presentations": [0],
    "record.samples": SHOWN,
}
MIXED = {
    "level": "equilibrium",
    "model.parameters.mu": 0.08,
    "stages.0.epochs": None,
    "stages.0.presentations": 1,
}
KEPT = {
    "model.projections.Q.init": "file",
    "model.projections.Q.rate": 0.0,
    "model.projections.D.rate": 0.0,
    "stages.0.epochs": None,
    "stages.0.presentations": 1,
}
LEARNING = {
    "precision": "float32",
    "model.projections.W.rate": "0 Hz",
    "stages.0.epochs": None,
    "stages.0.presentations": 100,
    "record.presentations": 0,
}
SILENT = {
    "model.output": "linear",
    "model.loss": "half-squared",
    "model.parameters.proportion": 1.0,
    "model.projections.W.rate": 0.0,
    "model.projections.Q.rate": 0.0,
    "model.projections.D.rate": 0.0,
    "stages.0.epochs": None,
    "stages.0.presentations": 1,
    "stages.0.phases": [
        {"name": "free", "duration": "800 ms"},
        {"name": "controlled", "duration": "800 ms", "teaching": "clamped", "plastic": ["W"]},
    ],
}
"""Where single-phase control rests without the noise from which Q has learned: as control does."""


def layers(depth: int) -> list[int]:
    return [64, *[WIDTH] * depth, 10]


def shown(part: str, method: str, depth: int, seeds: int) -> list[dict[str, Any]]:
    """Of every seed the states and weights of one presentation to a network before it learns."""
    path = OUT / f"{part}-{method.replace(', ', '-')}-{depth}.h5"
    given = SHARED | {"model.layers": layers(depth), "model.projections.W.init": STARTS[part]}
    if method == "mixture":
        protocol = ns.load_protocol("quickstart", given | MIXED)
        ns.run(protocol, seeds=range(seeds), out=path, force=True)
        return [seen(path, depth, seed) for seed in range(seeds)]
    if method == "control, learned":
        given |= {"model.projections.W.rate": 0.0, "record.presentations": [NOISES]}
        given |= {"stages.0.epochs": None, "stages.0.presentations": NOISES + 1}
        ns.run(ns.load_protocol(CONTROL, given), seeds=range(seeds), out=path, force=True)
        return [seen(path, depth, seed) for seed in range(seeds)]
    if method == "single phase":
        learned = OUT / f"{part}-single-phase-{depth}-learned.h5"
        noisy = ns.load_protocol(SINGLE, given | LEARNING)
        ns.run(noisy, seeds=range(seeds), out=learned, force=True)
        silent = ns.load_protocol(CONTROL, given | SILENT)
        ns.run(silent, start=learned, seeds=range(seeds), out=path, force=True)
        return [seen(path, depth, seed) for seed in range(seeds)]
    if method == "least control":
        given |= {"stages.0.epochs": None, "stages.0.presentations": 1}
        given |= {"model.projections.W.rate": 0.0}
        ns.run(ns.load_protocol(LEAST, given), seeds=range(seeds), out=path, force=True)
        return [seen(path, depth, seed) for seed in range(seeds)]
    given |= KEPT | {"model.projections.Q.file": str((OUT / "transposes.npz").absolute())}
    found = []
    for seed in range(seeds):  # a file of weights is the same for all seeds of a run
        W = seen(OUT / f"{part}-mixture-{depth}.h5", depth, seed)["W"]
        Q, above = {}, np.eye(10)
        for i in range(depth, 0, -1):
            above = W[i].T @ above
            Q[f"Q{i}"] = above
        np.savez(OUT / "transposes.npz", **Q)
        ns.run(ns.load_protocol(CONTROL, given | {"seed": seed}), out=path, force=True)
        found.append(seen(path, depth, 0))
    return found


def seen(path: Path, depth: int, seed: int) -> dict[str, Any]:
    """What a trace has of a seed: W, inputs, labels, and what was recorded of every layer."""

    def of(array: Any) -> np.ndarray:
        """Of its seed, where the run has several, at the first of its moments."""
        own = array.isel(seed=seed) if "seed" in array.dims else array
        return own.values[0]

    with ns.open_trace(path) as trace:
        last = range(1, depth + 2)
        found: dict[str, Any] = {"W": [of(trace[f"weights/W{i}"]) for i in last]}
        for name in ("input", "label"):
            found[name] = of(trace[f"traces/{name}"])
        for name in ("rate", "basal", "soma", "control"):
            layers = [trace[f"traces/layer{i}"] for i in last]
            found[name] = [of(x[name]) if name in x else None for x in layers]
    return found


def signals(found: dict[str, Any], method: str, depth: int) -> Iterator[dict[str, float]]:
    """Of every layer, the lowest first: what W learns from, against backprop and Gauss–Newton.

    size: ‖what multiplies presynaptic activity in the rule of W‖, before what compensates for
    depth, over the way to the target: η̂‖e_L‖, or all of it where the label is the target.
    backprop: its angle to −∂ℓ/∂a_i, a_i the basal potential. gauss_newton: that to the part of
    layer i of J^† δ, the least change of all potentials that takes the output to its target.
    Sizes of both are there beside it, over δ. Medians over the samples; angles in degrees.
    """
    W, x, y = (found[name] for name in ("W", "input", "label"))

    def s(i: int, a: np.ndarray) -> np.ndarray:
        return np.where((a > 0) | (i == depth), a, SLOPE * a)

    h, slopes = [x], []
    for i in range(depth + 1):
        a = h[-1] @ W[i].T
        slopes.append(np.where((a > 0) | (i == depth), 1, SLOPE))
        h.append(s(i, a))
    if method == "mixture":  # the second phase, which teaches, against the first
        phases = zip(slopes, found["soma"], strict=True)
        change = [slope * (soma[:, 1] - soma[:, 0]) for slope, soma in phases]
    elif method == "least control":
        change = [control[:, 0] for control in found["control"]]
    else:
        ends = zip(found["rate"], found["basal"], strict=True)
        change = [rate[:, 1] - s(i, basal[:, 1]) for i, (rate, basal) in enumerate(ends)]
    if method in STRONG:
        step, delta = 1.0, y - h[-1]
    else:
        p = np.exp(h[-1] - h[-1].max(axis=1, keepdims=True))
        step, delta = STEP, y - p / p.sum(axis=1, keepdims=True)
    J = [np.broadcast_to(np.eye(10), (len(x), 10, 10))]
    for i in range(depth, 0, -1):
        J.insert(0, J[0] @ W[i] * slopes[i - 1][:, None, :])
    least = (np.linalg.pinv(np.concatenate(J, axis=2)) @ delta[:, :, None])[:, :, 0]
    newton = np.split(least, np.cumsum(layers(depth)[1:-1]), axis=1)
    for i in range(depth + 1):
        back = np.einsum("sji,sj->si", J[i], delta)
        yield {
            "size": share(change[i], step * delta),
            "backprop": angle(change[i], back),
            "gauss_newton": angle(change[i], newton[i]),
            "size of the gradient": share(back, delta),
            "size of the least change": share(newton[i], delta),
        }


def share(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.median(np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)))


def angle(a: np.ndarray, b: np.ndarray) -> float:
    cosine = np.sum(a * b, 1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    return float(np.median(np.degrees(np.arccos(np.clip(cosine, -1, 1)))))


def depth(part: str, methods: Sequence[str], seeds: int, found: Found) -> Iterator[Found]:
    """Signals of every method, depth, seed and layer; after every network, what is found so far."""
    for method, hidden in itertools.product(methods, DEPTHS):
        if str(hidden) in found.setdefault(method, {}):
            continue
        every = shown(part, method, hidden, seeds)
        rows = [list(signals(found_of, method, hidden)) for found_of in every]
        found[method][str(hidden)] = rows
        for i in range(hidden + 1):
            layer = [row[i] for row in rows]
            words = ", ".join(
                f"{key} {np.mean([r[key] for r in layer]):.3g} "
                f"({min(r[key] for r in layer):.3g} to {max(r[key] for r in layer):.3g})"
                for key in layer[0]
            )
            print(f"{method:17} {hidden} hidden, layer {i + 1}: {words}", flush=True)
        yield found


def picture(found: Found) -> Figure:
    """Sizes over layers below the output, and angles of the lowest layer over depth."""
    figure = Figure(figsize=(9.6, 3.3), layout="constrained", dpi=150)
    sizes, *angles = figure.subplots(1, 3)
    deepest = max(DEPTHS)
    for method, of in found.items():
        label, color, style = METHODS[method]
        rows = np.array([[r["size"] for r in row] for row in of[str(deepest)]])
        at = np.arange(1, deepest + 2)
        sizes.plot(at, rows.mean(0), style, color=color, label=label)
        sizes.fill_between(at, rows.min(0), rows.max(0), color=color, alpha=0.15, lw=0)
        for axes, key in zip(angles, ("backprop", "gauss_newton"), strict=True):
            low = np.array([[row[0][key] for row in rows] for rows in of.values()])
            axes.plot(DEPTHS, low.mean(1), style, color=color, label=label)
            axes.fill_between(DEPTHS, low.min(1), low.max(1), color=color, alpha=0.15, lw=0)
    sizes.set(
        yscale="log",
        ylim=(10 ** np.floor(np.log10(sizes.dataLim.y0)), 1),
        xlabel=f"layer of {deepest + 1}, the output last",
        xticks=at,
    )
    sizes.yaxis.set_minor_formatter("")
    sizes.set_title("signal over the way to the target", loc="left", fontsize=9)
    for axes, name in zip(angles, ("backprop", "Gauss–Newton"), strict=True):
        axes.set(xlabel="hidden layers", xticks=DEPTHS, ylim=(0, 95))
        axes.set_title(f"lowest layer: angle to {name}", loc="left", fontsize=9)
        axes.set_yticks([0, 30, 60, 90], ["0°", "30°", "60°", "90°"])
    for axes in (sizes, *angles):
        axes.spines[["top", "right"]].set_visible(False)
    handles, labels = sizes.get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, fontsize=8, loc="outside lower center", ncols=3)
    return figure


def main(
    parts: Annotated[
        list[str] | None, typer.Argument(help="digits, depth, orthogonal; all if none.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="How many.")] = 5,
    only: Annotated[
        list[str] | None, typer.Option(help="A method over depth, of several; all if none.")
    ] = None,
    choose: Annotated[bool, typer.Option(help="Try rates on a part of the training data.")] = False,
    force: Annotated[bool, typer.Option(help="Train again what has been trained.")] = False,
) -> None:
    """Run the study."""
    known = ("digits", *STARTS)
    if strange := [part for part in parts or () if part not in known]:
        raise typer.BadParameter(f"{strange[0]!r}; expected digits, depth or orthogonal")
    methods = [method for method in METHODS if method in (only or METHODS)]
    if strange := [method for method in only or () if method not in METHODS]:
        raise typer.BadParameter(f"{strange[0]!r}; expected {'; '.join(METHODS)}")
    OUT.mkdir(parents=True, exist_ok=True)
    results = OUT / "results.json"
    found = json.loads(results.read_text(encoding="utf-8")) if results.exists() else {}
    for part in parts or known:
        if part == "digits":
            found["digits"] = digits(seeds, choose, force)
        else:
            before = {} if force else found.get(part, {})
            for now in depth(part, methods, seeds, before):
                found[part] = now
                results.write_text(json.dumps(found, indent=1), encoding="utf-8")
            save(picture({method: found[part][method] for method in methods}), OUT / f"{part}.png")
        results.write_text(json.dumps(found, indent=1), encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
