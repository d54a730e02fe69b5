"""The spiking level in JAX: the steps of Brian2, spike for spike where draws are shared."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from chains import circuit, forward
from small_spikes import FAMILIES, SMALL, arrays

import neurosim as ns

from neurosim.functions.activations import Linear, Tanh
from neurosim.functions.losses import Loss
from neurosim.levels.spiking.calibration import Curve, calibrated, currents
from neurosim.levels.spiking.generators import WORDS, generator
from neurosim.levels.spiking.machine import Machine
from neurosim.levels.spiking.neurons import Neurons
from neurosim.levels.spiking.scan import Scan
from neurosim.networks.network import Network, Weights

DT, COPIES, SEED = 1e-3, 3, 7


@pytest.fixture(autouse=True, scope="module")
def double_precision():
    with jax.enable_x64(True):
        yield


@dataclasses.dataclass(frozen=True)
class Shared(Neurons):
    """Neurons in Brian2 that draw what they are given: (steps, neurons), uniform or Gaussian."""

    draws: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0), repr=False)

    @property
    def equations(self):
        return super().equations.replace("* xi", "* given(t, i) * dt**-0.5")

    @property
    def threshold(self):
        return super().threshold.replace("rand()", "given(t, i)")

    @property
    def reset(self):
        # One number decides on the event and on the burst that it becomes.
        reset = super().reset
        return reset and reset.replace(
            "rand() < burst_probability", "given(t, i) < drive*burst_probability"
        )

    def namespace(self, b2):
        return super().namespace(b2) | {"given": b2.TimedArray(self.draws, dt=self.dt * b2.second)}


def given_to(scan, neurons, steps):
    """The same neurons for Brian2, with what the JAX ones of every population will draw."""
    key = jax.random.key(np.uint32(SEED))
    draw = jax.jit(lambda k: scan._steps.drawn(key, k, COPIES, {}, jnp.float64).neurons)
    rows = [draw(jnp.int32(k)) for k in range(steps)]
    found = {}
    for group in rows[0]:
        draws = np.stack([np.asarray(row[group]).reshape(-1) for row in rows])
        if neurons.kind != "lif":
            draws = draws / WORDS
        fields = {f.name: getattr(neurons, f.name) for f in dataclasses.fields(neurons)}
        found[group.population] = Shared(**fields, draws=draws)
    return found


def played(machine, weights, x, taught, lengths):
    """Spikes and all that units hold, after a free phase and one with a target."""

    def program():
        machine.reseed(SEED)
        machine.rest(np.random.default_rng(SEED))
        machine.write_weights(weights)
        machine.drive(weights, x)
        for target, length in zip((None, taught), lengths, strict=True):
            machine.teach(target)
            yield length

    with machine.recording(COPIES) as spikes:
        machine.run(program(), sum(lengths))
    return spikes


SIZES, LENGTHS = (4, 5, 3), (90, 70)
CASES = {
    "poisson": ("dendrites", Neurons("poisson", 6, 50.0, 40.0, 150.0, DT)),
    "bursting": ("multiplexing", Neurons("bursting", 8, 15.0, 5.0, 35.0, DT)),
    "lif": ("dendrites", Neurons("lif", 6, 50.0, 40.0, 150.0, DT, membrane_noise=0.0)),
    "noisy lif": ("dendrites", Neurons("lif", 6, 50.0, 40.0, 150.0, DT, membrane_noise=0.2)),
}


def noiseless(neurons):
    """The closed form of the f-I curve of integrate-and-fire neurons without noise."""
    current = currents(neurons)
    fires = np.maximum(current, 1 + 1e-9)
    charging = neurons.tau_membrane * np.log(fires / (fires - 1))
    return Curve(current, np.where(current > 1, 1 / (neurons.refractory + charging), 0))


def drawn_weights(seed=0):
    rng = np.random.default_rng(seed)
    W = forward("orthogonal", SIZES, 0.7, rng)
    Q = [np.linalg.pinv(w) for w in W[1:]]
    b = [0.1 * rng.standard_normal(n) for n in SIZES[1:]]
    weights = circuit(Weights(*(tuple(map(jnp.asarray, arrays)) for arrays in (W, b, Q))))
    return weights, rng.standard_normal((COPIES, 4)), 0.3 * rng.standard_normal((COPIES, 3))


@pytest.mark.parametrize("case", CASES)
def test_with_the_same_draws_the_spikes_are_the_same(case):
    """Every spike, and all that units hold, at every step; in a free phase and a taught one."""
    family, neurons = CASES[case]
    if neurons.kind == "lif":
        neurons = calibrated(neurons, noiseless(neurons))  # any curve will do
    model = FAMILIES[family](SIZES, bias=True)
    network = Network(SIZES, (Tanh(), Linear()), "inverse", Loss("half-squared", "linear"))
    spiking = dict.fromkeys(model.circuit.population, neurons)
    watched = {group: ("basal",) for group in model.circuit.groups}
    options = {"watched": watched, "traced": True, "tau_synapse": 5e-3}
    scan = Scan(model, network, spiking, DT, COPIES, **options)
    shared = given_to(scan, neurons, sum(LENGTHS))
    brian = Machine(model, network, shared, DT, COPIES, target="numpy", **options)
    found = played(scan, *drawn_weights(), LENGTHS)
    expected = played(brian, *drawn_weights(), LENGTHS)
    for place, (times, nodes) in expected.items():
        assert len(times) > 100
        np.testing.assert_array_equal(np.rint(found[place][0] / DT), np.rint(times / DT))
        np.testing.assert_array_equal(found[place][1], nodes)
    assert scan.tally().keys() == brian.tally().keys()
    for group, units in scan._moving.units.items():
        for name in units:
            np.testing.assert_allclose(
                scan.array(group, name), brian.array(group, name), rtol=0, atol=1e-9, err_msg=name
            )


# -------------------------------------------------------------------------------- whole runs

QUIET = {"model.spiking.soma": "lif", "model.spiking.membrane_noise": 0.0}
FOLLOWING = {"model.layers": [6, 6, 6], "stages.0.phases.1.duration": None}


@pytest.mark.parametrize(
    ("protocol", "changes"),
    [
        ("quickstart", {}),
        pytest.param("mixture-single-phase", FOLLOWING, marks=pytest.mark.long),
        pytest.param(
            "online-plasticity",
            {"model.layers": [6, 6, 6]},
            marks=[pytest.mark.long, pytest.mark.seldom],
        ),
    ],
)
def test_runs_without_chance_are_those_of_brian2(protocol, changes, tmp_path, monkeypatch):
    """Neurons without noise that begin alike: records, spikes and what is learned from them.

    Targets that are set once, or follow the output; weights that move between phases or all along.
    """
    monkeypatch.setattr("neurosim.learning.spiking.engine.fi_curve", noiseless)
    runs = {}
    for engine in ("brian2", "jax"):
        given = {name: v for name, v in (SMALL | QUIET | changes).items() if v is not None}
        given |= {"spiking.engine": engine, "spiking.target": "numpy"}
        if engine == "jax":
            del given["spiking.target"]
        loaded = ns.load_protocol(protocol)
        for number in range(len(loaded.spec.stages[0].phases)):
            given[f"stages.0.phases.{number}.duration"] = "60 ms"
        if len(loaded.spec.stages[0].phases) == 1:
            given.pop("stages.0.phases.1.duration", None)
        loaded = ns.load_protocol(protocol, given)
        runs[engine] = ns.run(loaded, out=tmp_path / f"{engine}.h5").path
    one, other = arrays(runs["brian2"]), arrays(runs["jax"])
    assert one.keys() == other.keys()
    assert one["spikes/layer1/timestamps"].size > 100
    assert not np.array_equal(one["weights/W1"][0], one["weights/W1"][1])
    for name, values in one.items():
        if values.dtype.kind == "f":
            np.testing.assert_allclose(values, other[name], rtol=0, atol=1e-8, err_msg=name)
        else:
            np.testing.assert_array_equal(values, other[name], err_msg=name)
    report = ns.compare(runs["brian2"], runs["jax"])
    assert report["verdict"]["agree"]
