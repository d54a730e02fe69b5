"""What a task hands over, and the steps that several tasks share."""

from dataclasses import dataclass, replace
from numbers import Integral
from typing import Any, Literal, Protocol, get_args

import numpy as np
from jaxtyping import Float, Integer

from neurosim.errors import InputError

Target = Literal["class", "input"]
"""What the output of a network is to be."""

TARGETS = get_args(Target)


@dataclass(frozen=True, eq=False)
class Data:
    """Inputs and targets of a task, float64 (converted on arrival), one row a sample.

    Args:
        x_train: inputs, shape (n_train, n_in).
        y_train: targets, shape (n_train, n_out).
        x_test: inputs to be tested on, shape (n_test, n_in).
        y_test: targets, shape (n_test, n_out).
        classes: whether the targets are one-hot classes.
        teacher: W_1 … W_L of the network that made the targets, shapes (n_i, n_{i-1}), or None.

    Raises:
        InputError: arrays that do not fit each other, are not finite, or are not one-hot
            although `classes` says so.
    """

    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    classes: bool
    teacher: tuple[np.ndarray, ...] | None = None

    def __post_init__(self) -> None:
        problems = []
        for name in ("x_train", "y_train", "x_test", "y_test"):
            array = np.asarray(getattr(self, name), dtype=np.float64)
            object.__setattr__(self, name, array)
            if array.ndim != 2 or array.size == 0:
                expected = "two axes (samples, features), none of length 0"
                problems.append(f"task data: {name} has shape {array.shape}; expected {expected}")
            elif bad := np.count_nonzero(~np.isfinite(array)):
                problems.append(
                    f"task data: {name} holds {bad} values that are not finite; expected none"
                )
        problems = problems or self._misfits()
        if problems:
            raise InputError(problems)

    def _misfits(self) -> list[str]:
        problems = []
        for name, one, other, axis in (
            ("samples of x_train and y_train", self.x_train, self.y_train, 0),
            ("samples of x_test and y_test", self.x_test, self.y_test, 0),
            ("features of x_train and x_test", self.x_train, self.x_test, 1),
            ("features of y_train and y_test", self.y_train, self.y_test, 1),
        ):
            counts = one.shape[axis], other.shape[axis]
            if counts[0] != counts[1]:
                problems.append(
                    f"task data: {name} are {counts[0]} and {counts[1]}; expected equal"
                )
        if self.classes:
            for name, y in (("y_train", self.y_train), ("y_test", self.y_test)):
                if not (np.isin(y, (0, 1)).all() and (y.sum(axis=1) == 1).all()):
                    problems.append(
                        f"task data: {name} is not one-hot; expected a single 1 in each row, else "
                        "0, because `classes` is true"
                    )
        return problems

    def taught(self, target: Target) -> "Data":
        """The same samples with this as their targets."""
        if target == "class":
            return self
        return replace(self, y_train=self.x_train, y_test=self.x_test, classes=False)

    @property
    def inputs(self) -> int:
        """n_in, the number of input units the task needs."""
        return self.x_train.shape[1]

    @property
    def outputs(self) -> int:
        """n_out, the number of output units the task needs."""
        return self.y_train.shape[1]


class Task(Protocol):
    """Anything that can be learned: a user's own task needs these two members only."""

    @property
    def shared(self) -> bool:
        """Whether every seed of a run gets the same data."""
        ...

    def draw(self, rng: np.random.Generator) -> Data:
        """The data of one run, made from `rng` alone (ignored where `shared`)."""
        ...


def one_hot(labels: Integer[np.ndarray, " n"], classes: int) -> Float[np.ndarray, "n classes"]:
    """Row b is the unit vector of class `labels[b]`, for labels 0 … classes-1."""
    return np.eye(classes)[labels]


def standardise(
    x_train: Float[np.ndarray, "n_train n_in"],
    x_test: Float[np.ndarray, "n_test n_in"],
    *,
    common_scale: bool = False,
) -> tuple[Float[np.ndarray, "n_train n_in"], Float[np.ndarray, "n_test n_in"]]:
    """(x - mean)/scale of each feature, mean and scale fitted on the training split only.

    The scale is the feature's own standard deviation; with `common_scale` the root of the
    variance averaged over the features that vary, one number for all. Pixels take the latter:
    some are almost constant, and on a scale of its own such a pixel reaches thousands of standard
    deviations in a test image. A feature that is constant in the training split is 0 in both
    splits, as nothing says how to scale it.
    """
    varies = np.ptp(x_train, axis=0) > 0
    mean = x_train.mean(axis=0)
    variance = x_train.var(axis=0)
    if common_scale and varies.any():
        variance = np.full_like(variance, variance[varies].mean())
    scale = np.sqrt(np.where(varies, variance, 1.0))

    def apply(x: np.ndarray) -> np.ndarray:
        return np.where(varies, (x - mean) / scale, 0.0)

    return apply(x_train), apply(x_test)


Pair = tuple[Float[np.ndarray, "n n_in"], Float[np.ndarray, "n n_out"]]
"""Inputs and targets of the same samples."""


def tested_on(task: Any) -> str:
    """What runs of a task, an object or a table, are tested on: its "test" samples or, where a
    part of the training samples is held out to choose by, that "validation" part."""
    part = task.get("validation") if isinstance(task, dict) else getattr(task, "validation", None)
    return "test" if part is None else "validation"


def hold_out(
    train: Pair, test: Pair, validation: float | None, classes: bool, rng: np.random.Generator
) -> tuple[Pair, Pair]:
    """The samples to train on and those to be tested on.

    With `validation` these are two parts of `train`, and `test` stays unseen.

    Raises:
        InputError: a side would be empty.
    """
    if validation is None:
        return train, test
    x, y = train
    labels = y.argmax(axis=1) if classes else None
    rest, held = split("validation", len(x), validation, rng, labels)
    return (x[rest], y[rest]), (x[held], y[held])


def split(
    key: str,
    samples: int,
    part: float,
    rng: np.random.Generator,
    labels: Integer[np.ndarray, " samples"] | None = None,
) -> tuple[Integer[np.ndarray, " n_rest"], Integer[np.ndarray, " n_held"]]:
    """Indices of the samples that remain and of those held out, each in an order drawn at random.

    A `part` that is a whole number is how many are held out, any other is their share. With
    `labels` the split is stratified: a share is rounded to whole samples class by class, and a
    number is taken from the classes in proportion to their sizes.

    Raises:
        InputError: a side would be empty; said of `key`.
    """
    order = rng.permutation(samples)
    groups = [order] if labels is None else [order[labels[order] == c] for c in np.unique(labels)]
    if isinstance(part, Integral):
        turns = np.concatenate([(np.arange(len(group)) + 0.5) / len(group) for group in groups])
        held_out = np.concatenate(groups)[np.argsort(turns, kind="stable")[:part]]
    else:
        held_out = np.concatenate([group[: round(part * len(group))] for group in groups])
    in_held = np.isin(order, held_out)
    rest, held = order[~in_held], order[in_held]
    if not (len(rest) and len(held)):
        raise InputError(
            f"{key} = {part:g} of {samples} samples holds out {len(held)} and leaves {len(rest)} "
            "to train on; expected at least one of each"
        )
    return rest, held
