"""Which of two does better on MNIST: what was published of the models, at one small budget.

    python studies/orderings.py FOLDER                    # all
    python studies/orderings.py FOLDER --only bursts      # or another part of ROWS

FOLDER has images in the format of MNIST. Every row learns the first 10 000 training images for
five epochs, those of `depth` for thirty. Two numbers are chosen: the pace, by which all learning
rates are multiplied, and the factor of those of W in hidden layers, as the pair with the least mean
error on a fifth of the training images over seeds 0 to 4; a seed that diverged counts as an error
of 100 %. Seeds 5 to 9 then learn all images and are tested once, on all test images. What is
complete is only read. Writes traces and `results.json` to `outputs/orderings/`.
"""

import itertools
import json
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import typer
from burst_networks import ALONG, AS_BURSTS, GIVEN, TAUGHT, UNTAUGHT
from burst_networks import LEARNED as Y_LEARNED

import neurosim as ns

OUT = Path("outputs/orderings")
TRAIN, EPOCHS, SEEDS = 10_000, 5, 5
PACES = (1 / 27, 1 / 9, 1 / 3, 1.0, 3.0)
FACTORS = (1 / 3, 1.0, 3.0)
"""Of the rates of W in hidden layers; 0 in a control, where these layers stay as they are."""


class Row(NamedTuple):
    """A network: its protocol, layers and changes, the rate of its forward weights, the factors.

    epochs: only of a protocol of one stage.
    """

    protocol: str
    layers: list[int]
    W: float | str
    changes: dict[str, Any] = {}  # noqa: RUF012 (never changed)
    factors: tuple[float, ...] = FACTORS
    pixels: bool = False
    epochs: int = EPOCHS


def stages(*phases: dict[str, Any]) -> dict[str, Any]:
    """One stage of these phases."""
    return {"stages": [{"name": "training", "epochs": EPOCHS, "phases": list(phases)}]}


CCN, PROP = "burst-ccn-digits", "burstprop-digits"
ENERGIES, CONTROL = "equilibrium-propagation-digits", "feedback-control-digits"
DENDRITES, BROADCAST = "segregated-dendrites-mnist", "broadcast-alignment-digits"
SMALL, TWO, NARROWING = [784, 100, 10], [784, 100, 100, 10], [784, 100, 50, 10]
FROZEN = (0.0,)
TANH = {"model.activation": {"name": "tanh"}}
AS_ENERGIES = TANH | {
    "model.output": "linear",
    "model.loss": "half-squared",
    "model.projections.W.bias": True,
    "model.projections.W.init": "orthogonal",
}
AS_SIGMOIDS = {k: v for k, v in AS_BURSTS.items() if not k.startswith("stages")}
AS_SPARSE = {"model.projections.Y.init": "5*uniform()*int(rand() < 0.2)"}
DENSE = {"model.projections.Y.init": "uniform"}
BURSTS, PLATEAUS = "2*5**int(i < L)", "2*2**int(i < L)"

ROWS: dict[str, dict[str, Row]] = {
    "bursts": {
        "backprop": Row("backprop-digits", SMALL, f"0.5*{BURSTS}", AS_SIGMOIDS),
        "BurstCCN, symmetric": Row(
            CCN, SMALL, BURSTS, stages(TAUGHT) | {"model.use": "burst-ccn-symmetric"}
        ),
        "BurstCCN, Y random, Q given": Row(CCN, SMALL, BURSTS, stages(TAUGHT) | GIVEN),
        "BurstCCN, Y random, Q learned": Row(
            CCN, SMALL, BURSTS, stages(UNTAUGHT | {"plastic": ["Q"]}, TAUGHT)
        ),
        "BurstCCN, Y and Q learned": Row(
            CCN,
            SMALL,
            BURSTS,
            stages(ALONG)
            | {"model.use": "burst-ccn-learned"}
            | {f"model.projections.{name}.rate": 2.0 for name in "YQ"},
        ),
        "BurstCCN, hidden layer frozen": Row(CCN, SMALL, BURSTS, stages(TAUGHT) | GIVEN, FROZEN),
        "burstprop, Y random": Row(PROP, SMALL, BURSTS),
        "burstprop, Y learned": Row(
            PROP, SMALL, BURSTS, Y_LEARNED | {"model.projections.Y.rate": 2.0}
        ),
    },
    "energies": {
        "Hopfield": Row(ENERGIES, SMALL, 0.3),
        "conditional Gaussian": Row(
            ENERGIES, SMALL, 0.3, {"model.use": "equilibrium-propagation-gaussian"}
        ),
        "predictive coding": Row("predictive-coding-digits", SMALL, 3.0),
        "least control": Row("least-control-digits", SMALL, 0.3),
        "backprop, linear outputs": Row("backprop-digits", SMALL, 0.3, AS_ENERGIES),
    },
    "control": {
        "deep feedback control": Row(CONTROL, TWO, 40.0),
        "backprop, tanh": Row("backprop-digits", TWO, 1.0, TANH),
        "direct random feedback": Row("backprop-digits", TWO, 1.0, TANH | {"model.credit": "srbp"}),
    },
    "dendrites": {
        "sparse feedback": Row(DENDRITES, SMALL, PLATEAUS, AS_SPARSE, pixels=True),
        "dense feedback": Row(DENDRITES, SMALL, PLATEAUS, DENSE, pixels=True),
        "two hidden layers, sparse": Row(DENDRITES, NARROWING, PLATEAUS, AS_SPARSE, pixels=True),
        "two hidden layers, dense": Row(DENDRITES, NARROWING, PLATEAUS, DENSE, pixels=True),
        "dendrites, hidden layer frozen": Row(
            DENDRITES, SMALL, PLATEAUS, AS_SPARSE, FROZEN, pixels=True
        ),
    },
    "depth": {
        "dense feedback, thirty epochs": Row(
            DENDRITES, SMALL, PLATEAUS, DENSE, pixels=True, epochs=30
        ),
        "two hidden layers, thirty epochs": Row(
            DENDRITES, NARROWING, PLATEAUS, DENSE, pixels=True, epochs=30
        ),
    },
    "broadcast": {
        "broadcast alignment": Row(BROADCAST, SMALL, "0.3*0.1**int(i < L)"),
        "broadcast alignment, hidden layer frozen": Row(
            BROADCAST, SMALL, "0.3*0.1**int(i < L)", {}, FROZEN
        ),
    },
}


def errors(
    row: Row, folder: Path, pace: float, factor: float, held_out: bool, path: Path
) -> list[float | None]:
    """Over the seeds, None of one that diverged."""
    task: dict[str, Any] = {"name": "idx", "path": str(folder.resolve()), "train": TRAIN}
    task |= {"validation": 0.2} if held_out else {}
    task |= {"standardise": False} if row.pixels else {}
    given = row.changes | {
        "task": task,
        "model.layers": row.layers,
        "model.projections.W.rate": f"({row.W})*{factor!r}**int(i < L)",
        "record.presentations": 0,
        "record.samples": 1,
        "record.units": 1,
    }
    if "stages" in given:
        given["stages"] = [given["stages"][0] | {"pace": pace}]
    else:
        given |= {"stages.0.epochs": row.epochs, "stages.0.pace": pace}
    protocol = ns.load_protocol(row.protocol, given)
    seeds = range(SEEDS) if held_out else range(SEEDS, 2 * SEEDS)
    if not path.exists() or ns.inspect(path)["status"] not in ("complete", "diverged"):
        try:
            ns.run(protocol, seeds=seeds, out=path, force=True, progress=False)
        except ns.DivergedError:
            return [None] * SEEDS
    with ns.open_trace(path) as trace:
        gone = np.asarray(trace["diverged_at"]) >= 0
        final = np.asarray(trace["evaluation/error"])[-1]
    return [None if lost else 100 * float(e) for lost, e in zip(gone, final, strict=True)]


def main(
    folder: Path,
    only: Annotated[list[str] | None, typer.Option(help=f"{', '.join(ROWS)}.")] = None,
) -> None:
    """Choose a pace and a factor for every row, then test it."""
    if strange := [part for part in only or () if part not in ROWS]:
        raise typer.BadParameter(f"{strange[0]!r}; expected {', '.join(ROWS)}")
    OUT.mkdir(parents=True, exist_ok=True)
    results = OUT / "results.json"
    for part in only or ROWS:
        for title, row in ROWS[part].items():
            name = title.replace(", ", "-").replace(" ", "-")
            scores = {}
            for pace, factor in itertools.product(PACES, row.factors):
                path = OUT / f"{name}-{pace:.2g}-{factor:.2g}.h5"
                tried = errors(row, folder, pace, factor, True, path)
                scores[pace, factor] = float(np.mean([100.0 if e is None else e for e in tried]))
            pace, factor = min(scores, key=lambda pair: (scores[pair], pair))
            path = OUT / f"{name}-test-{pace:.2g}-{factor:.2g}.h5"
            tested = errors(row, folder, pace, factor, False, path)
            found = json.loads(results.read_text(encoding="utf-8")) if results.exists() else {}
            held_out = [{"pace": p, "factor": f, "error": e} for (p, f), e in scores.items()]
            found[title] = {"pace": pace, "factor": factor, "held out": held_out, "test": tested}
            results.write_text(json.dumps(found, indent=1), encoding="utf-8")
            print(told(title, found[title]), flush=True)


def told(title: str, of: dict[str, Any]) -> str:
    """A row of a table: what was chosen, its error on held-out images, and test errors."""
    lived = [e for e in of["test"] if e is not None]
    errors = f"{np.mean(lived):.1f} % ({min(lived):.1f}–{max(lived):.1f})" if lived else ""
    lost = len(of["test"]) - len(lived)
    chosen = [str(Fraction(of[key]).limit_denominator(100)) for key in ("pace", "factor")]
    best = min(tried["error"] for tried in of["held out"])
    cells = [title, *chosen, f"{best:.1f} %", errors + (f", {lost} diverged" if lost else "")]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    typer.run(main)
