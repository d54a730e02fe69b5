"""Learning as an ODE of a hidden unit that is a power of its potential."""

import h5py
import numpy as np
import pytest
from scipy.integrate import solve_ivp

import neurosim as ns
from neurosim.theory.findings import in_words
from neurosim.theory.power_flows import (
    PowerFlow,
    PowerMoments,
    drift_without_slope,
    invariants,
    limit,
    velocity,
)


def flown(flow, until, times=None):
    """Where scipy's own solver brings the weights; with times, everywhere on the way."""
    solved = solve_ivp(
        lambda _, a: velocity(flow._replace(a1=a[0], a2=a[1])),
        (0, until),
        [flow.a1, flow.a2],
        method="LSODA",
        rtol=1e-11,
        atol=1e-13,
        t_eval=times,
    )
    assert solved.success, solved.message
    ends = [flow._replace(a1=a1, a2=a2) for a1, a2 in solved.y.T]
    return ends[-1] if times is None else ends


def drawn(rng, mu, c1, slope=True, signed=True):
    """Weights and data of any sign, or positive ones."""
    a1, a2 = rng.normal(size=2) if signed else rng.uniform(0.2, 1.0, 2)
    x = rng.normal(size=20) + 0.5 if signed else rng.uniform(0.5, 1.5, 20)
    y = 1.2 * x + 0.3 * rng.normal(size=20)
    return PowerFlow(a1, a2, c1, mu, slope, PowerMoments.of(x, y, mu))


@pytest.mark.parametrize("slope", [True, False])
@pytest.mark.parametrize("gradient", [True, False])
def test_the_velocity_is_that_of_the_network(slope, gradient):
    """Sample by sample, of weights and inputs of any sign [B 113, 114, 119]."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 9))
    a1, a2, c1, mu = -0.7, 0.4, None if gradient else 1.3, 1.5
    hidden = np.sign(a1 * x) * np.abs(a1 * x) ** mu
    error = y - a2 * hidden
    heard = mu * np.abs(a1 * x) ** (mu - 1) if slope else 1.0
    expected = (a2 if gradient else c1) * np.mean(error * heard * x), np.mean(error * hidden)
    found = velocity(PowerFlow(a1, a2, c1, mu, slope, PowerMoments.of(x, y, mu)))
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("mu", [1.0, 1.5, 2.0, 3.0])
def test_theorem_12_a_power_with_its_slope_comes_to_rest(mu):
    """From positive weights and inputs, at the positive root of B 117, of which there is one."""
    rng = np.random.default_rng([2, int(10 * mu)])
    for _ in range(3):
        flow = drawn(rng, mu, rng.uniform(0.2, 1.0), signed=False)
        known, end, m = limit(flow), flown(flow, 400), flow.moments
        a1, a2 = (a.item() for a in known.weights)
        assert known.converges
        np.testing.assert_allclose((end.a1, end.a2), (a1, a2), atol=1e-8)
        K = flow.a2 - flow.a1**2 / (2 * flow.c1 * mu)
        t = np.linspace(1e-3, 20, 20_001)
        left = (t**2 / (2 * flow.c1 * mu) + K) * t**mu - m.alpha / m.beta
        assert np.count_nonzero(np.diff(np.sign(left))) == 1
        assert abs((a1**2 / (2 * flow.c1 * mu) + K) * a1**mu - m.alpha / m.beta) < 1e-13
        (before,), (after,) = invariants(flow), invariants(end)
        np.testing.assert_allclose(before.value, after.value, atol=1e-9)  # B 115


def test_of_two_roots_below_the_start_the_first_counts():
    """(a1²/4 − 1) a1² = −3/4 at a1² = 3 and at a1² = 1, on two sides of the turn at a1² = 2."""
    flow = PowerFlow(2.0, 0.0, 1.0, 2.0, True, PowerMoments(-0.75, 1.0, -0.75, 1.0))
    (a1,), (a2,) = (a.ravel() for a in limit(flow).weights)
    assert (a1, a2) == pytest.approx((3**0.5, -0.25), rel=1e-12)
    end = flown(flow, 100)
    assert (end.a1, end.a2) == pytest.approx((a1, a2), abs=1e-8)


@pytest.mark.parametrize("mu", [1.0, 1.5, 2.0])
@pytest.mark.parametrize("c1", [None, 0.8, -1.2])
def test_weights_and_inputs_of_any_sign(mu, c1):
    """With the slope, and of the gradient flow [B 119]; only where a power is flat, a_1 may stop
    short of the best output."""
    rng = np.random.default_rng([5, int(10 * mu), 0 if c1 is None else int(10 + c1)])
    reached = 0
    for _ in range(4):
        flow = drawn(rng, mu, c1)
        known = limit(flow)
        if known.converges is None:
            assert mu == 1.5 and "open" in known.words
            continue
        end = flown(flow, 3000)
        weights = [a.item() for a in known.weights]
        exact = 1e-2 if "flat" in known.words or weights[0] == 0 else 1e-7  # a_1 ~ e^(−t), or 1/t
        np.testing.assert_allclose((end.a1, end.a2), weights, atol=exact)
        best = flow.moments.alpha / flow.moments.beta
        reached += abs(known.product.item() - best) < 1e-12
        (before,), (after,) = invariants(flow), invariants(end)
        if mu != 1 or c1 is None:  # of which the closed form is that of linear networks
            np.testing.assert_allclose(before.value, after.value, atol=1e-8)
    assert reached


@pytest.mark.parametrize("seed", range(3))
def test_without_its_slope_it_rests_where_errors_of_both_kinds_vanish_at_once(seed):
    """γ/δ = α/β where all inputs are of one size; a_1 passes 0 as it likes."""
    rng = np.random.default_rng(seed)
    x = 1.3 * np.sign(rng.normal(size=12))
    moments = PowerMoments.of(x, rng.normal(size=12), 2.0)
    flow = PowerFlow(*rng.normal(size=3), 2.0, False, moments)
    known, end = limit(flow), flown(flow, 2000)
    np.testing.assert_allclose((end.a1, end.a2), np.ravel(known.weights), atol=1e-7)
    (before,), (after,) = invariants(flow), invariants(end)
    np.testing.assert_allclose(before.value, after.value, atol=1e-9)


def test_without_its_slope_a_weight_runs_away():
    """B 113: which one, how fast, and what becomes of the output."""
    m = PowerMoments(alpha=1.0, beta=1.0, gamma=2.0, delta=1.0)
    times = [0, 900, 1000]
    flow = PowerFlow(1.0, 1.0, 0.5, 2.0, False, m)
    known, (*_, before, after) = limit(flow), flown(flow, 1000, times)
    assert known.converges is False
    assert "a1 runs away, in the long run by c1 (γ − δ α/β) = 0.5" in known.words
    np.testing.assert_allclose((after.a1 - before.a1) / 100, drift_without_slope(0.5, m), rtol=1e-3)
    np.testing.assert_allclose(after.product, known.product, rtol=1e-6)
    assert known.product.item() == 1.0  # α/β
    other = flow._replace(moments=m._replace(gamma=0.5))
    known, (*_, before, after) = limit(other), flown(other, 1000, times)
    assert known.converges is False
    assert "a2 runs away, its square in the long run by 2 (γ/δ) (α − β γ/δ) = 0.5" in known.words
    np.testing.assert_allclose((after.a2**2 - before.a2**2) / 100, 0.5, rtol=2e-2)
    assert known.product.item() == 0.5  # γ/δ
    np.testing.assert_allclose(after.product, known.product, rtol=1e-2)
    for one in (flow, other):
        assert limit(one.mirrored).product == limit(one).product  # it is the same network
    undecided = limit(other._replace(a1=-1.0))
    assert undecided.converges is False and undecided.product is None


TRIVIAL = {  # a_1, a_2, c_1, μ, slope, (α, β, γ, δ) → converges, limit
    "no input": (0.4, -0.3, 1.0, 2.0, True, (0, 0, 0, 0), True, (0.4, -0.3)),
    "deaf": (0.5, 0.2, 0.0, 2.0, True, (1, 2, 1, 1), True, (0.5, 2.0)),  # a_2 = α/(β a_1²)
    "deaf without slope": (-0.5, 0.2, 0.0, 2.0, False, (1, 2, 1, 1), True, (-0.5, -2.0)),
    "deaf and silent": (0.0, 0.2, 0.0, 2.0, False, (1, 2, 1, 1), True, (0.0, 0.2)),
    "silent, and flat there": (0.0, 0.2, 1.0, 2.0, True, (1, 2, 1, 1), True, (0.0, 0.2)),
    "silent, without slope": (0.0, 0.2, 1.0, 2.0, False, (1, 2, 2, 1), False, None),
    "at rest": (2.0, 0.5, 1.0, 2.0, True, (2, 1, 1, 1), True, (2.0, 0.5)),
    # a_2 = a_1²/4 with c_1 = 1: a_1⁴ = 4α/β
    "on the parabola of the origin": (0.1, 0.0025, 1.0, 2.0, True, (4, 1, 1, 1), True, (2.0, 1.0)),
    # c_1 = −1 and a_2 = −a_1²/4 + K: falls with K = 0, as the output is too large
    "towards silence": (1.0, -0.25, -1.0, 2.0, True, (1, 1, 1, 1), True, (0.0, 0.0)),
    "nothing to learn": (1.0, 1.0, 1.0, 2.0, True, (0, 1, 0, 1), True, None),
    "a power below 1 at 0": (0.0, 1.0, 1.0, 0.5, True, (1, 1, 1, 1), None, None),
    "no correlation with the input": (1.0, 1.0, 1.0, 2.0, False, (1, 1, 0, 1), None, None),
    "gradient, a_2 = 0 and α > 0": (1.0, 0.0, None, 2.0, True, (2, 1, 1, 1), True, None),
    "gradient, silent": (0.0, 1.0, None, 2.0, True, (1, 1, 1, 1), True, (0.0, 1.0)),
    "no gradient": (1.0, 1.0, None, 2.0, False, (2, 1, 1, 1), None, None),
}


@pytest.mark.parametrize("case", TRIVIAL)
def test_trivial_and_degenerate_cases(case):
    a1, a2, c1, mu, slope, moments, converges, expected = TRIVIAL[case]
    known = limit(PowerFlow(a1, a2, c1, mu, slope, PowerMoments(*map(float, moments))))
    assert known.converges is converges
    if expected is not None:
        np.testing.assert_allclose(np.ravel(known.weights), expected, atol=1e-14)
    elif converges:  # what is said is a fixed point
        end = PowerFlow(*(a.item() for a in known.weights), c1, mu, slope, PowerMoments(*moments))
        assert max(map(abs, velocity(end))) < 1e-14


def test_a_power_of_1_is_linear():
    """The same words and numbers as of the linear chain."""
    rng = np.random.default_rng(8)
    flow = drawn(rng, 1.0, 0.7, slope=False)
    assert "cubic" in limit(flow).words
    assert [e.name for e in invariants(flow)] == ["a2 − β |a1|^(μ+1)/(c1 δ (μ+1))"]


# --------------------------------------------------------------------------------- the commands


@pytest.mark.parametrize(
    ("changes", "conserved", "said"),
    [
        ({}, ["a2 − a1²/(2 c1 μ)"], "the first root of (a1²/(2 c1 μ) + K) a1^μ = α/β"),
        ({"model.credit.slope": False}, [], "no fixed point, as γ/δ is not α/β [B 113]"),
        ({"model.credit": "sbp"}, ["a1² − μ a2²"], "on the hyperbola that the start is on [B 119]"),
    ],
)
def test_what_is_known_of_the_model_is_said(changes, conserved, said):
    found = ns.analyze(
        ns.load_protocol("learning-flow", {"model.use": "power"} | changes), starts=0
    )
    assert [name for name, _ in found.flow.invariants] == conserved
    assert said in found.flow.limit
    assert "learning as an ODE" in in_words(found)


@pytest.mark.parametrize(
    "changes",
    [
        {"model.layers": [1, 2, 1]},
        {"model.output_activation": "power"},
        {"model.credit.dropout": 0.5},
        {"model.credit.dropout": 0.5},
    ],
)
def test_of_other_networks_with_powers_nothing_is_said(changes):
    given = {"model.use": "power"} | changes
    assert ns.analyze(ns.load_protocol("learning-flow", given), starts=0).flow is None


@pytest.mark.long
@pytest.mark.parametrize("slope", [True, False])
def test_the_power_model_needs_its_slope(slope, tmp_path):
    """B 113 and 114 by the engine: rest at the root of B 117, or a weight that runs away."""
    rng = np.random.default_rng(1)
    x = rng.uniform(0.5, 1.5, 24)
    y = 1.2 * x + 0.3
    np.savez(tmp_path / "data.npz", x=x[:, None], y=y, x_test=x[:, None], y_test=y)
    given = {
        "model.use": "power",
        "model.credit": {"name": "srbp", "sparse": 1, "slope": slope},  # c_1 = 1
        "batch": 24,
        "task": {"name": "arrays", "path": str(tmp_path / "data.npz")},
        "stages.0.phases.0.duration": "40 s",
        "record.every": "4 s",
    }
    path = tmp_path / "power.h5"
    ns.run(ns.load_protocol("learning-flow", given), out=path)
    with h5py.File(path) as file:
        a1, a2 = (file[f"courses/W{i}"][0, :, 0, 0] for i in (1, 2))
    m = PowerMoments.of(x, y, 2.0)
    flow, known = ns.analyze(path, starts=0).flow, limit(PowerFlow(1.0, 1.0, 1.0, 2.0, slope, m))
    if slope:
        np.testing.assert_allclose([a1[-1], a2[-1]], np.ravel(known.weights), atol=1e-9)
        assert flow.off < 1e-9
        assert [change < 1e-10 for _, change in flow.invariants] == [True]
        return
    speed = drift_without_slope(1.0, m)
    assert abs(speed) > 1e-2
    assert flow.converges is False
    np.testing.assert_allclose((a1[-1] - a1[-2]) / 4, speed, rtol=1e-2)
    np.testing.assert_allclose(a2[-1] * a1[-1] ** 2, m.alpha / m.beta, rtol=1e-2)
    np.testing.assert_allclose(flow.product, [[m.alpha / m.beta]], rtol=1e-12)
