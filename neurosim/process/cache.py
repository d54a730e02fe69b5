"""The user's cache: what takes a while to make, and comes out the same every time.

It may be removed at any time; a cache that cannot be read or written costs time, nothing else.
"""

import os
from pathlib import Path

from platformdirs import user_cache_path

VARIABLE = "NEUROSIM_CACHE"
"""Of the environment: `off`, or a folder in place of the user's own."""


def folder() -> Path | None:
    """Where things are kept; None where nothing is to be."""
    given = os.environ.get(VARIABLE, "")
    if given.lower() == "off":
        return None
    return Path(given).expanduser() if given else user_cache_path("neurosim")
