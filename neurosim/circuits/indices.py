"""Indices of layers in formulas: i, L-1, 2, and which layers i are meant."""

from collections.abc import Sequence
from typing import NamedTuple

from neurosim.circuits.wires import Layer


class At(NamedTuple):
    """A layer in a formula: base (`i`, `L` or neither) plus offset."""

    base: str
    offset: int = 0

    def moved(self, by: int) -> "At":
        return At(self.base, self.offset + by)

    def __str__(self) -> str:
        if not self.base:
            return str(self.offset)
        return f"{self.base}{self.offset:+d}" if self.offset else self.base


def at_layer(layer: int, depth: int) -> At:
    return At("L") if layer == depth else At("", layer)


def index_of(layer: Layer, i: At) -> At:
    """The layer that an index in brackets means, for what stands for i."""
    return i.moved(layer.offset) if layer.base == "i" else At(layer.base, layer.offset)


def layers(found: Sequence[int], depth: int) -> str:
    """Which layers i are meant: i = 1, \\dots, L-1."""
    first, last = min(found), max(found)
    if len(found) < last - first + 1:
        return rf"i \in \{{{', '.join(map(str, sorted(found)))}\}}"
    if first == last:
        return f"i = {at_layer(first, depth)}"
    end = At("L", last - depth) if last >= depth - 1 else At("", last)
    return rf"i = {first}, \dots, {end}"
