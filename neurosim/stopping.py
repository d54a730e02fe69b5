"""Signals that ask a run to stop: it finishes its chunk first."""

import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from neurosim.errors import NeurosimWarning


class Request:
    """Whether a signal came: None, or its number."""

    signal: int | None = None


@contextmanager
def listening() -> Iterator[Request]:
    """In which Ctrl-C and SIGTERM are only noted; a second Ctrl-C interrupts at once.

    Signals reach the main thread only; elsewhere nothing changes, and so it does for a Ctrl-C that
    the process was started to ignore.
    """
    request = Request()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return

    def note(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and request.signal == signal.SIGINT:
            raise KeyboardInterrupt
        request.signal = number
        if number == signal.SIGINT:
            warnings.warn(
                "stopping at the end of this chunk; Ctrl-C again stops at once",
                NeurosimWarning,
                stacklevel=2,
            )

    before = {}
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            before[number] = signal.signal(number, note)
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
