"""Layers of feature maps, and projections that convolve them.

A layer is a flat vector of units everywhere; `[64, 16, 16]` in place of their number says that they
are 64 maps of 16 × 16, map by map, row by row. A projection with a `kernel` between two such layers
has the same weights at every position.
"""

from collections.abc import Sequence
from typing import NamedTuple


class Maps(int):
    """How many units a layer of feature maps has. shape: maps, rows, columns."""

    shape: tuple[int, int, int]

    def __new__(cls, shape: Sequence[int]) -> "Maps":
        maps, rows, columns = shape
        found = super().__new__(cls, maps * rows * columns)
        found.shape = maps, rows, columns
        return found

    def __repr__(self) -> str:
        return str(list(self.shape))

    def __reduce__(self) -> tuple:
        return Maps, (self.shape,)


class Convolution(NamedTuple):
    """What a projection with a kernel makes of the lower of its layers, or, down, of the upper one.

    Zeros stand around the maps, as many as it takes for an output at each position. pool: the side
    of the windows of which the largest value counts, 1 for none. stride: from one window to the
    next, or, without windows, from one position of the kernel to the next. down: whether it goes
    the other way, from the upper layer to the lower one, by the transpose.

    below, above: maps, rows, columns of the lower and of the upper layer.
    """

    below: tuple[int, int, int]
    above: tuple[int, int, int]
    kernel: int
    pool: int
    stride: int
    down: bool = False

    @property
    def weights(self) -> tuple[int, int, int, int]:
        """Upper maps, lower maps, and the rows and columns of the kernel."""
        return self.above[0], self.below[0], self.kernel, self.kernel

    @property
    def post(self) -> tuple[int, int, int]:
        """The maps that it reaches, each with a bias, if there are some."""
        return self.below if self.down else self.above

    @property
    def misfit(self) -> str | None:
        """What is wrong with the size of the upper layer; None if nothing is."""
        expected = [self.above[0], *(-(-n // self.stride) for n in self.below[1:])]
        if list(self.above) == expected:
            return None
        return (
            f"with stride {self.stride} it makes {expected} of {list(self.below)}, but the layer "
            f"above has {list(self.above)}"
        )
