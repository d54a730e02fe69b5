"""What `neurosim compare` says: how far two traces of the same protocol agree, number by number.

Both are aligned by presentation, phase, sample and unit. Only what both recorded is compared.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from neurosim.errors import InputError
from neurosim.scenes import TEACHERS, Trace, rms
from neurosim.store import studying
from neurosim.units import parse

FREE = frozenset(
    (
        *("level", "seed", "name", "description", "precision", "record"),
        *("rate", "equilibrium", "spiking"),
    )
)
"""Keys of a protocol that two traces to be compared need not share."""

COUNTED = {"soma": "rate", "event_rate": "rate", "burst_signal": "probability"}
"""Variables that the spiking level counts between two recorded moments, and what they count."""

TOLERANCE = 2.0
"""How many times the error expected of spikes an rmse may be before levels count as different."""

EXACT = 1e-2
"""The difference allowed without spikes, over the root mean square of the layer."""


class Pair(NamedTuple):
    """A variable of one layer in one phase of one presentation, in both traces.

    a, b: (samples, moments, units) at the moments (ms) both have. expected: the deviation that
    counting spikes between two moments causes, (samples, moments, units); zero without spikes.
    span: moments at the end of the phase over which a final value is averaged.
    """

    presentation: int
    phase: str
    layer: int
    variable: str
    a: np.ndarray
    b: np.ndarray
    expected: np.ndarray
    time: np.ndarray
    span: int

    def final(self) -> tuple[np.ndarray, np.ndarray, float]:
        """Both at the end of the phase, (samples, units), and the rmse that spikes let expect."""
        a, b = (v[:, -self.span :].mean(1) for v in (self.a, self.b))
        expected = np.sqrt(np.mean(self.expected[:, -self.span :] ** 2) / self.span)
        return a, b, float(expected)


def compare(a: str | Path, b: str | Path) -> dict[str, Any]:
    """How far two traces of the same protocol agree, as plain data.

    Of ensembles the first seed is compared. Returns `a` and `b` (path, level, seed);
    `presentations`, seen in detail by both; `agreement`, per presentation, phase, layer and
    variable at the end of the phase: `rmse`, `bias` (b − a), `correlation`, and `expected`, the
    rmse that counting so many spikes must cause (None without spikes); `signals`, per presentation
    and layer: `cosine` and `ratio` of norms (b over a) of the teaching signals; `learning`: test
    loss and error of both after as many presentations; `first`: the first place where they differ
    by more than `TOLERANCE` times what is expected, or None.

    Raises:
        InputError: a file is no trace, the protocols differ, or nothing was recorded by both.
    """
    with studying(a) as tree_a, studying(b) as tree_b:
        left, right = Trace(a, tree_a), Trace(b, tree_b)
        seen = pairs(left, right)
        return {
            "a": _about(left),
            "b": _about(right),
            "presentations": sorted({pair.presentation for pair in seen}),
            "agreement": [_agreement(pair) for pair in seen],
            "signals": list(_signals(seen)),
            "learning": list(_learning(left, right)),
            "first": _first(seen),
        }


def _about(trace: Trace) -> dict[str, Any]:
    level, seed = str(trace.tree.attrs["level"]), trace.seeds[0]
    return {"path": str(trace.path), "level": level, "seed": seed}


# ----------------------------------------------------------------------------- the same protocol


def _refuse_different(left: Trace, right: Trace) -> None:
    protocols = [_flat(_protocol(trace)) for trace in (left, right)]
    different = [
        f"{key}: {protocols[0].get(key, 'absent')!r} in {left.path}, "
        f"{protocols[1].get(key, 'absent')!r} in {right.path}"
        for key in sorted(protocols[0].keys() | protocols[1].keys())
        if protocols[0].get(key) != protocols[1].get(key)
    ]
    if different:
        listed = "\n  ".join(different)
        raise InputError(f"traces of different protocols cannot be compared:\n  {listed}")


def _protocol(trace: Trace) -> dict[str, Any]:
    """What two traces to be compared must share."""
    protocol = json.loads(str(trace.tree["provenance/protocol_json"].values))
    kept = {key: value for key, value in protocol.items() if key not in FREE}
    model = {k: v for k, v in kept["model"].items() if k not in ("spiking", "source", "name")}
    return kept | {"model": model}


def _flat(value: Any, key: str = "") -> dict[str, Any]:
    """Nested tables as one, by dotted key."""
    if isinstance(value, dict):
        items: Any = value.items()
    elif isinstance(value, list) and any(isinstance(v, dict) for v in value):
        items = enumerate(value)
    else:
        return {key: value}
    flat: dict[str, Any] = {}
    for name, entry in items:
        flat |= _flat(entry, f"{key}.{name}".strip("."))
    return flat


# ------------------------------------------------------------------------------------ alignment


def pairs(left: Trace, right: Trace) -> list[Pair]:
    """Everything both traces recorded, phase by phase.

    Raises:
        InputError: the protocols differ, or nothing was recorded by both.
    """
    _refuse_different(left, right)
    found = []
    counted = "spiking" in (left.tree.attrs["level"], right.tree.attrs["level"])
    for number in sorted(set(left.recorded()) & set(right.recorded())):
        one, other = (_cut(trace, number, counted) for trace in (left, right))
        for (phase, layer, variable), a in one.items():
            b = other.get((phase, layer, variable))
            if b is None:
                continue
            samples = min(len(a.values), len(b.values))
            time, at_a, at_b = _common(a, b)
            values = a.values[:samples, at_a], b.values[:samples, at_b]
            variance = sum(
                _deviation(trace, variable, level, step) ** 2
                for trace, level, step in (
                    (left, values[1], a.every),
                    (right, values[0], b.every),
                )
            )
            every = max(a.every, b.every)
            window = max(_window(left), _window(right))
            span = max(1, min(len(time), round(window / every))) if every else 1
            found.append(
                Pair(number, phase, layer, variable, *values, np.sqrt(variance), time, span)
            )
    if not found:
        raise InputError(
            f"{left.path} and {right.path}: nothing was recorded in detail by both; they recorded "
            f"the presentations {left.recorded()} and {right.recorded()}"
        )
    return found


class _Cut(NamedTuple):
    """A variable in one phase: (samples, moments, units), when, and how far apart (ms; 0: once)."""

    values: np.ndarray
    time: np.ndarray
    every: float


def _cut(trace: Trace, number: int, counted: bool) -> dict[tuple[str, int, str], _Cut]:
    """What a trace saw of a presentation: (phase, layer, variable) → values over time.

    counted: the other trace counts spikes between moments, so that rates are averaged over them.
    """
    traces, spiking = trace.tree["traces"], trace.tree.attrs["level"] == "spiking"
    where = {"presentation": traces["presentation"].values.tolist().index(number)}
    timed = "time" in traces.sizes
    codes = traces["phase_at"].isel(where).values if timed else np.arange(len(trace.flags))
    time = traces["time"].values.astype(float) if timed else np.zeros(len(codes))
    every = float(np.diff(time[:2])[0]) if timed else 0.0
    cuts = {}
    for name, group in traces.children.items():
        for variable, data in group.data_vars.items():
            picked = data.isel(where)
            values = (picked.isel(seed=0) if "seed" in picked.dims else picked).values
            if timed and counted and not spiking and variable in COUNTED:
                values = np.concatenate([values[:, :1], (values[:, 1:] + values[:, :-1]) / 2], 1)
            for code, flag in enumerate(trace.flags):
                here = np.flatnonzero((codes == code) & ((time > 0) | (not timed)))
                if here.size and np.isfinite(values[:, here]).any():
                    key = (flag, int(str(name)[5:]), str(variable))
                    cuts[key] = _Cut(values[:, here], time[here], every)
    return cuts


def _common(a: _Cut, b: _Cut) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The times both have, and where they stand; the end of the phase where one knows no time."""
    if not (a.every and b.every):
        end = a.time[-1:] if a.every else b.time[-1:]
        return end, np.array([len(a.time) - 1]), np.array([len(b.time) - 1])
    us_a = np.round(1e3 * a.time).astype(np.int64)
    us_b = np.round(1e3 * b.time).astype(np.int64)
    both, at_a, at_b = np.intersect1d(us_a, us_b, return_indices=True)
    return both / 1e3, at_a, at_b


def _neurons(trace: Trace) -> dict[str, Any] | None:
    """The neurons behind a unit, with rates in Hz; None at the other levels."""
    if trace.tree.attrs["level"] != "spiking":
        return None
    given = dict(trace.model["spiking"])
    return given | {key: parse(given[key], "rate") for key in ("base_rate", "gain", "max_rate")}


def _window(trace: Trace) -> float:
    """The time over which the spiking level averages at the end of a phase (ms)."""
    if trace.tree.attrs["level"] != "spiking":
        return 0.0
    protocol = json.loads(str(trace.tree["provenance/protocol_json"].values))
    return 1e3 * parse(protocol["spiking"]["window"], "time")


def _deviation(trace: Trace, variable: str, level: np.ndarray, every: float) -> np.ndarray:
    """The deviation of a rate or probability near `level` that is counted over `every` (ms).

    Of Poisson spikes, and of bursts at the base rate of events; integrate-and-fire neurons are more
    regular.
    """
    neurons = _neurons(trace)
    if neurons is None or variable not in COUNTED:
        return np.zeros_like(level)
    count = neurons["neurons"] * every / 1e3
    if COUNTED[variable] == "rate":
        rate = np.clip(neurons["base_rate"] + neurons["gain"] * level, 0, neurons["max_rate"])
        return np.sqrt(rate / count) / neurons["gain"]
    gain = neurons["probability_gain"]
    p = np.clip(neurons["base_probability"] + gain * level, 0, 1)
    return np.sqrt(p * (1 - p) / (count * neurons["base_rate"])) / gain


# ------------------------------------------------------------------------------------ agreement


def _agreement(pair: Pair) -> dict[str, Any]:
    a, b, expected = pair.final()
    correlation = np.nan
    if np.std(a) > 0 and np.std(b) > 0:
        correlation = np.corrcoef(a.ravel(), b.ravel())[0, 1]
    return {
        "presentation": pair.presentation,
        "phase": pair.phase,
        "layer": pair.layer,
        "variable": pair.variable,
        "rmse": _finite(np.sqrt(np.mean((a - b) ** 2))),
        "bias": _finite(np.mean(b - a)),
        "correlation": _finite(correlation),
        "expected": _finite(expected) or None,
    }


def _finite(value: Any) -> float | None:
    """A number as plain data; None for what is none, as in a run that diverged."""
    return float(value) if np.isfinite(value) else None


def _signals(seen: list[Pair]) -> Iterator[dict[str, Any]]:
    """Teaching signals: what moves between the ends of a phase and of the one before it."""
    by_key = {(p.presentation, p.layer, p.variable, p.phase): p for p in seen}
    for pair in seen:
        if pair.variable not in TEACHERS:
            continue
        names = list(dict.fromkeys(p.phase for p in seen if p.presentation == pair.presentation))
        place = names.index(pair.phase)
        if place == 0:
            continue
        before = by_key.get((pair.presentation, pair.layer, pair.variable, names[place - 1]))
        if before is None:
            continue
        (a, b, _), (a0, b0, _) = pair.final(), before.final()
        moved, other = (a - a0).ravel(), (b - b0).ravel()
        sizes = np.linalg.norm(moved), np.linalg.norm(other)
        if not all(size > 0 for size in sizes):
            continue
        yield {
            "presentation": pair.presentation,
            "between": f"{pair.phase} − {before.phase}",
            "layer": pair.layer,
            "variable": pair.variable,
            "cosine": float(moved @ other / (sizes[0] * sizes[1])),
            "ratio": float(sizes[1] / sizes[0]),
        }


def _learning(left: Trace, right: Trace) -> Iterator[dict[str, Any]]:
    """The test set after as many presentations, seeds averaged."""
    series = [
        {kind: trace.series(f"evaluation/{kind}") for kind in ("loss", "error")}
        for trace in (left, right)
    ]
    both = np.intersect1d(series[0]["loss"][0], series[1]["loss"][0])
    for number in both.tolist():
        row: dict[str, Any] = {"presentations": int(number)}
        for kind in ("loss", "error"):
            for side, s in zip("ab", series, strict=True):
                x, values = s[kind]
                value = np.mean(values[x.tolist().index(number)])
                row[f"{kind}_{side}"] = _finite(value)
        yield row


def _first(seen: list[Pair]) -> dict[str, Any] | None:
    """The first presentation and moment at which a layer is further apart than expected."""
    earliest: tuple[tuple[float, ...], dict[str, Any]] | None = None
    for pair in seen:
        error = rms(np.moveaxis(pair.a - pair.b, 1, 0).reshape(len(pair.time), -1))
        size = rms(np.moveaxis(pair.a, 1, 0).reshape(len(pair.time), -1)).max()
        expected = rms(np.moveaxis(pair.expected, 1, 0).reshape(len(pair.time), -1))
        spikes = bool(expected.any())
        if not spikes and pair.variable not in COUNTED and _noisy(seen):
            continue  # dendrites of spiking networks carry noise of which no law is known here
        allowed = TOLERANCE * expected if spikes else EXACT * size
        beyond = np.flatnonzero(~(error <= allowed + 1e-12))  # also where one is not a number
        if not beyond.size:
            continue
        k = int(beyond[0])
        key = (pair.presentation, float(pair.time[k]), pair.layer)
        if earliest is None or key < earliest[0]:
            where = {
                "presentation": pair.presentation,
                "phase": pair.phase,
                "time_ms": float(pair.time[k]),
                "layer": pair.layer,
                "variable": pair.variable,
                "rmse": _finite(error[k]),
                "allowed": float(np.broadcast_to(allowed, error.shape)[k]),
            }
            earliest = key, where
    return None if earliest is None else earliest[1]


def _noisy(seen: list[Pair]) -> bool:
    return any(pair.expected.any() for pair in seen)


def in_words(report: dict[str, Any]) -> str:
    """What `compare` returns, for people: the first presentation both saw, and learning."""
    first = report["presentations"][0]
    names = [f"{report[k]['level']}, seed {report[k]['seed']}" for k in "ab"]
    words = [f"a: {report['a']['path']} ({names[0]})", f"b: {report['b']['path']} ({names[1]})"]
    words += ["", f"presentation {first}, at the end of every phase:"]
    rows = [("phase", "layer", "variable", "rmse", "expected", "bias", "correlation")]
    for row in report["agreement"]:
        if row["presentation"] == first:
            rows.append(
                (
                    row["phase"],
                    str(row["layer"]),
                    row["variable"],
                    _number(row["rmse"]),
                    _number(row["expected"]),
                    _number(row["bias"], "{:.1e}"),
                    _number(row["correlation"], "{:.4f}"),
                )
            )
    words += _table(rows)
    signals = [row for row in report["signals"] if row["presentation"] == first]
    if signals:
        words += ["", "teaching signals:"]
        rows4 = [("between", "layer", "cosine", "norm b/a")]
        for row in signals:
            rows4.append(
                (row["between"], str(row["layer"]), f"{row['cosine']:.4f}", f"{row['ratio']:.3f}")
            )
        words += _table(rows4)
    if report["learning"]:
        words += ["", "test loss (error) after as many presentations:"]
        rows3: list[tuple[str, ...]] = [("presentations", "a", "b")]
        for row in _ends(report["learning"]):
            sides = (f"{_number(row[f'loss_{k}'])} ({_percent(row[f'error_{k}'])})" for k in "ab")
            rows3.append((str(row["presentations"]), *sides))
        words += _table(rows3)
    place = report["first"]
    words += [""]
    if place is None:
        words.append("they agree to within what is expected wherever both were looked at")
    else:
        words.append(
            f"first beyond tolerance: presentation {place['presentation']}, {place['phase']} phase "
            f"at {place['time_ms']:.4g} ms, {place['variable'].replace('_', ' ')} of layer "
            f"{place['layer']}: rmse {_number(place['rmse']) or 'not a number'}, "
            f"allowed {place['allowed']:.2g}"
        )
    return "\n".join(words)


def _ends(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return rows if len(rows) < 3 else [rows[0], rows[-1]]


def _number(value: float | None, style: str = "{:.2g}") -> str:
    return "" if value is None else style.format(value)


def _percent(error: float | None) -> str:
    return "no classes" if error is None else f"{100 * error:.1f} %"


def _table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  " + "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
