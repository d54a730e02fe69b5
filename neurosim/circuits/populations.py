"""Populations and projections of a circuit, with their layers, sizes and synapses."""

from dataclasses import dataclass
from typing import Any, NamedTuple

from neurosim.circuits.cells import Cell
from neurosim.circuits.expressions import Expression
from neurosim.circuits.maps import Convolution
from neurosim.circuits.wires import Wire

UNPROBED = ("fixed", "tied")
"""Rules by name that look at no activity."""


class Group(NamedTuple):
    """The cells of a population in one layer."""

    population: str
    layer: int


@dataclass(frozen=True)
class Population:
    """Cells of one kind, in every layer they stand in.

    sizes: how many, layer by layer. mirrors: how far above its own the layer is whose transfer
    function the cells have; 1 where there is one for every unit of the layer above. carried: what
    spikes speak of: one quantity, or one by events and one by bursts, none of cells without spikes;
    None where the model does not say and it cannot be told.
    """

    name: str
    cell: Cell
    layers: tuple[int, ...]
    sizes: tuple[int, ...]
    mirrors: int
    carried: tuple[str, ...] | None

    def size(self, layer: int) -> int:
        """How many cells stand in a layer."""
        return self.sizes[self.layers.index(layer)]

    def carrier(self, name: str) -> int | None:
        """Which of what is carried speaks of a quantity; None if spikes say nothing of it."""
        carried = [self.cell.alias(quantity) for quantity in self.carried or ()]
        own = self.cell.alias(name)
        return carried.index(own) if own in carried else None


class Synapses(NamedTuple):
    """What one population of one layer receives from another: at `received` what `sent` says.

    number: of the weights, i of the wire. pre: None for the input. dense: whether all units of the
    one reach all of the other. weighed: whether they have weights; else the quantity itself comes.
    convolution: of units that share weights; None of others.
    """

    projection: str
    number: int
    pre: Group | None
    sent: str
    post: Group
    received: str
    dense: bool
    weighed: bool
    convolution: Convolution | None = None

    @property
    def descends(self) -> bool:
        """Whether they carry something from a layer above."""
        return self.pre is not None and self.pre.layer > self.post.layer


class Remembered(NamedTuple):
    """A quantity as it was at the end of an earlier phase, `soma_free` in a rule."""

    quantity: str
    phase: str


@dataclass(frozen=True)
class Projection:
    """Synapses of one kind, and what they learn from.

    post, pre: expressions over the cell on either side, whose product is the change; None where
    they do not learn, or by a named rule. rule: that name, `fixed` without any, or a rule of a
    script. bias: whether the post-synaptic cells have a bias that learns as these synapses do.
    remembered: by name, what `post` and `pre` name of earlier phases.
    """

    name: str
    wire: Wire
    synapses: tuple[Synapses, ...]
    bias: bool
    post: Expression | None
    pre: Expression | None
    rule: Any
    remembered: tuple[tuple[str, Remembered], ...]

    @property
    def learns(self) -> bool:
        """Whether it has a rule."""
        return self.post is not None or self.rule != "fixed"

    @property
    def probed(self) -> bool:
        """Whether a rule by name sends noise through it."""
        return self.post is None and isinstance(self.rule, str) and self.rule not in UNPROBED

    @property
    def descends(self) -> bool:
        """Whether it carries something from a layer above."""
        return self.synapses[0].descends

    @property
    def weighed(self) -> bool:
        """Whether its synapses have weights."""
        return self.synapses[0].weighed
