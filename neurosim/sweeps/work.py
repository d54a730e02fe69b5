"""What a worker does with a point: run it, or go on with what an earlier worker left of it."""

import json
import os
import socket
import time
import traceback
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

from neurosim.building.loading import Protocol
from neurosim.errors import DivergedError, InputError, NeurosimWarning
from neurosim.process.progression import Progress
from neurosim.traces.reader import describe
from neurosim.traces.repairing import refuse_written, repair

ALONE = Lock()
"""Settings of JAX are those of the process: a worker of several threads runs one point at once."""


PATIENCE, PAUSE = 60.0, 0.5
"""Seconds for which an earlier worker may still end its chunk, and between two looks at it."""


class Job(NamedTuple):
    """A point as it is sent to a worker.

    version: of neurosim where the sweep was begun. measured: only what it would cost is wanted.
    """

    digest: str
    protocol: Protocol
    seeds: list[int]
    trace: str
    device: str | None
    version: str
    measured: bool = False


def carry_out(job: Job, tell: Callable[[Progress], None]) -> dict[str, Any]:
    """The record of a point that was run. tell: is told after every chunk.

    Its `state` is `finished`, `failed` where every seed diverged, or `lost` where this worker
    could not run it; then `reason` says why.
    """
    with ALONE, warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always", NeurosimWarning)
        try:
            record = _carried_out(job, tell)
        except InputError as error:
            record = _lost(str(error))
        except Exception as error:
            words = (str(error).splitlines() or [""])[0]
            record = _lost(f"{type(error).__name__}: {words}")
            record["traceback"] = traceback.format_exc()
        said = [str(w.message) for w in heard if issubclass(w.category, NeurosimWarning)]
    return record | {"warnings": said, "host": socket.gethostname(), "pid": os.getpid()}


def _lost(reason: str) -> dict[str, Any]:
    return {"state": "lost", "reason": reason}


def _carried_out(job: Job, tell: Callable[[Progress], None]) -> dict[str, Any]:
    from neurosim.runs import launch, resumption

    if version("neurosim") != job.version:
        raise InputError(
            f"a worker has neurosim {version('neurosim')}, the sweep {job.version}; install the "
            "same"
        )
    if job.measured:
        return _measured(job)
    path = Path(job.trace)
    given: dict[str, Any] = {"progress": tell, "device": job.device}
    _wait_for_writer(path)
    try:
        found = describe(path) if path.exists() else None
    except InputError:
        found = None  # it is damaged, and is written anew
    if found is not None and found["status"] in ("complete", "diverged"):
        return _record(json.loads(found["attributes"]["summary"]), "")
    try:
        if found is not None:
            try:
                # The scheduler has lost the worker that wrote it, wherever that was.
                repair(path, force=True)
                return _record(resumption.resume(path, job.protocol, **given).summary, "")
            except InputError:
                pass  # what cannot go on begins again; a writer that lives is refused there, too
        run = launch.run(job.protocol, seeds=job.seeds, out=path, force=True, **given)
        return _record(run.summary, "")
    except DivergedError as error:
        return _record(error.run.summary, str(error).partition(";")[0])


def _wait_for_writer(path: Path) -> None:
    """A worker that a sweep let go of, as at Ctrl-C, stops at the end of its chunk."""
    until = time.monotonic() + PATIENCE
    while path.exists() and time.monotonic() < until:
        try:
            refuse_written(path, force=True)
            return
        except InputError:  # it lives; or the file is damaged, which others say
            time.sleep(PAUSE)


def _measured(job: Job) -> dict[str, Any]:
    """What a point would cost, by running a little of it; see `costs.cost`."""
    from neurosim.runs import costs
    from neurosim.runs.launch import computing, initial_weights, prepare
    from neurosim.runs.members import Setting

    with computing(job.protocol.spec, job.device):
        samples, drawn = prepare(job.protocol, job.seeds)
        weights = initial_weights(job.protocol, job.seeds, drawn)
        setting = Setting(job.protocol, job.seeds, Path(job.trace), samples, weights, {})
        return {"state": "measured", **costs.cost(setting)}


def _record(summary: dict[str, Any], reason: str) -> dict[str, Any]:
    """The record of a trace that has come to its end."""
    values = [v for of in summary["metrics"].values() for v in (of if type(of) is list else [of])]
    failed = all(value is None for value in values)
    if failed and not reason:
        reason = summary["diverged"][0]["message"]
    kept = {key: summary[key] for key in ("metrics", "diverged", "settled", "wall_s")}
    return {"state": "failed" if failed else "finished", "reason": reason, **kept}
