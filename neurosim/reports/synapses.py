"""What `neurosim check` and `inspect` say of cells and the synapses between them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from neurosim import wording
from neurosim.building.synapses import SynapticProtocol
from neurosim.circuits.synapses import SIDES, Synapse
from neurosim.reports import variables
from neurosim.reports.provenance import origin, what, when
from neurosim.reports.recordings import equations, in_short
from neurosim.specs.toml import written
from neurosim.units import format_time


def check(protocol: SynapticProtocol, out: str | Path | None = None) -> dict[str, Any]:
    """Everything that recording would begin with, as plain data.

    `protocol`, resolved; `cells` and `synapses` by name, with their equations and how many of them
    a sweep has; `level`; `sweeps`; `trace`, where it would go.
    """
    from neurosim.recordings.synapses import LEVEL, trace_path

    spec, wired = protocol.spec, protocol.wired
    return {
        "protocol": spec.model_dump(mode="json", exclude_none=True),
        "cells": {
            name: {
                "neuron": spec.cells[name].name if group.cell else None,
                "source": spec.cells[name].source,
                "count": group.count,
                "equations": [] if group.cell is None else equations(group.cell),
            }
            for name, group in wired.groups.items()
        },
        "synapses": {
            name: {
                "name": spec.synapses[name].name,
                "source": spec.synapses[name].source,
                "count": len(wired.pairs(name, spec.seed)[0]),
                "equations": list(_lines(synapse)),
            }
            for name, synapse in wired.synapses.items()
        },
        "level": LEVEL,
        "sweeps": protocol.sweeps,
        "trace": str(trace_path(spec, out)),
    }


def checked(protocol: SynapticProtocol, report: dict[str, Any]) -> str:
    """What `check` returns, as a protocol file: the words are its comments."""
    spec = protocol.spec
    lasts = format_time(spec.duration)
    words = [f"{spec.name}: {wording.plural(report['sweeps'], 'sweep')} of {lasts}"]
    for name, about in report["cells"].items():
        made = spec.cells[name].spikes
        how = "" if made is None else f", made to spike: {made.kind}"
        words.append(f"{name}: {wording.plural(about['count'], 'cell')}{how}")
        words += [f"  {line}" for line in about["equations"]]
    for name, about in report["synapses"].items():
        each = spec.synapses[name]
        delay = f", {format_time(each.delay)} later" if each.delay else ""
        words.append(f"{name}: {about['count']} from {each.pre} to {each.post}{delay}")
        words += [f"  {line}" for line in about["equations"]]
    words += [in_short(given) for given in spec.stimuli]
    words += [f"integrated by Brian2, in steps of {format_time(spec.dt)}"]
    words += [f"trace: {report['trace']}"]
    comments = "\n".join(f"# {line}" for line in words)
    return f"{comments}\n\n{written(report['protocol'])}"


def _lines(synapse: Synapse) -> Iterator[str]:
    for line in synapse.lines:
        if line.right is not None:
            yield f"{f'd{line.name}/dt' if line.moves else line.name} = {line.right.text}"
    for at in SIDES:
        for change in synapse.changes[at]:
            yield f"at {at}synaptic spikes {change.name} {change.how}= {change.right.text}"


def inspect(path: str | Path) -> dict[str, Any]:
    """What a recording of synapses is and what it holds, as plain data.

    Among the keys: `protocol`, `sweeps` and `curve` (see `SynapticRecording`), `variables`,
    `resolved`, the protocol.

    Raises:
        InputError: there is no such file, or it is no intact recording.
    """
    said, _, summary = origin(path)
    return said | {key: summary.get(key, {}) for key in ("sweeps", "curve", "units")}


def in_words(report: dict[str, Any], width: int) -> str:
    """What `inspect` returns, as text for people."""
    rows = [*what(report), ("status", report["status"]), *when(report)]
    if report["source"]:
        rows.insert(1, ("source", report["source"]))
    return "\n".join(
        [
            f"{report['path']}: a recording of {wording.size(report['bytes'])}",
            *wording.labelled(rows, width),
            "  variables:",
            *variables.in_words(report, width),
        ]
    )
