"""Validation: pydantic's errors in words that a user can act on, placed in the user's files.

`validate` turns the errors of a pydantic model into lines such as
`model.toml:6: dynamics.tua: unknown key 'tua'; did you mean 'tau'?`.
"""

from __future__ import annotations

import json
import re
import types
import typing
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import groupby
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from neurosim.errors import InputError, arrived, either, nearest, unknown
from neurosim.process import caller
from neurosim.specs.toml import Document, KeyPath, Sources, dotted, split_key
from neurosim.units import EXAMPLES, Quantity

Model = TypeVar("Model", bound=BaseModel)

_MISMATCH = re.compile(r".*(_type|_parsing|_parsing_size|_of)|int_from_float|literal_error|enum")
_BOUNDS = {
    "greater_than": ("gt", "greater than"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "less than"),
    "less_than_equal": ("le", "at most"),
    "multiple_of": ("multiple_of", "a multiple of"),
}
_LENGTHS = {
    "too_short": ("min_length", "short", "least"),
    "too_long": ("max_length", "long", "most"),
    "string_too_short": ("min_length", "short", "least"),
    "string_too_long": ("max_length", "long", "most"),
}
_WORDS: dict[Any, tuple[str, str]] = {
    bool: ("true or false", "values true or false"),
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    str: ("text", "texts"),
    Path: ("a path", "paths"),
}


def validate(
    cls: type[Model],
    data: Mapping[str, Any],
    document: Document | Sources | None = None,
    overrides: Collection[str] | None = None,
) -> Model:
    """Validate `data` as a `cls`, and report all that is wrong with it at once.

    Args:
        cls: a pydantic model.
        data: what to validate, with all merging and overriding done.
        document: where the data was written; None if it was not.
        overrides: the dotted keys (or a mapping by them) that `override` set in `data`.

    Raises:
        InputError: with one message for each mistake, that says where it is.
    """
    try:
        return cls.model_validate(data)
    except ValidationError as error:
        details = error.errors(include_url=False)
    keys = [split_key(key) for key in overrides or ()]
    lines = [
        f"{_place(path, document, keys)}{message}" for path, message in _explain(cls, details, data)
    ]
    raise InputError(list(dict.fromkeys(lines)))


def without_faults(cls: type[Model], data: Mapping[str, Any]) -> tuple[Model | None, list[KeyPath]]:
    """What is left of `data` as a `cls` without the keys that are wrong, and those keys.

    None if that is no `cls` either.
    """
    try:
        return cls.model_validate(data), []
    except ValidationError as error:
        details = error.errors(include_url=False)
    wrong = list(dict.fromkeys(path for path, _ in _explain(cls, details, data)))
    left = dict(data)
    for path in sorted(wrong, key=len, reverse=True):
        left = _without(left, path)
    try:
        return cls.model_validate(left), wrong
    except ValidationError:
        return None, wrong


def _without(data: Any, path: KeyPath) -> Any:
    """Nested tables without a key; without all of a list of which an entry is meant."""
    first, *rest = path
    if not isinstance(data, Mapping) or first not in data:
        return data
    inner = data[first]
    if isinstance(inner, list) and len(rest) > 1 and isinstance(rest[0], int):
        entry = _without(inner[rest[0]], tuple(rest[1:]))
        return {**data, first: [*inner[: rest[0]], entry, *inner[rest[0] + 1 :]]}
    if not rest or isinstance(inner, list):
        return {key: value for key, value in data.items() if key != first}
    return {**data, first: _without(inner, tuple(rest))}


def _place(
    path: KeyPath, document: Document | Sources | None, overrides: list[tuple[str, ...]]
) -> str:
    """Where `path` was set: a line of a file, or an override of it, around it or below it.

    What is missing beside an override in a table that no file has is missing because of that.
    """
    words = tuple(map(str, path))
    causes = [key for key in overrides if words[: len(key)] == key]
    for around in (path, path[:-1]):
        if not causes and around and (document is None or document.line(around) is None):
            causes = [key for key in overrides if key[: len(around)] == words[: len(around)]]
    if causes:
        cause = max(causes, key=len)
        names = [caller.override(dotted(cause)), *([dotted(path)] if words != cause else [])]
    else:
        where, shown = document.locate(path) if document is not None else ("", path)
        names = [where, dotted(shown)]
    return "".join(f"{name}: " for name in names if name)


@dataclass(frozen=True)
class _Fault:
    """One pydantic error, with its location followed through the annotations.

    Attributes:
        path: the key as the user wrote it, without the union tags that pydantic puts in.
        shape: the annotation of that key; None if it has none.
        owner: the annotation of the table or list around it.
        union: the path of the outermost union whose every branch failed, if there is one.
        branch: the name of the failed branch of it.
    """

    path: KeyPath
    shape: Any
    owner: Any
    union: KeyPath | None
    branch: str | int
    error: Mapping[str, Any]


def _explain(
    cls: type[BaseModel], details: Sequence[Any], data: Mapping[str, Any]
) -> Iterator[tuple[KeyPath, str]]:
    """The path and the message of every error."""
    # All branches of a failed union report, in order: that tells which label is which branch.
    branches: dict[KeyPath, dict[str | int, None]] = {}
    for error in details:
        for end, label in enumerate(error["loc"]):
            branches.setdefault(error["loc"][:end], {})[label] = None
    faults = [_follow(cls, error, branches, data) for error in details]
    for union, group in groupby(faults, key=lambda fault: fault.union):
        if union is None:
            yield from map(_message, group)
        else:
            yield from _settle(union, list(group))


def _follow(
    cls: type[BaseModel],
    error: Mapping[str, Any],
    branches: Mapping[KeyPath, Collection[Any]],
    data: Mapping[str, Any],
) -> _Fault:
    shape: Any = cls
    owner: Any = None
    path: KeyPath = ()
    union, branch = None, ""
    for depth, part in enumerate(error["loc"]):
        bare, metadata = _bare(shape)
        members = _members(bare)
        tagged = [member for member in members if part in _tags(member, metadata)]
        if tagged:
            shape = tagged[0]
        elif members:
            labels = list(branches[error["loc"][:depth]])
            shape = members[labels.index(part)] if len(labels) == len(members) else None
            if union is None:
                union, branch, owner = path, part, bare
        elif part == "[key]":
            shape = typing.get_args(owner)[0]
        else:
            shape, owner, path = _child(bare, part), bare, (*path, part)
    if union is not None:
        union = _written(union, data)
    return _Fault(_written(path, data), shape, owner, union, branch, error)


def _written(path: KeyPath, data: Any) -> KeyPath:
    """`path` up to a scalar, where a validator takes a scalar as short for a table."""
    for depth, part in enumerate(path):
        if isinstance(data, str | int | float):
            return path[:depth]
        try:
            data = data[part]
        except (LookupError, TypeError):
            return path
    return path


def _settle(union: KeyPath, faults: list[_Fault]) -> Iterator[tuple[KeyPath, str]]:
    """One voice for the branches of a union: the branch that came furthest, or all in one."""
    inside = [fault.branch for fault in faults if len(fault.path) > len(union)]
    if inside:
        best = min(inside, key=inside.count)
        yield from (_message(fault) for fault in faults if fault.branch == best)
        return
    given = faults[0].error["input"]
    choices = [str(choice) for fault in faults for choice in _choices(fault.shape)]
    if isinstance(given, str) and (guess := nearest(given, choices)):
        expected = f"did you mean {guess!r}? (expected {_expected(faults[0].owner)})"
        yield union, f"{arrived(given)} is not allowed; {expected}"
        return
    telling = [fault for fault in faults if not _MISMATCH.fullmatch(fault.error["type"])]
    if len(telling) == 1:
        path, message = _message(telling[0])
        others = (_expected(fault.shape) for fault in faults if fault is not telling[0])
        yield path, ", or ".join([message, *others])
        return
    yield union, f"{arrived(given)} is not allowed; expected {_expected(faults[0].owner)}"


def _message(fault: _Fault) -> tuple[KeyPath, str]:
    path, shape, error = fault.path, fault.shape, fault.error
    kind, context, got = error["type"], error.get("ctx", {}), arrived(error["input"])
    if kind == "missing" and path and isinstance(path[-1], int):  # the tuple is too short
        return path[:-1], f"{got} is too short; expected {_expected(fault.owner)}"
    if kind == "missing":
        return path, f"missing; expected {_expected(shape)}"
    if kind == "extra_forbidden":
        names = list(_fields(fault.owner))
        moved = getattr(fault.owner, "elsewhere", {}).get(path[-1])
        if moved:
            return path, f"is no key any more; what it said is now said by {moved}"
        if path[-1] in getattr(fault.owner, "refused", {}):
            return path, fault.owner.refused[path[-1]]
        guess = _below(fault.owner, str(path[-1])) or nearest(str(path[-1]), names)
        hint = f"; did you mean {guess!r}?" if guess else f" (allowed: {', '.join(names)})"
        return path, f"unknown key {str(path[-1])!r}{hint}"
    if kind in ("union_tag_not_found", "union_tag_invalid"):
        tag = context["discriminator"].strip("'")
        bare, metadata = _bare(shape)
        tags = [name for member in _members(bare) for name in _tags(member, metadata)]
        if "tag" in context:
            return (*path, tag), unknown(tag, context["tag"], tags)
        return (*path, tag), f"missing; expected {either(map(repr, tags))}"
    if kind in ("value_error", "assertion_error"):
        reason = "; ".join(str(context["error"]).split("\n"))
        return path, reason or f"{got} is not allowed"
    if kind in ("literal_error", "enum"):
        if not isinstance(error["input"], str):
            return path, f"{got} is not allowed; expected {_expected(shape)}"
        name = next((part for part in reversed(path) if isinstance(part, str)), "value")
        return path, unknown(name, error["input"], map(str, _choices(shape)))
    if kind == "finite_number":
        return path, f"{got} is not finite; expected {_expected(shape)}"
    if kind in _BOUNDS:
        limit, words = _BOUNDS[kind]
        return path, f"{got} is out of range; expected {words} {_limit(shape, context[limit])}"
    if kind in _LENGTHS:
        limit, wrong, words = _LENGTHS[kind]
        unit = "character" if kind.startswith("string") else "element"
        count = f"{context[limit]} {unit}{'s' if context[limit] != 1 else ''}"
        return path, f"{got} is too {wrong}; expected at {words} {count}"
    if kind == "string_pattern_mismatch":
        return path, f"{got} does not match the pattern {context['pattern']}"
    if _MISMATCH.fullmatch(kind):
        expected = _expected(shape)
        likely = _with_quotes(error["input"]) if expected == "a list of texts" else ""
        return path, f"{got} has the wrong type; expected {expected}{likely}"
    return path, f"{got} is not allowed: {error['msg']}"


def _with_quotes(given: Any) -> str:
    """The list that was meant by a text such as "[W, Y]", whose quotes a shell has taken."""
    if not isinstance(given, str) or not re.fullmatch(r"\[\s*[\w-]+(\s*,\s*[\w-]+)*\s*\]", given):
        return ""
    meant = json.dumps(re.findall(r"[\w-]+", given))
    return f", such as {meant} (for a shell within single quotes, or it takes the others)"


# --- annotations, in words ------------------------------------------------------------------------


def _bare(shape: Any) -> tuple[Any, list[Any]]:
    """The annotation without `Annotated` and `Optional`, and the metadata it carried."""
    metadata: list[Any] = []
    while True:
        members = _members(shape)
        if isinstance(shape, FieldInfo):
            metadata += [shape, *shape.metadata]
            shape = shape.annotation
        elif typing.get_origin(shape) is typing.Annotated:
            metadata += shape.__metadata__
            shape = shape.__origin__
        elif len(members) == 1:
            shape = members[0]
        else:
            return shape, metadata


def _members(shape: Any) -> list[Any]:
    """The members of a union but None; empty if the annotation is no union."""
    if typing.get_origin(shape) not in (typing.Union, types.UnionType):
        return []
    return [member for member in typing.get_args(shape) if member is not types.NoneType]


def _tags(member: Any, metadata: list[Any]) -> list[str]:
    """The tags by which a discriminated union chooses `member`; empty if it is not one."""
    keys = (getattr(item, "discriminator", None) for item in metadata)
    key: Any = next((key for key in keys if key is not None), None)
    return [str(choice) for choice in _choices(_fields(_bare(member)[0]).get(key))]


def _fields(model: Any) -> dict[str, FieldInfo]:
    """The fields of a model by the names that a file uses."""
    fields: dict[str, FieldInfo] = getattr(model, "__pydantic_fields__", {})
    return {field.alias or name: field for name, field in fields.items()}


def _below(model: Any, name: str) -> str | None:
    """The dotted key nearest below `model` whose last part is `name`, or that says now what it did.

    Of a list it is in the element 0, of a table by name in NAME.
    """
    level: list[tuple[KeyPath, Any]] = [((), model)]
    while level:
        deeper: list[tuple[KeyPath, Any]] = []
        for at, shape in level:
            moved = getattr(shape, "elsewhere", {}).get(name, " ")
            if at and " " not in moved:
                return f"{dotted(at)}.{moved}"
            for key, field in _fields(shape).items():
                if at and key == name:
                    return dotted((*at, key))
                bare, _ = _bare(field)
                if typing.get_origin(bare) is list:
                    deeper.append(((*at, key, 0), _bare(typing.get_args(bare)[0])[0]))
                elif typing.get_origin(bare) is dict:
                    deeper.append(((*at, key, "NAME"), _bare(typing.get_args(bare)[1])[0]))
                else:
                    deeper.append(((*at, key), bare))
        level = deeper
    return None


def _child(bare: Any, part: str | int) -> Any:
    """The annotation of one key or element; None if there is none."""
    arguments = typing.get_args(bare)
    origin = typing.get_origin(bare)
    if origin is tuple and isinstance(part, int) and ... not in arguments:
        return arguments[part] if part < len(arguments) else None
    if origin is not None and arguments:
        return arguments[-1 if issubclass(origin, Mapping) else 0]
    return _fields(bare).get(str(part))


def _choices(shape: Any) -> list[Any]:
    """The values that a Literal or an enumeration allows."""
    bare, _ = _bare(shape)
    if isinstance(bare, type) and issubclass(bare, Enum):
        return [member.value for member in bare]
    return list(typing.get_args(bare)) if typing.get_origin(bare) is Literal else []


def _expected(shape: Any, plural: bool = False) -> str:
    """An annotation in plain words, such as "a list of whole numbers"."""
    bare, metadata = _bare(shape)
    for quantity in (item for item in metadata if isinstance(item, Quantity)):
        name = f"{quantity.dimension}s" if plural else f"a {quantity.dimension}"
        return f'{name} such as "{EXAMPLES[quantity.dimension]}"'
    if members := _members(bare):
        return either(_expected(member, plural) for member in members)
    if choices := _choices(bare):
        return either(map(repr, choices))
    origin, arguments = typing.get_origin(bare) or bare, typing.get_args(bare)
    if not isinstance(origin, type):
        return "values" if plural else "a value"
    if origin in _WORDS:
        return _WORDS[origin][plural]
    if _fields(origin) or issubclass(origin, Mapping):
        return "tables" if plural else "a table"
    if issubclass(origin, Collection):
        fixed = origin is tuple and arguments and ... not in arguments
        count = f"{len(arguments)} " if fixed else ""
        same = len(set(arguments) - {...}) == 1
        what = _expected(arguments[0], plural=True) if same else "values"
        return f"{'lists' if plural else 'a list'} of {count}{what}"
    return f"{origin.__name__} objects" if plural else f"an object of type {origin.__name__}"


def _limit(shape: Any, bound: Any) -> str:
    """A numeric bound, with the unit if the number has one."""
    quantities = (item for item in _bare(shape)[1] if isinstance(item, Quantity))
    quantity = next(quantities, None)
    if quantity is not None:
        return quantity.write(bound)
    return f"{bound:.15g}" if isinstance(bound, float) else str(bound)
