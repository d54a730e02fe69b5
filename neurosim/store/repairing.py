"""Making the file of a dead writer one that any HDF5 program opens again."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from neurosim.errors import InputError
from neurosim.store import superblock
from neurosim.store.amending import amend
from neurosim.store.reader import reading, reason, writer_alive

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]


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
    path = Path(path)
    unfinished = _refuse_written(path, force)
    if attributes is None:
        attributes = {"status": "interrupted"} if unfinished else {}
    try:
        with open(path, "r+b") as raw, _alone(path, raw):
            _refuse_written(path, force)
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


def _refuse_written(path: Path, force: bool) -> bool:
    """Refuse a file whose writer lives, or may live; whether it is unfinished."""
    with reading(path) as file:
        lives = writer_alive(file)
        host, pid = file.attrs.get("host"), file.attrs.get("pid")
        unfinished = str(file.attrs.get("status", "running")) == "running"
    if lives:
        raise InputError(f"{path}: process {pid} is writing it; stop that first")
    if lives is None and unfinished and not force:
        raise InputError(
            f"{path}: process {pid} of host {host} wrote it; whether it still does can only be "
            "known there; give --force if it does not"
        )
    return unfinished


@contextmanager
def _alone(path: Path, raw: BinaryIO) -> Iterator[None]:
    """While no other process repairs or resumes the same file."""
    if fcntl is not None:
        try:
            fcntl.flock(raw, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"{path}: another process has it open; try again") from None
        except OSError:  # a file system without locks
            pass
    yield
    raw.flush()
    os.fsync(raw.fileno())
