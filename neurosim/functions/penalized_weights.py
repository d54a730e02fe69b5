"""Weights as solutions of local problems: least squares with penalties, forward and backward.

Kostadinov, Razeghi & Voloshynovskiy 2019 [K]. Forward weights A (n, m) of a node minimise

    ½ Tr(A M Aᵀ) − Tr(A Nᵀ) + V(A)                                                         [K 16]
    V(A) = λ₂/2 ‖A‖² + λ₃/2 ‖A Aᵀ − I‖² − λ₄ log|det AᵀA|                                  [K 2.2]

with M (m, m) a second moment of what is sent and N (n, m) what is wanted times what is sent. The
approximate solution is in a paper that [K] cites; docs/local-goals.md derives the one here.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Scalar

from neurosim.functions.inverses import eigen, inverse, pseudo_inverse, singular

NEWTON_STEPS = 40
"""From the upper bound of a quartic's root, which loses a quarter of its excess at least in each
step: enough for a bound that is too high by 10⁵."""

SILENT = 2 / 3
"""Below the precision to this power, relative to the largest, a direction counts as one in which
nothing is said: 4·10⁻¹¹ in double precision, 2·10⁻⁵ in single. Rounding turns those above by about
its cube root at most, and which way those below point is worth about that power itself at most."""


class Penalties(NamedTuple):
    """λ₂, λ₃ and λ₄ of forward weights, λ₅ of how far backward weights are from their transpose."""

    conditioning: Scalar | float
    coherence: Scalar | float
    log_det: Scalar | float
    similarity: Scalar | float


def penalized(
    A: Float[Array, "n m"],
    M: Float[Array, "m m"],
    N: Float[Array, "n m"],
    penalties: Penalties,
) -> Float[Array, ""]:
    """The objective of forward weights; the determinant is that of the smaller of AᵀA and A Aᵀ."""
    data = 0.5 * jnp.sum((A @ M) * A) - jnp.sum(A * N)
    gram = A @ A.T
    coherence = jnp.sum((gram - jnp.eye(len(A), dtype=A.dtype)) ** 2)
    volume = 2 * jnp.sum(jnp.log(singular(A)[1]))
    return (
        data
        + 0.5 * penalties.conditioning * jnp.sum(A**2)
        + 0.5 * penalties.coherence * coherence
        - penalties.log_det * volume
    )


def descent(
    A: Float[Array, "n m"],
    M: Float[Array, "m m"],
    N: Float[Array, "n m"],
    penalties: Penalties,
) -> Float[Array, "n m"]:
    """Its negative gradient, by which weights flow: N − A M − ∇V(A)."""
    return N - A @ M + restoring(A, penalties)


def restoring(A: Float[Array, "n m"], penalties: Penalties) -> Float[Array, "n m"]:
    """−∇V(A), what the penalties alone make of the weights."""
    coherence = 2 * penalties.coherence * (A @ (A.T @ A) - A)
    volume = 2 * penalties.log_det * pseudo_inverse(A).T
    return volume - penalties.conditioning * A - coherence


def closed_form(
    M: Float[Array, "m m"],
    N: Float[Array, "n m"],
    present: Float[Array, "n m"],
    penalties: Penalties,
) -> Float[Array, "n m"]:
    """The approximate minimum Â = P Σ Rᵀ (M + λ₂)^(−½), where N (M + λ₂)^(−½) = P D Rᵀ.

    The singular values σ solve a quartic each. Exact where λ₃ = 0 and n ≥ m, or where M is a
    multiple of the identity; else what the coherence has off the diagonal in the frame of R is left
    out. Directions in which M is not positive count as 0 there. Where D is 0 the minimum is not one
    point, and of all it is the one nearest to the present weights, by ‖(Â − A)(M + λ₂)^½‖.
    """
    values, frame = eigen(M)
    root = jnp.sqrt(jnp.maximum(values, 0) + penalties.conditioning)
    whitener = (frame / root) @ frame.T
    P, d, Rt = oriented(N @ whitener, present @ ((frame * root) @ frame.T))
    carried = Rt @ whitener
    sigma = singular_values(d, jnp.sum(carried**2, axis=1), penalties)
    return (P * sigma) @ carried


@jax.custom_batching.sequential_vmap
def oriented(
    wanted: Float[Array, "n m"], present: Float[Array, "n m"]
) -> tuple[Float[Array, "n k"], Float[Array, " k"], Float[Array, "k m"]]:
    """P, d and R^T of `wanted`, with the singular vectors of `present` where d is 0.

    Of all matrices with given singular values these vectors make the one that fits `wanted` best,
    and of those that fit it alike the one nearest to `present`. A d counts as 0 below ε^`SILENT` of
    the largest, with ε the precision.
    """
    P, d, Rt = singular(wanted)
    said = d > jnp.finfo(d.dtype).eps ** SILENT * d[0]

    def completed() -> tuple[Float[Array, "n k"], Float[Array, " k"], Float[Array, "k m"]]:
        left, right = P * said, Rt * said[:, None]
        free = present - left @ (left.T @ present)
        free = free - (free @ right.T) @ right
        # What is said comes first, as its singular values are the largest, so that all others are
        # of directions in which nothing is said, also where `present` is 0 there. They are spread,
        # as LAPACK may not converge where hundreds are the same.
        above = (1 + jnp.linalg.norm(free)) * jnp.linspace(2, 1, len(d), dtype=d.dtype)
        P_free, _, Rt_free = singular((left * above) @ right + free)
        vectors = jnp.where(said, P, P_free), jnp.where(said[:, None], Rt, Rt_free)
        return vectors[0], jnp.where(said, d, 0), vectors[1]

    return jax.lax.cond(jnp.all(said), lambda: (P, d, Rt), completed)


def singular_values(
    d: Float[Array, " k"], m: Float[Array, " k"], penalties: Penalties
) -> Float[Array, " k"]:
    """The σ > 0 that minimise ½σ² − dσ + λ₃/2 (mσ² − 1)² − 2λ₄ log σ, for d ≥ 0 and m > 0.

    The roots of 2λ₃m²σ⁴ + (1 − 2λ₃m)σ² − dσ − 2λ₄, one each by the rule of signs. Above its root
    the quartic is convex, so that Newton's method comes down to it from the larger of the roots
    that the two parts have alone.
    """
    coherence, log_det = penalties.coherence, penalties.log_det
    a, b, c = 2 * coherence * m**2, 1 - 2 * coherence * m, -2 * log_det
    tiny = jnp.finfo(d.dtype).tiny

    def newton(_: Int[Array, ""] | int, s: Float[Array, " k"]) -> Float[Array, " k"]:
        value = ((a * s**2 + b) * s - d) * s + c
        slope = (4 * a * s**2 + 2 * b) * s - d
        return s - value / jnp.maximum(slope, tiny)

    alone = 0.5 * (d + jnp.sqrt(d**2 + 8 * log_det))
    return jax.lax.fori_loop(
        0, NEWTON_STEPS, newton, jnp.where(coherence > 0, jnp.maximum(alone, m**-0.5), alone)
    )


def backward_form(
    wanted: Float[Array, "batch n"],
    above: Float[Array, "batch m"],
    pull: Float[Array, "batch n"],
    sent: Float[Array, "batch m"],
    A: Float[Array, "m n"],
    similarity: Scalar | float,
) -> Float[Array, "n m"]:
    """The backward weights B that minimise the mean over the batch of

        ½‖B u − y‖² + (y − q)ᵀ B e   +   λ₅/2 ‖B − Aᵀ‖²                                    [K 18]

    with y `wanted`, u `above`, y − q `pull` and e `sent`: the solution [K 19], whose last factor
    is here the inverse of u uᵀ + λ₅ of the layer above, as the derivative has it.
    """
    count = wanted.shape[0]
    moment = above.T @ above / count + similarity * jnp.eye(above.shape[1], dtype=above.dtype)
    right = (wanted.T @ above - pull.T @ sent) / count + similarity * A.T
    return right @ inverse(moment)
