"""Going on with a run that was stopped or killed, from the checkpoint beside its trace."""

import json
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from neurosim.building.loading import Protocol, load_protocol
from neurosim.errors import InputError, NeurosimError, NeurosimWarning
from neurosim.process import caller
from neurosim.process.progression import Progress, shown
from neurosim.process.stopping import delivering
from neurosim.runs.contents import Contents
from neurosim.runs.environment import environment, fingerprint
from neurosim.runs.launch import computing, initial_weights, prepare, sharing
from neurosim.runs.loop import Loop, Setting
from neurosim.runs.positions import Position, load, position_from
from neurosim.runs.recorder import Recorder
from neurosim.runs.results import Run
from neurosim.specs import ProtocolSpec
from neurosim.specs.toml import Sources
from neurosim.specs.validation import validate
from neurosim.traces.checkpoint import Checkpoint
from neurosim.traces.ledger import Ledger
from neurosim.traces.liveness import doubts
from neurosim.traces.naming import located
from neurosim.traces.reader import describe
from neurosim.traces.repairing import lengthen, refuse_written


def resume(
    path: str | Path,
    protocol: Protocol | None = None,
    *,
    force: bool = False,
    device: str | None = None,
    devices: int | None = None,
    progress: bool | Callable[[Progress], None] | None = None,
) -> Run:
    """Go on with the run whose trace is `path`; the result is that of a run without a break.

    protocol: what it runs, where its file is not enough because a script gave it objects. force: go
    on although the protocol, its model or data, a version or the machine is another; and though
    another host wrote it, which only you know does so no more. The trace takes note of both.
    device, progress: as in `run`. devices: so too, but as many as it began with if not given.

    Raises:
        InputError: it is complete, still running, damaged or has no checkpoint; or something is no
            longer what it was.
        DivergedError, StoppedError: as `run` does.
    """
    path = located(path)
    lengthen(path)
    found = describe(path)
    _refuse_ended(path, found["status"], force)
    saved = load(path)
    origin: Mapping[str, Any] = saved.about["origin"]
    current = protocol or _protocol(path, origin)
    count = int(origin["environment"].get("devices", 1)) if devices is None else devices
    with (
        delivering() as request,
        shown(progress, current.spec.name) as display,
        computing(current.spec, device, *sharing(current.spec, origin["seeds"], count)),
    ):
        differing = [
            *altered(origin["protocol"], current.spec.model_dump(mode="json", exclude_none=True)),
            *altered(origin["environment"], environment(current.spec.level)),
        ]
        samples, drawn = prepare(current, origin["seeds"])
        if fingerprint(drawn) != origin["data"]:
            differing.append("the data of the task")
        accept(path, differing, force)
        weights = initial_weights(current, origin["seeds"], drawn)
        loop = Loop(Setting(current, origin["seeds"], path, samples, weights, origin, display))
        position = position_from(saved, loop.start().states, loop.plan)
        if position is None:
            raise InputError(
                f"{path}: cannot go on: its checkpoint holds a state of another network or run; "
                f"run it from the start, with {caller.option('force')}"
            )
        if found["status"] == "running":
            differing += doubts(found["attributes"])
        note = _note(found["attributes"], position, differing)
        ledger = Ledger.from_plain(saved.about["ledger"])

        def again(contents: Contents) -> Recorder:
            return Recorder.reopen(path, contents, ledger, note, force)

        return loop.run(position, again, request)


def _refuse_ended(path: Path, status: str, force: bool) -> None:
    if status == "running":
        refuse_written(path, force)
    ended = {"complete": "it is complete", "diverged": "all its seeds diverged"}
    if status in ended:
        Checkpoint.remove(path)  # of a run that was killed after its end
        raise InputError(f"{path}: cannot be resumed: {ended[status]}; nothing is left to do")


def _protocol(path: Path, origin: Mapping[str, Any]) -> Protocol:
    """The protocol as its files have it now; as it was where they are gone."""
    if origin["overrides"] is None:
        raise InputError(
            f"{path}: its protocol holds objects of a script; resume it there, with "
            "neurosim.resume(path, protocol)"
        )
    file = origin["file"]
    if file is not None and os.path.isfile(file):
        try:
            return load_protocol(file, origin["overrides"])
        except NeurosimError as error:
            raise InputError(f"{path}: its protocol can no longer be used: {error}") from None
    spec = validate(ProtocolSpec, origin["protocol"])
    return Protocol(spec, Path(origin["folder"]), Sources(()), origin["overrides"])


def altered(before: Any, now: Any, key: str = "") -> Iterator[str]:
    """The leaves in which two pieces of plain data differ, with both values."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for name in sorted({*before, *now}):
            yield from altered(before.get(name), now.get(name), f"{key}.{name}" if key else name)
    elif isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        for n, pair in enumerate(zip(before, now, strict=True)):
            yield from altered(*pair, f"{key}.{n}")
    elif before != now:
        old, new = ("nothing" if value is None else repr(value) for value in (before, now))
        yield f"{key}: was {old}, is {new}"


def accept(path: Path, differing: list[str], force: bool) -> None:
    """Refuse to go on with something else, or warn of it if told to."""
    if not differing:
        return
    if not force:
        raise InputError(
            [
                f"{path}: is not what it began as; undo this, or give {caller.option('force')} to "
                "go on nevertheless with numbers that no other run has:",
                *differing,
            ]
        )
    for line in differing:
        warnings.warn(f"goes on with something else: {line}", NeurosimWarning, stacklevel=3)


def _note(
    attributes: Mapping[str, Any], position: Position, differing: list[str]
) -> dict[str, str]:
    """What the trace says of being resumed: after how many presentations, when, what was else."""
    entry: dict[str, Any] = {
        "presentation": position.done,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    if differing:
        entry["differing"] = differing
    return {"resumed": json.dumps([*json.loads(attributes.get("resumed", "[]")), entry])}
