"""Where the numbers of two traces part: the first value that is not the same, as the run went."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from neurosim.exports.spikes import populations, spikes

ALWAYS, NEVER = -1.0, np.inf
"""When something is that was before, and after, all presentations."""

ADVANCING = ("presentation", "moment", "time", "bin", "phase")
"""Dimensions along which a run goes on, the slowest first."""

Row = tuple[tuple[float, float], dict[str, Any]]
"""When in the run it is, and what is said of it."""


def numbers(one: Any, other: Any) -> dict[str, Any]:
    """What differs in the numbers of two open traces."""
    held = [dict(_arrays(tree)) for tree in (one, other)]
    rows: list[Row] = []
    extents = []
    for path in held[0]:
        if path not in held[1]:
            continue
        a, b = _of_one_seed(held[0][path], held[1][path], one, other)
        if a.shape != b.shape or a.dims != b.dims:
            extents.append({"dataset": path, "a": list(a.shape), "b": list(b.shape)})
        rows += _apart(path, a, b)
    whose = [populations(tree) for tree in (one, other)]
    for name in whose[0]:
        if name in whose[1]:
            rows += _spikes(name, one, other)
    names = [
        [*paths, *(f"spikes/{name}" for name in of)] for paths, of in zip(held, whose, strict=True)
    ]
    rows.sort(key=lambda row: row[0])
    found = [row for _, row in rows]
    return {
        "numbers": found,
        "first": found[0] if found else None,
        "only_a": [path for path in names[0] if path not in names[1]],
        "only_b": [path for path in names[1] if path not in names[0]],
        "extents": extents,
    }


def _arrays(tree: Any) -> Iterator[tuple[str, Any]]:
    """The arrays of an open trace by path, but for documents and spikes."""
    for group in tree.subtree:
        path = group.path.strip("/")
        if path.partition("/")[0] not in ("provenance", "spikes"):
            for name, variable in group.data_vars.items():
                yield f"{path}/{name}".strip("/"), variable


def _of_one_seed(a: Any, b: Any, one: Any, other: Any) -> tuple[Any, Any]:
    """An array in both; of an ensemble the seed of the other, where only one of them is one."""
    if ("seed" in a.dims) == ("seed" in b.dims):
        return a, b
    if "seed" in b.dims:
        b, a = _of_one_seed(b, a, other, one)
        return a, b
    seed = int(other.attrs["seeds"])
    return (a.sel(seed=seed, drop=True) if seed in a["seed"].values else a), b


def _apart(path: str, a: Any, b: Any) -> Iterator[Row]:
    """Where two arrays differ, at the coordinates that both have."""
    from xarray import align

    if a.dims != b.dims:
        return
    try:
        a, b = align(a, b, join="inner")
    except ValueError:  # other lengths of a dimension that has no coordinates
        return
    dims = sorted(a.dims, key=lambda d: ADVANCING.index(d) if d in ADVANCING else len(ADVANCING))
    x, y = a.transpose(*dims).values, b.transpose(*dims).values
    unlike = x != y
    if x.dtype.kind == "f":
        unlike &= ~(np.isnan(x) & np.isnan(y))
    if not unlike.any():
        return
    first = np.unravel_index(int(np.argmax(unlike)), unlike.shape)
    at = {str(d): _coordinate(a, d, int(n)) for d, n in zip(dims, first, strict=True)}
    gaps = np.abs(y[unlike].astype(float) - x[unlike].astype(float))
    most = np.max(gaps, initial=0.0, where=np.isfinite(gaps))
    yield (
        _when(path, a, dims, first),
        {
            "dataset": path,
            "at": at,
            "unit": str(a.attrs.get("units", "1")),
            **_values(x[first], y[first]),
            "differ": int(unlike.sum()),
            "values": int(unlike.size),
            "most": float(most),
        },
    )


def _coordinate(variable: Any, dim: Any, number: int) -> Any:
    if dim not in variable.coords:
        return number
    value = variable[dim].values[number]
    if "flag_meanings" in variable[dim].attrs:
        return str(variable[dim].attrs["flag_meanings"]).split()[int(value)]
    return value.item() if isinstance(value, np.generic) else str(value)


def _values(a: Any, b: Any) -> dict[str, Any]:
    """Two values and how far they are apart, as plain data."""
    x, y = (float(v) if np.isfinite(v) else None for v in (a, b))
    return {"a": x, "b": y, "difference": None if x is None or y is None else y - x}


def _when(path: str, variable: Any, dims: list[Any], first: Any) -> tuple[float, float]:
    """The presentation and the time in it at which a value was, to put them in order.

    Tests stand before the presentation that follows them, and so do weights that it begins with;
    what is known of a presentation as a whole stands at its end.
    """
    group, at = path.partition("/")[0], dict(zip(dims, map(int, first), strict=True))
    inner = NEVER
    for dim in ("time", "bin", "phase"):
        if dim in at and group in ("traces", "courses", "recording", "populations"):
            inner = float(variable[dim].values[at[dim]])
            break
    if "presentation" in at:
        number = float(variable["presentation"].values[at["presentation"]])
        begins = group in ("evaluation", "snapshots") or (group == "traces" and inner == NEVER)
        return number, ALWAYS if begins else inner
    if group in ("recording", "populations"):
        return 0.0, inner
    before = group in ("phases", "calibration", "parameters") or path.endswith("/before")
    before |= "moment" in at and at["moment"] == 0
    return (ALWAYS if before else NEVER), 0.0


def _spikes(name: str, one: Any, other: Any) -> Iterator[Row]:
    """The first spike of a population that only one trace has, of those that both could have."""
    found = [spikes(tree, name) for tree in (one, other)]
    kept = []
    for mine, theirs, tree in zip(found, reversed(found), (other, one), strict=True):
        mask = np.ones(len(mine.time), bool)
        for kind, numbers in mine.neuron.items():
            mask &= np.isin(numbers, theirs.all.get(kind, []))
        for kind, numbers in mine.trial.items():
            if kind != "sweep":
                mask &= np.isin(numbers, tree[f"traces/{kind}"].values)
        slow, *rest = mine.trial.values()
        columns = [slow, mine.time, *rest, *mine.neuron.values()]
        rows = np.stack([column[mask].astype(float) for column in columns], axis=1)
        kept.append(rows[np.lexsort(rows.T[::-1])])
    first = _first_of_one(*kept)
    if first is None:
        return
    side, row = first
    trial, *others = found[0].trial
    at = dict(zip([trial, "time", *others, *found[0].neuron], row.tolist(), strict=True))
    time = at.pop("time")
    total = len(np.unique(np.concatenate(kept), axis=0))
    both = len(kept[0]) + len(kept[1]) - total
    yield (
        (float(row[0]) if trial == "presentation" else 0.0, time),
        {
            "dataset": f"spikes/{name}",
            "at": {kind: int(number) for kind, number in at.items()},
            "unit": "ms",
            "a": time if side == 0 else None,
            "b": time if side == 1 else None,
            "difference": None,
            "differ": total - both,
            "values": total,
            "most": None,
        },
    )


def _first_of_one(a: np.ndarray, b: np.ndarray) -> tuple[int, np.ndarray] | None:
    """Of two sorted lists of rows the first one that only one of them has, and which list."""
    count = min(len(a), len(b))
    unlike = (a[:count] != b[:count]).any(axis=1)
    n = int(np.argmax(unlike)) if unlike.any() else count
    if n == len(a) == len(b):
        return None
    if n == len(a) or (n < len(b) and tuple(b[n]) < tuple(a[n])):
        return 1, b[n]
    return 0, a[n]
