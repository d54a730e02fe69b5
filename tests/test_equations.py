"""The text of shipped models is the equations of the thesis."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from circuit_models import TEXTS, model, states
from tiny_networks import SIZES, network, samples, weights

from neurosim.building import assembly
from neurosim.functions.activations import Linear, Tanh
from neurosim.functions.losses import Loss
from neurosim.levels.equilibrium import Equilibrium
from neurosim.levels.rate import Rate
from neurosim.levels.settling import Problem, Span
from neurosim.networks.dynamics import Target, field, residual, rest
from neurosim.networks.network import Network, Weights, standardized

TARGETS = {
    "none": lambda y: Target("none"),
    "following": lambda y: Target("following", 0.1, y),
    "fixed": lambda y: Target("fixed", value=y),
}
TRANSFERS = {
    "linear": (lambda a: a, lambda h: h),
    "leaky": (lambda a: np.where(a > 0, a, 0.35 * a), lambda h: np.where(h > 0, h, h / 0.35)),
    "tanh": (np.tanh, np.arctanh),
}
"""s and s⁻¹ of hidden layers."""


def thesis(family, activation, taught, own, x, state):
    """F of every compartment by T 6.1, or 6.43 to 6.46, and the answer h_L; in NumPy.

    taught: (h_L) → h_L^trgt.
    """
    p, L = model(family).parameters, len(SIZES) - 1
    s, s_inv = ([side] * (L - 1) + [lambda a: a] for side in TRANSFERS[activation])
    W, b, Q = ([np.asarray(array) for array in own[name]] for name in "WbQ")
    found = {name: [] for name in state}

    def compartment(name, i):
        population = "pyramidal" if i < L else "output"
        layers = state.get(f"{population}.{name}")
        return None if layers is None else np.asarray(layers[i - 1 if i < L else 0])

    def moves(name, i, velocity):
        found[f"{'pyramidal' if i < L else 'output'}.{name}"].append(velocity)

    if family == "multiplexing":
        h = [np.asarray(x)] + [s[i - 1](compartment("basal", i)) for i in range(1, L + 1)]
        down = [None] + [compartment("apical", i) for i in range(1, L)] + [taught(h[L])]
    else:
        h = [np.asarray(x)] + [compartment("soma", i) for i in range(1, L + 1)]
        down = h
    for i in range(1, L + 1):
        a = W[i - 1] @ h[i - 1] + b[i - 1]
        g = Q[i - 1] @ (s_inv[i](down[i + 1]) - b[i]) if i < L else taught(h[L])
        if family != "mixture":
            basal, apical = compartment("basal", i), compartment("apical", i)
            moves("basal", i, (a - basal) / p["tau_basal"])
            if i < L:
                moves("apical", i, (g - apical) / p["tau_apical"])
            a, g = basal, apical if i < L else g
        if family != "multiplexing":
            pull = (1 - p["mu"]) * s[i - 1](a) + p["mu"] * g
            moves("soma", i, (pull - h[i]) / p["tau_soma"])
    return found, h[L]


@pytest.mark.usefixtures("double_precision")
@pytest.mark.parametrize("teaching", TARGETS)
@pytest.mark.parametrize("activation", TRANSFERS)
@pytest.mark.parametrize("family", TEXTS)
def test_text_is_the_equations_of_the_thesis(family, activation, teaching):
    """Fields with biases at any state, what answers, what draws, and rests where fields vanish."""
    ours, net = assembly.dynamics(model(family)), network(activation)
    scale = 0.1 if activation == "tanh" else 1.0  # inverses of tanh want activity below 1
    x, y = (scale * a[0] for a in samples())
    rng = np.random.default_rng(7)
    own = {"W": weights().W, "Q": weights().Q}
    own["b"] = tuple(jnp.asarray(0.1 * rng.standard_normal(n)) for n in SIZES[1:])
    target = TARGETS[teaching](y)

    def taught(h):
        value = {"none": h, "following": h - 0.1 * (h - np.asarray(y)), "fixed": np.asarray(y)}
        return value[teaching]

    state = jax.tree.map(lambda v: scale * jnp.tanh(v), states(ours, net))
    told = ours, net, own, ours.drive(net, own, x, target), state
    velocity, answer = thesis(family, activation, taught, own, x, state)
    found, drawn = field(*told), residual(*told)
    assert set(found) == set(velocity)
    p, mixes = model(family).parameters, family != "multiplexing"
    for name in velocity:
        tau = p["tau_" + name.partition(".")[2]]
        for k, expected in enumerate(velocity[name], start=1):
            np.testing.assert_allclose(found[name][k - 1], expected, rtol=1e-12, atol=1e-12)
            np.testing.assert_allclose(drawn[name][k - 1], expected * tau, rtol=1e-12, atol=1e-13)
            layer = k if name.startswith("pyramidal") else net.depth
            shrunk = (0.2 / 0.8) ** (net.depth + 1 - layer) if mixes else 1.0
            assert float(ours.expected(net, name, k)) == pytest.approx(shrunk, rel=1e-14)
    np.testing.assert_allclose(ours.read(*told[1:]).rate[-1], answer, rtol=1e-14)
    problem = Problem(ours, net, own, ours.drive(net, own, x, target), 0.1, y)
    start = rest(ours, net, jnp.float64)
    at_rest, report, _ = Equilibrium(1e-13, 400, 20).settle(problem, start, Span(0.0, True))
    assert bool(report.settled)
    velocity, _ = thesis(family, activation, taught, own, x, at_rest)
    for name, layers in velocity.items():
        for v in layers:
            np.testing.assert_allclose(v * p["tau_" + name.partition(".")[2]], 0, atol=1e-12)


@pytest.mark.usefixtures("double_precision")
def test_layers_below_the_output_are_standardized_over_a_batch():
    """(h − m)/σ with σ² = var h + 1e-5, layer by layer, each from what the one below then sends."""
    rng = np.random.default_rng(5)
    W = [rng.standard_normal(shape) for shape in ((4, 3), (4, 4), (2, 4))]
    net = Network((3, 4, 4, 2), (Tanh(), Tanh(), Linear()), "inverse", Loss("squared", "linear"))
    weights, x = Weights(tuple(map(jnp.asarray, W)), (), ()), rng.standard_normal((6, 3))

    def scaled(h):
        return (h - h.mean(0)) / np.sqrt(h.var(0) + 1e-5)

    first = scaled(np.tanh(scaled(x) @ W[0].T))
    second = scaled(np.tanh(first @ W[1].T))
    own, shown = standardized(net, weights, jnp.asarray(x))
    found = jax.vmap(lambda x: own.forward_pass(weights, x))(shown)
    for h, expected in zip(found, (first, second, second @ W[2].T), strict=True):
        np.testing.assert_allclose(h, expected, rtol=1e-10, atol=1e-12)
    for i, (own, below) in enumerate(zip(W, (x[0], first[0], second[0]), strict=True), start=1):
        np.testing.assert_allclose(net.across(weights, i, jnp.asarray(below)), own @ below)


def test_a_target_teaches_where_it_is_another_than_what_the_output_says():
    y = jnp.ones(3)
    assert [TARGETS[kind](y).teach for kind in ("none", "following", "fixed")] == [0, 1, 1]
    switched = Target("switched", value=y, on=jnp.array([True, False]))
    assert switched.teach.tolist() == [1, 0]


@pytest.mark.usefixtures("double_precision")
def test_a_nonlinear_compartment_is_drawn_where_newton_goes():
    """dv/dt = u − v³ from v = 1: F = u − 1, F' = −3."""
    cubic = model(
        "mixture",
        cells={
            "pyramidal": {"equations": "dsoma/dt = forward - soma**3\nup = soma"},
            "output": {"like": "pyramidal"},
        },
        projections={"W": {"wire": "up[i-1] -> forward[i]"}},
    )
    dynamics, net, (x, _) = assembly.dynamics(cubic), network("linear"), samples()
    own = {"W": weights().W}
    drive = dynamics.drive(net, own, x[0], Target("none"))
    state = jax.tree.map(jnp.ones_like, rest(dynamics, net, jnp.float64))
    found = dynamics.at(net, own, drive, state).pull("pyramidal.soma", 1)
    np.testing.assert_allclose(found, 1 + (drive.basal["W1"] - 1) / 3, rtol=1e-14)


@pytest.mark.usefixtures("double_precision")
def test_sigma_is_held_under_steps_and_written_noise_is_as_written():
    """Heun with a = dt/τ: v ← (1 − a + a²/2) v + (1 − a/2) s√dt ξ has variance σ² exactly."""
    noisy = model(
        "mixture",
        cells={
            "pyramidal": {"equations": "dsoma/dt = (forward - soma)/tau_soma\nup = soma"},
            "output": {"equations": "dsoma/dt = (forward - soma)/tau_soma + 3*xi\nup = soma"},
        },
        projections={"W": {"wire": "up[i-1] -> forward[i]"}},
        noise={"pyramidal.soma": 0.5},
    )
    dynamics, net, dt = assembly.dynamics(noisy), network("linear"), 0.01
    state = rest(dynamics, net, jnp.float64)
    level = Rate("heun", dt, False, 1e-6, 1e-9, 1e-3)
    spread = level.noise(dynamics, net, state, jax.random.key(0)).spread
    a = dt / dynamics.parameters["tau_soma"]
    for s in spread["pyramidal.soma"]:
        variance = ((1 - a / 2) * s) ** 2 * dt / (1 - (1 - a + a**2 / 2) ** 2)
        assert float(variance) == pytest.approx(0.5**2, rel=1e-12)
    assert [float(s) for s in spread["output.soma"]] == [3.0]
