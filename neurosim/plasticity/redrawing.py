"""Random weights of the learning channel that are new in every presentation."""

from typing import Any

import equinox as eqx
import jax
from jaxtyping import PRNGKeyArray, Scalar

from neurosim.networks.network import Layers, Weights
from neurosim.networks.wirings import random_channel, ways


class Redrawing(eqx.Module):
    """How they are drawn, as `neurosim.networks.wirings.random_channel` has it.

    wiring: of the credit. kind: `random` or `xavier`.
    """

    wiring: str = eqx.field(static=True)
    kind: str = eqx.field(static=True)
    gain: Scalar | float
    sparse: Scalar | float | None
    congruent: bool = eqx.field(static=True)

    def __call__(self, weights: Weights, key: PRNGKeyArray) -> Layers:
        """Q of the shapes they have, under the forward weights of the moment."""
        key, drawn = jax.random.fold_in(key, 0xC4A7), []
        draw: Any = jax.random.normal if self.sparse is None else jax.random.uniform
        for k, (q, way) in enumerate(zip(weights.Q, ways(self.wiring, weights.W), strict=True)):
            numbers = draw(jax.random.fold_in(key, k), q.shape, q.dtype)
            law = self.gain, self.sparse, self.congruent
            drawn.append(random_channel(self.kind, numbers, way, *law))
        return tuple(drawn)
