"""What becomes of errors in channels while networks learn, at every level."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from quantizing import quantized

import neurosim as ns
from neurosim.building import assembly
from neurosim.networks.dynamics import Readout
from neurosim.networks.network import Weights

pytestmark = pytest.mark.usefixtures("double_precision")


def protocol(folder, credit, **own):
    """A few presentations of 8 samples each on random images of four pixels."""
    rng = np.random.default_rng(7)
    x, labels = rng.standard_normal((32, 4)), rng.integers(0, 3, 32)
    np.savez(folder / "data.npz", x=x, y=labels, x_test=x, y_test=labels)
    changes = {
        "precision": "float64",
        "model.layers": [4, 6, 5, 3],
        "model.activation": "tanh",
        "model.credit": credit,
        "model.projections.W.init": "xavier",
        "model.projections.W.bias": True,
        "model.projections.W.rate": 0.1,
        "task": {"name": "arrays", "path": str(folder / "data.npz")},
        "batch": 8,
        "shuffle": False,
        "schedule.final": 1.0,
        "stages.0.epochs": None,
        "stages.0.presentations": 1,
        "record.presentations": 0,
        "stages.0.phases.0.plastic": ["forward"],
    }
    return ns.load_protocol("backprop-digits", changes | own)


def shown(folder):
    """The samples to train on, and their classes."""
    with np.load(folder / "data.npz") as data:
        return data["x"], data["y"]


def ran(folder, credit, **own):
    """The first batch, and the weights before and after, by name."""
    run = ns.run(protocol(folder, credit, **own), seed=3, out=folder / "t.h5", force=True)
    x, y = shown(folder)
    with ns.open_trace(run.path) as trace:
        names = ["W1", "W2", "W3", "b1", "b2", "b3", "Q1", "Q2"]
        weights = {name: trace[f"weights/{name}"].values for name in names}
    before, after = ({n: w[k] for n, w in weights.items()} for k in (0, -1))
    return x[:8], np.eye(3)[y[:8]], before, after


def of_batch(before, x, y):
    """Activities of all layers, batch first, and the error T − O."""
    h = [x]
    for i in (1, 2, 3):
        a = h[-1] @ before[f"W{i}"].T + before[f"b{i}"]
        h.append(np.tanh(a) if i < 3 else np.exp(a) / np.exp(a).sum(axis=1, keepdims=True))
    return h, y - h[3]


def test_adaptive_weights_learn_what_passes_them(tmp_path):
    """ΔC_i = η ⟨h_i R^T⟩; through the layers that is the transpose of what W_{i+1} learns."""
    both = {"stages.0.phases.0.plastic": ["forward", "feedback"]}
    credit = {"name": "arbp", "rate": 0.1}
    _, _, before, after = ran(tmp_path, credit, **both)
    moved = {n: after[n] - before[n] for n in before}
    for i in (1, 2):
        assert np.abs(moved[f"Q{i}"]).max() > 1e-4
        np.testing.assert_allclose(moved[f"Q{i}"], moved[f"W{i + 1}"].T, atol=1e-14)
    x, y, before, after = ran(tmp_path, credit | {"name": "asrbp"}, **both)
    h, error = of_batch(before, x, y)
    for i in (1, 2):
        expected = before[f"Q{i}"] + 0.1 * h[i].T @ error / 8
        np.testing.assert_allclose(after[f"Q{i}"], expected, rtol=1e-10)


def test_without_slopes_the_rule_has_none(tmp_path):
    x, y, before, after = ran(tmp_path, {"name": "srbp", "slope": False})
    h, error = of_batch(before, x, y)
    for i in (1, 2, 3):
        signal = error if i == 3 else error @ before[f"Q{i}"].T
        expected = before[f"W{i}"] + 0.1 * signal.T @ h[i - 1] / 8
        np.testing.assert_allclose(after[f"W{i}"], expected, rtol=1e-10)


def test_an_update_is_quantized_sample_by_sample(tmp_path):
    own = {"name": "srbp", "update_bits": 2, "update_scale": 0.05}
    x, y, before, after = ran(tmp_path, own)
    h, error = of_batch(before, x, y)
    for i in (1, 2, 3):
        delta = error if i == 3 else (1 - h[i] ** 2) * (error @ before[f"Q{i}"].T)
        W, b = np.zeros_like(before[f"W{i}"]), np.zeros_like(before[f"b{i}"])
        for d, below in zip(delta, h[i - 1], strict=True):
            W += 0.1 / 8 * quantized(np.outer(d, below), 2, 0.05)
            b += 0.1 / 8 * quantized(d, 2, 0.05)
        np.testing.assert_allclose(after[f"W{i}"] - before[f"W{i}"], W, atol=1e-14)
        np.testing.assert_allclose(after[f"b{i}"] - before[f"b{i}"], b, atol=1e-14)


def test_a_channel_per_weight(tmp_path):
    """ΔW_ij = η ⟨f'_i Σ_k C_ijk (T − O)_k h_j⟩, a bias being the last of the weights."""
    x, y, before, after = ran(tmp_path, {"name": "srbp", "per": "weight"})
    h, error = of_batch(before, x, y)
    for i in (1, 2):
        C = before[f"Q{i}"]
        assert C.shape == (h[i].shape[1], h[i - 1].shape[1] + 1, 3)
        below = np.concatenate([h[i - 1], np.ones((8, 1))], axis=1)
        made = np.einsum("ti,ijk,tk,tj->ij", 1 - h[i] ** 2, C, error, below) / 8
        np.testing.assert_allclose(after[f"W{i}"] - before[f"W{i}"], 0.1 * made[:, :-1], atol=1e-14)
        np.testing.assert_allclose(after[f"b{i}"] - before[f"b{i}"], 0.1 * made[:, -1], atol=1e-14)
        np.testing.assert_array_equal(after[f"Q{i}"], C)
    np.testing.assert_allclose(after["W3"] - before["W3"], 0.1 * error.T @ h[2] / 8, atol=1e-14)


def test_redrawn_weights_are_those_that_teach(tmp_path):
    """New in the first presentation already, and others in the next."""
    credit = {"name": "srbp", "redrawn": True}
    x, y, before, after = ran(tmp_path, credit)
    h, error = of_batch(before, x, y)
    delta = (1 - h[2] ** 2) * (error @ after["Q2"].T)
    np.testing.assert_allclose(after["W2"] - before["W2"], 0.1 * delta.T @ h[1] / 8, atol=1e-14)
    later = ran(tmp_path, credit, **{"stages.0.presentations": 2})[3]
    for one, other in ((before, after), (after, later)):
        assert np.abs(one["Q2"] - other["Q2"]).min() > 1e-6


def test_biases_move_with_weights_that_keep_their_inverses(tmp_path):
    """A bias is a synapse from a neuron that sends 1: ΔW_i = Δb_i h_{i−1}ᵀ; and Q_i W_{i+1} = I."""
    own = ONE | {"model.layers": [4, 3, 3, 3], "model.target_step": 0.01}
    x, _, before, after = ran(tmp_path, "tp-ei", **own)
    below = x[0]
    for i in (1, 2, 3):
        moved = after[f"b{i}"] - before[f"b{i}"]
        assert np.abs(moved).max() > 1e-4
        made = np.outer(moved, below)
        np.testing.assert_allclose(after[f"W{i}"] - before[f"W{i}"], made, atol=1e-14)
        below = np.tanh(before[f"W{i}"] @ below + before[f"b{i}"])
    for i in (1, 2):
        np.testing.assert_allclose(after[f"Q{i}"] @ after[f"W{i + 1}"], np.eye(3), atol=1e-12)


def test_what_is_dropped_for_a_sample_is_its_own(tmp_path):
    """It hangs on the sample and the presentation, not on who else is shown."""
    loaded = protocol(tmp_path, {"name": "rbp", "dropout": 0.5}).spec
    learning = assembly.learning(loaded, loaded.stages[0])
    samples, classes = shown(tmp_path)
    rng = np.random.default_rng(0)
    W = [rng.standard_normal(s) for s in ((6, 4), (5, 6), (3, 5))]
    Q = [rng.standard_normal(s) for s in ((6, 5), (5, 3))]
    weights = Weights(*(tuple(map(jnp.asarray, of)) for of in (W, (), Q)))
    network = assembly.network(loaded.model)

    def teaching(ids, key):
        x, y = jnp.asarray(samples[ids]), jnp.eye(3)[classes[ids]]
        h = jax.vmap(lambda x: network.forward_pass(weights, x))(x)
        now = Readout(h, (*(1 - r**2 for r in h[:-1]), jnp.ones_like(h[-1])), ())
        return learning.teaching(network, weights, y, now, learning.keys(key, jnp.array(ids)))[0]

    key = jax.random.key(1)
    three, alone = teaching([5, 9, 11], key), teaching([9], key)
    np.testing.assert_allclose(three[1], alone[0], rtol=1e-12)
    assert (np.asarray(three[0] == 0) != np.asarray(three[1] == 0)).any()
    assert not np.array_equal(alone == 0, teaching([9], jax.random.key(2)) == 0)


# ------------------------------------------------------- weights that flow, and neurons that spike


BRIEF = 1e-3
"""A presentation (s) so short that weights flow by its length times what they learn at once."""

FLOWING = {
    "plasticity": "online",
    "model.projections.W.rate": "1 Hz",
    "model.spiking.soma": "poisson",
    "stages.0.phases.0.until": "duration",
    "stages.0.phases.0.duration": f"{1e3 * BRIEF} ms",
    "rate.dt": "1 ms",
}

SPIKING = {
    "level": "spiking",
    "model.spiking.soma": "poisson",
    "model.spiking.neurons": 4,
    "spiking.target": "numpy",
    "spiking.dt": "1 ms",
    "spiking.window": "30 ms",
    "spiking.presentations": 1,
    "spiking.test": 1,
    "stages.0.phases.0.duration": "60 ms",
}

ONE = {"batch": 1}
"""Of one sample, whose neurons the channel serves or not."""


@pytest.mark.parametrize(
    "credit",
    [
        {"name": "rbp", "dropout": 0.5, "redrawn": True, "signs": "congruent"},
        pytest.param({"name": "srbp", "per": "weight"}, marks=pytest.mark.long),
    ],
)
def test_while_weights_flow_the_channel_of_a_presentation_is_what_it_is_at_once(tmp_path, credit):
    """Neurons are silent, and weights drawn, for as long as a batch is shown."""
    once = ran(tmp_path, credit)[2:]
    flowing = ran(tmp_path, credit, **FLOWING)[2:]
    for name in ("W1", "W2", "b1", "b2"):
        made, flown = once[1][name] - once[0][name], flowing[1][name] - flowing[0][name]
        assert np.abs(made).max() > 1e-3
        np.testing.assert_allclose(flown / BRIEF, made / 0.1, rtol=0.02, atol=1e-4)
    for name in ("Q1", "Q2"):
        np.testing.assert_allclose(flowing[1][name], once[1][name], rtol=1e-12)
        assert ("redrawn" in credit) == bool((flowing[1][name] != flowing[0][name]).any())


def silent(before, after):
    """The neurons of both hidden layers whose weights did not move."""
    return [(after[n] == before[n]).all(axis=1) for n in ("W1", "W2")]


@pytest.mark.long
@pytest.mark.seldom
def test_at_the_rate_level_the_same_neurons_are_silent_all_along(tmp_path):
    credit = {"name": "rbp", "dropout": 0.5, "redrawn": True}
    once = ran(tmp_path, credit, **ONE)[2:]
    flowing = FLOWING | ONE | {"level": "rate", "stages.0.phases.0.duration": "50 ms"}
    flown = ran(tmp_path, credit, **flowing)[2:]
    for one, other in zip(silent(*once), silent(*flown), strict=True):
        assert 0 < one.sum() < len(one)
        np.testing.assert_array_equal(one, other)
    np.testing.assert_allclose(flown[1]["Q1"], once[1]["Q1"], rtol=1e-12)


@pytest.mark.long
@pytest.mark.parametrize(
    "plasticity", ["quasi-static", pytest.param("online", marks=pytest.mark.seldom)]
)
def test_spikes_are_taught_by_the_same_draws(tmp_path, plasticity):
    """Which neurons the channel drops, and which weights it has, hang on the seed alone."""
    credit = {"name": "rbp", "dropout": 0.5, "redrawn": True, "signs": "congruent"}
    once = ran(tmp_path, credit, **ONE)[2:]
    spikes = SPIKING | ONE | (FLOWING if plasticity == "online" else {})
    spikes["stages.0.phases.0.duration"] = "60 ms"
    spiked = ran(tmp_path, credit, **spikes)[2:]
    for one, other in zip(silent(*once), silent(*spiked), strict=True):
        assert 0 < one.sum() < len(one)
        np.testing.assert_array_equal(one, other)
    for name in ("Q1", "Q2"):
        np.testing.assert_allclose(spiked[1][name], once[1][name], rtol=1e-12)


@pytest.mark.long
def test_spikes_with_a_channel_per_weight(tmp_path):
    """ΔW_ij over Σ_k C_ijk (T − O)_k is s_i' h_j of the one sample, of rank 1; the errors are those
    that the output learns from."""
    _, _, before, after = ran(tmp_path, {"name": "srbp", "per": "weight"}, **SPIKING, **ONE)
    moved = {name: after[name] - before[name] for name in ("W1", "W2", "b3")}
    for i in (1, 2):
        C = before[f"Q{i}"][:, :-1]
        heard = moved[f"W{i}"] / (C @ moved["b3"])
        sizes = np.linalg.svd(heard, compute_uv=False)
        assert sizes[0] > 1e-3
        assert sizes[1] < 1e-10 * sizes[0]
        np.testing.assert_array_equal(after[f"Q{i}"], before[f"Q{i}"])


# ------------------------------------------------------------------------------------- what cannot


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"name": "fa"}, "model.credit.name: 'fa' is called 'rbp'"),
        ({"name": "dfa"}, "model.credit.name: 'dfa' is called 'srbp'"),
        ({"name": "bp-fixed", "dropout": 0.1}, "credit.dropout: is about errors that come down a "
         "learning channel, and bp-fixed sends none to hidden layers; expected with backprop"),
        ({"name": "sbp", "sparse": 2}, "credit.sparse: is about weights of the channel's own, and "
         "sbp has none"),
        ({"name": "rbp", "sparse": 6}, "credit.sparse: 6 weights a column, but the smallest layer "
         "that hears the channel has 5 units; expected at most as many"),
        ({"name": "rbp", "signs": "congruent", "init": "transpose"}, "credit.signs: is about "
         "random weights, and init is 'transpose'; use init = 'random'"),
        ({"name": "arbp", "redrawn": True}, "credit.redrawn: is about weights that do not learn, "
         "and the rule is 'adaptive'; use rule = 'fixed'"),
        ({"name": "rbp", "per": "weight"}, "credit.per: 'weight': errors that rbp sends on through "
         "neurons are one a neuron; expected with srbp"),
        ({"name": "srbp", "per": "weight", "dropout": 0.1}, "credit.dropout: is about errors of "
         "neurons, and per is 'weight'; leave one out"),
        ({"name": "srbp", "rule": "white-noise"}, "credit.rule: 'white-noise' sends activity down "
         "layer by layer, which the weights of srbp skip; expected 'fixed' or 'adaptive'"),
        ({"name": "dtp-ai", "rule": "adaptive"}, "credit.rule: 'adaptive' does not fit the "
         "feedback of dtp-ai; it is the rule of arbp and asrbp"),
        ({"name": "rbp", "dropout": 1.0}, "credit.dropout: "),
        ({"name": "rbp", "error_bits": 0}, "credit.error_bits: "),
    ],
)  # fmt: skip
def test_channels_that_cannot_be_are_refused(tmp_path, own, message):
    with pytest.raises(ns.InputError) as error:
        protocol(tmp_path, own, **{"model.activation": "tanh"})
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"model.projections.W.rule": lambda post, pre, W: W, "model.credit.update_bits": 3},
         "update_bits: quantises what every sample adds to a weight, and a rule of a script says"),
    ],
)  # fmt: skip
def test_what_a_channel_cannot_do_elsewhere_is_refused(tmp_path, own, message):
    with pytest.raises(ns.InputError, match="credit") as error:
        protocol(tmp_path, {"name": "rbp", "dropout": 0.2}, **own)
    assert message in str(error.value)


def test_a_scale_without_bits_is_warned_of(tmp_path):
    with pytest.warns(ns.NeurosimWarning, match=r"error_scale: is not used; credit\.error_bits"):
        protocol(tmp_path, {"name": "rbp", "error_scale": 0.5})


@pytest.mark.seldom
@pytest.mark.long
def test_signs_are_what_a_channel_that_changes_must_keep(tmp_path):
    """Redrawn for every batch, weights teach no more than the output learns by itself; with the
    signs of the forward ones they teach well (section 4.2, items 1 and 2)."""

    def error(**credit):
        changes = {"model.credit": credit, "record.presentations": 0, "task.validation": 0.2}
        loaded = ns.load_protocol("random-feedback-digits", changes)
        run = ns.run(loaded, seeds=range(5), out=tmp_path / "t.h5", force=True)
        with ns.open_trace(run.path) as trace:
            return trace["evaluation/error"].values[-1].mean()

    alone, gradient = error(name="bp-fixed"), error(name="backprop")
    for name in ("rbp", "srbp"):
        assert error(name=name, redrawn=True) > 0.8 * alone
        assert error(name=name, redrawn=True, signs="congruent") < 0.5 * (alone + gradient)
