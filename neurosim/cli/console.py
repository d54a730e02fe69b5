"""What the command line says, and where it goes."""

import json
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from neurosim.errors import DivergedError, IncompleteError, NeurosimError, NeurosimWarning
from neurosim.process.caller import command_line, tell

INTERRUPTED, STOPPED = 130, 75


@contextmanager
def serving() -> Iterator[None]:
    """In which a command runs whose output, as it is used, may be closed or full."""
    _open_descriptors()
    try:
        yield
    except OSError as error:
        if error.filename is not None:
            raise
        _close_output()
        tell(f"error: standard output: cannot be written: {error.strerror}")
        raise SystemExit(1) from None


def _open_descriptors() -> None:
    """Standard input, output and error are open, if only to nothing.

    Where a caller has closed one, the next file that is opened takes its number, and what libraries
    print goes there: into a trace.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w" if number else "r", closefd=False))  # noqa: SIM115


def _close_output() -> None:
    """What was not written yet is lost; Python would try again at its end, and fail in a trace."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class Output:
    """What a command says: results on stdout, warnings and errors on stderr.

    With `as_json` all of it is one JSON object on stdout. A `NeurosimError` or Ctrl-C inside the
    `with` block ends the command with its words and exit code.
    """

    def __init__(self, as_json: bool, quiet: bool = False) -> None:
        self.as_json, self.quiet = as_json, quiet
        self.warnings: list[str] = []
        self._catching = warnings.catch_warnings()
        self._calling = command_line()

    def result(self, report: dict[str, Any], text: str) -> None:
        """Print a result, as data or as text."""
        if self.as_json:
            print(json.dumps(report | {"warnings": self.warnings}, allow_nan=False), flush=True)
        elif not self.quiet:
            print(text, flush=True)

    def failure(self, lines: list[str], code: int, report: dict[str, Any]) -> None:
        """Print what stopped the command, and what there is nevertheless."""
        if self.as_json:
            self.result(report | {"error": lines, "exit_code": code}, "")
            return
        for line in lines:
            tell(line if code in (INTERRUPTED, STOPPED) else f"error: {line}")

    def __enter__(self) -> "Output":
        self._calling.__enter__()
        self._catching.__enter__()
        warnings.simplefilter("always", NeurosimWarning)
        show = warnings.showwarning

        def say(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
            if not issubclass(category, NeurosimWarning):
                show(message, category, *place, **more)
            elif str(message) not in self.warnings:
                self.warnings.append(str(message))
                if not self.as_json:
                    tell(f"warning: {message}")

        warnings.showwarning = say
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        self._catching.__exit__(None, None, None)
        self._calling.__exit__(None, None, None)
        if isinstance(error, NeurosimError):
            report: dict[str, Any] = {}
            if isinstance(error, DivergedError) and error.run is not None:
                report = error.run.summary | {"figures": []}
            if isinstance(error, IncompleteError) and error.report is not None:
                report = error.report
            lines = [*str(error).splitlines(), *getattr(error, "__notes__", [])]
            self.failure(lines, error.exit_code, report)
            raise SystemExit(error.exit_code) from error
        if isinstance(error, MemoryError):
            self.failure([f"memory is too small: {error or 'for this command'}"], 1, {})
            raise SystemExit(1) from error
        if isinstance(error, KeyboardInterrupt):
            words = "; ".join(["interrupted", *getattr(error, "__notes__", [])])
            self.failure([words], INTERRUPTED, {})
            raise SystemExit(INTERRUPTED) from error
