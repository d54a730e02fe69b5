"""Learning as an ODE of the weights, of networks of which a theory is known: what it says."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from neurosim.building import assembly
from neurosim.models import circuitry
from neurosim.plasticity.channel import ChannelLearning
from neurosim.reports.subjects import Subject
from neurosim.specs import ActivationSpec, ModelSpec, ProtocolSpec
from neurosim.theory import learning_flows, learning_limits, power_flows
from neurosim.theory.findings import LearningFlow
from neurosim.theory.learning_flows import Flow, Invariant, Moments, changes, skipped
from neurosim.theory.learning_limits import Limit
from neurosim.theory.power_flows import PowerFlow, PowerMoments
from neurosim.traces.weight_files import of_moment

CHANNELS = {"backprop": "gradient", "sbp": "gradient", "rbp": "neighboring", "srbp": "direct"}
"""Credits whose learning has a theory, and how errors reach a layer.

Where slopes are 1, or none is on the way, errors that skip layers by the products of transposes are
those of backprop.
"""

RULES = ("slope(basal)*teaching", "teaching")
"""Of W: with linear cells they say the same."""

LINEAR, POWER = "linear", "power"
"""Transfer functions of hidden layers that have a theory."""


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
    conserved, end = _known(start)
    off, changed = math.nan, [(each.name, math.nan) for each in conserved]
    if about.kind == "trace":
        changed = changes(conserved, _known(now)[0])
        if end.weights is not None:
            off = max(float(np.abs(a - b).max()) for a, b in zip(now.A, end.weights, strict=True))
        elif end.product is not None:
            off = float(np.abs(now.product - end.product).max())
    weights = None if end.weights is None else [a.tolist() for a in end.weights]
    reached = None if end.product is None else end.product.tolist()
    return LearningFlow(changed, end.words, end.converges, weights, reached, off)


def _known(flow: Flow | PowerFlow) -> tuple[list[Invariant], Limit]:
    """What a flow conserves, and where it ends."""
    if isinstance(flow, PowerFlow):
        return power_flows.invariants(flow), power_flows.limit(flow)
    return learning_flows.invariants(flow), learning_limits.limit(flow)


def _layers(arrays: Mapping[str, np.ndarray], name: str) -> list[np.ndarray]:
    count = sum(key.startswith(name) and key[len(name) :].isdigit() for key in arrays)
    return [np.asarray(arrays[f"{name}{i}"], float) for i in range(1, count + 1)]


def _flows(protocol: ProtocolSpec, samples: int) -> bool:
    """Whether the weights of a chain with a theory flow under the mean of the training set."""
    model = protocol.model
    phases = [phase for stage in protocol.stages for phase in stage.phases]
    return (
        protocol.plasticity == "online"
        and protocol.level == "equilibrium"
        and protocol.batch == samples
        and _plain(model)
        and (_linear(model) or _power(model))
        and all(circuitry.opened(model, phase.plastic) == ("W",) for phase in phases)
        and not any(phase.parameters for phase in phases)
    )


def _linear(model: ModelSpec) -> bool:
    """Whether neurons are linear."""
    forward = model.projections["W"]
    given: Any = model.activation
    return given.name == LINEAR and (forward.rule == "delta" or forward.post in RULES)


def _power(model: ModelSpec) -> bool:
    """Whether it is A[1, 1, 1] with a power between two linear units."""
    given: Any = model.activation
    forward = model.projections["W"]
    ruled = forward.rule == "delta" or forward.post == RULES[0]
    return given.name == POWER and ruled and list(model.layers) == [1, 1, 1]


def _plain(model: ModelSpec) -> bool:
    """Whether errors come down as they are, to weights that nothing else moves."""
    credit, forward = model.credit, model.projections.get("W")
    if credit is None or forward is None or credit.name not in CHANNELS:
        return False
    plain = not forward.bias and not forward.decay and forward.limit is None
    return (
        plain
        and credit.rule == "fixed"
        and credit.error_bits is credit.update_bits is None
        and not credit.dropout
        and not credit.redrawn
        and credit.per == "neuron"
        and isinstance(model.activation, ActivationSpec)
        and isinstance(model.output_activation, ActivationSpec)
        and model.output_activation.name == model.output == LINEAR
        and not model.auxiliary
        and forward.pre is None
    )


def _flow(about: Subject, weights: Mapping[str, list[np.ndarray]]) -> Flow | PowerFlow | None:
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
    C = None
    if how != "gradient":
        C = tuple(weights["Q"]) if how == "direct" else skipped(weights["Q"])
        C = tuple(r / rates[-1] * c for r, c in zip(rates, C, strict=False))
    activation: Any = about.model.activation
    if activation.name == LINEAR:
        return Flow(tuple(weights["W"]), C, Moments.of(x, y))
    mu = assembly.activation(activation).exponent  # type: ignore[attr-defined]
    a1, a2 = (a.item() for a in weights["W"])
    c1 = None if C is None else C[0].item()
    moments = PowerMoments.of(x[:, 0], y[:, 0], mu)
    return PowerFlow(a1, a2, c1, mu, about.model.credit.slope, moments)
