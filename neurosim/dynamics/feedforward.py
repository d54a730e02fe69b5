"""The feed-forward network: basal dendrites only, τ_b da_i/dt = −a_i + W_i h_{i−1}.

What backprop and the target propagation of chapter 4 train; its rest is the plain forward pass.
"""

from typing import ClassVar

import equinox as eqx
from jaxtyping import Array, Float, Scalar

from neurosim.dynamics.base import Drive, Layered, Readout, State
from neurosim.families import FAMILIES, unmixed
from neurosim.network import Layers, Network, Weights


class Feedforward(Layered):
    """Neurons without apical dendrites; whoever assigns credit must bring its own channel.

    tau_basal: dendritic time constant (s). noise: σ by compartment.
    """

    tau_basal: Scalar | float
    sigma: dict[str, Scalar | float] = eqx.field(default_factory=dict)

    family: ClassVar[str] = "feedforward"
    credits: ClassVar[tuple[str, ...]] = FAMILIES["feedforward"].credits
    observed: ClassVar[tuple[str, ...]] = tuple(FAMILIES["feedforward"].observed)

    @property
    def time_constants(self) -> dict[str, Scalar | float]:
        return {"basal": self.tau_basal}

    @property
    def noise(self) -> dict[str, Scalar | float]:
        return self.sigma

    def layers(self, network: Network, compartment: str) -> int:
        return network.depth

    def pull(
        self, network: Network, weights: Weights, drive: Drive, state: State, name: str, i: int
    ) -> Float[Array, " n_i"]:
        if i == 1:
            return drive.basal
        return network.potential(weights, i, network.s(i - 1, state["basal"][i - 2]))

    def fixed_point(self, network: Network, weights: Weights, drive: Drive) -> State:
        """The forward pass."""
        a = [drive.basal]
        for i in range(2, network.depth + 1):
            a.append(network.potential(weights, i, network.s(i - 1, a[-1])))
        return {"basal": tuple(a)}

    def read(self, network: Network, weights: Weights, drive: Drive, state: State) -> Readout:
        h = tuple(network.s(i, a) for i, a in enumerate(state["basal"], start=1))
        return Readout(
            rate=h,
            basal=h,
            slope=tuple(network.slope(i, a) for i, a in enumerate(state["basal"], start=1)),
            apical=(),
            teacher=h,
            downward=h,
            apical_potential=(),
        )

    def attenuation(self, network: Network, i: int) -> float:
        """1: the error channel of backprop does not mix with activity."""
        return unmixed(None, network.depth + 1 - i)

    def variables(self, state: State, readout: Readout) -> dict[str, Layers]:
        return {"basal": state["basal"], "rate": readout.rate}
