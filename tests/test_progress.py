"""What a user sees of a run while it goes on, and numbers in words."""

from types import SimpleNamespace

import pytest

from neurosim import _progress, _words
from neurosim.inspecting import metrics_in_words


def test_a_log_gets_a_line_every_half_minute(monkeypatch, capsys):
    clock = [100.0]
    monkeypatch.setattr(_progress.time, "monotonic", lambda: clock[0])
    with _progress.Lines("mine") as lines:
        for k in range(1, 121):
            clock[0] += 1.0
            lines(SimpleNamespace(done=k, total=240, loss=0.5, test_error=0.1))
    assert capsys.readouterr().err.splitlines() == [
        f"mine: {k} of 240 presentations, loss 0.5, accuracy 90.0 %, about {left} left"
        for k, left in (
            (30, "3 min 30 s"),
            (60, "3 min 0 s"),
            (90, "2 min 30 s"),
            (120, "2 min 0 s"),
        )
    ]


def test_a_log_says_that_a_run_still_compiles(monkeypatch, capsys):
    monkeypatch.setattr(_progress, "PATIENCE", 0.0)
    with _progress.Lines("mine") as lines:
        lines.compiling.join(5)
    assert capsys.readouterr().err == "mine: compiling\n"


def test_the_bar_compiles_first_and_then_counts():
    bar = _progress.Bar("mine")
    [task] = bar.rich.tasks
    assert task.description == "mine: compiling" and task.total is None
    bar(SimpleNamespace(done=3, total=12, loss=0.123456, test_error=0.034))
    assert (task.description, task.percentage) == ("mine", 25.0)
    assert task.fields["numbers"] == "loss 0.123, accuracy 96.6 %"
    bar(SimpleNamespace(done=4, total=12, loss=0.1, test_error=None))
    assert task.fields["numbers"] == "loss 0.1"


@pytest.mark.parametrize(
    ("function", "number", "words"),
    [
        (_words.duration, 0.03097, "31 ms"),
        (_words.duration, 9.0, "9 s"),
        (_words.duration, 59.7, "1 min 0 s"),
        (_words.duration, 125.2, "2 min 5 s"),
        (_words.duration, 3 * 3600 + 61, "3 h 1 min"),
        (_words.duration, 50 * 3600, "2 d 2 h"),
        (_words.size, 512, "512 B"),
        (_words.size, 5_277_120, "5.28 MB"),
        (_words.size, 88_000, "88 kB"),
        (_words.percent, 0.0339, "3.4 %"),
        (_words.percent, 0.99999, "99.9 %"),
        (_words.percent, 1.0, "100 %"),
        (_words.percent, 0.0, "0 %"),
        (_words.listed, range(100), "0, 1, 2, 3, 4, 5, ..., 99"),
    ],
)
def test_numbers_in_words(function, number, words):
    assert function(number) == words


def test_metrics_of_no_seed_are_no_number():
    assert dict(metrics_in_words({"test_loss": None})) == {"test loss": "not a number"}
    assert dict(metrics_in_words({"test_loss": [None, None]})) == {
        "test loss": "not a number for any seed"
    }
    assert dict(metrics_in_words({})) == {}
