"""Learning: optimisers, schedules, turns and rates of a stage."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from chains import circuit
from settled_networks import draws, network, random_weights, settled

from neurosim.building import assembly
from neurosim.building.loading import load_protocol
from neurosim.levels.simulator import Phase


@pytest.fixture(autouse=True, scope="module")
def double_precision():
    with jax.enable_x64(True):
        yield


TRAIN = """
name = "train"
level = "equilibrium"
precision = "float64"
batch = 5
[model]
use = "mixture-two-phase"
layers = [4, 5, 5, 3]
output = "linear"
loss = "half-squared"
parameters.mu = 0.2
[model.projections.W]
bias = true
rate = [0.3, 0.2, 0.1]
post = "slope(basal)*(soma - soma_free)"
[model.projections.Q]
rule = "white-noise"
rate = [0.05, 0.04]
[task]
name = "student-teacher"
layers = [4, 5, 5, 3]
[[stages]]
name = "only"
presentations = 10
[[stages.phases]]
name = "free"
plastic = ["feedback"]
[[stages.phases]]
name = "learning"
teaching = "frozen"
plastic = ["forward"]
[equilibrium]
max_newton = 0
"""


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    """Overrides → the checked protocol."""
    path = tmp_path_factory.mktemp("train") / "train.toml"
    path.write_text(TRAIN)
    return lambda overrides=None: load_protocol(path, overrides).spec


def learning(spec):
    return assembly.learning(spec, spec.stages[0])


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("sgd", optax.sgd),
        ("momentum", lambda rate: optax.sgd(rate, momentum=0.9)),
        ("rmsprop", optax.rmsprop),
        ("adam", optax.adam),
    ],
)
def test_optimisers_are_those_of_optax(spec, name, reference):
    """Five steps, layer by layer, optax minimising with the gradient −Δ; W, b and Q."""
    rules = learning(spec({f"model.projections.{of}.optimizer": name for of in "WQ"}))
    weights = circuit(random_weights((4, 5, 5, 3), biases=True))
    state = rules.begin(weights)
    layers = [("W", 0.3, 0), ("W", 0.2, 1), ("W", 0.1, 2), ("Q", 0.05, 0), ("Q", 0.04, 1)]
    layers += [("b", 0.3, 0), ("b", 0.2, 1), ("b", 0.1, 2)]
    optimisers = [reference(rate) for _, rate, _ in layers]
    states = [
        o.init(weights[letter][i]) for o, (letter, _, i) in zip(optimisers, layers, strict=True)
    ]
    arrays = [weights[letter][i] for letter, _, i in layers]
    for step in range(5):
        change = jax.tree.map(lambda w, k=step: draws(30 + k, *w.shape), weights)
        weights, state = rules.step(weights, change, state, jnp.array(1.0))
        for k, (letter, _, i) in enumerate(layers):
            update, states[k] = optimisers[k].update(-change[letter][i], states[k])
            arrays[k] = arrays[k] + update
    for array, (letter, _, i) in zip(arrays, layers, strict=True):
        np.testing.assert_allclose(weights[letter][i], array, rtol=1e-13, atol=1e-15)


def test_schedules_scale_every_rate(spec):
    """Constant, falling in a line, falling by equal ratios: to `final` at the end of the stage."""
    progress = np.array([0, 0.25, 0.5, 1])
    for kind, factors in {
        "constant": [1, 1, 1, 1],
        "linear": [1, 0.775, 0.55, 0.1],
        "exponential": [1, 0.1**0.25, 0.1**0.5, 0.1],
    }.items():
        final = {} if kind == "constant" else {"schedule.final": 0.1}
        rules = learning(spec({"schedule.kind": kind} | final))
        found = [float(rules.moment(jnp.asarray(p)).factor) for p in progress]
        np.testing.assert_allclose(found, factors, rtol=1e-14, err_msg=kind)


def test_turns_go_from_the_top_down_in_equal_shares(spec):
    rules = learning(spec({"stages.0.order": "top-down"}))
    turns = [rules.moment(jnp.asarray(p / 10)).turn.tolist() for p in range(10)]
    assert turns == [[0, 1]] * 5 + [[1, 0]] * 5


@pytest.mark.long
def test_depth_compensation_undoes_the_attenuation(spec):
    """((1−μ)/μ)^(L+1−i) times the signal of layer i [T 6.19], of W and b alike."""
    net, weights = network((4, 5, 5, 3)), random_weights((4, 5, 5, 3), biases=True)
    x, y = draws(11, 6, 4), draws(12, 6, 3)
    posts = "(soma - basal_rate)", "((soma - basal_rate)/attenuation)"
    specs = [spec({"model.projections.W.post": f"slope(basal)*{post}"}) for post in posts]
    dynamics = assembly.dynamics(specs[0].model)
    _, readout = settled(dynamics, net, weights, x, y, "following")
    phase, key = Phase("learning", 0.0, True, "following", ("W",)), jax.random.key(0)
    both = []
    for each in specs:
        rules, own = learning(each), circuit(weights)
        given = dynamics, net, own, x, y, readout, (), key, rules.moment(jnp.array(0.0)), phase, {}
        both.append(dynamics.chain(rules.change(*given)))
    for i in (1, 2, 3):
        factor = 4.0 ** (4 - i)
        np.testing.assert_allclose(both[1].W[i - 1], factor * both[0].W[i - 1], rtol=1e-13)
        np.testing.assert_allclose(both[1].b[i - 1], factor * both[0].b[i - 1], rtol=1e-13)
        assert np.abs(both[0].W[i - 1]).max() > 0


def test_a_presentation_moves_weights_by_rate_times_schedule_times_change(spec):
    """Engine level: at presentation p of a stage that began at `first`, by layer, W, b and Q."""
    chosen = spec({"schedule.kind": "linear", "schedule.final": 0.5})
    engine = assembly.engine(chosen, chosen.stages[0], 10)
    weights = circuit(random_weights((4, 5, 5, 3), biases=True, q_noise=0.05))
    data = (draws(13, 20, 4), draws(14, 20, 3))
    orders = jnp.arange(20).reshape(1, 4, 5)
    for first, number in ((0, 0), (0, 7), (100, 105)):
        begin = engine.begin(jax.tree.map(lambda a: a[None], weights), number)
        states, _, change = engine.advance(
            begin,
            data,
            None,
            orders,
            jax.random.key(0)[None],
            jnp.int32(2),
            jnp.int32(3),
            jnp.int32(first),
        )
        factor = 1 - 0.5 * (number - first) / 10
        rates = {"W": (0.3, 0.2, 0.1), "b": (0.3, 0.2, 0.1), "Q": (0.05, 0.04)}
        for letter, of_layers in rates.items():
            arrays = weights[letter], states.weights[letter], change[letter]
            for rate, w, v, d in zip(of_layers, *arrays, strict=True):
                np.testing.assert_allclose(v[0], w + rate * factor * d[0], rtol=1e-12, atol=1e-15)
                assert np.abs(np.asarray(d)).max() > 1e-6
