"""Where the teaching signal of every neuron comes from.

A credit assignment maps what the phases left behind to one teaching signal a layer, so that every
forward rule reads ΔW_i = η (s_i'(a_i) ⊙ teaching_i) h_{i−1}^T. All for one sample.
"""

from collections.abc import Callable
from typing import NamedTuple

from neurosim.credit.backprop import backprop
from neurosim.credit.phases import single_phase, two_phase


class Credit(NamedTuple):
    """assign(network, weights, now, free, label) → teaching; `needs_free`: a free phase before."""

    assign: Callable
    needs_free: bool
    source: str


CREDITS: dict[str, Credit] = {
    "single-phase": Credit(single_phase, False, "soma against basal dendrite [T 6.17]"),
    "two-phase": Credit(two_phase, True, "learning against free phase [T 6.35, 6.58]"),
    "backprop": Credit(backprop, False, "the negative gradient of the loss [T 2.2]"),
}
