"""What recorded variables mean, as traces say it."""

from neurosim.circuits.cells import SPIKES
from neurosim.models import circuitry
from neurosim.specs import ModelSpec

SAID = {
    "soma": "what the soma sends upwards, h",
    "rate": "what the neuron sends upwards, h",
    "event_rate": "what events say, h, as a deviation from the base rate",
    "burst_signal": "what bursts say, as a deviation from the base probability",
}
"""Of recorded variables that neurons send."""

MEANINGS = SAID | {
    "basal": "basal potential, a",
    "apical": "apical potential",
    "basal_rate": "rate that the basal dendrite predicts, f = s(a)",
    "apical_rate": "rate that the apical dendrite calls for, g; of the output layer the target",
}
"""Of recorded variables, in whatever family; others, of cells of one's own, have their equation."""


def described(model: ModelSpec) -> dict[tuple[str, str], tuple[str, dict[str, str]]]:
    """Of every quantity of a model, by place and name, what it is, and its attributes.

    Attribute `sent`, of what the cells send or answer: `up` or `down`, by the spikes (or events) or
    the bursts that carry it, else `graded`.
    """
    made, found = circuitry.circuit(model), {}
    for group, name in made.observed:
        cell, population = made.cell(group), made.population[group.population]
        carried = [cell.alias(quantity) for quantity in population.carried or ()]
        ways = dict.fromkeys(made.activity(group), "graded")
        ways |= dict(zip(carried, ("up", "down"), strict=False))
        left = f"d{name}/dt" if name in cell.states else name
        meaning = f"{left} = {cell.right(name).text}"
        if name in ways or name not in SAID:
            meaning = MEANINGS.get(name, meaning)
        if cell.firing is not None and name == SPIKES:
            meaning = "spikes of the neuron a second, in Hz"
        about = {"sent": ways[name]} if name in ways else {}
        found[made.place(group), name] = meaning, about
    return found
