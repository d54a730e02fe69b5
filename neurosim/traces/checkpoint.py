"""What a run needs to go on: its state at a chunk boundary, in a file beside the trace.

The file is an .npz of plain arrays, each with the checksum of its bytes. It is replaced as a whole:
a kill or a loss of power at any moment leaves the new one or the one before.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from neurosim.archives import read_arrays
from neurosim.errors import InputError, NeurosimError
from neurosim.traces.replacing import replace

ABOUT = "about"


@dataclass(frozen=True)
class Checkpoint:
    """A state: plain data about it, and its arrays in their order."""

    about: Mapping[str, Any]
    arrays: Sequence[np.ndarray]

    @staticmethod
    def path(trace: Path) -> Path:
        """Where the checkpoint of a trace lies."""
        return trace.with_name(f"{trace.name}.checkpoint")

    @staticmethod
    def remove(trace: Path) -> None:
        """Delete the checkpoint of a trace, if there is one, whole or half-written.

        Raises:
            NeurosimError: it cannot be deleted.
        """
        path = Checkpoint.path(trace)
        try:
            _part(path).unlink(missing_ok=True)
            path.unlink(missing_ok=True)
        except OSError as error:
            raise NeurosimError(
                f"{path}: cannot be written any more, nor deleted: {error.strerror}; delete it "
                f"yourself: it does not belong to {trace} as that is now"
            ) from error

    def save(self, trace: Path) -> None:
        """Write it beside its trace, in place of the one before.

        Raises:
            NeurosimError: the disk refuses; the one before is kept.
        """
        path = self.path(trace)
        about = np.frombuffer(json.dumps(self.about).encode(), np.uint8)
        numbered = {str(n): array for n, array in enumerate(self.arrays)}
        image = io.BytesIO()
        np.savez(image, allow_pickle=False, **{ABOUT: about}, **numbered)
        try:
            replace(path, _part(path), image.getbuffer())
        except OSError as error:
            raise NeurosimError(
                f"{path}: cannot be written any more: {error.strerror}; "
                f"{trace} holds all up to there"
            ) from error

    @classmethod
    def load(cls, trace: Path) -> Checkpoint:
        """The checkpoint beside a trace.

        Raises:
            InputError: there is none, or it is damaged.
        """
        path = cls.path(trace)
        arrays = read_arrays(path)
        try:
            about = json.loads(arrays.pop(ABOUT).tobytes())
            return cls(about, [arrays[str(n)] for n in range(len(arrays))])
        except (KeyError, ValueError) as error:
            raise InputError(f"{path}: is no checkpoint of a run ({error})") from None


def _part(path: Path) -> Path:
    """The file that is to replace a checkpoint, while it is written: a trace has one writer."""
    return path.with_name(f".{path.name}.part")
