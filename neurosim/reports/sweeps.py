"""What the command `sweep` says: what a sweep would cost, and what came of it."""

from collections.abc import Sequence
from itertools import product
from pathlib import PurePath
from typing import Any

import numpy as np

from neurosim import wording
from neurosim.sweeps.axes import label

ROWS = 40
"""Points of a table that are shown; the others are in the file."""


def forecast_in_words(report: dict[str, Any], width: int) -> str:
    """What `forecast` returns."""
    points, seeds = report["points"], report["seeds"]
    head = (
        f"{report['protocol']}, {report['level']} level: a sweep of "
        f"{wording.plural(points, 'point')}, each of {wording.plural(len(seeds), 'seed')}"
    )
    rows = [
        ("over", f"{key}: {wording.listed([label(value) for value in values])}")
        for key, values in report["axes"].items()
    ]
    rows.append(("seeds", wording.listed(seeds)))
    there = [f"{report[k]} {k}" for k in ("done", "failed") if report[k]]
    left = points - report["done"] - report["failed"]
    rows.append(("points", f"{left} to run" + (f"; before: {', '.join(there)}" if there else "")))
    if left:
        beside = f", for {wording.plural(report['groups'], 'group')} of points side by side"
        together = beside if report["groups"] < left else ""
        rows += [("programs", f"{report['programs']} to compile{together}"), *_cost(report)]
    rows.append(("folder", report["folder"]))
    return "\n".join([head, *wording.labelled(rows, width)])


def _cost(report: dict[str, Any]) -> list[tuple[str, str]]:
    workers = report["workers"]
    rows = []
    if report["wall_s"] is not None:
        by = (
            "the workers"
            if workers is None
            else wording.plural(min(workers, report["groups"]), "worker")
        )
        text = (
            f"about {wording.duration(report['wall_s'])} by {by}, of it "
            f"{wording.duration(report['compile_s'])} to compile a program"
        )
        if report["measured_programs"] < report["programs"]:
            text += f"; measured with {report['measured_programs']} programs"
        rows.append(("time", text))
    if report["memory_bytes"] is not None:
        rows.append(("memory", f"about {wording.size(report['memory_bytes'])} of all workers"))
    rows.append(("disk", f"about {wording.size(report['bytes'])}"))
    return rows


def summary(dataset: Any) -> dict[str, Any]:
    """What came of a sweep, as plain data."""
    names = [str(name) for name in dataset["state"].dims]
    states = dataset["state"].values
    metrics = [name for name in dataset.data_vars if str(name).endswith(("_loss", "_error"))]
    points = []
    for place in product(*(range(n) for n in states.shape)):
        of = {dataset[n].attrs["key"]: _plain(dataset[n].values[k])
              for n, k in zip(names, place, strict=True)}  # fmt: skip
        found = {str(m): [_plain(v) for v in dataset[m].values[place]] for m in metrics}
        wall = _plain(dataset["wall_s"].values[place])
        more = {"state": str(states[place]), "reason": str(dataset["reason"].values[place])}
        trace = str(dataset["trace"].values[place])
        points.append({"at": of, **more, **found, "wall_s": wall, "trace": trace})
    kinds, counts = np.unique(states.astype(str), return_counts=True)
    return {"states": dict(zip(kinds.tolist(), counts.tolist(), strict=True)), "points": points}


def _plain(value: Any) -> Any:
    """A value for JSON, with null for what is not a number."""
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not np.isfinite(value) else value


def in_words(dataset: Any, report: dict[str, Any], files: Sequence[str], width: int) -> str:
    """The table of a sweep: a line for every point. report: of `summary`."""
    names = [str(name) for name in dataset["state"].dims]
    keys = [dataset[name].attrs["key"] for name in names]
    metrics = [str(n) for n in dataset.data_vars if str(n).endswith(("_error", "_loss"))]
    metrics.sort(key=lambda name: name.endswith("_loss"))
    seeds = dataset.sizes["seed"]
    lines = [[*names, *(m.replace("_", " ") for m in metrics), "time"]]
    for point in report["points"][:ROWS]:
        found = [_over_seeds(point[m], m.endswith("_error")) for m in metrics]
        wall = "" if point["wall_s"] is None else wording.duration(point["wall_s"])
        if point["state"] != "finished":
            found = [point["state"], *[""] * (len(metrics) - 1)] if metrics else []
            wall = wall if metrics else point["state"]
        lines.append([*(label(point["at"][key]) for key in keys), *found, wall])
    widths = [max(len(line[k]) for line in lines) for k in range(len(lines[0]))]
    table = ["  " + "  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip()
             for line in lines]  # fmt: skip
    left = len(report["points"]) - ROWS
    if left > 0:
        table.append(f"  and {left} more")
    states = ", ".join(f"{count} {state}" for state, count in report["states"].items())
    spread = f"; mean of {seeds} seeds (lowest to highest)" if seeds > 1 else ""
    head = f"{dataset.attrs['protocol']}: {states}{spread}"
    kinds = {".csv": "table", ".nc": "dataset"}
    rows = [(kinds.get(PurePath(name).suffix, "figure"), name) for name in files]
    return "\n".join([head, *table, *wording.labelled(rows, width)])


def _over_seeds(values: list[float | None], percent: bool) -> str:
    known = [v for v in values if v is not None]
    write = wording.percent if percent else "{:.4g}".format
    if not known:
        return "not a number"
    words = write(sum(known) / len(known))
    if len(values) > 1:
        words += f" ({write(min(known))} to {write(max(known))})"
    lost = len(values) - len(known)
    return words + (f", {lost} lost" if lost else "")
