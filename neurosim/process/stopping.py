"""Signals that ask a run to stop: it finishes its chunk first, then they do what they always do."""

import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from neurosim.errors import NeurosimWarning, StoppedError
from neurosim.process import caller

HEARD = (signal.SIGINT, signal.SIGTERM)

TOGETHER = 0.3
"""Seconds within which two signals are one: `timeout` and schedulers send theirs twice, to the
process and to its group."""


class Request:
    """Whether a signal came that has not taken effect yet: None, or its number."""

    signal: int | None = None


@contextmanager
def listening(
    request: Request, saying: str = "stopping at the end of this chunk; Ctrl-C again stops at once"
) -> Iterator[None]:
    """In which the first Ctrl-C or SIGTERM is only noted; a second one finds the handlers before.

    Signals reach the main thread only; elsewhere nothing changes. Nor does it for one that the
    process ignores, or whose handler is none of Python's and so could not be put back.

    saying: after the first Ctrl-C.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before: dict[int, Any] = {}
    first = 0.0
    process = os.getpid()

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal first
        if os.getpid() != process:  # a fork, in which nobody takes up what is noted
            _put_back(before, note)
            _act(number, before[number])
        elif request.signal is None:
            request.signal, first = number, time.monotonic()
            if number == signal.SIGINT:
                warnings.warn(saying, NeurosimWarning, stacklevel=2)
        elif time.monotonic() - first > TOGETHER:
            handler = before[number]
            _put_back(before, note)
            request.signal = None
            _act(number, handler)

    for number in HEARD:
        handler = signal.getsignal(number)
        if handler is not None and handler is not signal.SIG_IGN:
            before[number] = handler
            signal.signal(number, note)
    try:
        yield
    finally:
        _put_back(before, note)


def _put_back(before: dict[int, Any], note: Callable[..., None]) -> None:
    """The handlers before ours, but where another has replaced ours since."""
    for number, handler in before.items():
        if signal.getsignal(number) is note:
            signal.signal(number, handler)


@contextmanager
def delivering() -> Iterator[Request]:
    """In which a signal that a run noted takes effect once all of the run is put away.

    What it would have done to the caller it does then, however the run ended: by default SIGTERM
    ends the process and Ctrl-C is a `KeyboardInterrupt`; a handler of the caller's own is called.
    If that returns, SIGTERM is the `StoppedError` of the run. The command line gives the process
    an exit code itself.
    """
    request = Request()
    try:
        yield request
    except Exception as error:
        _deliver(request, error)
        raise
    _deliver(request)


def _deliver(request: Request, error: Exception | None = None) -> None:
    """error: with which the run ended."""
    number = request.signal
    if number is None or (number == signal.SIGTERM and caller.is_command_line()):
        return
    stopped = error if isinstance(error, StoppedError) else None
    notes = getattr(stopped, "__notes__", [])
    handler = signal.getsignal(number)
    try:
        if stopped is not None and handler is signal.SIG_DFL:
            caller.tell("; ".join([str(stopped), *notes]))
        _act(number, handler)
        if number == signal.SIGINT:
            raise KeyboardInterrupt
    except BaseException as effect:
        for line in notes:
            effect.add_note(line)
        raise effect from (None if stopped is not None else error)


def _act(number: int, handler: Any) -> None:
    """What a signal does where nobody but `handler` listens."""
    if callable(handler):
        handler(number, sys._getframe())
    elif handler is signal.SIG_DFL:
        signal.raise_signal(number)
        raise SystemExit(
            128 + number
        )  # where the system spares a process, as the first of a container
