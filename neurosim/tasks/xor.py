"""Exclusive or."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from neurosim.tasks.data import Data, one_hot


@dataclass(frozen=True)
class Xor:
    """Whether two inputs differ: the four pairs of -1 and 1; targets are one-hot, 1 where they do.

    No linear readout tells the classes apart, so a hidden layer has to. Networks are tested on the
    four pairs that they learn.
    """

    summary: ClassVar[str] = "exclusive or of two inputs, 2 classes"
    source: ClassVar[str] = "Minsky & Papert 1969"
    shared: ClassVar[bool] = True

    @property
    def inputs(self) -> int:
        """2."""
        return 2

    @property
    def outputs(self) -> int:
        """2."""
        return 2

    def draw(self, rng: np.random.Generator | None = None) -> Data:
        """All four pairs; `rng` is ignored."""
        x = np.array([[a, b] for a in (-1.0, 1.0) for b in (-1.0, 1.0)])
        y = one_hot((x[:, 0] != x[:, 1]).astype(int), self.outputs)
        return Data(x, y, x, y, classes=True)
