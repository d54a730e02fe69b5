"""What a page says of one file."""

import json
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from neurosim.errors import InputError
from neurosim.reports.provenance import when
from neurosim.specs.toml import parse_assignment, written
from neurosim.traces.reader import Arrays
from neurosim.units import format_time

Row = tuple[str, str]


@dataclass(frozen=True)
class Picture:
    """A figure: its title, what it shows in words, and the SVG itself."""

    title: str
    caption: str
    svg: str


@dataclass(frozen=True)
class Table:
    """Words in columns under heads."""

    heads: list[str]
    rows: list[list[str]]


@dataclass
class Sheet:
    """One file, as the template takes it.

    name: that of its column. measured, about, provenance: label and text. doubts: what to know
    before the numbers are believed. phases, sweeps: tables. model: titles and texts. protocol:
    TOML, complete, which runs. commands: those that repeat it, with a word on each.
    """

    name: str
    kind: str
    protocol_name: str
    description: str
    measured: list[Row]
    about: list[Row]
    provenance: list[Row]
    doubts: list[str]
    protocol: str
    commands: list[Row]
    variables: Table
    resolved: dict[str, Any]
    pictures: list[Picture] = field(default_factory=list)
    phases: Table | None = None
    sweeps: Table | None = None
    circuit: Picture | None = None
    model: list[Row] = field(default_factory=list)


def provenance(report: dict[str, Any], digest: str) -> list[Row]:
    """When a file was made, by what, on what, and how to know it again."""
    rows = list(when(report))
    with Arrays.of(report["path"]) as tree:
        environment, about = {}, tree.attributes
        if "provenance/environment" in tree:
            environment = json.loads(tree.text("provenance/environment"))
    told = {
        "device": "device",
        "processor": "processor",
        "cores": "cores",
        "XLA_FLAGS": "XLA flags",
    }
    rows += [(label, str(environment[key])) for key, label in told.items() if environment.get(key)]
    if "data" in about:
        rows.append(("data", f"fingerprint {about['data']}"))
    for entry in json.loads(about.get("resumed", "[]")):
        rows.append(("resumed", f"after {_done(entry)}, {entry['at']}"))
    if "repaired" in about:
        rows.append(("repaired", json.loads(about["repaired"])["at"]))
    rows.append(("SHA-256", digest))
    return rows


def _done(entry: dict[str, Any]) -> str:
    """How far a run or a recording was when it was resumed."""
    if "presentation" in entry:
        return f"{entry['presentation']} presentations"
    return format_time(float(f"{entry['time_ms']:.6g}") * 1e-3)


def forced(path: str) -> Iterator[str]:
    """What a trace was resumed or repaired with although it was not what it had been."""
    with Arrays.of(path) as tree:
        about = tree.attributes
    for entry in json.loads(about.get("resumed", "[]")):
        yield from (f"went on with something else: {line}" for line in entry.get("differing", ()))
    if "repaired" in about:
        yield from (f"repaired: {line}" for line in json.loads(about["repaired"])["differing"])


def commands(report: dict[str, Any], shipped: bool) -> Iterator[Row]:
    """What repeats a run: from the shipped protocol, and from the file alone."""
    seeds = report.get("seeds") or [report["resolved"]["seed"]]
    ensemble = ""
    if len(seeds) > 1:
        if seeds != list(range(seeds[0], seeds[-1] + 1)):
            script = f'neurosim.run("repeated.toml", seeds={seeds})'
            yield _extracted(report)
            yield "In Python, as the seeds do not follow one another:", script
            return
        ensemble = f" --seeds {seeds[0]}:{seeds[-1] + 1}"
    changes = _changes(report["overrides"] or {}) if shipped else None
    if changes is not None:
        own = f"neurosim run {shlex.quote(report['protocol'])}"
        yield "From the protocol that ships:", "".join([own, *changes, ensemble])
    yield _extracted(report)
    yield "And run it:", f"neurosim run repeated.toml{ensemble}"


def _extracted(report: dict[str, Any]) -> Row:
    """Where the protocol comes from."""
    path = shlex.quote(Path(report["path"]).name)
    what = "The protocol as it ran, which stands above too, as a file:"
    return what, f"neurosim inspect {path} --protocol > repeated.toml"


def _changes(overrides: dict[str, str]) -> list[str] | None:
    """Options that say what a run changed; None where words alone do not."""
    options = []
    for key, text in overrides.items():
        if key in ("level", "seed"):
            options.append(f" --{key} {shlex.quote(text)}")
            continue
        assignment = f"{key}={text}"
        try:
            _, value = parse_assignment(assignment)
        except InputError:
            return None
        if str(value) != text:
            return None
        options.append(f" --set {shlex.quote(assignment)}")
    return options


def protocol(report: dict[str, Any]) -> str:
    """The protocol with its model, complete."""
    return written(report["resolved"])


def variables(report: dict[str, Any]) -> Table:
    """What the file holds."""
    rows = [
        [
            entry["name"],
            " × ".join(f"{d} {n}" for d, n in zip(entry["dims"], entry["shape"], strict=True)),
            "" if entry["units"] in (None, "1") else entry["units"],
            entry["description"],
        ]
        for entry in report["variables"]
    ]
    return Table(["name", "shape", "unit", "what it is"], rows)
