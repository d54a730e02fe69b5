"""Least control (Meulemans et al. 2022): the least that brings the output to its label."""

import os
import signal
from importlib import import_module
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_circuits import settled
from tiny_runs import same

import neurosim as ns
from neurosim.building import assembly
from neurosim.building.loading import load_model
from neurosim.circuits.populations import Group
from neurosim.errors import StoppedError
from neurosim.networks.dynamics import Target

SIZES = [6, 5, 4, 3]
HIDDEN, OUTPUT = [Group("pyramidal", 1), Group("pyramidal", 2)], Group("output", 3)
LABEL = jnp.asarray([0.6, -0.4, 0.2])


@pytest.fixture(autouse=True)
def double_precision():
    with jax.enable_x64(True):
        yield


def controlled(activation, leak, weights=None):
    """(weights, input, all controls, the lowest first, a look at every quantity) at rest."""
    changes = {"layers": SIZES, "activation": activation, "parameters.leak": leak}
    spec = load_model("least-control", changes | {"projections.W.gain": 0.7})
    own = assembly.weights(spec, 0, None, Path())
    if weights is not None:
        own = own | weights
    x = jnp.asarray(np.random.default_rng(0).standard_normal(SIZES[0]))
    # The residual of u is that of the error over the leak, and so is what rounding leaves of it.
    tolerance = max(1e-12, 2e-14 / leak)
    now, _ = settled(spec, own, x, Target("fixed", value=LABEL), tolerance)
    return own, x, [now(group, "control") for group in (*HIDDEN, OUTPUT)], now


def answer(W, x, controls, s):
    """What the output says when controls are added to all somata."""
    h = s(W[0] @ x + controls[0])
    h = s(W[1] @ h + controls[1])
    return W[2] @ h + controls[2]


def test_a_linear_network_rests_where_the_theory_says():
    """ψ = Jᵀ(J Jᵀ + αI)⁻¹ δ, which is J^† δ as α → 0."""
    deviations = []
    for leak in (1e-1, 1e-3, 1e-4):
        own, x, psi, now = controlled("linear", leak)
        W = own["W"]
        J = jnp.concatenate([W[2] @ W[1], W[2], jnp.eye(3)], axis=1)
        delta = LABEL - W[2] @ W[1] @ W[0] @ x
        expected = J.T @ jnp.linalg.solve(J @ J.T + leak * jnp.eye(3), delta)
        found = jnp.concatenate(psi)
        np.testing.assert_allclose(found, expected, rtol=1e-8)
        np.testing.assert_allclose(now(OUTPUT, "rate") + leak * psi[2], LABEL, rtol=1e-8)
        least = jnp.linalg.pinv(J) @ delta
        deviations.append(float(jnp.linalg.norm(found - least) / jnp.linalg.norm(least)))
    assert deviations[1] / deviations[2] == pytest.approx(10, rel=0.02)


def test_no_other_control_costs_less():
    """H = ½ Σ|ψ|² + |y − r_L|²/(2α), by Newton's method from no control at all, of tanh."""
    leak = 0.2
    own, x, psi, _ = controlled("tanh", leak)

    def cost(flat):
        parts = jnp.split(flat, (5, 9))
        left = LABEL - answer(own["W"], x, parts, jnp.tanh)
        return (flat @ flat + left @ left / leak) / 2

    slope, curvature = jax.jit(jax.grad(cost)), jax.jit(jax.hessian(cost))
    least = jnp.zeros(12)
    for _ in range(40):
        least = least - jnp.linalg.solve(curvature(least), slope(least))
    assert np.linalg.eigvalsh(curvature(least)).min() > 0
    np.testing.assert_allclose(jnp.concatenate(psi), least, rtol=1e-8, atol=1e-10)


@pytest.mark.long
def test_the_rule_descends_the_least_cost():
    """ψ_i r_{i−1}ᵀ = −∂H/∂W_i, H the least cost, by differences through the fixed point."""
    leak, step = 0.2, 1e-5
    own, x, psi, now = controlled("tanh", leak)

    def least(W):
        _, _, psi, now = controlled("tanh", leak, {"W": W, "S": (W[1].T, W[2].T)})
        left = LABEL - now(OUTPUT, "rate")
        return float(sum(p @ p for p in psi) + left @ left / leak) / 2

    rates = [x, *(now(group, "rate") for group in HIDDEN)]
    for i, (row, column) in enumerate([(1, 2), (3, 0), (2, 3)]):
        up, down = (
            tuple(
                w.at[row, column].add(sign * step) if k == i else w for k, w in enumerate(own["W"])
            )
            for sign in (1, -1)
        )
        slope = (least(up) - least(down)) / (2 * step)
        assert psi[i][row] * rates[i][column] == pytest.approx(-slope, rel=1e-5)


def test_predictive_coding_is_least_control():
    """Errors ε of predictive coding with Σ = 1, and 1 + α in the output, are the least controls."""
    leak = 0.3
    own, x, psi, _ = controlled("tanh", leak)
    changes = {"layers": SIZES, "activation": "tanh", "cut": "value.x"}
    spec = load_model(
        "predictive-coding", changes | {"cells.output_error.parameters.variance": 1 + leak}
    )
    theirs = assembly.weights(spec, 0, None, Path()) | {"W": own["W"], "Q": own["S"]}
    now, _ = settled(spec, theirs, x, Target("fixed", value=LABEL), 1e-12)
    errors = [now(Group("error", i), "error") for i in (1, 2)]
    errors.append(now(Group("output_error", 3), "error"))
    for error, control in zip(errors, psi, strict=True):
        np.testing.assert_allclose(error, control, rtol=1e-7, atol=1e-9)


# --------------------------------------------------------------------------------------- runs

SMALL = {
    "model.layers": [64, 16, 10],
    "stages.0.epochs": None,
    "record": {"presentations": [0], "samples": 4, "every": "100 ms"},
}


@pytest.mark.long
def test_networks_in_time_learn_what_those_at_rest_do(tmp_path):
    given = SMALL | {"stages.0.presentations": 1, "equilibrium.tolerance": 1e-8}
    given |= {"stages.0.phases.0.until": "duration", "stages.0.phases.0.duration": "4 s"}
    moved = {}
    for level in ("equilibrium", "rate"):
        protocol = ns.load_protocol("least-control-digits", given)
        run = ns.run(protocol, level=level, out=tmp_path / f"{level}.h5")
        with ns.open_trace(run.path) as trace:
            moved[level] = [np.diff(trace[f"weights/W{i}"].values, axis=0)[-1] for i in (1, 2)]
    for rest, time in zip(*moved.values(), strict=True):
        np.testing.assert_allclose(rest, time, rtol=0, atol=1e-4 * np.abs(rest).max())


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "level"),
    [
        ("least-control-digits", "equilibrium"),
        ("broadcast-alignment-digits", "rate"),
        pytest.param("broadcast-alignment-digits", "spiking", marks=pytest.mark.seldom),
        ("feedback-control-single-phase", "rate"),
        pytest.param("feedback-control-digits", "equilibrium", marks=pytest.mark.seldom),
        pytest.param("microcircuit-digits", "equilibrium", marks=pytest.mark.seldom),
        pytest.param("microcircuit-online", "rate", marks=pytest.mark.seldom),
    ],
)
def test_a_killed_run_goes_on_bit_for_bit(name, level, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(import_module("neurosim.runs.loop"), "CHUNK_SECONDS", 0.0)
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    given = SMALL | {"level": level, "stages.0.presentations": 6, "batch": 5}
    given |= {"spiking": {"dt": "1 ms", "target": "numpy", "window": "50 ms", "test": 5}}
    if name == "broadcast-alignment-digits":
        given |= {"stages.0.phases.0.duration": "100 ms", "record.every": "50 ms"}

    def kill(progress):
        if progress.done >= 3:
            os.kill(os.getpid(), signal.SIGTERM)

    try:
        whole = ns.run(ns.load_protocol(name, given), out="whole.h5")
        with pytest.raises(StoppedError):
            ns.run(ns.load_protocol(name, given), out="parts.h5", progress=kill)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert ns.resume("parts.h5").metrics == whole.metrics
    same("whole.h5", "parts.h5")
