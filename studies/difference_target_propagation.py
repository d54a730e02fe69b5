"""Difference target propagation beyond smooth networks, after Lee et al. 2015, with its baselines.

    python studies/difference_target_propagation.py learn digits
    python studies/difference_target_propagation.py learn mnist --folder FOLDER
    python studies/difference_target_propagation.py learn fashion
    python studies/difference_target_propagation.py learn fashion-whole
    python studies/difference_target_propagation.py page      # a table of what was found, a figure

One procedure for all: the rates of W and Q are multiplied by the same pace, the one with the least
mean error on a fifth of the training samples, held out, over two seeds. Five paces are tried: 1/3,
1 and 3, then twice one beside the best, beyond it where it lies at the edge; and more as long as it
does. Then the test samples are seen once, by three other seeds. On all images of Fashion-MNIST
nothing is chosen: paces are those that were chosen on 5000.
"""

import json
import math
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
from matplotlib.figure import Figure

import neurosim as ns
from neurosim.figures import save

OUT = Path("outputs/difference-target-propagation")
RESULTS = Path("docs/difference-target-propagation")
"""Of what was found, so that a further row does not need all others again."""

FIRST, TRIALS = (1 / 3, 1.0, 3.0), 5
CHOOSING, TESTING = [0, 1], [2, 3, 4]
FASHION = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package dataset-fashion-mnist puts its files."""

SIZES = {
    "difference-target-propagation": ([64] * 8, [240] * 7),
    "discrete-transmission": ([64, 64], [500, 500]),
    "stochastic-binary": ([64, 64], [200, 200]),
}
"""Of hidden layers, on digits and on images; those on images are the text's."""

BACKPROP: dict[str, Any] = {
    "model.credit": "backprop",
    "stages.0.phases.0.plastic": ["forward"],
}
FROZEN = BACKPROP | {"model.projections.W.rate": [0.0, 0.001, 0.001]}


class Problem(NamedTuple):
    """A task and for how long its samples are shown; images are the first so many of a folder.

    paces: the task whose paces are taken, where they are not chosen on samples held out.
    """

    title: str
    epochs: int
    train: int | None = None
    test: int | None = None
    batch: int = 50
    paces: str | None = None


PROBLEMS = {
    "digits": Problem("digits", 15),
    "mnist": Problem("MNIST, 5000 images", 4, 5000, 2000),
    "fashion": Problem("Fashion-MNIST, 5000 images", 4, 5000, 2000),
    "fashion-whole": Problem("Fashion-MNIST, 60 000 images", 2, batch=100, paces="fashion"),
}


class Method(NamedTuple):
    """A shipped model and what is changed there; what the text reports on MNIST (%).

    graded: whether it learns in a network that sends graded activity and is tested with signs.
    draws: over how many the answers are averaged when the whole has been learned.
    """

    model: str
    changes: dict[str, Any]
    published: float | None
    graded: bool = False
    draws: int = 1


DEEP, DISCRETE, STOCHASTIC = SIZES
# A leak of 0.01 in place of the text's rectifier: slopes here are above 0, to keep an inverse.
RELU = {"model.activation": {"name": "leaky-relu", "slope": 0.01}}
METHODS = {
    "deep tanh: DTP": Method(DEEP, {}, 1.94),
    "deep tanh: backprop": Method(DEEP, BACKPROP, 1.86),
    "deep ReLU: DTP": Method(DEEP, RELU, 3.15),
    "deep ReLU: backprop": Method(DEEP, RELU | BACKPROP, 1.62),
    "discrete: DTP": Method(DISCRETE, {}, None),
    "discrete: backprop, W1 fixed": Method(DISCRETE, FROZEN, None),
    "discrete: backprop through graded": Method(DISCRETE, BACKPROP, None, True),
    "discrete: backprop, slope of the sign 1": Method(DISCRETE, BACKPROP, None),
    "stochastic: DTP": Method(STOCHASTIC, {}, 1.51, draws=100),
    "stochastic: biased gradient": Method(STOCHASTIC, BACKPROP, 1.71, draws=100),
}


def loaded(
    method: Method,
    task: str,
    folder: Path | None,
    pace: float,
    held: bool,
    more: dict[str, Any] | None = None,
) -> Any:
    """The protocol of a run. held: whether it is tested on a part of the training samples.

    more: further changes.
    """
    problem, (small, large) = PROBLEMS[task], SIZES[method.model]
    samples: dict[str, Any] = {"name": "digits"}
    if folder is not None:
        samples = {"name": "idx", "path": str(folder.resolve())}
        sizes = {"train": problem.train, "test": problem.test}
        samples |= {name: size for name, size in sizes.items() if size is not None}
    hidden, ends = (small, [64, 10]) if folder is None else (large, [784, 10])
    changes = method.changes | {
        "task": samples | ({"validation": 0.2} if held else {}),
        "model.layers": [ends[0], *hidden, ends[1]],
        "batch": problem.batch,
        "stages.0.epochs": problem.epochs,
        "stages.0.pace": pace,
        "record.presentations": 0,
        "test_draws": 1,
    }
    if method.graded:
        changes["model.cells.discrete.equations"] = _graded(method.model)
    return ns.load_protocol(f"{method.model}-digits", changes | (more or {}))


def _graded(model: str) -> str:
    """The equations of the layer that sends signs, with graded activity in their place."""
    text = ns.load_model(model).cells["discrete"].equations
    return text.replace("int(rate > 0)", "rate")


def errors(
    method: Method, task: str, folder: Path | None, pace: float, held: bool, out: Path
) -> list[float]:
    """Fractions of samples that are classified wrongly at the end, by seed; 1 of what diverged."""
    seeds = CHOOSING if held else TESTING
    protocol, last = loaded(method, task, folder, pace, held), -1
    with suppress(ns.DivergedError):
        ns.run(protocol, seeds=seeds, out=out, force=True, progress=False)
    if method.graded or method.draws > 1:  # another test of what was learned
        changes = {"model.projections.W.init": "file", "model.projections.W.file": str(out)}
        changes |= {"stages.0.epochs": None, "stages.0.presentations": 1}
        changes |= {"test_draws": method.draws}
        protocol = loaded(method._replace(graded=False), task, folder, pace, held, changes)
        out, last = out.with_stem(f"{out.stem}-again"), 0
        ns.run(protocol, seeds=seeds, out=out, force=True, progress=False)
    with ns.open_trace(out) as trace:
        found = trace["evaluation/error"].values.reshape(-1, len(seeds))
    return [float(e) if e == e else 1.0 for e in found[last]]


def chosen(score: Callable[[float], float]) -> tuple[float, dict[float, float]]:
    """The best pace, and the scores of all that were tried; see the procedure above."""
    tried = {pace: score(pace) for pace in FIRST}
    while True:
        paces = sorted(tried)
        at = min(range(len(paces)), key=lambda k: (tried[paces[k]], paces[k]))
        inside = 0 < at < len(paces) - 1
        if inside and len(tried) >= TRIALS:
            return paces[at], tried
        if inside:
            beside = min(paces[at - 1], paces[at + 1], key=lambda pace: tried[pace])
            new = math.sqrt(paces[at] * beside)
        else:
            new = paces[at] / 3 if at == 0 else paces[at] * 3
        tried[new] = score(new)


app = typer.Typer(add_completion=False)


@app.callback()
def main() -> None:
    """Difference target propagation beyond smooth networks."""


@app.command()
def learn(task: str, folder: Annotated[Path | None, typer.Option()] = None, only: str = "") -> None:
    """Every method whose name contains `only`; what is there already is kept."""
    folder = FASHION if task.startswith("fashion") and folder is None else folder
    if task != "digits" and (folder is None or not folder.is_dir()):
        print(f"skipped: no folder {folder}; expected one with files in the format of MNIST")
        return
    for path in (OUT, RESULTS):
        path.mkdir(parents=True, exist_ok=True)
    file, given = RESULTS / f"{task}.json", PROBLEMS[task].paces
    for name, method in METHODS.items():
        found: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
        if only not in name or name in found:
            continue
        trace = OUT / f"{task}-{name.replace(':', '').replace(' ', '-')}.h5"

        def score(pace: float, method: Method = method, trace: Path = trace) -> float:
            held = errors(method, task, folder, pace, True, trace)
            return sum(held) / len(held)

        if given is not None:
            pace, tried = json.loads((RESULTS / f"{given}.json").read_text())[name]["pace"], {}
        else:
            pace, tried = chosen(score)
        tested = errors(method, task, folder, pace, False, trace)
        scores = {f"{p:.3g}": tried[p] for p in sorted(tried)}
        found[name] = {"pace": pace, "validation": scores, "test": tested}
        file.write_text(json.dumps(found, indent=1) + "\n")
        print(f"{name}: pace {pace:.3g} of {scores}, test {tested}", flush=True)


@app.command()
def page(out: Path = OUT / "difference-target-propagation.png") -> None:
    """Print a table of what was found, and draw a figure."""
    files = {task: RESULTS / f"{task}.json" for task in PROBLEMS}
    found = {task: json.loads(f.read_text()) for task, f in files.items() if f.exists()}
    print(f"| method | {' | '.join(PROBLEMS[task].title for task in found)} | paces | published |")
    print("| --- |" + " --- |" * (len(found) + 2))
    for name, method in METHODS.items():
        means = [_mean(of[name]["test"]) if name in of else "" for of in found.values()]
        paces = ", ".join(f"{of[name]['pace']:.2g}" for of in found.values() if name in of)
        known = "" if method.published is None else f"{method.published}"
        print(f"| {' | '.join([name, *means, paces, known])} |")
    out.parent.mkdir(parents=True, exist_ok=True)
    drawn(found, out)


def _mean(test: list[float]) -> str:
    """The mean (%), and how far seeds range."""
    low, high = min(test), max(test)
    return f"{100 * sum(test) / len(test):.1f} ({100 * low:.1f}–{100 * high:.1f})"


def drawn(found: dict[str, dict[str, Any]], path: Path) -> None:
    """Test errors of every method, a dot a seed, and their mean; a panel a task."""
    names = list(reversed(METHODS))
    size = 3.2 + 2.6 * len(found), 0.6 + 0.3 * len(names)
    canvas = Figure(figsize=size, layout="constrained", dpi=130)
    panels = canvas.subplots(1, len(found), sharey=True, squeeze=False)[0]
    for axes, (task, of) in zip(panels, found.items(), strict=True):
        for row, name in enumerate(names):
            if name not in of:
                continue
            test = [100 * e for e in of[name]["test"]]
            color = "#0072B2" if "DTP" in name else "#888888"
            axes.plot(test, [row] * len(test), "o", ms=4, color=color, alpha=0.6)
            axes.plot([sum(test) / len(test)], [row], "|", ms=12, mew=2, color=color)
        axes.set(yticks=range(len(names)), yticklabels=names, xlabel="test error (%)")
        axes.set_title(PROBLEMS[task].title, fontsize=9)
        axes.set_xscale("log")
        for which in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
            which(lambda value, _: f"{value:g}" if f"{value:e}"[0] in "1235" else "")
    save(canvas, path)


if __name__ == "__main__":
    app()
