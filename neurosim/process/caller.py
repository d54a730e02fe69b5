"""Who calls: the command line or a script. What either may expect of signals and words differs."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any

_COMMAND_LINE: ContextVar[bool] = ContextVar("command line", default=False)


@contextmanager
def command_line() -> Iterator[None]:
    """In which the command line calls."""
    before = _COMMAND_LINE.set(True)
    try:
        yield
    finally:
        _COMMAND_LINE.reset(before)


def is_command_line() -> bool:
    """Whether the command line calls, which ends the process after a run that was stopped."""
    return _COMMAND_LINE.get()


def on_terminal(stream: Any) -> bool:
    """Whether a stream is a terminal, and not closed, or an object that can only write."""
    try:
        return stream.isatty()
    except (AttributeError, ValueError):
        return False


def tell(words: str, stream: Any = None) -> None:
    """Say something on a stream, else standard error; nothing is lost where that is full."""
    stream = sys.stderr if stream is None else stream
    if stream is not None:
        with suppress(OSError, ValueError):
            print(words, file=stream, flush=True)


@contextmanager
def standard_error() -> Iterator[Any]:
    """Standard error as it is now: while Brian2 compiles, what is written there goes nowhere."""
    try:
        copy = os.dup(sys.stderr.fileno())
    except (AttributeError, OSError, ValueError):  # an object of a script, or nothing
        yield sys.stderr
        return
    own = open(copy, "w", 1, sys.stderr.encoding, "backslashreplace")  # noqa: SIM115
    try:
        yield own
    finally:
        with suppress(OSError):  # full
            own.close()


def option(name: str, value: object = "") -> str:
    """How whoever calls gives an option: `--force` or `force=True`, `--out a.h5` or `out='a.h5'`.

    FILE stands for any file.
    """
    if is_command_line():
        return f"--{name} {value}".rstrip()
    if value == "":
        return f"{name}=True"
    return f"{name}={value if value == 'FILE' else repr(value)}"


def override(key: str) -> str:
    """What changed a key of a file: `--set model.parameters.mu`, or `override model.mu`."""
    return f"--set {key}" if is_command_line() else f"override {key}"
