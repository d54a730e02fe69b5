"""Cells alone: what is measured, their files and commands, what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
from command_line import call
from single_cells import own, recorder
from wired_recordings import PASSIVE

import neurosim as ns
from neurosim.building.cells import load_cell_protocol
from neurosim.building.shipped import bundled
from neurosim.recordings import measures
from neurosim.recordings.measures import OF_POTENTIAL, Steps, measure
from neurosim.recordings.recording import in_words

STEP = {"kind": "step", "start": "20 ms", "duration": "150 ms"}


@pytest.fixture
def recorded(tmp_path):
    return recorder(tmp_path)


# --- what is measured ----------------------------------------------------------------------------


def test_four_panels_show_bursts_where_both_inputs_meet(recorded):
    """One spike, none, a burst, a burst: Larkum's experiment."""
    done, found = recorded("four-panels", {})
    counts = np.bincount(found["node_ids"].astype(int), minlength=4)
    assert counts.tolist() == [1, 0, 3, 3]
    for sweep in (2, 3):
        intervals = np.diff(found["timestamps"][found["node_ids"] == sweep])
        assert (intervals < 16).all()  # ms: what makes a burst
    assert done.sweeps["spikes"] == counts.tolist() and "latency" not in done.sweeps
    words = " ".join(in_words(done, [], 80).split())
    assert "spikes soma alone 1, apical alone 0, both 3, strong apical 3 wall time" in words


def test_the_spread_of_copies_is_said_where_there_is_one():
    cell = {"rheobase": 2.0, "rheobase_spread": 0.25, "rest": -70.0, "rest_spread": 1e-13}
    words = measures.in_words(cell | {"tau": None}, {"rheobase": "nA", "rest": "mV", "tau": "ms"})
    assert list(words) == [("rheobase", "2 ± 0.25 nA"), ("rest", "-70 mV")]


def test_measures_are_those_of_the_spikes():
    t = np.linspace(0, 1, 1001)
    spikes = [np.array([0.05, 0.2, 0.3, 0.5, 0.9]), np.array([0.15]), np.array([])]
    steps = Steps(np.full(3, 0.1), np.full(3, 0.6), np.array([1.0, 2.0, -1.0]))
    no_potential = dict.fromkeys(OF_POTENTIAL, "")
    found = measure(steps, t, None, [[s] for s in spikes], no_potential)
    assert found.sweeps["spikes"].tolist() == [3, 1, 0]
    np.testing.assert_allclose(found.sweeps["rate"], [6, 2, 0])
    np.testing.assert_allclose(found.sweeps["latency"], [0.1, 0.05, np.nan])
    np.testing.assert_allclose(found.sweeps["adaptation"], [1 / 3, np.nan, np.nan])
    np.testing.assert_allclose(found.sweeps["interval_cv"], [1 / 3, np.nan, np.nan])
    assert found.cell == {"rheobase": 1.0, "silent_below": -1.0}
    two = measure(steps, t, None, [[s, np.array([0.5])] for s in spikes], no_potential)
    assert two.sweeps["spikes"].tolist() == [2, 1, 0.5]
    np.testing.assert_allclose(two.sweep_spreads["spikes"], np.sqrt([2, 0, 0.5]))
    np.testing.assert_allclose(two.sweeps["fano_factor"], [1, 0, 1])
    np.testing.assert_allclose(two.sweeps["adaptation"], found.sweeps["adaptation"])
    assert two.cell["rheobase"] == 0.0  # the other copy spikes at all steps


# --- files, commands -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(bundled("neurons")))
def test_every_neuron_is_checked_and_cited(name):
    protocol = load_cell_protocol("current-clamp", {"model.use": name, "stimuli": []})
    assert protocol.spec.model.name == name
    assert protocol.spec.model.source
    kind = "rate" if name.endswith("poisson") else "voltage"
    assert protocol.cell.dimensions[protocol.cell.readout] == kind


def test_a_recording_is_drawn_inspected_and_never_mistaken(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["run", "current-clamp", "--set", "target=numpy", "--set", "copies=2"]
    report = json.loads(said(*words, "--json"))
    trace = Path(report["trace"])
    assert report["cell"]["input_resistance"] == pytest.approx(100, rel=1e-3)
    assert [Path(figure).suffix for figure in report["figures"]] == [".png"]
    assert "exists; give --force" in said(*words, code=2)
    shown = json.loads(said("inspect", trace, "--json"))
    assert shown["measures"]["cell"] == report["cell"]
    assert shown["status"] == "complete"
    assert "input resistance 100 MΩ" in " ".join(said("inspect", trace).split())
    assert "is a recording of a cell" in said("analyze", trace, code=2)
    with ns.open_trace(trace) as tree:
        assert dict(tree["recording/v"].sizes) == {"sweep": 5, "copy": 1, "time": 7001}
        assert tree["recording/v"].attrs["units"] == "mV"
        assert tree["spikes/lif"].attrs["copies"] == 2
    assert "Brian2" in said("check", "current-clamp")
    assert "neurosim.run('quickstart')" in str(error_of(ns.record, "quickstart"))
    assert "neurosim.record('current-clamp')" in str(error_of(ns.run, "current-clamp"))


def said(*arguments, code=0):
    """What a command says, on standard output, or on the other one if it fails."""
    done = call(*arguments)
    assert done.exit_code == code, done.output
    return done.stdout if code == 0 else done.stderr


def error_of(function, *given):
    with pytest.raises(ns.InputError) as caught:
        function(*given)
    return caught.value


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model.use": "adx"}, "did you mean 'adex'"),
        ({"stimuli.0.into": "curent"}, "did you mean 'current'"),
        ({"stimuli.0.amplitude": "10 mV"}, "current unit V"),
        ({"stimuli.0.amplitude": ["1 pA", "2 pA"], "stimuli.0.start": ["1 ms"] * 3}, "3 sweeps"),
        ({"stimuli.0.kind": "sine"}, "stimuli.0.frequency: missing; sine needs it"),
        ({"stimuli.0.tau": "5 ms"}, "it belongs to ornstein-uhlenbeck"),
        ({"stimuli.0.amplitude": {"from": "1 pA", "to": "2 mV", "count": 3}}, "different units"),
        ({"stimuli.0.amplitude": {"from": "1 pA", "to": "2 pA", "count": 1}}, "at least 2"),
        ({"stimuli.0.amplitude": {"low": "1 pA"}}, "a range has the keys"),
        ({"stimuli.0.reversal": "0 mV"}, "that of a conductance"),
        (
            {
                "stimuli.0": {"amplitude": "1 nS", "reversal": "0 mV", "into": "shared"},
                "model.equations": "da/dt = (g*(rest - a) + shared)/c\n"
                "db/dt = (g*(rest - b) + shared)/c",
                "model.parameters": PASSIVE["parameters"],
                "model.inputs": ["shared"],
            },
            "the one potential that shared moves; here that is a, b",
        ),
        ({"stimuli.0.units": [3]}, "there is no copy 3"),
        ({"stimuli.0.start": "2 s"}, "after the end of the protocol"),
        ({"model.parameters.g_leek": "3 nS"}, "did you mean 'g_leak'"),
        ({"model.parameters.g_leak": {"file": "g.npz"}}, "expected mean and spread"),
        ({"model.parameters.g_leak": {"mean": "3 nS", "spread": 0.3}}, 'such as "3 nS"'),
        ({"model.parameters.g_leak": {"mean": "3 nS", "spread": "1 mV"}}, 'such as "3 nS"'),
        ({"model.use": "poisson"}, "the cell has no inputs"),
        ({"model.equations": "", "model.inputs": [], "stimuli": []}, "a line such as dv/dt"),
        ({"model.threshold": "u > v_threshold"}, "unknown name 'u'"),
        ({"model.equations": "dv/dt = (e_leak - u)/tau"}, "unknown name"),
        ({"model.readout": "u"}, "unknown quantity 'u'"),
        ({"record.variables": ["u"]}, "unknown quantity 'u'"),
        ({"record.copies": 2}, "there are 1"),
        ({"record.every": "0.15 ms"}, "not a multiple of dt"),
        ({"sweeps": ["a"]}, "1 names for 5 sweeps"),
        ({"copies": 0}, "at least 1"),
    ],
)
def test_mistakes_are_said_at_load(changes, said):
    assert said in str(error_of(load_cell_protocol, "current-clamp", changes))


def test_a_cell_that_leaves_the_numbers_writes_nothing(tmp_path):
    model = {"equations": "dv/dt = v*v*v", "inputs": [], "start": {"v": 1.0}}
    with pytest.raises(ns.DivergedError, match="left the finite numbers in sweep 0"):
        ns.record(
            "current-clamp", own(model) | {"stimuli": [], "duration": "1 s"}, out=tmp_path / "x.h5"
        )
    assert not list(tmp_path.iterdir())


def test_a_stimulus_is_read_from_a_file(recorded, tmp_path):
    t = np.array([0, 0.1, 0.2, 0.7])
    np.savez(tmp_path / "i.npz", t=t, values=[[0, 1, 1, 0], [0, -1, -1, 0]])
    given = {"kind": "file", "file": str(tmp_path / "i.npz"), "amplitude": ["10 pA", "20 pA"]}
    _, found = recorded("current-clamp", own(PASSIVE) | {"stimuli": [given]})
    exact = np.outer([10, -20], np.interp(found["time"] * 1e-3, t, [0, 1, 1, 0]))  # at whole steps
    np.testing.assert_allclose(found["stimulus0"][:, 0], exact, atol=1e-9)
    np.savez(tmp_path / "i.npz", t=t[:3], values=np.zeros(3))
    message = str(error_of(load_cell_protocol, "current-clamp", {"stimuli": [given]}))
    assert "expected all of the protocol" in message
    assert "stimuli" in message
