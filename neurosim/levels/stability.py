"""What a scheme makes of the modes of a system: which steps are too long for it.

A step of dt multiplies a mode of eigenvalue λ by R(z), z = λ dt, the scheme's stability function.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Complex, Float, Scalar

from neurosim.levels.schemes import SCHEMES
from neurosim.networks.dynamics import PerUnit


def response(scheme: str, z: Any) -> Any:
    """What one step adds to a mode, of a push of one a step; z = dt times its eigenvalue.

    P(z) = bᵀ(I − zA)⁻¹ 1 for a Runge–Kutta method with the tableau A, b, stage after stage: no
    stage waits for a later one. Noise, drawn once a step, is such a push.
    """
    if scheme == "euler":
        return 1 + 0 * z
    tableau = SCHEMES[scheme].make(1e-6, 1e-6).tableau
    diagonal = np.zeros(len(tableau.b_sol)) if tableau.a_diagonal is None else tableau.a_diagonal
    stages: list[Any] = []
    for row, own in zip((np.zeros(0), *tableau.a_lower), diagonal, strict=True):
        before = sum(a * stage for a, stage in zip(row, stages, strict=True))
        stages.append((1 + z * before) / (1 - z * own))
    return sum(b * stage for b, stage in zip(tableau.b_sol, stages, strict=True))


def amplification(scheme: str, z: Any) -> Any:
    """By which one step multiplies a mode: R(z) = 1 + z P(z), the scheme's stability function."""
    return 1 + z * response(scheme, z)


def longest_step(scheme: str, eigenvalues: Complex[np.ndarray, " k"], dt: float) -> float:
    """The longest step up to dt (s) at which a scheme amplifies none of these decaying modes."""

    def decays(step: float) -> bool:
        return bool((np.abs(amplification(scheme, step * eigenvalues)) <= 1 + 1e-9).all())

    low, high = 0.0, dt
    if decays(dt):
        return dt
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if decays(middle) else (low, middle)
    return low


def stepped(scheme: str, dt: float) -> PerUnit:
    """`white`, for steps of dt (s): what keeps a state at deviation 1 under them.

    v ← R v + P s√dt ξ holds a variance of P² s² dt/(1 − R²): with 1 − R = dt rate P, it is one for
    s² = rate (1 + R)/P. Steps that amplify the state hold none, and get white noise.
    """

    def per_unit(rate: Scalar | float) -> Scalar:
        z = -dt * jnp.asarray(rate)
        R, P = amplification(scheme, z), response(scheme, z)
        return jnp.sqrt(jnp.where(jnp.abs(R) < 1, rate * (1 + R) / P, 2 * rate))

    return per_unit


MARGIN = 1.25
"""A step is too long for a motion if one longer by this factor would amplify it.

Where steps amplify what nonlinearity bounds, they end in cycles that a step just reverses: z = −2,
the very bound of Euler's and of Heun's method, on whose safe side rounding may lie.
"""

SEEN = 1e3
"""Roundings of a state below which how it moves cannot be told."""


def too_long(
    scheme: str, state: Float[Array, " n"], moves: Float[Array, "2 n"]
) -> tuple[Bool[Array, ""], Bool[Array, ""]]:
    """Whether a state can move, and whether steps of a scheme amplify how although it decays.

    moves: a step times the velocity, at the state, and at the state moved by just that. With Δ the
    difference of the two

        Re z = ⟨moves_1, Δ⟩/‖moves_1‖²,  |z| = ‖Δ‖/‖moves_1‖

    is the eigenvalue of a motion along a line, or of one that turns in a plane. What steps amplify
    outgrows all else, so that it is soon that which moves.
    """
    first, change = moves[0], moves[1] - moves[0]
    products = jnp.stack([first * first, first * change, change * change, state * state])
    moved, along, changed, size = jnp.sum(products, axis=1)
    free = jnp.isfinite(moved)
    seen = moved > (SEEN * jnp.finfo(state.dtype).eps) ** 2 * size
    scale = MARGIN / moved
    real = scale * along
    turning = jnp.sqrt(jnp.maximum(MARGIN * scale * changed - real * real, 0.0))
    if SCHEMES[scheme].implicit:  # and amplifies nothing that decays
        return free, jnp.zeros_like(free)
    x, y = jnp.ones_like(real), jnp.zeros_like(real)
    for factor in _factors(scheme):  # R by Horner's rule, x + iy; complex numbers compile for long
        x, y = 1 + factor * (real * x - turning * y), factor * (real * y + turning * x)
    return free, seen & (real < 0) & (x * x + y * y >= 1)


def _factors(scheme: str) -> list[float]:
    """c_k/c_(k−1) of an explicit scheme's R(z) = Σ c_k z^k, c_k = bᵀ A^(k−1) 1, highest first."""
    if scheme == "euler":
        return [1.0]
    tableau = SCHEMES[scheme].make(1e-6, 1e-6).tableau
    stages = len(tableau.b_sol)
    A = np.zeros((stages, stages))
    for stage, row in enumerate(tableau.a_lower, start=1):
        A[stage, : len(row)] = row
    powers = [np.linalg.matrix_power(A, k) for k in range(stages)]
    found = np.array([1.0, *(tableau.b_sol @ power @ np.ones(stages) for power in powers)])
    found = found[: np.flatnonzero(np.abs(found) > 1e-12)[-1] + 1]
    return (found[1:] / found[:-1])[::-1].tolist()
