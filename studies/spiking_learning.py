"""Do spikes learn? Spiking networks against their rate model and against a frozen hidden layer.

    python studies/spiking_learning.py              # all three tasks, an hour on one core
    python studies/spiking_learning.py digits

Every task is run over seeds (each its own teacher, initial weights and spikes) as spikes, as spikes
whose hidden layer keeps its initial weights, and both as rates. Writes traces, a figure and
`spiking-learning.json` to `outputs/spiking-learning/`.
"""

import json
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from matplotlib.figure import Figure

import neurosim as ns
from neurosim.figures import save

OUT = Path("outputs/spiking-learning")

DIGITS = {
    "model.layers": [64, 16, 10],  # so few hidden neurons that they have to learn
    "model.projections.W.rate": [0.2, 0.2],
    "spiking.presentations": 60,
}
TASKS: dict[str, tuple[str, str, dict[str, Any], float]] = {
    "mixture": ("spiking-student-teacher", "two-phase mixture, LIF, N = 20", {}, 0.1),
    "multiplexing": ("spiking-multiplexing", "multiplexing, event/burst, N = 100", {}, 0.075),
    "digits": ("quickstart", "digits 64-16-10, mixture, LIF, N = 20", DIGITS, 0.2),
}
"""Of each task: protocol, title, what is changed in it, and the rate of the output layer."""

VARIANTS = {
    "spiking": ("spikes", "#D55E00", "-"),
    "spiking-frozen": ("spikes, hidden layer frozen", "#D55E00", ":"),
    "rate": ("rates", "#0072B2", "-"),
    "rate-frozen": ("rates, hidden layer frozen", "#0072B2", ":"),
}
SMOOTHING = 10


def study(task: str, seeds: int, force: bool) -> dict[str, Any]:
    """The runs of a task; a trace that is there already is not made again."""
    name, title, changes, output_rate = TASKS[task]
    found: dict[str, Any] = {"title": title, "batch": 0, "variants": {}}
    for variant in VARIANTS:
        level, _, frozen = variant.partition("-")
        overrides = {"record.presentations": 0, "spiking.target": "standalone"} | changes
        if frozen:
            overrides["model.projections.W.rate"] = [0.0, output_rate]
        if level == "rate" and task == "digits":  # the rate model learns as long as the spikes do
            overrides |= {"stages.0.epochs": None, "stages.0.presentations": 60}
        path = OUT / f"{task}-{variant}.h5"
        protocol = ns.load_protocol(name, overrides)
        found["batch"] = protocol.spec.batch
        if force or not path.exists():
            ns.run(protocol, level=level, seeds=range(seeds), out=path, force=True)
        with ns.open_trace(path) as trace:
            classes = task == "digits"
            curve = trace["metrics/error" if classes else "metrics/loss"].values
            final = trace["evaluation/error" if classes else "evaluation/loss"].values[-1]
        found["variants"][variant] = {"curve": curve.T.tolist(), "final": final.tolist()}
    found["ratio"] = [
        a / b
        for a, b in zip(
            found["variants"]["spiking"]["final"],
            found["variants"]["spiking-frozen"]["final"],
            strict=True,
        )
    ]
    return found


def picture(found: dict[str, dict[str, Any]]) -> Figure:
    """Learning curves as running means over `SMOOTHING` presentations."""
    figure = Figure(figsize=(max(5.0, 3.6 * len(found)), 3.6), layout="constrained", dpi=150)
    panels = figure.subplots(1, len(found), squeeze=False)[0]
    for axes, (task, study_) in zip(panels, found.items(), strict=True):
        for variant, (label, colour, dash) in VARIANTS.items():
            curve = smooth(np.array(study_["variants"][variant]["curve"]))
            samples = study_["batch"] * (np.arange(curve.shape[1]) + SMOOTHING / 2)
            middle, low, high = np.median(curve, 0), curve.min(0), curve.max(0)
            axes.plot(samples, middle, dash, color=colour, label=label)
            axes.fill_between(samples, low, high, color=colour, alpha=0.12, lw=0)
        axes.set_title(study_["title"], loc="left", fontsize=9)
        axes.set_xlabel("samples shown")
        axes.set_ylabel("error of training batches" if task == "digits" else "training loss")
        axes.set_yscale("linear" if task == "digits" else "log")
        axes.set_xlim(0, None)
        axes.spines[["top", "right"]].set_visible(False)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        frameon=False,
        fontsize=8,
        loc="outside lower center",
        ncols=4 - 2 * (len(found) == 1),
    )
    seeds = len(next(iter(found.values()))["ratio"])
    figure.suptitle(f"Median of {seeds} seeds within the band of all of them", fontsize=9)
    return figure


def smooth(curves: np.ndarray) -> np.ndarray:
    """Running means over `SMOOTHING` presentations, of (seeds, presentations)."""
    window = np.ones(SMOOTHING) / SMOOTHING
    return np.apply_along_axis(np.convolve, 1, curves, window, "valid")


def main(
    tasks: Annotated[list[str] | None, typer.Argument(help="Which; all if not given.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="How many.")] = 5,
    force: Annotated[bool, typer.Option(help="Run again what has been run.")] = False,
) -> None:
    """Run the study."""
    for task in tasks or TASKS:
        if task not in TASKS:
            raise typer.BadParameter(f"{task}: expected one of {', '.join(TASKS)}")
    OUT.mkdir(parents=True, exist_ok=True)
    found = {}
    for task in tasks or TASKS:
        found[task] = study(task, seeds, force)
        print(f"{found[task]['title']}: what is left at the end, by seed")
        for variant, (label, *_) in VARIANTS.items():
            final = found[task]["variants"][variant]["final"]
            print(f"  {label:<32}" + " ".join(f"{v:8.4f}" for v in final))
        print(f"  {'spikes / frozen':<32}" + " ".join(f"{v:8.2f}" for v in found[task]["ratio"]))
    summary = {
        task: {"ratio": kept["ratio"]}
        | {variant: kept["variants"][variant]["final"] for variant in VARIANTS}
        for task, kept in found.items()
    }
    (OUT / "spiking-learning.json").write_text(json.dumps(summary, indent=1) + "\n")
    save(picture(found), OUT / "spiking-learning.png")
    print(f"wrote {OUT / 'spiking-learning.png'} and {OUT / 'spiking-learning.json'}")


if __name__ == "__main__":
    typer.run(main)
