"""The rate level against exact solutions: orders of convergence, stiffness, failures."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from chains import circuit, layers
from scipy.linalg import expm
from tiny_networks import DYNAMICS, SIZES, STEP, network, present, samples, weights

from neurosim.levels.rate import Rate
from neurosim.levels.schemes import TOLERANCES
from neurosim.levels.settling import Problem, Span
from neurosim.networks.dynamics import Target, rest


@pytest.fixture(autouse=True, scope="module")
def double_precision():
    with jax.enable_x64(True):
        yield


def linear_system(dynamics, x, target):
    """dv/dt = A v + c of a linear network with a fixed target, from the equations in the book.

    Returns A, c and where each (compartment, layer) stands in v.
    """
    W, _, Q = weights()
    values = dynamics.parameters
    taus = {name[4:]: tau for name, tau in values.items() if name.startswith("tau_")}
    depth, mu = len(W), values.get("mu")
    place, size = {}, 0
    for name in taus:
        for i in range(1, depth + (name != "apical")):
            place[name, i] = slice(size, size + SIZES[i])
            size += SIZES[i]
    A, c = -np.eye(size), np.zeros(size)
    below = "soma" if "soma" in taus else "basal"
    above = "soma" if "soma" in taus else "apical"

    def pull(row, factor, W_or_Q, column):
        """Add factor · matrix · (a compartment, the input or the target) to a pull."""
        if isinstance(column, np.ndarray):
            c[place[row]] += factor * W_or_Q @ column
        else:
            A[place[row], place[column]] += factor * W_or_Q

    for i in range(1, depth + 1):
        unit = np.eye(SIZES[i])
        lower = x if i == 1 else (below, i - 1)
        if "basal" in taus:
            pull(("basal", i), 1, W[i - 1], lower)
        if i < depth:
            upper = (above, i + 1)
            if above == "apical" and i + 1 == depth:
                upper = target
            if "apical" in taus:
                pull(("apical", i), 1, Q[i - 1], upper)
        if "soma" not in taus:
            continue
        if "basal" in taus:
            pull(("soma", i), 1 - mu, unit, ("basal", i))
        else:
            pull(("soma", i), 1 - mu, W[i - 1], lower)
        if i == depth:
            pull(("soma", i), mu, unit, target)
        elif "apical" in taus:
            pull(("soma", i), mu, unit, ("apical", i))
        else:
            pull(("soma", i), mu, Q[i - 1], upper)
    for (name, _), where in place.items():
        A[where] /= taus[name]
        c[where] /= taus[name]
    return A, c, place


def exact(A, c, t):
    """v(t) from v(0) = 0."""
    size = len(c)
    M = np.zeros((size + 1, size + 1))
    M[:size, :size], M[:size, size] = A, c
    return expm(M * t)[:size, size]


def solve(level, dynamics, duration, place):
    """v(duration) by the solver, the report, and x, target used."""
    x, target = samples()[0][0], samples()[1][0]

    @jax.jit
    def go(x, target):
        net = network("linear")
        own = circuit(weights())
        drive = dynamics.drive(net, own, x, Target("fixed", value=target))
        problem = Problem(dynamics, net, own, drive, STEP, target)
        return level.settle(problem, rest(dynamics, net, x.dtype), Span(duration, False))

    state, report, _ = go(x, target)
    return np.concatenate([np.asarray(layers(state, name)[i - 1]) for name, i in place]), report


def system(dynamics):
    x, target = samples()
    return linear_system(dynamics, np.asarray(x[0]), np.asarray(target[0]))


@pytest.mark.parametrize(
    ("scheme", "family"), [*(("tsit5", name) for name in DYNAMICS), ("kvaerno5", "dendrites")]
)
def test_adaptive_solvers_follow_the_matrix_exponential(scheme, family):
    """Errors are held to 1e-8 a step; those of some forty contracting steps add to less than ten.

    0.03 s is within the transient of every family.
    """
    dynamics = DYNAMICS[family]()
    A, c, place = system(dynamics)
    level = Rate(scheme, 0.002, True, 1e-8, 1e-8, 1e-3)
    found, _ = solve(level, dynamics, 0.03, place)
    assert np.abs(found - exact(A, c, 0.03)).max() < 1e-7


@pytest.mark.parametrize(
    ("scheme", "steps", "order"),
    [
        *(("euler", (48, 96, 192), 1), ("heun", (24, 48, 96), 2)),
        *(("dopri5", (24, 48, 96), 5), ("tsit5", (24, 48, 96), 5)),
    ],
)
def test_fixed_steps_converge_at_their_order(scheme, steps, order):
    """Slopes between neighbouring dt, extrapolated to dt → 0 (2 p_fine − p_coarse).

    On a linear network the constant of Tsit5's fifth order is so small that the sixth still shows
    at these steps, before rounding at 1e-15; Euler and Heun hardly need the extrapolation.
    """
    dynamics = DYNAMICS["dendrites"]()
    A, c, place = system(dynamics)
    expected = exact(A, c, 0.06)
    errors = []
    for count in steps:
        level = Rate(scheme, 0.06 / count, False, 1e-6, 1e-9, 1e-3)
        found, report = solve(level, dynamics, 0.06, place)
        assert report.effort == count
        errors.append(np.abs(found - expected).max())
    coarse, fine = np.diff(-np.log2(errors))
    assert 2 * fine - coarse == pytest.approx(order, abs=0.15)
    assert fine == pytest.approx(order, abs=0.35)


def test_the_implicit_solver_steps_over_stiff_dendrites():
    """τ_apical = τ_soma/1000. Explicit steps are bound by 3.3 τ_apical [Tsit5 on the real axis]."""
    dynamics = DYNAMICS["dendrites"](tau_apical=2e-5)
    A, c, place = system(dynamics)
    expected = exact(A, c, 0.2)
    found = {}
    for scheme in ("kvaerno5", "tsit5"):
        level = Rate(scheme, 0.002, True, 1e-8, 1e-8, 1e-3)
        state, report = solve(level, dynamics, 0.2, place)
        found[scheme] = float(report.effort)
        assert np.abs(state - expected).max() < 1e-6
    assert found["tsit5"] > 0.2 / (4 * 2e-5)
    assert found["kvaerno5"] < 100


@pytest.mark.seldom
@pytest.mark.long
def test_implicit_steps_solve_nonlinear_networks_too():
    x, y = samples()

    def found(level):
        state, report, _ = present(
            level, DYNAMICS["dendrites"](), network("tanh"), x, y, jnp.arange(6), 0.06, False
        )
        return np.concatenate([np.ravel(v) for v in jax.tree.leaves(state)]), report.effort

    reference, _ = found(Rate("tsit5", 0.00125, True, 1e-11, 1e-12, 1e-3))
    fixed, _ = found(Rate("kvaerno5", 0.00125, False, 1e-8, 1e-8, 1e-3))
    assert np.abs(fixed - reference).max() < 1e-6
    implicit, steps = found(Rate("kvaerno5", 0.00125, True, 1e-8, 1e-8, 1e-3))
    assert np.abs(implicit - reference).max() < 1e-6
    explicit = found(Rate("tsit5", 0.00125, True, 1e-8, 1e-8, 1e-3))[1]
    assert np.all(steps <= 1.2 * explicit)


@pytest.mark.long
@pytest.mark.parametrize("watched", [pytest.param(False, marks=pytest.mark.seldom), True])
def test_a_solver_that_fails_is_reported_whoever_watches(watched):
    """An implicit stage cannot be solved to 1e-30: its phase is neither finite nor settled."""
    level, times = Rate("kvaerno5", 0.002, False, 1e-30, 1e-30, 1e-3), (0.03, 0.06)
    x, y = samples()
    model = level, DYNAMICS["multiplexing"](), network("tanh")
    _, report, _ = present(*model, x, y, jnp.arange(6), 0.06, True, times if watched else None)
    assert np.isnan(report.residual).all()
    assert not report.settled.any()


@pytest.mark.seldom
@pytest.mark.long
@pytest.mark.parametrize("scheme", ["tsit5", "kvaerno5"])
def test_single_precision_takes_as_many_steps_as_its_own_tolerances_ask_for(scheme):
    """At tolerances below what it carries rounding is taken for error, and steps shrink."""
    steps = {}
    for precision in ("float32", "float64"):
        with jax.enable_x64(precision == "float64"):
            x, y = samples()
            level = Rate(scheme, 0.005, True, *TOLERANCES["float32"], 1e-3)
            model = level, DYNAMICS["dendrites"](), network("tanh")
            _, report, _ = present(*model, x, y, jnp.arange(6), 0.06, False)
            assert np.isfinite(report.residual).all()
            steps[precision] = float(np.max(report.effort))
    assert steps["float32"] <= 1.2 * steps["float64"]
