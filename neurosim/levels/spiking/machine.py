"""A circuit in Brian2: parallel copies of it, driven from phase to phase."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np

from neurosim.circuits.populations import Group
from neurosim.circuits.variables import came, own
from neurosim.levels.spiking.groups import Groups
from neurosim.levels.spiking.neurons import LONG_BEFORE, Neurons
from neurosim.levels.spiking.runtime import Program, Runtime
from neurosim.levels.spiking.standalone import Standalone
from neurosim.levels.spiking.text import COUNTED, Simulated
from neurosim.networks.circuit import CircuitDynamics, CircuitWeights
from neurosim.networks.network import Network


class Machine:
    """Copies of a circuit that run side by side under the same weights.

    Args:
        dynamics, network: as at the other levels.
        neurons: the spike generators, by population; empty for the equations themselves.
        dt: step (s).
        copies: how many.
        changed: parameters that phases change.
        watched: by group, quantities whose mean over a while is wanted.
        traced: whether those that follow at once are also wanted at any moment, smoothed.
        tau_synapse: of what smooths spikes (s).
        target: `cython`, `numpy`, `standalone`, or `auto`: Cython where there is a compiler.

    Raises:
        InputError: `standalone` without a compiler.
    """

    follow = None

    def __init__(
        self,
        dynamics: CircuitDynamics,
        network: Network,
        neurons: Mapping[str, Neurons],
        dt: float,
        copies: int,
        *,
        changed: frozenset[str] = frozenset(),
        watched: Mapping[Group, tuple[str, ...]] | None = None,
        traced: bool = False,
        tau_synapse: float = 0.0,
        target: str = "auto",
    ) -> None:
        self.circuit, self.neurons, self.dt, self.copies = dynamics.circuit, neurons, dt, copies
        self.watched, self._changed = dict(watched or {}), changed
        of = Simulated(
            dynamics, network, neurons, dt, copies, changed, self.watched, traced, tau_synapse
        )
        made: Any = partial(Groups, of)
        self.brian: Runtime | Standalone = (
            Standalone(made) if target == "standalone" else Runtime(made, target)
        )

    def _spiking(self, group: Group) -> tuple[str, int] | None:
        """Who spikes for a group, by name, and how many for each of its units; None if nobody."""
        place = self.circuit.place(group)
        if group.population in self.neurons:
            return f"cells_{place}", self.neurons[group.population].count
        return None if self.circuit.cell(group).firing is None else (f"units_{place}", 1)

    def run(self, program: Program, steps: int) -> None:
        """Let a program act for so many steps, which must be the sum of what it yields."""
        self.brian.run(program, steps)

    @contextmanager
    def recording(self, copies: int) -> Iterator[dict[str, tuple[np.ndarray, np.ndarray]]]:
        """Runs within record the spikes of some copies: by place, times (s from now), neurons."""
        recorded: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        with self.brian.recording() as spikes:
            yield recorded
        for group in self.circuit.groups:
            who = self._spiking(group)
            if who is None:
                continue
            steps, nodes = spikes[who[0]]
            kept = nodes < copies * self.circuit.size(group) * who[1]
            recorded[self.circuit.place(group)] = steps[kept] * self.dt, nodes[kept]

    # --- acting on it -----------------------------------------------------------------------

    def reseed(self, seed: int) -> None:
        """The spikes to come are drawn from this seed, an integer of 32 bits."""
        self.brian.reseed(seed)

    def rest(self, rng: np.random.Generator | None = None) -> None:
        """Everything at rest; neurons somewhere in their cycle at the base rate."""
        for group in self.circuit.groups:
            for name in self._zeroed(group):
                self._set(group, name, 0)
            for name, value in self.circuit.cell(group).start:
                self._set(group, own(name), value)
            if self.has(group, "lastspike"):
                self._set(group, "lastspike", LONG_BEFORE)
                self._set(group, "not_refractory", 1)
            neurons = self.neurons.get(group.population)
            if neurons is None:
                continue
            if neurons.bursts:
                events = neurons.events_heard.inverse(neurons.base_in_h)
                share = neurons.share_heard.inverse(neurons.base_probability)
                self._set(group, "event_trace", events)
                self._set(group, "burst_trace", neurons.base_in_h * share)
            if neurons.dividing is not None:
                self._set(group, "fast_trace", events)
                at_base = neurons.dividing.heard.inverse(neurons.base_in_h)
                self._set(group, "inhibition", at_base)
            assert rng is not None, "neurons start somewhere in their cycle"
            size = self.copies * self.circuit.size(group) * neurons.count
            for name, values in neurons.start(rng, size, self.brian.step).items():
                self.brian.write(f"cells_{self.circuit.place(group)}", name, values)
            if neurons.dividing is not None:
                dividing = neurons.dividing.neurons
                size = self.copies * self.circuit.size(group) * dividing.count
                for name, values in dividing.start(rng, size, self.brian.step).items():
                    self.brian.write(f"inhibitory_{self.circuit.place(group)}", name, values)

    def _zeroed(self, group: Group) -> list[str]:
        """Variables of a group that a presentation begins without."""
        cell = self.circuit.cell(group)
        watched = self.watched.get(group, ())
        sums = [f"{name}_{kept}" for name in watched for kept in ("sum", "trace")]
        arriving = [
            came(s) for (g, _), all_ in self.circuit.arriving.items() for s in all_ if g == group
        ]
        spikes = [
            "inhibitory_spikes",
            "spikes",
            "events",
            "bursts",
            "spikes_say_smoothly",
            "event_says_smoothly",
        ]
        every = [*map(own, cell.states), *sums, *arriving, *spikes, *COUNTED]
        return [name for name in every if self.has(group, name)]

    def write_weights(self, weights: CircuitWeights) -> None:
        """The weights of all projections, and the biases."""
        for projection in self.circuit.projections:
            if not projection.weighed:
                continue
            for synapses, weight in zip(projection.synapses, weights[projection.name], strict=True):
                if synapses.pre is not None:
                    name = f"{synapses.projection}{synapses.number}"
                    self.brian.write(name, "weight", np.asarray(weight))
        for key, groups in self.circuit.values.items():
            for group, values in zip(groups, weights[key], strict=True):
                self._set(group, own(key.partition(".")[2]), values)
        if self.circuit.biased is not None:
            for synapses, bias in zip(self.circuit.biased.synapses, weights["b"], strict=True):
                if self.has(synapses.post, "bias"):
                    self._set(synapses.post, "bias", bias)

    def drive(self, weights: CircuitWeights, x: np.ndarray) -> None:
        """The input of every copy, shape (copies, n_0), through the weights of its projections."""
        for projection in self.circuit.projections:
            for k, synapses in enumerate(projection.synapses):
                if synapses.pre is not None:
                    continue
                brought = x
                if synapses.weighed:
                    weight = np.asarray(weights[projection.name][k])
                    brought = x @ weight.T if synapses.dense else x * weight
                self._set(synapses.post, came(synapses), brought)

    def teach(self, target: np.ndarray | None) -> None:
        """The target of every copy, shape (copies, n_L); None where nothing is taught."""
        for group in self.circuit.groups:
            if self.has(group, "teach"):
                self._set(group, "teach", target is not None)
            if target is not None and self.has(group, "aim"):
                self._set(group, "aim", target)

    def change(self, parameters: Mapping[str, float]) -> None:
        """The values of the parameters that phases change."""
        for group in self.circuit.groups:
            for key in self._changed:
                name = key.rpartition(".")[2]
                named = self.circuit.parameter(group.population, name) == key
                if named and self.has(group, own(name)):
                    self._set(group, own(name), parameters[key])

    def _set(self, group: Group, name: str, values: Any) -> None:
        """A variable of a group, of shape (copies, n); or of one copy or unit, for all alike."""
        self.brian.write(f"units_{self.circuit.place(group)}", name, np.asarray(values, float))

    # --- looking at it ----------------------------------------------------------------------

    def has(self, group: Group, name: str) -> bool:
        """Whether the units of a group hold such a variable in memory."""
        return self.brian.holds(f"units_{self.circuit.place(group)}", name)

    def state(self, group: Group, name: str) -> np.ndarray | None:
        """A quantity of the cells of a group as it is now; None where none is kept."""
        return self.array(group, own(name)) if self.has(group, own(name)) else None

    def array(self, group: Group, name: str) -> np.ndarray:
        """A variable of the units of a group as it is now, shape (copies, n)."""
        place = self.circuit.place(group)
        return self.brian.read(f"units_{place}", name).reshape(self.copies, -1)

    def tally(self) -> dict[tuple[Group, str], np.ndarray]:
        """What was counted and summed so far."""
        sums = {g: tuple(f"{n}_sum" for n in names) for g, names in self.watched.items()}
        return {
            (group, name): self.array(group, name)
            for group in self.circuit.groups
            for name in (*COUNTED, *sums.get(group, ()))
            if self.has(group, name)
        }
