"""The spiking level in JAX: the steps of Brian2, spike for spike where draws are shared."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from chains import circuit, forward
from small_spikes import FAMILIES, SMALL, arrays, small

import neurosim as ns
from neurosim.functions.activations import Linear, Tanh
from neurosim.functions.losses import Loss
from neurosim.levels.spiking.calibration import Curve, calibrated, currents
from neurosim.levels.spiking.generators import WORDS, begun, generator
from neurosim.levels.spiking.machine import Machine
from neurosim.levels.spiking.neurons import Neurons
from neurosim.levels.spiking.scan import Scan
from neurosim.networks.network import Network, Weights
from neurosim.process import compiled

DT, COPIES, SEED = 1e-3, 3, 7


pytestmark = pytest.mark.usefixtures("double_throughout", "own_cache")


@dataclasses.dataclass(frozen=True)
class Shared(Neurons):
    """Neurons in Brian2 that draw what they are given: (steps, neurons), uniform or Gaussian."""

    draws: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0), repr=False)

    @property
    def equations(self):
        return super().equations.replace("*xi", " * given(t, i) * dt**-0.5")

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


def test_numbers_are_arguments_of_what_is_compiled(monkeypatch):
    """Other parameters, steps, durations and neurons of the same kind run the same program."""
    monkeypatch.setattr(compiled, "_programs", {})  # as all are dropped where they are too many
    network = Network(SIZES, (Tanh(), Linear()), "inverse", Loss("half-squared", "linear"))
    spikes = []
    for dt, mu, rate in ((1e-3, 0.2, 50.0), (5e-4, 0.3, 40.0)):
        model = FAMILIES["dendrites"](SIZES, bias=True)
        values = {n: jnp.asarray(v, float) for n, v in (model.parameters | {"mu": mu}).items()}
        model = dataclasses.replace(model, parameters=values)
        neurons = Neurons("poisson", 4, rate, 40.0, 150.0, dt)
        of = dict.fromkeys(model.circuit.population, neurons)
        scan = Scan(model, network, of, dt, COPIES, tau_synapse=dt * 10)
        before = len(compiled._programs)
        played(scan, *drawn_weights(), (20 + round(100 * mu), 30))
        spikes.append(sum(v.sum() for v in scan.tally().values()))
    assert len(compiled._programs) == before
    assert spikes[0] != spikes[1]


# -------------------------------------------------------------------------------- statistics

CELLS = 2000


def trains(neurons, steps, h, bursts=None):
    """Whether each of `CELLS` neurons spiked, (steps, units, neurons), and what units heard."""
    made = generator(neurons, jnp.float64)
    shape = len(h), neurons.count
    cells = begun(neurons.start(np.random.default_rng(0), np.prod(shape), 0), shape, jnp.float64)
    told = made.told(jnp.asarray(h), None if bursts is None else jnp.asarray(bursts))

    def step(cells, k):
        drawn = made.drawn(jax.random.fold_in(jax.random.key(0), k), shape, jnp.float64)
        cells, spiked, heard = made.step(cells, told, drawn, k)
        return cells, (spiked, heard)

    _, found = jax.jit(lambda cells: jax.lax.scan(step, cells, jnp.arange(steps, dtype=jnp.int32)))(
        cells
    )
    return jax.tree.map(np.asarray, found)


def test_counts_of_poisson_neurons_scatter_as_binomial_ones():
    """Mean and variance of the counts of independent neurons, within four of their own errors."""
    rates, steps = np.array([4.0, 50.0, 150.0]), 500
    neurons = Neurons("poisson", CELLS, 50.0, 20.0, 150.0, DT)
    spiked, heard = trains(neurons, steps, (rates - 50) / 20)
    np.testing.assert_array_equal(heard["spikes"], spiked.sum(2))
    counts, p = spiked.sum(0), rates * DT
    variance = steps * p * (1 - p)
    fourth = variance * (1 + 3 * (steps - 2) * p * (1 - p))
    of_mean = np.sqrt(variance / CELLS)
    of_variance = np.sqrt((fourth - variance**2 * (CELLS - 3) / (CELLS - 1)) / CELLS)
    assert np.all(np.abs(counts.mean(1) - steps * p) < 4 * of_mean)
    assert np.all(np.abs(counts.var(1, ddof=1) - variance) < 4 * of_variance)
    total = counts.sum(1)  # and of the whole ensemble, neurons being independent
    assert np.all(np.abs(total - CELLS * steps * p) < 4 * np.sqrt(CELLS * variance))


def test_events_come_at_the_rate_and_burst_with_the_probability_asked_for():
    """Events wait for their dead time, so that their counts scatter less than Poisson's."""
    rates, shares, steps = np.array([8.0, 15.0, 32.0]), np.array([0.5, 0.2, 0.8]), 1500
    neurons = Neurons("bursting", CELLS, 15.0, 5.0, 35.0, DT, probability_gain=0.2)
    spiked, heard = trains(neurons, steps, (rates - 15) / 5, (shares - 0.5) / 0.2)
    events, bursts = (heard[name][300:].sum(0) for name in ("events", "bursts"))
    assert np.all(np.abs(events / (CELLS * 1.2) - rates) < 4 * np.sqrt(events) / (CELLS * 1.2))
    of_share = np.sqrt(shares * (1 - shares) / events)
    assert np.all(np.abs(bursts / events - shares) < 4 * of_share + DT * rates / events)
    at, _, neuron = np.nonzero(spiked[:, :1])
    order = np.lexsort((at, neuron))
    intervals = np.diff(at[order])[np.diff(neuron[order]) == 0]
    within = intervals[intervals < neurons.limit_steps]
    assert set(within) == {neurons.interval_steps}  # the two spikes of a burst
    assert min(intervals[intervals > neurons.interval_steps]) >= neurons.limit_steps + 1


# -------------------------------------------------------------------------------- whole runs

QUIET = {"model.spiking.soma": "lif", "model.spiking.membrane_noise": 0.0}
FOLLOWING = {"model.layers": [6, 6, 6], "stages.0.phases.1.duration": None}


@pytest.mark.parametrize(
    ("protocol", "changes"),
    [
        ("quickstart", {}),
        pytest.param(
            "mixture-single-phase", FOLLOWING, marks=[pytest.mark.long, pytest.mark.seldom]
        ),
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


@pytest.mark.long
def test_a_run_is_the_same_whatever_is_recorded_and_however_it_is_cut(tmp_path, monkeypatch):
    found = []
    for seconds, recorded in ((0.0, [0, 2]), (1e3, [])):
        monkeypatch.setattr("neurosim.runs.loop.CHUNK_SECONDS", seconds)
        given = {"spiking.engine": "jax", "record.presentations": recorded}
        given |= {"spiking.target": "auto", "precision": "float32"}
        found.append(arrays(small(tmp_path / f"{len(found)}.h5", given).path))
    whole, bare = found
    for name in ("weights/W1", "weights/W2", "metrics/loss", "evaluation/loss"):
        np.testing.assert_array_equal(whole[name], bare[name], err_msg=name)
    assert not np.array_equal(whole["weights/W1"][0], whole["weights/W1"][1])


# ---------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("protocol", "changes", "message"),
    [
        (
            "spiking-multiplexing",
            {"model.spiking.soma": "bursting-pyramidal"},
            r"spiking\.engine: 'jax' does not compute the two-compartment cells of "
            r"model\.spiking\.soma = 'bursting-pyramidal'; expected 'brian2', or 'poisson'",
        ),
        ("quickstart", {"spiking.engine": "nest"}, r"unknown engine 'nest' \(allowed: brian2, jax"),
    ],
)
def test_what_jax_cannot_do_is_refused(protocol, changes, message):
    given = {"level": "spiking", "spiking.engine": "jax"} | changes
    with pytest.raises(ns.InputError, match=message):
        ns.load_protocol(protocol, given)


@pytest.mark.parametrize("key", ["engine", "spiking.engine"])
def test_recordings_are_refused(key):
    with pytest.raises(ns.InputError, match="computed by Brian2 alone, as by engine = 'brian2'"):
        ns.record("f-i-curve", {key: "jax"})


def test_a_target_of_brian2_is_not_used():
    given = {"level": "spiking", "spiking.engine": "jax", "spiking.target": "numpy"}
    with pytest.warns(ns.NeurosimWarning, match=r"spiking\.target.*spiking\.engine = 'brian2'"):
        ns.load_protocol("quickstart", given)
