"""Circuits that are no chains of layers: where they rest, and that levels agree about them."""

from pathlib import Path

import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from circuit_models import CIRCUITS, MIXTURE, MULTIPLEXING, PARAMETERS, RULE, THREE, change, model
from tiny_networks import network, samples

import neurosim as ns
from neurosim.building import assembly
from neurosim.building.loading import load_model
from neurosim.circuits.populations import Group
from neurosim.circuits.reading import problems
from neurosim.levels.equilibrium import Equilibrium
from neurosim.levels.settling import Problem, Span
from neurosim.models import circuitry
from neurosim.networks.dynamics import Drive, Target, rest
from neurosim.specs import ModelSpec
from neurosim.theory.fixed_points import phases
from neurosim.theory.linearisation import System

# ---------------------------------------------------------------------------- no chains of layers


def settled(spec: ModelSpec, own, x, target, tolerance=1e-13, **parameters):
    """(a look at every quantity at the fixed point, how it was reached)."""
    dynamics, net = assembly.dynamics(spec), assembly.network(spec)
    changed = {name: jnp.asarray(value) for name, value in parameters.items()}
    drive = dynamics.drive(net, own, x, target)
    drive = Drive(drive.x, drive.basal, drive.target, changed)
    problem = Problem(dynamics, net, own, drive, 1.0, jnp.zeros(spec.layers[-1]))
    start = rest(dynamics, net, jnp.float64)
    state, report, _ = Equilibrium(tolerance, 200, 0).settle(problem, start, Span(0.0, True))
    assert bool(report.settled)
    return dynamics.at(net, own, drive, state), report


@pytest.fixture
def circuit():
    def made(name, **changes):
        path = next(path for path in CIRCUITS if path.stem == name)
        spec = load_model(path, changes)
        assert problems(circuitry.tables(spec)) == []
        return spec, assembly.weights(spec, 0, None, Path())

    return made


@pytest.mark.usefixtures("double_precision")
def test_a_target_is_frozen_where_the_free_phase_left_the_answer():
    """Under the parameters of that phase, whatever the taught one changes."""
    shifted = MIXTURE.replace("forward", "forward + shift")
    taught = {"like": "pyramidal", "equations": "g = teach*target + (1 - teach)*soma"}
    cells = {"pyramidal": {"equations": shifted}, "output": taught}
    spec = model("mixture", cells=cells, parameters=PARAMETERS | {"shift": 0.0})
    dynamics, net, own = (
        assembly.dynamics(spec),
        network("linear"),
        assembly.weights(spec, 0, None, Path()),
    )
    x, y = (a[0] for a in samples())
    drive = dynamics.drive(net, own, x, Target("none"))
    system = System(dynamics, net, own, drive)
    free = {"shift": jnp.asarray(1.0)}
    found = phases(system, 0.1, y, ("frozen",), free_parameters=free)
    now, _ = settled(spec, own, x, Target("none"), shift=1.0)
    expected = 0.9 * now(Group("output", 3), "soma") + 0.1 * y
    np.testing.assert_allclose(found["frozen"][0].target.value, expected, rtol=1e-9)
    assert not found["frozen"][0].changed


@pytest.mark.usefixtures("double_precision")
def test_segregated_dendrites_rest_in_closed_form(circuit):
    """Guerguiev et al. 2017: C* = (g_B B + g_A A)/(g_L + g_B + g_A), and U* with its teaching."""
    spec, own = circuit("segregated-dendrites", layers=[6, 8, 4], **{"parameters.g_a": "50 Hz"})
    p = spec.parameters
    x = jnp.asarray(np.random.default_rng(0).standard_normal(6))
    label = jnp.asarray([1.0, 0.0, 0.0, 0.0])
    now, _ = settled(spec, own, x, Target("fixed", value=label))
    hidden, answer = Group("pyramidal", 1), Group("output", 2)
    soma = (p["g_b"] * own["W"][0] @ x + p["g_a"] * now(hidden, "apical")) / (
        p["g_l"] + p["g_b"] + p["g_a"]
    )
    np.testing.assert_allclose(now(hidden, "soma"), soma, rtol=1e-12)
    basal = own["W"][1] @ jax.nn.sigmoid(now(hidden, "soma"))
    teaching = p["g_t"] * (label * p["e_exc"] + (1 - label) * p["e_inh"])
    expected = (p["g_b"] * basal + teaching) / (p["g_l"] + p["g_b"] + p["g_t"])
    np.testing.assert_allclose(now(answer, "soma"), expected, rtol=1e-12)
    np.testing.assert_allclose(
        now(hidden, "apical"), own["Y"][0] @ jax.nn.sigmoid(expected), rtol=1e-12
    )


# ------------------------------------------------------------------------------- at three levels


@pytest.mark.seldom
@pytest.mark.long
def test_bursts_and_events_carry_two_quantities(tmp_path):
    """Of a multiplexing cell as text: what is learned from spikes is what is learned from rates."""
    equations = MULTIPLEXING.replace(" + bias", "").replace("bias)", "0)")
    cells = {"layers": "hidden", "spikes": ["f", "g"]}
    phase = {"duration": "1 s", "until": "duration"}
    taught = {"like": "pyramidal", "equations": "g = teach*target + (1 - teach)*f"}
    own = {
        "model": {
            "cells": {"pyramidal": {"equations": equations}, "output": taught},
            "populations": {"pyramidal": cells, "output": cells | {"layers": "output"}},
            "projections": {
                "W": {
                    "wire": "up[i-1] -> forward[i]",
                    "init": "orthogonal",
                    "gain": 0.5,
                    "post": RULE.format("g"),
                    "rate": 0.05,
                },
                "Q": {"wire": "down[i+1] -> feedback[i]", "init": "pinv(W[i+1])"},
            },
            "parameters": {"tau_basal": "20 ms", "tau_apical": "20 ms"},
            "layers": [5, 6, 4],
            "output": "linear",
            "loss": "squared",
            "target_step": 0.2,
        },
        "model.spiking": {
            "neurons": 100,
            "base_rate": "15 Hz",
            "gain": "5 Hz",
            "max_rate": "35 Hz",
        },
        "task": {"name": "student-teacher", "layers": [5, 6, 4], "train": 8, "test": 4},
        "batch": 4,
        "stages.0.epochs": None,
        "stages.0.presentations": 1,
        "stages.0.phases": [
            {"name": "free"} | phase,
            {"name": "learning", "teaching": "frozen", "plastic": ["W"]} | phase,
        ],
        "record.presentations": [0],
        "spiking": {"window": "500 ms", "target": "numpy"},
    }
    protocol = ns.load_protocol("quickstart", own)
    rate, spiking = (
        ns.run(protocol, level=level, out=tmp_path / f"{level}.h5") for level in ("rate", "spiking")
    )
    for name in ("W1", "W2"):
        a, b = change(rate, name), change(spiking, name)
        assert np.vdot(a, b) / np.linalg.norm(a) / np.linalg.norm(b) > 0.9, name
    rows = ns.compare(rate.path, spiking.path)["agreement"]
    ratios = [row["rmse"] / row["expected"] for row in rows if row["variable"] == "f"]
    assert np.mean(ratios) == pytest.approx(1, abs=0.2)  # of Poisson counts it would be 0.67


ADDITIVE = """
name = "additive"
layers = [4, 5, 3]
activation = "tanh"
target_step = 0.5

[cells.neuron]
equations = \"\"\"
rate       = s(forward)
dburst/dt  = (feedback - burst)/tau_burst
dsoma/dt   = (rate + kappa*(burst - soma) - soma)/tau_soma
\"\"\"

[cells.answer]
equations = "dsoma/dt = (forward + kappa*teach*(target - soma) - soma)/tau_soma"

[populations]
neuron = { layers = "hidden", spikes = "soma" }
answer = { layers = "output", spikes = "soma" }

[projections.W]
wire = "soma[i-1] -> forward[i]"
init = "orthogonal"
post = "soma - soma_forward"
rate = 0.1

[projections.Q]
wire = "soma[i+1] -> feedback[i]"
init = "transpose(W[i+1])"

[parameters]
kappa     = 0.3
tau_soma  = "20 ms"
tau_burst = "10 ms"
"""
"""A model that there is nowhere else."""


def test_adding_a_model_is_one_file(tmp_path):
    """Written anywhere, it runs at the three levels, which agree on what is learned."""
    (tmp_path / "additive.toml").write_text(ADDITIVE)
    levels_agree(tmp_path / "additive.toml", tmp_path)


@pytest.mark.long
@pytest.mark.parametrize(
    "path",
    [pytest.param(path, marks=pytest.mark.seldom) for path in CIRCUITS],
    ids=lambda path: path.stem,
)
def test_one_file_runs_at_three_levels(path, tmp_path):
    """From another folder, with no other change; the levels agree on what is learned."""
    own = tmp_path / path.name
    small = path.read_text().replace("layers = [64, 64, 10]", "layers = [5, 6, 4, 3]")
    own.write_text(small)  # of what ships, where spikes say too little of so many units
    levels_agree(own, tmp_path, neurons=800 if path.stem == "microcircuit" else 100)


def levels_agree(path, folder, neurons=100):
    """One presentation of a model in a file, at rest, moving and spiking.

    neurons: a unit; where teaching is weak in the lower layers, spikes say it by many.
    """
    spec = load_model(path)
    plastic = [name for name, projection in spec.projections.items() if projection.post]
    text = THREE.format(path=path, layers=spec.layers, plastic=plastic, neurons=neurons)
    (folder / "three.toml").write_text(text)
    runs = {
        level: ns.run(folder / "three.toml", level=level, out=folder / f"{level}.h5")
        for level in ("equilibrium", "rate", "spiking")
    }
    with h5py.File(runs["rate"].path) as file:
        learned = [name for name in file["weights"] if name[0] in plastic]
    assert len(learned) >= 2
    for name in learned:
        rest, moving, spiking = (change(run, name) for run in runs.values())
        assert np.linalg.norm(moving) > 0
        np.testing.assert_allclose(rest, moving, rtol=0, atol=0.01 * np.abs(moving).max())
        cosine = np.vdot(moving, spiking) / np.linalg.norm(moving) / np.linalg.norm(spiking)
        assert cosine > 0.6, name
