"""The feed-forward network that weight changes are held against: that of the circuit's own text."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_circuits import settled

import neurosim as ns
from neurosim.building import assembly
from neurosim.building.loading import load_model
from neurosim.networks.dynamics import Target

SILENT = {"projections.B.init": "zeros"}
"""Nothing reaches apical dendrites: what comes up is all that moves somata."""

CIRCUITS = {
    "backprop": {"layers": [5, 6, 4, 3]},
    "mixture": {"layers": [5, 4, 4, 4]},
    "multiplexing": {"layers": [5, 6, 4, 3]},
    "microcircuit": {"layers": [5, 6, 4, 3]} | SILENT,
    "microcircuit-original": {"layers": [5, 6, 4, 3]} | SILENT,
    "feedback-control": {"layers": [5, 6, 3]},
}


@pytest.fixture(autouse=True)
def double_precision():
    with jax.enable_x64(True):
        yield


def made(name, **changes):
    spec = load_model(name, CIRCUITS[name] | changes)
    x = jnp.asarray(np.random.default_rng(0).standard_normal(spec.layers[0]))
    return spec, assembly.weights(spec, 0, None, Path()), x


def rests(spec, own, x):
    """What every layer of the untaught network says at rest, up, or in answer."""
    now = settled(spec, own, x, Target("none"))[0]
    says = [(s.pre, s.sent) for s in now.circuit.projection["W"].synapses[1:]]
    return [now.whole(*node) for node in (*says, now.circuit.readout)]


@pytest.mark.parametrize("name", CIRCUITS)
def test_the_forward_pass_is_where_the_untaught_network_rests(name):
    """Nothing comes down, or what does says what the layer says already: exact inverses."""
    spec, own, x = made(name)
    found = assembly.dynamics(spec).forward_pass(assembly.network(spec), own, x)
    for h, expected in zip(found, rests(spec, own, x), strict=True):
        np.testing.assert_allclose(h, expected, rtol=1e-7, atol=1e-9)


def test_the_forward_pass_sends_up_what_axons_carry():
    """The first layer is graded and sends 1 or 0 to the second [Lee et al. 2015, 28–29]."""
    spec = load_model("discrete-transmission", {"layers": [5, 6, 4, 3]})
    own, x = assembly.weights(spec, 0, None, Path()), np.random.default_rng(0).standard_normal(5)
    found = assembly.dynamics(spec).forward_pass(assembly.network(spec), own, jnp.asarray(x))
    W, b = ([np.asarray(a) for a in own[name]] for name in ("W", "b"))
    first = np.tanh(W[0] @ x + b[0])
    second = np.tanh(W[1] @ (first > 0) + b[1])
    for h, expected in zip(found, (first, second, W[2] @ second + b[2]), strict=True):
        np.testing.assert_allclose(h, expected, rtol=1e-12)


def test_the_forward_pass_is_not_a_number_where_a_cell_alone_does_not_rest():
    """Two states that chase each other: v = w + a, w = 2 v grow with every sweep."""
    lines = "dv/dt = (w + forward - v)/tau_soma\ndw/dt = (2*v - w)/tau_soma\nrate = s(v)"
    cells = {"neuron": {"equations": lines}}
    changes = {
        "cells": cells,
        "populations": {"neuron": "all"},
        "projections": {"W": {"wire": "rate[i-1] -> forward[i]", "post": "rate"}},
        "parameters": {"tau_soma": "20 ms"},
        "layers": [5, 4, 3],
    }
    spec = load_model("backprop", changes | {"credit": None, "readout": "neuron.rate"})
    own, x = assembly.weights(spec, 0, None, Path()), jnp.ones(5)
    found = assembly.dynamics(spec).forward_pass(assembly.network(spec), own, x)
    assert np.isnan(found[-1]).all()


PROTOCOL = """
level = "equilibrium"
precision = "float64"
batch = 4
[model]
use = "microcircuit"
layers = [5, 6, 4, 3]
[task]
name = "student-teacher"
layers = [5, 6, 4, 3]
train = 4
test = 4
[record]
presentations = [0]
samples = 4
[[stages]]
name = "training"
presentations = 1
[[stages.phases]]
name = "taught"
teaching = "clamped"
plastic = ["W"]
[equilibrium]
max_newton = 0
"""


def recorded(tmp_path, **changes):
    """The model that ran, the trace's angles, and inputs, labels, W before and after."""
    (tmp_path / "p.toml").write_text(PROTOCOL)
    run = ns.run(ns.load_protocol(tmp_path / "p.toml", changes), out=tmp_path / "p.h5")
    with ns.open_trace(run.path) as trace:
        found = {name: np.asarray(trace[f"traces/{name}"])[0] for name in ("input", "label")}
        W = [np.asarray(trace[f"weights/W{i}"]) for i in (1, 2, 3)]
        return run.spec.model, np.asarray(trace["signals/angle"])[0], *found.values(), W


@pytest.mark.long
def test_angles_of_microcircuits_are_to_the_gradient_of_conductances(tmp_path):
    """Of h_i = s(k_i W_i h_{i−1}), answered by k_L W_L h_{L−1}: k is the basal share.

    Traces keep angles in float32: 4e-6 at 50°.
    """
    model, angles, x, y, W = recorded(tmp_path)
    p = model.parameters
    share = p["g_b"] / (p["g_l"] + p["g_b"] + p["g_a"])
    last = p["g_b"] / (p["g_l"] + p["g_b"])

    def loss(W):
        h = jnp.asarray(x)
        for w in W[:-1]:
            h = jax.nn.softplus(share * h @ w.T)
        return jnp.mean(0.5 * jnp.sum((last * h @ W[-1].T - y) ** 2, axis=1))

    gradient = jax.grad(loss)([jnp.asarray(w[0]) for w in W])
    for w, g, angle in zip(W, gradient, angles, strict=True):
        change = w[1] - w[0]
        cosine = -np.vdot(change, g) / np.linalg.norm(change) / np.linalg.norm(g)
        assert angle == pytest.approx(np.degrees(np.arccos(cosine)), abs=1e-5)


@pytest.mark.long
@pytest.mark.seldom
def test_no_angle_is_told_where_the_text_names_no_potential(tmp_path):
    """The online microcircuit applies s to a soma and to what it predicts."""
    changes = {"model.use": "microcircuit-online", "model.layers": [5, 6, 4, 3]}
    changes |= {"plasticity": "online", "level": "rate", "rate.dt": "1 ms"}
    changes |= {"stages.0.phases.0.duration": "20 ms", "stages.0.phases.0.until": "duration"}
    assert np.isnan(recorded(tmp_path, **changes)[1]).all()
