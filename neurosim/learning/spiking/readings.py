"""What the spikes of a network say: to the rules, which read a while of it, and to who looks on."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from neurosim.circuits.populations import Group
from neurosim.circuits.variables import own
from neurosim.learning.engine import Engine
from neurosim.learning.spiking.signals import look
from neurosim.levels.simulator import Phase
from neurosim.levels.spiking.copies import Copies
from neurosim.levels.spiking.neurons import Neurons
from neurosim.networks.circuit import Signals
from neurosim.networks.dynamics import Target

Node = tuple[Group, str]
"""A quantity of a group."""


class Readings:
    """What is read of the network under the rules of an engine.

    Args:
        rules: whose equations say what follows from what is measured.
        neurons: behind every unit.
        dt: step (s).
        copies: samples that run side by side.
    """

    def __init__(self, rules: Engine, neurons: Neurons, dt: float, copies: int) -> None:
        self.rules, self.neurons, self.dt, self.copies = rules, neurons, dt, copies
        self.circuit = rules.dynamics.circuit
        looked_at = dict.fromkeys((*rules.dynamics.looked_at, self.circuit.readout))
        self.looked_at = tuple(looked_at)
        self._measures = tuple(n for n in self.circuit.observed if self._measured(*n))

    @property
    def watched(self) -> dict[Group, tuple[str, ...]]:
        """By group, the quantities whose mean over a while is wanted and no spikes say."""
        found: dict[Group, tuple[str, ...]] = {}
        for group, name in dict.fromkeys((*self.looked_at, *self._measures)):
            if self._carrier(group, name) is None:
                found[group] = (*found.get(group, ()), name)
        return found

    def _carrier(self, group: Group, name: str) -> int | None:
        """Whether spikes (0) or bursts (1) of a group speak of a quantity; None if neither."""
        return self.circuit.population[group.population].carrier(name)

    def _measured(self, group: Group, name: str) -> bool:
        """Whether the simulation says what a quantity is; of such the others follow."""
        return self._carrier(group, name) is not None or self.circuit.measured(group, name)

    # --- what rules read --------------------------------------------------------------------

    def estimates(self, before: Mapping, after: Mapping, steps: int) -> Signals:
        """From counts and sums at two moments, `steps` apart."""
        return self._signals({n: self._mean(before, after, steps, *n) for n in self.looked_at})

    def now(self, machine: Copies) -> Signals:
        """From what low-pass filtered spikes say at this moment."""
        return self._signals({node: self._current(machine, *node) for node in self.looked_at})

    def _signals(self, found: Mapping[Node, np.ndarray]) -> Signals:
        place = self.circuit.place
        of: Any = {f"{place(group)}.{name}": array for (group, name), array in found.items()}
        answer: Any = found[self.circuit.readout]
        return Signals((answer,), of)

    def _mean(
        self, before: Mapping, after: Mapping, steps: int, group: Group, name: str
    ) -> np.ndarray:
        """Of a quantity over a while: what spikes or bursts say of it, or its own mean."""
        time, neurons = steps * self.dt, self.neurons

        def over(variable: str) -> np.ndarray:
            return after[group, variable] - before[group, variable]

        carrier = self._carrier(group, name)
        if carrier is None:
            return over(f"{name}_sum") / time
        if carrier == 1:
            events, base = over("event_count"), neurons.base_probability
            fraction = np.divide(
                over("burst_count"), events, out=np.full_like(events, base), where=events > 0
            )
            return (fraction - base) / neurons.probability_gain
        count = over("event_count" if neurons.bursts else "spike_count")
        return (count / (neurons.count * time) - neurons.base_rate) / neurons.gain

    def _current(self, machine: Copies, group: Group, name: str) -> np.ndarray:
        neurons, carrier = self.neurons, self._carrier(group, name)
        if carrier is None:
            kept = machine.state(group, name)
            return machine.array(group, f"{name}_trace") if kept is None else kept
        if not neurons.bursts:
            return machine.array(group, "spikes_say_smoothly")
        events, bursts = (machine.array(group, f"{kind}_trace") for kind in ("event", "burst"))
        events = neurons.events_heard(events)
        if carrier == 0:
            return events - neurons.base_in_h
        share = neurons.share_heard(bursts / np.maximum(events, neurons.least_heard))
        return (share - neurons.base_probability) / neurons.probability_gain

    def top(self, machine: Copies) -> np.ndarray:
        """What the teacher sees of the output layer at this moment."""
        group, name = self.circuit.readout
        found = machine.state(group, self.circuit.cell(group).alias(name))
        if found is not None:
            return found
        if machine.has(group, f"{name}_trace"):
            return machine.array(group, f"{name}_trace")
        return np.zeros((self.copies, self.circuit.size(group)))  # no phase follows it

    # --- what is recorded -------------------------------------------------------------------

    def seen(
        self,
        machine: Copies,
        before: Mapping,
        after: Mapping,
        steps: int,
        weights: Any,
        x: np.ndarray,
        target: Target,
        phase: Phase,
    ) -> dict[str, dict[str, Any]]:
        """States as they are now; what spikes say and what comes in as means over a while.

        Of these the rest follows.
        """
        known = {}
        for group, name in self._measures:
            if name in self.circuit.cell(group).states and self._carrier(group, name) is None:
                values = machine.array(group, own(name))
            elif steps:
                values = self._mean(before, after, steps, group, name)
            else:
                values = np.zeros((self.copies, self.circuit.size(group)))
            known[group, name] = values
        return look(self.rules, phase, weights, x, target, known)

    def ended(
        self,
        before: Mapping,
        after: Mapping,
        steps: int,
        weights: Any,
        x: np.ndarray,
        target: Target,
        phase: Phase,
    ) -> dict[str, dict[str, Any]]:
        """Means over the while: what rules read, states and what comes in; the rest follows."""
        nodes = dict.fromkeys((*self.looked_at, *self._measures))
        known = {node: self._mean(before, after, steps, *node) for node in nodes}
        return look(self.rules, phase, weights, x, target, known)
