"""Traces open in plain xarray, and say in words what is wrong with them."""

import json
import os
import subprocess
import sys

import h5py
import numpy as np
import pytest
import xarray as xr
from small_traces import ABOUT, SOMA, TIMES, cut, layout, rows, writer

from neurosim.errors import DivergedError, InputError
from neurosim.traces.layout import Axis, Variable
from neurosim.traces.reader import describe, open_trace
from neurosim.traces.writer import TraceWriter


@pytest.fixture
def finished(tmp_path):
    path = tmp_path / "finished.h5"
    with writer(path) as trace:
        for n in range(4):
            trace.write(SOMA, n, rows(n))
    return path


# --- round trips ------------------------------------------------------------------------------


def test_plain_xarray_opens_a_trace_with_names_units_and_flags(tmp_path):
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


# --- where a trace goes -----------------------------------------------------------------------


def test_an_existing_file_is_kept_unless_forced(finished):
    before = finished.read_bytes()
    with pytest.raises(
        InputError, match=r"finished.h5: exists; give force=True to overwrite, or out=FILE"
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


def test_folders_are_made_and_bad_places_refused(tmp_path):
    with writer(tmp_path / "new" / "folder" / "a.h5"):
        pass
    assert describe(tmp_path / "new" / "folder" / "a.h5")["status"] == "complete"
    with pytest.raises(InputError, match=r"new: is a folder; give a file with out=FILE"):
        writer(tmp_path / "new", overwrite=True)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"a.h5: cannot be written there: .*out=FILE"):
        writer(tmp_path / "file" / "a.h5")


@pytest.mark.skipif(not os.path.exists("/proc/self"), reason="needs a folder nobody can write")
def test_a_folder_nobody_can_write_is_refused():
    with pytest.raises(InputError, match=r"/proc/a.h5: cannot be written there: No such file"):
        writer("/proc/a.h5")


# --- files that are no traces -----------------------------------------------------------------


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
        with pytest.raises(
            InputError, match=r"bad.h5: is (damaged: |cut short, its end is missing)"
        ):
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
    imports = "import sys, time\nfrom neurosim.traces.reader import describe\n"
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
