"""Learning as an ODE of A[1, 1, 1] with a power as transfer function, O = a_2 (a_1 I)^μ [B 7.9].

For inputs and a_1 that are positive, so that powers are real. With the slope of the hidden unit in
the error that it hears, learning conserves a quantity and ends at the only positive root of B 117;
without it no fixed point exists in general, and a_1 runs away. B: see `learning_flows`.
"""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.optimize import brentq


class PowerMoments(NamedTuple):
    """α = E(T I^μ), β = E(I^2μ), γ = E(T I), δ = E(I^(μ+1)) [B 113]."""

    alpha: float
    beta: float
    gamma: float
    delta: float

    @classmethod
    def of(
        cls, x: Float[np.ndarray, " s"], y: Float[np.ndarray, " s"], mu: float
    ) -> "PowerMoments":
        """Of positive inputs, and targets."""
        power = x**mu
        means = y * power, power**2, y * x, x * power
        return cls(*(float(np.mean(each)) for each in means))


def invariant(a1: float, a2: float, c1: float, mu: float) -> float:
    """a_2 − a_1²/(2 c_1 μ), with the slope [B 115]."""
    return a2 - a1**2 / (2 * c1 * mu)


def gradient_invariant(a1: float, a2: float, mu: float) -> float:
    """a_1² − μ a_2², of the gradient flow [B 119]."""
    return a1**2 - mu * a2**2


def limit(a1: float, a2: float, c1: float, mu: float, moments: PowerMoments) -> tuple[float, float]:
    """Where (a_1, a_2) end with the slope, for a_1, c_1, α, β > 0 [B 117, theorem 12].

    The equation (a²/(2c_1 μ) + K) a^μ = α/β has one positive root, not several: where the left side
    is positive both of its factors grow.
    """
    assert min(a1, c1, moments.alpha, moments.beta) > 0, "as theorem 12 has it"
    K, wanted = invariant(a1, a2, c1, mu), moments.alpha / moments.beta
    least = math.sqrt(max(0.0, -2 * c1 * mu * K))

    def error(t: float) -> float:
        return (t**2 / (2 * c1 * mu) + K) * t**mu - wanted

    most = max(a1, 1.0, least)
    while error(most) < 0:
        most *= 2
    end = brentq(error, least, most, xtol=1e-300, rtol=8.9e-16)
    return end, wanted / end**mu


def drift_without_slope(c1: float, moments: PowerMoments) -> float:
    """da_1/dt, per unit of rate, in the long run without the slope: c_1 (γ − δ α/β).

    Once a_1 is large a_2 follows it so fast that a_2 a_1^μ stays at α/β, where the output is best;
    then a_1 hears c_1 (γ − δ α/β) for ever, and a fixed point needs γ/δ = α/β [B 113].
    """
    return c1 * (moments.gamma - moments.delta * moments.alpha / moments.beta)
