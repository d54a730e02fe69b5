"""Predictive coding (Whittington & Bogacz 2017): its energy, its rest, backprop as its limit."""

from importlib import import_module
from pathlib import Path

import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from circuit_models import states
from test_circuits import settled
from tiny_runs import same

import neurosim as ns
from neurosim.building import assembly
from neurosim.building.loading import load_model
from neurosim.circuits.populations import Group
from neurosim.errors import StoppedError
from neurosim.networks.dynamics import Target, field, residual

SIZES = [5, 6, 4, 3]
VALUES = [Group("value", 1), Group("value", 2)]
ERRORS = [Group("error", 1), Group("error", 2), Group("output_error", 3)]
OUTPUT = Group("output", 3)
Y = jnp.asarray([0.3, -0.7, 0.5])


@pytest.fixture(autouse=True)
def double_precision():
    with jax.enable_x64(True):
        yield


def net(hidden=1.0, output=10.0, **changes):
    """(spec, weights with biases, one input), Newton's method in place of sweeps."""
    variances = {"parameters.variance": hidden, "cells.output_error.parameters.variance": output}
    given = {"layers": SIZES, "cut": "value.x"} | variances | changes
    spec = load_model("predictive-coding", given)
    rng = np.random.default_rng(1)
    own = assembly.weights(spec, 0, None, Path())
    own |= {"b": tuple(0.1 * rng.standard_normal(b.shape) for b in own["b"])}
    return spec, own, jnp.asarray(rng.standard_normal(SIZES[0]))


def energy(own, x, y, variances, values, f=jnp.tanh):
    """½ Σ |x_i − W_i f(x_(i−1)) − b_i|²/Σ_i, the output's value being y."""
    h, v = [x, *map(f, values)], [*values, y]
    terms = zip(v, own["W"], h, own["b"], variances, strict=True)
    return sum(jnp.sum((v - W @ h - b) ** 2) / var for v, W, h, b, var in terms) / 2


def forward(W, b, x):
    """Basal potentials a_1 … a_L of the forward pass."""
    a = [W[0] @ x + b[0]]
    for weights, bias in zip(W[1:], b[1:], strict=True):
        a.append(weights @ jnp.tanh(a[-1]) + bias)
    return a


# -------------------------------------------------------------------------------------- energy


def moment(spec, own, x, target):
    """(what serves `field` and the like, in a random state)."""
    dynamics, network = assembly.dynamics(spec), assembly.network(spec)
    drive = dynamics.drive(network, own, x, target)
    return dynamics, network, own, drive, states(dynamics, network)


def test_values_go_down_the_gradient_of_the_energy():
    """τ dx/dt = −∂E/∂x in any state, whatever the variances."""
    spec, own, x = net(hidden=2.0)
    given = moment(spec, own, x, Target("fixed", value=Y))
    values = list(given[-1]["value.x"])
    slopes = jax.grad(lambda v: energy(own, x, Y, (2.0, 2.0, 10.0), v))(values)
    for v, slope in zip(field(*given)["value.x"], slopes, strict=True):
        np.testing.assert_allclose(spec.parameters["tau"] * v, -slope, rtol=1e-12, atol=1e-14)


def test_a_value_is_held_by_its_own_error():
    """F' of its pull knows what its error cell makes of it: s''(x)·feedback − 1/Σ."""
    spec, own, x = net(hidden=2.0)
    given = moment(spec, own, x, Target("fixed", value=Y))
    now = given[0].at(*given[1:])
    off = residual(*given)["value.x"]
    for group, found in zip(VALUES, off, strict=True):
        v, back, own_error = (now(group, name) for name in ("x", "feedback", "own"))
        h = jnp.tanh(v)
        F, slope = (1 - h**2) * back - own_error, -2 * h * (1 - h**2) * back - 1 / 2.0
        np.testing.assert_allclose(found, -F / slope, rtol=1e-12)


# ---------------------------------------------------------------------------------------- rest


def test_without_a_target_nothing_errs_and_the_answer_is_the_forward_pass():
    spec, own, x = net()
    now, _ = settled(spec, own, x, Target("none"))
    a = forward(own["W"], own["b"], x)
    for group, expected in zip([*VALUES, OUTPUT], a, strict=True):
        np.testing.assert_allclose(now(group, "x"), expected, rtol=1e-12)
    assert max(jnp.abs(now(group, "error")).max() for group in ERRORS) < 1e-13


def test_a_linear_network_rests_where_linear_equations_say():
    """∂E/∂x = 0 of both hidden layers at once, assembled as one matrix."""
    spec, own, x = net(hidden=2.0, output=0.5, activation="linear")
    now, _ = settled(spec, own, x, Target("fixed", value=Y))
    (W1, W2, W3), (b1, b2, b3) = (tuple(map(np.asarray, own[name])) for name in "Wb")
    I6, I4 = np.eye(6), np.eye(4)
    A = np.block([[(I6 + W2.T @ W2) / 2, -W2.T / 2], [-W2 / 2, I4 / 2 + W3.T @ W3 / 0.5]])
    p1, miss = W1 @ x + b1, np.asarray(Y) - b3
    right = np.concatenate([p1 / 2 - W2.T @ b2 / 2, b2 / 2 + W3.T @ miss / 0.5])
    found = jnp.concatenate([now(group, "x") for group in VALUES])
    np.testing.assert_allclose(found, np.linalg.solve(A, right), rtol=1e-10)


def test_tanh_rests_where_the_energy_is_least():
    spec, own, x = net()
    now, _ = settled(spec, own, x, Target("fixed", value=Y))

    @jax.jit
    def slope(v):
        return jax.grad(lambda v: energy(own, x, Y, (1.0, 1.0, 10.0), [v[:6], v[6:]]))(v)

    v = jnp.concatenate([now(group, "x") for group in VALUES])
    hessian = jax.jacobian(slope)(v)
    assert np.linalg.eigvalsh(hessian).min() > 0
    assert jnp.abs(jnp.linalg.solve(hessian, slope(v))).max() < 1e-12


# ------------------------------------------------------------------------------ backprop's limit


def deltas(own, x, y):
    """−∂ℓ/∂a of all layers by JAX, ℓ = ½|y − a_L|²."""

    def loss(pushed):
        a = own["W"][0] @ x + own["b"][0] + pushed[0]
        for W, b, p in zip(own["W"][1:], own["b"][1:], pushed[1:], strict=True):
            a = W @ jnp.tanh(a) + b + p
        return jnp.sum((y - a) ** 2) / 2

    return [-g for g in jax.grad(loss)([jnp.zeros(n) for n in SIZES[1:]])]


def deviations(sizes, made):
    """‖ε − expected‖/‖expected‖ of all layers together, for every size of something."""
    found = []
    for size in sizes:
        spec, own, x, y, scale = made(size)
        now, _ = settled(spec, own, x, Target("fixed", value=y))
        errors = jnp.concatenate([now(group, "error") for group in ERRORS])
        expected = scale * jnp.concatenate(deltas(own, x, y))
        found.append(float(jnp.linalg.norm(errors - expected) / jnp.linalg.norm(expected)))
    return found


def test_errors_are_those_of_backprop_where_the_output_is_weak():
    """Σ_L ε_i → δ_i as Σ_L → ∞, off by the order of 1/Σ_L."""

    def made(variance):
        spec, own, x = net(output=variance)
        return spec, own, x, Y, 1 / variance

    found = deviations((1e2, 1e3, 1e4), made)
    assert found[0] < 0.05
    np.testing.assert_allclose(np.divide(found[:-1], found[1:]), 10, rtol=0.1)


def test_errors_are_not_those_of_backprop_where_targets_are_merely_close():
    """A target near the answer makes the network linear, (δ of it) but backprop no sooner."""
    found = []
    for size in (1e-2, 1e-4):

        def made(_, size=size):
            spec, own, x = net(output=1.0)
            return spec, own, x, forward(own["W"], own["b"], x)[-1] + size * Y, 1.0

        found += deviations((1.0,), made)
    assert min(found) > 0.1
    assert found[0] == pytest.approx(found[1], rel=0.05)


# -------------------------------------------------------------------------------------- learning

PROTOCOL = """
name = "one"
level = "equilibrium"
precision = "float64"
batch = 8
shuffle = false
[model]
use = "predictive-coding"
layers = [5, 6, 4, 3]
cut = "value.x"
projections.W.rate = 1.0
[task]
name = "student-teacher"
layers = [5, 6, 4, 3]
train = 8
test = 4
[[stages]]
name = "training"
presentations = 1
[[stages.phases]]
name = "free"
duration = "1 s"
until = "duration"
[[stages.phases]]
name = "taught"
duration = "1 s"
until = "duration"
teaching = "clamped"
plastic = ["W"]
[record]
presentations = [0]
samples = 8
[rate]
dt = "2 ms"
[equilibrium]
tolerance = 1e-12
max_newton = 0  # the root solver takes longest to compile; it has tests of its own
"""


@pytest.fixture
def run(tmp_path):
    """Runs one presentation: what is added to all W and b, weights before, inputs, labels."""

    def made(level="equilibrium", **changes):
        (tmp_path / "one.toml").write_text(PROTOCOL, encoding="utf-8")
        protocol = ns.load_protocol(tmp_path / "one.toml", {"level": level} | changes)
        path = ns.run(protocol, out=tmp_path / f"{level}.h5", force=True).path
        with h5py.File(path) as file:
            arrays = [file[f"weights/{name}{i}"][()] for name in "Wb" for i in (1, 2, 3)]
            shown = file["traces/input"][0], file["traces/label"][0]
        return [a[1] - a[0] for a in arrays], [a[0] for a in arrays], *shown

    return made


def together(arrays):
    return np.concatenate([np.ravel(a) for a in arrays])


@pytest.mark.long
def test_synapses_learn_the_gradient_where_the_output_is_weak(run):
    """Σ_L ΔW → −∂⟨ℓ⟩/∂W, with biases, of a batch."""
    changes = {"model.cells.output_error.parameters.variance": 1e4}
    learned, before, x, y = run(**changes)

    def loss(arrays):
        outputs = jax.vmap(lambda x: forward(arrays[:3], arrays[3:], x)[-1])(x)
        return jnp.mean(jnp.sum((y - outputs) ** 2, axis=1)) / 2

    expected = -together(jax.grad(loss)([jnp.asarray(a) for a in before]))
    found = 1e4 * together(learned)
    assert np.linalg.norm(found - expected) < 2e-3 * np.linalg.norm(expected)


@pytest.mark.long
@pytest.mark.seldom
def test_neurons_in_time_learn_what_neurons_at_rest_do(run):
    rest, moving = (together(run(level)[0]) for level in ("equilibrium", "rate"))
    assert np.linalg.norm(moving - rest) < 1e-6 * np.linalg.norm(rest)


@pytest.mark.long
@pytest.mark.seldom
def test_spikes_learn_what_rates_do_but_for_their_scatter(run):
    """Values and errors spike. What stands at right angles to rates falls as 1/√neurons."""
    aside = []
    for neurons in (25, 100):
        given = {
            "model.spiking": {"neurons": neurons, "base_rate": "200 Hz", "gain": "15 Hz"},
            "model.cells.output_error.parameters.variance": 1.0,
            "spiking.target": "numpy",
            "spiking.window": "250 ms",
        }
        given["model.spiking"] |= {"max_rate": "400 Hz"}
        rates, spikes = (together(run(level, **given)[0]) for level in ("rate", "spiking"))
        cosine = rates @ spikes / np.linalg.norm(rates) / np.linalg.norm(spikes)
        aside.append(np.tan(np.arccos(cosine)))
    assert aside[1] < 1
    assert aside[0] / aside[1] == pytest.approx(2, rel=0.35)


# ------------------------------------------------------------------------------------- resuming


@pytest.mark.long
@pytest.mark.seldom
def test_a_run_that_was_stopped_goes_on_bit_for_bit(tmp_path, monkeypatch):
    """In the middle of an epoch of digits, with the shipped protocol."""
    monkeypatch.setattr(import_module("neurosim.runs.loop"), "CHUNK_SECONDS", 0.0)
    few = {"stages.0.epochs": None, "stages.0.presentations": 4, "record.presentations": [0, 3]}
    few |= {"batch": 5, "model.layers": [64, 8, 10]}
    protocol = ns.load_protocol("predictive-coding-digits", few)
    ns.run(protocol, out=tmp_path / "whole.h5")

    def stop(progress):
        if progress.done >= 2:
            raise KeyboardInterrupt

    with pytest.raises((KeyboardInterrupt, StoppedError)):
        ns.run(protocol, out=tmp_path / "parts.h5", progress=stop)
    ns.resume(tmp_path / "parts.h5")
    same(tmp_path / "whole.h5", tmp_path / "parts.h5")
