"""What a worker does with points: run them, or go on with what an earlier worker left of them."""

import json
import os
import socket
import time
import traceback
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from importlib.metadata import version
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

from neurosim.building.loading import Protocol
from neurosim.errors import DivergedError, InputError, NeurosimError, NeurosimWarning
from neurosim.process.progression import Progress
from neurosim.traces.reader import describe
from neurosim.traces.repairing import refuse_written, repair

ALONE = Lock()
"""Settings of JAX are those of the process: a worker of several threads runs one job at once."""

PATIENCE, PAUSE = 60.0, 0.5
"""Seconds for which an earlier worker may still end its chunk, and between two looks at it."""


class LetGoError(NeurosimError):
    """Nobody waits for a job any more."""


class Part(NamedTuple):
    """A point as it is sent to a worker."""

    digest: str
    protocol: Protocol
    trace: str


class Job(NamedTuple):
    """Points that one worker runs side by side.

    size: for how many points the programs are. version: of neurosim where the sweep was begun.
    measured: only what it would cost is wanted.
    """

    parts: list[Part]
    size: int
    seeds: list[int]
    device: str | None
    version: str
    measured: bool = False

    @property
    def name(self) -> str:
        """By which it is known."""
        return self.parts[0].digest


Records = dict[str, dict[str, Any]]
"""What came of points, by digest."""

Tell = Callable[[str, Progress], None]
"""Is told after every chunk how far a point is."""


def carry_out(job: Job, tell: Tell) -> Records:
    """The records of points that were run.

    The `state` of each is `finished`, `failed` where every seed diverged, or `lost` where this
    worker could not run it; then `reason` says why.
    """
    with ALONE:
        records = _tried(job, tell)
        lost = [part for part in job.parts if records[part.digest]["state"] == "lost"]
        if len(job.parts) > 1 and not job.measured:  # one of them may be why
            for part in lost:
                records |= _tried(job._replace(parts=[part], size=1), tell)
    about = {"host": socket.gethostname(), "pid": os.getpid()}
    return {digest: record | about for digest, record in records.items()}


def _tried(job: Job, tell: Tell) -> Records:
    """With what it warned of, and what went wrong."""
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always", NeurosimWarning)
        try:
            records = _carried_out(job, tell)
        except LetGoError:
            raise
        except InputError as error:
            records = _all_lost(job, str(error))
        except Exception as error:
            words = (str(error).splitlines() or [""])[0]
            records = _all_lost(job, f"{type(error).__name__}: {words}")
            for record in records.values():
                record["traceback"] = traceback.format_exc()
        said = [str(w.message) for w in heard if issubclass(w.category, NeurosimWarning)]
    return {digest: {"warnings": said} | record for digest, record in records.items()}


def _all_lost(job: Job, reason: str) -> Records:
    return {part.digest: {"state": "lost", "reason": reason} for part in job.parts}


def _carried_out(job: Job, tell: Tell) -> Records:
    if version("neurosim") != job.version:
        raise InputError(
            f"a worker has neurosim {version('neurosim')}, the sweep {job.version}; install the "
            "same"
        )
    if job.measured:
        return _measured(job)
    records, left = {}, []
    for part in job.parts:
        path = Path(part.trace)
        _wait_for_writer(path)
        found = _described(path)
        if found is not None and found["status"] in ("complete", "diverged"):
            records[part.digest] = _record(json.loads(found["attributes"]["summary"]))
            continue
        if found is not None:
            with suppress(InputError):  # what cannot go on begins again
                # The scheduler has lost the worker that wrote it, wherever that was.
                repair(path, force=True)
        left.append(part)
    if not left:
        return records
    return records | (_alone(job, left[0], tell) if job.size == 1 else _together(job, left, tell))


def _described(path: Path) -> dict[str, Any] | None:
    """What the trace of a point says of itself; None where it is damaged, and is written anew."""
    try:
        return describe(path) if path.exists() else None
    except InputError:
        return None


def _alone(job: Job, part: Part, tell: Tell) -> Records:
    """One point, as any other run."""
    from neurosim.runs import launch, resumption

    path = Path(part.trace)
    given: Any = {"progress": partial(tell, part.digest), "device": job.device}
    try:
        with suppress(InputError):  # what cannot go on begins again
            if path.exists():
                run = resumption.resume(path, part.protocol, **given)
                return {part.digest: _record(run.summary)}
        run = launch.run(part.protocol, seeds=job.seeds, out=path, force=True, **given)
        return {part.digest: _record(run.summary)}
    except DivergedError as error:
        return {part.digest: _record(error.run.summary)}


def _together(job: Job, parts: list[Part], tell: Tell) -> Records:
    """Points side by side."""
    from neurosim.runs.together import Beside, together

    given = [Beside(p.protocol, Path(p.trace), partial(tell, p.digest)) for p in parts]
    runs = together(given, job.seeds, job.size, job.device)
    return {p.digest: _record(run.summary) for p, run in zip(parts, runs, strict=True)}


def _wait_for_writer(path: Path) -> None:
    """A worker that a sweep let go of, as at Ctrl-C, stops at the end of its chunk."""
    until = time.monotonic() + PATIENCE
    while path.exists() and time.monotonic() < until:
        try:
            refuse_written(path, force=True)
            return
        except InputError:  # it lives; or the file is damaged, which others say
            time.sleep(PAUSE)


def _measured(job: Job) -> Records:
    """What points would cost side by side, by running a little of them; see `costs.cost`."""
    from neurosim.runs import costs
    from neurosim.runs.launch import computing, initial_weights, prepare
    from neurosim.runs.members import Setting

    with computing(job.parts[0].protocol.spec, job.device):
        samples, drawn = prepare(job.parts[0].protocol, job.seeds)
        settings = [
            Setting(protocol, job.seeds, Path(trace), samples, weights, {})
            for _, protocol, trace in job.parts
            for weights in [initial_weights(protocol, job.seeds, drawn)]
        ]
        cost = {"state": "measured", **costs.cost(*settings, size=job.size)}
    return {part.digest: cost for part in job.parts}


def _record(summary: dict[str, Any]) -> dict[str, Any]:
    """The record of a trace that has come to its end."""
    values = [v for of in summary["metrics"].values() for v in (of if type(of) is list else [of])]
    failed = all(value is None for value in values)
    reason = summary["diverged"][0]["message"] if failed else ""
    kept = {key: summary[key] for key in ("metrics", "diverged", "settled", "wall_s")}
    return {"state": "failed" if failed else "finished", "reason": reason, **kept}
