"""Random networks at the rest of a phase."""

from itertools import pairwise

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from chains import circuit

from neurosim.functions.activations import LeakyReLU, Linear, Tanh
from neurosim.functions.losses import Loss
from neurosim.levels.equilibrium import Equilibrium
from neurosim.levels.settling import Problem, Span
from neurosim.networks.dynamics import Target, rest
from neurosim.networks.network import Network, Weights

SLOPE, STEP = 0.35, 0.1


ACTIVATIONS = {"linear": Linear(), "leaky": LeakyReLU(SLOPE), "tanh": Tanh()}


LEVEL = Equilibrium(1e-13, 400, 8)


def network(sizes, activation="leaky", form="inverse", loss="half-squared", output="linear"):
    hidden = (ACTIVATIONS[activation],) * (len(sizes) - 2)
    return Network(tuple(sizes), (*hidden, Linear()), form, Loss(loss, output))


def random_weights(sizes, seed=0, biases=False, q_noise=0.3) -> Weights:
    """Singular values of 0.7 … 1.3; feedback weights near the pseudo-inverses."""
    rng = np.random.default_rng(seed)
    W = []
    for n_in, n in pairwise(sizes):
        u, _, vt = np.linalg.svd(rng.standard_normal((n, n_in)), full_matrices=False)
        W.append(u * rng.uniform(0.7, 1.3, min(n, n_in)) @ vt)
    b = [0.3 * rng.standard_normal(n) for n in sizes[1:]] if biases else []
    Q = [np.linalg.pinv(w) + q_noise * rng.standard_normal(w.T.shape) / 5 for w in W[1:]]
    return Weights(*(tuple(map(jnp.asarray, arrays)) for arrays in (W, b, Q)))


@eqx.filter_jit
def _phase(dynamics, net, weights, x, y, teaching, start, value):
    def one(x, y, state, value):
        target = Target("fixed", value=value) if teaching == "fixed" else Target(teaching, STEP, y)
        own = circuit(weights)
        drive = dynamics.drive(net, own, x, target)
        problem = Problem(dynamics, net, own, drive, STEP, y)
        state, report, _ = LEVEL.settle(problem, state, Span(0.0, True))
        return state, dynamics.read(net, own, drive, state), report.settled

    return jax.vmap(one)(x, y, start, value)


def settled(dynamics, net, weights, x, y, teaching="none", start=None, value=None):
    """States and readouts (`Signals`) of a batch at the fixed points of a phase."""
    if start is None:
        start = jax.vmap(lambda _: rest(dynamics, net, jnp.float64))(x)
    value = jnp.zeros_like(y) if value is None else value
    state, readout, ok = _phase(dynamics, net, weights, x, y, teaching, start, value)
    assert ok.all()
    return state, readout


def draws(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape))
