"""How fast a network comes to rest and how large its learning signals are, in closed form."""

from math import cos, pi, sqrt

import numpy as np
from scipy.special import gammaincc


def taught_spectrum(mu: float, depth: int) -> np.ndarray:
    """Eigenvalues of τ times the Jacobian of a mixture network with exact inverses, fixed target.

    −1 + 2√(μ(1−μ)) cos(kπ/(L+1)), k = 1 … L, each n-fold, whatever the weights [T 6.40, solved].
    """
    k = np.arange(1, depth + 1)
    return -1 + 2 * sqrt(mu * (1 - mu)) * np.cos(k * pi / (depth + 1))


def free_spectrum(mu: float, depth: int) -> np.ndarray:
    """The same in the short-circuited free phase, whose last diagonal entry is −(1−μ)."""
    matrix = np.diag(-np.ones(depth))
    matrix += np.diag(np.full(depth - 1, 1 - mu), -1) + np.diag(np.full(depth - 1, mu), 1)
    matrix[-1, -1] = -(1 - mu)
    return np.sort(np.linalg.eigvals(matrix).real)[::-1]


def slowest_time_constant(mu: float, depth: int) -> float:
    """Of a mixture network, in units of τ: 1/(1 − 2√(μ(1−μ)) cos(π/(L+1)))."""
    return 1 / (1 - 2 * sqrt(mu * (1 - mu)) * cos(pi / (depth + 1)))


def chain_leftover(lags: float, depth: int) -> float:
    """What is left of a step after so many time constants, at the end of `depth` lags."""
    return float(gammaincc(depth, lags))
