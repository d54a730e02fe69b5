"""How much a stable network can bear: errors of its inverses, and units astride a kink."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.optimize import minimize_scalar

from neurosim.functions.activations import LeakyReLU
from neurosim.networks.dynamics import Readout, State
from neurosim.networks.network import Network, Weights
from neurosim.process.compiled import compiled
from neurosim.theory.closed_forms import kink_gain
from neurosim.theory.linearisation import System, jacobian

FREQUENCIES = 40
"""Points of the grid on which the largest gain is sought before it is refined."""


class Bearing(NamedTuple):
    """Of one inverse: how wrong it is.

    error: ‖J_{g_i} J_{f_{i+1}} − I‖₂ on the directions layer i+1 keeps, at the fixed point. gain:
    the largest |eigenvalue| of the loop J_{f_{i+1}} J_{g_i}, 1 for an exact inverse; a unit
    straddling a kink alone makes it up to 1/α. straddling: units of layer i+1 whose forward and
    feedback sides have different slopes. NaN, both, where what layer i+1 says has no inverse.
    """

    layer: int
    error: float
    gain: float
    straddling: int


def bearings(network: Network, weights: Weights, now: Readout) -> list[Bearing]:
    """How wrong the maps g_i are as inverses at a fixed point."""
    found = []
    for i in range(1, len(weights.Q) + 1):
        sent = now.downward[i]
        up = np.asarray(now.slope[i][:, None] * weights.W[i], np.float64)
        down = np.asarray(jax.jacfwd(lambda h, i=i: network.g(weights, i, h))(sent), np.float64)
        if not np.isfinite(down).all():
            found.append(Bearing(i, np.nan, np.nan, _straddling(network, now, i)))
            continue
        _, sizes, kept = np.linalg.svd(up, full_matrices=False)
        kept = kept[sizes > 1e-12 * sizes[0]]
        error = (down @ up - np.eye(len(down))) @ kept.T
        gain = np.abs(np.linalg.eigvals(up @ down)).max()
        # Of no direction, of which NumPy 2.2 has no norm, it is 0.
        worst = float(np.linalg.norm(error, 2)) if len(kept) else 0.0
        found.append(Bearing(i, worst, float(gain), _straddling(network, now, i)))
    return found


def _straddling(network: Network, now: Readout, i: int) -> int:
    """Units of layer i+1 whose inverse is read on another side of a kink than their rate is from.

    Only piecewise-linear activations have sides, so elsewhere there are none.
    """
    if network.form != "inverse":
        return 0
    activation = network.activations[i]
    if not isinstance(activation, LeakyReLU):
        return 0
    back = activation.derivative(activation.inverse(now.downward[i]))
    return int(np.sum(np.asarray(back) != np.asarray(now.slope[i])))


@compiled
def feedback_part(system: System, state: State) -> Float[Array, "n n"]:
    """The part of the Jacobian (1/s) that runs through the apical synapses, J(Q) − J(0).

    Exact in the inverse form, where the vector field is affine in Q.
    """
    silent = system.weights | {"Q": jax.tree.map(jnp.zeros_like, system.weights["Q"])}
    return jacobian(system, state) - jacobian(system._replace(weights=silent), state)


def tolerated_error(system: System, state: State) -> float:
    """The relative error of the inverses below which the fixed point surely stays stable.

    For Q_i → (I + E_i) Q_i with every ‖E_i‖₂ below 1/max_ω ‖M (iω − J)⁻¹‖₂, M the part of J that
    runs through Q, no eigenvalue can cross the imaginary axis (small-gain theorem). Sufficient,
    not necessary: random errors must usually be larger. 0 where the state is unstable already, NaN
    where the Jacobian is not finite.
    """
    J = np.asarray(jacobian(system, state), np.float64)
    M = np.asarray(feedback_part(system, state), np.float64)
    if not (np.isfinite(J).all() and np.isfinite(M).all()):
        return np.nan
    eigenvalues = np.linalg.eigvals(J)
    if eigenvalues.real.max() >= 0:
        return 0.0
    identity = np.eye(len(J))

    def gain(frequency: float) -> float:
        return float(np.linalg.norm(M @ np.linalg.inv(1j * frequency * identity - J), 2))

    fastest = np.abs(eigenvalues).max()
    grid = np.concatenate([[0.0], fastest * np.logspace(-3, 0.5, FREQUENCIES)])
    gains = [gain(frequency) for frequency in grid]
    best = int(np.argmax(gains))
    around = grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)]
    refined = minimize_scalar(lambda w: -gain(w), bounds=around, method="bounded")
    largest = max(gains[best], -float(refined.fun))
    return 1 / largest if largest else np.inf


def worst_kink_gain(share: float, network: Network) -> float | None:
    """The squared loop gain of a network that mixes, were a unit of every layer to straddle a kink.

    Below 1 no arrangement of units can make the network unstable, as far as the bound for one unit
    a layer tells. share: μ, of what comes from above in what a unit sends up. None without kinks,
    or where nothing mixes.
    """
    slopes = [a.slope for a in network.activations[1:] if isinstance(a, LeakyReLU)]
    if not slopes or not share or network.form != "inverse":
        return None
    return kink_gain(share, min(slopes), network.depth)
