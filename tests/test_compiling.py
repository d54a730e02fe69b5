"""Programs are compiled once: other numbers run through them."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest
from tiny_runs import TINY

import neurosim as ns
from neurosim.process.compiled import compiled, forget

SEEN: list[str] = []
jax.monitoring.register_event_duration_secs_listener(lambda name, *_, **__: SEEN.append(name))


def lowered(protocol, path) -> int:
    """How many programs a run makes."""
    SEEN.clear()
    ns.run(protocol, out=path, force=True)
    return sum("jaxpr_to_mlir" in name for name in SEEN)


@pytest.mark.long
def test_other_numbers_run_the_same_programs(tmp_path):
    """Of the model, of what it learns with, and of how well it has to settle."""
    forget()
    file, out = tmp_path / "tiny.toml", tmp_path / "out.h5"
    file.write_text(TINY)
    start = {"record.presentations": 0, "model.use": "mixture-dendrites", "model.layers": [3, 4, 4]}
    start |= {"model.output": "linear", "model.loss": "squared", "model.parameters.mu": 0.2}
    start |= {
        "model.parameters.tau_basal": "30 ms",
        "model.parameters.tau_apical": "30 ms",
        "model.projections.Q.decay": 0.1,
        "model.projections.W.rate": 0.05,
        "stages.0.phases.1.parameters": {"tau_basal": "25 ms"},
    }

    def made(level, **changes):
        own = {key.replace("__", "."): value for key, value in changes.items()}
        if level == "rate":
            own = {"model.noise": {"soma": 0.01}} | own
        return lowered(ns.load_protocol(file, {"level": level} | start | own), out)

    others = {
        "model__parameters__mu": 0.1,
        "model__parameters__tau_soma": "30 ms",
        "model__parameters__tau_basal": "40 ms",
        "model__target_step": 0.2,
        "model__projections__Q__decay": 0.2,
        "model__projections__W__rate": [0.01, 0.02],
        "stages__0__phases__1__parameters": {"tau_basal": "35 ms"},
        "stages__0__pace": 0.5,
        "stages__0__presentations": 8,
        "seed": 3,
    }
    for level in ("equilibrium", "rate"):
        first, again = made(level), made(level)
        assert first > again
        assert made(level, **others, **{f"{level}__tolerance": 1e-4}) == again
    assert made("rate", **others, model__noise={"soma": 0.02}) == again
    for level in ("equilibrium", "rate"):
        assert made(level, model__projections__Q__rule="difference") > again


def test_a_process_drops_its_programs_when_they_are_too_many(monkeypatch):
    """With room for two, a third begins anew."""
    monkeypatch.setattr("neurosim.process.compiled.KEPT", 2)
    monkeypatch.setattr("neurosim.process.compiled._programs", {})
    traced = []

    @compiled
    def double(x, name):
        traced.append(name)
        return 2 * x

    for name in ("one", "two", "one", "three", "two", "three"):
        assert double(jnp.ones(2), name).tolist() == [2, 2]
    assert traced == ["one", "two", "three", "two"]


@pytest.mark.long
@pytest.mark.seldom
@pytest.mark.skipif(sys.platform != "linux", reason="reads memory as Linux tells it")
def test_memory_does_not_grow_with_the_networks_seen(tmp_path):
    """Of 24 shapes the later ones take no more at their worst: programs are dropped in between."""
    (tmp_path / "tiny.toml").write_text(TINY)
    script = tmp_path / "shapes.py"
    script.write_text(SHAPES)
    done = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    early, late = map(float, done.stdout.split())
    assert late < 1.1 * early


SHAPES = """
import neurosim as ns
from neurosim.process import compiled

compiled.KEPT = 6

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1])

seen = []
for n in range(24):
    sizes = {"model.layers": [3, 4 + n, 4], "task.layers": [3, 4 + n, 4]}
    given = {"level": "equilibrium", "record.presentations": 0, "stages.0.presentations": 1}
    ns.run(ns.load_protocol("tiny.toml", sizes | given), out="out.h5", force=True)
    seen.append(resident())
print(max(seen[6:15]), max(seen[15:]))
"""
ENSEMBLE = """
import sys
import neurosim as ns
model = {"model.layers": [64, 32, 32, 10], "model.projections.W": {"init": "orthogonal"}}
model |= {"model.parameters.mu": 0.05}
model |= {"model.projections.Q": {"init": "pinv(W[i+1])", "rule": "tied"}, "precision": "float64"}
model |= {"stages.0.epochs": 10, "stages.0.phases.0.plastic": [], "record.presentations": 0}
protocol = ns.load_protocol("quickstart", model | {"equilibrium.max_newton": 0})
ns.run(protocol, level="equilibrium", seeds=range(13), out=sys.argv[1])
"""


@pytest.mark.seldom
@pytest.mark.long
def test_inverses_of_an_ensemble_do_not_wait_for_each_other(tmp_path):
    """Two batches of pseudo-inverses at once hang programs of two threads, mostly soon."""
    command = [sys.executable, "-c", ENSEMBLE, tmp_path / "trace.h5"]
    assert subprocess.run(command, timeout=300).returncode == 0


MANY_SAMPLES = """
import numpy as np
import neurosim as ns

x, y = np.random.default_rng(0).standard_normal((20, 64)), np.arange(20) % 10
losses = []
for copies in (1, 100):
    np.savez("data.npz", x=x, y=y, x_test=np.tile(x, (copies, 1)), y_test=np.tile(y, copies))
    changes = {
        "task": {"name": "arrays", "path": "data.npz"},
        "batch": 20,
        "stages.0.epochs": 1,
        "record.presentations": 0,
        "equilibrium.max_newton": 0,
    }
    protocol = ns.load_protocol("quickstart", changes)
    losses.append(ns.run(protocol, level="equilibrium", force=True).metrics["test_loss"])
print(*losses)
"""


@pytest.mark.long
def test_as_many_samples_as_one_likes_are_numbers(tmp_path):
    """As XLA compiles for users; the tests themselves are compiled more quickly, and soundly."""
    environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    command = [sys.executable, "-W", "ignore", "-c", MANY_SAMPLES]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    few, many = map(float, done.stdout.split())
    assert many == pytest.approx(few, rel=1e-9)
