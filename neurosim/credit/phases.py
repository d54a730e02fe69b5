"""Teaching signals read from the phases of the network itself."""

from jaxtyping import Array, Float, Scalar

from neurosim.dynamics.base import Readout
from neurosim.network import Layers, Network, Weights


def single_phase(
    network: Network,
    weights: Weights,
    now: Readout,
    free: Readout | None,
    label: Float[Array, "*batch n_L"],
    step: Scalar | float = 1.0,
) -> Layers:
    """What the teaching made of the neuron minus what its basal dendrite predicted [T 6.17].

    h_i − f_i(h_{i−1}) in the mixture; ĥ_i − h_i, plain target propagation, when multiplexed.
    """
    return tuple(t - f for t, f in zip(now.teacher, now.basal, strict=True))


def two_phase(
    network: Network,
    weights: Weights,
    now: Readout,
    free: Readout,
    label: Float[Array, "*batch n_L"],
    step: Scalar | float = 1.0,
) -> Layers:
    """Learning phase minus free phase, in which reconstruction errors cancel [T 6.35, 6.58]."""
    return tuple(t - f for t, f in zip(now.teacher, free.teacher, strict=True))
