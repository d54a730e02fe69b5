"""What a page says of a run of a network."""

import json
from collections.abc import Iterator
from typing import Any

from neurosim import wording
from neurosim.building.concerns import concerns
from neurosim.building.shipped import bundled
from neurosim.errors import InputError
from neurosim.figures import circuit_figure, convergence_figure, overview_figure, raster_figure
from neurosim.figures.vector import svg
from neurosim.reports import inspection, outline
from neurosim.reports.pages.sheet import (
    Picture,
    Sheet,
    Table,
    commands,
    forced,
    protocol,
    provenance,
    variables,
)
from neurosim.reports.provenance import named
from neurosim.specs import ProtocolSpec
from neurosim.specs.toml import dotted
from neurosim.specs.validation import validate
from neurosim.traces.reader import Arrays


def sheet(report: dict[str, Any], name: str, digest: str, prefix: str) -> Sheet:
    """Of a trace. report: what `inspect` says of it. prefix: of the identifiers in its figures."""
    spec, why = _spec(report)
    done = report["presentations"]
    resolved = report["resolved"]
    status = inspection.STATUS.get(report["status"], report["status"])
    about = [
        ("protocol", report["protocol"]),
        ("model", named(report["model"], report)),
        ("layers", "-".join(map(str, resolved["model"]["layers"]))),
        ("task", _task(resolved["task"])),
        ("level", report["level"]),
        ("precision", report["precision"]),
        ("plasticity", report["plasticity"]),
        ("seeds", wording.listed(report["seeds"])),
        ("status", status),
        ("presentations", f"{done['done']} of {done['total']}"),
    ]
    if report["overrides"]:
        changes = ", ".join(f"{k} = {v}" for k, v in report["overrides"].items())
        about.insert(1, ("changed", changes))
    page = Sheet(
        name=name,
        kind="run",
        protocol_name=report["protocol"],
        description=report["description"],
        measured=list(wording.metrics(report["metrics"])) or [("measured", "nothing yet")],
        about=about,
        provenance=provenance(report, digest),
        doubts=list(_doubts(report, spec, why)),
        protocol=protocol(report),
        commands=list(commands(report, report["protocol"] in bundled("protocols"))),
        variables=variables(report),
        resolved=resolved,
        phases=_phases(report),
    )
    page.pictures += _pictures(report, prefix)
    if spec is not None:
        title = f"Circuit of {report['model']}"
        caption = "Layers from the input up; arrows are projections, solid where all reach all."
        drawn = svg(circuit_figure(spec.model), f"{title}. {caption}", f"{prefix}-circuit")
        page.circuit = Picture(title, caption, drawn)
        page.model.append(("Who reaches whom", "\n".join(outline.in_words(outline.outline(spec)))))
    cells = resolved["model"].get("cells", {})
    page.model += [
        (f"Cell {cell}", said["equations"].strip("\n"))
        for cell, said in cells.items()
        if said.get("equations")
    ]
    return page


def _task(task: Any) -> str:
    """What a task is called; one that a script gave stands as a word."""
    return task["name"] if isinstance(task, dict) else str(task)


def _spec(report: dict[str, Any]) -> tuple[ProtocolSpec | None, str]:
    """The protocol as this version understands it; None, and why not."""
    try:
        return validate(ProtocolSpec, report["resolved"]), ""
    except InputError as error:
        return None, error.messages[0]


def _pictures(report: dict[str, Any], prefix: str) -> Iterator[Picture]:
    """At a glance; the spikes, where there are any; how it came to rest."""
    path = report["path"]
    how = report["resolved"]["rate" if report["level"] == "rate" else "equilibrium"]
    wanted: list[tuple[str, str, str, Any]] = [
        (
            "overview",
            "The run at a glance",
            "One recorded sample, its teaching signal, and what was learned.",
            lambda: overview_figure(path),
        ),
        (
            "convergence",
            "Convergence",
            "How far neurons came to rest before plasticity read them: the worst of a batch.",
            lambda: convergence_figure(path, how["tolerance"]),
        ),
    ]
    with Arrays.of(path) as tree:
        if "spikes" in tree:
            wanted.insert(1, ("raster", "Spikes", "Of some neurons of every layer, above its rate.",
                              lambda: raster_figure(path)))  # fmt: skip
    for key, title, caption, draw in wanted:
        try:
            figure = draw()
        except InputError:  # a run that has only begun shows nothing yet
            continue
        if figure is not None:
            drawn = svg(figure, f"{title}. {caption}", f"{prefix}-{key}")
            yield Picture(title, caption, drawn)


def _phases(report: dict[str, Any]) -> Table:
    heads = ["phase", "lasts", "teaching", "opens", "settled, mean", "settled, worst", "residual"]
    return Table(heads, [_phase(phase, report["level"]) for phase in report["phases"]])


def _phase(phase: dict[str, Any], level: str) -> list[str]:
    mean, worst, left = (phase[k] for k in ("settled_mean", "settled_worst", "residual_worst"))
    unknown = "unknown" if level == "spiking" else "none seen"
    return [
        phase["name"],
        wording.duration(phase["duration_ms"] / 1e3) if phase["duration_ms"] else "",
        "yes" if phase["taught"] else "no",
        ", ".join(phase["plastic"]) or "nothing",
        unknown if mean is None else wording.percent(mean),
        unknown if worst is None else wording.percent(worst),
        unknown if left is None else f"{left:.2g}",
    ]


def _doubts(report: dict[str, Any], spec: ProtocolSpec | None, why: str) -> Iterator[str]:
    """What to know before the numbers are believed."""
    done = report["presentations"]
    if report["status"] != "complete":
        status = inspection.STATUS.get(report["status"], report["status"])
        yield f"{status}; {done['done']} of {done['total']} presentations"
    for entry in report["diverged"]:
        yield f"diverged: {entry['message']}"
    for phase in report["phases"]:
        if phase["settled_worst"] is None:
            continue
        if phase["settled_worst"] < 1:
            worst = wording.percent(phase["settled_worst"])
            yield (
                f"not settled: in the worst presentation, phase {phase['name']} settled for "
                f"{worst} of the samples only"
            )
        else:
            how = report["resolved"]["rate" if report["level"] == "rate" else "equilibrium"]
            given = phase["residual_worst"], how["tolerance"], report["precision"]
            if rounding := wording.rounded(*given):
                yield f"settled{rounding}, in phase {phase['name']}"
    for label, text in wording.shortened(report["shortened"], done["done"]):
        yield f"{label} {text}"
    with Arrays.of(report["path"]) as tree:
        about = tree.attributes
    summary = json.loads(about.get("summary", "{}"))
    if "presentations" in summary:
        given = summary["presentations"]
        yield from (f"{k} {v}" for k, v in wording.budget(given["planned"], given["asked"]))
    yield from forced(report["path"])
    if spec is None:
        yield f"its protocol is none that this version reads, so no circuit is drawn: {why}"
    else:
        yield from (f"{dotted(doubt.key)}: {doubt.message}" for doubt in concerns(spec))
