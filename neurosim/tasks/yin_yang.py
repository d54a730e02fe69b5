"""The Yin-Yang classification task."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float, Integer

from neurosim.tasks import checks
from neurosim.tasks.data import Data, hold_out, one_hot

RADIUS = 0.5
DOT_RADIUS = 0.1
YANG, YIN, DOT = range(3)


@dataclass(frozen=True)
class YinYang:
    """Points of a disc, classified by the regions of the Yin-Yang symbol.

    A class is drawn uniformly for each sample, then a point uniformly in that class's part of
    the disc of radius 0.5 around (0.5, 0.5). Inputs are (x, y, 1-x, 1-y); targets are one-hot:
    0 yang, 1 yin, 2 dot. A linear readout of the inputs stays near 64 %, so that the task shows
    whether learning signals reach a hidden layer. The test set does not depend on `train`.

    Args:
        train: number of training samples.
        test: number of test samples.
        validation: a share of the training samples, or how many of them, that is held out to
            choose by: runs are tested on it instead of the test samples, which stay unseen.
    """

    train: int = 5000
    test: int = 1000
    validation: float | None = None

    summary: ClassVar[str] = "classification of points in the Yin-Yang symbol, 3 classes"
    source: ClassVar[str] = "Kriener, Göltz & Petrovici 2021 (arXiv 2102.08211)"
    shared: ClassVar[bool] = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "train", checks.whole("yin-yang: train", self.train, 1))
        object.__setattr__(self, "test", checks.whole("yin-yang: test", self.test, 1))
        checks.part_or_none("yin-yang: validation", self.validation)

    @property
    def inputs(self) -> int:
        """4."""
        return 4

    @property
    def outputs(self) -> int:
        """3."""
        return 3

    def draw(self, rng: np.random.Generator) -> Data:
        """New points."""
        test = _samples(self.test, rng)
        # Not class by class: how many there are of each is drawn too, and seeds are run side by
        # side, with as many samples each.
        train, test = hold_out(_samples(self.train, rng), test, self.validation, False, rng)
        return Data(*train, *test, classes=True)


def region(x: Float[np.ndarray, " n"], y: Float[np.ndarray, " n"]) -> Integer[np.ndarray, " n"]:
    """The class of points inside the disc: 0 yang, 1 yin, 2 dot.

    With d_r and d_l the distances to (1.5 R, R) and (0.5 R, R): dot within r of either centre;
    else yin if d_l ≤ R/2, or y > R and d_r > R/2; else yang.
    """
    d_right = np.hypot(x - 1.5 * RADIUS, y - RADIUS)
    d_left = np.hypot(x - 0.5 * RADIUS, y - RADIUS)
    dot = (d_right < DOT_RADIUS) | (d_left < DOT_RADIUS)
    yin = (
        (d_right <= DOT_RADIUS)
        | ((d_left > DOT_RADIUS) & (d_left <= RADIUS / 2))
        | ((y > RADIUS) & (d_right > RADIUS / 2))
    )
    return np.where(dot, DOT, np.where(yin, YIN, YANG))


def _samples(
    n: int, rng: np.random.Generator
) -> tuple[Float[np.ndarray, "n 4"], Float[np.ndarray, "n 3"]]:
    """Inputs and targets of `n` samples, by rejection.

    Points of one class are exchangeable, so each accepted point goes to the next sample that
    waits for its class, which is what drawing anew for every sample does.
    """
    labels = rng.integers(3, size=n)
    points = np.empty((n, 2))
    waiting = [np.flatnonzero(labels == c) for c in range(3)]
    while longest := max(map(len, waiting)):
        # The rarest class, the dots, fills 2 π 0.1² = 1/16 of the square.
        candidates = 2 * RADIUS * rng.random((16 * longest, 2))
        inside = np.hypot(*(candidates - RADIUS).T) <= RADIUS
        candidates = candidates[inside]
        classes = region(*candidates.T)
        for c, samples in enumerate(waiting):
            found = candidates[classes == c][: len(samples)]
            points[samples[: len(found)]] = found
            waiting[c] = samples[len(found) :]
    return np.hstack([points, 1 - points]), one_hot(labels, 3)
