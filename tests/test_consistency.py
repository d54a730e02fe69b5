"""What a protocol cannot ask for: every refusal and warning by its text; weights from files."""

import warnings

import jax
import numpy as np
import pytest
from circuit_models import ASKS_FOR_FILES

import neurosim as ns
from neurosim.building import assembly, facts
from neurosim.building.loading import load_model
from neurosim.building.shipped import bundled
from neurosim.models import circuitry
from neurosim.runs.contents import Contents, Plan
from neurosim.specs import ModelSpec

DEEP = [64, 32, 32, 32, 32, 32, 10]

ONLINE = {
    "plasticity": "online",
    "model.projections.W.rate": "1 Hz",
    "model.projections.Q.rate": "1 Hz",
    "model.tau_memory": "100 ms",
}

REFUSED = {
    "no share at all": (
        {"model.parameters.mu": 1},
        r"attenuation: float division by zero in layer 1, with mu = 1; expected a share of more",
    ),
    "a share below zero": (
        {"model.parameters.mu": -1},
        r"attenuation: -0\.5 in layer 2, with mu = -1; expected a share of more than 0",
    ),
    "rate that is no number": (
        {"model.projections.W.rate": "1/(mu - 0.1)"},
        r"W\.rate: float division by zero in layer 1, with mu = 0\.1; expected a number",
    ),
    "rate of no number at all": (
        {"model.projections.W.rate": "log(mu - 0.1 - i)"},
        r"W\.rate: nan in layer 1, with mu = 0\.1; expected a number",
    ),
    "parameter of another kind": (
        {"model.parameters.mu": "some"},
        r"override model\.parameters\.mu: 'some' is no quantity; expected a number, or one wit",
    ),
    "parameter missing": (
        {"model.parameters": {"mu": 0.1}, "model.attenuation": "nu"},
        r"attenuation: unknown name 'nu'",
    ),
    "parameter of another model": (
        {"model.use": "multiplexing", "stages.0.phases.0.parameters": {"mu": 0.1}},
        r"parameters\.mu: unknown parameter 'mu' \(allowed: tau_basal, tau_apical\)",
    ),
    "unit": (
        {"model.parameters.tau_soma": "10 mV"},
        r"override model\.parameters\.tau_soma: '10 mV' has the wrong dimension; expected a time",
    ),
    "unit of a mean": (
        {"model.parameters.tau_soma": {"mean": "10 mV", "spread": "1 ms"}},
        r"override model\.parameters\.tau_soma\.mean: '10 mV' has the wrong dimension; expected a",
    ),
    "time below zero": (
        {"model.parameters.tau_soma": -0.02},
        r"tau_soma: -0\.02 is out of range; expected a time of at least 0",
    ),
    "bare number": (
        {"stages.0.phases.0.duration": 10},
        r'a bare number has no unit; write "10 ms"',
    ),
    "start of another time": (
        {"model.projections.Q.init": "exact-inverse"},
        r"Q\.init: unknown start 'exact-inverse' .* or an expression .* such as 'pinv\(W\[i\+1\]\)",
    ),
    "cross-entropy of linear output": (
        {"model.output": "linear"},
        r'loss: the cross-entropy needs output = "softmax"',
    ),
    "credit": (
        {"model.credit": "backprop"},
        r"W\.post: does not name the teaching that backprop brings; expected such as post = 'slope",
    ),
    "rates": (
        {"model.projections.W.rate": [1, 2, 3]},
        r"3 rates; expected one, or one for each of the 2 weights",
    ),
    "rate with a unit": (
        {"model.projections.W.rate": "2 Hz"},
        r"quasi-static plasticity needs a bare number, the rate per presentation",
    ),
    "online without units": (
        {"plasticity": "online"},
        r'projections\.W\.rate: online plasticity needs a rate per second such as "0\.5 Hz"',
    ),
    "online at equilibrium": (
        ONLINE | {"level": "equilibrium"},
        r"phases\.0\.until: online plasticity is open all along the phase",
    ),
    "tied to nothing": (
        {"model.projections.Q.rule": "tied", "model.projections.Q.init": "normal"},
        r"Q\.rule: 'tied' keeps weights at an expression over others, which init must then be",
    ),
    "online without a memory": (
        {key: value for key, value in ONLINE.items() if key != "model.tau_memory"},
        r"tau_memory: missing; online, soma_free of projections\.W is a slow memory, whose time co",
    ),
    "compared with nothing": (
        {"stages.0.phases.0.plastic": ["forward"]},
        r"the rule of W names soma_free, .* phase 'free', which does not come before .*: none\)",
    ),
    "compared with the same": (
        {"stages.0.phases.1.teaching": "none"},
        r"phases\.1\.plastic: plasticity of W is open in a phase that teaches nothing, as 'free' d",
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
        r"unknown noisy compartment 'basal'.*; what follows at once has no noise of its own",
    ),
    "noise at equilibrium": (
        {"model.noise": {"soma": 0.1}, "level": "equilibrium"},
        r"the equilibrium level has no noise; use level='rate'",
    ),
    "precision": (
        {"precision": "float32", "model.layers": DEEP},
        r"precision: float32 carries the learning signal of layer 1, about 1\.9e-07 of the "
        r"activity, only to 63%; use precision = 'float64'",
    ),
    "phase too short": (
        {"stages.0.phases.0.duration": "100 ms"},
        r"after 100 ms the transient is still about 19 times the learning signal of layer 1; about",
    ),
    "weights without a file": (
        {"model.projections.W.init": "file"},
        r"W\.file: missing; init = 'file' needs an \.npz with W1 …, or a trace",
    ),
    "feedback weights without a file": (
        {"model.projections.Q.init": "file"},
        r"Q\.file: missing; init = 'file' needs an \.npz with Q1 …, or a trace",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_with_the_reason(case):
    overrides, message = REFUSED[case]
    with pytest.raises(ns.InputError, match=message):
        ns.load_protocol("quickstart", {"model.target_step": 0.1} | overrides)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"level": "equilibrium"},
            r"cells\.pyramidal\.equations: the equilibrium level has no noise; use "
            r"level='rate', or drop xi",
        ),
        ({"rate.scheme": "dopri5"}, r"rate\.scheme: noise needs 'euler' or 'heun' with adaptive"),
        ({"rate.adaptive": True}, r"rate\.scheme: noise needs 'euler' or 'heun' with adaptive"),
        ({"stages.0.phases.0.until": "settled"}, r"until: a noisy network never settles; write"),
    ],
)
def test_noise_in_an_equation_is_refused_where_a_deviation_is(changes, message):
    quiet = load_model("mixture-two-phase").cells["pyramidal"].equations
    noisy = quiet.replace("/tau_soma", "/tau_soma + 0.1*xi")
    given = {"level": "rate", "model.cells.pyramidal.equations": noisy}
    with pytest.raises(ns.InputError, match=message):
        ns.load_protocol("quickstart", given | changes)


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
        (
            {"model.projections.Q.rule": "fixed"},
            r"plastic\.0: opens nothing, for lack of a rule that learns: Q; give one, or leave it",
        ),
        (
            {"model.projections.Q.rule": "tied"},
            r"quickstart\.toml:\d+: stages\.0\.phases\.0\.plastic\.0: opens nothing, for lack of a",
        ),
        (
            {
                "model.use": "backprop",
                "stages.0.phases": [
                    {"name": "rest", "duration": "1 s", "plastic": ["forward", "feedback"]}
                ],
            },
            r"phases\.0\.plastic\.1: opens nothing, as no weights carry anything from above; leave",
        ),
    ],
)
def test_doubtful_is_warned_of(overrides, message):
    with pytest.warns(ns.NeurosimWarning, match=message):
        ns.load_protocol("quickstart", {"model.target_step": 0.1} | overrides)


def test_errors_name_file_and_line(tmp_path):
    path = tmp_path / "mine.toml"
    text = 'name = "mine"\nbatch = 50\n[model]\nuse = "mixture"\ntarget_step = 0\ntau = "5 ms"\n'
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ns.InputError) as caught:
        ns.load_protocol(path)
    lines = str(caught.value).splitlines()
    assert f"{path}:5: model.target_step: 0 is out of range; expected greater than 0" in lines
    assert any(line.startswith(f"{path}:6: model.tau: unknown key 'tau'") for line in lines)
    assert any(line.startswith(f"{path}: stages: missing") for line in lines)


@pytest.mark.parametrize("key", ModelSpec.elsewhere)
@pytest.mark.parametrize("kind", ["protocols", "models"])
def test_keys_of_another_time_say_what_says_it_now(tmp_path, kind, key):
    """At the line where they stand."""
    path, shipped = (
        tmp_path / "old.toml",
        bundled(kind)["quickstart" if kind == "protocols" else "mixture"],
    )
    name = f"model.{key}" if kind == "protocols" else key
    table = key in ("weights", "forward", "feedback")
    lines = shipped.read_text(encoding="utf-8").splitlines()
    if table:
        lines, line = [*lines, f"[{name}]", "rate = 1"], len(lines) + 1
    else:
        line = lines.index("[model]") + 2 if kind == "protocols" else 1
        lines.insert(line - 1, f"{key} = 1")
    path.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(ns.InputError) as caught:
        (ns.load_protocol if kind == "protocols" else load_model)(path)
    now = ModelSpec.elsewhere[key]
    said = f"{name}: is no key any more; what it said is now said by {now}"
    assert caught.value.messages == (f"{path}:{line}: {said}",)
    if kind == "protocols":
        with pytest.raises(ns.InputError) as caught:
            ns.load_protocol("quickstart", {name: 1})
        assert caught.value.messages == (f"override {said}",)


def test_unknown_protocol_offers_the_nearest():
    with pytest.raises(ns.InputError, match=r"no shipped protocol .*did you mean 'quickstart'\?"):
        ns.load_protocol("quikstart")


def model(**changes) -> ModelSpec:
    return load_model("mixture-two-phase", {"layers": [3, 4, 2]} | changes)


def from_file(tmp_path, *projections, **arrays):
    np.savez(tmp_path / "w.npz", **arrays)
    given = {"init": "file", "file": "w.npz"}
    return {f"projections.{name}": given for name in projections}


ARRAYS = {
    "W1": np.arange(12.0).reshape(4, 3),
    "W2": -np.arange(8.0).reshape(2, 4),
    "Q1": np.sin(np.arange(8.0)).reshape(4, 2),
    "b1": np.ones(4),
    "b2": np.zeros(2),
}


def test_weights_from_a_file(tmp_path):
    changes = from_file(tmp_path, "W", **ARRAYS)
    changes |= {"projections.Q.init": "file", "projections.W.bias": True}  # of the same file
    with jax.enable_x64(True):
        found = assembly.weights(model(**changes), 0, None, tmp_path)
    assert set(found) == {"W", "Q", "b"}
    for letter, layers in found.items():
        for i, array in enumerate(layers, start=1):
            np.testing.assert_array_equal(array, ARRAYS[f"{letter}{i}"])


def test_biases_that_a_file_has_not_are_zero(tmp_path):
    arrays = {name: array for name, array in ARRAYS.items() if name[0] != "b"}
    changes = from_file(tmp_path, "W", "Q", **arrays) | {"projections.W.bias": True}
    found = assembly.weights(model(**changes), 0, None, tmp_path)
    assert [array.tolist() for array in found["b"]] == [[0.0] * 4, [0.0] * 2]


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
    spec = model(**from_file(tmp_path, "W", **arrays))
    with pytest.raises(ns.InputError, match=message):
        assembly.weights(spec, 0, None, tmp_path)


def test_weights_of_any_projection_come_from_a_file(tmp_path):
    circuit = "microcircuit"
    plain = load_model(circuit)
    drawn = assembly.weights(plain, 0, None, tmp_path)
    name = next(name for name in drawn if name not in ("W", "Q", "b"))
    numbers = [synapse.number for synapse in circuitry.circuit(plain).projection[name].synapses]
    arrays = {f"{name}{i}": 7.0 + np.asarray(w) for i, w in zip(numbers, drawn[name], strict=True)}
    changes = from_file(tmp_path, name, **arrays) | {f"projections.{name}.rule": "fixed"}
    changes |= dict.fromkeys([f"projections.{name}.post", f"projections.{name}.pre"])
    found = assembly.weights(load_model(circuit, changes), 0, None, tmp_path)
    for number, array in zip(numbers, found[name], strict=True):
        np.testing.assert_allclose(array, arrays[f"{name}{number}"], rtol=1e-6)


def test_shipped_protocols_raise_no_concern():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in set(bundled("protocols")) - ASKS_FOR_FILES:
            ns.load_protocol(name)


ADAPTIVE = {"rate.adaptive": True, "rate.scheme": "tsit5"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"rate.scheme": "euler", "rate.adaptive": True},
            r"rate\.adaptive: steps adapt to an estimate of their error, which 'euler' has not; "
            r"use scheme = 'heun' or 'dopri5' or 'tsit5' or 'kvaerno5', or adaptive = false",
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
    level = assembly.level(ns.load_protocol("student-teacher", given).spec)
    assert (level.rtol, level.atol) == tolerances
    least = {"rate.rtol": 1e-6, "rate.atol": 1e-7}
    level = assembly.level(ns.load_protocol("student-teacher", given | least).spec)
    assert (level.rtol, level.atol) == (1e-6, 1e-7)


def test_tolerances_of_fixed_steps_are_said_to_be_idle():
    with pytest.warns(ns.NeurosimWarning, match=r"rate\.rtol: is not used; adaptive = true would"):
        ns.load_protocol("student-teacher", {"level": "rate", "rate.rtol": 1e-5})


def test_samples_in_detail_are_those_that_a_small_batch_has():
    """Four where nothing is said; what is asked for and is not there is refused."""
    for batch, expected in ((2, [0, 1]), (50, [0, 1, 2, 3])):
        spec = ns.load_protocol("quickstart", {"batch": batch}).spec
        contents = Contents(spec, Plan(spec, 10), facts.observed(spec.model), [0], 100)
        assert contents.samples.tolist() == expected
