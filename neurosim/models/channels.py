"""What a model may ask of the learning channel, and where that cannot be had."""

from collections.abc import Iterator
from typing import Any

from neurosim.circuits.description import Circuit
from neurosim.credit import CREDITS, named
from neurosim.errors import either
from neurosim.models.conditions import Problem, called
from neurosim.networks.wirings import WIRINGS
from neurosim.specs import CreditSpec, ModelSpec, ProtocolSpec

WEIGHTS = ("sparse", "signs", "redrawn", "per")
"""Keys about random weights of the channel."""

OPTIONS = (
    "slope",
    *WEIGHTS,
    "error_bits",
    "error_scale",
    "update_bits",
    "update_scale",
    "dropout",
)
"""Keys of `[credit]` that are about the channel of errors."""


def options(model: ModelSpec) -> dict[str, Any]:
    """What a model asks of the channel beside what its credit has by itself."""
    fields, given = CreditSpec.model_fields, model.credit
    return {
        key: getattr(given, key)
        for key in OPTIONS
        if given is not None and getattr(given, key) != fields[key].default
    }


def channel_problems(spec: ProtocolSpec, circuit: Circuit) -> Iterator[Problem]:
    """All that keeps the channel of a model from being as it is asked for."""
    model, asked = spec.model, options(spec.model)
    credit, name, where = named(model.credit), called(spec.model), ("model", "credit")
    if credit.route is None:
        senders = [key for key, each in CREDITS.items() if each.route is not None]
        for key in asked:
            yield (
                (*where, key),
                f"is about errors that come down a learning channel, and {name} sends none to "
                f"hidden layers; expected with {either(senders)}",
            )
        return
    if not WIRINGS[credit.wiring](model.depth):
        for key in filter(asked.__contains__, WEIGHTS):
            yield (
                (*where, key),
                f"is about weights of the channel's own, and {name} has none in this network; "
                "expected with rbp, srbp and their kin, and a hidden layer",
            )
        return
    yield from _weights(model, asked)
    if "signs" in asked and credit.wiring == "direct" and circuit.convolves:
        yield (
            (*where, "signs"),
            f"'congruent': {name} skips layers, and what it skips here has convolutions, whose "
            "product is no matrix; leave it out, or take rbp",
        )
    if "update_bits" in asked and callable(circuit.projection["W"].rule):
        yield (
            (*where, "update_bits"),
            "quantises what every sample adds to a weight, and a rule of a script says only what "
            "all add together; quantise there, or give W a post",
        )


def _weights(model: ModelSpec, asked: dict[str, Any]) -> Iterator[Problem]:
    """The random weights of a channel that has some of its own."""
    given, credit, where = model.credit, named(model.credit), ("model", "credit")
    assert given is not None, "asked of models with a credit"
    if given.init not in ("random", "xavier"):
        for key in filter(asked.__contains__, WEIGHTS):
            yield (
                (*where, key),
                f"is about random weights, and init is {given.init!r}; use init = 'random'",
            )
        return
    smallest = min(model.layers[i] for i, _ in WIRINGS[credit.wiring](model.depth))
    if given.sparse is not None and given.sparse > smallest:
        yield (
            (*where, "sparse"),
            f"{given.sparse:g} weights a column, but the smallest layer that hears the channel has "
            f"{smallest} units; expected at most as many",
        )
    for key in ("redrawn", "per"):
        if key in asked and given.rule != "fixed":
            yield (
                (*where, key),
                f"is about weights that do not learn, and the rule is {given.rule!r}; use "
                "rule = 'fixed'",
            )
    if given.per == "neuron":
        return
    if credit.route != "skipped":
        yield (
            (*where, "per"),
            f"'weight': errors that {called(model)} sends on through neurons are one a neuron; "
            "expected with srbp, whose errors come from the output alone",
        )
    for key in filter(asked.__contains__, ("error_bits", "update_bits", "dropout")):
        yield (*where, key), "is about errors of neurons, and per is 'weight'; leave one out"
