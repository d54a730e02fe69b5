"""Matrices and their inverses that move together by changes of rank one."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Scalar

from neurosim.functions.inverses import inverse
from neurosim.networks.network import Weights


class Pair(NamedTuple):
    """A square matrix and what is kept as its inverse."""

    W: Float[Array, "n n"]
    inverse: Float[Array, "n n"]


def factors(
    change: Float[Array, "post pre"],
) -> tuple[Float[Array, " post"], Float[Array, " pre"]]:
    """u and v of a change u v^T of rank one; v is its largest row, both are 0 where it is."""
    sizes = jnp.sum(change * change, axis=1)
    largest = jnp.argmax(sizes)
    v = change[largest]
    return change @ v / jnp.where(sizes[largest] > 0, sizes[largest], 1), v


def robust_update(
    pair: Pair, u: Float[Array, " n"], v: Float[Array, " n"], threshold: Scalar | float
) -> Pair:
    """W + u v^T and its inverse, by the robust Sherman–Morrison update [T 4.19, algorithm 4.1].

    Where |1 + d| < ε, d = v^T W⁻¹ u, the step is shortened to β u v^T with β = 1/(ε − d) < 1, so
    that the divisor becomes ε: no update takes W close to a singular matrix. ε is `threshold`.
    """
    W, kept = pair
    left, right = kept @ u, v @ kept
    d = v @ left
    safe = jnp.abs(1 + d) >= threshold
    divisor = jnp.where(safe, 1 + d, threshold)
    share = jnp.where(safe, 1.0, 1 / (threshold - d))
    return Pair(W + share * jnp.outer(u, v), kept - jnp.outer(left, right) / divisor)


def drift(pair: Pair) -> Float[Array, ""]:
    """‖W W⁻¹ − I‖_F, which rounding lets grow from update to update."""
    return jnp.linalg.norm(pair.W @ pair.inverse - jnp.eye(len(pair.W), dtype=pair.W.dtype))


def refreshed(
    pair: Pair, due: Bool[Array, ""], limit: Scalar | float
) -> tuple[Pair, Float[Array, ""]]:
    """Where `due`, the pair with its inverse computed anew if it drifted past `limit`; the drift.

    NaN for the drift where it was not looked at. Loops of at most one turn, not conds: under vmap
    they cost nothing while nobody is due.
    """

    def look(
        carry: tuple[Bool[Array, ""], Float[Array, "n n"], Float[Array, ""]],
    ) -> tuple[Bool[Array, ""], Float[Array, "n n"], Float[Array, ""]]:
        _, kept, _ = carry
        return jnp.array(False), kept, drift(Pair(pair.W, kept))

    nan = jnp.full((), jnp.nan, pair.W.dtype)
    _, kept, seen = jax.lax.while_loop(lambda c: c[0], look, (due, pair.inverse, nan))

    def renew(
        carry: tuple[Bool[Array, ""], Float[Array, "n n"]],
    ) -> tuple[Bool[Array, ""], Float[Array, "n n"]]:
        return jnp.array(False), inverse(pair.W)

    _, kept = jax.lax.while_loop(lambda c: c[0], renew, (seen > limit, kept))
    return Pair(pair.W, kept), seen


def refreshed_layers(
    weights: Weights, look: Bool[Array, ""], limit: Scalar | float
) -> tuple[Weights, Float[Array, ""]]:
    """The weights with inverses that drifted too far computed anew; the largest drift."""
    Q, drifts = [], []
    for W, Q_below in zip(weights.W[1:], weights.Q, strict=True):
        pair, drift = refreshed(Pair(W, Q_below), look, limit)
        Q.append(pair.inverse)
        drifts.append(drift)
    return weights._replace(Q=tuple(Q)), jnp.max(jnp.stack(drifts))
