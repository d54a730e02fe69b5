"""All models on the same tasks: seeds, presentations and the choice of their rates are the same.

    python studies/zoo.py learn digits            # or yin-yang, or fashion
    python studies/zoo.py page                    # tables of what was found, and a figure

One procedure for all: every learning rate of a model's own protocol is multiplied by the same pace,
chosen among five as the one with the least mean error on a fifth of the training samples of five
seeds. Then the test samples are seen once, by five other seeds. A seed that diverged counts as an
error of 100 % in the choice, and is counted apart in the result. The controls, whose hidden layers
do not learn, have a choice of their own. Neurons are at rest (the equilibrium level).

A further model is a further line of `MODELS`.
"""

import json
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import typer
from directions import angles
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

import neurosim as ns
from neurosim.figures import save

OUT = Path("outputs/zoo")
"""Of traces, which may go once angles are measured."""

RESULTS = Path("docs/zoo")
"""Of what was found, so that a further row does not need all others again."""

PACES = (1 / 9, 1 / 3, 1.0, 3.0, 9.0)
SEEDS = 5
"""As many to choose by (0 to 4) as to test with (5 to 9)."""

CHOOSING, TESTING = range(SEEDS), range(SEEDS, 2 * SEEDS)
CONTROL = ", hidden layers frozen"
"""What names of the controls end in."""

MOMENTS = 5
"""Presentations of which the change of W is held against the theory, from the first to the last
but one."""

FASHION = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package dataset-fashion-mnist puts its files."""


class Problem(NamedTuple):
    """A task, the sizes of the networks that learn it, and for how long.

    samples: of training, in an epoch.
    """

    title: str
    task: dict[str, Any]
    layers: list[int]
    epochs: int
    samples: int


PROBLEMS = {
    "digits": Problem("digits, 64-16-10", {"name": "digits"}, [64, 16, 10], 30, 1438),
    "yin-yang": Problem("Yin-Yang, 4-32-32-3", {"name": "yin-yang"}, [4, 32, 32, 3], 20, 5000),
    "fashion": Problem(
        "Fashion-MNIST, 784-100-10",
        {"name": "idx", "path": str(FASHION), "train": 10_000},
        [784, 100, 10],
        5,
        10_000,
    ),
}


class Model(NamedTuple):
    """A model as a shipped protocol has it, and what is changed there.

    W: the rate of its forward weights, by layer or of all. pixels: whether images come as rates
    between 0 and 1, and not standardised. smooth: whether there is a gradient, which signs and
    draws have not.
    """

    protocol: str
    W: float | str
    changes: dict[str, Any] = {}  # noqa: RUF012 (never changed)
    pixels: bool = False
    smooth: bool = True


def credit(name: str, rate: float, learned: float | None = None) -> Model:
    """A method of the target-propagation family, or of random feedback, with softmax outputs.

    learned: the rate of its feedback weights; None where they stay as they are.
    """
    changes: dict[str, Any] = {
        "model.credit": name,
        "model.output": "softmax",
        "model.loss": "cross-entropy",
        "model.projections.W.init": "orthogonal",
        "batch": 50,
        "schedule.final": 0.1,
        "record.decomposition": False,
    }
    if learned is None:
        changes["stages.0.phases.0.plastic"] = ["forward"]
    else:
        changes["model.credit.rate"] = learned
    return Model("target-propagation", rate, changes)


LEARNED = {
    "model.use": "burstprop-learned",
    "stages.0.phases.1.plastic": ["W", "Y"],
    "model.projections.Y.rate": 5.0,
}

MODELS = {
    "backprop": Model("backprop-digits", 0.3),
    "random feedback": credit("rbp", 0.3),
    "skipped backprop": credit("sbp", 0.3),
    "skipped random feedback": credit("srbp", 0.3),
    "adaptive feedback": credit("arbp", 0.3, 0.3),
    "skipped adaptive feedback": credit("asrbp", 0.3, 0.3),
    "DTP": credit("dtp", 1.0, 0.05),
    "DTP, approximate inverses": credit("dtp-ai", 2.0, 0.05),
    "DTP, fixed feedback": credit("dtp-fixed", 1.0),
    "DTP, noise to the output": credit("dtp-drl", 1.0, 0.05),
    "DTP, noise in two layers": credit("dtp-ldrl", 1.0, 0.05),
    "DTP, RMSprop": Model("difference-target-propagation-digits", 0.001),
    "DTP, discrete transmission": Model("discrete-transmission-digits", 0.001, smooth=False),
    "DTP, stochastic binary units": Model("stochastic-binary-digits", 0.001, smooth=False),
    "two-phase mixture": Model("quickstart", 0.2),
    "multiplexing": Model("multiplexing-digits", 10.0),
    "microcircuit": Model("microcircuit-digits", "eta*(4*2.5**(L - 1))**int(i < 2)"),
    "segregated dendrites": Model("segregated-dendrites-digits", "2*2**int(i < L)", pixels=True),
    "BurstCCN": Model("burst-ccn-digits", "2*5**int(i < L)"),
    "burstprop": Model("burstprop-digits", "5*5**int(i < L)"),
    "burstprop, feedback learned": Model("burstprop-digits", "5*5**int(i < L)", LEARNED),
    "equilibrium propagation": Model("equilibrium-propagation-digits", 0.3),
    "predictive coding": Model("predictive-coding-digits", 3.0),
    "deep feedback control": Model("feedback-control-digits", 40.0),
    "least control": Model("least-control-digits", 0.3),
    "broadcast alignment": Model("broadcast-alignment-digits", "0.3*0.1**int(i < L)"),
}


def sized(model: Model, layers: list[int]) -> dict[str, Any]:
    """The changes that give a model these layers."""
    found: dict[str, Any] = {"model.layers": layers}
    if model.protocol == "discrete-transmission-digits":  # its populations name theirs
        found["model.populations.neuron.layers"] = list(range(2, len(layers)))
    return found


def loaded(problem: Problem, model: Model, pace: float, frozen: bool, validate: bool) -> Any:
    """The protocol of a run.

    What stages before the last one show, a sixth of all, is taken from the last one.
    """
    changes = model.changes | {
        "level": "equilibrium",
        "task": problem.task,
        **sized(model, problem.layers),
        "model.projections.W.rate": f"({model.W})*int(L < i + 1)" if frozen else model.W,
        "record.presentations": 0,
        "record.variables": [],
    }
    plain = ns.load_protocol(model.protocol, changes).spec
    raw = model.pixels and problem.task["name"] in ("digits", "idx")
    last, before = len(plain.stages) - 1, max(1, problem.epochs // 6)
    changes["task"] = (
        problem.task
        | ({"validation": 0.2} if validate else {})
        | ({"standardise": False} if raw else {})
    )
    for k in range(last + 1):
        changes[f"stages.{k}.pace"] = pace
        changes[f"stages.{k}.epochs"] = before if k < last else problem.epochs - last * before
    if frozen and model.protocol == "target-propagation":  # nothing is sent down
        changes["stages.0.phases.0.plastic"] = ["forward"]
    if not validate and not frozen:
        each = problem.samples // plain.batch
        first, end = last * before * each, problem.epochs * each
        changes["record.weights"], changes["record.samples"] = True, plain.batch
        changes["record.presentations"] = [
            int(at) + k for at in np.linspace(first, end - 2, MOMENTS) for k in (0, 1)
        ]
    return ns.load_protocol(model.protocol, changes)


def run(name: str, protocol: Any, seeds: range) -> dict[str, Any]:
    """Errors over the seeds, None of one that diverged; a finished trace is kept."""
    path = OUT / f"{name}.h5"
    if not path.exists() or ns.inspect(path)["status"] not in ("complete", "diverged"):
        try:
            ns.run(protocol, seeds=seeds, out=path, force=True, progress=False)
        except ns.DivergedError:
            return {"errors": [None] * len(seeds), "path": str(path)}
    with ns.open_trace(path) as trace:
        final = trace["evaluation/error"].values[-1]
        lost = trace["diverged_at"].values >= 0
        errors = [None if gone else float(e) for e, gone in zip(final, lost, strict=True)]
        return {"errors": errors, "path": str(path)}


def scored(errors: list[float | None]) -> float:
    """By which a pace is chosen: the mean error, 100 % of a seed that diverged."""
    return float(np.mean([1.0 if e is None else e for e in errors]))


app = typer.Typer(add_completion=False)


@app.callback()
def main() -> None:
    """All models on the same tasks."""


@app.command()
def learn(task: str, only: str = "") -> None:
    """Choose a pace for every model and its control, then test it."""
    OUT.mkdir(parents=True, exist_ok=True)
    problem, file = PROBLEMS[task], RESULTS / f"{task}.json"
    if "path" in problem.task and not Path(problem.task["path"]).is_dir():
        print(f"skipped: no folder {problem.task['path']} (Debian: dataset-fashion-mnist)")
        return
    for title, model in MODELS.items():
        if only and only != title:
            continue
        for frozen in (False, True):
            label = title + CONTROL if frozen else title
            name = f"{task}-{title.replace(' ', '-')}" + ("-frozen" if frozen else "")
            tried = {
                pace: run(
                    f"{name}-{pace:.2g}", loaded(problem, model, pace, frozen, True), CHOOSING
                )
                for pace in PACES
            }
            scores = {pace: scored(of["errors"]) for pace, of in tried.items()}
            pace = min(scores, key=lambda p: (scores[p], p))
            protocol = loaded(problem, model, pace, frozen, False)
            found = run(f"{name}-test-{pace:.2g}", protocol, TESTING)
            found |= {"pace": pace, "validation": {f"{p:.2g}": s for p, s in scores.items()}}
            results = json.loads(file.read_text()) if file.exists() else {}  # others learn too
            results[label] = found
            file.write_text(json.dumps(results, indent=1))
            print(f"{label}: pace {pace:.2g} of {scores}, test {found['errors']}", flush=True)


SIZES = {
    "digits": ([64, 8, 10], [64, 16, 10], [64, 32, 10], [64, 64, 10], [64, 16, 16, 10]),
    "yin-yang": ([4, 32, 3], [4, 64, 3], [4, 32, 32, 3]),
}


@app.command()
def sizes() -> None:
    """What hidden layers matter for: backprop and its control, at their best paces, held out."""
    OUT.mkdir(parents=True, exist_ok=True)
    for task, every in SIZES.items():
        for layers in every:
            problem = PROBLEMS[task]._replace(layers=layers)
            best = []
            for frozen in (False, True):
                name = f"{task}-{'-'.join(map(str, layers))}" + ("-frozen" if frozen else "")
                tried = [
                    run(f"{name}-{p:.2g}", loaded(problem, MODELS["backprop"], p, frozen, True),
                        CHOOSING)
                    for p in PACES
                ]  # fmt: skip
                best.append(100 * min(scored(of["errors"]) for of in tried))
            print(f"{task} {layers}: {best[0]:.1f} %, frozen {best[1]:.1f} %", flush=True)


# ------------------------------------------------------------------------- costs, levels, angles


def cost(model: Model) -> float:
    """Seconds of processor time that all of learning digits takes, tests too, once compiled."""
    protocol = loaded(PROBLEMS["digits"], model, PACES[0], False, True)
    for _ in range(2):
        began = time.process_time()
        ns.run(protocol, seeds=CHOOSING, out=OUT / "cost.h5", force=True, progress=False)
    return time.process_time() - began


def sweeps(path: Path) -> float:
    """Of a presentation, all of its phases: how often the layers are gone through to find rest."""
    with ns.open_trace(path) as trace:
        effort = np.asarray(trace["metrics/effort"])
    return float(np.nanmean(np.nansum(effort, axis=-1)))


def at_levels(model: Model) -> dict[str, Any]:
    """How far ΔW of one presentation of digits is from that at rest, relative; at the rate level.

    In float64. With spiking: whether the level takes the model.
    """
    plain = ns.load_protocol(model.protocol, model.changes).spec
    changes = model.changes | {
        "precision": "float64",
        **sized(model, PROBLEMS["digits"].layers),
        "task": PROBLEMS["digits"].task | ({"standardise": False} if model.pixels else {}),
        "model.projections.W.rate": model.W,
        "record.presentations": 0,
    }
    for k in range(len(plain.stages)):
        changes |= {f"stages.{k}.epochs": None, f"stages.{k}.presentations": 1}
    timed = {} if plain.rate else {"rate.dt": "5 ms", "stages.0.phases.0.duration": "600 ms"}
    moved = {}
    for level, more in (("equilibrium", {}), ("rate", timed)):
        path = OUT / f"level-{level}.h5"
        protocol = ns.load_protocol(model.protocol, changes | more | {"level": level})
        ns.run(protocol, out=path, force=True, progress=False)
        with ns.open_trace(path) as trace:
            ends = [np.asarray(trace[f"weights/W{i}"]) for i in (1, 2)]
        moved[level] = np.concatenate([(W[-1] - W[0]).ravel() for W in ends])
    off = np.linalg.norm(moved["rate"] - moved["equilibrium"])
    try:
        ns.load_protocol(model.protocol, changes | timed | {"level": "spiking"})
        spiking = True
    except ns.InputError:
        spiking = False
    return {"rate": float(off / np.linalg.norm(moved["equilibrium"])), "spiking": spiking}


def learned() -> dict[str, dict[str, Any]]:
    """What was found, by task and model or control."""
    files = {task: RESULTS / f"{task}.json" for task in PROBLEMS}
    return {t: json.loads(file.read_text()) for t, file in files.items() if file.exists()}


@app.command()
def measure() -> None:
    """Of all models that have learned: costs, levels and angles; what is known is kept."""
    file, found = RESULTS / "measures.json", learned()
    known = json.loads(file.read_text()) if file.exists() else {}
    for title, model in MODELS.items():
        own = known.setdefault(title, {"angles": {}})
        named = {task: Path(of[title]["path"]) for task, of in found.items() if title in of}
        tested = {task: path for task, path in named.items() if path.exists()}
        for task, path in tested.items() if model.smooth else ():
            seen = own["angles"].get(task, {})
            if seen.get("path") == str(path) or ns.inspect(path)["status"] != "complete":
                continue
            spec = loaded(PROBLEMS[task], model, 1.0, False, False).spec
            own["angles"][task] = angles(spec.model, path) | {"path": str(path)}
        if "levels" not in own and "digits" in tested:
            own |= {
                "batch": ns.load_protocol(model.protocol, model.changes).spec.batch,
                "seconds": cost(model),
                "sweeps": sweeps(tested["digits"]),
                "levels": at_levels(model),
            }
        file.write_text(json.dumps(known, indent=1))
        print(title, own, flush=True)


@app.command()
def page(out: Path = OUT / "zoo.png") -> None:
    """Print tables of what was found, and draw a figure."""
    found, file = learned(), RESULTS / "measures.json"
    several = {task: of for task, of in found.items() if len(_learned(of)) > 1}
    measures = json.loads(file.read_text()) if file.exists() else {}
    for task, results in found.items():
        print(f"\n{PROBLEMS[task].title}:\n")
        print(
            "| model | test error | hidden layers frozen | diverged | pace | ΔW to backprop | ",
            end="",
        )
        print("to Gauss–Newton |\n| --- | --- | --- | --- | --- | --- | --- |")
        for title in _learned(results):
            own, control = results[title], results[title + CONTROL]
            seen = measures.get(title, {"angles": {}})["angles"].get(task, {})
            cells = [
                title,
                said(own),
                said(control),
                f"{lost(own)}; {lost(control)}",
                f"{paced(own)}; {paced(control)}",
                *(degrees(seen.get(way, [])) for way in ("backprop", "gauss_newton")),
            ]
            print(f"| {' | '.join(cells)} |")
    print("\n| model | batch | sweeps | seconds | over backprop | as rates | as spikes |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for title, own in measures.items():
        if "levels" in own:
            cells = [
                title,
                str(own["batch"]),
                f"{own['sweeps']:.1f}",
                f"{own['seconds']:.1f}",
                f"{own['seconds'] / measures['backprop']['seconds']:.1f}",
                f"{own['levels']['rate']:.0e}",
                "yes" if own["levels"]["spiking"] else "no",
            ]
            print(f"| {' | '.join(cells)} |")
    save(picture(several), out)


def picture(found: dict[str, dict[str, Any]]) -> Figure:
    """Test errors of all seeds, a panel a task."""
    drawing = Figure(figsize=(10.0, 1.0 + 0.34 * len(MODELS)), layout="constrained", dpi=150)
    panels = drawing.subplots(1, len(found), sharey=True, squeeze=False)[0]
    shown = {title for results in found.values() for title in _learned(results)}
    names = [title for title in MODELS if title in shown][::-1]
    for axes, (task, results) in zip(panels, found.items(), strict=True):
        for label, colour, marker in (("", "#0072B2", "o"), (CONTROL, "#999999", "s")):
            for title in _learned(results):
                k = names.index(title)
                errors = [100 * e for e in results[title + label]["errors"] if e is not None]
                axes.plot(errors, [k] * len(errors), marker, color=colour, alpha=0.45, ms=4, mew=0)
                if errors:
                    axes.plot(np.mean(errors), k, "|", color=colour, ms=13, mew=2)
        axes.set_yticks(range(len(names)), names)
        axes.set(title=PROBLEMS[task].title, xlabel="test error (%)", xscale="log")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.xaxis.set_minor_formatter(lambda value, _: f"{value:g}" if _apart(value) else "")
        axes.tick_params(axis="x", which="both", labelsize=8)
        axes.title.set_fontsize(10)
        axes.grid(axis="y", lw=0.4, color="#dddddd")
        axes.spines[["top", "right"]].set_visible(False)
    handles = [
        Line2D([], [], color=c, marker=m, ls="", label=name)
        for c, m, name in (("#0072B2", "o", "all layers learn"), ("#999999", "s", "output only"))
    ]
    drawing.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False)
    return drawing


def _apart(value: float) -> bool:
    """Whether a tick of a logarithmic axis leaves room for its number."""
    return f"{value:e}"[0] in "23456"


def _learned(results: dict[str, Any]) -> list[str]:
    """Of which models there is a result, of their controls too."""
    return [title for title in MODELS if {title, title + CONTROL} <= results.keys()]


def said(result: dict[str, Any]) -> str:
    """The mean of the errors of the seeds that lived, and their range."""
    errors = [100 * e for e in result["errors"] if e is not None]
    if not errors:
        return "all diverged"
    return f"{np.mean(errors):.1f} % ({min(errors):.1f}–{max(errors):.1f})"


def lost(result: dict[str, Any]) -> int:
    """How many seeds diverged."""
    return sum(e is None for e in result["errors"])


def paced(result: dict[str, Any]) -> str:
    """The pace that was chosen."""
    return {1 / 9: "1/9", 1 / 3: "1/3"}.get(result["pace"], f"{result['pace']:g}")


def degrees(angles: list[float]) -> str:
    """Of every layer."""
    return ", ".join("–" if np.isnan(a) else f"{a:.0f}°" for a in angles)


if __name__ == "__main__":
    app()
