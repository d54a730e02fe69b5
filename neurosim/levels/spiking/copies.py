"""What every engine of the spiking level is to who drives it: copies of a circuit, side by side."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol, runtime_checkable

import numpy as np

from neurosim.circuits.populations import Group
from neurosim.networks.circuit import CircuitWeights
from neurosim.networks.dynamics import Target


@runtime_checkable
class Copies(Protocol):
    """`Machine` of Brian2, which says what each call means, and `Scan` of JAX."""

    @property
    def follow(self) -> Callable[[Target], None] | None:
        """Gives every copy a target that follows its output step by step.

        None where it must be taught so from outside, before every step.
        """

    def run(self, program: Iterator[int], steps: int) -> None: ...
    def recording(
        self, copies: int
    ) -> AbstractContextManager[dict[str, tuple[np.ndarray, np.ndarray]]]: ...

    def reseed(self, seed: int) -> None: ...
    def rest(self, rng: np.random.Generator | None = None) -> None: ...
    def write_weights(self, weights: CircuitWeights) -> None: ...
    def drive(self, weights: CircuitWeights, x: np.ndarray) -> None: ...
    def teach(self, target: np.ndarray | None) -> None: ...
    def change(self, parameters: Mapping[str, float]) -> None: ...

    def has(self, group: Group, name: str) -> bool: ...
    def state(self, group: Group, name: str) -> np.ndarray | None: ...
    def array(self, group: Group, name: str) -> np.ndarray: ...
    def tally(self) -> dict[tuple[Group, str], Any]: ...
