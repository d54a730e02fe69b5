"""A user's own activation, rule, task and circuit, given in place of shipped ones."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

import neurosim as ns
from neurosim.building.loading import load_model
from neurosim.credit import Credit
from neurosim.functions.activations import Elementwise
from neurosim.plasticity.signals import white_noise
from neurosim.reports.checks import in_words
from neurosim.tasks.data import Data

SMALL = {
    "model.target_step": 0.1,
    "stages.0.epochs": 2,
    "record.presentations": 2,
    "record.samples": 2,
    "precision": "float32",
    "equilibrium.max_newton": 0,
}


class TwoBlobs:
    """Two Gaussian clouds, one a class."""

    shared = False

    def draw(self, rng: np.random.Generator) -> Data:
        labels = rng.integers(0, 2, 600)
        x = rng.standard_normal((600, 4)) + 2.0 * (2 * labels[:, None] - 1)
        y = np.eye(2)[labels]
        return Data(x[:400], y[:400], x[400:], y[400:], classes=True, teacher=None)


ADDITIVE = {
    "model.cells": {
        "unit": {
            "equations": """
basal    = forward + bias
apical   = feedback
f        = s(basal)
g        = t(apical)
dsoma/dt = (f + kappa*(g - soma) - soma)/tau
up       = soma
down     = encode(soma, bias)
"""
        },
        "top": {"like": "unit", "equations": "g = teach*target + (1 - teach)*soma"},
    },
    "model.populations": {"unit": "hidden", "top": "output"},
    "model.projections": {
        "W": {
            "wire": "up[i-1] -> forward[i]",
            "bias": False,
            "init": "orthogonal",
            "post": "slope(basal)*(soma - soma_free)/attenuation",
            "rate": 10.0,
        },
        "Q": {
            "wire": "down[i+1] -> feedback[i]",
            "init": "pinv(W[i+1])",
            "rule": "white-noise",
            "rate": 0.05,
        },
    },
    "model.parameters": {"kappa": 0.1, "tau": "20 ms"},
    "model.attenuation": "kappa**(L + 1 - i)",
}
"""Basal and apical rates add up: τ dh_i/dt = −h_i + f_i(h_{i−1}) + κ (g_i(h_{i+1}) − h_i)."""


def half_the_synapses(post, pre, W):
    """The two-phase rule on every other presynaptic neuron."""
    dW = post("slope(basal)*(soma - soma_free)/attenuation").T @ pre("up")
    return dW / len(pre("up")) * (jnp.arange(W.shape[1]) % 2 == 0)


def run(tmp_path, overrides, **options):
    protocol = ns.load_protocol("quickstart", SMALL | overrides)
    return ns.run(protocol, out=tmp_path / "trace.h5", **options)


def test_own_task_and_activation(tmp_path):
    softsign = Elementwise(
        lambda a: a / (1 + jnp.abs(a)), lambda h: h / (1 - jnp.abs(h)), (-1.0, 1.0)
    )
    own = {
        "task": TwoBlobs(),
        "model.layers": [4, 16, 2],
        "model.activation": softsign,
        "model.projections.W.rate": 2.0,
        "batch": 20,
    }
    result = run(tmp_path, own, level="equilibrium")
    assert result.metrics["test_error"] < 0.02  # two clouds four deviations apart: 2e-5 by Bayes


def test_plain_function_as_activation_needs_no_inverse_in_the_autoencoder_form(tmp_path):
    own = {"model.activation": jnp.tanh, "model.form": "autoencoder"}
    own |= {"model.layers": [64, 16, 10], "model.projections.W.rate": 1.0}
    result = run(tmp_path, own, level="equilibrium")
    assert np.isfinite(result.metrics["test_loss"])
    with pytest.raises(ns.InputError, match=r"activation: has no inverse, which feedback of the"):
        ns.load_protocol(
            "quickstart", {"model.activation": jnp.tanh, "model.layers": [64, 8, 8, 10]}
        )


def test_own_rule(tmp_path):
    own = {"model.projections.W.rule": half_the_synapses, "model.layers": [64, 16, 10]}
    result = run(tmp_path, own, level="equilibrium")
    W1 = ns.open_trace(result.path)["weights/W1"].values
    moved = np.abs(W1[1] - W1[0]).max(axis=0)
    x_moves = np.abs(moved[::2]) > 0  # a few pixels are always blank: nothing to learn from them
    assert x_moves.sum() > 24
    assert np.all(moved[1::2] == 0)


@pytest.mark.long
@pytest.mark.seldom
def test_own_rule_is_that_of_the_text_it_writes(tmp_path):
    """A rule of a script with all synapses moves weights as the model's own text does."""

    def all_synapses(post, pre, W):
        signal = post("slope(basal)*((soma - soma_free)/attenuation)")
        return jnp.einsum("bi,bj->ij", signal, pre("up")) / signal.shape[0]

    one = {"model.layers": [64, 8, 10], "stages.0.epochs": None, "stages.0.presentations": 4}
    found = []
    for own in ({}, {"model.projections.W.rule": all_synapses}):
        spec = ns.load_protocol("quickstart", SMALL | one | own | {"precision": "float64"})
        result = ns.run(spec, level="equilibrium", out=tmp_path / "trace.h5", force=True)
        found.append(ns.open_trace(result.path)["weights/W1"].values[1])
    np.testing.assert_allclose(found[0], found[1], rtol=1e-10, atol=1e-13)


def test_own_probe_of_a_credit(tmp_path):
    """A rule of a script for the feedback weights: here the shipped one, hence the same run."""

    def probe(network, weights, readout, sigma, key):
        return white_noise(network, weights, readout, sigma, key)

    short = {"stages.0.epochs": None, "stages.0.presentations": 8, "record.presentations": 0}
    found = []
    for rule in ("white-noise", probe):
        protocol = ns.load_protocol("target-propagation", short | {"model.credit.rule": rule})
        result = ns.run(protocol, out=tmp_path / "trace.h5", force=True)
        found.append(ns.open_trace(result.path)["weights/Q1"].values)
    assert np.abs(found[0][1] - found[0][0]).max() > 0
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize(
    "level", [pytest.param("equilibrium", marks=[pytest.mark.long, pytest.mark.seldom]), "rate"]
)
def test_own_circuit_runs_at_both_levels_and_they_agree(tmp_path, level):
    own = ADDITIVE | {"model.layers": [64, 16, 10], "precision": "float64"}
    result = run(tmp_path, own, level=level)
    assert result.settled == {"free": 1.0, "learning": 1.0}
    assert result.metrics["test_error"] < 0.25  # ten classes; two epochs of a small net
    trace = ns.open_trace(result.path)
    assert trace.attrs["status"] == "complete"
    assert "kappa*(g - soma)" in str(trace["provenance/protocol_json"].values)
    assert (
        "mu" not in json.loads(str(trace["provenance/protocol_json"].values))["model"]["parameters"]
    )


@pytest.mark.long
@pytest.mark.seldom
def test_levels_agree_about_an_own_circuit(tmp_path):
    """Phases of two seconds, a hundred time constants: both rest at the same states."""
    own = ADDITIVE | {
        "model.layers": [64, 16, 10],
        "precision": "float64",
        "stages.0.epochs": None,
        "stages.0.presentations": 1,
        "record.presentations": 1,
        "stages.0.phases.0.duration": "2 s",
        "stages.0.phases.1.duration": "2 s",
        "stages.0.phases.0.until": "duration",
        "stages.0.phases.1.until": "duration",
    }
    ends = []
    for level in ("equilibrium", "rate"):
        run(tmp_path, own, level=level, force=True)
        soma = ns.open_trace(tmp_path / "trace.h5")["traces/layer1/soma"].values
        ends.append(soma[0, :, -1])
    assert np.abs(ends[0]).max() > 0.1
    np.testing.assert_allclose(ends[0], ends[1], atol=1e-6)


def test_own_circuit_replaces_that_of_the_file_and_what_the_protocol_says_of_it(tmp_path):
    """Nothing of the old one is left: parameters, credit, rates; what is no circuit stays."""
    model = ns.load_protocol("quickstart", ADDITIVE).spec.model
    assert set(model.parameters) == {"kappa", "tau"}
    assert set(model.cells) == set(model.populations) == {"unit", "top"}
    assert (model.output, model.loss) == ("softmax", "cross-entropy")
    taught = {
        "model.cells": {"unit": {"equations": "dv/dt = (forward - v)/tau\nrate = s(v)"}},
        "model.populations": {"unit": "all"},
        "model.projections": {"W": {"wire": "rate[i-1] -> forward[i]", "post": "slope(v)*v"}},
        "model.parameters": {"tau": "20 ms"},
    }
    plain = ns.load_protocol("target-propagation", taught | {"stages.0.phases.0.plastic": []})
    assert plain.spec.model.credit is None
    written = tmp_path / "whole.toml"
    written.write_text(in_words(ns.check("quickstart")), encoding="utf-8")
    again = ns.load_protocol(written, ADDITIVE).spec.model  # of a protocol that uses no file
    assert set(again.parameters) == {"kappa", "tau"} and set(again.cells) == {"unit", "top"}


def test_another_model_brings_all_that_it_says_itself():
    """What the protocol says of its model is dropped, and only what overrides say is added."""
    phases = [{"name": "rest", "duration": "1 s", "plastic": ["forward"]}]
    shipped = load_model("backprop")
    for own in ({}, {"model.projections.W.init": "lecun"}, {"model.layers": [64, 8, 10]}):
        given = {"model.use": "backprop", "stages.0.phases": phases} | own
        model = ns.load_protocol("quickstart", given).spec.model
        changes = {key.removeprefix("model."): value for key, value in own.items()}
        assert model == load_model("backprop", changes)
        assert model.projections["W"].rate == shipped.projections["W"].rate


def test_mistakes_of_another_model_are_not_placed_where_the_protocol_says_the_same_key(tmp_path):
    (tmp_path / "own.toml").write_text('like = "backprop"\nlayers = [64, 10.5]\n', encoding="utf-8")
    with pytest.raises(ns.InputError) as refused:
        ns.load_protocol("quickstart", {"model.use": str(tmp_path / "own.toml")})
    [message] = refused.value.messages
    assert message.startswith(f"{tmp_path / 'own.toml'}:2: layers.1: 10.5 has the wrong type")


RULE = r"expected rule\(post, pre, W\) -> the change of W"


@pytest.mark.parametrize(
    ("own", "message"),
    [
        (
            {"model.projections.W.rule": lambda signal, W: W},
            r"model\.projections\.W\.rule: .*<lambda> failed with TypeError: .*; " + RULE,
        ),
        (
            {"model.projections.W.rule": lambda post, pre, W: post("soma").T @ pre("up")[:, :3]},
            r"model\.projections\.W\.rule: returned shape \(8, 3\), where \(8, 64\) is wanted; "
            + RULE,
        ),
        (
            {"model.projections.Q.rule": lambda post, pre, W: post("somma")},
            r"model\.projections\.Q\.rule: .*failed with KeyError: .*somma.*; " + RULE,
        ),
    ],
)
@pytest.mark.parametrize("level", ["equilibrium", "spiking"])
def test_objects_that_cannot_work_are_refused_before_anything_is_written(
    tmp_path, own, message, level
):
    kept = tmp_path / "trace.h5"
    kept.write_bytes(b"an older trace")
    with pytest.raises(ns.InputError, match=message):
        run(tmp_path, {"model.layers": [64, 8, 10]} | own, level=level, force=True)
    assert kept.read_bytes() == b"an older trace"


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (
            lambda a, b: a,
            r"model\.activation: .*failed with TypeError: .*; expected a function of a JAX",
        ),
        (
            lambda a: "tanh",
            r"model\.activation: returned 'tanh', where \(3,\) is wanted",
        ),
        (
            lambda a: a.sum(),
            r"model\.activation: returned shape \(\), where \(3,\) is wanted",
        ),
    ],
)
def test_functions_that_are_none_of_arrays_are_refused(tmp_path, function, message):
    own = {"model.activation": function, "model.form": "autoencoder"}
    with pytest.raises(ns.InputError, match=message):
        run(tmp_path, {"model.layers": [64, 8, 10]} | own)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("assign", "message"),
    [
        (lambda network, weights, now: (), r"model\.credit: .*failed with TypeError"),
        (lambda *_: (), r"model\.credit: returned 0 entries for 2 layers; expected assign\("),
        (
            lambda network, weights, now, label, step: (label, label),
            r"model\.credit: returned shape \(10,\), where \(8,\) is wanted; expected assign\(",
        ),
    ],
)
def test_credits_that_cannot_work_are_refused(tmp_path, assign, message):
    own = {"model.credit": Credit(assign, "mine", wiring="none"), "model.layers": [64, 8, 10]}
    protocol = ns.load_protocol("backprop-digits", own | {"stages.0.epochs": 1})
    with pytest.raises(ns.InputError, match=message):
        ns.run(protocol, out=tmp_path / "trace.h5")
    assert not list(tmp_path.iterdir())
