"""How far a trace may be from another of the same network."""

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from neurosim.comparison.sides import Shown, Side

if TYPE_CHECKING:
    from neurosim.comparison.scattering import Scattering


class Expectation:
    """Of one side: the standard deviation of everything it recorded, where a law is known."""

    def __init__(self, side: Side) -> None:
        self.side = side

    @property
    def quiet(self) -> bool:
        """Whether nothing scatters: neither spikes nor noise."""
        return not (self.side.spikes or (self.side.level == "rate" and self.side.noisy))

    @cached_property
    def _scattering(self) -> "Scattering":
        """Imported where something scatters: the theory takes longer than all else."""
        from neurosim.comparison.scattering import Scattering

        return Scattering(self.side)

    def deviation(
        self, shown: Shown, layer: int, variable: str, phase: int, level: np.ndarray, window: float
    ) -> np.ndarray:
        """Of a mean over `window` (s) near `level` (…, units); NaN where no law is known."""
        if self.quiet:
            return np.zeros_like(level)
        return self._scattering.deviation(shown, layer, variable, phase, level, window)
