"""Handwritten digits of 8 x 8 pixels, bundled with scikit-learn."""

import gzip
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

import numpy as np

from neurosim.tasks import checks
from neurosim.tasks.data import Data, one_hot, split, standardise

BRIGHTEST = 16


@dataclass(frozen=True)
class Digits:
    """1797 handwritten digits of 8 x 8 pixels, 10 classes.

    The split is stratified and depends on `split_seed` only, so that every seed of a run sees
    the same data.

    Args:
        test_fraction: the share of each class that is held out.
        split_seed: the seed of the split.
        standardise: whether to subtract each pixel's mean and to divide all pixels by one scale,
            so that their variance is 1 on average, both fitted on the training split (its
            constant pixels become 0); otherwise pixels lie in [0, 1].
    """

    test_fraction: float = 0.2
    split_seed: int = 0
    standardise: bool = True

    summary: ClassVar[str] = "1797 handwritten digits of 8 x 8 pixels (scikit-learn), 10 classes"
    source: ClassVar[str] = "Alpaydin & Kaynak 1998, UCI Machine Learning Repository"
    shared: ClassVar[bool] = True

    def __post_init__(self) -> None:
        checks.fraction("digits: test_fraction", self.test_fraction)
        checks.whole("digits: split_seed", self.split_seed, 0)
        checks.switch("digits: standardise", self.standardise)

    @property
    def inputs(self) -> int:
        """64."""
        return 64

    @property
    def outputs(self) -> int:
        """10."""
        return 10

    def draw(self, rng: np.random.Generator | None = None) -> Data:
        """The data; `rng` is ignored."""
        pixels, labels = _bundled()
        x, y = pixels / BRIGHTEST, one_hot(labels, self.outputs)
        train, test = split(len(x), self.test_fraction, self.split_seed, labels)
        x_train, x_test = x[train], x[test]
        if self.standardise:
            x_train, x_test = standardise(x_train, x_test, common_scale=True)
        return Data(x_train, y[train], x_test, y[test], classes=True)


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
