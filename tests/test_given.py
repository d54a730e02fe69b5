"""Nothing that is given is ignored in silence; weights come from arrays and from traces."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from command_line import call

import neurosim as ns
from neurosim import ingredients
from neurosim.errors import InputError, NeurosimWarning
from neurosim.loading import load_protocol
from neurosim.subjects import subject
from neurosim.weight_files import of_moment

pytestmark = pytest.mark.usefixtures("tiny")

FROM_RUN = {"init": "file", "file": "runs/a.h5"}


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


def drawn(seed=0, **changes):
    """The first weights of a network like the tiny one."""
    model = load_protocol("tiny.toml", {f"model.{k}": v for k, v in changes.items()}).spec.model
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
        taken = {"init": "file", "file": f"runs/a.h5{at}"}
        found = drawn(seed, weights=taken, feedback={"init": "file"})
        for letter, layers in (("W", found.W), ("Q", found.Q)):
            for i, array in enumerate(layers, start=1):
                np.testing.assert_array_equal(array, tree[f"{letter}{i}"].values[row, seed])


def test_a_run_goes_on_from_the_weights_of_another():
    changes = {"model.weights": {"init": "file", "file": Path("runs/a.h5")}}
    changes |= {"model.feedback.init": "file", "level": "equilibrium"}
    ns.run(load_protocol("tiny.toml", changes), seed=1, out="b.h5")
    first, last = of_moment(Path("b.h5"), "initial", 1), of_moment(Path("runs/a.h5"), "final", 1)
    assert first.keys() == last.keys() == {"W1", "W2", "Q1"}
    for name, array in last.items():
        np.testing.assert_array_equal(first[name], array)
    # A trace of one seed serves any other.
    other = drawn(5, weights={"init": "file", "file": "b.h5@initial"}, feedback={"init": "file"})
    np.testing.assert_array_equal(other.W[0], last["W1"])


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
        drawn(seed, weights={"init": "file", "file": file})


# --- what a network has no place for -------------------------------------------------------------


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ("b1", r"w\.npz: unknown array 'b1'.*\(allowed: W1, W2\); biases need model\.bias = true"),
        ("W3", r"w\.npz: unknown array 'W3'.*\(allowed: W1, W2\)$"),
        ("gain", r"w\.npz: unknown array 'gain' \(allowed: W1, W2\)$"),
    ],
)
def test_arrays_that_a_network_has_no_place_for_are_refused(extra, message):
    np.savez("w.npz", W1=np.eye(4, 3), W2=np.eye(4), **{extra: np.ones(4)})
    with pytest.raises(InputError, match=message):
        drawn(weights={"init": "file", "file": "w.npz"})


def test_biases_are_taken_all_or_none():
    np.savez("w.npz", W1=np.eye(4, 3), W2=np.eye(4), b2=np.ones(4))
    with pytest.raises(InputError, match="array 'b1' is missing"):
        drawn(weights={"init": "file", "file": "w.npz"}, bias=True)


def test_feedback_that_is_not_taken_over_is_said():
    said = r"a\.h5: Q1 not used, as model\.feedback\.init is 'pseudo-inverse'; 'file' takes them"
    with pytest.warns(NeurosimWarning, match=said):
        drawn(weights=FROM_RUN, feedback={"init": "pseudo-inverse"})


@pytest.mark.parametrize(
    ("key", "value", "reader"),
    [
        ("model.weights.file", "w.npz", "weights.init = 'file'"),
        ("model.feedback.file", "w.npz", "feedback.init = 'file'"),
        ("model.weights.distance", 3.0, "weights.init = 'near-teacher'"),
        ("schedule.final", 0.5, "schedule.kind = 'linear' or 'exponential'"),
    ],
)
def test_keys_that_another_switches_off_are_said(key, value, reader):
    said = rf"^override {key}: is not used; {reader} would use it$"
    with pytest.warns(NeurosimWarning, match=said):
        load_protocol("tiny.toml", {key: value})


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
