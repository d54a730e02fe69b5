"""Numbers that may not exist: of silent, constant, exploded and empty recordings and networks.

Every command that looks must say so in words: no traceback, no warning of numpy or matplotlib
(which are errors in tests), no NaN in a sentence.
"""

import re
import shutil
from dataclasses import replace

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
from neurosim.theory.linearisation import spectrum

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


QUICK = {
    ("whole", "silent"),
    ("whole", "not a number"),
    ("whole", "exploded"),
    ("no detail", None),
}
"""Cases that have found faults; the others take as long."""


def case(kind, edit):
    marks = [] if (kind, edit) in QUICK else [pytest.mark.long]
    return pytest.param(kind, edit, id=f"{kind}, {edit or 'as it is'}", marks=marks)


every_case = pytest.mark.parametrize(("kind", "edit"), [case(*each) for each in CASES])


@pytest.fixture
def path(kind, edit, runs, tmp_path):
    """A trace of which some numbers do not exist."""
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


@every_case
def test_a_trace_is_inspected_and_drawn(path, kind):
    words(inspection.in_words(ns.inspect(path)))
    drawn(figures.overview_figure(path))
    if kind != "no detail":
        drawn(figures.variables_figure(path, ["soma"]))
    else:
        with pytest.raises(ns.InputError, match="no presentation was recorded in detail"):
            figures.variables_figure(path, ["soma"])


@every_case
def test_a_trace_is_compared_with_a_whole_one(path, runs, tmp_path):
    found = hold(runs("whole"), path)
    words(compared(found.report))
    figures.comparison_of(found, tmp_path / "compared.png")


@pytest.mark.long
@every_case
def test_a_trace_is_compared_with_itself(path):
    assert "the protocols are the same" in words(compared(hold(path, path).report))


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


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.long) for name in NETWORKS],
)
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


def test_a_jacobian_that_is_not_finite_has_no_modes():
    """Nor is it called stable or unstable, or given a time constant."""
    found = spectrum(np.array([[-1.0, np.nan], [0.0, -1.0]]))
    assert not found.known and not found.stable and not found.complete
    assert np.isnan(found.abscissa) and np.isnan(found.time_constant)


def test_a_phase_without_a_spectrum_is_told_so_in_words_and_picture():
    found = ns.analyze("backprop", {"layers": [3, 2]}, samples=1, starts=0)
    unknown = replace(
        found.phases[0], eigenvalues=np.zeros(0, complex), stable=None, time_constant=np.nan
    )
    found = replace(found, phases=[unknown])
    assert "verdict     unknown: the Jacobian there is" in words(findings.in_words(found))
    assert found.report["phases"][0]["time_constant"] is None
    axes = drawn(figures.analysis_figure(found)).axes[0]
    assert "no mode is known" in [text.get_text() for text in axes.texts]
