"""Bars of three orientations in a small image."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from neurosim.tasks import checks
from neurosim.tasks.data import Data, one_hot

HORIZONTAL, VERTICAL, DIAGONAL = range(3)


@dataclass(frozen=True)
class Bars:
    """Every bar of an image of side x side pixels: its rows, its columns and its two diagonals.

    Pixels of the bar are 1, others 0; targets are one-hot: 0 horizontal, 1 vertical, 2 diagonal.
    No linear readout tells rows from columns, since both cover every pixel once. Networks are
    tested on the 2 side + 2 images that they learn: the task asks whether they can be told apart.

    Args:
        side: the length of a bar, at least 2.
    """

    side: int = 3

    summary: ClassVar[str] = "horizontal, vertical and diagonal bars in a small image, 3 classes"
    source: ClassVar[str] = "Haider et al. 2021"
    shared: ClassVar[bool] = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "side", checks.whole("bars: side", self.side, 2))

    @property
    def inputs(self) -> int:
        """The number of pixels."""
        return self.side**2

    @property
    def outputs(self) -> int:
        """3."""
        return 3

    def draw(self, rng: np.random.Generator | None = None) -> Data:
        """All bars; `rng` is ignored."""
        n = self.side
        lines = np.eye(n)[:, :, None] * np.ones(n)  # image k has a row of ones at k
        diagonal = np.eye(n)
        images = np.concatenate([lines, lines.swapaxes(1, 2), [diagonal, diagonal[::-1]]])
        classes = np.repeat([HORIZONTAL, VERTICAL, DIAGONAL], [n, n, 2])
        x, y = images.reshape(len(images), -1), one_hot(classes, self.outputs)
        return Data(x, y, x, y, classes=True)
