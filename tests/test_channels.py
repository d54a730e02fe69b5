"""The learning channel against its formulas, written with NumPy (Baldi, Sadowski & Lu 2018)."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from quantizing import quantized

from neurosim.credit import CREDITS
from neurosim.credit.channel import Passage
from neurosim.functions.activations import Sigmoid, Tanh
from neurosim.functions.losses import Loss
from neurosim.functions.quantization import Quantizer
from neurosim.models.initialisers import feedback_weights
from neurosim.networks.dynamics import Readout
from neurosim.networks.network import Network, Weights
from neurosim.plasticity.redrawing import Redrawing

pytestmark = pytest.mark.usefixtures("double_precision")

SIZES = (4, 6, 5, 7, 3)
DEPTH = len(SIZES) - 1
LABEL = np.array([0.2, 0.9, 0.4])


@pytest.fixture
def network():
    """With a slope at the output too, which no channel leaves out there."""
    activations = (*[Tanh()] * (DEPTH - 1), Sigmoid())
    return Network(SIZES, activations, "inverse", Loss("half-squared", "linear"))


def forward_weights(rng):
    return [rng.standard_normal((n, m)) / np.sqrt(m) for m, n in pairwise(SIZES)]


def channel_weights(wiring, rng):
    above = {"layers": SIZES[2:], "direct": [SIZES[-1]] * (DEPTH - 1)}[wiring]
    return [rng.standard_normal((n, m)) for n, m in zip(SIZES[1:-1], above, strict=True)]


def passed(W, x):
    """Activities and slopes of every layer."""
    rates, slopes, h = [], [], x
    for i, w in enumerate(W, start=1):
        a = w @ h
        h = np.tanh(a) if i < DEPTH else 1 / (1 + np.exp(-a))
        rates.append(h)
        slopes.append(1 - h**2 if i < DEPTH else h * (1 - h))
    return rates, slopes


def taught(name, network, W, Q, x, passage=None):
    """The teaching that a credit brings to every layer."""
    rates, slopes = passed(W, x)
    now = Readout(tuple(map(jnp.asarray, rates)), tuple(map(jnp.asarray, slopes)), ())
    weights = Weights(tuple(map(jnp.asarray, W)), (), tuple(map(jnp.asarray, Q)))
    more = () if passage is None else (passage,)
    found = CREDITS[name].assign(network, weights, now, jnp.asarray(LABEL), 1.0, *more)
    return [np.asarray(t) for t in found]


def products(W):
    """W_{i+1}^T … W_L^T of every hidden layer."""
    found = [np.eye(SIZES[-1])]
    for w in reversed(W[1:]):
        found.insert(0, w.T @ found[0])
    return found[:-1]


def by_hand(name, W, Q, x, slope=True, quantizer=lambda signal: signal):
    """[B 4, 7, 17]: J_i from R_{i+1} or from R_L, the top of it −∂ℓ/∂h_L."""
    rates, slopes = passed(W, x)
    D = [d if slope else np.ones_like(d) for d in slopes]
    top = LABEL - rates[-1]
    R = slopes[-1] * top
    teaching = {DEPTH: top if slope else R}
    for i in range(DEPTH - 1, 0, -1):
        match name:
            case "backprop":
                J = W[i].T @ R
            case "sbp":
                J = products(W)[i - 1] @ R
            case _:
                J = Q[i - 1] @ R
        teaching[i] = quantizer(J)
        if name in ("backprop", "rbp", "arbp"):
            R = D[i - 1] * teaching[i]
    return [teaching[i] for i in range(1, DEPTH + 1)]


NAMES = ("backprop", "sbp", "rbp", "srbp", "arbp", "asrbp")


def drawn_for(name, seed=0):
    rng = np.random.default_rng(seed)
    wiring = CREDITS[name].wiring
    W = forward_weights(rng)
    Q = [] if wiring == "none" else channel_weights(wiring, rng)
    return W, Q, rng.standard_normal(SIZES[0])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("slope", [True, False])
@pytest.mark.parametrize("bits", [None, 3])
def test_a_channel_is_its_formula(network, name, slope, bits):
    W, Q, x = drawn_for(name)
    quantizer = None if bits is None else Quantizer(3.0, 0.25)
    found = taught(name, network, W, Q, x, Passage(slope, quantizer))
    how = {} if bits is None else {"quantizer": quantized}
    for a, b in zip(found, by_hand(name, W, Q, x, slope, **how), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)


def test_backprop_is_the_gradient(network):
    W, _, x = drawn_for("backprop")

    def loss(W):
        answer = network.forward_pass(Weights(W, (), ()), jnp.asarray(x))[-1]
        return network.loss(answer, jnp.asarray(LABEL))

    gradient = jax.grad(loss)(tuple(map(jnp.asarray, W)))
    rates, slopes = passed(W, x)
    teaching = taught("backprop", network, W, [], x)
    for g, t, d, below in zip(gradient, teaching, slopes, [x, *rates], strict=False):
        np.testing.assert_allclose(-np.outer(d * t, below), g, rtol=1e-10, atol=1e-14)


def test_random_weights_that_are_transposes_make_it_backprop(network):
    W, _, x = drawn_for("backprop")
    for random, plain, Q in (
        ("rbp", "backprop", [w.T for w in W[1:]]),
        ("srbp", "sbp", products(W)),
    ):
        pairs = zip(taught(random, network, W, Q, x), taught(plain, network, W, [], x), strict=True)
        for a, b in pairs:
            np.testing.assert_allclose(a, b, rtol=1e-12)


def test_quantized_numbers_are_signs_and_powers_of_two():
    x = np.array([0.0, 1.0, -9.0, 0.25, -0.13, 0.17, 0.18, 1e-9])
    for dtype in ("float32", "float64"):
        found = np.asarray(Quantizer(3.0, 0.25)(jnp.asarray(x, dtype)))
        # the border between 1/8 and 1/4 is 1/4/√2 = 0.1768; the least is 2⁻²/4
        np.testing.assert_array_equal(found, [0, 0.25, -0.25, 0.25, -0.125, 0.125, 0.25, 0.0625])
    one_bit = np.asarray(Quantizer(1.0, 0.25)(jnp.asarray(x)))
    np.testing.assert_array_equal(one_bit, 0.25 * np.sign(x))


@pytest.mark.parametrize("name", ["backprop", "srbp"])
def test_what_the_channel_drops_is_made_up_for_on_average(network, name):
    W, Q, x = drawn_for(name)
    whole = taught(name, network, W, Q, x)
    rates, slopes = (tuple(map(jnp.asarray, of)) for of in passed(W, x))
    weights = Weights(tuple(map(jnp.asarray, W)), (), tuple(map(jnp.asarray, Q)))

    def one(key):
        passage = Passage(dropout=0.4, key=key)
        now = Readout(rates, slopes, ())
        return CREDITS[name].assign(network, weights, now, jnp.asarray(LABEL), 1.0, passage)

    found = jax.vmap(one)(jax.random.split(jax.random.key(0), 4000))
    np.testing.assert_allclose(found[-1], np.tile(whole[-1], (4000, 1)))  # the output hears all
    highest = np.asarray(found[-2])
    kept = highest != 0
    np.testing.assert_allclose(highest[kept], (kept * whole[-2] / 0.6)[kept], rtol=1e-12)
    assert abs(kept.mean() - 0.6) < 4 * np.sqrt(0.24 / kept.size)
    for signal, expected in zip(found, whole, strict=True):
        error = np.asarray(signal).std(axis=0) / np.sqrt(4000)
        assert (np.abs(np.asarray(signal).mean(axis=0) - expected) <= 4.5 * error + 1e-12).all()


# ------------------------------------------------------------------------- weights of the channel


def test_sparse_weights_are_so_many_a_column():
    rng = np.random.default_rng(0)
    W = [rng.standard_normal((200, 50)), rng.standard_normal((4000, 200))]
    (Q,) = feedback_weights("random", W, 0.5, rng, "direct", sparse=3)
    assert set(np.unique(Q)) == {0.0, 0.5} and Q.shape == (200, 4000)
    columns = np.count_nonzero(Q, axis=0)
    assert abs(columns.mean() - 3) < 4 * np.sqrt(3 * (1 - 3 / 200) / 4000)


@pytest.mark.parametrize(("kind", "variance"), [("random", 1 / 300), ("xavier", 2 / 700)])
def test_random_weights_have_their_variance(kind, variance):
    rng = np.random.default_rng(0)
    W = [rng.standard_normal((400, 20)), rng.standard_normal((300, 400))]
    (Q,) = feedback_weights(kind, W, 2.0, rng)
    assert Q.var() == pytest.approx(4 * variance, rel=4 * np.sqrt(2 / Q.size))


def test_congruent_weights_have_the_signs_of_the_way_up():
    rng = np.random.default_rng(0)
    W = forward_weights(rng)
    ways = {"layers": [w.T for w in W[1:]], "direct": products(W)}
    for wiring, expected in ways.items():
        made = feedback_weights("random", W, 1.0, rng, wiring, congruent=True)
        for q, way in zip(made, expected, strict=True):
            np.testing.assert_array_equal(np.sign(q), np.sign(way))


def test_redrawn_weights_follow_the_law_of_the_start():
    rng = np.random.default_rng(0)
    W = tuple(map(jnp.asarray, [rng.standard_normal((300, 9)), rng.standard_normal((400, 300))]))
    weights = Weights(W, (), (jnp.zeros((300, 400)),))
    key = jax.random.key(3)
    (Q,) = Redrawing("layers", "random", 2.0, None, True)(weights, key)
    np.testing.assert_array_equal(np.sign(Q), np.sign(W[1].T))
    assert np.mean(Q**2) == pytest.approx(4 / 400, rel=4 * np.sqrt(2 / Q.size))
    (other,) = Redrawing("layers", "random", 2.0, None, True)(weights, jax.random.key(4))
    assert np.mean(np.asarray(Q) == np.asarray(other)) < 1e-3
    (sparse,) = Redrawing("layers", "random", 1.0, 30, False)(weights, key)
    assert set(np.unique(sparse)) == {0.0, 1.0}
    assert np.mean(sparse) == pytest.approx(0.1, abs=4 * np.sqrt(0.09 / Q.size))
