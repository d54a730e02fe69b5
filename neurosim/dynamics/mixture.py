"""The mixture model: somata that mix their basal and apical dendrites [T 6.1–6.42].

τ dh_i/dt = −h_i + (1−μ) f_i(h_{i−1}) + μ g_i(h_{i+1}),   g_L ≡ h_L^trgt              [T 6.1]
"""

from typing import ClassVar

import equinox as eqx
from jaxtyping import Array, Float, Scalar

from neurosim.dynamics.base import Drive, Layered, Readout, State
from neurosim.families import FAMILIES, mixed
from neurosim.network import Layers, Network, Weights


class Mixture(Layered):
    """Three-compartment neurons whose soma is a convex mixture of two dendritic rates.

    mu: apical mixing weight, 0 < μ < 0.5. tau_soma: somatic time constant (s).
    tau_basal, tau_apical: dendritic time constants (s); None for dendrites that follow their
    inputs at once, which is T 6.1 to the letter. The fixed points do not depend on them.
    noise: σ by compartment, in units of the compartment.
    """

    mu: Scalar | float
    tau_soma: Scalar | float
    tau_basal: Scalar | float | None = None
    tau_apical: Scalar | float | None = None
    sigma: dict[str, Scalar | float] = eqx.field(default_factory=dict)

    family: ClassVar[str] = "mixture"
    credits: ClassVar[tuple[str, ...]] = FAMILIES["mixture"].credits
    observed: ClassVar[tuple[str, ...]] = tuple(FAMILIES["mixture"].observed)

    @property
    def time_constants(self) -> dict[str, Scalar | float]:
        taus = {"basal": self.tau_basal, "apical": self.tau_apical, "soma": self.tau_soma}
        return {name: tau for name, tau in taus.items() if tau is not None}

    @property
    def noise(self) -> dict[str, Scalar | float]:
        return self.sigma

    def layers(self, network: Network, compartment: str) -> int:
        return network.depth - 1 if compartment == "apical" else network.depth

    def _basal_input(
        self, network: Network, weights: Weights, drive: Drive, state: State, i: int
    ) -> Float[Array, " n_i"]:
        return drive.basal if i == 1 else network.potential(weights, i, state["soma"][i - 2])

    def _apical_input(
        self, network: Network, weights: Weights, state: State, i: int
    ) -> Float[Array, " n_i"]:
        return network.apical(weights, i, state["soma"][i])

    def _basal_potential(
        self, network: Network, weights: Weights, drive: Drive, state: State, i: int
    ) -> Float[Array, " n_i"]:
        if "basal" in state:
            return state["basal"][i - 1]
        return self._basal_input(network, weights, drive, state, i)

    def _apical_potential(
        self, network: Network, weights: Weights, state: State, i: int
    ) -> Float[Array, " n_i"]:
        if "apical" in state:
            return state["apical"][i - 1]
        return self._apical_input(network, weights, state, i)

    def _apical_rate(
        self, network: Network, weights: Weights, drive: Drive, state: State, i: int
    ) -> Float[Array, " n_i"]:
        if i == network.depth:
            return drive.target(network, state["soma"][-1])
        return network.decode(i, self._apical_potential(network, weights, state, i))

    def pull(
        self, network: Network, weights: Weights, drive: Drive, state: State, name: str, i: int
    ) -> Float[Array, " n_i"]:
        match name:
            case "basal":
                return self._basal_input(network, weights, drive, state, i)
            case "apical":
                return self._apical_input(network, weights, state, i)
            case _:
                f = network.s(i, self._basal_potential(network, weights, drive, state, i))
                g = self._apical_rate(network, weights, drive, state, i)
                return (1 - self.mu) * f + self.mu * g

    def read(self, network: Network, weights: Weights, drive: Drive, state: State) -> Readout:
        layers = range(1, network.depth + 1)
        a = [self._basal_potential(network, weights, drive, state, i) for i in layers]
        return Readout(
            rate=state["soma"],
            basal=tuple(network.s(i, a_i) for i, a_i in zip(layers, a, strict=True)),
            slope=tuple(network.slope(i, a_i) for i, a_i in zip(layers, a, strict=True)),
            apical=tuple(self._apical_rate(network, weights, drive, state, i) for i in layers),
            teacher=state["soma"],
            downward=state["soma"],
            apical_potential=tuple(
                self._apical_potential(network, weights, state, i) for i in layers[:-1]
            ),
        )

    def attenuation(self, network: Network, i: int) -> Scalar | float:
        """(μ/(1−μ))^{L+1−i} [T 6.15]."""
        return mixed(self.mu, network.depth + 1 - i)

    def variables(self, state: State, readout: Readout) -> dict[str, Layers]:
        return {"soma": readout.rate, "basal_rate": readout.basal, "apical_rate": readout.apical}
