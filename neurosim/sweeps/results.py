"""What comes of a sweep: an xarray Dataset over its axes and seeds, and a table as CSV."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from neurosim.errors import NeurosimError
from neurosim.sweeps.ledger import Ledger
from neurosim.sweeps.plan import Plan, Point
from neurosim.traces.reader import Arrays

if TYPE_CHECKING:
    import xarray

MISSING = "missing"
"""The state of a point of which nothing is known."""

UNITS = {"loss": "1", "error": "1", "wall_s": "s"}


def gather(plan: Plan, ledger: Ledger, records: Mapping[str, Mapping[str, Any]]) -> xarray.Dataset:
    """The dataset that `neurosim.sweep` returns. records: of the points, by digest."""
    import xarray

    shape, seeds = tuple(len(axis.values) for axis in plan.axes), len(plan.seeds)
    names = [axis.name for axis in plan.axes]
    curves = {p.digest: _curves(ledger.trace(p.digest), seeds)
              for p in plan.points if _done(records.get(p.digest))}  # fmt: skip
    longest = max((len(c["presentation"]) for c in curves.values()), default=0)
    metrics = list(dict.fromkeys(m for r in records.values() for m in r.get("metrics", ())))
    found: dict[str, tuple[list[str], np.ndarray]] = {
        name: ([*names, "seed"], np.full((*shape, seeds), np.nan)) for name in metrics
    }
    for name in ("loss", "error"):
        found[name] = [*names, "seed", "test"], np.full((*shape, seeds, longest), np.nan)
    found["presentation"] = [*names, "test"], np.full((*shape, longest), np.nan)
    found["diverged"] = [*names, "seed"], np.zeros((*shape, seeds), bool)
    found["settled"] = names, np.full(shape, np.nan)
    found["wall_s"] = names, np.full(shape, np.nan)
    for name in ("state", "reason", "trace"):
        found[name] = names, np.full(shape, "", object)
    for point in plan.points:
        at, record = point.place, records.get(point.digest, {})
        found["state"][1][at] = record.get("state", MISSING)
        found["reason"][1][at] = record.get("reason", "")
        found["trace"][1][at] = str(ledger.trace(point.digest))
        if not _done(record):
            continue
        for name, values in record["metrics"].items():
            found[name][1][at] = np.array(values, float)
        lost = [entry["seed"] for entry in record["diverged"]]
        found["diverged"][1][at] = np.isin(plan.seeds, lost)
        found["settled"][1][at] = min(record["settled"].values(), default=np.nan)
        found["wall_s"][1][at] = record["wall_s"]
        for name, values in curves[point.digest].items():
            found[name][1][at][..., : values.shape[-1]] = values
    if np.isnan(found["error"][1]).all():
        del found["error"]
    coordinates: dict[str, Any] = {
        axis.name: (axis.name, axis.coordinates, {"key": axis.key}) for axis in plan.axes
    }
    coordinates["seed"] = "seed", plan.seeds
    dataset = xarray.Dataset(found, coordinates, _attributes(plan))
    return _explained(_common(dataset, names))


def _done(record: Mapping[str, Any] | None) -> bool:
    return record is not None and "metrics" in record


def _attributes(plan: Plan) -> dict[str, str]:
    spec = plan.protocol.spec
    swept = {axis.key: list(axis.values) for axis in plan.axes}
    return {
        "title": f"neurosim sweep of {spec.name}",
        "protocol": spec.name,
        "level": spec.level,
        "over": json.dumps(swept, default=str),
    }


def _common(dataset: xarray.Dataset, names: list[str]) -> xarray.Dataset:
    """With the presentations of tests as a coordinate, if they are those of every point."""
    if not dataset.sizes["test"]:
        return dataset
    rows = dataset["presentation"].values.reshape(-1, dataset.sizes["test"])
    known = rows[~np.isnan(rows).all(1)]
    if len(known) and (known == known[0]).all():
        return dataset.drop_vars("presentation").assign_coords(
            presentation=("test", known[0].astype(int))
        )
    return dataset


def _explained(dataset: xarray.Dataset) -> xarray.Dataset:
    texts = {
        "loss": "test loss over the run",
        "error": "test error over the run, a fraction",
        "presentation": "presentations done before a test",
        "settled": "smallest fraction of a batch that settled, of all phases",
        "wall_s": "how long the run took; of points side by side, each one's share",
        "state": "finished, failed (every seed diverged), lost or missing",
        "diverged": "whether the seed diverged",
    }
    for name, text in texts.items():
        if name in dataset.variables:
            dataset[name].attrs["long_name"] = text
    for name, unit in UNITS.items():
        if name in dataset:
            dataset[name].attrs["units"] = unit
    return dataset


def _curves(trace: Path, seeds: int) -> dict[str, np.ndarray]:
    """Of the tests of a run: (seed, test), and the presentations before each."""
    with Arrays.of(trace) as arrays:
        at = arrays["evaluation/presentation"].astype(float)
        curves = {name: arrays[f"evaluation/{name}"].reshape(len(at), seeds).T
                  for name in ("loss", "error")}  # fmt: skip
    return {"presentation": at, **curves}


def rows(dataset: xarray.Dataset) -> list[dict[str, Any]]:
    """A row for every point and seed, by keys of the protocol, with metrics and state."""
    names = [str(name) for name in dataset["state"].dims]
    keys = {name: dataset[name].attrs["key"] for name in names}
    numbers = [str(name) for name, of in dataset.data_vars.items() if of.dims == (*names, "seed")]
    arrays = {name: dataset[name].values for name in (*numbers, "state", "wall_s", "trace")}
    found = []
    for place in product(*(range(dataset.sizes[name]) for name in names)):
        point = {keys[n]: dataset[n].values[k] for n, k in zip(names, place, strict=True)}
        for s, seed in enumerate(dataset["seed"].values):
            of_seed = {name: arrays[name][place][s] for name in numbers}
            rest = {name: arrays[name][place] for name in ("state", "wall_s", "trace")}
            found.append(point | {"seed": seed} | of_seed | rest)
    return found


def write(dataset: xarray.Dataset, folder: Path) -> list[Path]:
    """The table `sweep.csv` and the dataset `sweep.nc`, netCDF-4 that xarray reads.

    Raises:
        NeurosimError: the disk refuses.
    """
    table, file = folder / "sweep.csv", folder / "sweep.nc"
    lines = rows(dataset)
    try:
        with open(table, "w", newline="", encoding="utf-8") as out:
            writer = csv.DictWriter(out, list(lines[0]))
            writer.writeheader()
            writer.writerows(lines)
        dataset.to_netcdf(file, engine="h5netcdf")
    except OSError as error:
        raise NeurosimError(f"{folder}: cannot be written any more: {error}") from error
    return [table, file]


def outstanding(plan: Plan, records: Mapping[str, Mapping[str, Any]]) -> list[Point]:
    """Points that have come to no end, which the same sweep would take up again."""
    return [p for p in plan.points if not _done(records.get(p.digest))]
