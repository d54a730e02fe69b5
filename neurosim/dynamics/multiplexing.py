"""The multiplexing model: event rates carry the forward, burst probabilities the feedback signal.

    τ_b da_i^b/dt = −a_i^b + W_i h_{i−1},   h_i = s_i(a_i^b)                      [T 6.43, 6.45]
    τ_a da_i^a/dt = −a_i^a + Q_i ĥ_{i+1},   ĥ_i = t_i(a_i^a),   ĥ_L = h_L^trgt     [T 6.44, 6.46]

In the inverse form the apical synapses receive s_{i+1}⁻¹(ĥ_{i+1}) and t_i is the identity.
"""

from typing import ClassVar

import equinox as eqx
from jaxtyping import Array, Float, Scalar

from neurosim.dynamics.base import Drive, Layered, Readout, State
from neurosim.families import FAMILIES, unmixed
from neurosim.network import Layers, Network, Weights


class Multiplexing(Layered):
    """Neurons that send two signals: an event rate upwards and a burst probability downwards.

    tau_basal, tau_apical: dendritic time constants (s). noise: σ by compartment.
    """

    tau_basal: Scalar | float
    tau_apical: Scalar | float
    sigma: dict[str, Scalar | float] = eqx.field(default_factory=dict)

    family: ClassVar[str] = "multiplexing"
    credits: ClassVar[tuple[str, ...]] = FAMILIES["multiplexing"].credits
    observed: ClassVar[tuple[str, ...]] = tuple(FAMILIES["multiplexing"].observed)

    @property
    def time_constants(self) -> dict[str, Scalar | float]:
        return {"basal": self.tau_basal, "apical": self.tau_apical}

    @property
    def noise(self) -> dict[str, Scalar | float]:
        return self.sigma

    def layers(self, network: Network, compartment: str) -> int:
        return network.depth - 1 if compartment == "apical" else network.depth

    def _event_rate(self, network: Network, state: State, i: int) -> Float[Array, " n_i"]:
        return network.s(i, state["basal"][i - 1])

    def _burst_probability(
        self, network: Network, drive: Drive, state: State, i: int
    ) -> Float[Array, " n_i"]:
        if i == network.depth:
            return drive.target(network, self._event_rate(network, state, i))
        return network.decode(i, state["apical"][i - 1])

    def pull(
        self, network: Network, weights: Weights, drive: Drive, state: State, name: str, i: int
    ) -> Float[Array, " n_i"]:
        if name == "basal":
            if i == 1:
                return drive.basal
            return network.potential(weights, i, self._event_rate(network, state, i - 1))
        return network.apical(weights, i, self._burst_probability(network, drive, state, i + 1))

    def read(self, network: Network, weights: Weights, drive: Drive, state: State) -> Readout:
        layers = range(1, network.depth + 1)
        events = tuple(self._event_rate(network, state, i) for i in layers)
        bursts = tuple(self._burst_probability(network, drive, state, i) for i in layers)
        return Readout(
            rate=events,
            basal=events,
            slope=tuple(network.slope(i, a) for i, a in enumerate(state["basal"], start=1)),
            apical=bursts,
            teacher=bursts,
            downward=bursts,
            apical_potential=state["apical"],
        )

    def attenuation(self, network: Network, i: int) -> float:
        """1: nothing decays with depth."""
        return unmixed(None, network.depth + 1 - i)

    def variables(self, state: State, readout: Readout) -> dict[str, Layers]:
        return {
            "basal": state["basal"],
            "apical": state["apical"],
            "event_rate": readout.rate,
            "burst_signal": readout.apical,
        }
