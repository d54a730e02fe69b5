"""Wires: which quantity of which population reaches which input of which other, layer by layer.

    up[i-1] -> forward[i]                    dense weights, from every layer to the next
    interneuron.rate[i] -> apical[i]         the population by name, where several would fit
    controller.u[L] -> feedback[i]           broadcast to all layers
    soma[i+1] => interneuron.nudge[i]        one to one

Layer 0 is the input, L the output; i runs over all layers where both ends stand.
"""

import re
from typing import NamedTuple

from neurosim.circuits.expressions import ExpressionError

INPUT = "input"
"""The population of layer 0, which sends the sample whatever the quantity is called."""

_END = r"(?:(?P<{0}_population>[A-Za-z]\w*)\.)?(?P<{0}_name>[A-Za-z]\w*)\[(?P<{0}_layer>[^\]]*)\]"
_WIRE = re.compile(rf"\s*{_END.format('pre')}\s*(?P<arrow>->|=>)\s*{_END.format('post')}\s*")
_LAYER = re.compile(r"\s*(?:(?P<base>[iL])\s*(?P<offset>[+-]\s*\d+)?|(?P<number>\d+))\s*")


class Layer(NamedTuple):
    """Which layer an index in brackets means: base (`i`, `L` or neither) plus offset."""

    base: str
    offset: int

    def at(self, i: int, depth: int) -> int:
        """The layer for this i, in a network of so many layers."""
        return {"i": i, "L": depth}.get(self.base, 0) + self.offset


class End(NamedTuple):
    """One end of a wire. population: None where the text names none."""

    population: str | None
    name: str
    layer: Layer

    def __str__(self) -> str:
        return f"{self.population}.{self.name}" if self.population else self.name


class Wire(NamedTuple):
    """dense: whether every unit reaches every other; else one reaches one."""

    text: str
    pre: End
    post: End
    dense: bool

    @property
    def runs(self) -> bool:
        """Whether it stands for one connection in every layer i."""
        return "i" in (self.pre.layer.base, self.post.layer.base)


def layer(text: str) -> Layer:
    """What stands in brackets.

    Raises:
        ExpressionError: it is no index of a layer.
    """
    match = _LAYER.fullmatch(text)
    if match is None:
        raise ExpressionError(
            f"[{text}] is no layer; expected such as [i], [i-1], [i+1], [L], [L-1] or [1]"
        )
    if match["number"]:
        return Layer("", int(match["number"]))
    return Layer(match["base"], int((match["offset"] or "0").replace(" ", "")))


def wire(text: str) -> Wire:
    """The wire that a text describes.

    Raises:
        ExpressionError: it is none.
    """
    match = _WIRE.fullmatch(text)
    if match is None:
        raise ExpressionError(
            f"{text!r} is no wire; expected such as 'up[i-1] -> forward[i]', "
            "'controller.u[L] -> feedback[i]' or 'soma[i+1] => interneuron.nudge[i]'"
        )
    pre, post = (
        End(match[f"{end}_population"], match[f"{end}_name"], layer(match[f"{end}_layer"]))
        for end in ("pre", "post")
    )
    return Wire(" ".join(text.split()), pre, post, match["arrow"] == "->")
