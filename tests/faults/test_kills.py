"""Processes killed at random moments; `killing.py` does the same hundreds of times."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import pytest
from killing import Case

from neurosim.store import Checkpoint, Ledger, describe, repair
from neurosim.store.ledger import contradictions

TESTS = Path(__file__).parents[1]

WRITE = """
import sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
import numpy as np
from small_traces import SOMA, rows, writer
from neurosim.store import Checkpoint
path = Path(sys.argv[1])
trace = writer(path, rows=4000, samples=4, units=40)
print("begun", flush=True)
for n in range(4000):
    trace.write(SOMA, n, rows(n, 4, 40))
    trace.write("traces/presented", n, n)
    if n % 3 == 2:
        trace.flush()
        Checkpoint({"done": n + 1, "ledger": trace.ledger}, [np.arange(n)]).save(path)
"""


def test_blocks_before_the_checkpoint_survive_every_kill(tmp_path):
    """36 kills of a process that does nothing but write; every block is verified."""
    rng = random.Random(0)
    for number in range(36):
        path = tmp_path / f"{number}.h5"
        with subprocess.Popen(
            [sys.executable, "-c", WRITE, path, TESTS], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout.readline() == "begun\n"
            time.sleep(rng.uniform(0, 0.3))
            process.send_signal(signal.SIGKILL)
        if not Checkpoint.path(path).exists():
            continue
        saved = Checkpoint.load(path)
        assert len(saved.arrays[0]) + 1 == saved.about["done"]
        assert describe(path)["status"] == "killed"
        repair(path)
        with h5py.File(path) as file:
            assert list(contradictions(file, Ledger.from_plain(saved.about["ledger"]))) == []
        done = saved.about["done"]
    assert done > 3


@pytest.mark.parametrize("name, kills", [("equilibrium", 5), ("noise", 3)])
def test_runs_killed_again_and_again_lose_nothing(tmp_path, name, kills):
    case = Case(name, tmp_path)
    case.run_whole()
    rng = random.Random(1)
    done = 0
    while done < kills:
        done += case.chain(rng, kills - done)
    assert case.counts["SIGKILL"] >= kills / 2
    for failure in ("chunks lost", "wrong blocks", "unreadable", "not identical"):
        assert case.counts[failure] == 0, case.counts
