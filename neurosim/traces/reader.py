"""Reading a trace, whether its writer has finished, lives or is dead."""

from __future__ import annotations

import contextlib
import io
import math
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from neurosim.archives import DEFLATE_RATIO
from neurosim.errors import InputError
from neurosim.traces import intent, liveness, schema, superblock
from neurosim.traces.layout import CHUNK_BYTES
from neurosim.traces.naming import located
from neurosim.traces.superblock import SIGNATURE

if TYPE_CHECKING:
    import xarray

RECORDING = "recording"
"""The group that recordings of cells have, and runs of networks have not."""

_BOOKKEEPING = {"CLASS", "NAME", "DIMENSION_LIST", "REFERENCE_LIST", "_Netcdf4Dimid"}
# What may be read of any file, however small; beyond it, so many times the size of the file: a run
# that was killed early has written little of what it announced.
FREE_BYTES, WARRANTED = 2**28, 16
# What h5py raises for files that are damaged or made by others.
_READ_ERRORS = (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError)


def open_trace(path: str | os.PathLike[str]) -> xarray.DataTree:
    """Open a trace, finished, being written or left behind by a killed run; data load on use.

    It may stay open while others, or h5py and xarray in this process, open the file in any way they
    like, and while the run goes on; what was written since is seen by who opens it anew.

    Raises:
        InputError: there is no such file, or it is no intact neurosim trace.
    """
    import xarray

    path = located(path)
    with reading(path):
        # Dimensions without an axis, as other programs' groups may have, are no reason to warn.
        known: dict[str, Any] = {"decode_timedelta": False, "phony_dims": "access"}
        return xarray.open_datatree(_Apart(os.path.abspath(path)), engine="h5netcdf", **known)


class Arrays:
    """The arrays of an open trace by name, without xarray, which takes longer to import."""

    def __init__(self, file: h5py.File) -> None:
        self._file = file

    @classmethod
    @contextlib.contextmanager
    def of(cls, path: str | os.PathLike[str]) -> Iterator[Arrays]:
        """Of the trace at a path.

        Raises:
            InputError: as `open_trace` does.
        """
        with reading(located(path)) as file:
            yield cls(file)

    def __getitem__(self, name: str) -> np.ndarray:
        """All of an array."""
        return np.asarray(self._file[name][()])

    def __contains__(self, name: str) -> bool:
        return name in self._file

    @property
    def attributes(self) -> dict[str, Any]:
        """Of the file, as plain values."""
        return _attributes(self._file)

    def members(self, group: str) -> list[str]:
        """The names in a group."""
        return list(self._file[group])

    def text(self, name: str) -> str:
        """A document."""
        return self._file[name].asstr()[()]

    def dims(self, name: str) -> list[str | None]:
        """The names of its dimensions."""
        return _dims(self._file[name])

    def attribute(self, name: str, key: str) -> Any:
        """What a variable says of itself under a key, as a plain value."""
        return _attributes(self._file[name])[key]

    def names(self, name: str) -> list[str]:
        """What the codes 0, 1, … of an array stand for."""
        return self._file[name].attrs["flag_meanings"].split()


def describe(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What a trace holds, as plain values that JSON can carry, without reading its data.

    `status` is "killed" where the file says "running" and its writer is known to be dead. `filled`
    is the fraction of a variable that has been written, to the precision of its chunks.

    Raises:
        InputError: there is no such file, or it is no intact neurosim trace.
    """
    path = located(path)
    groups: dict[str, dict[str, Any]] = {}
    with reading(path) as file:

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
            "status": "killed" if writer_alive(file) is False else _status(file),
            "attributes": _attributes(file),
            "groups": groups,
        }


def _describe_dataset(dataset: h5py.Dataset) -> dict[str, Any]:
    attributes = _attributes(dataset)
    entry: dict[str, Any] = {
        "dims": _dims(dataset),
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


def _dims(dataset: h5py.Dataset) -> list[str | None]:
    return [dim[0].name.rpartition("/")[2] if len(dim) else None for dim in dataset.dims]


def _filled(dataset: h5py.Dataset) -> float:
    if dataset.chunks is not None:
        chunks = math.prod(-(-n // c) for n, c in zip(dataset.shape, dataset.chunks, strict=True))
        return float(dataset.id.get_num_chunks() / chunks) if chunks else 1.0
    if dataset.dtype.kind not in "fi" or not dataset.size or dataset.nbytes > CHUNK_BYTES:
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


class _Apart(io.FileIO):
    """A file that HDF5 reads through Python, apart from all else that this process has open.

    HDF5 keeps one picture of a file for a process, as old as the first who opened it, and refuses
    whoever asks for other flags than the first; nor does it open what is marked "open for writing".
    Of a file that it reads through Python it has a picture for each, and ignores the mark. What a
    live writer has on disk is sound at every moment: its SWMR mode sees to that, but for the end of
    the file, of which HDF5 takes note only after it has written what lies before. Changes that a
    dead one has not finished are seen as if they were made.
    """

    def __init__(self, name: str | os.PathLike[str]) -> None:
        super().__init__(name)
        self._changes, size = intent.found(self)
        block = superblock.read(self)
        if block is not None and block.marked and block.end < size and not self._changes:
            self._changes = [intent.Change(0, superblock.ending(self, size))]
        self.seek(0)

    def readinto(self, buffer: Any) -> int | None:
        begin = self.tell()
        count = super().readinto(buffer)
        if self._changes:
            intent.overlay(buffer, begin, self._changes)
        return count

    def __reduce__(self) -> tuple[type[_Apart], tuple[Any]]:
        return _Apart, (self.name,)

    def __del__(self) -> None:
        self.close()


def is_hdf5(path: Path) -> bool:
    """Whether a file is there and begins as HDF5 files do."""
    if not os.path.isfile(path):
        return False
    with open(path, "rb") as raw:
        return raw.read(len(SIGNATURE)) == SIGNATURE


@contextlib.contextmanager
def reading(path: Path) -> Iterator[h5py.File]:
    """The file of an intact neurosim trace, opened to read.

    Raises:
        InputError: it is none.
    """
    try:
        with open(path, "rb") as raw:
            signature = raw.read(len(SIGNATURE))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    if signature != SIGNATURE:
        raise InputError(f"{path}: is no trace: it is not an HDF5 file")
    of_cell = False
    try:
        with h5py.File(_Apart(path), "r") as file:
            of_cell = RECORDING in file
            if "neurosim_version" not in file.attrs:
                raise InputError(
                    f"{path}: is HDF5 but no neurosim trace: it has no attribute neurosim_version"
                )
            schema.accept(path, file.attrs)
            _refuse_boundless(path, file)
            yield file
    except _READ_ERRORS as error:
        if of_cell:
            raise InputError(_of_cell(path)) from error
        cut = "truncated file" in str(error)
        what = "is cut short, its end is missing" if cut else f"is damaged: {reason(error)}"
        raise InputError(f"{path}: {what}") from error


def _refuse_boundless(path: Path, file: h5py.File) -> None:
    """Refuse arrays that would take far more memory than the file can fill.

    Axes are read as soon as a trace is opened, and stand in the file in full, but for those that
    grow as a run goes, to which a disk that is full may add nothing. Recorded states are
    read a presentation at a time; everything else as a whole.
    """
    limit = max(FREE_BYTES, WARRANTED * path.stat().st_size)

    def visit(name: str, item: h5py.Group | h5py.Dataset) -> None:
        if not isinstance(item, h5py.Dataset):
            return
        size = item.nbytes
        if item.is_scale and item.maxshape == item.shape:
            bound = item.id.get_storage_size() * (1 if item.compression is None else DEFLATE_RATIO)
        else:
            bound = limit
            if name.startswith("traces/") and item.ndim:
                size //= max(1, item.shape[0])
        if size > bound:
            raise InputError(
                f"{path}: is damaged: {name} announces {size} bytes, which a file of this size "
                "does not warrant"
            )

    file.visititems(visit)


@contextlib.contextmanager
def interpreting(path: str | os.PathLike[str]) -> Iterator[None]:
    """In which whatever a trace lacks is said in words.

    Raises:
        InputError: something in it is not what neurosim writes.
    """
    try:
        yield
    except (*_READ_ERRORS, IndexError, MemoryError) as error:
        if records_cell(path):
            raise InputError(_of_cell(path)) from error
        raise InputError(
            f"{path}: is not what neurosim writes: {type(error).__name__}: {reason(error)}"
        ) from error


def records_cell(path: str | os.PathLike[str]) -> bool:
    """Whether a trace is a recording of a cell, not a run of a network."""
    try:
        with reading(located(path)) as file:
            return RECORDING in file
    except InputError:
        return False


def records_synapses(path: str | os.PathLike[str]) -> bool:
    """Whether a recording is one of cells with synapses between them, not of one kind alone."""
    with reading(located(path)) as file:
        return RECORDING in file and "model" not in file.attrs


def _of_cell(path: str | os.PathLike[str]) -> str:
    return (
        f"{path}: is a recording of a cell; expected the trace of a network. neurosim inspect says "
        "what it holds"
    )


@contextlib.contextmanager
def studying(path: str | os.PathLike[str]) -> Iterator[xarray.DataTree]:
    """A trace opened to be interpreted: `open_trace` and `interpreting` in one."""
    with interpreting(path), open_trace(path) as tree:
        yield tree


def _status(file: h5py.File) -> str:
    # HDF5 removes an attribute before it writes it anew; a kill may fall in between.
    return str(file.attrs.get("status", "running"))


def writer_alive(file: h5py.File) -> bool | None:
    """Whether the process that writes the file lives; None if this machine cannot know."""
    return liveness.alive(file.attrs) if _status(file) == "running" else None


def reason(error: BaseException) -> str:
    """The cause in what h5py says: the system's own words if there are any."""
    found = re.search(r"error message = '([^']*)'", str(error))
    said = getattr(error, "strerror", None) or str(error)
    return found[1] if found else said.partition("\n")[0]
