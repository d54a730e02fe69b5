"""Recordings that survive: a kill leaves a checkpoint, from which they go on to the same bits.

A checkpoint holds all that was computed so far: the state of the simulation with what it has
recorded, at first none. The trace is written once, in the end or where a signal stopped it.
"""

import contextlib
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, final

import numpy as np

from neurosim.building.loaded import Loaded
from neurosim.errors import DivergedError, InputError, NeurosimError, StoppedError
from neurosim.levels.keeping import Keep
from neurosim.process import caller
from neurosim.process.stopping import Request, delivering, listening
from neurosim.runs.positions import beginning
from neurosim.traces.checkpoint import Checkpoint
from neurosim.traces.liveness import alive, identity
from neurosim.traces.writer import Status, refuse_existing
from neurosim.units import format_time

INTERVAL = 10.0
"""Seconds between two checkpoints, where they are cheap."""

SHARE = 0.02
"""At most this share of the time goes into checkpoints; large states are saved less often."""

ARRAY, TUPLE = "array", "tuple"


@final
class Keeping(Keep):
    """Keeps the state of a recording beside its trace.

    state: to begin with; None at the start. at: of which time it is (s). stopped: whether a signal
    ended it. resumed: of every time that it was taken up, at which of its times and when that was,
    and what was no longer what it had been.
    """

    def __init__(
        self,
        path: Path,
        origin: Mapping[str, Any],
        request: Request,
        saved: Checkpoint | None,
        differing: Sequence[str],
    ) -> None:
        self.path, self._origin, self._request = path, origin, request
        self.at, self.stopped = 0.0, False
        self.resumed: list[dict[str, Any]] = []
        self._began = time.perf_counter()
        if saved is not None:
            about = saved.about
            self.state, self.at = nested(about["state"], saved.arrays), float(about["at"])
            self._began -= float(about["wall_s"])
            entry = {"time_ms": self.at * 1e3} | resumed_now(differing)
            self.resumed = [*about["resumed"], entry]
        self._next = time.perf_counter() + INTERVAL

    @property
    def wall_s(self) -> float:
        """How long it has taken, in all processes."""
        return time.perf_counter() - self._began

    @property
    def status(self) -> Status:
        """Of the trace."""
        return "interrupted" if self.stopped else "complete"

    @property
    def attributes(self) -> dict[str, str]:
        """What the trace says of being resumed."""
        return {"resumed": json.dumps(self.resumed)} if self.resumed else {}

    def due(self) -> bool:
        """Whether a state is wanted now."""
        return self._request.signal is not None or time.perf_counter() >= self._next

    def begin(self) -> None:
        """Say that this process records, from the state that it begins with.

        Raises:
            InputError: the disk refuses.
        """
        try:
            self._keep()
        except NeurosimError as error:
            reason = getattr(error.__cause__, "strerror", None) or error
            raise InputError(f"{self.path}: cannot be written: {reason}") from error

    def save(self, state: Any, at: float) -> bool:
        """Keep a state; whether to go on.

        Raises:
            NeurosimError: the disk refuses.
        """
        began = time.perf_counter()
        self.state, self.at = state, float(at)
        self.stopped = self._request.signal is not None
        self._keep()
        now = time.perf_counter()
        self._next = now + max(INTERVAL, (now - began) / SHARE)
        return not self.stopped

    def _keep(self) -> None:
        arrays: list[np.ndarray] = []
        about = {
            "recording": identity() | {"ended": self.stopped},
            "origin": dict(self._origin),
            "state": flat(self.state, arrays),
            "at": self.at,
            "resumed": self.resumed,
            "wall_s": self.wall_s,
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        Checkpoint(about, arrays).save(self.path)

    def stop(self, duration: float) -> StoppedError:
        """What to say where it was left."""
        at, whole = (format_time(float(f"{time:.6g}")) for time in (self.at, duration))
        return StoppedError(f"stopped at {at} of {whole}")


def resumed_now(differing: Sequence[str]) -> dict[str, Any]:
    """When something is taken up, and what is no longer what it was."""
    when = {"at": datetime.now(UTC).isoformat(timespec="seconds")}
    return when | ({"differing": list(differing)} if differing else {})


@contextmanager
def keeping(
    protocol: Loaded[Any],
    level: str,
    path: Path,
    saved: Checkpoint | None,
    differing: Sequence[str],
) -> Iterator[Keeping]:
    """In which a recording is kept, and the first signal stops it in good order.

    saved: where it goes on, and differing: what is no longer what it was. What is kept goes when it
    is done, also where it diverged, or failed before there was anything to go on with.
    """
    origin = beginning(protocol, level) if saved is None else saved.about["origin"]
    with (
        delivering() as request,
        listening(request, "stopping; Ctrl-C again stops at once"),
    ):
        keep = Keeping(path, origin, request, saved, differing)
        keep.begin()
        try:
            yield keep
        except DivergedError:
            Checkpoint.remove(path)
            raise
        except StoppedError as error:
            error.add_note(f"{path} holds all up to there; go on with: neurosim resume {path}")
            raise
        except (Exception, KeyboardInterrupt) as error:
            if keep.state is None:
                Checkpoint.remove(path)
            else:
                error.add_note(f"go on with: neurosim resume {path}")
            raise
        Checkpoint.remove(path)


def refuse_begun(path: Path, force: bool) -> None:
    """Whether a recording may begin there.

    Raises:
        InputError: something is there that must not be lost, or a process is recording it.
    """
    refuse_existing(path, force)
    if not os.path.exists(Checkpoint.path(path)):  # of a name that no system takes, neither
        return
    saved = None
    with contextlib.suppress(InputError):
        saved = checkpoint_of(path)
    writer = {} if saved is None else saved.about["recording"]
    if writer.get("pid") != os.getpid() and alive(writer):
        raise InputError(
            f"{path}: process {writer['pid']} is recording it; stop that, or give "
            f"{caller.option('out', 'FILE')}"
        )
    nothing = saved is not None and saved.about["state"] is None
    if not force and not nothing:
        raise InputError(
            f"{path}: its recording was stopped on the way; neurosim resume {path} goes on with "
            f"it, {caller.option('force')} begins anew"
        )
    Checkpoint.remove(path)


def flat(value: Any, arrays: list[np.ndarray]) -> Any:
    """Nested values as plain data that names the arrays in it by number, which are appended."""
    if isinstance(value, np.ndarray):
        arrays.append(value)
        return {ARRAY: len(arrays) - 1}
    if isinstance(value, Mapping):
        return {"items": {str(key): flat(of, arrays) for key, of in value.items()}}
    if isinstance(value, tuple):
        return {TUPLE: [flat(of, arrays) for of in value]}
    if isinstance(value, list):
        return [flat(of, arrays) for of in value]
    return value.item() if isinstance(value, np.generic) else value


def nested(value: Any, arrays: Any) -> Any:
    """The same again."""
    if isinstance(value, list):
        return [nested(of, arrays) for of in value]
    if not isinstance(value, dict):
        return value
    if ARRAY in value:
        return np.array(arrays[value[ARRAY]])
    if TUPLE in value:
        return tuple(nested(of, arrays) for of in value[TUPLE])
    return {key: nested(of, arrays) for key, of in value["items"].items()}


def checkpoint_of(path: Path) -> Checkpoint | None:
    """What a recording left; None where none did.

    Raises:
        InputError: it is damaged, or of another version, and nothing else is there.
    """
    if not os.path.exists(Checkpoint.path(path)):  # of a name that no system takes, neither
        return None
    try:
        saved = Checkpoint.load(path)
    except InputError:
        if os.path.exists(path):
            return None  # what a run left
        raise
    if "recording" not in saved.about:
        return None
    if missing := {"origin", "state", "at", "resumed", "wall_s"} - saved.about.keys():
        raise InputError(
            f"{Checkpoint.path(path)}: is no checkpoint of this version: it lacks "
            f"{', '.join(sorted(missing))}; begin anew with {caller.option('force')}"
        )
    return saved
