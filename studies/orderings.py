"""Which of two does better on MNIST: what was published of the models, at a small budget.

    python studies/orderings.py FOLDER                    # all
    python studies/orderings.py FOLDER --only bursts      # or energies, control, dendrites

FOLDER has images in the format of MNIST. Every row learns the first 5000 training images for five
epochs, at the pace, of three, that had the least mean error on a fifth of them over seeds 0 to 2;
a seed that diverged counts as an error of 100 %. Seeds 3 to 5 then learn all 5000 and are tested
once, on all test images. What is complete is only read. Writes traces and `results.json` to
`outputs/orderings/`.
"""

import json
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import typer
from burst_networks import AS_BURSTS, GIVEN, TAUGHT, UNTAUGHT

import neurosim as ns

OUT = Path("outputs/orderings")
TRAIN, EPOCHS, SEEDS = 5000, 5, 3


class Row(NamedTuple):
    """A network: its protocol, layers and changes; the rate of its forward weights; the paces."""

    protocol: str
    layers: list[int]
    W: float | str
    changes: dict[str, Any] = {}  # noqa: RUF012 (never changed)
    paces: tuple[float, float, float] = (1 / 3, 1.0, 3.0)
    pixels: bool = False


def stages(*phases: dict[str, Any]) -> dict[str, Any]:
    """One stage of these phases."""
    return {"stages": [{"name": "training", "epochs": EPOCHS, "phases": list(phases)}]}


BURSTS, ENERGIES, DENDRITES = (
    "burst-ccn-digits",
    "equilibrium-propagation-digits",
    "segregated-dendrites-mnist",
)
SMALL, DEEP = [784, 100, 10], [784, 100, 50, 10]
TWO = [784, 100, 100, 10]
TANH = {"model.activation": {"name": "tanh"}}
AS_ENERGIES = TANH | {
    "model.output": "linear",
    "model.loss": "half-squared",
    "model.projections.W.bias": True,
    "model.projections.W.init": "orthogonal",
}
BY_LAYER = "2*5**int(i < L)"
SLOW = (1 / 27, 1 / 9, 1 / 3)

ROWS: dict[str, dict[str, Row]] = {
    "bursts": {
        "backprop": Row(
            "backprop-digits",
            SMALL,
            f"0.5*{BY_LAYER}",
            {k: v for k, v in AS_BURSTS.items() if not k.startswith("stages")},
        ),
        "BurstCCN, symmetric": Row(
            BURSTS, SMALL, BY_LAYER, stages(TAUGHT) | {"model.use": "burst-ccn-symmetric"}
        ),
        "BurstCCN, Y random, Q given": Row(BURSTS, SMALL, BY_LAYER, stages(TAUGHT) | GIVEN),
        "BurstCCN, Y random, Q learned": Row(
            BURSTS, SMALL, BY_LAYER, stages(UNTAUGHT | {"plastic": ["Q"]}, TAUGHT)
        ),
        "BurstCCN, hidden layer frozen": Row(
            BURSTS, SMALL, "2*int(L < i + 1)", stages(TAUGHT) | GIVEN
        ),
    },
    "energies": {
        "Hopfield": Row(ENERGIES, SMALL, 0.3, {}, SLOW),
        "conditional Gaussian": Row(
            ENERGIES, SMALL, 0.3, {"model.use": "equilibrium-propagation-gaussian"}, SLOW
        ),
        "predictive coding": Row("predictive-coding-digits", SMALL, 3.0, {}, SLOW),
        "backprop, linear outputs": Row("backprop-digits", SMALL, 0.3, AS_ENERGIES, SLOW),
    },
    "control": {
        "deep feedback control": Row("feedback-control-digits", TWO, 40.0, {}, (1 / 9, 1 / 3, 1.0)),
        "backprop, tanh": Row("backprop-digits", TWO, 1.0, TANH, (1 / 9, 1 / 3, 1.0)),
        "direct random feedback": Row(
            "backprop-digits", TWO, 1.0, TANH | {"model.credit": "srbp"}, (1 / 9, 1 / 3, 1.0)
        ),
    },
    "dendrites": {
        "one hidden layer": Row(DENDRITES, SMALL, "2*2**int(i < L)", pixels=True),
        "two hidden layers": Row(DENDRITES, DEEP, "2*2**int(i < L)", pixels=True),
    },
}


def errors(row: Row, folder: Path, pace: float, held_out: bool, path: Path) -> list[float | None]:
    """Over the seeds, None of one that diverged."""
    task: dict[str, Any] = {"name": "idx", "path": str(folder.resolve()), "train": TRAIN}
    task |= {"validation": 0.2} if held_out else {}
    task |= {"standardise": False} if row.pixels else {}
    plain = {"record.presentations": 0, "record.samples": 1, "record.units": 1, "task": task}
    given = plain | {"model.layers": row.layers, "model.projections.W.rate": row.W} | row.changes
    if "stages" in given:
        given["stages"] = [given["stages"][0] | {"pace": pace}]
    else:
        given |= {"stages.0.epochs": EPOCHS, "stages.0.pace": pace}
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
    only: Annotated[
        list[str] | None, typer.Option(help="bursts, energies, control, dendrites.")
    ] = None,
) -> None:
    """Choose a pace for every row, then test it."""
    if strange := [part for part in only or () if part not in ROWS]:
        raise typer.BadParameter(f"{strange[0]!r}; expected {', '.join(ROWS)}")
    OUT.mkdir(parents=True, exist_ok=True)
    results = OUT / "results.json"
    found = json.loads(results.read_text(encoding="utf-8")) if results.exists() else {}
    for part in only or ROWS:
        for title, row in ROWS[part].items():
            name = title.replace(", ", "-").replace(" ", "-")
            scores = {}
            for pace in row.paces:
                tried = errors(row, folder, pace, True, OUT / f"{name}-{pace:.2g}.h5")
                scores[pace] = float(np.mean([100.0 if e is None else e for e in tried]))
            best = min(scores, key=lambda pace: (scores[pace], pace))
            tested = errors(row, folder, best, False, OUT / f"{name}-test-{best:.2g}.h5")
            found[title] = {"pace": best, "held out": list(scores.values()), "test": tested}
            results.write_text(json.dumps(found, indent=1), encoding="utf-8")
            tries = ", ".join(f"{score:.2f}" for score in scores.values())
            print(f"{title}: pace {best:.2g} (held out {tries}); test {tested}", flush=True)


if __name__ == "__main__":
    typer.run(main)
