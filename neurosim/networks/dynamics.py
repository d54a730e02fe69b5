"""What every level asks of a network of neurons, and does with it.

A state v moves with a velocity F(v) and is drawn to a *pull* p, where F vanishes all else being
held; its residual is p − v, in units of the state. `field`, `residual` and `sweep` serve the rate
level, the settling criterion and the equilibrium level. All is written for one sample.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Scalar

from neurosim.networks.network import Layers, Network, Weights

State = dict[str, Layers]
"""compartment → one array a layer, layer 1 first."""

PerUnit = Callable[[Any], Any]
"""Rate at which a state decays by itself (1/s) → noise per √s that keeps it at deviation 1."""


def white(rate: Scalar | float) -> Scalar | float:
    """Of white noise in continuous time: √(2 rate), as of an Ornstein–Uhlenbeck process."""
    return (2 * rate) ** 0.5


class Target(eqx.Module):
    """The virtual teaching layer above the output: h_L^trgt as a function of h_L.

    kind `none`: the short-circuit h_L^trgt = h_L of the free phase [T 6.29].
    kind `following`: h_L^trgt = h_L − η̂ e_L(h_L, y), recomputed all along [T 6.10].
    kind `fixed`: the constant `value` (frozen from an earlier phase, or clamped to y).
    kind `switched`: `fixed` where `on`, else `none`, so that phases can share one program.

    Of one sample; where it is held for many, its arrays have leading axes, as those of a `Drive`.
    """

    kind: str = eqx.field(static=True)
    step: Float[Array, "..."] | float = 0.0
    label: Float[Array, "... n"] | None = None
    value: Float[Array, "... n_L"] | None = None
    on: Bool[Array, "..."] | None = None

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

    @property
    def teach(self) -> Scalar | float:
        """1 where there is a target beside h_L itself, 0 where not."""
        if self.kind == "switched":
            assert self.on is not None, "a switch has two sides"
            return jnp.where(self.on, 1.0, 0.0)
        return 0.0 if self.kind == "none" else 1.0


class Drive(eqx.Module):
    """What one phase holds fixed for one sample: the input and the teaching.

    basal: what the input brings, by projection, computed once a phase while weights stand still.
    changed: parameters that this phase changes; as `place.name` those that cells have drawn.
    """

    x: Float[Array, "... n_0"]
    basal: dict[str, Array]
    target: Target
    changed: dict[str, Float[Array, "..."]] = eqx.field(default_factory=dict)


class Readout(NamedTuple):
    """What a state says of the layers 1 … L of a chain, each a tuple over them.

    rate: the activity h_i of the neuron, of stochastic units their mean. drawn: of those what they
    have drawn, of others the same. slope: s_i'(a_i). downward: what it sends downwards,
    before any encoding. Where a credit has a channel of its own, what that brings: teacher, the
    target h_i + teaching_i; apical, what g_i makes of the layer above, and its potential; carried,
    of every feedback matrix the error that comes to it; passed, where that comes through windows,
    what went up before they chose. potential: a_i, what the transfer function is applied to.
    """

    rate: Layers
    slope: Layers
    downward: Layers
    drawn: Layers = ()
    teacher: Layers = ()
    apical: Layers = ()
    apical_potential: Layers = ()
    carried: Layers = ()
    passed: tuple[Array | None, ...] = ()
    potential: Layers = ()


class Dynamics(eqx.Module):
    """How the neurons of a network move: what every level asks, all for one sample."""

    @property
    def cut(self) -> tuple[str, ...]:
        """States that Newton's method finds, not sweeps, which leave them as they are."""
        return ()

    @abstractmethod
    def shapes(self, network: Network) -> dict[str, tuple[int, ...]]:
        """Every kind of state, with its size in every layer that has it."""

    @abstractmethod
    def start(self, name: str) -> float:
        """The value of a kind of state before anything is shown."""

    @abstractmethod
    def visits(self, network: Network, layer: int) -> list[tuple[str, int]]:
        """What a sweep sets in a layer, in order: kinds of states, and their number from 1."""

    @abstractmethod
    def drive(
        self, network: Network, weights: Any, x: Float[Array, " n_0"], target: Target
    ) -> Drive:
        """What a phase holds fixed."""

    @abstractmethod
    def at(self, network: Network, weights: Any, drive: Drive, state: State) -> "Moving":
        """How everything moves in a state."""

    def fixed_point(self, network: Network, weights: Any, drive: Drive) -> State | None:
        """The rest in closed form, where it has one; None leaves it to the solver."""
        return None

    @abstractmethod
    def read(self, network: Network, weights: Any, drive: Drive, state: State) -> Any:
        """What the state means; `rate[-1]` is what the network answers."""

    @abstractmethod
    def look(
        self, network: Network, weights: Any, drive: Drive, state: State
    ) -> dict[str, dict[str, Array]]:
        """The recordable variables, under the names of the field, by the place they have."""

    @abstractmethod
    def expected(self, network: Network, name: str, number: int) -> Scalar | float:
        """By how much the teaching signal is expected to shrink on its way to such a state."""

    @abstractmethod
    def chain(self, weights: Any) -> Weights | None:
        """The weights as those of a chain of layers; None of a network that is none."""

    @property
    @abstractmethod
    def noise(self) -> dict[str, Scalar | float]:
        """What is noisy; empty if nothing is."""

    @abstractmethod
    def deviations(
        self, network: Network, state: State, per_unit: PerUnit = white
    ) -> dict[str, tuple]:
        """Of every state its noise per √s, None where it is quiet.

        per_unit: by which a stationary deviation of σ is kept up: σ times that.
        """


@runtime_checkable
class Moving(Protocol):
    """How a network moves in a state; by kind of state and its number, from 1."""

    @property
    def pull(self) -> Callable[[str, int], Array]:
        """What a state is drawn to."""

    @property
    def velocity(self) -> Callable[[str, int], Array]:
        """How it moves, per second."""


def rest(dynamics: Dynamics, network: Network, dtype: Any) -> State:
    """The state before anything is shown: all compartments where they start."""
    return {
        name: tuple(jnp.full(size, dynamics.start(name), dtype) for size in sizes)
        for name, sizes in dynamics.shapes(network).items()
    }


def residual(
    dynamics: Dynamics, network: Network, weights: Any, drive: Drive, state: State
) -> State:
    """p(state) − state, which is τ dv/dt: zero at rest, in units of the state."""
    pull = dynamics.at(network, weights, drive, state).pull
    return {
        name: tuple(pull(name, number) - v for number, v in enumerate(layers, start=1))
        for name, layers in state.items()
    }


def field(dynamics: Dynamics, network: Network, weights: Any, drive: Drive, state: State) -> State:
    """dv/dt of every compartment, per second."""
    velocity = dynamics.at(network, weights, drive, state).velocity
    return {
        name: tuple(velocity(name, number) for number in range(1, len(layers) + 1))
        for name, layers in state.items()
    }


def sweep(
    dynamics: Dynamics,
    network: Network,
    weights: Any,
    drive: Drive,
    state: State,
    layers: Iterable[int],
) -> State:
    """The state with one layer after the other set to its pull in place."""
    for i in layers:
        for name, number in dynamics.visits(network, i):
            set_to = dynamics.at(network, weights, drive, state).pull(name, number)
            kind = state[name]
            state = state | {name: (*kind[: number - 1], set_to, *kind[number:])}
    return state
