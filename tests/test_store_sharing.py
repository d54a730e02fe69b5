"""A trace that is open here may be opened by others, in every way they like, and resumed."""

import copy
import fcntl
import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray as xr
from small_traces import SOMA, layout, rows, writer

from neurosim.errors import InputError
from neurosim.traces.amending import amend
from neurosim.traces.reader import describe, open_trace
from neurosim.traces.repairing import repair
from neurosim.traces.writer import TraceWriter

WRITER = """
import sys
sys.path.insert(0, sys.argv[2])
from small_traces import SOMA, rows, writer
trace = writer(sys.argv[1], rows=4000, samples=4, units=40)
for end in (20, 2000):
    for n in range(end - 20, end):
        trace.write(SOMA, n, rows(n, 4, 40))
    trace.flush()
    print(end, flush=True)
    sys.stdin.readline()
trace.close("complete")
"""

OPENERS = {
    "h5py": lambda path: h5py.File(path)[SOMA],
    "h5py without locks": lambda path: h5py.File(path, locking=False)[SOMA],
    "xarray": lambda path: xr.open_datatree(path, engine="h5netcdf")[SOMA],
    "a group in xarray": lambda path: (
        xr.open_dataset(path, engine="h5netcdf", group="traces") and h5py.File(path)[SOMA]
    ),
    "neurosim": lambda path: open_trace(path)[SOMA],
}
"""Ways to open a trace, each as it comes by default."""


@pytest.fixture
def finished(tmp_path):
    path = tmp_path / "finished.h5"
    with writer(path) as trace:
        for n in range(4):
            trace.write(SOMA, n, rows(n))
    return path


@pytest.fixture
def going(tmp_path):
    """A trace that another process writes, and that process: 20 rows are there, then 2000."""
    path = tmp_path / "going.h5"
    arguments = [sys.executable, "-c", WRITER, str(path), str(Path(__file__).parent)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    process = subprocess.Popen(arguments, text=True, **pipes)
    assert process.stdout.readline() == "20\n"
    yield path, process
    process.kill()
    process.communicate()


def go_on(process):
    process.stdin.write("\n")
    process.stdin.flush()
    return process.stdout.readline()


def mean(opened, row):
    return float(np.mean(opened[row]))


# --- finished traces -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "then"),
    [pair for one in OPENERS for pair in dict.fromkeys((("neurosim", one), (one, "neurosim")))],
)
def test_whoever_opened_a_trace_first_others_open_it_too(finished, first, then):
    one = OPENERS[first](finished)
    other = OPENERS[then](finished)
    assert mean(one, 3) == mean(other, 3) == 4


def test_an_open_trace_can_be_copied_and_sent(finished, tmp_path):
    with open_trace(finished) as tree:
        for other in (copy.deepcopy(tree), pickle.loads(pickle.dumps(tree))):
            assert mean(other[SOMA], 3) == 4
        shutil.copy(finished, tmp_path / "copy.h5")
        with open_trace(tmp_path / "copy.h5") as other:
            assert other.identical(tree)


def test_what_changed_since_is_seen_by_who_opens_it_anew(finished):
    with open_trace(finished) as before:
        with open(finished, "r+b") as raw:
            amend(raw, {"note": "later"})
        with open_trace(finished) as after:
            assert after.attrs["note"] == "later" and "note" not in before.attrs
        assert describe(finished)["attributes"]["note"] == "later"


# --- while it is written -------------------------------------------------------------------------


def test_others_read_a_trace_while_its_run_goes_on_and_after(going):
    path, process = going
    tree = open_trace(path)
    with h5py.File(path, swmr=True) as file:
        assert mean(tree[SOMA], 19) == mean(file[SOMA], 19) == 20
        assert np.isnan(tree[SOMA][1999]).all()
    assert go_on(process) == "2000\n"
    with open_trace(path) as second:
        assert mean(second[SOMA], 1999) == 2000
        with xr.open_datatree(path, engine="h5netcdf", driver_kwds={"swmr": True}) as third:
            assert mean(third[SOMA], 1999) == 2000
        assert mean(pickle.loads(pickle.dumps(second))[SOMA], 1999) == 2000
    assert describe(path)["status"] == "running"
    assert go_on(process) == "" and process.wait(60) == 0
    assert mean(tree[SOMA], 19) == 20
    with h5py.File(path) as file, xr.open_datatree(path, engine="h5netcdf") as plain:
        assert file.attrs["status"] == plain.attrs["status"] == "complete"
    assert describe(path)["status"] == open_trace(path).attrs["status"] == "complete"


# --- what writes it next -------------------------------------------------------------------------


@pytest.fixture
def interrupted(tmp_path):
    """A trace to go on with, and what a writer needs for that."""
    path = tmp_path / "cut.h5"
    trace = writer(path)
    trace.write(SOMA, slice(0, 2), np.stack([rows(0), rows(1)]))
    trace.flush()
    ledger = trace.ledger
    trace.close("interrupted")
    return path, (*layout(), ledger, {})


@pytest.mark.parametrize("holder", ["neurosim", "h5py"])
def test_a_trace_that_is_open_here_can_be_gone_on_with(interrupted, holder):
    path, arguments = interrupted
    held = OPENERS[holder](path)
    with TraceWriter.reopen(path, *arguments) as trace:
        trace.write(SOMA, slice(2, 6), np.stack([rows(n) for n in range(2, 6)]))
    assert mean(held, 1) == 2
    with open_trace(path) as tree:
        assert tree.attrs["status"] == "complete" and mean(tree[SOMA], 5) == 6
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_a_trace_that_is_open_to_be_written_is_not_gone_on_with(interrupted):
    path, arguments = interrupted
    with h5py.File(path, "r+"):
        before = path.read_bytes()
        with pytest.raises(InputError, match=r"cut.h5: is open to be written; close it there"):
            TraceWriter.reopen(path, *arguments)
        assert path.read_bytes() == before
    with TraceWriter.reopen(path, *arguments):
        pass
    assert describe(path)["status"] == "complete"


def test_two_who_repair_at_once_wait_for_each_other(interrupted, monkeypatch):
    path, _ = interrupted
    monkeypatch.setattr("neurosim.traces.repairing.ATTEMPTS", 3)
    folder = os.open(path.parent, os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    before = path.read_bytes()
    with pytest.raises(InputError, match="another process repairs or resumes a trace in this fold"):
        repair(path, {"note": "mine"})
    assert path.read_bytes() == before
    os.close(folder)
    repair(path, {"note": "mine"})
    assert describe(path)["attributes"]["note"] == "mine"


def test_a_reader_elsewhere_keeps_nobody_from_repairing(interrupted):
    path, _ = interrupted
    reader = "import h5py, sys; f = h5py.File(sys.argv[1]); print(flush=True); sys.stdin.readline()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    process = subprocess.Popen([sys.executable, "-c", reader, str(path)], text=True, **pipes)
    process.stdout.readline()
    try:
        assert not repair(path, {"note": json.dumps("mine")})
    finally:
        process.communicate("\n")
    assert describe(path)["attributes"]["note"] == '"mine"'
