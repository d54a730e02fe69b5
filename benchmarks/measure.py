"""What all benchmarks share: timing that a busy machine disturbs little, and rows of a table."""

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from neurosim.process.compiled import options

FOLDER = Path(__file__).parent
RIVALS = ("torch", "torchdiffeq", "ngclearn", "nest-simulator", "jpc")


class Row(NamedTuple):
    """One measured quantity.

    value: the median over repeats. best: the same from the fastest repeat of everything, which
    other work on the machine disturbs least. limit: what is wanted, as ("<=" or ">=", number).
    repeats: what was measured, one by one, for tests of whether it has changed.
    """

    what: str
    value: float
    unit: str
    best: float | None = None
    limit: tuple[str, float] | None = None
    repeats: tuple[float, ...] = ()

    @property
    def verdict(self) -> str:
        """Whether the limit is met; times are judged by the best repeat, ratios by the median."""
        if self.limit is None:
            return ""
        sign, number = self.limit
        judged = self.value if self.best is None or not self.unit.endswith("s") else self.best
        met = judged <= number if sign == "<=" else judged >= number
        return "met" if met else "missed"


class Absent(NamedTuple):
    """What was not measured, and why."""

    what: str
    why: str


Entry = Row | Absent


def as_in_runs(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function compiled as programs of a run are."""
    return jax.jit(function, compiler_options=options())


def interleaved(calls: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, np.ndarray]:
    """Seconds of every call, (repeats,), taken in turn so that all see the same machine."""
    for call in calls.values():
        jax.block_until_ready(call())
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            began = time.perf_counter()
            jax.block_until_ready(call())
            seconds[name].append(time.perf_counter() - began)
    return {name: np.array(taken) for name, taken in seconds.items()}


def duration(
    what: str, seconds: np.ndarray, unit: str = "ms", limit: tuple[str, float] | None = None
) -> Row:
    """A time as a row."""
    scaled = seconds * {"us": 1e6, "ms": 1e3, "s": 1.0}[unit]
    return Row(what, float(np.median(scaled)), unit, float(scaled.min()), limit, tuple(scaled))


def ratio(
    what: str,
    above: np.ndarray,
    below: np.ndarray,
    unit: str = "x",
    limit: tuple[str, float] | None = None,
) -> Row:
    """A quotient of two interleaved times as a row: the median over rounds, and of the minima."""
    scale = 100.0 if unit == "%" else 1.0
    each = above / below * scale
    best = float(above.min() / below.min()) * scale
    return Row(what, float(np.median(each)), unit, best, limit, tuple(each))


def excess(
    what: str, above: np.ndarray, below: np.ndarray, limit: tuple[str, float] | None = None
) -> Row:
    """By how much one interleaved time exceeds another, in percent of the other, as a row."""
    each = 100 * (above / below - 1)
    best = 100 * (float(above.min() / below.min()) - 1)
    return Row(what, float(np.median(each)), "%", best, limit, tuple(each))


def child(script: str, *arguments: str) -> dict[str, Any]:
    """What a script of this folder prints as JSON in a process of its own."""
    command = [sys.executable, str(FOLDER / script), *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def machine(device: str) -> dict[str, Any]:
    """What the numbers were measured with."""
    ours = ("neurosim", "jax", "jaxlib", "diffrax", "equinox", "optimistix", "numpy", "scipy")
    packages = (*ours, "brian2", *(name for name in RIVALS if _installed(name)))
    return {
        "device": jax.devices(device)[0].device_kind,
        "processor": _processor(),
        "cores": _cores(),
        "platform": platform.platform(terse=True),
        "versions": {"python": platform.python_version()} | {p: version(p) for p in packages},
    }


def moment() -> dict[str, Any]:
    """When a benchmark ran, of which state of the code, and what it had of the machine."""
    git = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=FOLDER, capture_output=True, text=True
    )
    return {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": git.stdout.strip(),
        "load": os.getloadavg()[0],
        "cores": _cores(),
    }


def _installed(name: str) -> bool:
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True


def _cores() -> int:
    """Those that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
