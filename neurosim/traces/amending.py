"""Changing the attributes of a finished file so that a kill or a full disk cannot break it."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from typing import Any, BinaryIO

import h5py

# Newer file formats than this break other readers of the field (libsonata on virtual data).
LIBVER = ("v110", "v110")


def amend(raw: BinaryIO, attributes: Mapping[str, str | float | int]) -> None:
    """Set attributes of the file, which no process may have open for writing."""
    draft = _Draft(raw)
    with h5py.File(draft, "r+", libver=LIBVER) as file:
        file.attrs.update(attributes)
    draft.commit()


class _Draft(io.RawIOBase):
    """A file as HDF5 would change it; `commit` makes the changes, those at its end first.

    HDF5 itself would mark the file as open, and a kill or a full disk could stop it halfway.
    """

    def __init__(self, raw: BinaryIO) -> None:
        self._raw = raw
        self._at = 0
        self._old_end = self._end = raw.seek(0, os.SEEK_END)
        self._changes: list[tuple[int, bytes]] = []

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + (0, self._at, self._end)[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        view, begin = memoryview(buffer), self._at
        self._raw.seek(begin)
        old = self._raw.read(len(view))
        view[:] = old.ljust(len(view), b"\0")
        for start, data in self._changes:
            low, high = max(start, begin), min(start + len(data), begin + len(view))
            if low < high:
                view[low - begin : high - begin] = data[low - start : high - start]
        self._at += len(view)
        return len(view)

    def write(self, data: Any) -> int:
        self._changes.append((self._at, bytes(data)))
        self._at += len(data)
        self._end = max(self._end, self._at)
        return len(data)

    def truncate(self, size: int | None = None) -> int:
        self._end = self._at if size is None else size
        return self._end

    def commit(self) -> None:
        """Write new space, then the superblock, which says how far it goes, then what uses it."""
        self._changes.sort(key=lambda change: (change[0] < self._old_end, change[0] != 0))
        for start, data in self._changes:
            self._raw.seek(start)
            self._raw.write(data)
        self._raw.flush()
