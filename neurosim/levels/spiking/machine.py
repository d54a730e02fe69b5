"""A layered network in Brian2: parallel copies of it, driven from phase to phase.

Weights, inputs and targets are written in place while it runs. Without neurons it integrates the
rate equations themselves.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np

from neurosim.dynamics.base import Dynamics
from neurosim.levels.spiking.groups import Groups
from neurosim.levels.spiking.neurons import Neurons
from neurosim.levels.spiking.runtime import Program, Runtime
from neurosim.levels.spiking.standalone import Standalone
from neurosim.network import Network, Weights


class Machine:
    """Copies of a network that run side by side under the same weights.

    Args:
        dynamics, network: as at the other levels.
        neurons: the spike generators; None for the rate equations themselves.
        dt: step (s).
        copies: how many.
        leak: conductance of the somatic leak over that of both dendrites.
        target: `cython`, `numpy`, `standalone`, or `auto`: Cython where there is a compiler.

    Raises:
        InputError: `standalone` without a compiler.
    """

    def __init__(
        self,
        dynamics: Dynamics,
        network: Network,
        neurons: Neurons | None,
        dt: float,
        copies: int,
        leak: float = 0.0,
        target: str = "auto",
    ) -> None:
        self.network, self.neurons, self.dt, self.copies = network, neurons, dt, copies
        made = partial(Groups, dynamics, network, neurons, dt, copies, leak)
        self.brian: Runtime | Standalone = (
            Standalone(made) if target == "standalone" else Runtime(made, target)
        )

    def run(self, program: Program, steps: int) -> None:
        """Let a program act for so many steps, which must be the sum of what it yields."""
        self.brian.run(program, steps)

    @contextmanager
    def recording(self, copies: int) -> Iterator[dict[str, tuple[np.ndarray, np.ndarray]]]:
        """Runs within record the spikes of some copies: by place, times (s from now), neurons."""
        recorded: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        with self.brian.recording() as spikes:
            yield recorded
        sizes = enumerate(self.network.sizes[1:], start=1)
        for (i, n), (steps, nodes) in zip(sizes, spikes, strict=True):
            assert self.neurons is not None
            kept = nodes < copies * n * self.neurons.count
            recorded[f"layer{i}"] = steps[kept] * self.dt, nodes[kept]

    # --- acting on it -----------------------------------------------------------------------

    def reseed(self, seed: int) -> None:
        """The spikes to come are drawn from this seed, an integer of 32 bits."""
        self.brian.reseed(seed)

    def rest(self, rng: np.random.Generator | None = None) -> None:
        """Everything at rest; neurons somewhere in their cycle at the base rate."""
        for i in range(1, self.network.depth + 1):
            for name in (*RESTING, *COUNTED):
                if self.has(i, name):
                    self._set(i, name, 0)
            if self.has(i, "event_trace"):
                assert self.neurons is not None
                base, probability = self.neurons.base_in_h, self.neurons.base_probability
                self._set(i, "event_trace", base)
                self._set(i, "burst_trace", base * probability)
        if self.neurons is not None:
            assert rng is not None, "neurons start somewhere in their cycle"
            for i, n in enumerate(self.network.sizes[1:], start=1):
                size = self.copies * n * self.neurons.count
                for name, values in self.neurons.start(rng, size, self.brian.step).items():
                    self.brian.write(f"cells{i}", name, values)

    def write_weights(self, weights: Weights) -> None:
        """The weights and biases of all layers."""
        for i, w in enumerate(weights.W[1:], start=1):
            self.brian.write(f"up{i}", "weight", np.asarray(w))
        for i, q in enumerate(weights.Q, start=2):
            self.brian.write(f"down{i}", "weight", np.asarray(q))
        for i, b in enumerate(weights.b, start=1):
            self._set(i, "bias", b)

    def drive(self, basal: np.ndarray) -> None:
        """The input of every copy as W_1 x, shape (copies, n_1)."""
        self._set(1, "basal_in", basal)

    def teach(self, target: np.ndarray | None) -> None:
        """h_L^trgt of every copy, shape (copies, n_L); None for the short-circuit h_L."""
        top = self.network.depth
        self._set(top, "taught", target is not None)
        if target is not None:
            self._set(top, "target", target)

    def _set(self, i: int, name: str, values: Any) -> None:
        """A variable of layer i, of shape (copies, n_i); or of one copy or unit, for all alike."""
        self.brian.write(f"units{i}", name, np.asarray(values, float))

    # --- looking at it ----------------------------------------------------------------------

    def has(self, i: int, name: str) -> bool:
        """Whether the units of layer i hold such a variable in memory."""
        return self.brian.holds(f"units{i}", name)

    def array(self, i: int, name: str) -> np.ndarray:
        """A variable of the units of layer i as it is now, shape (copies, n_i)."""
        return self.brian.read(f"units{i}", name).reshape(self.copies, -1)

    def apical(self, i: int) -> np.ndarray:
        """The apical potential of layer i, shape (copies, n_i)."""
        if self.has(i, "apical"):
            return self.array(i, "apical")
        noise = self.array(i, "apical_noise") if self.has(i, "apical_noise") else 0.0
        return self.array(i, "apical_in") + noise

    def tally(self) -> dict[str, list[np.ndarray | None]]:
        """What was counted and summed so far, by layer; None where a layer has no such thing."""
        layers = range(1, self.network.depth + 1)
        return {
            name: [self.array(i, name) if self.has(i, name) else None for i in layers]
            for name in COUNTED
        }


RESTING = (
    *("basal", "apical", "soma", "felt", "basal_in", "apical_in", "apical_noise"),
    *("spikes", "events", "bursts"),
)
COUNTED = ("spike_count", "event_count", "burst_count", "basal_sum", "apical_sum")
