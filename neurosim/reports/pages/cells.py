"""What a page says of a recording of cells, alone or joined by synapses."""

from collections.abc import Mapping
from typing import Any

from neurosim.building.shipped import bundled
from neurosim.figures.recordings import recording_figure
from neurosim.figures.vector import svg
from neurosim.recordings.measures import in_words
from neurosim.reports.inspection import STATUS
from neurosim.reports.pages.sheet import (
    Picture,
    Row,
    Sheet,
    Table,
    commands,
    forced,
    protocol,
    provenance,
    variables,
)
from neurosim.reports.provenance import named
from neurosim.traces.reader import studying


def sheet(report: dict[str, Any], name: str, digest: str, prefix: str) -> Sheet:
    """Of a recording. report: what `inspect` says of it. prefix: of identifiers in its figure."""
    resolved, alone = report["resolved"], "cell" in report
    measures = report["measures"] if alone else report
    status = STATUS.get(report["status"], report["status"])
    about = [("protocol", report["protocol"])]
    if report["overrides"]:
        about.append(("changed", ", ".join(f"{k} = {v}" for k, v in report["overrides"].items())))
    if alone:
        about.append(("cell", named(report["cell"], report)))
    elif report["source"]:
        about.append(("source", report["source"]))
    about += [("level", report["level"]), ("seed", str(resolved["seed"])), ("status", status)]
    doubts = [] if report["status"] == "complete" else [status]
    doubts += forced(report["path"])
    with studying(report["path"]) as tree:
        title = "Recording"
        caption = "Stimuli and what the cells did, of the first copy."
        drawn = svg(recording_figure(tree), f"{title}. {caption}", f"{prefix}-recording")
    return Sheet(
        name=name,
        kind="recording",
        protocol_name=report["protocol"],
        description=report["description"],
        measured=list(in_words(measures["cell"], measures["units"])) if alone else _ranges(report),
        about=about,
        provenance=provenance(report, digest),
        doubts=doubts,
        protocol=protocol(report),
        commands=list(commands(report, report["protocol"] in bundled("recordings"))),
        variables=variables(report),
        resolved=resolved,
        pictures=[Picture(title, caption, drawn)],
        sweeps=_sweeps(measures["sweeps"], measures["units"]),
        model=_texts(resolved),
    )


def _ranges(report: Mapping[str, Any]) -> list[Row]:
    """Of every number the lowest and the highest over sweeps."""
    rows = []
    for name, values in {**report["sweeps"], **report["curve"]}.items():
        known = [value for value in values if value is not None]
        if known:
            low, high = f"{min(known):.4g}", f"{max(known):.4g}"
            text = low if low == high else f"{low} to {high}"
            unit = report["units"].get(name, "1")
            rows.append((_plainly(name), text if unit == "1" else f"{text} {unit}"))
    return rows


def _sweeps(numbers: Mapping[str, list[float | None]], units: Mapping[str, str]) -> Table | None:
    """Every number of every sweep."""
    if not numbers:
        return None
    heads = [
        _plainly(name) + (f" ({units[name]})" if units.get(name, "1") != "1" else "")
        for name in numbers
    ]
    rows = [
        [str(k), *("" if value is None else f"{value:.4g}" for value in values)]
        for k, values in enumerate(zip(*numbers.values(), strict=True))
    ]
    return Table(["sweep", *heads], rows)


def _plainly(name: str) -> str:
    return name.replace("_", " ").replace(".", ": ")


def _texts(resolved: Mapping[str, Any]) -> list[Row]:
    """Equations of cells and lines of synapses, as their files say them."""
    found = []
    cells = {"": resolved["model"]} if "model" in resolved else resolved["cells"]
    for kind, groups in (("Cell", cells), ("Synapse", resolved.get("synapses", {}))):
        for key, said in groups.items():
            text = said["equations"].strip("\n")
            for when in ("on_pre", "on_post"):
                if changes := said.get(when, "").strip("\n"):
                    text += f"\n{when}:\n{changes}"
            if text:
                name = said["name"]
                title = f"{kind} {key}: {name}" if key and key != name else f"{kind} {name}"
                found.append((title, text.strip("\n")))
    return found
