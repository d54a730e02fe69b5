"""Creating a trace, writing it as the run goes, and closing it."""

from __future__ import annotations

import contextlib
import io
import json
import operator
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np

from neurosim.errors import DivergedError, InputError, NeurosimError, unknown
from neurosim.process import caller
from neurosim.traces import schema, superblock
from neurosim.traces.amending import LIBVER, amend
from neurosim.traces.checkpoint import Checkpoint
from neurosim.traces.layout import (
    Axis,
    Variable,
    create_axes,
    create_population,
    create_variable,
    differences,
    group_at,
)
from neurosim.traces.ledger import Entry, Ledger, contradictions
from neurosim.traces.liveness import identity
from neurosim.traces.naming import located
from neurosim.traces.reader import reading, reason, writer_alive
from neurosim.traces.repairing import repair
from neurosim.traces.replacing import replace
from neurosim.traces.superblock import marked

Status = Literal["complete", "diverged", "interrupted"]
Where = int | slice | tuple[int | slice, ...]


class TraceWriter:
    """Writes one trace; as a context manager it closes the file, as "complete" if without error.

    Args:
        path: the file. It appears whole: it is created under another name, then renamed.
        axes: the axes that live in each group, by the group's path.
        variables: everything that will be written.
        attributes: attributes of the file; `neurosim_version` must be among them.
        texts: long documents by name, stored under `/provenance`.
        populations: whose spikes will be appended, by name, with attributes of each.
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
        populations: Mapping[str, Mapping[str, str | int]] | None = None,
    ) -> None:
        self.path = located(path)
        if "neurosim_version" not in attributes:
            raise ValueError("attributes: neurosim_version is missing")
        refuse_existing(self.path, overwrite)
        _create(self.path, axes, variables, attributes, texts or {}, populations or {})
        self._begin(variables, Ledger())

    @classmethod
    def reopen(
        cls,
        path: str | os.PathLike[str],
        axes: Mapping[str, Sequence[Axis]],
        variables: Sequence[Variable],
        ledger: Ledger,
        attributes: Mapping[str, str | float | int],
        force: bool = False,
    ) -> TraceWriter:
        """Go on writing a trace whose writer is dead or was interrupted.

        What the ledger does not know of is there to be written again.

        Args:
            path: the file.
            axes, variables: what the new writer would create; they must be what the file has.
            ledger: what is known to be in the file.
            attributes: to set in the file.
            force: also where this machine cannot know whether its writer lives.

        Raises:
            InputError: its writer lives, or the file has another layout or does not hold what the
                ledger says, or cannot be written.
        """
        writer = cls.__new__(cls)
        writer.path = located(path)
        _take_over(writer.path, axes, variables, ledger, attributes, force)
        writer._begin(variables, ledger)
        return writer

    def _begin(self, variables: Sequence[Variable], ledger: Ledger) -> None:
        self._file = _opened(self.path)
        self._descriptor = self._file.id.get_vfd_handle()
        # Closing must reach this very file, also when another has taken its name since.
        try:
            self._raw = open(self.path, "r+b", buffering=0)  # noqa: SIM115
        except OSError as error:
            _abandon(self._file, self._descriptor)
            raise InputError(
                f"{self.path}: cannot be opened to be written: {error.strerror}"
            ) from error
        self._flushes = 0
        self._ledger = ledger
        with self._disk():
            self._file.swmr_mode = True
            self._datasets = {v.path: self._file[v.path] for v in variables}

    @property
    def ledger(self) -> Ledger:
        """What has been written; on disk only after a `flush`."""
        return self._ledger.copy()

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
        first = index[0] if index else 0
        if len(index) > 1:
            self._ledger[path] = None
        elif isinstance(first, slice):
            self._ledger.note(path, first.indices(dataset.shape[0])[0], array)
        else:
            self._ledger.note(path, operator.index(first), array[np.newaxis])

    def append_spikes(self, population: str, times: np.ndarray, nodes: np.ndarray) -> None:
        """Append spikes, later than all before: times in ms, and the nodes that fired them.

        Raises:
            ValueError: times and nodes do not match, or go back in time.
            NeurosimError: the disk refuses.
        """
        self._check_open()
        if times.shape != nodes.shape or times.ndim != 1 or np.any(np.diff(times) < 0):
            raise ValueError(f"{population}: times {times.shape} and nodes {nodes.shape}")
        with self._disk():
            group = self._file[f"spikes/{population}"]
            for name, values in (("timestamps", times), ("node_ids", nodes)):
                dataset = group[name]
                # Beyond what the ledger knows a dead writer may have left the same spikes.
                path = f"spikes/{population}/{name}"
                start = (self._ledger.get(path) or Entry(0, 0)).rows
                end = start + len(values)
                if dataset.shape[0] < end:
                    dataset.resize((end,))
                dataset[start:end] = values
                self._ledger.note(path, start, values.astype(dataset.dtype, copy=False))

    def flush(self) -> None:
        """Make all that was written so far survive the death of this process."""
        self._check_open()
        with self._disk():
            self._file.flush()
        self._flushes += 1

    def secure(self) -> None:
        """Make all that was written so far survive the death of the machine as well."""
        self.flush()
        with self._disk():
            os.fsync(self._raw.fileno())

    def close(
        self, status: Status, attributes: Mapping[str, str | float | int] | None = None
    ) -> None:
        """Finish the file: flush, leave SWMR mode, write the final attributes and `status`.

        Raises:
            NeurosimError: the disk refuses, or another file has taken this one's name.
        """
        self.flush()
        with self._disk(closing=True):
            self._file.close()
        with self._disk():
            if marked(self._raw):
                raise RuntimeError("this process has it open elsewhere, in SWMR mode")
            about = {"checksums": json.dumps(self._ledger)} | dict(attributes or {})
            amend(self._raw, about | {"status": status})
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
    def _disk(self, closing: bool = False) -> Iterator[None]:
        try:
            yield
        except (OSError, RuntimeError) as error:
            _abandon(self._file, self._descriptor, closing)
            with contextlib.suppress(OSError):
                if superblock.read(self._raw) is not None:
                    superblock.mend(self._raw)
                self._raw.close()
            raise NeurosimError(
                f"{self.path}: cannot be written any more: {reason(error)}; "
                f"what its {self._flushes} flushes wrote is kept and can be opened"
            ) from error


def _opened(path: Path) -> h5py.File:
    """The file, opened to be written.

    Where this process has it open to read, HDF5 refuses. Its readers then keep the file that they
    have, and a copy takes its name.

    Raises:
        InputError: this process has it open to write.
    """
    try:
        return h5py.File(path, "r+", libver=LIBVER, locking=False)
    except OSError as error:
        if "already open for read-only" not in str(error):
            mine = "" if error.errno else "; where this script has it open, close it first"
            raise InputError(
                f"{path}: cannot be opened to be written: {reason(error)}{mine}"
            ) from error
    _replace(path, path.read_bytes())
    return h5py.File(path, "r+", libver=LIBVER, locking=False)


def _replace(path: Path, content: Any) -> None:
    """Put a file of this content in the place of what is there, as a whole."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace(path, temporary, content)
    except OSError as error:
        raise InputError(
            f"{path}: cannot be written there: {error.strerror}; give another with "
            f"{caller.option('out', 'FILE')}"
        ) from error


def _abandon(file: h5py.File, descriptor: int, closing: bool = False) -> None:
    """Close a file whose disk refuses, without touching it.

    HDF5 cannot let go of data it cannot write: it would crash the process at its end. What it has
    begun to close it must not be asked about again, or it crashes at once.

    descriptor: by which HDF5 writes it. closing: whether it failed while HDF5 closed it.
    """
    if file:
        with open(os.devnull, "r+b", buffering=0) as nowhere:
            os.dup2(nowhere.fileno(), descriptor)
        if not closing:
            with contextlib.suppress(OSError, RuntimeError):
                file.close()


def _create(
    path: Path,
    axes: Mapping[str, Sequence[Axis]],
    variables: Sequence[Variable],
    attributes: Mapping[str, str | float | int],
    texts: Mapping[str, str],
    populations: Mapping[str, Mapping[str, str | int]],
) -> None:
    """Create the whole file in memory, write it under another name, then rename it to `path`."""
    image = io.BytesIO()
    with h5py.File(image, "w", libver=LIBVER, track_order=True) as file:
        file.attrs.update(attributes)
        file.attrs.update({schema.ATTRIBUTE: schema.VERSION, "status": "running"} | identity())
        scales = create_axes(file, axes)
        for variable in variables:
            create_variable(file, scales, variable)
        for name, about in populations.items():
            create_population(file, name, about)
        for name, text in texts.items():
            group_at(file, "provenance").create_dataset(name, data=text)
    _replace(path, image.getbuffer())


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


def refuse_existing(path: Path, overwrite: bool) -> None:
    """Whether a trace may be written there.

    Raises:
        InputError: something is there that must not be lost, or a process is writing it.
    """
    force, out = caller.option("force"), caller.option("out", "FILE")
    if os.path.isdir(path):
        raise InputError(f"{path}: is a folder; give a file with {out}")
    if not os.path.exists(path):
        return
    if not overwrite:
        hint = f"; neurosim resume {path} goes on with it" if Checkpoint.path(path).exists() else ""
        raise InputError(f"{path}: exists; give {force} to overwrite, or {out}{hint}")
    pid = None
    with contextlib.suppress(InputError), reading(path) as file:
        pid = file.attrs["pid"] if writer_alive(file) else None
    if pid not in (None, os.getpid()):
        raise InputError(
            f"{path}: process {pid} is writing it; stop that, give {out}, "
            "or delete the file if that process is another program"
        )


def _take_over(
    path: Path,
    axes: Mapping[str, Sequence[Axis]],
    variables: Sequence[Variable],
    ledger: Ledger,
    attributes: Mapping[str, str | float | int],
    force: bool,
) -> None:
    """Make this process the writer of a file that has no living one."""
    with reading(path) as file:
        wrong = [*differences(file, axes, variables), *contradictions(file, ledger)]
        if wrong:
            raise InputError([f"{path}: {line}" for line in wrong])
    repair(path, {"status": "running"} | identity() | dict(attributes), force)
