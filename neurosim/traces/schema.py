"""The version of how traces are laid out and what their names mean.

It grows when who reads the one before would misunderstand what is new: when a group, a dimension, a
unit or an attribute changes its name or its meaning. What is only added leaves it. Readers know
every version that a release has written; `tests/released/` keeps traces of each.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from neurosim.errors import InputError

VERSION = 1
"""What is written; the first."""

ATTRIBUTE = "schema_version"


def accept(path: str | os.PathLike[str], attributes: Mapping[str, Any]) -> None:
    """Refuse a trace that this version of neurosim cannot understand.

    Raises:
        InputError: its schema is newer, or it has none.
    """
    if ATTRIBUTE not in attributes:
        raise InputError(
            f"{path}: has no attribute {ATTRIBUTE}: a neurosim before its first release wrote it; "
            "expected a trace of a release; run it again"
        )
    found = int(attributes[ATTRIBUTE])
    if found < 1:
        raise ValueError(f"{ATTRIBUTE} {found}")
    if found > VERSION:
        wrote = attributes["neurosim_version"]
        raise InputError(
            f"{path}: is of version {found} of the schema of traces, by neurosim {wrote}; expected "
            f"version {VERSION}, which is what this neurosim, {version('neurosim')}, knows; use "
            f"neurosim {wrote} or later to read it"
        )
