"""Learning signals against their closed forms, in float64, at both JAX levels.

The bound of every comparison is relative to the learning signal itself, not to the state:
1e-8, or 100 times the rounding floor eps |h| / |signal| where that is larger.
"""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from chains import circuit, dynamics

from neurosim.building import assembly
from neurosim.building.loading import load_model
from neurosim.functions.activations import LeakyReLU, Linear
from neurosim.functions.losses import Loss
from neurosim.levels.equilibrium import Equilibrium
from neurosim.levels.rate import Rate
from neurosim.levels.settling import Problem, Span
from neurosim.models.initialisers import feedback_weights
from neurosim.networks.dynamics import Target, rest
from neurosim.networks.network import Network, Weights
from neurosim.plasticity.local import teaching

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

    def mixture(self, model, **taus):
        """Taught in one phase or in two, as the model says."""
        return dynamics(model, self.network.sizes, mu=self.mu, tau_soma=TAU, **taus)

    def settle(self, level, moving, target, start=None):
        """The settled state of a phase and what it means."""
        weights = circuit(self.weights)
        drive = moving.drive(self.network, weights, self.x, target)
        problem = Problem(moving, self.network, weights, drive, STEP, self.y)
        state = rest(moving, self.network, jnp.float64) if start is None else start
        state, readout, report = settle(level, problem, state, LONG)
        assert report.settled, report
        return state, readout

    def signals(self, moving, taught, free=None):
        """What every layer learns from, by the rule of the model."""
        before = {} if free is None else {"free": free}
        one = jax.tree.map(lambda a: a[None], (taught, before))
        found = teaching(moving, self.network, circuit(self.weights), *one)
        return tuple(signal[0] for signal in found)

    def jacobian(self, layers, i):
        """J_{f_i} at what is read of the layers."""
        return layers.slope[i - 1][:, None] * self.weights.W[i - 1]


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
    case, level = Case(activation, depth), LEVELS[level]
    one_phase, two_phases = map(case.mixture, ("mixture", "mixture-two-phase"))
    layers = partial(two_phases.layers, case.network)
    r = case.mu / (1 - case.mu)

    # T3: without teaching the fixed point is the plain forward pass.
    state, free = case.settle(level, two_phases, Target("none"))
    before = layers(free)
    for h, f in zip(before.rate, case.network.forward_pass(case.weights, case.x), strict=True):
        assert relative(h, f) < 1e-8

    # T4: h_i − f_i = −η̂ r^{L+1−i} [Π J⁻¹] e_L, exact for every μ [T 6.15].
    _, taught = case.settle(level, one_phase, Target("following", STEP, case.y))
    signals, now = case.signals(one_phase, taught), layers(taught)
    carried = -STEP * case.network.loss.error(now.rate[-1], case.y)
    for i in range(depth, 0, -1):
        expected = r ** (depth + 1 - i) * carried
        assert relative(signals[i - 1], expected) < bound(expected, now.rate[i - 1])
        carried = jnp.linalg.solve(case.jacobian(now, i), carried)

    # T5: h^l − h^f = (ρ^i − 1)/(ρ^{L+1} − 1) [Π J⁻¹] d for a target frozen at h_L^f + d; for
    # leaky layers too, since both phases lie in one linear region.
    d = -STEP * case.network.loss.error(free.rate[-1], case.y)
    frozen = Target("fixed", value=free.rate[-1] + d)
    _, taught = case.settle(level, two_phases, frozen, state)
    slopes = zip(before.slope, layers(taught).slope, strict=True)
    assert all(bool(jnp.all(a == b)) for a, b in slopes)
    signals = case.signals(two_phases, taught, free)
    for i in range(depth, 0, -1):
        expected = (r**-i - 1) / (r ** -(depth + 1) - 1) * d
        assert relative(signals[i - 1], expected) < bound(expected, before.rate[i - 1])
        d = jnp.linalg.solve(case.jacobian(before, i), d)


def with_dendrites(case):
    """The mixture in one phase with dendrites of 4 and 10 ms."""
    post = load_model("mixture").projections["W"].post
    changes = {"layers": list(case.network.sizes), "projections.W.post": post}
    values = {"mu": case.mu, "tau_soma": TAU, "tau_basal": 0.004, "tau_apical": 0.01}
    changes |= {f"parameters.{name}": value for name, value in values.items()}
    return assembly.dynamics(load_model("mixture-dendrites", changes)).with_layers()


@pytest.mark.parametrize("slow", [False, True], ids=["instant", "dendrites"])
@pytest.mark.parametrize("depth", [2, 4])
def test_rate_at_rest_is_the_equilibrium_in_the_learning_signal(depth, slow):
    """Also with slow dendrites, which change the way but not the fixed point: 1e-6 relative."""
    case = Case(LeakyReLU(0.5), depth, seed=1)
    target = Target("following", STEP, case.y)
    signals = {}
    for name, level in LEVELS.items():
        moving = case.mixture("mixture")
        if name == "rate" and slow:
            moving = with_dendrites(case)
            level = Rate("heun", 0.25 * 0.004, False, 1e-9, 1e-12, tolerance=1e-10)
        _, readout = case.settle(level, moving, target)
        signals[name] = case.signals(moving, readout)
    for rate, fixed in zip(signals["rate"], signals["equilibrium"], strict=True):
        assert relative(rate, fixed) < 1e-6


@pytest.mark.parametrize("level", LEVELS)
def test_multiplexing_at_rest_is_a_forward_and_a_feedback_pass(level):
    """Nothing decays: ĥ^l − ĥ^f = −η̂ [Π J⁻¹] e_L [T 6.57], exact for linear layers."""
    case = Case(Linear(), 4)
    moving = dynamics("multiplexing", case.network.sizes, tau_basal=TAU, tau_apical=TAU)
    state, free = case.settle(LEVELS[level], moving, Target("none"))
    d = -STEP * case.network.loss.error(free.rate[-1], case.y)
    _, taught = case.settle(LEVELS[level], moving, Target("fixed", value=free.rate[-1] + d), state)
    before = moving.layers(case.network, free)
    for h, f in zip(before.rate, case.network.forward_pass(case.weights, case.x), strict=True):
        assert relative(h, f) < 1e-8
    signals = case.signals(moving, taught, free)
    for i in range(4, 0, -1):
        assert relative(signals[i - 1], d) < bound(d, before.rate[i - 1])
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
        one_phase, two_phases = map(case.mixture, ("mixture", "mixture-two-phase"))
        level = LEVELS["equilibrium"]
        state, free = case.settle(level, two_phases, Target("none"))
        d = -STEP * case.network.loss.error(free.rate[-1], case.y)
        nudged = Target("fixed", value=free.rate[-1] + d)
        for q in reversed(clean):
            d = q @ d
        for found, moving, before in ((one, one_phase, None), (two, two_phases, free)):
            _, taught = case.settle(level, moving, nudged, state)
            signal = case.signals(moving, taught, before)[0]
            found.append(signal @ d / jnp.linalg.norm(signal) / jnp.linalg.norm(d))
    assert np.median(two) > 0.98
    assert abs(np.median(one)) < 0.5
