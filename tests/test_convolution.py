"""Convolutions against explicit matrices, and networks of them against their gradient."""

from functools import partial
from itertools import product
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import neurosim as ns
from neurosim.building import assembly
from neurosim.circuits.maps import Convolution, Maps
from neurosim.errors import InputError
from neurosim.functions.quantization import Quantizer
from neurosim.levels.simulator import Phase
from neurosim.models.initialisers import drawn, feedback_weights
from neurosim.networks import convolution
from neurosim.networks.dynamics import Target
from neurosim.networks.wirings import random_channel
from neurosim.plasticity.signals import Feedback, apical_delta
from neurosim.tasks import Digits

KINDS = {
    "plain": Convolution((2, 5, 4), (3, 5, 4), 3, 1, 1),
    "even kernel": Convolution((2, 5, 4), (3, 5, 4), 2, 1, 1),
    "strided": Convolution((2, 5, 4), (3, 3, 2), 3, 1, 2),
    "pooled": Convolution((2, 4, 6), (3, 2, 3), 3, 2, 2),
    "overlapping": Convolution((2, 5, 6), (3, 3, 3), 3, 3, 2),
}


@pytest.fixture(autouse=True)
def double_precision():
    with jax.enable_x64(True):
        yield


@pytest.fixture(params=KINDS)
def of(request):
    return KINDS[request.param]


def size(shape):
    return int(np.prod(shape))


def around(n, side, step):
    """Zeros before the first of n positions, so that every step-th has a window of this side."""
    count = -(-n // step)
    return max((count - 1) * step + side - n, 0) // 2, count


def toeplitz(of, K):
    """The matrix of the convolution before pooling, entry by entry."""
    (maps, rows, columns), step = of.below, of.stride if of.pool == 1 else 1
    (top, high), (left, wide) = (around(n, of.kernel, step) for n in (rows, columns))
    found = np.zeros((len(K), high, wide, maps, rows, columns))
    for r, c, a, b in product(range(high), range(wide), range(of.kernel), range(of.kernel)):
        row, column = r * step - top + a, c * step - left + b
        if 0 <= row < rows and 0 <= column < columns:
            found[:, r, c, :, row, column] = K[:, :, a, b]
    return found.reshape(len(K) * high * wide, maps * rows * columns)


def windows(of):
    """Of every upper unit, the units before pooling that it sees."""
    _, rows, columns = of.below
    (top, _), (left, _) = (around(n, of.pool, of.stride) for n in (rows, columns))
    for m, r, c in product(*map(range, of.above)):
        first, second = r * of.stride - top, c * of.stride - left
        seen = product(range(first, first + of.pool), range(second, second + of.pool))
        inside = [(a, b) for a, b in seen if 0 <= a < rows and 0 <= b < columns]
        yield [(m * rows + a) * columns + b for a, b in inside]


def choosing(of, u):
    """The matrix that takes of every window the largest; of no windows, the units as they are."""
    if of.pool == 1:
        return np.eye(len(u))
    found = np.zeros((size(of.above), len(u)))
    for unit, seen in enumerate(windows(of)):
        found[unit, max(seen, key=lambda k: u[k])] = 1
    return found


def spreading(of, units):
    """The matrix by which every unit before pooling hears the mean of its windows."""
    if of.pool == 1:
        return np.eye(units)
    found = np.zeros((units, size(of.above)))
    for unit, seen in enumerate(windows(of)):
        found[seen, unit] = 1
    return found / found.sum(axis=1, keepdims=True)


def example(of, seed=0):
    rng = np.random.default_rng(seed)
    K, h = rng.standard_normal(of.weights), rng.standard_normal(size(of.below))
    return K, h, rng.standard_normal(size(of.above)), toeplitz(of, K)


def test_what_goes_up_is_a_matrix_and_the_largest_of_each_window(of):
    K, h, _, T = example(of)
    expected = choosing(of, T @ h) @ T @ h
    np.testing.assert_allclose(convolution.up(of, jnp.asarray(K), h), expected, atol=1e-13)


def test_errors_come_back_by_the_transpose(of):
    K, h, e, T = example(of)
    other = np.random.default_rng(1).standard_normal(of.weights)
    passed = convolution.spread(of, jnp.asarray(K), h)
    found = convolution.down(of, jnp.asarray(other), e, passed)
    expected = toeplitz(of, other).T @ choosing(of, T @ h).T @ e
    np.testing.assert_allclose(found, expected, atol=1e-13)


def test_what_comes_down_by_itself_spreads_over_the_windows(of):
    K, h, e, T = example(of)
    S = spreading(of, len(T))
    np.testing.assert_allclose(convolution.down(of, jnp.asarray(K), e), T.T @ S @ e, atol=1e-13)
    np.testing.assert_allclose(convolution.across(of, jnp.asarray(K), h), S.T @ T @ h, atol=1e-13)


def shared_sum(of, outer, matrix):
    """Of the changes of a full matrix, the sum over all places of each weight of the kernel."""
    found = np.zeros(of.weights)
    for index in np.ndindex(*of.weights):
        one = np.zeros(of.weights)
        one[index] = 1
        found[index] = (outer * matrix(one)).sum()
    return found


@pytest.mark.parametrize("kind", ["plain", "overlapping"])
def test_a_rule_changes_a_kernel_by_post_times_pre_wherever_it_stands(kind):
    of = KINDS[kind]
    rng = np.random.default_rng(2)
    K = rng.standard_normal(of.weights)
    post, pre = rng.standard_normal((3, size(of.above))), rng.standard_normal((3, size(of.below)))
    expected = 0
    for one, h in zip(post, pre, strict=True):
        chosen = choosing(of, toeplitz(of, K) @ h)
        expected += shared_sum(of, np.outer(chosen.T @ one, h), partial(toeplitz, of)) / 3
    found = convolution.change(of, jnp.asarray(K), post, pre)
    np.testing.assert_allclose(found, expected, atol=1e-13)


def test_feedback_learns_by_the_same_sum():
    of = KINDS["overlapping"]
    rng = np.random.default_rng(3)
    Q = rng.standard_normal(of.weights)
    post, pre = rng.standard_normal((3, size(of.below))), rng.standard_normal((3, size(of.above)))
    signal = Feedback(*map(jnp.asarray, (pre, 0 * post, post, 1 + 0 * post)))
    S = spreading(of, len(toeplitz(of, Q)))
    outer = sum(np.outer(S @ e, h) for h, e in zip(post, pre, strict=True)) / 3
    expected = shared_sum(of, outer, partial(toeplitz, of)) - 0.1 * Q
    found = apical_delta(signal, jnp.asarray(Q), 0.1, of)
    np.testing.assert_allclose(found, expected, atol=1e-13)


def test_maps_share_a_bias():
    of = KINDS["pooled"]
    found = convolution.everywhere(of, jnp.arange(3.0))
    np.testing.assert_array_equal(found, np.repeat([0.0, 1.0, 2.0], 6))
    np.testing.assert_array_equal(convolution.shared(of, found), [0, 6, 12])


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("lecun", 1 / (16 * 9)), ("xavier", 2 / ((16 + 32) * 9)), ("orthogonal", 1 / (16 * 9))],
)
def test_kernels_start_by_what_a_unit_hears(kind, expected):
    K = drawn(kind, (32, 16, 3, 3), np.random.default_rng(0))
    assert K.var() == pytest.approx(expected, rel=0.05)


def test_orthogonal_kernels_have_orthonormal_rows():
    rows = drawn("orthogonal", (6, 4, 3, 3), np.random.default_rng(0)).reshape(6, -1)
    np.testing.assert_allclose(rows @ rows.T, np.eye(6), atol=1e-13)


def test_random_kernels_of_the_channel():
    rng = np.random.default_rng(0)
    W = [rng.standard_normal((16, 1, 3, 3)), rng.standard_normal((32, 16, 3, 3))]
    sizes = [25, 16 * 25, 32 * 25]
    (Q,) = feedback_weights("random", W, 2.0, rng, sizes=sizes)
    assert Q.shape == W[1].shape and Q.var() == pytest.approx(4 / (32 * 9), rel=0.05)
    (Q,) = feedback_weights("transpose", W, 1.0, rng, sizes=sizes)
    np.testing.assert_array_equal(Q, W[1])
    (Q,) = feedback_weights("random", W, 1.0, rng, "layers", 8, True, sizes=sizes)
    assert (np.sign(Q) == np.sign(W[1]) * (Q != 0)).all()
    # 8 of the 16 · 9 units that hear one above
    assert (Q != 0).mean() == pytest.approx(8 / (16 * 9), rel=0.1)
    (Q,) = feedback_weights("random", W, 1.0, rng, "direct", sizes=sizes)
    assert Q.shape == (400, 800)
    assert random_channel("random", np.ones((2, 3)), None, 1.0).shape == (2, 3)


# ----------------------------------------------------------------------------------- networks

LAYERS = [[1, 8, 8], [3, 4, 4], [4, 2, 2], 12, 10]


FIXED = ("backprop", "sbp", "rbp", "srbp", "bp-fixed", "dtp-fixed")
"""Credits whose feedback does not learn."""


def loaded(credit, **more):
    credit = credit if isinstance(credit, dict) else {"name": credit}
    learns = credit["name"] not in FIXED
    changes = {
        "precision": "float64",
        "batch": 6,
        "model.layers": LAYERS,
        "model.credit": credit,
        "stages.0.phases.0.plastic": ["forward", "feedback"] if learns else ["forward"],
    }
    return ns.load_protocol("convolution-digits", changes | more)


def stepped(credit, samples=range(6), **more):
    """Network, weights, what rules make of some digits at the initial weights, and those."""
    protocol = loaded(credit, **more)
    spec = protocol.spec
    task = Digits().draw(np.random.default_rng(0))
    weights = assembly.weights(spec.model, 0, task, Path())
    dynamics, network = assembly.dynamics(spec.model), assembly.network(spec.model)
    learning = assembly.learning(spec, spec.stages[0])
    shown = list(samples)
    x, y = jnp.asarray(task.x_train[shown]), jnp.asarray(task.y_train[shown])
    weights["b"] = tuple(0.1 + b for b in weights["b"])

    def rest(x):
        drive = dynamics.drive(network, weights, x, Target("none"))
        return dynamics.read(network, weights, drive, dynamics.fixed_point(network, weights, drive))

    readout = jax.vmap(rest)(x)
    moment = learning.moment(jnp.zeros(()), jax.random.key(0))
    given = dynamics, network, weights, x, y, readout, (), jax.random.key(1), moment
    change = learning.change(*given, Phase("learning", 0.0, True, "none", ("W", "Q")), {})
    return network, weights, change, x, y


def plain_loss(W, b, x, y):
    """The same network in a few lines of its own: gathered patches, then windows."""

    def gathered(u, side, step, fill):
        (top, high), (left, wide) = (around(n, side, step) for n in u.shape[-2:])
        u = jnp.pad(u, ((0, 0), (top, side), (left, side)), constant_values=fill)
        rows = np.arange(high)[:, None] * step + np.arange(side)
        columns = np.arange(wide)[:, None] * step + np.arange(side)
        return u[:, rows[:, None, :, None], columns[None, :, None, :]]

    def one(x, y):
        h = x.reshape(1, 8, 8)
        for K, shift in zip(W[:2], b[:2], strict=True):
            u = jnp.einsum("oiab,ircab->orc", K, gathered(h, K.shape[-1], 1, 0.0))
            u = jnp.tanh(u + shift[:, None, None])
            h = gathered(u, 2, 2, -jnp.inf).max(axis=(-1, -2))
        h = jnp.tanh(W[2] @ h.ravel() + b[2])
        return -jax.nn.log_softmax(W[3] @ h + b[3]) @ y

    return jnp.mean(jax.vmap(one)(x, y))


def test_backprop_through_convolutions_is_the_gradient():
    _, weights, change, x, y = stepped("backprop")
    W, b = jax.grad(plain_loss, (0, 1))(weights["W"], weights["b"], x, y)
    for found, gradient in zip((*change["W"], *change["b"]), (*W, *b), strict=True):
        assert np.abs(gradient).max() > 1e-4
        np.testing.assert_allclose(found, -gradient, rtol=1e-9, atol=1e-13)


def test_random_kernels_that_are_those_of_w_make_it_backprop():
    of = {"init": "transpose"}
    _, _, expected, *_ = stepped("backprop")
    for name in ("rbp", "arbp"):
        _, _, found, *_ = stepped({"name": name, **of})
        for a, b in zip(found["W"], expected["W"], strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-13)
    # what goes up and what comes down pass the same windows: Q learns what W does
    np.testing.assert_allclose(found["Q"][0], expected["W"][1], rtol=1e-9, atol=1e-13)
    np.testing.assert_allclose(found["Q"][1], expected["W"][2].T, rtol=1e-9, atol=1e-13)


@pytest.mark.long
def test_what_each_sample_adds_to_a_kernel_is_quantized():
    asked = {"name": "backprop", "update_bits": 3, "update_scale": 0.01}
    quantized = Quantizer(3.0, 0.01)
    each = [stepped("backprop", samples=[k])[2] for k in (0, 1)]
    _, _, found, *_ = stepped(asked, samples=[0, 1])
    for kind in ("W", "b"):
        expected = sum(quantized(one[kind][0]) for one in each) / 2
        np.testing.assert_allclose(found[kind][0], expected, rtol=1e-9)


LEARNED: dict = {"init": "random", "rate": 0.03}
ERRORS = ("backprop", "sbp", "rbp", "srbp", "arbp", "asrbp", "bp-fixed", "bdfa")
PLAIN = ("tp-ai", "rtp-ai", "original-tp", "original-rtp")
INVERTING = ("dtp-ai", "rdtp-ai")
DIFFERENCES = ("original-dtp", "original-rdtp", "dtp-drl", "dtp-ldrl", "dtp-fixed", "dtp")
CREDITS: dict[str, dict] = {
    **{name: {"rate": 1e-3} for name in ERRORS},
    **{name: LEARNED for name in (*PLAIN, *INVERTING, *DIFFERENCES)},
}
"""All but those of exact inverses, and those that W ties to its pseudo-inverses."""

OFTEN = ("sbp", "srbp", "asrbp", "bdfa", "dtp-ai", "original-dtp", "dtp-drl", "dtp-ldrl", "dtp")
"""One of every way for errors, targets and noise."""


def inverting(name):
    """Targets through s⁻¹ may be anywhere, where tanh has no inverse."""
    return {"model.activation": "leaky-relu"} if name.endswith("-ai") else {}


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[] if n in OFTEN else [pytest.mark.long]) for n in CREDITS],
)
def test_every_credit_moves_what_it_should(name):
    _, weights, change, *_ = stepped({"name": name, **CREDITS[name]}, **inverting(name))
    for kind in ("W", "b", "Q"):
        for w, d in zip(weights.get(kind, ()), change.get(kind, ()), strict=True):
            assert d.shape == w.shape and np.isfinite(d).all()
    moved = [bool(np.abs(d).max()) for d in change["W"]]
    if name.startswith(("rtp", "rdtp", "original-r")):
        assert sum(moved) == 1
    else:
        assert moved == ([False] * 3 + [True] if name == "bp-fixed" else [True] * 4)
    learns = name in ("arbp", "asrbp", "bdfa") or ("tp" in name and name != "dtp-fixed")
    assert any(bool(np.abs(d).max()) for d in change.get("Q", ())) == learns


@pytest.mark.long
def test_the_rate_level_ends_where_neurons_rest(tmp_path):
    """Convolutions carry what is sent at every moment, whatever the level."""
    short = {"stages.0.epochs": None, "stages.0.presentations": 2, "record.presentations": 0}
    found = {}
    for level in ("equilibrium", "rate"):
        protocol = loaded("rbp", level=level, **short)
        ns.run(protocol, out=tmp_path / f"{level}.h5")
        with ns.open_trace(tmp_path / f"{level}.h5") as trace:
            found[level] = [trace[f"weights/{name}"].values for name in ("W1", "W2", "W4", "b2")]
            assert trace["weights/W2"].dims[1:] == ("map2", "map1", "row_W", "column_W")
    for a, b in zip(found["rate"], found["equilibrium"], strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
        assert np.abs(b[1] - b[0]).max() > 1e-3


def test_a_kernel_of_a_trace_starts_another_run(tmp_path):
    short = {"stages.0.epochs": None, "stages.0.presentations": 2, "record.presentations": 0}
    first = ns.run(loaded("rbp", **short), out=tmp_path / "first.h5")
    file = {"model.projections.W.init": "file", "model.projections.W.file": str(first.path)}
    again = {"name": "rbp", "init": "file"}
    second = ns.run(loaded(again, **short, **file), out=tmp_path / "second.h5")
    with ns.open_trace(first.path) as one, ns.open_trace(second.path) as two:
        for name in ("W1", "W4", "b1", "Q1", "Q2"):
            last, begun = one[f"weights/{name}"].values[1], two[f"weights/{name}"].values[0]
            np.testing.assert_array_equal(begun, last)


def test_feedback_between_neurons_convolves_downwards():
    """A projection from above with a kernel is the transpose of one from below."""
    layers = [[1, 6, 6], [2, 3, 3], [3, 2, 2], 4]
    shared = {"kernel": 3, "stride": 2, "pool": 2}
    changes = {f"projections.{name}.{key}": v for name in "WQ" for key, v in shared.items()}
    changes |= {"layers": layers, "projections.Q.init": "W[i+1]"}
    changes |= {"projections.W.init": "xavier", "projections.Q.rule": "fixed"}
    made = assembly.dynamics(ns.load_model("mixture", changes)).circuit
    (first, second), of = made.projection["Q"].synapses, made.projection["W"].synapses[1]
    assert first.convolution == of.convolution._replace(down=True) and second.convolution is None
    K, _, e, _ = example(of.convolution)
    found = convolution.carried(first.convolution, jnp.asarray(K), e)
    np.testing.assert_allclose(found, convolution.down(of.convolution, jnp.asarray(K), e))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"model.layers": [[1, 8, 8], [3, 5, 4], [4, 2, 2], 12, 10]},
            r"model\.projections\.W\.stride: with stride 2 it makes \[3, 4, 4\] of \[1, 8, 8\], "
            r"but the layer above has \[3, 5, 4\]",
        ),
        (
            {"model.layers": [64, 12, 10]},
            r"W\.kernel: joins no two layers of maps; expected",
        ),
        ({"model.layers": [[8, 8], 10]}, r"\[8, 8\] is no layer; expected a number of units, or"),
        (
            {"model.projections.W.kernel": None},
            r"W\.pool: is about a convolution; give it a",
        ),
        ({"model.projections.W.wire": "rate[i-1] => forward[i]"}, r"'=>' is one to one; expected"),
        ({"level": "spiking"}, r"level: W convolves, and spiking synapses have a weight each"),
        ({"model.credit": {"name": "tp-ei"}}, r"tp-ei keeps inverses of W, and a convolution has"),
        (
            {"model.credit": {"name": "dtp-ai"}},
            r"init: 'pseudo-inverse': a convolution has no",
        ),
        (
            {"model.credit": {"name": "srbp", "init": "transpose"}},
            r"srbp skips layers, and a product of convolutions is no matrix",
        ),
        (
            {"model.credit": {"name": "srbp", "signs": "congruent"}},
            r"'congruent': srbp skips",
        ),
        ({"model.credit": {"name": "srbp", "per": "weight"}}, r"a weight of a kernel serves many"),
        ({"record.decomposition": True}, r"pseudo-inverses, which convolutions do not have"),
    ],
)
def test_what_cannot_be_is_said(changes, message):
    protocol = {"model.layers": LAYERS} | changes
    with pytest.raises(InputError, match=message):
        ns.load_protocol("convolution-digits", protocol)


def test_analysis_of_convolutions_is_refused():
    with pytest.raises(InputError, match="has convolutions, and the theory of spectra"):
        ns.analyze(loaded("backprop"))


def test_layers_are_written_as_they_are_read():
    spec = loaded("backprop").spec
    assert spec.model.model_dump(mode="json")["layers"] == LAYERS
    assert spec.model.layers[1] == 48 and spec.model.layers[1].shape == (3, 4, 4)
    assert repr(Maps([3, 4, 4])) == "[3, 4, 4]"


EASY = ("rbp", "dtp-drl")
SLOW = ("original-rdtp", "dtp")
"""Which take longer; of the first one layer learns at a time."""
TEACHING = tuple(name for name in (*ERRORS, *DIFFERENCES) if name != "bp-fixed")
"""Those that teach hidden layers."""


@pytest.mark.long
@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[] if n in EASY else [pytest.mark.seldom]) for n in TEACHING],
)
def test_credits_lower_the_loss_of_small_images(name, tmp_path):
    """Of every seed; where targets lie a tenth of the gradient away, at ten times the rate."""
    rate = {"dtp": [1.0, 1.0, 1.0, 0.1]}.get(name, 0.1 if name in ERRORS else 1.0)
    changes = {
        "precision": "float32",
        "batch": 20,
        "stages.0.epochs": 6 if name in SLOW else 2,
        "stages.0.phases.0.plastic": ["forward"] if name in FIXED else ["forward", "feedback"],
        "model.projections.W.rate": rate,
        "record.presentations": 0,
    }
    protocol = loaded({"name": name, **CREDITS[name]}, **changes)
    run = ns.run(protocol, seeds=range(3), out=tmp_path / "run.h5")
    assert not run.diverged
    with ns.open_trace(run.path) as trace:
        loss = trace["evaluation/loss"].values
    assert (loss[-1] < 0.9 * loss[0]).all()
