"""How far the learning signal of each layer stands out of the noise of the compartments.

Small noise makes the network near its fixed point an Ornstein–Uhlenbeck process,

    dv = J (v − v*) dt + B dW,   B = diag(σ_c √(2/τ_c)),

whose stationary covariance P solves J P + P Jᵀ + B Bᵀ = 0.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Scalar
from scipy.linalg import expm, solve_continuous_lyapunov

from neurosim.credit import Credit
from neurosim.credit.channel import Passage
from neurosim.networks.circuit import Signals
from neurosim.networks.dynamics import Dynamics, State
from neurosim.networks.network import Layers, Network
from neurosim.plasticity.local import teaching
from neurosim.process.compiled import compiled
from neurosim.theory.linearisation import System, jacobian


class Ratio(NamedTuple):
    """Of one layer: the norms of its learning signal and of the noise in it (root mean square)."""

    signal: float
    noise: float

    @property
    def snr(self) -> float:
        """Power of the signal over power of the noise."""
        return (self.signal / self.noise) ** 2 if self.noise else np.inf


def diffusion(dynamics: Dynamics, network: Network, state: State) -> Float[np.ndarray, " n"]:
    """The diagonal of B Bᵀ (1/s): 2 σ_c²/τ_c of every compartment, as the rate level has it."""
    deviations = dynamics.deviations(network, state)
    spread = {
        name: tuple(
            np.full(np.shape(v), 0.0 if d is None else d**2)
            for v, d in zip(layers, deviations[name], strict=True)
        )
        for name, layers in state.items()
    }
    return np.asarray(ravel_pytree(spread)[0], np.float64)


def covariance(system: System, state: State) -> Float[np.ndarray, "n n"]:
    """P of the states in stationarity, for small noise: exact where the network is linear."""
    J = np.asarray(jacobian(system, state), np.float64)
    return solve_continuous_lyapunov(J, -np.diag(diffusion(*system[:2], state)))


def averaged(
    J: Float[np.ndarray, "n n"], P: Float[np.ndarray, "n n"], window: float
) -> Float[np.ndarray, "n n"]:
    """The covariance of the mean over `window` (s) of a process with covariance P.

    (1/T²) (K P + P Kᵀ), K = ∫₀ᵀ (T−u) e^{Ju} du = J⁻² (e^{JT} − I) − T J⁻¹.
    """
    inverse = np.linalg.inv(J)
    K = inverse @ inverse @ (expm(J * window) - np.eye(len(J))) - window * inverse
    return (K @ P + P @ K.T) / window**2


class OfPhases(eqx.Module):
    """How the rule of W reads one of the phases that it compares, the others being held.

    phase: by name, whose end is remembered; None for the phase that teaches. now: the readout of
    that. before: those of earlier phases, by name. All of one sample.
    """

    phase: str | None = eqx.field(static=True)
    now: Signals
    before: dict[str, Signals]

    def __call__(self, system: System, readout: Signals) -> Layers:
        """The learning signal of every layer."""
        now, before = readout, self.before
        if self.phase is not None:
            now, before = self.now, self.before | {self.phase: readout}
        one_sample = jax.tree.map(lambda a: a[None], (now, before))
        dynamics, network, weights, _ = system
        return jax.tree.map(lambda a: a[0], teaching(dynamics, network, weights, *one_sample))


class OfChannel(eqx.Module):
    """How a credit with a channel of its own reads the rest. step: η̂. passage: of errors."""

    credit: Credit = eqx.field(static=True)
    label: Float[Array, " n_L"]
    step: Scalar | float
    passage: tuple[Passage, ...] = ()

    def __call__(self, system: System, readout: Signals) -> Layers:
        """The learning signal of every layer."""
        dynamics, network, weights, _ = system
        chain, layers = dynamics.chain(weights), dynamics.layers(network, readout)
        return self.credit.assign(network, chain, layers, self.label, self.step, *self.passage)


def learning_signal(
    phases: list[tuple[System, State, OfPhases | OfChannel]],
    signal: Layers,
    window: float | None = None,
) -> list[Ratio]:
    """The learning signal of every layer against the noise in it.

    phases: those that the signal compares, one or two, each at its fixed point and with how the
    signal reads it, which is linear; they are long against the slowest mode, so that their noise is
    independent. signal: the noiseless one. window: average over so long (s) at the end of each
    phase; None for reading the final state.
    """
    noise = np.zeros(len(signal))
    for system, state, reading in phases:
        J, P = np.asarray(jacobian(system, state), np.float64), covariance(system, state)
        if window is not None:
            P = averaged(J, P, window)
        for i, R in enumerate(_read_by(reading, system, state)):
            noise[i] += np.einsum("ij,jk,ik->", R, P, R, optimize=True)
    return [
        Ratio(float(np.linalg.norm(s)), float(np.sqrt(n)))
        for s, n in zip(signal, noise, strict=True)
    ]


@compiled
def _read_by(reading: OfPhases | OfChannel, system: System, state: State) -> Layers:
    """How the learning signal of every layer moves with the flat state of one of its phases."""
    flat, unravel = ravel_pytree(state)
    dynamics, network, weights, drive = system

    def read(v: Float[Array, " n"]) -> Layers:
        return reading(system, dynamics.read(network, weights, drive, unravel(v)))

    return jax.jacfwd(read)(flat)
