"""The tables of keys in the docs: `python docs/keys.py` writes them from the specs.

A table stands below a comment that names it. Its first three columns are made here; the last one,
what a key means, is written by hand and kept.
"""

import dataclasses
import re
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import annotated_types as at
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from neurosim import specs
from neurosim.circuits.starts import NAMED
from neurosim.credit import CREDITS
from neurosim.plasticity import FEEDBACK_RULES, FORWARD_RULES, PROBES
from neurosim.specs.cells import Amplitudes, Durations, Frequencies, Starts
from neurosim.specs.synapses import Shifts, Start
from neurosim.tasks import TASKS
from neurosim.tasks.student_teacher import TRANSFERS
from neurosim.units import Quantity, format_quantity

PAGES = [Path(__file__).with_name(name) for name in ("protocols.md", "neurons.md", "synapses.md")]

LOADED = {
    "model": {"use": ("name or path", "none"), "like": ("name or path", "none")},
    "task": {"name": (list(TASKS), "needed")},
    "neuron": {"use": ("name or path", "none")},
    "group": {"use": ("name or path", "none")},
    "synapses": {"use": ("name or path, or a list", "none")},
}
"""Keys that no spec has, as loading takes them out: value and default."""

TABLES: dict[str, tuple[type, set[str]]] = {
    "protocol": (specs.ProtocolSpec, set()),
    "stages": (specs.StageSpec, set()),
    "stages.phases": (specs.PhaseSpec, set()),
    "stages.phases.longer": (specs.LongerSpec, set()),
    "schedule": (specs.ScheduleSpec, set()),
    "record": (specs.RecordSpec, set()),
    "rate": (specs.RateSpec, set()),
    "equilibrium": (specs.EquilibriumSpec, set()),
    "spiking": (specs.SpikingSpec, set()),
    "sweep": (specs.SweepSpec, set()),
    "model": (specs.ModelSpec, set()),
    "cells": (specs.CellSpec, set()),
    "populations": (specs.PopulationSpec, set()),
    "projections": (specs.ProjectionSpec, set()),
    "parameters": (specs.SpreadSpec, set()),
    "credit": (specs.CreditSpec, set()),
    "credit.nodes": (specs.NodesSpec, set()),
    "model.activation": (specs.ActivationSpec, set()),
    "model.spiking": (specs.NeuronsSpec, set()),
    "task": (object, set()),
    **{f"task.{name}": (kind, set()) for name, kind in TASKS.items()},
    "cell-protocol": (specs.CellProtocolSpec, set()),
    "stimuli": (specs.StimulusSpec, set()),
    "cell-record": (specs.CellRecordSpec, set()),
    "neuron": (specs.CellModelSpec, set()),
    "synaptic-protocol": (specs.SynapticProtocolSpec, set(specs.CellProtocolSpec.model_fields)),
    "group": (specs.CellGroupSpec, set(specs.CellModelSpec.model_fields)),
    "spikes": (specs.SpikesSpec, set()),
    "synapse-file": (specs.SynapsePartSpec, set()),
    "synapses": (specs.SynapseSpec, set(specs.SynapsePartSpec.model_fields)),
    "synaptic-record": (specs.SynapticRecordSpec, set()),
    "curve": (specs.CurveSpec, set()),
}
"""Table → what it lists, and the fields that others list."""

NAMES = {
    ("projections", "rule"): ["fixed", "tied", *PROBES, *FORWARD_RULES],
    ("credit", "name"): list(CREDITS),
    ("credit", "rule"): list(FEEDBACK_RULES),
    ("task.student-teacher", "activation"): list(TRANSFERS),
}
"""What may stand where a spec takes any name."""

OPEN = {("projections", "init"): (NAMED, "expression"), ("model", "credit"): ((), "name, or table")}
"""What may stand where a spec takes any text or table: names, and what else."""

WORDS = [
    (specs.PlasticityRate, "number ≥ 0, or rate ≥ 0; or a list"),
    (specs.ProjectionRate, "number ≥ 0, rate ≥ 0 or expression; or a list"),
    (specs.ActivationField, "name, or table"),
    (specs.ByName, "name"),
    (specs.Parameter, "number, or text with a unit"),
    (specs.LayerField, "integer ≥ 1 or [maps, rows, columns]"),
    (specs.ParameterField, "number, text with a unit, or table"),
    (specs.PopulationField, "layers, or table"),
    (specs.LongerField, "time > 0, or table"),
    (str | Path, "path"),
    (str | Path | None, "path"),
    (str | list[str], "text, or a list"),
    (Amplitudes, "number, or text with a unit; or a list, or a range"),
    (Starts, "time ≥ 0, or a list"),
    (Durations, "time > 0, or a list"),
    (Frequencies, "rate > 0, or a list"),
    (Shifts, "time, or a list, or a range"),
    (Start, "number, text with a unit, or name of a parameter"),
    (bool, "`true`, `false`"),
    (int, "integer"),
    (float, "number"),
    (str, "text"),
    (Any, "any"),
]

BOUNDS = ((at.Ge, "ge", "≥"), (at.Gt, "gt", ">"), (at.Le, "le", "≤"), (at.Lt, "lt", "<"))


def value(hint: Any) -> str:
    """What may be written for a field of such a type, in words, with its range."""
    for known, words in WORDS:
        if hint == known:
            return words
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _ranged(args[0], args[1:])
    if origin is Literal:
        return ", ".join(f"`{str(a).lower() if isinstance(a, bool) else a}`" for a in args)
    if origin in (Union, types.UnionType):
        return " or ".join(value(a) for a in args if a is not type(None))
    if origin is list:
        return f"list of {value(args[0])}" if value(args[0]) != "table" else "list of tables"
    if origin is dict:
        return f"table of {value(args[1])}" if value(args[1]) != "table" else "tables by name"
    if isinstance(hint, type) and issubclass(hint, specs.Spec):
        return "table"
    return f"list of {value(args[0])}"  # other sequences, which scripts may give


def _ranged(base: Any, about: tuple) -> str:
    words, bounds = value(base), []
    for note in about:
        if isinstance(note, Quantity):
            words = note.dimension
            bounds += {"positive": ["> 0"], "non-negative": ["≥ 0"], "any": []}[note.range]
        for limit in note.metadata if isinstance(note, FieldInfo) else ():
            bounds += [
                f"{s} {getattr(limit, a)}" for kind, a, s in BOUNDS if isinstance(limit, kind)
            ]
    return " ".join([words, ", ".join(bounds)]).strip()


def default(given: Any, hint: Any) -> str:
    """A default as a file would have it."""
    if given is PydanticUndefined or given is dataclasses.MISSING:
        return "needed"
    if isinstance(given, specs.LearningRate):
        return ", ".join(f"{v:g}" for v in given.values)
    if isinstance(given, specs.ActivationSpec):
        return f"`{given.name}`" + (f", slope {given.slope:g}" if given.slope else "")
    if given is None or given in ("", [], {}) or isinstance(given, specs.Spec):
        return "none" if not isinstance(given, specs.Spec) else ""
    if isinstance(given, bool):
        return f"`{str(given).lower()}`"
    if isinstance(given, tuple | list):
        return ", ".join(f"`{v}`" if isinstance(v, str) else f"{v:g}" for v in given)
    for note in get_args(hint)[1:]:
        if isinstance(note, Quantity):
            return format_quantity(given, note.dimension)
    return f"{given:g}" if isinstance(given, int | float) else f"`{given}`"


def rows(name: str) -> Iterator[tuple[str, str, str]]:
    """Of every key of a table: its name, what may be written, its default."""
    for key, (kinds, usual) in LOADED.get(name, {}).items():
        words = kinds if isinstance(kinds, str) else ", ".join(f"`{k}`" for k in kinds)
        yield key, words, usual
    kind, elsewhere = TABLES[name]
    if kind is object:
        return
    hints = get_type_hints(kind, include_extras=True)
    fields = getattr(kind, "model_fields", None) or {f.name: f for f in dataclasses.fields(kind)}
    for key, field in fields.items():
        if key not in elsewhere:
            listed, more = OPEN.get((name, key), (NAMES.get((name, key), ()), ""))
            names = [f"`{option}`" for option in listed]
            words = " or ".join(filter(None, [", ".join(names), more])) or value(hints[key])
            yield key, words, default(field.default, hints[key])


def table(name: str, meanings: dict[str, str]) -> str:
    """A table of keys, with the meanings that are known."""
    lines = ["| key | value | default | meaning |", "| --- | --- | --- | --- |"]
    for key, words, usual in rows(name):
        lines.append(f"| `{key}` | {words} | {usual} | {meanings.get(key, '')} |")
    return "\n".join(lines)


def updated(page: str) -> str:
    """The page with its tables as the specs are now; meanings stay."""

    def again(match: re.Match) -> str:
        cells = (line.split(" | ") for line in match["rows"].splitlines()[2:])
        meanings = {first.strip("| `"): rest[-1].removesuffix(" |") for first, *rest in cells}
        return f"<!-- keys: {match['name']} -->\n{table(match['name'], meanings)}\n"

    return re.sub(r"<!-- keys: (?P<name>\S+) -->\n(?P<rows>(\|.*\n)*)", again, page)


if __name__ == "__main__":
    for page in PAGES:
        page.write_text(updated(page.read_text(encoding="utf-8")), encoding="utf-8")
