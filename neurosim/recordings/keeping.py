"""Recordings that survive: a kill leaves a checkpoint, from which they go on to the same bits.

A checkpoint holds all that was computed so far: the state of the simulation with what it has
recorded. The trace is written once, in the end or where a signal stopped it.
"""

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, final

import numpy as np

from neurosim.building.loaded import Loaded
from neurosim.errors import DivergedError, InputError, StoppedError
from neurosim.levels.keeping import Keep
from neurosim.process import caller
from neurosim.process.stopping import Request, delivering, listening
from neurosim.runs.positions import beginning
from neurosim.traces.checkpoint import Checkpoint
from neurosim.traces.liveness import identity
from neurosim.traces.writer import refuse_existing
from neurosim.units import format_time

INTERVAL = 10.0
"""Seconds between two checkpoints, where they are cheap."""

SHARE = 0.02
"""At most this share of the time goes into checkpoints; large states are saved less often."""

ARRAY, TUPLE = "array", "tuple"


@final
class Keeping(Keep):
    """Keeps the state of a recording beside its trace.

    state: to begin with; None at the start. stopped: whether a signal ended it.
    """

    def __init__(
        self, path: Path, origin: Mapping[str, Any], request: Request, saved: Checkpoint | None
    ) -> None:
        self.path, self._origin, self._request = path, origin, request
        self.state = None if saved is None else nested(saved.about["state"], saved.arrays)
        already = 0.0 if saved is None else float(saved.about["wall_s"])
        self._began = time.perf_counter() - already
        self._next = time.perf_counter() + INTERVAL
        self.stopped = False

    @property
    def wall_s(self) -> float:
        """How long it has taken, in all processes."""
        return time.perf_counter() - self._began

    def due(self) -> bool:
        """Whether a state is wanted now."""
        return self._request.signal is not None or time.perf_counter() >= self._next

    def save(self, state: Any) -> bool:
        """Keep a state; whether to go on.

        Raises:
            NeurosimError: the disk refuses.
        """
        began = time.perf_counter()
        arrays: list[np.ndarray] = []
        about = {
            "recording": identity(),
            "origin": dict(self._origin),
            "state": flat(state, arrays),
            "wall_s": self.wall_s,
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        Checkpoint(about, arrays).save(self.path)
        now = time.perf_counter()
        self._next = now + max(INTERVAL, (now - began) / SHARE)
        self.stopped = self._request.signal is not None
        return not self.stopped

    def stop(self, times: np.ndarray, seen: np.ndarray) -> StoppedError:
        """What to say where it was left. seen: a quantity over the times, NaN from there."""
        known = np.isfinite(seen).reshape(-1, len(times)).all(axis=0)
        at = format_time(float(f"{times[known][-1] if known.any() else 0.0:.6g}"))
        return StoppedError(f"stopped at {at} of {format_time(float(f'{times[-1]:.6g}'))}")


@contextmanager
def keeping(
    protocol: Loaded[Any], level: str, path: Path, saved: Checkpoint | None
) -> Iterator[Keeping]:
    """In which a recording is kept, and the first signal stops it in good order.

    saved: where it goes on. What is kept goes when it is done, also where it diverged.
    """
    origin = beginning(protocol, level) if saved is None else saved.about["origin"]
    with (
        delivering() as request,
        listening(request, "stopping; Ctrl-C again stops at once"),
    ):
        keep = Keeping(path, origin, request, saved)
        try:
            yield keep
        except DivergedError:
            Checkpoint.remove(path)
            raise
        except StoppedError as error:
            error.add_note(f"{path} holds all up to there; go on with: neurosim resume {path}")
            raise
        except BaseException as error:
            if Checkpoint.path(path).exists():
                error.add_note(f"go on with: neurosim resume {path}")
            raise
        Checkpoint.remove(path)


def refuse_begun(path: Path, force: bool) -> None:
    """Whether a recording may begin there.

    Raises:
        InputError: something is there that must not be lost.
    """
    refuse_existing(path, force)
    if not os.path.exists(Checkpoint.path(path)):  # of a name that no system takes, neither
        return
    if not force:
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
        InputError: it is damaged, and nothing else is there.
    """
    if not os.path.exists(Checkpoint.path(path)):  # of a name that no system takes, neither
        return None
    try:
        saved = Checkpoint.load(path)
    except InputError:
        if os.path.exists(path):
            return None  # what a run left
        raise
    return saved if "recording" in saved.about else None
