"""Changing the attributes of a finished file so that a kill or a full disk cannot break it."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from typing import Any, BinaryIO

import h5py

from neurosim.traces.intent import Change, commit, overlay

# Newer file formats than this break other readers of the field (libsonata on virtual data).
LIBVER = ("v110", "v110")


def amend(raw: BinaryIO, attributes: Mapping[str, str | float | int]) -> None:
    """Set attributes of the file, which no process may have open for writing."""
    draft = _Draft(raw)
    with h5py.File(draft, "r+", libver=LIBVER) as file:
        file.attrs.update(attributes)
    draft.commit()


class _Draft(io.RawIOBase):
    """A file as HDF5 would change it.

    HDF5 itself would mark the file as open, and a kill or a full disk could stop it halfway: the
    attributes of a file lie in several blocks, which do not fit each other before all are written.
    """

    def __init__(self, raw: BinaryIO) -> None:
        self._raw = raw
        self._at = 0
        self._end = raw.seek(0, os.SEEK_END)
        self._changes: list[Change] = []

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
        overlay(view, begin, self._changes)
        self._at += len(view)
        return len(view)

    def write(self, data: Any) -> int:
        self._changes.append(Change(self._at, bytes(data)))
        self._at += len(data)
        self._end = max(self._end, self._at)
        return len(data)

    def truncate(self, size: int | None = None) -> int:
        self._end = self._at if size is None else size
        return self._end

    def commit(self) -> None:
        """Make the changes, all or none of them."""
        commit(self._raw, self._changes, self._end)
