"""The benchmarks themselves: what counts as a regression, gates, and that every part still runs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"
MACHINE = {"device": "cpu", "processor": "one", "cores": 2}
MOMENT = {"commit": "abc", "load": 0.5}


@pytest.fixture
def parts(monkeypatch):
    """The modules of the folder, by name."""
    monkeypatch.syspath_prepend(str(FOLDER))
    import history
    import measure
    import regressions

    return {"history": history, "measure": measure, "regressions": regressions}


def entry(parts, tmp_path, rows, machine=MACHINE, when="2026-01-01T00:00:00"):
    """An entry as the file has it, read again."""
    path = tmp_path / "history.jsonl"
    parts["history"].append(path, MOMENT | {"when": when}, machine, {"part": rows})
    return parts["history"].read(path)[-1]


def times(parts, seconds, what="a step"):
    return parts["measure"].duration(what, np.asarray(seconds), "s")


def test_a_history_gives_back_what_was_put_in(parts, tmp_path):
    row = times(parts, [1.0, 2.0, 4.0])
    absent = parts["measure"].Absent("another", "not installed")
    found = entry(parts, tmp_path, [row, absent])
    assert found.parts == {"part": {"a step": row, "another": absent}}
    assert found.machine == MACHINE
    assert (row.value, row.best, row.repeats) == (2.0, 1.0, (1.0, 2.0, 4.0))


def test_a_slower_step_is_worse_and_a_faster_one_better(parts, tmp_path):
    rng = np.random.default_rng(0)
    noise = 1 + 0.02 * rng.standard_normal((3, 2, 10))
    old = [times(parts, noise[k, 0], f"step {k}") for k in range(3)]
    factors = (1.5, 1.0, 0.5)
    new = [times(parts, factors[k] * noise[k, 1], f"step {k}") for k in range(3)]
    before, after = (entry(parts, tmp_path, rows) for rows in (old, new))
    verdicts = {c.what: c.verdict for c in parts["regressions"].changes(before, after)}
    expected = {"part: step 0": "worse", "part: step 1": "", "part: step 2": "better"}
    assert verdicts == expected


def test_more_is_better_where_more_is_wanted(parts, tmp_path):
    measure, ones = parts["measure"], np.ones(8)
    noise = 1 + 0.01 * np.arange(8)
    wanted = {"limit": (">=", 2.0)}
    old = measure.ratio("rival over ours", 3 * noise, ones, **wanted)
    new = measure.ratio("rival over ours", 2 * noise, ones, **wanted)
    before, after = (entry(parts, tmp_path, [row]) for row in (old, new))
    (change,) = parts["regressions"].changes(before, after)
    assert change.verdict == "worse"
    assert change.grown == pytest.approx(1 / 3)


def test_a_certain_but_small_change_is_none(parts, tmp_path):
    noise = 1 + 1e-4 * np.arange(10)
    before = entry(parts, tmp_path, [times(parts, noise)])
    after = entry(parts, tmp_path, [times(parts, 1.03 * noise)])
    (change,) = parts["regressions"].changes(before, after)
    assert change.p < 1e-3
    assert change.verdict == ""


def test_chance_alone_rarely_makes_a_regression(parts, tmp_path):
    """Of 40 histories without any change, few raise an alarm over any of 10 quantities."""
    rng, alarms = np.random.default_rng(1), 0
    Measurement = parts["history"].Measurement
    for _ in range(40):
        made = []
        for _ in range(2):
            rows = [times(parts, rng.lognormal(0, 0.2, 7), f"step {k}") for k in range(10)]
            shown = {"part": {row.what: row for row in rows}}
            made.append(Measurement("now", "abc", 0.0, MACHINE, shown))
        alarms += any(c.verdict == "worse" for c in parts["regressions"].changes(*made))
    # Two are expected (a false discovery rate of 5 %, nothing changed); seven have a chance of 1 %.
    assert alarms <= 6


def test_too_few_repeats_are_not_compared(parts, tmp_path):
    before, after = (entry(parts, tmp_path, [times(parts, [s] * 4)]) for s in (1.0, 9.0))
    assert parts["regressions"].changes(before, after) == []


def test_of_two_machines_only_ratios_are_compared(parts, tmp_path):
    ones = np.ones(6)
    rows = [times(parts, ones), parts["measure"].excess("overhead", 1.2 * ones, ones)]
    rows[1] = rows[1]._replace(limit=("<=", 10.0))
    before = entry(parts, tmp_path, rows)
    after = entry(parts, tmp_path, rows, MACHINE | {"processor": "another"})
    found = parts["regressions"].changes(before, after)
    assert [change.what for change in found] == ["part: overhead"]


@pytest.mark.parametrize("asked", ["0", "2026-01-01", "-2"])
def test_an_entry_is_chosen_by_its_time_or_its_place(parts, tmp_path, asked):
    first = entry(parts, tmp_path, [times(parts, [1.0])])
    entry(parts, tmp_path, [times(parts, [2.0])], when="2026-02-01T00:00:00")
    known = parts["history"].read(tmp_path / "history.jsonl")
    assert parts["history"].chosen(known, asked) == first


def test_no_such_entry_says_which_there_are(parts, tmp_path):
    entry(parts, tmp_path, [times(parts, [1.0])])
    known = parts["history"].read(tmp_path / "history.jsonl")
    with pytest.raises(
        ValueError, match=r"2031: expected one of\n  0: 2026-01-01T00:00:00 \(abc\)"
    ):
        parts["history"].chosen(known, "2031")


def test_energy_counts_through_an_overflow(parts, monkeypatch, tmp_path):
    import energy

    package = tmp_path / "intel-rapl:0"
    package.mkdir()
    (package / "max_energy_range_uj").write_text("9999999")
    (package / "energy_uj").write_text("9000000")
    monkeypatch.setattr(energy, "COUNTERS", tmp_path)
    assert energy._packages() == [package]
    turns = iter(range(energy.EPOCHS))

    def call():
        if next(turns) == energy.EPOCHS - 1:
            (package / "energy_uj").write_text("2000000")

    assert energy.spent(call, [package]) == pytest.approx(3.0)


def test_a_question_whose_time_is_over_is_ended_and_what_it_found_kept(
    parts, monkeypatch, tmp_path
):
    import gpu

    row, script = parts["measure"].Row("found", 2.0, "s", 1.0, ("<=", 3.0)), tmp_path / "asked.py"
    said = json.dumps(parts["history"].written(row))
    script.write_text(f"import time\nprint({said!r}, flush=True)\ntime.sleep(600)")
    monkeypatch.setattr(gpu, "__file__", str(script))
    missing = parts["measure"].Absent("products: all that is missing", "did not end within 1 s")
    assert gpu.within(1.0, "products", "cpu") == [row, missing]
    script.write_text("raise ValueError('no device')")
    missing = missing._replace(why="ValueError: no device")
    assert gpu.within(60.0, "products", "cpu") == [missing]


COMPILED = """\
HloModule jit_step, is_scheduled=true

%fused_computation (p.1: f32[4]) -> f32[4] {
  %p.1 = f32[4]{0} parameter(0)
  ROOT %add.1 = f32[4]{0} add(%p.1, %p.1)
}

%command_buffer (p.2: f32[4]) -> f32[4] {
  %p.2 = f32[4]{0} parameter(0)
  %gemm = (f32[4]{0}, s8[64]{0}) custom-call(%p.2), custom_call_target="__cublas$gemm"
  %first = f32[4]{0} get-tuple-element(%gemm), index=0
  ROOT %loop_fusion = f32[4]{0} fusion(%first), kind=kLoop, calls=%fused_computation
}

ENTRY %main (x: f32[4]) -> f32[4] {
  %x = f32[4]{0} parameter(0)
  %called = f32[4]{0} call(%x), to_apply=%command_buffer
  ROOT %out = f32[4]{0} fusion(%called), kind=kLoop, calls=%fused_computation
}
"""
"""As XLA writes a program for a GPU: of three operations, two of them handed over as a whole."""


def test_operations_that_are_launched_are_counted(parts):
    import bounds

    assert bounds.launches(COMPILED) == 3


def run(*arguments):
    command = [sys.executable, str(FOLDER / "run.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ)


@pytest.mark.long
@pytest.mark.seldom
def test_compare_ends_with_1_when_something_became_worse(parts, tmp_path):
    path = tmp_path / "history-cpu.jsonl"
    for factor in (1.0, 2.0):
        rows = {"part": [times(parts, factor * (1 + 0.01 * np.arange(10)))]}
        moment = MOMENT | {"when": f"2026-01-0{factor:.0f}T00:00:00"}
        parts["history"].append(path, moment, MACHINE, rows)
    worse = run("--compare", "--out", str(tmp_path))
    assert worse.returncode == 1, worse.stderr
    assert "| part: a step | 1.04 s | 2.09 s | +100.0 % |" in worse.stdout
    same = run("--compare", "--entries", "0", "0", "--out", str(tmp_path))
    assert same.returncode == 0, same.stderr


@pytest.mark.long
@pytest.mark.seldom
def test_every_part_still_runs(tmp_path):
    """In its smallest size: two hundred processor seconds, most of them of compiling."""
    done = run("--small", "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    rows = [line.split("|") for line in done.stdout.splitlines()[2:]]
    assert len(rows) > 60
    for _, what, value, *_ in rows:
        missing = "not installed here" in value or "no readable counter" in value
        assert missing or np.isfinite(float(value.split()[0])), (what, value)
    assert not list(tmp_path.iterdir())
