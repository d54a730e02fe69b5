"""Devices share the seeds or the samples of a run, threads what they compute: how far numbers
depend on them."""

import subprocess
import sys

import jax
import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits
from tiny_runs import TINY, same

import neurosim as ns
from neurosim.process import devices
from neurosim.runs.environment import cores

ROUNDING = 1e-12
"""Some thousand roundings of numbers near one: what two devices may differ by from one.

Products of fewer seeds at once may add up in another order, no more than that.
"""

BEGUN = """
import neurosim as ns
tiny = ns.load_protocol("tiny.toml", {"level": "equilibrium"})

def stop(progress):
    raise KeyboardInterrupt

ns.run(tiny, seeds=range(2), devices=2, out="two.h5")
ns.run(tiny, seeds=range(2), out="one.h5")
try:
    ns.run(tiny, seeds=range(2), devices=2, out="again.h5", progress=stop)
except KeyboardInterrupt:
    try:
        ns.resume("again.h5", devices=1)
    except ns.InputError as error:
        print(error)
    ns.resume("again.h5")
"""

UNEVEN = """
import sys
import neurosim as ns
seeds = {"seeds": range(3)} if sys.argv[1] == "seeds" else {}
for level in ("equilibrium", "rate"):
    given = {"level": level, "stages.0.epochs": 1, "record.presentations": 0}
    if level == "equilibrium":
        given |= {"model.projections.Q.rule": "tied", "equilibrium.max_sweeps": 3}
        given |= {"stages.0.phases.0.plastic": []}
    for devices in (2, 1):
        protocol = ns.load_protocol("quickstart", given | {"precision": "float64"})
        ns.run(protocol, devices=devices, **seeds, out=f"{level}-{devices}.h5")
given = {"stages.0.presentations": 10, "record.presentations": 0, "precision": "float64"}
for devices in (2, 1):
    protocol = ns.load_protocol("local-goals-n4g4", given)
    ns.run(protocol, devices=devices, **seeds, out=f"goals-{devices}.h5")
"""

SAMPLES = """
import jax
import jax.numpy as jnp
import numpy as np
import neurosim as ns
from neurosim.process.sharing import shared_out

jax.config.update("jax_num_cpu_devices", 2)

def seen(arrays):
    weights, x = arrays
    return jnp.stack([x @ weights, jnp.full(x.shape[:2], x.shape[1])], -1)

x, weights = np.random.default_rng(0).standard_normal((2, 5, 3)), np.arange(3.0)
parts = shared_out(seen, (False, True), tuple(jax.devices()), axis=1)((weights, jnp.asarray(x)))
np.testing.assert_allclose(parts[..., 0], x @ weights, rtol=1e-6)
np.testing.assert_array_equal(parts[..., 1], np.full((2, 5), 3))

tiny = ns.load_protocol("tiny.toml", {"level": "equilibrium", "batch": 15})
for count in (2, 1):
    ns.run(tiny, devices=count, out=f"samples-{count}.h5")
"""


def differences(one, other, path):
    """Largest differences of weights and metrics between two traces; weights must have moved."""
    with ns.open_trace(path / one) as a, ns.open_trace(path / other) as b:
        moved = a["weights/W1"].values
        assert np.abs(moved[:, -1] - moved[:, 0]).max() > 1e-3
        for group in ("weights", "metrics"):
            for name, array in a[group].data_vars.items():
                if array.dtype.kind == "f" and name != "residual":  # itself rounding, where settled
                    yield np.nanmax(np.abs(array.values - b[f"{group}/{name}"].values), initial=0)


def run(script, path, limit, *arguments):
    command = [sys.executable, "-W", "ignore", "-c", script, *arguments]
    done = subprocess.run(command, cwd=path, capture_output=True, text=True, timeout=limit)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.long
def test_two_devices_learn_what_one_learns_and_resume_alike(tmp_path):
    (tmp_path / "tiny.toml").write_text(TINY)
    said = run(BEGUN, tmp_path, 300)
    assert max(differences("one.h5", "two.h5", tmp_path)) < ROUNDING
    assert "devices: was '2', is nothing" in said
    same(tmp_path / "two.h5", tmp_path / "again.h5")


def test_two_devices_share_the_samples_of_a_batch(tmp_path):
    """Five on two devices are three each, one of them twice; and what a network learns is alike."""
    (tmp_path / "tiny.toml").write_text(TINY)
    run(SAMPLES, tmp_path, 300)
    assert max(differences("samples-1.h5", "samples-2.h5", tmp_path)) < ROUNDING


@pytest.mark.long
@pytest.mark.seldom
@pytest.mark.parametrize("what", ["seeds", "samples"])
def test_seeds_that_do_not_come_out_even_and_matrices_that_are_inverted(tmp_path, what):
    """Three on two devices, with root solver and inverses in both at once; a limit sees a hang.

    And the samples of one, where inverses are in both while they wait for each other's samples.
    Local goals, too, whose weights of pixels that hardly change are those nearest to the present.
    """
    run(UNEVEN, tmp_path, 300, what)
    for of in ("equilibrium", "rate", "goals"):
        found = differences(f"{of}-1.h5", f"{of}-2.h5", tmp_path)
        assert max(found) < 100 * ROUNDING  # three times as many presentations, ten times as long


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            {"devices": 17},
            "devices=17: devices share the seeds of a run, which has 1 seed, or the samples of a "
            "batch, which has 16; expected at most as many",
        ),
        ({"devices": 0}, "devices=0: expected a whole number of at least 1"),
        ({"devices": 1.5}, "devices=1.5: expected a whole number of at least 1"),
        ({"devices": 2, "level": "spiking", "seeds": [0, 1]}, "spiking networks run on one device"),
        ({"devices": 99, "seeds": range(99)}, "JAX has 1 device of kind 'cpu' here; make this"),
    ],
)
def test_devices_that_cannot_share_are_refused(tmp_path, given, said):
    jax.devices()  # so that JAX has begun
    (tmp_path / "tiny.toml").write_text(TINY)
    with pytest.raises(ns.InputError) as error:
        ns.run(tmp_path / "tiny.toml", out=tmp_path / "a.h5", **given)
    assert said in str(error.value)
    assert not (tmp_path / "a.h5").exists()


THREADS = """
import os, sys
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(sys.argv[1])])
import numpy as np
import neurosim as ns

x, y = np.random.default_rng(0).standard_normal((100, 784)), np.arange(100) % 10
np.savez("data.npz", x=x, y=y, x_test=x, y_test=y)
changes = {
    "task": {"name": "arrays", "path": "data.npz"},
    "model.layers": [784, 512, 10],
    "precision": "float64",
    "batch": 50,
    "stages.0.epochs": 1,
    "record.presentations": 0,
    "equilibrium.max_newton": 0,
}
protocol = ns.load_protocol("quickstart", changes)
ns.run(protocol, level="equilibrium", out=f"{sys.argv[1]}.h5")
"""


def test_one_thread_factorizes():
    """Whatever number the process has, so that large matrices are the same on other machines."""

    def threads():
        return {entry["num_threads"] for entry in threadpool_info() if entry["user_api"] == "blas"}

    with threadpool_limits(2, "blas"):
        before = threads()
        with devices.numbers(x64=True):
            assert threads() == {1}
        assert threads() == before == {2}


@pytest.mark.long
@pytest.mark.seldom
@pytest.mark.skipif(cores() < 2, reason="one core cannot be compared with two")
def test_one_core_and_two_learn_the_same_last_digit(tmp_path):
    """Where weights are so large that LAPACK would share them out: 512 × 784 differed."""
    for number in ("1", "2"):
        run(THREADS, tmp_path, 300, number)
    assert max(differences("1.h5", "2.h5", tmp_path)) == 0


def test_samples_that_move_the_same_weights_are_not_shared():
    loaded = ns.load_protocol("online-plasticity")
    with pytest.raises(ns.InputError, match=r"has 1 seed; .* as the samples of a batch move th"):
        ns.run(loaded, devices=2)
