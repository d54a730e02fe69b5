"""Contestants in processes of their own that take turns, so that all see the same machine."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np
from measure import FOLDER

RIVALS = FOLDER / "rivals"

INTERPRETERS: dict[str, str] = {}
"""The Python that runs a rival's scripts, where it is not this one; `--python NAME=PATH`."""

WORKAROUNDS = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
"""What some machines set for old libraries, and what slows a current NumPy."""


class AbsentError(Exception):
    """A rival that is not here; says why."""


class GateError(Exception):
    """A side that is not accurate enough to be timed; says how far off it is."""


class Taken(NamedTuple):
    """What a contestant took.

    start: s from the start of its process until it was ready, imports and all. first: s of its
    first run, with whatever it compiles. seconds, processors: of the later runs, by the clock and
    by the processors, (repeats,). peak: MB of its process at the end. solution: what it found.
    """

    start: float
    first: float
    seconds: np.ndarray
    processors: np.ndarray
    peak: float
    solution: dict[str, np.ndarray]


class Contestant:
    """A script of `rivals/` with a problem, in a process that waits to be asked."""

    def __init__(self, script: str, problem: Path) -> None:
        began = time.perf_counter()
        self.complaints = tempfile.TemporaryFile("w+")  # noqa: SIM115, it lives as long as the process
        self.process = subprocess.Popen(
            [interpreter(script), str(RIVALS / f"{script}.py"), str(problem)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.complaints,
            text=True,
            env=surroundings(),
        )
        try:
            self._answer()
        except BaseException:
            self.close()
            raise
        self.start = time.perf_counter() - began

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()

    def run(self, keep: Path | None = None) -> dict[str, Any]:
        """Solve once. keep: where the solution goes."""
        assert self.process.stdin is not None
        print(keep or "", file=self.process.stdin, flush=True)
        answer = self._answer()
        if keep is not None:
            self._answer()
        return answer

    def close(self) -> None:
        """End the process."""
        for stream in (self.process.stdin, self.process.stdout, self.complaints):
            if stream is not None:
                stream.close()
        self.process.wait(timeout=60)

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if not line.startswith("{"):
                continue  # what a library says of itself
            answer = json.loads(line)
            if "absent" in answer:
                raise AbsentError(answer["absent"])
            return answer
        self.complaints.seek(0)
        raise RuntimeError(self.complaints.read()[-2000:])


def interpreter(script: str) -> str:
    """Which Python runs a script, by the name of the rival at its end."""
    return INTERPRETERS.get(script.rpartition("_")[2], sys.executable)


def surroundings() -> dict[str, str]:
    """The environment of a contestant: no workarounds, and nothing compiled before, but to try."""
    kept = {name: value for name, value in os.environ.items() if name not in WORKAROUNDS}
    return {"JAX_ENABLE_COMPILATION_CACHE": "false"} | kept | {"NEUROSIM_CACHE": "off"}


def solved(script: str, problem: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """What one contestant finds, once."""
    with tempfile.TemporaryDirectory() as folder:
        told, found = Path(folder) / "problem.npz", Path(folder) / "found.npz"
        np.savez(told, **problem)
        with Contestant(script, told) as contestant:
            contestant.run(found)
        return _read(found)


def raced(
    sides: Mapping[str, tuple[str, Mapping[str, Any]]], repeats: int
) -> tuple[dict[str, Taken], dict[str, str]]:
    """All of them in turns, round after round. sides: the script of each, and its problem.

    Returns what each took, and why some are not here.
    """
    first, found, peak, absent = {}, {}, {}, {}
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    processors: dict[str, list[float]] = {name: [] for name in sides}
    there: dict[str, Contestant] = {}
    with tempfile.TemporaryDirectory() as folder:
        told, kept = Path(folder) / "problem.npz", Path(folder) / "found.npz"
        try:
            for name, (script, problem) in sides.items():
                np.savez(told, **problem)
                try:
                    there[name] = Contestant(script, told)
                except AbsentError as error:
                    absent[name] = str(error)
                    continue
                first[name] = there[name].run(kept)["seconds"]
                found[name] = _read(kept)
            for _ in range(repeats):
                for name, contestant in there.items():
                    answer = contestant.run()
                    seconds[name].append(answer["seconds"])
                    processors[name].append(answer["processors"])
                    peak[name] = answer["peak"]
        finally:
            for contestant in there.values():
                contestant.close()
    taken = {
        name: Taken(
            contestant.start,
            first[name],
            np.array(seconds[name]),
            np.array(processors[name]),
            peak[name],
            found[name],
        )
        for name, contestant in there.items()
    }
    return taken, absent


def _read(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as found:
        return dict(found)
