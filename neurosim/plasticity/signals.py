"""What apical synapses learn from, where noise or targets are sent through a chain of layers.

All arrays carry the batch first.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, Scalar

from neurosim.circuits.maps import Convolution
from neurosim.networks import convolution
from neurosim.networks.dynamics import Readout
from neurosim.networks.network import Network, Weights


def noise(key: PRNGKeyArray, like: Float[Array, "..."]) -> Float[Array, "..."]:
    """Numbers of a standard normal distribution, as many as an array has, in its precision.

    On a processor of every seed by itself. Of all seeds at once XLA would draw the same numbers
    again wherever they are used, of which the inverse error function takes most of the time; it
    takes nothing out of a loop.
    """

    def drawn(key: PRNGKeyArray) -> Float[Array, "..."]:
        return jax.random.normal(key, like.shape, like.dtype)

    in_turn: Any = jax.custom_batching.sequential_vmap(drawn)
    return jax.lax.platform_dependent(key, cpu=in_turn, default=drawn)


class Feedback(NamedTuple):
    """What an apical synapse of layer i sees.

    pre: what arrives from layer i+1 (batch, n_{i+1}). predicted: the apical rate it evokes
    (batch, n_i). actual: what it should have evoked (batch, n_i). slope: the derivative of the
    apical rate (batch, n_i). passed: of errors through windows, what went up (batch, maps, rows,
    columns).
    """

    pre: Float[Array, "batch pre"]
    predicted: Float[Array, "batch post"]
    actual: Float[Array, "batch post"]
    slope: Float[Array, "batch post"]
    passed: Float[Array, "batch maps rows columns"] | None = None


def apical_delta(
    signal: Feedback,
    Q: Float[Array, "..."],
    decay: Scalar | float,
    of: Convolution | None = None,
) -> Float[Array, "..."]:
    """ΔQ_i = (t_i' ⊙ (actual − predicted)) pre^T − λ Q_i, batch means [T 6.26, A.8, A.9].

    of: the convolution whose kernel Q_i replaces, where it is one.
    """
    error = signal.slope * (signal.actual - signal.predicted)
    if of is None:
        return error.T @ signal.pre / signal.pre.shape[0] - decay * Q

    def product(K: Array) -> Array:
        return jax.vmap(lambda e, u: convolution.down(of, K, e, u))(signal.pre, signal.passed)

    return jax.linear_transpose(product, Q)(error / signal.pre.shape[0])[0] - decay * Q


def reconstruction(
    network: Network, weights: Weights, readout: Readout, sigma: Any, key: Any
) -> tuple[Feedback, ...]:
    """The network's own activity: the apical rate against what the neuron sends [T 6.26, 6.37].

    Exact in the short-circuited free phase; a teaching signal biases it.
    """
    encode = jax.vmap(network.encode, (None, None, 0))
    return tuple(
        Feedback(
            pre=encode(weights, i, readout.downward[i]),
            predicted=readout.apical[i - 1],
            actual=readout.rate[i - 1],
            slope=network.decode_slope(i, readout.apical_potential[i - 1]),
        )
        for i in range(1, network.depth)
    )


def white_noise(
    network: Network, weights: Weights, readout: Readout, sigma: Scalar | float, key: PRNGKeyArray
) -> tuple[Feedback, ...]:
    """Each layer i in turn driven by white noise of deviation σ, once up and back [T A.8].

    Drives Q_i to W_{i+1}^T (W_{i+1} W_{i+1}^T + (λ/σ²) I)⁻¹ in the inverse form [T 4.7].
    """
    signals = []
    for i, layer_key in enumerate(jax.random.split(key, network.depth - 1), start=1):
        actual = sigma * noise(layer_key, readout.rate[i - 1])
        signals.append(there_and_back(network, weights, i, actual))
    return tuple(signals)


def there_and_back(
    network: Network, weights: Weights, i: int, actual: Float[Array, "batch n_i"]
) -> Feedback:
    """Activity of layer i sent once up and back: f_{i+1}, then g_i [T 4.91]."""

    def one(
        h: Float[Array, " n_i"],
    ) -> tuple[Float[Array, " pre"], Float[Array, " n_i"], Float[Array, " n_i"]]:
        pre = network.encode(weights, i, network.f(weights, i + 1, h))
        potential = network.down(i, weights.Q[i - 1], pre)
        return pre, network.decode(i, potential), network.decode_slope(i, potential)

    pre, predicted, slope = jax.vmap(one)(actual)
    return Feedback(pre, predicted, actual, slope)


def local_difference(
    network: Network, weights: Weights, readout: Readout, sigma: Scalar | float, key: PRNGKeyArray
) -> tuple[Feedback, ...]:
    """Noise in layer i goes once up, noise in layer i+1 once down, each less what is there without.

    The local difference reconstruction loss of Ernoult et al. 2022, −ε·(g_i(f_{i+1}(h_i + σε)) −
    g_i(f_{i+1}(h_i)))/σ + ½‖g_i(h_{i+1} + ση) − g_i(h_{i+1})‖²/σ²: the Jacobian of g_i becomes the
    transpose of that of f_{i+1}. Both halves stand in one batch of twice the size.
    """

    def one(
        h: Float[Array, " n_i"],
        own: Float[Array, " n_i"],
        above: Float[Array, " pre"],
        i: int,
    ) -> Feedback:
        def up(h: Float[Array, " n_i"]) -> Float[Array, " pre"]:
            return network.encode(weights, i, network.f(weights, i + 1, h))

        pre, Q = up(h), weights.Q[i - 1]
        potential = network.down(i, Q, pre)
        noisy = network.down(i, Q, pre + sigma * above)
        moved = network.decode(i, noisy) - network.decode(i, potential)
        return Feedback(
            pre=jnp.stack([(up(h + sigma * own) - pre) / sigma, above]),
            predicted=jnp.stack([jnp.zeros_like(h), 2 * moved / sigma]),
            actual=jnp.stack([2 * own, jnp.zeros_like(h)]),
            slope=jnp.tile(network.decode_slope(i, potential), (2, 1)),
        )

    signals = []
    for i, layer_key in enumerate(jax.random.split(key, network.depth - 1), start=1):
        below, above = readout.rate[i - 1], readout.rate[i]
        keys = jax.random.split(layer_key)
        noises = (noise(k, h) for k, h in zip(keys, (below, above), strict=True))
        halves = jax.vmap(lambda h, e, a, i=i: one(h, e, a, i))(below, *noises)
        signals.append(jax.tree.map(lambda a: a.reshape(-1, a.shape[-1]), halves))
    return tuple(signals)


def noise_injected(
    network: Network, weights: Weights, readout: Readout, sigma: Scalar | float, key: PRNGKeyArray
) -> tuple[Feedback, ...]:
    """Descends ½‖f_{i+1}(g_i(ĥ + σξ)) − (ĥ + σξ)‖² with ĥ the target of layer i+1 [D 17].

    The error is met in layer i+1 and comes down through f_{i+1}, as D writes it.
    """
    signals = []
    for i, layer_key in enumerate(jax.random.split(key, len(weights.Q)), start=1):
        target = readout.teacher[i]
        noisy = target + sigma * noise(layer_key, target)

        def round_trip(
            above: Float[Array, " above"], i: int = i
        ) -> tuple[Float[Array, " pre"], Float[Array, " n_i"], Float[Array, " n_i"]]:
            pre = network.encode(weights, i, above)
            potential = network.down(i, weights.Q[i - 1], pre)
            slope = network.decode_slope(i, potential)
            returned, pull_back = jax.vjp(
                lambda h: network.f(weights, i + 1, h), network.decode(i, potential)
            )
            return pre, pull_back(above - returned)[0], slope

        pre, missing, slope = jax.vmap(round_trip)(noisy)
        signals.append(Feedback(pre, jnp.zeros_like(missing), missing, slope))
    return tuple(signals)


def noisy_reconstruction(
    network: Network, weights: Weights, readout: Readout, sigma: Scalar | float, key: PRNGKeyArray
) -> tuple[Feedback, ...]:
    """Descends ½‖g_i(f_{i+1}(h_i + σξ)) − (h_i + σξ)‖² [D 32, 36].

    Nothing is differentiated but g_i, so that f_{i+1} may be discrete. Of stochastic units h_i is
    what they have drawn.
    """
    signals = []
    for i, layer_key in enumerate(jax.random.split(key, len(weights.Q)), start=1):
        h = readout.drawn[i - 1]
        signals.append(there_and_back(network, weights, i, h + sigma * noise(layer_key, h)))
    return tuple(signals)


def bidirectional(
    network: Network,
    weights: Weights,
    readout: Readout,
    sigma: Scalar | float,
    key: PRNGKeyArray,
    data: tuple[Array, Array],
) -> tuple[Feedback, ...]:
    """The label sent down to the input, and the error of that sent up again [T 3.25–3.27].

    h_i^b = s_i(Q_i h_{i+1}^b) from h_L^b = y, with a linear s_0; δ_0 = 2(h_0^b − x) and
    δ_i = D_i^b W_i δ_{i−1}; Q_i descends δ_i h_{i+1}^{b T}. Q_0 is the first of the matrices.
    """
    depth = network.depth

    def one(x: Float[Array, " n_0"], label: Float[Array, " n_L"]) -> tuple[Feedback, ...]:
        h, slopes = {depth: label}, {0: jnp.ones_like(x)}
        for i in range(depth - 1, -1, -1):
            potential = network.down(i, weights.Q[i], h[i + 1])
            h[i] = network.s(i, potential) if i else potential
            if i:
                slopes[i] = network.slope(i, potential)
        signals, missing = [], 2 * (x - h[0])
        for i in range(depth):
            signals.append(Feedback(h[i + 1], jnp.zeros_like(missing), missing, slopes[i]))
            missing = network.across(weights, i + 1, slopes[i] * missing)
        return tuple(signals)

    return jax.vmap(one)(*data)


def adaptive(
    network: Network, weights: Weights, readout: Readout, sigma: Any, key: Any
) -> tuple[Feedback, ...]:
    """ΔQ_i = h_i R^T, R the error that Q_i carries [Baldi, Sadowski & Lu 2018, section 3].

    Through the layers that is the transpose of what W_{i+1} learns.
    """
    pairs = zip(readout.rate[:-1], readout.carried, readout.passed, strict=True)
    return tuple(
        Feedback(error, jnp.zeros_like(h), h, jnp.ones_like(h), passed)
        for h, error, passed in pairs
    )


def difference_reconstruction(
    network: Network, weights: Weights, readout: Readout, sigma: Scalar | float, key: PRNGKeyArray
) -> tuple[Feedback, ...]:
    """Noise in layer i travels to the output and back, against the same way without noise.

    The difference reconstruction loss of Meulemans et al. 2020, layer by layer: the apical synapse
    learns to predict the neuron's own fluctuation σξ from the fluctuation that returns, so that
    the feedback path inverts the whole way up. Fluctuations are divided by σ.
    """
    signals = []

    def there_and_back(
        h: Float[Array, " n_i"], i: int
    ) -> tuple[Float[Array, " pre"], Float[Array, " n_i"]]:
        """What comes back to the apical dendrite of layer i: (presynaptic, potential)."""
        for k in range(i + 1, network.depth + 1):
            h = network.f(weights, k, h)
        for k in range(network.depth - 1, i, -1):
            h = network.g(weights, k, h)
        pre = network.encode(weights, i, h)
        return pre, network.down(i, weights.Q[i - 1], pre)

    for i, layer_key in enumerate(jax.random.split(key, network.depth - 1), start=1):
        h = readout.rate[i - 1]
        drawn = noise(layer_key, h)
        way = jax.vmap(lambda h, i=i: there_and_back(h, i))
        pre, potential = way(h + sigma * drawn)
        pre_bar, potential_bar = way(h)
        signals.append(
            Feedback(
                pre=(pre - pre_bar) / sigma,
                predicted=(network.decode(i, potential) - network.decode(i, potential_bar)) / sigma,
                actual=drawn,
                slope=network.decode_slope(i, potential),
            )
        )
    return tuple(signals)
