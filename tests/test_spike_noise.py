"""The scatter of counted spikes in a linear network: theory against its equations, simulated."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from neurosim.activations import Linear
from neurosim.comparing.scattering import variations
from neurosim.dynamics import Mixture, Multiplexing
from neurosim.dynamics.base import Drive, Target, rest
from neurosim.losses import Loss
from neurosim.network import Network, Weights
from neurosim.theory.linearisation import System
from neurosim.theory.spike_noise import Scatter

COPIES, DT, WARM, WINDOW, MU = 500, 2e-4, 0.15, 0.1, 0.2
UP, DOWN = (np.full(3, 0.01), np.full(2, 0.02)), (np.full(3, 0.03), np.full(2, 0.005))
NETWORK = Network((2, 3, 2), (Linear(),) * 2, "inverse", Loss("half-squared", "linear"))
W2 = np.array([[1.2, -0.8, 0.5], [0.3, 0.9, -1.1]])
Q1 = np.linalg.pinv(W2)


@pytest.fixture(autouse=True, scope="module")
def double_precision():
    with jax.enable_x64(True):
        yield


def scatter(dynamics, down, target, aim, feedback=1.0):
    weights = Weights((jnp.ones((3, 2)), jnp.asarray(W2)), (), (jnp.asarray(feedback * Q1),))
    drive = Drive(jnp.zeros(2), jnp.zeros(3), target)
    state = rest(dynamics, NETWORK, float)
    return Scatter(System(dynamics, NETWORK, weights, drive), state, UP, down, aim)


def simulated(step, aim):
    """Deviations over copies of the means of what `step` returns, a state at a time."""
    rng = np.random.default_rng(0)
    state = {name: np.zeros((COPIES, n)) for name, n in (("b1", 3), ("b2", 2), ("a1", 3))}
    state |= {"s1": np.zeros((COPIES, 3)), "s2": np.zeros((COPIES, 2))}
    wrong, sums = aim * rng.normal(size=(COPIES, 2)), 0
    count = round(WINDOW / DT)
    for k in range(round(WARM / DT) + count):
        xi = [np.sqrt(q / DT) * rng.normal(size=(COPIES, len(q))) for q in (*UP, *DOWN)]
        seen = step(state, xi, wrong)
        if k >= round(WARM / DT):
            sums = [s + v / count for s, v in zip(sums or [0] * len(seen), seen, strict=True)]
    return [s.std(axis=0) for s in sums]


def test_counts_and_dendrites_of_a_mixture_network_scatter_as_simulated():
    """In a taught phase, whose target was itself read from spikes."""

    def step(v, xi, wrong):
        up = v["s1"] + xi[0], v["s2"] + xi[1]
        seen = [*up, v["b2"].copy(), v["a1"].copy()]
        v["s1"] += DT / 0.02 * ((1 - MU) * v["b1"] + MU * v["a1"] - v["s1"])
        v["s2"] += DT / 0.02 * ((1 - MU) * v["b2"] + MU * wrong - v["s2"])
        v["b1"] -= DT / 0.005 * v["b1"]
        v["b2"] += DT / 0.005 * (up[0] @ W2.T - v["b2"])
        v["a1"] += DT / 0.01 * (up[1] @ Q1.T - v["a1"])
        return seen

    aim = np.array([0.3, 0.6])
    target = Target("fixed", value=jnp.zeros(2))
    found = scatter(Mixture(MU, 0.02, 0.005, 0.01), None, target, aim)
    expected = [
        *(found.deviation("soma", i, WINDOW, "up") for i in (1, 2)),
        found.deviation("basal_rate", 2, WINDOW, None),
        found.deviation("apical_rate", 1, WINDOW, None),
    ]
    for theory, counted in zip(expected, simulated(step, aim), strict=True):
        # 500 copies leave a deviation uncertain by 3.2 %; five of those.
        np.testing.assert_allclose(theory, counted, rtol=0.16)


def test_events_and_bursts_scatter_as_simulated():
    """Each signal by noise of its own; a free output bursts as its events say."""

    def step(v, xi, _):
        up, down = (v["b1"] + xi[0], v["b2"] + xi[1]), (v["a1"] + xi[2], v["b2"] + xi[3])
        seen = [*up, *down]
        v["b1"] -= DT / 0.01 * v["b1"]
        v["b2"] += DT / 0.01 * (up[0] @ W2.T - v["b2"])
        v["a1"] += DT / 0.02 * (down[1] @ Q1.T - v["a1"])
        return seen

    found = scatter(Multiplexing(0.01, 0.02), DOWN, Target("none"), None)
    expected = [found.deviation("event_rate", i, WINDOW, "up") for i in (1, 2)]
    expected += [found.deviation("burst_signal", i, WINDOW, "down") for i in (1, 2)]
    for theory, counted in zip(expected, simulated(step, 0.0), strict=True):
        np.testing.assert_allclose(theory, counted, rtol=0.16)


def test_an_unstable_network_has_no_scatter():
    """The free output grows by μ + 3 μ (1 − μ) − 1 > 0: feedback is three times too strong."""
    with pytest.raises(ValueError, match="unstable"):
        scatter(Mixture(0.5, 0.02, 0.005, 0.01), None, Target("none"), None, feedback=3)


def test_the_irregularity_of_spikes_is_that_of_their_intervals():
    """1 of a Poisson process, 1/k where every kth of its spikes is left, neuron by neuron."""
    rng = np.random.default_rng(1)
    intervals = rng.exponential(size=(20, 400))
    thinned = intervals.reshape(20, 100, 4).sum(axis=2)
    for gaps, expected in ((intervals, 1.0), (thinned, 0.25)):
        times, nodes = np.cumsum(gaps, axis=1), np.broadcast_to(np.arange(20)[:, None], gaps.shape)
        order = np.argsort(times.ravel())
        found = list(variations(times.ravel()[order], nodes.ravel()[order]))
        assert len(found) == 20
        assert np.mean(found) == pytest.approx(expected, rel=0.1)
    assert list(variations(np.arange(5.0), np.zeros(5))) == []
