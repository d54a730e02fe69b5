"""What goes wrong, in words a user can act on.

Every error that a user may see derives from `NeurosimError` and carries the exit code of the
command line. A message says where, what arrived, what is allowed and the likely fix.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from reprlib import Repr
from typing import Any, ClassVar


class NeurosimError(Exception):
    """Base of all errors meant for a user; `exit_code` is what the command line returns."""

    exit_code: ClassVar[int] = 1


class InputError(NeurosimError):
    """A mistake in what the user gave: a file, a key, a value, an option.

    Args:
        messages: one message, or several that are printed one a line.
    """

    exit_code: ClassVar[int] = 2

    def __init__(self, messages: str | Sequence[str]) -> None:
        super().__init__(messages)
        self.messages: tuple[str, ...] = (
            (messages,) if isinstance(messages, str) else tuple(messages)
        )

    def __str__(self) -> str:
        return "\n".join(self.messages)


def asked(key: str, given: Any, expected: str, *arguments: Any) -> Any:
    """What an object of a script, given for a key, returns when it is called.

    expected: what it should be, in words.

    Raises:
        InputError: it fails.
    """
    try:
        return given(*arguments)
    except NeurosimError:
        raise
    except Exception as error:
        name = getattr(given, "__qualname__", type(given).__qualname__)
        reason = (str(error).splitlines() or [""])[0]
        raise InputError(
            f"{key}: {name} failed with {type(error).__name__}: {reason}; expected {expected}"
        ) from error


def of_shape(key: str, found: Any, shape: tuple[int, ...], expected: str) -> Any:
    """What an object of a script returned, if it is an array of a shape.

    Raises:
        InputError: it is not.
    """
    got = getattr(found, "shape", None)
    if got != shape:
        what = f"shape {got}" if got is not None else arrived(found)
        raise InputError(f"{key}: returned {what}, where {shape} is wanted; expected {expected}")
    return found


class DivergedError(NeurosimError):
    """The model failed while it ran: a state left the finite numbers or did not converge.

    Args:
        message: which seed, when and where.
        run: what was written up to there, a `neurosim.Run`.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, run: Any = None) -> None:
        super().__init__(message)
        self.run = run


class StoppedError(NeurosimError):
    """The run was asked to stop, and did at the end of a chunk; it can be resumed.

    A script meets it only where a handler of its own for SIGTERM returns: else SIGTERM ends the
    process.
    """

    exit_code: ClassVar[int] = 75


class IncompleteError(NeurosimError):
    """Points of a sweep came to no end; the same sweep takes them up again.

    Args:
        message: which, and why.
        results: what there is nevertheless, the Dataset that the sweep would have returned.

    `report`: the same as plain data, where the command line has made it.
    """

    exit_code: ClassVar[int] = 3
    report: Any = None

    def __init__(self, message: str, results: Any = None) -> None:
        super().__init__(message)
        self.results = results


class NeurosimWarning(UserWarning):
    """Something is allowed but probably not meant."""


def nearest(word: str, allowed: Iterable[str]) -> str | None:
    """The entry of `allowed` that `word` most likely misspells, or None if none is close."""
    by_folded: dict[str, str] = {}
    for name in allowed:
        by_folded.setdefault(name.casefold(), name)
    matches = difflib.get_close_matches(word.casefold(), by_folded, n=1)
    return by_folded[matches[0]] if matches else None


def unknown(kind: str, word: str, allowed: Iterable[str]) -> str:
    """The message for a `word` that is no `kind`, with the nearest and all allowed words.

    >>> unknown("activation", "tahn", ["tanh", "identity"])
    "unknown activation 'tahn'; did you mean 'tanh'? (allowed: tanh, identity)"
    """
    names = list(allowed)
    guess = nearest(word, names)
    hint = f"; did you mean {guess!r}?" if guess is not None else ""
    return f"unknown {kind} {word!r}{hint} (allowed: {', '.join(names) or 'none'})"


def either(options: Iterable[str]) -> str:
    """Alternatives in words, each once: "a, b or c"."""
    *most, last = dict.fromkeys(options) or ("nothing",)
    return f"{', '.join(most)} or {last}" if most else last


def arrived(value: object) -> str:
    """A value that a user gave, as a message shows it: on one line, and short."""
    shortener = _Shortener()
    shortener.maxstring = shortener.maxother = 60
    return " ".join(shortener.repr(value).split())


class _Shortener(Repr):
    def repr_bool(self, value: bool, level: int) -> str:
        return str(value).lower()

    def repr_dict(self, value: dict[Any, Any], level: int) -> str:
        return "a table"

    def repr_int(self, value: int, level: int) -> str:
        return super().repr_int(value, level) if value.bit_length() < 1000 else "a huge number"
