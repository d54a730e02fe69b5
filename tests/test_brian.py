"""Brian2 integrates the same text as JAX, whatever the circuit."""

from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from circuit_models import (
    CIRCUITS,
    PARAMETERS,
    TEXTS,
    model,
    states,
)

from neurosim.building import assembly
from neurosim.building.loading import load_model
from neurosim.building.shipped import bundled
from neurosim.circuits.description import FUNCTIONS
from neurosim.circuits.expressions import parse
from neurosim.circuits.populations import Group
from neurosim.levels.rate import Rate
from neurosim.networks.dynamics import Target, field, rest
from neurosim.specs import ModelSpec

STEP, STEPS = 1e-3, 200


def bridged(spec: ModelSpec, dt: float, seed=0):
    """The largest difference of any state after two phases of Euler steps, at JAX and in Brian2."""
    from neurosim.levels.spiking.machine import Machine

    dynamics, net = assembly.dynamics(spec), assembly.network(spec)
    own = assembly.weights(spec, seed, None, Path())
    rng = np.random.default_rng(3)
    if "b" in own:
        own |= {"b": tuple(0.1 * rng.standard_normal(b.shape) for b in own["b"])}
    x, y = rng.standard_normal((3, spec.layers[0])), rng.standard_normal((3, spec.layers[-1]))
    level = Rate("euler", dt, False, 1e-6, 1e-9, 1e-3)

    def solve(x, y):
        state = rest(dynamics, net, jnp.float64)
        for target in (Target("none"), Target("fixed", value=y)):
            drive = dynamics.drive(net, own, x, target)
            moved = partial(field, dynamics, net, own, drive)
            state, _, _ = level.integrate(moved, state, dt * STEPS / 2)
        return state

    expected = jax.jit(jax.vmap(solve))(x, y)
    machine = Machine(dynamics, net, {}, dt, len(x), target="numpy")

    def program():
        machine.rest()
        machine.write_weights(own)
        machine.drive(own, x)
        machine.teach(None)
        yield STEPS // 2
        machine.teach(y)
        yield STEPS // 2

    machine.run(program(), STEPS)
    worst = 0.0
    for group, name in dynamics.circuit.moving:
        layers = dynamics.circuit.population[group.population].layers
        here = expected[f"{group.population}.{name}"][layers.index(group.layer)]
        assert np.abs(here).max() > 1e-3
        worst = max(worst, float(np.abs(machine.state(group, name) - here).max()))
    return worst


@pytest.mark.usefixtures("double_precision")
@pytest.mark.parametrize("form", ["inverse", "autoencoder"])
@pytest.mark.parametrize("family", TEXTS)
def test_brian_integrates_the_same_text(family, form):
    """Two phases of 100 Euler steps, free and taught, from text for both: 1e-12 of each other."""
    activation = (
        {"name": "tanh"} if form == "autoencoder" else {"name": "leaky-relu", "slope": 0.35}
    )
    assert bridged(model(family, form=form, activation=activation), STEP) < 1e-12


SQUARE = {"layers": [4, 4, 4, 4], "projections.W.init": "orthogonal"}
"""Layers that every shipped model can have, and weights that need no task."""

AUTOENCODER = {"denoising-autoencoder": {"layers": [4, 4, 4]}}
"""Whose upper weights are those of the layer below, transposed."""

BY_THEMSELVES = {"segregated-dendrites-poisson", "broadcast-alignment"}
"""Shipped models whose cells spike by themselves, which Brian2 alone integrates."""

FROM_NOTHING = {"feedback-control-single-phase"}
"""Whose feedback would bring nothing before it has learned."""


@pytest.mark.usefixtures("double_precision")
@pytest.mark.parametrize("name", sorted(set(bundled("models")) - BY_THEMSELVES))
def test_brian_integrates_every_shipped_model(name):
    changes = {"projections.Q.init": "xavier"} if name in FROM_NOTHING else {}
    given = load_model(name, SQUARE | changes | AUTOENCODER.get(name, {}))
    still = {key: 0.0 for key in given.parameters if key == "sigma"}
    silent = {"noise": {}, "parameters": given.parameters | still}
    assert bridged(given.model_copy(update=silent), 1e-4) < 1e-12


@pytest.mark.usefixtures("double_precision")
@pytest.mark.parametrize("path", CIRCUITS, ids=lambda path: path.stem)
def test_brian_integrates_circuits_of_ones_own(path):
    assert bridged(load_model(path), 1e-4) < 1e-12


VARIED = {
    **PARAMETERS,
    "tau_soma": {"mean": "20 ms", "spread": "4 ms"},
    "mu": {"mean": 0.2, "spread": 0.02},
}


@pytest.mark.usefixtures("double_precision")
def test_cells_that_differ_in_a_parameter_do_so_in_brian_too():
    assert bridged(model("mixture", parameters=VARIED, attenuation="1"), STEP) < 1e-12


@pytest.mark.usefixtures("double_precision")
def test_every_cell_has_its_own_value_of_a_spread_parameter():
    """τ dv/dt = pull − v, cell by cell; drawn by seed, never of the other sign."""
    spec = model("mixture", parameters=VARIED, layers=[4, 200, 200, 3], attenuation="1")
    alike = model("mixture", layers=[4, 200, 200, 3])
    own, other = (assembly.weights(spec, seed, None, Path()) for seed in (0, 1))
    taus = np.concatenate([own["pyramidal.tau_soma"][0], own["pyramidal.tau_soma"][1]])
    assert taus.mean() == pytest.approx(0.02, abs=4 * 0.004 / 20)
    assert taus.std() == pytest.approx(0.004, rel=0.2)
    assert taus.min() > 0
    assert not np.array_equal(own["output.mu"][0], other["output.mu"][0])
    dynamics, net = assembly.dynamics(spec), assembly.network(spec)
    state = states(dynamics, net)
    drive = dynamics.drive(net, own, jnp.ones(4), Target("none"))
    found = field(dynamics, net, own, drive, state)["pyramidal.soma"][0]
    now = dynamics.at(net, own, drive, state)
    group, mu = Group("pyramidal", 1), own["pyramidal.mu"][0]
    mixed = (1 - mu) * now(group, "basal_rate") + mu * now(group, "apical_rate")
    expected = (mixed - state["pyramidal.soma"][0]) / own["pyramidal.tau_soma"][0]
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert set(assembly.weights(alike, 0, None, Path())) == {"W", "Q", "b"}


@pytest.mark.usefixtures("double_precision")
def test_instant_populations_in_a_row_do_not_lag_in_brian():
    """A cell that follows at once, between two that move: sums go in the order of dependence."""
    relayed = model(
        "mixture",
        layers=[3, 4, 4],
        cells={
            "pyramidal": {"equations": "dsoma/dt = (forward + back - soma)/tau_soma\nup = soma"},
            "relay": {"equations": "out = s(soma_in)"},
            "output": {"equations": "dsoma/dt = (forward - soma)/tau_soma\nup = soma"},
        },
        populations={"pyramidal": "hidden", "relay": "hidden", "output": "output"},
        projections={
            "W": {"wire": "up[i-1] -> forward[i]"},
            "R": {"wire": "up[i] => relay.soma_in[i]"},
            "B": {"wire": "relay.out[i] -> back[i]"},
        },
        activation={"name": "tanh"},
    )
    assert bridged(relayed, STEP) < 1e-12


def test_text_in_brians_notation_keeps_its_order():
    """Sums and products in the order of the text, whatever stands for the names."""
    text = "((1 - mu)*s(basal) + mu*g - soma)/tau"
    found = parse(text, FUNCTIONS).written({"g": "apical_in"}, {"s": "tanh({})".format})
    assert found == "(((((1.0 - mu) * (tanh(basal))) + (mu * apical_in)) - soma) / tau)"
