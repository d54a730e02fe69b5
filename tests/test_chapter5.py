"""The scripts of chapters 3 to 5: every figure of a short run, with a number out of each."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

import neurosim as ns

STUDIES = Path(__file__).parents[1] / "studies"


@pytest.fixture(autouse=True)
def scripts(monkeypatch):
    """Modules are found as they are when the script runs."""
    monkeypatch.syspath_prepend(str(STUDIES))


def figures(monkeypatch, folder, *words):
    """What the script wrote for these figures."""
    import chapter5

    monkeypatch.setattr(sys, "argv", ["chapter5.py", *words, "--out", str(folder)])
    chapter5.main()
    found = {}
    for name in [word for word in words if word in chapter5.FIGURES]:
        path = folder / f"fig-{name.replace('.', '-')}.png"
        assert path.stat().st_size > 10_000
        found[name] = json.loads(path.with_suffix(".json").read_text())
    return found


def test_a_method_has_one_color_in_every_figure_and_shares_it_with_none_beside_it():
    import theory
    import training

    for method in ("backprop", "mtp"):
        assert theory.OF_METHOD[method] == training.COLOURS[method]
    assert len(set(theory.OF_METHOD.values())) == len(theory.OF_METHOD)
    assert training.EXPERIMENTS
    for experiment in training.EXPERIMENTS.values():
        shown = [training.COLOURS[method] for method in experiment.methods]
        assert len(set(shown)) == len(shown)


@pytest.mark.long
@pytest.mark.seldom
def test_toy_networks_and_learned_inverses(monkeypatch, tmp_path):
    names = ["5.2", "5.3", "5.4", "5.5", "5.9", "5.10", "5.11", "5.12"]
    found = figures(monkeypatch, tmp_path, *names, "--seeds", "3")
    for name in ("5.2", "5.3"):
        steps = found[name]["methods"]["gauss-newton"]["steps_to_within_0.05"]
        assert max(steps) <= 2
    assert max(found["5.4"]["methods"]["mtp"]["steps_to_within_0.05"]) <= 2
    correlations = found["5.5"]["pearson_below_0.1_by_layer_size"]["6"]["of_logarithms"]
    assert min(correlations) > 0.7 and max(correlations) < 0.9
    assert found["5.5"]["sigma_min_smallest_plain"] < found["5.5"]["sigma_min_smallest_robust"]
    white = found["5.9"]["equal layers, 5 → 5"]["white"]
    assert white["last_median"] < 0.2 * white["first_median"]
    assert found["5.10"]["equal layers, 5 → 5"]["white"]["fraction_grown"] == 0
    assert found["5.11"]["equal, 5 → 5"]["last_median"] > 0.5
    assert found["5.12"]["5-5-5"]["largest"] < 1e-9 < 0.1 < found["5.12"]["5-5-3"]["median"]


@pytest.mark.long
def test_training_and_signals(monkeypatch, tmp_path):
    names = ["5.14", "5.16", "5.17"]
    found = figures(monkeypatch, tmp_path, *names, "--seeds", "3", "--epochs", "4")
    methods = found["5.14"]["methods"]
    assert list(methods) == [
        "rtp-ai", "rdtp-ai", "original-rtp", "original-rdtp", "backprop", "bp-fixed",
    ]  # fmt: skip
    assert all(m["fraction_diverged"] < 1 for m in methods.values())
    assert methods["rdtp-ai"]["mean"] < methods["original-rtp"]["mean"]
    assert methods["backprop"]["mean"] < methods["bp-fixed"]["mean"]
    to_tp = {m: s["cosine_tp"]["last"] for m, s in found["5.16"]["layer_1"].items()}
    assert to_tp["rdtp-ai"] > 0.99 and to_tp["original-rtp"] < 0.6
    to_gn = {m: s["cosine_gn"]["last"] for m, s in found["5.17"]["layer_1"].items()}
    assert to_gn["rdtp-ai"] > to_gn["original-rdtp"] > to_gn["original-rtp"]


def test_every_method_of_every_figure_is_a_protocol():
    """As in the thesis' experiments: only backprop trains biases, and its rate falls to 52 %."""
    import training

    for name, experiment in training.EXPERIMENTS.items():
        for method, (rate, feedback) in experiment.methods.items():
            spec = training.protocol(name, method).spec
            backprop = method in ("backprop", "bp-fixed")
            forward = spec.model.projections["W"]
            assert spec.model.credit.name == method
            assert forward.rate.of_layer(1) == rate * (1 if backprop else 2)
            assert spec.model.credit.rate.of_layer(1) == feedback
            assert forward.bias is backprop
            assert spec.schedule.kind == "linear"
            assert spec.schedule.final == (0.52 if backprop else 0.2)
            assert not spec.shuffle


@pytest.mark.parametrize(
    ("experiment", "expected"),
    [
        ("deep", {"tp-ai": 0.005, "rtp-ai": 0.005}),
        ("random", {"rtp-ai": 0.08, "rdtp-ai": 0.05, "original-rtp": 0.01, "original-rdtp": 0.01}),
        ("together", {"tp-ai": 0.08, "dtp-ai": 0.05, "original-tp": 0.01, "original-dtp": 0.01}),
        ("contracting",
         {"rtp-ai": 0.01, "rdtp-ai": 0.05, "original-rtp": 0.01, "original-rdtp": 0.05}),
    ],
)  # fmt: skip
def test_feedback_weights_learn_at_the_rates_of_the_thesis(experiment, expected):
    """Which its captions leave out; the protocol on file is that of one of the methods."""
    import training

    methods = training.EXPERIMENTS[experiment].methods
    assert {m: rates[1] for m, rates in methods.items() if rates[1]} == expected
    file = training.PROTOCOLS / f"{training.EXPERIMENTS[experiment].protocol}.toml"
    model = ns.load_protocol(file).spec.model
    rate, feedback = methods[model.credit.name]
    assert model.projections["W"].rate.of_layer(1) == 2 * rate
    assert model.credit.rate.of_layer(1) == feedback


def trained(final, lost=()):
    """A method that ended at these losses, some of them without counting."""
    import training

    final = np.array(final, float)
    return training.Trained(
        final[None], final[None], {}, np.isin(np.arange(len(final)), lost), seconds=0.0
    )


def test_statistics_are_of_the_seeds_that_lived_the_first_fifteen_beside_all():
    import training

    found = training.summary(trained([1.0, 4.0] * 10 + [np.nan, 7.0], lost=(20, 21)))
    assert found["mean"] == 2.5 and found["median"] == 2.5
    assert found["geometric_mean"] == pytest.approx(2.0)
    assert found["fraction_diverged"] == 2 / 22
    assert found["first_15"]["mean"] == pytest.approx((8 * 1 + 7 * 4) / 15)
    assert found["first_15"]["fraction_diverged"] == 0
    assert found["final_test_loss"][20:] == [None, 7.0]


def test_means_of_a_few_seeds_scatter_as_theory_says():
    """The means of n draws have the variance of the draws over n."""
    import training

    final = np.random.default_rng(1).exponential(size=100)
    means = training.redrawn(trained(final), 15)
    assert means.mean() == pytest.approx(final.mean(), rel=0.02)
    assert means.std() == pytest.approx(final.std() / np.sqrt(15), rel=0.05)


def test_an_order_that_rests_on_the_seeds_that_were_lost_is_told_apart():
    """The first is better on every seed that both kept, and the second by its mean."""
    import training

    easy, hard = np.linspace(1, 2, 50), np.linspace(10, 11, 50)
    found = {
        "first": trained([*easy, *hard]),
        "second": trained([*(easy + 0.5), *hard], lost=range(50, 100)),
    }
    pair = training.neighbours(found, ["second", "first"])["second < first"]
    assert pair["kept"][100] == 1 and pair["kept"][15] > 0.99
    assert pair["both_lived"] == 50
    assert pair["means_where_both_lived"] == pytest.approx([2.0, 1.5])
    same = training.neighbours({"a": found["first"], "b": found["first"]}, ["a", "b"])["a < b"]
    assert same["kept"] == {15: 0, 100: 0}


def test_a_method_without_survivors_has_no_statistics():
    import training

    found = training.summary(trained([np.nan] * 20, lost=range(20)))
    assert found["mean"] is found["median"] is found["means_of_15"] is None
    assert found["fraction_diverged"] == 1


def test_studies_save_figures_as_the_package_does():
    """`neurosim.figures.save` keeps text as text in vector files."""
    studies = list(STUDIES.rglob("*.py"))
    assert studies
    assert not [path.name for path in studies if ".savefig(" in path.read_text(encoding="utf-8")]


@pytest.mark.long
@pytest.mark.seldom
def test_table_3_1(monkeypatch, tmp_path, capsys):
    import table31

    for method in table31.METHODS:
        assert table31.protocol(method, None, 1).spec.model.credit.name == method
    words = ["--methods", "backprop", "srbp", "--epochs", "3", "--seeds", "2"]
    monkeypatch.setattr(sys, "argv", ["table31.py", *words, "--out", str(tmp_path)])
    table31.main()
    rows = json.loads((tmp_path / "table-3-1-digits.json").read_text())
    for row in rows.values():
        assert row["diverged"] == 0 and np.max(row["test_error_percent"]) < 60  # 90 by chance
