"""What scripts give: NumPy's numbers, paths, tables, and several of them at once."""

import json
import os
import signal
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from command_line import call
from tiny_runs import same

import neurosim as ns
from neurosim.building.shipped import bundled
from neurosim.errors import InputError, StoppedError
from neurosim.plain import plain
from neurosim.specs import ModelSpec
from neurosim.traces.checkpoint import Checkpoint

pytestmark = pytest.mark.usefixtures("tiny")


def run(changes=None, **arguments):
    protocol = ns.load_protocol("tiny.toml", {"level": "equilibrium"} | (changes or {}))
    return ns.run(protocol, **({"out": "a.h5"} | arguments))


# --- numbers -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (np.int64(50), 50),
        (np.uint8(3), 3),
        (np.float32(0.5), 0.5),
        (np.float64(0.1), 0.1),
        (np.longdouble(0.25), 0.25),
        (np.bool_(True), True),
        (np.str_("adam"), "adam"),
        (np.arange(2), [0, 1]),
        (np.array(7), 7),
        (jnp.arange(2), [0, 1]),
        (jnp.float32(0.5), 0.5),
        (Fraction(1, 4), 0.25),
        (Decimal("0.1"), 0.1),
        (Path("a/b"), "a/b"),
        (range(2), [0, 1]),
        ({"x": (np.int8(1), [np.float16(2)])}, {"x": [1, [2.0]]}),
        (None, None),
    ],
)
def test_what_is_a_number_or_a_path_becomes_plain(given, expected):
    found = plain(given)
    assert found == expected and type(found) is type(expected)
    assert json.loads(json.dumps(found)) == expected


def test_what_no_file_can_say_stays():
    for thing in (object(), np.tanh, ModelSpec):
        assert plain(thing) is thing


NUMPY = {
    "task.train": np.int64(64),
    "model.projections.W.rate": np.float64(0.05),
    "model.layers": np.array([3, 4, 4]),
    "model.parameters.mu": np.float32(0.25),
    "shuffle": np.bool_(True),
    "stages.0.presentations": np.uint16(10),
    "record": {"presentations": np.array([0, 6]), "samples": np.int8(2)},
    "model.noise": {"soma": np.float64(0.0)},
}
PLAIN = {
    "task.train": 64,
    "model.projections.W.rate": 0.05,
    "model.layers": [3, 4, 4],
    "model.parameters.mu": 0.25,
    "shuffle": True,
    "stages.0.presentations": 10,
    "record": {"presentations": [0, 6], "samples": 2},
    "model.noise": {"soma": 0.0},
}


def test_a_run_of_numpy_values_is_that_of_plain_ones_and_resumes(tmp_path):
    before = signal.signal(signal.SIGTERM, lambda *_: None)

    def stop(progress):
        if progress.done == 4:
            os.kill(os.getpid(), signal.SIGTERM)

    try:
        with pytest.raises(StoppedError):
            run(NUMPY, seeds=np.arange(2), out=Path("cut.h5"), progress=stop)
    finally:
        signal.signal(signal.SIGTERM, before)
    ns.resume(Path("cut.h5"))
    run(PLAIN, seeds=[0, 1], out="whole.h5")
    same(tmp_path / "whole.h5", tmp_path / "cut.h5")


def test_numpy_seeds_and_values_of_models_are_numbers():
    assert run(seed=np.int64(3)).metrics == run(seed=3, out="b.h5").metrics
    changes = {"target_step": np.float32(0.25), "layers": (3, 4), "parameters.mu": np.float32(0.25)}
    spec = ns.load_model("mixture-two-phase", changes)
    assert (spec.target_step, spec.parameters["mu"], spec.layers) == (0.25, 0.25, [3, 4])
    assert type(spec.parameters["mu"]) is float
    direct = spec.model_dump(mode="json", exclude_none=True) | {"target_step": np.float32(0.25)}
    direct["projections"]["W"]["bias"] = np.bool_(True)
    again = ModelSpec.model_validate(direct)
    assert type(again.target_step) is float and again.projections["W"].bias is True
    protocol = ns.load_protocol("tiny.toml", {"seed": np.int64(2), "level": "equilibrium"})
    assert ns.check(protocol, seeds=jnp.arange(2))["seeds"] == [0, 1]
    assert ns.analyze("tiny.toml", seed=np.int64(2), samples=np.int64(2)).report["seed"] == 2


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("task.train", np.float64(0.5), r"task.train.* got 0.5; expected a whole number"),
        ("model.target_step", np.float32(-0.75), r"model.target_step: -0.75 is out of range"),
        ("model.layers", np.array(3), r"model.layers: 3 has the wrong type"),
        ("model.target_step", np.complex128(1j), r"target_step: .* wrong type; expected a number"),
        ("model.parameters.mu", np.complex128(1j), r"model.parameters.mu: .*; expected a number"),
    ],
)
def test_what_is_no_such_number_is_refused_in_words(key, value, message):
    with pytest.raises(InputError, match=message):
        ns.check(ns.load_protocol("tiny.toml", {key: value}))


# --- seeds ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seeds", "message"),
    [
        (3, r"seeds 3: expected distinct .*; one run is seed=3, an ensemble seeds=range\(3\)"),
        (np.int64(3), r"one run is seed=3, an ensemble seeds=range\(3\)"),
        ("0:3", r"seeds '0:3': expected distinct whole numbers .* such as range\(3\)"),
        ([], r"seeds \[\]: expected"),
        ([0, 0], r"seeds \[0, 0\]: expected distinct"),
        ([0.0], r"expected distinct whole numbers"),
        ([True], r"expected distinct whole numbers"),
        ([-1], r"of at least 0"),
        ([2**31], r"below 2\*\*31"),
        (object(), r"expected distinct whole numbers"),
    ],
)
def test_seeds_that_are_none_are_refused_and_touch_no_file(seeds, message):
    Path("a.h5").write_text("precious")
    with pytest.raises(InputError, match=message):
        run(seeds=seeds, force=True)
    assert Path("a.h5").read_text() == "precious"
    assert not Checkpoint.path(Path("a.h5")).exists()


def test_seeds_may_come_one_by_one():
    done = run(seeds=(np.int64(n) for n in (2, 0)))
    assert [len(done.metrics["test_loss"]), ns.inspect("a.h5")["seeds"]] == [2, [2, 0]]


# --- paths and tables ----------------------------------------------------------------------------


def test_files_may_be_paths_wherever_one_is_named():
    rng = np.random.default_rng(0)
    np.savez("w.npz", W1=rng.normal(size=(4, 3)), W2=rng.normal(size=(4, 4)))
    Path("own.toml").write_text(bundled("models")["mixture-two-phase"].read_text())
    changes = {
        "model.use": Path("own.toml"),
        "model.layers": [3, 4, 4],
        "model.output": "linear",
        "model.loss": "squared",
        "model.projections.W": {"init": "file", "file": Path("w.npz"), "rate": 0.05},
    }
    done = ns.run(
        ns.load_protocol(Path("tiny.toml"), {"level": "equilibrium"} | changes), out=Path("a.h5")
    )
    with ns.open_trace(Path("a.h5")) as tree, np.load("w.npz") as given:
        np.testing.assert_array_equal(tree["weights/W1"][0], given["W1"])
    assert done.path == Path("a.h5")
    with pytest.raises(InputError, match=r"task.path: .*no/such.npz: no such file"):
        ns.check(
            ns.load_protocol("tiny.toml", {"task": {"name": "arrays", "path": Path("no/such.npz")}})
        )


@pytest.mark.parametrize(
    "overrides", ["model.parameters.mu=0.1", [("model.parameters.mu", 0.1)], {1: 2}, {("a",): 1}]
)
@pytest.mark.parametrize("load", [ns.load_protocol, ns.load_model])
def test_overrides_that_are_no_table_are_refused_in_words(load, overrides):
    name = "tiny.toml" if load is ns.load_protocol else "mixture-two-phase"
    with pytest.raises(InputError, match=r"overrides: got .*; expected values by dotted key"):
        load(name, overrides)


def test_tables_are_merged_into_those_of_the_files_as_dotted_keys_are():
    tables = {
        "model": {
            "parameters": {"mu": 0.05},
            "activation": {"name": "tanh"},
            "projections": {"W": {"gain": 2.0}},
        },
        "task": {"train": 32},
        "stages": {"0": {"presentations": 2, "phases": {1: {"duration": "1 s"}}}},
        "record": {"samples": 1},
    }
    keys = {
        "model.parameters.mu": 0.05,
        "model.activation": "tanh",
        "model.projections.W.gain": 2.0,
        "task.train": 32,
        "stages.0.presentations": 2,
        "stages.0.phases.1.duration": "1 s",
        "record.samples": 1,
    }
    spec = ns.load_protocol("tiny.toml", tables).spec
    assert spec == ns.load_protocol("tiny.toml", keys).spec
    assert (spec.model.layers, spec.record.presentations) == ([3, 4, 4], [0, 6])
    assert spec.stages[0].phases[0].plastic == ["feedback"]
    assert spec.task == {"name": "student-teacher", "layers": [3, 4, 4], "train": 32, "test": 16}


def test_another_task_or_activation_brings_its_own_keys_only():
    changes = {"task": {"name": "digits", "test_fraction": 0.3}, "model": {"layers": [64, 4, 10]}}
    spec = ns.load_protocol("tiny.toml", changes).spec
    assert spec.task == {"name": "digits", "test_fraction": 0.3}
    model = ns.load_model("mixture-two-phase", {"activation": {"slope": 0.5}})
    assert (model.activation.name, model.activation.slope) == ("leaky-relu", 0.5)
    model = ns.load_model("mixture-two-phase", {"activation": {"name": "tanh"}})
    assert (model.activation.name, model.activation.slope) == ("tanh", None)


def test_a_run_of_tables_resumes(tmp_path):
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    changes = {
        "model": {"parameters": {"mu": 0.05}, "projections": {"W": {"rate": np.float64(0.02)}}}
    }
    try:
        with pytest.raises(StoppedError):
            run(changes, progress=lambda _: os.kill(os.getpid(), signal.SIGTERM))
    finally:
        signal.signal(signal.SIGTERM, before)
    ns.resume("a.h5")
    run({"model.parameters.mu": 0.05, "model.projections.W.rate": 0.02}, out="whole.h5")
    with ns.open_trace("a.h5") as one, ns.open_trace("whole.h5") as other:
        assert one["metrics"].identical(other["metrics"])
        assert one["provenance/overrides"] == other["provenance/overrides"]


# --- words ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        (lambda: ns.run("tiny.toml", level="rat"), "override level: unknown level 'rat'; did you"),
        (
            lambda: ns.load_protocol("tiny.toml", {"model": {"target_step": -0.9}}),
            "override model.target_step: -0.9 is out of range; expected greater than 0",
        ),
        (
            lambda: ns.load_protocol("tiny.toml", {"mu": 0.1}),
            "override mu: unknown key 'mu'; did you mean 'model.parameters.mu'?",
        ),
        (
            lambda: ns.load_protocol("tiny.toml", {"model": {"rule": "delta"}}),
            "override model.rule: unknown key 'rule'; did you mean 'projections.NAME.rule'?",
        ),
        (
            lambda: ns.load_protocol("tiny.toml", {"duration": "1 s"}),
            "unknown key 'duration'; did you mean 'stages.0.phases.0.duration'?",
        ),
        (lambda: run(device="tpu"), "device='tpu': there is no such device here"),
        (lambda: run(out="tiny.h5"), "exists; give force=True to overwrite, or out=FILE"),
        (lambda: ns.run(None), "None is no protocol; expected a file or name"),
    ],
)
def test_what_a_script_did_wrong_is_said_as_a_script_says_it(mistake, message):
    Path("tiny.h5").write_text("precious")
    with pytest.raises(InputError) as caught:
        mistake()
    assert message in str(caught.value) and "--" not in str(caught.value)


def test_the_command_line_hears_of_the_same_in_its_own_words():
    said = call("check", "tiny.toml", "--set", "mu=0.1").stderr
    assert said == "error: --set mu: unknown key 'mu'; did you mean 'model.parameters.mu'?\n"
    said = call("check", "tiny.toml", "--set", "model={target_step=-0.9}").stderr
    assert "--set model.target_step: -0.9 is out of range; expected greater than 0" in said
    said = call("check", "tiny.toml", "--set", "model.mu=0.1").stderr
    assert said == (
        "error: --set model.mu: is no key any more; what it said is now said by parameters.mu\n"
    )
    with pytest.raises(InputError, match=r"^override mu: "):
        ns.load_protocol("tiny.toml", {"mu": 0.1})


# --- what is shown -------------------------------------------------------------------------------


def test_runs_protocols_and_analyses_are_shown_in_a_line():
    done = run({"name": "a+b", "model.layers": [3, 4, 4]}, seeds=[0, 1])
    low, high = sorted(done.metrics["test_loss"])
    mean = np.mean([low, high])
    words = f"test loss {mean:.4g}, mean of 2 seeds ({low:.4g} to {high:.4g})"
    assert repr(done) == f"<Run of a+b, equilibrium level: {words}; a.h5>"
    table = done._repr_html_()
    assert f"<tr><th>test loss</th><td>{words.removeprefix('test loss ')}</td></tr>" in table
    assert "<tr><th>trace</th><td>a.h5</td></tr>" in table and "wall time" in table
    own = {"model": {"parameters": {"mu": 0.1}}, "model.projections.W.rule": np.tanh}
    protocol = ns.load_protocol("tiny.toml", own)
    start = "<Protocol tiny of tiny.toml: model.parameters.mu=0.1, model.projections.W.rul"
    assert repr(protocol).startswith(start)
    found = ns.analyze("tiny.toml", samples=1, starts=0)
    assert repr(found) == "<Analysis of tiny.toml: layers [3, 4, 4], seed 0>"
    assert max(len(repr(thing)) for thing in (done, protocol, found)) < 200


def test_what_diverged_is_shown_and_names_are_no_markup():
    spec = ns.load_protocol("tiny.toml").spec
    lost = [{"seed": 0, "presentation": 1, "message": "lost"}]
    metrics, settled = {"test_loss": float("nan")}, {"free": 0.5}
    done = ns.Run(Path("<b>.h5"), spec, metrics, lost, 1.0, settled, {}, {}, (14, 840))
    words = "test loss not a number, diverged 1 seed"
    assert repr(done) == f"<Run of tiny, rate level: {words}; <b>.h5>"
    assert "&lt;b&gt;.h5" in done._repr_html_() and "<b>" not in done._repr_html_()
    assert "<td>free: 50.0 % of samples</td>" in done._repr_html_()
    assert "<td>14 of the 840 presentations that its stages ask for," in done._repr_html_()


def test_scripts_are_silent_where_nobody_looks_on_and_not_where_asked(capsys, monkeypatch):
    run()
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("neurosim.process.progression.PATIENCE", 0.001)
    monkeypatch.setattr("neurosim.process.progression.INTERVAL", 0.001)
    run(progress=True, out="b.h5")
    assert "tiny: compiling" in capsys.readouterr().err
    run(progress=False, out="c.h5")
    assert capsys.readouterr().err == ""
