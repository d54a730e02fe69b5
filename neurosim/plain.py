"""Values of scripts as a file would say them: numbers, arrays of NumPy and paths become plain."""

import os
from collections.abc import Mapping
from decimal import Decimal
from numbers import Integral, Real
from typing import Any

LARGEST = 10**12
"""Whole number that a file may say: what is larger no array can count."""


def plain(value: Any) -> Any:
    """Numbers, lists, tables and text of Python itself; what no file can say stays as it is."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real | Decimal):
        return float(value)
    if isinstance(value, os.PathLike):
        return os.fsdecode(value)
    if isinstance(value, Mapping):
        return {plain(key): plain(entry) for key, entry in value.items()}
    if type(value) in (list, tuple, range):
        return [plain(entry) for entry in value]
    if hasattr(value, "tolist") and hasattr(value, "dtype"):
        listed = value.tolist()
        return value if type(listed) is type(value) else plain(listed)
    return value
