"""Fixed points: how many there are, and that phases settle at them."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from chains import circuit
from jax.flatten_util import ravel_pytree
from theory_systems import HALF, STEP, TAU, mixture, system

from neurosim.functions.activations import LeakyReLU, Linear, Tanh
from neurosim.networks.dynamics import Target, field
from neurosim.networks.network import Network, Weights
from neurosim.theory import fixed_points
from neurosim.theory.linearisation import System

pytestmark = pytest.mark.usefixtures("double_precision")


def test_many_starts_find_every_fixed_point_of_a_bistable_unit():
    """h = (1−μ) tanh(w x) + μ q artanh(h): three fixed points where the inverse is steep enough."""
    network = Network((1, 1, 1), (Linear(), Tanh()), "inverse", HALF)
    one = jnp.ones((1, 1))
    weights = circuit(Weights((one, one), (), (0.0 * one,)))
    zero, moving = jnp.zeros(1), mixture(0.4)((1, 1, 1))
    # The output: h_2 = (1−μ) tanh(h_1) + μ t with the target t = 0 − 4 (h_2 − 0): one point only.
    found = System(moving, network, weights, moving.drive(network, weights, zero, Target("none")))
    starts = jnp.asarray(np.random.default_rng(0).uniform(-0.9, 0.9, (20, 2)))
    single = fixed_points.search(found, starts)
    assert len(single.states) == 1 and single.counts == (20,)
    # h_1 = μ q artanh(h_2), h_2 = tanh(h_1) in the free phase: h_1 (1 − μ q) = 0, or all of a line.
    bent = weights | {"Q": (6.0 * one,)}
    target = Target("fixed", value=zero)
    found = System(moving, network, bent, moving.drive(network, bent, zero, target))
    several = fixed_points.search(found, starts)

    def balance(h2):  # the two equations with h_1 eliminated
        return 0.6 * np.tanh(0.4 * 6.0 * np.arctanh(h2)) - h2

    grid = np.linspace(-0.999, 0.999, 200001)
    crossings = int(np.sum(np.diff(np.sign(balance(grid[1:-1]))) != 0))
    assert crossings == 3 == len(several.states)
    np.testing.assert_allclose([balance(s[0]) for s in several.states], 0, atol=1e-9)


def test_phases_settle_where_the_equations_say():
    found, y = system((4, 6, 6, 6), LeakyReLU(0.5), mixture(0.1), noise=0.02)
    kinds = ["following", "frozen", "clamped"]
    rests = eqx.filter_jit(fixed_points.phases)(found, STEP, y, kinds)
    for kind, (drive, place) in rests.items():
        assert bool(place.settled), kind
        velocity = field(found.dynamics, found.network, found.weights, drive, place.state)
        assert float(jnp.abs(ravel_pytree(velocity)[0]).max()) < 1e-11 / TAU
    drive, place = rests["clamped"]
    (output,), (free,) = (rests[kind][1].state["output.soma"] for kind in ("clamped", "none"))
    assert float(jnp.abs(output - free).max()) > 1e-3
    # From other starts too, by another method.
    drive = found._replace(drive=drive)
    starts = fixed_points.starts(drive, 8, 2.0, jax.random.key(0))
    again = fixed_points.search(drive, starts)
    assert again.counts == (8,)
    np.testing.assert_allclose(again.states[0], ravel_pytree(place.state)[0], atol=1e-10)
