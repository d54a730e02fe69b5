"""What projections with shared weights compute: convolutions, with or without pooling.

    up       a = max over windows of (K ∗ h)
    errors   Kᵀ ∗ (e at the unit that was the largest of its window), the transpose of that
    down     Kᵀ ∗ (e at every unit of its window), which knows nothing of what went up

∗ is a cross-correlation with zeros around. All is written for one sample; layers are flat vectors
of their maps (`neurosim.circuits.maps`).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from neurosim.circuits.maps import Convolution

Kernel = Float[Array, "above below rows columns"]
Map = Float[Array, "maps rows columns"]
"""Before pooling."""


def spread(of: Convolution, K: Kernel, h: Float[Array, " below"]) -> Map:
    """K ∗ h at every position.

    A product of matrices, of what stands under every entry of the kernel: in the loop over
    presentations XLA's convolutions take several times as long on processors, and more so where
    every seed has a kernel of its own.
    """
    stride = of.stride if of.pool == 1 else 1
    sides = [_around(n, of.kernel, stride) for n in of.below[1:]]
    x = jnp.pad(h.reshape(of.below), ((0, 0), *(around for around, _ in sides)))
    (high, wide), n = (count for _, count in sides), of.kernel
    seen = [
        x[:, a : a + (high - 1) * stride + 1 : stride, b : b + (wide - 1) * stride + 1 : stride]
        for a in range(n)
        for b in range(n)
    ]
    return jnp.einsum("oik,ikrc->orc", K.reshape(*K.shape[:2], -1), jnp.stack(seen, axis=1))


def up(of: Convolution, K: Kernel, h: Float[Array, " below"]) -> Float[Array, " above"]:
    """What arrives above: of every window the largest value."""
    return _largest(of, spread(of, K, h)).ravel()


def across(of: Convolution, K: Kernel, h: Float[Array, " below"]) -> Float[Array, " above"]:
    """The transpose of `down`: of every window the sum, over how many windows see a position."""
    return _summed(of, spread(of, K, h)).ravel()


def down(
    of: Convolution, K: Kernel, e: Float[Array, " above"], passed: Map | None = None
) -> Float[Array, " below"]:
    """What arrives below of something above.

    passed: K ∗ h of what went up, which says which unit of a window receives it; without that all
    do, each from the mean of its windows.
    """
    at = jnp.zeros(_before(of), e.dtype)
    given = e.reshape(of.above)
    if of.pool == 1:
        at = given
    elif passed is None:
        at = jax.linear_transpose(lambda u: _summed(of, u), at)(given)[0]
    else:
        at = jax.vjp(lambda u: _largest(of, u), passed)[1](given)[0]
    below = jax.ShapeDtypeStruct((_size(of.below),), e.dtype)
    return jax.linear_transpose(lambda h: spread(of, K, h), below)(at)[0]


def carried(of: Convolution, K: Kernel, sent: Float[Array, " pre"]) -> Float[Array, " post"]:
    """What a projection makes of what is sent, up or down."""
    return down(of, K, sent) if of.down else up(of, K, sent)


def change(
    of: Convolution, K: Kernel, post: Float[Array, "batch post"], pre: Float[Array, "batch pre"]
) -> Kernel:
    """Mean over the batch of post times pre, summed over all pairs of units that share a weight.

    It is the transpose of what K makes of pre; where windows are pooled, of K as it is.
    """
    product = jax.vmap(lambda K, h: carried(of, K, h), (None, 0))
    return jax.vjp(lambda K: product(K, pre), K)[1](post / len(pre))[0]


def shared(of: Convolution, units: Float[Array, "*batch post"]) -> Float[Array, "*batch maps"]:
    """The sum over the units of each map, which share a bias."""
    return units.reshape(*units.shape[:-1], of.post[0], -1).sum(-1)


def everywhere(of: Convolution, b: Float[Array, " maps"]) -> Float[Array, " post"]:
    """A bias of every map at all of its units."""
    return jnp.repeat(b, of.post[1] * of.post[2])


def _size(shape: tuple[int, int, int]) -> int:
    return shape[0] * shape[1] * shape[2]


def _before(of: Convolution) -> tuple[int, int, int]:
    """The maps before pooling."""
    return of.above[0], *of.below[1:]


def _largest(of: Convolution, u: Map) -> Map:
    return u if of.pool == 1 else _windows(of, u, -jnp.inf, lax.max)


def _summed(of: Convolution, u: Map) -> Map:
    if of.pool == 1:
        return u
    seen = np.outer(*(_seen(n, of.pool, of.stride) for n in of.below[1:]))
    return _windows(of, u / seen.astype(u.dtype), 0.0, lax.add)


def _windows(of: Convolution, u: Map, start: float, fold: Callable[..., Array]) -> Map:
    sides, steps = (1, of.pool, of.pool), (1, of.stride, of.stride)
    return lax.reduce_window(u, np.asarray(start, u.dtype), fold, sides, steps, "SAME")


def _around(positions: int, side: int, stride: int) -> tuple[tuple[int, int], int]:
    """How many zeros stand before and after an axis, and how many windows it then has."""
    count = -(-positions // stride)
    zeros = max((count - 1) * stride + side - positions, 0)
    return (zeros // 2, zeros - zeros // 2), count


def _seen(positions: int, pool: int, stride: int) -> np.ndarray:
    """Of each position along an axis, how many windows see it; 1 where none does."""
    (before, _), count = _around(positions, pool, stride)
    first = stride * np.arange(count)[:, None] - before
    inside = (first <= np.arange(positions)) & (np.arange(positions) < first + pool)
    return np.maximum(inside.sum(axis=0), 1)
