"""Checks of the parameters that a user gives a task."""

import math
import os
from collections.abc import Sequence
from numbers import Integral, Real
from os import PathLike
from pathlib import Path
from typing import Any

from neurosim.errors import InputError, arrived, either
from neurosim.plain import LARGEST, plain


def _refuse(where: str, got: object, expected: str) -> InputError:
    return InputError(f"{where}: got {arrived(got)}; expected {expected}")


def whole(where: str, value: Any, least: int) -> int:
    """`value` as an int of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise _refuse(where, value, f"a whole number of at least {least}")
    if int(value) > LARGEST:
        raise _refuse(where, value, f"at most {LARGEST:.0e}")
    return int(value)


def whole_or_none(where: str, value: Any, least: int) -> int | None:
    """`value` as an int of at least `least`, or None."""
    return None if value is None else whole(where, value, least)


def real(where: str, value: Any, least: float = 0.0) -> float:
    """`value` as a finite float of at least `least`."""
    number = isinstance(value, Real) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or value < least:
        raise _refuse(where, value, f"a finite number of at least {least:g}")
    return float(value)


def fraction(where: str, value: Any) -> float:
    """`value` as a float strictly between 0 and 1."""
    number = isinstance(value, Real) and not isinstance(value, bool)
    if not number or not 0 < value < 1:
        raise _refuse(where, value, "a number between 0 and 1, both excluded")
    return float(value)


def part_or_none(where: str, value: Any) -> float | None:
    """`value`, a share of samples between 0 and 1 or a number of them, or None."""
    if value is None:
        return None
    number = isinstance(value, Real) and not isinstance(value, bool)
    counted = isinstance(value, Integral)
    if not number or not 0 < value < (math.inf if counted else 1):
        raise _refuse(where, value, "a share between 0 and 1, or a whole number of samples")
    return int(value) if counted else float(value)


def switch(where: str, value: Any) -> bool:
    """`value`, which is true or false."""
    value = plain(value)
    if not isinstance(value, bool):
        raise _refuse(where, value, "true or false")
    return value


def switch_or_none(where: str, value: Any) -> bool | None:
    """`value`, which is true or false, or None."""
    return None if value is None else switch(where, value)


def choice(where: str, value: Any, allowed: Sequence[str]) -> str:
    """`value`, which is one of `allowed`."""
    value = plain(value)
    if not isinstance(value, str) or value not in allowed:
        raise _refuse(where, value, either(allowed))
    return value


def splitting(name: str, task: Any) -> None:
    """The keys that say how a user's own samples are split and scaled."""
    fraction(f"{name}: test_fraction", task.test_fraction)
    whole_or_none(f"{name}: split_seed", task.split_seed, 0)
    part_or_none(f"{name}: validation", task.validation)
    switch(f"{name}: standardise", task.standardise)


def layer_sizes(where: str, value: Any) -> tuple[int, ...]:
    """`value` as sizes n_0 … n_L of at least two layers."""
    sizes = plain(value)
    listed = isinstance(sizes, Sequence) and not isinstance(sizes, str)
    if not listed or len(sizes) < 2:
        raise _refuse(where, value, "sizes n_0 … n_L of at least two layers, as in [6, 6, 6]")
    return tuple(whole(f"{where}[{i}]", size, 1) for i, size in enumerate(sizes))


def path(where: str, value: Any) -> Path:
    """`value` as a path, `~` resolved."""
    if not isinstance(value, str | PathLike) or not str(value):
        raise _refuse(where, value, "a path")
    return Path(os.path.expanduser(value))


def held(folder: Path) -> str:
    """The names of the first few entries of a folder, for a message."""
    names = sorted(path.name for path in folder.iterdir())
    return ", ".join(names[:8]) + (", …" if len(names) > 8 else "") if names else "nothing"
