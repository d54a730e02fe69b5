"""What an autoencoder without backprop is worth to a classifier [Lee et al. 2015, section 3.4].

    python studies/denoising_autoencoder.py learn digits
    python studies/denoising_autoencoder.py learn mnist --folder FOLDER
    python studies/denoising_autoencoder.py learn fashion               # all 60 000 images, once
    python studies/denoising_autoencoder.py page        # tables of what was found, and filters

The autoencoder sees training samples without labels. Then a network of its hidden layer and a
softmax learns by backprop, from the encoder that was found, from one drawn at random, or with the
encoder held as it was found or drawn. Paces are chosen as in studies/difference_target_propagation:
that of the autoencoder by its loss on held-out samples, over one seed; those of each classifier by
its error there, over two. Held-out samples are held out of both. Then three other seeds are tested.
On the whole of Fashion-MNIST nothing is chosen: paces are those that were chosen on MNIST.
"""

import json
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import typer
from difference_target_propagation import CHOOSING, FASHION, RESULTS, TESTING, chosen
from matplotlib.figure import Figure

import neurosim as ns
from neurosim.figures import save

OUT = Path("outputs/denoising-autoencoder")


class Problem(NamedTuple):
    """How large networks are, for how long each learns, and of how many images.

    paces: the task whose paces are taken, where they are not chosen on samples held out.
    """

    title: str
    layers: tuple[int, int, int]
    epochs: tuple[int, int]
    images: dict[str, int]
    paces: str | None = None


PROBLEMS = {
    "digits": Problem("digits, 64-100-10", (64, 100, 10), (30, 15), {}),
    "mnist": Problem(
        "MNIST, 5000 images, 784-200-10", (784, 200, 10), (4, 4), {"train": 5000, "test": 2000}
    ),
}
PROBLEMS["fashion"] = Problem("Fashion-MNIST, 784-200-10", (784, 200, 10), (1, 1), {}, "mnist")

STARTS = {
    "encoder of the autoencoder, fine-tuned": (True, True),
    "encoder of the autoencoder, held": (True, False),
    "random encoder, learned": (False, True),
    "random encoder, held": (False, False),
}
"""Whether the first layer is the autoencoder's, and whether it learns."""


class Samples(NamedTuple):
    """A task, and the folder of its files."""

    name: str
    folder: Path | None

    @property
    def problem(self) -> Problem:
        """Sizes and budgets."""
        return PROBLEMS[self.name]

    def task(self, held: bool, **more: Any) -> dict[str, Any]:
        """The table of a protocol. held: whether runs are tested on a part of training samples."""
        found: dict[str, Any] = {"name": "digits"}
        if self.folder is not None:
            found = {"name": "idx", "path": str(self.folder.resolve()), **self.problem.images}
        return found | more | {"standardise": False} | ({"validation": 0.2} if held else {})


def encoders(samples: Samples, pace: float, held: bool, seeds: list[int]) -> tuple[list[Any], Any]:
    """W1 and b1 of an autoencoder a seed, and its losses on samples that it was not shown."""
    inputs, hidden, _ = samples.problem.layers
    changes = {
        "task": samples.task(held, target="input"),
        "model.layers": [inputs, hidden, inputs],
        "stages.0.epochs": samples.problem.epochs[0],
        "stages.0.pace": pace,
        "equilibrium.max_newton": 0,  # nothing feeds back: sweeps find the rest
        "record.presentations": 0,
    }
    path = OUT / f"{samples.name}-autoencoder.h5"
    protocol = ns.load_protocol("denoising-autoencoder-digits", changes)
    try:
        ns.run(protocol, seeds=seeds, out=path, force=True, progress=False)
    except ns.DivergedError:
        return [], np.array([1e9])
    with ns.open_trace(path) as trace:
        W, b = (np.asarray(trace[f"weights/{name}"])[-1] for name in ("W1", "b1"))
        losses = np.asarray(trace["evaluation/loss"]).reshape(-1, len(seeds))
    W, b = W.reshape(len(seeds), hidden, inputs), b.reshape(len(seeds), hidden)
    return list(zip(W, b, strict=True)), losses[-1]


def errors(
    samples: Samples, encoder: list[Any] | None, learns: bool, pace: float, held: bool
) -> list[float]:
    """Of classifiers, one a seed, the fraction of samples that they get wrong."""
    found, rate = [], 0.03
    changes = {
        "task": samples.task(held),
        "model.use": "backprop",
        "model.layers": list(samples.problem.layers),
        "model.activation": "sigmoid",
        "model.projections.W": {"optimizer": "rmsprop", "bias": True, "init": "xavier"},
        "model.projections.W.rate": [rate if learns else 0.0, rate],
        "stages.0.epochs": samples.problem.epochs[1],
        "stages.0.pace": pace,
        "batch": 50,
        "record.presentations": 0,
    }
    protocol = ns.load_protocol("backprop-digits", changes)
    for k, seed in enumerate(CHOOSING if held else TESTING):
        start = None
        if encoder is not None:
            start, (_, hidden, classes) = OUT / f"{samples.name}-start.npz", changes["model.layers"]
            random = np.random.default_rng(seed).standard_normal((classes, hidden))
            W2 = random * np.sqrt(2 / (classes + hidden))
            np.savez(start, W1=encoder[k][0], b1=encoder[k][1], W2=W2, b2=np.zeros(classes))
        path = OUT / f"{samples.name}-classifier.h5"
        ns.run(protocol, seeds=[seed], out=path, force=True, progress=False, start=start)
        with ns.open_trace(path) as trace:
            found.append(float(np.asarray(trace["evaluation/error"]).ravel()[-1]))
    return found


app = typer.Typer(add_completion=False)


@app.callback()
def main() -> None:
    """What an autoencoder without backprop is worth to a classifier."""


@app.command()
def learn(task: str, folder: Annotated[Path | None, typer.Option()] = None) -> None:
    """The autoencoder, then every classifier; what is there already is kept."""
    folder = FASHION if task == "fashion" and folder is None else folder
    if task != "digits" and (folder is None or not folder.is_dir()):
        print(f"skipped: no folder {folder}; expected one with files in the format of MNIST")
        return
    for path in (OUT, RESULTS):
        path.mkdir(parents=True, exist_ok=True)
    samples, file = Samples(task, folder), RESULTS / f"autoencoder-{task}.json"
    found: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}

    def kept(name: str, what: dict[str, Any]) -> None:
        found[name] = what
        file.write_text(json.dumps(found, indent=1) + "\n")
        print(name, what, flush=True)

    given: dict[str, Any] = {}
    if samples.problem.paces is not None:
        given = json.loads((RESULTS / f"autoencoder-{samples.problem.paces}.json").read_text())
    if "autoencoder" not in found and given:
        found["autoencoder"] = {"pace": given["autoencoder"]["pace"]}
    elif "autoencoder" not in found:
        pace, tried = chosen(lambda p: float(encoders(samples, p, True, CHOOSING[:1])[1].mean()))
        kept("autoencoder", {"pace": pace, "validation": _listed(tried)})
    pace = found["autoencoder"]["pace"]
    held = [] if given else encoders(samples, pace, True, CHOOSING)[0]
    full, loss = encoders(samples, pace, False, TESTING)
    np.savez_compressed(OUT / f"{task}-filters.npz", W=full[0][0])
    kept("autoencoder", found["autoencoder"] | {"test": [float(x) for x in loss]})
    for name, (pretrained, learns) in STARTS.items():
        if name in found:
            continue
        own = [encoder if pretrained else None for encoder in (held, full)]
        if given:
            best = given[name]["pace"]
            kept(name, {"pace": best, "test": errors(samples, own[1], learns, best, False)})
            continue

        def score(p: float, own: list[Any] = own, learns: bool = learns) -> float:
            return float(np.mean(errors(samples, own[0], learns, p, True)))

        best, tried = chosen(score)
        tested = errors(samples, own[1], learns, best, False)
        kept(name, {"pace": best, "validation": _listed(tried), "test": tested})


def _listed(tried: dict[float, float]) -> dict[str, float]:
    return {f"{pace:.3g}": tried[pace] for pace in sorted(tried)}


@app.command()
def page(out: Path = OUT) -> None:
    """Print tables of what was found, and draw filters of those tasks that were learned here."""
    out.mkdir(parents=True, exist_ok=True)
    for task, problem in PROBLEMS.items():
        file = RESULTS / f"autoencoder-{task}.json"
        if not file.exists():
            continue
        found = json.loads(file.read_text())
        losses = ", ".join(f"{x:.2f}" for x in found["autoencoder"]["test"])
        print(f"\n{problem.title}: |z - x|^2 {losses}, pace {found['autoencoder']['pace']:.2g}\n")
        print("| first layer | test error | seeds | pace |\n| --- | --- | --- | --- |")
        for name in STARTS:
            if name in found:
                test = [100 * e for e in found[name]["test"]]
                each = ", ".join(f"{e:.1f}" for e in test)
                print(f"| {name} | {np.mean(test):.1f} | {each} | {found[name]['pace']:.2g} |")
        filters = OUT / f"{task}-filters.npz"
        if filters.exists():
            drawn(np.load(filters)["W"], out / f"denoising-autoencoder-{task}.png")


def drawn(W: np.ndarray, path: Path) -> None:
    """The filters of largest norm, each a row of W1 as an image on a scale of its own."""
    side = round(W.shape[1] ** 0.5)
    canvas = Figure(figsize=(7, 3.6), layout="constrained", dpi=130)
    largest = W[np.argsort(-np.linalg.norm(W, axis=1))]
    for axes, weights in zip(canvas.subplots(5, 10).ravel(), largest, strict=False):
        most = np.abs(weights).max()
        axes.imshow(weights.reshape(side, side), cmap="gray", vmin=-most, vmax=most)
        axes.axis("off")
    save(canvas, path)


if __name__ == "__main__":
    app()
