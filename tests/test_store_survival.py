"""Traces survive their writer, whoever reads or replaces them and whatever the disk does."""

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest
from small_traces import SOMA, TIMES, cut, rows, writer

from neurosim.errors import InputError, NeurosimError
from neurosim.traces import superblock
from neurosim.traces.amending import amend
from neurosim.traces.liveness import began
from neurosim.traces.reader import describe, open_trace
from neurosim.traces.repairing import repair

# A real row is several chunks of the file long, so flushes and kills fall between many writes.
ROWS, SAMPLES, UNITS = 400, 32, 64


def child(code, *arguments):
    """Start a Python that has this module's names."""
    head = f"import sys; sys.path.insert(0, {os.path.dirname(__file__)!r})\n"
    return subprocess.Popen(
        [
            sys.executable,
            "-c",
            head + "from test_store_survival import *\n" + code,
            *map(str, arguments),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def end(process):
    """Kill a child for good, and give its pipes back."""
    process.kill()
    process.communicate(timeout=20)


WRITE_FOREVER = """
trace = writer(sys.argv[1], rows=ROWS, samples=SAMPLES, units=UNITS)
for n in range(ROWS):
    trace.write(SOMA, n, rows(n, SAMPLES, UNITS))
    trace.write("traces/presented", n, n)
    if n % 5 == 4:
        trace.flush()
        print(n + 1, flush=True)
time.sleep(60)
"""


def written_until(process, flushed):
    """Read the child's reports until `flushed` rows are on disk."""
    for line in process.stdout:
        if int(line) >= flushed:
            return int(line)
    raise AssertionError(process.stderr.read())


@pytest.fixture
def killed(tmp_path):
    path = tmp_path / "killed.h5"
    process = child(WRITE_FOREVER, path)
    written_until(process, 10)
    end(process)
    return path


# --- surviving a kill -------------------------------------------------------------------------


@pytest.mark.parametrize("flushed", [5, 35, 120, ROWS])
def test_every_flushed_row_survives_a_kill(tmp_path, flushed):
    path = tmp_path / "killed.h5"
    process = child(WRITE_FOREVER, path)
    flushed = written_until(process, flushed)
    end(process)
    assert process.returncode == -signal.SIGKILL
    before = hashlib.sha256(path.read_bytes()).digest()
    with open_trace(path) as tree:
        soma = tree[SOMA].values
        expected = np.broadcast_to(np.arange(1.0, ROWS + 1)[:, None, None, None], soma.shape)
        np.testing.assert_array_equal(soma[:flushed], expected[:flushed])
        # Later rows may have reached the file in part; nothing else may stand there.
        assert (np.isnan(soma) | (soma == expected)).all()
        assert tree["traces/presented"][:flushed].values.tolist() == list(range(flushed))
        assert tree.attrs["status"] == "running"
        assert tree.attrs["pid"] == process.pid
    report = describe(path)
    assert report["status"] == "killed"
    filled = report["groups"]["/traces/layer1"]["variables"]["soma"]["filled"]
    assert flushed / ROWS <= filled <= 1
    assert hashlib.sha256(path.read_bytes()).digest() == before


@pytest.mark.parametrize("delay", [0.0, 0.001])
def test_a_kill_while_closing_leaves_the_data(tmp_path, delay):
    path = tmp_path / "killed.h5"
    close = "trace.close('complete', {'summary': 'x' * 5000})"
    process = child(WRITE_FOREVER.replace("time.sleep(60)", close), path)
    written_until(process, ROWS)
    time.sleep(delay)
    end(process)
    with open_trace(path) as tree:
        means = tree[SOMA].mean(("time", "sample", "unit"))
        np.testing.assert_array_equal(means, np.arange(1.0, ROWS + 1))


@pytest.mark.parametrize("attributes", [0, 40])
@pytest.mark.parametrize("text", [10, 4000])
def test_closing_leaves_an_intact_file_at_every_moment(tmp_path, monkeypatch, text, attributes):
    """Also of a trace with so many attributes that they lie in blocks of their own."""
    trace = writer(tmp_path / "a.h5")
    trace.write(SOMA, slice(None), np.ones((6, len(TIMES), 2, 3)))
    trace.close("interrupted")
    amended(trace.path, **{f"more{n}": "x" * n for n in range(attributes)})
    copies = []

    def copied(call):
        def changing(descriptor, *given):
            done = call(descriptor, *given)
            copies.append(tmp_path / f"{len(copies)}.h5")
            shutil.copy(trace.path, copies[-1])
            return done

        return changing

    for name in ("pwrite", "ftruncate"):
        monkeypatch.setattr(os, name, copied(getattr(os, name)))
    amended(trace.path, summary="x" * text, loss=0.5, status="complete")
    monkeypatch.undo()
    for path in copies:
        with open_trace(path) as tree:
            assert (tree[SOMA] == 1).all()
            assert len(tree.attrs) > attributes
        assert describe(path)["status"] == "complete"
        repair(path)
        with h5py.File(path) as file:
            assert file.attrs["status"] == "complete"
    assert len(copies) > 5
    assert copies[-1].stat().st_size == trace.path.stat().st_size
    with open_trace(path) as tree:
        assert tree.attrs.items() >= {"summary": "x" * text, "loss": 0.5}.items()


@pytest.mark.parametrize("reader", [open_trace, describe])
def test_a_killed_file_that_is_cut_or_damaged_is_refused_at_once(tmp_path, killed, reader):
    bad = tmp_path / "bad.h5"
    cut(killed, bad, killed.stat().st_size // 2)
    with pytest.raises(InputError, match=r"bad.h5: is cut short, its end is missing"):
        reader(bad)
    content = bytearray(killed.read_bytes())
    content[40] ^= 0xFF
    bad.write_bytes(content)
    with pytest.raises(InputError, match=r"bad.h5: is damaged: "):
        reader(bad)


# --- other readers and writers ----------------------------------------------------------------


def test_a_file_that_is_being_written_can_be_read(tmp_path):
    path = tmp_path / "live.h5"
    process = child(WRITE_FOREVER, path)
    try:
        flushed = written_until(process, 20)
        with open_trace(path) as tree:
            assert tree[SOMA][flushed - 1].mean() == flushed
        assert describe(path)["status"] == "running"
    finally:
        end(process)


def test_the_writing_process_can_read_along_and_close(tmp_path):
    path = tmp_path / "live.h5"
    with writer(path) as trace:
        trace.write(SOMA, 2, rows(2))
        trace.flush()
        tree = open_trace(path)
        assert tree[SOMA][2].mean() == 3
        assert describe(path)["status"] == "running"
        trace.close("complete", {"note": "x" * 3000})
    assert tree[SOMA][2].mean() == 3
    tree.close()
    with open_trace(path) as tree:
        assert tree.attrs["status"] == "complete"


def test_a_foreign_reader_in_the_writing_process_spoils_no_data(tmp_path):
    path = tmp_path / "live.h5"
    trace = writer(path)
    trace.write(SOMA, 2, rows(2))
    trace.flush()
    with (
        h5py.File(path, swmr=True, locking=False),
        pytest.raises(NeurosimError, match="this process has it open elsewhere"),
    ):
        trace.close("complete")
    with open_trace(path) as tree:
        assert tree[SOMA][2].mean() == 3


def test_a_file_that_another_process_writes_is_not_replaced(tmp_path):
    path = tmp_path / "live.h5"
    process = child(WRITE_FOREVER, path)
    try:
        written_until(process, 5)
        with pytest.raises(InputError, match=rf"process {process.pid} is writing it; stop that"):
            writer(path, overwrite=True)
    finally:
        end(process)
    with writer(path, overwrite=True):
        pass
    assert describe(path)["status"] == "complete"


def test_a_run_whose_file_was_replaced_says_so_and_spares_the_new_one(tmp_path):
    path = tmp_path / "a.h5"
    old = writer(path)
    with writer(path, overwrite=True) as new:
        new.write("metrics/wall", (), 2)
    after = path.read_bytes()
    with pytest.raises(NeurosimError, match=r"a.h5: was replaced or deleted while this run wrote"):
        old.close("complete")
    assert path.read_bytes() == after


# --- disks that refuse ------------------------------------------------------------------------


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a disk that is full")
def test_a_full_disk_keeps_what_was_flushed(tmp_path):
    path = tmp_path / "a.h5"
    trace = writer(path, rows=ROWS, samples=SAMPLES, units=UNITS)
    for n in range(3):
        trace.write(SOMA, n, rows(n, SAMPLES, UNITS))
        trace.flush()
    with open("/dev/full", "r+b", buffering=0) as full:
        os.dup2(full.fileno(), trace._file.id.get_vfd_handle())
    match = r"a.h5: cannot be written any more: No space left on device; what its 3 flushes wrote"
    with pytest.raises(NeurosimError, match=match):
        for n in range(3, 40):
            trace.write(SOMA, n, rows(n, SAMPLES, UNITS))
        trace.flush()
    with pytest.raises(ValueError, match=r"a.h5: is closed"):
        trace.flush()
    with open_trace(path) as tree:
        assert tree[SOMA][:3].mean(("time", "sample", "unit")).values.tolist() == [1, 2, 3]
        assert np.isnan(tree[SOMA][3:]).all()


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on the size of files")
@pytest.mark.parametrize("limit", [3_000, 150_000, 600_000])
def test_a_process_whose_disk_refuses_ends_in_good_order(tmp_path, limit):
    code = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))\n"
    process = child(code + WRITE_FOREVER, tmp_path / "a.h5")
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 1
    last = errors.strip().splitlines()[-1]
    assert re.search(
        r"(Neurosim|Input)Error: .*a.h5: cannot be written .*: file too large;", last, re.I
    )
    assert os.listdir(tmp_path) == ([] if limit < 10_000 else ["a.h5"])


# --- repair -----------------------------------------------------------------------------------


def test_repair_makes_a_killed_file_one_that_any_program_opens(killed):
    with pytest.raises(OSError):
        h5py.File(killed)
    with open_trace(killed) as tree:
        before = {name: tree[name].values for name in (SOMA, "traces/presented")}
    assert repair(killed)
    with h5py.File(killed) as file:
        for name, values in before.items():
            np.testing.assert_array_equal(file[name][()], values)
        assert file.attrs["status"] == "interrupted"
    assert describe(killed)["status"] == "interrupted"
    content = killed.read_bytes()
    assert not repair(killed)
    assert killed.read_bytes() == content


def test_repair_keeps_bytes_that_the_superblock_does_not_know(killed):
    """A kill may come between the growth of the file and the note of it."""
    with open(killed, "ab") as raw:
        raw.write(b"beyond" * 5000)
    size = killed.stat().st_size
    assert repair(killed)
    with h5py.File(killed, "r+") as file:
        file.attrs["note"] = "x" * 5000
    assert b"beyond" * 5000 in killed.read_bytes()
    assert killed.stat().st_size >= size


def test_repair_refuses_while_the_writer_lives(tmp_path):
    path = tmp_path / "live.h5"
    process = child(WRITE_FOREVER, path)
    try:
        written_until(process, 5)
        with pytest.raises(InputError, match=rf"process {process.pid} is writing it; stop that"):
            repair(path)
        with pytest.raises(InputError, match=rf"process {process.pid} is writing it; stop that"):
            repair(path, force=True)
    finally:
        end(process)
    assert repair(path)


def amended(path, **attributes):
    with open(path, "r+b") as raw:
        amend(raw, attributes)


def test_a_number_that_another_process_was_given_since_is_no_writer(killed):
    repair(killed, {"status": "running", "pid": os.getpid()})
    amended(killed, process_began=began(os.getpid()))
    assert describe(killed)["status"] == "running"
    amended(killed, process_began="another boot 123")
    assert describe(killed)["status"] == "killed"
    repair(killed)
    assert describe(killed)["status"] == "interrupted"


def test_only_its_own_host_knows_whether_a_writer_lives(killed):
    amended(killed, host="elsewhere")
    match = r"process \d+ of host elsewhere wrote it; whether it still does can only be known there"
    with pytest.raises(InputError, match=match):
        repair(killed)
    assert not repair(killed, force=True)  # amending it cleared the mark
    found = describe(killed)
    assert found["status"] == "interrupted"
    [doubt] = json.loads(found["attributes"]["repaired"])["differing"]
    pid = found["attributes"]["pid"]
    assert doubt == f"process {pid} of host elsewhere was taken to have ended"


def test_repair_refuses_what_is_damaged_and_changes_nothing(tmp_path, killed):
    content = bytearray(killed.read_bytes())
    content[40] ^= 0xFF
    killed.write_bytes(content)
    with pytest.raises(InputError, match=r"killed.h5: is damaged: "):
        repair(killed)
    cut(killed, tmp_path / "cut.h5", 30_000)
    with pytest.raises(InputError, match=r"cut\.h5: is "):
        repair(tmp_path / "cut.h5")
    assert killed.read_bytes() == content


def test_the_checksum_of_the_superblock_is_that_of_hdf5(killed, tmp_path):
    """Of files that HDF5 wrote: marked, unmarked, of other ends."""
    paths = [killed, tmp_path / "a.h5"]
    with writer(paths[1]):
        pass
    for path in paths:
        with open(path, "rb") as raw:
            found = superblock.read(raw)
            assert found is not None and found.marked == (path == killed)
            raw.seek(44)
            stored = raw.read(4)
            raw.seek(0)
            assert superblock.lookup3(raw.read(44)).to_bytes(4, "little") == stored
