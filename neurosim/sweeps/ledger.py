"""The folder of a sweep: a trace and a record for every point, called by what the point is."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import filelock

from neurosim.errors import InputError, NeurosimError
from neurosim.process import caller
from neurosim.traces.naming import expanded

State = Literal["finished", "failed", "lost"]
"""Of a point: done; done, and every seed diverged; given up, to be taken up by the next sweep."""

ABOUT, POINTS, LOG, LOCK = "sweep.json", "points", "workers.log", ".lock"


class Ledger:
    """What is known of the points of a sweep, by their digests."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        """Raises: InputError where something else is there, or nothing can be."""
        self.folder = Path(os.path.abspath(expanded(folder)))
        try:
            there = set(os.listdir(self.folder)) - {LOCK}
        except FileNotFoundError:
            there = set()
        except OSError as error:
            raise InputError(f"{folder}: cannot hold a sweep: {error.strerror}") from None
        if there and ABOUT not in there:
            raise InputError(
                f"{folder}: holds {sorted(there)[0]} and no sweep; "
                f"give another {caller.option('out', 'FOLDER')}"
            )

    def trace(self, digest: str) -> Path:
        """Where the trace of a point is."""
        return self.folder / POINTS / f"{digest}.h5"

    def record(self, digest: str) -> dict[str, Any] | None:
        """What came of a point; None where that is not known, or its trace has gone."""
        try:
            found = json.loads(self._record(digest).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        done = isinstance(found, dict) and found.get("state") in ("finished", "failed")
        return found if done and os.path.isfile(self.trace(digest)) else None

    def note(self, digest: str, record: Mapping[str, Any]) -> None:
        """What came of a point."""
        self._write(self._record(digest), record)

    @contextmanager
    def kept(self, about: Mapping[str, Any]) -> Iterator[None]:
        """In which this process alone sweeps in the folder. about: what the sweep is.

        Raises:
            InputError: another does, or nothing can be written there.
        """
        try:
            (self.folder / POINTS).mkdir(parents=True, exist_ok=True)
            with filelock.FileLock(self.folder / LOCK, blocking=False):
                self._write(self.folder / ABOUT, about)
                yield
        except filelock.Timeout:
            raise InputError(
                f"{self.folder}: another process sweeps there; wait for it, or give another "
                f"{caller.option('out', 'FOLDER')}"
            ) from None
        except OSError as error:
            if error.filename is None:
                raise
            raise InputError(f"{self.folder}: cannot be written there: {error.strerror}") from error

    def _record(self, digest: str) -> Path:
        return self.trace(digest).with_suffix(".json")

    def _write(self, path: Path, data: Mapping[str, Any]) -> None:
        """As a whole, in place of what is there."""
        part = path.with_name(f".{path.name}.part")
        try:
            part.write_text(json.dumps(data, indent=1, allow_nan=False), encoding="utf-8")
            os.replace(part, path)
        except OSError as error:
            if path.name == ABOUT:
                raise
            raise NeurosimError(f"{path}: cannot be written: {error.strerror}") from error
