"""What a credit that gives hidden layers goals of their own asks of its model and protocol."""

from collections.abc import Iterator

from neurosim.circuits.description import Circuit
from neurosim.credit import CREDITS, named
from neurosim.errors import either
from neurosim.models.conditions import Problem, called
from neurosim.plasticity import FEEDBACK_RULES, PENALIZED
from neurosim.specs import ActivationSpec, NodesSpec, ProtocolSpec

FEEDBACK = ("fixed", "tied", *(name for name, rule in FEEDBACK_RULES.items() if rule.solved))
"""How backward weights of nodes may learn."""


def node_problems(spec: ProtocolSpec, circuit: Circuit) -> Iterator[Problem]:
    """All that keeps hidden layers from having goals, and what is said of goals that nobody has."""
    model, credit, where = spec.model, named(spec.model.credit), ("model", "credit")
    assert model.credit is not None, "asked of models with a credit"
    if not credit.nodes:
        yield from _of_others(spec)
        return
    name, nodes = called(model), model.credit.nodes or NodesSpec()
    if model.depth < 2:
        yield (
            ("model", "layers"),
            f"{name} gives hidden layers goals, and there is none; expected such as [64, 64, 10]",
        )
        return
    for number, layer in enumerate(nodes.goals or ()):
        if layer >= model.depth:
            yield (
                (*where, "nodes", "goals", number),
                f"layer {layer} is no hidden layer; expected 1 to {model.depth - 1}",
            )
    given = model.activation
    if not (isinstance(given, ActivationSpec) and given.name == "soft-threshold"):
        yield (
            ("model", "activation"),
            f"{name} is about sparse representations; expected such as "
            "{ name = 'soft-threshold', threshold = 0.1 }",
        )
    if circuit.convolves:
        yield (
            (*where, "name"),
            f"{name} solves for dense weights, which kernels are not; leave kernel out",
        )
    if spec.batch < 2:
        yield (
            ("batch",),
            f"{name} keeps the classes of a batch apart, of which one sample has one; expected 2 "
            "or more",
        )
    if isinstance(model.credit.rule, str) and model.credit.rule not in FEEDBACK:
        yield (
            (*where, "rule"),
            f"{model.credit.rule!r} sends activity down, which nodes do not; expected "
            f"{either(FEEDBACK)}",
        )
    if spec.plasticity == "online" and nodes.active < 1:
        yield (
            (*where, "nodes", "active"),
            "is of presentations, in which a node takes part or not; use plasticity = "
            "'quasi-static', or leave it out",
        )


def _of_others(spec: ProtocolSpec) -> Iterator[Problem]:
    """What only nodes know, of a credit that has none."""
    model = spec.model
    assert model.credit is not None, "asked of models with a credit"
    having = either([name for name, credit in CREDITS.items() if credit.nodes])
    about = f"is about hidden layers with goals of their own, and {called(model)} gives them none"
    if model.credit.nodes is not None:
        yield ("model", "credit", "nodes"), f"{about}; expected with {having}"
    forward, feedback = model.projections["W"].rule, model.credit.rule
    if isinstance(forward, str) and forward in PENALIZED:
        message = f"{forward!r} {about}; expected with {having}, or 'delta'"
        yield ("model", "projections", "W", "rule"), message
    if isinstance(feedback, str) and feedback in FEEDBACK_RULES and FEEDBACK_RULES[feedback].solved:
        yield ("model", "credit", "rule"), f"{feedback!r} {about}; expected with {having}"
