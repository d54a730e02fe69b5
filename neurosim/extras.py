"""Libraries that only some users need, and what is said where one is missing."""

from collections.abc import Iterator
from contextlib import contextmanager

from neurosim.errors import InputError


@contextmanager
def needed(extra: str, purpose: str) -> Iterator[None]:
    """In which the libraries of an extra of this package are imported.

    extra: as in `pip install 'neurosim[extra]'`. purpose: what they are needed for, in words.

    Raises:
        InputError: one is not installed, or cannot be imported.
    """
    try:
        yield
    except ImportError as error:
        raise InputError(
            f"{purpose}: {error.msg}; pip install 'neurosim[{extra}]' brings what it needs"
        ) from error
