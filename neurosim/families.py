"""What is known of the shipped dynamics before anything computes; `dynamics/` has the equations."""

from collections.abc import Callable
from typing import Any, NamedTuple


class Family(NamedTuple):
    """A family of neurons.

    what, source: for people. needed, optional: the parameters of a model that it takes.
    compartments: each with the parameter that is its time constant, in the order in which a sweep
    visits them; without one a compartment follows at once. observed: what can be recorded, and how
    many layers at the top lack it. credits: the kinds of credit assignment it can be used with.
    attenuation: (μ, layers up to and with the top) → by how much a teaching signal is expected to
    shrink on its way down.
    """

    what: str
    source: str
    needed: frozenset[str]
    optional: frozenset[str]
    compartments: dict[str, str]
    observed: dict[str, int]
    credits: tuple[str, ...]
    attenuation: Callable


def mixed(mu: Any, layers: int) -> Any:
    """(μ/(1−μ))^{L+1−i} [T 6.15]."""
    return (mu / (1 - mu)) ** layers


def unmixed(mu: Any, layers: int) -> float:
    """1: nothing decays with depth."""
    return 1.0


FAMILIES: dict[str, Family] = {
    "mixture": Family(
        "Three-compartment neurons whose soma is a convex mixture of two dendritic rates",
        "T 6.1–6.42",
        needed=frozenset({"mu", "tau_soma"}),
        optional=frozenset({"tau_basal", "tau_apical"}),
        compartments={"basal": "tau_basal", "apical": "tau_apical", "soma": "tau_soma"},
        observed={"soma": 0, "basal_rate": 0, "apical_rate": 0},
        credits=("single-phase", "two-phase"),
        attenuation=mixed,
    ),
    "multiplexing": Family(
        "Neurons that send two signals: an event rate upwards and a burst probability downwards",
        "T 6.43, 6.45",
        needed=frozenset({"tau_basal", "tau_apical"}),
        optional=frozenset(),
        compartments={"basal": "tau_basal", "apical": "tau_apical"},
        observed={"basal": 0, "apical": 1, "event_rate": 0, "burst_signal": 0},
        credits=("single-phase", "two-phase"),
        attenuation=unmixed,
    ),
    "feedforward": Family(
        "Neurons without apical dendrites; whoever assigns credit must bring its own channel",
        "",
        needed=frozenset({"tau_basal"}),
        optional=frozenset(),
        compartments={"basal": "tau_basal"},
        observed={"basal": 0, "rate": 0},
        credits=("own-channel",),
        attenuation=unmixed,
    ),
}
