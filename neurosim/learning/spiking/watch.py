"""Looks at a presentation of spikes at given steps."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from neurosim.networks.dynamics import Target

if TYPE_CHECKING:
    from neurosim.learning.spiking.engine import SpikingEngine


class Watch:
    """Looks at a presentation at given steps of every phase; lengths: of the phases, in steps."""

    def __init__(
        self, steps: list[list[int]], lengths: list[int], tally: Mapping, samples: int
    ) -> None:
        self.steps, self.lengths, self.samples = steps, lengths, samples
        self._before, self._at = tally, 0
        self._rows: list[list[dict[str, dict[str, Any]]]] = [[] for _ in steps]
        self.ends: list[dict[str, dict[str, Any]]] = []

    def look(
        self, engine: "SpikingEngine", number: int, weights: Any, x: np.ndarray, target: Target
    ) -> None:
        """Append what is seen now to the rows of phase `number`."""
        step = sum(self.lengths[:number]) + self.steps[number][len(self._rows[number])]
        tally = engine.machine.tally()
        counted = self._before, tally, step - self._at if step else 0
        phase = engine.phases[number]
        seen = engine.readings.seen(engine.machine, *counted, weights, x, target, phase)
        self._before, self._at = tally, step
        self._rows[number].append(self._kept(seen))

    def end(self, seen: dict[str, dict[str, Any]]) -> None:
        """A phase is over: keep what plasticity reads of it."""
        self.ends.append(self._kept(seen))

    def _kept(self, seen: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        return jax.tree.map(lambda v: v[: self.samples], seen)

    def traces(self) -> list[dict[str, dict[str, Any]]]:
        """Per phase, place → variable → (samples, times, n)."""
        return [
            jax.tree.map(lambda *moments: np.stack(moments, axis=1), *rows) for rows in self._rows
        ]
