"""The layered network: its weights, and the forward and feedback maps f_i and g_i they define.

Layers are numbered as in the equations: 0 is the input, L the output. Everything here is written
for one sample; batches and seeds are axes added by `jax.vmap`.
"""

from dataclasses import replace
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from neurosim.circuits.expressions import Expression
from neurosim.circuits.maps import Convolution
from neurosim.functions.activations import Activation, Standardized
from neurosim.functions.losses import Loss
from neurosim.networks import convolution
from neurosim.networks.convolution import Map
from neurosim.networks.elementary import ELEMENTARY
from neurosim.networks.products import through
from neurosim.networks.wirings import TIES

Layers = tuple[Array, ...]
"""One array a layer, layer 1 first."""


class Weights(NamedTuple):
    """What plasticity changes.

    W: forward (basal) weights W_1 … W_L, shapes (n_i, n_{i-1}).
    b: basal biases b_1 … b_L, shapes (n_i,); empty in a network without biases.
    Q: feedback (apical) weights Q_1 … Q_{L-1}, shapes (n_i, n_{i+1}); other wirings have others.

    Of layers that convolve, W_i and Q_{i-1} are kernels (maps of layer i, maps of layer i-1, rows,
    columns), and b_i has an entry for each map.
    """

    W: Layers
    b: Layers
    Q: Layers


class Carried(eqx.Module):
    """Another form of an activity, as axons send it. name: of the activity in the text."""

    name: str = eqx.field(static=True)
    text: Expression = eqx.field(static=True)

    def __call__(self, h: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """The form of h that is sent."""
        found = self.text({self.name: h}, ELEMENTARY)
        return jnp.broadcast_to(jnp.asarray(found, h.dtype), h.shape)


class Network(eqx.Module):
    """What stays fixed: layer sizes, transfer functions, the form of the feedback and the loss.

    sizes: n_0 … n_L. activations: s_1 … s_L.
    form: `inverse`, g_i(h) = Q_i (s_{i+1}⁻¹(h) − b_{i+1}) [T 4.90, 6.23], the exact inverse of
    f_{i+1} where Q_i = W_{i+1}⁻¹; or `autoencoder`, g_i(h) = s_i(Q_i h) [T 3.9, D 15].
    convolutions: of W_1 … W_L, None where weights are dense; empty where all are. carried: of the
    hidden layers that send another form of their activity, what that is. encoder, decoder: in the
    autoencoder form, what becomes of h on its way down [D 31], and what is in place of s_i.
    """

    sizes: tuple[int, ...] = eqx.field(static=True)
    activations: tuple[Activation, ...]
    form: str = eqx.field(static=True)
    loss: Loss
    convolutions: tuple[Convolution | None, ...] = eqx.field(static=True, default=())
    carried: tuple[Carried | None, ...] = ()
    encoder: Activation | None = None
    decoder: Activation | None = None

    @property
    def depth(self) -> int:
        """L, the number of layers above the input."""
        return len(self.sizes) - 1

    def potential(
        self, weights: Weights, i: int, below: Float[Array, " below"]
    ) -> Float[Array, " n"]:
        """a_i = W_i h_{i-1} + b_i, shape (n_i,); of h_{i-1} what the layer sends."""
        of, W, below = self.convolution(i), weights.W[i - 1], self.sent(i - 1, below)
        a = through(W, below) if of is None else convolution.up(of, W, below)
        return a + self.bias(weights, i) if weights.b else a

    def convolution(self, i: int) -> Convolution | None:
        """How W_i convolves; None where it is dense."""
        return self.convolutions[i - 1] if self.convolutions else None

    def bias(self, weights: Weights, i: int) -> Float[Array, " n"]:
        """b_i of every unit of a network with biases."""
        of, b = self.convolution(i), weights.b[i - 1]
        return b if of is None else convolution.everywhere(of, b)

    def across(self, weights: Weights, i: int, below: Float[Array, " below"]) -> Float[Array, " n"]:
        """W_i times something of layer i-1 that is no activity: the transpose of `down` by W_i."""
        of, W = self.convolution(i), weights.W[i - 1]
        return through(W, below) if of is None else convolution.across(of, W, below)

    def down(self, i: int, Q: Array, above: Float[Array, " above"]) -> Float[Array, " n"]:
        """Q times something of layer i+1, on its way to layer i by weights of its own."""
        of = self.convolution(i + 1)
        return through(Q, above) if of is None else convolution.down(of, Q, above)

    def back(
        self,
        weights: Weights,
        i: int,
        C: Array,
        error: Float[Array, " above"],
        h: Float[Array, " n"],
    ) -> Float[Array, " n"]:
        """C times an error of layer i+1, on its way back to layer i, whose activity h went up.

        C stands in place of W_{i+1}^T; windows are passed as h passed them.
        """
        of = self.convolution(i + 1)
        if of is None:
            return through(C, error)
        return convolution.down(of, C, error, self.passed(weights, i, h))

    def passed(self, weights: Weights, i: int, h: Float[Array, " n"]) -> Map | None:
        """What W_{i+1} makes of h before its windows choose; None where there are none."""
        of = self.convolution(i + 1)
        if of is None or of.pool == 1:
            return None
        return convolution.spread(of, weights.W[i], self.sent(i, h))

    def sent(self, i: int, h: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """What layer i sends up of its activity; the activity itself, if nothing else is said."""
        carried = self.carried[i - 1] if i and self.carried else None
        return h if carried is None else carried(h)

    def s(self, i: int, a: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """s_i(a)."""
        return self.activations[i - 1](a)

    def slope(self, i: int, a: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """s_i'(a), the diagonal of D_i."""
        return self.activations[i - 1].derivative(a)

    def f(self, weights: Weights, i: int, below: Float[Array, " below"]) -> Float[Array, " n"]:
        """f_i(h_{i-1}) = s_i(a_i) [T 6.2]."""
        return self.s(i, self.potential(weights, i, below))

    def encode(
        self, weights: Weights, i: int, above: Float[Array, " above"]
    ) -> Float[Array, " above"]:
        """What the apical synapses of layer i receive when layer i+1 sends `above`."""
        if self.form == "autoencoder":
            return above if self.encoder is None else self.encoder(above)
        u = self.activations[i].inverse(above)
        return u - self.bias(weights, i + 1) if weights.b else u

    def apical(self, weights: Weights, i: int, above: Float[Array, " above"]) -> Float[Array, " n"]:
        """The apical potential of layer i, Q_i times what its synapses receive."""
        return self.down(i, weights.Q[i - 1], self.encode(weights, i, above))

    def decode(self, i: int, potential: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """The dendritic rate of an apical potential in layer i."""
        if self.form != "autoencoder":
            return potential
        return self.s(i, potential) if self.decoder is None else self.decoder(potential)

    def decode_slope(self, i: int, potential: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """Derivative of `decode`."""
        if self.form != "autoencoder":
            return jnp.ones_like(potential)
        if self.decoder is None:
            return self.slope(i, potential)
        return self.decoder.derivative(potential)

    def g(self, weights: Weights, i: int, above: Float[Array, " above"]) -> Float[Array, " n"]:
        """g_i(h_{i+1}), which approximates f_{i+1}⁻¹."""
        return self.decode(i, self.apical(weights, i, above))

    def forward_pass(self, weights: Weights, x: Float[Array, " n_0"]) -> Layers:
        """f_1(x), f_2(f_1(x)), …: the activities of the feed-forward network."""
        activity, h = [], x
        for i in range(1, self.depth + 1):
            h = self.f(weights, i, h)
            activity.append(h)
        return tuple(activity)


VARIANCE_FLOOR = 1e-5
"""Added to the variance of a unit over a batch [Ioffe & Szegedy 2015]: some units never move."""


def standardized(
    network: Network, weights: Weights, x: Float[Array, "batch n_0"]
) -> tuple[Network, Float[Array, "batch n_0"]]:
    """The network, and its input, with every layer below the output normalised over the batch.

    Hidden layers send h̃ = (h − m) / σ upwards, with mean and deviation of each unit over the batch
    [T A.1]. These are held fixed: one sample's activity does not move them.
    """

    def moments(h: Float[Array, "batch n"]) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
        return jnp.mean(h, axis=0), jnp.sqrt(jnp.var(h, axis=0) + VARIANCE_FLOOR)

    mean, deviation = moments(x)
    below = x = (x - mean) / deviation
    activations: list[Activation] = []
    for i in range(1, network.depth):
        a = jax.vmap(lambda h, i=i: network.potential(weights, i, h))(below)
        s = Standardized(network.activations[i - 1], *moments(network.s(i, a)))
        activations.append(s)
        below = s(a)
    activations.append(network.activations[-1])
    return replace(network, activations=tuple(activations)), x


def tie(weights: Weights, kind: str) -> Weights:
    """The same forward weights with every Q_i = tie(W_{i+1})."""
    return Weights(weights.W, weights.b, tuple(TIES[kind](w) for w in weights.W[1:]))
