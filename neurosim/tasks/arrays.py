"""A user's own arrays from an `.npz` file."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from neurosim.archives import read_arrays
from neurosim.errors import InputError, unknown
from neurosim.tasks import checks
from neurosim.tasks.data import Data, hold_out, one_hot, split, standardise

KEYS = ("x", "y", "x_test", "y_test")


@dataclass(frozen=True)
class Arrays:
    """Arrays `x` and `y` of an `.npz` file, with `x_test` and `y_test` or a split.

    `x` has shape (n, n_in). A one-dimensional integer or boolean `y` is read as labels
    0 … C-1, all of which must occur, and becomes one-hot; any other `y` is a regression target of
    shape (n,) or (n, n_out). Without `x_test` and `y_test` a part of `x` is held out. Splits are
    stratified where there are classes; every seed of a run has one of its own, unless `split_seed`
    says which.

    Args:
        path: the file; `~` is the home directory.
        test_fraction: the share held out, used where the file has no `x_test`.
        split_seed: the seed of splits, the same for every seed of a run.
        standardise: whether each input feature gets mean 0 and variance 1 over the training
            split.
        validation: a share of the training samples, or how many of them, that is held out to
            choose by: runs are tested on it instead of the test samples, which stay unseen.
    """

    path: str | Path
    test_fraction: float = 0.2
    split_seed: int | None = None
    standardise: bool = False
    validation: float | None = None

    summary: ClassVar[str] = "your own arrays x, y (and x_test, y_test) in an .npz file"
    source: ClassVar[str] = "the user's file"

    def __post_init__(self) -> None:
        checks.path("arrays: path", self.path)
        checks.fraction("arrays: test_fraction", self.test_fraction)
        checks.whole_or_none("arrays: split_seed", self.split_seed, 0)
        checks.part_or_none("arrays: validation", self.validation)
        checks.switch("arrays: standardise", self.standardise)

    @property
    def shared(self) -> bool:
        """Whether `split_seed` says which split, or the file leaves nothing to split."""
        if self.split_seed is not None:
            return True
        return self.validation is None and "x_test" in self._held

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
        if self.split_seed is not None:
            rng = np.random.default_rng(self.split_seed)
        path = checks.path("arrays: path", self.path)
        arrays = self._held
        x, y = arrays["x"], arrays["y"]
        if "x_test" in arrays:
            (y_train, y_test), classes = _targets(path, y, arrays["y_test"])
            train, test = (x, y_train), (arrays["x_test"], y_test)
        else:
            (targets,), classes = _targets(path, y)
            labels = targets.argmax(axis=1) if classes else None
            rest, held = split("test_fraction", len(x), self.test_fraction, rng, labels)
            train, test = (x[rest], targets[rest]), (x[held], targets[held])
        (x_train, y_train), (x_test, y_test) = hold_out(train, test, self.validation, classes, rng)
        if self.standardise:
            x_train, x_test = standardise(x_train, x_test)
        return Data(x_train, y_train, x_test, y_test, classes=classes)


def _read(path: Path) -> dict[str, np.ndarray]:
    """The arrays of the file: the right ones, numeric, finite, and of shapes that fit."""
    arrays = read_arrays(path)
    if unexpected := [unknown("array", key, KEYS) for key in arrays if key not in KEYS]:
        raise InputError([f"{path}: {problem}" for problem in unexpected])
    for find in (_misnamed, _unusable, _misfits):
        if problems := find(arrays):
            raise InputError([f"{path}: {problem}" for problem in problems])
    return {key: a.astype(np.float64) if key.startswith("x") else a for key, a in arrays.items()}


def _misnamed(arrays: dict[str, np.ndarray]) -> list[str]:
    needed = KEYS if {"x_test", "y_test"} & set(arrays) else KEYS[:2]
    held = ", ".join(arrays) or "nothing"
    return [
        f"array {key!r} is missing; it holds {held}; expected {', '.join(needed)}"
        for key in needed
        if key not in arrays
    ]


def _unusable(arrays: dict[str, np.ndarray]) -> list[str]:
    problems = []
    for key, array in arrays.items():
        axes = (2,) if key.startswith("x") else (1, 2)
        if array.dtype.kind not in "biuf":
            problems.append(f"{key} has type {array.dtype}; expected real numbers")
        elif array.ndim not in axes or array.size == 0:
            form = "(n, n_in)" if key.startswith("x") else "(n,) or (n, n_out)"
            problems.append(f"{key} has shape {array.shape}; expected {form}, no length 0")
        elif bad := np.count_nonzero(~np.isfinite(array)):
            problems.append(f"{key} holds {bad} values that are not finite; expected none")
    return problems


def _misfits(arrays: dict[str, np.ndarray]) -> list[str]:
    problems = []
    for one, other, axis in (("x", "y", 0), ("x_test", "y_test", 0), ("x", "x_test", 1)):
        if one in arrays and other in arrays:
            shapes = arrays[one].shape, arrays[other].shape
            if shapes[0][axis] != shapes[1][axis]:
                what = ("samples", "features")[axis]
                problems.append(
                    f"{one} has shape {shapes[0]} and {other} {shapes[1]}; expected as many "
                    f"{what} in both"
                )
    if "y_test" in arrays and arrays["y"].shape[1:] != arrays["y_test"].shape[1:]:
        problems.append(
            f"y has shape {arrays['y'].shape} and y_test {arrays['y_test'].shape}; expected as "
            "many targets in both"
        )
    return problems


def _targets(path: Path, *ys: np.ndarray) -> tuple[list[Float[np.ndarray, "_ n_out"]], bool]:
    """The targets of each split, and whether they are classes."""
    labelled = [y.ndim == 1 and y.dtype.kind in "biu" for y in ys]
    if not any(labelled):
        return [y.reshape(len(y), -1).astype(np.float64) for y in ys], False
    if not all(labelled):
        types = " and ".join(str(y.dtype) for y in ys)
        raise InputError(
            f"{path}: y and y_test have types {types}; expected integer labels in both or "
            "real numbers in both"
        )
    found = np.unique(np.concatenate(ys))
    classes = len(found)
    if not np.array_equal(found, np.arange(classes)):
        raise InputError(
            f"{path}: y has {classes} different labels from {found[0]} to {found[-1]}; expected "
            "the labels 0 … C-1 of C classes, or real numbers for regression"
        )
    return [one_hot(y.astype(np.int64), classes) for y in ys], True
