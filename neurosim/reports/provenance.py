"""Where a trace comes from, whether it is of a network or of cells."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from neurosim import wording
from neurosim.reports.variables import listed
from neurosim.traces.reader import Arrays, describe


class Origin(NamedTuple):
    """What every trace says of itself.

    said: as `inspect` returns it. attributes: of the file. summary: what was found at the end.
    """

    said: dict[str, Any]
    attributes: dict[str, Any]
    summary: dict[str, Any]


def origin(path: str | Path) -> Origin:
    """Of the trace at a path.

    Raises:
        InputError: there is no such file, or it is no intact trace.
    """
    found = describe(path)
    about = found["attributes"]
    with Arrays.of(path) as tree:
        resolved = json.loads(tree.text("provenance/protocol_json"))
        overrides = json.loads(tree.text("provenance/overrides"))
    summary = json.loads(about.get("summary", "{}"))
    said = {
        "path": found["path"],
        "bytes": found["bytes"],
        "status": found["status"],
        "protocol": about["protocol"],
        "description": resolved["description"],
        "source": resolved.get("model", resolved)["source"],
        "level": about["level"],
        "overrides": overrides,
        "wall_s": summary.get("wall_s"),
        "created": about["created"],
        "neurosim_version": about["neurosim_version"],
        "commit": about["commit"],
        "versions": json.loads(about["versions"]),
        "variables": listed(found),
        "resolved": resolved,
    }
    return Origin(said, about, summary)


def what(report: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Which protocol was run, in words."""
    description = report["description"]
    yield "protocol", report["protocol"] + (f": {description}" if description else "")
    if report["overrides"]:
        yield "changed", ", ".join(f"{k} = {v}" for k, v in report["overrides"].items())


def named(name: str, report: dict[str, Any]) -> str:
    """A model or a cell with where it was published."""
    return name + (f" ({report['source']})" if report["source"] else "")


def when(report: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """When and by what it was made, in words."""
    took = f", in {wording.duration(report['wall_s'])}" if report["wall_s"] is not None else ""
    yield "created", f"{report['created'].replace('T', ' ').replace('+00:00', ' UTC')}{took}"
    commit = f" ({report['commit']})" if report["commit"] else ""
    versions = ", ".join(f"{name} {number}" for name, number in report["versions"].items())
    yield "by", f"neurosim {report['neurosim_version']}{commit}, {versions}"
