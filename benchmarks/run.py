"""Measure neurosim on this machine: `python benchmarks/run.py`, or `--only epoch` for one part.

Prints a Markdown table, keeps the latest numbers of every part in `results-<device>.json`, and adds
an entry with every repeat to `history-<device>.jsonl`. `--compare` measures nothing: it tells which
numbers of two entries differ by more than chance, and ends with exit code 1 if any became worse.
"""

import json
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import history
import jax
import regressions
import typer
from cells import against_nest, single_cells
from circuits import circuits
from contests import INTERPRETERS
from digits import digits
from energy import energy
from engines import engines
from epoch import SHARED, epochs, overhead, seeds
from family import family
from field import field_rates
from gpu import on_gpu
from integration import integration
from learning import learning
from measure import FOLDER, Absent, Entry, machine, moment
from scaling import scaling
from spiking import against_brian, spiking
from throughput import throughput
from whole import compilation, memory, quickstart, recording, shapes, variants

PARTS: dict[str, Callable[[str, bool], Sequence[Entry]]] = {
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
    "integration": integration,
    "digits": digits,
    "brian": against_brian,
    "nest": against_nest,
    "throughput": throughput,
    "scaling": scaling,
    "energy": energy,
    "gpu": on_gpu,
}
"""Each with the device, and whether in its smallest size."""

GROUPS = {"comparison": ("integration", "digits", "brian", "cells", "nest")}
"""Several parts by one name."""


def main(
    only: Annotated[list[str] | None, typer.Option(help="Parts to run; all if not given.")] = None,
    device: Annotated[str, typer.Option(help="cpu or gpu.")] = "cpu",
    out: Annotated[Path | None, typer.Option(help="The folder of results.")] = None,
    cores: Annotated[
        int | None, typer.Option(help="Use so many processors; all if not given.")
    ] = None,
    python: Annotated[
        list[str] | None, typer.Option(help="RIVAL=PATH of the Python with it.")
    ] = None,
    small: Annotated[
        bool, typer.Option("--small", help="The smallest sizes; only to try.")
    ] = False,
    compare: Annotated[bool, typer.Option("--compare", help="Compare two entries.")] = False,
    entries: Annotated[tuple[str, str], typer.Option(help="Of the history: OLD NEW.")] = (
        "-2",
        "-1",
    ),
) -> None:
    """Run the benchmarks, with nothing compiled before."""
    folder = out or FOLDER
    past = folder / f"history-{device}.jsonl"
    if compare:
        raise typer.Exit(_compared(past, entries))
    names = [part for name in only or PARTS for part in GROUPS.get(name, (name,))]
    for name in names:
        if name not in PARTS:
            raise typer.BadParameter(f"{name}: expected one of {', '.join([*PARTS, *GROUPS])}")
    INTERPRETERS.update(_interpreters(python or []))
    if cores is not None:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    if "seeds" in names:
        jax.config.update("jax_num_cpu_devices", SHARED)  # before JAX begins
    with tempfile.TemporaryDirectory() as programs:
        _keep(Path(programs) if small else None)
        _measure(names, device, folder, small)


def _keep(programs: Path | None) -> None:
    """Where JAX keeps what it compiles, here and in the processes that parts start.

    None: nowhere, so that compiling is measured.
    """
    jax.config.update("jax_enable_compilation_cache", programs is not None)
    os.environ["JAX_ENABLE_COMPILATION_CACHE"] = str(programs is not None).lower()
    if programs is not None:
        jax.config.update("jax_compilation_cache_dir", str(programs))
        os.environ["JAX_COMPILATION_CACHE_DIR"] = str(programs)


def _measure(names: list[str], device: str, folder: Path, small: bool) -> None:
    past = folder / f"history-{device}.jsonl"
    path = folder / f"results-{device}.json"
    kept = json.loads(path.read_text())["parts"] if path.exists() else {}
    began, done = moment(), {}
    print("| what | median | best | wanted | |\n| --- | --- | --- | --- | --- |")
    for name in names:
        when = moment()
        done[name] = PARTS[name](device, small)
        for row in done[name]:
            print(_line(row), flush=True)
        if small:
            continue
        kept[name] = when | {"rows": [history.latest(row) for row in done[name]]}
        parts = {name: kept[name] for name in PARTS if name in kept}
        path.write_text(json.dumps({"machine": machine(device), "parts": parts}, indent=1) + "\n")
    if not small:
        history.append(past, began, machine(device), done)


def _interpreters(given: list[str]) -> dict[str, str]:
    found = {}
    for text in given:
        name, equals, path = text.partition("=")
        if not equals or not Path(path).is_file():
            raise typer.BadParameter(f"{text}: expected RIVAL=PATH, such as jpc=/venv/bin/python")
        found[name] = path
    return found


def _compared(past: Path, asked: tuple[str, str]) -> int:
    """Print what changed; 1 if anything became worse."""
    known = history.read(past)
    try:
        before, after = (history.chosen(known, one) for one in asked)
    except ValueError as error:
        raise typer.BadParameter(f"{past}: {error}") from error
    for word, entry in (("From", before), ("to", after)):
        print(f"{word} {entry.title}, load {entry.load:.1f}")
    found = regressions.changes(before, after)
    print(regressions.table(found))
    return int(any(change.verdict == "worse" for change in found))


def _line(row: Entry) -> str:
    if isinstance(row, Absent):
        return f"| {row.what} | not measured: {row.why} | | | |"
    best = "" if row.best is None else f"{row.best:.3g} {row.unit}"
    wanted = "" if row.limit is None else f"{row.limit[0]} {row.limit[1]:g} {row.unit}"
    return f"| {row.what} | {row.value:.3g} {row.unit} | {best} | {wanted} | {row.verdict} |"


if __name__ == "__main__":
    typer.run(main)
