"""The first bytes of an HDF5 file: the mark of its writer, and where the file ends.

HDF5 keeps both in the superblock, under a checksum. A process that was killed leaves the mark
"open for writing" behind, and perhaps bytes past the end that the superblock knows: what they are
is only known to the index that may already point to them. `mend` takes the mark away and moves the
end behind all bytes there are, so that nothing written later can fall on them.
"""

from __future__ import annotations

import os
import struct
from typing import BinaryIO, NamedTuple

SIGNATURE = b"\x89HDF\r\n\x1a\n"
# Signature; version, bytes of an offset, bytes of a length, flags; base, extension, end, root.
_LAYOUT = struct.Struct("<8s4B4Q")
_CHECKSUM = struct.Struct("<I")
_WORD = 0xFFFFFFFF


def marked(raw: BinaryIO) -> bool:
    """Whether the superblock says "open for writing", as its version 3 can."""
    raw.seek(0)
    header = raw.read(12)
    return len(header) == 12 and header[8] >= 3 and header[11] != 0


class Superblock(NamedTuple):
    """A superblock of version 3, which is what files in SWMR mode have."""

    marked: bool
    end: int


def read(raw: BinaryIO) -> Superblock | None:
    """The superblock; None if it is of another version or damaged."""
    raw.seek(0)
    block = raw.read(_LAYOUT.size + _CHECKSUM.size)
    if len(block) < _LAYOUT.size + _CHECKSUM.size:
        return None
    signature, version, offsets, lengths, flags, base, _, end, _ = _LAYOUT.unpack_from(block)
    (checksum,) = _CHECKSUM.unpack_from(block, _LAYOUT.size)
    if (signature, version, offsets, lengths, base) != (SIGNATURE, 3, 8, 8, 0):
        return None
    if lookup3(block[: _LAYOUT.size]) != checksum:
        return None
    return Superblock(flags != 0, end)


def mend(raw: BinaryIO, reach: int = 0) -> None:
    """Clear the mark and put the end behind the last byte; one write within one page.

    A disk that refuses leaves a file that is shorter than HDF5 thinks. In SWMR mode nothing on disk
    points to what was not written, so the end may come nearer as well as go farther. Only a machine
    that loses its power may write what points before what is there: `reach` is how far it points.
    """
    end = raw.seek(0, os.SEEK_END)
    block = ending(raw, max(end, reach))
    if reach > end:
        raw.truncate(reach)
    raw.seek(0)
    raw.write(block)
    raw.flush()


def ending(raw: BinaryIO, end: int) -> bytes:
    """The superblock of a file without the mark, and with another end."""
    raw.seek(0)
    fields = list(_LAYOUT.unpack(raw.read(_LAYOUT.size)))
    fields[4], fields[7] = 0, end
    block = _LAYOUT.pack(*fields)
    return block + _CHECKSUM.pack(lookup3(block))


def _rotated(x: int, k: int) -> int:
    return ((x << k) | (x >> (32 - k))) & _WORD


def lookup3(data: bytes) -> int:
    """Jenkins' hash of 2006, HDF5's checksum of metadata, of a multiple of four bytes."""
    words = list(struct.unpack(f"<{len(data) // 4}I", data))
    a = b = c = (0xDEADBEEF + len(data)) & _WORD
    while len(words) > 3:
        a, b, c = ((x + y) & _WORD for x, y in zip((a, b, c), words, strict=False))
        del words[:3]
        for k in (4, 6, 8, 16, 19, 4):
            a = ((a - c) & _WORD) ^ _rotated(c, k)
            a, b, c = b, (c + b) & _WORD, a
    a, b, c = ((x + y) & _WORD for x, y in zip((a, b, c), [*words, 0, 0, 0], strict=False))
    for k in (14, 11, 25, 16, 4, 14, 24):
        c = ((c ^ b) - _rotated(b, k)) & _WORD
        a, b, c = b, c, a
    return b
