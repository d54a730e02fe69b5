"""Laws of mixture networks with exact inverses, in closed form [T 6.15, 6.16, 6.40].

They hold for any weights: r = μ/(1−μ) alone says how signals shrink, μ and L how fast they come.
"""

from math import cos, pi, sqrt

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.linalg import eigvalsh_tridiagonal

from neurosim.dynamics.base import Readout
from neurosim.network import Layers, Network, Weights


def taught_spectrum(mu: float, depth: int) -> Float[np.ndarray, " L"]:
    """Eigenvalues of τ times the Jacobian of a mixture network with exact inverses, fixed target.

    −1 + 2√(μ(1−μ)) cos(kπ/(L+1)), k = 1 … L, each n-fold, whatever the weights [T 6.40, solved].
    """
    k = np.arange(1, depth + 1)
    return -1 + 2 * sqrt(mu * (1 - mu)) * np.cos(k * pi / (depth + 1))


def free_spectrum(mu: float, depth: int) -> Float[np.ndarray, " L"]:
    """The same in the short-circuited free phase, whose last diagonal entry is −(1−μ).

    The tridiagonal matrix has products μ(1−μ) off its diagonal, so a symmetric one is similar.
    """
    diagonal = -np.ones(depth)
    diagonal[-1] = -(1 - mu)
    beside = np.full(depth - 1, sqrt(mu * (1 - mu)))
    return eigvalsh_tridiagonal(diagonal, beside)[::-1]


def slowest_time_constant(mu: float, depth: int) -> float:
    """Of a mixture network with a fixed target, in units of τ: 1/(1 − 2√(μ(1−μ)) cos(π/(L+1)))."""
    return 1 / (1 - 2 * sqrt(mu * (1 - mu)) * cos(pi / (depth + 1)))


def kink_gain(mu: float, slope: float, depth: int) -> float:
    """The bound 4μ(1−μ) cos²(π/(L+1))/α on the squared gain of a loop; stable while below 1.

    Where a unit's forward and feedback sides lie on different sides of the kink of a
    piecewise-linear activation of slopes 1 and α, its loop has gain μ(1−μ)/α instead of μ(1−μ).
    Proved for one unit a layer, whose tridiagonal matrix is similar to a symmetric one.
    """
    return 4 * mu * (1 - mu) * cos(pi / (depth + 1)) ** 2 / slope


def frozen_shares(mu: float, depth: int) -> Float[np.ndarray, " L"]:
    """How much of a frozen displacement d of the target reaches each layer, 1 … L.

    h_i^l − h_i^f = (ρ^i − 1)/(ρ^{L+1} − 1) J_{f_{i+1}}⁻¹ … J_{f_L}⁻¹ d with ρ = (1−μ)/μ, exact for
    linear layers, and for piecewise-linear ones while no unit crosses a kink.
    """
    rho = (1 - mu) / mu
    return (rho ** np.arange(1, depth + 1) - 1) / (rho ** (depth + 1) - 1)


def carried_down(
    network: Network, weights: Weights, readout: Readout, top: Float[Array, " n_L"]
) -> Layers:
    """[Π_{k>i} J_{f_k}^†] top for the layers 1 … L, with J_{f_k}^† = W_k^† D_k⁻¹ [T 4.11, 5.60].

    With exact inverses times −η̂ (μ/(1−μ))^{L+1−i} and top = e_L this is the error law [T 6.16].
    """
    carried = [top]
    for k in range(network.depth, 1, -1):
        carried.append(jnp.linalg.pinv(weights.W[k - 1]) @ (carried[-1] / readout.slope[k - 1]))
    return tuple(reversed(carried))
