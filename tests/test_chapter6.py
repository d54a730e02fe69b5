"""The script of chapter 6 and its protocols, small."""

import json
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import neurosim as ns

STUDIES = Path(__file__).parents[1] / "studies"


@pytest.fixture(autouse=True)
def scripts(monkeypatch):
    """Modules are found as they are when the script runs."""
    monkeypatch.syspath_prepend(str(STUDIES))


@pytest.mark.long
@pytest.mark.seldom
def test_every_method_of_every_task_is_a_protocol(tmp_path):
    from ch6.learning import METHODS, PROTOCOLS, TASKS, changes, jobs

    seen = set()
    for job in jobs(range(3, 5), tmp_path):
        protocol = ns.load_protocol(PROTOCOLS / f"{TASKS[job.task].protocol}.toml", changes(job))
        phases = [phase.teaching for phase in protocol.spec.stages[0].phases]
        forward = protocol.spec.model.projections["W"]
        assert (len(phases) == 2) == ("_free" in str(forward.post))
        assert list(job.seeds) == [0, 1, 2, 3, 4]
        seen.add(job.method)
    assert seen == set(METHODS)
    assert ns.load_protocol(PROTOCOLS / "ch6-sleep.toml").spec.stages[0].order == "top-down"


def test_a_job_learns_and_its_trace_is_used_again(tmp_path, monkeypatch):
    from ch6 import learning

    job = learning.Job(
        "student–teacher 6-6-6", "two phases, fixed", 0.008, range(2), tmp_path / "a.h5"
    )
    short = {"stages.0.epochs": 2, "task.train": 320, "task.test": 50, "record.presentations": 0}
    full = learning.changes
    monkeypatch.setattr(learning, "changes", lambda job: full(job) | short)
    first = learning.train(job)
    assert first["curves"]["loss"].shape == (3, 2)
    assert (first["curves"]["loss"][-1] < 0.5 * first["curves"]["loss"][0]).all()
    written = job.trace.stat().st_mtime_ns
    again = learning.train(job)
    assert job.trace.stat().st_mtime_ns == written
    np.testing.assert_array_equal(again["curves"]["loss"], first["curves"]["loss"])
    learning.train(job._replace(rate=0.004))
    assert job.trace.stat().st_mtime_ns > written


def test_the_error_law_of_a_few_networks():
    from ch6 import error_law
    from ch6.common import batch

    measured = {"relative_error": {}, "attenuation": {}, "exact_networks": {}}
    with jax.enable_x64(True):
        error_law._one(measured, "linear", 2, 0.3, batch((4, 4, 4), "linear", range(5)))
    (exact,) = measured["exact_networks"].values()
    assert exact["fraction"] == 1 and exact["n"] == 5
    (attenuation,) = measured["attenuation"].values()
    assert attenuation[0]["median"] == pytest.approx((0.3 / 0.7) ** 2)


@pytest.mark.long
@pytest.mark.seldom
def test_predictions_of_two_networks(monkeypatch, tmp_path):
    """The script, small; what is exact is so in any network."""
    import chapter6

    words = ["--only", "1", "2", "3", "4", "6", "7", "--seeds", "2", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["chapter6.py", *words])
    chapter6.main()
    report = json.loads((tmp_path / "chapter6.json").read_text())
    assert sorted(report) == ["1", "2", "3", "4", "6", "7"]
    for found in report.values():
        assert found["verdict"] in ("holds", "holds in part", "fails")
        assert all((tmp_path / name).stat().st_size > 10_000 for name in found["figures"])
    exact = report["1"]["measured"]["exact_networks"]
    linear = [share for case, share in exact.items() if case.startswith("linear")]
    assert linear and all(share["fraction"] == 1 for share in linear)
    asleep = report["6"]["measured"]["asleep, top-down"]["layers"]
    assert max(layer[-1]["high"] for layer in asleep) < 1e-4
    basins = report["7"]["measured"]["linear, μ=0.05, error 0.0"]["returned"]
    assert all(share["fraction"] == 1 for share in basins)


def test_learning_is_judged_by_what_ends_below_a_trained_output(tmp_path):
    from ch6 import learning

    low, high = np.full(10, 1.0), np.full(10, 2.0)
    finals = {
        name: {
            method: low if method.startswith(("two", "mul")) else high for method in task.methods
        }
        for name, task in learning.TASKS.items()
    }
    finals["student–teacher 6-6-6"]["one phase, tied"] = low
    finals["student–teacher, 4 hidden layers"]["one phase, tied"] = np.append(low[1:], np.nan)
    claims = learning._claims(finals)
    exact, wrong, two, multiplexing, deep = claims.values()
    assert sorted(exact.values()) == [0.9, 1.0]
    assert set(wrong.values()) == set(two.values()) == set(multiplexing.values()) == {1.0}
    assert set(deep.values()) == {0.0} and len(deep) == 6


def test_bands_and_proportions():
    from ch6.common import band, plain, proportion

    values = np.append(np.arange(101.0), np.nan)
    assert band(values) == {"median": 50, "low": 5, "high": 95, "n": 101}
    nothing, some = proportion(0, 100), proportion(50, 100)
    assert nothing["low"] == 0 and nothing["high"] == pytest.approx(0.037, abs=1e-3)
    assert (some["low"], some["high"]) == pytest.approx((0.404, 0.596), abs=1e-3)
    assert plain({"a": np.float64("nan"), 2: [np.int64(3)]}) == {"a": None, "2": [3]}


def test_the_page_is_written_from_the_report(tmp_path):
    import chapter6

    (tmp_path / "law.png").write_bytes(b"png")
    entry = {"prediction": "signals shrink", "source": "T 6.15", "verdict": "holds", "wall_s": 3.2}
    entry |= {"because": "they did", "seeds": "3 seeds", "measured": {}, "figures": ["law.png"]}
    page = chapter6.document({"1": entry}, tmp_path, tmp_path / "docs")
    text = page.read_text(encoding="utf-8")
    assert "| 1 | signals shrink (T 6.15) | **holds** | 3 s |" in text
    assert (tmp_path / "docs" / "chapter6" / "law.png").exists()
    assert json.dumps(entry) and "chapter6" in sys.modules
