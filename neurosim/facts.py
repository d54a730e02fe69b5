"""What is known of a model before it is built; of shipped dynamics, without JAX."""

from typing import Any, NamedTuple

from neurosim import circuitry
from neurosim.families import FAMILIES
from neurosim.initialisers import MATRICES
from neurosim.spec import ActivationSpec, ModelSpec


class Cell(NamedTuple):
    """A neuron of a shipped family: its parameters, None where the family has no such."""

    family: str
    mu: float | None
    tau_soma: float | None
    tau_basal: float | None
    tau_apical: float | None


class Facts(NamedTuple):
    """Of the dynamics of a model.

    credits: the kinds of credit assignment it can be used with. compartments: those that have a
    time constant. observed: what can be recorded. attenuation: by how much a teaching signal is
    expected to shrink on its way down to the layers 1 … L. cell: what `theory.relaxation.chain`
    asks for, None for dynamics of a script.
    """

    credits: tuple[str, ...]
    compartments: tuple[str, ...]
    observed: tuple[str, ...]
    attenuation: tuple[float, ...]
    cell: Any


def facts(model: ModelSpec) -> Facts:
    """From the table of families by name; of cells and objects of a script by asking them."""
    layers = range(1, model.depth + 1)
    if model.circuit:
        made = circuitry.circuit(model)
        values = circuitry.parameters(model)
        return Facts(
            ("local",),
            tuple(dict.fromkeys(name for _, name in made.moving)),
            tuple(dict.fromkeys(name for _, name in made.observed)),
            tuple(
                float(made.attenuation(values | {"i": i, "L": model.depth}, MATRICES))
                for i in layers
            ),
            None,
        )
    if isinstance(model.dynamics, str):
        family = FAMILIES[model.dynamics]
        taus = family.compartments.items()
        return Facts(
            family.credits,
            tuple(name for name, tau in taus if getattr(model, tau) is not None),
            tuple(family.observed),
            tuple(float(family.attenuation(model.mu, model.depth + 1 - i)) for i in layers),
            Cell(model.dynamics, model.mu, model.tau_soma, model.tau_basal, model.tau_apical),
        )
    from neurosim import build
    from neurosim.dynamics import DYNAMICS

    given, network = build.dynamics(model), build.network(model)
    return Facts(
        given.credits,
        tuple(given.time_constants),
        given.observed,
        tuple(float(given.attenuation(network, i)) for i in layers),
        given if isinstance(given, tuple(DYNAMICS.values())) else None,
    )


def observed(model: ModelSpec) -> dict[str, dict[str, int]] | None:
    """Every place, the variables that can be recorded there, and of how many units.

    None for dynamics of a script.
    """
    if model.circuit:
        made = circuitry.circuit(model)
        found: dict[str, dict[str, int]] = {}
        for group, name in made.observed:
            found.setdefault(made.place(group), {})[name] = made.size(group)
        return found
    if not isinstance(model.dynamics, str):
        return None
    lacking = FAMILIES[model.dynamics].observed.items()
    return {
        f"layer{i}": {name: n for name, layers in lacking if i <= model.depth - layers}
        for i, n in enumerate(model.layers[1:], start=1)
    }


def invertible(activation: Any) -> bool:
    """Whether a transfer function has an inverse, as all that have a name do."""
    if isinstance(activation, ActivationSpec):
        return True
    return getattr(activation, "domain", None) is not None


def spiking(activation: Any) -> bool:
    """Whether the spiking level can say a transfer function, as it can all that have a name."""
    if isinstance(activation, ActivationSpec):
        return True
    from neurosim import build
    from neurosim.levels.spiking.equations import known

    return known(build.activation(activation))
