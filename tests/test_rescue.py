"""The equilibrium level where sweeps run away: the root solver, one stalled sample at a time."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from chains import circuit, dynamics, layers, state_of

from neurosim.functions.activations import Linear
from neurosim.functions.losses import Loss
from neurosim.levels import equilibrium
from neurosim.levels.equilibrium import Equilibrium
from neurosim.levels.settling import Problem, Span
from neurosim.networks.dynamics import Target
from neurosim.networks.network import Network, Weights

MU, N, GAIN = 0.4, 4, 10.0
"""Feedback ten times the inverse: a sweep multiplies errors by μ(1−μ) times ten, 2.4."""


@pytest.fixture(autouse=True)
def double_precision():
    with jax.enable_x64(True):
        yield


def rests(basal, W, Q, target):
    """Where the linear network rests, from its equations: h_1, h_2 of every sample."""
    eye = np.eye(N)
    matrix = np.block([[eye, -MU * Q], [-(1 - MU) * W, eye]])
    right = np.concatenate([(1 - MU) * basal, MU * target], axis=1)
    return np.split(np.linalg.solve(matrix, right.T).T, 2, axis=1)


def stalling():
    """Three samples, the second of which starts where it rests: problem, start.

    And where they rest if Q is so many times as large.
    """
    rng = np.random.default_rng(0)
    W = np.linalg.qr(rng.standard_normal((N, N)))[0]
    Q = GAIN * W.T
    basal, target = rng.standard_normal((2, 3, N))
    network = Network((N, N, N), (Linear(),) * 2, "inverse", Loss("half-squared", "linear"))
    weights = circuit(Weights((jnp.eye(N), jnp.asarray(W)), (), (jnp.asarray(Q),)))
    moving = dynamics("mixture-two-phase", (N, N, N), mu=MU, tau_soma=0.02)

    def drive(x, target):
        return moving.drive(network, weights, x, Target("fixed", value=target))

    def expected(times=1.0):
        return rests(basal, W, times * Q, target)

    samples = eqx.if_array(0)
    axes = Problem(None, None, None, samples, None, samples)
    held = jax.vmap(drive)(basal, target)  # W_1 is the unit matrix
    problem = Problem(moving, network, weights, held, 0.1, jnp.zeros((3, N)), (axes,))
    start = state_of(moving, soma=[jnp.zeros((3, N)).at[1].set(h[1]) for h in expected()])
    return problem, start, expected


def settled(newton: int):
    """Those samples: start, end, report, where they rest."""
    problem, start, expected = stalling()
    level = Equilibrium(1e-9, 10, newton)
    state, report, _ = jax.jit(lambda v: level.settle(problem, v, Span(0.0, True)))(start)
    return layers(start, "soma"), layers(state, "soma"), report, expected()


def test_without_feedback_one_sweep_upwards_is_enough():
    problem, start, expected = stalling()
    forward = problem._replace(weights=problem.weights | {"Q": (0 * problem.weights["Q"][0],)})
    state, report, _ = Equilibrium(1e-9, 10, 0).settle(forward, start, Span(0.0, True))
    assert report.settled.all()
    assert report.effort.tolist() == [1, 1, 1]
    for h, solved in zip(layers(state, "soma"), expected(times=0.0), strict=True):
        np.testing.assert_allclose(h, solved, atol=1e-14)


def test_sweeps_alone_run_away():
    _, _, report, _ = settled(newton=0)
    assert report.settled.tolist() == [False, True, False]
    assert not report.rescued.any()


@pytest.mark.parametrize("dense", [equilibrium.DENSE, 0], ids=["as a matrix", "by Krylov"])
def test_the_root_solver_finds_where_stalled_samples_rest_and_leaves_the_others(monkeypatch, dense):
    monkeypatch.setattr(equilibrium, "DENSE", dense)
    start, state, report, expected = settled(newton=8)
    assert report.settled.all()
    assert report.rescued.tolist() == [True, False, True]
    for h, solved, before in zip(state, expected, start, strict=True):
        np.testing.assert_allclose(h, solved, atol=1e-8)
        np.testing.assert_array_equal(h[1], before[1])


def test_stalled_samples_of_several_seeds_are_solved_with_the_weights_of_their_own():
    problem, start, expected = stalling()
    times = (1.0, -1.0)
    Q = jnp.stack([t * problem.weights["Q"][0] for t in times])
    lead = eqx.if_array(0)
    seeds = Problem(None, None, {"W": None, "Q": lead}, lead, None, lead)
    both = problem._replace(weights=problem.weights | {"Q": (Q,)}, axes=(seeds, *problem.axes))
    twice = jax.tree.map(lambda a: jnp.stack([a, a]), (problem.drive, problem.label, start))
    both = both._replace(drive=twice[0], label=twice[1])
    state, report, _ = Equilibrium(1e-9, 10, 8).settle(both, twice[2], Span(0.0, True))
    assert report.settled.all()
    assert report.rescued.tolist() == [[True, False, True], [True, True, True]]
    for h, *solved in zip(layers(state, "soma"), *map(expected, times), strict=True):
        np.testing.assert_allclose(h, solved, atol=1e-8)
