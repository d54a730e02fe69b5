"""What commands write beside their words: pictures, and where they go."""

import os
import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from textwrap import shorten
from threading import Thread
from typing import Any

from neurosim.errors import InputError, NeurosimError, NeurosimWarning
from neurosim.traces.naming import drawn, located, pictured

DRAWING = ("neurosim.figures.runs", "h5netcdf", "xarray", "dask.array")
"""What a finished run is drawn with; xarray asks of its first array whether it is one of Dask's."""


def columns() -> int:
    """How wide the terminal is."""
    return shutil.get_terminal_size().columns


def new(path: Path, force: bool) -> Path:
    """A file that is about to be written, if nothing is lost by it."""
    path = located(path)
    if os.path.exists(path) and not force:
        raise InputError(f"{path}: exists; give --force to overwrite, or --out FILE")
    return path


def figure_at(out: Path | None, usual: Path, force: bool) -> Path:
    """A figure that is about to be drawn: `out`, or what it is called if nobody says.

    What neurosim drew itself under the usual name it draws again.
    """
    if out is not None:
        return new(pictured(out), force)
    usual = located(usual)
    return new(usual, force or (os.path.isfile(usual) and drawn(usual)))


@contextmanager
def drawing() -> Iterator[None]:
    """In which matplotlib fails in words: the user's settings choose much of what it does.

    Raises:
        InputError: it failed.
    """
    try:
        yield
    except NeurosimError:
        raise
    except Exception as error:
        raise InputError(
            f"matplotlib cannot draw: {type(error).__name__}: {shorten(str(error), 120)}; "
            "its settings come from MPLBACKEND and matplotlibrc"
        ) from error


def pictures(*wanted: tuple[Any, ...]) -> list[str]:
    """What pictures of a result are called; it is not lost where one cannot be drawn.

    wanted: of each the name of a function of `neurosim.figures`, and what it is given.
    """
    paths = []
    try:
        with drawing():
            figures = import_module("neurosim.figures")
            for name, *given in wanted:
                paths.append(str(getattr(figures, name)(*given)))
    except NeurosimError as error:
        warnings.warn(f"no figure: {error}", NeurosimWarning, stacklevel=1)
    return paths


def importing_meanwhile(progress: Callable[[Any], None] | bool) -> Callable[[Any], None]:
    """The same progress, from whose first report on a thread imports what draws a finished run.

    The run computes outside of Python then; before, it is busy importing and tracing itself.
    """
    started = False

    def heard(report: Any) -> None:
        nonlocal started
        if not started:
            started = True
            Thread(target=_import_drawing, daemon=True).start()
        if callable(progress):
            progress(report)

    return heard


def _import_drawing() -> None:
    with suppress(Exception):  # said by who draws
        for name in DRAWING:
            import_module(name)
