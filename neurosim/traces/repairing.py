"""Making the file of a dead writer one that any HDF5 program opens again."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

import h5py

from neurosim.errors import InputError
from neurosim.process import caller
from neurosim.traces import intent, superblock
from neurosim.traces.amending import amend
from neurosim.traces.checkpoint import Checkpoint
from neurosim.traces.liveness import doubts
from neurosim.traces.naming import located
from neurosim.traces.reader import reading, reason, writer_alive

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]


ATTEMPTS, PAUSE = 100, 0.05
"""How often, and after how many seconds, a lock is tried again that another process has."""


def repair(
    path: Path, attributes: Mapping[str, str | float | int] | None = None, force: bool = False
) -> bool:
    """Clear the mark "open for writing" of a dead writer; whether it was there.

    Args:
        path: a trace.
        attributes: to set in it; if none, its status becomes "interrupted" where it is "running".
        force: also where this machine cannot know whether the writer lives, of which the file takes
            note.

    Raises:
        InputError: there is no such file, it is damaged or cannot be written, or its writer lives.
    """
    path = located(path)
    unfinished = refuse_written(path, force)
    if attributes is None:
        attributes = _interrupted(path) if unfinished else {}
    try:
        with open(path, "r+b", buffering=0) as raw, _alone(path, raw):
            refuse_written(path, force)
            unfinished_change = intent.finish(raw)
            marked = superblock.marked(raw)
            if marked and superblock.read(raw) is None:
                raise InputError(f"{path}: is damaged: its first bytes are not what HDF5 wrote")
            if marked:
                superblock.mend(raw, _reach(path))
            if attributes:
                amend(raw, attributes)
            return marked or unfinished_change
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {reason(error)}") from error


def _interrupted(path: Path) -> dict[str, str]:
    """What a file says whose writer is dead, or was said to be."""
    with reading(path) as file:
        doubt = doubts(file.attrs)
    note = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "differing": doubt}
    return {"status": "interrupted"} | ({"repaired": json.dumps(note)} if doubt else {})


def lengthen(path: Path) -> None:
    """Make a file whose writer is dead as long as it says that it is, if there is a checkpoint.

    A machine that lost its power may have noted the end of the file and not what lies before it.
    What was there when the checkpoint was written is there; what came later is written again.
    """
    if not (os.path.isfile(path) and os.path.exists(Checkpoint.path(path))):
        return
    with contextlib.suppress(OSError), open(path, "r+b", buffering=0) as raw:
        block = superblock.read(raw)
        if block is not None and block.marked and block.end > raw.seek(0, os.SEEK_END):
            raw.truncate(block.end)


def refuse_written(path: Path, force: bool) -> bool:
    """Refuse a file whose writer lives, or may live; whether it is unfinished.

    force: not where this machine cannot know whether the writer lives.
    """
    with reading(path) as file:
        lives = writer_alive(file)
        host, pid = file.attrs.get("host"), file.attrs.get("pid")
        unfinished = str(file.attrs.get("status", "running")) == "running"
    if lives:
        raise InputError(f"{path}: process {pid} is writing it; stop that first")
    if lives is None and unfinished and not force:
        raise InputError(
            f"{path}: process {pid} of host {host} wrote it; whether it still does can only be "
            f"known there; give {caller.option('force')} if it does not"
        )
    return unfinished


def _reach(path: Path) -> int:
    """The last byte that an array of the file is said to have."""
    ends = [0]

    def visit(name: str, item: h5py.Group | h5py.Dataset) -> None:
        if isinstance(item, h5py.Dataset) and item.chunks is not None:
            item.id.chunk_iter(lambda chunk: ends.append(chunk.byte_offset + chunk.size))

    with reading(path) as file:
        file.visititems(visit)
    return max(ends)


@contextlib.contextmanager
def _alone(path: Path, raw: BinaryIO) -> Iterator[None]:
    """While nobody else writes the file, or repairs or resumes a trace in the same folder.

    Who only reads a file keeps a shared lock of it, for as long as it is open.
    """
    folder = None
    try:
        if fcntl is not None:
            folder = os.open(path.absolute().parent, os.O_RDONLY)
            _lock(raw.fileno(), fcntl.LOCK_SH, 1, f"{path}: is open to be written; close it there")
            busy = f"{path}: another process repairs or resumes a trace in this folder; try again"
            _lock(folder, fcntl.LOCK_EX, ATTEMPTS, busy)
        yield
        raw.flush()
        os.fsync(raw.fileno())
    finally:
        if folder is not None:
            os.close(folder)


def _lock(descriptor: int, kind: int, attempts: int, busy: str) -> None:
    """busy: what is said where another process has the lock."""
    for attempt in range(attempts):
        if attempt:
            time.sleep(PAUSE)
        try:
            return fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            pass
        except OSError:  # a file system without locks
            return None
    raise InputError(busy)
