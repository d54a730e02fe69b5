"""Neural transfer functions s: the function, its inverse, its derivative and where the inverse is.

A user's own activation is any object with the four members of `Activation`; a plain function
becomes one through `Elementwise`. Where units are stochastic, what is said here is their mean.
"""

from abc import abstractmethod
from collections.abc import Callable
from math import inf

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Scalar


class Activation(eqx.Module):
    """An elementwise transfer function h = s(a)."""

    @property
    @abstractmethod
    def domain(self) -> tuple[float, float] | None:
        """The open interval of s(a) on which `inverse` exists; None where there is no inverse."""

    @abstractmethod
    def __call__(self, a: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """s(a)."""

    @abstractmethod
    def inverse(self, h: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """s⁻¹(h); not a number outside `domain`."""

    @abstractmethod
    def derivative(self, a: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """s'(a), as a function of the potential a."""


class Linear(Activation):
    """s(a) = a."""

    domain = (-inf, inf)

    def __call__(self, a: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return a

    def inverse(self, h: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return h

    def derivative(self, a: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return jnp.ones_like(a)


class LeakyReLU(Activation):
    """s(a) = a for a > 0, slope·a otherwise; slope > 0 keeps it invertible."""

    slope: float = eqx.field(default=0.35, static=True)
    domain = (-inf, inf)

    def __call__(self, a: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return jnp.where(a > 0, a, self.slope * a)

    def inverse(self, h: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return jnp.where(h > 0, h, h / self.slope)

    def derivative(self, a: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return jnp.where(a > 0, jnp.ones_like(a), jnp.full_like(a, self.slope))


class Tanh(Activation):
    """s(a) = tanh a."""

    domain = (-1.0, 1.0)

    def __call__(self, a: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return jnp.tanh(a)

    def inverse(self, h: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return jnp.arctanh(h)

    def derivative(self, a: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return 1 - jnp.tanh(a) ** 2


class Sigmoid(Activation):
    """s(a) = 1/(1 + exp(-a))."""

    domain = (0.0, 1.0)

    def __call__(self, a: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return jax.nn.sigmoid(a)

    def inverse(self, h: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return jnp.log(h) - jnp.log1p(-h)

    def derivative(self, a: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return jax.nn.sigmoid(a) * jax.nn.sigmoid(-a)


class Softplus(Activation):
    """s(a) = log(1 + exp a)."""

    domain = (0.0, inf)

    def __call__(self, a: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return jax.nn.softplus(a)

    def inverse(self, h: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return h + jnp.log(-jnp.expm1(-h))

    def derivative(self, a: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return jax.nn.sigmoid(a)


class Power(Activation):
    """s(a) = a^exponent for a > 0, -(-a)^exponent otherwise.

    An odd function for every exponent, S-shaped below 1 [Baldi, Sadowski & Lu 2018, section 7.9].
    """

    exponent: float = eqx.field(default=2.0, static=True)
    domain = (-inf, inf)

    def __call__(self, a: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return jnp.sign(a) * jnp.abs(a) ** self.exponent

    def inverse(self, h: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return jnp.sign(h) * jnp.abs(h) ** (1 / self.exponent)

    def derivative(self, a: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return self.exponent * jnp.abs(a) ** (self.exponent - 1)


class Sign(Activation):
    """s(a) = 1 for a > 0, 0 otherwise.

    The sign of Lee et al. 2015, which is 0 where others have −1. It is flat, so that nothing can be
    learned from its slope.
    """

    domain = None

    def __call__(self, a: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return (a > 0).astype(a.dtype)

    def inverse(self, h: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        raise TypeError("a sign has no inverse")

    def derivative(self, a: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return jnp.zeros_like(a)


class Bernoulli(Activation):
    """s(a) = 1 with probability 1/(1 + exp(-a)), 0 otherwise.

    A stochastic binary unit [Lee et al. 2015, eq. 33]. Called without a draw it gives its mean, the
    probability, whose slope is the one that rules know: the biased gradient estimator of Raiko et
    al. 2014 [Lee et al. 2015, eq. 34].
    """

    domain = None

    def __call__(self, a: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return jax.nn.sigmoid(a)

    def sampled(
        self, a: Float[Array, "*shape"], drawn: Float[Array, "*shape"]
    ) -> Float[Array, "*shape"]:
        """1 where a number that was drawn uniformly between 0 and 1 lies below the probability."""
        return (drawn < self(a)).astype(a.dtype)

    def inverse(self, h: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        raise TypeError("a stochastic unit has no inverse")

    def derivative(self, a: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return jax.nn.sigmoid(a) * jax.nn.sigmoid(-a)


class SoftThreshold(Activation):
    """s(a) = sign(a) max(|a| - threshold, 0).

    The sparsifying transform of Kostadinov, Razeghi & Voloshynovskiy 2019 [eq. 4], whose slope is 1
    where it is not 0.
    """

    threshold: Scalar | float = 0.1
    domain = None

    def __call__(self, a: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return soft_threshold(a, self.threshold)

    def inverse(self, h: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        raise TypeError("a soft threshold has no inverse at 0")

    def derivative(self, a: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return (jnp.abs(a) > self.threshold).astype(a.dtype)


def soft_threshold(a: Float[Array, "*shape"], threshold: Scalar | float) -> Float[Array, "*shape"]:
    """sign(a) max(|a| − threshold, 0): the minimum over u of ½(a − u)² + threshold · |u| [K 4]."""
    return jnp.sign(a) * jnp.maximum(jnp.abs(a) - threshold, 0)


class Elementwise(Activation):
    """A plain function as an activation; its derivative by automatic differentiation.

    Without `inverse_function` it serves wherever no inverse is asked for, which is every
    network with feedback in autoencoder form.
    """

    function: Callable = eqx.field(static=True)
    inverse_function: Callable | None = eqx.field(default=None, static=True)
    domain: tuple[float, float] | None = eqx.field(default=None, static=True)

    def __call__(self, a: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return self.function(a)

    def inverse(self, h: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        if self.inverse_function is None:
            raise TypeError(f"{self.function} was given without an inverse")
        return self.inverse_function(h)

    def derivative(self, a: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return jax.jvp(self.function, (a,), (jnp.ones_like(a),))[1]


class Standardized(Activation):
    """(s(a) − m) / σ: a transfer function behind the batch normalisation of its layer [T A.1].

    Its inverse s⁻¹(σ h + m) undoes the normalisation of a target.
    """

    inner: Activation
    mean: Float[Array, " n"]
    deviation: Float[Array, " n"]

    @property
    def domain(self) -> tuple[float, float] | None:
        return self.inner.domain

    def __call__(self, a: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return (self.inner(a) - self.mean) / self.deviation

    def inverse(self, h: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return self.inner.inverse(self.deviation * h + self.mean)

    def derivative(self, a: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return self.inner.derivative(a) / self.deviation


ACTIVATIONS: dict[str, type[Activation]] = {
    "linear": Linear,
    "leaky-relu": LeakyReLU,
    "tanh": Tanh,
    "sigmoid": Sigmoid,
    "softplus": Softplus,
    "power": Power,
    "sign": Sign,
    "bernoulli": Bernoulli,
    "soft-threshold": SoftThreshold,
}
