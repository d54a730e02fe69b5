"""Axes and variables, and how they lie in the file."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import h5py
import numpy as np

# A larger chunk makes readers that touch one row slow; smaller ones cost an index entry each.
CHUNK_BYTES = 2**20
# Rows much smaller than this share a chunk, which every flush rewrites as a whole.
_SHARED_CHUNK_BYTES = 2**16


@dataclass(frozen=True)
class Axis:
    """A named dimension with its coordinate.

    Args:
        name: the dimension, such as "presentation", "time" or "unit".
        values: the coordinate, one-dimensional: numbers, strings, or codes into `flags`.
        units: the unit of the values; None if they have none.
        description: one line for people.
        flags: names for the codes 0, 1, … in `values` (CF `flag_meanings`).
    """

    name: str
    values: np.ndarray
    units: str | None = None
    description: str = ""
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Variable:
    """An array over named dimensions.

    Args:
        path: group and name, such as "traces/layer1/soma".
        dims: each the name of an axis in the variable's group or, failing that, the groups above
            it. The first is the one a run advances along: blocks along it lie together on disk.
        units: "1" if the values have none.
        description: one line for people.
        dtype: floating-point (32 bits or more) or signed integer.
        attributes: more attributes of the variable.
    """

    path: str
    dims: tuple[str, ...]
    units: str = "1"
    description: str = ""
    dtype: str = "float32"
    attributes: Mapping[str, Any] = field(default_factory=dict)


def create_axes(
    file: h5py.File, axes: Mapping[str, Sequence[Axis]]
) -> dict[tuple[str, str], h5py.Dataset]:
    """The dimension scales by group and name."""
    scales: dict[tuple[str, str], h5py.Dataset] = {}
    for group, members in axes.items():
        for axis in members:
            where, values = f"axis {axis.name!r} of {group!r}", np.asarray(axis.values)
            about: dict[str, Any] = {"units": axis.units, "long_name": axis.description or None}
            if values.ndim != 1:
                raise ValueError(f"{where}: {values.ndim} dimensions, not 1")
            if axis.flags:
                codes = np.arange(len(axis.flags), dtype=np.int8)
                if not np.isin(values, codes).all():
                    raise ValueError(f"{where}: codes that no flag names")
                values = values.astype(np.int8)
                names = " ".join(flag.replace(" ", "_") for flag in axis.flags)
                about |= {"flag_values": codes, "flag_meanings": names}
            elif values.dtype.kind == "U":
                values = values.astype(h5py.string_dtype())
            scale = group_at(file, group).create_dataset(axis.name, data=values)
            scale.make_scale(axis.name)
            scale.attrs.update({key: value for key, value in about.items() if value is not None})
            scales[group.strip("/"), axis.name] = scale
    for group, name in scales:
        # xarray inherits coordinates, and refuses a group that contradicts what it inherits.
        for above in _upwards(group)[1:]:
            if (above, name) in scales:
                raise ValueError(f"axis {name!r} lives in {group!r} and above it, in {above!r}")
    return scales


def create_variable(
    file: h5py.File, scales: Mapping[tuple[str, str], h5py.Dataset], variable: Variable
) -> None:
    """Create a variable filled with "not written", tied to the scales of its dimensions."""
    dtype = np.dtype(variable.dtype)
    if dtype.kind not in "fi" or dtype == np.float16:
        raise ValueError(
            f"{variable.path}: dtype {dtype}; use float32, float64 or a signed integer"
        )
    group, _, name = variable.path.rpartition("/")
    found = [scales[at] for at in _homes(scales, variable)]
    shape = tuple(scale.shape[0] for scale in found)
    empty = np.nan if dtype.kind == "f" else -1
    large = math.prod(shape) * dtype.itemsize > CHUNK_BYTES
    chunks = _chunks(shape, dtype.itemsize) if large else None
    parent = group_at(file, group)
    dataset = parent.create_dataset(name, shape, dtype, chunks=chunks, fillvalue=empty)
    if not large:
        dataset[...] = np.full(shape, empty, dtype)  # a scalar goes row by row
    about = {"long_name": variable.description} if variable.description else {}
    dataset.attrs.update({"units": variable.units} | about | dict(variable.attributes))
    for dim, scale in zip(dataset.dims, found, strict=True):
        dim.attach_scale(scale)


def create_population(
    file: h5py.File, name: str, attributes: Mapping[str, str | int]
) -> tuple[Any, Any]:
    """An empty population of spikes in the SONATA layout: its timestamps and node ids.

    The timestamps are the dimension scale of both, which other readers of SONATA do not mind.
    """
    group = group_at(file, f"spikes/{name}")
    sorting = h5py.enum_dtype({"none": 0, "by_id": 1, "by_time": 2}, basetype=np.uint8)
    group.attrs.create("sorting", 2, dtype=sorting)
    group.attrs.update(attributes)
    shape: dict[str, Any] = {"shape": (0,), "maxshape": (None,), "chunks": (1 << 13,)}
    times = group.create_dataset("timestamps", dtype=np.float64, **shape)
    times.make_scale("timestamps")
    times.attrs["units"] = "ms"
    nodes = group.create_dataset("node_ids", dtype=np.uint64, **shape)
    nodes.dims[0].attach_scale(times)
    return times, nodes


def differences(
    file: h5py.File, axes: Mapping[str, Sequence[Axis]], variables: Sequence[Variable]
) -> Iterator[str]:
    """Where a file does not have these axes and variables: a line for each."""
    lengths: dict[tuple[str, str], int] = {}
    for group, members in axes.items():
        for axis in members:
            lengths[group.strip("/"), axis.name] = len(axis.values)
            found, wanted = file.get(f"{group}/{axis.name}"), np.asarray(axis.values)
            if not isinstance(found, h5py.Dataset) or not np.array_equal(_read(found), wanted):
                yield f"the axis {group}/{axis.name} is another"
    for v in variables:
        found = file.get(v.path)
        shape = tuple(lengths[at] for at in _homes(lengths, v))
        if not isinstance(found, h5py.Dataset) or (found.shape, found.dtype) != (shape, v.dtype):
            yield f"the variable {v.path} is another"


def _read(scale: h5py.Dataset) -> np.ndarray:
    return scale.asstr()[()] if h5py.check_string_dtype(scale.dtype) else scale[()]


def _homes(axes: Collection[tuple[str, str]], variable: Variable) -> list[tuple[str, str]]:
    """The (group, name) of the axis of every dimension: the nearest of that name."""
    group = variable.path.rpartition("/")[0]
    found = []
    for dim in variable.dims:
        homes = [home for home in _upwards(group) if (home, dim) in axes]
        if not homes:
            raise ValueError(f"{variable.path}: no axis {dim!r} in {group!r} or above")
        found.append((homes[0], dim))
    return found


def size(axes: Mapping[str, Sequence[Axis]], variables: Sequence[Variable]) -> int:
    """Bytes that all arrays take in the file."""
    lengths = {
        (group.strip("/"), axis.name): len(axis.values)
        for group, members in axes.items()
        for axis in members
    }
    return sum(
        np.dtype(v.dtype).itemsize * math.prod(lengths[at] for at in _homes(lengths, v))
        for v in variables
    )


def _chunks(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    """Whole rows of the first dimension, several if they are small; even shares of large ones."""
    row = itemsize * math.prod(shape[1:])
    if row <= CHUNK_BYTES:
        return (min(shape[0], max(1, _SHARED_CHUNK_BYTES // row)), *shape[1:])
    chunks = [1] * len(shape)
    for axis in reversed(range(1, len(shape))):
        room = CHUNK_BYTES // (itemsize * math.prod(chunks))
        pieces = math.ceil(shape[axis] / room)
        chunks[axis] = math.ceil(shape[axis] / pieces)
        if pieces > 1:
            break
    return tuple(chunks)


def group_at(file: h5py.File, path: str) -> h5py.Group:
    """The group at `path`; it and those above it are created where they are missing."""
    group: h5py.Group = file
    for name in filter(None, path.split("/")):
        group = group[name] if name in group else group.create_group(name, track_order=True)
    return group


def _upwards(group: str) -> list[str]:
    """The group and those above it, nearest first; "" is the root."""
    parts = [part for part in group.split("/") if part]
    return ["/".join(parts[:n]) for n in range(len(parts), -1, -1)]
