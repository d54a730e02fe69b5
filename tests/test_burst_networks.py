"""Burst-dependent rate networks: closed forms, gradients, and the same in events and bursts.

Payeur et al. 2021 (burstprop) and Greedy et al. 2022 (burst-ccn). What is computed here in NumPy is
written from the papers' equations, layer by layer, and knows nothing of the model files.
"""

from pathlib import Path

import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_circuits import settled

import neurosim as ns
from neurosim.building import assembly
from neurosim.building.loading import load_model
from neurosim.circuits.populations import Group
from neurosim.networks.dynamics import Target

SIZES = [5, 6, 4, 3]
LAYERS = range(1, len(SIZES))
HIDDEN, OUTPUT = LAYERS[:-1], LAYERS[-1]
MODELS = ["burst-ccn", "burst-ccn-learned", "burst-ccn-symmetric", "burstprop"]
MODELS += ["burstprop-averages", "burstprop-learned", "burstprop-softmax"]

PROTOCOL = """
name = "bursts"
level = "equilibrium"
precision = "float64"
batch = 8
shuffle = false
[model]
use = "{model}"
layers = {layers}
projections.W.rate = 0.5
[task]
name = "arrays"
path = "{data}"
[[stages]]
name = "training"
presentations = 1
[[stages.phases]]
name = "prediction"
duration = "1 s"
[[stages.phases]]
name = "teaching"
duration = "1 s"
teaching = "clamped"
plastic = {plastic}
[record]
presentations = 0
[rate]
dt = "5 ms"
[equilibrium]
tolerance = 1e-12
max_newton = 0
"""


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def place(layer):
    return Group("output" if layer == OUTPUT else "pyramidal", layer)


@pytest.fixture
def made(tmp_path):
    """Runs one presentation of eight samples, or more; returns (weights before, after, x, y)."""

    def of(model, plastic=("W",), layers=SIZES, y=None, **changes):
        rng = np.random.default_rng(0)
        x = rng.standard_normal((8, layers[0]))
        y = rng.integers(0, 2, (8, layers[-1])).astype(float) if y is None else y
        np.savez(tmp_path / "data.npz", x=x, y=y, x_test=x, y_test=y)
        text = PROTOCOL.format(
            model=model, layers=layers, data=tmp_path / "data.npz", plastic=list(plastic)
        )
        (tmp_path / "bursts.toml").write_text(text)
        protocol = ns.load_protocol(tmp_path / "bursts.toml", changes)
        run = ns.run(protocol, out=tmp_path / "run.h5", force=True)
        with h5py.File(run.path) as file:
            names = [name for name in file["weights"] if name[1:].isdigit()]
            weights = {name: file[f"weights/{name}"][()] for name in names}
        before, after = ({name: w[k] for name, w in weights.items()} for k in (0, -1))
        return before, after, x, y

    return of


def events(weights, x, output=sigmoid):
    """e of every layer, the input first, of samples in rows."""
    e = [x]
    for i in LAYERS:
        basal = e[-1] @ weights[f"W{i}"].T + weights[f"b{i}"]
        e.append(output(basal) if i == OUTPUT else sigmoid(basal))
    return e


# ------------------------------------------------------------------------------ burst probability


@pytest.mark.usefixtures("double_precision")
@pytest.mark.parametrize(
    ("model", "p_b"), [("burst-ccn", 0.5), ("burst-ccn", 0.2), ("burstprop", 0.5)]
)
def test_bursts_at_rest_are_a_feedback_pass(model, p_b):
    """e = σ(W e + b); b = p e; p of hidden layers in closed form of what comes from above."""
    spec = load_model(model, {"layers": SIZES, "parameters.p_b": p_b})
    own = assembly.weights(spec, 0, None, Path())
    x, y = np.random.default_rng(1).standard_normal(SIZES[0]), np.array([1.0, 0.0, 1.0])
    now, _ = settled(spec, own, jnp.asarray(x), Target("fixed", value=jnp.asarray(y)))
    e = [x]
    for i in LAYERS:
        e.append(sigmoid(own["W"][i - 1] @ e[-1]))
    p = p_b + p_b * (y - e[-1]) * (1 - e[-1])
    np.testing.assert_allclose(now(place(OUTPUT), "burst_probability"), p, rtol=1e-12)
    for i in reversed(HIDDEN):
        apical = (1 - e[i]) * (own["Y"][i - 1] @ (p * e[i + 1]))
        if model.startswith("burst-ccn"):
            apical -= (1 - e[i]) * (own["Q"][i - 1] @ e[i + 1])
            p = sigmoid(apical / (p_b * (1 - p_b)) + np.log(p_b / (1 - p_b)))
        else:
            p = sigmoid(apical)
        np.testing.assert_allclose(now(place(i), "event_rate"), e[i], rtol=1e-12)
        np.testing.assert_allclose(now(place(i), "apical"), apical, rtol=1e-9, atol=1e-13)
        np.testing.assert_allclose(now(place(i), "burst_probability"), p, rtol=1e-10)
        np.testing.assert_allclose(now(place(i), "burst_rate"), p * e[i], rtol=1e-10)


@pytest.mark.parametrize("model", MODELS)
def test_an_event_is_a_burst_with_the_burst_probability(model):
    """What the neurons make of the burst signal p − p_b is p itself, and of e is proportional."""
    spec = load_model(model)
    assert spec.spiking.base_probability == spec.parameters["p_b"]
    assert spec.spiking.probability_gain == 1
    assert spec.spiking.base_rate + spec.spiking.gain <= spec.spiking.max_rate


# --------------------------------------------------------------------------------------- BurstCCN


@pytest.mark.usefixtures("double_precision")
@pytest.mark.parametrize(("p_b", "order"), [(0.5, 2), (0.2, 1)])
def test_with_symmetric_feedback_small_errors_are_the_gradient(p_b, order):
    """(b − p_b e) → −p_b ∂½‖e_L − y‖²/∂v as y → e_L, in every layer; in the output exactly.

    Where σ is odd about its middle, p_b = ½, the deviation falls with the square of the error.
    """
    spec = load_model("burst-ccn-symmetric", {"layers": SIZES, "parameters.p_b": p_b})
    own = assembly.weights(spec, 0, None, Path())
    x = jnp.asarray(np.random.default_rng(1).standard_normal(SIZES[0]))

    def answer(pushed):
        e = x
        for W, push in zip(own["W"], pushed, strict=True):
            e = jax.nn.sigmoid(W @ e + push)
        return e

    still = [jnp.zeros(n) for n in SIZES[1:]]
    deviations = {i: [] for i in HIDDEN}
    for error in (1.0, 0.1, 0.01):
        label = answer(still) + error * jnp.asarray([0.3, -0.2, 0.5])
        now, _ = settled(spec, own, x, Target("fixed", value=label), 1e-15)
        gradient = jax.grad(lambda v, y=label: 0.5 * jnp.sum((answer(v) - y) ** 2))(still)
        for i in LAYERS:
            taught = now(place(i), "burst_signal") * now(place(i), "event_rate")
            expected = -p_b * gradient[i - 1]
            off = jnp.linalg.norm(taught - expected) / jnp.linalg.norm(expected)
            if i == OUTPUT:
                assert off < 1e-12 / error
            else:
                deviations[i].append(float(off))
    for found in deviations.values():
        assert found[0] < 0.1
        np.testing.assert_allclose(np.divide(found[:-1], found[1:]), 10**order, rtol=0.2)


def given(scale):
    """Event feedback that is p_b Y, times a factor."""
    return {"model.projections.Q": {"init": f"{scale}*p_b*Y[i]", "rule": "fixed"}}


def test_where_feedback_cancels_nothing_is_learned_without_a_teacher(made):
    """Q = p_b Y: no burst too many; and where Q is another, there are."""
    untaught = {"stages.0.phases.1.teaching": "none"}
    before, after, *_ = made("burst-ccn", **untaught, **given(1.0))
    assert max(np.abs(after[name] - before[name]).max() for name in before) < 1e-15
    before, after, *_ = made("burst-ccn", **untaught, **given(0.9))
    assert min(np.abs(after[f"W{i}"] - before[f"W{i}"]).max() for i in HIDDEN) > 1e-3
    assert np.abs(after["W3"] - before["W3"]).max() < 1e-15


def test_event_feedback_learns_to_cancel_bursts(made):
    """Of one hidden layer Q − p_b Y is multiplied by I − η ⟨e eᵀ⟩ in every presentation."""
    changes = {"stages.0.phases.1.teaching": "none", "stages.0.presentations": 40}
    layers = [5, 6, 3]
    before, after, x, _ = made(
        "burst-ccn", ["Q"], layers, **changes, **{"model.projections.Q.rate": 0.4}
    )
    e = sigmoid(sigmoid(x @ before["W1"].T) @ before["W2"].T)
    step = np.eye(3) - 0.4 * e.T @ e / len(e)
    expected = (before["Q1"] - 0.5 * before["Y1"]) @ np.linalg.matrix_power(step, 40)
    found = after["Q1"] - 0.5 * after["Y1"]
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-12)
    driven = [np.linalg.norm(w @ e.T) for w in (before["Q1"] - 0.5 * before["Y1"], found)]
    assert driven[1] < 0.1 * driven[0]  # where event rates hardly go, Q stays what it was


def test_bursts_learn_to_cancel_events_by_the_opposite_rule(made):
    """ΔY = −η_Y ⟨(Y b − Q e) bᵀ⟩ beside ΔQ, both where nothing is taught, so that b = p_b e.

    Of one hidden layer Q − p_b Y is multiplied by I − (η_Q + p_b² η_Y) ⟨e eᵀ⟩ in every
    presentation, and p_b η_Y Q + η_Q Y stays.
    """
    of_q, of_y, p_b, layers = 0.2, 0.6, 0.5, [5, 6, 3]
    changes = {
        "stages.0.phases.1.teaching": "none",
        "stages.0.presentations": 40,
        "model.projections.Q.rate": of_q,
        "model.projections.Y.post": "-drive",
        "model.projections.Y.rate": of_y,
    }
    before, after, x, _ = made("burst-ccn", ["Q", "Y"], layers, **changes)
    e = sigmoid(sigmoid(x @ before["W1"].T) @ before["W2"].T)
    step = np.eye(3) - (of_q + p_b**2 * of_y) * e.T @ e / len(e)
    expected = (before["Q1"] - p_b * before["Y1"]) @ np.linalg.matrix_power(step, 40)
    np.testing.assert_allclose(after["Q1"] - p_b * after["Y1"], expected, rtol=1e-8, atol=1e-12)
    kept = [p_b * of_y * w["Q1"] + of_q * w["Y1"] for w in (before, after)]
    np.testing.assert_allclose(*kept, rtol=1e-12, atol=1e-14)
    assert np.abs(after["Y1"] - before["Y1"]).max() > 0.1


# -------------------------------------------------------------------------------------- burstprop


def probabilities(weights, e, top):
    """p of the hidden layers, the lowest first, with that of the output, of samples in rows."""
    p = [top]
    for i in reversed(HIDDEN):
        p.insert(0, sigmoid((1 - e[i]) * ((p[0] * e[i + 1]) @ weights[f"Y{i}"].T)))
    return p


def softmax(a):
    shifted = np.exp(a - a.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("model", ["burstprop", "burstprop-softmax"])
def test_weights_move_by_bursts_against_those_predicted(model, made):
    """ΔW = η ⟨(b − p̄ e) eᵀ⟩ with p̄ the burst probability before the teacher speaks."""
    before, after, x, y = made(model)
    e = events(before, x, softmax if model == "burstprop-softmax" else sigmoid)
    pull = np.tanh((y - e[-1]) / e[-1]) if model == "burstprop-softmax" else (y - e[-1])
    pull = pull if model == "burstprop-softmax" else pull * (1 - e[-1])
    predicted = probabilities(before, e, np.full_like(y, 0.5))
    taught = probabilities(before, e, 0.5 + 0.5 * pull)
    for i in LAYERS:
        post = (taught[i - 1] - predicted[i - 1]) * e[i]
        expected = 0.5 * post.T @ e[i - 1] / len(x)
        np.testing.assert_allclose(after[f"W{i}"] - before[f"W{i}"], expected, rtol=1e-8)
        np.testing.assert_allclose(after[f"b{i}"] - before[f"b{i}"], 0.5 * post.mean(0), rtol=1e-8)


def test_synapses_grow_onto_what_bursts_more(made):
    """A teacher who asks for more of all makes all weights of the output grow; for less, shrink."""
    for label, sign in ((1.0, 1), (0.0, -1)):
        before, after, *_ = made("burstprop", y=np.full((8, 3), label))
        assert (sign * (after["W3"] - before["W3"]) > 0).all()


def test_moving_averages_are_those_of_the_ode(made):
    """At the rate level, where ē, b̄ move with τ all along: ΔW = η ⟨(b − b̄/ē e) eᵀ⟩ at the end."""
    rate = {"level": "rate", "rate.scheme": "euler", "rate.dt": "5 ms", "record.every": "100 ms"}
    phases = {f"stages.0.phases.{k}.until": "duration" for k in (0, 1)}
    before, after, x, y = made("burstprop-averages", **rate, **phases)
    size = [(len(x), n) for n in SIZES[1:]]
    v, u, mean_e, mean_b = ([np.zeros(s) for s in size] for _ in range(4))
    for step in range(400):
        e = [x, *map(sigmoid, v)]
        drawn = (y - e[-1]) * (1 - e[-1]) if step >= 200 else 0 * y
        p = [*(sigmoid(a) for a in u[:-1]), 0.5 + 0.5 * drawn]
        b = [own * rate for own, rate in zip(p, e[1:], strict=True)]
        dv = [e[i - 1] @ before[f"W{i}"].T - v[i - 1] for i in LAYERS]
        du = [(1 - e[i]) * (b[i] @ before[f"Y{i}"].T) - u[i - 1] for i in HIDDEN]
        mean_e = [m + 5e-3 * (rate - m) for m, rate in zip(mean_e, e[1:], strict=True)]
        mean_b = [m + 5e-3 * (own - m) for m, own in zip(mean_b, b, strict=True)]
        v = [a + 0.25 * d for a, d in zip(v, dv, strict=True)]
        u = [*(a + 0.25 * d for a, d in zip(u[:-1], du, strict=True)), u[-1]]
    e = [x, *map(sigmoid, v)]
    p = [*(sigmoid(a) for a in u[:-1]), 0.5 + 0.5 * (y - e[-1]) * (1 - e[-1])]
    for i in LAYERS:
        post = (p[i - 1] - mean_b[i - 1] / mean_e[i - 1]) * e[i]
        expected = 0.5 * post.T @ e[i - 1] / len(x)
        np.testing.assert_allclose(after[f"W{i}"] - before[f"W{i}"], expected, rtol=1e-7)


@pytest.mark.parametrize("model", ["burstprop-learned", "burst-ccn-learned"])
def test_learned_feedback_becomes_the_transpose(model, made):
    """Y − W^T of the layer above shrinks by 1 − ηλ in every presentation (Kolen & Pollack)."""
    decay = {f"model.projections.{name}.decay": 0.1 for name in "WY"}
    changes = decay | {"model.projections.Y.rate": 0.5, "stages.0.presentations": 30}
    before, after, *_ = made(model, ["W", "Y"], **changes)
    for i in HIDDEN:
        apart = before[f"Y{i}"] - before[f"W{i + 1}"].T
        expected = apart * (1 - 0.5 * 0.1) ** 30
        np.testing.assert_allclose(after[f"Y{i}"] - after[f"W{i + 1}"].T, expected, rtol=1e-9)


def test_event_feedback_that_learns_along_cancels_bursts_all_the_time(made):
    """Q = p_b Y after every presentation, from one phase alone."""
    changes = {f"model.projections.{name}.rate": 0.5 for name in "YQ"}
    changes |= {f"model.projections.{name}.decay": 0.1 for name in "WYQ"}
    changes["stages.0.presentations"] = 30
    before, after, *_ = made("burst-ccn-learned", ["W", "Y", "Q"], **changes)
    for i in HIDDEN:
        assert np.abs(after[f"Y{i}"] - before[f"Y{i}"]).max() > 0.1
        np.testing.assert_allclose(after[f"Q{i}"], 0.5 * after[f"Y{i}"], rtol=1e-12)


# ---------------------------------------------------------------------------------------- as spikes

SPIKING = {
    "stages.0.phases.0.until": "duration",
    "stages.0.phases.1.until": "duration",
    "record": {"presentations": [0], "samples": 8, "every": "100 ms"},
    "rate.dt": "1 ms",
    "equilibrium.tolerance": 1e-9,
    "spiking": {"dt": "1 ms", "window": "800 ms", "target": "numpy", "test": 1},
}


@pytest.fixture
def spoken(made, tmp_path):
    """What events and bursts say of a model in its taught phase, beside the rate level."""

    def of(model, level="spiking", window="800 ms", neurons=100):
        """Arrays over samples and units, of events and bursts; and what was learned."""
        given = {"level": level, "model.spiking.neurons": neurons, "spiking.window": window}
        before, after, *_ = made(model, **(SPIKING | given))
        said = []
        with ns.open_trace(tmp_path / "run.h5") as trace:
            for quantity in ("event_rate", "burst_signal"):
                for i in LAYERS:
                    where = "estimates" if level == "spiking" else "traces"
                    found = trace[f"{where}/layer{i}/{quantity}"]
                    found = found.isel({"time" if level == "rate" else "phase": -1})
                    said.append(found.transpose("presentation", "sample", "unit").values[0])
        events, bursts = np.concatenate(said[:3], axis=1), np.concatenate(said[3:], axis=1)
        learned = [after[f"W{i}"] - before[f"W{i}"] for i in LAYERS]
        return events, bursts, learned

    return of


@pytest.mark.long
@pytest.mark.seldom
def test_what_is_learned_at_rest_is_learned_in_time(made):
    """The rate level ends its phases where the equilibrium level finds them."""
    before, rest, *_ = made("burst-ccn")
    _, moving, *_ = made("burst-ccn", **SPIKING | {"rate.dt": "5 ms", "level": "rate"})
    for name in ("W1", "W2", "W3"):
        change = moving[name] - before[name]
        np.testing.assert_allclose(rest[name] - before[name], change, rtol=1e-6)


@pytest.mark.long
@pytest.mark.seldom
@pytest.mark.parametrize("model", ["burst-ccn", "burstprop"])
def test_spikes_say_what_rates_say_as_one_over_the_root_of_N_T(model, spoken):
    """Errors of event rates and burst probabilities, over sixteenfold neurons, fourfold time.

    Sixteen times the neurons: a fourth of the error. Four times the neurons, counted for a fourth
    of the time: the same error.
    """
    rates = spoken(model, "rate")

    def errors(neurons, window):
        counted = spoken(model, "spiking", window, neurons)
        return [np.sqrt(np.mean((counted[k] - rates[k]) ** 2)) for k in (0, 1)]

    few = errors(20, "800 ms")
    np.testing.assert_allclose(np.divide(few, errors(320, "800 ms")), 4, rtol=0.25)
    np.testing.assert_allclose(np.divide(few, errors(80, "200 ms")), 1, rtol=0.25)


@pytest.mark.long
@pytest.mark.seldom
def test_spikes_of_a_single_phase_learn_what_rates_learn(spoken):
    """Changes of W by counted events and bursts point where those of the rate level point."""
    rates, counted = spoken("burst-ccn", "rate"), spoken("burst-ccn", neurons=200)
    for expected, found in zip(rates[2], counted[2], strict=True):
        cosine = np.vdot(expected, found) / np.linalg.norm(expected) / np.linalg.norm(found)
        assert cosine > 0.95
