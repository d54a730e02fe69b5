"""How far a run is, on standard error: a bar on a terminal, a line now and then elsewhere."""

import sys
import time
from contextlib import AbstractContextManager, nullcontext
from threading import Timer
from typing import TYPE_CHECKING, Any

from neurosim import _words

if TYPE_CHECKING:
    from neurosim.looping import Progress

INTERVAL = 30.0
"""Seconds between two lines where there is no terminal."""

PATIENCE = 5.0
"""Seconds until a log is told that the run still compiles; mistakes are found sooner."""


def display(name: str, quiet: bool) -> AbstractContextManager[Any]:
    """Shows how far the run called `name` is; gives what `run` takes as `progress`."""
    if quiet:
        return nullcontext()
    return Bar(name) if sys.stderr.isatty() else Lines(name)


def numbers(progress: "Progress") -> str:
    """Loss and accuracy on the test set in words."""
    words = f"loss {progress.loss:.3g}"
    if progress.test_error is not None:
        words += f", accuracy {_words.percent(1 - progress.test_error)}"
    return words


class Bar:
    """A bar with the time that remains; it pulses while the first chunk compiles."""

    def __init__(self, name: str) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
        from rich.table import Column

        self.name = name
        self.rich = Progress(
            TextColumn("{task.description}", table_column=Column(no_wrap=True)),
            BarColumn(20),
            TextColumn("{task.fields[numbers]}", table_column=Column(min_width=28)),
            TimeRemainingColumn(table_column=Column(min_width=7)),
            console=Console(stderr=True),
            transient=True,
        )
        self.task = self.rich.add_task(f"{name}: compiling", total=None, numbers="")

    def __call__(self, progress: "Progress") -> None:
        self.rich.update(
            self.task,
            description=self.name,
            total=progress.total,
            completed=progress.done,
            numbers=numbers(progress),
        )

    def __enter__(self) -> "Bar":
        self.rich.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.rich.stop()


class Lines:
    """A line every `INTERVAL` seconds, for logs; and one if compiling takes its time."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.first: tuple[float, int] | None = None
        self.last = 0.0
        self.compiling = Timer(PATIENCE, self._say, ["compiling"])
        self.compiling.daemon = True

    def __call__(self, progress: "Progress") -> None:
        self.compiling.cancel()
        now = time.monotonic()
        self.first = self.first or (now, progress.done)
        if now - self.last < INTERVAL:
            return
        self.last = now
        words = f"{progress.done} of {progress.total} presentations, {numbers(progress)}"
        began, done = self.first
        if progress.done > done:
            left = (progress.total - progress.done) * (now - began) / (progress.done - done)
            words += f", about {_words.duration(left)} left"
        self._say(words)

    def __enter__(self) -> "Lines":
        self.compiling.start()
        self.last = time.monotonic()
        return self

    def __exit__(self, *exception: object) -> None:
        self.compiling.cancel()

    def _say(self, words: str) -> None:
        print(f"{self.name}: {words}", file=sys.stderr, flush=True)
