"""Local signals and the rules that turn them into weight changes."""

from collections.abc import Callable
from typing import NamedTuple

from neurosim.functions.deferred import Deferred


class FeedbackRule(NamedTuple):
    """How apical weights learn: `probe` makes their local signals; None keeps or ties them.

    sees_data: whether the probe is also given (x, labels) of the batch, as its last argument.
    solved: whether in place of that the weights go towards the solution of a problem of their node.
    """

    probe: Callable | None
    source: str
    sees_data: bool = False
    solved: bool = False


FORWARD_RULES: dict[str, tuple[str, str]] = {
    "delta": ("slope({})*teaching", "slope × teaching × presynaptic [T 4.12]"),
    "delta-over-slope": ("teaching/slope({})", "teaching / slope × presynaptic [T A.1, A.6]"),
    "penalized": (
        "teaching",
        "towards the penalized least squares of a node with a local goal [Kostadinov et al. 2019]",
    ),
    "penalized-gradient": (
        "teaching",
        "down the gradient of the same, teaching × presynaptic and penalties [Kostadinov et al. "
        "2019]",
    ),
}
"""Rules of projections that a credit teaches: what stands for post, of the cell's potential."""

PENALIZED = {"penalized": "solution", "penalized-gradient": "gradient"}
"""Those of nodes with local goals, and how they solve the problem of a node."""

PROBES = ("white-noise", "difference", "local-difference")
"""Feedback rules that a circuit which is a chain of layers can name: its Q learns by them."""

FEEDBACK_RULES: dict[str, FeedbackRule] = {
    "fixed": FeedbackRule(None, "stays as initialised"),
    "tied": FeedbackRule(None, "follows the forward weights: the initialiser of their moment"),
    "sherman-morrison": FeedbackRule(
        None,
        "exact inverses that move with the forward weights, in steps of rank one [T 4.1]",
    ),
    "reconstruction": FeedbackRule(
        Deferred("neurosim.plasticity.signals:reconstruction"),
        "predicts the neuron from above, on its own activity [T 6.26, 6.37, A.9]",
    ),
    "noise-injected": FeedbackRule(
        Deferred("neurosim.plasticity.signals:noise_injected"),
        "inverts around noisy targets of the layer above [D 17]",
    ),
    "noisy-reconstruction": FeedbackRule(
        Deferred("neurosim.plasticity.signals:noisy_reconstruction"),
        "predicts the neuron's noisy activity from what the layer above makes of it [D 32, 36]",
    ),
    "white-noise": FeedbackRule(
        Deferred("neurosim.plasticity.signals:white_noise"),
        "the same on white noise, towards the pseudo-inverse [T A.8, 4.7]",
    ),
    "local-difference": FeedbackRule(
        Deferred("neurosim.plasticity.signals:local_difference"),
        "noise once up and once down, towards the transpose [Ernoult et al. 2022, L-DRL]",
    ),
    "bidirectional": FeedbackRule(
        Deferred("neurosim.plasticity.signals:bidirectional"),
        "reconstructs the input from the label, errors through the forward weights [T 3.25–3.27]",
        sees_data=True,
    ),
    "adaptive": FeedbackRule(
        Deferred("neurosim.plasticity.signals:adaptive"),
        "what the layer sends times the error that passes the weight [Baldi et al. 2018]",
    ),
    "difference": FeedbackRule(
        Deferred("neurosim.plasticity.signals:difference_reconstruction"),
        "predicts the neuron's noise from what returns of it [Meulemans et al. 2020, DRL]",
    ),
    "penalized": FeedbackRule(
        None,
        "towards the least squares of a node with a local goal, near W^T [Kostadinov et al. 2019]",
        solved=True,
    ),
}
