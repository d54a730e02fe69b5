"""Numbers that may not exist: of silent, constant, exploded and empty recordings and networks.

Every command that looks must say so in words: no traceback, no warning of numpy or matplotlib
(which are errors in tests), no NaN in a sentence.
"""

import re
import shutil

import h5py
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from tiny_runs import TINY

import neurosim as ns
from neurosim import figures
from neurosim.comparison import hold
from neurosim.comparison import in_words as compared
from neurosim.reports import inspection
from neurosim.theory import findings

NUMBERLESS = re.compile(r"\b(nan|-?inf)\b", re.IGNORECASE)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Name → a small finished run, in detail or not, of several seeds or one."""
    folder = tmp_path_factory.mktemp("missing")
    (folder / "tiny.toml").write_text(TINY)
    quick = {"level": "equilibrium", "stages.0.presentations": 2, "record.presentations": [0]}
    kinds = {
        "whole": ({}, None),
        "ensemble": ({}, range(2)),
        "no detail": ({"record.presentations": 0}, None),
        "one of all": ({"record.samples": 1, "record.units": 1, "batch": 1}, None),
    }
    done = {}

    def get(kind):
        if kind not in done:
            changes, seeds = kinds[kind]
            protocol = ns.load_protocol(folder / "tiny.toml", quick | changes)
            done[kind] = ns.run(protocol, seeds=seeds, out=folder / f"{kind}.h5").path
        return done[kind]

    return get


def filled(value, *groups):
    """Every number of these groups is that one."""

    def edit(file):
        for group in groups:
            node = file[group]
            for dataset in [node] if isinstance(node, h5py.Dataset) else node.values():
                if dataset.dtype.kind == "f" and not dataset.is_scale:
                    dataset[...] = value

    return edit


def of_layers(value):
    return filled(value, "traces/layer1", "traces/layer2")


def one_seed_lost(file):
    for name in ("metrics/loss", "evaluation/loss"):
        file[name][:, 0] = np.nan


EDITS = {
    "silent": of_layers(0.0),
    "constant": of_layers(0.25),
    "not a number": of_layers(np.nan),
    "exploded": of_layers(1e30),
    "infinite": of_layers(np.inf),
    "no angle": filled(np.nan, "signals/angle"),
    "loss of zero": filled(0.0, "metrics/loss", "evaluation/loss"),
    "no test": filled(np.nan, "evaluation/loss", "evaluation/error"),
    "no loss but of tests": filled(np.nan, "metrics/loss"),
}
CASES = [("whole", edit) for edit in EDITS] + [
    ("no detail", None),
    ("one of all", None),
    ("one of all", "silent"),
    ("ensemble", "silent"),
    ("ensemble", "lost"),
]


@pytest.fixture(params=CASES, ids=lambda case: ", ".join(filter(None, case)))
def path(request, runs, tmp_path):
    """A trace of which some numbers do not exist."""
    kind, edit = request.param
    copy = tmp_path / "edited.h5"
    shutil.copy(runs(kind), copy)
    with h5py.File(copy, "r+") as file:
        (EDITS | {"lost": one_seed_lost}).get(edit, lambda file: None)(file)
    return copy


def words(text):
    """Sentences that hold no NaN."""
    assert not NUMBERLESS.search(text), text
    return text


def drawn(figure):
    """Drawn without a warning, and with no NaN among its words."""
    FigureCanvasAgg(figure).draw()
    for axes in figure.axes:
        words(axes.get_title("left") + axes.get_xlabel() + axes.get_ylabel())
    return figure


def test_a_trace_is_inspected_and_drawn(path):
    words(inspection.in_words(ns.inspect(path)))
    drawn(figures.overview_figure(path))
    if "traces" in h5py.File(path):
        drawn(figures.variables_figure(path, ["soma"]))
    else:
        with pytest.raises(ns.InputError, match="no presentation was recorded in detail"):
            figures.variables_figure(path, ["soma"])


def test_a_trace_is_compared_with_itself_and_with_a_whole_one(path, runs, tmp_path):
    for k, other in enumerate((path, runs("whole"))):
        found = hold(other, path)
        words(compared(found.report))
        figures.comparison_of(found, tmp_path / f"{k}.png")


NETWORKS = {
    "zero weights": ("mixture-two-phase", {"projections.W.init": "zeros"}),
    "no hidden layer": ("mixture-two-phase", {"layers": [3, 2]}),
    "one unit a layer": (
        "mixture-two-phase",
        {"layers": [1, 1, 1], "output": "linear", "loss": "half-squared"},
    ),
    "backprop without weights": ("backprop", {"projections.W.init": "zeros"}),
    "noise that reaches nothing": (
        "multiplexing",
        {"projections.W.init": "zeros", "projections.Q.init": "zeros", "noise": {"basal": 0.1}},
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_are_analysed_in_words(name):
    model, changes = NETWORKS[name]
    found = ns.analyze(model, {"layers": [3, 4, 2]} | changes, samples=1, starts=1)
    said = words(findings.in_words(found))
    silent = [row.layer for row in found.signals if not row.signal]
    assert bool(silent) == ("a signal of zero has no direction and no digits" in said)
    assert silent == ([1] if "init" in str(changes) else [])
    drawn(figures.analysis_figure(found))


def test_a_network_of_which_nothing_is_taught_has_no_signal_anywhere(tmp_path):
    """No input and a target of zero: an error of zero."""
    np.savez(tmp_path / "zero.npz", x=np.zeros((32, 3)), y=np.zeros((32, 4)))
    (tmp_path / "tiny.toml").write_text(TINY)
    changes = {"task": {"name": "arrays", "path": str(tmp_path / "zero.npz")}}
    protocol = ns.load_protocol(tmp_path / "tiny.toml", changes)
    found = ns.analyze(protocol, samples=1, starts=0)
    assert "nothing is learned in every layer" in words(findings.in_words(found))
    drawn(figures.analysis_figure(found))
