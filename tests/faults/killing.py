"""Kills real runs at random moments, resumes them, and counts what was lost.

From the root:   python tests/faults/killing.py --kills 300

A victim is a process that runs a tiny protocol in chunks of a few milliseconds and says after every
chunk how far it is. It is killed, mostly by SIGKILL; what is left is verified; another process
resumes it and is killed in turn, until one comes to the end. Then every dataset must be, bit for
bit, that of a run without a break.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import h5py
import numpy as np
from tiny_runs import SLEEP, TINY, differing

from neurosim.errors import InputError
from neurosim.traces import superblock
from neurosim.traces.checkpoint import Checkpoint
from neurosim.traces.ledger import Ledger, contradictions
from neurosim.traces.reader import describe
from neurosim.traces.repairing import repair

LONGER = {"stages.0.presentations": 100, "record.presentations": 12}
"""Enough for about a hundred chunks, with recordings throughout."""

CASES = {
    "equilibrium": ({"level": "equilibrium"}, "", [0]),
    "ensemble with sleep": ({"level": "equilibrium"}, SLEEP, [0, 1, 2]),
    "rate": ({"model.forward.optimizer": "adam"}, "", [0]),
    "adaptive": ({"rate.adaptive": True, "rate.scheme": "tsit5"}, "", [0, 1]),
    "noise": ({"model.noise": {"soma": 0.05}}, "", [0]),
    "online": (
        {
            "plasticity": "online",
            "model.tau_memory": "20 ms",
            "model.forward.rate": "0.1 Hz",
            "model.feedback": {"init": "exact-inverse", "rule": "tied"},
            "stages.0.phases.0.plastic": [],
        },
        "",
        [0, 1],
    ),
    "spiking": (
        {
            "level": "spiking",
            "spiking.pace": 0.1,  # or its three neurons a unit are too noisy to learn from
            "stages.0.presentations": 40,
            "model.spiking.neurons": 3,
            "spiking.target": "numpy",
            "spiking.dt": "1 ms",
            "spiking.window": "20 ms",
            "stages.0.phases.0.duration": "30 ms",
            "stages.0.phases.1.duration": "30 ms",
            "record.every": "10 ms",
        },
        "",
        [0],
    ),
}
"""Changes to the tiny protocol, more stages of it, seeds."""

VICTIM = """
import json, sys
import neurosim as ns
import neurosim.runs.loop
neurosim.runs.loop.CHUNK_SECONDS = 0.005
say = lambda progress: print(progress.done, flush=True)
file, changes, seeds, trace, resume = json.loads(sys.argv[1])
import typer
from neurosim.cli import commands
try:
    with commands.Output(False):
        if resume:
            ns.resume(trace, progress=say)
        else:
            protocol = ns.load_protocol(file, changes)
            print(0, flush=True)
            ns.run(protocol, out=trace, seeds=seeds, force=True, progress=say)
except typer.Exit as end:
    sys.exit(end.exit_code)
"""

SIGNALS = {-signal.SIGKILL: signal.SIGKILL, 75: signal.SIGTERM, 130: signal.SIGINT}
"""The exit codes that signals end a run with, and those signals."""


WRITER = """
import sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
import numpy as np
from small_traces import SOMA, rows, writer
from neurosim.traces.checkpoint import Checkpoint
path = Path(sys.argv[1])
trace = writer(path, rows=4000, samples=4, units=40)
print("begun", flush=True)
for n in range(4000):
    trace.write(SOMA, n, rows(n, 4, 40))
    trace.write("traces/presented", n, n)
    if n % 3 == 2:
        trace.flush()
        Checkpoint({"done": n + 1, "ledger": trace.ledger}, [np.arange(n + 1)]).save(path)
"""


def kill_writers(kills: int, rng: random.Random, folder: Path) -> Counter[str]:
    """Kill processes that do nothing but write; verify all that their checkpoints vouch for."""
    counts: Counter[str] = Counter()
    path = folder / "written.h5"
    for _ in range(kills):
        for old in (path, Checkpoint.path(path)):
            old.unlink(missing_ok=True)
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, path, Path(__file__).parents[1]],
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            process.stdout.readline()
            time.sleep(rng.uniform(0, 0.5))
            process.kill()
        counts["kills"] += 1
        with open(path, "rb") as raw:
            block = superblock.read(raw)
            counts["longer than the superblock says"] += block.end < path.stat().st_size
        try:
            describe(path)
            repair(path)
        except InputError as error:
            print(f"unreadable: {error}", file=sys.stderr)
            counts["unreadable"] += 1
            continue
        if not Checkpoint.path(path).exists():
            continue
        saved = Checkpoint.load(path)
        ledger = Ledger.from_plain(saved.about["ledger"])
        with h5py.File(path) as file:
            wrong = list(contradictions(file, ledger))
        wrong += [] if len(saved.arrays[0]) == saved.about["done"] else ["checkpoint"]
        counts["verified"] += 1
        counts["wrong blocks"] += len(wrong)
    return counts


class Case:
    """A protocol, its run without a break, and the runs that are killed."""

    def __init__(self, name: str, folder: Path, longer=LONGER) -> None:
        changes, more, seeds = CASES[name]
        self.name, self.folder = name, folder
        folder.mkdir(parents=True, exist_ok=True)
        self.file = folder / "tiny.toml"
        self.file.write_text(TINY.replace("[record]", more + "[record]"))
        self.changes, self.seeds = {**longer, **changes}, seeds
        self.whole, self.trace = folder / "whole.h5", folder / "killed.h5"
        self.run_s = 0.0
        self.counts: Counter[str] = Counter()

    def start(self, trace: Path, resume: bool, first: str = "", *more: str) -> subprocess.Popen:
        """A victim; it runs the code `first` before all else, with arguments `more`."""
        job = [str(self.file), self.changes, self.seeds, str(trace), resume]
        return subprocess.Popen(
            [sys.executable, "-c", first + VICTIM, json.dumps(job), *more],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run_whole(self) -> None:
        """The run without a break; how long one takes from its first chunk to its end."""
        process = self.start(self.whole, False)
        began = self._first_chunk(process)[1]
        _, errors = process.communicate(timeout=600)
        self.run_s = time.monotonic() - began
        assert process.returncode == 0, errors

    def _first_chunk(self, process: subprocess.Popen) -> tuple[str, float]:
        """What a process said up to its first chunk, and when that was."""
        said = ""
        for line in process.stdout:
            said += line
            if line != "0\n":
                break
        return said, time.monotonic()

    def chain(self, rng: random.Random, kills: int) -> int:
        """Start, kill, resume, kill … until a process comes to its end; how many were killed.

        After `kills` of them, the next is let live.
        """
        for path in (self.trace, Checkpoint.path(self.trace)):
            path.unlink(missing_ok=True)
        done = 0
        while True:
            resume = Checkpoint.path(self.trace).exists()
            if self._complete():
                if resume:  # resuming it is refused, and tidies up
                    assert self.start(self.trace, True).wait(timeout=600) == 2
                self.counts["killed after the end"] += 1
                self._compare()
                return done
            process = self.start(self.trace, resume)
            first = self._end(process, rng) if done < kills else ""
            said, errors = process.communicate(timeout=600)
            if process.returncode == 0:
                self.counts["runs"] += 1
                self._compare()
                return done
            number = SIGNALS.get(process.returncode)
            if process.returncode == -signal.SIGTERM and not self._running():
                number = signal.SIGTERM  # the run had not begun, or was over
            if number is None:
                raise AssertionError(f"exit {process.returncode}: {errors}")
            done += 1
            self.counts[f"{signal.Signals(number).name}"] += 1
            self._verify(number, [int(line) for line in (first + said).split()])

    def _compare(self) -> None:
        """Look at what is there in the end."""
        self.counts["not identical"] += bool(differing(self.whole, self.trace))
        kept = {self.file, self.whole, self.trace, self.folder / "copy.h5"}
        self.counts["files left behind"] += len(set(self.folder.iterdir()) - kept)

    def _complete(self) -> bool:
        return self.trace.exists() and describe(self.trace)["status"] == "complete"

    def _running(self) -> bool:
        return self.trace.exists() and not self._complete()

    def _end(self, process: subprocess.Popen, rng: random.Random) -> str:
        """Kill a process before its first chunk, or later; what it said up to then."""
        number = rng.choices(list(SIGNALS.values()), [8, 1, 1])[0]
        early = rng.random() < 0.2  # while the trace is made and things are compiled
        said = process.stdout.readline() if early else self._first_chunk(process)[0]
        time.sleep(rng.uniform(0, self.run_s))
        process.send_signal(number)
        return said

    def _verify(self, number: int, said: list[int]) -> None:
        """Look at what a dead process left."""
        if not self.trace.exists():
            self.counts["before the trace"] += 1
            return
        copy = self.folder / "copy.h5"
        shutil.copy(self.trace, copy)
        try:
            describe(self.trace)
            repair(copy, {"status": "interrupted"})
            with h5py.File(copy) as file, h5py.File(self.whole) as whole:
                promised = max(said, default=0)
                found = sound_rows(file, whole, "metrics/loss")
                self.counts["chunks lost"] += found < promised
                self.counts["wrong blocks"] += sum(
                    not plausible(file[name][()], whole[name][()]) for name in variables(whole)
                )
        except (InputError, OSError) as error:
            print(f"unreadable: {error}", file=sys.stderr)
            self.counts["unreadable"] += 1
        if not Checkpoint.path(self.trace).exists() and not self._complete():
            self.counts["before the first checkpoint"] += 1


def variables(file: h5py.File) -> list[str]:
    """All arrays of a run that are filled as it goes."""
    found: list[str] = []

    def visit(name, item):
        numeric = isinstance(item, h5py.Dataset) and item.dtype.kind == "f"
        if numeric and not item.is_scale and not name.startswith("spikes"):
            found.append(name)

    file.visititems(visit)
    return found


def plausible(found: np.ndarray, whole: np.ndarray) -> bool:
    """Whether every number is that of the whole run, or was not written yet."""
    return bool((np.isnan(found) | (found == whole)).all())


def sound_rows(file: h5py.File, whole: h5py.File, name: str) -> int:
    """How many rows from the first on are, bit for bit, those of the whole run."""
    a, b = (np.asarray(f[name]).reshape(f[name].shape[0], -1) for f in (file, whole))
    equal = [x.tobytes() == y.tobytes() for x, y in zip(a, b, strict=True)]
    return equal.index(False) if False in equal else len(equal)


def main() -> None:
    """Kill so many runs and print what was lost."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=300, help="of writers, and of runs")
    parser.add_argument("--chain", type=int, default=6, help="kills of one run, at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=Path("outputs/faults"))
    parser.add_argument("--cases", nargs="*", default=list(CASES), help=", ".join(CASES))
    given = parser.parse_args()
    rng = random.Random(given.seed)
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(given.folder.absolute() / "jax"))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")
    given.folder.mkdir(parents=True, exist_ok=True)
    print(f"writers: {dict(kill_writers(given.kills, rng, given.folder))}", flush=True)
    total: Counter[str] = Counter()
    for name in given.cases:
        case = Case(name, given.folder / name.replace(" ", "-"))
        case.run_whole()
        case.run_whole()  # now that everything is compiled, to know how long it takes
        done = 0
        while done < given.kills / len(given.cases):
            done += case.chain(rng, given.chain)
        print(f"{name}: {dict(case.counts)}", flush=True)
        total += case.counts
    print(json.dumps(total))


if __name__ == "__main__":
    main()
