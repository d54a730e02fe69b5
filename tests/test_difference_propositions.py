"""Propositions 1 and 2 of Lee et al. 2015, over random draws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from neurosim.circuits.expressions import parse
from neurosim.credit.channel import backprop
from neurosim.credit.target_propagation import gradient_targets
from neurosim.functions.activations import Elementwise, Linear
from neurosim.functions.losses import Loss
from neurosim.networks.dynamics import Readout
from neurosim.networks.network import Carried, Network, Weights
from neurosim.plasticity.signals import apical_delta, noise_injected

SIZES, DRAWS, STEP = (4,) * 5, 200, 1e-5
HALF = Loss("half-squared", "linear")


def tanh_network():
    """h_i = W_i tanh(h_{i−1}) and its inverse artanh(W_i⁻¹ h_i): layers send tanh of themselves."""
    sent = (Carried("h", parse("tanh(h)")),) * (len(SIZES) - 2)
    undone = Elementwise(jnp.arctanh)
    kinds = (Linear(),) * (len(SIZES) - 1)
    return Network(SIZES, kinds, "autoencoder", HALF, carried=(*sent, None), decoder=undone)


NETWORKS = {
    "linear": Network(SIZES, (Linear(),) * (len(SIZES) - 1), "autoencoder", HALF),
    "tanh": tanh_network(),
}


def drawn(key, orthogonal):
    keys = jax.random.split(key, len(SIZES) + 1)
    W = [jax.random.normal(k, (4, 4)) for k in keys[2:]]
    if orthogonal:
        W = [jnp.linalg.qr(w)[0] for w in W]
    inverses = tuple(jnp.linalg.inv(w) for w in W[1:])
    x, y = (jax.random.normal(k, (4,)) for k in keys[:2])
    return Weights(tuple(W), (), inverses), x, y


@pytest.fixture(scope="module", params=list(NETWORKS))
def angles(request):
    """Cosines of the two updates of hidden layers below the last, and the bounds; by orthogonal.

    An update is the teaching of its layer times what the layer below sends, whether it comes as a
    target or as an error: the angle is that of the teaching.
    """
    network = NETWORKS[request.param]

    def one(key, orthogonal):
        weights, x, y = drawn(key, orthogonal)
        h = network.forward_pass(weights, x)
        now = Readout(h, tuple(map(jnp.ones_like, h)), h)
        targets = gradient_targets(network, weights, now, y, STEP)

        def answered(i, h_i):
            for k in range(i + 1, network.depth + 1):
                h_i = network.f(weights, k, h_i)
            return network.loss(h_i, y)

        cosines, bounds = [], []
        for i in range(1, network.depth - 1):
            error = -jax.grad(lambda a, i=i: answered(i, a))(h[i - 1])
            taught = targets[i - 1]
            cosines.append(taught @ error / jnp.linalg.norm(taught) / jnp.linalg.norm(error))

            def way(h_i, i=i):
                for k in range(i + 1, network.depth):
                    h_i = network.f(weights, k, h_i)
                return h_i

            values = jnp.linalg.svd(jax.jacobian(way)(h[i - 1]), compute_uv=False)
            bounds.append(values[-1] / values[0])
        return jnp.stack(cosines), jnp.stack(bounds)

    keys = jax.random.split(jax.random.key(5), DRAWS)
    with jax.enable_x64(True):
        every = jax.jit(jax.vmap(one, (0, None)), static_argnums=1)
        return request.param, {kind: every(keys, kind) for kind in (False, True)}


def test_the_angle_to_backprop_is_within_the_bound(angles):
    """Equation 14, with what is proportional to η_0 as small as that."""
    _, found = angles
    cosines, bounds = map(np.asarray, found[False])
    # Where η_0 = 1e-5 is small against the smallest singular value; elsewhere targets may lie where
    # artanh is not defined, which the text warns of.
    usable = bounds > 1e-2
    assert usable.sum() > DRAWS / 2
    assert np.all(cosines[usable] >= bounds[usable] * (1 - 1e-2))
    assert np.all(cosines[usable] <= 1 + 1e-12)
    assert np.median(cosines[usable]) < 0.9  # the directions are not the same


def test_the_directions_are_one_where_all_singular_values_are(angles):
    name, found = angles
    cosines, bounds = map(np.asarray, found[True])
    if name == "linear":
        np.testing.assert_allclose(bounds, 1, atol=1e-9)
        np.testing.assert_allclose(cosines, 1, atol=1e-9)
    else:  # slopes of tanh stand between orthogonal weights
        assert np.all(cosines >= bounds * (1 - 1e-3))


def test_in_the_linear_case_the_channel_of_errors_is_the_gradient():
    network = NETWORKS["linear"]
    weights, x, y = drawn(jax.random.key(1), False)
    h = network.forward_pass(weights, x)
    now = Readout(h, tuple(map(jnp.ones_like, h)), h)
    error, target = backprop(network, weights, now, y), h[-1] - y
    np.testing.assert_allclose(error[-2], -weights.W[-1].T @ target, rtol=1e-5)


# ------------------------------------------------------------------------------- proposition 2


def distances(walking, steps=6000):
    """‖V − V*(W)‖ on the way, of eight draws; V* = W⁻¹ of linear maps.

    V* itself walks, so that W does by steps whose expectation moves no optimum: condition 5.
    walking: the rate η_w of the walk at time t.
    """
    network = Network((3, 3, 3), (Linear(),) * 2, "autoencoder", HALF)

    def one(key):
        first, start, key = jax.random.split(key, 3)
        best = jnp.linalg.qr(jax.random.normal(first, (3, 3)))[0]
        V = best + 0.5 * jax.random.normal(start, (3, 3))

        def step(carry, t):
            V, best = carry
            now = jax.random.fold_in(key, t)
            W = jnp.linalg.inv(best)
            target = jax.random.normal(jax.random.fold_in(now, 0), (1, 3))
            weights = Weights((W, W), (), (V,))
            readout = Readout((), (), (), teacher=(target, target))
            noise = jax.random.fold_in(now, 1)
            (signal,) = noise_injected(network, weights, readout, 0.5, noise)
            rate = 0.2 / (1 + t / 50) ** 0.75  # Σ η = ∞, Σ η² < ∞
            V = V + rate * apical_delta(signal, V, 0.0)
            best = best + walking(t) * jax.random.normal(jax.random.fold_in(now, 2), (3, 3))
            return (V, best), jnp.linalg.norm(V - best)

        return jax.lax.scan(step, (V, best), jnp.arange(steps))[1]

    return np.asarray(jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(3), 8)))


@pytest.fixture(scope="module")
def converging():
    return distances(lambda t: 0.01 / (1 + t / 50) ** 0.75)


def test_feedback_weights_converge_to_an_optimum_that_moves(converging):
    """What is left is the noise of steps, whose deviation falls as √η."""
    begun, late, end = (part.mean(1) for part in np.split(converging, (1, 500, 600, 5900), 1)[::2])
    assert np.all(end < begun / 10)
    expected = ((1 + 5950 / 50) / (1 + 550 / 50)) ** (0.75 / 2)
    assert late.mean() / end.mean() == pytest.approx(expected, rel=0.25)


def test_they_do_not_where_the_steps_of_w_do_not_shrink(converging):
    """Condition 2: a walk whose steps stay outruns learning whose rate falls."""
    found = distances(lambda t: 0.002)
    assert np.all(found[:, -300:].mean(1) > 3 * converging[:, -300:].mean())


def test_a_network_of_one_layer_follows_its_gradient():
    """Of ½‖h − y‖², y − h: there is no layer below whose target could be set."""
    network = Network((4, 4), (Linear(),), "autoencoder", HALF)
    h, y = jnp.arange(4.0), jnp.ones(4)
    weights, now = Weights((jnp.eye(4),), (), ()), Readout((h,), (jnp.ones(4),), (h,))
    (taught,) = gradient_targets(network, weights, now, y, STEP)
    np.testing.assert_array_equal(taught, y - h)
