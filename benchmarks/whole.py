"""Whole runs as a user sees them: wall time, compilation, recording, memory."""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from bench import protocol
from measure import Row, child, duration, excess, interleaved

import neurosim as ns

COMMAND = "from neurosim.cli.commands import main; main()"


COLD = {"rate": (12.0, 18.0), "equilibrium": (None, None)}
"""Wanted seconds of the clock and of processors, with nothing kept from earlier processes."""

WARM = {"rate": 5.0, "equilibrium": None}
"""Wanted seconds of the clock, with all programs kept."""


def quickstart(device: str, small: bool = False) -> list[Row]:
    """`neurosim run quickstart` in a process of its own, at both levels, cold and warm."""
    rows = []
    if small:
        arguments = ["--level", "equilibrium", "--set", "stages.0.epochs=1"]
        return [duration("quickstart, an epoch", _commands(arguments, device, 1)[0], "s")]
    for level, wanted in COLD.items():
        limits = [None if seconds is None else ("<=", seconds) for seconds in wanted]
        wall, cpu = _commands(["--level", level], device, repeats=3)
        rows.append(duration(f"quickstart, {level}, cold", wall, "s", limits[0]))
        rows.append(duration(f"quickstart, {level}, cold: processor time", cpu, "s", limits[1]))
        warm = WARM[level]
        limit = None if warm is None else ("<=", warm)
        wall, cpu = _commands(["--level", level], device, repeats=3, kept=True)
        rows.append(duration(f"quickstart, {level}, warm", wall, "s", limit))
        rows.append(duration(f"quickstart, {level}, warm: processor time", cpu, "s"))
    return rows


def variants(device: str, small: bool = False) -> list[Row]:
    """Five values of mu with five seeds each in one script, with nothing kept."""
    began = time.perf_counter()
    child("variants.py", device, *(["1", "1"] if small else []))
    seconds = np.array([time.perf_counter() - began])
    return [duration("5 mu x 5 seeds x 3 epochs, equilibrium, cold", seconds, "s", ("<=", 25.0))]


def shapes(device: str, small: bool = False) -> list[Row]:
    """The most that a process holds over 200 networks of different shapes, by halves of them.

    The most, since memory rises until programs are dropped, and falls.
    """
    held = child("shapes.py", *(("2", device, "bare") if small else ("200", device)))["resident"]
    first, second = max(held[: len(held) // 2]), max(held[len(held) // 2 :])
    grown = Row("growth over the second 100", second - first, "MB", None, ("<=", 50.0))
    return [Row("held over 100 shapes, at most", first, "MB", None), grown]


def recording(device: str, small: bool = False) -> list[Row]:
    """Quickstart as shipped against the same without detailed records.

    Compiled: the second and later runs of one process. From the start: processes of their own.
    """
    rows = []
    limit = ("<=", 10.0)
    with tempfile.TemporaryDirectory() as folder:
        short = {"stages.0.epochs": 1, "level": "equilibrium"} if small else {}
        shipped = protocol("quickstart", short)
        bare = protocol("quickstart", short | {"record.presentations": 0})
        path = Path(folder) / "trace.h5"
        taken = interleaved(
            {
                "shipped": lambda: ns.run(shipped, out=path, force=True, device=device).wall_s,
                "bare": lambda: ns.run(bare, out=path, force=True, device=device).wall_s,
            },
            repeats=1 if small else 5,
        )
    rows.append(duration("quickstart, compiled, as shipped", taken["shipped"], "s"))
    rows.append(duration("quickstart, compiled, nothing in detail", taken["bare"], "s"))
    rows.append(duration("of that an epoch, with its test", taken["bare"] / 30))
    rows.append(excess("recording, compiled", taken["shipped"], taken["bare"], limit))
    if small:
        return rows
    costs: dict[str, list[float]] = {"shipped": [], "bare": []}
    for _ in range(3):
        costs["shipped"].append(_commands([], device, 1)[1][0])
        costs["bare"].append(_commands(["--set", "record.presentations=0"], device, 1)[1][0])
    above, below = np.array(costs["shipped"]), np.array(costs["bare"])
    rows.append(duration("processor time from the start, as shipped", above, "s"))
    rows.append(duration("processor time from the start, nothing in detail", below, "s"))
    rows.append(excess("recording, with its compilation", above, below, limit))
    return rows


def memory(device: str, small: bool = False) -> list[Row]:
    """Peak memory of 50 epochs less that of 5: what a run keeps must not grow with its length."""
    lengths, repeats = ((1, 2), 1) if small else ((5, 50), 3)
    few, many = (
        np.array([child("footprint.py", str(n), device)["peak"] for _ in range(repeats)])
        for n in lengths
    )
    return [
        Row(f"peak of {lengths[0]} epochs", float(np.median(few)), "MB", float(few.min())),
        Row(f"peak of {lengths[1]} epochs", float(np.median(many)), "MB", float(many.min())),
        Row(
            f"growth over {lengths[1] - lengths[0]} epochs",
            float(np.median(many) - np.median(few)),
            "MB",
            None,
            ("<=", 5.0),
        ),
    ]


def compilation(device: str, small: bool = False) -> list[Row]:
    """Processor seconds before the first presentation, of tracing and of compiling.

    The clock is not used: compiling keeps one core busy, and others may be taken.
    """
    rows = []
    cases = {
        "quickstart, rate": ("quickstart", {}),
        "quickstart, equilibrium": ("quickstart", {"level": "equilibrium"}),
        "quickstart, equilibrium, no rescue": (
            "quickstart",
            {"level": "equilibrium", "equilibrium.max_newton": 0},
        ),
        "multiplexing-digits, rate": ("multiplexing-digits", {}),
        "backprop-digits": ("backprop-digits", {}),
    }
    for title, (name, changes) in list(cases.items())[-1 if small else 0 :]:
        given = name, json.dumps(changes), device
        rounds = [child("compiling.py", *given) for _ in range(1 if small else 3)]
        total = np.zeros(len(rounds))
        for part, steps in rounds[0].items():
            for step in steps:
                cpu = np.array([r[part][step]["cpu"] for r in rounds])
                total += cpu
                label = part if step == "total" else f"{step} {part}"
                rows.append(duration(f"{title}: {label}", cpu, "s"))
        rows.append(duration(f"{title}: all", total, "s"))
    return rows


def _commands(
    arguments: list[str], device: str, repeats: int, kept: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Wall and processor seconds of `neurosim run quickstart` with these arguments.

    kept: with the compiled programs of a run before.
    """
    wall, cpu = [], []
    with tempfile.TemporaryDirectory() as folder:
        trace, cache = str(Path(folder) / "trace.h5"), str(Path(folder) / "cache")
        command = ["run", "quickstart", "--out", trace, "--force", "--device", device, *arguments]
        own = {"JAX_ENABLE_COMPILATION_CACHE": "true", "NEUROSIM_CACHE": cache}
        environment = os.environ | (own if kept else {"NEUROSIM_CACHE": "off"})
        for number in range(repeats + kept):
            before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
            process = [sys.executable, "-c", COMMAND, *command]
            subprocess.run(process, check=True, capture_output=True, env=environment)
            if kept and number == 0:
                continue
            wall.append(time.perf_counter() - began)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            cpu.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return np.array(wall), np.array(cpu)
