"""What a sweep goes over: keys of a protocol with several values each."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from neurosim.errors import InputError, arrived
from neurosim.plain import plain
from neurosim.process import caller
from neurosim.specs.toml import dotted, flat, parse_assignment, split_key

RESERVED = {"seed", "test", "loss", "error", "presentation", "diverged", "settled", "wall_s"}
RESERVED |= {"state", "reason", "trace", "test_loss", "test_error"}
"""What results have anyway."""

QUOTES, OPENING, CLOSING = "\"'", "[{", "]}"


@dataclass(frozen=True)
class Axis:
    """A key, the values that it takes, and what results call it."""

    key: str
    values: tuple[Any, ...]
    name: str

    @property
    def numeric(self) -> bool:
        """Whether its values are numbers."""
        return all(isinstance(v, int | float) and not isinstance(v, bool) for v in self.values)

    @property
    def coordinates(self) -> list[Any]:
        """Its values as numbers, else as text."""
        return list(self.values) if self.numeric else [label(value) for value in self.values]


def label(value: Any) -> str:
    """A value as text that a table can show."""
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, bool | int | list | dict) or value is None:
        return json.dumps(value, default=str)
    return getattr(value, "__name__", type(value).__name__)


def parse_axis(text: str) -> tuple[str, list[Any]]:
    """`"model.parameters.mu=0.1,0.2"` as key and values: TOML values or bare texts.

    Raises:
        InputError: it is none, or has no values.
    """
    key, equals, rest = text.partition("=")
    if not equals or not key.strip():
        raise InputError(
            f"--over {text!r}: expected KEY=VALUE,VALUE, such as model.parameters.mu=0.1,0.2"
        )
    parts = [part.strip() for part in _split(rest)]
    if not all(parts):
        raise InputError(
            f"--over {key.strip()}: has an empty value; expected values with commas between them, "
            "such as 0.1,0.2"
        )
    return key.strip(), [parse_assignment(f"{key}={part}")[1] for part in parts]


def _split(text: str) -> list[str]:
    """At commas that stand in no brackets and no quotes."""
    parts, depth, quote, begin = [], 0, "", 0
    for at, sign in enumerate(text):
        if quote:
            quote = "" if sign == quote else quote
        elif sign in QUOTES:
            quote = sign
        elif sign in OPENING:
            depth += 1
        elif sign in CLOSING:
            depth -= 1
        elif sign == "," and depth == 0:
            parts.append(text[begin:at])
            begin = at + 1
    return [*parts, text[begin:]]


def axes(over: Any, changed: Iterable[str] = ()) -> list[Axis]:
    """The axes of a sweep, checked as far as no protocol is needed.

    over: values by dotted key, or in tables. changed: keys that have been given a value.

    Raises:
        InputError: all that is wrong with them.
    """
    if not isinstance(over, Mapping) or not over:
        raise InputError(
            f"{given_by('over')}: got {arrived(over)}; expected values by key, such as "
            "model.parameters.mu = [0.1, 0.2]"
        )
    found: dict[str, tuple[Any, ...]] = {}
    wrong: list[str] = []
    for given, entries in flat(plain(over)).items():
        key, place = dotted(split_key(given)), f"{given_by('over')} {given}"
        values = plain(entries)
        if not isinstance(values, list) or not values:
            wrong.append(f"{place}: got {arrived(entries)}; expected a list of values")
        elif key in found:
            wrong.append(f"{place}: is given twice; give all its values at once")
        elif key == "seed":
            wrong.append(f"{place}: seeds are an axis of their own; give {given_by('seeds')}")
        elif key.split(".")[0] in ("sweep", "name", "description"):
            wrong.append(f"{place}: changes no number of a run; expected another key")
        elif twice := [v for k, v in enumerate(values) if v in values[:k]]:
            wrong.append(f"{place}: has {arrived(twice[0])} twice; expected distinct values")
        else:
            found[key] = tuple(values)
    for one, other in combinations(found, 2):
        if _contains(one, other):
            wrong.append(f"{given_by('over')} {one}: overlaps with {other}; drop one of them")
    fixed = {dotted(split_key(key)) for key in changed}
    for key in found:
        if clash := [other for other in fixed if _contains(key, other)]:
            wrong.append(f"{given_by('over')} {key}: {clash[0]} is set as well; drop one")
    if wrong:
        raise InputError(wrong)
    names = _names(list(found))
    return [Axis(key, values, names[key]) for key, values in found.items()]


def given_by(option: str) -> str:
    """How whoever calls gives an option, as the beginning of a message."""
    return f"--{option}" if caller.is_command_line() else option


def _contains(one: str, other: str) -> bool:
    """Whether one of two keys is the other, or stands in it."""
    a, b = split_key(one), split_key(other)
    shorter = min(len(a), len(b))
    return a[:shorter] == b[:shorter]


def _names(keys: list[str]) -> dict[str, str]:
    """The shortest ends of the keys that tell them apart: `mu` for `model.parameters.mu`."""
    names = {}
    for key in keys:
        parts = split_key(key)
        for count in range(1, len(parts) + 1):
            name = dotted(parts[-count:])
            alike = [other for other in keys if split_key(other)[-count:] == parts[-count:]]
            if len(alike) == 1 and name not in RESERVED and not parts[-count].isdigit():
                break
        names[key] = name
    return names
