"""How far a trace may be from another of the same network."""

from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from neurosim.comparison.sides import Shown, Side

if TYPE_CHECKING:
    from neurosim.comparison.scattering import Scattering


class Place(NamedTuple):
    """What is looked at: some samples (their places) of a layer at the end of a phase."""

    shown: Shown
    layer: int
    phase: int
    samples: np.ndarray


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
        self, place: Place, variable: str, level: np.ndarray, window: float
    ) -> np.ndarray:
        """Of a mean over `window` (s) near `level` (samples, …, units); NaN where no law is known.

        level: of all recorded units.
        """
        if self.quiet:
            return np.zeros_like(level)
        return self._scattering.deviation(place, variable, level, window)
