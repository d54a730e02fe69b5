"""Runs that start from the weights of other runs."""

from pathlib import Path

import numpy as np
import pytest
from circuit_models import ASKS_FOR_FILES
from command_line import call
from tiny_runs import SLEEP, TINY

import neurosim as ns
from neurosim.building import ingredients
from neurosim.building.continuing import started
from neurosim.building.loading import load_protocol
from neurosim.building.samples import draw
from neurosim.building.shipped import bundled
from neurosim.runs.contents import weights
from neurosim.specs.toml import read
from neurosim.sweeps.plan import plan
from neurosim.traces.weight_files import of_moment

NETWORKS = [
    name
    for name, path in bundled("protocols").items()
    if "task" in read(path).data and name not in ASKS_FOR_FILES
]


def drawn(protocol, seed):
    """All arrays of weights of a seed, by the names that traces give them."""
    _, (data,) = draw(protocol, [seed])
    found = ingredients.weights(protocol.spec.model, seed, data, protocol.folder)
    names = [name for name, _, _ in weights(protocol.spec.model)]
    arrays = [array for name in sorted(found) for array in found[name]]
    return dict(zip(names, arrays, strict=True))


@pytest.mark.parametrize("name", NETWORKS)
def test_all_weights_of_every_shipped_protocol_are_taken_over(name, tmp_path):
    """Those of another seed: what follows W follows the W that was taken."""
    protocol = load_protocol(name)
    others = drawn(protocol, 1)
    np.savez(tmp_path / "w.npz", **others)
    taken = drawn(started(protocol, tmp_path / "w.npz", 0), 0)
    assert taken.keys() == others.keys()
    for key, array in others.items():
        np.testing.assert_allclose(taken[key], array, rtol=1e-12, atol=1e-12, err_msg=key)


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """Two seeds of the tiny protocol, with the weights of presentations 0 and 6."""
    folder = tmp_path_factory.mktemp("first")
    (folder / "tiny.toml").write_text(TINY)
    protocol = load_protocol(folder / "tiny.toml", {"record.weights": True})
    return ns.run(protocol, level="equilibrium", seeds=range(2), out=folder / "a.h5").path


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with the tiny protocol, and with one whose stage is another."""
    monkeypatch.chdir(tmp_path)
    Path("tiny.toml").write_text(TINY)
    stage = TINY.index("[[stages]]"), TINY.index("[record]")
    rest = TINY[stage[1] :].replace("[0, 6]", "[0]")
    Path("sleep.toml").write_text(f"{TINY[: stage[0]]}{SLEEP}\n{rest}")


LEVEL = "--level", "equilibrium"


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(("at", "moment"), [("", "final"), ("@initial", "initial"), ("@6", "6")])
def test_weights_are_those_of_any_moment(first, at, moment):
    protocol = started(load_protocol("tiny.toml"), f"{first}{at}", 1)
    taken, before = drawn(protocol, 1), of_moment(first, moment, 1)
    assert taken.keys() == before.keys() == {"W1", "W2", "Q1"}
    for name, array in before.items():
        np.testing.assert_array_equal(taken[name], array)


@pytest.mark.usefixtures("here")
def test_stages_follow_and_every_seed_goes_on_from_its_own(first):
    """Sleep after training: each seed from the weights of that seed."""
    given = "--seeds", "0:2", "--from", first, "--out", "b.h5"
    result = call("run", "sleep.toml", *LEVEL, *given)
    assert result.exit_code == 0, result.output
    tree, before = ns.open_trace("b.h5"), ns.open_trace(first)
    assert tree["phases/phase"].attrs["flag_meanings"] == "free"
    for name in ("W1", "W2", "Q1"):
        begun = tree[f"weights/{name}"].sel(moment="initial").values
        np.testing.assert_array_equal(begun, before[f"weights/{name}"].sel(moment="final").values)
    again = before["evaluation/loss"].values[-1]
    np.testing.assert_allclose(tree["evaluation/loss"].values[0], again, rtol=1e-12)
    resolved = ns.inspect("b.h5")["resolved"]["model"]["projections"]
    assert resolved["W"]["file"] == resolved["Q"]["file"] == str(first)


@pytest.mark.usefixtures("here")
def test_check_says_where_weights_will_come_from(first):
    report = ns.check("tiny.toml", level="equilibrium", start=f"{first}@6", out="none.h5")
    assert report["protocol"]["model"]["projections"]["W"]["file"] == f"{first}@6"


@pytest.mark.usefixtures("here")
def test_every_point_of_a_sweep_starts_from_the_weights_it_is_known_by(first, tmp_path):
    def point(start):
        [found] = plan("tiny.toml", {"model.parameters.mu": [0.1]}, start=start).points
        return found

    known = {point(None).digest, (later := point(f"{first}@6")).digest, point(first).digest}
    np.testing.assert_array_equal(drawn(later.protocol, 0)["W1"], of_moment(first, "6", 0)["W1"])
    for scale in (1, 2):
        arrays = {name: scale * w for name, w in of_moment(first, "final", 0).items()}
        np.savez(tmp_path / "w.npz", **arrays)
        known.add(point("w.npz").digest)
    assert len(known) == 5
    axis = "--over", "model.parameters.mu=0.1,0.3"
    result = call("sweep", "tiny.toml", *axis, *LEVEL, "--from", f"{first}@5", "--out", "swept")
    assert result.exit_code == 2 and "no weights at '5'; expected one of" in result.stderr
    assert not Path("swept").exists()


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--from", "{a}@5"], "no weights at '5'; expected one of initial, final, 0, 6"),
        (["--from", "none.h5"], "none.h5: no such file"),
        (["--from", "{a}", "--seed", "7"], "seed 7 was not run; there are: [0, 1]"),
        (
            ["--from", "{a}", "--set", "model.layers=[3,5,4]", "--set", "task.layers=[3,5,4]"],
            "a.h5: W1 has shape (4, 3); expected (5, 3)",
        ),
        (["--from", "other.npz"], "none of it is of this network, whose weights are those of W, Q"),
        (["--from", "more.npz"], "unknown array 'b1' (allowed: W1, W2, Q1)"),
    ],
)
def test_weights_that_do_not_fit_are_refused(first, options, words):
    np.savez("other.npz", V1=np.eye(3))
    np.savez("more.npz", W1=np.ones((4, 3)), W2=np.eye(4), Q1=np.eye(4), b1=np.ones(4))
    given = [option.replace("{a}", str(first)) for option in options]
    result = call("run", "tiny.toml", *LEVEL, *given, "--out", "b.h5")
    assert result.exit_code == 2 and words in result.stderr
    assert not Path("b.h5").exists()


@pytest.mark.usefixtures("here")
def test_what_a_file_lacks_is_said(first):
    np.savez("w.npz", W1=np.ones((4, 3)), W2=np.eye(4))
    with pytest.warns(ns.NeurosimWarning, match=r"w\.npz: holds no weights of Q, which start as"):
        ns.check("tiny.toml", level="equilibrium", start="w.npz", out="none.h5")


def test_cells_have_no_weights_to_start_from(first):
    result = call("run", "current-clamp", "--from", first)
    assert (
        result.stderr == "error: --from: belongs to protocols of networks; run of a cell has none\n"
    )
