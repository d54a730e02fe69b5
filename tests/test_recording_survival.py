"""Recordings that are killed or stopped on the way, and go on."""

import html
import json
import os
import signal

import numpy as np
import pytest
from command_line import call
from small_spikes import arrays, compiled
from wired_recordings import written

import neurosim as ns
from neurosim.building.synapses import load
from neurosim.levels import cells
from neurosim.recordings.keeping import Keeping, flat, nested
from neurosim.traces.checkpoint import Checkpoint

SMOOTH = (
    "current-clamp",
    {
        "duration": "200 ms",
        "dt": "0.5 ms",
        "model.name": "fitzhugh-nagumo",
        "model.equations": """
        dv/dt = (v - v**3/3 - w + current/unit)/tau
        dw/dt = 0.08*(v + 0.7 - 0.8*w)/tau
    """,
        "model.threshold": "v > 1",
        "model.parameters": {"tau": "1 ms", "unit": "1 pA"},
        "model.start": {"v": -1.2, "w": -0.6},
        "stimuli": [{"amplitude": ["0.1 pA", "0.5 pA"], "start": "5 ms"}],
    },
)
NOISY = "spontaneous", {"duration": "200 ms", "copies": 5, "record.copies": 2, "dt": "1 ms"}
WIRED = {
    "duration": "120 ms",
    "dt": "0.5 ms",
    "cells": {
        "before": {"count": 4, "spikes": {"kind": "poisson", "frequency": "80 Hz"}},
        "after": {"use": "lif", "count": 3},
    },
    "synapses": {
        "plastic": {
            "use": ["ampa", "stdp", "tsodyks-markram"],
            "pre": "before",
            "post": "after",
            "delay": "3 ms",
            "chance": 0.8,
        }
    },
    "stimuli": [
        {"into": "after.current", "amplitude": "600 pA"},
        {
            "kind": "ornstein-uhlenbeck",
            "into": "after.current",
            "amplitude": "300 pA",
            "tau": "2 ms",
        },
    ],
    "record": {"cells": 2, "synapses": 3, "every": "1 ms", "bin": "20 ms"},
}
CASES = {"diffrax": SMOOTH, "alone": NOISY, "synapses": (WIRED, {})}


class Killed(BaseException):
    """A process that ends between two lines."""


@pytest.fixture(params=CASES)
def protocol(request, monkeypatch, tmp_path):
    monkeypatch.setattr(cells, "PART", 100)
    name, changes = CASES[request.param]
    name = written(tmp_path / "wired", name) if isinstance(name, dict) else name
    return load(name, {"target": "numpy", **changes})


def killed_after(monkeypatch, saves):
    """A recording that keeps its state whenever it is asked, and then dies."""
    kept = Keeping.save
    left = iter(range(saves - 1, -1, -1))

    def save(self, state, at):
        going = kept(self, state, at)
        if next(left) == 0:
            raise Killed
        return going

    monkeypatch.setattr(Keeping, "save", save)
    monkeypatch.setattr(Keeping, "due", lambda self: True)


def test_a_killed_recording_goes_on_to_the_same_bits(protocol, tmp_path, monkeypatch):
    """Of one without a break. Killed twice, each time on the way."""
    whole, broken = tmp_path / "whole.h5", tmp_path / "broken.h5"
    ns.record(protocol, out=whole)
    with monkeypatch.context() as dying:
        killed_after(dying, 1)
        with pytest.raises(Killed):
            ns.record(protocol, out=broken)
    assert not broken.exists() and Checkpoint.path(broken).exists()
    with pytest.raises(ns.InputError, match=r"resume .*broken.h5 goes on with it"):
        ns.record(protocol, out=broken)
    monkeypatch.setattr("neurosim.recordings.resumption.alive", lambda writer: False)
    with monkeypatch.context() as dying:
        killed_after(dying, 1)
        with pytest.raises(Killed):
            ns.resume(broken)
    done = ns.resume(broken)
    assert done.path == broken and not Checkpoint.path(broken).exists()
    expected, found = arrays(whole), arrays(broken)
    assert expected.keys() == found.keys()
    assert any(len(v) > 3 for name, v in expected.items() if name.endswith("timestamps"))
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)
    with ns.open_trace(broken) as trace:
        entries = json.loads(trace.attrs["resumed"])
    times = [entry["time_ms"] for entry in entries]
    assert 0 < times[0] < times[1] < protocol.spec.duration * 1e3
    assert not any("differing" in entry for entry in entries)
    with pytest.raises(ns.InputError, match="it is complete"):
        ns.resume(broken)


def dying_with(error):
    def dying(*given):
        raise error

    return dying


@pytest.mark.long
def test_a_recording_that_is_killed_before_a_state_is_kept_begins_again(tmp_path, monkeypatch):
    """As one that is too short for a state on the way, of which `resume` computes all."""
    protocol = load(SMOOTH[0], {**SMOOTH[1], "duration": "20 ms"})
    whole, broken = tmp_path / "whole.h5", tmp_path / "broken.h5"
    with monkeypatch.context() as dying:
        dying.setattr("neurosim.recordings.recording._measured", dying_with(Killed))
        with pytest.raises(Killed):
            ns.record(protocol, out=broken)
    assert not broken.exists() and Checkpoint.path(broken).exists()
    monkeypatch.setattr("neurosim.recordings.resumption.alive", lambda writer: False)
    assert ns.resume(broken).path == broken and not Checkpoint.path(broken).exists()
    ns.record(protocol, out=whole)
    expected, found = arrays(whole), arrays(broken)
    assert expected.keys() == found.keys()
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)
    with ns.open_trace(broken) as trace:
        assert [entry["time_ms"] for entry in json.loads(trace.attrs["resumed"])] == [0]


def test_what_kept_no_state_may_be_begun_again_but_not_beside_its_process(tmp_path, monkeypatch):
    protocol = load(NOISY[0], {**NOISY[1], "target": "numpy"})
    broken, failed = tmp_path / "broken.h5", tmp_path / "failed.h5"
    with monkeypatch.context() as dying:
        dying.setattr("neurosim.recordings.recording._moved", dying_with(Killed))
        with pytest.raises(Killed):
            ns.record(protocol, out=broken)
        dying.setattr("neurosim.recordings.recording._moved", dying_with(RuntimeError))
        with pytest.raises(RuntimeError):
            ns.record(protocol, out=failed)
    assert not Checkpoint.path(failed).exists()  # which a user can mend and repeat
    saved = Checkpoint.load(broken)
    saved.about["recording"] |= {"pid": os.getppid(), "process_began": ""}  # who lives
    saved.save(broken)
    being = f"process {os.getppid()}.* is recording it"
    with pytest.raises(ns.InputError, match=f"{being}; stop that, or give out="):
        ns.record(protocol, out=broken, force=True)
    with pytest.raises(ns.InputError, match=being):
        ns.resume(broken, force=True)
    saved.about["recording"] |= {"process_began": "long ago"}
    saved.save(broken)
    assert ns.record(protocol, out=broken).path == broken
    assert not Checkpoint.path(broken).exists()


def test_a_signal_leaves_a_trace_that_can_be_read_and_goes_on(tmp_path, monkeypatch):
    """Ctrl-C stops it in good order; what was altered since is refused, in words."""
    changes = {"target": "numpy", **NOISY[1], "seed": 3}
    whole, broken = tmp_path / "whole.h5", tmp_path / "broken.h5"
    ns.record(NOISY[0], changes, out=whole)
    with monkeypatch.context() as interrupted:
        interrupted.setattr(Keeping, "due", lambda self: signal.raise_signal(signal.SIGINT) or True)
        before = signal.signal(signal.SIGINT, signal.default_int_handler)  # jobs may ignore it
        try:
            with (
                pytest.warns(ns.NeurosimWarning, match="stopping"),
                pytest.raises(KeyboardInterrupt),
            ):
                ns.record(NOISY[0], changes, out=broken)
        finally:
            signal.signal(signal.SIGINT, before)
    with ns.open_trace(broken) as trace:
        assert trace.attrs["status"] == "interrupted"
        seen = np.isfinite(trace["recording/intensity"].values).all((0, 1))
        assert seen[0] and not seen[-1]
        assert not json.loads(trace.attrs["summary"])["sweeps"]
    saved = Checkpoint.load(broken)
    saved.about["recording"] |= {"host": "elsewhere", "pid": 7}  # which has said that it ends
    saved.about["origin"]["environment"]["brian2"] = "1.0"
    saved.save(broken)
    said = call("resume", broken)
    assert said.exit_code == 2
    assert "is not what it began as" in said.stderr and "brian2: was '1.0'" in said.stderr
    saved.about["recording"]["ended"] = False
    saved.save(broken)
    said = call("resume", broken)
    assert said.exit_code == 2
    assert "still records it can only be known there; --force says" in said.stderr
    assert call("resume", broken, "--force", "--json").exit_code == 0
    with ns.open_trace(broken) as trace:
        [entry] = json.loads(trace.attrs["resumed"])
    *altered, taken = entry["differing"]
    assert altered[0].startswith("brian2: was '1.0', is ")
    assert taken == "process 7 of host elsewhere was taken to have ended"
    page = html.unescape(ns.report(broken, out=tmp_path / "page.html").read_text())
    for line in entry["differing"]:
        assert f"went on with something else: {line}" in page
    assert f"after {entry['time_ms']:.6g} ms, {entry['at']}" in page
    expected, found = arrays(whole), arrays(broken)
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)


def test_a_state_is_the_same_again():
    state = {"a": (1.5, [np.arange(3), None], "x"), "b": {"c": np.float64(0.1), "d": ()}}
    arrays = []
    plain = json.loads(json.dumps(flat(state, arrays)))
    found = nested(plain, arrays)
    np.testing.assert_array_equal(found["a"][1].pop(0), state["a"][1].pop(0))
    assert found == state


@compiled
@pytest.mark.long
@pytest.mark.seldom
def test_compiled_networks_go_on_to_the_same_bits(tmp_path, monkeypatch):
    """Whose random numbers are drawn ahead, and whose spikes lie in queues of their own."""
    protocol = written(tmp_path / "wired", WIRED | {"target": "cython"})
    whole, broken = tmp_path / "whole.h5", tmp_path / "broken.h5"
    ns.record(protocol, out=whole)
    with monkeypatch.context() as dying:
        killed_after(dying, 3)
        with pytest.raises(Killed):
            ns.record(protocol, out=broken)
    monkeypatch.setattr("neurosim.recordings.resumption.alive", lambda writer: False)
    ns.resume(broken)
    expected, found = arrays(whole), arrays(broken)
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)
