"""Units that are 1 or 0, by sign or by chance, and what learns below them [Lee et al. 2015]."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import neurosim as ns
from neurosim.building import assembly, ingredients
from neurosim.functions.activations import Bernoulli, Sign
from neurosim.levels.simulator import Batch

SIZES = [3, 40, 5, 4]
SAMPLES = 400
TASK = {"name": "student-teacher", "layers": [3, 4], "train": 4, "test": 4}


def protocol(model, **changes):
    given = {
        "model.use": model,
        "model.layers": SIZES,
        "model.output": "linear",
        "model.loss": "half-squared",
        "precision": "float32",
        "task": TASK,
        "batch": 4,
        "stages.0.epochs": 1,
        "record.presentations": 0,
    }
    return ns.load_protocol("backprop-digits", given | changes)


def engine_of(made, samples=SAMPLES):
    spec = made.spec
    weights = ingredients.weights(spec.model, 0, None, None)
    rng = np.random.default_rng(1)
    x = np.tile(rng.standard_normal((1, 3)), (samples, 1))
    batch = Batch(x, np.zeros((samples, 4)), np.arange(samples))
    one = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32)[None], (dict(weights), batch))
    batch = one[1]._replace(ids=jnp.arange(samples)[None])
    weights = {name: tuple(arrays) for name, arrays in one[0].items()}
    engine = assembly.engine(spec, spec.stages[0], 10)
    return engine, weights, batch


def passed(engine, weights, batch, seed=0):
    return _passed(engine, weights, batch, jax.random.key(seed)[None])


@eqx.filter_jit
def _passed(engine, weights, batch, keys):
    states = engine.begin(weights, 0, 1)
    moment = engine._moments(states, keys, jnp.int32(0))[1]
    return engine._run_phases(weights, batch, keys, moment)[1][0].readout


# ------------------------------------------------------------------------------- what units say


def test_a_sign_is_one_or_zero():
    a = jnp.array([-2.0, -1e-30, 0.0, 1e-30, 3.0])
    assert Sign()(a).tolist() == [0, 0, 0, 1, 1]


@pytest.fixture(scope="module")
def stochastic():
    return engine_of(protocol("stochastic-binary"))


def test_stochastic_units_are_one_as_often_as_the_sigmoid_says(stochastic):
    engine, weights, batch = stochastic
    readout = passed(engine, weights, batch)
    found = np.asarray(readout.of["layer1.rate"][0])
    assert set(np.unique(found)) == {0.0, 1.0}
    p = 1 / (1 + np.exp(-np.asarray(weights["W"][0][0] @ batch.x[0, 0])))
    # 40 units: the largest of as many deviations from the mean stays below five of its deviations.
    assert np.all(np.abs(found.mean(0) - p) < 5 * np.sqrt(p * (1 - p) / SAMPLES))
    # Samples and units draw for themselves: the variance of a sum is the sum of variances.
    variance = found.sum(1).var()
    assert variance == pytest.approx(np.sum(p * (1 - p)), rel=0.35)


def test_a_draw_belongs_to_its_sample_whatever_batch_it_comes_in(stochastic):
    engine, weights, batch = stochastic
    whole = passed(engine, weights, batch).of["layer1.rate"][0]
    few = jax.tree.map(lambda a: a[:, 100:103], batch)
    assert np.array_equal(passed(engine, weights, few).of["layer1.rate"][0], whole[100:103])
    other = passed(engine, weights, few, seed=1).of["layer1.rate"][0]
    assert not np.array_equal(other, whole[100:103])


def test_moving_neurons_come_to_rest_at_the_same_draw(stochastic):
    engine, weights, batch = stochastic
    few = jax.tree.map(lambda a: a[:, :8], batch)
    moving = protocol("stochastic-binary", level="rate")
    found = passed(engine_of(moving)[0], weights, few)
    still = passed(engine, weights, few)
    # Within 600 ms, 30 time constants: to 1e-13 of where they rest, or to their settling criterion.
    assert np.array_equal(found.of["layer1.rate"], still.of["layer1.rate"])
    np.testing.assert_allclose(found.rate[-1], still.rate[-1], atol=2e-2)


def test_tests_average_probabilities_over_draws():
    given = {"model.output": "softmax", "model.loss": "cross-entropy", "test_draws": 2000}
    made = protocol("stochastic-binary", **given, **{"model.layers": [3, 1, 4]})
    engine, weights, batch = engine_of(made, samples=2)
    label = jnp.zeros((1, 2, 4)).at[..., 1].set(1)
    keys = jax.random.key(0)[None]
    loss, _, _ = engine.evaluate(weights, (batch.x, label), 0, keys)
    W1, W2 = (np.asarray(w[0], float) for w in weights["W"])
    p = 1 / (1 + np.exp(-(W1 @ np.asarray(batch.x[0, 0]))[0]))
    fired = np.exp(W2[:, 0]) / np.exp(W2[:, 0]).sum()
    expected = p * fired[1] + (1 - p) / 4
    error = abs(fired[1] - 0.25) * np.sqrt(p * (1 - p) / 4000) / expected
    assert abs(float(loss[0]) + np.log(expected)) < 5 * error


# ----------------------------------------------------------------------------- what is learned


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


@pytest.mark.parametrize("model", ["discrete-transmission", "stochastic-binary"])
def test_one_step_is_that_of_the_paper(model):
    """Equations 28–36, from the draws that were made, layer by layer from the bottom up."""
    step, rate = 2.0, 0.1
    changes = {
        "model.target_step": step,
        "model.projections.W.optimizer": "sgd",
        "model.projections.W.rate": rate,
        "stages.0.phases.0.plastic": ["forward"],
    }
    engine, weights, batch = engine_of(protocol(model, **changes), samples=6)
    x = np.random.default_rng(2).standard_normal((1, 6, 3))
    y = np.random.default_rng(3).standard_normal((1, 6, 4))
    batch = batch._replace(x=jnp.asarray(x, jnp.float32), y=jnp.asarray(y, jnp.float32))
    keys = jax.random.key(0)[None]
    states = engine.begin(weights, 0, 1)
    after = eqx.filter_jit(engine._present)(states, batch, keys, jnp.int32(0))[0].weights
    readout = _passed(engine, weights, batch, jax.vmap(jax.random.fold_in)(keys, jnp.array([0])))
    W = [np.asarray(w[0], float) for w in weights["W"]]
    b = [np.zeros(len(w)) for w in W]
    Q = np.asarray(weights["Q"][0][0], float)
    discrete = model == "discrete-transmission"
    u = [None if discrete else np.asarray(readout.of[f"layer{i}.rand"][0]) for i in (1, 2)]

    def activity(a):
        return np.tanh(a) if discrete else sigmoid(a)

    def slope(h):
        return 1 - h**2 if discrete else h * (1 - h)

    def sent(k, h):  # of hidden layer k
        if discrete:
            return (h > 0) * 1.0 if k == 0 else h
        return (u[k] < h) * 1.0

    def down(h):
        return np.tanh(((h > 0) * 1.0 if discrete else h) @ Q.T)

    h1 = activity(x[0] @ W[0].T)
    h2 = activity(sent(0, h1) @ W[1].T)
    e = sent(1, h2) @ W[2].T - y[0]
    t2 = h2 - step * e @ W[2]
    target = [h1 + down(t2) - down(h2), t2]
    below = x[0]
    for k in (0, 1):
        h = activity(below @ W[k].T)
        d = slope(h) * (target[k] - h)
        W[k] = W[k] + rate * d.T @ below / 6
        b[k] = b[k] + rate * d.mean(0)
        below = sent(k, activity(below @ W[k].T + b[k]))
    old = sent(1, h2) @ W[2].T - e  # the label, to which the output moves from where it is now
    W[2] = W[2] + rate * (old - below @ W[2].T).T @ below / 6
    for found, expected in zip(after["W"], W, strict=True):
        np.testing.assert_allclose(found[0], expected, atol=2e-6)


def test_maps_learn_from_noisy_activity_through_discrete_layers():
    """Equation 32: −∂/∂Q ½‖tanh(Q sign(f(h + ε))) − (h + ε)‖², by differences."""
    from neurosim.plasticity.signals import apical_delta, noisy_reconstruction

    engine, weights, batch = engine_of(protocol("discrete-transmission"), samples=5)
    readout = jax.tree.map(lambda a: a[0], passed(engine, weights, batch))
    network, chain = engine.network, engine.dynamics.chain(jax.tree.map(lambda a: a[0], weights))
    now, key = engine.dynamics.layers(network, readout), jax.random.key(4)
    (signal,) = noisy_reconstruction(network, chain, now, 0.3, key)
    h1 = np.asarray(readout.of["layer1.rate"], float)
    noisy = np.asarray(signal.actual, float)
    assert 0.1 < np.std(noisy - h1) < 0.5
    f = np.tanh((noisy > 0) @ np.asarray(chain.W[1], float).T)
    pre, Q = (f > 0) * 1.0, np.asarray(chain.Q[0], float)

    def loss(Q):
        return 0.5 * np.mean(np.sum((np.tanh(pre @ Q.T) - noisy) ** 2, axis=1))

    found = np.asarray(apical_delta(signal, chain.Q[0], 0.0))
    for at in ((0, 0), (7, 3), (39, 4)):
        moved = np.zeros_like(Q)
        moved[at] = 1e-5
        expected = -(loss(Q + moved) - loss(Q - moved)) / 2e-5
        assert found[at] == pytest.approx(expected, abs=2e-6)


def test_a_poisson_neuron_is_a_stochastic_unit():
    from neurosim.levels.spiking import transfer

    a = np.linspace(-3, 3, 7)
    said = {"exp": np.exp, "int": lambda c: c * 1.0, "a": a}
    for unit in (Bernoulli(), Sign()):
        assert transfer.known(unit)
        assert np.allclose(eval(transfer.transfer(unit, "a"), said), unit(jnp.asarray(a)))
        slope = eval(transfer.derivative(unit, "a"), said)
        assert np.allclose(slope, unit.derivative(jnp.asarray(a)))


# ------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("model", "changes", "words"),
    [
        ("target-propagation", {"model.activation": "sign"}, "has no inverse.*or set form"),
        ("target-propagation", {"model.output_activation": "bernoulli"}, "has no inverse"),
        ("backprop", {"model.activation": "sign"}, "'sign' is flat, and the rule of W multipl"),
        (
            "stochastic-binary",
            {"model.credit.decoder": "sign"},
            "'sign' is flat, and 'noisy-reconstruction' multiplies.*such as 'tanh'",
        ),
        (
            "stochastic-binary",
            {"model.credit.encoder": "bernoulli"},
            "'bernoulli' draws.*expected such as 'sigmoid'",
        ),
        (
            "target-propagation",
            {"model.credit.encoder": "sign"},
            "dtp-ai has none; expected with a credit of the autoencoder form",
        ),
        (
            "stochastic-binary",
            {
                "plasticity": "online",
                "model.credit": "backprop",
                "level": "rate",
                "model.projections.W.rate": "1 Hz",
                "model.projections.W.optimizer": "sgd",
            },
            "'bernoulli' draws once.*use 'sigmoid', its mean",
        ),
        (
            "backprop",
            {"level": "spiking", "test_draws": 3},
            "test_draws: the spiking level draws spikes",
        ),
    ],
)
def test_what_binary_units_cannot_do_is_said(model, changes, words):
    start = {"model.projections.W.init": "orthogonal"}
    with pytest.raises(ns.InputError, match=words):
        protocol(model, **{**start, **changes})
