"""The learning of a linear network as an ODE of its weights: what is known of a subject."""

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from neurosim.building import assembly
from neurosim.models import circuitry
from neurosim.plasticity.channel import ChannelLearning
from neurosim.reports.subjects import Subject
from neurosim.specs import ModelSpec, ProtocolSpec
from neurosim.theory.findings import LearningFlow
from neurosim.theory.learning_flows import Flow, Moments, drift, invariants, skipped
from neurosim.theory.learning_limits import limit
from neurosim.traces.weight_files import of_moment

CHANNELS = {"backprop": "gradient", "rbp": "neighboring", "srbp": "direct"}
"""Credits whose learning in linear networks has a theory, and how errors reach a layer."""

RULES = ("slope(basal)*teaching", "teaching")
"""Of W: with linear cells they say the same."""


def found(about: Subject) -> LearningFlow | None:
    """What is known of the flow of weights; None where it is no such flow."""
    protocol = about.protocol
    if protocol is None or about.train is None or not _flows(protocol, len(about.train[0])):
        return None
    given = {n: [np.asarray(w) for w in about.weights.get(n, ())] for n in ("W", "Q")}
    now = _flow(about, given)
    if now is None:
        return None
    start = now
    if about.kind == "trace":
        arrays = of_moment(Path(about.name), "initial", about.seed)
        start = _flow(about, {n: _layers(arrays, n) for n in ("W", "Q")}) or now
    end = limit(start)
    off, changed = math.nan, [(each.name, math.nan) for each in invariants(start)]
    if about.kind == "trace":
        changed = drift(start, now)
        if end.weights is not None:
            off = max(float(np.abs(a - b).max()) for a, b in zip(now.A, end.weights, strict=True))
        elif end.product is not None:
            off = float(np.abs(now.product - end.product).max())
    weights = None if end.weights is None else [a.tolist() for a in end.weights]
    reached = None if end.product is None else end.product.tolist()
    return LearningFlow(changed, end.words, end.converges, weights, reached, off)


def _layers(arrays: Mapping[str, np.ndarray], name: str) -> list[np.ndarray]:
    count = sum(key.startswith(name) and key[len(name) :].isdigit() for key in arrays)
    return [np.asarray(arrays[f"{name}{i}"], float) for i in range(1, count + 1)]


def _flows(protocol: ProtocolSpec, samples: int) -> bool:
    """Whether the weights of a linear chain flow under the mean of the whole training set."""
    model = protocol.model
    phases = [phase for stage in protocol.stages for phase in stage.phases]
    return (
        protocol.plasticity == "online"
        and protocol.level == "equilibrium"
        and protocol.batch == samples
        and _linear(model)
        and all(circuitry.opened(model, phase.plastic) == ("W",) for phase in phases)
        and not any(phase.parameters for phase in phases)
    )


def _linear(model: ModelSpec) -> bool:
    credit, forward = model.credit, model.projections.get("W")
    if credit is None or forward is None or credit.name not in CHANNELS:
        return False
    plain = not forward.bias and not forward.decay and forward.limit is None
    return (
        plain
        and credit.rule == "fixed"
        and credit.error_bits is credit.update_bits is None
        and model.activation.name == model.output_activation.name == "linear"
        and model.output == "linear"
        and not model.auxiliary
        and (forward.rule == "delta" or forward.post in RULES)
        and forward.pre is None
    )


def _flow(about: Subject, weights: Mapping[str, list[np.ndarray]]) -> Flow | None:
    """The flow in time measured by the rate of the output layer.

    A layer that learns faster is one that hears more: C_i times its rate over the output's. None
    where the output does not learn, or where a gradient flow has several rates, which none has.
    """
    assert about.protocol is not None, "asked of protocols"
    assert about.train is not None, "asked of protocols"
    assert about.model.credit is not None, "checked"
    x, y = (np.asarray(a, float) for a in about.train)
    how = CHANNELS[str(about.model.credit.name)]
    learning = assembly.learning(about.protocol, about.protocol.stages[0])
    assert isinstance(learning, ChannelLearning), "a credit has a channel"
    rates = [float(rate) for rate in learning.rates]
    if not rates[-1] or (how == "gradient" and len(set(rates)) > 1):
        return None
    if how == "gradient":
        return Flow(tuple(weights["W"]), None, Moments.of(x, y))
    C = tuple(weights["Q"]) if how == "direct" else skipped(weights["Q"])
    C = tuple(r / rates[-1] * c for r, c in zip(rates, C, strict=False))
    return Flow(tuple(weights["W"]), C, Moments.of(x, y))
