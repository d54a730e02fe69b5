"""Networks whose layers have goals of their own [Kostadinov et al. 2019], one presentation at a
time, against the equations written with NumPy."""

from dataclasses import replace
from itertools import pairwise

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import neurosim as ns
from neurosim.building import assembly, ingredients
from neurosim.credit.local_goals import Goals, missed
from neurosim.functions.activations import Linear, SoftThreshold
from neurosim.functions.losses import Loss
from neurosim.levels.simulator import Batch
from neurosim.networks.dynamics import Readout
from neurosim.networks.network import Network, Weights

SIZES = [6, 5, 5, 5, 3]
NODES, BATCH, TAU = 3, 12, 0.1
TRANSFERS = (*[SoftThreshold(TAU)] * NODES, Linear())
NETWORK = Network(tuple(SIZES), TRANSFERS, "inverse", Loss("half-squared", "linear"))
PENALTIES = {"conditioning": 0.3, "coherence": 0.0, "log_det": 0.2, "similarity": 0.4}


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def protocol(nodes=None, **changes):
    given = {
        "precision": "float64",
        "model.layers": SIZES,
        "model.activation.threshold": TAU,
        "model.credit.nodes": PENALTIES | {"goals": [NODES]} | (nodes or {}),
        "task": {"name": "student-teacher", "layers": [6, 3], "train": BATCH, "test": 4},
        "model.parameters": {"rho": 1.0},
        "batch": BATCH,
        "record.presentations": 0,
        "record.samples": 4,
    }
    return ns.load_protocol("local-goals-n4g4", given | changes)


@eqx.filter_jit
def present(engine, states, batch, keys):
    return engine._present(states, batch, keys, jnp.int32(0))[0]


class Presented:
    """Weights of a protocol before and after each of some presentations of a batch."""

    def __init__(self, made, count=1, key=0, start=None):
        spec, sizes = made.spec, made.spec.model.layers
        engine = assembly.engine(spec, spec.stages[0], count)
        rng = np.random.default_rng(1)
        self.x = rng.standard_normal((BATCH, sizes[0]))
        self.y = np.eye(3)[rng.integers(0, 3, BATCH)]
        drawn = start or ingredients.weights(spec.model, 0, None, None)
        states = engine.begin(assembly.stack([drawn]), 0, 1)
        batch = Batch(*(jnp.asarray(a)[None] for a in (self.x, self.y, np.arange(BATCH))))
        self.weights = [self._of(states)]
        for _ in range(count):
            states = present(engine, states, batch, jax.random.key(key)[None])
            self.weights.append(self._of(states))

    @staticmethod
    def _of(states):
        return {n: [np.asarray(w[0]) for w in arrays] for n, arrays in states.weights.items()}


def soft(a, threshold=TAU):
    return np.sign(a) * np.maximum(abs(a) - threshold, 0)


def goal(q, y):
    """Every unit keeps what it says to the class to which that spares most."""
    g = np.zeros_like(q)
    for unit in range(q.shape[1]):
        spared = [np.sum(soft(q[y[:, c] > 0, unit]) ** 2) for c in range(y.shape[1])]
        own = y[:, np.argmax(spared)] > 0
        g[own, unit] = soft(q[own, unit])
    return g


def traded(q, y, weight):
    """Where no sample's g can change to lower ½‖q − g‖² + λ₁‖g‖₁ + λ₀D(g): the slopes are 0.

    All samples at once, again and again, which for a small λ₀ comes to the one such point."""
    other, g, sign = 2 * weight * (1 - y @ y.T) / len(q), soft(q), np.sign(q)
    for _ in range(60):
        up, down = np.maximum(g, 0), np.maximum(-g, 0)
        same = np.where(q > 0, other @ up, other @ down)
        opposite = np.where(q > 0, other @ down**2, other @ up**2)
        g = sign * np.maximum(abs(q) - TAU - same, 0) / (1 + opposite)
    return g


def corrected(W, Q, x, y, goals, own=True, above=1.0, below=1.0, weight=None):
    """u, q, e, ν and y of nodes, by layer [K 4, 5, 8, 10, 15]."""
    u, q, e, nu, wanted = {0: x}, {}, {}, {}, {}
    for i in range(1, NODES + 1):
        q[i] = u[i - 1] @ W[i - 1].T
        u[i] = soft(q[i])
        e[i] = np.zeros_like(u[i]) if own else u[i]
        if i in goals:
            e[i] = u[i] - (goal(q[i], y) if weight is None else traded(q[i], y, weight))
    for i in range(1, NODES + 1):
        nu[i] = e[i].copy()
        if i < NODES:
            nu[i] += above * e[i + 1] @ Q[i - 1].T
        if i > 1:
            nu[i] += below * e[i - 1] @ W[i - 1].T
        wanted[i] = soft(q[i] - nu[i])
    return u, q, e, nu, wanted


def slope(A, M, N):
    """The gradient of the penalised problem, without its coherence."""
    return (
        A @ M - N + PENALTIES["conditioning"] * A - 2 * PENALTIES["log_det"] * np.linalg.pinv(A).T
    )


def arrays(of):
    return tuple(map(jnp.asarray, of))


CASES = {
    "at the last node": ({}, {}),
    "in the middle": ({"at": (2,)}, {"goals": [2]}),
    "at all nodes": ({"at": (1, 2, 3)}, {"goals": [1, 2, 3]}),
    "nothing wanted elsewhere": ({"own": False}, {"own": False}),
    "unequal ways": (
        {"from_above": 0.5, "from_below": 0.2, "at": (2,)},
        {"above": 0.5, "below": 0.2, "goals": [2]},
    ),
    "a penalty": ({"discrimination": 0.02}, {"weight": 0.02}),
}


@pytest.mark.parametrize("case", CASES)
def test_what_nodes_miss_and_hear_of_their_neighbors(case):
    changes, own = CASES[case]
    rng = np.random.default_rng(3)
    W = [rng.standard_normal((n, m)) / np.sqrt(m) for m, n in pairwise(SIZES)]
    Q = [rng.standard_normal((5, 5)) for _ in range(NODES - 1)]
    x, y = rng.standard_normal((BATCH, 6)), np.eye(3)[rng.integers(0, 3, BATCH)]
    u, q, e, nu, wanted = corrected(W, Q, x, y, **({"goals": [NODES]} | own))
    hidden = range(1, NODES + 1)
    now = Readout(arrays(u[i] for i in hidden), (), (), potential=arrays(q[i] for i in hidden))
    goals = replace(Goals((NODES,), True, 1.0, 1.0, 1.0, None), **changes)
    found = missed(NETWORK, Weights(arrays(W), (), arrays(Q)), now, jnp.asarray(y), goals)
    for i in hidden:
        np.testing.assert_allclose(found.error[i - 1], e[i], atol=1e-12)
        np.testing.assert_allclose(found.correction[i - 1], nu[i], atol=1e-12)
        np.testing.assert_allclose(found.deviation[i - 1], wanted[i] - q[i], atol=1e-12)


def test_two_samples_of_two_classes_share_a_unit_as_the_closed_form_says():
    """Of one sign, g₁ = s₁ − λ₀g₂ and g₂ = s₂ − λ₀g₁, with s = |q| − λ₁ and a batch of 2."""
    W, Q = [np.eye(5, 6) + 0.1, *[np.eye(5) + 0.1] * 2, np.ones((3, 5))], [np.eye(5)] * 2
    x, y, weight = np.array([[1.0] * 6, [2.0] * 6]), np.eye(3)[:2], 0.01
    u, q, *_ = corrected(W, Q, x, y, [])
    hidden = range(1, NODES + 1)
    now = Readout(arrays(u[i] for i in hidden), (), (), potential=arrays(q[i] for i in hidden))
    goals = Goals((NODES,), True, 1.0, 1.0, 1.0, weight)
    weights = Weights(arrays(W), (), arrays(Q))
    error = missed(NETWORK, weights, now, jnp.asarray(y), goals).error[-1]
    s = q[NODES] - TAU
    assert np.min(s) > 0.5
    np.testing.assert_allclose(s - error, (s - weight * s[::-1]) / (1 - weight**2), rtol=1e-12)


@pytest.mark.parametrize("weight", [None, 0.02])
def test_a_step_goes_to_the_solution_of_every_node(weight):
    found = Presented(protocol({"goals": [2]} | ({"discrimination": weight} if weight else {})))
    before, after = found.weights
    W, Q = before["W"], before["Q"]
    for k in range(NODES - 1):  # tied backward weights
        np.testing.assert_array_equal(Q[k], W[k + 1].T)
        np.testing.assert_array_equal(after["Q"][k], after["W"][k + 1].T)
    u, _, _, nu, wanted = corrected(W, Q, found.x, found.y, [2], weight=weight)
    for i in range(2, NODES + 1):  # of the first, with more inputs than units, it is approximate
        M, N = u[i - 1].T @ u[i - 1] / BATCH, (wanted[i] - nu[i]).T @ u[i - 1] / BATCH
        np.testing.assert_allclose(slope(after["W"][i - 1], M, N), 0, atol=1e-8)
    np.testing.assert_allclose(after["W"][NODES], read_out(found, W, u[NODES]), atol=1e-12)


def read_out(found, W, u):
    """The weights of the readout after a step down the cross-entropy."""
    h = u @ W[NODES].T
    p = np.exp(h) / np.exp(h).sum(1, keepdims=True)
    return W[NODES] + 0.3 * (found.y - p).T @ u / BATCH


@pytest.mark.parametrize("correction", [1.0, 0.0, -1.0])
def test_a_gradient_step_is_down_the_same_problem(correction):
    changes = {"model.projections.W.rule": "penalized-gradient", "model.parameters.rho": 0.1}
    found = Presented(protocol({"correction": correction, "goals": [2]}, **changes))
    before, after = found.weights
    u, _, _, nu, wanted = corrected(before["W"], before["Q"], found.x, found.y, [2])
    for i in range(1, NODES + 1):
        w = wanted[i] - correction * nu[i]
        M, N = u[i - 1].T @ u[i - 1] / BATCH, w.T @ u[i - 1] / BATCH
        A = before["W"][i - 1]
        np.testing.assert_allclose(after["W"][i - 1], A - 0.1 * slope(A, M, N), atol=1e-10)


def test_backward_weights_go_to_the_solution_of_theirs():
    """Of ½‖B u − y‖² + (y − q)ᵀ λ_f B e + λ₅/2 ‖B − Aᵀ‖² [K 18], A as it has become."""
    changes = {
        "model.credit.rule": "penalized",
        "model.credit.init": "random",
        "model.credit.rate": 1.0,
        "stages.0.phases.0.plastic": ["forward", "feedback"],
    }
    found = Presented(protocol({"from_above": 0.5}, **changes))
    before, after = found.weights
    given = before["W"], before["Q"], found.x, found.y, [NODES]
    u, q, e, _, wanted = corrected(*given, above=0.5)
    for i in range(1, NODES):
        B, A = after["Q"][i - 1], after["W"][i]
        fit = (u[i + 1] @ B.T - wanted[i]).T @ u[i + 1] / BATCH
        pull = 0.5 * (wanted[i] - q[i]).T @ e[i + 1] / BATCH
        np.testing.assert_allclose(fit + pull + 0.4 * (B - A.T), 0, atol=1e-10)
    assert np.max(abs(after["Q"][0] - before["Q"][0])) > 0.1  # nodes that hear nothing learn it too


def test_a_seed_learns_the_same_beside_another(tmp_path):
    """Also from pixels that are the same in a whole batch: the edges of digits.

    A thousand roundings of numbers near one, as kernels for fewer seeds may add up otherwise.
    """
    given = {
        "precision": "float64",
        "model.layers": [64, 64, 64, 10],
        "model.credit.nodes.goals": [2],
        "stages.0.presentations": 4,
        "record.presentations": 0,
    }
    made = ns.load_protocol("local-goals-n4g4", given)
    ns.run(made, seeds=[0], out=tmp_path / "alone.h5")
    ns.run(made, seeds=[0, 1], out=tmp_path / "beside.h5")
    with ns.open_trace(tmp_path / "alone.h5") as a, ns.open_trace(tmp_path / "beside.h5") as b:
        for i in (1, 2, 3):
            W = a["weights"][f"W{i}"].values
            beside = b["weights"][f"W{i}"].values[:, 0]
            assert np.max(abs(W[-1] - W[0])) > 0.01
            np.testing.assert_allclose(beside, W, atol=1e-12)


def test_nodes_whose_turn_it_is_not_stay_and_pass_on_by_their_weights_before():
    found = Presented(protocol({"active": 0.5, "goals": [2]}), count=6)
    moved = np.array(
        [[np.any(a != b) for a, b in zip(now["W"], then["W"], strict=True)]
         for then, now in zip(found.weights, found.weights[1:], strict=False)]
    )  # fmt: skip
    assert moved[:, NODES].all()  # the readout
    assert 0 < moved[:, :NODES].mean() < 1
    stale = 0
    for t in range(1, 6):
        then, now, after = (found.weights[k]["W"] for k in (t - 1, t, t + 1))
        W = [now[i] if moved[t, i] else then[i] for i in range(NODES + 1)]
        stale += any(np.any(W[i] != now[i]) for i in range(NODES))
        u = [found.x]
        for i in range(NODES):
            u.append(soft(u[-1] @ W[i].T))
        np.testing.assert_allclose(after[NODES], read_out(found, now, u[NODES]), atol=1e-12)
    assert stale  # or this would test nothing


@pytest.mark.long
def test_where_exact_steps_come_to_rest_the_flow_rests_too():
    given = {
        "model.layers": [4, 5, 6, 3],  # none larger than the next: solutions are exact
        "model.activation.threshold": 0.3,
        "task": {"name": "student-teacher", "layers": [4, 3], "train": BATCH, "test": 4},
    }
    exact = protocol({"goals": [2]}, **given, **{"model.parameters": {"rho": 0.5, "eta": 0.0}})
    steps = Presented(exact, count=150).weights
    rest = steps[-1]["W"]
    for now, before in zip(rest, steps[-2]["W"], strict=True):
        np.testing.assert_allclose(now, before, atol=1e-12)
    assert np.max(abs(rest[1] - steps[0]["W"][1])) > 0.3
    flow = given | {
        "plasticity": "online",
        "model.projections.W.rule": "penalized-gradient",
        "model.projections.W.rate": ["1 Hz", "1 Hz", "0 Hz"],
        "stages.0.phases.0.duration": "40 s",
        "stages.0.phases.0.until": "duration",
        "rate": {"scheme": "heun", "dt": "100 ms"},
    }
    made = protocol({"goals": [2]}, **flow)
    still = Presented(made, start={"W": rest, "Q": [rest[1].T]}).weights[-1]["W"]
    for a, b in zip(still, rest, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-9)
    begun = steps[0]
    moved = Presented(made, start=begun).weights[-1]["W"]
    assert all(np.max(abs(a - b)) > 0.1 for a, b in zip(moved[:2], begun["W"][:2], strict=True))


def test_turns_are_as_frequent_as_is_said_and_of_each_node_its_own():
    made = protocol({"active": 0.3}).spec
    engine = assembly.engine(made, made.stages[0], 1)
    turns = jax.vmap(lambda k: engine.learning.nodes.turns(k, 5))(
        jax.random.split(jax.random.key(0), 4000)
    )
    assert jnp.all(turns[:, -1] == 1)
    # Five standard errors; of the covariance of two, which is 0, also.
    error = 5 * np.sqrt(0.3 * 0.7 / 4000)
    assert np.all(abs(turns[:, :-1].mean(0) - 0.3) < error)
    covariance = np.cov(np.asarray(turns[:, :-1]).T)
    assert np.all(abs(covariance - np.diag(np.diag(covariance))) < 5 * 0.21 / np.sqrt(4000))


def test_a_soft_threshold_has_the_slope_of_its_formula():
    a = jnp.array([-2.0, -0.3, 0.0, 0.1, 0.5])
    s = SoftThreshold(0.3)
    np.testing.assert_allclose(s(a), [-1.7, 0, 0, 0, 0.2], atol=1e-12)
    assert s.derivative(a).tolist() == [1, 0, 0, 0, 1]


REFUSED = [
    ({"model.activation": "tanh"}, "local-goals is about sparse representations; expected such"),
    ({"model.credit.nodes.goals": [1, 4]}, "goals.1: layer 4 is no hidden layer; expected 1 to 3"),
    ({"model.layers": [6, 3], "model.credit.nodes": {}}, "gives hidden layers goals, and there is"),
    ({"batch": 1, "record.samples": 1}, "keeps the classes of a batch apart"),
    ({"model.credit.rule": "white-noise"}, "sends activity down, .* do not; expected fixed, tied"),
    ({"model.credit": "rbp"}, "W.rule: 'penalized' is about hidden layers with goals .*, and rbp"),
    ({"model.credit.name": "rbp"}, "credit.nodes: is about hidden layers with goals of their own"),
    (
        {"model.credit": {"name": "dtp", "rule": "penalized"}},
        "credit.rule: 'penalized' is about hidden layers",
    ),
    (
        {"plasticity": "online", "model.credit.nodes.active": 0.5},
        "nodes.active: is of presentations, in which a node takes part or not",
    ),
    ({"level": "spiking"}, "local-goals computes with activities that spikes only estimate"),
    (
        {"model.activation": {"name": "tanh", "threshold": 0.1}},
        "tanh has no threshold; only soft-threshold",
    ),
]


@pytest.mark.parametrize(("changes", "words"), REFUSED)
def test_what_goals_cannot_be_is_said(changes, words):
    with pytest.raises(ns.InputError, match=words):
        protocol(**changes)


def test_a_task_without_classes_is_refused(tmp_path):
    linear = protocol(**{"model.output": "linear", "model.loss": "squared"})
    with pytest.raises(ns.InputError, match="goals keep classes apart, and the task has none"):
        ns.run(linear, out=tmp_path / "t.h5")
