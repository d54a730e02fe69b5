"""Chains of single units: from the text of circuits, against what simulates and analyzes it."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from circuit_models import CIRCUITS, PARAMETERS, TEXTS, model
from jax.flatten_util import ravel_pytree

from neurosim.building import assembly
from neurosim.building.loading import load_model
from neurosim.functions.activations import Linear
from neurosim.networks.dynamics import Target, rest
from neurosim.networks.network import Network
from neurosim.reports.analysis import _closed_form, _Parts
from neurosim.theory.linearisation import System, jacobian
from neurosim.theory.relaxation import chain

TEACHINGS = ["none", "following", "frozen", "clamped"]
FEEDFORWARD = {
    "cells": {
        "pyramidal": {
            "equations": "dbasal/dt = (forward + bias - basal)/tau_basal\nup = s(basal)",
        }
    },
    "populations": {"pyramidal": "all"},
    "projections": {"W": {"wire": "up[i-1] -> forward[i]", "bias": True}},
    "parameters": {"tau_basal": 0.02},
    "attenuation": "1",
}
SLOW = """
basal    = forward + bias
dcalcium/dt = (feedback - calcium)/tau_apical
dapical/dt  = (calcium - apical)/tau_basal
dsoma/dt = (0.7*s(basal) + 0.2*apical - soma)/tau_soma
up       = soma
down     = encode(soma, bias)
"""
"""An apical dendrite of second order and a leak: no family has it."""
FAMILIES = [*TEXTS, "feedforward"]


def text(family, **changes):
    """A network of a family as a circuit; `slow`, with the cells that none has."""
    if family == "feedforward":
        return model("mixture", **(FEEDFORWARD | changes))
    if family == "slow":
        own = model("mixture").model_dump()["cells"]
        own["pyramidal"]["equations"] = SLOW
        own["output"]["equations"] = "apical = teach*target + (1 - teach)*soma"
        return model("mixture", cells=own, **changes)
    return model(family, **changes)


@pytest.fixture(autouse=True)
def double_precision():
    with jax.enable_x64(True):
        yield


# ---------------------------------------------------------------------- what a chain follows from


@pytest.mark.parametrize("teaching", TEACHINGS)
@pytest.mark.parametrize("family", FAMILIES)
def test_chain_is_the_vector_field_of_linear_units_with_unit_weights(family, teaching):
    """Its matrices against the derivatives of what the levels integrate; 1e-12."""
    depth, step = 3, 0.3
    spec = text(family, layers=[1] * (depth + 1), loss="squared", target_step=step)
    dynamics = assembly.dynamics(spec)
    loss = assembly.network(spec).loss
    network = Network((1,) * (depth + 1), (Linear(),) * depth, "inverse", loss)
    one, zero = jnp.ones((1, 1)), jnp.zeros(1)
    weights = {"W": (one,) * depth, "Q": (one,) * (depth - 1), "b": (zero,) * depth}
    values = {"frozen": 1 - step, "clamped": 0.0}
    kind = "fixed" if teaching in values else teaching
    target = Target(kind, step, zero, jnp.full(1, values.get(teaching, 0.0)))
    drive = dynamics.drive(network, weights, jnp.ones(1), target)
    none, whole = ravel_pytree(rest(dynamics, network, jnp.float64))
    moving = dynamics.circuit.moving

    def state(v):
        """Layer by layer, as the chain has it, in the places of the simulator."""
        found = {name: list(layers) for name, layers in whole(none).items()}
        for (group, name), value in zip(moving, v, strict=True):
            found[f"{group.population}.{name}"][dynamics._index(group) - 1] = value[None]
        return {name: tuple(layers) for name, layers in found.items()}

    def velocity(v):
        now = dynamics.at(network, weights, drive, state(v))
        places = [(f"{g.population}.{name}", dynamics._index(g)) for g, name in moving]
        return jnp.concatenate([now.velocity(*place) for place in places])

    found = chain(spec, teaching)
    np.testing.assert_allclose(found.A, jax.jacfwd(velocity)(none), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(found.b, velocity(none), rtol=1e-12, atol=1e-12)


def ruled(**post):
    """A mixture whose forward synapses have another rule, or none."""
    forward = {"wire": "up[i-1] -> forward[i]", "bias": True} | post
    feedback = {"wire": "down[i+1] -> feedback[i]", "init": "pinv(W[i+1])"}
    return chain(model("mixture", projections={"W": forward, "Q": feedback}))


def test_what_is_learned_from_is_what_the_rule_of_the_forward_synapses_names():
    """R of three layers: soma; soma less what its basal dendrite expects; else what is sent."""
    soma, below = np.eye(3), np.eye(3, k=-1)
    np.testing.assert_allclose(ruled(post="(soma - soma_free)/mu").R, soma / 0.2)
    np.testing.assert_allclose(ruled(post="slope(basal)*(soma - s(basal))").R, soma - below)
    np.testing.assert_array_equal(ruled().R, soma)
    np.testing.assert_array_equal(ruled(post="soma*soma").R, soma)


def test_a_phase_may_change_parameters():
    """A longer τ of the somata slows all down by as much; of spread parameters the mean counts."""
    slow = chain(model("mixture"), "clamped", changed={"tau_soma": 0.06})
    assert slow.slowest == pytest.approx(3 * chain(model("mixture"), "clamped").slowest)
    spread = PARAMETERS | {"tau_soma": {"mean": "60 ms", "spread": "6 ms"}}
    found = chain(model("mixture", parameters=spread), "clamped")
    assert found.slowest == pytest.approx(slow.slowest)
    file = PARAMETERS | {"tau_soma": {"file": "taus.npz"}}
    assert chain(model("mixture", parameters=file)) is None


def cells(equations, **changes):
    """A network of cells that are alike in all layers."""
    projections = {"W": {"wire": "up[i-1] -> forward[i]"}}
    if "feedback" in equations:
        projections["Q"] = {"wire": "down[i+1] -> feedback[i]", "init": "pinv(W[i+1])"}
    own = {"pyramidal": {"equations": equations}}
    given = {"cells": own, "populations": {"pyramidal": "all"}, "projections": projections}
    return model("mixture", **(given | changes))


NO_CHAINS = {
    "a power": "dsoma/dt = forward - soma**3\nup = soma",
    "a bound": "dsoma/dt = forward - clip(soma, -2, 2)\nup = soma",
    "a threshold": "dsoma/dt = forward - soma*int(soma > 0)\nup = soma",
    "a product": "dsoma/dt = forward*soma - soma\nup = soma",
    "no number": "dsoma/dt = forward - soma/(mu - mu)\nup = soma",
    "no state": "soma = forward\nup = soma",
    "a slope beside 1": "dsoma/dt = 0.5*forward + 0.5*s(forward) - s(soma)\nup = soma",
    "no inverse": "dsoma/dt = forward + 0.1*feedback - soma\nup = s(soma)\ndown = up",
}


@pytest.mark.parametrize("what", NO_CHAINS)
def test_text_that_no_chain_of_linear_units_stands_for(what):
    assert chain(cells(NO_CHAINS[what])) is None


@pytest.mark.parametrize("path", CIRCUITS, ids=lambda path: path.stem)
def test_circuits_with_other_projections_are_no_chains(path):
    assert chain(load_model(path)) is None


def test_the_lower_layers_of_a_chain_alone():
    """h_i = (1−μ) h_{i−1} + μ h_{i+1} of a mixture, where nothing comes down to the last."""
    mu, up = 0.3, 0.7
    spec = load_model("mixture", {"layers": [1, 1, 1, 1], "parameters.mu": mu})
    np.testing.assert_allclose(chain(spec, depth=1).rest, up)
    first = up / (1 - up * mu)
    np.testing.assert_allclose(chain(spec, depth=2).rest, [first, up * first])


def test_a_chain_that_grows_has_no_time_constant():
    growing = chain(cells("dsoma/dt = forward + feedback\nup = soma\ndown = soma"))
    assert growing.slowest == np.inf
    assert chain(cells("dsoma/dt = forward\nup = soma")).slowest == np.inf


# ------------------------------------------------------------------------------ closed forms


@pytest.mark.parametrize("teaching", ["none", "following", "clamped"])
@pytest.mark.parametrize("sizes", [(5, 5, 5, 5), (9, 8, 6, 3), (4, 6, 6, 4)])
@pytest.mark.parametrize("family", [*FAMILIES, "slow"])
def test_spectra_of_circuits_with_exact_inverses(family, sizes, teaching):
    """Jacobians against chains, those of directions that no layer above sees among them.

    All compartments are where the forward pass is, on the same side of the kink of a leaky ReLU.
    """
    spec = text(family, layers=list(sizes))
    dynamics, network = assembly.dynamics(spec), assembly.network(spec)
    weights = assembly.weights(spec, 0, None, None)
    x = jnp.asarray(np.random.default_rng(0).standard_normal(sizes[0]))
    y = jnp.ones(sizes[-1])
    kind = "fixed" if teaching == "clamped" else teaching
    drive = dynamics.drive(network, weights, x, Target(kind, spec.target_step, y, y))
    h = network.forward_pass(dynamics.chain(weights), x)
    layers = {population.name: population.layers for population in dynamics.circuit.populations}
    state = {
        name: tuple(h[layer - 1] for layer in layers[name.partition(".")[0]])
        for name in dynamics.shapes(network)
    }
    matrix = jacobian(System(dynamics, network, weights, drive), state)
    found = np.linalg.eigvals(np.asarray(matrix))
    parts = _Parts(SimpleNamespace(model=spec), dynamics, network, {})
    closed, error = _closed_form(parts, teaching, found)
    assert error < 1e-12
    # Nor has the closed form any that the network has not.
    assert np.abs(closed[:, None] - found).min(axis=1).max() < 1e-12 * np.abs(closed).max()
