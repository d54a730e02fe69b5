"""Plasticity: rules against loops and gradients, fixed points of feedback learning, optimisers."""

from functools import partial

import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from chains import FEEDFORWARD, circuit, dynamics, state_of
from settled_networks import ACTIVATIONS, SLOPE, STEP, draws, network, random_weights, settled

import neurosim as ns
from neurosim.building import assembly
from neurosim.building.loading import load_model, load_protocol
from neurosim.credit import CREDITS
from neurosim.functions.activations import Tanh
from neurosim.functions.losses import Loss
from neurosim.networks.circuit import Signals
from neurosim.networks.dynamics import Readout, Target
from neurosim.networks.network import Network
from neurosim.plasticity import signals as probes
from neurosim.plasticity.local import Sides
from neurosim.plasticity.signals import Feedback, apical_delta

RECONSTRUCTION = {
    "mixture": "t_slope(apical)*(soma - apical_rate)",
    "multiplexing": "t_slope(apical)*(event_rate - burst_signal)",
}


@pytest.fixture(autouse=True, scope="module")
def double_precision():
    with jax.enable_x64(True):
        yield


# ------------------------------------------------------------------------------- rules and loops


def sides(moving, net, weights, x, now, before=(), name="W"):
    """What the cells on both sides of a projection of a circuit say to its rule."""
    projection = moving.circuit.projection[name]
    return Sides(moving, net, projection, x, now, dict(before), weights, moving.parameters)


def changes(moving, name, *given):
    """What the rule of a projection makes of its signals, matrix by matrix."""
    found = sides(moving, *given, name=name)
    return [found.change(synapses) for synapses in moving.circuit.projection[name].synapses]


@pytest.mark.parametrize("rule", ["delta", "delta-over-slope"])
def test_rules_are_means_of_outer_products(rule):
    """Against loops over samples and synapses; a bias is a synapse from a neuron that sends 1."""
    batch, post, pre = 5, 3, 4
    x, basal, rate, teaching = (draws(k, batch, n) for k, n in enumerate((pre, post, post, post)))
    feedback = Feedback(*(draws(k, batch, n) for k, n in enumerate((pre, post, post, post), 9)))
    weights = draws(20, post, pre)
    slope = 1 / np.cosh(np.asarray(basal)) ** 2
    dW, db, dQ = np.zeros((post, pre)), np.zeros(post), np.zeros((post, pre))
    for k in range(batch):
        for i in range(post):
            bent = slope[k, i] if rule == "delta" else 1 / slope[k, i]
            signal = bent * float(teaching[k, i]) / batch
            error = float(feedback.actual[k, i]) - float(feedback.predicted[k, i])
            db[i] += signal
            for j in range(pre):
                dW[i, j] += signal * float(x[k, j])
                dQ[i, j] += float(feedback.slope[k, i]) * error * float(feedback.pre[k, j]) / batch
    for i in range(post):
        for j in range(pre):
            dQ[i, j] -= 0.7 * float(weights[i, j])
    given = {"layers": [pre, post], "projections.W.bias": True, "projections.W.rule": rule}
    moving = assembly.dynamics(load_model("target-propagation", given))
    net = Network((pre, post), (Tanh(),), "inverse", Loss("half-squared", "linear"))
    named = {"basal": basal, "rate": rate, "teaching": teaching}
    now = Signals((rate,), {f"layer1.{name}": array for name, array in named.items()})
    own = {"W": (weights,), "b": (weights[:, 0],)}
    (synapses,) = moving.circuit.projection["W"].synapses
    found = sides(moving, net, own, x, now)
    np.testing.assert_allclose(found.change(synapses), dW, atol=1e-15)
    np.testing.assert_allclose(found.bias(synapses, own["b"][0]), db, atol=1e-15)
    np.testing.assert_allclose(apical_delta(feedback, weights, 0.7), dQ, atol=1e-15)
    joined = sides(moving, net, own, jnp.concatenate([x, jnp.ones((batch, 1))], axis=1), now)
    np.testing.assert_allclose(joined.change(synapses)[:, -1], db, atol=1e-15)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(
    ("loss", "output"),
    [
        ("half-squared", "linear"),
        ("squared", "linear"),
        ("cross-entropy", "softmax"),
        ("half-squared", "softmax"),
    ],
)
def test_backprop_credit_with_the_delta_rule_is_the_gradient(activation, loss, output):
    """Of the mean loss, by automatic differentiation, biases too."""
    sizes = (4, 5, 6, 3)
    net = network(sizes, activation, loss=loss, output=output)
    weights = random_weights(sizes, biases=True)
    x = draws(1, 7, 4)
    y = jax.nn.one_hot(jnp.arange(7) % 3, 3) if output == "softmax" else draws(2, 7, 3)

    def mean_loss(weights):
        outputs = jax.vmap(lambda x: net.forward_pass(weights, x)[-1])(x)
        return jnp.mean(jax.vmap(net.loss)(outputs, y))

    moving, own = dynamics(FEEDFORWARD, sizes, bias=True), circuit(weights)

    def present(x, y):
        potentials, h = [], x
        for i in range(1, 4):
            potentials.append(net.potential(weights, i, h))
            h = net.s(i, potentials[-1])
        drive = moving.drive(net, own, x, Target("none"))
        now = moving.read(net, own, drive, state_of(moving, basal=potentials))
        teaching = CREDITS["backprop"].assign(net, weights, moving.layers(net, now), y)
        brought = {f"layer{i}.teaching": signal for i, signal in enumerate(teaching, start=1)}
        return now._replace(of=now.of | brought)

    gradient = jax.grad(mean_loss)(weights)
    found = sides(moving, net, own, x, jax.vmap(present)(x, y))
    for i, synapses in enumerate(moving.circuit.projection["W"].synapses):
        np.testing.assert_allclose(found.change(synapses), -gradient.W[i], atol=1e-14)
        np.testing.assert_allclose(found.bias(synapses, weights.b[i]), -gradient.b[i], atol=1e-14)


@pytest.mark.parametrize("form", ["inverse", "autoencoder"])
@pytest.mark.parametrize("rule", ["text", "reconstruction", "white_noise"])
def test_feedback_rules_descend_the_reconstruction_error(rule, form):
    """ΔQ_i = −∂/∂Q_i (½ mean ‖g_i(above) − actual‖² + ½ λ ‖Q_i‖²), above and actual held."""
    sizes = (4, 5, 5, 4)
    net, weights = network(sizes, "tanh", form), random_weights(sizes, q_noise=0.1)
    x, y = 0.3 * draws(3, 9, 4), draws(4, 9, 4)
    post = {"projections.Q.post": RECONSTRUCTION["mixture"], "parameters.mu": 0.2}
    moving = assembly.dynamics(load_model("mixture", post | {"layers": list(sizes)})).with_layers()
    _, now = settled(moving, net, weights, x, y)
    layers = moving.layers(net, now)
    if rule == "text":
        found = changes(moving, "Q", net, circuit(weights), x, now)
        found = [d - 0.3 * q for d, q in zip(found, weights.Q, strict=True)]
    else:
        received = [jax.vmap(partial(net.apical, weights, i))(layers.rate[i]) for i in (1, 2)]
        apical = tuple(net.decode(i, v) for i, v in enumerate(received, start=1))
        layers = layers._replace(apical=apical, apical_potential=tuple(received))
        signals = getattr(probes, rule)(net, weights, layers, 0.5, jax.random.key(1))
        found = [apical_delta(s, q, 0.3) for s, q in zip(signals, weights.Q, strict=True)]
    for i, change in enumerate(found, start=1):
        if rule == "white_noise":
            actual = signals[i - 1].actual
            above = jax.vmap(lambda h, i=i: net.f(weights, i + 1, h))(actual)
        else:
            actual, above = layers.rate[i - 1], layers.rate[i]

        def error(Q, i=i, actual=actual, above=above):
            moved = weights._replace(Q=(*weights.Q[: i - 1], Q, *weights.Q[i:]))
            g = jax.vmap(lambda h: net.g(moved, i, h))(above)
            return 0.5 * jnp.mean(jnp.sum((g - actual) ** 2, -1)) + 0.5 * 0.3 * jnp.sum(Q**2)

        expected = -jax.grad(error)(weights.Q[i - 1])
        np.testing.assert_allclose(change, expected, atol=1e-13)


def test_inverse_feedback_undoes_biases_too():
    """g_i(f_{i+1}(h)) = h where Q_i = W_{i+1}⁻¹."""
    net, weights = network((4, 4, 4, 4), "tanh"), random_weights((4, 4, 4, 4), biases=True)
    exact = weights._replace(Q=tuple(jnp.linalg.inv(w) for w in weights.W[1:]))
    h = 0.5 * draws(5, 4)
    for i in (1, 2):
        np.testing.assert_allclose(net.g(exact, i, net.f(exact, i + 1, h)), h, atol=1e-13)


# ------------------------------------------------------------------------------------ multiplexing


def s(a):
    return np.where(a > 0, a, SLOPE * a)


def s_inverse(h):
    return np.where(h > 0, h, h / SLOPE)


@pytest.mark.long
def test_multiplexing_learns_as_difference_target_propagation():
    """ĥ_i = h_i + Q_i s⁻¹(ĥ_{i+1}) − Q_i s⁻¹(h_{i+1}) [D 15, T A.12], to rounding.

    Exact wherever, in every layer, the four activities of the two algorithms lie on one side of
    the kink; that is checked, and a good part of the samples pass.
    """
    sizes, depth = (5, 5, 5, 5, 5), 4
    net, weights = network(sizes), random_weights(sizes, seed=3, q_noise=0.05)
    x, y = draws(6, 120, 5), draws(7, 120, 5)
    moving = dynamics("multiplexing", sizes, tau_basal=0.01, tau_apical=0.02)
    state, free = settled(moving, net, weights, x, y)
    value = free.rate[-1] - STEP * (free.rate[-1] - y)
    _, taught = settled(moving, net, weights, x, y, "fixed", state, value)
    down = [moving.layers(net, now).downward for now in (free, taught)]
    W, Q = [np.asarray(w) for w in weights.W], [np.asarray(q) for q in weights.Q]

    h = [np.asarray(x)]
    for i in range(1, depth + 1):
        a = h[i - 1] @ W[i - 1].T
        h.append(a if i == depth else s(a))
    targets = [None] * depth + [h[depth] - STEP * (h[depth] - np.asarray(y))]
    for i in range(depth - 1, 0, -1):
        above, plain = targets[i + 1], h[i + 1]
        if i + 1 < depth:
            above, plain = s_inverse(above), s_inverse(plain)
        targets[i] = h[i] + above @ Q[i - 1].T - plain @ Q[i - 1].T
    one_side = np.ones(len(x), bool)
    for i in range(2, depth):  # activities of layer i enter s⁻¹ on the way down
        four = np.stack([h[i], targets[i], *(layers[i - 1] for layers in down)])
        one_side &= ((four > 0).all(0) | (four < 0).all(0)).all(1)
    assert one_side.sum() >= 20

    chosen = jax.tree.map(lambda a: a[one_side], (x, taught, {"free": free}))
    for i, change in enumerate(changes(moving, "W", net, circuit(weights), *chosen), start=1):
        pre, goal = h[i - 1][one_side], (targets[i] - h[i])[one_side]
        slope = np.where(h[i][one_side] > 0, 1, 1 if i == depth else SLOPE)
        expected = (slope * goal).T @ pre / len(pre)
        # Differences of activities of order one, some ten operations apart.
        np.testing.assert_allclose(change, expected, atol=1e-14)
        assert np.abs(expected).max() > 1e-3


# -------------------------------------------------------------------- what feedback weights become


def regression(moment, P, decay):
    """Q* = Γ P^T (P Γ P^T + λ I)⁻¹: the best linear guess of an input of second moment Γ."""
    return moment @ P.T @ np.linalg.inv(P @ moment @ P.T + decay * np.eye(len(P)))


@pytest.mark.parametrize("sizes", [(3, 5, 5), (3, 6, 4), (3, 4, 6)])
@pytest.mark.parametrize("activation", ["linear", "leaky", "tanh"])
def test_white_noise_ends_at_the_damped_pseudo_inverse(activation, sizes):
    """W^T (W W^T + (λ/σ²) I)⁻¹ [T 4.7]; → W^† as λ → 0 [T 4.6].

    At the optimum for the second moment of the very noise that was drawn, ΔQ = 0 to rounding; and
    that moment is σ² I within five sampling errors, σ² √(2/N) on the diagonal and σ² √(1/N) off it.
    """
    decay, sigma, samples = 0.2, 0.6, 20_000
    net, weights = network(sizes, activation), random_weights(sizes)
    W = np.asarray(weights.W[1])
    shapes = Readout(tuple(jnp.zeros((samples, n)) for n in sizes[1:]), (), ())
    (signal,) = probes.white_noise(net, weights, shapes, sigma, jax.random.key(2))
    moment = np.asarray(signal.actual.T @ signal.actual / samples)
    best = jnp.asarray(regression(moment, W, decay))
    potentials = signal.pre @ best.T
    at_best = apical_delta(signal._replace(predicted=potentials), best, decay)
    # arctanh(tanh a) loses digits where tanh is steepest to invert: a reaches four here.
    np.testing.assert_allclose(at_best, 0, atol=1e-11 if activation == "tanh" else 1e-13)

    off = (moment - sigma**2 * np.eye(len(moment))) / (sigma**2 / np.sqrt(samples))
    assert np.abs(np.diag(off)).max() < 5 * np.sqrt(2)
    assert np.abs(off - np.diag(np.diag(off))).max() < 5
    named = W.T @ np.linalg.inv(W @ W.T + decay / sigma**2 * np.eye(len(W)))
    np.testing.assert_allclose(regression(sigma**2 * np.eye(len(moment)), W, decay), named)
    if sizes[2] <= sizes[1]:  # W has full row rank: the pseudo-inverse is approached as λ
        far = [
            np.abs(regression(moment, W, d) - regression(moment, W, 0)).max() for d in (1e-5, 1e-6)
        ]
        assert far[0] / far[1] == pytest.approx(10, rel=1e-2)
        white = regression(np.eye(len(moment)), W, 0)
        np.testing.assert_allclose(white, np.linalg.pinv(W), atol=1e-12)


def test_white_noise_converges_there():
    """Rates falling as 1/t from zero weights: after T steps of B samples the error is √(1/TB)."""
    sizes, decay, sigma = (3, 5, 4), 0.1, 1.0
    net, weights = network(sizes), random_weights(sizes)
    W = np.asarray(weights.W[1])
    shapes = Readout(tuple(jnp.zeros((32, n)) for n in sizes[1:]), (), ())

    def step(Q, t):
        moved = weights._replace(Q=(Q,))
        (signal,) = probes.white_noise(
            net, moved, shapes, sigma, jax.random.fold_in(jax.random.key(0), t)
        )
        return Q + 2 / (20 + t) * apical_delta(signal, Q, decay), None

    Q, _ = jax.lax.scan(step, jnp.zeros((5, 4)), jnp.arange(20_000))
    expected = W.T @ np.linalg.inv(W @ W.T + decay / sigma**2 * np.eye(4))
    # 640 000 samples: 1.3e-3 an entry of W W^T of order one; four of those.
    np.testing.assert_allclose(Q, expected, atol=5e-3)


@pytest.mark.parametrize("family", ["mixture", "multiplexing"])
def test_reconstruction_ends_at_the_regression_on_its_own_activity(family):
    """Γ W^T (W Γ W^T + λ I)⁻¹ [T B.32], Γ the second moment of the free activity: coloured.

    Plain iteration on one batch, whose Γ the mixture's feedback changes as it learns.
    """
    sizes, decay = (4, 5, 3), 0.05
    net, weights = network(sizes, "linear"), random_weights(sizes)
    W = np.asarray(weights.W[1])
    given = {"layers": list(sizes), "projections.Q.post": RECONSTRUCTION[family]}
    taus = {"mixture": {"mu": 0.2, "tau_soma": 0.02}}
    taus |= {"multiplexing": {"tau_basal": 0.01, "tau_apical": 0.01}}
    given |= {f"parameters.{name}": value for name, value in taus[family].items()}
    moving = assembly.dynamics(load_model(family, given)).with_layers()
    mixing = draws(8, 4, 4)
    x, y = draws(9, 50, 4) @ mixing, jnp.zeros((50, 3))
    evoked = {"mixture": "apical_rate", "multiplexing": "burst_signal"}[family]

    def activity(Q):
        return settled(moving, net, weights._replace(Q=(Q,)), x, y)[1]

    def rule(Q, now):
        own = circuit(weights._replace(Q=(Q,)))
        (change,) = changes(moving, "Q", net, own, x, now)
        return change - decay * Q

    @jax.jit
    def descend(Q, readout):
        """To the optimum on the activity as it is."""

        def step(Q, _):
            potential = moving.layers(net, readout).downward[1] @ Q.T
            now = dict.fromkeys(("layer1.apical", f"layer1.{evoked}"), potential)
            return Q + 0.05 * rule(Q, readout._replace(of=readout.of | now)), None

        return jax.lax.scan(step, Q, None, 4000)[0]

    Q = weights.Q[0]
    readout = activity(Q)
    found = descend(Q, readout)
    h = np.asarray(moving.layers(net, readout).rate[0])
    np.testing.assert_allclose(found, regression(h.T @ h / len(h), W, decay), atol=1e-10)
    # And the rule as the network runs it is at rest where Q regresses the activity that Q makes.
    for _ in range(60):
        h = np.asarray(moving.layers(net, activity(Q)).rate[0])
        Q = jnp.asarray(regression(h.T @ h / len(h), W, decay))
    np.testing.assert_allclose(rule(Q, activity(Q)), 0, atol=1e-12)
    if family == "mixture":
        assert np.abs(np.asarray(Q) - np.asarray(found)).max() > 1e-4


def test_seeds_side_by_side_have_the_noise_that_each_has_alone():
    """To the bit: on a processor each draws in its turn, on a GPU all at once."""
    keys, like = jax.random.split(jax.random.key(4), 3), jnp.zeros((5, 7))
    beside = jax.jit(jax.vmap(lambda key: probes.noise(key, like)))
    alone = [jax.random.normal(key, like.shape, like.dtype) for key in keys]
    np.testing.assert_array_equal(beside(keys), alone)
    lowered = beside.trace(keys).lower(lowering_platforms=("cuda",)).as_text()
    assert "while" not in lowered


def test_difference_reconstruction_regresses_noise_on_what_returns():
    """Last hidden layer: J^T (J J^T + λ I)⁻¹ with J the Jacobian to the output.

    Lower layers: the same with P_i, which is up to the output and down again to layer i+1 by the
    feedback weights above. Piecewise linear: exact at a small σ while no unit crosses a kink.
    """
    sizes, decay, sigma, samples = (4, 6, 5, 3), 0.05, 1e-5, 20_000
    net, weights = network(sizes), random_weights(sizes, seed=5)
    W, Q = [np.asarray(w) for w in weights.W], [np.asarray(q) for q in weights.Q]
    x = draws(10, 4)
    h1 = s(W[0] @ np.asarray(x))
    a2 = W[1] @ h1
    D2 = np.diag(np.where(a2 > 0, 1, SLOPE))
    back2 = Q[1] @ W[2] @ s(a2)  # what returns to layer 2, from the linear output
    E2 = np.diag(np.where(back2 > 0, 1, 1 / SLOPE))
    assert min(np.abs(a2).min(), np.abs(back2).min(), np.abs(h1).min()) > 1e3 * sigma
    P = {2: W[2], 1: E2 @ Q[1] @ W[2] @ D2 @ W[1]}

    rates = (*(jnp.asarray(np.tile(h, (samples, 1))) for h in (h1, s(a2), W[2] @ s(a2))),)
    readout = Readout(rates, (), ())
    found = probes.difference_reconstruction(net, weights, readout, sigma, jax.random.key(3))
    for i, signal in enumerate(found, start=1):
        noise = np.asarray(signal.actual)
        moment = noise.T @ noise / samples
        best = jnp.asarray(regression(moment, P[i], decay))
        # Fluctuations are differences of order-one activities over σ: eps/σ = 2e-11 a sample.
        np.testing.assert_allclose(signal.pre, noise @ P[i].T, atol=1e-9)
        at_best = apical_delta(signal._replace(predicted=signal.pre @ best.T), best, decay)
        np.testing.assert_allclose(at_best, 0, atol=1e-10)
        own = apical_delta(signal, weights.Q[i - 1], decay)
        loop = (noise - noise @ P[i].T @ Q[i - 1].T).T @ noise @ P[i].T / samples
        np.testing.assert_allclose(own, loop - decay * Q[i - 1], atol=1e-9)
        off = (moment - np.eye(len(moment))) * np.sqrt(samples / 2)
        assert np.abs(off).max() < 5
    last = W[2].T @ np.linalg.inv(W[2] @ W[2].T + decay * np.eye(3))
    np.testing.assert_allclose(regression(np.eye(5), P[2], decay), last, atol=1e-12)


def test_local_difference_reconstruction_rests_at_the_transpose():
    """With exact inverses of s both ways are linear: ΔQ = E[εε^T] W^T − Q (E[ηη^T] + λ I)."""
    sizes, decay, samples = (4, 6, 5, 3), 0.05, 20_000
    net, weights = network(sizes), random_weights(sizes, seed=5)
    hidden = [jnp.asarray(np.tile(draws(10 + i, n), (samples, 1))) for i, n in enumerate(sizes[1:])]
    readout = Readout(tuple(hidden), (), ())
    found = probes.local_difference(net, weights, readout, 1e-5, jax.random.key(3))
    for i, signal in enumerate(found, start=1):
        noise, other = signal.actual[::2] / 2, signal.pre[1::2]
        moments = [np.asarray(e.T @ e) / samples for e in (noise, other)]
        for moment in moments:
            off = (moment - np.eye(len(moment))) * np.sqrt(samples / 2)
            assert np.abs(off).max() < 5
        W, Q = np.asarray(weights.W[i]), np.asarray(weights.Q[i - 1])
        change = moments[0] @ W.T - Q @ moments[1] - decay * Q
        np.testing.assert_allclose(apical_delta(signal, weights.Q[i - 1], decay), change, atol=1e-9)


# --------------------------------------------------------------------------------------- sleep

SLEEP = """
name = "sleep"
level = "equilibrium"
precision = "float64"
batch = 20
[model]
use = "mixture-two-phase"
layers = [4, 4, 4, 4]
activation = { name = "leaky-relu", slope = 0.7 }
output = "linear"
loss = "half-squared"
[model.projections.Q]
init = "normal"
gain = 0.5
post = "t_slope(apical)*(soma - apical_rate)"
rate = 0.5
[task]
name = "student-teacher"
layers = [4, 4, 4, 4]
train = 200
test = 20
[[stages]]
name = "sleep"
presentations = 400
order = "top-down"
[[stages.phases]]
name = "free"
teaching = "none"
plastic = ["feedback"]
[record]
presentations = 0
"""


@pytest.fixture(scope="module")
def sleep(tmp_path_factory):
    """Overrides → ‖Q_i W_{i+1} − I‖/‖I‖ for i = 1, 2, before and after; W must have stayed."""
    folder = tmp_path_factory.mktemp("sleep")
    (folder / "sleep.toml").write_text(SLEEP)

    def run(overrides):
        protocol = load_protocol(folder / "sleep.toml", overrides)
        ns.run(protocol, out=folder / "trace.h5", force=True)
        with h5py.File(folder / "trace.h5") as file:
            W = [file[f"weights/W{i}"][()] for i in (1, 2, 3)]
            Q = [file[f"weights/Q{i}"][()] for i in (1, 2)]
        for before, after in W:
            np.testing.assert_array_equal(before, after)
        return np.array(
            [
                [np.linalg.norm(q[k] @ w[k] - np.eye(4)) / 2 for q, w in zip(Q, W[1:], strict=True)]
                for k in (0, 1)
            ]
        )

    return run


@pytest.mark.long
def test_asleep_exact_inverses_emerge_from_the_top_down(sleep):
    """After [T 6.26]. The top matrix can learn first: above it, h_L = f_L(h_{L−1}) exactly.

    What its neighbour learns is an inverse only once the top one is: it stays wrong while the top
    is held wrong. Learning together gets there too, as the top does not wait for anyone.
    """
    before, after = sleep({})
    assert (before > 0.5).all()
    assert (after < 1e-3).all()
    _, held = sleep({"stages.0.order": "together", "model.projections.Q.rate": [0.5, 0.0]})
    assert held[0] > 0.05
    _, together = sleep({"stages.0.order": "together"})
    assert (together < 1e-3).all()
