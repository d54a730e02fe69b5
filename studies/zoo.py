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
from local_goals import passed, read, soft
from zoo_page import CONTROL, both, degrees, lost, paced, picture, said, spiking

import neurosim as ns
from neurosim.building import ingredients
from neurosim.figures import save
from neurosim.models import circuitry
from neurosim.seeds import host_stream

OUT = Path("outputs/zoo")
"""Of traces, which may go once angles are measured."""

RESULTS = Path("docs/zoo")
"""Of what was found, so that a further row does not need all others again."""

PACES = (1 / 9, 1 / 3, 1.0, 3.0, 9.0)
SEEDS = 5
"""As many to choose by (0 to 4) as to test with (5 to 9)."""

CHOOSING, TESTING = range(SEEDS), range(SEEDS, 2 * SEEDS)
MOMENTS = 5
"""Presentations of which the change of W is held against the theory, from the first to the last
but one."""

SPIKING_TEST = 100
"""Test samples that spiking networks see, the first ones of every seed."""

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


NODES = "local-goals-n4g4"
"""The protocol whose hidden layers have goals."""


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
    "local goals": Model(
        NODES,
        "0.1*3**int(i > L - 1)",
        {"stages.0.presentations": None, "stages.0.epochs": 1},
    ),
}


def sized(model: Model, layers: list[int]) -> dict[str, Any]:
    """The changes that give a model these layers."""
    found: dict[str, Any] = {"model.layers": layers}
    if model.protocol == NODES:  # the goal is that of the last one
        found["model.credit.nodes.goals"] = [len(layers) - 2]
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


def kept(file: Path) -> dict[str, Any]:
    """What was found, by model."""
    return json.loads(file.read_text()) if file.exists() else {}


def keep(file: Path, label: str, found: dict[str, Any]) -> None:
    """Beside what was found of others, which may be at work at the same time."""
    file.write_text(json.dumps(kept(file) | {label: found}, indent=1))


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
            keep(file, label, found)
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


def single(model: Model) -> dict[str, Any]:
    """The changes that leave one presentation of digits, for levels in time too."""
    plain = ns.load_protocol(model.protocol, model.changes).spec
    changes = model.changes | {
        **sized(model, PROBLEMS["digits"].layers),
        "task": PROBLEMS["digits"].task | ({"standardise": False} if model.pixels else {}),
        "model.projections.W.rate": model.W,
    }
    for k in range(len(plain.stages)):
        changes |= {f"stages.{k}.epochs": None, f"stages.{k}.presentations": 1}
    return changes | ({} if plain.rate else {"stages.0.phases.0.duration": "600 ms"})


def at_levels(model: Model) -> dict[str, Any]:
    """How far ΔW of one presentation of digits is from that at rest, relative; at the rate level.

    In float64. With spiking: whether the level takes the model.
    """
    changes = single(model) | {"precision": "float64", "record.presentations": 0}
    timed = {} if ns.load_protocol(model.protocol, changes).spec.rate else {"rate.dt": "5 ms"}
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
        ns.load_protocol(model.protocol, changes | {"level": "spiking"})
        spiking = True
    except ns.InputError:
        spiking = False
    return {"rate": float(off / np.linalg.norm(moved["equilibrium"])), "spiking": spiking}


def as_spikes(model: Model, weights: Path) -> dict[str, Any]:
    """Networks that have learned digits at rest, as spikes: their test errors, and how far off.

    weights: the trace of the test. Neurons, windows and time step are those of the protocol.
    """
    changes = single(model) | {"record.presentations": 1, "spiking.test": SPIKING_TEST}
    traces = []
    for level in ("equilibrium", "spiking"):
        traces.append(OUT / f"spikes-{level}-{weights.stem}.h5")
        at: dict[str, Any] = {"level": level}
        if level == "spiking":
            at |= {"spiking.presentations": 1, "spiking.engine": engine(model, changes)}
        protocol = ns.load_protocol(model.protocol, changes | at)
        given = {"seeds": TESTING, "start": weights, "out": traces[-1]}
        ns.run(protocol, **given, force=True, progress=False)
    with ns.open_trace(traces[-1]) as trace:
        errors = trace["evaluation/error"].values[0].tolist()
    neurons = protocol.spec.model.spiking.neurons
    return {
        "errors": errors,
        "distance": distance(protocol.spec, *traces),
        "neurons": neurons,
        "window": protocol.spec.spiking.window,
        "engine": protocol.spec.spiking.engine,
    }


def distance(spec: Any, rest: Path, spiking: Path) -> float | None:
    """How far what spikes (or events) say is from rest, over what their scatter lets expect.

    By root mean squares at the end of the first phase of one batch, in the first seed (`neurosim
    compare`); of all layers the largest. None where no law is known.
    """
    first = spec.stages[0].phases[0].name
    populations = circuitry.circuit(spec.model).population.values()
    ratios = [
        row["rmse"] / row["expected"]
        for row in ns.compare(rest, spiking)["agreement"]
        if row["phase"] == first
        and row["expected"]
        and any(row["layer"] in p.layers and p.carrier(row["variable"]) == 0 for p in populations)
    ]
    return max(ratios, default=None)


def engine(model: Model, changes: dict[str, Any]) -> str:
    """JAX, where it takes the model."""
    at = {"level": "spiking", "spiking.engine": "jax"}
    try:
        ns.load_protocol(model.protocol, changes | at)
    except ns.InputError:
        return "brian2"
    return "jax"


def machines(protocol: Any, path: Path) -> dict[str, list[float]]:
    """Test errors of linear support vector machines that read the last node of local goals.

    Before and after it learned, by seed. protocol: of the test. path: its trace.
    """
    task = ingredients.task(protocol.spec, protocol.folder)
    threshold = protocol.spec.model.activation.threshold
    found: dict[str, list[float]] = {"initial": [], "final": []}
    with ns.open_trace(path) as trace:
        for k, seed in enumerate(TESTING):
            data = task.draw(host_stream(seed, "task"))
            for moment, errors in found.items():
                u, v = (
                    soft(passed(trace, moment, k, x, threshold)[-1], threshold)
                    for x in (data.x_train, data.x_test)
                )
                errors.append(read(u, data.y_train, v, data.y_test) / 100)
    return found


def learned() -> dict[str, dict[str, Any]]:
    """What was found, by task and model or control."""
    files = {task: RESULTS / f"{task}.json" for task in PROBLEMS}
    return {task: kept(file) for task, file in files.items() if file.exists()}


@app.command()
def measure(only: str = "") -> None:
    """Of all models that have learned: costs, levels and angles; what is known is kept."""
    file, found = RESULTS / "measures.json", learned()
    for title, model in MODELS.items():
        if only and only != title:
            continue
        own = kept(file).get(title, {"angles": {}})
        named = {task: Path(of[title]["path"]) for task, of in found.items() if title in of}
        tested = {task: path for task, path in named.items() if path.exists()}
        for task, path in tested.items() if model.smooth else ():
            seen = own["angles"].get(task, {})
            if seen.get("path") == str(path) or ns.inspect(path)["status"] != "complete":
                continue
            spec = loaded(PROBLEMS[task], model, 1.0, False, False).spec
            own["angles"][task] = angles(spec.model, path) | {"path": str(path)}
        for task, path in tested.items() if model.protocol == NODES else ():
            protocol = loaded(PROBLEMS[task], model, found[task][title]["pace"], False, False)
            own.setdefault("machines", {})[task] = machines(protocol, path)
        if "levels" not in own and "digits" in tested:
            own |= {
                "batch": ns.load_protocol(model.protocol, model.changes).spec.batch,
                "seconds": cost(model),
                "sweeps": sweeps(tested["digits"]),
                "levels": at_levels(model),
            }
        keep(file, title, own)
        print(title, own, flush=True)


@app.command()
def spikes(only: str = "") -> None:
    """What is learned on digits at rest, as spikes, of models that the level takes."""
    file, results = RESULTS / "measures.json", learned()["digits"]
    for title, model in MODELS.items():
        own = kept(file).get(title, {})
        takes = own.get("levels", {"spiking": False})["spiking"]
        if (only and only != title) or not takes or "spikes" in own:
            continue
        chosen = results[title]
        protocol = loaded(PROBLEMS["digits"], model, chosen["pace"], False, False)
        weights = Path(run(Path(chosen["path"]).stem, protocol, TESTING)["path"])
        found = as_spikes(model, weights)
        keep(file, title, kept(file)[title] | {"spikes": found})
        print(title, found, flush=True)


@app.command()
def page(out: Path = OUT / "zoo.png") -> None:
    """Print tables of what was found, and draw a figure."""
    found, file = learned(), RESULTS / "measures.json"
    drawn = {task: of for task, of in found.items() if both(of, list(MODELS)) == list(MODELS)}
    measures = kept(file)
    for task, results in found.items():
        print(f"\n{PROBLEMS[task].title}:\n")
        print(
            "| model | test error | hidden layers frozen | diverged | pace | ΔW to backprop | ",
            end="",
        )
        print("to Gauss–Newton |\n| --- | --- | --- | --- | --- | --- | --- |")
        for title in both(results, list(MODELS)):
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
    print("\n| model | batch | sweeps | seconds | over backprop | as rates | ", end="")
    print("error as spikes | over scatter |\n| --- | --- | --- | --- | --- | --- | --- | --- |")
    for title, own in measures.items():
        if "levels" in own:
            cells = [
                title,
                str(own["batch"]),
                f"{own['sweeps']:.1f}",
                f"{own['seconds']:.1f}",
                f"{own['seconds'] / measures['backprop']['seconds']:.1f}",
                f"{own['levels']['rate']:.0e}",
                *spiking(own),
            ]
            print(f"| {' | '.join(cells)} |")
    for task, read_by in measures.get("local goals", {}).get("machines", {}).items():
        errors = ", ".join(f"{m}: {said({'errors': of})}" for m, of in read_by.items())
        print(f"\nlocal goals, {task}, read by a machine: {errors}")
    titles = {task: problem.title for task, problem in PROBLEMS.items()}
    save(picture(drawn, titles, list(MODELS)), out)


if __name__ == "__main__":
    app()
