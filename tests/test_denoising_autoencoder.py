"""The autoencoder without backprop of Lee et al. 2015, section 3.4, and tied weights that learn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import neurosim as ns
from neurosim.learning.draws import of_a_sign
from neurosim.reports.outline import in_words

RATE, SAMPLES = 1.0, 6


def protocol(data, **changes):
    given = {
        "precision": "float64",
        "model.layers": [5, 4, 5],
        "task": {"name": "arrays", "path": str(data), "standardise": False, "split_seed": 0},
        "batch": SAMPLES,
        "schedule": {"kind": "constant", "final": 1.0},
        "stages.0.epochs": None,
        "stages.0.presentations": 1,
        "record.samples": SAMPLES,
        "record.presentations": 1,
        "equilibrium.tolerance": 1e-12,
        "equilibrium.max_newton": 0,  # sweeps find this rest exactly
    }
    return ns.load_protocol("denoising-autoencoder-digits", given | changes)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("autoencoder") / "x.npz"
    x = np.random.default_rng(0).random((SAMPLES + 2, 5))
    np.savez(path, x=x[:-2], y=x[:-2], x_test=x[-2:], y_test=x[-2:])
    return path


@pytest.fixture(scope="module")
def learned(data, tmp_path_factory):
    """Weights before and after one presentation, and what cells said at the end of its phases."""
    out = tmp_path_factory.mktemp("runs") / "one.h5"
    ns.run(protocol(data), out=out, progress=False)
    with ns.open_trace(out) as trace:
        weights = {n: np.asarray(trace[f"weights/{n}"]) for n in ("W1", "b1", "V2", "c2", "E1")}
        said = {
            "x": np.asarray(trace["traces/input"])[0],
            "rate": np.asarray(trace["traces/layer1/rate"])[0],
            "sent": np.asarray(trace["traces/layer1/sent"])[0],
            "goal": np.asarray(trace["traces/layer1/goal"])[0],
            "seen": np.asarray(trace["traces/visible1/seen"])[0],
            "z": np.asarray(trace["traces/layer2/rate"])[0],
        }
    return weights, said


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


CLEAN, CORRUPTED = 0, 1


def slope(loss, *parameters):
    """−∂loss/∂ each of the parameters, by central differences."""
    found = []
    for k, p in enumerate(parameters):
        of = np.zeros_like(p)
        for at in np.ndindex(p.shape):
            ends = []
            for step in (1e-5, -1e-5):
                moved = [q.copy() for q in parameters]
                moved[k][at] += step
                ends.append(loss(*moved))
            of[at] = -(ends[0] - ends[1]) / 2e-5
        found.append(of)
    return found


def test_states_are_those_of_the_paper(learned):
    weights, said = learned
    W, b, c = (weights[n][0] for n in ("W1", "b1", "c2"))
    h = sigmoid(said["x"] @ W.T + b)
    np.testing.assert_allclose(said["rate"][:, CLEAN], h, atol=1e-11)
    noise = said["sent"][:, CLEAN] - h
    assert 0.1 < noise.std() < 0.6 and 0.1 < (said["seen"][:, CORRUPTED] - said["x"]).std() < 0.6
    z = sigmoid((h + noise) @ W + c)
    np.testing.assert_allclose(said["z"][:, CLEAN], z, atol=1e-11)
    np.testing.assert_allclose(said["seen"][:, CLEAN], said["x"], atol=1e-15)
    np.testing.assert_allclose(said["goal"][:, CLEAN], 2 * h - sigmoid(z @ W.T + b), atol=1e-11)


def test_one_step_goes_down_both_losses_of_the_paper(learned):
    """L_g = ‖g(h) − x‖² with h constant, and L_f = ‖f(x + ε) − ĥ‖² with ĥ constant [39–40]."""
    weights, said = learned
    W, b, c = (weights[n][0] for n in ("W1", "b1", "c2"))
    x, s = said["x"], said["sent"][:, CLEAN]
    noisy, goal = said["seen"][:, CORRUPTED], said["goal"][:, CLEAN]

    def decoder(W, c):
        return np.mean(np.sum((sigmoid(s @ W + c) - x) ** 2, axis=1))

    def encoder(W, b):
        return np.mean(np.sum((sigmoid(noisy @ W.T + b) - goal) ** 2, axis=1))

    (of_g, dc), (of_f, db) = slope(decoder, W, c), slope(encoder, W, b)
    assert min(np.abs(of_g).max(), np.abs(of_f).max(), np.abs(dc).max(), np.abs(db).max()) > 1e-3
    for name, change in (("W1", of_g + of_f), ("b1", db), ("c2", dc)):
        before, after = weights[name]
        np.testing.assert_allclose(after, before + RATE * change, atol=1e-10)
    np.testing.assert_array_equal(weights["V2"][1], weights["W1"][1].T)
    np.testing.assert_array_equal(weights["E1"][1], weights["W1"][1])


@pytest.mark.long
def test_what_tied_weights_learn_comes_back_by_the_chain_rule(data, learned, tmp_path):
    """V = 3 W^T hands on three times its own change, transposed; and no W opens but by V."""
    weights, _ = learned
    changes = {
        "model.projections.V.init": "3*transpose(W[i-1])",
        "stages.0.phases.1.plastic": [],
    }
    ns.run(protocol(data, **changes), out=tmp_path / "scaled.h5", progress=False)
    with ns.open_trace(tmp_path / "scaled.h5") as trace:
        W, c = np.asarray(trace["weights/W1"]), np.asarray(trace["weights/c2"])[0]
        x, s = np.asarray(trace["traces/input"])[0], np.asarray(trace["traces/layer1/sent"])[0]
    np.testing.assert_array_equal(W[0], weights["W1"][0])

    def decoder(W):
        return np.mean(np.sum((sigmoid(s[:, CLEAN] @ (3 * W) + c) - x) ** 2, axis=1))

    (change,) = slope(decoder, W[0])
    np.testing.assert_allclose(W[1], W[0] + RATE * change, atol=1e-9)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"model.projections.V.rate": 0.1},
            "projections.V.rate: tied weights learn at the rate of those that they follow; leave",
        ),
        (
            {"model.projections.W": {"post": None}, "stages.0.phases.1.plastic": []},
            "projections.V.post: what tied weights learn is learned by those that they follow, "
            "but W has no rule; give projections.W one",
        ),
        (
            {"model.projections.W.bias": False, "model.projections.V.bias": True},
            "projections.V.bias: biases of tied weights would have no rate; expected them of",
        ),
        ({"task.target": "label", "task.name": "digits"}, "target: got 'label'; expected class or"),
    ],
)
def test_what_cannot_be_tied_or_learned_is_said(data, changes, words):
    with pytest.raises(ns.InputError, match=words):
        protocol(data, **changes)


def test_who_learns_for_tied_weights_is_shown(data):
    report = ns.check(protocol(data), latex="-")
    assert {p["name"]: p["learned_by"] for p in report["circuit"]["projections"] if p["rule"]} == {
        "W": [], "V": ["W"], "c": [], "E": [],
    }  # fmt: skip
    lines = in_words(report["circuit"])
    assert any("learned by W, which they follow" in line for line in lines)
    assert r"\Delta V_{L} &= \left\langle" in report["latex"]
    assert "What $V$ would learn is learned, by the chain rule" in report["latex"]


def test_noise_that_cells_draw_is_finite():
    """Of this stream, 1 of 4096 uniform numbers is at the very end of float32's range."""
    drawn = of_a_sign(jax.random.key(2468), jnp.float32(0), jnp.float32(1), (4096,), jnp.float32)
    assert 3 < float(jnp.abs(drawn).max()) < 6  # beyond 6 lie 2e-9 of a Gaussian's numbers
