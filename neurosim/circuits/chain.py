"""A circuit as a chain of layers, h_i = s_i(W_i h_{i−1} + b_i), whose mathematics is known.

Credits with channels of their own, inverses and learning signals of the theory are said of such
chains. What a layer sends and what its transfer function is applied to is read from the text.
"""

import ast
from typing import NamedTuple

from neurosim.circuits.cells import Cell
from neurosim.circuits.description import Circuit
from neurosim.circuits.expressions import Expression
from neurosim.circuits.populations import Group


class Link(NamedTuple):
    """One layer of a chain, by the names of its cell.

    rate: its activity, h; of the output layer what answers. potential: what the transfer function
    is applied to, a. downward: what it sends down, before any encoding; what it sends up where
    nothing is sent down. sent: what it sends up, the rate or what `carried` makes of that alone, as
    a layer of graded activity does that sends `int(rate > 0)`; None of the rate itself.
    """

    group: Group
    rate: str
    potential: str
    downward: str
    sent: str
    carried: Expression | None


def links(circuit: Circuit) -> tuple[Link, ...] | None:
    """The layers 1 … L; None where the circuit is no chain, or `s` is of several quantities."""
    if not circuit.chain:
        return None
    sent = {s.pre: s.sent for s in circuit.projection["W"].synapses if s.pre is not None}
    feedback = circuit.projection.get("Q")
    down = {} if feedback is None else {s.pre: s.sent for s in feedback.synapses}
    found = []
    for synapses in circuit.projection["W"].synapses:
        group = synapses.post
        cell = circuit.cell(group)
        said = cell.alias(sent[group] if group in sent else circuit.readout[1])
        if len(cell.transferred) != 1:
            return None
        (potential,) = cell.transferred
        downward = _encoded(cell, down[group]) if group in down else said
        rate, carried = _graded(cell, said)
        found.append(Link(group, rate, potential, downward, said, carried))
    return tuple(found)


def _graded(cell: Cell, sent: str) -> tuple[str, Expression | None]:
    """The activity that is sent, and in which form; what is sent itself, if it is of no other."""
    right = cell.right(sent) if sent in cell.defined and sent not in cell.states else None
    if right is not None and len(right.names) == 1:
        (name,) = map(cell.alias, right.names)
        if name in cell.defined and name not in cell.states:
            match cell.right(name).tree.body:
                case ast.Call(func=ast.Name(id="s")):
                    return name, right
    return sent, None


def _encoded(cell: Cell, name: str) -> str:
    """What is encoded in what is sent down."""
    name = cell.alias(name)
    right: Expression | None = cell.right(name) if name in cell.defined else None
    match right.tree.body if right is not None else None:
        case ast.Call(func=ast.Name(id="encode"), args=[ast.Name(id=inner), _]):
            return cell.alias(inner)
    return name
