"""What a model file says of its circuit, and which names it may give."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from neurosim.circuits.description import FUNCTIONS, SIGNALS
from neurosim.circuits.wires import INPUT

NAME = re.compile(r"[A-Za-z](\w*[A-Za-z_])?", re.ASCII)
"""Of populations, projections and cells; traces put the number of a layer behind them."""

TRACED = ("b", "phase", "duration", "teaching", "unit", "map", "moment", "presentation", "seed")
"""What traces call other things beside projections."""

ATTENUATION, TEACHING = "attenuation", "teaching"
"""What rules may name beside their cells: by how much the teaching of the layer has shrunk on its
way, and the teaching itself where a credit with a channel of its own brings it."""

Key = tuple[str | int, ...]
Wrong = tuple[Key, str]
"""Where in the model, and what."""


class Tables(NamedTuple):
    """What a model file says of its circuit; see `docs/models.md`.

    parameters: those of one cell as `cell.name`. units: the dimensions of those that were written
    with a unit. varied: those of which every cell has its own.
    rules: what a projection may name in place of its own post and pre. taught: names for post,
    which is then this text of `teaching` and of what the transfer function is applied to, `{}`;
    empty where no credit teaches.
    """

    layers: Sequence[int]
    cells: Mapping[str, Any]
    populations: Mapping[str, Any]
    projections: Mapping[str, Any]
    parameters: Mapping[str, float]
    units: Mapping[str, str]
    attenuation: str
    readout: str | None
    cut: str | None
    varied: Sequence[str]
    rules: Sequence[str]
    taught: Mapping[str, str]


def misnamed(tables: Tables) -> Iterator[Wrong]:
    """Names that have a meaning of their own or cannot be names, and tables that are empty."""
    taken = {*FUNCTIONS, *SIGNALS, ATTENUATION, TEACHING, "L", "i", "bias", INPUT}
    for key in tables.parameters:
        *cell, name = key.split(".")
        if name in taken:
            at = ("cells", cell[0], "parameters", name) if cell else ("parameters", name)
            yield at, "has a meaning of its own; use another name"
    owned = {"populations": taken | {"layer"}, "projections": {*TRACED}, "cells": set[str]()}
    for table, meant in owned.items():
        for name in getattr(tables, table):
            if name in meant:
                yield (table, name), "has a meaning of its own; use another name"
            elif not NAME.fullmatch(name):
                message = "expected letters, digits and _, a letter first and no digit last"
                yield (table, name), f"{name!r} cannot be a name; {message}"
    if not tables.populations:
        yield ("populations",), 'missing; expected such as pyramidal = "hidden"'
    if not tables.projections:
        yield ("projections",), "missing; expected such as [projections.W]"
