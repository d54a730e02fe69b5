"""The theorems of chapter 4 of the thesis, as far as they hold, on the equations of the package."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from neurosim.credit import CREDITS
from neurosim.functions.activations import LeakyReLU, Linear, Tanh
from neurosim.functions.losses import Loss
from neurosim.networks.dynamics import Readout
from neurosim.networks.network import Network, Weights
from neurosim.plasticity.rank_one import Pair, drift, factors, refreshed, robust_update
from neurosim.plasticity.signals import apical_delta, there_and_back
from neurosim.theory.decomposition import decomposition, output_jacobian
from neurosim.theory.diagnosis import cosine
from neurosim.theory.gauss_newton import (
    block_diagonal_step,
    factorised_pseudo_inverse,
    full_step,
    jacobians_to_the_output,
)


@pytest.fixture(autouse=True, scope="module")
def double_precision():
    with jax.enable_x64(True):
        yield


def network(sizes, hidden, form="inverse"):
    s = (*[hidden] * (len(sizes) - 2), Linear())
    return Network(tuple(sizes), s, form, Loss("half-squared", "linear"))


def drawn(sizes, seed, spread=0.2):
    """Weights with singular values in 1 ± spread and their pseudo-inverses; input and label."""
    rng = np.random.default_rng(seed)
    W = []
    for n_in, n in pairwise(sizes):
        u, _, vt = np.linalg.svd(rng.standard_normal((n, n_in)), full_matrices=False)
        W.append(u * rng.uniform(1 - spread, 1 + spread, min(n, n_in)) @ vt)
    Q = [np.linalg.pinv(w) for w in W[1:]]
    weights = Weights(*(tuple(map(jnp.asarray, arrays)) for arrays in (W, [], Q)))
    return weights, *(jnp.asarray(rng.standard_normal(n)) for n in (sizes[0], sizes[-1]))


def rest_of(net, weights, x):
    h = net.forward_pass(weights, x)
    below = (x, *h[:-1])
    D = tuple(net.slope(i, weights.W[i - 1] @ b) for i, b in enumerate(below, start=1))
    return Readout(h, D, h)


def teaching(credit, net, weights, now, y, step):
    return CREDITS[credit].assign(net, weights, now, y, step)


# ---------------------------------------------------------- 4.1: is the update a descent?


def gaussian_nets(sizes, hidden, count):
    """Gaussian networks with exact inverses, inputs and errors of the output, one a trial.

    The errors are drawn, not made of labels: errors of labels near 0 are nearly the output itself,
    which exact inverses carry back to the activity below it.
    """
    rng = np.random.default_rng(0)
    W = [rng.standard_normal((count, n, below)) for below, n in pairwise(sizes)]
    Q = [np.linalg.inv(w) for w in W[1:]]
    x, e = rng.standard_normal((count, sizes[0])), rng.standard_normal((count, sizes[-1]))
    return network(sizes, hidden), Weights(tuple(W), (), tuple(Q)), x, e


@pytest.mark.parametrize(
    ("sizes", "lowest", "whole"), [((6, 6, 6), 0.183, 0.041), ((6, 6, 6, 6), 0.367, 0.129)], ids=str
)
def test_teaching_signals_descend_but_not_every_update_of_target_propagation(sizes, lowest, whole):
    """⟨J⁻¹e, J^T e⟩ = ‖e‖² > 0, so that signals and D⁻¹-updates descend, always [T 4.1, A.6].

    With D the product is e^T J D² J⁻¹ e, whose matrix has positive eigenvalues, as the proof of
    T 4.1 says, but is not symmetric: it is no positive form. Some updates of the lowest layer
    ascend, and fewer of all layers together, where the output's always descends. lowest, whole:
    which part did in 20 000 draws of another account of the algorithm.
    """
    count = 8000
    net, weights, x, e = gaussian_nets(sizes, LeakyReLU(0.35), count)
    step = 1e-8  # η̂ → 0: no kink between h and ĥ

    @jax.jit
    @jax.vmap
    def compared(weights, x, e):
        now = rest_of(net, weights, x)
        y = now.rate[-1] - e
        tp = [layer / step for layer in teaching("tp-ei", net, weights, now, y, step)]
        bp = teaching("backprop", net, weights, now, y, step)
        below = (x, *now.rate[:-1])
        plain, modified = [], []
        for t, b, D, h in zip(tp, bp, now.slope, below, strict=True):
            gradient = jnp.outer(D * b, h)
            plain.append(jnp.vdot(jnp.outer(D * t, h), gradient))  # [T 4.12]
            modified.append(jnp.vdot(jnp.outer(t / D, h), gradient))  # [A.6]
        signals = [t @ b for t, b in zip(tp, bp, strict=True)]
        return e @ e, [h @ h for h in below], signals, modified, jnp.stack(plain)

    e2, h2, signals, modified, plain = compared(weights, x, e)
    # Rounding of ĥ − h is about eps ‖h‖ ‖J‖ ‖J⁻¹‖ / η̂, with condition numbers of up to 1e4.
    for layer, length in enumerate(h2):
        np.testing.assert_allclose(signals[layer], e2, rtol=1e-3)
        np.testing.assert_allclose(modified[layer], e2 * length, rtol=1e-3)
    for found, expected in ((plain[:, 0], lowest), (plain.sum(axis=1), whole)):
        ascending = float(np.mean(found < 0))
        of_chance = np.sqrt(expected * (1 - expected) * (1 / count + 1 / 20_000))
        assert abs(ascending - expected) < 3 * of_chance
    assert np.all(plain[:, -1] > 0)


# ---------------------------------------------- 4.3, 4.9: targets are Gauss–Newton steps


@pytest.mark.parametrize(
    ("credit", "sizes"),
    [("tp-ei", (4, 5, 5, 5)), ("dtp-ai", (4, 7, 5, 5)), ("tp-ai", (4, 5, 5, 5))],
)
@pytest.mark.parametrize("hidden", [Tanh(), LeakyReLU(0.35)], ids=["tanh", "leaky"])
def test_targets_are_block_gauss_newton_steps(credit, sizes, hidden):
    """(ĥ_i − h_i)/η̂ → −J_i^† e_L, with an error of first order in η̂ [T 4.3, 4.9]."""
    net = network(sizes, hidden)
    weights, x, y = drawn(sizes, 2)
    now = rest_of(net, weights, x)
    e = net.loss.error(now.rate[-1], y)
    blocks = [np.asarray(output_jacobian(net, weights, now.rate, i)) for i in (1, 2)]
    step_of_theory = block_diagonal_step(blocks, np.asarray(e))
    errors = []
    for step in (1e-3, 1e-4, 1e-5):
        found = np.concatenate(teaching(credit, net, weights, now, y, step)[:-1]) / step
        errors.append(np.linalg.norm(found - step_of_theory) / np.linalg.norm(step_of_theory))
    if isinstance(hidden, Tanh):
        slope = np.diff(np.log10(errors)) / -1
        np.testing.assert_allclose(slope, 1, atol=0.05)
    else:  # exact, as no unit crosses its kink
        assert max(errors) < 1e-9  # rounding over η̂ = 1e-5


def test_decomposition_is_complete_and_its_parts_are_what_they_are_called():
    sizes, step = (4, 5, 5, 5), 1e-4
    net = network(sizes, LeakyReLU(0.35))
    weights, x, y = drawn(sizes, 5)
    rng = np.random.default_rng(1)
    rough = weights._replace(Q=tuple(q + 0.1 * rng.standard_normal(q.shape) for q in weights.Q))
    now = rest_of(net, weights, x)
    for credit, exact in (("tp-ai", False), ("dtp-ai", True)):
        taught = teaching(credit, net, rough, now, y, step)
        parts = decomposition(net, rough, now.rate, y, step)
        for i in range(3):
            approx = taught[i] - parts["tp"][i]  # piecewise linear: nothing but reconstruction
            expected = 0 * approx if exact else parts["rec"][i]
            np.testing.assert_allclose(approx, expected, atol=1e-13)
    parts = decomposition(net, weights, now.rate, y, step)
    back = teaching("backprop", net, weights, now, y, step)
    for i in range(3):
        np.testing.assert_allclose(parts["tp"][i], parts["gn"][i], rtol=1e-9)  # Q = W⁻¹
        np.testing.assert_allclose(parts["rec"][i], 0, atol=1e-13)
        np.testing.assert_allclose(parts["bp"][i], step * back[i], rtol=1e-12)
    assert float(cosine(x, -2 * x)) == pytest.approx(-1)


# ------------------------------------------------ 4.6, 4.7: what feedback weights converge to


def activity(n, count, colour, rng):
    """Samples whose second moment is exactly C C^T."""
    white = rng.standard_normal((count, n))
    u, _, _ = np.linalg.svd(white, full_matrices=False)
    return jnp.asarray(np.sqrt(count) * u @ colour.T), colour @ colour.T


@pytest.mark.parametrize("sizes", [(5, 5), (5, 3), (3, 5)], ids=str)
@pytest.mark.parametrize("kind", ["white", "coloured"])
@pytest.mark.parametrize("decay", [0.2, 1e-3])
def test_fixed_points_of_feedback_learning(sizes, kind, decay):
    """Q* = Γ W^T (W Γ W^T + λ I)⁻¹ [T B.32], and feedback weights go there from anywhere."""
    n1, n2 = sizes
    rng = np.random.default_rng(4)
    W = rng.standard_normal((n2, n1))
    W *= 1.2 / np.linalg.norm(W, 2)
    colour = np.eye(n1) if kind == "white" else np.eye(n1) + 0.3 * rng.standard_normal((n1, n1))
    h, gamma = activity(n1, 40, colour, rng)
    net = Network((n1, n1, n2), (Linear(), LeakyReLU(0.35)), "inverse", Loss("squared", "linear"))
    fixed = gamma @ W.T @ np.linalg.inv(W @ gamma @ W.T + decay * np.eye(n2))

    @jax.jit
    def change(Q):
        weights = Weights((jnp.eye(n1), jnp.asarray(W)), (), (Q,))
        return apical_delta(there_and_back(net, weights, 1, h), Q, decay)

    np.testing.assert_allclose(change(jnp.asarray(fixed)), 0, atol=1e-13)
    Q = jnp.asarray(rng.standard_normal((n1, n2)))
    before = np.linalg.norm(Q - fixed)
    Q = jax.lax.fori_loop(0, 5000, lambda _, q: q + 0.3 * change(q), Q)
    slowest = decay + np.linalg.eigvalsh(W @ gamma @ W.T).min()
    bound = 2 * before * np.exp(-0.3 * 5000 * slowest)
    assert np.linalg.norm(Q - fixed) < max(bound, 1e-10)
    if kind == "white":
        svd = np.linalg.svd(W)[1]
        assert np.linalg.norm(fixed - np.linalg.pinv(W)) <= decay * np.linalg.norm(svd**-3.0)


def test_expanding_layers_find_the_pseudo_inverse_under_noise_of_any_colour():
    """Q* = (W^T W + λ Γ⁻¹)⁻¹ W^T → W^† as λ → 0: white noise is needed where layers contract only.

    T 4.7 asks for white noise there too.
    """
    rng = np.random.default_rng(0)
    W, C = rng.standard_normal((5, 3)), rng.standard_normal((3, 3))
    gamma, distances = C @ C.T, []
    for decay in (1e-4, 1e-5, 1e-6):
        fixed = gamma @ W.T @ np.linalg.inv(W @ gamma @ W.T + decay * np.eye(5))
        pushed = np.linalg.solve(W.T @ W + decay * np.linalg.inv(gamma), W.T)
        np.testing.assert_allclose(fixed, pushed, rtol=1e-6, atol=1e-8)
        distances.append(np.linalg.norm(pushed - np.linalg.pinv(W)))
    np.testing.assert_allclose(np.diff(np.log10(distances)), -1, atol=0.05)  # first order in λ


def test_only_white_noise_leads_a_contracting_layer_to_the_pseudo_inverse():
    """λ → 0: W^† for white noise, another right inverse for coloured [T 4.6, 4.7]."""
    rng = np.random.default_rng(0)
    W, C = rng.standard_normal((3, 5)), rng.standard_normal((5, 5))
    for gamma, reached in ((np.eye(5), True), (C @ C.T, False)):
        fixed = gamma @ W.T @ np.linalg.inv(W @ gamma @ W.T)
        np.testing.assert_allclose(W @ fixed, np.eye(3), atol=1e-9)
        assert np.allclose(fixed, np.linalg.pinv(W), atol=1e-9) == reached


# --------------------------------------------------------- 4.8: factorised pseudo-inverses


@pytest.mark.parametrize(
    ("sizes", "holds"),
    [((5, 5, 5), True), ((7, 5, 5), True), ((5, 5, 3), False), ((5, 7, 5), False)],
    ids=str,
)
def test_pseudo_inverses_factorise_if_and_only_if_the_upper_layers_are_equal(sizes, holds):
    rng = np.random.default_rng(2)
    n1, n2, n3 = sizes
    W2, W3 = rng.standard_normal((50, n2, n1)), rng.standard_normal((50, n3, n2))
    D2, D3 = rng.uniform(0.35, 1, (50, n2)), rng.uniform(0.35, 1, (50, n3))
    J = jacobians_to_the_output([D2[..., None] * W2, D3[..., None] * W3])[0]
    pinv = np.linalg.pinv(J)
    away = np.linalg.norm(factorised_pseudo_inverse([W2, W3], [D2, D3]) - pinv, axis=(1, 2))
    away /= np.linalg.norm(pinv, axis=(1, 2))
    assert (away.max() < 1e-8) if holds else (away.min() > 1e-3)


def test_jacobians_to_the_output_are_products_of_all_above():
    rng = np.random.default_rng(4)
    J2, J3, J4 = (rng.standard_normal((3, *shape)) for shape in ((4, 5), (3, 4), (2, 3)))
    found = jacobians_to_the_output([J2, J3, J4])
    for J, expected in zip(found, (J4 @ J3 @ J2, J4 @ J3, J4), strict=True):
        np.testing.assert_allclose(J, expected, rtol=1e-12)


def test_full_and_block_diagonal_steps_agree_where_one_layer_moves():
    """Randomised updates: one block is its own diagonal [T 5.1.2]; more are not."""
    rng = np.random.default_rng(3)
    J, e = rng.standard_normal((2, 20, 4, 4)), rng.standard_normal((20, 4))
    np.testing.assert_allclose(full_step(J[:1], e), block_diagonal_step(J[:1], e), rtol=1e-9)
    assert np.abs(full_step(J, e) - block_diagonal_step(J, e)).max() > 0.1


# ------------------------------------------------------------- the robust Sherman–Morrison


def trials(count, n, rng):
    W = rng.standard_normal((count, n, n))
    while True:
        s = np.linalg.svd(W, compute_uv=False)
        bad = s[:, 0] * s[:, -1] <= 0.4
        if not bad.any():
            return W, *rng.standard_normal((2, count, n))
        W[bad] = rng.standard_normal((int(bad.sum()), n, n))


def test_the_divisor_foretells_the_smallest_singular_value():
    """Figure 5.5: Pearson's 0.80 where |1 + d| < 0.1, of 20 000 draws: that of the logarithms.

    The thesis says neither the layer size nor that it took logarithms; the correlation of the
    numbers themselves is about 0.53, whatever the size.
    """
    rng = np.random.default_rng(0)
    W, u, v = trials(20_000, 6, rng)
    divisor = np.abs(1 + np.einsum("ti,tij,tj->t", v, np.linalg.inv(W), u))
    plain = np.linalg.svd(W + u[:, :, None] * v[:, None], compute_uv=False)[:, -1]
    small = divisor < 0.1
    rho = np.corrcoef(np.log(divisor[small]), np.log(plain[small]))[0, 1]
    assert rho == pytest.approx(0.80, abs=0.03)
    assert np.corrcoef(divisor[small], plain[small])[0, 1] == pytest.approx(0.53, abs=0.05)
    update = jax.jit(jax.vmap(lambda W, Q, u, v: robust_update(Pair(W, Q), u, v, 0.1)))
    moved = update(W, np.linalg.inv(W), u, v)
    robust = np.linalg.svd(moved.W, compute_uv=False)[:, -1]
    assert robust[small].min() > 10 * plain[small].min()
    away = np.abs(np.asarray(moved.W @ moved.inverse) - np.eye(6)).max(axis=(1, 2))
    assert away.max() < 1e-9  # ‖W‖ ‖W⁻¹‖ eps, the worst of 20 000
    for t in np.flatnonzero(small)[:20]:  # shortened to ε, and never lengthened
        d = v[t] @ np.linalg.inv(W[t]) @ u[t]
        beta = (np.asarray(moved.W[t]) - W[t])[0, 0] / (u[t, 0] * v[t, 0])
        assert beta == pytest.approx(1 / (0.1 - d))
        assert beta < 1


def test_factors_of_rank_one():
    rng = np.random.default_rng(0)
    u, v = rng.standard_normal(4), rng.standard_normal(3)
    found = factors(jnp.outer(u, v))
    np.testing.assert_allclose(jnp.outer(*found), np.outer(u, v), rtol=1e-14)
    assert not np.any(factors(jnp.zeros((4, 3)))[0])


def test_drifted_inverses_are_refreshed_where_they_are_looked_at():
    rng = np.random.default_rng(0)
    W = jnp.asarray(rng.standard_normal((3, 5, 5)))
    off = jnp.linalg.inv(W) + jnp.asarray([0.0, 0.0, 1e-3])[:, None, None]
    look = jnp.array([True, False, True])
    pairs, seen = jax.vmap(lambda w, q, due: refreshed(Pair(w, q), due, 1e-6))(W, off, look)
    assert np.isnan(seen).tolist() == [False, True, False]
    assert float(seen[2]) == pytest.approx(float(drift(Pair(W[2], off[2]))))
    np.testing.assert_array_equal(pairs.inverse[:2], off[:2])
    assert float(drift(Pair(W[2], pairs.inverse[2]))) < 1e-12
