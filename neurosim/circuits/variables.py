"""What the quantities of a cell are called in Brian2, and what stands there beside them."""

from collections.abc import Iterator

from neurosim.circuits.description import Circuit
from neurosim.circuits.populations import Population, Synapses

TAKEN = frozenset(
    {"aim", "drive", "event_rate", "burst_probability", "spikes", "spike_count", "events", "bursts"}
    | {"event_count", "burst_count", "event_trace", "burst_trace", "weight", "inf", "fi_current"}
    | {"spikes_say", "event_says", "burst_says", "spikes_say_smoothly", "event_says_smoothly"}
)
"""Names of what stands beside a cell: a fixed target, spike generators and what they say."""


def own(name: str) -> str:
    """What a quantity of a cell is called in Brian2: by its name, unless that is taken."""
    return f"{name}_of_cell" if name in TAKEN else name


def came(synapses: Synapses) -> str:
    """The variable of the post-synaptic cells in which what synapses bring is summed."""
    return f"{synapses.received}_of_{synapses.projection}"


def clashes(circuit: Circuit, population: Population) -> Iterator[str]:
    """Of every name of a cell that is needed for something else, what that is."""
    cell = population.cell
    names = {*cell.defined, *cell.names}
    beside = dict(_beside(circuit, population, names))
    for name in sorted(names & beside.keys()):
        yield f"{name!r} is the name of {beside[name]} in Brian2; use another name"


def _beside(circuit: Circuit, population: Population, names: set[str]) -> Iterator[tuple[str, str]]:
    """Names that may stand beside those of a cell, and of what they are."""
    cell, spikes = population.cell, population.carried != ()
    carried = {cell.alias(name) for name in population.carried or ()}
    for name in names:
        if name in TAKEN:
            yield own(name), f"{name} itself"
        if circuit.parameter(population.name, name) is not None:
            continue
        if cell.alias(name) not in carried:
            yield f"{name}_sum", f"the sum of {name} over time"
        if cell.alias(name) not in carried and name not in cell.states:
            yield f"{name}_trace", f"{name} as synapses smooth it"
        if name in cell.states:
            yield f"xi_{name}", f"the noise of {name}"
    for synapses in circuit.sending:
        if synapses.post.population == population.name:
            yield came(synapses), f"what {synapses.projection} brings"
        if spikes and synapses.pre is not None and synapses.pre.population == population.name:
            yield f"{synapses.sent}_sent", f"{synapses.sent} as spikes say it"
