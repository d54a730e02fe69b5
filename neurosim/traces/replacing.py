"""Putting a file in the place of another so that at every moment one of the two is whole."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any


def replace(path: Path, part: Path, content: Any) -> None:
    """Write a file under the name `part`, in the same folder, then give it that of `path`.

    Afterwards the new one is on the disk, whether or not the machine lives. What was renamed before
    it was on the disk could be found empty under the name of what it replaced.

    Raises:
        OSError: the disk refuses; what was there is kept.
    """
    try:
        with open(part, "wb") as raw:
            raw.write(content)
            raw.flush()
            os.fsync(raw.fileno())
        os.replace(part, path)
        _secure_names(path.parent)
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def _secure_names(folder: Path) -> None:
    """What the files of a folder are called is on the disk, where the file system can say so."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
