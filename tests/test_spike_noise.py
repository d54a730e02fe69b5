"""The scatter of counted spikes in a linear circuit: theory against its equations, simulated."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from circuit_models import model
from jax.flatten_util import ravel_pytree

from neurosim.building import assembly
from neurosim.circuits.populations import Group
from neurosim.comparison.scattering import Scattering, _variations, variations
from neurosim.comparison.sides import Side
from neurosim.functions.activations import Linear
from neurosim.functions.losses import Loss
from neurosim.networks.dynamics import Target, rest
from neurosim.networks.network import Network
from neurosim.theory.linearisation import System
from neurosim.theory.signal_to_noise import covariance
from neurosim.theory.spike_noise import Scatter

COPIES, DT, WARM, WINDOW, MU, TAU = 500, 2e-4, 0.15, 0.1, 0.2, 0.008
HIDDEN, OUTPUT = Group("pyramidal", 1), Group("output", 2)
UP, DOWN = (np.full(3, 0.01), np.full(2, 0.02)), (np.full(3, 0.03), np.full(2, 0.005))
NETWORK = Network((2, 3, 2), (Linear(),) * 2, "inverse", Loss("half-squared", "linear"))
W2 = np.array([[1.2, -0.8, 0.5], [0.3, 0.9, -1.1]])
Q1 = np.linalg.pinv(W2)
WEIGHTS = {"W": (np.ones((3, 2)), W2), "Q": (Q1,), "b": (np.zeros(3), np.zeros(2))}
PLACES = {
    name: {"layers": where, "spikes": ["event_rate", "burst_signal"]}
    for name, where in {"pyramidal": "hidden", "output": "output"}.items()
}
READ = [(f"layer{i}", name) for name in ("event_rate", "burst_signal") for i in (1, 2)]
CARRIED = {
    (group, name): q
    for name, of in (("event_rate", UP), ("burst_signal", DOWN))
    for group, q in zip((HIDDEN, OUTPUT), of, strict=True)
}


@pytest.fixture(autouse=True, scope="module")
def double_precision():
    with jax.enable_x64(True):
        yield


def scatter(family, intensities, target, aim=None, feedback=1.0, passed=(), **changes):
    dynamics = assembly.dynamics(model(family, layers=[2, 3, 2], **changes))
    weights = WEIGHTS | {"Q": (jnp.asarray(feedback * Q1),)}
    drive = dynamics.drive(NETWORK, weights, jnp.zeros(2), target)
    system = System(dynamics, NETWORK, weights, drive)
    return Scatter(system, rest(dynamics, NETWORK, float), intensities, (TAU, TAU), aim, *passed)


def simulated(step, aim):
    """Deviations over copies of the means of what `step` returns, a state at a time."""
    rng = np.random.default_rng(0)
    state = {f"{name}{k}": np.zeros((COPIES, n)) for name in "abesp" for k, n in ((1, 3), (2, 2))}
    wrong, sums = aim * rng.normal(size=(COPIES, 2)), 0
    count = round(WINDOW / DT)
    for k in range(round(WARM / DT) + count):
        xi = [np.sqrt(q / DT) * rng.normal(size=(COPIES, len(q))) for q in (*UP, *DOWN)]
        seen = step(state, xi, wrong)
        if k >= round(WARM / DT):
            sums = [s + v / count for s, v in zip(sums or [0] * len(seen), seen, strict=True)]
    return [s.std(axis=0) for s in sums]


def test_counts_and_dendrites_scatter_as_simulated():
    """In a taught phase, whose target was itself read from spikes."""

    def step(v, xi, wrong):
        up = v["s1"] + xi[0], v["s2"] + xi[1]
        seen = [*up, v["b2"].copy(), v["a1"].copy()]
        v["s1"] += DT / 0.02 * ((1 - MU) * v["b1"] + MU * v["a1"] - v["s1"])
        v["s2"] += DT / 0.02 * ((1 - MU) * v["b2"] + MU * wrong - v["s2"])
        v["b2"] += DT / 0.005 * (v["e1"] @ W2.T - v["b2"])
        v["a1"] += DT / 0.01 * (v["e2"] @ Q1.T - v["a1"])
        v["e1"] += DT / TAU * (up[0] - v["e1"])
        v["e2"] += DT / TAU * (up[1] - v["e2"])
        return seen

    aim = np.array([0.3, 0.6])
    target = Target("fixed", value=jnp.zeros(2))
    found = scatter("dendrites", {(HIDDEN, "soma"): UP[0], (OUTPUT, "soma"): UP[1]}, target, aim)
    read = [("layer1", "soma"), ("layer2", "soma"), ("layer2", "basal"), ("layer1", "apical")]
    for (place, variable), counted in zip(read, simulated(step, aim), strict=True):
        # 500 copies leave a deviation uncertain by 3.2 %; five of those.
        np.testing.assert_allclose(found.deviation(place, variable, WINDOW), counted, rtol=0.16)


def test_events_and_bursts_scatter_as_simulated():
    """Each signal by noise of its own; a free output bursts as its events say."""

    def step(v, xi, _):
        up, down = (v["b1"] + xi[0], v["b2"] + xi[1]), (v["a1"] + xi[2], v["b2"] + xi[3])
        seen = [*up, *down]
        v["b2"] += DT / 0.01 * (v["e1"] @ W2.T - v["b2"])
        v["a1"] += DT / 0.02 * (v["p2"] @ Q1.T - v["a1"])
        v["e1"] += DT / TAU * (up[0] - v["e1"])
        v["p2"] += DT / TAU * (down[1] - v["p2"])
        return seen

    found = scatter("multiplexing", CARRIED, Target("none"), populations=PLACES)
    for (place, variable), counted in zip(READ, simulated(step, 0.0), strict=True):
        np.testing.assert_allclose(found.deviation(place, variable, WINDOW), counted, rtol=0.16)


def test_what_synapses_do_not_pass_alike_scatters_as_simulated():
    """Twice the noise of events is heard, and 0.4 of what bursts say beside it."""

    def step(v, xi, _):
        up, down = (v["b1"] + xi[0], v["b2"] + xi[1]), (v["a1"] + xi[2], v["b2"] + xi[3])
        seen = [*up, *down]
        v["b2"] += DT / 0.01 * (v["e1"] @ W2.T - v["b2"])
        v["a1"] += DT / 0.02 * (v["p2"] @ Q1.T - v["a1"])
        v["e1"] += DT / TAU * (v["b1"] + 2 * xi[0] + 0.4 * v["a1"] - v["e1"])
        v["p2"] += DT / TAU * (down[1] - v["p2"])
        return seen

    node = HIDDEN, "event_rate"
    passed = {node: (4 * UP[0], 2 * UP[0])}, {node: {"burst_signal": np.full(3, 0.4)}}
    given = "multiplexing", CARRIED, Target("none")
    found = scatter(*given, passed=passed, populations=PLACES)
    for (place, variable), counted in zip(READ, simulated(step, 0.0), strict=True):
        np.testing.assert_allclose(found.deviation(place, variable, WINDOW), counted, rtol=0.16)
    alike = scatter(*given, populations=PLACES).deviation("layer2", "event_rate", WINDOW)
    assert np.abs(found.deviation("layer2", "event_rate", WINDOW) / alike - 1).min() > 0.2


def test_a_unit_that_hears_no_spikes_scatters_as_it_counts():
    """q over the window, and nothing else; without spikes nothing scatters."""
    carried = {(HIDDEN, "soma"): UP[0], (OUTPUT, "soma"): UP[1]}
    found = scatter("mixture", carried, Target("none"), feedback=0.0)
    alone = found.counting("layer1", "soma", WINDOW)
    np.testing.assert_allclose(alone, np.sqrt(UP[0] / WINDOW))
    np.testing.assert_allclose(found.deviation("layer1", "soma", WINDOW), alone)
    assert (found.deviation("layer2", "soma", WINDOW) > np.sqrt(UP[1] / WINDOW)).all()
    quiet = scatter("mixture", {}, Target("none"))
    assert not quiet.deviation("layer2", "soma", WINDOW).any()


def test_noise_of_compartments_scatters_states_without_spikes():
    """By the covariance that the same equation gives of states alone."""
    dynamics = assembly.dynamics(model("dendrites", layers=[2, 3, 2], noise={"soma": 0.1}))
    drive = dynamics.drive(NETWORK, WEIGHTS, jnp.zeros(2), Target("none"))
    near = System(dynamics, NETWORK, WEIGHTS, drive), rest(dynamics, NETWORK, float)
    found, expected = (
        Scatter(*near, {}, (TAU, TAU)),
        ravel_pytree(near[1])[1](covariance(*near).diagonal()),
    )
    for place, name in (("layer1", "pyramidal"), ("layer2", "output")):
        variance = found.deviation(place, "soma", 0.0) ** 2
        np.testing.assert_allclose(variance, expected[f"{name}.soma"][0], rtol=1e-10)


def test_an_unstable_network_has_no_scatter():
    """The free output grows by μ + 3 μ (1 − μ) − 1 > 0: feedback is three times too strong."""
    strong = {"mu": 0.5, "tau_soma": 0.02}
    with pytest.raises(ValueError, match="unstable"):
        scatter("mixture", {}, Target("none"), feedback=3, parameters=strong)


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


class Recorded(Side):
    """Of a trace, only what is given."""

    def __init__(self, **given):
        self.__dict__ |= given


def test_irregularity_is_looked_for_where_plasticity_reads():
    """In the last half second of a phase of one: intervals of 10 and 30 ms, before of 50 ms."""
    gaps = np.concatenate([np.full(10, 50.0), np.tile([10.0, 30.0], 12)])
    spikes = {"timestamps": np.cumsum(gaps), "node_ids": np.zeros(len(gaps), int)}
    group = {name: SimpleNamespace(values=values) for name, values in spikes.items()}
    tree = {
        "traces/time": SimpleNamespace(values=np.array([0.0, 1000.0])),
        "spikes": SimpleNamespace(children={"layer1": group}),
    }
    shown = SimpleNamespace(phases=[SimpleNamespace(end=1000.0)])
    trace = SimpleNamespace(recorded=lambda: [0])
    side = Recorded(tree=tree, trace=trace, presentation=lambda n: shown, window=0.495)
    within = np.tile([30.0, 10.0], 12)[:-1]  # between the spikes of that while
    assert list(_variations(side)) == [pytest.approx(within.var(ddof=1) / within.mean() ** 2)]


def test_events_scatter_as_their_dead_time_makes_them_and_bursts_as_a_share_of_them():
    """Of N neurons at a rate r: (1 − r d)² r/N a second, and p(1 − p)/(N r)."""
    found = Scattering(Recorded())
    found.neurons = SimpleNamespace(
        kind="burst-poisson", bursts=True, count=50, dead_time=0.01, max_rate=40.0,
        base_rate=5.0, gain=10.0, base_probability=0.2, probability_gain=0.5,
    )  # fmt: skip
    event, burst = np.array([1.0]), np.array([0.4])  # 15 Hz and 40 %
    of_events = found._intensities(0, event, burst).counted
    np.testing.assert_allclose(of_events, (1 - 0.15) ** 2 * 15 / 50 / 10**2)
    np.testing.assert_allclose(found._intensities(0, event, burst, True).counted, 15 / 50 / 10**2)
    of_bursts = found._intensities(1, burst, event).counted
    np.testing.assert_allclose(of_bursts, 0.4 * 0.6 / (50 * 15) / 0.5**2)
