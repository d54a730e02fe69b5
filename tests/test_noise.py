"""Noise at the rate level: stationary statistics in closed form whatever dt, and independence.

A compartment left alone has deviation σ under any stable step. A linear network of them
is v' = R v + c + N ξ a step, so its stationary covariance solves C = R C R^T + N N^T exactly, and
as dt → 0 the Lyapunov equation A C + C A^T + S S^T = 0. All bounds are sampling errors: N
independent samples leave covariances uncertain by √((C_ii C_jj + C_ij²)/N). Five of those bound a
matrix of some hundred entries (p < 1e-4); the seeds are fixed.
"""

from functools import cache

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from chains import FEEDFORWARD, circuit, dynamics, forward, layers
from scipy.linalg import solve_continuous_lyapunov, solve_discrete_lyapunov

from neurosim.building import assembly
from neurosim.building.loading import load_protocol
from neurosim.functions.activations import Linear
from neurosim.functions.losses import Loss
from neurosim.levels.rate import Rate
from neurosim.levels.settling import Problem, Span
from neurosim.networks.dynamics import Target, rest, white
from neurosim.networks.network import Network, Weights

SAMPLES, ERRORS = 4000, 5.0
SIZES, MU, TAU, SIGMA = (3, 4, 4, 3), 0.2, 0.02, 0.3


@pytest.fixture(autouse=True, scope="module")
def double_precision():
    with jax.enable_x64(True):
        yield


@cache
def weights(scale: float) -> Weights:
    rng = np.random.default_rng(0)
    W = forward("orthogonal", SIZES, 0.8, rng)
    Q = [np.linalg.pinv(w) for w in W[1:]]
    return Weights(tuple(scale * w for w in W), (), tuple(scale * q for q in Q))


X = np.array([0.5, -1.0, 0.8])
TARGET = np.array([1.0, -0.5, 0.3])


@eqx.filter_jit
def spread(level, moving, sizes, weights, x, value, duration, seed, times=None):
    """Final states of many samples shown the same, and their states at `times`."""
    network = Network(
        sizes, (Linear(),) * (len(sizes) - 1), "inverse", Loss("half-squared", "linear")
    )

    def one(sample):
        key = jax.random.fold_in(jax.random.key(seed), sample)
        own = circuit(weights)
        drive = moving.drive(network, own, x, Target("fixed", value=value))
        watch = None if times is None else (times, lambda _, state: state)
        problem = Problem(moving, network, own, drive, 0.1, value)
        start = rest(moving, network, x.dtype)
        state, _, seen = level.settle(problem, start, Span(duration, False, key, watch))
        return state, seen

    return jax.vmap(one)(jnp.arange(SAMPLES))


def stepping(scheme: str, dt: float) -> Rate:
    return Rate(scheme, dt, False, 1e-6, 1e-9, 1e-3)


def one_step(scheme, A, S, dt):
    """R and N of a step v' = R v + … + N ξ of dv = A v dt + S dW.

    S is scaled so that every state, left alone, has the variance −S²/(2A) of continuous time.
    """
    unit, z = np.eye(len(A)), dt * np.diag(A)
    if scheme == "euler":
        S = S * np.sqrt(1 + z / 2)
    else:
        S = S * np.sqrt((1 - (1 + z + z**2 / 2) ** 2) / (-2 * z * (1 + z / 2) ** 2))
    if scheme == "euler":
        return unit + dt * A, np.sqrt(dt) * S
    return unit + dt * A + (dt * A) @ (dt * A) / 2, np.sqrt(dt) * (unit + dt * A / 2) @ S


def deviations(found, expected, n=SAMPLES):
    """Of a sample covariance from the true one, in standard errors."""
    variances = np.diag(expected)
    return (found - expected) / np.sqrt((np.outer(variances, variances) + expected**2) / n)


# ------------------------------------------------------------------------- one compartment alone


@pytest.mark.parametrize("scheme", ["euler", "heun"])
@pytest.mark.parametrize("steps_a_tau", [1, 2, 10])
def test_a_compartment_alone_has_its_deviation_whatever_the_step(scheme, steps_a_tau):
    """Variance σ², and with a = dt/τ a correlation in time of (1 − a)^k by Euler–Maruyama.

    By Heun (1 − a + a²/2)^k.
    """
    a = 1 / steps_a_tau
    sizes, units = (3, 4), 4
    level = stepping(scheme, TAU * a)
    moving = dynamics(FEEDFORWARD, sizes, noise={"basal": SIGMA}, tau_basal=TAU)
    one_layer = Weights(weights(1.0).W[:1], (), ())
    # Twelve time constants leave exp(-24) of the variance's transient.
    times = (12 * TAU, 13 * TAU)
    state, seen = spread(level, moving, sizes, one_layer, X, np.zeros(4), 13 * TAU, 1, times)
    v = np.asarray(layers(state, "basal")[0]) - one_layer.W[0] @ X
    decay = 1 - a if scheme == "euler" else 1 - a + a**2 / 2
    variance, n = SIGMA**2, SAMPLES * units
    assert abs(v.mean()) < ERRORS * np.sqrt(variance / n)
    assert np.mean(v**2) == pytest.approx(variance, rel=ERRORS * np.sqrt(2 / n))
    before = np.asarray(layers(seen, "basal")[0][:, 0]) - one_layer.W[0] @ X
    lagged = variance * decay**steps_a_tau
    error = np.sqrt((variance**2 + lagged**2) / n)
    assert np.mean(v * before) == pytest.approx(lagged, abs=ERRORS * error)


# -------------------------------------------------------------------------------- a linear network


@pytest.mark.parametrize("rate", [1.0, 50.0])
def test_white_noise_keeps_a_compartment_alone_at_deviation_1(rate):
    """dv = −r v dt + w dW has the variance P with 2 r P = w²."""
    drift, diffusion = np.array([[-rate]]), np.array([[white(rate) ** 2]])
    np.testing.assert_allclose(solve_continuous_lyapunov(drift, -diffusion), 1)


def system(family):
    """dv = (A v + c) dt + S dW for a fixed target, and the place of each (compartment, layer)."""
    W, _, Q = weights(1.0)
    L, taus, sigma = len(W), TIMES[family], SIGMAS[family]
    place, size = {}, 0
    for name in taus:
        for i in range(1, L + (name != "apical")):
            place[name, i] = slice(size, size + SIZES[i])
            size += SIZES[i]
    A, c, S = -np.eye(size), np.zeros(size), np.zeros((size, size))
    if "soma" in taus:
        for i in range(1, L + 1):
            soma, unit = place["soma", i], np.eye(SIZES[i])
            A[soma, place["basal", i]] += (1 - MU) * unit
            if i > 1:
                A[place["basal", i], place["soma", i - 1]] += W[i - 1]
            if i < L:
                A[soma, place["apical", i]] += MU * unit
                A[place["apical", i], place["soma", i + 1]] += Q[i - 1]
        c[place["basal", 1]] = W[0] @ X
        c[place["soma", L]] = MU * TARGET
    else:
        c[place["basal", 1]] = W[0] @ X
        for i in range(2, L + 1):
            A[place["basal", i], place["basal", i - 1]] += W[i - 1]
        for i in range(1, L - 1):
            A[place["apical", i], place["apical", i + 1]] += Q[i - 1]
        c[place["apical", L - 1]] = Q[L - 2] @ TARGET
    for (name, _), where in place.items():
        A[where] /= taus[name]
        c[where] /= taus[name]
        S[where, where] = sigma[name] * np.sqrt(2 / taus[name]) * np.eye(A[where].shape[0])
    return A, c, S, place


TIMES = {
    "mixture": {"soma": TAU, "basal": 0.01, "apical": 0.015},
    "multiplexing": {"basal": 0.01, "apical": 0.02},
}
SIGMAS = {
    "mixture": {"soma": 0.3, "basal": 0.1, "apical": 0.2},
    "multiplexing": {"basal": 0.2, "apical": 0.3},
}


def noisy(family):
    """A network of noisy compartments."""
    values = {f"tau_{name}": tau for name, tau in TIMES[family].items()}
    values |= {"mu": MU} if family == "mixture" else {}
    model = {"mixture": "mixture-dendrites"}.get(family, family)
    return dynamics(model, SIZES, noise=SIGMAS[family], **values)


@pytest.mark.parametrize(
    ("scheme", "dt", "time"),
    [
        pytest.param("euler", 0.005, "discrete", marks=[pytest.mark.long, pytest.mark.seldom]),
        ("heun", 0.005, "discrete"),
        pytest.param("heun", 0.001, "continuous", marks=[pytest.mark.long, pytest.mark.seldom]),
    ],
)
@pytest.mark.parametrize("family", TIMES)
def test_a_linear_network_has_the_covariance_of_its_lyapunov_equation(family, scheme, dt, time):
    """At a coarse dt that of its steps; at a fine one (Heun errs by 0.3 %) that of the SDE."""
    A, c, S, place = system(family)
    if time == "discrete":
        R, N = one_step(scheme, A, S, dt)
        expected = solve_discrete_lyapunov(R, N @ N.T)
    else:
        expected = solve_continuous_lyapunov(A, -S @ S.T)
    slowest = -1 / np.linalg.eigvals(A).real.max()
    duration = dt * round(10 * slowest / dt)  # leaves exp(-10) of the start in the mean
    level = stepping(scheme, dt)
    state, _ = spread(level, noisy(family), SIZES, weights(1.0), X, TARGET, duration, seed=2)
    v = np.concatenate([np.asarray(layers(state, name)[i - 1]) for name, i in place], axis=1)
    off = (v.mean(0) + np.linalg.solve(A, c)) / np.sqrt(np.diag(expected) / SAMPLES)
    assert np.abs(off).max() < ERRORS
    assert np.abs(deviations(np.cov(v.T), expected)).max() < ERRORS


# ------------------------------------------------------------------------------------ independence


def test_compartments_layers_units_and_samples_have_noise_of_their_own():
    """Without synapses nothing is correlated: r √N stays below five everywhere."""
    moving = noisy("multiplexing")
    state, _ = spread(stepping("heun", 0.005), moving, SIZES, weights(0.0), X, TARGET, 0.3, seed=3)
    v = np.concatenate([np.asarray(a) for a in jax.tree.leaves(state)], axis=1)
    count = v.shape[1]
    assert count == sum(SIZES[1:]) + sum(SIZES[1:-1])
    one, next_one = v[:-1:2], v[1::2]
    r = np.corrcoef(v.T) - np.eye(count)
    assert np.abs(r).max() * np.sqrt(SAMPLES) < ERRORS
    between = np.corrcoef(one.T, next_one.T)[:count, count:]
    assert np.abs(between).max() * np.sqrt(SAMPLES / 2) < ERRORS


PROTOCOL = """
name = "noise"
batch = 200
precision = "float64"
[model]
use = "multiplexing"
layers = [3, 4, 3]
activation = "linear"
output = "linear"
loss = "half-squared"
parameters = { tau_basal = "10 ms", tau_apical = "10 ms" }
noise = { basal = 0.5, apical = 0.5 }
[task]
name = "student-teacher"
layers = [3, 4, 3]
[[stages]]
name = "only"
presentations = 10
[[stages.phases]]
name = "free"
duration = "120 ms"
until = "duration"
[[stages.phases]]
name = "again"
duration = "120 ms"
until = "duration"
[rate]
scheme = "heun"
dt = "5 ms"
"""


def test_seeds_presentations_phases_and_samples_draw_noise_of_their_own(tmp_path):
    """The same seed twice is the same bit by bit; all else is uncorrelated.

    Twelve time constants between the looks leave exp(-12) of a correlation in time.
    """
    (tmp_path / "noise.toml").write_text(PROTOCOL)
    spec = load_protocol(tmp_path / "noise.toml").spec
    engine = assembly.engine(spec, spec.stages[0], 10)
    zero = {"W": (np.zeros((4, 3)), np.zeros((3, 4))), "Q": (np.zeros((4, 3)),)}
    state = engine.begin(jax.tree.map(lambda a: jnp.asarray(a)[None], zero), 0)
    data = (jnp.zeros((400, 3)), jnp.zeros((400, 3)))
    ids = jnp.arange(200)[None]

    def look(seed=0, presentation=0, ids=ids):
        """Final states of both phases, (200, units) each."""
        states = state._replace(presentation=jnp.int32([presentation]))
        keys = jax.random.key(seed)[None]
        seen = engine.examine(states, data, None, ids, keys, jnp.int32(0), ((0.12,), (0.12,)), 200)
        return [
            np.concatenate([phase[place][name][0, :, 0] for name, place in where], axis=1)
            for phase in seen.traces
        ]

    where = [("basal", "layer1"), ("basal", "layer2"), ("apical", "layer1")]
    first, again = look()
    for one, other in zip(look(), (first, again), strict=True):
        np.testing.assert_array_equal(one, other)
    others = {
        "phase": again,
        "presentation": look(presentation=1)[0],
        "seed": look(seed=1)[0],
        "sample": look(ids=ids + 200)[0],
    }
    n = first.size
    assert np.var(first) == pytest.approx(0.25, rel=0.1)  # noisy at all: ±5 √(2/2200)
    for what, other in others.items():
        r = np.corrcoef(first.ravel(), other.ravel())[0, 1]
        assert abs(r) * np.sqrt(n) < ERRORS, what
