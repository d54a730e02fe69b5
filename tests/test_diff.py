"""Whether two traces or protocols are the same, and where they part."""

import json
import shutil

import h5py
import numpy as np
import pytest
from command_line import call
from made_traces import SPIKES, made, made_spiking

import neurosim as ns
from neurosim.comparison.differences import in_words


@pytest.fixture
def one(tmp_path):
    return made(tmp_path / "one.h5", seeds=(3, 5))


def changed(path, name, where, value):
    """A copy of a trace in which one number is another."""
    other = path.with_name("other.h5")
    shutil.copy(path, other)
    with h5py.File(other, "r+") as file:
        file[name][where] = value
    return other


# --- traces --------------------------------------------------------------------------------------


def test_a_trace_is_the_same_as_its_like(one):
    again = made(one.with_name("again.h5"), seeds=(3, 5))
    report = ns.diff(one, again)
    assert report["same"] == {"configuration": True, "provenance": True, "numbers": True}
    assert report["first"] is None and report["numbers"] == []
    words = call("diff", one, again).stdout
    assert words.endswith("the same: configuration, provenance, numbers\n")


def test_one_number_that_differs_is_found_where_it_is(one):
    """Recorded presentation 4 is row 1; sample 1, at 70 ms, unit 6, of the seed 5."""
    with h5py.File(one) as file:
        before = file["traces/layer1/soma"][1, 1, 1, 7, 6]
    report = ns.diff(one, changed(one, "traces/layer1/soma", (1, 1, 1, 7, 6), before + 0.25))
    (row,) = report["numbers"]
    assert report["first"] == row and report["same"]["numbers"] is False
    assert row["dataset"] == "traces/layer1/soma"
    place = {"presentation": 4, "time": 70.0, "seed": 5, "sample": 1, "unit": 6}
    assert row["at"] == place
    assert (row["differ"], row["values"]) == (1, 3 * 2 * 2 * 121 * 8)
    assert row["a"] == pytest.approx(before) and row["most"] == pytest.approx(0.25, rel=1e-6)
    assert row["difference"] == pytest.approx(row["b"] - row["a"])


def test_rows_stand_in_the_order_of_the_run(one):
    """A test after 5 presentations comes before presentation 9, whatever the file's order is."""
    later = changed(one, "traces/layer1/soma", (2, 0, 0, 3, 0), 9.0)
    with h5py.File(later, "r+") as file:
        file["traces/layer2/soma"][2, 0, 1, 2, 1] = 9.0
        file["evaluation/loss"][1, 0] = 9.0
        file["metrics/loss"][8, 1] = 9.0
    report = ns.diff(one, later)
    found = [row["dataset"] for row in report["numbers"]]
    assert found == ["evaluation/loss", "metrics/loss", "traces/layer2/soma", "traces/layer1/soma"]
    assert report["first"]["at"] == {"presentation": 5, "seed": 3}
    words = call("diff", one, later).stdout
    assert "they part at presentation 5, seed 3: evaluation/loss" in words


def test_what_is_no_number_in_both_is_the_same(tmp_path):
    paths = [made(tmp_path / f"{n}.h5", lost=(0,), status="diverged") for n in range(2)]
    assert ns.diff(*paths)["same"]["numbers"]
    with h5py.File(paths[1], "r+") as file:
        assert np.isnan(file["metrics/loss"][6])
        file["metrics/loss"][6] = 1.5
    (row,) = ns.diff(*paths)["numbers"]
    assert (row["a"], row["b"], row["difference"]) == (None, 1.5, None)


def test_one_seed_of_an_ensemble_is_held_against_that_seed_alone(one, tmp_path):
    alone = made(tmp_path / "alone.h5", seeds=(5,))
    with h5py.File(one) as file, h5py.File(alone, "r+") as single:
        loss = file["metrics/loss"][:, 1]
        single["metrics/loss"][:] = loss
        single["metrics/loss"][3] = loss[3] + 1
    report = ns.diff(one, alone)
    (row,) = [row for row in report["numbers"] if row["dataset"] == "metrics/loss"]
    assert row["at"] == {"presentation": 3} and row["differ"] == 1
    assert [r for r in report["provenance"] if r["key"] == "seeds"] == [
        {"key": "seeds", "a": "3,5", "b": "5"}
    ]


def test_arrays_of_other_extents_are_compared_where_both_have_values(one, tmp_path):
    """Presentation 4 is recorded in both, as rows 1 and 0."""
    other = made(tmp_path / "other.h5", seeds=(3, 5), recorded=(4, 7), layers=[1])
    report = ns.diff(one, other)
    places = {row["dataset"]: row["at"]["presentation"] for row in report["numbers"]}
    assert places["traces/layer1/soma"] == 4
    assert {"dataset": "signals/angle", "a": [3, 2, 2], "b": [2, 2, 2]} in report["extents"]
    assert report["only_b"] == [] and "traces/layer2/soma" in report["only_a"]
    assert "only in a: traces/layer2/soma" in call("diff", one, other).stdout


@pytest.mark.parametrize(
    ("change", "place", "times"),
    [
        ({(0, 1, 2, 0): [10.0, 20.0, 45.0, 50.0, 70.0]}, (0, 1, 2, 0), (40.0, None)),
        ({(0, 3, 0, 1): []}, (0, 3, 0, 1), (99.5, None)),
        ({(4, 3, 0, 0): [12.0]}, (4, 3, 0, 0), (None, 12.0)),
    ],
    ids=["moved", "gone", "more"],
)
def test_the_first_spike_that_only_one_has(tmp_path, change, place, times):
    a, b = made_spiking(tmp_path / "a.h5"), made_spiking(tmp_path / "b.h5", SPIKES | change)
    (row,) = ns.diff(a, b)["numbers"]
    assert tuple(row["at"].values()) == place and (row["a"], row["b"]) == times
    kinds = ["presentation", "sample", "unit", "neuron"]
    assert list(row["at"]) == kinds and row["dataset"] == "spikes/layer1"


# --- protocols -----------------------------------------------------------------------------------


def test_protocols_differ_key_by_key():
    changes = {"model.parameters.mu": 0.2}
    report = ns.diff("quickstart", ns.load_protocol("quickstart", changes))
    assert report["configuration"] == [{"key": "model.parameters.mu", "a": 0.1, "b": 0.2}]
    assert report["same"] == {"configuration": False, "provenance": None, "numbers": None}
    words = call("diff", "quickstart", "sleep").stdout
    assert "\n  name: quickstart in a, sleep in b\n" in words
    assert call("diff", "quickstart", "sleep").exit_code == 1
    equal = call("diff", "quickstart", "quickstart")
    assert equal.stdout.endswith("the same: configuration\n") and equal.exit_code == 0


def test_equations_that_differ_are_shown_by_their_lines():
    """The dendrites of one model are the other's but for what takes time."""
    changes = {"model.use": "mixture-dendrites", "rate.dt": "5 ms"}
    changed = ns.load_protocol("quickstart", changes)
    report = ns.diff("quickstart", changed)
    rows = {row["key"]: row for row in report["configuration"]}
    row = rows["model.cells.pyramidal.equations"]
    assert row["a"] != row["b"] and "dbasal/dt" in row["b"] and "dbasal/dt" not in row["a"]
    words = in_words(report)
    shown = [line.strip() for line in words.splitlines() if line.strip()[:1] in "+-"]
    assert any(line.startswith("+ dbasal/dt") for line in shown)
    common = set(row["a"].splitlines()) & set(row["b"].splitlines())
    assert not {line[2:] for line in shown} & common


def test_a_trace_is_held_against_the_protocol_it_ran(one):
    report = json.loads(call("diff", one, "quickstart", "--json").stdout)
    assert report["a"] == {"name": str(one), "kind": "trace"}
    assert report["same"]["numbers"] is None
    assert "batch" in {row["key"] for row in report["configuration"]}  # which the made-up one lacks


def test_mistakes_are_said():
    assert call("diff", "none.h5", "quickstart").stderr == "error: none.h5: no such file\n"
    result = call("diff", "quickstart", "quickstat")
    assert result.exit_code == 2 and "did you mean 'quickstart'?" in result.stderr
