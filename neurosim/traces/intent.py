"""Changes of a file that are made as a whole or not at all, whenever the process or machine dies.

Behind the end of the file goes a record of all that is about to change, with a checksum. Then the
changes are made; then the record goes. Where a record is found whole, the changes are meant: who
reads sees the file as if they were made, who writes makes them first. Where it is not, the file is
as it was before.
"""

from __future__ import annotations

import contextlib
import os
import struct
import zlib
from collections.abc import Sequence
from typing import Any, BinaryIO, NamedTuple

_NAME = b"neurosim"
# How long the record is, the CRC-32 of it, and what says that there is one.
_FOOT = struct.Struct("<QI8s")
# Where a change begins, and how long it is.
_HEAD = struct.Struct("<QQ")


class Change(NamedTuple):
    """Bytes, and where they go."""

    start: int
    data: bytes


def commit(raw: BinaryIO, changes: Sequence[Change], end: int) -> None:
    """Make changes, of which the last one counts where two overlap; the file then ends at `end`.

    Raises:
        OSError: the disk refuses; the file is as before, or has the record.
    """
    raw.flush()
    descriptor = raw.fileno()
    before = os.fstat(descriptor).st_size
    record = b"".join(_HEAD.pack(start, len(data)) + data for start, data in changes)
    foot = _FOOT.pack(len(record), zlib.crc32(record), _NAME)
    try:
        _write(descriptor, record + foot, max(before, end))
        os.fsync(descriptor)
    except OSError:
        with contextlib.suppress(OSError):
            os.ftruncate(descriptor, before)
        raise
    _make(descriptor, changes, end)


def found(raw: BinaryIO) -> tuple[list[Change], int]:
    """The changes of the record of a file, none if it has none, and where it ends without it."""
    size = raw.seek(0, os.SEEK_END)
    raw.seek(max(0, size - _FOOT.size))
    foot = raw.read(_FOOT.size)
    if len(foot) < _FOOT.size or not foot.endswith(_NAME):
        return [], size
    length, checksum, _ = _FOOT.unpack(foot)
    end = size - _FOOT.size - length
    if end < 0:
        return [], size
    raw.seek(end)
    record = raw.read(length)
    if zlib.crc32(record) != checksum:
        return [], size
    changes, at = [], 0
    while at < length:
        start, count = _HEAD.unpack_from(record, at)
        at += _HEAD.size
        changes.append(Change(start, record[at : at + count]))
        at += count
    return changes, end


def finish(raw: BinaryIO) -> bool:
    """Make the changes of the record, if there is one; whether there was.

    Raises:
        OSError: the disk refuses; the record is still there.
    """
    changes, end = found(raw)
    if changes:
        _make(raw.fileno(), changes, end)
    return bool(changes)


def overlay(buffer: Any, begin: int, changes: Sequence[Change]) -> None:
    """Change what was read of a file, from byte `begin` on, to what it will be."""
    view = memoryview(buffer)
    for start, data in changes:
        low, high = max(start, begin), min(start + len(data), begin + len(view))
        if low < high:
            view[low - begin : high - begin] = data[low - start : high - start]


def _make(descriptor: int, changes: Sequence[Change], end: int) -> None:
    """Make the changes, and only when they are on the disk take the record away."""
    for start, data in changes:
        _write(descriptor, data, start)
    os.fsync(descriptor)
    os.ftruncate(descriptor, end)
    os.fsync(descriptor)


def _write(descriptor: int, data: bytes, start: int) -> None:
    """All of it; a disk that fills up may take a part."""
    rest = memoryview(data)
    while rest:
        done = os.pwrite(descriptor, rest, start)
        rest, start = rest[done:], start + done
