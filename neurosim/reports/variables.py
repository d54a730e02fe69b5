"""The variables of a trace, as data and in words."""

from collections.abc import Iterator, Mapping
from typing import Any


def listed(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Name, dims, shape and units of all, but for where the trace comes from. found: `describe`."""
    return [
        {"name": f"{group}/{name}".strip("/"), **entry}
        for group, members in found["groups"].items()
        for name, entry in members["variables"].items()
        if group != "/provenance"
    ]


def in_words(report: dict[str, Any], width: int) -> Iterator[str]:
    """Names and shapes, and a description where it fits on the line."""
    rows = []
    for entry in report["variables"]:
        dims = zip(entry["dims"], entry["shape"], strict=True)
        shape = " × ".join(f"{dim} {length}" for dim, length in dims)
        unit = "" if entry["units"] in (None, "1") else entry["units"]
        rows.append((entry["name"], ", ".join(filter(None, (shape, unit))), entry["description"]))
    names = max((len(name) for name, _, _ in rows), default=0)
    shapes = max((len(shape) for _, shape, _ in rows), default=0)
    for name, shape, description in rows:
        line = f"    {name:<{names}}  {shape:<{shapes}}  {description}".rstrip()
        yield line if len(line) <= width else f"    {name:<{names}}  {shape}"
