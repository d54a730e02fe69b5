"""Local goals of a batch: sparse representations that are near, and in which classes share nothing.

Kostadinov, Razeghi & Voloshynovskiy 2019 [K]. Of a node with linear responses q (batch, n)

    min over g   Σ_k ½‖q_k − g_k‖² + λ₁ ‖g_k‖₁      subject to  D(g) = 0                     [K 12]

    D(g) = Σ over pairs of other classes  ‖g_k⁺ ⊙ g_m⁺‖₁ + ‖g_k⁻ ⊙ g_m⁻‖₁ + ‖g_k⁺ ⊙ g_m⁻‖₂²

with g = g⁺ − g⁻. The appendix that solves it is not in the source's text; docs/local-goals.md
derives what stands here. Everything is separable over units.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Scalar

from neurosim.functions.activations import soft_threshold


def discrimination(
    g: Float[Array, "batch n"], classes: Float[Array, "batch C"]
) -> Float[Array, ""]:
    """D(g) over the batch size: how much classes have in common. classes: one-hot.

    Pairs are ordered, as in [K 2.4]; the last norm is squared, as it is where the source takes it
    from (Kostadinov & Voloshynovskiy 2018), without which it would couple units.
    """
    up, down = jnp.maximum(g, 0), jnp.maximum(-g, 0)

    def apart(a: Float[Array, "batch n"], b: Float[Array, "batch n"]) -> Float[Array, ""]:
        within = jnp.sum((classes.T @ a) * (classes.T @ b))
        return jnp.sum(jnp.sum(a, 0) * jnp.sum(b, 0)) - within

    return (apart(up, up) + apart(down, down) + apart(up**2, down**2)) / g.shape[0]


def objective(
    q: Float[Array, "batch n"],
    g: Float[Array, "batch n"],
    classes: Float[Array, "batch C"],
    sparsity: Scalar | float,
    weight: Scalar | float,
) -> Float[Array, ""]:
    """Σ_k ½‖q_k − g_k‖² + λ₁‖g_k‖₁ + λ₀ D(g)."""
    near = 0.5 * jnp.sum((q - g) ** 2) + sparsity * jnp.sum(jnp.abs(g))
    return near + weight * discrimination(g, classes)


def exclusive(
    q: Float[Array, "batch n"], classes: Float[Array, "batch C"], sparsity: Scalar | float
) -> Float[Array, "batch n"]:
    """The minimum under D(g) = 0: every unit answers to one class alone.

    D(g) is 0 where no unit is at work for two classes. Then a unit that serves class c spares
    ½ Σ_{k of c} soft(q_k, λ₁)² of the objective, and serves the class of which that is most.
    """
    sparse = soft_threshold(q, sparsity)
    served = jnp.argmax(classes.T @ sparse**2, axis=0)
    return sparse * jnp.take(classes, served, axis=1)


def alternated(
    q: Float[Array, "batch n"],
    classes: Float[Array, "batch C"],
    sparsity: Scalar | float,
    weight: Scalar | float,
    sweeps: int,
) -> Float[Array, "batch n"]:
    """The same with λ₀ D(g) as a penalty: class after class is minimised exactly, others held.

        g = sign(q) (|q| − λ₁ − 2λ₀ same)₊ / (1 + 2λ₀ opposite)

    of every sample of class c, where `same` is what samples of other classes have of the sign of q
    (sum over them, over the batch size) and `opposite` the squares of what they have of the other
    sign. No step can raise the objective.
    """
    count, sign = q.shape[0], jnp.sign(q)

    def of_class(
        g: Float[Array, "batch n"], member: Float[Array, " batch"]
    ) -> tuple[Float[Array, "batch n"], None]:
        others = (1 - member) @ jnp.maximum(jnp.stack([g, -g]), 0) / count
        squares = (1 - member) @ jnp.maximum(jnp.stack([g, -g]), 0) ** 2 / count
        same = jnp.where(q > 0, others[0], others[1])
        opposite = jnp.where(q > 0, squares[1], squares[0])
        left = jnp.maximum(jnp.abs(q) - sparsity - 2 * weight * same, 0)
        best = sign * left / (1 + 2 * weight * opposite)
        return jnp.where(member[:, None] > 0, best, g), None

    def sweep(_: Int[Array, ""] | int, g: Float[Array, "batch n"]) -> Float[Array, "batch n"]:
        return jax.lax.scan(of_class, g, classes.T)[0]

    return jax.lax.fori_loop(0, sweeps, sweep, soft_threshold(q, sparsity))
