"""Groups of cells with the synapses between them."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from neurosim.circuits.lone_cells import LoneCell
from neurosim.circuits.synapses import Synapse
from neurosim.seeds import host_stream


@dataclass(frozen=True)
class Group:
    """Cells of one kind. cell: None of those that are but made to spike. count: in every sweep.
    made_to_spike: whether their spikes are given."""

    cell: LoneCell | None
    count: int
    made_to_spike: bool

    @property
    def spikes(self) -> bool:
        """Whether they can spike at all."""
        return self.made_to_spike or (self.cell is not None and self.cell.cell.firing is not None)


@dataclass(frozen=True)
class WiredCells:
    """All groups and synapses of a protocol, by name."""

    groups: Mapping[str, Group]
    synapses: Mapping[str, Synapse]

    def pairs(self, name: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """The cells, within a sweep, that each synapse of a kind joins: the pre- and the
        postsynaptic ones, the same in every sweep. No cell reaches itself but one to one."""
        synapse = self.synapses[name]
        pre, post = (self.groups[group].count for group in (synapse.pre, synapse.post))
        if synapse.one_to_one:
            return np.arange(pre), np.arange(post)
        joined = np.ones((pre, post), bool)
        if synapse.chance is not None:
            joined = host_stream(seed, f"synapses {name}").random((pre, post)) < synapse.chance
        if synapse.pre == synapse.post:
            np.fill_diagonal(joined, False)
        senders, receivers = np.nonzero(joined)
        return senders, receivers
