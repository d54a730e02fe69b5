"""Synapses between cells: wiring, trains, populations, files."""

import json
from pathlib import Path

import numpy as np
import pytest
from command_line import call
from wired_recordings import PASSIVE, made_to_spike, recorder

import neurosim as ns
from neurosim.building.shipped import bundled
from neurosim.building.synapses import load_synaptic_protocol
from neurosim.comparison import hold, in_words
from neurosim.figures.pairs import comparison_figure
from neurosim.recordings.populations import events, in_bins
from neurosim.specs.toml import read
from neurosim.traces.reader import Arrays
from neurosim.trains import train

SHIPPED = sorted(name for name, path in bundled("recordings").items() if "cells" in read(path).data)


@pytest.fixture
def recorded(tmp_path):
    return recorder(tmp_path)


# --- wiring, trains, populations -----------------------------------------------------------------


def test_what_is_kept_in_synapses_is_the_same_from_spike_to_spike_as_at_every_step(recorded):
    """A trace in every synapse, event-driven, that weights take in; delays within the burst."""
    line = "dtrace/dt = -trace/tau"
    own = {
        "on_pre": "weight += trace; trace += 1",
        "weight": 0,
        "parameters": {"tau": "7 ms"},
        "pre": "pre",
        "post": "post",
        "delay": "9 ms",
    }
    found = recorded(
        {
            "cells": {"pre": made_to_spike(20, 25, 31, 90), "post": made_to_spike(1, count=2)},
            "synapses": {
                "events": {"equations": f"{line} (event-driven)", **own},
                "steps": {"equations": line, **own},
            },
            "record": {
                "variables": ["events.weight", "steps.weight", "steps.trace"],
                "synapses": 2,
            },
        }
    )
    exact = sum(np.exp(-gap / 7) for gap in (5, 6, 11, 59, 65, 70))
    for name in ("events", "steps"):
        assert found[f"{name}.weight"][0, :, -1] == pytest.approx([exact] * 2, rel=1e-6)
    assert np.flatnonzero(found["steps.trace"][0, 0])[0] == 290


def test_cells_are_wired_alike_in_every_sweep_and_never_to_themselves(recorded):
    found = recorded(
        {
            "duration": "5 ms",
            "dt": "0.5 ms",
            "cells": {
                "pre": made_to_spike(1, count=30),
                "cell": {"spikes": {"start": "1 ms", "shift": ["0 ms", "1 ms"]}, "count": 20},
            },
            "synapses": {
                name: {"pre": pre, "post": "cell", "on_pre": "weight += 1", **how}
                for name, pre, how in (
                    ("sparse", "pre", {"chance": 0.2}),
                    ("inner", "cell", {}),
                    ("paired", "cell", {"one_to_one": True}),
                )
            },
        }
    )
    with Arrays.of(found.done.path) as arrays:
        joined = {
            name: np.stack([arrays[f"weights/{name}/{end}"] for end in ("pre", "post")])
            for name in ("sparse", "inner", "paired")
        }
        after = {name: arrays[f"weights/{name}/after"] for name in joined}
    assert abs(joined["sparse"].shape[1] - 120) < 4 * np.sqrt(600 * 0.2 * 0.8)
    assert joined["inner"].shape[1] == 20 * 19
    assert (joined["inner"][0] != joined["inner"][1]).all()
    assert (joined["paired"] == np.arange(20)).all()
    for name, weights in after.items():
        assert weights.shape == (2, joined[name].shape[1])
        assert (weights == 2).all()


@pytest.mark.long
@pytest.mark.seldom
def test_cells_of_a_group_draw_parameters_that_synapses_know(recorded):
    """A synapse that is always open, as wide as the leak that its cell has drawn, halves it all."""
    spread = {"parameters": PASSIVE["parameters"] | {"g": {"mean": "10 nS", "spread": "3 nS"}}}
    protocol = {
        "cells": {"cell": {**PASSIVE, **spread, "count": 3}, "pre": made_to_spike(1)},
        "stimuli": [{"into": "cell.current", "amplitude": ["20 pA", "40 pA"]}],
        "record": {"variables": ["cell.v"], "cells": 3, "every": "100 ms"},
    }
    leak = {"pre": "pre", "post": "cell", "equations": "current_post = g_post*(rest_post - v_post)"}
    alone, halved = (
        recorded({"duration": "1 s", "dt": "1 ms", **protocol, "synapses": synapses})["cell.v"] + 70
        for synapses in ({}, {"leak": leak})
    )
    assert len(set(alone[0, :, -1].round(3))) == 3
    np.testing.assert_allclose(alone[1], 2 * alone[0], atol=1e-9)
    np.testing.assert_allclose(halved[:, :, -1], alone[:, :, -1] / 2, rtol=1e-6)


def test_poisson_trains_have_their_rate_and_every_cell_its_own():
    spec = load_synaptic_protocol("bcm-threshold").spec.cells["before"].spikes
    at, who = train(spec, "before", 3, 200, 2.0, 1e-3, seed=5)
    count = np.bincount(who, minlength=600)
    assert count.mean() == pytest.approx(40, abs=4 * np.sqrt(40 / 600))
    assert count.var() == pytest.approx(40 * (1 - 0.02), rel=0.2)
    steps = np.rint(at / 1e-3)
    np.testing.assert_allclose(at, steps * 1e-3)
    assert (steps >= 1).all() and (steps <= 2000).all() and (np.diff(at) >= 0).all()
    again, other = (train(spec, "before", 3, 200, 2.0, 1e-3, seed=s) for s in (5, 6))
    np.testing.assert_array_equal(at, again[0])
    assert len(other[0]) != len(at) or (other[0] != at).any()


def test_events_and_bursts_of_populations_are_counted():
    at = np.array([0.01, 0.02, 0.03, 0.012, 0.1, 0.117, 0.15, 0.160])
    who = np.array([0, 0, 0, 1, 0, 0, 2, 2])
    found = events(at, who)
    assert sorted(zip(found.at, found.who, found.bursts, strict=True)) == [
        (0.01, 0, True),
        (0.012, 1, False),
        (0.1, 0, False),
        (0.117, 0, False),
        (0.15, 2, True),
    ]
    rates = in_bins(at, who, 2, 2, np.array([0.0, 0.1, 0.2]))  # cells 0 and 1, then 2 and 3
    np.testing.assert_allclose(rates["rate"], [[25, 5], [0, 10]])
    np.testing.assert_allclose(rates["events"], [[15, 5], [0, 5]])
    np.testing.assert_allclose(rates["burst_probability"], [[1 / 3, 0], [np.nan, 1]])


# --- files, commands -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", SHIPPED)
def test_every_protocol_is_checked_and_cited(name):
    protocol = load_synaptic_protocol(name)
    assert protocol.spec.name == name
    assert protocol.spec.source
    assert protocol.sweeps > 1 or protocol.spec.curve is None


def test_every_synapse_is_used_by_a_protocol_and_cited():
    used = set()
    for name in SHIPPED:
        for each in read(bundled("recordings")[name]).data["synapses"].values():
            used |= {each["use"]} if isinstance(each["use"], str) else set(each["use"])
    shipped = bundled("synapses")
    assert set(shipped) - used == {"gap-junction"}  # which has no curve of its own
    for name, path in shipped.items():
        data = read(path).data
        assert data["name"] == name
        assert data["description"] and data["source"]


def test_a_recording_is_drawn_inspected_and_checked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["run", "events-and-bursts", "--set", "target=numpy", "--set", "record.bin=20 ms"]
    report = json.loads(said(*words, "--set", "dt=0.5 ms", "--json"))
    trace = Path(report["trace"])
    assert trace == Path("outputs/events-and-bursts.h5")
    assert [Path(figure).suffix for figure in report["figures"]] == [".png"]
    assert report["sweeps"]["before.burst_probability"] == [0.5]
    assert "exists; give --force" in said(*words, code=2)
    shown = json.loads(said("inspect", trace, "--json"))
    assert shown["sweeps"] == report["sweeps"]
    assert "Payeur et al. 2021" in said("inspect", trace)
    assert "they agree" in said("compare", trace, trace, "--out", tmp_path / "same.png")
    assert "is a recording of a cell" in said("analyze", trace, code=2)
    with ns.open_trace(trace) as tree:
        assert dict(tree["recording/by_events/v"].sizes) == {"sweep": 1, "cell": 1, "time": 601}
        assert tree["recording/by_events/v"].attrs["units"] == "mV"
        counted = tree["populations/before/events"].values[0] * 20e-3
        np.testing.assert_allclose(counted, np.eye(15)[[1, 3, 5, 7, 10, 12]].sum(0), atol=1e-9)
    checked = said("check", "stdp-window")
    assert "# stdp: 1 from before to after" in checked
    assert "at postsynaptic spikes after_post += 1" in checked
    written = tmp_path / "again.toml"
    written.write_text(checked, encoding="utf-8")
    again = load_synaptic_protocol(written).spec
    assert again == load_synaptic_protocol("stdp-window").spec
    listed = said("list", "synapses")
    assert all(name in listed for name in bundled("synapses"))
    message = str(error_of(ns.run, "stdp-window"))
    assert "neurosim.record('stdp-window')" in message


def test_two_recordings_with_synapses_are_held_against_each_other(tmp_path):
    """Weights potentiated four times as much, by a₊ exp(−Δ/τ₊) of the rule."""
    shifts = {"cells.after.spikes.shift": ["-10 ms", "5 ms", "10 ms"], "target": "numpy"}
    paths = [tmp_path / f"{k}.h5" for k in range(3)]
    for path, more in zip(paths, ({}, {"synapses.stdp.parameters.a_plus": 0.02}), strict=False):
        ns.record("stdp-window", shifts | more, out=path)
    found = hold(*paths[:2])
    report = found.report
    gaps = (0.02 - 0.005) * np.exp(-np.array([np.inf, 5, 10]) / 20)
    before, after = report["weights"]
    assert (before["rmse"], before["verdict"]) == (0, "agree")
    assert after["rmse"] == pytest.approx(np.sqrt(np.mean(gaps**2)), rel=1e-6)
    assert (after["when"], after["count_a"], after["verdict"]) == ("after", 3, "differ")
    rows = {row["variable"]: row for row in report["potentials"]}
    assert set(rows) == {"stdp.weight", "stdp.before_pre", "stdp.after_post"}
    assert rows["stdp.weight"]["largest"] == pytest.approx(gaps.max(), rel=1e-6)
    assert rows["stdp.before_pre"]["verdict"] == "agree"
    curve = report["curve"]["stdp.weight"]
    np.testing.assert_allclose(np.subtract(curve["b"], curve["a"]), gaps, atol=1e-9)
    assert [row["population"] for row in report["spikes"]] == ["before", "after"]
    assert report["verdict"]["agree"] is False
    words = in_words(report)
    assert "over the sweeps:" in words and "stdp.weight  after" in words
    assert "shift (ms)" in [axes.get_xlabel() for axes in comparison_figure(found).axes]
    ns.record("spontaneous", {"duration": "50 ms", "target": "numpy"}, out=paths[2])
    with pytest.raises(
        ns.InputError, match=r"0.h5: is .* with synapses between them, and .*2.h5 of ce"
    ):
        ns.compare(paths[2], paths[0])


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
    ("name", "changes", "said"),
    [
        ("stdp-window", {"synapses.stdp.use": "stpd"}, "did you mean 'stdp'"),
        ("stdp-window", {"synapses.stdp.use": ["stdp", 3]}, "got 3; expected a synapse"),
        ("stdp-window", {"synapses.stdp.pre": "bfore"}, "did you mean 'before'"),
        ("stdp-window", {"synapses.stdp.parameters.tau_pluss": "3 ms"}, "did you mean 'tau_plus'"),
        ("stdp-window", {"synapses.stdp.parameters.tau_plus": "3 mV"}, "wrong dimension"),
        ("stdp-window", {"synapses.stdp.parameters.a_minus_post": 1}, "no side"),
        ("stdp-window", {"synapses.stdp.delay": "0.15 ms"}, "not a multiple of dt"),
        ("stdp-window", {"synapses.stdp.dely": "1 ms"}, "did you mean 'delay'"),
        ("stdp-window", {"synapses.stdp.start": {"befor_pre": 1}}, "did you mean 'before_pre'"),
        ("stdp-window", {"synapses.stdp.start": {"before_pre": "a_plsu"}}, "unknown parameter"),
        ("stdp-window", {"synapses.stdp.on_pre": "weight += u_post"}, "unknown name 'u_post'"),
        ("stdp-window", {"synapses.stdp.on_pre": "before_pre += after_post"}, "kept once in every"),
        ("stdp-window", {"synapses.stdp.on_pre": "after_post = 3"}, "must add up"),
        ("stdp-window", {"synapses.stdp.on_pre": "wieght += 3"}, "did you mean 'weight'"),
        ("stdp-window", {"synapses.stdp.on_pre": "weight"}, "changes nothing"),
        ("stdp-window", {"synapses.stdp.equations": "dx/dt -x"}, "is no equation"),
        ("stdp-window", {"synapses.stdp.equations": "dx_pre/dt = -x_pre (event-driven)"}, "only a"),
        ("stdp-window", {"synapses.stdp.equations": "a = b\nb = a"}, "algebraic loop"),
        ("stdp-window", {"synapses.stdp.equations": "current_post = weight"}, "has no equations"),
        ("stdp-window", {"synapses.stdp.equations": "di_pre/dt = -1"}, "another meaning in Brian2"),
        ("stdp-window", {"synapses.stdp.chance": 1.5}, "expected less than 1"),
        ("stdp-window", {"synapses.stdp.one_to_one": True, "cells.after.count": 2}, "1 cells to 2"),
        ("stdp-window", {"cells.before.spikes.start": ["1 ms"] * 3}, "3 values for 40 sweeps"),
        ("stdp-window", {"cells.after.spikes.shift": "-200 ms"}, "a spike at -100 ms"),
        ("stdp-window", {"cells.after.spikes.shift": {"from": "1 mV", "to": "2 mV", "count": 2}},
         "a voltage is no time"),
        ("stdp-window", {"cells.after.spikes.kind": "poisson"}, "frequency: missing"),
        ("stdp-window", {"cells.after.spikes.kind": "list"}, "times: missing"),
        ("stdp-window", {"cells.after.spikes.stop": "1 ms", "cells.after.spikes.kind": "list"},
         "list has none"),
        ("stdp-window", {"cells.after.spikes.count": 3}, "several spikes need it"),
        ("stdp-window", {"cells.after.use": "lif"}, "leave one of both out"),
        ("stdp-window", {"cells.third.count": 3}, "neither use, equations nor spikes"),
        ("stdp-window", {"cells.time.spikes.start": "1 ms"}, "has a meaning of its own"),
        ("stdp-window", {"cells.stdp.spikes.start": "1 ms"}, "of a group of cells as well"),
        ("stdp-window", {"record.variables": ["stdp.weigth"]}, "did you mean 'stdp.weight'"),
        ("stdp-window", {"curve.of": ["stdp.weigth"]}, "did you mean 'stdp.weight'"),
        ("stdp-window", {"curve.against": "cells.after.spikes.start"}, "one number a sweep"),
        ("stdp-window", {"record.cells": 4}, "no group has more than 1"),
        ("stdp-window", {"record.bin": "1 s"}, "longer than the protocol"),
        ("nmda-block", {"synapses.nmda.into": "curent"}, "did you mean 'current'"),
        ("nmda-block", {"synapses.nmda.post": "before"}, "has no equations"),
        ("nmda-block", {"synapses.nmda.pre": "held"}, "held never spikes"),
        ("events-and-bursts", {"synapses.events.weight": "3 nS"}, "unit A^2 V^-2"),
        ("nmda-block", {"stimuli.0.into": "held.comand"}, "did you mean 'command'"),
        ("nmda-block", {"stimuli.0.into": "hold.command"}, "did you mean 'held.command'"),
        ("nmda-block", {"cells.held.equations": "dv/dt = u"}, "unknown name"),
        ("events-and-bursts", {"synapses.events.use": ["event-selective", "ampa"]},
         "name the receptor first"),
        ("events-and-bursts", {"synapses.events.use": ["ampa", "gaba"]}, "have a parameter"),
        ("events-and-bursts", {"cells.by_events.use": "lfi"}, "did you mean 'lif'"),
        ("events-and-bursts", {"cells.before.spikes.times": ["1 ms", "1.01 ms"]}, "in one step"),
    ],
)  # fmt: skip
def test_mistakes_are_said_at_load(name, changes, said):
    assert said in str(error_of(load_synaptic_protocol, name, changes))


def test_a_protocol_without_duration_is_asked_for_it(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text("[cells.cell.spikes]\nstart = '1 ms'\n", encoding="utf-8")
    assert "duration: missing" in str(error_of(ns.record, file))


@pytest.mark.filterwarnings("ignore:overflow")
def test_what_leaves_the_numbers_writes_nothing(tmp_path):
    changes = {
        "synapses.stdp.on_post": "weight = exp(2000*weight)",
        "target": "numpy",
        "dt": "1 ms",
    }
    with pytest.raises(ns.DivergedError, match=r"stdp\.weight left the finite numbers at 22 ms"):
        ns.record("stdp-window", changes, out=tmp_path / "x.h5")
    assert not list(tmp_path.iterdir())
