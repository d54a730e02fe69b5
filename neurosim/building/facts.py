"""What is known of a model before it is built, without JAX."""

from typing import Any, NamedTuple

from neurosim.circuits.cells import NOISE
from neurosim.models import circuitry, parameters
from neurosim.models.initialisers import MATRICES
from neurosim.specs import SINGULAR, ActivationSpec, ModelSpec


class Facts(NamedTuple):
    """Of the circuit of a model.

    observed: what can be recorded. attenuation: by how much a teaching signal is expected to shrink
    on its way down to the layers 1 … L.
    """

    observed: tuple[str, ...]
    attenuation: tuple[float, ...]


def facts(model: ModelSpec) -> Facts:
    """From the text of a model."""
    made, values = circuitry.circuit(model), parameters.values(model)
    layers = range(1, model.depth + 1)
    return Facts(
        tuple(dict.fromkeys(name for _, name in made.observed)),
        tuple(
            float(made.attenuation(values | {"i": i, "L": model.depth}, MATRICES)) for i in layers
        ),
    )


def observed(model: ModelSpec) -> dict[str, dict[str, int]]:
    """Every place, the variables that can be recorded there, and of how many units."""
    made = circuitry.circuit(model)
    found: dict[str, dict[str, int]] = {}
    for group, name in made.observed:
        found.setdefault(made.place(group), {})[name] = made.size(group)
    return found


def noise(model: ModelSpec) -> list[tuple[str, ...]]:
    """The keys that make a model noisy: its table of deviations, and equations that name `xi`."""
    made = circuitry.circuit(model)
    written = [
        ("model", "cells", model.populations[group.population].cell or group.population)
        for group, name in made.moving
        if NOISE in made.cell(group).right(name).names
    ]
    table = [("model", "noise")] if any(model.noise.values()) else []
    return [*table, *((*cell, "equations") for cell in dict.fromkeys(written))]


def invertible(activation: Any) -> bool:
    """Whether a transfer function has an inverse."""
    if isinstance(activation, ActivationSpec):
        return activation.name not in SINGULAR
    return getattr(activation, "domain", None) is not None


def spiking(activation: Any) -> bool:
    """Whether the spiking level can say a transfer function, as it can all that have a name."""
    if isinstance(activation, ActivationSpec):
        return True
    from neurosim.building import assembly
    from neurosim.levels.spiking.transfer import known

    return known(assembly.activation(activation))
