"""What `compare` found, for people."""

import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

from neurosim.comparison.verdicts import AGREE, DIFFER, LOST, UNKNOWN, excess

MANY = 10
"""Differing keys that are listed; of two models there are dozens."""

WIDTH, LONG = 100, 40
"""Characters of a line, and of a value in a table."""

VERDICTS = {
    True: "they agree to within what is expected of the same network",
    False: "they differ by more than is expected of the same network",
    None: "nothing differs by more than is expected, but not everything can be told",
}

WEIGHTS = "", "", "unit", "mean a", "mean b", "spread a", "spread b", "rmse", "verdict"


def in_words(report: dict[str, Any]) -> str:
    """What `compare` returns, as text: what differs, the verdict, then the first presentation."""
    if "potentials" in report:
        return _of_recordings(report)
    lines = [_about(side, report[side]) for side in "ab"]
    lines += [*_differing(report["differs"]), ""]
    lines += [line for text in _verdict(report) for line in _wrapped(text)]
    if report["presentations"]:
        first = report["presentations"][0]
        aligned = report["aligned"]
        lines += ["", f"presentation {first}, at the end of every phase{_why(report)}:"]
        rows = [row for row in report["agreement"] if row["presentation"] == first]
        whole = bool(aligned["network"] and aligned["samples"])
        lines += _table([_activity_heads(whole), *(_activity(row, whole) for row in rows)])
        signals = [row for row in report["signals"] if row["presentation"] == first]
        if signals:
            lines += ["", "teaching signals:"]
            lines += _table([_signal_heads(whole), *(_signal(row, whole) for row in signals)])
    if report["learning"]:
        lines += [
            "",
            f"{tested_on(report)} loss (error) after as many presentations, means over seeds:",
        ]
        heads = ("presentations", "a", "b", "expected", "verdict")
        lines += _table([heads, *map(_learning, _ends(report["learning"]))])
    return "\n".join([*lines, *_spikes(report["spikes"])])


def _of_recordings(report: dict[str, Any]) -> str:
    """Of two recordings of cells."""
    lines = [
        f"{side}: {about['path']} ({about['cell']}, {about['protocol']}, seed {about['seed']})"
        for side, about in ((side, report[side]) for side in "ab")
    ]
    lines += [*_differing(report["differs"]), ""]
    lines += [line for text in _verdict(report) for line in _wrapped(text)]
    if report["potentials"]:
        heads = ("", "unit", "rmse", "largest", "in sweep", "verdict")
        lines += ["", "over all sweeps and moments:"]
        lines += _table([heads, *map(_potential, report["potentials"])])
    if report["weights"]:
        lines += ["", "weights:", *_table([WEIGHTS, *map(_weight, report["weights"])])]
    measured = [(n, of) for n, of in report["measures"].items() if not n.endswith("_spread")]
    if measured:
        lines += ["", "measured:"]
        lines += _table([("", "unit", "a", "b"), *(_measure(n, of) for n, of in measured)])
    lines += _curve(report["curve"])
    rates = report["sweeps"].get("rate")
    if rates and rates["a"] and rates["b"]:
        both = list(zip(rates["a"], rates["b"], strict=True))
        steps = report["sweeps"].get("amplitude", {}).get("a") or range(len(both))
        rows = [
            (_number(x, "{:.4g}"), *(_number(v, "{:.4g}") for v in of))
            for x, of in zip(steps, both, strict=True)
        ]
        lines += [
            "",
            "rates (Hz) at amplitudes (pA):" if "amplitude" in report["sweeps"] else "rates (Hz):",
        ]
        lines += _table([("", "a", "b"), *_few(rows)])
    return "\n".join([*lines, *_spikes(report["spikes"])])


def _curve(curve: dict[str, Any]) -> list[str]:
    """What is measured over sweeps, side by side."""
    against, *of = (curve or {"": {}}).items()
    known = [(name, both) for name, both in of if both["a"] and both["b"]]
    if not known or not against[1]["a"]:
        return []
    rows = [
        (_number(x, "{:.4g}"), *(_number(both[s][k], "{:.4g}") for _, both in known for s in "ab"))
        for k, x in enumerate(against[1]["a"])
    ]
    heads = (against[0], *(f"{name} {side}" for name, _ in known for side in "ab"))
    return ["", "over the sweeps:", *_table([heads, *_few(rows)])]


def _few(rows: list[Any]) -> list[Any]:
    return rows if len(rows) <= MANY else rows[:: -(-len(rows) // MANY)]


def tested_on(report: dict[str, Any]) -> str:
    """Which samples tell of learning: "test" or "validation", and where both do, "held-out"."""
    kinds = {report[side]["tested_on"] for side in "ab"}
    return kinds.pop() if len(kinds) == 1 else "held-out"


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, subsequent_indent="    ", break_on_hyphens=False)


def _about(side: str, about: dict[str, Any]) -> str:
    seeds = f"seed {about['seed']}"
    seeds += f" of {len(about['seeds'])}" if len(about["seeds"]) > 1 else ""
    return f"{side}: {about['path']} ({about['model']} model, {about['level']} level, {seeds})"


def _differing(rows: list[dict[str, Any]]) -> Iterator[str]:
    if not rows:
        yield "the protocols are the same"
        return
    yield "they differ in:"
    shown = [(row["key"], _value(row["a"]), _value(row["b"])) for row in rows[:MANY]]
    yield from _table([("", "a", "b"), *shown])
    if len(rows) > MANY:
        yield f"  and {len(rows) - MANY} more keys"


def _value(value: Any) -> str:
    return "not set" if value is None else textwrap.shorten(str(value), LONG, placeholder=" …")


def _why(report: dict[str, Any]) -> str:
    """Why units cannot be held against each other, if they cannot."""
    aligned = report["aligned"]
    if not aligned["network"]:
        return " (they began as other networks, whose units are not the same)"
    return "" if aligned["samples"] else " (no sample was seen by both)"


# ------------------------------------------------------------------------------------- verdict


def _verdict(report: dict[str, Any]) -> Iterator[str]:
    verdict = report["verdict"]
    of = "cell" if "potentials" in report else "network"
    yield f"verdict: {VERDICTS[verdict['agree']].replace('network', of)}"
    labels = {"signals": "teaching signals"}
    for name in (name for name in verdict if name != "agree"):
        label = labels.get(name, name)
        part = verdict[name]
        if part is None or part["worst"] is None:
            yield f"  {label}: " + ("not there" if part is None else "not comparable")
            continue
        counts = ", ".join(f"{count} {_counted(name)}" for name, count in part["counts"].items())
        worst = _worst(name, part["worst"], report)
        yield f"  {label}: {counts}; worst: {worst}"
    place = report.get("first")
    if place is not None:
        at = "" if place["time_ms"] is None else f" at {place['time_ms']:.4g} ms"
        yield (
            f"  first beyond what is allowed: presentation {place['presentation']}, "
            f"{place['phase']} phase{at}, "
            f"{place['variable'].replace('_', ' ')} of layer {place['layer']}: rmse "
            f"{_number(place['rmse']) or 'not a number'}, allowed "
            f"{_number(place['allowed']) or 'unknown'}"
        )


def _counted(verdict: str) -> str:
    return {
        AGREE: "agree",
        DIFFER: "differ",
        LOST: "lost in noise",
        UNKNOWN: "of which no law is known",
    }[verdict]


def _worst(name: str, row: dict[str, Any], report: dict[str, Any]) -> str:
    if name == "spikes":
        where = f"{_statistic(row)} of {row['population']}: "
        if row["distance"] is None:
            return where + "not there in both"
        where += f"distance {_number(row['distance'])}"
        return where + (f", by sampling {_number(row['band'])}" if row["band"] is not None else "")
    if name in ("potentials", "weights"):
        when = f" {row['when']}" if name == "weights" else ""
        if name == "weights" and row["size"] is None:
            return f"{row['variable']}{when}: other cells are joined"
        return f"{row['variable']}{when}: {_judgement(row)}"
    if name == "learning":
        where = f"{tested_on(report)} {row['of']} after {_presentations(row)} presentations"
    else:
        where = f"{row['variable'].replace('_', ' ')} of layer {row['layer']}"
        where += f", presentation {row['presentation']}"
        where += f", {row['phase']} phase" if name == "activity" else ""
    return f"{where}: {_judgement(row)}"


def _judgement(row: dict[str, Any]) -> str:
    if row["rmse"] is None:
        return "not a number"
    if row["verdict"] == LOST and not row["size"]:
        return f"noise of {_number(row['expected'])} is expected, and nothing for it to hide"
    if row["verdict"] == LOST:
        text = f"the noise expected is {row['expected'] / row['size']:.2g} times what it hides"
        return text + (f" (cosine {row['cosine']:.2f})" if row.get("cosine") is not None else "")
    text = f"off by {_number(row['rmse'])}"
    if row["size"]:
        share = row["rmse"] / row["size"]
        text += f", {100 * share:.2g} % of" if share < 1 else f", {share:.2g} times"
        text += " its size"
    text += f", cosine {row['cosine']:.4f}" if row.get("cosine") is not None else ""
    if row["verdict"] != UNKNOWN:
        text += f"; {excess(row):.2g} times what is allowed"
    return text


# --------------------------------------------------------------------------------------- tables


def _activity_heads(whole: bool) -> tuple[str, ...]:
    rest = ("rmse", "expected", "bias", "correlation", "verdict") if whole else ()
    return ("phase", "layer", "variable", "rms a", "rms b", *rest)


def _activity(row: dict[str, Any], whole: bool) -> tuple[str, ...]:
    cells: tuple[str, ...] = (row["phase"], str(row["layer"]), row["variable"])
    cells += (_number(row["size_a"]), _number(row["size_b"]))
    if "rmse" not in row:  # in one of the two no unit has a number
        return (*cells, *[""] * 4, "not a number") if whole else cells
    if whole:
        cells += (_number(row["rmse"]), _number(row["expected"]), _number(row["bias"], "{:.1e}"))
        cells += (_number(row["correlation"], "{:.4f}"), row["verdict"])
    return cells


def _signal_heads(whole: bool) -> tuple[str, ...]:
    rest = ("rmse", "expected", "cosine", "verdict") if whole else ()
    return ("between", "layer", "rms a", "rms b", "norm b/a", *rest)


def _signal(row: dict[str, Any], whole: bool) -> tuple[str, ...]:
    cells: tuple[str, ...] = (
        row["between"],
        str(row["layer"]),
        _number(row["size_a"]),
        _number(row["size_b"]),
    )
    cells += (_number(row["ratio"], "{:.3f}"),)
    if "rmse" not in row:
        return (*cells, *[""] * 3, "not a number") if whole else cells
    if whole:
        cells += (_number(row["rmse"]), _number(row["expected"]))
        cells += (_number(row["cosine"], "{:.4f}"), row["verdict"])
    return cells


def _spikes(rows: list[dict[str, Any]]) -> list[str]:
    if not rows:
        return []
    heads = ("", "of", "mean a", "mean b", "distance", "by sampling", "verdict")
    lines = _table([heads, *map(_statistics, rows)])
    return ["", "spikes, distributions over neurons and trials (Kolmogorov-Smirnov):", *lines]


def _statistics(row: dict[str, Any]) -> tuple[str, ...]:
    means = (_number(row[f"mean_{side}"], "{:.3g}") for side in "ab")
    of = _statistic(row) + (" (Hz)" if row["unit"] == "Hz" else "")
    apart = (_number(row["distance"]), _number(row["band"]))
    return (row["population"], of, *means, *apart, row["verdict"])


def _statistic(row: dict[str, Any]) -> str:
    named = {"interval_cv": "interval CV", "correlation": "correlation of counts"}
    return named.get(row["of"], row["of"])


def _potential(row: dict[str, Any]) -> tuple[str, ...]:
    apart = (_number(row["rmse"], "{:.3g}"), _number(row["largest"], "{:.3g}"))
    unit = "" if row["unit"] == "1" else row["unit"]
    return (row["variable"], unit, *apart, row["sweep"], row["verdict"])


def _weight(row: dict[str, Any]) -> tuple[str, ...]:
    unit = "" if row["unit"] == "1" else row["unit"]
    sides = (_number(row[f"{of}_{side}"], "{:.4g}") for of in ("mean", "spread") for side in "ab")
    return (row["variable"], row["when"], unit, *sides, _number(row["rmse"]), row["verdict"])


def _measure(name: str, of: dict[str, Any]) -> tuple[str, ...]:
    values = (_number(of[side], "{:.4g}") or "none" for side in "ab")
    unit = "" if of["unit"] == "1" else of["unit"].replace("MOhm", "MΩ")
    return (name.replace("_", " "), unit, *values)


def _learning(row: dict[str, Any]) -> tuple[str, ...]:
    sides = (f"{_number(row[f'loss_{k}'])} ({_percent(row[f'error_{k}'])})" for k in "ab")
    expected = f"± {_number(row['expected'])} in {row['of']}" if row["expected"] else ""
    return (_presentations(row), *sides, expected, row["verdict"])


def _presentations(row: dict[str, Any]) -> str:
    of = row["presentations"]
    return " and ".join(map(str, of)) if isinstance(of, list) else str(of)


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
