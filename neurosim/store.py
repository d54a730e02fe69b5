"""Traces on disk: HDF5 files written as a run goes, read by any netCDF-4 reader.

A file is netCDF-4 compatible: groups, dimension scales (`Axis`) and variables with `units`, so
`xarray.open_datatree(path, engine="h5netcdf")` opens it without neurosim. Everything in it is
created before the run starts and filled with NaN (integers: -1). From then on the file is in
HDF5's single-writer-multiple-reader (SWMR) mode: a process killed at any moment leaves
every block it flushed readable, and others can read along. `flush` hands the data to the operating
system; it survives the death of the process, not that of the machine.

The file of a process that was killed carries a mark "open for writing", for which HDF5 refuses to
open it. `open_trace` and `describe` read past the mark of a dead writer, and change no file.
"""

from __future__ import annotations

import contextlib
import io
import math
import operator
import os
import re
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

import h5py
import numpy as np

from neurosim.errors import DivergedError, InputError, NeurosimError, unknown

if TYPE_CHECKING:
    import xarray

Status = Literal["complete", "diverged", "interrupted"]
Where = int | slice | tuple[int | slice, ...]

# Newer file formats than this break other readers of the field (libsonata on virtual data).
_LIBVER = ("v110", "v110")
# A larger chunk makes readers that touch one row slow; smaller ones cost an index entry each.
_CHUNK_BYTES = 2**20
# Rows much smaller than this share a chunk, which every flush rewrites as a whole.
_SHARED_CHUNK_BYTES = 2**16
_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_BOOKKEEPING = {"CLASS", "NAME", "DIMENSION_LIST", "REFERENCE_LIST", "_Netcdf4Dimid"}
# What h5py raises for files that are damaged or made by others.
_READ_ERRORS = (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError)


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


class TraceWriter:
    """Writes one trace; as a context manager it closes the file, as "complete" if without error.

    Args:
        path: the file. It appears whole: it is created under another name, then renamed.
        axes: the axes that live in each group, by the group's path.
        variables: everything that will be written.
        attributes: attributes of the file; `neurosim_version` must be among them.
        texts: long documents by name, stored under `/provenance`.
        overwrite: replace a file that exists, unless a living process is writing it.

    Raises:
        InputError: the file exists or cannot be written there.
        ValueError: axes and variables contradict each other.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        axes: Mapping[str, Sequence[Axis]],
        variables: Sequence[Variable],
        attributes: Mapping[str, str | float | int],
        texts: Mapping[str, str] | None = None,
        overwrite: bool = False,
    ) -> None:
        self.path = Path(path)
        if "neurosim_version" not in attributes:
            raise ValueError("attributes: neurosim_version is missing")
        _refuse_existing(self.path, overwrite)
        _create(self.path, axes, variables, attributes, texts or {})
        # Closing must reach this very file, also when another has taken its name since.
        self._raw = open(self.path, "r+b")  # noqa: SIM115
        self._file = h5py.File(self.path, "r+", libver=_LIBVER, locking=False)
        self._file.swmr_mode = True
        self._datasets = {v.path: self._file[v.path] for v in variables}
        self._flushes = 0

    def write(self, path: str, where: Where, values: Any) -> None:
        """Write one block of a variable.

        Args:
            path: the variable.
            where: an index or slice of the first dimension, or a tuple of them for the first few.
            values: an array of exactly the shape that `where` selects.

        Raises:
            ValueError: no such variable, or the block does not fit.
            NeurosimError: the disk refuses.
        """
        self._check_open()
        if path not in self._datasets:
            raise ValueError(unknown("variable", path, self._datasets))
        dataset = self._datasets[path]
        index = where if isinstance(where, tuple) else (where,)
        shape = _selected(path, dataset.shape, index)
        array = np.asarray(values)
        if array.shape != shape:
            raise ValueError(f"{path}: values have shape {array.shape}, the block has {shape}")
        if not np.can_cast(array.dtype, dataset.dtype, "same_kind"):
            raise ValueError(f"{path}: values are {array.dtype}, the variable is {dataset.dtype}")
        # What exceeds the stored precision is stored as infinity and found there.
        with np.errstate(over="ignore"):
            array = array.astype(dataset.dtype, copy=False)
        with self._disk():
            dataset[index] = array

    def flush(self) -> None:
        """Make all that was written so far survive the death of this process."""
        self._check_open()
        with self._disk():
            self._file.flush()
        self._flushes += 1

    def close(
        self, status: Status, attributes: Mapping[str, str | float | int] | None = None
    ) -> None:
        """Finish the file: flush, leave SWMR mode, write the final attributes and `status`.

        Raises:
            NeurosimError: the disk refuses, or another file has taken this one's name.
        """
        self.flush()
        with self._disk():
            self._file.close()
            if _marked(self._raw):
                raise RuntimeError("this process has it open elsewhere, in SWMR mode")
            draft = _Draft(self._raw)
            with h5py.File(draft, "r+", libver=_LIBVER) as file:
                file.attrs.update(attributes or {})
                file.attrs["status"] = status
            draft.commit()
        mine = os.fstat(self._raw.fileno())
        self._raw.close()
        if not self.path.exists() or not os.path.samestat(mine, self.path.stat()):
            raise NeurosimError(f"{self.path}: was replaced or deleted while this run wrote it")

    def __enter__(self) -> TraceWriter:
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if not self._raw.closed:
            failed: Status = "diverged" if isinstance(error, DivergedError) else "interrupted"
            self.close("complete" if error is None else failed)

    def _check_open(self) -> None:
        if self._raw.closed:
            raise ValueError(f"{self.path}: is closed")

    @contextlib.contextmanager
    def _disk(self) -> Iterator[None]:
        try:
            yield
        except (OSError, RuntimeError) as error:
            with contextlib.suppress(OSError):
                self._raw.close()
            _abandon(self._file)
            raise NeurosimError(
                f"{self.path}: cannot be written any more: {_reason(error)}; "
                f"what its {self._flushes} flushes wrote is kept and can be opened"
            ) from error


def open_trace(path: str | os.PathLike[str]) -> xarray.DataTree:
    """Open a trace, finished, being written or left behind by a killed run; data load on use.

    Raises:
        InputError: there is no such file, or it is no intact neurosim trace.
    """
    import xarray

    path = Path(path)
    with _reading(path):
        source, options = _source(path)
        # Dimensions without an axis, as other programs' groups may have, are no reason to warn.
        known: dict[str, Any] = {
            "decode_timedelta": False,
            "phony_dims": "access",
            "driver_kwds": options,
        }
        return xarray.open_datatree(source, engine="h5netcdf", **known)


def describe(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What a trace holds, as plain values that JSON can carry, without reading its data.

    `status` is "killed" where the file says "running" and its writer is known to be dead. `filled`
    is the fraction of a variable that has been written, to the precision of its chunks.

    Raises:
        InputError: there is no such file, or it is no intact neurosim trace.
    """
    path = Path(path)
    groups: dict[str, dict[str, Any]] = {}
    with _reading(path) as file:

        def visit(name: str, item: h5py.Group | h5py.Dataset) -> None:
            if not isinstance(item, h5py.Dataset):
                return
            group, _, leaf = name.rpartition("/")
            entry = groups.setdefault(f"/{group}", {"axes": {}, "variables": {}})
            entry["axes" if item.is_scale else "variables"][leaf] = _describe_dataset(item)

        file.visititems(visit)
        return {
            "path": str(path),
            "bytes": path.stat().st_size,
            "status": "killed" if _writer_alive(file) is False else _status(file),
            "attributes": _attributes(file),
            "groups": groups,
        }


def _describe_dataset(dataset: h5py.Dataset) -> dict[str, Any]:
    attributes = _attributes(dataset)
    entry: dict[str, Any] = {
        "dims": [dim[0].name.rpartition("/")[2] if len(dim) else None for dim in dataset.dims],
        "shape": list(dataset.shape),
        "dtype": "str" if h5py.check_string_dtype(dataset.dtype) else str(dataset.dtype),
        "units": attributes.pop("units", None),
        "description": attributes.pop("long_name", ""),
        "attributes": attributes,
    }
    if dataset.is_scale:
        entry["dims"] = [dataset.name.rpartition("/")[2]]
    else:
        entry["filled"] = _filled(dataset)
    return entry


def _filled(dataset: h5py.Dataset) -> float:
    if dataset.chunks is not None:
        chunks = math.prod(-(-n // c) for n, c in zip(dataset.shape, dataset.chunks, strict=True))
        return float(dataset.id.get_num_chunks() / chunks) if chunks else 1.0
    if dataset.dtype.kind not in "fi" or not dataset.size or dataset.nbytes > _CHUNK_BYTES:
        return 1.0
    values = dataset[()]
    empty = np.isnan(values) if dataset.dtype.kind == "f" else values == dataset.fillvalue
    rows = np.reshape(empty, (dataset.shape[0] if dataset.ndim else 1, -1))
    return float(np.mean(~rows.all(axis=1)))


def _attributes(item: h5py.Group | h5py.Dataset) -> dict[str, Any]:
    return {name: _plain(v) for name, v in item.attrs.items() if name not in _BOOKKEEPING}


def _plain(value: Any) -> Any:
    """As JSON has it; what is not finite becomes None."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, list):
        return [_plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, str | int | float) else str(value)


def _abandon(file: h5py.File) -> None:
    """Close a file whose disk refuses, without touching it.

    HDF5 cannot let go of data it cannot write: it would crash the process at its end.
    """
    if file:
        with open(os.devnull, "r+b", buffering=0) as nowhere:
            os.dup2(nowhere.fileno(), file.id.get_vfd_handle())
        with contextlib.suppress(OSError, RuntimeError):
            file.close()


def _create(
    path: Path,
    axes: Mapping[str, Sequence[Axis]],
    variables: Sequence[Variable],
    attributes: Mapping[str, str | float | int],
    texts: Mapping[str, str],
) -> None:
    """Create the whole file in memory, write it under another name, then rename it to `path`."""
    image = io.BytesIO()
    with h5py.File(image, "w", libver=_LIBVER, track_order=True) as file:
        file.attrs.update(attributes)
        file.attrs.update(status="running", host=socket.gethostname(), pid=os.getpid())
        scales = _create_axes(file, axes)
        for variable in variables:
            _create_variable(file, scales, variable)
        for name, text in texts.items():
            _group(file, "provenance").create_dataset(name, data=text)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(image.getbuffer())
        os.replace(temporary, path)
    except OSError as error:
        raise InputError(
            f"{path}: cannot be written there: {error.strerror}; give another with --out FILE"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def _create_axes(
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
            scale = _group(file, group).create_dataset(axis.name, data=values)
            scale.make_scale(axis.name)
            scale.attrs.update({key: value for key, value in about.items() if value is not None})
            scales[group.strip("/"), axis.name] = scale
    for group, name in scales:
        # xarray inherits coordinates, and refuses a group that contradicts what it inherits.
        for above in _upwards(group)[1:]:
            if (above, name) in scales:
                raise ValueError(f"axis {name!r} lives in {group!r} and above it, in {above!r}")
    return scales


def _create_variable(
    file: h5py.File, scales: Mapping[tuple[str, str], h5py.Dataset], variable: Variable
) -> None:
    dtype = np.dtype(variable.dtype)
    if dtype.kind not in "fi" or dtype == np.float16:
        raise ValueError(
            f"{variable.path}: dtype {dtype}; use float32, float64 or a signed integer"
        )
    group, _, name = variable.path.rpartition("/")
    found = []
    for dim in variable.dims:
        homes = [home for home in _upwards(group) if (home, dim) in scales]
        if not homes:
            raise ValueError(f"{variable.path}: no axis {dim!r} in {group!r} or above")
        found.append(scales[homes[0], dim])
    shape = tuple(scale.shape[0] for scale in found)
    empty = np.nan if dtype.kind == "f" else -1
    large = math.prod(shape) * dtype.itemsize > _CHUNK_BYTES
    chunks = _chunks(shape, dtype.itemsize) if large else None
    parent = _group(file, group)
    dataset = parent.create_dataset(name, shape, dtype, chunks=chunks, fillvalue=empty)
    if not large:
        dataset[...] = empty
    about = {"long_name": variable.description} if variable.description else {}
    dataset.attrs.update({"units": variable.units} | about | dict(variable.attributes))
    for dim, scale in zip(dataset.dims, found, strict=True):
        dim.attach_scale(scale)


def _chunks(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    """Whole rows of the first dimension, several if they are small; even shares of large ones."""
    row = itemsize * math.prod(shape[1:])
    if row <= _CHUNK_BYTES:
        return (min(shape[0], max(1, _SHARED_CHUNK_BYTES // row)), *shape[1:])
    chunks = [1] * len(shape)
    for axis in reversed(range(1, len(shape))):
        room = _CHUNK_BYTES // (itemsize * math.prod(chunks))
        pieces = math.ceil(shape[axis] / room)
        chunks[axis] = math.ceil(shape[axis] / pieces)
        if pieces > 1:
            break
    return tuple(chunks)


def _group(file: h5py.File, path: str) -> h5py.Group:
    group: h5py.Group = file
    for name in filter(None, path.split("/")):
        group = group[name] if name in group else group.create_group(name, track_order=True)
    return group


def _upwards(group: str) -> list[str]:
    """The group and those above it, nearest first; "" is the root."""
    parts = [part for part in group.split("/") if part]
    return ["/".join(parts[:n]) for n in range(len(parts), -1, -1)]


def _selected(path: str, shape: tuple[int, ...], index: tuple[int | slice, ...]) -> tuple[int, ...]:
    """The shape of the block that `index` selects, which must lie inside `shape`."""
    if len(index) > len(shape):
        raise ValueError(f"{path}: {len(index)} indices for {len(shape)} dimensions")
    block = []
    for dim, (where, size) in enumerate(zip(index, shape, strict=False)):
        if isinstance(where, slice):
            start, stop, step = where.indices(size)
            if step != 1 or (where.stop or 0) > size:
                raise ValueError(f"{path}: {where} in dimension {dim}, which has size {size}")
            block.append(max(0, stop - start))
        elif not 0 <= operator.index(where) < size:
            raise ValueError(f"{path}: index {where} in dimension {dim}, which has size {size}")
    return (*block, *shape[len(index) :])


def _refuse_existing(path: Path, overwrite: bool) -> None:
    if os.path.isdir(path):
        raise InputError(f"{path}: is a folder; give a file with --out FILE")
    if not os.path.exists(path):
        return
    if not overwrite:
        raise InputError(f"{path}: exists; give --force to overwrite, or --out FILE")
    pid = None
    with contextlib.suppress(InputError), _reading(path) as file:
        pid = file.attrs["pid"] if _writer_alive(file) else None
    if pid not in (None, os.getpid()):
        raise InputError(
            f"{path}: process {pid} is writing it; stop that, give --out FILE, "
            "or delete the file if that process is another program"
        )


class _Draft(io.RawIOBase):
    """A file as HDF5 would change it; `commit` makes the changes, those at its end first.

    HDF5 itself would mark the file as open, and a kill or a full disk could stop it halfway.
    """

    def __init__(self, raw: BinaryIO) -> None:
        self._raw = raw
        self._at = 0
        self._old_end = self._end = raw.seek(0, os.SEEK_END)
        self._changes: list[tuple[int, bytes]] = []

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + (0, self._at, self._end)[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        view, begin = memoryview(buffer), self._at
        self._raw.seek(begin)
        old = self._raw.read(len(view))
        view[:] = old.ljust(len(view), b"\0")
        for start, data in self._changes:
            low, high = max(start, begin), min(start + len(data), begin + len(view))
            if low < high:
                view[low - begin : high - begin] = data[low - start : high - start]
        self._at += len(view)
        return len(view)

    def write(self, data: Any) -> int:
        self._changes.append((self._at, bytes(data)))
        self._at += len(data)
        self._end = max(self._end, self._at)
        return len(data)

    def truncate(self, size: int | None = None) -> int:
        self._end = self._at if size is None else size
        return self._end

    def commit(self) -> None:
        """Write new space, then the superblock, which says how far it goes, then what uses it."""
        self._changes.sort(key=lambda change: (change[0] < self._old_end, change[0] != 0))
        for start, data in self._changes:
            self._raw.seek(start)
            self._raw.write(data)
        self._raw.flush()


class _Unmarked(io.FileIO):
    """A file that HDF5 reads through Python, and then ignores the mark "open for writing"."""

    def __del__(self) -> None:
        self.close()


def _marked(raw: BinaryIO) -> bool:
    """Whether the superblock says "open for writing", as its version 3 can."""
    raw.seek(0)
    header = raw.read(12)
    return len(header) == 12 and header[8] >= 3 and header[11] != 0


def _source(path: Path) -> tuple[str | io.FileIO, dict[str, Any]]:
    """What to open, and with which options of `h5py.File`."""
    with open(path, "rb") as raw:
        if not _marked(raw):
            return str(path), {"locking": False}
    with h5py.File(_Unmarked(path), "r") as file:
        # SWMR reading waits without end for damaged bytes to be mended, so only for a live writer;
        # and never in the writer's own process, where HDF5 would keep the file open after `close`.
        follow = _writer_alive(file) and file.attrs["pid"] != os.getpid()
    return (str(path), {"swmr": True, "locking": False}) if follow else (_Unmarked(path), {})


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[h5py.File]:
    """The file of an intact neurosim trace, opened to read.

    Raises:
        InputError: it is none.
    """
    try:
        with open(path, "rb") as raw:
            signature = raw.read(len(_SIGNATURE))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    if signature != _SIGNATURE:
        raise InputError(f"{path}: is no trace: it is not an HDF5 file")
    try:
        source, options = _source(path)
        with h5py.File(source, "r", **options) as file:
            if "neurosim_version" not in file.attrs:
                raise InputError(
                    f"{path}: is HDF5 but no neurosim trace: it has no attribute neurosim_version"
                )
            yield file
    except _READ_ERRORS as error:
        cut = "truncated file" in str(error)
        what = "is cut short, its end is missing" if cut else f"is damaged: {_reason(error)}"
        raise InputError(f"{path}: {what}") from error


def _status(file: h5py.File) -> str:
    # HDF5 removes an attribute before it writes it anew; a kill may fall in between.
    return str(file.attrs.get("status", "running"))


def _writer_alive(file: h5py.File) -> bool | None:
    """Whether the process that writes the file lives; None if this machine cannot know."""
    if _status(file) != "running":
        return None
    if file.attrs.get("host") != socket.gethostname() or os.name == "nt":
        return None
    try:
        os.kill(int(file.attrs["pid"]), 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


def _reason(error: BaseException) -> str:
    """The cause in what h5py says: the system's own words if there are any."""
    found = re.search(r"error message = '([^']*)'", str(error))
    said = getattr(error, "strerror", None) or str(error)
    return found[1] if found else said.partition("\n")[0]
