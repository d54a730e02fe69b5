"""Going on with what was stopped or killed: a recording of cells, or a run of a network."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from neurosim.building.cells import CellProtocol
from neurosim.building.loading import Protocol
from neurosim.building.synapses import SynapticProtocol, load
from neurosim.errors import InputError, NeurosimError
from neurosim.process import caller
from neurosim.process.progression import Progress
from neurosim.recordings.keeping import checkpoint_of
from neurosim.recordings.recording import Recording, level_of, taken
from neurosim.recordings.synapses import SynapticRecording
from neurosim.runs import resumption
from neurosim.runs.environment import environment
from neurosim.runs.results import Run
from neurosim.specs import CellProtocolSpec, SynapticProtocolSpec
from neurosim.specs.toml import Sources
from neurosim.specs.validation import validate
from neurosim.traces.checkpoint import Checkpoint
from neurosim.traces.liveness import alive, doubts
from neurosim.traces.naming import located
from neurosim.traces.reader import records_cell


def resume(
    path: str | Path,
    protocol: Protocol | None = None,
    *,
    force: bool = False,
    device: str | None = None,
    devices: int | None = None,
    progress: bool | Callable[[Progress], None] | None = None,
) -> Run | Recording | SynapticRecording:
    """Go on with the run or the recording whose trace is `path`, to the bits of one without a
    break.

    protocol: what a run runs, where its file is not enough because a script gave it objects. force:
    go on although the protocol, its model or data, a version or the machine is another; and though
    another host wrote it, which only you know does so no more. The trace takes note of both.
    device, progress: of a run, as in `run`. devices: so too, but as many as it began with if not
    given.

    Raises:
        InputError: it is complete, still running, damaged or has no checkpoint; or something is no
            longer what it was.
        DivergedError, StoppedError: as `run` and `record` do.
    """
    path = located(path)
    saved = checkpoint_of(path)
    if saved is not None:
        return _recorded(path, saved, force)
    if os.path.exists(path) and records_cell(path):
        raise InputError(f"{path}: cannot be resumed: it is complete; nothing is left to do")
    given: Any = {"device": device, "devices": devices, "progress": progress}
    return resumption.resume(path, protocol, force=force, **given)


def _recorded(path: Path, saved: Checkpoint, force: bool) -> Recording | SynapticRecording:
    writer: dict[str, Any] = saved.about["recording"]
    lives = alive(writer)
    if writer.get("ended") and not lives:
        lives = False  # wherever that was
    if lives or (lives is None and not force):
        who = f"process {writer['pid']} of {writer['host']}"
        raise InputError(
            f"{path}: {who} is recording it"
            if lives
            else f"{path}: whether {who} still records it can only be known there; "
            f"{caller.option('force')} says that it does not"
        )
    origin = saved.about["origin"]
    protocol = _protocol(path, origin)
    now = protocol.spec.model_dump(mode="json", exclude_none=True)
    differing = [
        *resumption.altered(origin["protocol"], now),
        *resumption.altered(origin["environment"], environment(level_of(protocol))),
    ]
    resumption.accept(path, differing, force)
    if lives is None:
        differing += doubts(writer)
    return taken(protocol, path, saved, differing)


def _protocol(path: Path, origin: dict[str, Any]) -> CellProtocol | SynapticProtocol:
    """The protocol as its files have it now; as it was where they are gone."""
    file = origin["file"]
    if file is not None and os.path.isfile(file):
        try:
            found = load(file, origin["overrides"])
        except NeurosimError as error:
            raise InputError(f"{path}: its protocol can no longer be used: {error}") from None
        if isinstance(found, Protocol):
            raise InputError(f"{path}: {file} is a protocol of a network by now")
        return found
    more = Path(origin["folder"]), Sources(()), origin["overrides"] or {}
    if "cells" in origin["protocol"]:
        return SynapticProtocol(validate(SynapticProtocolSpec, origin["protocol"]), *more)
    return CellProtocol(validate(CellProtocolSpec, origin["protocol"]), *more)
