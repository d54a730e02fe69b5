"""How much the spikes of a network scatter its states, and what is counted of them.

What a unit sends is h + ξ: counted spikes carry white noise ξ of intensity q about its rate. The
synapses bring ξ to the dendrites above and below, and near a fixed point the states v follow

    dv = J (v − v*) dt + B ξ dt + noise of the compartments,

whose stationary covariance P solves J P + P Jᵀ + B q Bᵀ + … = 0. A count over T, the mean of
y = C v + D ξ, scatters by its own ξ, by that of all others through v, and by both together. A
target that was itself read from spikes stays wrong for the whole phase and shifts the fixed point.
"""

from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float
from scipy.linalg import expm, solve_continuous_lyapunov

from neurosim.compiled import compiled
from neurosim.dynamics.base import Drive, State, Target, field
from neurosim.network import Layers
from neurosim.theory.linearisation import System, jacobian
from neurosim.theory.signal_to_noise import diffusion

Intensities = Sequence[Float[np.ndarray, " _"]]
"""Of the noise in what the layers 1 … L send, in units of h² s."""


class Scatter:
    """A layered network of spiking units near a fixed point.

    Args:
        system: with a time constant for every dendrite.
        state: the fixed point.
        up: intensities of what is sent to the basal dendrites above.
        down: of what is sent to the apical dendrites below; None where it is the same noise.
        aim: deviations of a fixed target from phase to phase; None where it is exact.

    Raises:
        ValueError: the fixed point is unstable, so that no stationary scatter exists.
    """

    def __init__(
        self,
        system: System,
        state: State,
        up: Intensities,
        down: Intensities | None,
        aim: Float[np.ndarray, " n_L"] | None = None,
    ) -> None:
        self.J = np.asarray(jacobian(system, state), np.float64)
        if not np.linalg.eigvals(self.J).real.max() < 0:
            raise ValueError("an unstable fixed point has no stationary scatter")
        self.readings = jax.tree.map(np.asarray, _readings(system, state))
        self.aim, self.pushed, self.aimed = aim, None, {}
        if aim is not None:
            self.pushed, self.aimed = jax.tree.map(np.asarray, _by_target(system, state))
        ends = np.cumsum([0, *(len(q) for q in (*up, *(down or ())))])
        sent = [np.arange(a, b) for a, b in pairwise(ends)]
        depth = system.network.depth
        self.up, self.down = sent[:depth], sent[-depth:]
        self.q = np.concatenate([*up, *(down or ())])
        self.B = self._synapses(system, state)
        spread = self.B @ (self.q[:, None] * self.B.T)
        self.P = solve_continuous_lyapunov(
            self.J, -spread - np.diag(diffusion(system.dynamics, system.network, state))
        )

    def _synapses(self, system: System, state: State) -> Float[np.ndarray, "n m"]:
        """How the noise of what is sent moves every state."""
        dynamics: Any = system.dynamics
        network, weights = system.network, system.weights
        B = np.zeros((len(self.J), len(self.q)))
        if not self.q.any():
            return B
        places = ravel_pytree(state)[1](jnp.arange(len(self.J), dtype=jnp.result_type(float)))
        at = {name: [np.asarray(p, int) for p in layers] for name, layers in places.items()}
        taus = dynamics.time_constants
        for i in range(1, network.depth):
            basal, apical = at["basal"][i], at["apical"][i - 1]
            B[np.ix_(basal, self.up[i - 1])] += np.asarray(weights.W[i]) / taus["basal"]
            B[np.ix_(apical, self.down[i])] += self.readings["apical synapses"][i - 1] / float(
                taus["apical"]
            )
        return B

    @cached_property
    def _inverse(self) -> Float[np.ndarray, "n n"]:
        return np.linalg.inv(self.J)

    def _kernel(self, window: float) -> Float[np.ndarray, "n n"]:
        """∫₀ᵀ (T−u) e^{Ju} du."""
        grown = expm(self.J * window) - np.eye(len(self.J))
        return self._inverse @ self._inverse @ grown - window * self._inverse

    def _shift(self, variable: str, layer: int, C: np.ndarray) -> np.ndarray | float:
        """The variance that the target brings."""
        if self.aim is None:
            return 0.0
        moved = self.aimed[variable][layer - 1] - C @ self._inverse @ self.pushed
        return (moved**2) @ self.aim**2

    def deviation(
        self, variable: str, layer: int, window: float, counts: str | None
    ) -> Float[np.ndarray, " n_i"]:
        """The standard deviation of a recorded variable's mean over `window` (s).

        counts: the noise of its own that it is counted with, `up` or `down`; None of a state. A
        window of 0 is a state at one moment.
        """
        C = self.readings[variable][layer - 1]
        shift = self._shift(variable, layer, C)
        if not window:
            return np.sqrt(np.einsum("ij,jk,ik->i", C, self.P, C) + shift)
        M, own = self.P @ C.T, shift
        if counts is not None:
            mine = getattr(self, counts)[layer - 1]
            M = M + self.B[:, mine] * self.q[mine]
            own = own + self.q[mine] / window
        return np.sqrt(2 * np.einsum("ij,ji->i", C @ self._kernel(window), M) / window**2 + own)


@compiled
def _readings(system: System, state: State) -> dict[str, Layers]:
    """How what is recorded, and what apical synapses receive, moves with the flat state."""
    flat, unravel = ravel_pytree(state)
    dynamics: Any = system.dynamics
    network, weights, drive = system[1:]

    def recorded(v: Float[Array, " n"]) -> dict[str, Layers]:
        there = unravel(v)
        return dynamics.variables(there, dynamics.read(network, weights, drive, there))

    sent = dynamics.read(network, weights, drive, state).downward
    received = tuple(
        jax.jacfwd(lambda h, i=i: network.apical(weights, i, h))(sent[i])
        for i in range(1, network.depth)
    )
    return jax.jacfwd(recorded)(flat) | {"apical synapses": received}


@compiled
def _by_target(system: System, state: State) -> tuple[Array, dict[str, Layers]]:
    """How the flat velocity, and what is recorded, move with a fixed target."""
    dynamics: Any = system.dynamics
    network, weights, drive = system[1:]

    def under(value: Float[Array, " n_L"]) -> tuple[Array, dict[str, Layers]]:
        moved = Drive(drive.x, drive.basal, Target("fixed", value=value))
        velocity = ravel_pytree(field(dynamics, network, weights, moved, state))[0]
        readout = dynamics.read(network, weights, moved, state)
        return velocity, dynamics.variables(state, readout)

    return jax.jacfwd(under)(drive.target.value)
