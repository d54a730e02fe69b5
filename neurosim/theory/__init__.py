"""What can be said of a network without running it: fixed points, spectra, learning signals, noise.

Pure functions of a `System` (dynamics, network, weights, drive) and a state of it, for one sample.
They differentiate the vector field that the levels integrate, so no equation is written twice.
Modules are imported when they are asked for; what `neurosim check` says needs two of them.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from neurosim.theory import (
        closed_forms,
        decomposition,
        diagnosis,
        fixed_points,
        gauss_newton,
        learning_courses,
        learning_flows,
        learning_limits,
        linearisation,
        measures,
        power_flows,
        relaxation,
        signal_to_noise,
        spike_noise,
        stability,
    )

__all__ = [
    "closed_forms",
    "decomposition",
    "diagnosis",
    "fixed_points",
    "gauss_newton",
    "learning_courses",
    "learning_flows",
    "learning_limits",
    "linearisation",
    "measures",
    "power_flows",
    "relaxation",
    "signal_to_noise",
    "spike_noise",
    "stability",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return import_module(f"neurosim.theory.{name}")
    raise AttributeError(f"module 'neurosim.theory' has no attribute {name!r}")
