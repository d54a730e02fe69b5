"""Local signals and the rules that turn them into weight changes."""

from collections.abc import Callable
from typing import NamedTuple

from neurosim.plasticity import rules, signals


class FeedbackRule(NamedTuple):
    """How apical weights learn: `probe` makes their local signals; None keeps or ties them."""

    probe: Callable | None
    source: str


FORWARD_RULES: dict[str, tuple[Callable, str]] = {
    "delta": (rules.delta, "slope × teaching × presynaptic [T 4.12, 6.17, 6.35, 6.58]"),
}

FEEDBACK_RULES: dict[str, FeedbackRule] = {
    "fixed": FeedbackRule(None, "stays as initialised"),
    "tied": FeedbackRule(None, "follows the forward weights: the initialiser of their moment"),
    "reconstruction": FeedbackRule(
        signals.reconstruction, "predicts the neuron from above, on its own activity [T 6.26, 6.37]"
    ),
    "white-noise": FeedbackRule(
        signals.white_noise, "the same on white noise, towards the pseudo-inverse [T A.8, 4.7]"
    ),
    "difference": FeedbackRule(
        signals.difference_reconstruction,
        "predicts the neuron's noise from what returns of it [Meulemans et al. 2020, DRL]",
    ),
}
