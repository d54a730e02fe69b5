"""What JAX compiles, kept in the user's cache from one process to the next.

JAX does the keeping: it finds a program by its text, the options and versions it was compiled with,
locks the folder, and removes what has not been used for longest. Here it is told where and how
much, for as long as neurosim computes; afterwards its settings are again what they were.
"""

import hashlib
import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import filelock
import jax
from jax.experimental.compilation_cache import compilation_cache

from neurosim.process import cache
from neurosim.runs.environment import features

CONFIG: Any = jax.config
"""Whose options are attributes that no type checker sees."""

SIZE = 2**28
"""Bytes that all programs for one kind of processor may take."""

WORTHWHILE = 0.05
"""Seconds of compiling from which on a program is kept; reading one takes some thousandths."""

PROGRAM, USED = "-cache", "-atime"
"""How JAX ends the names of a program, and of the note when it was last used, written after it."""

FAILURE = re.compile(r"Error (reading|writing) persistent compilation cache entry for '([^']*)'")


@contextmanager
def kept() -> Iterator[None]:
    """In which JAX keeps what it compiles, unless it is already told where, or not to.

    A script that has set `jax_compilation_cache_dir` has its own cache and is left alone.
    """
    asked = CONFIG.jax_compilation_cache_dir or not CONFIG.jax_enable_compilation_cache
    folder = None if asked else _folder()
    if folder is None:
        yield
        return
    settings = {
        "jax_compilation_cache_dir": str(folder),
        "jax_compilation_cache_max_size": SIZE,
        "jax_persistent_cache_min_compile_time_secs": WORTHWHILE,
    }
    before = {name: getattr(CONFIG, name) for name in settings}
    with _without_failures(folder):
        _apply(settings)
        try:
            yield
        finally:
            _apply(before)


def _apply(settings: dict[str, Any]) -> None:
    for name, value in settings.items():
        CONFIG.update(name, value)
    compilation_cache.reset_cache()  # which JAX else sets up once a process


def _folder() -> Path | None:
    """Where the programs for this processor are; None where they cannot be kept.

    Programs are made of the instructions that the processor knows, and cut for as many cores as the
    process may use. In a home that several machines share every kind has a folder of its own.
    """
    root = cache.folder()
    if root is None:
        return None
    folder = root / f"programs-{hashlib.sha256(features().encode()).hexdigest()[:16]}"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # it holds what is executed
        with filelock.FileLock(folder / ".lockfile", blocking=False):  # the one that JAX takes
            _tidy(folder)
    except filelock.Timeout:
        pass  # somebody reads or writes it
    except (OSError, NotImplementedError):
        return None
    return folder


def _tidy(folder: Path) -> None:
    """Remove programs that were cut short, by a kill or a full disk; JAX stumbles over them."""
    names = set(os.listdir(folder))
    for name in names:
        if name.endswith(PROGRAM) and name.removesuffix(PROGRAM) + USED not in names:
            (folder / name).unlink(missing_ok=True)


@contextmanager
def _without_failures(folder: Path) -> Iterator[None]:
    """In which JAX does not warn that it could not read or write a program; it compiles it.

    A program that is damaged is removed: JAX never replaces one.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("always", FAILURE.pattern, UserWarning)
        show = warnings.showwarning

        def look(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
            failure = FAILURE.match(str(message))
            if failure is None:
                show(message, category, *place, **more)
            elif failure[1] == "reading":
                _remove(folder, failure[2])

        warnings.showwarning = look
        yield


def _remove(folder: Path, name: str) -> None:
    """All programs called `name`: which one of them is damaged JAX does not say."""
    for path in folder.glob(f"{name}-*{PROGRAM}"):
        with suppress(OSError):
            path.unlink()
