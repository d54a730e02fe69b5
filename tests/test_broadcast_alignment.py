"""Broadcast alignment (Samadi et al. 2017): integrate-and-fire neurons and what teaches them."""

import numpy as np
import pytest

import neurosim as ns

DIGITS = "broadcast-alignment-digits"
TAU, REFRACTORY, F_0, SOFTNESS = 20e-3, 2e-3, 50.0, 0.3


def small(tmp_path, **changes):
    """Eight samples of six features in three classes, shown once."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((8, 6)), np.arange(8) % 3
    np.savez(tmp_path / "data.npz", x=x, y=y, x_test=x[:2], y_test=y[:2])
    given = {
        "precision": "float64",
        "batch": 8,
        "model.layers": [6, 5, 4, 3],
        "task": {"name": "arrays", "path": str(tmp_path / "data.npz")},
        "stages.0.epochs": None,
        "stages.0.presentations": 1,
        "record": {"presentations": [0], "samples": 8, "every": "50 ms", "weights": True},
        "equilibrium.tolerance": 1e-12,
    }
    return ns.load_protocol(DIGITS, given | changes)


def fires(current, softness=SOFTNESS):
    """The rate over f_0 under a constant current, of which the start is softened."""
    margin = softness * np.log1p(np.exp((current - 1) / softness))
    return 1 / (REFRACTORY + TAU * np.log1p(1 / margin)) / F_0


def test_changes_are_error_times_sensitivity(tmp_path):
    """ΔW_i = η s'(I_i) ⊙ (B_i e) r_{i−1}ᵀ, with s' by differences, of a forward pass by hand."""
    with ns.open_trace(ns.run(small(tmp_path), out=tmp_path / "a.h5").path) as trace:
        of = {name: array.values for name, array in trace["weights"].items()}
        x, y = (trace[f"traces/{name}"].values[0] for name in ("input", "label"))
    rates, currents = [x], []
    for i in (1, 2, 3):
        currents.append(1 + rates[-1] @ of[f"W{i}"][0].T + of[f"b{i}"][0])
        rates.append(fires(currents[-1]))
    error, step = y - rates[-1], 1e-6
    lessons = [error @ of["B1"][0].T, error @ of["B2"][0].T, error]
    for i, eta in enumerate((0.03, 0.03, 0.3)):
        slope = (fires(currents[i] + step) - fires(currents[i] - step)) / (2 * step)
        signal = eta * slope * lessons[i]
        moved = {name: of[f"{name}{i + 1}"][1] - of[f"{name}{i + 1}"][0] for name in "Wb"}
        np.testing.assert_allclose(moved["W"], signal.T @ rates[i] / 8, rtol=1e-6, atol=1e-12)
        np.testing.assert_allclose(moved["b"], signal.mean(0), rtol=1e-6, atol=1e-12)


@pytest.mark.long
@pytest.mark.seldom
def test_spikes_come_as_often_as_the_curve_without_softening_says(tmp_path):
    """Under constant currents of 1.2 and more, to a spike of the window and some steps."""
    given = {
        "level": "spiking",
        "model.layers": [6, 5, 3],
        "model.parameters.tonic": 2.5,
        "model.projections.W.gain": 0.5,
        "spiking": {"dt": "0.5 ms", "window": "500 ms", "target": "numpy", "test": 1},
        "stages.0.phases.0.duration": "700 ms",
    }
    with ns.open_trace(ns.run(small(tmp_path, **given), out=tmp_path / "a.h5").path) as trace:
        counted = trace["estimates/layer1/spikes"].values.reshape(8, -1, 5)[:, -1]
        x, W = trace["traces/input"].values[0], trace["weights/W1"].values[0]
    current = 2.5 + x @ W.T
    strong = current > 1.2
    expected = 1 / (REFRACTORY + TAU * np.log(current[strong] / (current[strong] - 1)))
    assert strong.sum() > 20 and expected.max() > 50
    assert np.all(np.abs(counted[strong] - expected) <= 2 + 1.5e-3 * expected**2)


@pytest.mark.long
def test_hidden_layers_learn_and_matter(tmp_path):
    """Of five seeds, after fifteen epochs: less error in the median than with hidden layers kept.

    A seed of fifteen or so loses a class for good, which one hangs on rounding.
    """
    found = []
    for rates in ([0.03, 0.3], [0.0, 0.2]):
        given = {"record.presentations": 0, "model.projections.W.rate": rates}
        protocol = ns.load_protocol(DIGITS, given)
        run = ns.run(protocol, seeds=range(5), out=tmp_path / "a.h5", force=True)
        with ns.open_trace(run.path) as trace:
            loss = trace["evaluation/loss"].values
        assert (loss[-1] < 0.5 * loss[0]).all()
        found.append(np.median(run.metrics["test_error"]))
    assert found[0] < 0.8 * found[1]
