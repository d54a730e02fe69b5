"""Learning signals against their closed forms, in float64, at both JAX levels.

The bound of every comparison is relative to the learning signal itself, not to the state:
1e-8, or 100 times the rounding floor eps |h| / |signal| where that is larger.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from neurosim.activations import LeakyReLU, Linear
from neurosim.credit import CREDITS
from neurosim.dynamics import Mixture, Multiplexing
from neurosim.dynamics.base import Drive, Target, rest
from neurosim.initialisers import feedback_weights
from neurosim.levels.equilibrium import Equilibrium
from neurosim.levels.rate import Rate
from neurosim.levels.settling import Problem, Span
from neurosim.losses import Loss
from neurosim.network import Network, Weights

N, STEP, TAU = 5, 0.01, 0.02
EPS = np.finfo(np.float64).eps

# Residuals of 1e-12 of the expected signal, or of rounding, leave the bound to the closed form.
LEVELS = {
    "equilibrium": Equilibrium(tolerance=1e-12, max_sweeps=400, max_newton=0),
    "rate": Rate("heun", 0.5 * TAU, False, 1e-9, 1e-12, tolerance=1e-12),
}
LONG = Span(duration=400 * TAU, stop=True)


@pytest.fixture(autouse=True)
def double_precision():
    with jax.enable_x64(True):
        yield


@eqx.filter_jit
def settle(level, problem: Problem, state, span: Span):
    """Compiled once for all cases of a shape."""
    state, report, _ = level.settle(problem, state, span)
    return state, problem.dynamics.read(*problem[1:4], state), report


class Case:
    """A network with exact inverses, an input, a label."""

    def __init__(self, activation, depth: int, mu: float = 0.1, seed: int = 0) -> None:
        rng = np.random.default_rng([seed, depth])
        W = []
        for _ in range(depth):  # well conditioned, so that the floor is that of the signal
            q, _ = np.linalg.qr(rng.standard_normal((N, N)))
            W.append(q @ np.diag(rng.uniform(0.7, 1.4, N)))
        Q = feedback_weights("exact-inverse", W, 1.0, rng)
        self.network = Network(
            (N,) * (depth + 1),
            (activation,) * depth,
            "inverse",
            Loss("half-squared", "linear"),
        )
        self.weights = Weights(tuple(map(jnp.asarray, W)), (), tuple(map(jnp.asarray, Q)))
        self.x = jnp.asarray(rng.standard_normal(N))
        self.y = jnp.asarray(rng.standard_normal(N))
        self.mu, self.depth = mu, depth

    def settle(self, level, dynamics, target, start=None):
        """The settled state of a phase and its readout."""
        potential = self.network.potential(self.weights, 1, self.x)
        drive = Drive(self.x, potential, target)
        problem = Problem(dynamics, self.network, self.weights, drive, STEP, self.y)
        state = rest(dynamics, self.network, jnp.float64) if start is None else start
        state, readout, report = settle(level, problem, state, LONG)
        assert report.settled, report
        return state, readout

    def jacobian(self, readout, i):
        """J_{f_i} at the readout."""
        return readout.slope[i - 1][:, None] * self.weights.W[i - 1]


def bound(signal, state) -> float:
    """The error allowed, relative to the signal."""
    return max(1e-8, 100 * EPS * float(jnp.linalg.norm(state) / jnp.linalg.norm(signal)))


def relative(found, expected) -> float:
    return float(jnp.linalg.norm(found - expected) / jnp.linalg.norm(expected))


CASES = [
    pytest.param(activation, depth, id=f"{type(activation).__name__}-{depth}")
    for activation, depths in ((Linear(), (2, 3, 5, 6)), (LeakyReLU(0.5), (2, 4, 6)))
    for depth in depths
]


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(("activation", "depth"), CASES)
def test_laws_of_the_mixture(activation, depth, level):
    """T3, the free phase; T4, the error law; T5, the two-phase law."""
    case, level, dynamics = Case(activation, depth), LEVELS[level], Mixture(0.1, TAU)
    r = case.mu / (1 - case.mu)

    # T3: without teaching the fixed point is the plain forward pass.
    state, free = case.settle(level, dynamics, Target("none"))
    for h, f in zip(free.rate, case.network.forward_pass(case.weights, case.x), strict=True):
        assert relative(h, f) < 1e-8

    # T4: h_i − f_i = −η̂ r^{L+1−i} [Π J⁻¹] e_L, exact for every μ [T 6.15].
    _, taught = case.settle(level, dynamics, Target("following", STEP, case.y))
    signals = CREDITS["single-phase"].assign(case.network, case.weights, taught, None, case.y)
    carried = -STEP * case.network.loss.error(taught.rate[-1], case.y)
    for i in range(depth, 0, -1):
        expected = r ** (depth + 1 - i) * carried
        assert relative(signals[i - 1], expected) < bound(expected, taught.rate[i - 1])
        carried = jnp.linalg.solve(case.jacobian(taught, i), carried)

    # T5: h^l − h^f = (ρ^i − 1)/(ρ^{L+1} − 1) [Π J⁻¹] d for a target frozen at h_L^f + d; for
    # leaky layers too, since both phases lie in one linear region.
    d = -STEP * case.network.loss.error(free.rate[-1], case.y)
    frozen = Target("fixed", value=free.rate[-1] + d)
    _, taught = case.settle(level, dynamics, frozen, state)
    assert all(bool(jnp.all(a == b)) for a, b in zip(free.slope, taught.slope, strict=True))
    signals = CREDITS["two-phase"].assign(case.network, case.weights, taught, free, case.y)
    for i in range(depth, 0, -1):
        expected = (r**-i - 1) / (r ** -(depth + 1) - 1) * d
        assert relative(signals[i - 1], expected) < bound(expected, free.rate[i - 1])
        d = jnp.linalg.solve(case.jacobian(free, i), d)


@pytest.mark.parametrize("taus", [(None, None), (0.004, 0.01)], ids=["instant", "dendrites"])
@pytest.mark.parametrize("depth", [2, 4])
def test_rate_at_rest_is_the_equilibrium_in_the_learning_signal(depth, taus):
    """Also with slow dendrites, which change the way but not the fixed point: 1e-6 relative."""
    case = Case(LeakyReLU(0.5), depth, seed=1)
    target = Target("following", STEP, case.y)
    signals = {}
    for name, level in LEVELS.items():
        dynamics = Mixture(case.mu, TAU, *(taus if name == "rate" else (None, None)))
        if name == "rate" and taus[0]:
            level = Rate("heun", 0.25 * taus[0], False, 1e-9, 1e-12, tolerance=1e-10)
        _, readout = case.settle(level, dynamics, target)
        signals[name] = CREDITS["single-phase"].assign(
            case.network, case.weights, readout, None, case.y
        )
    for rate, fixed in zip(signals["rate"], signals["equilibrium"], strict=True):
        assert relative(rate, fixed) < 1e-6


@pytest.mark.parametrize("level", LEVELS)
def test_multiplexing_at_rest_is_a_forward_and_a_feedback_pass(level):
    """Nothing decays: ĥ^l − ĥ^f = −η̂ [Π J⁻¹] e_L [T 6.57], exact for linear layers."""
    case = Case(Linear(), 4)
    dynamics = Multiplexing(TAU, TAU)
    state, free = case.settle(LEVELS[level], dynamics, Target("none"))
    d = -STEP * case.network.loss.error(free.rate[-1], case.y)
    _, taught = case.settle(
        LEVELS[level], dynamics, Target("fixed", value=free.rate[-1] + d), state
    )
    for h, f in zip(free.rate, case.network.forward_pass(case.weights, case.x), strict=True):
        assert relative(h, f) < 1e-8
    signals = CREDITS["two-phase"].assign(case.network, case.weights, taught, free, case.y)
    for i in range(4, 0, -1):
        assert relative(signals[i - 1], d) < bound(d, free.rate[i - 1])
        d = jnp.linalg.solve(case.weights.W[i - 1], d)


@pytest.mark.parametrize("noise", [0.03, 0.1])
def test_reconstruction_errors_cancel_between_the_phases_T6(noise):
    """Cosine with the clean signal, lowest of four layers: above 0.98 in two phases, lost in one.

    Medians over 20 networks whose feedback is the inverse with relative noise.
    """
    one, two = [], []
    for seed in range(20):
        case = Case(Linear(), 4, seed=seed)
        rng = np.random.default_rng([7, seed])
        Q = tuple(
            q + noise / np.sqrt(N) * q @ jnp.asarray(rng.standard_normal((N, N)))
            for q in case.weights.Q
        )
        clean = Q
        case.weights = case.weights._replace(Q=Q)
        dynamics = Mixture(case.mu, TAU)
        level = LEVELS["equilibrium"]
        state, free = case.settle(level, dynamics, Target("none"))
        d = -STEP * case.network.loss.error(free.rate[-1], case.y)
        _, taught = case.settle(level, dynamics, Target("fixed", value=free.rate[-1] + d), state)
        for q in reversed(clean):
            d = q @ d
        for found, credit in ((one, "single-phase"), (two, "two-phase")):
            signal = CREDITS[credit].assign(case.network, case.weights, taught, free, case.y)[0]
            found.append(signal @ d / jnp.linalg.norm(signal) / jnp.linalg.norm(d))
    assert np.median(two) > 0.98
    assert abs(np.median(one)) < 0.5
