"""What a transient leaves: the chain of units against networks of weights of one."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from chains import FEEDFORWARD, circuit
from theory_systems import (
    HALF,
    ONE_SLOW,
    STEP,
    TAU,
    teacher,
    unit_model,
)

from neurosim.building import assembly
from neurosim.functions.activations import Linear
from neurosim.functions.losses import Loss
from neurosim.levels.rate import Rate
from neurosim.levels.settling import Problem, Span
from neurosim.networks.dynamics import Target, field, rest
from neurosim.networks.network import Network, Weights
from neurosim.theory.closed_forms import (
    frozen_shares,
)
from neurosim.theory.linearisation import System
from neurosim.theory.relaxation import chain

pytestmark = pytest.mark.usefixtures("double_precision")


SLOW = {"tau_basal": 0.005, "tau_apical": 0.01}
UNITS = {
    "prompt": partial(unit_model, "mixture-two-phase", mu=0.2, tau_soma=TAU),
    "one phase": partial(unit_model, "mixture", mu=0.2, tau_soma=TAU),
    "basal": partial(
        unit_model, "mixture-dendrites", changes=ONE_SLOW["basal"], mu=0.2, tau_soma=TAU, **SLOW
    ),
    "apical": partial(
        unit_model, "mixture-dendrites", changes=ONE_SLOW["apical"], mu=0.2, tau_soma=TAU, **SLOW
    ),
    "dendrites": partial(unit_model, "mixture-dendrites", mu=0.2, tau_soma=TAU, **SLOW),
    "multiplexing": partial(unit_model, "multiplexing", tau_basal=TAU, tau_apical=0.01),
    "feedforward": partial(unit_model, FEEDFORWARD, tau_basal=TAU),
}


def units(family, depth, loss, target, step=0.1):
    """The description of linear units with weights of one, and the system they make."""
    spec = UNITS[family](depth, loss, step)
    moving = assembly.dynamics(spec).with_layers()
    network = Network((1,) * (depth + 1), (Linear(),) * depth, "inverse", loss)
    one = jnp.ones((1, 1))
    weights = circuit(Weights((one,) * depth, (), (one,) * (depth - 1)))
    drive = moving.drive(network, weights, jnp.ones(1), target)
    return spec, System(moving, network, weights, drive)


@pytest.mark.parametrize("family", ["prompt", "dendrites", "multiplexing"])
def test_chain_tells_what_a_transient_leaves(family):
    """Linear network, weights of one: what its simulation leaves is what the chain says, 1e-6."""
    depth, duration = 3, 0.1
    spec, found = units(family, depth, HALF, Target("none"))
    start = rest(found.dynamics, found.network, jnp.float64)
    level = Rate("tsit5", 1e-3, True, 1e-10, 1e-12, 1e-9)
    problem = Problem(*found, STEP, jnp.zeros(1))
    state, _, _ = level.settle(problem, start, Span(duration, False))
    readout = found.dynamics.read(*found[1:], state)
    way = chain(spec)
    left = np.abs(1 - np.concatenate(teacher(found, readout)))  # at rest everything is 1
    np.testing.assert_allclose(way.transient(np.zeros_like(way.b), duration), left, rtol=1e-6)
    until = way.until(np.zeros_like(way.b), left.max() * np.ones(depth))
    assert until == pytest.approx(duration, rel=2e-3)


@pytest.mark.parametrize("teaching", ["none", "following", "frozen", "clamped"])
@pytest.mark.parametrize(
    "loss",
    [HALF, Loss("squared", "linear"), Loss("squared", "softmax"), Loss("cross-entropy", "softmax")],
    ids=lambda loss: f"{loss.name}-{loss.output}",
)
@pytest.mark.parametrize("family", UNITS)
def test_chain_is_the_vector_field_of_units_with_unit_weights(family, loss, teaching):
    """Its matrices against the derivatives of the equations of a circuit; to rounding."""
    depth, step = 3, 0.3
    values = {"frozen": 1 - step, "clamped": 0.0}
    kind = "fixed" if teaching in values else teaching
    target = Target(kind, step, jnp.zeros(1), jnp.full(1, values.get(teaching, 0.0)))
    spec, system = units(family, depth, loss, target, step)
    places = [(f"{g.population}.{name}", system.dynamics._index(g))
              for g, name in system.dynamics.circuit.moving]  # fmt: skip

    def whole(v):
        """The state whose flat form a chain has, layer by layer."""
        found = {name: {} for name, _ in places}
        for (name, index), value in zip(places, v, strict=True):
            found[name][index] = value[None]
        return {name: tuple(layers[k] for k in sorted(layers)) for name, layers in found.items()}

    def velocity(v):
        moved = field(*system, whole(v))
        return jnp.concatenate([moved[name][index - 1] for name, index in places])

    def learned(v):
        now = system.dynamics.read(*system[1:], whole(v))
        if family == "feedforward":
            return jnp.concatenate(system.dynamics.layers(system.network, now).rate)
        return jnp.concatenate(teacher(system, now))

    found, zero = chain(spec, teaching), jnp.zeros(len(places))
    for matrix, expected in zip(
        found, (jax.jacfwd(velocity)(zero), velocity(zero), jax.jacfwd(learned)(zero)), strict=True
    ):
        np.testing.assert_allclose(matrix, expected, rtol=1e-12, atol=1e-12)


def test_chain_of_a_frozen_target_ends_where_the_law_says():
    mu, depth, step = 0.1, 4, 0.5
    model = unit_model("mixture", depth, HALF, step, mu=mu, tau_soma=TAU)
    free, frozen = chain(model), chain(model, "frozen")
    np.testing.assert_allclose(frozen.rest - free.rest, -step * frozen_shares(mu, depth), rtol=1e-9)
