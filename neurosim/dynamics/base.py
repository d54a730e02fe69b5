"""What a family of neurons must say of itself, and what every level does with it.

A dynamics names compartments c, each with a time constant τ_c, and says for each layer i what the
compartment is drawn to, its *pull* p_i^c(state). The equations of motion are then

    τ_c dv_i^c/dt = p_i^c(state) − v_i^c,

its rest is state = p(state), and its residual is p − v, in units of the state. Any ODE can be
written so. The equations stand once, in `pull`; `field`, `residual` and `sweep` follow from it and
serve the rate level, the settling criterion and the equilibrium level.

All is written for one sample.
"""

from abc import abstractmethod
from collections.abc import Iterable
from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Scalar

from neurosim.network import Layers, Network, Weights

State = dict[str, Layers]
"""compartment → one array a layer, layer 1 first."""


class Target(eqx.Module):
    """The virtual teaching layer above the output: h_L^trgt as a function of h_L.

    kind `none`: the short-circuit h_L^trgt = h_L of the free phase [T 6.29].
    kind `following`: h_L^trgt = h_L − η̂ e_L(h_L, y), recomputed all along [T 6.10].
    kind `fixed`: the constant `value` (frozen from an earlier phase, or clamped to y).
    kind `switched`: `fixed` where `on`, else `none`, so that phases can share one program.
    """

    kind: str = eqx.field(static=True)
    step: Scalar | float = 0.0
    label: Float[Array, " n_L"] | None = None
    value: Float[Array, " n_L"] | None = None
    on: Bool[Array, ""] | None = None

    def __call__(self, network: Network, output: Float[Array, " n_L"]) -> Float[Array, " n_L"]:
        match self.kind:
            case "none":
                return output
            case "following":
                assert self.label is not None, "a following target knows its label"
                return output - self.step * network.loss.error(output, self.label)
            case "switched":
                assert self.on is not None and self.value is not None, "a switch has two sides"
                return jnp.where(self.on, self.value, output)
            case _:
                assert self.value is not None, "a fixed target knows its value"
                return self.value


class Drive(eqx.Module):
    """What one phase holds fixed for one sample: the input and the teaching.

    basal: a_1 = W_1 x + b_1, computed once a phase while W_1 stands still.
    """

    x: Float[Array, " n_0"]
    basal: Float[Array, " n_1"]
    target: Target


class Readout(NamedTuple):
    """What a state means, layer by layer (each a tuple over the layers 1 … L).

    rate: what the neuron sends upwards, h_i. basal: what its basal dendrite predicts, f_i.
    slope: s_i'(a_i). apical: the apical dendritic rate, g_i, of layer L the target.
    teacher: the variable the teaching moves, whose difference to the prediction or between phases
    is the teaching signal. downward: what the neuron sends downwards.
    apical_potential: the apical potentials of the layers 1 … L−1.
    """

    rate: Layers
    basal: Layers
    slope: Layers
    apical: Layers
    teacher: Layers
    downward: Layers
    apical_potential: Layers


class Dynamics(eqx.Module):
    """A family of neurons. A user's own subclasses this and runs at the JAX levels.

    `credits` lists the credit assignments it can be used with.
    """

    credits: eqx.AbstractClassVar[tuple[str, ...]]
    observed: eqx.AbstractClassVar[tuple[str, ...]]

    @property
    @abstractmethod
    def time_constants(self) -> dict[str, Scalar | float]:
        """τ_c in seconds of every compartment, in the order in which a sweep visits them."""

    @property
    @abstractmethod
    def noise(self) -> dict[str, Scalar | float]:
        """σ_c of the noisy compartments: the stationary standard deviation of one left alone."""

    @abstractmethod
    def layers(self, network: Network, compartment: str) -> int:
        """How many layers, from layer 1 up, have this compartment."""

    @abstractmethod
    def pull(
        self, network: Network, weights: Weights, drive: Drive, state: State, name: str, i: int
    ) -> Float[Array, " n_i"]:
        """What compartment `name` of layer i is drawn to."""

    def fixed_point(self, network: Network, weights: Weights, drive: Drive) -> State | None:
        """The rest in closed form, where it has one; None leaves it to the solver."""
        return None

    def velocity(
        self, network: Network, weights: Weights, drive: Drive, state: State, name: str, i: int
    ) -> Float[Array, " n_i"]:
        """How compartment `name` of layer i moves, per second."""
        pull = self.pull(network, weights, drive, state, name, i)
        return (pull - state[name][i - 1]) / self.time_constants[name]

    @abstractmethod
    def read(self, network: Network, weights: Weights, drive: Drive, state: State) -> Readout:
        """What the state means."""

    @abstractmethod
    def attenuation(self, network: Network, i: int) -> Scalar | float:
        """By how much the teaching signal of layer i is expected to shrink on its way down."""

    @abstractmethod
    def observe(self, state: State, readout: Readout) -> dict[str, Layers]:
        """The recordable variables, under the names of the field (`observed`)."""


def rest(dynamics: Dynamics, network: Network, dtype) -> State:
    """The state before anything is shown: all compartments at zero."""
    return {
        name: tuple(
            jnp.zeros(network.sizes[i], dtype) for i in range(1, dynamics.layers(network, name) + 1)
        )
        for name in dynamics.time_constants
    }


def residual(
    dynamics: Dynamics, network: Network, weights: Weights, drive: Drive, state: State
) -> State:
    """p(state) − state, which is τ dv/dt: zero at rest, in units of the state."""
    return {
        name: tuple(
            dynamics.pull(network, weights, drive, state, name, i) - v
            for i, v in enumerate(layers, start=1)
        )
        for name, layers in state.items()
    }


def field(
    dynamics: Dynamics, network: Network, weights: Weights, drive: Drive, state: State
) -> State:
    """dv/dt of every compartment, per second."""
    return {
        name: tuple(
            dynamics.velocity(network, weights, drive, state, name, i)
            for i in range(1, len(layers) + 1)
        )
        for name, layers in state.items()
    }


def sweep(
    dynamics: Dynamics,
    network: Network,
    weights: Weights,
    drive: Drive,
    state: State,
    layers: Iterable[int],
) -> State:
    """The state with one layer after the other set to its pull in place."""
    state = {name: list(v) for name, v in state.items()}  # type: ignore[misc]
    for i in layers:
        for name in dynamics.time_constants:
            if i <= len(state[name]):
                state[name][i - 1] = dynamics.pull(network, weights, drive, state, name, i)  # type: ignore[index]
    return {name: tuple(v) for name, v in state.items()}
