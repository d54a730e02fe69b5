"""How far the learning signal of each layer stands out of the noise of the compartments.

Small noise makes the network near its fixed point an Ornstein–Uhlenbeck process,

    dv = J (v − v*) dt + B dW,   B = diag(σ_c √(2/τ_c)),

whose stationary covariance P solves J P + P Jᵀ + B Bᵀ = 0.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Float
from scipy.linalg import expm, solve_continuous_lyapunov

from neurosim.dynamics.base import Dynamics, Readout, State
from neurosim.network import Layers
from neurosim.theory.linearisation import System, jacobian

Teaching = Callable[[Readout], Layers]
"""What the learning signal of a phase is, up to a constant, as a function of its readout."""


class Ratio(NamedTuple):
    """Of one layer: the norms of its learning signal and of the noise in it (root mean square)."""

    signal: float
    noise: float

    @property
    def snr(self) -> float:
        """Power of the signal over power of the noise."""
        return (self.signal / self.noise) ** 2 if self.noise else np.inf


def diffusion(dynamics: Dynamics, state: State) -> Float[np.ndarray, " n"]:
    """The diagonal of B Bᵀ (1/s): 2 σ_c²/τ_c of every compartment, as the rate level has it."""
    spread = {
        name: tuple(
            np.full(np.shape(v), 2 * dynamics.noise.get(name, 0.0) ** 2 / taus) for v in layers
        )
        for (name, layers), taus in zip(
            state.items(), (dynamics.time_constants[name] for name in state), strict=True
        )
    }
    return np.asarray(ravel_pytree(spread)[0], np.float64)


def covariance(system: System, state: State) -> Float[np.ndarray, "n n"]:
    """P of the states in stationarity, for small noise: exact where the network is linear."""
    J = np.asarray(jacobian(system, state), np.float64)
    return solve_continuous_lyapunov(J, -np.diag(diffusion(system.dynamics, state)))


def averaged(
    J: Float[np.ndarray, "n n"], P: Float[np.ndarray, "n n"], window: float
) -> Float[np.ndarray, "n n"]:
    """The covariance of the mean over `window` (s) of a process with covariance P.

    (1/T²) (K P + P Kᵀ), K = ∫₀ᵀ (T−u) e^{Ju} du = J⁻² (e^{JT} − I) − T J⁻¹.
    """
    inverse = np.linalg.inv(J)
    K = inverse @ inverse @ (expm(J * window) - np.eye(len(J))) - window * inverse
    return (K @ P + P @ K.T) / window**2


def learning_signal(
    phases: list[tuple[System, State]],
    teaching: Teaching,
    signal: Layers,
    window: float | None = None,
) -> list[Ratio]:
    """The learning signal of every layer against the noise in it.

    phases: those whose readouts the signal compares, one or two, each at its fixed point; they are
    long against the slowest mode, so that their noise is independent. teaching: see `Teaching`.
    signal: the noiseless one. window: average over so long (s) at the end of each phase; None for
    reading the final state.
    """
    noise = np.zeros(len(signal))
    for system, state in phases:
        J, P = np.asarray(jacobian(system, state), np.float64), covariance(system, state)
        if window is not None:
            P = averaged(J, P, window)
        flat, unravel = ravel_pytree(state)

        def seen(v, system=system, unravel=unravel):
            dynamics, network, weights, drive = system
            return teaching(dynamics.read(network, weights, drive, unravel(v)))

        for i, R in enumerate(jax.jacfwd(seen)(flat)):
            noise[i] += np.einsum("ij,jk,ik->", R, P, R)
    return [
        Ratio(float(np.linalg.norm(s)), float(np.sqrt(n)))
        for s, n in zip(signal, noise, strict=True)
    ]
