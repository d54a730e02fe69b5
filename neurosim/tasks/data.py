"""What a task hands over, and the steps that several tasks share."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from jaxtyping import Float, Integer

from neurosim.errors import InputError


@dataclass(frozen=True, eq=False)
class Data:
    """Inputs and targets of a task, float64 (converted on arrival), one row a sample.

    Args:
        x_train: inputs, shape (n_train, n_in).
        y_train: targets, shape (n_train, n_out).
        x_test: inputs, shape (n_test, n_in).
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


def split(
    samples: int,
    test_fraction: float,
    seed: int,
    labels: Integer[np.ndarray, " samples"] | None = None,
) -> tuple[Integer[np.ndarray, " n_train"], Integer[np.ndarray, " n_test"]]:
    """Shuffled indices of the training and the test samples, a function of the arguments alone.

    With `labels` the split is stratified: `test_fraction` of each class is held out, rounded to
    whole samples class by class.

    Raises:
        InputError: a side would be empty.
    """
    order = np.random.default_rng(seed).permutation(samples)
    groups = [order] if labels is None else [order[labels[order] == c] for c in np.unique(labels)]
    held_out = np.concatenate([group[: round(test_fraction * len(group))] for group in groups])
    in_test = np.isin(order, held_out)
    train, test = order[~in_test], order[in_test]
    if not (len(train) and len(test)):
        raise InputError(
            f"test_fraction {test_fraction} splits {samples} samples into {len(train)} for "
            f"training and {len(test)} for testing; expected at least one of each"
        )
    return train, test
