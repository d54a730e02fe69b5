"""Cells of a model file, read and checked: the neurons of the hidden layers and of the output."""

from collections.abc import Iterator, Mapping
from typing import Any

from neurosim.circuits.cells import Cell
from neurosim.circuits.expressions import Expression, ExpressionError, parse
from neurosim.errors import unknown

PLACES = ("pyramidal", "output")
"""The cells of a layered network: of its hidden layers, and of the topmost."""

INPUTS = ("forward", "feedback", "bias")
"""What reaches every cell; the output also has its `target`."""

FUNCTIONS = ("s", "slope", "t")
"""What a cell may call beside elementary functions: the transfer function of its layer, its
derivative, and what decodes apical potentials."""

ROLES = ("basal", "f", "g", "up", "down", "teacher")
"""What every cell says of itself; those of hidden layers also `apical`."""


def cells(described: Mapping[str, Any]) -> tuple[Cell, Cell]:
    """The hidden and the output cell of checked descriptions, without what nobody needs."""
    hidden, output = (_read(described, place) for place in PLACES)
    return hidden.restricted((*ROLES, "apical")), output.restricted(ROLES)


def attenuation(text: str) -> Expression:
    """The expression in layer i, depth L and the parameters."""
    return parse(text)


def problems(
    described: Mapping[str, Any], parameters: Mapping[str, float], decay: str
) -> Iterator[tuple[tuple[str, ...], str]]:
    """What is wrong with the cells of a model, each with the key it stands at."""
    wrong = [name for name in described if name not in PLACES]
    for name in wrong:
        yield ("cells", name), unknown("cell", name, PLACES)
    missing = [place for place in PLACES if place not in described]
    for place in missing:
        yield ("cells",), f"{place} is missing; expected cells.pyramidal and cells.output"
    taken = {*INPUTS, *FUNCTIONS, "target", "L", "i"}
    for name in parameters:
        if name in taken:
            yield ("parameters", name), "has a meaning of its own; use another name"
    if wrong or missing:
        return
    said: set[str] = set()
    for place in PLACES:
        given = [*INPUTS, *parameters, *(["target"] if place == "output" else [])]
        wanted = (*ROLES, "apical") if place == "pyramidal" else ROLES
        like = described[place].like
        if like is not None and (like not in described or described[like].like is not None):
            others = [name for name in described if described[name].like is None and name != place]
            said.add(unknown("cell", like, others))
            yield ("cells", place, "like"), unknown("cell", like, others)
            continue
        try:
            cell = _read(described, place)
            cell.check(given, wanted)
            hidden_only = set(cell.restricted(wanted).states) - set(
                _read(described, "pyramidal").states
            )
            if hidden_only:
                raise ExpressionError(
                    f"compartments {sorted(hidden_only)} of the output alone; give them to the "
                    "pyramidal cell too"
                )
        except ExpressionError as error:
            if str(error) not in said:  # the output often takes over the lines of the other
                yield ("cells", place, "equations"), str(error)
            said.add(str(error))
    if not said:
        yield from _loops(*cells(described))
    try:
        names = attenuation(decay).names - {"i", "L"} - set(parameters)
        for name in sorted(names):
            yield ("attenuation",), unknown("name", name, ["i", "L", *parameters])
    except ExpressionError as error:
        yield ("attenuation",), str(error)


def _loops(hidden: Cell, output: Cell) -> Iterator[tuple[tuple[str, ...], str]]:
    """Quantities of several layers that follow each other at once in a circle."""
    cure = "give one of them a time constant: dname/dt = (... - name)/tau"
    if "target" in output.at_once("up"):
        message = f"an algebraic loop: up takes target, which may be up itself; {cure}"
        yield ("cells", "output", "equations"), message
    downward = hidden.at_once("down") | output.at_once("down")
    if "target" in downward:
        downward |= output.at_once("up")
    if "forward" in downward and "feedback" in hidden.at_once("up"):
        message = f"an algebraic loop: up takes feedback at once, and down takes forward; {cure}"
        yield ("cells", "pyramidal", "equations"), message


DENDRITES = {"basal": "forward", "apical": "feedback"}
"""Potentials, and what alone may reach a spiking neuron through each."""


def sent(cell: Cell) -> str:
    """The compartment whose activity is sent either way, as the rate of spikes says it.

    Raises:
        ExpressionError: there is no such compartment.
    """
    up, down = (cell.right(name).text for name in ("up", "down"))
    if up != down or up not in cell.states:
        raise ExpressionError(
            f"up = {up} and down = {down}: spikes send one compartment both ways; expected the "
            f"same of {', '.join(cell.states)} for both, or run it with --level rate"
        )
    return up


def spiking_problems(described: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], str]]:
    """What keeps sound cells from being spiking neurons, each with the key it stands at."""
    for place, cell in zip(PLACES, cells(described), strict=True):
        where = "cells", place, "equations"
        try:
            known = {*DENDRITES, sent(cell)}
        except ExpressionError as error:
            yield where, str(error)
            continue
        for name in set(cell.states) - known:
            yield where, f"the spiking level has no compartment {name!r} beside {sorted(known)}"
        for equation in cell.equations:
            for dendrite, source in DENDRITES.items():
                if source in equation.right.names and equation.name != dendrite:
                    yield where, f"{equation.name} takes {source}, which reaches {dendrite} alone"
            if "slope" in equation.right.functions:
                yield where, f"{equation.name} takes slope, which the spiking level does not know"


def _read(described: Mapping[str, Any], place: str) -> Cell:
    given = described[place]
    like = None if given.like is None else _read(described, given.like)
    return Cell.read(given.equations, FUNCTIONS, like)
