"""Making the file of a dead writer one that any HDF5 program opens again."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from neurosim.errors import InputError
from neurosim.process import caller
from neurosim.traces import superblock
from neurosim.traces.amending import amend
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
        force: also where this machine cannot know whether the writer lives.

    Raises:
        InputError: there is no such file, it is damaged or cannot be written, or its writer lives.
    """
    path = located(path)
    unfinished = refuse_written(path, force)
    if attributes is None:
        attributes = {"status": "interrupted"} if unfinished else {}
    try:
        with open(path, "r+b") as raw, _alone(path, raw):
            refuse_written(path, force)
            marked = superblock.marked(raw)
            if marked and superblock.read(raw) is None:
                raise InputError(f"{path}: is damaged: its first bytes are not what HDF5 wrote")
            if marked:
                superblock.mend(raw)
            if attributes:
                amend(raw, attributes)
            return marked
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {reason(error)}") from error


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


@contextmanager
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
