"""Spiking networks compiled to a program of their own do what they do here."""

import os
import shutil
import signal

import numpy as np
import pytest
from chains import forward
from small_spikes import FAMILIES, arrays, compiled, small

import neurosim as ns
from neurosim.circuits.populations import Group
from neurosim.functions.activations import Linear, Tanh
from neurosim.functions.losses import Loss
from neurosim.levels.spiking import compiling
from neurosim.levels.spiking.machine import Machine
from neurosim.networks.network import Network

pytestmark = pytest.mark.usefixtures("double_throughout", "own_cache")


@pytest.mark.long
@pytest.mark.seldom
@compiled
def test_a_standalone_network_is_the_one_here(monkeypatch):
    """The rate equations, free and taught, read on the way; then broken off, and begun again."""
    sizes = (4, 5, 5, 3)
    dynamics = FAMILIES["multiplexing"](sizes, bias=True)
    network = Network(sizes, (Tanh(),) * 2 + (Linear(),), "inverse", Loss("half-squared", "linear"))
    rng = np.random.default_rng(0)
    W = forward("orthogonal", sizes, 0.7, rng)
    b = tuple(0.1 * rng.standard_normal(n) for n in sizes[1:])
    weights = {"W": tuple(W), "b": b, "Q": tuple(np.linalg.pinv(w) for w in W[1:])}
    x, taught = rng.standard_normal((3, 4)), 0.3 * rng.standard_normal((3, 3))

    def program(machine, seen, interrupted=False):
        machine.rest()
        machine.write_weights(weights)
        machine.drive(weights, x)
        for target in (None, taught):
            machine.teach(target)
            for _ in range(3):
                yield 15
                seen += [machine.state(*node) for node in dynamics.circuit.moving]
                if interrupted:
                    signal.raise_signal(signal.SIGINT)

    here = Machine(dynamics, network, {}, 1e-3, 3, target="numpy")
    there = Machine(dynamics, network, {}, 1e-3, 3, target="standalone")
    expected, found, seen, again = [], [], [], []
    here.run(program(here, expected), 90)
    there.run(program(there, found), 90)
    assert min(np.abs(a).max() for a in expected) > 1e-3
    np.testing.assert_allclose(np.hstack(found), np.hstack(expected), rtol=0, atol=1e-9)

    process = there.brian._process
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            there.run(program(there, seen, interrupted=True), 90)
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(seen) == 5
    assert process.returncode == -signal.SIGKILL
    there.run(program(there, again), 90)
    np.testing.assert_array_equal(np.hstack(again), np.hstack(found))

    def fail(*_):
        raise AssertionError("compiled again")

    there.brian._process.kill()
    with pytest.raises(ns.NeurosimError, match="ended by itself, with exit code -9"):
        there.state(Group("pyramidal", 1), "basal")
    main = there.brian._executable.folder / "main"
    with monkeypatch.context() as patched:
        patched.setattr(compiling, "_compile", fail)
        Machine(dynamics, network, {}, 1e-3, 3, target="standalone")
    with monkeypatch.context() as patched:  # a cache that cannot be written; its folder goes away
        patched.setenv("NEUROSIM_CACHE", str(main / "nowhere"))
        patched.setattr(compiling, "_compile", lambda folder, _: shutil.copy2(main, folder))
        machine = Machine(dynamics, network, {}, 1e-3, 3, target="standalone")
        again.clear()
        machine.run(program(machine, again), 90)
        np.testing.assert_array_equal(np.hstack(again), np.hstack(found))
        folder = machine.brian._executable.folder
        assert folder != main.parent
        assert folder.exists()
        del machine
        assert not folder.exists()


@pytest.mark.long
@pytest.mark.seldom
@compiled
@pytest.mark.parametrize("soma", ["lif"])
def test_a_run_as_a_program_of_its_own_is_the_same(soma, tmp_path):
    """Learning, records and evaluations: the same spikes, one by one, and rounding beside."""
    runs = {}
    for target in ("numpy", "standalone"):
        path = tmp_path / f"{target}.h5"
        small(path, {"spiking.target": target, "model.spiking.soma": soma})
        runs[target] = arrays(path)
    one, other = runs.values()
    assert one.keys() == other.keys()
    assert one["spikes/layer1/timestamps"].size > 100
    assert not np.array_equal(one["weights/W1"][0], one["weights/W1"][1])
    for name, values in one.items():
        if values.dtype.kind == "f":
            np.testing.assert_allclose(values, other[name], rtol=0, atol=1e-9, err_msg=name)
        else:
            np.testing.assert_array_equal(values, other[name], err_msg=name)


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"CXX": "no-such-compiler"}, "CXX is 'no-such-compiler', which is not there; install"),
        (
            {"CXX": "", "PATH": ""},
            r"neither g\+\+ nor clang\+\+ is there; install them",
        ),
        ({"CXX": shutil.which("env") or "", "PATH": ""}, "there is no make; install"),
    ],
)
def test_without_a_compiler_standalone_is_refused(environment, message, tmp_path, monkeypatch):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ns.InputError, match=message):
        small(tmp_path / "run.h5", {"spiking.target": "standalone"})
    assert not os.listdir(tmp_path)


@compiled
def test_a_compiler_that_fails_is_quoted(tmp_path, monkeypatch):
    wrong = tmp_path / "wrong"
    wrong.write_text("#!/bin/sh\necho out of order >&2\nexit 1\n")
    wrong.chmod(0o755)
    monkeypatch.setenv("CXX", str(wrong))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    dynamics = FAMILIES["mixture"]((2, 2, 2))
    network = Network((2, 2, 2), (Linear(),) * 2, "inverse", Loss("half-squared", "linear"))
    with pytest.raises(ns.NeurosimError, match=r"does not compile[^*]*out of order"):
        Machine(dynamics, network, {}, 1e-3, 1, target="standalone")
    assert not list(tmp_path.glob("neurosim-*"))
    here = Machine(dynamics, network, {}, 1e-3, 1, target="numpy")  # as if nothing had been
    here.run(iter([3]), 3)
