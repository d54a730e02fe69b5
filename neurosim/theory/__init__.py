"""What can be said of a network without running it: fixed points, spectra, learning signals, noise.

Pure functions of a `System` (dynamics, network, weights, drive) and a state of it, for one sample.
They differentiate the vector field that the levels integrate, so no equation is written twice.
"""

from neurosim.theory import (
    closed_forms,
    decomposition,
    diagnosis,
    fixed_points,
    gauss_newton,
    linearisation,
    relaxation,
    signal_to_noise,
    stability,
)

__all__ = [
    "closed_forms",
    "decomposition",
    "diagnosis",
    "fixed_points",
    "gauss_newton",
    "linearisation",
    "relaxation",
    "signal_to_noise",
    "stability",
]
