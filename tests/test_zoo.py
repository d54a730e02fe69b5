"""The zoo: its directions against closed forms, and its models, which are shipped protocols."""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import neurosim as ns
from neurosim.building import assembly

sys.path.append(str(Path(__file__).parents[1] / "studies"))
import directions
import zoo
import zoo_measures
import zoo_page
from zoo_models import MODELS, PROBLEMS, loaded


def tanh(a):
    return np.tanh(a), 1 - np.tanh(a) ** 2


def soft(a):
    """The soft threshold, below which a unit neither says anything nor can be moved."""
    return np.sign(a) * np.maximum(np.abs(a) - 0.5, 0), (np.abs(a) > 0.5).astype(float)


@pytest.mark.parametrize(
    ("activation", "s"), [("tanh", tanh), ({"name": "soft-threshold", "threshold": 0.5}, soft)]
)
def test_directions_are_the_gradient_and_the_least_change_that_cancels_the_error(activation, s):
    changes = {"layers": [4, 5, 3, 2], "activation": activation, "output": "linear"}
    model = ns.load_model("backprop", changes | {"loss": "half-squared"})
    dynamics, network = assembly.dynamics(model).with_layers(), assembly.network(model)
    rng = np.random.default_rng(0)
    W = [rng.standard_normal((m, n)) for n, m in ((4, 5), (5, 3), (3, 2))]
    x, y = rng.standard_normal((6, 4)), rng.standard_normal((6, 2))
    with jax.enable_x64(True):
        at = directions.linear(dynamics, network, {"W": tuple(map(jnp.asarray, W))}, x, y)
        found = directions.newton(at)
    h1, D1 = s(x @ W[0].T)
    h2, D2 = s(h1 @ W[1].T)
    error = h2 @ W[2].T - y
    back = error @ W[2] * D2
    gradient = [(back @ W[1] * D1).T @ x / 6, back.T @ h1 / 6, error.T @ h2 / 6]
    J2 = W[2] * (D2 > 0)[:, None, :]
    J1 = W[2] * D2[:, None, :] @ W[1] * (D1 > 0)[:, None, :]  # ∂h_3/∂h_1 of every sample
    steps = [
        *(-np.einsum("bij,bj->bi", np.linalg.pinv(J), error) * D for J, D in ((J1, D1), (J2, D2))),
        -error,
    ]
    assert (D1 == 0).any() == (D2 == 0).any() == (s is soft)
    for g, own in zip(at.gradient, gradient, strict=True):
        np.testing.assert_allclose(g, own, rtol=1e-10, atol=1e-14)
    for d, step, below in zip(found, steps, (x, h1, h2), strict=True):
        np.testing.assert_allclose(d, step.T @ below / 6, rtol=1e-9, atol=1e-13)


def test_what_a_stage_before_shows_is_taken_from_the_budget():
    problem, model = PROBLEMS["yin-yang"], MODELS["BurstCCN"]
    spec = loaded(problem, model, 3.0, False, True).spec
    assert [stage.epochs for stage in spec.stages] == [3, problem.epochs - 3]
    assert {stage.pace for stage in spec.stages} == {3.0} and spec.task["validation"] == 0.2


def test_a_seed_that_diverged_counts_as_an_error_of_all():
    assert zoo.scored([0.1, None, 0.4]) == pytest.approx(0.5)


def test_nodes_have_their_goal_at_the_last_one():
    for task, last in (("digits", 1), ("yin-yang", 2)):
        spec = loaded(PROBLEMS[task], MODELS["local goals"], 1.0, False, True).spec
        assert spec.model.credit.nodes.goals == [last]


def test_machines_read_as_much_of_a_node_that_has_not_learned(tmp_path, monkeypatch):
    monkeypatch.setattr(zoo_measures, "TESTING", range(1))
    model, path = MODELS["local goals"], tmp_path / "run.h5"
    changes = zoo_measures.single(model) | model.untaught
    changes |= {"record.presentations": 0, "model.projections.W.rate": 0.0}
    protocol = ns.load_protocol(model.protocol, changes)
    ns.run(protocol, seeds=[0], out=path, progress=False)
    errors = zoo_measures.machines(protocol, path)
    assert errors["initial"] == errors["final"]
    assert 0 < errors["final"][0] < 0.5  # by chance 0.9


def test_levels_are_held_against_each_other_in_one_presentation():
    for title in ("backprop", "BurstCCN", "local goals"):
        model = MODELS[title]
        spec = ns.load_protocol(model.protocol, zoo_measures.single(model)).spec
        assert {(stage.epochs, stage.presentations) for stage in spec.stages} == {(None, 1)}
        assert spec.model.layers == PROBLEMS["digits"].layers


def test_how_spikes_are_said():
    assert zoo_page.spiking({"levels": {"spiking": False}}) == ("no", "", "")
    found = {"errors": [0.1, 0.3, None], "distance": 1.26}
    own = {"levels": {"spiking": True}, "spikes": found}
    assert zoo_page.spiking(own) == ("yes", "20.0 % (10.0–30.0)", "1.3")
    found["distance"] = None
    assert zoo_page.spiking(own)[2] == "–"


@pytest.mark.filterwarnings("ignore:.*opens nothing")  # DTP of one hidden layer sends nothing down
def test_networks_that_spikes_do_not_teach_can_be_tested_as_spikes():
    for model in (MODELS["DTP"], MODELS["local goals"]):
        changes = zoo_measures.single(model) | {"level": "spiking"}
        with pytest.raises(ns.InputError):
            ns.load_protocol(model.protocol, changes)
        assert ns.load_protocol(model.protocol, changes | model.untaught).spec.level == "spiking"


@pytest.mark.long
@pytest.mark.seldom
def test_rates_that_neurons_can_fire_at_are_spikes_to_within_their_scatter(tmp_path, monkeypatch):
    monkeypatch.setattr(zoo_measures, "SPIKING_TEST", 10)
    model, distances = MODELS["backprop"], []
    for gain in (1.0, 20.0):  # times orthogonal weights: what is far beyond 5 is clipped
        start = {"level": "equilibrium", "model.projections.W.gain": gain}
        protocol = ns.load_protocol(model.protocol, zoo_measures.single(model) | start)
        ns.run(protocol, seeds=range(2), out=tmp_path / "start.h5", force=True, progress=False)
        found = zoo_measures.as_spikes(model, tmp_path / "start.h5", tmp_path, [0, 1])
        distances.append(found["distance"])
    assert distances[0] < 2 < distances[1]  # `neurosim compare` allows twice the scatter
