"""Nothing that is given is ignored in silence; weights come from arrays and from traces."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from command_line import call

import neurosim as ns
from neurosim.building import ingredients
from neurosim.building.loading import load_model, load_protocol
from neurosim.errors import InputError, NeurosimWarning
from neurosim.reports.subjects import subject
from neurosim.traces.weight_files import of_moment

pytestmark = pytest.mark.usefixtures("tiny")

FROM_RUN = {"init": "file", "file": "runs/a.h5"}
TAKEN = {"projections.Q.init": "file"}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two seeds of the tiny protocol, with the weights of presentations 0 and 6."""
    folder = tmp_path_factory.mktemp("runs")
    text = Path(__file__).with_name("tiny_runs.py").read_text().split('TINY = """')[1]
    (folder / "tiny.toml").write_text(text.split('"""')[0])
    changes = {"level": "equilibrium", "record.weights": True}
    protocol = load_protocol(folder / "tiny.toml", changes)
    return ns.run(protocol, seeds=range(2), out=folder / "a.h5").path


@pytest.fixture(autouse=True)
def copied(runs, tiny):
    Path("runs").mkdir()
    shutil.copy(runs, "runs/a.h5")


def drawn(W, seed=0, **changes):
    """The first weights of a network like the tiny one, by projection. W: what is said of W."""
    given = {f"model.{k}": v for k, v in ({"projections.W": W} | changes).items()}
    model = load_protocol("tiny.toml", given).spec.model
    return ingredients.weights(model, seed, None, Path.cwd())


def check(**changes):
    return ns.check(load_protocol("tiny.toml", changes), level="equilibrium", out="none.h5")


# --- weights of a trace --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("at", "group", "row"),
    [("", "weights", 1), ("@final", "weights", 1), ("@initial", "weights", 0),
     ("@0", "snapshots", 0), ("@6", "snapshots", 1)],
)  # fmt: skip
def test_weights_come_from_any_moment_of_a_trace(at, group, row):
    tree = ns.open_trace("runs/a.h5")[group]
    for seed in (0, 1):
        found = drawn({"init": "file", "file": f"runs/a.h5{at}"}, seed, **TAKEN)
        assert set(found) == {"W", "Q"}
        for letter, layers in found.items():
            for i, array in enumerate(layers, start=1):
                np.testing.assert_array_equal(array, tree[f"{letter}{i}"].values[row, seed])


def test_a_run_goes_on_from_the_weights_of_another():
    changes = {"model.projections.W": {"init": "file", "file": Path("runs/a.h5")}}
    changes |= {"model.projections.Q.init": "file", "level": "equilibrium"}
    ns.run(load_protocol("tiny.toml", changes), seed=1, out="b.h5")
    first, last = of_moment(Path("b.h5"), "initial", 1), of_moment(Path("runs/a.h5"), "final", 1)
    assert first.keys() == last.keys() == {"W1", "W2", "Q1"}
    for name, array in last.items():
        np.testing.assert_array_equal(first[name], array)
    # A trace of one seed serves any other.
    other = drawn({"init": "file", "file": "b.h5@initial"}, 5, **TAKEN)
    np.testing.assert_array_equal(other["W"][0], last["W1"])


def test_moments_have_names_in_every_reader():
    tree = xr.open_datatree("runs/a.h5", engine="h5netcdf")
    final = tree["weights/W1"].sel(moment="final", seed=0)
    np.testing.assert_array_equal(final, of_moment(Path("runs/a.h5"), "final", 0)["W1"])


@pytest.mark.parametrize(
    ("file", "seed", "message"),
    [
        ("runs/a.h5@5", 0, r"a\.h5: no weights at '5'; expected one of initial, final, 0, 6$"),
        ("runs/a.h5@", 0, r"a\.h5: no weights at ''; expected one of initial, final, 0, 6$"),
        ("runs/a.h5", 7, r"a\.h5: seed 7 was not run; there are: \[0, 1\]"),
        ("runs/b.h5@final", 0, r"b\.h5: no such file"),
        ("tiny.toml@final", 0, r"tiny\.toml: cannot be read as an \.npz file of plain numbers"),
    ],
)
def test_moments_that_are_not_there(file, seed, message):
    with pytest.raises(InputError, match=message):
        drawn({"init": "file", "file": file}, seed)


# --- what a network has no place for -------------------------------------------------------------


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (
            "b1",
            r"w\.npz: unknown array 'b1'.*\(allowed: W1, W2, Q1\); biases need bias = true, such",
        ),
        ("W3", r"w\.npz: unknown array 'W3'.*\(allowed: W1, W2, Q1\)$"),
        ("gain", r"w\.npz: unknown array 'gain' \(allowed: W1, W2, Q1\)$"),
        ("mu", r"w\.npz: unknown array 'mu' \(allowed: W1, W2, Q1\)$"),
    ],
)
def test_arrays_that_a_network_has_no_place_for_are_refused(extra, message):
    np.savez("w.npz", W1=np.eye(4, 3), W2=np.eye(4), **{extra: np.ones(4)})
    with pytest.raises(InputError, match=message):
        drawn({"init": "file", "file": "w.npz"})


def test_biases_are_taken_all_or_none():
    np.savez("w.npz", W1=np.eye(4, 3), W2=np.eye(4), b2=np.ones(4))
    with pytest.raises(InputError, match="array 'b1' is missing"):
        drawn({"init": "file", "file": "w.npz", "bias": True})
    np.savez("w.npz", W1=np.eye(4, 3), W2=np.eye(4))
    assert [b.tolist() for b in drawn({"init": "file", "file": "w.npz", "bias": True})["b"]] == [
        [0.0] * 4
    ] * 2


def test_feedback_that_is_not_taken_over_is_said():
    said = (
        r"a\.h5: Q1 not used, as model\.projections\.Q\.init is 'pinv\(W\[i\+1\]\)'; 'file' takes"
    )
    with pytest.warns(NeurosimWarning, match=said):
        drawn(FROM_RUN)


def test_feedback_that_follows_is_not_said_to_be_left():
    """It is computed from W, as the file's was."""
    changes = {"projections.W": FROM_RUN, "projections.Q.rule": "tied", "layers": [3, 4, 4]}
    found = ingredients.weights(load_model("mixture-two-phase", changes), 0, None, Path.cwd())
    np.testing.assert_allclose(found["Q"][0], np.linalg.pinv(found["W"][1]))


def test_weights_of_one_projection_alone_may_come_from_a_file():
    np.savez("q.npz", Q1=np.arange(16.0).reshape(4, 4))
    found = drawn({}, **{"projections.Q": {"init": "file", "file": "q.npz"}})
    np.testing.assert_array_equal(found["Q"][0], np.arange(16.0).reshape(4, 4))
    np.testing.assert_array_equal(found["W"][0], drawn({})["W"][0])
    said = r"a\.h5: W1, W2 not used, as model\.projections\.W\.init is 'orthogonal'; 'file' takes"
    with pytest.warns(NeurosimWarning, match=said):
        drawn({}, **{"projections.Q": FROM_RUN})


def test_the_channel_of_a_credit_has_its_arrays_too():
    """Q1 … of a file: allowed, taken over where asked for, and said to be left where not."""
    model = {"layers": [3, 4, 4], "projections.W": FROM_RUN}
    taken = load_model("target-propagation", model | {"credit.init": "file"})
    found = ingredients.weights(taken, 0, None, Path.cwd())
    final = of_moment(Path("runs/a.h5"), "final", 0)
    np.testing.assert_array_equal(found["Q"][0], final["Q1"])
    np.testing.assert_array_equal(found["W"][1], final["W2"])
    said = r"a\.h5: Q1 not used, as model\.credit\.init is 'pseudo-inverse'; 'file' takes"
    with pytest.warns(NeurosimWarning, match=said):
        ingredients.weights(load_model("target-propagation", model), 0, None, Path.cwd())


@pytest.mark.parametrize(
    ("key", "value", "reader"),
    [
        ("model.projections.W.file", "w.npz", "projections.W.init = 'file'"),
        ("model.projections.Q.file", "w.npz", "projections.Q.init = 'file'"),
        ("model.projections.W.distance", 3.0, "projections.W.init = 'near-teacher'"),
        ("schedule.final", 0.5, "schedule.kind = 'linear' or 'exponential'"),
    ],
)
def test_keys_that_another_switches_off_are_said(key, value, reader):
    said = rf"^override {key}: is not used; {reader} would use it$"
    with pytest.warns(NeurosimWarning, match=said):
        load_protocol("tiny.toml", {key: value})


def test_a_file_of_a_credit_that_starts_otherwise_is_said():
    said = r"^override model\.credit\.file: is not used; credit\.init = 'file' would use it$"
    with pytest.warns(NeurosimWarning, match=said):
        load_protocol("target-propagation", {"model.credit.file": "w.npz"})


# --- samples and presentations -------------------------------------------------------------------


def test_samples_that_are_never_shown_are_said():
    said = r"batch: 24 does not divide the 64 samples to train on, of which the last 16 are never"
    with pytest.warns(NeurosimWarning, match=said):
        check(batch=24, shuffle=False)
    report = call("check", "tiny.toml", "--set", "batch=24")
    assert "# an epoch leaves out 16 samples, which do not fill a batch; others each" in (
        report.stdout
    )
    assert "leaves out" not in call("check", "tiny.toml").stdout


def test_presentations_past_the_end_are_said():
    said = r"record\.presentations: 10, 12 past the end; the run has the presentations 0 to 9"
    with pytest.warns(NeurosimWarning, match=said):
        check(**{"record.presentations": [0, 9, 10, 12]})


def test_own_data_on_a_scale_of_their_own_are_said():
    rng = np.random.default_rng(0)
    np.savez("mine.npz", x=rng.normal(200, 50, (80, 3)), y=rng.normal(size=(80, 4)))
    task = {"name": "arrays", "path": "mine.npz"}
    said = r"inputs have a root mean square of 20\d, .*; standardise = true scales them"
    with pytest.warns(NeurosimWarning, match=said):
        check(task=task)
    check(task=task | {"standardise": True})


# --- the data of a trace -------------------------------------------------------------------------


def test_a_trace_is_analysed_with_the_data_beside_its_protocol(tmp_path):
    rng = np.random.default_rng(0)

    def save(folder):
        np.savez(folder / "mine.npz", x=rng.normal(size=(80, 3)), y=rng.normal(size=(80, 4)))

    Path("project").mkdir()
    save(Path("project"))
    text = (
        Path("tiny.toml")
        .read_text()
        .replace(
            'name = "student-teacher"\nlayers = [3, 4, 4]\ntrain = 64\ntest = 16',
            'name = "arrays"\npath = "mine.npz"',
        )
    )
    Path("project/mine.toml").write_text(text)
    ns.run("project/mine.toml", level="equilibrium", out="mine.h5")
    before = subject("mine.h5", {}, None, None, samples=2).x
    save(tmp_path)  # another file of that name in the current folder
    np.testing.assert_array_equal(subject("mine.h5", {}, None, None, samples=2).x, before)
    save(Path("project"))
    said = "mine.h5: the task's data are not those it learned from: another file, or another vers"
    with pytest.warns(NeurosimWarning, match=said):
        subject("mine.h5", {}, None, None, samples=2)
    Path("project/mine.npz").unlink()
    with pytest.raises(InputError, match=r"cannot be built again: .*project.mine\.npz: no such"):
        subject("mine.h5", {}, None, None, samples=2)
