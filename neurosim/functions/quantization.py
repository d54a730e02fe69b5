"""Numbers of few bits: the sign and a power of 2."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Scalar


class Quantizer(eqx.Module):
    """Q(x) = α sign(x) 2^round(clip(log₂|x/α|, 1 − bits, 0)); 0 stays 0.

    Values lie within ± α, which is `scale` [Baldi, Sadowski & Lu 2018, eq. 19].
    """

    bits: Scalar | float
    scale: Scalar | float

    def __call__(self, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        power = jnp.round(jnp.clip(jnp.log2(jnp.abs(x / self.scale)), 1 - self.bits, 0))
        return self.scale * jnp.ldexp(jnp.sign(x), power.astype(jnp.int32))
