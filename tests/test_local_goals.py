"""The mathematics of local goals against numerical minima of the same objectives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.linalg import null_space, polar, sqrtm

from neurosim.functions.activations import soft_threshold
from neurosim.functions.local_goals import alternated, discrimination, exclusive, objective
from neurosim.functions.penalized_weights import (
    Penalties,
    backward_form,
    closed_form,
    descent,
    penalized,
    singular_values,
)


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def drawn(seed):
    rng = np.random.default_rng(seed)
    classes = jnp.asarray(np.eye(3)[rng.integers(0, 3, 12)])
    return jnp.asarray(rng.normal(size=(12, 5))), classes


@pytest.mark.parametrize("seed", range(5))
def test_exclusive_goals_are_the_best_of_all_assignments(seed):
    q, classes = drawn(seed)
    g = exclusive(q, classes, 0.2)
    assert float(discrimination(g, classes)) == pytest.approx(0, abs=1e-12)
    sparse = jnp.sign(q) * jnp.maximum(jnp.abs(q) - 0.2, 0)
    for c in range(3):
        other = sparse * classes[:, c : c + 1]
        near = 0.5 * (q - g) ** 2 + 0.2 * abs(g), 0.5 * (q - other) ** 2 + 0.2 * abs(other)
        assert jnp.all(near[0].sum(0) <= near[1].sum(0) + 1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_alternating_sweeps_never_raise_the_objective(seed):
    q, classes = drawn(seed)
    found = [objective(q, alternated(q, classes, 0.1, 2.0, k), classes, 0.1, 2.0) for k in range(6)]
    assert np.all(np.diff(found) <= 1e-12)
    assert found[-1] < found[0]


@pytest.mark.parametrize("seed", range(5))
def test_a_sweep_ends_at_the_exact_minimum_of_its_last_class(seed):
    """With all others held, where the slope is 0, or at a kink at 0 that rises to both sides."""
    q, classes = drawn(seed)
    g = alternated(q, classes, 0.1, 2.0, 1)

    def energy(g):
        return objective(q, g, classes, 0.1, 2.0)

    last = np.asarray(classes[:, -1] > 0)[:, None] & np.ones(5, bool)
    moved, rest = last & (np.asarray(g) != 0), last & (np.asarray(g) == 0)
    assert moved.sum() >= 3 and rest.any()
    assert np.abs(np.where(moved, jax.grad(energy)(g), 0)).max() < 1e-12
    for i, j in np.argwhere(rest):
        assert min(energy(g.at[i, j].set(step)) for step in (-1e-6, 1e-6)) > energy(g)


@pytest.mark.parametrize("seed", range(5))
def test_without_coherence_the_closed_form_is_where_the_flow_rests(seed):
    rng = np.random.default_rng(seed)
    u = rng.normal(size=(30, 4))
    M, N = jnp.asarray(u.T @ u / 30), jnp.asarray(rng.normal(size=(6, 4)))
    penalties = Penalties(0.3, 0.0, 0.2, 0.0)
    A = closed_form(M, N, jnp.zeros((6, 4)), penalties)
    assert jnp.max(jnp.abs(descent(A, M, N, penalties))) < 1e-9


def test_singular_values_solve_their_quartic():
    d, m = jnp.array([0.0, 0.5, 4.0]), jnp.array([0.2, 1.0, 3.0])
    s = singular_values(d, m, Penalties(0.0, 2.0, 0.7, 0.0))
    slope = s - d + 4 * m * s * (m * s**2 - 1) - 1.4 / s
    assert jnp.max(jnp.abs(slope)) < 1e-9


@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (5, 5)])
def test_where_all_directions_weigh_the_same_the_closed_form_is_exact(shape):
    rng = np.random.default_rng(sum(shape))
    M, N = 0.7 * jnp.eye(shape[1]), jnp.asarray(rng.normal(size=shape))
    penalties = Penalties(0.3, 0.5, 0.2, 0.0)
    A = closed_form(M, N, jnp.zeros(shape), penalties)
    assert jnp.max(jnp.abs(descent(A, M, N, penalties))) < 1e-9
    for _ in range(20):
        other = A + 0.1 * jnp.asarray(rng.normal(size=shape))
        assert penalized(other, M, N, penalties) > penalized(A, M, N, penalties)


SILENT = Penalties(0.3, 0.0, 0.2, 0.0)


def silent(seed):
    """M and N of five inputs, two of which are always 0, and present weights of six units."""
    rng = np.random.default_rng(seed)
    u, w = rng.normal(size=(30, 5)) * [1, 1, 1, 0, 0], rng.normal(size=(30, 6))
    return tuple(map(jnp.asarray, (u.T @ u / 30, w.T @ u / 30, rng.normal(size=(6, 5)))))


def deaf(seed):
    """The same of inputs that all change, in two directions of which nothing is wanted."""
    rng = np.random.default_rng(seed)
    u, wanted = rng.normal(size=(30, 5)) * [1, 1, 2, 2, 0.5], rng.normal(size=(6, 3))
    N = wanted @ rng.normal(size=(3, 5))
    return tuple(map(jnp.asarray, (u.T @ u / 30, N, rng.normal(size=(6, 5)))))


@pytest.mark.parametrize("of", [silent, deaf])
@pytest.mark.parametrize("seed", range(3))
def test_where_nothing_is_said_weights_are_the_minimum_nearest_to_the_present(of, seed):
    """With X = A (M + λ₂)^½: orthogonal to what is said, √(2λ₄) long, and turned as the present X
    is, by the polar factor of what that has there."""
    M, N, present = of(seed)
    A = closed_form(M, N, present, SILENT)
    root = sqrtm(np.asarray(M + 0.3 * jnp.eye(5))).real
    free, apart = null_space(N @ np.linalg.inv(root)), null_space(N.T)
    assert free.shape[1] == 2
    Q, _ = polar(apart.T @ present @ root @ free)
    np.testing.assert_allclose(A @ root @ free, np.sqrt(2 * 0.2) * apart @ Q, atol=1e-11)
    assert np.max(abs(descent(A, M, N, SILENT))) < 1e-11
    for other in range(5):
        start = jnp.asarray(np.random.default_rng(100 + other).normal(size=(6, 5)))
        B = closed_form(M, N, start, SILENT)
        values = penalized(B, M, N, SILENT), penalized(A, M, N, SILENT)
        assert float(values[0]) == pytest.approx(float(values[1]), rel=1e-12)
        assert np.linalg.norm((B - present) @ root) > np.linalg.norm((A - present) @ root)


@pytest.mark.parametrize("seed", range(3))
def test_rounding_of_what_hardly_changes_moves_weights_no_more_than_rounding(seed):
    """In a frame in which no input is exactly 0. A thousand times what is added."""
    M, N, present = silent(seed)
    rng = np.random.default_rng(seed)
    frame, noise = np.linalg.qr(rng.normal(size=(5, 5)))[0], 1e-14 * rng.normal(size=(2, 6, 5))
    given = [a @ frame for a in (frame.T @ M, N, present)]
    A = closed_form(*given, SILENT)
    other = closed_form(given[0], given[1] + noise[0], given[2] + noise[1], SILENT)
    assert np.max(abs(A - other)) < 1e-11
    # Also where the present weights say nothing, so that nothing is nearest, it is a minimum.
    still = closed_form(given[0], given[1], 0 * given[2], SILENT)
    assert np.max(abs(descent(still, *given[:2], SILENT))) < 1e-12


def test_descent_is_the_negative_gradient_of_the_objective():
    rng = np.random.default_rng(0)
    u = rng.normal(size=(30, 4))
    M, N, A = (jnp.asarray(a) for a in (u.T @ u, rng.normal(size=(6, 4)), rng.normal(size=(6, 4))))
    penalties = Penalties(0.3, 0.5, 0.2, 0.0)
    downhill, step = descent(A, M, N, penalties), 1e-6
    for way in jnp.asarray(rng.normal(size=(5, 6, 4))):
        ahead, behind = (penalized(A + s * way, M, N, penalties) for s in (step, -step))
        slope = (ahead - behind) / (2 * step)
        assert float(slope) == pytest.approx(-float(jnp.sum(downhill * way)), rel=1e-6)


def test_weights_that_flow_come_to_the_closed_form():
    """dA/dt = −∇ of the objective, by scipy, from weights of another kind."""
    rng = np.random.default_rng(1)
    u = rng.normal(size=(30, 3))
    M, N = jnp.asarray(u.T @ u / 30), jnp.asarray(rng.normal(size=(4, 3)))
    penalties = Penalties(0.3, 0.0, 0.2, 0.0)
    A = closed_form(M, N, jnp.zeros((4, 3)), penalties)
    flow = jax.jit(lambda a: descent(a.reshape(4, 3), M, N, penalties).ravel())
    start = A.ravel() + 0.3 * rng.normal(size=12)
    ended = solve_ivp(lambda _, a: flow(a), (0, 100), start, "LSODA", rtol=1e-10, atol=1e-12)
    assert ended.y[:, -1] == pytest.approx(np.asarray(A.ravel()), abs=1e-7)


def test_backward_weights_minimise_their_own_problem():
    rng = np.random.default_rng(2)
    y, pull = (jnp.asarray(rng.normal(size=(20, 3))) for _ in range(2))
    u, e = (jnp.asarray(rng.normal(size=(20, 4))) for _ in range(2))
    A = jnp.asarray(rng.normal(size=(4, 3)))

    def problem(B):
        fits = 0.5 * jnp.sum((u @ B.T - y) ** 2, 1) + jnp.sum(pull * (e @ B.T), 1)
        return jnp.mean(fits) + 0.25 * jnp.sum((B - A.T) ** 2)

    B = backward_form(y, u, pull, e, A, 0.5)
    assert jnp.max(jnp.abs(jax.grad(problem)(B))) < 1e-12


@jax.jit
def descended(A, u, nu, correction):
    """The objective of a node [K 13] after each exact step of y and of A; u, g and ν are held."""
    penalties, threshold = Penalties(0.3, 0.0, 0.2, 0.0), 0.2
    M, nothing = u.T @ u / len(u), jnp.zeros_like(A)

    def value(A, y):
        q = u @ A.T
        data = 0.5 * jnp.sum((q - y) ** 2) + jnp.sum(nu * (y - q)) + threshold * jnp.sum(abs(y))
        return data / len(u) + penalized(A, 0 * M, nothing, penalties)

    def step(A, _):
        y = soft_threshold(u @ A.T - nu, threshold)
        moved = closed_form(M, (y - correction * nu).T @ u / len(u), A, penalties)
        return moved, jnp.stack([value(A, y), value(moved, y)])

    return jax.lax.scan(step, A, length=8)[1].ravel()


def alternating(seed, correction):
    rng = np.random.default_rng(seed)
    shapes = ((6, 4), 1.0), ((30, 4), 1.0), ((30, 6), 0.3)
    return np.asarray(
        descended(*(jnp.asarray(s * rng.normal(size=n)) for n, s in shapes), correction)
    )


@pytest.mark.parametrize("seed", range(5))
def test_exact_steps_of_a_node_fall_where_both_follow_the_same_objective(seed):
    """With y − q in both steps, so that weights fit y + ν; every step is an exact minimum."""
    found = alternating(seed, -1.0)
    assert np.all(np.diff(found) <= 1e-9)
    assert found[-1] < found[0] - 1e-3


def test_with_the_signs_of_the_source_the_steps_follow_two_objectives():
    """K 14 has y − q and K 17 q − y: what one lowers the other may raise."""
    rises = [np.max(np.diff(alternating(seed, 1.0))) for seed in range(5)]
    assert min(rises) > 1e-9
