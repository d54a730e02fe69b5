"""The zoo: its directions against closed forms, and its models, which are shipped protocols."""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import neurosim as ns
from neurosim.building import assembly

sys.path.append(str(Path(__file__).parents[1] / "studies"))
import directions
import zoo


def test_directions_are_the_gradient_and_the_least_change_that_cancels_the_error():
    changes = {"layers": [4, 5, 3, 2], "activation": "tanh", "output": "linear"}
    model = ns.load_model("backprop", changes | {"loss": "half-squared"})
    dynamics, network = assembly.dynamics(model).with_layers(), assembly.network(model)
    rng = np.random.default_rng(0)
    W = [rng.standard_normal((m, n)) for n, m in ((4, 5), (5, 3), (3, 2))]
    x, y = rng.standard_normal((6, 4)), rng.standard_normal((6, 2))
    with jax.enable_x64(True):
        at = directions.linear(dynamics, network, {"W": tuple(map(jnp.asarray, W))}, x, y)
        found = directions.newton(at)
    h1 = np.tanh(x @ W[0].T)
    h2 = np.tanh(h1 @ W[1].T)
    error, D1, D2 = h2 @ W[2].T - y, 1 - h1**2, 1 - h2**2
    back = error @ W[2] * D2
    gradient = [(back @ W[1] * D1).T @ x / 6, back.T @ h1 / 6, error.T @ h2 / 6]
    J1 = W[2] * D2[:, None, :] @ W[1]  # ∂h_3/∂h_1 of every sample
    steps = [
        -np.einsum("bij,bj->bi", np.linalg.pinv(J1), error) * D1,
        -error @ np.linalg.pinv(W[2]).T * D2,
        -error,
    ]
    for g, own in zip(at.gradient, gradient, strict=True):
        np.testing.assert_allclose(g, own, rtol=1e-10)
    for d, step, below in zip(found, steps, (x, h1, h2), strict=True):
        np.testing.assert_allclose(d, step.T @ below / 6, rtol=1e-9)


def test_what_a_stage_before_shows_is_taken_from_the_budget():
    problem, model = zoo.PROBLEMS["yin-yang"], zoo.MODELS["BurstCCN"]
    spec = zoo.loaded(problem, model, 3.0, False, True).spec
    assert [stage.epochs for stage in spec.stages] == [3, problem.epochs - 3]
    assert {stage.pace for stage in spec.stages} == {3.0} and spec.task["validation"] == 0.2
