"""What was measured before: one line of JSON a run of the benchmarks, oldest first.

An entry says when, of which commit, on what machine and with which versions, and holds its rows
with all their repeats.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

from measure import Absent, Entry, Row

PLACES = 6
"""Significant digits that are kept of repeats."""


class Measurement(NamedTuple):
    """An entry of a history.

    when: of its beginning. machine: what it was measured with. parts: rows by what they say, part
    by part.
    """

    when: str
    commit: str
    load: float
    machine: dict[str, Any]
    parts: dict[str, dict[str, Entry]]

    @classmethod
    def read(cls, entry: dict[str, Any]) -> Self:
        """Of a line of a history."""
        parts = {
            part: {row["what"]: reread(row) for row in rows}
            for part, rows in entry["parts"].items()
        }
        return cls(entry["when"], entry["commit"], entry["load"], entry["machine"], parts)

    @property
    def title(self) -> str:
        """When and of which commit."""
        return f"{self.when} ({self.commit})"


def written(row: Entry) -> dict[str, Any]:
    """A row as JSON has it."""
    if isinstance(row, Absent):
        return row._asdict()
    rounded = [float(f"{value:.{PLACES}g}") for value in row.repeats]
    return row._asdict() | {"repeats": rounded, "verdict": row.verdict}


def latest(row: Entry) -> dict[str, Any]:
    """A row without its repeats, for the table of the latest numbers."""
    return {name: value for name, value in written(row).items() if name != "repeats"}


def append(
    path: Path, moment: dict[str, Any], machine: dict[str, Any], parts: dict[str, Sequence[Entry]]
) -> None:
    """Add an entry to a history, which may not be there yet."""
    rows = {part: [written(row) for row in entries] for part, entries in parts.items()}
    with path.open("a") as file:
        print(json.dumps(moment | {"machine": machine, "parts": rows}), file=file)


def read(path: Path) -> list[Measurement]:
    """All entries, oldest first; none where there is no file."""
    if not path.exists():
        return []
    return [Measurement.read(json.loads(line)) for line in path.read_text().splitlines()]


def chosen(entries: list[Measurement], asked: str) -> Measurement:
    """The one entry whose time or commit begins so, or that has this index; -1 is the last.

    Raises ValueError if it is none, or not one.
    """
    try:
        return entries[int(asked)] if len(asked.lstrip("-")) <= 3 else _named(entries, asked)
    except (IndexError, ValueError) as error:
        listed = "\n".join(f"  {k}: {entry.title}" for k, entry in enumerate(entries))
        raise ValueError(f"{asked}: expected one of\n{listed}") from error


def _named(entries: list[Measurement], asked: str) -> Measurement:
    (one,) = [e for e in entries if e.when.startswith(asked) or e.commit.startswith(asked)]
    return one


def reread(written: dict[str, Any]) -> Entry:
    """The row that `written` made so."""
    if "why" in written:
        return Absent(**written)
    limit = written["limit"] and (written["limit"][0], written["limit"][1])
    given = {name: written[name] for name in ("what", "value", "unit", "best")}
    return Row(**given, limit=limit, repeats=tuple(written["repeats"]))
