"""Online plasticity, weights inside the ODE: its quasi-static limit, its gates and its memory."""

import warnings
from functools import partial

import equinox as eqx
import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from chains import FEEDFORWARD, circuit
from scipy.integrate import solve_ivp

import neurosim as ns
from neurosim.building import assembly
from neurosim.building.loading import load_model, load_protocol
from neurosim.errors import NeurosimWarning
from neurosim.functions.activations import Linear
from neurosim.functions.losses import Loss
from neurosim.levels import online
from neurosim.levels.rate import Rate
from neurosim.levels.simulator import Phase
from neurosim.networks.circuit import Signals
from neurosim.networks.dynamics import Target, rest
from neurosim.networks.network import Network, Weights
from neurosim.plasticity.local import LocalLearning

MU, STEP, N = 0.3, 0.5, 3

PROTOCOL = """
name = "online"
level = "rate"
precision = "float64"
plasticity = "online"
batch = 4
[model]
use = "mixture-two-phase"
layers = [3, 3, 3]
activation = "linear"
output = "linear"
loss = "half-squared"
target_step = 0.5
tau_memory = "15 ms"
parameters.mu = 0.3
projections.W.rate = "1 Hz"
projections.W.post = "slope(basal)*(soma - soma_free)"
projections.Q.rule = "fixed"
[task]
name = "student-teacher"
layers = [3, 3, 3]
[[stages]]
name = "only"
presentations = 100
[[stages.phases]]
name = "free"
duration = "500 ms"
until = "duration"
[[stages.phases]]
name = "learning"
duration = "500 ms"
until = "duration"
teaching = "frozen"
plastic = ["forward"]
[rate]
scheme = "heun"
dt = "0.5 ms"
"""
ONE_PHASE = {"name": "learning", "duration": "500 ms", "until": "duration", "plastic": ["forward"]}
PLAIN = {
    "model.layers": [3, 3, 3],
    "model.activation": "linear",
    "model.output": "linear",
    "model.loss": "half-squared",
    "model.target_step": 0.5,
    "model.projections.W.rate": "1 Hz",
}
"""What a case of another model says of its own."""
CASES = {
    "mixture": {},
    "mixture with apical plasticity": {
        "model.projections.Q.post": "t_slope(apical)*(soma - apical_rate)",
        "model.projections.Q.rate": "1 Hz",
        "stages.0.phases.0.plastic": ["feedback"],
    },
    "mixture with tied inverses": {
        "model.projections.Q.init": "inv(W[i+1])",
        "model.projections.Q.rule": "tied",
    },
    "mixture in one phase": {
        "model.projections.W.post": "slope(basal)*(soma - basal_rate)",
        "stages.0.phases": [ONE_PHASE | {"teaching": "following"}],
    },
    "multiplexing": PLAIN
    | {
        "model.use": "multiplexing",
        "model.projections.Q.rule": "fixed",
        "model.tau_memory": "15 ms",
    },
    "backprop": PLAIN | {"model.use": "backprop", "stages.0.phases": [ONE_PHASE]},
}


@pytest.fixture(autouse=True, scope="module")
def double_precision():
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    """Overrides → the engine of the only stage."""
    path = tmp_path_factory.mktemp("online") / "online.toml"
    path.write_text(PROTOCOL)

    def make(overrides):
        spec = load_protocol(path, overrides).spec
        return assembly.engine(spec, spec.stages[0], 100)

    return make


def start(credit_needs_feedback=True, q_noise=0.1):
    """W_1, W_2 with singular values 0.7 … 1.2, and Q near the inverse of W_2."""
    rng = np.random.default_rng(0)
    W = [
        np.linalg.qr(rng.standard_normal((N, N)))[0] @ np.diag(rng.uniform(0.7, 1.2, N))
        for _ in range(2)
    ]
    Q = np.linalg.inv(W[1]) + q_noise * rng.standard_normal((N, N))
    return W, (Q,) if credit_needs_feedback else ()


def batch(W, count=4):
    """Inputs and labels that the network does not yet give."""
    rng = np.random.default_rng(1)
    x = rng.standard_normal((count, N))
    return x, x @ (W[1] @ W[0]).T + 2 * rng.standard_normal((count, N))


def weights_of(W, Q):
    """By projection."""
    return circuit(Weights(*(tuple(map(jnp.asarray, arrays)) for arrays in (W, (), Q))))


def advance(engine, W, Q, x, y, presentations, ids=None):
    """Weights after so many presentations of one batch."""
    weights = weights_of(W, Q)
    states = engine.begin(jax.tree.map(lambda a: a[None], weights), 0, 1)
    ids = np.arange(len(x)) if ids is None else ids
    orders = np.tile(ids, (64, 1))[None]
    states, *_ = engine.advance(
        states,
        (jnp.asarray(x), jnp.asarray(y)),
        None,
        jnp.asarray(orders),
        jax.random.key(0)[None],
        jnp.int32(0),
        jnp.int32(presentations),
        jnp.int32(0),
    )
    found = jax.tree.map(lambda a: np.asarray(a[0]), states.weights)
    return Weights(found["W"], (), found.get("Q", ()))


# ------------------------------------------------------------------------- the quasi-static limit


def changes(case, W, Q, x, y):
    """What one presentation changes, per unit of rate · time, at the fixed points of the phases."""
    (W1, W2), unit = W, np.eye(N)
    if case == "multiplexing":
        h1 = x @ W1.T
        nudge = -STEP * (h1 @ W2.T - y)
        return [(nudge @ Q[0].T).T @ x, nudge.T @ h1], []
    if case == "backprop":
        h1 = x @ W1.T
        e = y - h1 @ W2.T
        return [(e @ W2).T @ x, e.T @ h1], []
    below = (1 - MU) * x @ W1.T
    if case == "mixture in one phase":  # h_L^trgt = h_2 − η̂ (h_2 − y), solved with the rest
        system = [[unit, -MU * Q[0]], [-(1 - MU) * W2, (1 - MU + MU * STEP) * unit]]
        given = np.concatenate([below, MU * STEP * y], axis=1)
        h1, h2 = np.split(np.linalg.solve(np.block(system), given.T).T, 2, axis=1)
        return [(h1 - x @ W1.T).T @ x, (h2 - h1 @ W2.T).T @ h1], []
    free1 = np.linalg.solve(unit - MU * Q[0] @ W2, below.T).T  # short-circuited: h_2 = f_2(h_1)
    free2 = free1 @ W2.T
    system = [[unit, -MU * Q[0]], [-(1 - MU) * W2, unit]]
    given = np.concatenate([below, MU * (free2 - STEP * (free2 - y))], axis=1)
    h1, h2 = np.split(np.linalg.solve(np.block(system), given.T).T, 2, axis=1)
    dW = [(h1 - free1).T @ x, (h2 - free2).T @ h1]
    return dW, [(free1 - free2 @ Q[0].T).T @ free2]


def quasi_static(case, W, Q, x, y, step, presentations):
    for _ in range(presentations):
        if case == "mixture with tied inverses":
            Q = (np.linalg.inv(W[1]),)
        dW, dQ = changes(case, W, Q, x, y)
        W = [w + step / len(x) * d for w, d in zip(W, dW, strict=True)]
        if case == "mixture with apical plasticity":
            Q = tuple(q + step / len(x) * d for q, d in zip(Q, dQ, strict=True))
    if case == "mixture with tied inverses":
        Q = (np.linalg.inv(W[1]),)
    return W, Q


def with_times(engine, tau):
    """The same engine whose compartments all have this time constant."""
    values = engine.dynamics.parameters
    times = {name: jnp.asarray(tau) for name in values if name.startswith("tau")}
    return eqx.tree_at(lambda e: e.dynamics.parameters, engine, values | times)


@pytest.mark.parametrize("case", CASES)
def test_online_tends_to_quasi_static_at_first_order(engine, case):
    """Both small parameters ε at once: τ/T and (rate · T), while total learning stays the same.

    Per presentation of 2 · T, learning sees a transient of τ/T of the phase, and weights move in
    one step that should be a path; so the difference of the weights after 8/ε presentations is
    O(ε). Rates enter a linear network only as rate · (scale of the data)², which is how ε reaches
    them here, so that one program serves all ε. Memory forgets exp(-33) within the free phase.
    """
    one = engine(CASES[case])
    W, Q = start(case != "backprop", q_noise=0.0 if "tied" in case else 0.1)
    x, y = batch(W)
    sizes, total, phase = (1, 1 / 2, 1 / 4, 1 / 8), 4.0, 0.5
    differences = []
    for size in sizes:
        presentations = round(8 / size)
        scaled = np.sqrt(total / presentations / phase)
        fast = with_times(one, 0.02 * size)
        found = advance(fast, W, Q, scaled * x, scaled * y, presentations)
        expected = quasi_static(case, W, Q, x, y, total / presentations, presentations)
        pairs = [*zip(found.W, expected[0], strict=True), *zip(found.Q, expected[1], strict=True)]
        differences.append(max(np.abs(a - b).max() for a, b in pairs))
        moved = max(np.abs(a - b).max() for a, b in zip(expected[0], W, strict=True))
    assert moved > 0.1
    slope = np.polyfit(np.log(sizes), np.log(differences), 1)[0]
    assert slope == pytest.approx(1, abs=0.1)
    assert differences[-1] < 0.2 * moved


@pytest.mark.long
@pytest.mark.seldom
def test_a_nonlinear_network_too(engine):
    """Leaky ReLU, which scales as linear units do, against the equilibrium level of the engine."""
    leaky = {"model.activation": {"name": "leaky-relu", "slope": 0.5}}
    one = engine(leaky)
    bare = leaky | {"plasticity": "quasi-static", "level": "equilibrium"}
    bare |= {"model.projections.W.rate": 0.5, "equilibrium.tolerance": 1e-9}  # 1 Hz for 0.5 s
    still = engine(bare)
    W, Q = start()
    x, y = batch(W)
    sizes, total, phase = (1, 1 / 2, 1 / 4, 1 / 8), 4.0, 0.5
    differences = []
    for size in sizes:
        presentations = round(8 / size)
        scaled = np.sqrt(total / presentations / phase)
        found = advance(with_times(one, 0.02 * size), W, Q, scaled * x, scaled * y, presentations)
        expected = advance(still, W, Q, scaled * x, scaled * y, presentations)
        pairs = zip(found.W, expected.W, strict=True)
        differences.append(max(np.abs(a - b).max() for a, b in pairs))
    assert np.polyfit(np.log(sizes), np.log(differences), 1)[0] == pytest.approx(1, abs=0.1)


# ------------------------------------------------------------------------------------------ gates


@pytest.mark.long
@pytest.mark.seldom
def test_closed_plasticity_leaves_weights_bitwise(engine):
    """Whatever moves beside them; open plasticity does move them."""
    W, Q = start()
    x, y = batch(W)
    apical = {"model.projections.Q.post": "t_slope(apical)*(soma - apical_rate)"}
    apical |= {"model.projections.Q.rate": "1 Hz"}
    apical |= {"rate.dt": "1 ms", "model.parameters.tau_soma": "4 ms"}
    free = {"name": "free", "duration": "100 ms", "until": "duration"}
    taught = free | {"name": "learning", "teaching": "frozen"}
    only_apical = engine(apical | {"stages.0.phases": [free | {"plastic": ["feedback"]}, taught]})
    found = advance(only_apical, W, Q, x, y, 3)
    for a, b in zip(found.W, W, strict=True):
        np.testing.assert_array_equal(a, b)
    assert np.abs(found.Q[0] - Q[0]).max() > 1e-3

    only_basal = engine(apical | {"stages.0.phases": [free, taught | {"plastic": ["forward"]}]})
    found = advance(only_basal, W, Q, x, y, 3)
    np.testing.assert_array_equal(found.Q[0], Q[0])
    assert min(np.abs(a - b).max() for a, b in zip(found.W, W, strict=True)) > 1e-3


def test_memory_is_a_low_pass_filter_that_can_be_closed():
    """m(t) = h [1 − (τ_m e^(−t/τ_m) − τ e^(−t/τ))/(τ_m − τ)] for a neuron charging towards h.

    Held bitwise where closed. The solver keeps 1e-9 a step.
    """
    tau, tau_memory, key = 0.02, 0.05, "free:layer1.rate"
    network = Network((N, N), (Linear(),), "inverse", Loss("half-squared", "linear"))
    changes = {"layers": [N, N], "credit": None, "parameters.tau_basal": tau}
    changes |= {"projections.W.post": "slope(basal)*(rate - rate_free)"}
    dynamics = assembly.dynamics(load_model(FEEDFORWARD, changes))
    W, _ = start()
    weights = {"W": (jnp.asarray(W[0]),)}
    x = jnp.asarray(np.random.default_rng(2).standard_normal((2, N)))
    level = Rate("tsit5", 0.001, True, 1e-9, 1e-9, 1e-3)
    zero = jax.tree.map(lambda v: jnp.stack([v, v]), rest(dynamics, network, jnp.float64))
    none = {"W": (jnp.asarray(0.0),)}
    learning = LocalLearning(
        dynamics.circuit, {}, none, {"W": 0.0}, {"W": 1.0}, {}, {"W": "sgd"}, (), "constant",
        1.0, False, tau_memory,
    )  # fmt: skip
    begin = online.Plastic(zero, learning.blank(network, (2,), jnp.float64), weights)
    assert list(begin.memory) == [key]
    times = np.array([0.005, 0.02, 0.05, 0.1])

    def phase(begin, name):
        watch = times, lambda plastic: plastic.memory[key]
        still = jax.tree.map(jnp.zeros_like, weights)

        def drives(weights):
            return jax.vmap(lambda x: dynamics.drive(network, weights, x, Target("none")))(x)

        one = Phase(name, 0.1, False, "none", ())
        return online.integrate(
            level, level, dynamics, network, begin, x, drives, STEP,
            lambda w, readout, memory: still, partial(learning.remember, one), 0.1,
            None, watch, lambda w: w, None,
        )  # fmt: skip

    end, _, seen = phase(begin, "free")
    goal = np.asarray(x) @ W[0].T
    ways = [tau_memory * np.exp(-t / tau_memory) - tau * np.exp(-t / tau) for t in times]
    expected = np.stack([goal * (1 - way / (tau_memory - tau)) for way in ways])
    np.testing.assert_allclose(seen, expected, atol=1e-7)
    held, _, seen = phase(end, "learning")
    np.testing.assert_array_equal(held.memory[key], end.memory[key])
    for row in seen:
        np.testing.assert_array_equal(row, end.memory[key])
    phases = tuple(Phase(name, 0.1, False, "none", ()) for name in ("free", "learning"))
    now = Signals((x,), {"layer1.rate": x})
    recalled, as_now = learning.recalled(phases, now, end.memory)
    np.testing.assert_array_equal(recalled.of["layer1.rate"], end.memory[key])
    np.testing.assert_array_equal(as_now.of["layer1.rate"], x)


# -------------------------------------------------------------------------------- tied and batches


@pytest.mark.long
@pytest.mark.seldom
def test_tied_inverses_follow_the_moving_weights(engine):
    """At the end Q W = I to rounding; and at every recorded moment g_1 = W_2(t)⁻¹ h_2(t).

    W_2(t) is what maps the recorded somata of layer 1 to the basal rates of layer 2.
    """
    one = engine(CASES["mixture with tied inverses"] | {"rate.dt": "2 ms"})
    W, Q = start(q_noise=0.0)
    x, y = batch(W, count=8)
    x, y = 2 * x, 2 * y
    found = advance(one, W, Q, x, y, 1)
    assert np.abs(found.W[1] - W[1]).max() > 0.02
    np.testing.assert_allclose(found.Q[0] @ found.W[1], np.eye(N), atol=1e-13)

    states = one.begin(jax.tree.map(lambda a: a[None], weights_of(W, Q)), 0, 1)
    seen = one.examine(
        states,
        (jnp.asarray(x), jnp.asarray(y)),
        None,
        jnp.arange(8)[None],
        jax.random.key(0)[None],
        jnp.int32(0),
        ((0.5,), (0.1, 0.3, 0.5)),
        8,
    )
    lower, upper = (seen.traces[1][place] for place in ("layer1", "layer2"))
    looked_at = lower["soma"], upper["basal_rate"], upper["soma"], lower["apical_rate"]
    for k in range(3):
        h1, f2, h2, g1 = (a[0, :, k] for a in looked_at)
        now = np.linalg.lstsq(np.asarray(h1), np.asarray(f2), rcond=None)[0].T  # W_2 at this moment
        if k == 2:
            np.testing.assert_allclose(now, found.W[1], atol=1e-12)
        np.testing.assert_allclose(g1, np.asarray(h2) @ np.linalg.inv(now).T, atol=1e-11)


def test_a_batch_changes_weights_by_the_mean_over_its_samples(engine):
    """Exactly so in a single Euler step, before samples feel each other through the weights."""
    free = {"name": "free", "duration": "100 ms", "until": "duration"}
    taught = ONE_PHASE | {"duration": "1 ms", "teaching": "following"}
    changes = {
        "stages.0.phases": [free, taught],
        "rate": {"scheme": "euler", "dt": "1 ms"},
        "model.parameters.tau_soma": "4 ms",
        "model.tau_memory": "200 ms",  # lags, so that every layer has a signal at once
    }
    with warnings.catch_warnings():  # that one step is no phase to learn from
        warnings.simplefilter("ignore", NeurosimWarning)
        one = engine(changes)
    W, Q = start()
    x, y = batch(W)
    together = advance(one, W, Q, x, y, 1)
    alone = [advance(one, W, Q, x, y, 1, ids=[k]) for k in range(len(x))]
    for i in range(2):
        mean = np.mean([found.W[i] - W[i] for found in alone], axis=0)
        assert np.abs(mean).max() > 1e-5
        # Differences of weights of order one: to their rounding.
        np.testing.assert_allclose(together.W[i] - W[i], mean, atol=1e-15)


def test_the_noise_of_a_sample_follows_it_through_the_batch(engine):
    """As in quasi-static runs, where weights do not move: noise is selected by the sample."""
    free = {"name": "free", "duration": "40 ms", "until": "duration"}
    one = engine({"stages.0.phases": [free], "model.noise": {"soma": 0.1}, "rate.dt": "4 ms"})
    W, Q = start()
    x, y = batch(W)
    states = one.begin(jax.tree.map(lambda a: a[None], weights_of(W, Q)), 0, 1)
    data = (jnp.asarray(x), jnp.asarray(y))

    def final(ids):
        number, key = jnp.array([ids]), jax.random.key(0)[None]
        seen = one.examine(states, data, None, number, key, jnp.int32(0), ((0.04,),), 4)
        return np.asarray(seen.traces[0]["layer2"]["soma"][0, :, 0])

    order = [2, 0, 3, 1]
    np.testing.assert_allclose(final([0, 1, 2, 3])[order], final(order), atol=1e-12)


# ------------------------------------------------------- weights that flow while neurons rest


def test_weights_that_flow_at_rest_are_the_gradient_flow(tmp_path):
    """Learning as an ODE: W_1 W_1^T − W_2^T W_2 is conserved, and the way is SciPy's.

    Linear network, backprop, squared error over two: dW_2/dt = ⟨e h^T⟩, dW_1/dt = W_2^T ⟨e x^T⟩.
    """
    learn = {"name": "learn", "duration": "5 s", "until": "duration", "plastic": ["forward"]}
    rng = np.random.default_rng(5)
    x, y = rng.standard_normal((8, 2)), rng.standard_normal((8, 1))
    np.savez(tmp_path / "data.npz", x=x, y=y, x_test=x, y_test=y)
    task = {"name": "arrays", "path": str(tmp_path / "data.npz")}
    given = {
        "level": "equilibrium",
        "plasticity": "online",
        "precision": "float64",
        "model.layers": [2, 3, 1],
        "model.activation": "linear",
        "model.output": "linear",
        "model.loss": "half-squared",
        "model.projections.W.init": "xavier",
        "model.projections.W.rate": "1 Hz",
        "batch": 8,
        "task": task,
        "stages": [{"name": "flow", "presentations": 1, "phases": [learn]}],
        "rate": {"scheme": "tsit5", "adaptive": True, "dt": "50 ms", "rtol": 1e-10, "atol": 1e-12},
        "equilibrium.max_newton": 0,
        "record.presentations": 0,
    }
    run = ns.run(ns.load_protocol("backprop-digits", given), out=tmp_path / "flow.h5")
    with h5py.File(run.path) as file:
        (begin, end), (V, V_end) = file["weights/W1"][()], file["weights/W2"][()]
    conserved = begin @ begin.T - V.T @ V
    np.testing.assert_allclose(end @ end.T - V_end.T @ V_end, conserved, rtol=0, atol=1e-9)

    def velocity(t, flat):
        W1, W2 = flat[:6].reshape(3, 2), flat[6:].reshape(1, 3)
        h = x @ W1.T
        e = y - h @ W2.T
        return np.concatenate([((e @ W2).T @ x / 8).ravel(), (e.T @ h / 8).ravel()])

    start_at = np.concatenate([begin.ravel(), V.ravel()])
    way = solve_ivp(velocity, (0, 5), start_at, rtol=1e-11, atol=1e-13).y[:, -1]
    assert np.abs(way - start_at).max() > 0.1
    np.testing.assert_allclose(np.concatenate([end.ravel(), V_end.ravel()]), way, atol=1e-8)
