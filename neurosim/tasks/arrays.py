"""A user's own arrays: from an `.npz`, from MATLAB, or from a folder of `.npy`."""

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np

from neurosim.archives import read_array, read_arrays
from neurosim.errors import InputError, unknown
from neurosim.tasks import checks, samples
from neurosim.tasks.data import Data
from neurosim.tasks.samples import KEYS


@dataclass(frozen=True)
class Arrays:
    """Arrays `x` and `y` of a file or folder, with `x_test` and `y_test` or a split.

    `x` has shape (n, n_in). A one-dimensional integer or boolean `y` is read as labels
    0 … C-1, all of which must occur, and becomes one-hot; any other `y` is a regression target of
    shape (n,) or (n, n_out). Without `x_test` and `y_test` a part of `x` is held out. Splits are
    stratified where there are classes; every seed of a run has one of its own, unless `split_seed`
    says which.

    Args:
        path: an `.npz`, a `.mat` of MATLAB (up to version 7), or a folder that holds `x.npy`,
            `y.npy` and so on; `~` is the home directory.
        classes: whether `y` are classes, each distinct value one, in ascending order; where not
            given, whole numbers as above are. Of a `.mat`, where all numbers are floating-point,
            it must be said.
        test_fraction: the share held out, used where the file has no `x_test`.
        split_seed: the seed of splits, the same for every seed of a run.
        standardise: whether each input feature gets mean 0 and variance 1 over the training
            split.
        validation: a share of the training samples, or how many of them, that is held out to
            choose by: runs are tested on it instead of the test samples, which stay unseen.
    """

    path: str | Path
    classes: bool | None = None
    test_fraction: float = 0.2
    split_seed: int | None = None
    standardise: bool = False
    validation: float | None = None

    summary: ClassVar[str] = "your own arrays x, y (and x_test, y_test): .npz, .mat or .npy"
    source: ClassVar[str] = "the user's file"

    def __post_init__(self) -> None:
        checks.path("arrays: path", self.path)
        checks.switch_or_none("arrays: classes", self.classes)
        checks.splitting("arrays", self)

    @property
    def shared(self) -> bool:
        """Whether `split_seed` says which split, or the file leaves nothing to split."""
        return self.split_seed is not None or samples.shared(self, self._held)

    @property
    def inputs(self) -> int | None:
        """None: the file says it."""
        return None

    @property
    def outputs(self) -> int | None:
        """None: the file says it."""
        return None

    @cached_property
    def _held(self) -> dict[str, np.ndarray]:
        """The arrays of the file, which is read once however many seeds split it."""
        return _read(checks.path("arrays: path", self.path))

    def draw(self, rng: np.random.Generator) -> Data:
        """The data, split by `rng` or by `split_seed`.

        Raises:
            InputError: the file is missing, damaged, or its arrays are not as above.
        """
        path = checks.path("arrays: path", self.path)
        return samples.divided(path, self._held, self.classes, self, rng)


def _read(path: Path) -> dict[str, np.ndarray]:
    """The arrays of the file: the right ones, numeric, finite, and of shapes that fit."""
    ending = path.suffix.lower()
    if os.path.isdir(path):
        arrays = _of_folder(path)
    elif ending == ".mat":
        arrays = _of_matlab(path)
    elif ending in (".csv", ".tsv", ".parquet"):
        raise InputError(f"{path}: is a table; task.name = 'table' reads those")
    else:
        arrays = read_arrays(path)
    if unexpected := [unknown("array", key, KEYS) for key in arrays if key not in KEYS]:
        raise InputError([f"{path}: {problem}" for problem in unexpected])
    return samples.checked(path, arrays)


def _of_folder(folder: Path) -> dict[str, np.ndarray]:
    """Arrays by the names of their `.npy` files."""
    held = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    others = [entry.name for entry in held if entry.suffix != ".npy"]
    if others or not held:
        shown = ", ".join(others[:8]) or "nothing"
        raise InputError(f"{folder}: holds {shown}; expected x.npy, y.npy and nothing else but "
                         "x_test.npy, y_test.npy")  # fmt: skip
    return {entry.stem: read_array(entry) for entry in held}


def _of_matlab(path: Path) -> dict[str, np.ndarray]:
    """The variables of a `.mat`; a row or column of as many numbers as samples is a vector."""
    from scipy.io import loadmat

    if not os.path.isfile(path):
        raise InputError(f"{path}: no such file; expected a .mat of MATLAB")
    try:
        found = loadmat(path, appendmat=False)
    except NotImplementedError:
        raise InputError(
            f"{path}: is a .mat of version 7.3; expected version 7, as MATLAB's "
            "save(file, 'x', 'y', '-v7') writes it"
        ) from None
    except Exception as problem:  # scipy and zlib each have their own
        reason = str(problem).partition("\n")[0]
        raise InputError(f"{path}: cannot be read as a .mat of MATLAB ({reason})") from None
    arrays = {key: value for key, value in found.items() if not key.startswith("__")}
    for key, value in arrays.items():
        if not isinstance(value, np.ndarray):
            raise InputError(
                f"{path}: {key} is no full array of numbers, but {type(value).__name__}"
            )
    for inputs, outputs in (("x", "y"), ("x_test", "y_test")):
        y = arrays.get(outputs)
        if y is not None and y.ndim == 2 and 1 in y.shape and len(arrays.get(inputs, ())) == y.size:
            arrays[outputs] = y.ravel()
    return arrays
