"""What a user sees of a run while it goes on, and numbers in words."""

import io
import os
import sys
import time
import types
from types import SimpleNamespace

import pytest

from neurosim import wording
from neurosim.process import progression


def at(done, error=0.1):
    return progression.Progress(done, 240, 0.5, error)


def test_what_is_done_and_how_long_it_takes_is_known_at_any_time():
    course = progression.Course("mine", 100.0)
    assert course.words(135.0) == "mine: compiling, 35 s so far"
    course.note(at(10), 140.0)
    assert course.words(141.0) == "mine: 10 of 240 presentations, loss 0.5, test error 10.0 %"
    course.note(at(40, None), 170.0)
    assert course.words(170.0) == "mine: 40 of 240 presentations, loss 0.5, about 3 min 20 s left"
    # The next stage compiles, which shows in what is expected of the rest.
    assert course.words(200.0) == "mine: 40 of 240 presentations, loss 0.5, about 6 min 40 s left"


def test_a_log_gets_lines_at_even_times_though_nothing_is_heard_of_the_run(monkeypatch, capsys):
    pauses = []

    class Clock(progression.Event):
        """Ends after four pauses, which take no time."""

        def wait(self, timeout=None):
            pauses.append(timeout)
            return len(pauses) > 4

    monkeypatch.setattr(progression, "Event", Clock)
    monkeypatch.setattr(progression.time, "monotonic", lambda: 100.0 + sum(pauses))
    with progression.Lines("mine", sys.stderr) as lines:
        lines._thread.join(5)
    assert pauses == [5, 30, 30, 30, 30]
    assert capsys.readouterr().err.splitlines() == [
        f"mine: compiling, {time} so far" for time in ("5 s", "35 s", "1 min 5 s", "1 min 35 s")
    ]


def test_a_log_is_left_alone_once_the_run_is_over(monkeypatch, capsys):
    monkeypatch.setattr(progression, "PATIENCE", 0.01)
    monkeypatch.setattr(progression, "INTERVAL", 0.01)
    with progression.Lines("mine", sys.stderr) as lines:
        lines(at(3))
        while "3 of 240 presentations" not in capsys.readouterr().err:
            time.sleep(0.01)
    assert not lines._thread.is_alive()
    capsys.readouterr()
    time.sleep(0.05)
    assert capsys.readouterr().err == ""


def test_lines_are_said_though_standard_error_is_redirected_meanwhile(monkeypatch, tmp_path):
    """As Brian2 does while it compiles, of the process as a whole."""
    monkeypatch.setattr(progression, "PATIENCE", 0.01)
    monkeypatch.setattr(progression, "INTERVAL", 0.01)
    with open(tmp_path / "log", "w+") as log, open(tmp_path / "other", "w+") as other:
        monkeypatch.setattr(sys, "stderr", log)
        with progression.display("mine", False) as lines:
            assert isinstance(lines, progression.Lines)
            elsewhere = os.dup(log.fileno())
            os.dup2(other.fileno(), log.fileno())
            lines(at(3))
            while "3 of 240 presentations" not in (tmp_path / "log").read_text():
                time.sleep(0.01)
            os.dup2(elsewhere, log.fileno())
            os.close(elsewhere)
        assert (tmp_path / "other").read_text() == ""


# --- who is shown what ---------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Notebook:
    """As much of IPython as a kernel shows a bar with."""

    def __init__(self, monkeypatch):
        self.shown, self.config = [], {"IPKernelApp": {}}
        shell = types.ModuleType("IPython")
        shell.get_ipython = lambda: self
        display = types.ModuleType("IPython.display")
        display.HTML, display.display = str, self.display
        monkeypatch.setitem(sys.modules, "IPython", shell)
        monkeypatch.setitem(sys.modules, "IPython.display", display)

    def display(self, content, display_id):
        self.shown.append(content)
        return SimpleNamespace(update=self.shown.append)


@pytest.mark.parametrize(
    ("wanted", "terminal", "kind"),
    [
        (None, True, progression.Bar),
        (None, False, None),
        (True, True, progression.Bar),
        (True, False, progression.Lines),
        (False, True, None),
        (False, False, None),
    ],
)
def test_a_bar_is_shown_where_somebody_looks_on(monkeypatch, wanted, terminal, kind):
    monkeypatch.setattr(sys, "stderr", Terminal() if terminal else io.StringIO())
    with progression.shown(wanted, "mine") as progress:
        assert progress is None if kind is None else type(progress) is kind


def test_a_script_may_be_told_instead(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    told = []
    with progression.shown(told.append, "mine") as progress:
        progress(at(1))
    assert told == [at(1)] and sys.stderr.getvalue() == ""


def test_a_notebook_shows_a_bar_in_its_cell_that_goes(monkeypatch):
    notebook = Notebook(monkeypatch)
    monkeypatch.setattr(progression.time, "monotonic", lambda: 100.0)
    with progression.shown(None, "<mine>") as progress:
        assert notebook.shown == ["<progress></progress> &lt;mine&gt;: compiling"]
        progress(at(3))
        progress(at(4))  # too soon for another picture
    assert notebook.shown[1:] == [
        '<progress value="3" max="240"></progress> '
        "&lt;mine&gt;: 3 of 240 presentations, loss 0.5, test error 10.0 %",
        "",
    ]
    notebook.config = {}  # IPython on a terminal is no notebook
    with progression.shown(None, "mine") as progress:
        assert progress is None


def test_the_bar_compiles_first_and_then_counts():
    bar = progression.Bar("mine", sys.stderr)
    [task] = bar.rich.tasks
    assert task.description == "mine: compiling" and task.total is None
    bar(progression.Progress(3, 12, 0.123456, 0.034))
    assert (task.description, task.percentage) == ("mine", 25.0)
    assert task.fields["numbers"] == "loss 0.123, test error 3.4 %"
    bar(progression.Progress(4, 12, 0.1, None, shortened=2))
    assert task.fields["numbers"] == "loss 0.1, steps cut in 2"


@pytest.mark.parametrize(
    ("function", "number", "words"),
    [
        (wording.duration, 0.03097, "31 ms"),
        (wording.duration, 9.0, "9 s"),
        (wording.duration, 59.7, "1 min 0 s"),
        (wording.duration, 125.2, "2 min 5 s"),
        (wording.duration, 3 * 3600 + 61, "3 h 1 min"),
        (wording.duration, 50 * 3600, "2 d 2 h"),
        (wording.size, 512, "512 B"),
        (wording.size, 5_277_120, "5.28 MB"),
        (wording.size, 88_000, "88 kB"),
        (wording.percent, 0.0339, "3.4 %"),
        (wording.percent, 0.99999, "99.9 %"),
        (wording.percent, 1.0, "100 %"),
        (wording.percent, 0.0, "0 %"),
        (wording.listed, range(100), "0, 1, 2, 3, 4, 5, ..., 99"),
    ],
)
def test_numbers_in_words(function, number, words):
    assert function(number) == words


def test_metrics_of_no_seed_are_no_number():
    assert dict(wording.metrics({"test_loss": None})) == {"test loss": "not a number"}
    assert dict(wording.metrics({"test_loss": [None, None]})) == {
        "test loss": "not a number for any seed"
    }
    assert dict(wording.metrics({})) == {}
