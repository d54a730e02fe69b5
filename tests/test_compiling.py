"""Programs are compiled once: other numbers run through them."""

import subprocess
import sys

import jax
from tiny_runs import SLEEP, TINY

import neurosim as ns

SEEN: list[str] = []
jax.monitoring.register_event_duration_secs_listener(lambda name, *_, **__: SEEN.append(name))


def lowered(protocol, path) -> int:
    """How many programs a run makes."""
    SEEN.clear()
    ns.run(protocol, out=path, force=True)
    return sum("jaxpr_to_mlir" in name for name in SEEN)


def test_other_rates_and_seeds_run_the_same_programs(tmp_path):
    file, out = tmp_path / "tiny.toml", tmp_path / "out.h5"
    file.write_text(TINY.replace("[record]", SLEEP + "[record]"))

    def made(**changes):
        own = {key.replace("__", "."): value for key, value in changes.items()}
        return lowered(ns.load_protocol(file, {"level": "equilibrium"} | own), out)

    first, again = made(), made()
    assert first > again
    assert made(model__forward__rate=0.01) == again
    assert made(model__forward__rate=[0.01, 0.02], stages__1__pace=0.5, seed=3) == again
    assert made(model__mu=0.1) > again


ENSEMBLE = """
import sys
import neurosim as ns
model = {"model.layers": [64, 32, 32, 10], "model.weights": {"init": "orthogonal"}}
model |= {"model.mu": 0.05}
model |= {"model.feedback": {"init": "pseudo-inverse", "rule": "tied"}, "precision": "float64"}
model |= {"stages.0.epochs": 10, "stages.0.phases.0.plastic": [], "record.presentations": 0}
protocol = ns.load_protocol("quickstart", model | {"equilibrium.max_newton": 0})
ns.run(protocol, level="equilibrium", seeds=range(13), out=sys.argv[1])
"""


def test_inverses_of_an_ensemble_do_not_wait_for_each_other(tmp_path):
    """Two batches of pseudo-inverses at once hang programs of two threads, mostly soon."""
    command = [sys.executable, "-c", ENSEMBLE, tmp_path / "trace.h5"]
    assert subprocess.run(command, timeout=300).returncode == 0
