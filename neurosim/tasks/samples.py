"""Samples that a user has: checked, made targets or classes, split and scaled."""

from pathlib import Path
from typing import Protocol

import numpy as np
from jaxtyping import Float

from neurosim.errors import InputError
from neurosim.tasks.data import Data, hold_out, one_hot, split, standardise

KEYS = ("x", "y", "x_test", "y_test")


class Splitting(Protocol):
    """The keys that tasks of a user's own samples share; see `Arrays`."""

    @property
    def test_fraction(self) -> float: ...
    @property
    def split_seed(self) -> int | None: ...
    @property
    def standardise(self) -> bool: ...
    @property
    def validation(self) -> float | None: ...


def shared(task: Splitting, held: dict[str, np.ndarray]) -> bool:
    """Whether every seed has the same split: one is named, or nothing is left to split."""
    return task.split_seed is not None or (task.validation is None and "x_test" in held)


def divided(
    path: Path,
    arrays: dict[str, np.ndarray],
    classes: bool | None,
    task: Splitting,
    rng: np.random.Generator,
    common_scale: bool = False,
) -> Data:
    """The data of `x` and `y`, and `x_test` and `y_test` or a part of `x` that is held out.

    classes: whether `y` are classes, each distinct value one, in ascending order; where not given,
    whole numbers from 0 and texts are. common_scale: see `standardise`.

    Raises:
        InputError: the arrays do not fit each other, or `y` is not what `classes` says.
    """
    if task.split_seed is not None:
        rng = np.random.default_rng(task.split_seed)
    x, y = arrays["x"], arrays["y"]
    if "x_test" in arrays:
        (y_train, y_test), found = targets(path, classes, y, arrays["y_test"])
        train, test = (x, y_train), (arrays["x_test"], y_test)
    else:
        (made,), found = targets(path, classes, y)
        labels = made.argmax(axis=1) if found else None
        rest, held = split("test_fraction", len(x), task.test_fraction, rng, labels)
        train, test = (x[rest], made[rest]), (x[held], made[held])
    (x_train, y_train), (x_test, y_test) = hold_out(train, test, task.validation, found, rng)
    if task.standardise:
        x_train, x_test = standardise(x_train, x_test, common_scale=common_scale)
    return Data(x_train, y_train, x_test, y_test, classes=found)


def checked(path: Path, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Arrays by name: the right ones, numeric (but for labels), finite, and of shapes that fit.

    Raises:
        InputError: they are not.
    """
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
        named = array.dtype.kind == "U" and key.startswith("y") and array.ndim == 1
        if array.dtype.kind not in "biuf" and not named:
            problems.append(f"{key} has type {array.dtype}; expected real numbers")
        elif array.ndim not in axes or array.size == 0:
            form = "(n, n_in)" if key.startswith("x") else "(n,) or (n, n_out)"
            problems.append(f"{key} has shape {array.shape}; expected {form}, no length 0")
        elif not named and (bad := np.count_nonzero(~np.isfinite(array))):
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


def targets(
    path: Path, classes: bool | None, *ys: np.ndarray
) -> tuple[list[Float[np.ndarray, "_ n_out"]], bool]:
    """The targets of each split, and whether they are classes."""
    if classes:
        return _named(path, *ys), True
    if any(y.dtype.kind == "U" for y in ys):
        if classes is None:
            return _named(path, *ys), True
        raise InputError(f"{path}: y is text, but classes is false; expected real numbers")
    labelled = [y.ndim == 1 and y.dtype.kind in "biu" for y in ys]
    if classes is False or not any(labelled):
        return [y.reshape(len(y), -1).astype(np.float64) for y in ys], False
    if not all(labelled):
        types = " and ".join(str(y.dtype) for y in ys)
        raise InputError(
            f"{path}: y and y_test have types {types}; expected integer labels in both or "
            "real numbers in both"
        )
    found = np.unique(np.concatenate(ys))
    if not np.array_equal(found, np.arange(len(found))):
        raise InputError(
            f"{path}: y has {len(found)} different labels from {found[0]} to {found[-1]}; expected "
            "the labels 0 … C-1 of C classes; classes = true takes any, classes = false takes "
            "them as numbers to be learned"
        )
    return [one_hot(y.astype(np.int64), len(found)) for y in ys], True


def _named(path: Path, *ys: np.ndarray) -> list[Float[np.ndarray, "_ n_out"]]:
    """Every distinct value of y a class, in ascending order."""
    if any(y.ndim > 1 for y in ys):
        raise InputError(
            f"{path}: y has shape {ys[0].shape}, but classes is true; expected one label a sample"
        )
    if len({y.dtype.kind == "U" for y in ys}) > 1:
        raise InputError(f"{path}: y or y_test is text and the other is not; expected the same")
    known = np.unique(ys[0])
    if len(known) == len(ys[0]) > 1:
        raise InputError(
            f"{path}: y has another value in every one of {len(known)} samples; expected classes "
            "of several"
        )
    for y in ys[1:]:
        if strange := sorted(set(y.tolist()) - set(known.tolist())):
            raise InputError(
                f"{path}: y_test has the label {strange[0]!r}, which y has not; expected "
                f"{', '.join(map(repr, known.tolist()))}"
            )
    return [one_hot(np.searchsorted(known, y), len(known)) for y in ys]
