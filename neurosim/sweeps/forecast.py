"""What a sweep would cost: points, programs, disk; time and memory by running a little of it."""

import tempfile
from collections.abc import Hashable
from pathlib import Path
from typing import Any

from neurosim.errors import InputError
from neurosim.process.stopping import delivering
from neurosim.sweeps.groups import Group, groups
from neurosim.sweeps.launch import distinct, folder, known, worker_count
from neurosim.sweeps.ledger import Ledger
from neurosim.sweeps.plan import Plan
from neurosim.sweeps.sending import Sweeping

MEASURED = 6
"""Programs that are compiled to say how long a sweep takes; more are taken to be like these."""


def forecast(
    made: Plan,
    *,
    out: str | Path | None = None,
    workers: int | None = None,
    cluster: Any = None,
    device: str | None = None,
    force: bool = False,
    measured: bool = True,
) -> dict[str, Any]:
    """What a sweep would do; nothing is written.

    made: of `plan`. measured: whether to predict time and memory, for which its workers run a
    little. The others: as `sweep` takes them.

    Returns plain data: `axes` with the values of each; `seeds`; how many `points`, of which are
    `done` and `failed` before; `programs` to compile for the rest, and in how many `groups` of
    points side by side that runs; `workers`; `folder`; `bytes` of the traces to write; and
    `compile_s`, `wall_s` and `memory_bytes` of all workers, each None
    where it was not measured; `measured_programs`.

    Raises:
        InputError: the folder is none of a sweep, or a worker cannot run a point.
    """
    ledger, count = Ledger(folder(made, out)), worker_count(made, workers, cluster, device)
    records = {} if force else known(made, ledger)
    todo = distinct(point for point in made.points if point.digest not in records)
    states = [records[p.digest]["state"] for p in made.points if p.digest in records]
    shared = groups(todo, made.points, count if cluster is None else None)
    programs = {group.program for group in shared}
    report: dict[str, Any] = {
        "protocol": made.protocol.spec.name,
        "level": made.protocol.spec.level,
        "axes": {axis.key: list(axis.values) for axis in made.axes},
        "seeds": made.seeds,
        "points": len(made.points),
        "done": states.count("finished"),
        "failed": states.count("failed"),
        "programs": len(programs),
        "groups": len(shared),
        "workers": count if cluster is None else None,
        "folder": str(ledger.folder),
        "bytes": sum(point.bytes for point in todo),
        **dict.fromkeys(("compile_s", "wall_s", "memory_bytes")),
        "measured_programs": 0,
    }
    if measured and todo:
        report |= _predicted(made, shared, count, cluster, device)
    return report


def _predicted(
    made: Plan, shared: list[Group], workers: int, cluster: Any, device: str | None
) -> dict[str, Any]:
    """Time and memory, from the longest group of each program."""
    longest: dict[Hashable, Group] = {}
    for group in shared:
        best = longest.get(group.program)
        if best is None or group.presentations > best.presentations:
            longest[group.program] = group
    chosen = list(longest.values())[:MEASURED]
    with tempfile.TemporaryDirectory() as scratch, delivering() as request:
        sending = Sweeping(chosen, made.seeds, Ledger(scratch), device, measured=True)
        sending.run(cluster, workers, request)
    found = {group.program: sending.records[group.points[0].digest] for group in chosen}
    for group in chosen:
        if found[group.program]["state"] == "lost":
            words = made.words(group.points[0])
            raise InputError(f"{words}: {found[group.program]['reason']}")
    paces = {
        p: (found[p]["wall_s"] - found[p]["compile_s"]) / longest[p].presentations for p in found
    }
    pace = sum(paces.values()) / len(paces)
    compiling = sum(of["compile_s"] for of in found.values()) / len(found)
    running = sum(group.presentations * paces.get(group.program, pace) for group in shared)
    at_once = min(workers, len(shared))
    # Programs are compiled beside each other, but each of them by one worker.
    rounds = -(-len(longest) // at_once)
    memory = [of["memory_bytes"] for of in found.values() if of["memory_bytes"] is not None]
    return {
        "compile_s": compiling,
        "wall_s": rounds * compiling + running / at_once,
        "memory_bytes": at_once * max(memory) if memory else None,
        "measured_programs": len(chosen),
    }
