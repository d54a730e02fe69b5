"""The predictions of Meulemans 2019, sections 6.4 to 6.9, tested by simulation.

    python studies/chapter6.py             # all; figures, traces and chapter6.json
    python studies/chapter6.py --only 1    # one of them

Writes figures, traces and chapter6.json to outputs/chapter6/. `--docs FOLDER` then writes
chapter6.md there, with its figures beside it, from all that chapter6.json holds.
"""

import argparse
import importlib
import json
import shutil
import time
from pathlib import Path
from typing import Any

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

INTRODUCTION = """# Chapter 6, tested

Meulemans derived the pyramidal-neuron models of his thesis on paper (Meulemans 2019, chapter 6) and
left their verification to future work. Here are its predictions, simulated. The page is written by

    python studies/chapter6.py && python studies/chapter6.py --docs docs

from `outputs/chapter6/chapter6.json`, where every number stands with its band; `--only N` runs one
prediction. Verdicts are computed from the data by the rule written in each module of
`studies/ch6/`.
"""

NOTES: dict[str, str] = {
    "5": """
All methods of a task try the same rates, and on digits every seed has a split of its own; at
four times the largest rate every method diverges on 6-6-6, and on the tuning seeds one phase in
contracting layers learned at no rate: at 0.001 it stays at chance, at 0.01 it diverges. Four
hidden layers of Gaussian weights are so badly conditioned that targets through their inverses
hardly help, exact ones included, as in figure 5.13 of the thesis; backprop, which sends its
errors through transposes, learns there. The equilibria are without noise, where a signal that
decays can be scaled up again; what noise does to it is prediction 4.""",
}
"""Number → what the figure does not say."""


def main() -> None:
    """Run the predictions that are asked for, and keep those of earlier calls."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", type=int, choices=sorted(PREDICTIONS), nargs="+", metavar="N")
    parser.add_argument("--out", type=Path, default=Path("outputs/chapter6"), metavar="FOLDER")
    parser.add_argument("--seeds", type=int, metavar="N", help="fewer seeds, for a quick look")
    parser.add_argument("--docs", type=Path, metavar="FOLDER", help="write chapter6.md there")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    path = given.out / "chapter6.json"
    report = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    chosen = given.only or ([] if given.docs and report else PREDICTIONS)
    for number in chosen:
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
    if given.docs:
        print(document(report, given.out, given.docs))


def document(report: dict[str, Any], figures: Path, docs: Path) -> Path:
    """Write the page of the report and copy its figures; returns where it is."""
    folder = docs / "chapter6"
    folder.mkdir(parents=True, exist_ok=True)
    lines = [INTRODUCTION, "| | prediction | verdict | wall time |", "| --- | --- | --- | --- |"]
    for number, found in report.items():
        row = f"{found['prediction']} ({found['source']})"
        lines.append(f"| {number} | {row} | **{found['verdict']}** | {found['wall_s']:.0f} s |")
    total = sum(found["wall_s"] for found in report.values()) / 60
    lines.append(f"| | together, on two cores shared with others | | {total:.0f} min |")
    for number, found in report.items():
        lines += ["", f"## {number}. {found['prediction'][0].upper()}{found['prediction'][1:]}", ""]
        lines += [
            f"**{found['verdict'][0].upper()}{found['verdict'][1:]}.** {found['because']}.",
            "",
        ]
        lines += [f"Over {found['seeds']}.", ""]
        for name in found["figures"]:
            shutil.copy(figures / name, folder / name)
            lines.append(f"![Prediction {number}](chapter6/{name})")
        lines += [NOTES[number]] if number in NOTES else []
    page = docs / "chapter6.md"
    page.write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")
    return page


if __name__ == "__main__":
    main()
