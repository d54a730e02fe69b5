"""Agreement of two traces: zero where they are one, what it is where it is known, or its absence.

Levels, parameters, seeds and models are held against each other as far as they go together.
"""

import json
import shutil

import h5py
import jax
import numpy as np
import pytest
from circuit_models import MIXTURE, RULE
from made_traces import KINDS, made
from typer.testing import CliRunner

import neurosim as ns
from neurosim.cli import app
from neurosim.comparison import TOLERANCE, hold, in_words
from neurosim.comparison.sides import Grid
from neurosim.comparison.verdicts import judged
from neurosim.figures import comparison_figure, overview_figure, raster
from neurosim.figures.spikes import in_burst

SMALL = {
    "model.layers": [64, 8, 10],
    "model.spiking.neurons": 10,
    "model.spiking.soma": "poisson",
    "batch": 4,
    "stages.0.epochs": None,
    "stages.0.presentations": 3,
    "stages.0.phases.0.duration": "300 ms",
    "stages.0.phases.1.duration": "300 ms",
    "spiking.window": "200 ms",
    "spiking.test": 4,
    "spiking.target": "numpy",
    "rate.dt": "2 ms",
    "equilibrium.max_newton": 0,
    "record.presentations": [0, 2],
    "record.every": "20 ms",
}
CIRCUIT = {
    "model": {
        "layers": [64, 8, 10],
        "activation": {"name": "leaky-relu", "slope": 0.35},
        "output": "softmax",
        "loss": "cross-entropy",
        "cells": {
            "pyramidal": {"equations": MIXTURE},
            "output": {"like": "pyramidal", "equations": "g = teach*target + (1 - teach)*soma"},
        },
        "populations": {"pyramidal": "hidden", "output": "output"},
        "projections": {
            "W": {
                "wire": "up[i-1] -> forward[i]",
                "init": "orthogonal",
                "post": RULE.format("soma"),
                "bias": True,
            },
            "Q": {"wire": "down[i+1] -> feedback[i]", "init": "pinv(W[i+1])"},
        },
        "parameters": {"mu": 0.1, "tau_soma": "20 ms"},
        "attenuation": "(mu/(1 - mu))**(L + 1 - i)",
        "target_step": 5.0,
        "spiking": {"neurons": 10, "soma": "poisson"},
    },
    "stages.0.phases.0.plastic": [],
    "stages.0.phases.1.plastic": ["W"],
}
"""The same network as text, in which spikes are smoothed on their way and not by dendrites."""


@pytest.fixture(scope="module")
def traces(tmp_path_factory):
    """Level or variant → its trace, run when first asked for.

    The spiking level looks at a phase once, at its end, and everyone else every 20 ms.
    """
    folder = tmp_path_factory.mktemp("traces")
    level = {"level": "equilibrium"}
    unspiking = {k: v for k, v in SMALL.items() if "spiking" not in k and "phases" not in k}
    circuit = {k: v for k, v in SMALL.items() if not k.startswith("model")} | CIRCUIT
    variants = {
        "circuit rate": ("quickstart", circuit | {"level": "rate"}),
        "circuit spiking": (
            "quickstart",
            circuit | {"level": "spiking", "record.every": "300 ms"},
        ),
        "equilibrium": ("quickstart", SMALL | level),
        "rate": ("quickstart", SMALL | {"level": "rate"}),
        "spiking": ("quickstart", SMALL | {"level": "spiking", "record.every": "300 ms"}),
        "mu": ("quickstart", SMALL | level | {"model.parameters.mu": 0.2}),
        "seed": ("quickstart", SMALL | level | {"seed": 1}),
        "model": ("multiplexing-digits", unspiking | level),
    }

    def get(name):
        path = folder / f"{name}.h5"
        if not path.exists():
            protocol, changes = variants[name]
            with jax.enable_x64(True):
                ns.run(ns.load_protocol(protocol, changes), out=path)
        return path

    return get


def changed(path, name, change):
    """The trace with an array changed in place."""
    with h5py.File(path, "r+") as file:
        values = file[name][()]
        change(values, file)
        file[name][...] = values
    return path


@pytest.mark.parametrize(
    "level",
    [
        "equilibrium",
        pytest.param("rate", marks=[pytest.mark.long, pytest.mark.seldom]),
        pytest.param("spiking", marks=[pytest.mark.long, pytest.mark.seldom]),
    ],
)
def test_a_trace_agrees_with_itself(traces, level):
    report = ns.compare(traces(level), traces(level))
    assert report["first"] is None and report["verdict"]["agree"] is True
    assert report["presentations"] == [0, 2] and report["differs"] == []
    assert report["aligned"] == {"network": True, "samples": 8}
    assert {(r["layer"], r["phase"]) for r in report["agreement"]} == {
        (i, phase) for i in (1, 2) for phase in ("free", "learning")
    }
    for row in report["agreement"]:
        assert row["rmse"] == row["bias"] == 0
        assert row["correlation"] == pytest.approx(1)
    assert len(report["signals"]) == 4
    for row in report["signals"]:
        assert row["cosine"] == pytest.approx(1)
        assert row["ratio"] == pytest.approx(1)
    spikes = [(row["distance"], row["verdict"]) for row in report["spikes"]]
    assert spikes == [(0, "agree")] * (6 if level == "spiking" else 0)


def test_levels_without_spikes_agree_in_the_learning_signal(traces):
    report = ns.compare(traces("equilibrium"), traces("rate"))
    assert report["first"] is None and report["verdict"]["agree"] is True
    assert report["differs"] == [{"key": "level", "a": "equilibrium", "b": "rate"}]
    assert [row["presentations"] for row in report["learning"]] == [0, 3]
    for row in report["signals"]:
        assert row["cosine"] > 0.999
        assert row["ratio"] == pytest.approx(1, abs=0.01)
    assert all(row["expected"] == 0 for row in report["agreement"])


@pytest.fixture(scope="module")
def spiking_report(traces):
    return ns.compare(traces("rate"), traces("spiking"))


@pytest.mark.parametrize(
    ("kind", "count"),
    [
        # Of soma and dendrites; the target of the output is no dendrite's.
        ("", 16),
        pytest.param("circuit ", 16, marks=[pytest.mark.long, pytest.mark.seldom]),
    ],
)
def test_spikes_differ_by_what_counting_them_and_their_network_cause(traces, kind, count):
    """Ten Poisson neurons at 50 Hz + 20 Hz h, counted for 200 ms; spikes shake the layer above."""
    report = ns.compare(traces(f"{kind}rate"), traces(f"{kind}spiking"))
    rows = [r for r in report["agreement"] if r["presentation"] == 0]
    assert len(rows) == count
    for row in rows:
        assert row["verdict"] == "agree"
        assert row["rmse"] < TOLERANCE * row["expected"] + 1e-3 * row["size"]
        if row["expected"]:
            assert 0.5 < row["rmse"] / row["expected"] < 1.6
    with ns.open_trace(traces(f"{kind}rate")) as trace:
        free = [trace[f"traces/layer{i}/soma"].values[0, :, 15] for i in (1, 2)]
        counting = [(50 + 20 * h) / (10 * 0.2 * 20**2) for h in free]
        brought = np.mean(counting[0] @ trace["weights/W2"].values[0].T ** 2)
    expected = np.sqrt([counting[0].mean(), counting[1].mean() + brought])
    found = [r["expected"] for r in rows if (r["phase"], r["variable"]) == ("free", "soma")]
    np.testing.assert_allclose(found, expected, rtol=0.1)  # 200 ms are ten time constants


def test_ends_are_what_plasticity_reads_however_coarse_the_grid(traces, spiking_report):
    """Which fixed points need no time for: both are as far from the spikes, but for settling."""
    report = ns.compare(traces("equilibrium"), traces("spiking"))
    assert len(report["agreement"]) == len(spiking_report["agreement"])
    for a, b in zip(report["agreement"], spiking_report["agreement"], strict=True):
        if a["presentation"] == 0:
            assert a["rmse"] == pytest.approx(b["rmse"], abs=1e-3)
            assert a["bias"] == pytest.approx(b["bias"], abs=1e-3)


def test_a_teaching_signal_below_the_noise_is_lost_and_the_verdict_says_so(spiking_report):
    report = spiking_report
    first = [row for row in report["signals"] if row["presentation"] == 0]
    for row, apart in zip(first, (10, 2), strict=True):
        assert row["verdict"] == "lost"
        assert row["expected"] > apart * row["size_a"]
        assert 0.5 < row["rmse"] / row["expected"] < 1.5
        assert row["cosine"] < 0.7 and row["ratio"] > apart
    part = report["verdict"]["signals"]
    assert part["verdict"] == "lost" and part["worst"] in report["signals"]
    assert report["verdict"]["agree"] is not True
    assert "lost in noise" in in_words(report)
    assert "they agree" not in in_words(report)


@pytest.mark.long
def test_spike_statistics_are_those_of_every_train_that_both_hold(traces):
    """A train is a neuron of ten of a unit, in a sample of four of a presentation of 0.6 s."""
    paths = traces("spiking"), traces("circuit spiking")
    held = hold(*paths)
    found = {(row["population"], row["of"]): row for row in held.report["spikes"]}
    kinds = ("rate", "interval_cv", "correlation")
    assert set(found) == {(f"layer{i}", of) for i in (1, 2) for of in kinds}
    for side, path in zip("ab", paths, strict=True):
        with h5py.File(path) as file:
            for layer, units in (("layer1", 8), ("layer2", 10)):
                times, row = file[f"spikes/{layer}/timestamps"][()], found[layer, "rate"]
                assert row[f"count_{side}"] == 2 * 4 * units * 10
                mean = len(times) / (row[f"count_{side}"] * 0.6)
                assert row[f"mean_{side}"] == pytest.approx(mean, rel=1e-2)
                cv = found[layer, "interval_cv"][f"mean_{side}"]
                assert cv == pytest.approx(1, abs=0.12)  # Poisson neurons, in a short while
    assert "distance" in [axes.get_xlabel() for axes in comparison_figure(held).axes]


def test_noise_may_hide_what_is_not_there(spiking_report):
    """As in a dendrite whose inputs cancel, of which spikes say their noise alone."""
    silent = spiking_report["agreement"][0] | judged(0.01, 0.02, size=0.0)
    part = spiking_report["verdict"]["activity"] | {"verdict": "lost", "worst": silent}
    report = spiking_report | {"verdict": spiking_report["verdict"] | {"activity": part}}
    assert "noise of 0.02 is expected, and nothing for it to hide" in " ".join(
        in_words(report).split()
    )


def test_few_test_samples_let_errors_differ(traces, spiking_report):
    [row, _] = spiking_report["learning"]
    with ns.open_trace(traces("rate")) as trace:
        count = int(trace["evaluation/error"].attrs["samples"])
    p = (count * row["error_a"] + 4 * row["error_b"]) / (count + 4)
    assert row["of"] == "error"
    assert row["expected"] == pytest.approx(np.sqrt(p * (1 - p) * (1 / count + 1 / 4)))


@pytest.mark.parametrize("moments", [2, 4, 61])
def test_the_mean_of_a_state_is_as_unsure_as_its_grid_is_coarse(moments):
    """Of a relaxation: what is counted over the same time lies within twice the deviation."""
    time = np.linspace(0, 300, moments)
    grid = Grid(time, (1 - np.exp(-time / 40))[None, :, None])
    found = grid.means(np.array([0.0, 300.0]), counted=False)
    truth = 1 - 40 / 300 * (1 - np.exp(-300 / 40))
    assert abs(found.values.item() - truth) < 2 * found.slack.item()
    assert found.slack.item() == pytest.approx((1 - np.exp(-7.5)) / np.sqrt(12) / (moments - 1))
    counted = Grid(np.array([0.0, 100, 300]), np.array([0.0, 3, 6])[None, :, None])
    assert counted.means(np.array([0.0, 300]), counted=True).values.item() == pytest.approx(5)


def test_a_difference_is_found_where_it_begins(traces, tmp_path):
    other = tmp_path / "other.h5"
    shutil.copy(traces("rate"), other)
    late = []

    def lift(values, file):
        time, phase = file["traces/time"][()], file["traces/phase_at"][0]
        late.extend(np.flatnonzero((phase == 1) & (time > 400)))
        values[0][:, late] += 0.5

    changed(other, "traces/layer2/soma", lift)
    report = ns.compare(traces("rate"), other)
    first = report["first"]
    assert (first["presentation"], first["phase"], first["layer"]) == (0, "learning", 2)
    assert first["variable"] == "soma"
    assert first["time_ms"] == pytest.approx(420)
    assert first["rmse"] == pytest.approx(0.5)
    verdict = report["verdict"]
    assert verdict["agree"] is False
    assert verdict["activity"]["verdict"] == verdict["signals"]["verdict"] == "differ"
    assert verdict["activity"]["worst"]["rmse"] == pytest.approx(0.5)
    assert verdict["learning"]["verdict"] == "agree"


def test_what_is_not_a_number_agrees_with_nothing(traces, tmp_path):
    other = tmp_path / "other.h5"
    shutil.copy(traces("rate"), other)

    def lose(values, _):
        values[0, 0, -3:, 0] = np.nan

    changed(other, "traces/layer1/soma", lose)
    report = ns.compare(traces("rate"), other)
    assert report["first"]["layer"] == 1
    assert report["first"]["rmse"] is None
    assert report["verdict"]["activity"]["worst"]["rmse"] is None
    assert "not a number" in in_words(report)
    json.dumps(report, allow_nan=False)


# ------------------------------------------------------------------------------------ variants


def test_two_values_of_a_parameter_are_one_network_until_it_is_taught(traces):
    report = ns.compare(traces("equilibrium"), traces("mu"))
    assert report["differs"] == [{"key": "model.parameters.mu", "a": 0.1, "b": 0.2}]
    rows = [r for r in report["agreement"] if r["presentation"] == 0 and r["variable"] == "soma"]
    assert [r["verdict"] for r in rows] == ["agree", "differ", "agree", "differ"]
    lowest, top = (r for r in report["signals"] if r["presentation"] == 0)
    # (μ/(1−μ))^{L+1−i} of the error, where that is small against the activity [T 6.15].
    assert top["ratio"] == pytest.approx(0.25 / (1 / 9), rel=0.1)
    assert lowest["ratio"] == pytest.approx((0.25 / (1 / 9)) ** 2, rel=0.2)
    assert top["cosine"] > 0.99
    words = in_words(report).splitlines()
    assert words[2] == "they differ in:" and words[4].split() == [
        "model.parameters.mu",
        "0.1",
        "0.2",
    ]
    assert report["first"]["time_ms"] is None


def test_two_seeds_have_sizes_and_curves_in_common(traces):
    report = ns.compare(traces("equilibrium"), traces("seed"))
    assert report["differs"] == [{"key": "seeds", "a": [0], "b": [1]}]
    assert report["aligned"]["network"] is False
    with ns.open_trace(traces("seed")) as trace:
        soma = trace["traces/layer2/soma"].values[0, :, 1]
    [row] = [
        r
        for r in report["agreement"]
        if (r["presentation"], r["layer"], r["phase"], r["variable"]) == (0, 2, "learning", "soma")
    ]
    assert row["size_b"] == pytest.approx(np.sqrt(np.mean(soma**2)))
    assert "rmse" not in row
    assert [row["presentations"] for row in report["learning"]] == [0, 3]
    assert report["verdict"]["agree"] is None
    assert "whose units are not the same" in in_words(report)
    assert "not comparable" in in_words(report)


@pytest.mark.long
@pytest.mark.seldom
def test_two_models_are_compared_in_what_their_variables_mean(traces):
    """Free phases of the same weights are the same forward pass, whatever carries it."""
    report = ns.compare(traces("equilibrium"), traces("model"))
    rows = [r for r in report["agreement"] if r["presentation"] == 0]
    assert {r["variable"] for r in rows} == {"basal", "apical", "soma / event_rate"}
    for row in rows:
        if row["phase"] == "free":
            assert row["rmse"] < 1e-3 * row["size"] and row["verdict"] == "agree"
    assert {r["variable"] for r in report["signals"]} == {"soma / burst_signal"}
    assert all(r["cosine"] > 0.99 for r in report["signals"] if r["presentation"] == 0)
    keys = {row["key"] for row in report["differs"]}
    assert {"model.attenuation", "model.parameters.mu", "model.projections.Q.rule"} <= keys


def test_only_what_has_nothing_in_common_is_refused(tmp_path):
    one = made(tmp_path / "one.h5", recorded=())
    other = made(tmp_path / "other.h5", **KINDS["single-phase"] | {"recorded": (3,)})
    with pytest.raises(ns.InputError, match=r"one\.h5 and .*other\.h5: have nothing in common: no"):
        ns.compare(one, other)
    third = made(tmp_path / "third.h5", **KINDS["ensemble"])
    report = ns.compare(one, third)
    assert report["agreement"] == [] and report["verdict"]["activity"] is None
    assert len(report["learning"]) == 3
    with ns.open_trace(third) as trace:  # whose seed 3 is lost at presentation 6
        error = trace["evaluation/error"].values[-1, 1:].mean()
    assert report["learning"][-1]["error_b"] == pytest.approx(error)
    assert [axes.get_xlabel() for axes in comparison_figure(hold(one, third)).axes] == [
        "presentations"
    ] * 2


def test_the_command_prints_a_table_or_json_and_draws(traces, spiking_report, tmp_path):
    runner, figure = CliRunner(), tmp_path / "both.png"
    arguments = ["compare", str(traces("rate")), str(traces("spiking")), "--out", str(figure)]
    words = runner.invoke(app, arguments)
    assert words.exit_code == 0, words.output
    assert "at the end of every phase" in words.output
    assert "teaching signals" in words.output
    assert figure.stat().st_size > 10_000
    again = runner.invoke(app, arguments)
    assert again.exit_code == 2
    assert "--force" in again.output
    report = json.loads(runner.invoke(app, [*arguments, "--force", "--json"]).output)
    assert report["figures"] == [str(figure)]
    assert in_words(report) == in_words(spiking_report)


def test_rasters_need_spikes(traces, tmp_path):
    assert raster(traces("spiking"), tmp_path / "raster.png").stat().st_size > 10_000
    with pytest.raises(ns.InputError, match="holds no spikes"):
        raster(traces("rate"), tmp_path / "none.png")


def test_letters_stay_letters_in_vector_files(traces, tmp_path):
    drawing = raster(traces("spiking"), tmp_path / "raster.svg").read_text()
    assert "time in the presentation (ms)</text>" in drawing
    assert b"/Type3" not in raster(traces("spiking"), tmp_path / "raster.pdf").read_bytes()


def test_the_overview_of_spikes_shows_what_plasticity_reads(traces):
    figure = overview_figure(traces("spiking"))
    with ns.open_trace(traces("spiking")) as trace:
        read = trace["estimates/layer2/soma"].values[-1]
    teaching = next(a for a in figure.axes if "eaching signal" in a.get_title("left"))
    sample = int(figure.axes[0].get_title("left")[-1])
    dots, bar = (x.get_ydata() for x in teaching.lines[2:4])
    np.testing.assert_allclose(dots, np.abs(read[sample, 1] - read[sample, 0]))
    np.testing.assert_allclose(bar, np.sqrt(np.mean(dots**2)))
    marks = [x.get_ydata() for x in figure.axes[1].lines if x.get_marker() == "o"]
    order = np.argsort(trace_last(traces("spiking"), sample))
    np.testing.assert_array_equal(marks[0], read[sample][:, order[0]])


def trace_last(path, sample):
    with ns.open_trace(path) as trace:
        return trace["traces/layer2/soma"].values[-1, sample, -1]


def test_bursts_are_intervals_below_the_limit_of_one_neuron():
    times = np.array([0.0, 5, 6, 30, 46, 50])
    nodes = np.array([3, 3, 7, 7, 7, 3])
    assert in_burst(times, nodes, 16.0).tolist() == [False, True, False, False, False, False]
