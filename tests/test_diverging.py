"""A run that leaves the numbers says when and where, and what the linearised network says of it."""

import re
from importlib import import_module

import diffrax
import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_runs import TINY

import neurosim as ns
from neurosim.levels.schemes import SCHEMES
from neurosim.levels.stability import amplification

pytestmark = pytest.mark.filterwarnings("ignore::neurosim.errors.NeurosimWarning")


@pytest.fixture
def run(tmp_path):
    (tmp_path / "tiny.toml").write_text(TINY)

    def go(changes, **arguments):
        protocol = ns.load_protocol(tmp_path / "tiny.toml", changes)
        return ns.run(protocol, out=tmp_path / "tiny.h5", force=True, **arguments)

    return go


@pytest.mark.parametrize("scheme", SCHEMES)
def test_one_step_multiplies_a_mode_by_its_amplification(scheme):
    """One step of the solver itself on a plane that rotates and decays.

    Tableaux of entries of order ten round to 1e-13; implicit stages are solved to 1e-9.
    """
    with jax.enable_x64(True):
        for z in (-0.5 + 0.1j, -1.9 + 0.4j, -3.4 - 2.0j):
            turn = jnp.array([[z.real, -z.imag], [z.imag, z.real]])
            end = diffrax.diffeqsolve(
                diffrax.ODETerm(lambda t, y, turn: turn @ y),
                SCHEMES[scheme].make(1e-10, 1e-10),
                0.0,
                1.0,
                1.0,
                jnp.array([1.0, 0.0]),
                turn,
            ).ys[0]
            assert amplification(scheme, np.array([z]))[0] == pytest.approx(
                complex(*end), abs=1e-8 if scheme == "kvaerno5" else 1e-12
            )


@pytest.mark.long
def test_steps_that_are_too_long_are_told_from_an_unstable_network(run):
    """Euler's steps amplify the fastest mode from dt = 2/|λ| on, which a 64th may not reach.

    With μ = 0.2 and τ = 50 µs the free phase has λτ = −1 ± … ; the message names its own bound,
    with which the same network must run.
    """
    changes = {
        "rate.scheme": "euler",
        "model.parameters.tau_soma": "50 us",
        "stages.0.phases.0.duration": "200 ms",
        "stages.0.phases.1.duration": "100 ms",
        "stages.0.presentations": 1,
    }
    with pytest.raises(ns.DivergedError) as caught:
        run(changes | {"rate.dt": "10 ms"})
    message = str(caught.value)
    assert re.search(r"phase 'free' at \d+ ms: \w+ of layer \d left all bounds", message)
    assert "the phase is stable" in message and "even steps cut to 0.156 ms" in message
    bound = float(re.search(r"'euler' needs a dt below ([\d.]+) ms", message)[1])
    assert bound < 0.1  # 2 τ, the bound for a single neuron
    advice = re.search(r'rate\.dt = "([^"]+)" does', message)[1]
    assert advice == "50 us"  # the longest of 100, 50, … us below the bound
    assert run(changes | {"rate.dt": advice}).shortened == {}


def test_an_unstable_network_is_named_as_such(run):
    random = {"init": "normal", "gain": 40.0}
    with pytest.raises(ns.DivergedError) as caught:
        run({"model.projections.Q": random, "stages.0.phases.0.plastic": []})
    assert re.search(r"the phase is unstable: it grows e-fold in [\d.]+ ms", str(caught.value))
    assert caught.value.exit_code == 1


@pytest.mark.long
@pytest.mark.seldom
def test_an_unstable_network_is_told_the_mu_that_would_do(run):
    """The advice, taken, must let the same network run."""
    changes = {
        "model.projections.Q": {"init": "normal", "gain": 8.0},
        "stages.0.phases.0.plastic": [],
        "stages.0.phases.0.duration": "4 s",
        "stages.0.presentations": 1,
    }
    with pytest.raises(ns.DivergedError) as caught:
        run(changes)
    advice = float(
        re.search(r"with model\.parameters\.mu = ([\d.]+) it would", str(caught.value))[1]
    )
    assert 0 < advice < 0.2
    assert run(changes | {"model.parameters.mu": advice}).diverged == []


def test_weights_that_exploded_are_told_a_slower_pace(run):
    with pytest.raises(ns.DivergedError, match=r"such as stages\.0\.pace = 0\.5, may help"):
        run({"model.projections.W.rate": 1e13, "stages.0.presentations": 3})


def test_the_other_seeds_go_on_and_the_failed_one_is_marked(run, tmp_path, monkeypatch):
    """The same whether a chunk is one presentation or as many as fit."""
    changes = {
        "model.projections.Q": {"init": "normal", "gain": 6.0},
        "stages.0.phases.0.plastic": [],
        "stages.0.phases.0.duration": "2 s",
    }
    found = []
    for seconds in (0.0, 1e3):
        monkeypatch.setattr(import_module("neurosim.runs.loop"), "CHUNK_SECONDS", seconds)
        done = run(changes, seeds=range(6))
        [entry] = done.diverged
        assert entry["seed"] == 0
        number = entry["presentation"]
        assert entry["message"].startswith(f"seed 0 diverged at presentation {number}: ")
        assert np.isnan(done.metrics["test_loss"][0])
        assert np.isfinite(done.metrics["test_loss"][1:]).all()
        with h5py.File(tmp_path / "tiny.h5") as file:
            marks = file["diverged_at"][()].tolist()
            loss = file["metrics/loss"][()]
        assert marks == [number, -1, -1, -1, -1, -1]
        assert np.isfinite(loss[:, 1:]).all()
        assert np.isfinite(loss[:number]).all()
        found.append((done.diverged, done.settled))
    assert found[0] == found[1]
