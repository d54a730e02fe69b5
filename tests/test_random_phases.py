"""Phases that last longer than their duration by a time drawn for every presentation."""

import json

import numpy as np
import pytest

import neurosim as ns
from neurosim.errors import InputError
from neurosim.levels.simulator import Phase

MODEL = {
    "cells": {
        "neuron": {
            "equations": "dv/dt = (forward + bias - v)/tau\none = 1",
        }
    },
    "populations": {"neuron": {"layers": "output", "spikes": False}},
    "projections": {"W": {"wire": "input[0] -> forward[1]", "bias": False, "init": "ones"}},
    "parameters": {"tau": "20 ms"},
    "readout": "neuron.v",
    "name": "leaky",
    "layers": [3, 3],
    "activation": "linear",
    "output": "linear",
    "loss": "half-squared",
}
MODEL["projections"]["W"] |= {"post": "one", "pre": "input"}
PHASES = [
    {"name": "free", "duration": "30 ms", "until": "duration", "longer": "8 ms"},
    {"name": "taught", "duration": "20 ms", "until": "duration", "teaching": "clamped",
     "longer": {"mean": "4 ms", "shape": "2 ms"}},
]  # fmt: skip


@pytest.fixture
def protocol(tmp_path):
    np.savez(
        tmp_path / "data.npz",
        **{k: np.eye(3) + 0.5 for k in ("x", "x_test")},
        **{k: np.zeros((3, 3)) for k in ("y", "y_test")},
    )
    (tmp_path / "own.toml").write_text(
        'name = "own"\nlevel = "rate"\nprecision = "float64"\nbatch = 3\n'
        '[task]\nname = "arrays"\npath = "data.npz"\n[[stages]]\nname = "look"\nepochs = 12\n'
        f"phases = []\n[model]\n{_table(MODEL)}\n"
        '[rate]\nscheme = "euler"\ndt = "1 ms"\n'
        '[record]\npresentations = [3, 7]\nsamples = 3\nevery = "10 ms"\n'
    )

    def loaded(**changes):
        return ns.load_protocol(tmp_path / "own.toml", {"stages.0.phases": PHASES} | changes)

    return loaded


def _table(given):
    """A table inline, without a line break."""

    def text(value):
        if isinstance(value, dict):
            return "{ " + ", ".join(f'"{k}" = {text(v)}' for k, v in value.items()) + " }"
        return json.dumps(value)

    return "\n".join(f"{key} = {text(value)}" for key, value in given.items())


def lengths(count, dt=1e-3):
    """Steps of every phase of every presentation."""
    phases = [Phase(p["name"], 0.0, False, "none", ()) for p in PHASES]
    phases[0] = phases[0]._replace(longer=(8e-3, 8e-3))
    phases[1] = phases[1]._replace(longer=(4e-3, 2e-3))
    drawn = [[p.drawn(k, n) for k, p in enumerate(phases)] for n in range(count)]
    return np.array([30, 20]) + np.floor(np.array(drawn) / dt).astype(int)


def test_draws_have_the_mean_and_variance_of_an_inverse_gaussian():
    phase = Phase("free", 0.0, False, "none", (), longer=(2.0, 1.0))
    drawn = np.array([float(phase.drawn(0, n)) for n in range(2000)])
    assert abs(drawn.mean() - 2) < 4 * np.sqrt(8 / 2000)
    assert drawn.min() > 0
    # P(x ≤ mean) of the distribution function Φ(√(λ/x)(x/μ − 1)) + e^{2λ/μ} Φ(−√(λ/x)(x/μ + 1))
    below = 0.5 + np.e * 0.0786496  # λ = 1, x = μ = 2: Φ(0) + e Φ(−√2)
    assert abs(np.mean(drawn <= 2) - below) < 4 * np.sqrt(0.25 / 2000)
    assert float(phase.drawn(1, 0)) != drawn[0]


def test_phases_end_after_their_own_number_of_steps(protocol, tmp_path):
    """Of v ← v + (x − v) dt/τ, n steps leave x (1 − 0.95ⁿ), which the loss reads."""
    run = ns.run(protocol(), out=tmp_path / "a.h5")
    trace, n = ns.open_trace(run.path), lengths(12)
    np.testing.assert_array_equal(trace["metrics"]["effort"].values, n)
    assert len(set(n[:, 0])) > 4 and n.min(0).tolist() != n.max(0).tolist()
    x = (np.eye(3) + 0.5) @ np.ones((3, 3))
    expected = [0.5 * np.mean(np.sum((x * (1 - 0.95**k)) ** 2, 1)) for k in n[:, 0]]
    np.testing.assert_allclose(trace["metrics"]["loss"].values, expected, rtol=1e-6)
    v = trace["traces/layer1"]["v"].values  # 30 and 20 ms, in steps of 10
    np.testing.assert_allclose(v[1, 0, :4, 0], x[0, 0] * (1 - 0.95 ** np.array([0, 10, 20, 30])))
    at = n[7, 0] + np.array([10, 20])
    np.testing.assert_allclose(v[1, 0, 4:, 0], x[0, 0] * (1 - 0.95**at))


def test_chunks_and_levels_draw_the_same(protocol, tmp_path, monkeypatch):
    whole = ns.open_trace(ns.run(protocol(), out=tmp_path / "a.h5").path)
    monkeypatch.setattr("neurosim.runs.loop.CHUNK_SECONDS", 0.0)
    parts = ns.open_trace(ns.run(protocol(), out=tmp_path / "b.h5").path)
    np.testing.assert_array_equal(whole["metrics"]["loss"].values, parts["metrics"]["loss"].values)
    neuron = {
        "equations": "dv/dt = (forward + bias - v)/tau\none = 1\nspikes = forward",
        "threshold": "v > 1",
        "reset": "v = 0",
    }
    changes = {
        "level": "spiking",
        "model.cells": {"neuron": neuron},
        "model.populations": {"neuron": "output"},
        "model.projections": MODEL["projections"],
        "model.parameters": MODEL["parameters"],
        "model.readout": "neuron.v",
        "spiking": {"dt": "1 ms", "window": "10 ms", "target": "numpy"},
    }
    spiking = ns.open_trace(ns.run(protocol(**changes), out=tmp_path / "c.h5").path)
    np.testing.assert_array_equal(spiking["metrics"]["effort"].values, lengths(12))
    times = spiking["spikes/layer1"]["timestamps"].values
    assert len(times) > 20 and np.all(np.diff(times) >= 0) and times.max() <= 100
    # Of the first phase, 30 ms: a train is felt in the step after its spikes.
    felt = spiking["traces/layer1"]["spikes"].values[:, :, 1:4].sum() * 10e-3
    assert felt == pytest.approx(np.sum(np.round(times) % 50 < 29))


@pytest.mark.parametrize("level", ["rate", "equilibrium"])
def test_weights_flow_as_long_as_the_phase_lasts(protocol, tmp_path, level):
    """dW/dt = rate · 1 · mean x: ΔW is the rate times the sum of all times."""
    phases = [PHASES[0] | {"plastic": ["W"]}]
    given = {
        "plasticity": "online",
        "level": level,
        "stages.0.phases": phases,
        "model.projections.W.rate": "2 Hz",
    }
    run = ns.run(protocol(**given), out=tmp_path / "a.h5")
    W = ns.open_trace(run.path)["weights"]["W1"].values
    passed = lengths(12)[:, 0].sum() * 1e-3
    np.testing.assert_allclose(W[-1] - W[0], 2 * passed * (0.5 + 1 / 3), rtol=1e-5)


@pytest.mark.parametrize(
    ("longer", "message"),
    [
        ("-1 ms", "expected"),
        (3, "a bare number has no unit"),
        ({"mean": "1 ms", "shap": "1 ms"}, "did you mean 'shape'"),
        ({"shape": "1 ms"}, "mean: missing"),
    ],
)
def test_what_is_no_time_is_refused(protocol, longer, message):
    with pytest.raises(InputError) as error:
        protocol(**{"stages.0.phases": [PHASES[0] | {"longer": longer}]})
    assert message in str(error.value) and "longer" in str(error.value)
