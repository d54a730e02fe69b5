"""Weights that a run starts from, all of them: those of another run, or of a file."""

import os
import warnings
from os import PathLike
from pathlib import Path
from typing import Any

from neurosim.building.loading import Protocol
from neurosim.circuits.description import Circuit
from neurosim.errors import InputError, NeurosimWarning
from neurosim.models import circuitry
from neurosim.specs import ModelSpec
from neurosim.traces.naming import expanded
from neurosim.traces.weight_files import weights_of


def started(protocol: Protocol, start: str | PathLike[str], seed: int) -> Protocol:
    """The protocol, whose weights start as those of a trace or a file of weights.

    It is the protocol in which every projection (and channel of a credit, and parameter that cells
    differ in) has `init = "file"` and that file, but for those that follow others: its resolved
    text says where the weights come from. What the file does not hold starts as the protocol says,
    with a warning; what it holds and the network has no place for is refused when weights are made.

    start: as `file` of a projection, such as `run.h5`, `run.h5@initial` or `run.h5@12`, meant from
    the working directory. seed: one of those that will run.

    Raises:
        InputError: there is no such file or moment, or nothing in it is of this network.
    """
    file = os.path.abspath(expanded(start))
    held = weights_of(file, Path(), seed)
    model = protocol.spec.model
    made = circuitry.circuit(model)
    changes: dict[str, Any] = {}
    lacking = []
    for what, arrays, change in _places(model, made, file):
        if any(array in held for array in arrays):
            changes |= change
        else:
            lacking.append(what)
    if not changes:
        raise InputError(
            f"{file}: holds {', '.join(held) or 'nothing'}; none of it is of this network, whose "
            f"weights are those of {', '.join(lacking)}"
        )
    for what in lacking:
        warnings.warn(
            f"{file}: holds no weights of {what}, which start as the protocol says",
            NeurosimWarning,
            stacklevel=3,
        )
    return protocol.overridden(changes)


def _places(
    model: ModelSpec, made: Circuit, file: str
) -> list[tuple[str, list[str], dict[str, Any]]]:
    """What starts somewhere, its arrays, and the overrides by which that is a file."""
    found: list[tuple[str, list[str], dict[str, Any]]] = []
    for projection in made.projections:
        if projection.weighed and projection.rule != "tied":
            name = projection.name
            arrays = [f"{name}{synapses.number}" for synapses in projection.synapses]
            found.append((name, arrays, _from(f"model.projections.{name}", file)))
    credit, wires = model.credit, circuitry.channel(model)
    if credit is not None and wires and credit.rule != "tied" and not credit.redrawn:
        name = circuitry.CHANNEL
        found.append((name, [f"{name}{i}" for i, _ in wires], _from("model.credit", file)))
    for key, groups in made.values.items():
        population, _, name = key.partition(".")
        parameter = made.parameter(population, name)
        assert parameter is not None, "only parameters vary"
        cell, _, own = parameter.rpartition(".")
        at = f"model.cells.{cell}.parameters.{own}" if cell else f"model.parameters.{own}"
        given = {f"{at}.mean": None, f"{at}.spread": 0.0, f"{at}.file": file}
        found.append((key, [f"{key}{group.layer}" for group in groups], given))
    return found


def _from(key: str, file: str) -> dict[str, Any]:
    return {f"{key}.init": "file", f"{key}.file": file}
