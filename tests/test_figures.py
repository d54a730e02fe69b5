"""Figures: what they show is what the trace holds; nothing is cut off; errors say what there is.

Most traces here are made-up numbers in the layout that runs write, for every kind of model; that
it is the layout of runs is tested with a run.
"""

import subprocess
import sys
from itertools import combinations

import matplotlib
import numpy as np
import pytest
from made_traces import KINDS, SETTLED, SIZES, made
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.image import imread
from matplotlib.text import Text

import neurosim as ns
from neurosim import figures, wording
from neurosim.errors import InputError
from neurosim.traces.reader import open_trace


@pytest.fixture(scope="module")
def traces(tmp_path_factory):
    """Kind → its trace, made when first asked for."""
    folder, done = tmp_path_factory.mktemp("traces"), {}

    def get(kind):
        if kind not in done:
            done[kind] = made(folder / f"{kind}.h5", **KINDS[kind])
        return done[kind]

    return get


def panels(figure):
    """Title without its letter → axes; the letters must be a, b, c … in order."""
    titled = [axes for axes in figure.axes if axes.get_title("left")]
    letters, titles = zip(*(axes.get_title("left").split("  ", 1) for axes in titled), strict=True)
    assert list(letters) == [rf"$\mathbf{{{letter}}}$" for letter in "abcdefg"[: len(letters)]]
    return dict(zip(titles, titled, strict=True))


def legend(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def line(axes, label):
    (found,) = [x for x in axes.lines if x.get_label() == label]
    return found


# --------------------------------------------------------------------------- the overview


def test_overview_shows_activity_teaching_learning_and_angles(traces):
    figure = figures.overview_figure(traces("two-phase"))
    assert list(panels(figure)) == [
        f"Somatic rate: presentation 9, sample {figures_sample(traces('two-phase'))}",
        "Teaching signal: learning − free",
        "Loss",
        "Test error",
        "Angle between ΔW and backprop's",
    ]
    title = figure.get_suptitle().replace("\n", " ")
    assert title.startswith("quickstart: mixture-two-phase model, rate level, seed 0; test error ")
    error = open_trace(traces("two-phase"))["evaluation/error"].values[-1]
    assert title.endswith(f"test error {wording.percent(error)}")


def figures_sample(path):
    """The sample whose output the teaching moves most."""
    output = open_trace(path)["traces/layer2/soma"].values[-1]
    return int(np.argmax(((output[:, -1] - output[:, 60]) ** 2).mean(1)))


def test_activity_is_what_the_trace_holds(traces):
    path = traces("two-phase")
    figure, trace, sample = figures.overview_figure(path), open_trace(path), figures_sample(path)
    for layer, axes in enumerate(figure.axes[:2], start=1):
        soma = trace[f"traces/layer{layer}/soma"].values[-1, sample]
        units = {int(x.get_gid()[4:]): x for x in axes.lines if x.get_gid()}
        assert len(units) == min(6, soma.shape[1])
        assert {int(np.argmin(soma[-1])), int(np.argmax(soma[-1]))} <= set(units)
        for unit, drawn in units.items():
            np.testing.assert_array_equal(drawn.get_xdata(), trace["traces/time"].values)
            np.testing.assert_array_equal(drawn.get_ydata(), soma[:, unit])
        assert axes.get_ylabel() == f"layer {layer}\n(a.u.)"
    assert figure.axes[1].get_xlabel() == "time in the presentation (ms)"


def test_phases_are_shaded_up_to_where_nothing_happens_any_more(traces):
    figure = figures.overview_figure(traces("two-phase"))
    axes = figure.axes[0]
    assert [t.get_text() for t in axes.texts] == ["free", "settled", "learning"]
    spans = [tuple(p.get_x() + np.array([0, p.get_width()])) for p in axes.patches]
    assert spans[:3] == [(0, SETTLED), (SETTLED, 600), (600, 600 + SETTLED)]
    assert 600 + SETTLED < axes.get_xlim()[1] < 600 + 2 * SETTLED
    assert axes.patches[0].get_facecolor() != axes.patches[2].get_facecolor()


def test_teaching_signal_is_the_difference_from_the_end_of_the_free_phase(traces):
    path = traces("two-phase")
    axes = panels(figures.overview_figure(path))["Teaching signal: learning − free"]
    trace, sample = open_trace(path), figures_sample(path)
    for layer, drawn in enumerate(axes.lines, start=1):
        soma = trace[f"traces/layer{layer}/soma"].values[-1, sample]
        expected = np.sqrt(np.mean((soma[61:] - soma[60]) ** 2, axis=1))
        np.testing.assert_allclose(drawn.get_ydata(), expected, rtol=1e-12)
        mantissa, exponent = f"{expected[-1]:.1e}".split("e")
        assert drawn.get_label() == rf"layer {layer}: ${mantissa}\times10^{{{int(exponent)}}}$"
    assert axes.get_yscale() == "log"
    assert axes.get_ylabel() == "RMS of Δ somatic rate (a.u.)"
    assert axes.get_xlabel() == "time in the learning phase (ms)"
    np.testing.assert_allclose(axes.lines[0].get_xdata()[:2], [10, 20])


def test_curves_are_mean_and_range_over_seeds_that_live(traces):
    path = traces("ensemble")
    figure = figures.overview_figure(path)
    shown, trace = panels(figure), open_trace(path)
    assert any(title.endswith(", seed 5") for title in shown), "the first seed that lives"
    assert "3 seeds (mean and range)" in figure.get_suptitle()
    assert figure.get_suptitle().replace("\n", " ").endswith("1 of 3 seeds diverged")
    for title, label, name, scale in (
        ("Loss", "training", "metrics/loss", 1),
        ("Loss", "test", "evaluation/loss", 1),
        ("Test error", "test", "evaluation/error", 100),
    ):
        x, values = trace[name]["presentation"].values, scale * trace[name].values
        values[x > 6, 0] = np.nan
        drawn = line(shown[title], label)
        np.testing.assert_array_equal(drawn.get_xdata(), x)
        np.testing.assert_allclose(drawn.get_ydata(), np.nanmean(values, 1), rtol=1e-6)
        bands = [c.get_datalim(shown[title].transData) for c in shown[title].collections]
        assert any(np.allclose([b.y0, b.y1], [np.nanmin(values), np.nanmax(values)]) for b in bands)
    final = [wording.percent(e) for e in trace["evaluation/error"].values[-1, 1:]]
    mean = wording.percent(trace["evaluation/error"].values[-1, 1:].mean())
    words = f"test error {mean}, mean of 2 seeds ({min(final)} to {max(final)})"
    assert words in figure.get_suptitle().replace("\n", " "), "as the end of the run says it"
    assert shown["Loss"].get_ylabel() == "cross-entropy (nats)"
    assert shown["Test error"].get_ylabel() == "test error (%)"


def test_angles_are_in_degrees_beside_the_orthogonal(traces):
    path = traces("ensemble")
    axes = panels(figures.overview_figure(path))["Angle between ΔW and backprop's"]
    angle = open_trace(path)["signals/angle"].values
    angle[2, 0] = np.nan
    for layer in (1, 2):
        drawn = line(axes, f"layer {layer}")
        assert drawn.get_color() == figures.runs.COLOURS[layer - 1]
        np.testing.assert_array_equal(drawn.get_xdata(), [0, 4, 9])
        np.testing.assert_allclose(drawn.get_ydata(), np.nanmean(angle[:, :, layer - 1], 1))
    assert [t.get_text() for t in axes.texts] == ["orthogonal"]
    assert axes.lines[-1].get_ydata() == [90, 90]
    assert axes.get_ylabel() == "angle (degrees)"


def test_without_time_phases_stand_on_top_of_each_other(traces):
    path = traces("equilibrium")
    figure, trace = figures.overview_figure(path), open_trace(path)
    top, teaching = figure.axes[0], panels(figure)["Teaching signal: learning − free"]
    assert legend(top) == ["free", "learning"]
    sample = int(top.get_title("left")[-1])
    soma = trace["traces/layer1/soma"].values[-1, sample]
    order = np.argsort(soma[0])
    for k, name in enumerate(("free", "learning")):
        np.testing.assert_array_equal(line(top, name).get_ydata(), soma[k, order])
    assert top.get_xlabel() == "" and figure.axes[1].get_xlabel() == "units, by activity"
    dots, bar = teaching.lines[:2]
    np.testing.assert_allclose(dots.get_ydata(), np.abs(soma[1] - soma[0]))
    np.testing.assert_allclose(bar.get_ydata(), np.sqrt(np.mean((soma[1] - soma[0]) ** 2)))
    assert teaching.get_ylabel() == "|Δ somatic rate| (a.u.)" and teaching.get_xlabel() == "layer"


def test_multiplexing_shows_both_signals_and_teaches_by_bursts(traces):
    path = traces("multiplexing")
    figure, trace = figures.overview_figure(path), open_trace(path)
    top = figure.axes[0]
    assert legend(top) == ["event rate", "burst signal"]
    sample = int(top.get_title("left")[-1])
    for name in ("event_rate", "burst_signal"):
        values = trace[f"traces/layer1/{name}"].values[-1, sample]
        drawn = [x for x in top.lines if x.get_label() == name.replace("_", " ")]
        assert len(drawn) == 3
        for x in drawn:
            np.testing.assert_array_equal(x.get_ydata(), values[:, int(x.get_gid()[4:])])
        assert len({x.get_linestyle() for x in drawn}) == 1
    bursts = trace["traces/layer1/burst_signal"].values[-1, sample]
    axes = panels(figure)["Teaching signal: learning − free"]
    expected = np.sqrt(np.mean((bursts[61:] - bursts[60]) ** 2, axis=1))
    np.testing.assert_allclose(axes.lines[0].get_ydata(), expected, rtol=1e-5)


def test_a_single_phase_teaches_by_what_the_neuron_did_not_predict(traces):
    path = traces("single-phase")
    figure, trace = figures.overview_figure(path), open_trace(path)
    shown = panels(figure)
    assert "Test error" not in shown, "the task has no classes"
    assert shown["Loss"].get_ylabel() == "squared error (a.u.)"
    sample = int(figure.axes[0].get_title("left")[-1])
    layer = trace["traces/layer1"]
    difference = (layer["soma"].values - layer["basal_rate"].values)[-1, sample, 1:]
    drawn = shown["Teaching signal: soma − basal rate"].lines[0].get_ydata()
    np.testing.assert_allclose(drawn[1:], np.sqrt(np.mean(difference**2, axis=1)), rtol=1e-6)


@pytest.mark.parametrize(
    ("kind", "titles"),
    [
        ("backprop", ["Rate: presentation 9, sample 0", "Loss", "Test error", "Angle"]),
        ("no detail", ["Loss", "Test error"]),
        ("one variable", ["Basal: presentation 9, sample 0", "Loss", "Test error", "Angle"]),
    ],
)
def test_panels_without_content_are_left_out(traces, kind, titles):
    shown = panels(figures.overview_figure(traces(kind)))
    assert [t.removesuffix(" between ΔW and backprop's") for t in shown] == titles


def test_stages_are_marked_where_they_begin(traces):
    shown = panels(figures.overview_figure(traces("stages")))
    for axes in (shown["Loss"], shown["Angle between ΔW and backprop's"]):
        (mark,) = [t for t in axes.texts if t.get_text() == "wake"]
        assert mark.xy[0] == 4
        assert any(list(x.get_xdata()) == [4, 4] for x in axes.lines)
    assert np.isnan(line(shown["Angle between ΔW and backprop's"], "layer 1").get_ydata()[0])


def test_deep_networks_show_some_layers_in_their_colours(traces):
    figure = figures.overview_figure(traces("deep"))
    shown = panels(figure)
    assert [axes.get_ylabel() for axes in figure.axes[:4]] == [
        f"layer {i}\n(a.u.)" for i in (1, 3, 6, 8)
    ]
    angle = shown["Angle between ΔW and backprop's"]
    for axes, layer in zip(figure.axes[:4], (1, 3, 6, 8), strict=True):
        colour = next(x for x in axes.lines if x.get_gid()).get_color()
        assert colour == line(angle, f"layer {layer}").get_color()
    assert len({line(angle, f"layer {i}").get_color() for i in range(1, 9)}) == 8


# ------------------------------------------------------------------------ incomplete traces


def test_an_interrupted_trace_shows_what_is_there(traces):
    figure = figures.overview_figure(traces("early"))
    shown = panels(figure)
    assert any(title.startswith("Somatic rate: presentation 0, ") for title in shown)
    assert "% after 0 presentations; interrupted" in figure.get_suptitle().replace("\n", " ")
    drawn = line(shown["Loss"], "training").get_ydata()
    assert np.isfinite(drawn[0]) and np.isnan(drawn[1:]).all()


def test_a_diverged_trace_shows_what_is_there(traces):
    figure = figures.overview_figure(traces("diverged"))
    assert figure.get_suptitle().endswith(" % after 5 presentations; diverged")
    drawn = line(panels(figure)["Test error"], "test").get_ydata()
    assert np.isfinite(drawn).tolist() == [True, True, False]
    assert "presentation 4" in figure.axes[0].get_title("left"), "the last before"


def test_a_trace_can_be_looked_at_while_it_is_written(tmp_path):
    seen = []
    path = tmp_path / "t.h5"
    made(path, until=7, look=lambda path: seen.append(figures.overview_figure(path)))
    assert seen[0].get_suptitle().endswith("after 5 presentations; unfinished")
    assert "presentation 4" in seen[0].axes[0].get_title("left")


def test_a_trace_without_a_loss_is_refused(tmp_path):
    path = made(tmp_path / "t.h5", until=0, status="interrupted")
    with pytest.raises(InputError, match=r"t\.h5: there is nothing to show: the run wrote no loss"):
        figures.overview(path)
    with pytest.raises(InputError, match="no presentation was recorded in detail, or the run did"):
        figures.variables(path, ["soma"])


# ------------------------------------------------------------------------------- variables


def test_variables_are_drawn_on_demand(traces):
    path = traces("ensemble")
    figure = figures.variables_figure(path, ["soma", "apical_rate"], 4, 1, layers=[2], seed=8)
    assert figure.get_suptitle() == "quickstart, rate level: presentation 4, sample 1, seed 8"
    trace = open_trace(path)
    for axes, name, title in zip(
        figure.axes, ("soma", "apical_rate"), ("somatic rate", "apical rate"), strict=True
    ):
        values = trace[f"traces/layer2/{name}"].values[1, 2, 1]
        units = {int(x.get_gid()[4:]): x.get_ydata() for x in axes.lines if x.get_gid()}
        assert axes.get_title("left") == title and len(units) == SIZES[2]
        for unit, drawn in units.items():
            np.testing.assert_array_equal(drawn, values[:, unit])
        assert axes.get_ylabel() == "layer 2\n(a.u.)"


def test_variables_default_to_the_last_presentation_the_first_sample_and_all_layers(traces):
    figure = figures.variables_figure(traces("multiplexing"), ["apical", "basal"])
    assert figure.get_suptitle() == "quickstart, rate level: presentation 9, sample 0"
    labels = [axes.get_ylabel() for axes in figure.axes]
    assert labels == [f"layer {i}\n(a.u.)" for i in (1, 1, 2)], "the output has no apical dendrite"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"names": ["somma"]},
            r"unknown variable 'somma'; did you mean 'soma'\? \(allowed: soma, basal, apical, ",
        ),
        ({"presentation": 3}, "presentation 3 was not recorded; there are: 0, 4, 9$"),
        ({"sample": 2}, "sample 2 was not recorded; there are: 0, 1$"),
        ({"sample": -1}, "sample -1 was not recorded; there are: 0, 1$"),
        ({"layers": [3]}, "layer 3 was not recorded; there are: 1, 2$"),
        ({"seed": 1}, "seed 1 was not recorded; there are: 0$"),
    ],
)
def test_what_was_not_recorded_is_said(traces, options, message):
    with pytest.raises(InputError, match=message):
        figures.variables(traces("two-phase"), **({"names": ["soma"]} | options))


def test_a_presentation_not_reached_is_not_offered(traces):
    with pytest.raises(InputError, match=r"presentation 4 was not recorded; there are: 0$"):
        figures.variables(traces("early"), ["soma"], presentation=4)


def test_a_variable_of_other_layers_only_is_said(traces):
    with pytest.raises(InputError, match=r"unknown variable 'apical' \(allowed: basal, event_rate"):
        figures.variables(traces("multiplexing"), ["apical"], layers=[2])


# ------------------------------------------------------------------------ how it looks, files


UNITS = ("(a.u.)", "(ms)", "(nats)", "(%)", "(degrees)")
WITHOUT = ("", "layer", "presentations", "units, by activity")


@pytest.mark.parametrize("kind", KINDS)
def test_texts_are_whole_and_apart_and_labels_have_units(traces, kind, monkeypatch):
    """Of the overview, and of a variable; texts are those that in fact are drawn."""
    shown, draw = {}, Text.draw

    def spy(text, renderer):
        if text.get_visible() and text.get_text().strip():
            shown[text] = text.get_window_extent(renderer)
        draw(text, renderer)

    monkeypatch.setattr(Text, "draw", spy)
    path, pictures = traces(kind), [figures.overview_figure(traces(kind))]
    if kind in ("ensemble", "multiplexing at equilibrium"):
        pictures.append(
            figures.variables_figure(path, ["basal_rate" if kind == "ensemble" else "basal"])
        )
    for figure in pictures:
        shown.clear()
        canvas = FigureCanvasAgg(figure)
        with matplotlib.rc_context(figures.runs.STYLE):
            canvas.draw()
        assert len(shown) > 10
        width, height = canvas.get_width_height()
        for text, box in shown.items():
            inside = min(box.x0, box.y0) >= 0 and box.x1 <= width and box.y1 <= height
            assert inside, f"{text.get_text()!r} is cut off"
        for (one, a), (other, b) in combinations(shown.items(), 2):
            assert not a.padded(-1).overlaps(b.padded(-1)), (one.get_text(), other.get_text())
        for axes in figure.axes:
            for label in (axes.get_xlabel(), axes.get_ylabel()):
                assert label in WITHOUT or label.endswith(UNITS), label
            if axes.get_legend() is not None:
                legend = axes.get_legend().get_window_extent()
                covered = legend.padded(-1).overlaps(axes.get_window_extent())
                assert not covered, f"the legend of {axes.get_title('left')} covers data"


def test_files_are_written_where_they_are_wanted(traces, tmp_path):
    path = tmp_path / "t.h5"
    path.write_bytes(traces("two-phase").read_bytes())
    assert figures.overview(path) == tmp_path / "t.png"
    picture = imread(tmp_path / "t.png")
    assert picture.shape == (910, 1430, 4) and picture.std() > 0.05
    assert figures.variables(path, ["soma", "basal_rate"]) == tmp_path / "t-soma-basal_rate.png"
    assert imread(tmp_path / "t-soma-basal_rate.png").std() > 0.05
    vector = figures.overview(path, tmp_path / "new" / "t.svg")
    assert "</svg>" in vector.read_text()


def test_files_that_cannot_be_written_are_refused(traces, tmp_path):
    with pytest.raises(InputError, match=r"t\.jpg: the name of a figure ends in \.png, \.svg or"):
        figures.overview(traces("two-phase"), tmp_path / "t.jpg")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"t\.png: cannot be written there: "):
        figures.overview(traces("two-phase"), tmp_path / "file" / "t.png")


def test_long_curves_are_thinned_from_lowest_to_highest():
    y = np.random.default_rng(0).normal(size=100_003)
    y[[70_000, 20_000]] = 9, -9
    x, thin = figures.runs.envelope(np.arange(y.size), y)
    assert len(x) == len(thin) == 500
    assert thin.max() == 9 and thin.min() == -9
    assert abs(x[np.argmax(thin)] - 70_000) < 401
    assert all(thin[::2] <= thin[1::2])


def test_nothing_global_is_touched(traces, tmp_path):
    script = (
        "import sys, matplotlib; before = matplotlib.rcParams.copy()\n"
        "from neurosim.figures import overview\n"
        f"overview({str(traces('two-phase'))!r}, {str(tmp_path / 't.png')!r})\n"
        "assert matplotlib.rcParams.copy() == before\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", script], check=True)


def test_a_run_has_this_layout(tmp_path):
    small = {"record.presentations": 1, "record.samples": 2, "stages.0.epochs": None}
    protocol = ns.load_protocol("backprop-digits", small | {"stages.0.presentations": 3})
    run = ns.run(protocol, seeds=[0, 1], out=tmp_path / "t.h5")
    shown = panels(figures.overview_figure(run.path))
    assert next(iter(shown)) == "Rate: presentation 0, sample 0, seed 0"
    loss = open_trace(run.path)["metrics/loss"].values
    np.testing.assert_allclose(line(shown["Loss"], "training").get_ydata(), np.mean(loss, 1))
    assert np.nanmax(open_trace(run.path)["signals/angle"].values) < 0.1
    assert "Angle between ΔW and backprop's" not in shown, "backprop's own, which says nothing"


def test_counts_are_shown_in_bins_that_can_be_told_apart():
    """Means of what lies in them, phase by phase, whatever the number of moments."""
    for moments in (7, 61, 4001):
        x, place = np.arange(float(moments)), (np.arange(moments) > moments // 3).astype(int)
        at, binned = figures.runs._binned(x, 2 * x, place)
        assert min(moments, 60) <= len(at) <= 62
        np.testing.assert_allclose(binned, 2 * at)
        assert (np.diff(at) > 0).all()
        sizes = np.diff(at)
        assert sizes.max() < 2.1 * sizes.min(), "no phase ends in a small bin"


def test_every_column_of_a_layer_shows_the_same_units(traces):
    figure = figures.variables_figure(traces("deep"), ["soma", "basal_rate"], layers=[1])
    one, other = ([x.get_gid() for x in axes.lines if x.get_gid()] for axes in figure.axes)
    assert one == other and len(one) == 8


def test_scripts_find_the_pictures_in_the_package():
    assert ns.figures.overview is figures.overview
    assert {"overview", "raster", "comparison", "variables"} <= set(ns.figures.__all__)
