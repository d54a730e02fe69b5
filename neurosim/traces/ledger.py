"""What has been written to a trace, so that it can be verified: rows and checksums by variable."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import h5py
import numpy as np

BLOCK_BYTES = 2**22


class Entry(NamedTuple):
    """So many rows, counted along the first dimension, and the CRC-32 of their bytes."""

    rows: int
    checksum: int


class Ledger(dict[str, Entry | None]):
    """Entries by path; None for a variable that was not written row by row from the first on."""

    def note(self, path: str, start: int, rows: np.ndarray) -> None:
        """`rows` were written from row `start` on."""
        entry = self.get(path, Entry(0, 0))
        if entry is not None:
            after = Entry(start + len(rows), crc(rows, entry.checksum))
            self[path] = after if start == entry.rows else None

    def copy(self) -> Ledger:
        """Another with the same entries."""
        return Ledger(self)

    @classmethod
    def from_plain(cls, entries: Mapping[str, Sequence[int] | None]) -> Ledger:
        """From what JSON made of one."""
        return cls({path: Entry(*entry) if entry else None for path, entry in entries.items()})


def crc(array: np.ndarray, before: int = 0) -> int:
    """The CRC-32 of an array's bytes, appended to those of checksum `before`."""
    return zlib.crc32(np.ascontiguousarray(array).data.cast("B"), before) if array.size else before


def contradictions(file: h5py.File, ledger: Ledger) -> Iterator[str]:
    """Where the file does not hold what the ledger says was written: a line for each variable."""
    for path, entry in ledger.items():
        if entry is None or not entry.rows:
            continue
        dataset = file.get(path)
        if not isinstance(dataset, h5py.Dataset):
            yield f"{path}: is missing"
        elif (dataset.shape or (1,))[0] < entry.rows:
            yield f"{path}: {dataset.shape[0]} rows of the {entry.rows} that were written"
        elif _checksum(dataset, entry.rows) != entry.checksum:
            yield f"{path}: its first {entry.rows} rows are not those that were written"


def _checksum(dataset: h5py.Dataset, rows: int) -> int:
    if not dataset.shape:
        return crc(dataset[()])
    size = max(1, dataset.nbytes // max(1, dataset.shape[0]))
    step = max(1, BLOCK_BYTES // size)
    checksum = 0
    for start in range(0, rows, step):
        checksum = crc(dataset[start : min(start + step, rows)], checksum)
    return checksum
