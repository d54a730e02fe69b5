"""A protocol made ready to be advanced by hand, epoch by epoch."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from neurosim.building import assembly
from neurosim.building.loading import Protocol, load_protocol
from neurosim.levels.simulator import RunState
from neurosim.runs.instants import phase_times
from neurosim.runs.launch import prepare
from neurosim.seeds import device_stream


class Bench:
    """The engine of a protocol's first stage with all it is called with; one state a seed.

    Everything is made in the precision that is on at the time.
    """

    def __init__(self, protocol: Protocol, seeds: list[int]) -> None:
        spec = protocol.spec
        self.samples, drawn = prepare(protocol, seeds)
        self.batches = self.samples.size // spec.batch
        stage = spec.stages[0]
        self.engine = assembly.engine(spec, stage, (stage.epochs or 1) * self.batches)
        self.weights = assembly.stack(
            [
                assembly.weights(spec.model, seed, data, protocol.folder)
                for seed, data in zip(seeds, drawn, strict=True)
            ]
        )
        self.states: RunState = self.engine.begin(self.weights, 0)
        self.keys = jnp.stack([device_stream(seed, "noise") for seed in seeds])
        n = self.batches * spec.batch
        order = jax.random.permutation(jax.random.key(0), self.samples.size)[:n]
        self.orders = jnp.stack([order.reshape(self.batches, spec.batch)] * len(seeds))
        self.times = phase_times(spec, spec.stages[0].phases)

    def advance_arguments(self, count: int) -> tuple:
        """What `Engine.advance` takes for the first `count` presentations of an epoch."""
        bounds = (jnp.int32(0), jnp.int32(count), jnp.int32(0))
        data = (self.samples.train, self.samples.axis)
        return (self.states, *data, self.orders, self.keys, *bounds)

    def presenting(self, count: int) -> Callable[[], tuple]:
        """What runs so many presentations from the present states; it leaves them as they are."""
        arguments = self.advance_arguments(count)
        return lambda: self.engine.advance(*arguments)

    def epoch(self) -> Callable[[], tuple]:
        """The same of one epoch."""
        return self.presenting(self.batches)

    def metrics(self, done: tuple, count: int) -> dict[str, np.ndarray]:
        """What `presenting` measured of its presentations, (seed, count, ...)."""
        found = done[1]._asdict()
        return {n: np.asarray(a)[:, :count] for n, a in found.items() if n != "signals"}

    def learn(self, epochs: int) -> None:
        """Move the states on by so many epochs."""
        for _ in range(epochs):
            self.states = self.epoch()()[0]


def protocol(name: str, changes: Mapping[str, Any] | None = None) -> Protocol:
    """A shipped protocol with changes by dotted key."""
    return load_protocol(name, dict(changes or {}))
