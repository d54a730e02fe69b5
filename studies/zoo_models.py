"""What the zoo compares: its models and tasks, its paces and seeds, and the protocol of every run.

A further model is a further line of `MODELS`.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from burst_networks import ALONG

import neurosim as ns

PACES = (1 / 27, 1 / 9, 1 / 3, 1.0, 3.0, 9.0, 27.0)
SEEDS = 5
"""As many to choose by (0 to 4) as to test with (5 to 9)."""

CHOOSING, TESTING = range(SEEDS), range(SEEDS, 2 * SEEDS)
MOMENTS = 5
"""Presentations of which the change of W is held against the theory, from the first to the last
but one."""

FASHION = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package dataset-fashion-mnist puts its files."""


class Problem(NamedTuple):
    """A task, the sizes of the networks that learn it, and for how long.

    samples: of training, in an epoch.
    """

    title: str
    task: dict[str, Any]
    layers: list[int]
    epochs: int
    samples: int


PROBLEMS = {
    "digits": Problem("digits, 64-16-10", {"name": "digits"}, [64, 16, 10], 30, 1438),
    "yin-yang": Problem("Yin-Yang, 4-32-32-3", {"name": "yin-yang"}, [4, 32, 32, 3], 20, 5000),
    "fashion": Problem(
        "Fashion-MNIST, 784-100-10",
        {"name": "idx", "path": str(FASHION), "train": 10_000},
        [784, 100, 10],
        5,
        10_000,
    ),
}


class Model(NamedTuple):
    """A model as a shipped protocol has it, and what is changed there.

    W: the rate of its forward weights, by layer or of all. pixels: whether images come as rates
    between 0 and 1, and not standardised. smooth: whether there is a gradient, which signs and
    draws have not. untaught: what is changed beside for a test as spikes, of a network that the
    spiking level does not teach so.
    """

    protocol: str
    W: float | str
    changes: dict[str, Any] = {}  # noqa: RUF012 (never changed)
    pixels: bool = False
    smooth: bool = True
    untaught: dict[str, Any] = {}  # noqa: RUF012


NODES = "local-goals-n4g4"
"""The protocol whose hidden layers have goals."""


PLAIN = {"model.credit": "backprop", "stages.0.phases.0.plastic": ["forward"]}
"""Instead of a credit that spikes cannot bring, where nothing is learned."""


def credit(name: str, rate: float, learned: float | None = None) -> Model:
    """A method of the target-propagation family, or of random feedback, with softmax outputs.

    learned: the rate of its feedback weights; None where they stay as they are.
    """
    changes: dict[str, Any] = {
        "model.credit": name,
        "model.output": "softmax",
        "model.loss": "cross-entropy",
        "model.projections.W.init": "orthogonal",
        "batch": 50,
        "schedule.final": 0.1,
        "record.decomposition": False,
    }
    if learned is None:
        changes["stages.0.phases.0.plastic"] = ["forward"]
    else:
        changes["model.credit.rate"] = learned
    return Model("target-propagation", rate, changes)


LEARNED = {
    "model.use": "burstprop-learned",
    "stages.0.phases.1.plastic": ["W", "Y"],
    "model.projections.Y.rate": 5.0,
}

IN_ONE_PHASE = {
    "model.use": "burst-ccn-learned",
    "stages": [{"name": "training", "epochs": 30, "phases": [ALONG]}],
    "model.projections.Y.rate": 2.0,
    "model.projections.Q.rate": 2.0,
}

MODELS = {
    "backprop": Model("backprop-digits", 0.3),
    "random feedback": credit("rbp", 0.3),
    "skipped backprop": credit("sbp", 0.3),
    "skipped random feedback": credit("srbp", 0.3),
    "adaptive feedback": credit("arbp", 0.3, 0.3),
    "skipped adaptive feedback": credit("asrbp", 0.3, 0.3),
    "DTP": credit("dtp", 1.0, 0.05)._replace(untaught=PLAIN | {"model.credit.rate": 0.0}),
    "DTP, approximate inverses": credit("dtp-ai", 2.0, 0.05),
    "DTP, fixed feedback": credit("dtp-fixed", 1.0),
    "DTP, noise to the output": credit("dtp-drl", 1.0, 0.05),
    "DTP, noise in two layers": credit("dtp-ldrl", 1.0, 0.05),
    "DTP, RMSprop": Model("difference-target-propagation-digits", 0.001, untaught=PLAIN),
    "DTP, discrete transmission": Model(
        "discrete-transmission-digits", 0.001, smooth=False, untaught=PLAIN
    ),
    "DTP, stochastic binary units": Model(
        "stochastic-binary-digits", 0.001, smooth=False, untaught=PLAIN | {"test_draws": 1}
    ),
    "two-phase mixture": Model("quickstart", 0.2),
    "multiplexing": Model("multiplexing-digits", 10.0),
    "microcircuit": Model("microcircuit-digits", "eta*(4*2.5**(L - 1))**int(i < 2)"),
    "segregated dendrites": Model("segregated-dendrites-digits", "2*2**int(i < L)", pixels=True),
    "BurstCCN": Model("burst-ccn-digits", "2*5**int(i < L)"),
    "BurstCCN, feedback learned": Model("burst-ccn-digits", "2*5**int(i < L)", IN_ONE_PHASE),
    "burstprop": Model("burstprop-digits", "5*5**int(i < L)"),
    "burstprop, feedback learned": Model("burstprop-digits", "5*5**int(i < L)", LEARNED),
    "equilibrium propagation": Model("equilibrium-propagation-digits", 0.3),
    "predictive coding": Model("predictive-coding-digits", 3.0),
    "deep feedback control": Model(
        "feedback-control-digits", 40.0, untaught={"stages.0.phases.2.parameters.draw": 0.0}
    ),
    "least control": Model("least-control-digits", 0.3),
    "broadcast alignment": Model("broadcast-alignment-digits", "0.3*0.1**int(i < L)"),
    "local goals": Model(
        NODES,
        "0.1*3**int(i > L - 1)",
        {"stages.0.presentations": None, "stages.0.epochs": 1},
        untaught=PLAIN | {"model.credit.nodes": None, "model.projections.W.rule": "delta"},
    ),
}


def sized(model: Model, layers: list[int]) -> dict[str, Any]:
    """The changes that give a model these layers."""
    found: dict[str, Any] = {"model.layers": layers}
    if model.protocol == NODES:  # the goal is that of the last one
        found["model.credit.nodes.goals"] = [len(layers) - 2]
    if model.protocol == "discrete-transmission-digits":  # its populations name theirs
        found["model.populations.neuron.layers"] = list(range(2, len(layers)))
    return found


def loaded(problem: Problem, model: Model, pace: float, frozen: bool, validate: bool) -> Any:
    """The protocol of a run.

    What stages before the last one show, a sixth of all, is taken from the last one.
    """
    changes = model.changes | {
        "level": "equilibrium",
        "task": problem.task,
        **sized(model, problem.layers),
        "model.projections.W.rate": f"({model.W})*int(L < i + 1)" if frozen else model.W,
        "record.presentations": 0,
        "record.variables": [],
    }
    plain = ns.load_protocol(model.protocol, changes).spec
    raw = model.pixels and problem.task["name"] in ("digits", "idx")
    last, before = len(plain.stages) - 1, max(1, problem.epochs // 6)
    changes["task"] = (
        problem.task
        | ({"validation": 0.2} if validate else {})
        | ({"standardise": False} if raw else {})
    )
    for k in range(last + 1):
        changes[f"stages.{k}.pace"] = pace
        changes[f"stages.{k}.epochs"] = before if k < last else problem.epochs - last * before
    if frozen and model.protocol == "target-propagation":  # nothing is sent down
        changes["stages.0.phases.0.plastic"] = ["forward"]
    if not validate and not frozen:
        each = problem.samples // plain.batch
        first, end = last * before * each, problem.epochs * each
        changes["record.weights"], changes["record.samples"] = True, plain.batch
        changes["record.presentations"] = [
            int(at) + k for at in np.linspace(first, end - 2, MOMENTS) for k in (0, 1)
        ]
    return ns.load_protocol(model.protocol, changes)
