"""All models on the same tasks: seeds, presentations and the choice of their rates are the same.

    python studies/zoo.py learn digits            # or yin-yang, or fashion
    python studies/zoo.py page                    # tables of what was found, and a figure

One procedure for all: every learning rate of a model's own protocol is multiplied by the same pace,
chosen among seven as the one with the least mean error on a fifth of the training samples of five
seeds. Then the test samples are seen once, by five other seeds. A seed that diverged counts as an
error of 100 % in the choice, and is counted apart in the result. The controls, whose hidden layers
do not learn, have a choice of their own. Neurons are at rest (the equilibrium level).

What is compared stands in `zoo_models.py`.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import typer
from directions import angles
from zoo_measures import as_spikes, at_levels, cost, machines, sweeps
from zoo_models import CHOOSING, MODELS, NODES, PACES, PROBLEMS, TESTING, loaded
from zoo_page import CONTROL, both, degrees, lost, paced, picture, said, spiking

import neurosim as ns
from neurosim.figures import save

OUT = Path("outputs/zoo")
"""Of traces, which may go once angles are measured."""

RESULTS = Path("docs/zoo")
"""Of what was found, so that a further row does not need all others again."""


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
                "seconds": cost(model, OUT),
                "sweeps": sweeps(tested["digits"]),
                "levels": at_levels(model, OUT),
            }
        keep(file, title, own)
        print(title, own, flush=True)


@app.command()
def spikes(only: str = "") -> None:
    """What is learned on digits at rest, as spikes."""
    file, results = RESULTS / "measures.json", learned()["digits"]
    for title, model in MODELS.items():
        own, chosen = kept(file).get(title, {}), results.get(title)
        if (only and only != title) or "levels" not in own or chosen is None:
            continue
        if own.get("spikes", {}).get("path") == chosen["path"]:
            continue
        protocol = loaded(PROBLEMS["digits"], model, chosen["pace"], False, False)
        again = run(Path(chosen["path"]).stem, protocol, TESTING)
        lived = [k for k, e in zip(TESTING, again["errors"], strict=True) if e is not None]
        found = as_spikes(model, Path(again["path"]), OUT, lived) | {"path": chosen["path"]}
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
    print(
        "\n| model | batch | sweeps | seconds | over backprop | as rates | learns as spikes ",
        end="",
    )
    print(f"| error as spikes | over scatter |\n{'| --- ' * 9}|")
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
