"""Traces survive their writer, open in plain xarray, and say in words what is wrong with them."""

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

from neurosim.errors import DivergedError, InputError, NeurosimError
from neurosim.store import Axis, TraceWriter, Variable, describe, open_trace

TIMES = np.arange(5) * 0.5
ABOUT = {"Conventions": "CF-1.11", "neurosim_version": "0.1.0", "seed": 3, "mu": 0.25}
SOMA = "traces/layer1/soma"
# A real row is several chunks of the file long, so flushes and kills fall between many writes.
ROWS, SAMPLES, UNITS = 400, 32, 64


def layout(rows=6, samples=2, units=3):
    axes = {
        "traces": [
            Axis("presentation", np.arange(rows)),
            Axis("time", TIMES, "ms", "time in the presentation"),
            Axis("sample", np.arange(samples)),
            Axis("rule", np.array(["backprop", "Δ target"])),
        ],
        "traces/layer1": [Axis("unit", np.arange(units))],
        "metrics": [Axis("phase", np.array([0, 1, 0]), flags=("free", "slow learning"))],
    }
    variables = [
        Variable(SOMA, ("presentation", "time", "sample", "unit"), "mV", "somatic potential"),
        Variable("traces/presented", ("presentation",), dtype="int32"),
        Variable("traces/angle", ("presentation", "rule"), "degree", dtype="float64"),
        Variable(
            "traces/phase_at",
            ("time",),
            dtype="int8",
            attributes={"flag_values": np.array([0, 1], np.int8), "flag_meanings": "free taught"},
        ),
        Variable("metrics/residual", ("phase",)),
        Variable("metrics/wall", (), "s"),
    ]
    return axes, variables


def writer(path, overwrite=False, texts=None, **sizes):
    return TraceWriter(path, *layout(**sizes), ABOUT, texts, overwrite)


def rows(n, samples=2, units=3):
    """What row n holds: the number n + 1 everywhere, so that nothing written is zero."""
    return np.full((len(TIMES), samples, units), n + 1.0, np.float32)


@pytest.fixture
def finished(tmp_path):
    path = tmp_path / "finished.h5"
    with writer(path) as trace:
        for n in range(4):
            trace.write(SOMA, n, rows(n))
    return path


def child(code, *arguments):
    """Start a Python that has this module's names."""
    head = f"import sys; sys.path.insert(0, {os.path.dirname(__file__)!r})\n"
    return subprocess.Popen(
        [sys.executable, "-c", head + "from test_store import *\n" + code, *map(str, arguments)],
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


# --- round trips ------------------------------------------------------------------------------


def test_plain_xarray_opens_a_trace_with_names_units_and_flags(tmp_path):
    import xarray as xr  # here, because children import this module and need none

    path = tmp_path / "a.h5"
    document = "θ = 1\n" * 20_000
    with writer(path, texts={"protocol": document}) as trace:
        values = np.random.default_rng(0).normal(size=(4, len(TIMES), 2, 3)).astype(np.float32)
        trace.write(SOMA, slice(0, 4), values)
        trace.write("traces/presented", slice(1, 3), [7, 8])
        trace.write("traces/angle", (2, 1), 45.5)
        trace.write("traces/phase_at", slice(None), np.array([0, 0, 1, 1, 1]))
        trace.write("metrics/wall", (), 1.5)
        trace.close("complete", {"loss": 0.125, "summary": "{}"})
    with xr.open_datatree(path, engine="h5netcdf") as tree:
        soma = tree[SOMA]
        assert soma.dims == ("presentation", "time", "sample", "unit")
        assert soma.dtype == np.float32
        assert (soma.attrs["units"], soma.attrs["long_name"]) == ("mV", "somatic potential")
        np.testing.assert_array_equal(soma[:4], values)
        assert np.isnan(soma[4:]).all()
        assert soma.time.attrs == {"units": "ms", "long_name": "time in the presentation"}
        np.testing.assert_array_equal(soma.time, TIMES)
        assert tree["traces/layer1"].to_dataset(inherit=False).coords.keys() == {"unit"}
        assert tree["traces/presented"].dtype == np.int32
        assert tree["traces/presented"].values.tolist() == [-1, 7, 8, -1, -1, -1]
        assert tree["traces/angle"].sel(rule="Δ target")[2] == 45.5
        assert tree["traces/phase_at"].values.tolist() == [0, 0, 1, 1, 1]
        assert tree["traces/phase_at"].attrs["flag_meanings"] == "free taught"
        phase = tree["metrics/phase"]
        assert phase.dtype == np.int8 and phase.values.tolist() == [0, 1, 0]
        assert phase.attrs["flag_values"].tolist() == [0, 1]
        assert phase.attrs["flag_meanings"] == "free slow_learning"
        assert tree["metrics/wall"] == 1.5
        assert tree["provenance/protocol"].item() == document
        assert tree.attrs.items() >= {**ABOUT, "status": "complete", "loss": 0.125}.items()


def test_open_trace_reads_only_what_is_asked_for(tmp_path):
    path = tmp_path / "vast.h5"
    with writer(path, rows=500_000, samples=64, units=400) as trace:
        trace.write(SOMA, 123_456, rows(1, 64, 400))
    assert path.stat().st_size < 50e6
    with open_trace(path) as tree:
        assert tree[SOMA].nbytes > 200e9
        assert tree[SOMA][123_456, 0, 0, 0] == 2
        assert np.isnan(tree[SOMA][0, 0, 0, 0])


@pytest.mark.parametrize(
    ("shape", "chunks"),
    [
        ((10, 5, 2, 3), None),
        ((500, 5, 100, 100), (1, 5, 100, 100)),
        ((20_000, 5, 2, 10), (163, 5, 2, 10)),
        ((9, 5, 300, 400), (1, 2, 300, 400)),
        ((3, 5, 1000, 1500), (1, 1, 167, 1500)),
    ],
)
def test_chunks_hold_whole_rows_and_at_most_a_mebibyte(tmp_path, shape, chunks):
    path = tmp_path / "a.h5"
    with writer(path, rows=shape[0], samples=shape[2], units=shape[3]):
        pass
    with h5py.File(path) as file:
        assert file[SOMA].shape == shape
        assert file[SOMA].chunks == chunks
        assert chunks is None or 4 * np.prod(chunks) <= 2**20
        assert file[SOMA].compression is None


@pytest.mark.filterwarnings("error")
def test_what_exceeds_the_precision_is_stored_as_infinity(tmp_path):
    path = tmp_path / "a.h5"
    with writer(path) as trace:
        trace.write("metrics/residual", 1, 1e300)
    with open_trace(path) as tree:
        assert np.isposinf(tree["metrics/residual"][1])


@pytest.mark.parametrize(
    ("error", "status"),
    [(None, "complete"), (KeyboardInterrupt(), "interrupted"), (DivergedError("x"), "diverged")],
)
def test_leaving_the_context_closes_with_a_status(tmp_path, error, status):
    path = tmp_path / "a.h5"
    try:
        with writer(path) as trace:
            trace.write("metrics/wall", (), 1)
            if error:
                raise error
    except (KeyboardInterrupt, DivergedError):
        assert error
    assert describe(path)["status"] == status
    with h5py.File(path) as file:
        assert file.attrs["status"] == status


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


class Snapshots:
    """A file that is copied after every write to it."""

    def __init__(self, raw, folder):
        self.raw, self.folder, self.copies = raw, folder, []

    def __getattr__(self, name):
        return getattr(self.raw, name)

    def write(self, data):
        self.raw.write(data)
        self.raw.flush()
        self.copies.append(self.folder / f"{len(self.copies)}.h5")
        shutil.copy(self.raw.name, self.copies[-1])


@pytest.mark.parametrize("text", [10, 4000])
def test_closing_leaves_an_intact_file_at_every_moment(tmp_path, text):
    trace = writer(tmp_path / "a.h5")
    trace.write(SOMA, slice(None), np.ones((6, len(TIMES), 2, 3)))
    trace._raw = snapshots = Snapshots(trace._raw, tmp_path)
    trace.close("complete", {"summary": "x" * text, "loss": 0.5})
    seen = []
    for path in snapshots.copies:
        with open_trace(path) as tree:
            assert (tree[SOMA] == 1).all()
        seen.append(describe(path)["status"])
    turn = seen.index("complete")
    assert turn > 1 and set(seen[:turn]) == {"running"} and set(seen[turn:]) == {"complete"}
    with open_trace(path) as tree:
        assert tree.attrs.items() >= {"summary": "x" * text, "loss": 0.5}.items()


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


# --- where a trace goes -----------------------------------------------------------------------


def test_an_existing_file_is_kept_unless_forced(finished):
    before = finished.read_bytes()
    with pytest.raises(
        InputError, match=r"finished.h5: exists; give --force to overwrite, or --out FILE"
    ):
        writer(finished)
    assert finished.read_bytes() == before
    with writer(finished, overwrite=True) as trace:
        trace.write("metrics/wall", (), 9)
    with open_trace(finished) as tree:
        assert tree["metrics/wall"] == 9
        assert np.isnan(tree[SOMA]).all()
    assert os.listdir(finished.parent) == [finished.name]


def test_a_failed_creation_leaves_nothing_and_keeps_the_old(tmp_path, finished):
    before = finished.read_bytes()
    axes, variables = layout()
    variables.append(Variable("traces/lost", ("nowhere",)))
    for path in (finished, tmp_path / "new.h5"):
        with pytest.raises(ValueError, match="traces/lost: no axis 'nowhere' in 'traces' or above"):
            TraceWriter(path, axes, variables, ABOUT, overwrite=True)
    assert finished.read_bytes() == before
    assert os.listdir(tmp_path) == [finished.name]


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


def test_folders_are_made_and_bad_places_refused(tmp_path):
    with writer(tmp_path / "new" / "folder" / "a.h5"):
        pass
    assert describe(tmp_path / "new" / "folder" / "a.h5")["status"] == "complete"
    with pytest.raises(InputError, match=r"new: is a folder; give a file with --out FILE"):
        writer(tmp_path / "new", overwrite=True)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"a.h5: cannot be written there: .*--out FILE"):
        writer(tmp_path / "file" / "a.h5")


@pytest.mark.skipif(not os.path.exists("/proc/self"), reason="needs a folder nobody can write")
def test_a_folder_nobody_can_write_is_refused():
    with pytest.raises(InputError, match=r"/proc/a.h5: cannot be written there: No such file"):
        writer("/proc/a.h5")


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


# --- files that are no traces -----------------------------------------------------------------


def cut(source, target, size):
    target.write_bytes(source.read_bytes()[:size])


@pytest.mark.parametrize("reader", [open_trace, describe])
def test_what_is_no_trace_is_refused_in_words(tmp_path, finished, reader):
    bad = tmp_path / "bad.h5"
    with pytest.raises(InputError, match=r"bad.h5: no such file"):
        reader(bad)
    with pytest.raises(InputError, match=r"cannot be read: Is a directory"):
        reader(tmp_path)
    for content in (b"", b"presentation,loss\n0,1\n"):
        bad.write_bytes(content)
        with pytest.raises(InputError, match=r"bad.h5: is no trace: it is not an HDF5 file"):
            reader(bad)
    with h5py.File(bad, "w") as file:
        file["x"] = 1
    with pytest.raises(InputError, match=r"is HDF5 but no neurosim trace: .* neurosim_version"):
        reader(bad)
    cut(finished, bad, finished.stat().st_size // 2)
    with pytest.raises(InputError, match=r"bad.h5: is cut short, its end is missing"):
        reader(bad)
    for size in (9, 30, 47):
        cut(finished, bad, size)
        with pytest.raises(InputError, match=r"bad.h5: is damaged: "):
            reader(bad)


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


# --- what a trace holds -----------------------------------------------------------------------


def test_describe_says_what_is_there_in_json(finished):
    report = json.loads(json.dumps(describe(finished)))
    assert report["status"] == "complete"
    assert report["bytes"] == finished.stat().st_size
    assert report["attributes"]["mu"] == 0.25
    soma = report["groups"]["/traces/layer1"]["variables"]["soma"]
    assert soma == {
        "dims": ["presentation", "time", "sample", "unit"],
        "shape": [6, 5, 2, 3],
        "dtype": "float32",
        "units": "mV",
        "description": "somatic potential",
        "attributes": {},
        "filled": pytest.approx(4 / 6),
    }
    traces = report["groups"]["/traces"]
    assert traces["axes"]["time"]["units"] == "ms"
    assert traces["axes"]["rule"]["dtype"] == "str"
    assert traces["variables"]["presented"]["filled"] == 0
    phase = report["groups"]["/metrics"]["axes"]["phase"]
    assert phase["attributes"]["flag_meanings"] == "free slow_learning"


def test_reading_and_describing_need_no_xarray_and_no_time(finished):
    code = """
began = time.perf_counter()
describe(sys.argv[1])
print(time.perf_counter() - began, "xarray" in sys.modules, "matplotlib" in sys.modules)
"""
    imports = "import sys, time\nfrom neurosim.store import describe\n"
    run = [sys.executable, "-c", imports + code, str(finished)]
    seconds, *heavy = subprocess.run(run, capture_output=True, text=True, check=True).stdout.split()
    assert heavy == ["False", "False"]
    assert float(seconds) < 0.2


# --- mistakes of the program ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "where", "values", "message"),
    [
        ("traces/layer1/sooma", 0, 0.0, r"unknown variable .* did you mean 'traces/layer1/soma'"),
        (SOMA, 0, np.ones((5, 2, 4)), r"soma: values have shape \(5, 2, 4\), .* \(5, 2, 3\)"),
        (SOMA, 0, np.ones((2, 3)), r"values have shape \(2, 3\)"),
        (SOMA, slice(0, 2), rows(0), r"the block has \(2, 5, 2, 3\)"),
        (SOMA, 6, rows(0), r"index 6 in dimension 0, which has size 6"),
        (SOMA, -1, rows(0), r"index -1 in dimension 0"),
        (SOMA, slice(5, 8), rows(0)[None], r"slice\(5, 8, None\) in dimension 0"),
        (SOMA, slice(0, 4, 2), rows(0)[None], r"slice\(0, 4, 2\) in dimension 0"),
        (SOMA, (0, 0, 0, 0, 0), 1.0, r"5 indices for 4 dimensions"),
        ("traces/presented", 0, 0.5, r"presented: values are float64, the variable is int32"),
    ],
)
def test_a_block_that_does_not_fit_is_refused(tmp_path, path, where, values, message):
    with writer(tmp_path / "a.h5") as trace, pytest.raises(ValueError, match=message):
        trace.write(path, where, values)


@pytest.mark.parametrize(
    ("axes", "variable", "message"),
    [
        ({"a": [Axis("t", np.ones((2, 2)))]}, None, r"axis 't' of 'a': 2 dimensions, not 1"),
        ({"a": [Axis("p", np.array([0, 2]), flags=("x", "y"))]}, None, "codes that no flag names"),
        (
            {"a": [Axis("t", np.arange(2))], "a/b": [Axis("t", np.arange(2))]},
            None,
            "axis 't' lives in 'a/b' and above it, in 'a'",
        ),
        ({"a": [Axis("t", np.arange(2))]}, Variable("b/x", ("t",)), "b/x: no axis 't' in 'b'"),
        ({}, Variable("x", (), dtype="float16"), "x: dtype float16; use float32"),
        ({}, Variable("x", (), dtype="uint8"), "x: dtype uint8; use float32"),
    ],
)
def test_a_layout_that_contradicts_itself_is_refused(tmp_path, axes, variable, message):
    with pytest.raises(ValueError, match=message):
        TraceWriter(tmp_path / "a.h5", axes, [variable] if variable else [], ABOUT)
    assert os.listdir(tmp_path) == []


def test_a_trace_without_its_version_is_refused(tmp_path):
    with pytest.raises(ValueError, match="attributes: neurosim_version is missing"):
        TraceWriter(tmp_path / "a.h5", *layout(), {})
