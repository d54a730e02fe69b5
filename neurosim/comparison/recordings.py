"""What two recordings of cells have in common: potentials, synapses, measured numbers, spikes."""

from collections.abc import Iterator
from os import PathLike
from typing import Any, NamedTuple

import numpy as np

from neurosim.comparison.alignment import SILENT, differing
from neurosim.comparison.recorded import Alone, Quantity, Wired
from neurosim.comparison.trains import Trains, held_apart
from neurosim.comparison.verdicts import UNKNOWN, judged, overall, summary
from neurosim.errors import InputError
from neurosim.traces.reader import studying

Kind = Alone | Wired


class Course(NamedTuple):
    """A quantity in both: (sweeps, members, moments) at `time` (ms). unit: of both."""

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


def hold(a: str | PathLike[str], b: str | PathLike[str]) -> Recorded:
    """What `compare` says of two recordings of cells, with what it is said of.

    The report has `a` and `b` (path, protocol, cell or groups of cells, level, seed); `differs`, as
    of networks; `potentials`, per quantity of cells or synapses that both hold: its `unit`, the
    `rmse` over all sweeps, the `largest` difference and the `sweep` where it is, and a verdict
    (`unknown` where anything is drawn, as then cells differ); `weights`, of synapses that both
    hold, `before` and `after`: how many, means and spreads of both, and where they join the same
    cells their difference, with a verdict; `measures`, what was measured of the cells, or means
    over sweeps, and `sweeps`, of each sweep, side by side; `curve`, the same of what a protocol
    draws over its sweeps; `spikes`, as of networks, per population; `verdict`.

    Raises:
        InputError: a file is no trace; or one is of cells with synapses and the other is not.
    """
    with studying(a) as tree_a, studying(b) as tree_b:
        sides = _side(a, tree_a), _side(b, tree_b)
        if type(sides[0]) is not type(sides[1]):
            of = next(side.path for side in sides if isinstance(side, Wired))
            other = next(side.path for side in sides if isinstance(side, Alone))
            raise InputError(
                f"{of}: is a recording of cells with synapses between them, and {other} of cells "
                "alone; expected two of one kind"
            )
        same = sides[0].sweeps == sides[1].sweeps
        quiet = all(side.quiet for side in sides)
        courses = list(_courses(*sides)) if same else []
        spreads = any(side.spreads for side in sides)
        held = list(_trains(*sides, same, spreads))
        potentials = [_apart(course, quiet) for course in courses]
        weights = list(_weights(*sides, quiet)) if same else []
        spikes = [row for given in held for row in held_apart(*given, quiet=quiet)]
        rows = {"potentials": potentials, "weights": weights, "spikes": spikes}
        parts = {name: summary(of) for name, of in rows.items() if of or name != "weights"}
        report: dict[str, Any] = {
            "a": sides[0].about,
            "b": sides[1].about,
            "differs": list(_differing(*sides)),
            **rows,
            "measures": dict(_measured(*sides, "measures")),
            "sweeps": dict(_measured(*sides, "by_sweep")) if same else {},
            "curve": dict(_measured(*sides, "curve")) if same else {},
            "verdict": {"agree": overall(list(parts.values())), **parts},
        }
        return Recorded(report, courses, held)


def _side(path: str | PathLike[str], tree: Any) -> Kind:
    return (Alone if "model" in tree.attrs else Wired)(path, tree)


def _trains(
    left: Kind, right: Kind, same: bool, spreads: bool
) -> Iterator[tuple[str, Trains, Trains]]:
    """Of what spikes in both; cells alone whatever they are called."""
    one, other = left.trains(same, spreads), right.trains(same, spreads)
    if isinstance(left, Alone):
        for a, b in zip(one.values(), other.values(), strict=False):
            yield " / ".join(dict.fromkeys([*one, *other])), a, b
        return
    for name in (n for n in one if n in other):
        yield name, one[name], other[name]


def _differing(left: Kind, right: Kind) -> Iterator[dict[str, Any]]:
    kept = [
        {"protocol": side.about["protocol"], "seed": side.protocol["seed"]}
        | {k: v for k, v in side.protocol.items() if k not in SILENT}
        for side in (left, right)
    ]
    yield from differing(*kept)


def _courses(left: Kind, right: Kind) -> Iterator[Course]:
    """What both hold under one name in one unit, at the moments both have."""
    rounded = [np.round(1e3 * side.time).astype(np.int64) for side in (left, right)]
    _, *at = np.intersect1d(*rounded, return_indices=True)
    if not len(at[0]):
        return
    both: list[dict[str, Quantity]] = [left.quantities, right.quantities]
    for name, one in both[0].items():
        other = both[1].get(name)
        if other is None or one.unit != other.unit:
            continue
        members = min(of.values.shape[1] for of in (one, other))
        values = [of.values[:, :members][..., k] for of, k in zip((one, other), at, strict=True)]
        yield Course(name, one.unit, left.sweeps, left.time[at[0]], *values)


def _weights(left: Kind, right: Kind, quiet: bool) -> Iterator[dict[str, Any]]:
    """Of synapses of one name, before and after."""
    for name, one in left.weights.items():
        other = right.weights.get(name)
        if other is None or one.unit != other.unit:
            continue
        joined = one.pairs.shape == other.pairs.shape and bool((one.pairs == other.pairs).all())
        for when in ("before", "after"):
            a, b = one.values[when], other.values[when]
            row: dict[str, Any] = {"variable": f"{name}.weight", "when": when, "unit": one.unit}
            for side, values in (("a", a), ("b", b)):
                told = {"count": values.size, "mean": float(values.mean())}
                told["spread"] = float(values.std())
                row |= {f"{what}_{side}": value for what, value in told.items()}
            if not joined:
                yield row | {"rmse": None, "allowed": None, "size": None, "verdict": UNKNOWN}
                continue
            size = float(min(np.sqrt(np.mean(v**2)) for v in (a, b)))
            rmse = float(np.sqrt(np.mean((a - b) ** 2)))
            yield row | judged(rmse, 0.0 if quiet else None, size)


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


def _measured(left: Kind, right: Kind, kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """What was measured in both, side by side."""
    found = [getattr(side, kind) for side in (left, right)]
    units = left.units | right.units
    for name in dict.fromkeys([*found[0], *found[1]]):
        a, b = (of.get(name) for of in found)
        yield name, {"unit": units[name], "a": a, "b": b}
