"""What is said of models, rules and functions without importing them is what they are."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.datasets import load_digits

import neurosim as ns
from neurosim.building import assembly, facts
from neurosim.building.loading import load_model
from neurosim.credit import CREDITS
from neurosim.functions.activations import ACTIVATIONS, Bernoulli
from neurosim.functions.deferred import Deferred
from neurosim.networks.dynamics import Target, rest
from neurosim.networks.wirings import TIES, transposed
from neurosim.plasticity import FEEDBACK_RULES, FORWARD_RULES
from neurosim.runs.draws import data, weights
from neurosim.specs import FORMULAS, SINGULAR, STOCHASTIC, ActivationSpec
from neurosim.tasks import digits

MODELS = ["mixture", "mixture-two-phase", "mixture-dendrites", "multiplexing", "backprop"]


@pytest.mark.parametrize("name", MODELS)
def test_facts_of_a_model_are_those_of_what_is_built(name):
    model = load_model(name, {"layers": [6, 6, 6]})
    said, dynamics, network = facts.facts(model), assembly.dynamics(model), assembly.network(model)
    layers = range(1, model.depth + 1)
    assert said.attenuation == pytest.approx([dynamics.attenuation(network, i) for i in layers])
    where = facts.observed(model)
    assert list(where) == ["layer1", "layer2"]
    assert set(said.observed) == {name for there in where.values() for name in there}
    task = {"name": "student-teacher", "layers": [6, 6, 6], "train": 64, "test": 16}
    plastic = [[], ["forward"]] if name != "backprop" else [["forward"]]
    given = {
        "model.use": name,
        "model.layers": [6, 6, 6],
        "model.output": "linear",
        "model.loss": "squared",
        "task": task,
        "stages.0.phases": [
            {
                "name": "learning" if k or name == "backprop" else "free",
                "plastic": opened,
                "teaching": "none" if name == "backprop" or not k else "frozen",
            }
            for k, opened in enumerate(plastic)
        ],
    }
    protocol = ns.load_protocol("student-teacher", given)
    _, drawn = data(protocol, [0])
    [first] = weights(protocol, [0], drawn)
    dynamics, net = assembly.dynamics(model), assembly.network(model)
    own, x = assembly.placed(first), jnp.zeros(model.layers[0])
    drive = dynamics.drive(net, own, x, Target("none"))
    seen = dynamics.look(net, own, drive, rest(dynamics, net, x.dtype))
    assert jax.tree.map(lambda array: array.shape[0], seen) == facts.observed(model)


@pytest.mark.parametrize(
    ("name", "shares"),
    [
        ("mixture", [(1 / 9) ** 2, 1 / 9]),  # μ = 0.1: (μ/(1−μ))^{L+1−i} [T 6.15]
        ("mixture-two-phase", [(1 / 9) ** 2, 1 / 9]),
        ("multiplexing", [1.0, 1.0]),
        ("backprop", [1.0, 1.0]),
    ],
)
def test_the_attenuation_of_shipped_models(name, shares):
    found = facts.facts(load_model(name, {"layers": [6, 6, 6]})).attenuation
    assert found == pytest.approx(shares)


def test_an_attenuation_of_a_script_is_what_its_text_says():
    model = load_model("backprop", {"attenuation": "0.5**(L - i)", "layers": [3, 4, 4, 4]})
    assert facts.facts(model).attenuation == (0.25, 0.5, 1.0)


def test_formulas_are_those_of_the_functions():
    assert list(FORMULAS) == list(ACTIVATIONS)
    for name, activation in ACTIVATIONS.items():
        assert (activation.__doc__ or "").partition("\n")[0].rstrip(".") == FORMULAS[name]
        made = assembly.activation(ActivationSpec(name=name))
        assert (made.domain is None) == (name in SINGULAR)
        assert isinstance(made, Bernoulli) == (name in STOCHASTIC)


def test_what_a_name_can_do_is_asked_of_functions_that_have_none():
    assert facts.invertible(ACTIVATIONS["tanh"]())
    assert not facts.invertible(jnp.sin)
    assert not facts.invertible(ActivationSpec(name="sign"))
    assert facts.spiking(ACTIVATIONS["tanh"]())
    assert not facts.spiking(jnp.sin)


def test_every_name_in_the_tables_leads_to_a_function():
    functions = [
        *(credit.assign for credit in CREDITS.values()),
        *(rule.probe for rule in FEEDBACK_RULES.values() if rule.probe is not None),
        *TIES.values(),
    ]
    functions.remove(transposed)  # which needs no JAX
    assert all(isinstance(function, Deferred) for function in functions)
    for deferred in functions:
        name = getattr(deferred.function, "__name__", deferred.place)
        assert name.rpartition(":")[2] == deferred.place.rpartition(":")[2]


def test_rules_by_name_are_text_over_the_teaching():
    for text, source in FORWARD_RULES.values():
        assert "teaching" in text.format("basal")
        assert "[" in source


def test_a_deferred_function_is_called():
    later = Deferred("math:hypot")
    assert later(3, 4) == 5
    assert later == Deferred("math:hypot") and hash(later) == hash(Deferred("math:hypot"))


def test_digits_are_those_of_scikit_learn(monkeypatch, tmp_path):
    pixels, labels = load_digits(return_X_y=True)
    elsewhere = SimpleNamespace(origin=str(tmp_path / "__init__.py"))
    for _ in range(2):
        for found, expected in zip(digits._bundled(), (pixels, labels), strict=True):
            np.testing.assert_array_equal(found, expected)
            assert found.dtype == expected.dtype
        monkeypatch.setattr(digits, "find_spec", lambda _: elsewhere)
