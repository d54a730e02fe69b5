"""How far a run is: a bar on a terminal or in a notebook, a line now and then elsewhere."""

import html
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from threading import Event, Thread
from typing import Any, NamedTuple

from neurosim import wording
from neurosim.process import caller

INTERVAL = 30.0
"""Seconds between two lines where there is no terminal."""

PATIENCE = 5.0
"""Seconds until a log is told of a run at all; mistakes are found sooner."""

REFRESH = 0.2
"""Seconds between two pictures of the bar in a notebook."""


class Progress(NamedTuple):
    """What a progress display is told after every chunk.

    loss, error: of the last batch and of the last test, means over the seeds that live.
    tested_on: the samples of that test, "test" or "validation". shortened: in how many
    presentations fixed steps had to be cut so far.
    """

    done: int
    total: int
    loss: float
    error: float | None
    tested_on: str = "test"
    shortened: int = 0

    @property
    def numbers(self) -> str:
        """Loss and error in words, as the end of the run says them."""
        words = f"loss {self.loss:.3g}"
        if self.error is not None:
            words += f", {self.tested_on} error {wording.percent(self.error)}"
        if self.shortened:
            words += f", steps cut in {self.shortened}"
        return words


class Runs(NamedTuple):
    """What a display is told of many runs: their presentations, and how many have ended how."""

    done: int
    total: int
    finished: int
    runs: int
    failed: int = 0
    lost: int = 0

    @property
    def numbers(self) -> str:
        """How many have ended, in words."""
        words = f"{self.finished} of {wording.plural(self.runs, 'point')} finished"
        for count, what in ((self.failed, "failed"), (self.lost, "lost")):
            words += f", {count} {what}" if count else ""
        return words


@contextmanager
def display(name: str, quiet: bool) -> Iterator[Any]:
    """Shows how far the run called `name` is; gives what `run` takes as `progress`."""
    if quiet:
        yield False
        return
    with caller.standard_error() as stream, _display(name, stream) as shown:
        yield shown


def _display(name: str, stream: Any) -> AbstractContextManager[Any]:
    if in_notebook():
        return Cell(name)
    return Bar(name, stream) if caller.on_terminal(stream) else Lines(name, stream)


@contextmanager
def shown(
    wanted: bool | Callable[[Any], None] | None, name: str
) -> Iterator[Callable[[Any], None] | None]:
    """What a run called `name` tells how far it is.

    wanted: what does so, or whether anything; None for where somebody looks on.
    """
    if callable(wanted):
        yield wanted
        return
    looked_on = in_notebook() or caller.on_terminal(sys.stderr)
    with display(name, not (looked_on if wanted is None else wanted)) as progress:
        yield progress or None


def in_notebook() -> bool:
    """Whether the process is the kernel of a notebook."""
    module = sys.modules.get("IPython")
    shell = module.get_ipython() if module is not None else None
    return shell is not None and "IPKernelApp" in shell.config


class Bar:
    """A bar with the time that remains; it pulses while the first chunk compiles."""

    def __init__(self, name: str, stream: Any) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Rich
        from rich.table import Column

        self.name = name
        self.rich = Rich(
            TextColumn("{task.description}", table_column=Column(no_wrap=True)),
            BarColumn(20),
            TextColumn("{task.fields[numbers]}", table_column=Column(min_width=30)),
            TimeRemainingColumn(table_column=Column(min_width=7)),
            console=Console(file=stream),
            transient=True,
        )
        self.task = self.rich.add_task(f"{name}: compiling", total=None, numbers="")

    def __call__(self, progress: Progress | Runs) -> None:
        self.rich.update(
            self.task,
            description=self.name,
            total=progress.total,
            completed=progress.done,
            numbers=progress.numbers,
        )

    def __enter__(self) -> "Bar":
        self.rich.start()
        return self

    def __exit__(self, *exception: object) -> None:
        with suppress(OSError):  # a terminal that has gone
            self.rich.stop()


class Course:
    """How far a run is and how long it will take, in words, at any time. began: when, in s."""

    def __init__(self, name: str, began: float) -> None:
        self.name, self.began = name, began
        self.first: tuple[float, int] | None = None
        self.last: Progress | Runs | None = None

    def note(self, progress: Progress | Runs, now: float) -> None:
        """A chunk is done."""
        self.last = progress
        self.first = self.first or (now, progress.done)

    def words(self, now: float) -> str:
        """What is known now."""
        if self.last is None or self.first is None:
            return f"{self.name}: compiling, {wording.duration(now - self.began)} so far"
        at, (began, done) = self.last, self.first
        words = f"{self.name}: {at.done} of {at.total} presentations, {at.numbers}"
        if at.done > done:
            left = (at.total - at.done) * (now - began) / (at.done - done)
            words += f", about {wording.duration(left)} left"
        return words


class Cell:
    """A bar in the cell of a notebook, which goes with the run."""

    def __init__(self, name: str) -> None:
        from IPython.display import HTML, display

        self.html, self.display = HTML, display
        self.course = Course(name, time.monotonic())
        self.next = 0.0

    def __call__(self, progress: Progress | Runs) -> None:
        now = time.monotonic()
        self.course.note(progress, now)
        if now >= self.next:
            self.next = now + REFRESH
            bar = f'<progress value="{progress.done}" max="{progress.total}"></progress> '
            self.handle.update(self.html(bar + html.escape(self.course.words(now))))

    def __enter__(self) -> "Cell":
        words = html.escape(f"{self.course.name}: compiling")
        self.handle = self.display(self.html(f"<progress></progress> {words}"), display_id=True)
        return self

    def __exit__(self, *exception: object) -> None:
        self.handle.update(self.html(""))


class Lines:
    """A line every `INTERVAL` seconds, for logs, whatever the run does; the first one sooner.

    A thread says them: while something compiles, nothing else is heard of the run.
    """

    def __init__(self, name: str, stream: Any) -> None:
        self.course = Course(name, time.monotonic())
        self._stream = stream
        self._over = Event()
        self._thread = Thread(target=self._tell, daemon=True)

    def __call__(self, progress: Progress | Runs) -> None:
        self.course.note(progress, time.monotonic())

    def __enter__(self) -> "Lines":
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        self._thread.join()

    def _tell(self) -> None:
        pause = PATIENCE
        while not self._over.wait(pause):
            caller.tell(self.course.words(time.monotonic()), self._stream)
            pause = INTERVAL
