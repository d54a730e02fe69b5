"""How much the spikes of a network scatter its states, and what is counted of them.

What the spikes of a unit say of a quantity c that they carry is c + ξ: white noise ξ of intensity q
about it. Synapses smooth it, τ dz/dt = c + ξ − z, and others receive what is made of z in place of
c. Near a fixed point the states v, all z among them, follow

    dv = J (v − v*) dt + B ξ dt + noise of the compartments,

whose stationary covariance P solves J P + P Jᵀ + B q Bᵀ + … = 0. What is recorded is y = C v + D ξ.
Its mean over T scatters by its own ξ, by that of all others through v, and by both together. A
target that was itself read from spikes stays wrong for the whole phase and shifts the fixed point.
Synapses that do not pass every spike alike say c + ζ in place of c + ξ: ζ then moves the states, ξ
is what is recorded, and where both meet stands the intensity of the one with the other.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float
from scipy.linalg import expm, solve_continuous_lyapunov

from neurosim.circuits.description import Circuit
from neurosim.circuits.populations import Group
from neurosim.networks.circuit import Moment
from neurosim.networks.dynamics import State, Target
from neurosim.process.compiled import compiled
from neurosim.theory.linearisation import System
from neurosim.theory.signal_to_noise import diffusion

Carried = tuple[Group, str]
"""A quantity that the spikes of a group speak of."""


class Said(Moment):
    """All quantities of all groups, of which others receive what spikes say.

    noise: ξ of everything that is carried. smooth: z of what synapses smooth. mixed: how what is
    heard of it changes with all that the same spikes carry, beyond what it is told of itself.
    """

    def __init__(
        self,
        *moment: Any,
        noise: Mapping[Carried, Array],
        smooth: Mapping[Carried, Array],
        mixed: Mapping[Carried, Mapping[str, Array]],
    ) -> None:
        super().__init__(*moment)
        self.noise, self.smooth, self.mixed = noise, smooth, mixed

    def heard(self, group: Group, name: str) -> Float[Array, " n"]:
        """What is heard of a quantity that is carried, before anything is smoothed."""
        said = self.whole(group, name) + self.noise[group, name]
        for other, slope in self.mixed.get((group, name), {}).items():
            told = self.whole(group, other)
            said = said + slope * (told - jax.lax.stop_gradient(told))  # of its changes alone
        return said

    def _sent(self, group: Group, name: str) -> Float[Array, " n"]:
        cell = self.circuit.cell(group)

        def of(name: str) -> Any:
            if (group, name) in self.smooth:
                return self.smooth[group, name]
            if (group, name) in self.noise:
                return self.heard(group, name)
            if name in cell.states or name not in cell.defined:
                return self(group, name)
            return self._evaluated(group, name, of)

        return jnp.broadcast_to(of(name), (self.circuit.size(group),))

    def recorded(self, group: Group, name: str) -> Float[Array, " n"]:
        """What is recorded of a quantity: of one that is carried what spikes say at the moment."""
        carried = _carried(self.circuit, group, name)
        return self.whole(group, name) + self.noise.get((group, carried), 0.0)


def _carried(circuit: Circuit, group: Group, name: str) -> str:
    """What spikes call the quantity, by which it is counted; its own name if they do not."""
    population = circuit.population[group.population]
    carrier = population.carrier(name)
    return name if carrier is None else (population.carried or ())[carrier]


class Linear(NamedTuple):
    """How something moves with the flat state, with the flat noise and with a fixed target."""

    state: Any
    noise: Any
    target: Any


class Scatter:
    """A circuit of spiking units near a fixed point.

    Args:
        system: the circuit in a phase.
        state: its fixed point.
        intensities: of the noise in what spikes say of all that is carried (h² s), unit by unit;
            empty where there are no spikes.
        taus: of what smooths single spikes or events, and bursts (s); 0 for nothing.
        aim: deviations of a fixed target from phase to phase; None where it is exact.
        heard: of what synapses pass of it, where that is no count: its own intensity, and that of
            it with the count.
        mixed: of what others hear of it, how it changes with what the same spikes carry, by name,
            beyond what it is told of itself.

    Raises:
        ValueError: the fixed point is unstable, so that no stationary scatter exists.
    """

    def __init__(
        self,
        system: System,
        state: State,
        intensities: Mapping[Carried, Float[np.ndarray, " _"]],
        taus: tuple[float, float],
        aim: Float[np.ndarray, " n_L"] | None = None,
        heard: Mapping[Carried, tuple[np.ndarray, np.ndarray]] | None = None,
        mixed: Mapping[Carried, Mapping[str, np.ndarray]] | None = None,
    ) -> None:
        dynamics: Any = system.dynamics
        self.circuit: Circuit = dynamics.circuit
        self.intensities, self.aim = dict(intensities), aim
        smoothed = smoothing(self.circuit, self.intensities, taus)
        silent = {node: jnp.zeros(len(q)) for node, q in self.intensities.items()}
        linear = _linear(system, state, silent, smoothed, mixed or {})
        velocity, self._readings = jax.tree.map(lambda a: np.asarray(a, np.float64), linear)
        self.J, self.B, self._pushed = velocity
        if not np.linalg.eigvals(self.J).real.max() < 0:
            raise ValueError("an unstable fixed point has no stationary scatter")
        heard = dict(heard or {})
        told = {node: (q, *heard.get(node, (q, q))) for node, q in self.intensities.items()}
        # In the order in which noise is flattened: counted, heard, and both.
        self.q, passed, self._both = (
            np.concatenate([*(told[node][k] for node in sorted(silent)), []]) for k in range(3)
        )
        spread = self.B @ (passed[:, None] * self.B.T)
        own = diffusion(dynamics, system.network, state)
        spread[np.arange(len(own)), np.arange(len(own))] += own
        self.P = solve_continuous_lyapunov(self.J, -spread)

    @cached_property
    def _inverse(self) -> Float[np.ndarray, "n n"]:
        return np.linalg.inv(self.J)

    def _kernel(self, window: float) -> Float[np.ndarray, "n n"]:
        """∫₀ᵀ (T−u) e^{Ju} du."""
        grown = expm(self.J * window) - np.eye(len(self.J))
        return self._inverse @ self._inverse @ grown - window * self._inverse

    def deviation(self, place: str, variable: str, window: float) -> Float[np.ndarray, " n"]:
        """The standard deviation of the mean of a recorded variable over `window` (s).

        A window of 0 is a state at one moment.
        """
        C, D, aimed = self._readings[f"{place}.{variable}"]
        variance = np.zeros(len(C))
        if self.aim is not None:
            variance += (aimed - C @ self._inverse @ self._pushed) ** 2 @ self.aim**2
        if not window:
            return np.sqrt(variance + np.einsum("ij,jk,ik->i", C, self.P, C))
        M = self.P @ C.T + self.B @ (self._both[:, None] * D.T)
        variance += 2 * np.einsum("ij,ji->i", C @ self._kernel(window), M) / window**2
        return np.sqrt(variance + D**2 @ self.q / window)

    def counting(self, place: str, variable: str, window: float) -> Float[np.ndarray, " n"]:
        """The same of a count alone, as it were without a network around."""
        group = next(g for g in self.circuit.groups if self.circuit.place(g) == place)
        return np.sqrt(self.intensities[group, _carried(self.circuit, group, variable)] / window)


def smoothing(
    circuit: Circuit, nodes: Mapping[Carried, Any], taus: tuple[float, float]
) -> dict[Carried, float]:
    """The time constants (s) of what is smoothed."""
    found = {}
    for group, name in nodes:
        carrier = circuit.population[group.population].carrier(name)
        if carrier is not None and taus[carrier]:
            found[group, name] = taus[carrier]
    return found


@compiled
def _linear(
    system: System,
    state: State,
    silent: dict[Carried, Array],
    taus: dict[Carried, float],
    mixed: Mapping[Carried, Mapping[str, Any]],
) -> tuple[Linear, dict[str, Linear]]:
    """Velocities of states and of what is smoothed, behind them, and all that is recorded."""
    dynamics: Any = system.dynamics
    circuit, drive = dynamics.circuit, system.drive
    rest = dynamics.at(*system[1:], state)
    flat, unravel = ravel_pytree((state, {node: rest.whole(*node) for node in taus}))
    noise, unravel_noise = ravel_pytree(silent)
    fixed = drive.target.value if drive.target.kind == "fixed" else None

    def near(flat: Array, noise: Array, target: Array) -> tuple[Array, dict[str, Array]]:
        (states, smooth), xi = unravel(flat), unravel_noise(noise)
        aimed = drive if fixed is None else replace(drive, target=Target("fixed", value=target))
        given = dynamics, system.network, system.weights, aimed, states
        now = Said(*given, noise=xi, smooth=smooth, mixed=mixed)
        velocity = {
            name: tuple(now.velocity(name, k) for k in range(1, len(layers) + 1))
            for name, layers in states.items()
        }
        smoothed = {node: (now.heard(*node) - z) / taus[node] for node, z in smooth.items()}
        recorded = {f"{circuit.place(g)}.{n}": now.recorded(g, n) for g, n in circuit.observed}
        return ravel_pytree((velocity, smoothed))[0], recorded

    at = flat, noise, jnp.zeros(circuit.sizes[-1]) if fixed is None else fixed
    moved, read = jax.jacfwd(near, argnums=(0, 1, 2))(*at)
    return Linear(*moved), {name: Linear(*parts) for name, parts in read.items()}
