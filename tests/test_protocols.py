"""Every shipped protocol, small, at every level it defines; and what the shipped ones learn."""

import numpy as np
import pytest

import neurosim as ns
from neurosim.loading import bundled

SMALL = {"record.presentations": 2, "record.samples": 2}

AS_RATES = {
    "level": "rate",
    "stages.0.presentations": 60,
    "stages.0.phases.0.duration": "1 s",
    "stages.0.phases.1.duration": "1 s",
}

# How long, and to which fraction of that of the initial weights the test loss must fall: enough
# to see that the signals point downhill, at the slow rates of some protocols.
SHORT = {
    "quickstart": ({"stages.0.epochs": None, "stages.0.presentations": 10}, 0.6),
    "multiplexing-digits": ({"stages.0.epochs": None, "stages.0.presentations": 10}, 0.6),
    "backprop-digits": ({"stages.0.epochs": None, "stages.0.presentations": 10}, 0.6),
    "mixture-single-phase": ({"stages.0.epochs": None, "stages.0.presentations": 40}, 0.5),
    "student-teacher": ({"stages.0.epochs": None, "stages.0.presentations": 60}, 0.1),
    "target-propagation": ({"stages.0.epochs": None, "stages.0.presentations": 60}, 0.1),
    "online-plasticity": ({"stages.0.epochs": None, "stages.0.presentations": 40}, 0.9),
    # As rates; what they learn as spikes takes minutes: protocols/spiking_learning.py.
    "spiking-student-teacher": (AS_RATES, 0.5),
    "spiking-multiplexing": (AS_RATES, 0.5),
    "feedback-control-digits": ({"stages.0.epochs": None, "stages.0.presentations": 15}, 0.6),
    "sleep": (
        {"stages.0.presentations": 20, "stages.1.epochs": None, "stages.1.presentations": 200},
        0.9,
    ),
}


def test_every_shipped_protocol_is_here():
    assert set(SHORT) == set(bundled("protocols"))


@pytest.mark.parametrize("name", SHORT)
def test_shipped_protocols_learn(name, tmp_path):
    overrides, fraction = SHORT[name]
    result = ns.run(ns.load_protocol(name, SMALL | overrides), out=tmp_path / "trace.h5")
    assert not result.diverged
    trace = ns.open_trace(result.path)
    loss = trace["evaluation/loss"].values
    assert loss[-1] < fraction * loss[0]
    assert result.metrics["test_loss"] == pytest.approx(loss[-1], rel=1e-6)
    if name != "online-plasticity":  # where weights move, states follow them and never rest
        assert set(result.settled.values()) == {1.0}


def errors(name, tmp_path, overrides=None, **options) -> np.ndarray:
    protocol = ns.load_protocol(name, {"record.presentations": 0} | (overrides or {}))
    result = ns.run(protocol, seeds=range(5), out=tmp_path / f"{name}.h5", **options)
    assert not result.diverged
    return np.array(result.metrics["test_error"])


@pytest.mark.long
@pytest.mark.usefixtures("optimized")
@pytest.mark.parametrize("name", ["quickstart", "multiplexing-digits"])
def test_digits_are_learned_as_backprop_learns_them(name, tmp_path):
    """Over five seeds at the rate level: at most 3 % error, within a point of backprop."""
    found = errors(name, tmp_path)
    baseline = errors("backprop-digits", tmp_path)
    assert found.mean() <= 0.03
    assert found.mean() <= baseline.mean() + 0.01
