"""Measure neurosim on this machine: `python benchmarks/run.py`, or `--only epoch` for one part.

Prints a Markdown table and keeps the numbers in `results-<device>.json`, part by part: a part that
is not run again stays as it was.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import jax
import typer
from cells import single_cells
from circuits import circuits
from engines import engines
from epoch import epochs, overhead, seeds
from family import family
from field import field_rates
from learning import learning
from measure import FOLDER, Row, machine, moment
from spiking import spiking
from whole import compilation, memory, quickstart, recording, shapes, variants

PARTS: dict[str, Callable[[str], list[Row]]] = {
    "field": field_rates,
    "circuits": circuits,
    "epoch": epochs,
    "overhead": overhead,
    "seeds": seeds,
    "family": family,
    "recording": recording,
    "compile": compilation,
    "quickstart": quickstart,
    "variants": variants,
    "memory": memory,
    "shapes": shapes,
    "learning": learning,
    "spiking": spiking,
    "engines": engines,
    "cells": single_cells,
}


def main(
    only: Annotated[list[str] | None, typer.Option(help="Parts to run; all if not given.")] = None,
    device: Annotated[str, typer.Option(help="cpu or gpu.")] = "cpu",
    out: Annotated[Path | None, typer.Option(help="The file of results.")] = None,
) -> None:
    """Run the benchmarks, with nothing compiled before."""
    jax.config.update("jax_enable_compilation_cache", False)
    os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"  # of the processes that parts start
    for name in only or []:
        if name not in PARTS:
            raise typer.BadParameter(f"{name}: expected one of {', '.join(PARTS)}")
    path = out or FOLDER / f"results-{device}.json"
    kept = json.loads(path.read_text())["parts"] if path.exists() else {}
    print("| what | median | best | wanted | |\n| --- | --- | --- | --- | --- |")
    for name in only or PARTS:
        when = moment()
        rows = PARTS[name](device)
        kept[name] = when | {"rows": [row._asdict() | {"verdict": row.verdict} for row in rows]}
        for row in rows:
            print(_line(row), flush=True)
        parts = {name: kept[name] for name in PARTS if name in kept}
        path.write_text(json.dumps({"machine": machine(device), "parts": parts}, indent=1) + "\n")


def _line(row: Row) -> str:
    best = "" if row.best is None else f"{row.best:.3g} {row.unit}"
    wanted = "" if row.limit is None else f"{row.limit[0]} {row.limit[1]:g} {row.unit}"
    return f"| {row.what} | {row.value:.3g} {row.unit} | {best} | {wanted} | {row.verdict} |"


if __name__ == "__main__":
    typer.run(main)
