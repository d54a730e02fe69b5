"""The learning channel: errors that come down from the output, through the layers or past them.

    through the layers  J_i = C_i R_{i+1}        past them  J_i = C_i R_L
    R_i = s_i'(a_i) ⊙ J_i                        R_L = −∂ℓ/∂a_L

J_i is the teaching of layer i, which the rule of W multiplies by the slope; C_i are transposes of
forward weights or the channel's own Q_i [Baldi, Sadowski & Lu 2018, eqs. 4–8 and 16–18].
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, Scalar

from neurosim.functions.quantization import Quantizer
from neurosim.networks.dynamics import Readout
from neurosim.networks.network import Layers, Network, Weights
from neurosim.networks.products import through
from neurosim.networks.wirings import transposed


class Passage(eqx.Module):
    """What becomes of the errors of one sample on their way.

    slope: whether slopes are multiplied in; if not, they count as 1 in the rule of W as well.
    quantizer: of what arrives in a hidden layer, before it goes on. dropout: the probability with
    which a hidden neuron of the channel is silent, the others sending 1/(1 − p) times as much.
    key: of the sample, without which nothing is dropped.
    """

    slope: bool = eqx.field(static=True, default=True)
    quantizer: Quantizer | None = None
    dropout: Scalar | float | None = None
    key: PRNGKeyArray | None = None

    def top(
        self, network: Network, now: Readout, label: Float[Array, " n"]
    ) -> Float[Array, " n_L"]:
        """The teaching of the output, which follows its gradient with and without slopes: −e_L."""
        error = -network.loss.error(now.rate[-1], label)
        return error if self.slope else now.slope[-1] * error

    def arrived(self, i: int, signal: Float[Array, " n_i"]) -> Float[Array, " n_i"]:
        """J_i, of what the channel brings to the hidden layer i."""
        if self.quantizer is not None:
            signal = self.quantizer(signal)
        if self.dropout is None or self.key is None:
            return signal
        kept = jax.random.bernoulli(jax.random.fold_in(self.key, i), 1 - self.dropout, signal.shape)
        return jnp.where(kept, signal / (1 - self.dropout), 0)

    def sent(self, slope: Float[Array, "*n"], teaching: Float[Array, "*n"]) -> Float[Array, "*n"]:
        """R_i, of the teaching of a layer."""
        return slope * teaching if self.slope else teaching


WHOLE = Passage()
"""Errors that come down as they are."""


def backprop(
    network: Network,
    weights: Weights,
    now: Readout,
    label: Float[Array, " n"],
    step: Scalar | float = 1.0,
    passage: Passage = WHOLE,
) -> Layers:
    """Through the layers by the transposes: −∂ℓ/∂h_i for every layer [T 5.61]."""
    back = tuple(map(transposed, weights.W[1:]))
    return _through_layers(network, weights, back, now, label, passage)


def skipped_backprop(
    network: Network,
    weights: Weights,
    now: Readout,
    label: Float[Array, " n"],
    step: Scalar | float = 1.0,
    passage: Passage = WHOLE,
) -> Layers:
    """Past the layers by C_i = W_{i+1}^T … W_L^T: the slopes of the layers above are left out."""
    top = passage.top(network, now, label)
    signals = [passage.sent(now.slope[-1], top)]
    for i in range(network.depth - 1, 0, -1):
        C, h = transposed(weights.W[i]), now.rate[i - 1]
        signals.append(network.back(weights, i, C, signals[-1], h))
    return _past_layers(top, tuple(reversed(signals[1:])), passage)


def random_backprop(
    network: Network,
    weights: Weights,
    now: Readout,
    label: Float[Array, " n"],
    step: Scalar | float = 1.0,
    passage: Passage = WHOLE,
) -> Layers:
    """Through the layers by Q_i, of shape (n_i, n_{i+1}) [T 3.18]: feedback alignment."""
    return _through_layers(network, weights, weights.Q, now, label, passage)


def bidirectional_feedback_alignment(
    network: Network,
    weights: Weights,
    now: Readout,
    label: Float[Array, " n"],
    step: Scalar | float = 1.0,
    passage: Passage = WHOLE,
) -> Layers:
    """The same [T 3.23], where the feedback weights begin with Q_0, of the input."""
    return _through_layers(network, weights, weights.Q[1:], now, label, passage)


def skipped_random_backprop(
    network: Network,
    weights: Weights,
    now: Readout,
    label: Float[Array, " n"],
    step: Scalar | float = 1.0,
    passage: Passage = WHOLE,
) -> Layers:
    """Past the layers by Q_i, of shape (n_i, n_L) [T 3.21]: direct feedback alignment.

    Where each forward weight has a channel of its own, Q_i of shape (n_i, n_{i−1}, n_L), the mean
    over the weights of a neuron; they learn by `neurosim.plasticity.channel`.
    """
    top = passage.top(network, now, label)
    sent = passage.sent(now.slope[-1], top)
    matrices = (q if q.ndim == 2 else jnp.mean(q, axis=1) for q in weights.Q)
    signals = tuple(through(q, sent) for q in matrices)
    return _past_layers(top, signals, passage)


def _through_layers(
    network: Network,
    weights: Weights,
    back: Layers,
    now: Readout,
    label: Float[Array, " n"],
    passage: Passage,
) -> Layers:
    teaching = [passage.top(network, now, label)]
    for i in range(network.depth - 1, 0, -1):
        sent = passage.sent(now.slope[i], teaching[-1])
        brought = network.back(weights, i, back[i - 1], sent, now.rate[i - 1])
        teaching.append(passage.arrived(i, brought))
    return tuple(reversed(teaching))


def _past_layers(top: Float[Array, " n_L"], signals: Layers, passage: Passage) -> Layers:
    arrived = (passage.arrived(i, signal) for i, signal in enumerate(signals, start=1))
    return (*arrived, top)
