"""Laws of mixture networks with exact inverses, in closed form [T 6.15, 6.40].

They hold for any weights: r = μ/(1−μ) alone says how signals shrink, μ and L how fast they come.
The error law itself [T 6.16] is the Gauss–Newton signal of `decomposition` times the attenuation.
"""

from math import cos, pi, sqrt

import numpy as np
from jaxtyping import Float
from scipy.linalg import eigvalsh_tridiagonal


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
