"""What two recordings of cells have in common: potentials, measured numbers, spike trains."""

import json
import re
from collections.abc import Iterator
from os import PathLike
from typing import Any, NamedTuple

import numpy as np

from neurosim.comparison.alignment import SILENT, differing
from neurosim.comparison.trains import Trains, held_apart, trains
from neurosim.comparison.verdicts import judged, overall, summary
from neurosim.traces.reader import studying

CHANCE = re.compile(r"\b(xi|rand)\b")
"""What equations draw."""


class Course(NamedTuple):
    """A quantity in both: (sweeps, copies, moments) at `time` (ms). unit: of both."""

    variable: str
    unit: str
    sweeps: list[str]
    time: np.ndarray
    a: np.ndarray
    b: np.ndarray


class Recorded(NamedTuple):
    """Two recordings held against each other.

    report: what `compare` returns. courses: of which it says how far they are apart. trains: of
    both, by what they are of.
    """

    report: dict[str, Any]
    courses: list[Course]
    trains: list[tuple[str, Trains, Trains]]


class _Side:
    """One of the two."""

    def __init__(self, path: str | PathLike[str], tree: Any) -> None:
        self.path, self.tree = path, tree
        self.protocol = json.loads(str(tree["provenance/protocol_json"].values))
        self.summary = json.loads(str(tree.attrs.get("summary", "{}")))
        self.sweeps = [str(name) for name in tree["sweep"].values]
        model = self.protocol["model"]
        self.spreads = any(isinstance(p, dict) for p in model.get("parameters", {}).values())
        texts = (str(model.get(key, "")) for key in ("equations", "threshold", "reset"))
        kinds = [given["kind"] for given in self.protocol["stimuli"]]
        drawn = "ornstein-uhlenbeck" in kinds or any(map(CHANCE.search, texts))
        self.quiet = not (drawn or self.spreads)

    @property
    def about(self) -> dict[str, Any]:
        """What it is, as plain data."""
        about = self.tree.attrs
        return {
            "path": str(self.path),
            "protocol": str(about["protocol"]),
            "cell": str(about["model"]),
            "level": str(about["level"]),
            "seed": self.protocol["seed"],
        }

    def trains(self, same: bool, spreads: bool) -> Trains | None:
        """Of every copy of every sweep; None of cells that do not spike."""
        if "spikes" not in self.tree:
            return None
        group = self.tree[f"spikes/{self.tree.attrs['model']}"]
        copies, sweeps = int(group.attrs["copies"]), len(self.sweeps)
        duration = float(self.tree["recording/time"].values[-1]) / 1e3
        number = np.arange(sweeps * copies)
        # What copies draw is theirs in all sweeps.
        condition = number // copies if same and not spreads else np.zeros(len(number), int)
        return trains(
            group["timestamps"].values / 1e3,
            group["node_ids"].values.astype(np.int64),
            np.full(sweeps, duration),
            copies,
            condition,
            number % copies if spreads else number,
        )


def hold(a: str | PathLike[str], b: str | PathLike[str]) -> Recorded:
    """What `compare` says of two recordings of cells, with what it is said of.

    The report has `a` and `b` (path, protocol, cell, level, seed); `differs`, as of networks;
    `potentials`, per quantity that both hold: its `unit`, the `rmse` over all sweeps, the `largest`
    difference and the `sweep` where it is, and a verdict (`unknown` where anything is drawn, as
    then cells differ); `measures`, what was measured of the cells and `sweeps`, of each sweep, side
    by side; `spikes`, as of networks; `verdict`.

    Raises:
        InputError: a file is no trace.
    """
    with studying(a) as tree_a, studying(b) as tree_b:
        sides = _Side(a, tree_a), _Side(b, tree_b)
        same = sides[0].sweeps == sides[1].sweeps
        quiet = all(side.quiet for side in sides)
        courses = list(_courses(*sides)) if same else []
        spreads = any(side.spreads for side in sides)
        spiking = [side.trains(same, spreads) for side in sides]
        of = " / ".join(dict.fromkeys(side.about["cell"] for side in sides))
        one, other = spiking
        held = [(of, one, other)] if one is not None and other is not None else []
        potentials = [_apart(course, quiet) for course in courses]
        spikes = [row for given in held for row in held_apart(*given, quiet=quiet)]
        parts = {"potentials": summary(potentials), "spikes": summary(spikes)}
        report = {
            "a": sides[0].about,
            "b": sides[1].about,
            "differs": list(_differing(*sides)),
            "potentials": potentials,
            "measures": dict(_measured(*sides, "cell")),
            "sweeps": dict(_measured(*sides, "sweeps")) if same else {},
            "spikes": spikes,
            "verdict": {"agree": overall(list(parts.values())), **parts},
        }
        return Recorded(report, courses, held)


def _differing(left: _Side, right: _Side) -> Iterator[dict[str, Any]]:
    kept = [
        {"protocol": side.about["protocol"], "seed": side.protocol["seed"]}
        | {k: v for k, v in side.protocol.items() if k not in SILENT}
        for side in (left, right)
    ]
    yield from differing(*kept)


def _courses(left: _Side, right: _Side) -> Iterator[Course]:
    """What both hold under one name in one unit, at the moments both have."""
    groups = [side.tree["recording"] for side in (left, right)]
    rounded = [np.round(1e3 * group["time"].values).astype(np.int64) for group in groups]
    _, *at = np.intersect1d(*rounded, return_indices=True)
    copies = min(group.sizes["copy"] for group in groups)
    for name in map(str, groups[0].data_vars):
        if name.startswith("stimulus") or name not in groups[1].data_vars or not len(at[0]):
            continue
        units = [str(group[name].attrs["units"]) for group in groups]
        if units[0] == units[1]:
            values = [g[name].values[:, :copies][..., k] for g, k in zip(groups, at, strict=True)]
            time = groups[0]["time"].values[at[0]]
            yield Course(name, units[0], left.sweeps, time, *values)


def _apart(course: Course, quiet: bool) -> dict[str, Any]:
    gaps = np.abs(course.b - course.a)
    rmse = float(np.sqrt(np.mean(gaps**2)))
    size = min(float(np.std(values)) for values in (course.a, course.b))
    return {
        "variable": course.variable,
        "unit": course.unit,
        "largest": float(gaps.max()),
        "sweep": course.sweeps[int(gaps.max(axis=(1, 2)).argmax())],
        "by_sweep": [float(v) for v in np.sqrt(np.mean(gaps**2, axis=(1, 2)))],
        **judged(rmse, 0.0 if quiet else None, size),
    }


def _measured(left: _Side, right: _Side, kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """What was measured in both, side by side."""
    found = [side.summary.get(kind, {}) for side in (left, right)]
    units = left.summary.get("units", {}) | right.summary.get("units", {})
    for name in dict.fromkeys([*found[0], *found[1]]):
        a, b = (of.get(name) for of in found)
        yield name, {"unit": units[name], "a": a, "b": b}
