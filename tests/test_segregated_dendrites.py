"""Segregated dendrites: plateaus teach in two phases, at all levels, as in the source.

Guerguiev, Lillicrap & Richards 2017.
"""

import os
import signal
from importlib import import_module

import numpy as np
import pytest
from tiny_runs import same

import neurosim as ns
from neurosim.errors import StoppedError

DIGITS = "segregated-dendrites-digits"
SMALL = {
    "precision": "float64",
    "batch": 4,
    "model.layers": [6, 8, 5, 3],
    "model.parameters.g_a": "50 Hz",
    "task": {"name": "arrays", "path": "data.npz"},
    "stages.0.epochs": None,
    "stages.0.presentations": 1,
    "record": {"presentations": [0], "samples": 4, "every": "1 ms", "weights": True},
}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """A folder of its own, with images of six pixels in three classes."""
    monkeypatch.chdir(tmp_path)
    x = np.random.default_rng(0).random((24, 6))
    y = np.arange(24) % 3
    np.savez("data.npz", x=x, y=y, x_test=x[:6], y_test=y[:6])


def small(**changes):
    given = {key.replace("__", "."): value for key, value in changes.items()}
    path = os.path.abspath("data.npz")
    return ns.load_protocol(DIGITS, SMALL | {"task": {"name": "arrays", "path": path}} | given)


def sigmoid(v):
    return 1 / (1 + np.exp(-v))


# ---------------------------------------------------------------------------------- closed forms


@pytest.mark.long
@pytest.mark.seldom
def test_postsynaptic_potentials_are_double_exponentials():
    """Of a constant input, κ ∗ 1 = 1 − (τ_L e^{−t/τ_L} − τ_s e^{−t/τ_s})/(τ_L − τ_s)."""
    protocol = small(level="rate", rate={"scheme": "heun", "dt": "0.1 ms"})
    trace = ns.open_trace(ns.run(protocol, out="a.h5").path)
    seen = trace["traces/layer1"]
    t, long, short = 1e-3 * np.arange(51), 10e-3, 3e-3
    risen = 1 - (long * np.exp(-t / long) - short * np.exp(-t / short)) / (long - short)
    drive = trace["traces/input"].values[0] @ trace["weights/W1"].values[0].T
    order = ("presentation", "sample", "time", "unit")
    psp = seen["psp"].transpose(*order).values[0, :, : len(t)]
    exact = risen[:, None] * drive[:, None, :]
    # Heun is off by (dt/τ_s)²/6 of what has still to rise.
    np.testing.assert_allclose(psp, exact, rtol=0, atol=2e-4 * np.abs(drive).max())


def as_published(W, b, Y, x, label, g_a):
    """ΔW, Δb and ΔY of the source, in its units: ms, and weights that receive spikes per ms.

    η = 1 for all. The network rests; where apical dendrites reach somata it is swept up until it
    does.
    """
    g_l, g_b, e_exc, e_inh, most = 0.1, 0.6, 8.0, -8.0, 0.2
    scale = {"output": 20 / most**2, "hidden": 20 / most}
    k_b, k_d = g_b / (g_l + g_b + g_a), g_b / (g_l + g_b)

    def rest(taught):
        C, A, top = [None, None], [np.zeros(len(v)) for v in b[:-1]], np.zeros(len(label))
        for _ in range(60):
            psp = [most * x]
            for k in range(2):
                C[k] = (g_b * (W[k] @ psp[k] + b[k]) + g_a * A[k]) / (g_l + g_b + g_a)
                psp.append(most * sigmoid(C[k]))
            current = taught * (label * e_exc + (1 - label) * e_inh)
            top = (g_b * (W[2] @ psp[2] + b[2]) + current) / (g_l + g_b + taught)
            A = [feedback @ (most * sigmoid(top)) for feedback in Y]
        return C, A, top, psp

    C, A, U, psp = rest(0.0)
    _, taught, answer, _ = rest(1.0)
    slope = sigmoid(np.array(U)) * (1 - sigmoid(np.array(U)))
    error = scale["output"] * k_d * most * most * (sigmoid(answer) - sigmoid(U)) * slope
    signals = []
    for k in range(2):
        plateaus = sigmoid(taught[k]) - sigmoid(A[k])
        slope = sigmoid(C[k]) * (1 - sigmoid(C[k]))
        signals.append(scale["hidden"] * k_b * most * plateaus * slope)
    signals.append(error)
    predicted = [
        np.outer((sigmoid(c) - sigmoid(a)) * sigmoid(a) * (1 - sigmoid(a)), most * sigmoid(U))
        for c, a in zip(C, A, strict=True)
    ]
    return [np.outer(s, p) for s, p in zip(signals, psp, strict=True)], signals, predicted


@pytest.mark.parametrize(
    "g_a", [pytest.param(0.0, marks=[pytest.mark.long, pytest.mark.seldom]), 0.05]
)
def test_changes_are_those_of_the_source(g_a):
    """At rest and in its units: rate = 20 λ² η of weights λ times its own, λ its 0.2 per ms.

    Biases, which stand beside weights here and not beside λ times weights, learn λ² times as fast.
    Feedback that learns predicts the soma.
    """
    most, rate = 0.2, 1e-3
    given = {"model.projections.W.rate": rate, "model.projections.Y.rate": rate}
    given |= {"stages.0.phases.1.plastic": ["W", "Y"]}
    given |= {"model.parameters.g_a": f"{1000 * g_a} Hz", "equilibrium.tolerance": 1e-12}
    trace = ns.open_trace(ns.run(small(**given), out="a.h5").path)
    weights = {name: array.values for name, array in trace["weights"].items()}
    W, b = ([weights[f"{n}{k}"][0] for k in (1, 2, 3)] for n in "Wb")
    Y = [weights[f"Y{k}"][0] for k in (1, 2)]
    x, labels = (trace[f"traces/{name}"].values[0] for name in ("input", "label"))
    theirs = [
        as_published([w / most for w in W], b, [w / most for w in Y], *of, g_a)
        for of in zip(x, labels, strict=True)
    ]
    eta = rate / (20 * most**2)
    for k in range(3):
        dW, db = (np.mean([found[n][k] for found in theirs], axis=0) for n in (0, 1))
        moved = weights[f"W{k + 1}"]
        np.testing.assert_allclose(moved[-1] - moved[0], eta * most * dW, rtol=1e-8, atol=1e-14)
        moved = weights[f"b{k + 1}"]
        np.testing.assert_allclose(moved[-1] - moved[0], eta * most**2 * db, rtol=1e-8, atol=1e-14)
    for k in range(2):
        dY = np.mean([found[2][k] for found in theirs], axis=0) / most
        moved = weights[f"Y{k + 1}"]
        np.testing.assert_allclose(moved[-1] - moved[0], rate * dY, rtol=1e-8, atol=1e-14)


# --------------------------------------------------------------------------------------- learning


def over_seeds(**changes):
    """Errors and losses on the test split of the digits over five seeds, after three epochs."""
    given = {"record.presentations": 0, "stages.0.epochs": 3} | changes
    run = ns.run(ns.load_protocol(DIGITS, given), seeds=range(5), out="run.h5", force=True)
    assert not run.diverged
    with ns.open_trace("run.h5") as trace:
        return trace["evaluation/error"].values[-1], trace["evaluation/loss"].values


@pytest.mark.long
def test_hidden_layers_learn_and_matter():
    """One and two of them, in every seed: less than half the error of layers that are kept."""
    for layers, kept in (([64, 64, 10], [0, 2]), ([64, 64, 64, 10], [0, 0, 1])):
        error, loss = over_seeds(**{"model.layers": layers})
        frozen, _ = over_seeds(**{"model.layers": layers, "model.projections.W.rate": kept})
        assert (error < 0.5 * frozen).all() and (error < 0.12).all()
        assert (loss[-1] < 0.15 * loss[0]).all()


@pytest.mark.parametrize(
    "changes",
    [
        {"model.projections.Y.init": "5*uniform()*int(rand() < 0.2)"},
        {"model.parameters.g_a": "50 Hz"},
        {"stages.0.phases.1.plastic": ["W", "Y"]},
    ],
    ids=["sparse", "coupled", "learned"],
)
@pytest.mark.long
def test_variants_learn(changes):
    error, _ = over_seeds(**changes)
    assert error.mean() < 0.15 and (error < 0.3).all()  # chance is 0.9


@pytest.mark.long
def test_as_rates_they_learn_within_the_phases():
    given = {"stages.0.epochs": None, "stages.0.presentations": 40, "record.presentations": 0}
    run = ns.run(ns.load_protocol(DIGITS, given), level="rate", seeds=range(5), out="a.h5")
    loss = ns.open_trace(run.path)["evaluation/loss"].values
    assert (loss[-1] < 0.4 * loss[0]).all()


@pytest.mark.long
def test_feedback_learns_to_predict_the_soma():
    """With W kept, s(apical) comes closer to s(soma), in the forward phase."""
    given = {
        "stages.0.phases.1.plastic": ["Y"],
        "stages.0.epochs": None,
        "stages.0.presentations": 400,
        "model.projections.Y.rate": 1.0,
        "record": {"presentations": [0, 399], "samples": 10},
    }
    run = ns.run(ns.load_protocol(DIGITS, given), seeds=range(5), out="a.h5")
    seen = ns.open_trace(run.path)["traces/layer1"]
    order = ("phase", "presentation", "seed", "sample", "unit")
    apical, soma = (seen[n].transpose(*order).values[0] for n in ("apical", "soma"))
    gap = ((sigmoid(apical) - sigmoid(soma)) ** 2).mean(axis=(2, 3))
    assert (gap[1] < 0.2 * gap[0]).all()


@pytest.mark.long
def test_images_are_read_from_a_folder(idx_folder):
    """As those of MNIST, whatever their size: bright pixels are rates of 1."""
    given = {
        "task.path": str(idx_folder),
        "model.layers": [6, 5, 3],
        "batch": 5,
        "stages.0.epochs": 2,
        "record": {"presentations": [0], "samples": 5},
    }
    protocol = ns.load_protocol("segregated-dendrites-mnist", given)
    run = ns.run(protocol, out="mnist.h5")
    trace = ns.open_trace(run.path)
    x = trace["traces/input"].values
    assert 0.9 < x.max() <= 1 and x.min() >= 0
    W = trace["weights/W1"].values
    assert np.isfinite(run.metrics["test_loss"]) and np.abs(W[-1] - W[0]).max() > 0


# ----------------------------------------------------------------------------------------- spikes


SPIKES = {
    "batch": 24,
    "model.use": "segregated-dendrites",
    "record": {"presentations": [0], "samples": 24, "every": "50 ms"},
    "spiking": {"dt": "1 ms", "target": "numpy", "test": 1},
}


def spoken(window, neurons):
    """How far counted rates and apical potentials are from those at rest, of five weight sets."""
    phase = {"name": "forward", "duration": f"{100 + window} ms", "until": "duration"}
    given = SPIKES | {
        "stages.0.phases": [phase],
        "spiking": SPIKES["spiking"] | {"window": f"{window} ms"},
        "model.spiking.neurons": neurons,
    }
    ends = {}
    for level in ("equilibrium", "spiking"):
        run = ns.run(small(**given), level=level, seeds=range(5), out=f"{level}.h5", force=True)
        ends[level] = ns.open_trace(run.path)
    gaps = {"rate": [], "apical": []}
    for place, names in (("layer1", gaps), ("layer2", gaps), ("layer3", ("rate",))):
        for name in names:
            order, at = ("seed", "sample", "unit"), {"presentation": 0, "phase": 0}
            said = ends["spiking"][f"estimates/{place}/{name}"].isel(at).transpose(*order).values
            rest = ends["equilibrium"][f"traces/{place}/{name}"].isel(at).transpose(*order).values
            gaps[name].append(np.mean((said - rest) ** 2, axis=(1, 2)))
    for trace in ends.values():
        trace.close()
    return np.array([np.sqrt(np.mean(of, axis=0)) for of in gaps.values()])


@pytest.mark.long
@pytest.mark.seldom
def test_spikes_are_from_rates_as_one_over_the_root_of_N_T():
    """Of five weight sets, over sixteen times N T, of counted rates and of apical potentials.

    A root mean square of n independent values scatters by 1/√(2n): n is 24 samples of 16 units,
    and of the three outputs that dendrites hear. Bounds of slopes are four times what follows.
    """
    slopes = np.log(spoken(800, 20) / spoken(200, 5)) / np.log(16)
    scatter = np.sqrt(2 / (2 * 24 * np.array([16, 3]))) / np.log(16)
    off = np.abs(slopes + 0.5).max(axis=1), np.abs(slopes.mean(axis=1) + 0.5)
    assert (off[0] < 4 * scatter).all() and (off[1] < 4 * scatter / np.sqrt(5)).all()


@pytest.mark.long
@pytest.mark.seldom
def test_single_poisson_neurons_learn_digits():
    """The input spikes too; three seeds, 60 presentations of ten digits."""
    given = {
        "model.use": "segregated-dendrites-poisson",
        "model.projections.W.rate": "2*2**int(i < L)",
        "stages.0.epochs": None,
        "stages.0.presentations": 60,
        "record.presentations": 0,
        "spiking": {"dt": "1 ms", "window": "20 ms", "test": 100},
    }
    run = ns.run(ns.load_protocol(DIGITS, given), level="spiking", seeds=range(3), out="a.h5")
    loss = ns.open_trace(run.path)["evaluation/loss"].values
    assert (loss[-1] < 0.5 * loss[0]).all()


# ---------------------------------------------------------------------------------------- resumed


@pytest.mark.long
@pytest.mark.parametrize("level", ["rate", "spiking"])
def test_a_killed_run_goes_on_bit_for_bit(level, monkeypatch):
    """In the middle, under phases of random length; at the spiking level the input spikes too."""
    monkeypatch.setattr(import_module("neurosim.runs.loop"), "CHUNK_SECONDS", 0.0)
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    layers = {"rate": {}, "spiking": {"model.use": "segregated-dendrites-poisson"}}[level]
    size = {"rate": [6, 8, 3], "spiking": [6, 6, 8, 3]}[level]
    given = layers | {
        "model.layers": size,
        "level": level,
        "stages.0.presentations": 6,
        "record": {"presentations": [1, 5], "samples": 2, "every": "5 ms"},
        "spiking": {"dt": "1 ms", "target": "numpy", "window": "20 ms"},
    }

    def kill(progress):
        if progress.done >= 3:
            os.kill(os.getpid(), signal.SIGTERM)

    try:
        whole = ns.run(small(**given), out="whole.h5")
        assert len(set(ns.open_trace(whole.path)["metrics/effort"].values[:, 0])) > 1
        with pytest.raises(StoppedError):
            ns.run(small(**given), out="parts.h5", progress=kill)
    finally:
        signal.signal(signal.SIGTERM, before)
    parts = ns.resume("parts.h5")
    assert parts.metrics == whole.metrics
    same("whole.h5", "parts.h5")
