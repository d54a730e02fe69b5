"""Theorems 2 to 10 of Baldi, Sadowski & Lu 2018 by their claims, trivial and degenerate cases too.

That random draws end at the closed forms is in `test_learning_flows`, theorem 12 in
`test_power_flows`.
"""

import numpy as np
import pytest
from flown_networks import drawn, flown, scalar
from scipy.integrate import solve_ivp

from neurosim.theory.learning_flows import Flow, Moments, drift, velocity
from neurosim.theory.learning_limits import limit


def jacobian(function, z):
    """Of a function of a vector, by central differences."""
    steps = 1e-6 * np.eye(len(z))
    return np.stack([(function(z + h) - function(z - h)) / 2e-6 for h in steps], axis=1)


@pytest.mark.parametrize("seed", range(5))
def test_theorem_2_fixed_points_attract_but_those_inside_the_parabola(seed):
    """Deviations w = a_2 u + a_1 v from the hyperbola decay by β(c_1 a_2 + a_1²) [B 33]."""
    rng = np.random.default_rng(seed)
    alpha, beta, a1, c1 = (*np.abs(rng.normal(size=2)), *rng.normal(size=2))
    a2 = alpha / (beta * a1)

    def field(z):
        return np.ravel(velocity(scalar(z, [c1], alpha, beta)))

    slopes = np.sort(np.linalg.eigvals(jacobian(field, np.array([a1, a2]))))
    decay = beta * (c1 * a2 + a1**2)
    np.testing.assert_allclose(slopes, np.sort([-decay, 0.0]), atol=1e-7)
    aside = scalar([a1 + 1e-5, a2], [c1], alpha, beta)
    near = max(abs(end - at).item() for end, at in zip(limit(aside).weights, (a1, a2), strict=True))
    assert (near < 1e-3) == (decay > 0)  # inside the parabola a_2 = −a_1²/c_1 it leaves for good


@pytest.mark.parametrize("seed", range(3))
def test_theorem_2_signs_are_reflections(seed):
    """Of α at the a_2-axis, of c_1 at both axes."""
    rng = np.random.default_rng(seed)
    (a1, a2, c1, alpha), beta = rng.normal(size=4), 1.3

    def of(*given):
        return np.ravel(limit(scalar(*given)).weights)

    plain = of((a1, a2), (c1,), alpha, beta)
    turned = of((-a1, a2), (c1,), -alpha, beta)
    np.testing.assert_allclose(turned, plain * (-1, 1), rtol=1e-12)
    turned = of((-a1, -a2), (-c1,), alpha, beta)
    np.testing.assert_allclose(turned, -plain, rtol=1e-12)


@pytest.mark.parametrize("deaf", [1, 2])
def test_theorem_3_a_layer_that_hears_nothing_shortens_the_chain(deaf):
    """A[1, 1, 1, 1] with c_1 = 0 is A[1, 1, 1] of inputs a_1 I; with c_2 = 0 a_1 learns with what
    a_2 leaves of it."""
    rng = np.random.default_rng(deaf)
    for _ in range(3):
        a, c, (alpha, beta) = rng.normal(size=3), rng.normal(size=2), (rng.normal(), 1.7)
        c[deaf - 1] = 0.0
        known = np.ravel(limit(scalar(a, c, alpha, beta)).weights)
        if deaf == 1:
            shorter = limit(scalar(a[1:], c[1:], a[0] * alpha, a[0] ** 2 * beta))
            expected = (a[0], *np.ravel(shorter.weights))
        else:  # da_1 = c_1 e, da_3 = a_2 a_1 e: A[1, 1, 1] of the weights a_1 and a_3/a_2 …
            moments = a[1] * alpha, a[1] ** 2 * beta  # … of inputs a_2 I, at c_1/a_2
            shorter = limit(scalar((a[0], a[2]), (c[0] / a[1],), *moments))
            expected = np.insert(np.ravel(shorter.weights), 1, a[1])
        np.testing.assert_allclose(known, expected, rtol=1e-11)


@pytest.mark.parametrize("length", [3, 5])
def test_theorem_4_silent_chains(length):
    """From the origin all weights leave it together; where no layer hears, the highest alone learns
    by least squares; behind a layer that is silent for ever none does."""

    def of(*given):
        return limit(scalar(*given))

    ones, zeros = np.ones(length), np.zeros(length)
    end = np.ravel(of(zeros, ones[1:], 1.0, 1.0).weights)
    parabolas = end[:-1] ** 2 / 2
    np.testing.assert_allclose(end[1:], parabolas, rtol=1e-12)
    np.testing.assert_allclose(np.prod(end), 1.0, rtol=1e-12)
    end = np.ravel(of(2 * ones, zeros[1:], 1.0, 1.0).weights)
    np.testing.assert_allclose(end, [*(2 * ones[1:]), 0.5 ** (length - 1)], rtol=1e-14)
    assert np.ravel(of(zeros, zeros[1:], 1.0, 1.0).weights).tolist() == zeros.tolist()
    lost = of([1.0] * (length - 2) + [0.0, 1.0], [1.0] * (length - 2) + [0.0], 1.0, 1.0)
    assert lost.converges is False


@pytest.mark.parametrize("seed", range(3))
def test_theorem_5_units_that_hear_nothing_keep_their_weights(seed):
    """Of A[1, N, 1] with some c_i = 0; the others' are affine in each other [B 61]."""
    rng = np.random.default_rng(seed)
    flow = drawn((1, 4, 1), rng)
    c = flow.C[0].copy()
    c[1:3] = 0.0
    flow = flow._replace(C=(c,))
    known, end = limit(flow), flown(flow, 2000)
    before, after = flow.A[0][:, 0], known.weights[0][:, 0]
    np.testing.assert_array_equal(after[1:3], before[1:3])
    np.testing.assert_allclose((after - before)[3], (after - before)[0] * c[3, 0] / c[0, 0])
    for one, other in zip(end.A, known.weights, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-7)


def test_theorem_5_without_a_channel_the_output_learns_alone():
    flow = drawn((1, 3, 1), np.random.default_rng(0))
    flow = flow._replace(C=(np.zeros((3, 1)),))
    known = limit(flow)
    np.testing.assert_array_equal(known.weights[0], flow.A[0])
    np.testing.assert_allclose(known.product, flow.moments.solution, rtol=1e-13)
    silent = flow._replace(A=(np.zeros((3, 1)), flow.A[1]))
    assert limit(silent).words == "the start is a fixed point"


def test_theorem_6_trivial_channels_and_starts():
    """Without a channel A stays and B follows by least squares; from A = 0 it is a multiple of C
    all along, with the cubic of K = CB."""
    rng = np.random.default_rng(4)
    flow = drawn((3, 1, 3), rng, identity=True)
    deaf = flow._replace(C=(np.zeros((1, 3)),))
    A, B = limit(deaf).weights
    np.testing.assert_array_equal(A, flow.A[0])
    np.testing.assert_allclose(B, A.T / (A @ A.T), rtol=1e-12)
    np.testing.assert_allclose(flown(deaf, 100).A[1], B, atol=1e-9)
    silent = flow._replace(A=(np.zeros((1, 3)), flow.A[1]))
    (A, B), c = limit(silent).weights, flow.C[0]
    beta = (A @ c.T).item() / (c @ c.T).item()
    K = (c @ flow.A[1]).item()
    np.testing.assert_allclose(A, beta * c, atol=1e-13)
    assert beta > 0 and abs(1 - (beta**2 * (c @ c.T).item() / 2 + K) * beta) < 1e-12
    np.testing.assert_allclose(flown(silent).A[0], A, atol=1e-7)


def lyapunov(flow):
    """Tr V of B 109, S = C_1 Σ_TI Σ_II⁻¹."""
    (c,), (a, b) = flow.C, flow.A
    S = c @ flow.moments.solution
    return np.trace(c @ b @ (c @ b).T - a @ S.T - S @ a.T)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("sizes", [(2, 3, 2), (3, 2, 2)])
def test_theorems_7_and_8_weights_stay_bounded_and_errors_can_be_integrated(sizes, seed):
    """Tr V falls by 2 Tr(U Σ_II U^T), U = C_1 (Σ_TI Σ_II⁻¹ − P) [B 106–109], so that the integral
    of B 105 is at most (V(0) − V(t)) over twice the least eigenvalue of Σ_II. ‖A_1‖ is bounded."""
    flow = drawn(sizes, np.random.default_rng([seed, *sizes]))
    shapes = [a.shape for a in flow.A]
    sizes_of = [a.size for a in flow.A]

    def given(z):
        parts = np.split(z[: sum(sizes_of)], [sizes_of[0]])
        return flow._replace(A=tuple(p.reshape(s) for p, s in zip(parts, shapes, strict=True)))

    def field(_, z):
        now = given(z)
        U = flow.C[0] @ (flow.moments.solution - now.product)
        more = [np.trace(U @ flow.moments.II @ U.T), np.sum(U**2)]
        return np.concatenate([*map(np.ravel, velocity(now)), more])

    start = np.concatenate([*map(np.ravel, flow.A), [0.0, 0.0]])
    way = solve_ivp(field, (0, 60), start, method="LSODA", rtol=1e-9, atol=1e-11).y
    fallen = lyapunov(flow) - lyapunov(given(way[:, -1]))
    np.testing.assert_allclose(fallen, 2 * way[-2, -1], rtol=1e-6)
    least = np.linalg.eigvalsh(flow.moments.II)[0]
    assert way[-1, -1] <= fallen / (2 * least) + 1e-9
    assert np.linalg.norm(way[: sizes_of[0]], axis=0).max() < 20  # of 1 to 3 at the start


@pytest.mark.parametrize("rank", [0, 1])
def test_theorem_8_a_channel_without_full_rank_converges_partly(rank):
    """What it hears vanishes, C_1 P Σ_II → C_1 Σ_TI, and P is said only where it has full rank."""
    rng = np.random.default_rng(rank)
    flow = drawn((2, 3, 2), rng)
    c = np.outer(rng.normal(size=3), rng.normal(size=2)) * rank
    flow = flow._replace(C=(c,))
    known, end = limit(flow), flown(flow, 3000)
    assert known.converges and known.product is None
    heard = c @ (flow.moments.TI - end.product @ flow.moments.II)
    np.testing.assert_allclose(heard, 0, atol=1e-7)
    assert max(change for _, change in drift(flow, end)) < 1e-8


def conditions(S, sizes):
    """B 110 as a function of (A_1, C_1 A_2), whose zero set theorem 9 asks to be discrete."""
    below, hidden = sizes

    def function(z):
        a, b = z[: hidden * below].reshape(hidden, below), z[hidden * below :]
        b = b.reshape(hidden, hidden)
        parts = b @ a - S, b + b.T - a @ a.T, b @ b.T - a @ S.T - S @ a.T
        return np.concatenate([p.ravel() for p in parts])

    return function


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("sizes", [(2, 2, 2), (2, 1, 2), (3, 2, 3)])
def test_theorem_9_the_weights_at_rest_are_isolated(sizes, seed):
    """The equations of B 110 fix A_1 and C_1 A_2 to first order, in random draws."""
    flow = drawn(sizes, np.random.default_rng([9, seed, *sizes]))
    end = flown(flow, 3000)
    (c,), (a, b) = flow.C, end.A
    of = conditions(c @ flow.moments.solution, sizes[:2])
    z = np.concatenate([a.ravel(), (c @ b).ravel()])
    singular = np.linalg.svd(jacobian(of, z), compute_uv=False)
    assert singular[-1] > 1e-4 * singular[0]
    still = velocity(end)
    assert max(np.abs(still[0]).max(), np.abs(c @ still[1]).max()) < 1e-6


def square(A, B):
    """The system of B 111."""
    one = np.eye(2)
    return Flow((np.asarray(A, float), np.asarray(B, float)), (one,), Moments(one, one))


@pytest.mark.parametrize("seed", range(6))
def test_theorem_10_two_by_two_comes_to_rest(seed):
    rng = np.random.default_rng([10, seed])
    end = flown(square(*rng.normal(size=(2, 2, 2))), 4000)
    assert max(np.abs(v).max() for v in velocity(end)) < 1e-7
    np.testing.assert_allclose(end.product, np.eye(2), atol=1e-7)


def test_theorem_10_matrices_that_turn_alike_are_chains_of_one_unit_each():
    """A = R diag(a) R^T and B = R diag(b) R^T stay so, and each pair solves the cubic B 31; from
    the origin A → 2^(1/3) I; A = B = −I, the exception of the proof, rests."""
    rng = np.random.default_rng(0)
    angle = rng.normal()
    R = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    a, b = rng.normal(size=(2, 2))
    ends = [np.ravel(limit(scalar(each, (1.0,), 1.0, 1.0)).weights) for each in np.stack([a, b], 1)]
    found = flown(square(R @ np.diag(a) @ R.T, R @ np.diag(b) @ R.T), 400).A
    for k in (0, 1):
        expected = R @ np.diag([end[k] for end in ends]) @ R.T
        np.testing.assert_allclose(found[k], expected, atol=1e-7)
    zero = np.zeros((2, 2))
    A, B = flown(square(zero, zero)).A
    np.testing.assert_allclose(A, 2 ** (1 / 3) * np.eye(2), atol=1e-8)
    np.testing.assert_allclose(B, 2 ** (-1 / 3) * np.eye(2), atol=1e-8)
    still = velocity(square(-np.eye(2), -np.eye(2)))
    assert not any(v.any() for v in still)
