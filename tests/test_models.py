"""Model files: like another one, biases, and rules that replace each other."""

import re
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from command_line import call

import neurosim as ns
from neurosim.building import assembly
from neurosim.building.loading import load_model
from neurosim.building.shipped import bundled
from neurosim.errors import InputError
from neurosim.models import circuitry
from neurosim.models.initialisers import identity, weights_named
from neurosim.networks.dynamics import Target, rest

RECONSTRUCTION = "t_slope(apical)*(soma - apical_rate)"


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def written(name, text):
    Path(name).write_text(text, encoding="utf-8")
    return name


def lines(cell):
    """The equations of a cell by what they say."""
    found = {}
    for line in cell.equations.splitlines():
        name, equals, right = line.partition("#")[0].partition("=")
        if equals:
            found[name.strip()] = right.strip()
    return found


# --- like another model --------------------------------------------------------------------------


def test_a_model_like_another_says_what_differs():
    """Two lines of a cell, which become two states, and two parameters."""
    base, own = load_model("mixture-two-phase"), load_model("mixture-dendrites")
    before, after = lines(base.cells["pyramidal"]), lines(own.cells["pyramidal"])
    assert {"basal", "apical"} == before.keys() - after.keys()
    assert {"dbasal/dt", "dapical/dt"} == after.keys() - before.keys()
    assert all(after[name] == before[name] for name in before.keys() & after.keys())
    assert own.parameters == base.parameters | {"tau_basal": 0.005, "tau_apical": 0.005}
    assert (own.name, own.source) == ("mixture-dendrites", base.source)
    assert own.projections == base.projections and own.cells["output"] == base.cells["output"]
    assert {name for _, name in circuitry.circuit(own).moving} == {"soma", "basal", "apical"}


def test_lines_are_replaced_and_added_and_the_rest_stays():
    """Of a model beside it; of a state that becomes a quantity; comments of the others stay."""
    written("base.toml", bundled("models")["mixture"].read_text(encoding="utf-8"))
    text = """
like = "base.toml"
target_step = 0.5
[cells.pyramidal]
equations = '''
soma   = (1 - mu)*basal_rate + mu*apical_rate + offset
gained = 2*soma
up     = gained
'''
parameters.offset = 0.25
[cells.output.parameters]
offset = 0.5
[projections.Q]
post = "t_slope(apical)*(soma - apical_rate)"
rate = 0.1
"""
    base, own = load_model("base.toml"), load_model(written("own.toml", text))
    before, after = lines(base.cells["pyramidal"]), lines(own.cells["pyramidal"])
    assert after["soma"] == "(1 - mu)*basal_rate + mu*apical_rate + offset"
    assert "dsoma/dt" not in after and after["up"] == "gained" and after["gained"] == "2*soma"
    same = before.keys() - {"dsoma/dt", "up"}
    assert {name: after[name] for name in same} == {name: before[name] for name in same}
    assert "# what the basal dendrite predicts, f" in own.cells["pyramidal"].equations
    assert own.cells["pyramidal"].parameters == {"offset": 0.25}
    assert own.cells["output"].equations == base.cells["output"].equations
    assert (own.target_step, own.layers) == (0.5, base.layers)
    assert (own.projections["Q"].rule, own.projections["Q"].init) == ("fixed", "inv(W[i+1])")
    assert own.projections["Q"].post == RECONSTRUCTION
    assert own.projections["W"] == base.projections["W"]


def test_what_is_said_twice_is_refused_in_a_model_like_another_too():
    text = "like = 'mixture'\n[cells.pyramidal]\nequations = 'up = soma\\nup = basal'"
    with pytest.raises(ns.InputError, match="'up' is defined twice"):
        circuitry.sound(
            load_model(written("own.toml", text.replace("'up", '"up').replace("l'", 'l"')))
        )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('name = "a"\nlike = "mixtur"', ":2: like: mixtur: no such model file, .*'mixture'"),
        ('like = "none.toml"', ":1: like: none.toml: no such model file"),
        ("like = 3", ":1: like: got 3; expected the name or path of a model"),
        (
            '\n\nlike = "mixture-dendrites"',
            ":3: like: 'mixture-dendrites' is itself like 'mixture-two-phase'; expected a model th",
        ),
    ],
)
def test_what_a_model_cannot_be_like(text, said):
    written("own.toml", text)
    with pytest.raises(ns.InputError) as refused:
        load_model("own.toml")
    assert re.match(rf"own\.toml{said}", str(refused.value))
    with pytest.raises(ns.InputError) as refused:
        ns.load_protocol("quickstart", {"model.use": str(Path("own.toml").absolute())})
    assert re.search(rf"own\.toml{said}", str(refused.value))


def test_mistakes_of_a_model_like_another_are_placed_in_the_file_that_makes_them():
    text = bundled("models")["mixture"].read_text(encoding="utf-8")
    [line] = [n for n, said in enumerate(text.splitlines(), start=1) if said.startswith("loss")]
    written("base.toml", text.replace('loss = "squared"', 'loss = "sqared"'))
    written(
        "own.toml", 'like = "base.toml"\nauxiliary = -1\n[cells.pyramidal]\nequations = "x = y"'
    )
    with pytest.raises(ns.InputError) as refused:
        load_model("own.toml")
    at_base, at_own = sorted(refused.value.messages)
    assert at_base.startswith(f"base.toml:{line}: loss: unknown loss 'sqared'")
    assert at_own.startswith("own.toml:2: auxiliary: -1 is out of range")


def test_a_protocol_like_a_model_is_refused():
    with pytest.raises(ns.InputError, match=r"model\.like: unknown key 'like'"):
        ns.load_protocol("quickstart", {"model.like": "mixture"})


@pytest.mark.long
@pytest.mark.seldom
def test_a_run_of_a_model_like_another_goes_through_its_trace():
    """A trace holds all of the model, and needs neither file."""
    given = {"model.use": "mixture-dendrites", "model.layers": [64, 8, 10], "record.samples": 1}
    given |= {
        "level": "equilibrium",
        "stages.0.epochs": None,
        "stages.0.presentations": 2,
        "equilibrium.max_newton": 0,
    }
    protocol = ns.load_protocol("quickstart", given)
    done = ns.run(protocol, level="equilibrium", out="a.h5")
    words = call("inspect", done.path, "--protocol").stdout
    again = ns.load_protocol(written("again.toml", words))
    assert again.spec.model == protocol.spec.model


# --- rules: a name, or a text --------------------------------------------------------------------


def rule_of(name, projection):
    return name.spec.model.projections[projection]


def test_a_text_replaces_a_rule_by_name_and_the_other_way_round():
    """In the table of a protocol, in overrides of it, and in those of a model."""
    Q = rule_of(ns.load_protocol("sleep"), "Q")  # whose table gives post, over the file's rule
    assert (Q.rule, Q.post) == ("fixed", RECONSTRUCTION)
    Q = rule_of(ns.load_protocol("sleep", {"model.projections.Q.rule": "difference"}), "Q")
    assert (Q.rule, Q.post, Q.rate.values) == ("difference", None, (0.005,))
    changes = {"model.projections.Q.post": "soma", "model.projections.Q.pre": "soma"}
    Q = rule_of(ns.load_protocol("quickstart", changes), "Q")
    assert (Q.rule, Q.post, Q.pre) == ("fixed", "soma", "soma")
    tables = {"model": {"projections": {"Q": {"post": "soma"}}}}
    assert rule_of(ns.load_protocol("quickstart", tables), "Q").post == "soma"
    given = {"model.projections.W.rule": "fixed", "stages.0.phases.1.plastic": []}
    W = rule_of(ns.load_protocol("quickstart", given), "W")
    assert (W.rule, W.post) == ("fixed", None)
    model = load_model("mixture", {"projections.Q.post": RECONSTRUCTION})
    assert (model.projections["Q"].rule, model.projections["Q"].post) == ("fixed", RECONSTRUCTION)
    model = load_model("mixture", {"projections.W.rule": "fixed"})
    assert (model.projections["W"].rule, model.projections["W"].post) == ("fixed", None)


def test_a_rule_by_name_in_the_table_of_a_protocol_replaces_the_text_of_the_file():
    text = bundled("protocols")["quickstart"].read_text(encoding="utf-8")
    own = text.replace("projections.W.rate = 0.2 ", 'projections.W = {rule = "fixed", rate = 0.2} ')
    own = own.replace('plastic = ["forward"]', "plastic = []")
    W = rule_of(ns.load_protocol(written("own.toml", own)), "W")
    assert (W.rule, W.post, W.rate.values) == ("fixed", None, (0.2,))


def test_the_command_line_replaces_rules_too():
    options = ["--set", f"model.projections.Q.post={RECONSTRUCTION}", "--quiet"]
    assert call("check", "quickstart", *options).exit_code == 0
    options = ["--set", "model.projections.Q.rule=difference", "--quiet"]
    assert call("check", "sleep", *options).exit_code == 0


@pytest.mark.parametrize("name", ["quickstart", "sleep"])
def test_both_at_once_are_refused(name):
    both = {"model.projections.Q.rule": "difference", "model.projections.Q.post": "soma"}
    with pytest.raises(ns.InputError, match=r"Q\.rule: got both rule and post; expected one of th"):
        ns.load_protocol(name, both)


@pytest.mark.parametrize(
    ("text", "law", "per_second"),
    [
        ("mu", "mu", False),
        ("2*mu", "2*mu", False),
        ("mu Hz", "mu", True),
        ("3*mu**(L - i) Hz", "3*mu**(L - i)", True),
    ],
)
def test_a_rate_is_an_expression_that_may_end_in_a_name(text, law, per_second):
    rate = load_model("mixture", {"projections.W.rate": text}).projections["W"].rate
    assert (rate.text, rate.per_second) == (law, per_second)


@pytest.mark.parametrize("text", ["5 apples", "1e3Hertzz", "-2 Hz"])
def test_a_number_with_a_wrong_unit_is_no_expression(text):
    with pytest.raises(ns.InputError, match=r"projections\.W\.rate: .*(unknown unit|expected)"):
        load_model("mixture", {"projections.W.rate": text})


# --- biases --------------------------------------------------------------------------------------

BIASED = """
name = "biased"
layers = [3, 4, 2]
output_activation = "linear"
[cells.neuron]
equations = '''
dv/dt = (forward + bias - v)/tau
rate  = s(v)
'''
[populations]
neuron = "all"
[projections.W]
wire = "rate[i-1] -> forward[i]"
BIAS
[parameters]
tau = "20 ms"
"""


@pytest.mark.parametrize("bias", ["true", "false"])
def test_a_bias_is_learned_or_zero(bias):
    """At rest v = W h + b, where b is that of the weights or nothing."""
    model = load_model(written("own.toml", BIASED.replace("BIAS", f"bias = {bias}")))
    dynamics, network = assembly.dynamics(model), assembly.network(model)
    weights = assembly.weights(model, 0, None, Path.cwd())
    x = jnp.ones(3)
    assert ("b" in weights) == (bias == "true")
    if bias == "true":
        assert [b.tolist() for b in weights["b"]] == [[0.0] * 4, [0.0] * 2]
        weights["b"] = tuple(b + 1.0 for b in weights["b"])
    drive = dynamics.drive(network, weights, x, Target("none"))
    state = rest(dynamics, network, x.dtype)
    pulled = dynamics.at(network, weights, drive, state).pull("neuron.v", 1)
    expected = weights["W"][0] @ x + (1.0 if bias == "true" else 0.0)
    np.testing.assert_allclose(pulled, expected, rtol=1e-6)


def test_cells_that_name_a_bias_which_nobody_gives_are_refused_with_a_hint():
    path = written("own.toml", BIASED.replace("BIAS", ""))
    text = bundled("protocols")["backprop-digits"].read_text(encoding="utf-8")
    given = {"model.use": str(Path(path).absolute())}
    with pytest.raises(ns.InputError) as refused:
        ns.load_protocol(written("mine.toml", text), given)
    hint = "bias = true of a projection that reaches neuron gives one, bias = false one of 0"
    message, misfit = refused.value.messages
    assert re.search(r"own\.toml:6: cells\.neuron\.equations: unknown name 'bias'", message)
    assert message.endswith(hint)
    assert re.search(r"own\.toml:3: layers: .* does not fit the task", misfit)
    with pytest.raises(ns.InputError, match=hint):
        circuitry.sound(load_model(path))


@pytest.mark.parametrize("name", ["mixture", "mixture-two-phase", "multiplexing", "backprop"])
def test_biases_of_shipped_models_are_one_word_away(name):
    with_b = load_model(name, {"projections.W.bias": True, "layers": [4, 4, 4]})
    assert "b" in assembly.weights(with_b, 0, None, Path.cwd())
    without = load_model(name, {"layers": [4, 4, 4]})
    assert "b" not in assembly.weights(without, 0, None, Path.cwd())


# --- where weights start ---------------------------------------------------------------------


def test_the_identity_sends_units_on_as_far_as_there_are_as_many():
    np.testing.assert_array_equal(identity((2, 3)), [[1, 0, 0], [0, 1, 0]])
    np.testing.assert_array_equal(identity((3,)), [1, 1, 1])
    kernels = identity((2, 2, 3, 3))  # of maps: the middle of the own one alone
    assert kernels.sum() == kernels[0, 0, 1, 1] + kernels[1, 1, 1, 1] == 2


def test_arrays_of_a_weights_file_are_wanted_by_name_and_shape():
    W = np.arange(6.0).reshape(2, 3)
    given = {"W1": W, "W2": W.T, "W3": W[:1], "W4": W * np.nan}
    (found,) = weights_named(given, {"W1": (2, 3)}, "own.npz")
    np.testing.assert_array_equal(found, W)
    wanted = dict.fromkeys([*given, "W5"], (2, 3))
    with pytest.raises(InputError) as refused:
        weights_named(given, wanted, "own.npz")
    assert str(refused.value).splitlines() == [
        "own.npz: W2 has shape (3, 2); expected (2, 3), a row for every cell that is reached; it "
        "may be transposed",
        "own.npz: W3 has shape (1, 3); expected (2, 3)",
        "own.npz: W4 holds numbers that are not finite",
        "own.npz: array 'W5' is missing; it holds ['W1', 'W2', 'W3', 'W4']",
    ]
