"""Numbers of few bits: the sign and a power of 2."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Scalar


class Quantizer(eqx.Module):
    """Q(x) = α sign(x) 2^round(clip(log₂|x/α|, 1 − bits, 0)); 0 stays 0.

    Values lie within ± α, which is `scale` [Baldi, Sadowski & Lu 2018, eq. 19].
    """

    bits: Scalar | float
    scale: Scalar | float

    def __call__(self, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        least = jnp.exp2(jnp.asarray(1 - self.bits, x.dtype))
        return (
            self.scale * jnp.sign(x) * _nearest_power(jnp.clip(jnp.abs(x / self.scale), least, 1))
        )


def _nearest_power(y: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """2^round(log₂ y) for y > 0.

    That is √2 y without its mantissa, at a tenth of the cost of a logarithm, where every sample has
    as many numbers to quantise as there are weights.
    """
    about = jnp.finfo(y.dtype)
    bits = jax.lax.bitcast_convert_type(y * jnp.asarray(2**0.5, y.dtype), f"uint{about.bits}")
    exponent = jnp.bitwise_not(jnp.asarray(2**about.nmant - 1, bits.dtype))
    return jax.lax.bitcast_convert_type(bits & exponent, y.dtype)
