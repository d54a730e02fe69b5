"""Output losses ℓ(h_L, y) of one sample and their gradients e_L = ∂ℓ/∂h_L.

The output layer sends h_L; a softmax, where there is one, belongs to the loss, so that targets
stay in the space of h_L (logit space), as in Meulemans et al. 2020.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def _half_squared(p: Float[Array, " n"], y: Float[Array, " n"]) -> Float[Array, ""]:
    return 0.5 * jnp.sum((p - y) ** 2)


def _squared(p: Float[Array, " n"], y: Float[Array, " n"]) -> Float[Array, ""]:
    return jnp.sum((p - y) ** 2)


DISTANCES: dict[str, Callable] = {"half-squared": _half_squared, "squared": _squared}


class Loss(eqx.Module):
    """ℓ(h_L, y) for one sample: `half-squared` ½‖p−y‖², `squared` ‖p−y‖² or `cross-entropy`.

    p is h_L itself (`output = "linear"`) or softmax(h_L) (`output = "softmax"`); the cross-entropy
    −Σ y log p needs the softmax. auxiliary: the last so many units of h_L have no label [T 3.16].
    """

    name: str = eqx.field(static=True)
    output: str = eqx.field(static=True)
    auxiliary: int = eqx.field(static=True, default=0)

    def prediction(self, h: Float[Array, "*n_L"]) -> Float[Array, "*n"]:
        """The units of h_L that are compared with a label: all but the auxiliary ones."""
        return h[..., : h.shape[-1] - self.auxiliary]

    def __call__(self, h: Float[Array, " n_L"], y: Float[Array, " n"]) -> Float[Array, ""]:
        h = self.prediction(h)
        if self.name == "cross-entropy":
            return -jnp.sum(y * jax.nn.log_softmax(h))
        return DISTANCES[self.name](jax.nn.softmax(h) if self.output == "softmax" else h, y)

    def error(self, h: Float[Array, " n_L"], y: Float[Array, " n"]) -> Float[Array, " n_L"]:
        """e_L = ∂ℓ/∂h_L [T 6.11], 0 at auxiliary units."""
        return jax.grad(self)(h, y)
