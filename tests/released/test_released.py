"""Traces that releases have written are read for good: the files are in folders by their schema.

What they hold was written once, with a checksum of every variable beside it.
"""

import gzip
import json
import shutil
import zlib
from importlib.metadata import version
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from command_line import call
from writing import CELLS, RUNS, SMALLER, TINY, record, run

import neurosim as ns
from neurosim.building.continuing import started
from neurosim.building.loading import load_protocol
from neurosim.errors import InputError
from neurosim.traces import schema
from neurosim.traces.amending import amend
from neurosim.traces.weight_files import of_moment

HERE = Path(__file__).parent
VERSIONS = sorted(int(path.name) for path in HERE.iterdir() if path.name.isdigit())


@pytest.fixture(scope="module", params=VERSIONS)
def released(request, tmp_path_factory):
    """A folder with the traces of a version, as they were written."""
    folder = tmp_path_factory.mktemp(f"schema-{request.param}-")
    for packed in sorted((HERE / str(request.param)).glob("*.gz")):
        (folder / packed.stem).write_bytes(gzip.decompress(packed.read_bytes()))
    return folder


def every(folder):
    return sorted(folder.glob("*.h5"))


def variables(path):
    """Every variable of a trace: its dimensions, unit and kind of number."""
    found = {}
    with h5py.File(path) as file:

        def visit(name, item):
            if isinstance(item, h5py.Dataset) and not name.startswith("provenance"):
                dims = [dim[0].name for dim in item.dims if len(dim)]
                found[name] = dims, item.attrs.get("units"), item.dtype.kind

        file.visititems(visit)
        return found, set(file.attrs)


def test_every_version_of_the_schema_has_its_traces(released):
    assert list(range(1, schema.VERSION + 1)) == VERSIONS
    names = {path.stem for path in every(released)}
    assert names == {*RUNS, *CELLS, "interrupted"}
    for path in every(released):
        with h5py.File(path) as file:
            assert file.attrs["schema_version"] == int(released.name.split("-")[1])


def test_open_trace_gives_the_numbers_that_were_written(released):
    """By the CRC-32 that stands in the trace; of what was written row by row in order."""
    checked = 0
    for path in every(released):
        with ns.open_trace(path) as tree:
            for name, entry in json.loads(tree.attrs["checksums"]).items():
                if entry is None or name.startswith("spikes/"):
                    continue  # what is fixed in size beyond what was written, or xarray's index
                rows, checksum = entry
                values = tree[name].values
                written = np.ascontiguousarray(values[:rows] if values.ndim else values)
                assert zlib.crc32(written.tobytes()) == checksum, (path.name, name)
                checked += 1
    assert checked > 100


def test_inspect_finds_the_results(released):
    for level in RUNS:
        path = released / f"{level}.h5"
        report = ns.inspect(path)
        with h5py.File(path) as file:
            loss = file["evaluation/loss"][-1]
            total = len(file["metrics/loss"])
        assert report["status"] == "complete" and report["level"] == level
        assert report["metrics"]["test_loss"] == pytest.approx(loss, rel=1e-6)
        assert report["presentations"] == {"done": total, "total": total}
        assert report["resolved"]["model"]["layers"] == [2, 3, 2]
    cut = ns.inspect(released / "interrupted.h5")
    assert cut["status"] == "interrupted" and cut["presentations"] == {"done": 5, "total": 10}
    with h5py.File(released / "cell.h5") as file:
        counted = len(file["spikes/lif/timestamps"])
        potential = file["recording/v"][:, 0]
    measures = ns.inspect(released / "cell.h5")["measures"]["sweeps"]
    assert sum(measures["spikes"]) == counted
    assert measures["deflection"][0] == pytest.approx(potential.min() + 70, abs=0.1)
    with h5py.File(released / "synapse.h5") as file:
        weight = file["recording/stdp/weight"][()]
    curve = ns.inspect(released / "synapse.h5")["curve"]
    assert curve["stdp.weight"] == pytest.approx(weight[:, 0, -1] - weight[:, 0, 0], abs=1e-7)


@pytest.mark.long
def test_compare_and_diff_hold_them_against_each_other(released):
    at_rest, moving = released / "equilibrium.h5", released / "rate.h5"
    with h5py.File(at_rest) as a, h5py.File(moving) as b:
        losses = [list(file["evaluation/loss"]) for file in (a, b)]
        first = [file["weights/W1"][0] for file in (a, b)]
    report = ns.compare(at_rest, moving)
    assert [row["loss_a"] for row in report["learning"]] == pytest.approx(losses[0], rel=1e-6)
    assert [row["loss_b"] for row in report["learning"]] == pytest.approx(losses[1], rel=1e-6)
    assert report["aligned"]["network"] and (first[0] == first[1]).all()
    assert all(ns.diff(moving, moving)["same"].values())
    assert "evaluation/loss" in {row["dataset"] for row in ns.diff(at_rest, moving)["numbers"]}
    assert ns.compare(released / "cell.h5", released / "cell.h5")["verdict"]["agree"]


@pytest.mark.long
def test_tables_hold_their_numbers(released, tmp_path):
    for level in RUNS:
        path = released / f"{level}.h5"
        table = pd.read_csv(ns.export(path, "csv", tmp_path / level) / "weights-W1.csv")
        with h5py.File(path) as file:
            np.testing.assert_array_equal(table["W1"], file["weights/W1"][()].ravel())
    table = pd.read_csv(ns.export(released / "cell.h5", "csv", tmp_path / "c") / "recording.csv")
    with h5py.File(released / "cell.h5") as file:
        np.testing.assert_allclose(np.sort(table["v"]), np.sort(file["recording/v"][()].ravel()))


@pytest.mark.seldom
@pytest.mark.long
def test_pages_and_other_formats_are_made_of_them(released, tmp_path):
    for name in ("rate", "cell"):
        path = released / f"{name}.h5"
        assert path.name in ns.report(path, out=tmp_path / "page.html").read_text(encoding="utf-8")
        assert ns.export(path, "nwb", tmp_path / f"{name}.nwb").stat().st_size
        assert ns.to_neo(path).segments
        (tmp_path / "page.html").unlink()


def test_runs_start_from_their_weights(released, tmp_path):
    (tmp_path / "tiny.toml").write_text(TINY)
    protocol = load_protocol(tmp_path / "tiny.toml", SMALLER)
    for level in RUNS:
        path = released / f"{level}.h5"
        with h5py.File(path) as file:
            written = {name: file[f"weights/{name}"][1] for name in ("W1", "W2")}
        taken = of_moment(path, "final", 0)
        for name, array in written.items():
            np.testing.assert_array_equal(taken[name], array)
        resolved = started(protocol, path, 0).spec.model.projections["W"]
        assert (resolved.init, resolved.file) == ("file", str(path))


def test_what_an_old_version_left_is_not_gone_on_with(released, tmp_path):
    """Not with numbers that no run has; nothing is changed."""
    shutil.copytree(released, tmp_path / "copy")
    stopped = tmp_path / "copy" / "interrupted.h5"
    before = stopped.read_bytes()
    done = call("resume", stopped, "--quiet")
    assert done.exit_code == 2
    assert "is not what it began as; undo this, or give --force" in done.stderr
    assert "commit: was '" in done.stderr
    assert stopped.read_bytes() == before
    done = call("resume", tmp_path / "copy" / "rate.h5", "--quiet")
    assert done.exit_code == 2 and "it is complete; nothing is left to do" in done.stderr


# --- what is written now ---------------------------------------------------------------------


def understood(old, new):
    """All that was there is there still, with its dimensions and units."""
    (before, said), (now, says) = variables(old), variables(new)
    assert said <= says
    assert {name: now.get(name) for name in before} == before


def packed(name, folder):
    path = folder / f"old-{name}.h5"
    kept = HERE / str(schema.VERSION) / f"{name}.h5.gz"
    path.write_bytes(gzip.decompress(kept.read_bytes()))
    return path


SELDOM = {"marks": [pytest.mark.seldom]}


@pytest.mark.long
@pytest.mark.parametrize(
    "level", ["rate", *(pytest.param(name, **SELDOM) for name in ("equilibrium", "spiking"))]
)
def test_runs_are_written_in_the_version_that_they_say(level, tmp_path):
    """Whoever renames or moves something finds here that the version must grow."""
    run(level, tmp_path / "new.h5")
    understood(packed(level, tmp_path), tmp_path / "new.h5")


@pytest.mark.long
@pytest.mark.parametrize("name", [pytest.param(name, **SELDOM) for name in CELLS])
def test_recordings_are_written_in_the_version_that_they_say(name, tmp_path):
    record(name, tmp_path / "new.h5")
    understood(packed(name, tmp_path), tmp_path / "new.h5")


# --- what is newer ---------------------------------------------------------------------------


def changed(path, attributes):
    with open(path, "r+b") as raw:
        amend(raw, attributes)
    return path


@pytest.fixture
def newer(tmp_path):
    """A trace and a recording as a later neurosim may write them."""
    later = {"schema_version": schema.VERSION + 1, "neurosim_version": "7.2"}
    return [changed(packed(name, tmp_path), later) for name in ("rate", "cell")]


COMMANDS = {
    "inspect": ("inspect", 0),
    "inspect --plot": ("inspect", 0, "--plot", "soma"),
    "report": ("report", 0, "-o", "page.html"),
    "compare": ("compare", 0, 0),
    "diff": ("diff", 0, 0),
    "export": ("export", 0, "--to", "csv"),
    "resume": ("resume", 0),
    "repair": ("repair", 0),
    "analyze": ("analyze", 0),
    "run --from": ("run", "quickstart", "--from", 0),
    "run over it": ("run", "quickstart", "--out", 0),
    "inspect a cell": ("inspect", 1),
    "compare cells": ("compare", 1, 1),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_newer_schema_is_refused_with_the_version_that_reads_it(
    name, newer, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    words = [str(newer[word]) if isinstance(word, int) else word for word in COMMANDS[name]]
    done = call(*words)
    assert done.exit_code == 2, done.output
    if name == "run over it":
        assert "exists; give --force to overwrite" in done.stderr
    else:
        own = version("neurosim")
        assert (
            f"is of version {schema.VERSION + 1} of the schema of traces, by neurosim 7.2; "
            f"expected version {schema.VERSION}, which is what this neurosim, {own}, knows; "
            "use neurosim 7.2 or later to read it"
        ) in done.stderr
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_schema_that_is_none_is_refused(tmp_path):
    path = packed("rate", tmp_path)
    with pytest.raises(InputError, match=r"old-rate\.h5: is damaged: schema_version 0"):
        ns.open_trace(changed(path, {"schema_version": 0}))
    with h5py.File(path, "r+") as file:
        del file.attrs["schema_version"]
    words = "has no attribute schema_version: a neurosim before its first release wrote it"
    with pytest.raises(InputError, match=words):
        ns.inspect(path)
