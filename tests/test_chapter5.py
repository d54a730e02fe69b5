"""The scripts of chapters 3 to 5: every figure of a short run, with a number out of each."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

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
    import training

    assert training.EXPERIMENTS
    for experiment in training.EXPERIMENTS.values():
        shown = [training.COLOURS[method] for method in experiment.methods]
        assert len(set(shown)) == len(shown)


@pytest.mark.long
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
    import training

    for name, experiment in training.EXPERIMENTS.items():
        for method, (rate, feedback) in experiment.methods.items():
            model = training.protocol(name, method).spec.model
            forward = model.projections["W"].rate
            assert model.credit.name == method
            assert forward.of_layer(1) == rate * (1 if "b" in method[:1] else 2)
            assert model.credit.rate.of_layer(1) == feedback


def test_table_3_1(monkeypatch, tmp_path, capsys):
    import table31

    for method in table31.METHODS:
        assert table31.protocol(method, None, 1).spec.model.credit.name == method
    words = ["--methods", "backprop", "dfa", "--epochs", "3", "--seeds", "2"]
    monkeypatch.setattr(sys, "argv", ["table31.py", *words, "--out", str(tmp_path)])
    table31.main()
    rows = json.loads((tmp_path / "table-3-1-digits.json").read_text())
    for row in rows.values():
        assert row["diverged"] == 0 and np.max(row["test_error_percent"]) < 60  # 90 by chance
