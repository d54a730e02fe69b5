"""Handwritten digits of 8 x 8 pixels, bundled with scikit-learn."""

import gzip
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

import numpy as np

from neurosim.tasks import checks
from neurosim.tasks.data import TARGETS, Data, Target, hold_out, one_hot, split, standardise

BRIGHTEST = 16
CLASSES = 10


@dataclass(frozen=True)
class Digits:
    """1797 handwritten digits of 8 x 8 pixels, 10 classes.

    Splits are stratified. Every seed of a run has one of its own, unless `split_seed` says which.

    Args:
        test_fraction: the share of each class that is held out.
        split_seed: the seed of the split, the same for every seed of a run.
        standardise: whether to subtract each pixel's mean and to divide all pixels by one scale,
            so that their variance is 1 on average, both fitted on the training split (its
            constant pixels become 0); otherwise pixels lie in [0, 1].
        validation: a share of the training samples, or how many of them, that is held out to
            choose by: runs are tested on it instead of the test samples, which stay unseen.
        target: `class`, or `input` for networks whose output is to be the input, as autoencoders'.
    """

    test_fraction: float = 0.2
    split_seed: int | None = None
    standardise: bool = True
    validation: float | None = None
    target: Target = "class"

    summary: ClassVar[str] = "1797 handwritten digits of 8 x 8 pixels (scikit-learn), 10 classes"
    source: ClassVar[str] = "Alpaydin & Kaynak 1998, UCI Machine Learning Repository"

    def __post_init__(self) -> None:
        checks.fraction("digits: test_fraction", self.test_fraction)
        checks.whole_or_none("digits: split_seed", self.split_seed, 0)
        checks.part_or_none("digits: validation", self.validation)
        checks.switch("digits: standardise", self.standardise)
        checks.choice("digits: target", self.target, TARGETS)

    @property
    def shared(self) -> bool:
        """Whether `split_seed` says which split."""
        return self.split_seed is not None

    @property
    def inputs(self) -> int:
        """64."""
        return 64

    @property
    def outputs(self) -> int:
        """10 classes, or as many as inputs."""
        return CLASSES if self.target == "class" else self.inputs

    def draw(self, rng: np.random.Generator) -> Data:
        """The data, split by `rng` or by `split_seed`."""
        if self.split_seed is not None:
            rng = np.random.default_rng(self.split_seed)
        pixels, labels = _bundled()
        x, y = pixels / BRIGHTEST, one_hot(labels, CLASSES)
        rest, held = split("test_fraction", len(x), self.test_fraction, rng, labels)
        (x_train, y_train), (x_test, y_test) = hold_out(
            (x[rest], y[rest]), (x[held], y[held]), self.validation, True, rng
        )
        if self.standardise:
            x_train, x_test = standardise(x_train, x_test, common_scale=True)
        return Data(x_train, y_train, x_test, y_test, classes=True).taught(self.target)


@cache
def _bundled() -> tuple[np.ndarray, np.ndarray]:
    """Pixels and labels, from the file in scikit-learn, which takes a second to import.

    A scikit-learn that keeps them elsewhere is asked for them.
    """
    package = find_spec("sklearn")
    assert package is not None and package.origin is not None, "a dependency"
    file = Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz"
    try:
        with gzip.open(file, "rt") as lines:
            table = np.loadtxt(lines, delimiter=",")
    except OSError:
        from sklearn.datasets import load_digits

        return load_digits(return_X_y=True)
    return table[:, :-1], table[:, -1].astype(int)
