"""Equilibrium propagation (Scellier & Bengio 2017): energies, gradients, levels."""

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
from neurosim.networks.dynamics import Target, field

SIZES = [5, 6, 4, 3]
HOPFIELD, SYMMETRIC, GAUSSIAN = (
    "equilibrium-propagation",
    "equilibrium-propagation-symmetric",
    "equilibrium-propagation-gaussian",
)
MODELS = (HOPFIELD, SYMMETRIC, GAUSSIAN)


@pytest.fixture(autouse=True)
def double_precision():
    with jax.enable_x64(True):
        yield


def hopfield(W, b, x, u):
    """Energy of layers u_1 … u_L over an input, as the paper has it; ρ of the output is linear."""
    h = [x, *map(jnp.tanh, u[:-1]), u[-1]]
    own = sum(v @ v for v in u) / 2
    return own - sum(h[i + 1] @ (W[i] @ h[i] + b[i]) for i in range(len(u)))


def gaussian(W, b, x, u):
    """Half the squares of what the layers below do not predict."""
    h = [x, *map(jnp.tanh, u[:-1])]
    return sum(jnp.sum((u[i] - W[i] @ h[i] - b[i]) ** 2) for i in range(len(u))) / 2


ENERGY = {HOPFIELD: hopfield, SYMMETRIC: hopfield, GAUSSIAN: gaussian}


def cost(u, y):
    return jnp.sum((u[-1] - y) ** 2) / 2


def rested(energy, W, b, x):
    """u where the energy of one sample is least, by Newton's method, and differentiable."""
    cuts = np.cumsum([len(v) for v in b])[:-1]

    def flat(v, W, b):
        return energy(W, b, x, jnp.split(v, cuts))

    held = jax.lax.stop_gradient((W, b))

    def stepped(v, W, b):
        return v - jnp.linalg.solve(jax.hessian(flat)(v, *held), jax.grad(flat)(v, W, b))

    start = jnp.zeros(sum(len(v) for v in b))
    v = jax.lax.fori_loop(0, 30, lambda _, v: stepped(v, *held), start)
    # One more step has, by the implicit function theorem, the derivative of the fixed point.
    v = stepped(jax.lax.stop_gradient(v), W, b)
    return jnp.split(v, cuts)


def net(name, **changes):
    """(spec, weights with biases, one input, one target)."""
    spec = load_model(name, {"layers": SIZES} | changes)
    rng = np.random.default_rng(1)
    own = assembly.weights(spec, 0, None, Path())
    own |= {"b": tuple(0.1 * rng.standard_normal(b.shape) for b in own["b"])}
    return spec, own, jnp.asarray(rng.standard_normal(SIZES[0])), jnp.asarray([0.0, 1.0, 0.0])


# -------------------------------------------------------------------------------------- energy


@pytest.mark.parametrize("taught", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_neurons_go_down_the_gradient_of_the_energy(name, taught):
    """τ du/dt = −∂(E + βC)/∂u in any state, with C where the output is nudged."""
    spec, own, x, y = net(name)
    beta, tau = spec.parameters["beta"], spec.parameters["tau"]
    dynamics, network = assembly.dynamics(spec), assembly.network(spec)
    target = Target("fixed", value=y) if taught else Target("none")
    state = states(dynamics, network)
    moved = field(dynamics, network, own, dynamics.drive(network, own, x, target), state)

    def total(u):
        return ENERGY[name](own["W"], own["b"], x, u) + taught * beta * cost(u, y)

    u = [*state["pyramidal.u"], *state["output.u"]]
    found = [*moved["pyramidal.u"], *moved["output.u"]]
    for v, slope in zip(found, jax.grad(total)(u), strict=True):
        np.testing.assert_allclose(tau * v, -slope, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", [HOPFIELD, GAUSSIAN])
def test_the_free_phase_ends_where_the_energy_is_least(name):
    spec, own, x, _ = net(name)
    now, _ = settled(spec, own, x, Target("none"))
    expected = jax.jit(rested, static_argnums=0)(ENERGY[name], own["W"], own["b"], x)
    for i, v in enumerate(expected, start=1):
        group = Group("pyramidal" if i < 3 else "output", i)
        np.testing.assert_allclose(now(group, "u"), v, rtol=1e-10, atol=1e-12)
    if name == GAUSSIAN:  # the forward pass
        h = x
        for i, (W, b) in enumerate(zip(own["W"], own["b"], strict=True)):
            h = W @ h + b if i == 2 else jnp.tanh(W @ h + b)
        np.testing.assert_allclose(expected[-1], h, rtol=1e-12)


# ------------------------------------------------------------------------------------ gradients

PROTOCOL = """
name = "one"
level = "equilibrium"
precision = "float64"
batch = 8
shuffle = false
[model]
use = "equilibrium-propagation"
layers = [5, 6, 4, 3]
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
duration = "2 s"
until = "duration"
plastic = ["W"]
[[stages.phases]]
name = "nudged"
duration = "2 s"
until = "duration"
teaching = "clamped"
plastic = ["W"]
[record]
presentations = [0]
samples = 8
[rate]
dt = "2 ms"
[equilibrium]
tolerance = 1e-13
max_sweeps = 300
max_newton = 0  # the root solver takes longest to compile; it has tests of its own
"""
BACK = """
[[stages.phases]]
name = "nudged away"
duration = "2 s"
until = "duration"
teaching = "clamped"
plastic = ["W"]
parameters.beta = -0.1
[record]"""


@pytest.fixture
def run(tmp_path):
    """Runs one presentation of a model: the path of its trace."""

    def made(name, beta=0.1, level="equilibrium", **changes):
        symmetric = name == SYMMETRIC
        text = PROTOCOL.replace("[record]", BACK) if symmetric else PROTOCOL
        (tmp_path / "one.toml").write_text(text, encoding="utf-8")
        given = {"model.use": name, "model.layers": SIZES, "model.projections.W.rate": 1.0}
        given |= {"model.parameters.beta": beta, "level": level}
        if symmetric:
            given |= {"stages.0.phases.0.plastic": []}
            given |= {"stages.0.phases.2.parameters.beta": -beta}
        protocol = ns.load_protocol(tmp_path / "one.toml", given | changes)
        return ns.run(protocol, out=tmp_path / f"{name}-{level}-{beta}.h5", force=True).path

    return made


def learned(path):
    """(all W and b before, what is added to them) as lists."""
    with h5py.File(path) as file:
        arrays = [file[f"weights/{name}{i}"][()] for name in ("W", "b") for i in (1, 2, 3)]
    return [a[0] for a in arrays], [a[1] - a[0] for a in arrays]


def together(arrays):
    return np.concatenate([np.ravel(a) for a in arrays])


def apart(found, expected):
    """‖a − b‖/‖b‖ of all arrays together."""
    a, b = together(found), together(expected)
    return np.linalg.norm(a - b) / np.linalg.norm(b)


def shown(path):
    """Inputs and labels of the presentation."""
    with h5py.File(path) as file:
        return file["traces/input"][0], file["traces/label"][0]


def descent(energy, before, x, y):
    """−∂⟨C⟩/∂(W, b) at the free fixed point, by JAX through it."""

    def loss(arrays):
        W, b = arrays[:3], arrays[3:]
        each = jax.vmap(lambda x, y: cost(rested(energy, W, b, x), y))
        return jnp.mean(each(x, y))

    return [-g for g in jax.jit(jax.grad(loss))([jnp.asarray(a) for a in before])]


@pytest.mark.parametrize(
    ("name", "order"),
    [
        pytest.param(HOPFIELD, 1, marks=pytest.mark.long),
        pytest.param(SYMMETRIC, 2, marks=pytest.mark.long),
        pytest.param(GAUSSIAN, 1, marks=pytest.mark.long),
    ],
)
def test_what_is_learned_tends_to_the_gradient_of_the_cost(run, name, order):
    """As β → 0, linearly when nudged one way and by its square when nudged both ways."""
    betas = (0.01, 0.001) if order == 1 else (0.01, 0.002)
    paths = [run(name, beta) for beta in betas]
    expected = descent(ENERGY[name], learned(paths[0])[0], *shown(paths[0]))
    deviations = [apart(learned(path)[1], expected) for path in paths]
    assert deviations[0] < 0.1
    ratio = (betas[0] / betas[1]) ** order
    assert deviations[0] / deviations[1] == pytest.approx(ratio, rel=0.1)


def test_feedback_weights_stay_the_transposes_of_those_that_learn(run):
    with h5py.File(run(HOPFIELD)) as file:
        assert np.abs(np.diff(file["weights/W2"], axis=0)).max() > 1e-3
        for i in (1, 2):
            up, down = file[f"weights/W{i + 1}"][()], file[f"weights/B{i}"][()]
            np.testing.assert_array_equal(down, up.swapaxes(1, 2))


# --------------------------------------------------------------------------------------- levels


@pytest.mark.long
@pytest.mark.seldom
def test_neurons_in_time_learn_what_neurons_at_rest_do(run):
    """To what 2 s leave of phases whose slowest mode takes far less."""
    rest, moving = (learned(run(HOPFIELD, level=level))[1] for level in ("equilibrium", "rate"))
    assert apart(moving, rest) < 1e-6


@pytest.mark.long
@pytest.mark.seldom
def test_spikes_learn_what_rates_do_but_for_their_scatter(run):
    """Nudged strongly, β = 1. What stands at right angles to rates falls as 1/√neurons."""
    rates, aside = together(learned(run(HOPFIELD, 1.0, "rate"))[1]), []
    for neurons in (25, 100):
        given = {
            "model.spiking": {"neurons": neurons, "base_rate": "200 Hz", "gain": "15 Hz"},
            "spiking.target": "numpy",
            "spiking.window": "500 ms",
        }
        given["model.spiking"] |= {"max_rate": "400 Hz"}
        spikes = together(learned(run(HOPFIELD, 1.0, "spiking", **given))[1])
        cosine = rates @ spikes / np.linalg.norm(rates) / np.linalg.norm(spikes)
        aside.append(np.tan(np.arccos(cosine)))
    assert aside[1] < 1
    assert aside[0] / aside[1] == pytest.approx(2, rel=0.35)


# ------------------------------------------------------------------------------------- resuming


@pytest.mark.long
def test_a_run_that_was_stopped_goes_on_bit_for_bit(tmp_path, monkeypatch):
    """In the middle of an epoch of digits, with the shipped protocol."""
    monkeypatch.setattr(import_module("neurosim.runs.loop"), "CHUNK_SECONDS", 0.0)
    few = {"stages.0.epochs": None, "stages.0.presentations": 4, "record.presentations": [0, 3]}
    few |= {"batch": 5, "model.layers": [64, 8, 10]}
    protocol = ns.load_protocol("equilibrium-propagation-digits", few)
    ns.run(protocol, out=tmp_path / "whole.h5")

    def stop(progress):
        if progress.done >= 2:
            raise KeyboardInterrupt

    with pytest.raises((KeyboardInterrupt, StoppedError)):
        ns.run(protocol, out=tmp_path / "parts.h5", progress=stop)
    ns.resume(tmp_path / "parts.h5")
    same(tmp_path / "whole.h5", tmp_path / "parts.h5")
