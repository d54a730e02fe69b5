"""The predictions of Meulemans 2019, sections 6.4 to 6.9, tested by simulation.

    python protocols/thesis/chapter6.py             # all; figures, traces and chapter6.json
    python protocols/thesis/chapter6.py --only 1    # one of them

Writes to outputs/chapter6/; `--docs` also copies the figures and the table into docs/.
"""

import argparse
import importlib
import json
import time
from pathlib import Path

import jax
from ch6.common import Result, save, write

PREDICTIONS = {
    1: ("error_law", range(30)),
    2: ("reconstruction", range(40)),
    3: ("spectrum", range(100)),
    4: ("noise", range(20)),
    5: ("learning", range(3, 13)),
    6: ("sleep", range(10)),
    7: ("basins", range(20)),
}
"""Number → module of ch6, and the seeds it reports."""


def main() -> None:
    """Run the predictions that are asked for, and keep those of earlier calls."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", type=int, choices=sorted(PREDICTIONS), nargs="+", metavar="N")
    parser.add_argument("--out", type=Path, default=Path("outputs/chapter6"), metavar="FOLDER")
    parser.add_argument("--seeds", type=int, metavar="N", help="fewer seeds, for a quick look")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    path = given.out / "chapter6.json"
    report = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    for number in given.only or PREDICTIONS:
        module, seeds = PREDICTIONS[number]
        began = time.perf_counter()
        with jax.enable_x64(True):
            found: Result = importlib.import_module(f"ch6.{module}").run(
                seeds if given.seeds is None else range(seeds.start, seeds.start + given.seeds),
                given.out / "traces",
            )
        figures = {
            name: save(figure, given.out / f"{name}.png").name
            for name, figure in found.figures.items()
        }
        took = time.perf_counter() - began
        report[str(number)] = found.report | {"figures": list(figures.values()), "wall_s": took}
        report = dict(sorted(report.items()))
        write(path, report)
        print(f"{number}. {found.prediction}\n   {found.verdict}: {found.because}  ({took:.0f} s)")


if __name__ == "__main__":
    main()
