"""What is said of dynamics, rules and functions without importing them is what they are."""

from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.datasets import load_digits

import neurosim as ns
from neurosim import build, facts
from neurosim.activations import ACTIVATIONS
from neurosim.credit import CREDITS
from neurosim.deferred import Deferred
from neurosim.draws import data, weights
from neurosim.dynamics import DYNAMICS, Layered
from neurosim.families import FAMILIES
from neurosim.plasticity import FEEDBACK_RULES, FORWARD_RULES
from neurosim.spec import FORMULAS, ActivationSpec
from neurosim.tasks import digits
from neurosim.wirings import TIES

MODELS = ["quickstart", "multiplexing-digits", "backprop-digits"]
"""Protocols, one of each family."""


def test_every_family_has_its_dynamics():
    assert list(FAMILIES) == list(DYNAMICS)
    for name, dynamics in DYNAMICS.items():
        assert dynamics.family == name
        assert (dynamics.__doc__ or "").partition("\n")[0].rstrip(".") == FAMILIES[name].what


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("tau", [None, "5 ms"])
def test_facts_of_a_name_are_those_of_the_object(name, tau):
    protocol = ns.load_protocol(name)
    if tau is not None and protocol.spec.model.dynamics == "mixture":
        protocol = ns.load_protocol(name, {"model.tau_basal": tau, "model.tau_apical": tau})
    spec, model = protocol.spec, protocol.spec.model
    given = model.model_copy(update={"dynamics": build.dynamics(model)})
    said, asked = facts.facts(model), facts.facts(given)
    assert said[:-1] == asked[:-1]
    assert len(said.attenuation) == model.depth
    for parameter in ("mu", "tau_soma", "tau_basal", "tau_apical"):
        assert getattr(said.cell, parameter) == getattr(asked.cell, parameter, None)
    _, drawn = data(protocol, [0])
    [first] = weights(protocol, [0], drawn)
    engine = build.engine(spec, spec.stages[0], 1)
    assert engine.observed(build.stack([build.placed(first)])) == facts.observed(model)
    assert facts.observed(given) is None


def test_the_dynamics_of_a_script_are_asked():
    class Own(Layered):
        """Nothing but what a family says of itself."""

        credits = ("own-channel",)
        observed = ("basal",)
        time_constants = property(lambda self: {"basal": 0.01})
        noise = property(lambda self: {})

        def layers(self, network, compartment):
            return network.depth

        def pull(self, *_):
            raise AssertionError("nothing moves")

        read = variables = pull

        def attenuation(self, network, i):
            return 0.5 ** (network.depth - i)

    model = ns.load_protocol("backprop-digits").spec.model
    own = model.model_copy(update={"dynamics": Own()})
    assert facts.facts(own) == (
        ("own-channel",),
        ("basal",),
        ("basal",),
        tuple(0.5 ** (own.depth - i) for i in range(1, own.depth + 1)),
        None,
    )


def test_formulas_are_those_of_the_functions():
    assert list(FORMULAS) == list(ACTIVATIONS)
    for name, activation in ACTIVATIONS.items():
        assert (activation.__doc__ or "").partition("\n")[0].rstrip(".") == FORMULAS[name]
        assert build.activation(ActivationSpec(name=name)).domain is not None


def test_what_a_name_can_do_is_asked_of_functions_that_have_none():
    assert facts.invertible(ACTIVATIONS["tanh"]())
    assert not facts.invertible(np.sin)
    assert facts.spiking(ACTIVATIONS["tanh"]())
    assert not facts.spiking(np.sin)


def test_every_name_in_the_tables_leads_to_a_function():
    functions = [
        *(credit.assign for credit in CREDITS.values()),
        *(rule for rule, _ in FORWARD_RULES.values()),
        *(rule.probe for rule in FEEDBACK_RULES.values() if rule.probe is not None),
        *TIES.values(),
    ]
    assert all(isinstance(function, Deferred) for function in functions)
    for deferred in functions:
        name = getattr(deferred.function, "__name__", deferred.place)
        assert name.rpartition(":")[2] == deferred.place.rpartition(":")[2]


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
