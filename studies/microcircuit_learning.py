"""What lateral learning needs: microcircuits on digits, their controls, and where they break.

    python studies/microcircuit_learning.py learn       # ten seeds, one and two hidden layers
    python studies/microcircuit_learning.py collapse    # rates of W and of interneurons
    python studies/microcircuit_learning.py online      # what a slow prediction is worth
    python studies/microcircuit_learning.py spikes      # how far spikes are from rates
    python studies/microcircuit_learning.py published   # the bars and the random teacher
    python studies/microcircuit_learning.py mnist FOLDER    # images in the format of MNIST
    python studies/microcircuit_learning.py figure

`learn` reports errors on the test split under the settings of the protocol. `collapse` and `online`
hold out a fifth of the training samples and never see the test samples. All write to
`outputs/microcircuit/`; `figure` draws what they found.
"""

import json
import re
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from matplotlib.figure import Figure

import neurosim as ns
from neurosim.figures import save

OUT = Path("outputs/microcircuit")
DEPTHS = {1: [64, 64, 10], 2: [64, 64, 64, 10]}

COPIED = {
    "wire": "pyramidal.rate[i] -> interneuron.drive[i]",
    "init": "W[i+1]*g_b*(g_l + g_d)/(g_d*(g_l + g_b + g_a*int(i < L - 1)))",
    "rule": "tied",
}
"""Interneurons that are no learners: they keep to the closed form of the moving W."""

BACKPROP = {
    "model.activation": "softplus",
    "model.output": "linear",
    "model.loss": "half-squared",
    "model.projections.W.init": "xavier",
    "model.projections.W.gain": 0.53,  # what g_b/(g_l + g_b + g_a) leaves of a drive
    "model.projections.W.rate": "0.02*8**int(i < 2)",
    "batch": 5,
}

VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "backprop": ("backprop-digits", BACKPROP),
    "local": ("microcircuit-digits", {}),
    "copied": (
        "microcircuit-digits",
        {"model.projections.I": COPIED, "stages.0.phases.0.plastic": ["W", "A"]},
    ),
    "frozen": ("microcircuit-digits", {"model.projections.W.rate": "2*eta*int(L < i + 1)"}),
}

RATES = (0.015, 0.03, 0.045, 0.06, 0.09)
KEEPS = (0.5, 1.0, 2.0)
COLLAPSED = 0.5
"""An error above it: of networks that learn, none is near, and of those that collapse, all."""

app = typer.Typer(add_completion=False)


def run(name: str, changes: dict[str, Any], seeds: int, path: Path) -> list[float | None]:
    """Errors over seeds, None of one that diverged; a trace that is there is kept."""
    if not path.exists():
        protocol = ns.load_protocol(name, {"record.presentations": 0} | changes)
        try:
            ns.run(protocol, seeds=range(seeds), out=path, force=True)
        except ns.DivergedError:
            return [None] * seeds
    with ns.open_trace(path) as trace:
        final = trace["evaluation/error"].values[-1]
    return [float(e) if np.isfinite(e) else None for e in np.atleast_1d(final)]


def write(name: str, found: Any) -> None:
    (OUT / f"{name}.json").write_text(json.dumps(found, indent=1))


@app.command()
def learn(seeds: int = 10) -> None:
    """Errors on the test samples, of the microcircuit and of its controls."""
    OUT.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = {}
    for hidden, layers in DEPTHS.items():
        for variant, (name, changes) in VARIANTS.items():
            path = OUT / f"{variant}-{hidden}.h5"
            errors = run(name, {"model.layers": layers} | changes, seeds, path)
            found[f"{variant}-{hidden}"] = errors
            print(f"{hidden} hidden, {variant}: {said(errors)}", flush=True)
    write("learn", found)


@app.command()
def collapse(seeds: int = 5) -> None:
    """Errors on the validation part, over rates, of two hidden layers."""
    OUT.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = {}
    for keep in (*KEEPS, None):
        for rate in RATES:
            changes = {
                "task.validation": 0.2,
                "model.layers": DEPTHS[2],
                "model.parameters.eta": rate,
            }
            changes |= VARIANTS["copied"][1] if keep is None else {"model.parameters.keep": keep}
            key = f"{'copied' if keep is None else keep}-{rate}"
            found[key] = run("microcircuit-digits", changes, seeds, OUT / f"collapse-{key}.h5")
            print(f"keep {key}: {said(found[key])}", flush=True)
    write("collapse", found)


FROZEN = {"model.projections.W.rate": "eta*int(L < i + 1)"}

PUBLISHED: dict[str, tuple[str, dict[str, Any]]] = {
    "bars": ("microcircuit-bars", {}),
    "bars, hidden layer frozen": ("microcircuit-bars", FROZEN),
    "bars, interneurons from a random start": (
        "microcircuit-bars",
        {"model.projections.I.init": "uniform"},
    ),
    "teacher": ("microcircuit-teacher", {}),
    "teacher, hidden layer frozen": ("microcircuit-teacher", FROZEN),
    **{
        f"teacher, backprop at {rate:g}": (
            "backprop-digits",
            BACKPROP
            | {
                "model.layers": [30, 20, 10],
                "model.projections.W.rate": rate,
                "task": {
                    "name": "student-teacher",
                    "layers": [30, 20, 10],
                    "activation": "softplus",
                    "gain": 0.25,
                },
            },
        )
        for rate in (0.03, 0.1, 0.3)
    },
}


@app.command()
def published(seeds: int = 10) -> None:
    """Losses and errors of the small tasks of the source, over seeds that chose no rate."""
    OUT.mkdir(parents=True, exist_ok=True)
    for title, (name, changes) in PUBLISHED.items():
        path = OUT / f"published-{title.replace(' ', '-').replace(',', '')}.h5"
        protocol = ns.load_protocol(name, {"record.presentations": 0} | changes)
        try:
            ns.run(protocol, seeds=range(seeds, 2 * seeds), out=path, force=True)
        except ns.DivergedError:
            print(f"{title}: all diverged", flush=True)
            continue
        with ns.open_trace(path) as trace:
            loss, error = (trace[f"evaluation/{k}"].values for k in ("loss", "error"))
        first = [int(np.argmax(e == 0)) if (e == 0).any() else None for e in error.T]
        print(f"{title}: loss {np.round(loss[0], 2)} -> {np.round(loss[-1], 5)}", flush=True)
        print(f"  mean {np.nanmean(loss[-1]):.4f}; error {error[-1]}, zero after {first} epochs")


PACES = (Fraction(1, 27), Fraction(1, 9), Fraction(1, 3), Fraction(1))
"""By which the rates of the protocol, made for 64 pixels, are multiplied where there are 784."""

WIDE = [784, 500, 500, 10]


@app.command()
def mnist(
    folder: Path,
    only: str = "",
    pace: Annotated[list[Fraction] | None, typer.Option(parser=Fraction)] = None,
    seeds: Annotated[int, typer.Option(min=1)] = 5,
    trial: int = 5,
    epochs: int = 30,
    device: str = "cpu",
) -> None:
    """Test errors on 784-500-500-10; paces are chosen on a fifth of the training images.

    By seeds 0 to 4, which learn for `trial` epochs; so many others then learn for `epochs` at the
    pace with the least error, or at the only one that is given. What is killed goes on where it was
    when the command is given again, and what is complete is only read.
    """
    OUT.mkdir(parents=True, exist_ok=True)
    task = {"name": "idx", "path": str(folder.resolve())}
    paces = [float(by) for by in pace or PACES]
    for variant in [only] if only else ["backprop", "local", "frozen"]:
        changes = VARIANTS[variant][1] | {"model.layers": WIDE, "task": task}
        changes |= {"record.presentations": 0}
        held = changes | {"task": task | {"validation": 0.2}}
        scores = {}
        for by in paces if len(paces) > 1 else ():
            errors = paced(variant, held, by, trial, range(5), device)
            scores[by] = np.mean([1.0 if e is None else e for e in errors])
            print(f"{variant}, pace {by:.2g}, held out: {said(errors)}", flush=True)
        best = min(paces, key=lambda by: (scores.get(by), by))
        if epochs:
            errors = paced(variant, changes, best, epochs, range(5, 5 + seeds), device)
            print(f"{variant}, pace {best:.2g}, test: {said(errors)}", flush=True)


def paced(
    variant: str, changes: dict[str, Any], pace: float, epochs: int, seeds: range, device: str
) -> list[float | None]:
    """Errors after so many epochs at a pace; how they came there is printed."""
    part = "held-out" if "validation" in changes["task"] else "test"
    path = OUT / f"mnist-{variant}-{part}-{pace:.2g}-{epochs}-{seeds.start}-{seeds.stop}.h5"
    given = changes | {"stages.0.epochs": epochs, "stages.0.pace": pace}
    errors = final(VARIANTS[variant][0], given, seeds, path, device, keep=True)
    with ns.open_trace(path) as trace:
        for key in ("loss", "error"):
            course = trace[f"evaluation/{key}"].values.reshape(epochs + 1, -1).mean(axis=1)
            print(f"  {key} over epochs: {' '.join(f'{x:.3g}' for x in course)}", flush=True)
    return errors


def final(
    name: str, changes: dict[str, Any], seeds: range, path: Path, device: str, keep: bool = False
) -> list[float | None]:
    """Errors at the end, None of a seed that diverged. `keep`: go on with what is there."""
    alone = {"seed": seeds[0]} if len(seeds) == 1 else {}
    protocol = ns.load_protocol(name, changes | alone)
    try:
        if keep and Path(f"{path}.checkpoint").exists():
            ns.resume(path, protocol, device=device, progress=False)
        elif not (keep and path.exists() and ended(path)):
            several = None if alone else seeds
            ns.run(protocol, seeds=several, out=path, force=True, device=device, progress=False)
    except ns.DivergedError:
        return [None] * len(seeds)
    with ns.open_trace(path) as trace:
        gone = np.atleast_1d(trace["diverged_at"].values) >= 0
        errors = np.atleast_1d(trace["evaluation/error"].values[-1])
    return [None if lost else float(e) for lost, e in zip(gone, errors, strict=True)]


def ended(path: Path) -> bool:
    with ns.open_trace(path) as trace:
        return trace.attrs["status"] in ("complete", "diverged")


SLOW = re.compile(r"dpredicted/dt = (.*) - (.*)\*predicted")
"""The line of a cell by which what the dendrite predicts follows it as the soma does."""


@app.command()
def online(seeds: int = 5, epochs: int = 6) -> None:
    """Held-out errors of online learning, with predictions that lag, with prompt ones, and waiting.

    Where plasticity waits, predictions are prompt and it opens 40 ms after a sample has come.
    """
    OUT.mkdir(parents=True, exist_ok=True)
    model = ns.load_model("microcircuit-online")
    prompt = {
        f"model.cells.{name}.equations": SLOW.sub(r"predicted     = (\1)/\2", cell.equations)
        for name, cell in model.cells.items()
    }
    shown = {"until": "duration", "teaching": "clamped"}
    open_late = [
        shown | {"name": "closed", "duration": "40 ms"},
        shown | {"name": "open", "duration": "60 ms", "plastic": ["W", "I", "A"]},
    ]
    for title, changes in {
        "predictions that lag": {},
        "prompt predictions": prompt,
        "prompt, plastic after 40 ms": prompt | {"stages.0.phases": open_late},
    }.items():
        held = {"record.presentations": 0, "task.validation": 0.2, "stages.0.epochs": epochs}
        path = OUT / f"online-{title.replace(' ', '-').replace(',', '')}.h5"
        errors = final("microcircuit-online", held | changes, range(seeds), path, "cpu")
        print(f"{title}: {said(errors)}", flush=True)


SPIKES: dict[str, Any] = {
    "model.use": "microcircuit",
    "model.layers": [10, 8, 6, 4],
    "model.spiking": {"base_rate": "20 Hz", "gain": "50 Hz", "max_rate": "400 Hz"},
    "task": {"name": "student-teacher", "layers": [10, 8, 6, 4], "train": 8, "test": 8},
    "batch": 8,
    "stages.0.epochs": None,
    "stages.0.presentations": 1,
    "stages.0.phases.0": {"name": "untaught", "duration": "1 s", "until": "duration"},
    "record": {"presentations": [0], "samples": 8, "every": "100 ms"},
    "spiking": {"window": "900 ms", "target": "standalone", "test": 1},
}
PLACES = ("layer1", "layer2", "layer3", "interneuron1", "interneuron2")


COUNTS = ((20, 0.9), (80, 0.9), (320, 0.9), (320, 3.9))
"""Neurons a unit, and how long they are counted (s), after a tenth of a second."""


@app.command()
def spikes(seeds: int = 5) -> None:
    """Rates of Poisson neurons against the rate level, untaught, over neurons and time."""
    OUT.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = {}
    for neurons, window in COUNTS:
        found[f"{neurons}, {window} s"] = apart = scatter(neurons, window, seeds)
        print(f"N = {neurons}, T = {window} s: rmse {np.sqrt(np.mean(np.square(apart))):.4f}")
    write("spikes", found)


def scatter(neurons: int, window: float, seeds: int, target: str = "standalone") -> list[float]:
    """Root mean square, of every weight set, of counted rates less those of the rate level."""
    name, rates, path = (
        "microcircuit-self-prediction",
        OUT / f"spikes-rate-{seeds}.h5",
        OUT / "spikes.h5",
    )
    if not rates.exists():
        still = ns.load_protocol(name, SPIKES)
        ns.run(still, level="rate", seeds=range(seeds), out=rates, progress=False)
    changes = SPIKES | {
        "model.spiking.neurons": neurons,
        "stages.0.phases.0.duration": f"{window + 0.1:g} s",
        "spiking": SPIKES["spiking"] | {"window": f"{window:g} s", "target": target},
    }
    protocol = ns.load_protocol(name, changes)
    ns.run(protocol, level="spiking", seeds=range(seeds), out=path, force=True, progress=False)
    squares = []
    with ns.open_trace(rates) as expected, ns.open_trace(path) as counted:
        order = ("presentation", "seed", "sample", "unit")
        for place in PLACES:
            rate = expected[f"traces/{place}/rate"].isel(time=-1).transpose(*order)
            count = counted[f"estimates/{place}/rate"].isel(phase=-1).transpose(*order)
            squares.append(((count.values - rate.values) ** 2).mean(axis=(0, 2, 3)))
    return list(map(float, np.sqrt(np.mean(squares, axis=0))))


@app.command()
def figure(out: Path = Path("docs/microcircuit.png")) -> None:
    """How many collapse, and what those that learn reach."""
    found = json.loads((OUT / "collapse.json").read_text())
    drawing = Figure(figsize=(8.0, 3.2), layout="constrained", dpi=150)
    left, right = drawing.subplots(1, 2, sharex=True)
    styles = {"0.5": "#E69F00", "1.0": "#0072B2", "2.0": "#D55E00", "copied": "#999999"}
    for keep, color in styles.items():
        label = "interneurons copied" if keep == "copied" else f"keep = {keep}"
        errors = [found[f"{keep}-{rate}"] for rate in RATES]
        lost = [np.mean([e is None or e > COLLAPSED for e in of]) for of in errors]
        learned = [[100 * e for e in of if e is not None and e <= COLLAPSED] for of in errors]
        left.plot(RATES, lost, "o-", color=color, label=label)
        means = [np.mean(of) if of else np.nan for of in learned]
        right.plot(RATES, means, "o-", color=color, label=label)
    left.set(xlabel="rate of W, η", ylabel="fraction of seeds that collapse", xscale="log")
    right.set(xlabel="rate of W, η", ylabel="held-out error of the others (%)", ylim=(0, None))
    left.legend(frameon=False, fontsize=8)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_xticks(RATES, [f"{rate:g}" for rate in RATES])
        axes.minorticks_off()
    save(drawing, out)


def said(errors: list[float | None]) -> str:
    kept = [100 * e for e in errors if e is not None]
    numbers = " ".join(f"{e:.1f}" for e in kept)
    lost = len(errors) - len(kept)
    return f"{np.mean(kept) if kept else np.nan:.2f} % ({numbers}), {lost} diverged"


if __name__ == "__main__":
    app()
