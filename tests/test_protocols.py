"""Every shipped protocol, small, at every level it defines; and what the shipped ones learn."""

import numpy as np
import pytest
from circuit_models import ASKS_FOR_FILES

import neurosim as ns
from neurosim.building.shipped import bundled

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
    "convolution-digits": ({"stages.0.epochs": None, "stages.0.presentations": 60}, 0.6),
    "random-feedback-digits": ({"stages.0.epochs": None, "stages.0.presentations": 60}, 0.6),
    "mixture-single-phase": ({"stages.0.epochs": None, "stages.0.presentations": 40}, 0.5),
    "student-teacher": ({"stages.0.epochs": None, "stages.0.presentations": 60}, 0.1),
    "target-propagation": ({"stages.0.epochs": None, "stages.0.presentations": 60}, 0.1),
    "difference-target-propagation-digits": (
        {"stages.0.epochs": None, "stages.0.presentations": 60},
        0.6,
    ),
    "discrete-transmission-digits": (
        {"stages.0.epochs": None, "stages.0.presentations": 60},
        0.6,
    ),
    "local-goals-n4g4": ({"stages.0.presentations": 40}, 0.8),
    "local-goals-n6g6": ({"stages.0.presentations": 40}, 0.8),
    "local-goals-n6g3": ({"stages.0.presentations": 40}, 0.8),
    "local-goals-flow": ({"stages.0.phases.0.duration": "2 s"}, 0.95),
    "denoising-autoencoder-digits": (  # in sweeps alone, as "sleep"
        {"stages.0.epochs": None, "stages.0.presentations": 60, "equilibrium.max_newton": 0},
        0.6,
    ),
    "stochastic-binary-digits": ({"stages.0.epochs": None, "stages.0.presentations": 300}, 0.9),
    "online-plasticity": ({"stages.0.epochs": None, "stages.0.presentations": 40}, 0.9),
    # As rates; what they learn as spikes takes minutes: studies/spiking_learning.py.
    "spiking-student-teacher": (AS_RATES, 0.5),
    "spiking-multiplexing": (AS_RATES, 0.5),
    "bursting-xor": ({"level": "equilibrium", "stages.0.presentations": 60}, 0.5),
    "burstprop-xor": ({"level": "equilibrium"}, 0.5),
    "burst-ccn-digits": (
        {"stages.0.epochs": None, "stages.0.presentations": 40}
        | {"stages.1.epochs": None, "stages.1.presentations": 60},
        0.7,
    ),
    "burstprop-digits": ({"stages.0.epochs": None, "stages.0.presentations": 60}, 0.7),
    "equilibrium-propagation-digits": (
        {"stages.0.epochs": None, "stages.0.presentations": 15},
        0.6,
    ),
    "least-control-digits": ({"stages.0.epochs": None, "stages.0.presentations": 15}, 0.7),
    "broadcast-alignment-digits": ({"stages.0.epochs": None, "stages.0.presentations": 60}, 0.7),
    "feedback-control-single-phase": ({"stages.0.epochs": None, "stages.0.presentations": 8}, 0.95),
    "predictive-coding-digits": ({"stages.0.epochs": None, "stages.0.presentations": 15}, 0.6),
    "feedback-control-digits": ({"stages.0.epochs": None, "stages.0.presentations": 15}, 0.6),
    "microcircuit-digits": ({"stages.0.epochs": None, "stages.0.presentations": 40}, 0.7),
    "microcircuit-bars": ({"stages.0.epochs": 5, "record.samples": 1}, 0.8),
    "microcircuit-teacher": ({"stages.0.epochs": None, "stages.0.presentations": 60}, 0.7),
    "learning-flow": ({"stages.0.phases.0.duration": "4 s", "batch": 64}, 0.9),
    "microcircuit-online": ({"stages.0.epochs": None, "stages.0.presentations": 40}, 0.95),
    "segregated-dendrites-digits": ({"stages.0.epochs": None, "stages.0.presentations": 60}, 0.5),
    "sleep": (  # without the root solver, which others here settle with; it compiles for long
        {"stages.0.presentations": 20, "stages.1.epochs": None, "stages.1.presentations": 200}
        | {"equilibrium.max_newton": 0},
        0.9,
    ),
}


def test_every_shipped_protocol_is_here():
    assert {*SHORT, "microcircuit-self-prediction", *ASKS_FOR_FILES} == set(bundled("protocols"))


OFTEN = {
    "quickstart", "multiplexing-digits", "target-propagation", "backprop-digits",
    "microcircuit-digits", "spiking-multiplexing",
}  # fmt: skip
"""Those looked at every time; the files of the other models have tests of their learning."""


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in OFTEN else [pytest.mark.long, pytest.mark.seldom])
        for name in SHORT
    ],
)
def test_shipped_protocols_learn(name, tmp_path):
    overrides, fraction = SHORT[name]
    protocol = ns.load_protocol(name, SMALL | overrides)
    result = ns.run(protocol, out=tmp_path / "trace.h5")
    assert not result.diverged and result.shortened == {}
    trace = ns.open_trace(result.path)
    loss = trace["evaluation/loss"].values
    assert loss[-1] < fraction * loss[0]
    assert result.metrics["test_loss"] == pytest.approx(loss[-1], rel=1e-6)
    if (
        protocol.spec.plasticity != "online"
    ):  # where weights move, states follow them and never rest
        assert set(result.settled.values()) == {1.0}


@pytest.mark.long
@pytest.mark.seldom
def test_a_microcircuit_learns_to_predict_itself(tmp_path):
    """Apical potentials fall, in 64 presentations of 3840, to less than a fifth.

    The ends are known, A = −B and I as in the closed form, and weights come closer to both.
    """
    short = SMALL | {"stages.0.epochs": None, "stages.0.presentations": 64, "record.weights": True}
    protocol = ns.load_protocol("microcircuit-self-prediction", short)
    run = ns.run(protocol, seeds=range(2), out=tmp_path / "trace.h5")
    trace = ns.open_trace(run.path)
    apical = trace["traces/layer1/apical"].values
    first, last = np.sqrt((apical**2).mean(axis=(2, 3, 4)))
    assert (last < 0.2 * first).all()
    weights = {name: trace[f"weights/{name}"].values for name in ("A1", "B1", "I1", "W2")}
    for learned, end in ((weights["A1"], -weights["B1"]), (weights["I1"], weights["W2"])):
        before, after = np.linalg.norm(learned - end, axis=(-2, -1))
        assert (after < 0.9 * before).all()


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
