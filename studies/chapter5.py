"""Figures of chapter 5 of Meulemans' thesis: `python studies/chapter5.py 5.14 5.15 | all`.

Writes outputs/chapter5/fig-5-14.png and fig-5-14.json, and so on. `--seeds 3` and `--epochs 5` make
it shorter. Losses are of as many seeds as settle an order, the thesis' fifteen beside them.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import theory
import training

from neurosim.figures.runs import STYLE

FIGURES: dict[str, Callable[..., dict[str, Any]]] = {**theory.FIGURES, **training.FIGURES}
SEEDS = dict.fromkeys(training.FIGURES, 100) | {"mtp": training.FEW}
"""Of a figure where --seeds is not given; of the others fifteen."""


def main() -> None:
    """Make the figures named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("figures", nargs="+", choices=[*FIGURES, "all"], metavar="FIGURE")
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--out", type=Path, default=Path("outputs/chapter5"))
    given = parser.parse_args()
    wanted = list(FIGURES) if "all" in given.figures else given.figures
    given.out.mkdir(parents=True, exist_ok=True)
    for figure in wanted:
        path = given.out / f"fig-{figure.replace('.', '-')}.png"
        seeds = given.seeds or SEEDS.get(figure, training.FEW)
        with matplotlib.rc_context(STYLE):
            found = FIGURES[figure](path, seeds=seeds, epochs=given.epochs)
        path.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n")
        print(path)
        if figure in training.FIGURES:
            print(training.table(found))


if __name__ == "__main__":
    main()
