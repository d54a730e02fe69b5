"""What `neurosim diff` says: whether two things are the same, and where they part.

Three parts: the configuration, key by key of the resolved protocol, the text of its model among
them; the provenance, what decides the last digits beside it; and the numbers, every one of two
traces. How far runs agree that are not the same is for `compare` to say.
"""

import json
from collections.abc import Iterator, Mapping
from os import PathLike, fspath
from pathlib import Path
from typing import Any, NamedTuple

from neurosim.building.loaded import Loaded
from neurosim.building.synapses import load
from neurosim.comparison.alignment import differing
from neurosim.comparison.parting import numbers
from neurosim.traces.naming import ENDINGS
from neurosim.traces.reader import is_hdf5, studying

Given = str | PathLike[str] | Loaded[Any]


WROTE = ("neurosim_version", "commit", "seeds", "data")
"""Attributes of a trace that say where its numbers come from."""


def diff(a: Given, b: Given) -> dict[str, Any]:
    """What differs between two traces, or two protocols, or a trace and a protocol, as plain data.

    `a` and `b`: what they are (`name`, and `kind`: trace or protocol). `configuration`: the keys of
    the resolved protocols that are not the same, with both values (None where one has no such key);
    the equations of the model and its rules are among them. `provenance`, of two traces: the same
    of seeds, versions, commit, device, processor, cores and the checksum of the data.

    `numbers`, of two traces: a row for every array in which they differ, where both were written at
    the same coordinates, as the run went: the `dataset`; `at`, the coordinates of the first value
    that differs; that value in `a` and in `b`, and the `difference` (b − a; None where one is no
    number); how many `differ` of how many `values`, and by how much at `most`. NaN equals NaN.
    Of spikes the first one that only one of the two has: its time is `a` or `b`, the other None.
    `first`: the first of these rows, where the runs part; None if there is none. `only_a`,
    `only_b`: the arrays that only one has. `extents`: the arrays that are not equally large in
    both, with the `shape` of each; their numbers are compared at the coordinates that both have.

    `same`: whether all of this is empty, part by part; None of what cannot be told of protocols.

    Raises:
        InputError: a file is no trace, or a protocol has a mistake.
    """
    sides = [_side(given) for given in (a, b)]
    about = [{"name": side.name, "kind": side.kind} for side in sides]
    found: dict[str, Any] = dict(zip("ab", about, strict=True))
    found["configuration"] = list(differing(*(side.protocol for side in sides)))
    same: dict[str, bool | None] = {"configuration": not found["configuration"]}
    if all(side.kind == "trace" for side in sides):
        found["provenance"] = list(differing(*(side.provenance for side in sides)))
        with studying(sides[0].name) as one, studying(sides[1].name) as other:
            found |= numbers(one, other)
        wrong = ("numbers", "only_a", "only_b", "extents")
        same |= {"provenance": not found["provenance"]}
        same |= {"numbers": not any(found[key] for key in wrong)}
    else:
        found |= {"provenance": [], "numbers": [], "first": None}
        found |= {"only_a": [], "only_b": [], "extents": []}
        same |= {"provenance": None, "numbers": None}
    return found | {"same": same}


class _Side(NamedTuple):
    name: str
    kind: str
    protocol: dict[str, Any]
    provenance: dict[str, Any]


def _side(given: Given) -> _Side:
    if isinstance(given, Loaded):
        return _Side(given.spec.name, "protocol", _plain(given), {})
    path = Path(given)
    if not (is_hdf5(path) or path.suffix.lower() in ENDINGS):
        return _Side(fspath(given), "protocol", _plain(load(fspath(given))), {})
    with studying(path) as tree:
        documents = {n: str(v.values) for n, v in tree["provenance"].data_vars.items()}
        about = dict(tree.attrs)
    protocol = json.loads(documents["protocol_json"])
    told: dict[str, Any] = {key: str(about[key]) for key in WROTE if key in about}
    told |= json.loads(str(about.get("versions", "{}")))
    told |= json.loads(documents.get("environment", "{}"))
    return _Side(fspath(given), "trace", protocol, told)


def _plain(protocol: Loaded[Any]) -> dict[str, Any]:
    return protocol.spec.model_dump(mode="json", exclude_none=True)


# ------------------------------------------------------------------------------------- words


SHORT, MOST = 60, 12
"""Characters of a value, and rows of a part, that words show."""


def in_words(report: Mapping[str, Any]) -> str:
    """What `diff` returns, as text for people."""
    lines = [f"{side}: {report[side]['name']}" for side in "ab"]
    same = report["same"]
    if all(known in (True, None) for known in same.values()):
        parts = ", ".join(part for part, known in same.items() if known)
        return "\n".join([*lines, f"the same: {parts}"])
    for part in ("configuration", "provenance"):
        if same[part] is not None:
            lines += ["", f"{part}: {'the same' if same[part] else ''}".rstrip()]
            lines += _cut([line for row in report[part] for line in _key(row)])
    if same["numbers"] is None:
        return "\n".join(lines)
    lines += ["", "numbers:" if not same["numbers"] else "numbers: the same"]
    if report["first"]:
        lines += [f"  they part at {_place(report['first'])}"]
        lines += _cut([_row(row) for row in report["numbers"]])
    for row in report["extents"]:
        lines += [f"  {row['dataset']}: shape {row['a']} in a, {row['b']} in b"]
    for side in "ab":
        if report[f"only_{side}"]:
            lines += [f"  only in {side}: {', '.join(report[f'only_{side}'])}"]
    return "\n".join(lines)


def _cut(lines: list[str]) -> list[str]:
    more = len(lines) - MOST
    return [*lines[:MOST], f"  … and {more} more (--json has all)"] if more > 0 else lines


def _key(row: Mapping[str, Any]) -> Iterator[str]:
    """A key and both values; of texts of several lines those that only one has."""
    a, b = row["a"], row["b"]
    if isinstance(a, str) and isinstance(b, str) and "\n" in a + b:
        from difflib import ndiff

        yield f"  {row['key']}:"
        found = ndiff(a.strip().splitlines(), b.strip().splitlines())
        yield from (f"    {line}" for line in found if line[0] in "-+")
        return
    yield f"  {row['key']}: {_said(a)} in a, {_said(b)} in b"


def _said(value: Any) -> str:
    if value is None:
        return "nothing"
    text = " ".join(value.split()) if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= SHORT else f"{text[: SHORT - 1]}…"


def _place(row: Mapping[str, Any]) -> str:
    told = ", ".join(f"{kind} {number}" for kind, number in row["at"].items())
    return f"{told}: {row['dataset']}" if told else row["dataset"]


def _row(row: Mapping[str, Any]) -> str:
    values = [("none" if row[side] is None else f"{row[side]:.9g}") for side in "ab"]
    text = f"  {row['dataset']}: {row['differ']} of {row['values']} differ"
    if row["most"]:
        text += f", by up to {row['most']:.3g}"
    unit = "" if row["unit"] == "1" else f" {row['unit']}"
    return f"{text}; first {values[0]} in a, {values[1]} in b{unit}"
