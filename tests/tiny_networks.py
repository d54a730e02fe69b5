"""Tiny networks of every family, and a phase of a batch of samples under them."""

from functools import cache, partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from chains import FEEDFORWARD, circuit, dynamics, forward

from neurosim.functions.activations import LeakyReLU, Linear, Tanh
from neurosim.functions.losses import Loss
from neurosim.levels.settling import Problem, Span
from neurosim.networks.dynamics import Target, rest
from neurosim.networks.network import Network, Weights

SIZES, STEP = (4, 5, 5, 3), 0.1


ACTIVATIONS = {"linear": Linear(), "leaky": LeakyReLU(0.35), "tanh": Tanh()}


DYNAMICS = {
    "mixture": partial(dynamics, "mixture-two-phase", SIZES, mu=0.2, tau_soma=0.02),
    "dendrites": partial(
        dynamics,
        "mixture-dendrites",
        SIZES,
        mu=0.2,
        tau_soma=0.02,
        tau_basal=0.005,
        tau_apical=0.01,
    ),
    "multiplexing": partial(dynamics, "multiplexing", SIZES, tau_basal=0.01, tau_apical=0.02),
    "feedforward": partial(dynamics, FEEDFORWARD, SIZES, tau_basal=0.01),
}


def network(activation: str) -> Network:
    hidden = (ACTIVATIONS[activation],) * (len(SIZES) - 2)
    return Network(SIZES, (*hidden, Linear()), "inverse", Loss("half-squared", "linear"))


@cache
def weights() -> Weights:
    """Orthogonal forward weights with nearly inverse feedback weights."""
    rng = np.random.default_rng(0)
    W = forward("orthogonal", SIZES, 0.7, rng)
    Q = [np.linalg.pinv(w) + 0.02 * rng.standard_normal(w.T.shape) for w in W[1:]]
    return Weights(tuple(W), (), tuple(Q))


@cache
def samples():
    rng = np.random.default_rng(1)
    return jnp.asarray(rng.standard_normal((6, 4))), jnp.asarray(rng.standard_normal((6, 3)))


@eqx.filter_jit
def present(level, dynamics, network, x, y, ids, duration, stop, times=None):
    """A phase with a following target for a batch: (final states, reports, states at `times`)."""

    def one(x, y, sample):
        own = circuit(weights())
        drive = dynamics.drive(network, own, x, Target("following", STEP, y))
        key = jax.random.fold_in(jax.random.key(5), sample) if dynamics.noise else None
        span = Span(duration, stop, key, None if times is None else (times, lambda _, state: state))
        problem = Problem(dynamics, network, own, drive, STEP, y)
        return level.settle(problem, rest(dynamics, network, x.dtype), span)

    return jax.vmap(one)(x, y, ids)
