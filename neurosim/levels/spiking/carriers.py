"""What spikes speak of in all that a group sends: there, and only there, the levels differ."""

from collections.abc import Collection

from neurosim.circuits.description import Circuit
from neurosim.circuits.populations import Group, Synapses


class Carriers:
    """Of a circuit in which some populations spike; by name."""

    def __init__(self, circuit: Circuit, spiking: Collection[str]) -> None:
        self.circuit, self._spiking = circuit, frozenset(spiking)

    def carried(self, group: Group) -> tuple[str, ...]:
        """What the spikes of a group speak of: one quantity, or one by events and one by bursts."""
        if group.population not in self._spiking:
            return ()
        return self.circuit.population[group.population].carried or ()

    def replaced(self, group: Group, quantity: str) -> bool:
        """Whether spikes say what a group sends for a quantity."""
        carried = self.carried(group)
        return bool(carried) and bool(self.reach(group, quantity) & set(carried))

    def reach(self, group: Group, quantity: str) -> set[str]:
        """All quantities on the way from what is carried, or from states, to a quantity."""
        cell, carried = self.circuit.cell(group), self.carried(group)
        found, waiting = set(), [quantity]
        while waiting:
            name = waiting.pop()
            found.add(name)
            if name in cell.defined and name not in cell.states and name not in carried:
                waiting += [n for n in cell.right(name).names if n not in found]
        return found

    def sending(self, group: Group) -> list[Synapses]:
        """The synapses that a group reaches others by."""
        return [s for s in self.circuit.sending if s.pre == group]
