"""`ns.analyze` and `neurosim analyze`: models, protocols and traces; words, data and a figure."""

import json
import re

import matplotlib
import numpy as np
import pytest
from typer.testing import CliRunner

import neurosim as ns
from neurosim.building import assembly
from neurosim.cli import app
from neurosim.reports.analysis import _bounded, _Parts
from neurosim.reports.subjects import subject
from neurosim.theory.closed_forms import free_spectrum, taught_spectrum
from neurosim.theory.findings import in_words
from neurosim.theory.fixed_points import Rest

TAU = 0.02
TINY = {"model.layers": [6, 5, 5], "task.layers": [6, 5, 5], "task.train": 64, "task.test": 20}
TINY |= {"stages.0.epochs": 1, "record.presentations": 2, "record.samples": 2, "batch": 16}
TINY |= {"record.weights": True}


@pytest.fixture(scope="module")
def trace(tmp_path_factory):
    path = tmp_path_factory.mktemp("analysing") / "trace.h5"
    return ns.run(ns.load_protocol("student-teacher", TINY), out=path).path


def invoke(*words):
    result = CliRunner().invoke(app, ["analyze", *map(str, words)])
    return result.exit_code, result.output


@pytest.mark.long
@pytest.mark.seldom
def test_a_model_with_exact_inverses():
    """Verdict, spectra in closed form, error law and its parts; all from a bare model file."""
    found = ns.analyze(
        "mixture", {"layers": [4, 5, 5, 5], "parameters.mu": 0.05}, samples=3, starts=4
    )
    assert (found.kind, found.taught, found.states) == ("model", "following", 15)
    assert [phase.teaching for phase in found.phases] == ["none", "following", "clamped"]
    for phase in found.phases:
        assert phase.settled == phase.stable == 1 and phase.residual < 1e-12
        assert phase.closed_form_error < 1e-12
        assert phase.points == [(4, True)]
    free, _, clamped = found.phases
    assert free.time_constant == pytest.approx(-TAU / free_spectrum(0.05, 3)[0])
    assert clamped.time_constant == pytest.approx(-TAU / taught_spectrum(0.05, 3)[0])
    assert max(found.inverses.errors) < 1e-12
    assert found.inverses.kink_gain < 1 and found.inverses.tolerated > 0.1
    ratio = 0.05 / 0.95
    for below, above in zip(found.signals, found.signals[1:], strict=False):
        assert below.reconstruction < 1e-12 and below.to_gauss_newton < 1e-3
        assert below.signal < above.signal
    assert found.signals[0].signal < 5 * ratio**2 * found.signals[2].signal
    data = json.loads(json.dumps(found.report, allow_nan=False))
    assert data["phases"][0]["eigenvalues"][0] == pytest.approx([free.eigenvalues[0].real, 0])


def test_a_protocol_whose_inverses_are_wrong_and_whose_somata_are_noisy():
    changes = TINY | {"level": "rate", "model.noise": {"soma": 1e-4}, "model.parameters.mu": 0.1}
    changes |= {"model.projections.Q.init": "normal", "stages.0.phases.0.until": "duration"}
    changes |= {"stages.0.phases.1.until": "duration"}
    found = ns.analyze(ns.load_protocol("student-teacher", changes), samples=3, starts=0)
    assert found.inputs == "the first 3 of 20 test samples"
    assert found.phases[0].closed_form is None and found.phases[0].points is None
    assert found.phases[0].durations == {"free": 2.0}
    assert found.inverses.errors[0] > 0.1
    lower, upper = found.signals
    assert 0 < lower.snr < upper.snr
    assert lower.reconstruction > 0 == upper.reconstruction


@pytest.mark.long
@pytest.mark.seldom
def test_models_without_mixing_or_teaching():
    multiplexing = ns.analyze("multiplexing", {"layers": [4, 5, 5, 3]}, samples=2, starts=0)
    assert multiplexing.taught == "frozen" and multiplexing.inverses.tolerated is None
    assert multiplexing.phases[0].time_constant == pytest.approx(TAU)
    plain = ns.analyze("backprop", {"layers": [4, 5, 3]}, samples=2, starts=0)
    assert plain.taught is None and plain.inverses is None
    assert [row.to_backprop for row in plain.signals] == pytest.approx([0, 0], abs=1e-6)
    assert {(row.tp, row.digits) for row in plain.signals} == {(None, None)}
    assert [phase.teaching for phase in plain.phases] == ["none"]


CHANNELS = {  # layers that are taught without a map g; whether inverses are exact
    "tp-ei": (1, True), "mtp": (1, True), "dtp-ai": (1, True), "original-dtp": (1, False),
    "dtp": (2, False), "srbp": (None, None), "rbp": (None, None), "bdfa": (None, None),
}  # fmt: skip


@pytest.mark.parametrize("credit", CHANNELS)
def test_signals_that_have_a_channel_of_their_own(credit):
    """At rest, taken apart where they come down through g; what reaches a layer directly is tp."""
    direct, exact = CHANNELS[credit]
    sizes = {"model.layers": [6] * 4, "task.layers": [6] * 4, "model.projections.W.init": "xavier"}
    changes = TINY | sizes | {"model.credit": credit, "model.target_step": 1e-4}
    changes |= {"stages.0.phases.0.plastic": ["forward"]}
    changes |= {"batch": 1, "record.samples": 1} if credit == "tp-ei" else {}
    protocol = ns.load_protocol("target-propagation", changes)
    found = ns.analyze(protocol, samples=4, starts=0)
    assert found.credit == credit and found.taught is None
    assert found.signals[-1].to_backprop == pytest.approx(0, abs=1e-5)
    assert f"learning signal ({credit}), by layer" in in_words(found)
    if direct is None:
        assert found.inverses is None and "e^TP" not in in_words(found)
        assert found.signals[0].to_backprop > 1
        return
    assert len(found.inverses.errors) == 3 - direct
    for row in found.signals[3 - direct :]:
        assert (row.reconstruction, row.taylor) == (0, 0) and row.tp == row.signal
    lowest = found.signals[0]
    assert lowest.to_tp < 1e-2
    if exact:
        assert lowest.reconstruction < 1e-12 and lowest.to_gauss_newton < 1e-2
    else:
        assert lowest.reconstruction > lowest.signal and lowest.to_gauss_newton > 1


def test_noise_in_signals_that_have_a_channel_of_their_own():
    changes = TINY | {"level": "rate", "rate.dt": "5 ms", "model.noise": {"basal": 1e-3}}
    changes |= {"model.layers": [6] * 3, "task.layers": [6] * 3, "model.credit": "dtp-ai"}
    changes |= {"stages.0.phases.0.until": "duration", "stages.0.phases.0.duration": "200 ms"}
    found = ns.analyze(ns.load_protocol("target-propagation", changes), samples=3, starts=0)
    assert all(0 < row.snr < np.inf for row in found.signals)


@pytest.mark.long
def test_a_trace_before_and_after_learning(trace, tmp_path):
    before, after = (ns.analyze(trace, at=at, samples=3, starts=0) for at in ("initial", None))
    assert (before.moment, after.moment) == ("initial", "final")
    assert max(before.inverses.errors) < 1e-9 < max(after.inverses.errors)
    first, last = (ns.analyze(trace, at=at, samples=3, starts=0) for at in (0, 3))
    assert (first.moment, last.moment) == ("presentation 0", "presentation 3")
    assert first.signals == before.signals and last.signals != after.signals
    assert before.inverses.errors[0] < last.inverses.errors[0] < 1.5 * after.inverses.errors[0]
    protocol = ns.analyze(ns.load_protocol("student-teacher", TINY), samples=3, starts=0)
    assert protocol.signals[0].signal == pytest.approx(before.signals[0].signal, rel=1e-12)
    code, output = invoke(trace, "--json", "--out", tmp_path / "a.png", "--starts", 0)
    data = json.loads(output)
    assert code == 0 and data["kind"] == "trace" and data["warnings"] == []
    size = matplotlib.image.imread(tmp_path / "a.png").shape
    assert size[0] > 400 and size[1] > 1000


def test_samples_are_left_out_whose_state_left_all_bounds_in_some_phase():
    about = subject("mixture", {"layers": [3, 4, 4]}, None, None, 3)

    def bounded(*residuals):
        state = {"soma": (np.arange(12.0).reshape(3, 4),)}
        found = {kind: (about.x, Rest(state, r, r == 0)) for kind, r in residuals}
        parts = assembly.dynamics(about.model).with_layers(), assembly.network(about.model)
        return _bounded(_Parts(about, *parts, found))

    sound = np.zeros(3)
    assert bounded(("none", sound)).about is about
    left = bounded(("none", sound), ("clamped", np.array([0, np.inf, 0])))
    np.testing.assert_array_equal(left.about.x, np.asarray(about.x)[[0, 2]])
    message = r"of 3 samples: with teaching 'clamped' the state .* with parameters\.mu = 0\.05 some"
    with pytest.raises(ns.DivergedError, match=message):
        bounded(("none", sound), ("clamped", np.full(3, np.nan)))


@pytest.mark.long
@pytest.mark.seldom
def test_samples_without_a_fixed_point_are_left_out_and_said(tmp_path):
    """The first test sample is so large that no number holds the state it leads to."""
    rng = np.random.default_rng(0)
    x, y, x_test = (rng.normal(size=(20, n)) for n in (3, 4, 3))
    x_test[0] = 1e308
    np.savez(tmp_path / "mine.npz", x=x, y=y, x_test=x_test, y_test=y)
    task = {"name": "arrays", "path": tmp_path / "mine.npz"}
    changes = {"task": task, "model.layers": [3, 4, 4], "batch": 16}
    changes |= {"model.projections.W.init": "xavier"}
    protocol = ns.load_protocol("student-teacher", changes | {"model.projections.W.gain": 1e200})
    with pytest.raises(ns.DivergedError, match="no fixed point was found for any of 2 samples"):
        ns.analyze(protocol, samples=2, starts=0)
    found = ns.analyze(ns.load_protocol("student-teacher", changes), samples=2, starts=0)
    assert found.inputs.endswith("samples, without 1 whose state leaves all bounds")
    assert all(np.isfinite(phase.eigenvalues).all() for phase in found.phases)
    assert all(np.isfinite(row.signal) for row in found.signals)


def test_what_the_command_says(tmp_path):
    figure = tmp_path / "f.png"
    words = ["mixture", "--set", "layers=[3, 4, 4]", "--samples", 2, "--starts", 3, "--out", figure]
    code, output = invoke(*words)
    assert code == 0
    for pattern in (
        r"mixture: analysis of a model",
        r"2 standard normal inputs with standard normal\s+targets",
        r"1 fixed point that is stable, from 3 random starts",
        r"stable; slowest time constant 31 ms",
        r"-32\.29, -62\.71 per s in closed form, whatever the weights",
        r"layer 1 .* 0\.0°",
        r"figure: .*f\.png",
    ):
        assert re.search(pattern, output), pattern
    code, output = invoke(*words)
    assert code == 2 and "exists; give --force" in output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["mixtur"], r"mixtur: no such file, and no shipped model or protocol .* 'mixture'\?"),
        (["student-teacher", "--at", "final"], r"at final: a protocol has not run; give its trace"),
        (["mixture", "--at", "3"], r"at 3: a model has not learned; give a trace"),
        (
            ["mixture", "--set", "projections.W.init=near-teacher"],
            r"'near-teacher' needs a teacher; analyse a protocol",
        ),
    ],
)
def test_mistakes(words, message, tmp_path):
    code, output = invoke(*words, "--out", tmp_path / "f.png")
    assert code == 2 and re.search(message, output), output


def test_mistakes_about_traces(trace, tmp_path):
    with pytest.raises(
        ns.InputError, match=r"no weights at 'middle'; expected .*initial, final, 0, 3"
    ):
        ns.analyze(trace, at="middle")
    with pytest.raises(ns.InputError, match=r"seed 7 was not run; there are: \[0\]"):
        ns.analyze(trace, seed=7)
    with pytest.raises(ns.InputError, match=r"is a trace, whose keys cannot be changed"):
        ns.analyze(trace, {"model.parameters.mu": 0.1})
    with pytest.raises(ns.InputError, match=r"none\.h5: no such file"):
        ns.analyze(tmp_path / "none.h5")
    assert np.isfinite(ns.analyze(trace, samples=1, starts=0).phases[0].time_constant)
