"""What a protocol cannot ask for: every refusal and warning by its text; weights from files."""

import warnings

import jax
import numpy as np
import pytest

import neurosim as ns
from neurosim import build
from neurosim.spec import ModelSpec

DEEP = [64, 32, 32, 32, 32, 32, 10]

REFUSED = {
    "mu out of range": ({"model.mu": 0.5}, r"model\.mu: 0\.5 is out of range; expected less than"),
    "mu missing": ({"model.mu": None}, r"mu: missing; the mixture dynamics needs it"),
    "parameter of another dynamics": (
        {"model.use": "multiplexing", "model.mu": 0.1},
        r"mu: the multiplexing dynamics has no 'mu'",
    ),
    "dynamics": (
        {"model.dynamics": "mixtur"},
        r"unknown dynamics 'mixtur'; did you mean 'mixture'",
    ),
    "unit": ({"model.tau_soma": "10 mV"}, r"'10 mV' has the wrong dimension; expected a time"),
    "bare number": ({"model.tau_soma": 10}, r'a bare number has no unit; write "10 ms"'),
    "exact inverse of unequal layers": (
        {"model.feedback.init": "exact-inverse"},
        r"init: exact inverses need layers of equal size; .*\[64, 10\]; use 'pseudo-inverse'",
    ),
    "cross-entropy of linear output": (
        {"model.output": "linear"},
        r'loss: the cross-entropy needs output = "softmax"',
    ),
    "credit": (
        {"model.credit": "backprop"},
        r"credit: this dynamics cannot use 'backprop'; it can single-phase or two-phase",
    ),
    "rates": (
        {"model.forward.rate": [1, 2, 3]},
        r"3 rates; expected one, or one for each of the 2",
    ),
    "rate with a unit": ({"model.forward.rate": "2 Hz"}, r"quasi-static plasticity needs a bare"),
    "online without units": (
        {"plasticity": "online"},
        r'forward\.rate: online plasticity needs a rate per second such as "0\.5 Hz"',
    ),
    "online at equilibrium": (
        {"plasticity": "online", "level": "equilibrium"},
        r"phases\.0\.until: online plasticity is open all along the phase",
    ),
    "tied to nothing": (
        {"model.feedback.rule": "tied", "model.feedback.init": "random"},
        r"'tied' follows the initialiser, which must then be 'exact-inverse' or",
    ),
    "open but fixed": (
        {"model.feedback.rule": "fixed"},
        r"plastic: feedback plasticity is open but the feedback rule is 'fixed'",
    ),
    "frozen from nowhere": (
        {"stages.0.phases.0.teaching": "frozen"},
        r"'frozen' freezes the target at the end of a free phase .* none comes before",
    ),
    "duration no multiple of dt": (
        {"stages.0.phases.0.duration": "605 ms"},
        r"605 ms is not a multiple of dt = 10 ms; the nearest: 600 ms or 610 ms",
    ),
    "epochs and presentations": (
        {"stages.0.presentations": 5},
        r"stages\.0: give either epochs or presentations",
    ),
    "variable": (
        {"record.variables": ["some"]},
        r"unknown variable 'some'; did you mean 'soma'\?",
    ),
    "sample": (
        {"record.samples": [0, 50], "batch": 50},
        r"samples\.1: sample 50 of a batch of 50, whose samples are 0 to 49",
    ),
    "record's units": (
        {"record.units": [3, 12], "record.layers": [2], "model.layers": [64, 20, 10]},
        r"units\.\d: unit 12, but the units of the largest recorded layer are 0 to 9",
    ),
    "layer": ({"record.layers": [3]}, r"layer 3 of a network with 2 layers above its input"),
    "noise that settles": (
        {"model.noise": {"soma": 0.1}},
        r"until: a noisy network never settles; write until = 'duration'",
    ),
    "noise on an instant dendrite": (
        {"model.noise": {"basal": 0.1}},
        r"unknown noisy compartment 'basal'.*a compartment without tau_basal follows at once",
    ),
    "noise at equilibrium": (
        {"model.noise": {"soma": 0.1}, "level": "equilibrium"},
        r"the equilibrium level has no noise; use level='rate'",
    ),
    "precision": (
        {"precision": "float32", "model.layers": DEEP},
        r"precision: float32 carries the learning signal of layer 1, about 1\.9e-07 of the "
        r"activity, only to 63%; use float64",
    ),
    "phase too short": (
        {"stages.0.phases.0.duration": "100 ms"},
        r"after 100 ms the transient is still about 19 times the learning signal of layer 1; about",
    ),
    "weights without a file": (
        {"model.weights.init": "file"},
        r"file: missing; init = 'file' needs an \.npz with W1",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_with_the_reason(case):
    overrides, message = REFUSED[case]
    with pytest.raises(ns.InputError, match=message):
        ns.load_protocol("quickstart", {"model.target_step": 0.1} | overrides)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            {
                "precision": "float32",
                "model.layers": [64, 32, 32, 32, 32, 10],
                "level": "equilibrium",
            },
            r"float32 carries the learning signal of layer 1, about 1\.7e-06 .* only to 7%",
        ),
        (
            {"stages.0.phases.0.duration": "250 ms"},
            r"after 250 ms the transient is still about 15% of the learning signal of layer 1",
        ),
    ],
)
def test_doubtful_is_warned_of(overrides, message):
    with pytest.warns(ns.NeurosimWarning, match=message):
        ns.load_protocol("quickstart", {"model.target_step": 0.1} | overrides)


def test_errors_name_file_and_line(tmp_path):
    path = tmp_path / "mine.toml"
    text = 'name = "mine"\nbatch = 50\n[model]\nuse = "mixture"\nmu = 0.7\ntau = "5 ms"\n'
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ns.InputError) as caught:
        ns.load_protocol(path)
    lines = str(caught.value).splitlines()
    assert f"{path}:5: model.mu: 0.7 is out of range; expected less than 0.5" in lines
    assert any(line.startswith(f"{path}:6: model.tau: unknown key 'tau'") for line in lines)
    assert any(line.startswith(f"{path}: stages: missing") for line in lines)


def test_unknown_protocol_offers_the_nearest():
    with pytest.raises(ns.InputError, match=r"no shipped protocol .*did you mean 'quickstart'\?"):
        ns.load_protocol("quikstart")


def model(**changes) -> ModelSpec:
    given = {"dynamics": "mixture", "credit": "two-phase", "layers": [3, 4, 2], "mu": 0.1}
    return ModelSpec(**(given | {"tau_soma": "20 ms"} | changes))


def weights_file(tmp_path, **arrays):
    np.savez(tmp_path / "w.npz", **arrays)
    return {"init": "file", "file": "w.npz"}


def test_weights_from_a_file(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {"W1": rng.normal(size=(4, 3)), "W2": rng.normal(size=(2, 4))}
    arrays |= {"Q1": rng.normal(size=(4, 2)), "b1": np.ones(4), "b2": np.zeros(2)}
    from_file = weights_file(tmp_path, **arrays)
    spec = model(weights=from_file, bias=True, feedback={"init": "file"})
    with jax.enable_x64(True):
        found = build.weights(spec, 0, None, tmp_path)
    for letter, layers in (("W", found.W), ("b", found.b), ("Q", found.Q)):
        for i, array in enumerate(layers, start=1):
            np.testing.assert_array_equal(array, arrays[f"{letter}{i}"])


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"W1": np.ones((4, 3))}, r"array 'W2' is missing; it holds \['W1'\]"),
        (
            {"W1": np.ones((3, 4)), "W2": np.ones((2, 4))},
            r"W1 has shape \(3, 4\); expected \(4, 3\)",
        ),
        ({"W1": np.full((4, 3), np.nan), "W2": np.ones((2, 4))}, r"W1 holds numbers that are not"),
        ({"W1": np.array([object()])}, r"an \.npz file of plain numbers \(W1\.npy: holds objects"),
    ],
)
def test_bad_weights_files(tmp_path, arrays, message):
    spec = model(weights=weights_file(tmp_path, **arrays))
    with pytest.raises(ns.InputError, match=message):
        build.weights(spec, 0, None, tmp_path)


def test_shipped_protocols_raise_no_concern():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in ("quickstart", "student-teacher", "multiplexing-digits", "online-plasticity"):
            ns.load_protocol(name)


ADAPTIVE = {"rate.adaptive": True, "rate.scheme": "tsit5"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"rate.scheme": "euler", "rate.adaptive": True},
            r"rate\.adaptive: steps adapt to an estimate of their error, which 'euler' has not; "
            r"use scheme = 'heun' or 'tsit5' or 'kvaerno5', or adaptive = false",
        ),
        (
            ADAPTIVE | {"rate.rtol": 1e-9},
            r"rate\.rtol: 1e-09 is below what float32 carries; expected at least 9\.5e-07, or "
            r'precision = "float64"',
        ),
        (ADAPTIVE | {"rate.atol": 1e-9}, r"atol: 1e-09 is below what float32 carries; expected at"),
        (
            {"rate.scheme": "kvaerno5", "rate.rtol": 1e-8},
            r"rtol: 1e-08 is below what float32 carries",
        ),
        (
            ADAPTIVE | {"rate.rtol": 1e-16, "precision": "float64"},
            r"rtol: 1e-16 is below what float64 carries; expected at least 1\.8e-15$",
        ),
    ],
)
def test_solvers_are_not_asked_for_what_they_cannot_do(changes, message):
    with pytest.raises(ns.InputError, match=message):
        ns.load_protocol("student-teacher", {"level": "rate", "precision": "float32"} | changes)


@pytest.mark.parametrize(
    ("precision", "tolerances"), [("float32", (1e-5, 1e-6)), ("float64", (1e-6, 1e-9))]
)
def test_tolerances_that_nobody_gives_are_those_that_the_precision_carries(precision, tolerances):
    given = {"level": "rate", "precision": precision} | ADAPTIVE
    level = build.level(ns.load_protocol("student-teacher", given).spec)
    assert (level.rtol, level.atol) == tolerances
    least = {"rate.rtol": 1e-6, "rate.atol": 1e-7}
    level = build.level(ns.load_protocol("student-teacher", given | least).spec)
    assert (level.rtol, level.atol) == (1e-6, 1e-7)


def test_tolerances_of_fixed_steps_are_said_to_be_idle():
    with pytest.warns(ns.NeurosimWarning, match=r"rate\.rtol: is not used; adaptive = true would"):
        ns.load_protocol("student-teacher", {"level": "rate", "rate.rtol": 1e-5})
