"""What a circuit is made of in Brian2: parallel copies of it.

One group of units for the cells of a population in one layer, copy by copy, beneath it one of
neurons where they spike, and one set of synapses for every matrix of weights. Sums are updated in
the order in which what is sent follows what arrives, all before any state moves: circuits whose
quantities follow at once through several populations would else lag behind by a step for each.
"""

from typing import Any

import numpy as np

from neurosim.circuits.cells import SPIKES
from neurosim.circuits.populations import Group, Synapses
from neurosim.circuits.variables import came
from neurosim.levels.spiking.brian import b2
from neurosim.levels.spiking.interneurons import Dividing
from neurosim.levels.spiking.pyramid_cells import group as pyramids
from neurosim.levels.spiking.text import Simulated, Text

LAST = 1 << 20
"""The order of what happens after all sums of a step."""


class Groups:
    """Copies of a circuit, side by side, as objects of Brian2's device of the moment.

    Objects have the same names whenever they are made, so that what is compiled serves again:
    units and neurons by place, synapses by projection and number.
    """

    def __init__(self, of: Simulated) -> None:
        self.circuit, self.copies, self.dt = of.dynamics.circuit, of.copies, of.dt
        self.text = Text(of)
        self.clock = b2.Clock(of.dt * b2.second, name="clock")
        self.units = {group: self._units(group) for group in self.circuit.groups}
        ensembles = [g for g in self.circuit.groups if g.population in of.neurons]
        self._cells = {group: self._neurons(group) for group in ensembles}
        self._told = [self._tell(group) for group in ensembles]
        dividing = {g: who for g in ensembles if (who := self._dividing(g)) is not None}
        self._inhibitory = {g: self._interneurons(g, who) for g, who in dividing.items()}
        self._told += [self._tell_inhibition(g, who) for g, who in dividing.items()]
        order = {
            node: k for k, node in enumerate(self.circuit.ordered(list(self.circuit.arriving)))
        }
        self.synapses = [
            self._project(synapses, order[synapses.post, synapses.received])
            for projection in self.circuit.projections
            for synapses in projection.synapses
            if synapses.pre is not None
        ]

    @property
    def spiking(self) -> list[Any]:
        """Who spikes: groups of neurons, and units that do by themselves."""
        alone = [u for g, u in self.units.items() if self.circuit.cell(g).firing is not None]
        return [*alone, *self._cells.values()]

    @property
    def all(self) -> list[Any]:
        """Every object of the network."""
        groups = *self.units.values(), *self._cells.values(), *self._inhibitory.values()
        return [*groups, *self._told, *self.synapses]

    @property
    def arrays(self) -> dict[tuple[str, str], Any]:
        """Variables that live in memory, by the names of group and variable."""
        found = {
            (group.name, name): variable
            for group in (
                *self.units.values(),
                *self._cells.values(),
                *self._inhibitory.values(),
            )
            for name, variable in group.variables.items()
            if isinstance(variable, b2.core.variables.ArrayVariable)
        }
        weights = {
            (s.name, "weight"): s.variables["weight"]
            for s in self.synapses
            if "weight" in s.variables
        }
        return found | weights

    def _units(self, group: Group) -> Any:
        place, neurons = self.circuit.place(group), self.text.spikes(group)
        called = {"inf": np.inf} if neurons is None else neurons.namespace(b2)
        units = b2.NeuronGroup(
            self.copies * self.circuit.size(group),
            self.text.units(group),
            method="euler",
            clock=self.clock,
            namespace=called,
            name=f"units_{place}",
            **self.text.firing(group),
        )
        units.state_updater.order = LAST
        passing = self._passing(group)
        if passing:  # spikes count for the step after theirs
            units.run_regularly(
                "\n".join(f"{name} = 0" for name in passing),
                when="after_groups",
                clock=self.clock,
                name=f"units_{place}_forget",
            )
        return units

    def _passing(self, group: Group) -> list[str]:
        """What the units of a group know of the spikes of one step, and then forget."""
        neurons = self.text.spikes(group)
        found = [came(s) for s in self.circuit.sending if s.post == group and self._pulsed(s)]
        if neurons is not None:
            more = ["inhibitory_spikes"] if neurons.dividing is not None else []
            return [*found, *more, *(["events", "bursts"] if neurons.bursts else [SPIKES])]
        return [*found, *([SPIKES] if self.circuit.cell(group).firing is not None else [])]

    def _pulsed(self, synapses: Synapses) -> bool:
        """Whether synapses carry the spikes of single neurons, and act at spikes alone."""
        if synapses.pre is None:
            return False
        cell = self.circuit.cell(synapses.pre)
        return cell.firing is not None and cell.alias(synapses.sent) == SPIKES

    def _neurons(self, group: Group) -> Any:
        units, neurons = self.units[group], self.text.spikes(group)
        assert neurons is not None, "only spiking groups have neurons"
        name, count = f"cells_{self.circuit.place(group)}", len(units) * neurons.count
        if neurons.cell is not None:
            cells = pyramids(neurons.cell, count, neurons.limit_steps, self.clock, name)
        else:
            cells = neurons.group(count, self.clock, name, b2)
        cells.state_updater.order = LAST
        unit = np.arange(len(cells)) // neurons.count
        for name in neurons.told:
            setattr(cells, name, b2.linked_var(units, name, index=unit))
        return cells

    def _tell(self, group: Group) -> Any:
        """Every neuron tells its unit of its spikes."""
        cells, units, neurons = self._cells[group], self.units[group], self.text.spikes(group)
        assert neurons is not None, "only spiking groups have neurons"
        told = b2.Synapses(
            cells,
            units,
            on_pre=neurons.on_spike,
            clock=self.clock,
            namespace={},
            name=f"telling_{self.circuit.place(group)}",
        )
        told.connect(i=np.arange(len(cells)), j=np.arange(len(cells)) // neurons.count)
        return told

    def _dividing(self, group: Group) -> Dividing | None:
        neurons = self.text.spikes(group)
        return None if neurons is None else neurons.dividing

    def _interneurons(self, group: Group, dividing: Dividing) -> Any:
        """Who divides what others hear of the bursts of a group."""
        name = f"inhibitory_{self.circuit.place(group)}"
        made = dividing.group(self.units[group], self.clock, name, b2)
        made.state_updater.order = LAST
        return made

    def _tell_inhibition(self, group: Group, dividing: Dividing) -> Any:
        given = self._inhibitory[group], self.units[group], self.clock
        return dividing.tell(*given, f"inhibiting_{self.circuit.place(group)}", b2)

    def _project(self, synapses: Synapses, order: int) -> Any:
        """Synapses within every copy, post-synaptic unit first."""
        assert synapses.pre is not None, "the input is written"
        received, sent = came(synapses), self.text.sent(synapses.pre, synapses.sent)
        carried, pulsed = f"{sent}_pre", self._pulsed(synapses)
        if pulsed:  # of no other than neurons that spiked
            carried = repr(1 / self.dt)
        if synapses.weighed:
            carried = f"weight * {carried}"
        lines = ["weight : 1"] if synapses.weighed else []
        lines += [] if pulsed else [f"{received}_post = {carried} : 1 (summed)"]
        made = b2.Synapses(
            self.units[synapses.pre],
            self.units[synapses.post],
            "\n".join(lines),
            on_pre=f"{received}_post += {carried}" if pulsed else None,
            clock=self.clock,
            namespace={},
            name=f"{synapses.projection}{synapses.number}",
        )
        n_pre, n_post = self.circuit.size(synapses.pre), self.circuit.size(synapses.post)
        copy, q, p = np.meshgrid(
            np.arange(self.copies),
            np.arange(n_post),
            np.arange(n_pre) if synapses.dense else [0],
            indexing="ij",
        )
        made.connect(
            i=(copy * n_pre + (p if synapses.dense else q)).ravel(),
            j=(copy * n_post + q).ravel(),
        )
        if not pulsed:
            made.summed_updaters[f"{received}_post"].order = order
        return made
