"""A user's own activation, rule, task and dynamics, given in place of named ones."""

from typing import ClassVar

import jax.numpy as jnp
import numpy as np
import pytest

import neurosim as ns
from neurosim.activations import Elementwise
from neurosim.dynamics.base import Layered, Readout
from neurosim.tasks.data import Data

SMALL = {
    "model.target_step": 0.1,
    "stages.0.epochs": 2,
    "record.presentations": 2,
    "record.samples": 2,
    "precision": "float32",
    "equilibrium.max_newton": 0,
}


class TwoBlobs:
    """Two Gaussian clouds, one a class."""

    shared = False

    def draw(self, rng: np.random.Generator) -> Data:
        labels = rng.integers(0, 2, 600)
        x = rng.standard_normal((600, 4)) + 2.0 * (2 * labels[:, None] - 1)
        y = np.eye(2)[labels]
        return Data(x[:400], y[:400], x[400:], y[400:], classes=True, teacher=None)


class Additive(Layered):
    """Basal and apical rates add up: τ dh_i/dt = −h_i + f_i(h_{i−1}) + κ (g_i(h_{i+1}) − h_i)."""

    kappa: float
    tau: float

    credits: ClassVar[tuple[str, ...]] = ("single-phase", "two-phase")
    observed: ClassVar[tuple[str, ...]] = ("soma",)

    @property
    def time_constants(self):
        return {"soma": self.tau}

    @property
    def noise(self):
        return {}

    def layers(self, network, compartment):
        return network.depth

    def _apical(self, network, weights, drive, h, i):
        top = i == network.depth
        return drive.target(network, h[-1]) if top else network.g(weights, i, h[i])

    def pull(self, network, weights, drive, state, name, i):
        h = state["soma"]
        basal = drive.basal if i == 1 else network.potential(weights, i, h[i - 2])
        g = self._apical(network, weights, drive, h, i)
        return network.s(i, basal) + self.kappa * (g - h[i - 1])

    def read(self, network, weights, drive, state):
        h, layers = state["soma"], range(1, network.depth + 1)
        a = [drive.basal, *(network.potential(weights, i, h[i - 2]) for i in layers[1:])]
        return Readout(
            rate=h,
            basal=tuple(network.s(i, a_i) for i, a_i in zip(layers, a, strict=True)),
            slope=tuple(network.slope(i, a_i) for i, a_i in zip(layers, a, strict=True)),
            apical=tuple(self._apical(network, weights, drive, h, i) for i in layers),
            teacher=h,
            downward=h,
            apical_potential=tuple(network.apical(weights, i, h[i]) for i in layers[:-1]),
        )

    def attenuation(self, network, i):
        return self.kappa ** (network.depth + 1 - i)

    def variables(self, state, readout):
        return {"soma": state["soma"]}


def half_the_synapses(signal, W):
    """The delta rule on every other presynaptic neuron."""
    dW = (signal.slope * signal.teaching).T @ signal.pre / signal.pre.shape[0]
    return dW * (jnp.arange(W.shape[1]) % 2 == 0)


def run(tmp_path, overrides, **options):
    protocol = ns.load_protocol("quickstart", SMALL | overrides)
    return ns.run(protocol, out=tmp_path / "trace.h5", **options)


def test_own_task_and_activation(tmp_path):
    softsign = Elementwise(
        lambda a: a / (1 + jnp.abs(a)), lambda h: h / (1 - jnp.abs(h)), (-1.0, 1.0)
    )
    own = {
        "task": TwoBlobs(),
        "model.layers": [4, 16, 2],
        "model.activation": softsign,
        "model.forward.rate": 2.0,
        "batch": 20,
    }
    result = run(tmp_path, own, level="equilibrium")
    assert result.metrics["test_error"] < 0.02  # two clouds four deviations apart: 2e-5 by Bayes


def test_plain_function_as_activation_needs_no_inverse_in_the_autoencoder_form(tmp_path):
    own = {"model.activation": jnp.tanh, "model.feedback.form": "autoencoder"}
    own |= {"model.layers": [64, 16, 10], "model.forward.rate": 1.0}
    result = run(tmp_path, own, level="equilibrium")
    assert np.isfinite(result.metrics["test_loss"])
    with pytest.raises(ns.InputError, match=r"activation: has no inverse, which feedback of the"):
        ns.load_protocol(
            "quickstart", {"model.activation": jnp.tanh, "model.layers": [64, 8, 8, 10]}
        )


def test_own_rule(tmp_path):
    own = {"model.forward.rule": half_the_synapses, "model.layers": [64, 16, 10]}
    result = run(tmp_path, own, level="equilibrium")
    W1 = ns.open_trace(result.path)["weights/W1"].values
    moved = np.abs(W1[1] - W1[0]).max(axis=0)
    x_moves = np.abs(moved[::2]) > 0  # a few pixels are always blank: nothing to learn from them
    assert x_moves.sum() > 24
    assert np.all(moved[1::2] == 0)


@pytest.mark.parametrize("level", ["equilibrium", "rate"])
def test_own_dynamics_runs_at_both_levels_and_they_agree(tmp_path, level):
    own = {
        "model.dynamics": Additive(kappa=0.1, tau=0.02),
        "model.mu": None,
        "model.tau_soma": None,
        "model.layers": [64, 16, 10],
        "model.forward.rate": 10.0,
        "precision": "float64",
    }
    result = run(tmp_path, own, level=level)
    assert result.settled == {"free": 1.0, "learning": 1.0}
    assert result.metrics["test_error"] < 0.25  # ten classes; two epochs of a small net
    trace = ns.open_trace(result.path)
    assert trace.attrs["status"] == "complete"
    assert "test_extending.Additive" in str(trace["provenance/protocol_json"].values)
