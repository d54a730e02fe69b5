"""Target propagation: every layer's target ĥ_i by feedback maps g_i, from the top layer down.

The teaching of layer i is ĥ_i − h_i. `step` is η̂; the output's target is h_L − η̂ e_L [T 4.4].
"""

from collections.abc import Callable

from jaxtyping import Array, Float, Scalar

from neurosim.networks.dynamics import Readout
from neurosim.networks.network import Layers, Network, Weights
from neurosim.networks.wirings import transposed


def _teaching(now: Readout, targets: list[Array]) -> Layers:
    """ĥ_i − h_i of every layer, for targets from the top layer down."""
    return tuple(t - h for t, h in zip(reversed(targets), now.rate, strict=True))


def _descend(
    target: Float[Array, " n"], top: int, map_down: Callable[[int, Array], Array]
) -> list[Array]:
    """The targets of the layers `top` … 1, each made by `map_down` from the one above."""
    targets = [target]
    for i in range(top - 1, 0, -1):
        targets.append(map_down(i, targets[-1]))
    return targets


def plain_targets(
    network: Network,
    weights: Weights,
    now: Readout,
    label: Float[Array, " n_L"],
    step: Scalar | float,
) -> Layers:
    """ĥ_i = g_i(ĥ_{i+1}) [T 4.2, A.4, A.10, A.14]; reconstruction errors of g_i come along."""
    h = now.rate
    top = h[-1] - step * network.loss.error(h[-1], label)
    return _teaching(
        now, _descend(top, network.depth, lambda i, above: network.g(weights, i, above))
    )


def difference_targets(
    network: Network,
    weights: Weights,
    now: Readout,
    label: Float[Array, " n_L"],
    step: Scalar | float,
) -> Layers:
    """ĥ_i = h_i + g_i(ĥ_{i+1}) − g_i(h_{i+1}), in which they cancel [T 4.101, A.12, A.16, D 18]."""
    h = now.rate
    top = h[-1] - step * network.loss.error(h[-1], label)
    return _teaching(now, _descend(top, network.depth, _difference(network, weights, h)))


def gradient_targets(
    network: Network,
    weights: Weights,
    now: Readout,
    label: Float[Array, " n_L"],
    step: Scalar | float,
) -> Layers:
    """The same below ĥ_{L−1} = h_{L−1} − η̂ ∂ℓ/∂h_{L−1} [D 20]; the output follows its gradient."""
    h = now.rate
    error = network.loss.error(h[-1], label)
    if network.depth == 1:
        return (-error,)
    sent, C = now.slope[-1] * error, transposed(weights.W[-1])
    below = network.back(weights, network.depth - 1, C, sent, h[-2])
    targets = _descend(h[-2] - step * below, network.depth - 1, _difference(network, weights, h))
    return _teaching(now, [h[-1] - error, *targets])


def _difference(network: Network, weights: Weights, h: Layers) -> Callable[[int, Array], Array]:
    def map_down(i: int, above: Array) -> Array:
        return h[i - 1] + network.g(weights, i, above) - network.g(weights, i, h[i])

    return map_down
