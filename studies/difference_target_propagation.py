"""Difference target propagation beyond smooth networks, after Lee et al. 2015, with its baselines.

    python studies/difference_target_propagation.py FOLDER    # images in the format of MNIST
    python studies/difference_target_propagation.py           # the same on scikit-learn's digits

One procedure for all: the rates of W and Q are multiplied by the same pace, chosen among three as
the one with the least error on a fifth of the training samples of one seed, which is held out. Then
the test samples are seen once, by three other seeds.
"""

import json
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
from matplotlib.figure import Figure

import neurosim as ns
from neurosim.figures import save

PACES = (1 / 3, 1.0, 3.0)
CHOOSING, TESTING = [0], [1, 2, 3]
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


class Method(NamedTuple):
    """A shipped model and what is changed there; what the text reports on MNIST (%).

    graded: whether it learns in a network that sends graded activity and is tested with signs.
    """

    model: str
    changes: dict[str, Any]
    published: float | None
    graded: bool = False


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
    "stochastic: DTP": Method(STOCHASTIC, {}, 1.51),
    "stochastic: biased gradient": Method(STOCHASTIC, BACKPROP, 1.71),
}


def loaded(method: Method, folder: Path | None, pace: float, epochs: int, held: bool) -> Any:
    """The protocol of a run. held: whether it is tested on a part of the training samples."""
    small, large = SIZES[method.model]
    task: dict[str, Any] = {"name": "digits"}
    if folder is not None:
        task = {"name": "idx", "path": str(folder.resolve())}
    hidden, ends = (small, [64, 10]) if folder is None else (large, [784, 10])
    changes = method.changes | {
        "task": task | ({"validation": 0.2} if held else {}),
        "model.layers": [ends[0], *hidden, ends[1]],
        "batch": 50 if folder is None else 100,
        "stages.0.epochs": epochs,
        "stages.0.pace": pace,
        "record.presentations": 0,
    }
    if method.graded:
        changes["model.cells.discrete.equations"] = _graded(method.model)
    return ns.load_protocol(f"{method.model}-digits", changes)


def _graded(model: str) -> str:
    """The equations of the layer that sends signs, with graded activity in their place."""
    text = ns.load_model(model).cells["discrete"].equations
    return text.replace("int(rate > 0)", "rate")


def errors(
    method: Method, folder: Path | None, pace: float, epochs: int, held: bool, out: Path
) -> list[float]:
    """Fractions of samples that are classified wrongly at the end, by seed; 1 of what diverged."""
    seeds = CHOOSING if held else TESTING
    protocol = loaded(method, folder, pace, epochs, held)
    with suppress(ns.DivergedError):
        ns.run(protocol, seeds=seeds, out=out, force=True)
    if method.graded:
        changes = {"model.projections.W.init": "file", "model.projections.W.file": str(out)}
        still = method._replace(graded=False, changes=method.changes | changes)
        protocol = loaded(still, folder, 1e-30, 1, held)
        out = out.with_stem(f"{out.stem}-discrete")
        ns.run(protocol, seeds=seeds, out=out, force=True)
    found = ns.open_trace(out)["evaluation/error"].values.reshape(-1, len(seeds))
    return [float(e) if e == e else 1.0 for e in found[0 if method.graded else -1]]


def main(
    folder: Annotated[Path | None, typer.Argument()] = None,
    epochs: int = 10,
    only: str = "",
    out: Path = Path("outputs/difference-target-propagation"),
) -> None:
    """Every method whose name contains `only`; what is there already is kept."""
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{'digits' if folder is None else 'images'}.json"
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    for name, method in METHODS.items():
        if only not in name or name in found:
            continue
        given = method, folder
        trace = out / f"{path.stem}-{name.replace(':', '').replace(' ', '-')}.h5"
        tried = {p: errors(*given, p, epochs, True, trace)[0] for p in PACES}
        pace = min(tried, key=lambda p: tried[p])
        tested = errors(*given, pace, epochs, False, trace)
        found[name] = {"pace": pace, "validation": list(tried.values()), "test": tested}
        path.write_text(json.dumps(found, indent=1) + "\n")
        mean = 100 * sum(tested) / len(tested)
        print(f"{name:42}{mean:6.2f} % (published {method.published}), pace {pace:.2g}", flush=True)
    drawn({n: found[n] for n in METHODS if n in found}, out / f"{path.stem}.png")


def drawn(found: dict[str, Any], path: Path) -> None:
    """Test errors of every method, a dot a seed, and their mean."""
    canvas = Figure(figsize=(7, 0.4 + 0.32 * len(found)), layout="constrained", dpi=130)
    axes = canvas.subplots()
    for row, name in enumerate(reversed(found)):
        test = [100 * e for e in found[name]["test"]]
        colour = "#0072B2" if "DTP" in name else "#888888"
        axes.plot(test, [row] * len(test), "o", ms=4, color=colour, alpha=0.6)
        axes.plot([sum(test) / len(test)], [row], "|", ms=12, mew=2, color=colour)
    axes.set(yticks=range(len(found)), yticklabels=list(reversed(found)), xlabel="test error (%)")
    axes.set_xlim(left=0)
    save(canvas, path)


if __name__ == "__main__":
    typer.run(main)
