"""How often Python looks for garbage among its objects.

Imports, tracing and compiling make hundreds of thousands of objects, nearly all of which stay. To
go through all of them takes Python a quarter of a second, which it does again and again while they
come, and three times more when the process ends.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

SELDOM = 50_000, 20, 20
"""New objects, and looks at new ones and at younger ones, before Python looks again."""


@contextmanager
def command() -> Iterator[None]:
    """In which a process of our own spends its life.

    What is left at its end is not looked at: it goes with the process, whose files are closed.
    """
    gc.set_threshold(*SELDOM)
    try:
        yield
    finally:
        gc.freeze()


@contextmanager
def unlooked() -> Iterator[None]:
    """In which nobody looks, as what is made here stays."""
    looking = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if looking:
            gc.enable()
