"""A circuit run as spikes: what its spikes say is what its rules read."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from neurosim.circuits.populations import Group
from neurosim.dynamics.base import Target
from neurosim.dynamics.circuit import CircuitDynamics, Signals
from neurosim.engine import Engine
from neurosim.levels.spiking.circuit_machine import CircuitMachine
from neurosim.levels.spiking.neurons import Neurons
from neurosim.simulator import Phase
from neurosim.spec import SpikingSpec
from neurosim.spiking.engine import SpikingEngine
from neurosim.spiking.signals import taught


class CircuitSpikingEngine(SpikingEngine):
    """A circuit under the phases of one stage of a protocol, as spikes.

    Args: as of a `SpikingEngine`; tau_synapse: of what smooths spikes (s).
    """

    dynamics: CircuitDynamics

    def __init__(
        self,
        rules: Engine,
        neurons: Neurons,
        tau_synapse: float,
        settings: SpikingSpec,
        copies: int,
    ) -> None:
        super().__init__(rules, neurons, 0.0, settings, copies)
        self.tau_synapse, self.circuit = tau_synapse, self.dynamics.circuit
        looked_at = dict.fromkeys((*self.dynamics.looked_at, self.circuit.readout))
        self.looked_at = tuple(looked_at)

    def _made(self, neurons: Neurons) -> CircuitMachine:
        spiking = {p.name: neurons for p in self.circuit.populations if p.carried}
        watched: dict[Group, tuple[str, ...]] = {}
        for group, name in self.looked_at:
            if self._carrier(group, name) is None:
                watched[group] = (*watched.get(group, ()), name)
        return CircuitMachine(
            self.dynamics,
            self.network,
            spiking,
            self.settings.dt,
            self.copies,
            changed=frozenset(name for phase in self.phases for name, _ in phase.changed),
            watched=watched,
            traced=self.rules.online or any(p.teaching == "following" for p in self.phases),
            tau_synapse=self.tau_synapse,
            target=self.settings.target,
        )

    def _carrier(self, group: Group, name: str) -> int | None:
        """Whether spikes (0) or bursts (1) of a group speak of a quantity; None if neither."""
        cell = self.circuit.cell(group)
        carried = self.circuit.population[group.population].carried or ()
        names = [cell.alias(quantity) for quantity in carried]
        return names.index(cell.alias(name)) if cell.alias(name) in names else None

    # --- acting -----------------------------------------------------------------------------

    def _write(self, weights: Any, x: np.ndarray) -> None:
        self.machine.write_weights(weights)
        self.machine.drive(weights, x)

    def _open(self, phase: Phase) -> None:
        """The parameters that some phase changes take the values of this one."""
        values = {name: float(v) for name, v in self.dynamics.parameters.items()}
        self.machine.change(values | dict(phase.changed))

    def _teach(self, phase: Phase, target: Target) -> None:
        if phase.teaching == "none":
            self.machine.teach(None)
            return
        group, name = self.circuit.readout
        top = self.machine.state(group, self.circuit.cell(group).alias(name))
        if top is None and self.machine.has(group, f"{name}_trace"):
            top = self.machine.array(group, f"{name}_trace")
        elif top is None:  # no phase follows it
            top = np.zeros((self.copies, self.network.sizes[-1]))
        self.machine.teach(np.asarray(taught(self.rules, target, top)))

    # --- looking ----------------------------------------------------------------------------

    def _estimates(self, before: Mapping, after: Mapping, steps: int) -> Signals:
        """From counts and sums at two moments, `steps` apart."""
        found = {node: self._mean(before, after, steps, *node) for node in self.looked_at}
        return self._signals(found)

    def _signals(self, found: Mapping[tuple[Group, str], np.ndarray]) -> Signals:
        place = self.circuit.place
        of: Any = {f"{place(group)}.{name}": array for (group, name), array in found.items()}
        answer: Any = found[self.circuit.readout]
        return Signals((answer,), of)

    def _mean(
        self, before: Mapping, after: Mapping, steps: int, group: Group, name: str
    ) -> np.ndarray:
        """Of a quantity over a while: what spikes or bursts say of it, or its own mean."""
        time, neurons = steps * self.settings.dt, self.neurons

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

    def _now(self) -> Signals:
        """From what low-pass filtered spikes say at this moment."""
        return self._signals({node: self._current(*node) for node in self.looked_at})

    def _current(self, group: Group, name: str) -> np.ndarray:
        machine, neurons = self.machine, self.neurons
        carrier = self._carrier(group, name)
        if carrier is None:
            kept = machine.state(group, name)
            return machine.array(group, f"{name}_trace") if kept is None else kept
        if not neurons.bursts:
            return machine.array(group, "spikes_say_smoothly")
        events, bursts = (machine.array(group, f"{kind}_trace") for kind in ("event", "burst"))
        if carrier == 0:
            return events - neurons.base_in_h
        share = bursts / np.maximum(events, 1e-3 * neurons.base_in_h)
        return (share - neurons.base_probability) / neurons.probability_gain

    def _seen(
        self,
        before: Mapping,
        after: Mapping,
        steps: int,
        weights: Any,
        x: np.ndarray,
        target: Target,
    ) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        for group, name in self.circuit.observed:
            kept = self.machine.state(group, name)
            if self._carrier(group, name) is None and kept is not None:
                values = kept
            elif steps:
                values = self._mean(before, after, steps, group, name)
            else:
                values = np.zeros((self.copies, self.circuit.size(group)))
            found.setdefault(self.circuit.place(group), {})[name] = values
        return found

    def _ended(
        self,
        estimates: Signals,
        before: Mapping,
        after: Mapping,
        steps: int,
        weights: Any,
        x: np.ndarray,
        target: Target,
    ) -> dict[str, dict[str, Any]]:
        """What rules read is its mean over the while; other states are as they are now."""
        seen = self._seen(before, after, steps, weights, x, target)
        for group, name in self.circuit.observed:
            if (group, name) in self.looked_at:
                mean = self._mean(before, after, steps, group, name)
                seen[self.circuit.place(group)][name] = mean
        return seen
