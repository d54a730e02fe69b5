"""The spiking level: the same equations, the same numbers but for spikes, and nothing lost."""

import dataclasses
import os
import shutil
import signal

import h5py
import jax
import jax.numpy as jnp
import libsonata
import numpy as np
import pytest
import xarray

import neurosim as ns
from neurosim.activations import LeakyReLU, Linear, Sigmoid, Softplus, Tanh
from neurosim.dynamics import Mixture, Multiplexing
from neurosim.dynamics.base import Drive, Target, field, rest
from neurosim.levels.rate import Rate
from neurosim.levels.spiking import compiling
from neurosim.levels.spiking.calibration import calibrated
from neurosim.levels.spiking.machine import Machine
from neurosim.levels.spiking.neurons import Neurons
from neurosim.losses import Loss
from neurosim.network import Network, Weights, feedback_weights, forward_weights
from neurosim.spiking.curves import _cached, fi_curve

DT = 5e-4

missing = [tool for tool in ("g++", "make") if shutil.which(tool) is None]
compiled = pytest.mark.skipif(bool(missing), reason=f"there is no {' and no '.join(missing)}")
STANDALONE = pytest.param("standalone", marks=compiled)


@pytest.fixture(autouse=True, scope="module")
def double_precision():
    with jax.enable_x64(True):
        yield


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """Calibrations are kept for the tests, and only for them."""
    base = tmp_path_factory.getbasetemp() / "cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(base))


# ------------------------------------------------------------------------------------ the bridge

FAMILIES = {
    "mixture": Mixture(mu=0.2, tau_soma=0.02),
    "dendrites": Mixture(mu=0.2, tau_soma=0.02, tau_basal=0.005, tau_apical=0.01),
    "multiplexing": Multiplexing(tau_basal=0.01, tau_apical=0.02),
}


CASES = [
    *(("inverse", activation) for activation in (Linear(), LeakyReLU(0.35), Tanh())),
    # The inverses of sigmoid and softplus do not exist at rest, where rates are zero.
    *(("autoencoder", a) for a in (Linear(), LeakyReLU(0.35), Tanh(), Sigmoid(), Softplus())),
]


@pytest.mark.parametrize(
    ("form", "activation"), CASES, ids=[f"{form}-{type(a).__name__}" for form, a in CASES]
)
@pytest.mark.parametrize("family", FAMILIES)
def test_brian_integrates_the_same_rate_equations(family, activation, form):
    """Euler with the same step: equal to rounding, free and taught, with biases."""
    dynamics, sizes, steps = FAMILIES[family], (4, 5, 5, 3), 40
    rng = np.random.default_rng(0)
    W = forward_weights("orthogonal", sizes, 0.7, rng)
    Q = [np.linalg.pinv(w) for w in W[1:]]
    b = [0.1 * rng.standard_normal(n) for n in sizes[1:]]
    weights = Weights(*(tuple(map(jnp.asarray, arrays)) for arrays in (W, b, Q)))
    network = Network(
        sizes, (activation, activation, Linear()), form, Loss("half-squared", "linear")
    )
    x, taught = rng.standard_normal((3, 4)), 0.3 * rng.standard_normal((3, 3))
    level = Rate("euler", 1e-3, False, 1e-6, 1e-9, 1e-3)

    def solve(x, target):
        state = rest(dynamics, network, jnp.float64)
        for kind in (Target("none"), Target("fixed", value=target)):
            drive = Drive(x, network.potential(weights, 1, x), kind)
            state, _, _ = level.integrate(
                lambda v, drive=drive: field(dynamics, network, weights, drive, v),
                state,
                steps * 1e-3,
            )
        return state

    expected = jax.jit(jax.vmap(solve))(jnp.asarray(x), jnp.asarray(taught))
    machine = Machine(dynamics, network, None, 1e-3, 3, target="numpy")

    def program():
        machine.rest()
        machine.write_weights(weights)
        machine.drive(x @ W[0].T)
        machine.teach(None)
        yield steps
        machine.teach(taught)
        yield steps

    for _ in range(2):  # the second time from a state that is not at rest
        machine.run(program(), 2 * steps)
        for name, layers in expected.items():
            for i, layer in enumerate(layers, start=1):
                assert np.abs(np.asarray(layer)).max() > 1e-3
                np.testing.assert_allclose(machine.array(i, name), layer, rtol=0, atol=1e-9)


def test_a_leak_pulls_the_soma_to_zero():
    """At rest (1 + leak) h = (1−μ) f + μ g."""
    network = Network((3, 4, 4), (Linear(),) * 2, "inverse", Loss("half-squared", "linear"))
    rng = np.random.default_rng(0)
    weights = Weights(
        tuple(0.5 * rng.standard_normal(s) for s in ((4, 3), (4, 4))),
        (),
        (0.5 * rng.standard_normal((4, 4)),),
    )
    machine = Machine(FAMILIES["mixture"], network, None, 1e-3, 2, leak=0.5, target="numpy")
    x = rng.standard_normal((2, 3))

    def program():
        machine.rest()
        machine.write_weights(weights)
        machine.drive(x @ weights.W[0].T)
        machine.teach(None)
        yield 1000

    machine.run(program(), 1000)
    h1, h2 = machine.array(1, "soma"), machine.array(2, "soma")
    assert np.abs(h1).max() > 0.1
    np.testing.assert_allclose(
        1.5 * h1, 0.8 * x @ weights.W[0].T + 0.2 * h2 @ weights.Q[0].T, atol=1e-9
    )
    np.testing.assert_allclose(1.5 * h2, 0.8 * h1 @ weights.W[1].T + 0.2 * h2, atol=1e-9)


@pytest.mark.parametrize("compartment", ["soma", "basal", "apical"])
def test_noise_in_a_compartment_is_that_of_the_closed_form(compartment):
    """An Ornstein–Uhlenbeck process of its Euler steps, the same in no two units or copies."""
    network = Network((1, 4, 4), (Linear(),) * 2, "inverse", Loss("half-squared", "linear"))
    silent = Weights((np.zeros((4, 1)), np.zeros((4, 4))), (), (np.zeros((4, 4)),))
    sigma, dt, tau, mu = 0.3, 1e-3, 0.01, 0.2
    dynamics = Mixture(mu, tau, tau, tau, sigma={compartment: sigma})
    machine = Machine(dynamics, network, None, dt, 300, target="numpy")
    seen = []

    def program():
        machine.reseed(1)
        machine.rest()
        machine.write_weights(silent)
        machine.drive(np.zeros((300, 4)))
        machine.teach(None)
        yield 100
        for _ in range(30):
            yield 50
            seen.append(machine.array(1, compartment).copy())

    machine.run(program(), 1600)
    per_step = dt / tau
    expected = sigma**2 / (1 - per_step / 2)
    assert np.var(seen) == pytest.approx(expected, rel=0.03)
    between = np.corrcoef(np.array(seen).reshape(-1, 4).T)[np.triu_indices(4, 1)]
    assert np.abs(between).max() < 0.05


# --------------------------------------------------------------------------- rates from spikes

SIZES, COPIES = (6, 6, 6), 8
SIGMOIDS = Network(SIZES, (Sigmoid(),) * 2, "autoencoder", Loss("half-squared", "linear"))
SOMA = Mixture(mu=0.2, tau_soma=0.02, tau_basal=0.005, tau_apical=0.005)


def drawn(seed):
    """Weights and inputs of a 6-6-6 network."""
    rng = np.random.default_rng(seed)
    W = forward_weights("xavier", SIZES, 1, rng)
    Q = feedback_weights("random", W, 1, rng)
    weights = Weights(tuple(map(jnp.asarray, W)), (), tuple(map(jnp.asarray, Q)))
    return weights, rng.standard_normal((COPIES, SIZES[0]))


def rates_of(weights, x, times):
    """h over time at the rate level: per layer (copies, times, units)."""

    def solve(x):
        drive = Drive(x, SIGMOIDS.potential(weights, 1, x), Target("none"))
        level = Rate("heun", 1e-3, False, 1e-6, 1e-9, 1e-3)
        return level.integrate(
            lambda v: field(SOMA, SIGMOIDS, weights, drive, v),
            rest(SOMA, SIGMOIDS, jnp.float64),
            float(times[-1]),
            watch=(tuple(times), lambda v: v["soma"]),
        )[1]

    return [np.asarray(h) for h in jax.jit(jax.vmap(solve))(jnp.asarray(x))]


def counted(neurons, weights, x, steps, seed):
    """Spike counts of every layer up to the given steps: (times, copies, units)."""
    machine = Machine(SOMA, SIGMOIDS, neurons, DT, COPIES, target="numpy")
    seen = []

    def program():
        machine.reseed(seed)
        machine.rest(np.random.default_rng(seed))
        machine.write_weights(weights)
        machine.drive(x @ np.asarray(weights.W[0]).T)
        machine.teach(None)
        for step in np.diff([0, *steps]):
            yield int(step)
            seen.append(machine.tally()["spike_count"])

    machine.run(program(), steps[-1])
    return [np.stack([tally[k] for tally in seen]) for k in range(len(SIZES) - 1)]


@pytest.mark.parametrize(("kind", "limit"), [("poisson", 0.045), ("lif", 0.017)])
def test_spikes_carry_the_rates_of_the_rate_model(kind, limit):
    """6-6-6, mu 0.2, N = 20, a window of 0.25 s: over five weight sets."""
    neurons = Neurons(kind, 20, 1.0, 98.0, 100.0, DT)
    if kind == "lif":
        neurons = calibrated(neurons, fi_curve(neurons))
    errors, pairs = [], []
    for seed in range(5):
        weights, x = drawn(seed)
        expected = rates_of(weights, x, [1.0])
        counts = counted(neurons, weights, x, [500, 1000], seed)
        for h, count in zip(expected, counts, strict=True):
            found = ((count[1] - count[0]) / (20 * 0.25) - 1.0) / 98.0
            errors.append(found - h[:, 0])
            pairs.append((found.ravel(), h[:, 0].ravel()))
    rmse = np.sqrt(np.mean(np.square(errors)))
    poisson = np.sqrt(np.mean([(1 + 98 * h).mean() / (20 * 0.25) for _, h in pairs])) / 98
    assert rmse <= limit
    assert abs(np.mean(errors)) < 4 * poisson / np.sqrt(np.size(errors)) + 5e-4
    if kind == "poisson":  # the exact reference: as large as counting makes it, and no larger
        assert rmse == pytest.approx(poisson, rel=0.1)


def test_the_error_falls_with_neurons_and_window():
    weights, x = drawn(0)
    expected = rates_of(weights, x, [1.0])
    logs, errors = [], []
    for count, window in [(5, 200), (20, 200), (20, 800), (80, 800)]:
        neurons = Neurons("poisson", count, 1.0, 98.0, 100.0, DT)
        tallies = counted(neurons, weights, x, [400, 400 + window], 1)
        time = window * DT
        off = [
            ((t[1] - t[0]) / (count * time) - 1.0) / 98.0 - h[:, 0]
            for t, h in zip(tallies, expected, strict=True)
        ]
        logs.append(np.log(count * time))
        errors.append(np.log(np.sqrt(np.mean(np.square(off)))))
    assert np.polyfit(logs, errors, 1)[0] == pytest.approx(-0.5, abs=0.1)


def test_transients_are_those_of_the_rate_model():
    """The response to the onset, in bins of 10 ms: within 1.25 times the sampling error."""
    neurons, bins = Neurons("poisson", 100, 1.0, 98.0, 100.0, DT), np.arange(20, 241, 20)
    off, variance = [], []
    for seed in range(2):
        weights, x = drawn(seed)
        fine = rates_of(weights, x, list(np.arange(1, 121) * 1e-3))
        tallies = counted(neurons, weights, x, bins.tolist(), seed)
        for h, t in zip(fine, tallies, strict=True):
            h = np.concatenate([np.zeros_like(h[:, :1]), h], 1)
            middle = (h[:, 1:] + h[:, :-1]) / 2
            mean = middle.reshape(COPIES, 12, 10, -1).mean(2).swapaxes(0, 1)
            found = (np.diff(t, axis=0, prepend=0) / (100 * 0.01) - 1.0) / 98.0
            off.append(found - mean)
            variance.append((1 + 98 * mean) / (100 * 0.01) / 98**2)
    ratio = np.sqrt(np.mean(np.square(off), axis=(0, 2, 3)) / np.mean(variance, axis=(0, 2, 3)))
    assert np.all(ratio < 1.25), ratio


def test_integrate_and_fire_neurons_are_calibrated(tmp_path, monkeypatch):
    """Driven by the table they fire at the rate asked for; the table is kept and read again."""
    neurons = Neurons("lif", 1, 50.0, 20.0, 150.0, DT)
    curve = fi_curve(neurons)
    neurons = calibrated(neurons, curve)
    assert np.all(np.diff(np.maximum.accumulate(curve.rate)) >= 0)
    assert curve.rate[0] < 1
    assert curve.rate[-1] > 150
    for rate in (5.0, 50.0, 140.0):
        current = neurons.current[round(rate / neurons.table_step)]
        assert np.interp(current, curve.current, curve.rate) == pytest.approx(rate, abs=0.5)

    def fail(*_):
        raise AssertionError("measured again")

    monkeypatch.setattr("neurosim.spiking.curves.measure", fail)
    again = fi_curve(dataclasses.replace(neurons, count=7, gain=3.0))
    np.testing.assert_array_equal(again.rate, curve.rate)
    with pytest.raises(AssertionError, match="measured again"):
        fi_curve(dataclasses.replace(neurons, refractory=3e-3))
    kept = _cached(neurons)
    whole = kept.read_bytes()
    kept.write_bytes(whole[:100])
    with pytest.raises(AssertionError, match="measured again"):
        fi_curve(neurons)  # what is cut short is no curve
    kept.write_bytes(whole)


# ------------------------------------------------------------------------------------- bursts


@pytest.mark.parametrize("target", ["numpy", STANDALONE])
def test_events_and_bursts_carry_two_signals(target):
    """Rates of events and fractions of bursts are the potentials' and do not mix."""
    network = Network((4, 4, 4), (Linear(),) * 2, "inverse", Loss("half-squared", "linear"))
    dynamics = Multiplexing(tau_basal=0.01, tau_apical=0.01)
    neurons = Neurons(
        "bursting", 100, 15.0, 5.0, 35.0, DT, base_probability=0.5, probability_gain=0.15
    )
    weights = Weights((np.eye(4), np.eye(4)), (), (np.eye(4),))
    copies = 12
    machine = Machine(dynamics, network, neurons, DT, copies, target=target)
    x = np.tile([-2.0, -0.5, 0.5, 2.0], (copies, 1))
    target = np.linspace(-2, 2, copies)[:, None] * np.ones(4)
    tallies = []

    def program():
        machine.reseed(0)
        machine.rest(np.random.default_rng(0))
        machine.write_weights(weights)
        machine.drive(x)
        machine.teach(target)
        yield 400
        tallies.append(machine.tally())
        yield 4000
        tallies.append(machine.tally())

    machine.run(program(), 4400)
    for layer in (0, 1):
        events, bursts = (
            tallies[1][name][layer] - tallies[0][name][layer]
            for name in ("event_count", "burst_count")
        )
        rate = (events / (100 * 2.0) - 15.0) / 5.0
        probability = (bursts / events - 0.5) / 0.15
        z_rate = (rate - x) / (np.sqrt(events) / 200 / 5)
        z_burst = (probability - target) / (0.5 / np.sqrt(events) / 0.15)
        # Events of layer 1 and bursts of layer 2 are driven from outside; what the other layer
        # hears has passed through spikes, whose counting errors add to its own.
        heard = np.sqrt(np.mean(z_rate**2)), np.sqrt(np.mean(z_burst**2))
        driven, passed_on = heard if layer == 0 else heard[::-1]
        assert driven < 1.15
        assert passed_on < 2.0
        given = np.broadcast_to(target, rate.shape).ravel()
        assert abs(np.corrcoef((rate - x).ravel(), given)[0, 1]) < 3.5 / np.sqrt(rate.size)
        given = np.broadcast_to(x, rate.shape).ravel()
        off = (probability - target).ravel()
        assert abs(np.corrcoef(off, given)[0, 1]) < 3.5 / np.sqrt(rate.size)


# --------------------------------------------------------------------------------------- runs

SMALL = {
    "level": "spiking",
    "model.layers": [64, 8, 10],
    "model.spiking.neurons": 4,
    "model.spiking.soma": "poisson",
    "batch": 3,
    "stages.0.phases.0.duration": "60 ms",
    "stages.0.phases.1.duration": "60 ms",
    "spiking.window": "30 ms",
    "spiking.dt": "1 ms",
    "spiking.presentations": 3,
    "spiking.test": 6,
    "spiking.target": "numpy",
    "record.presentations": [0, 2],
    "record.samples": 2,
    "record.every": "10 ms",
}


def small(out, changes=None, protocol="quickstart", **options):
    loaded = ns.load_protocol(protocol, SMALL | (changes or {}))
    return ns.run(loaded, out=out, force=True, **options)


def arrays(path):
    with h5py.File(path) as file:
        found = {}
        file.visititems(
            lambda name, item: (
                found.update({name: item[()]})
                if isinstance(item, h5py.Dataset) and not name.startswith("provenance")
                else None
            )
        )
    return found


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "small.h5"
    with jax.enable_x64(True):
        small(path)
    return path


def test_a_run_is_the_same_again_whatever_is_recorded_and_however_it_is_cut(
    finished, tmp_path, monkeypatch
):
    monkeypatch.setattr("neurosim.looping.CHUNK_SECONDS", 1e3)
    small(tmp_path / "again.h5")
    one, other = arrays(finished), arrays(tmp_path / "again.h5")
    assert one.keys() == other.keys()
    for name, values in one.items():
        np.testing.assert_array_equal(values, other[name], err_msg=name)
    small(tmp_path / "bare.h5", {"record.presentations": 0})
    bare = arrays(tmp_path / "bare.h5")
    for name in ("weights/W1", "weights/W2", "metrics/loss", "evaluation/loss"):
        np.testing.assert_array_equal(one[name], bare[name], err_msg=name)
    assert not np.array_equal(one["weights/W1"][0], one["weights/W1"][1])


def test_an_ensemble_is_its_seeds_one_at_a_time(finished, tmp_path):
    small(tmp_path / "both.h5", seeds=[1, 0])
    one, both = arrays(finished), arrays(tmp_path / "both.h5")
    np.testing.assert_array_equal(one["metrics/loss"], both["metrics/loss"][:, 1])
    np.testing.assert_array_equal(one["weights/W2"], both["weights/W2"][:, 1])
    assert not np.array_equal(both["metrics/loss"][:, 0], both["metrics/loss"][:, 1])


def test_control_c_is_not_taken_for_the_end():
    """A run that is broken off raises; its program does not go on as if the time had passed."""
    dynamics, passed = FAMILIES["mixture"], []
    network = Network((2, 2, 2), (Linear(),) * 2, "inverse", Loss("half-squared", "linear"))
    machine = Machine(dynamics, network, None, 1e-3, 1, target="numpy")

    def program():
        machine.rest()
        yield 10
        signal.raise_signal(signal.SIGINT)
        yield 10
        passed.append(True)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in a background job
    try:
        with pytest.raises(KeyboardInterrupt):
            machine.run(program(), 20)
    finally:
        signal.signal(signal.SIGINT, before)
    assert passed == []


def test_spikes_are_sonata(finished):
    reader = libsonata.SpikeReader(str(finished))
    assert reader.get_population_names() == ["layer1", "layer2"]
    rows = np.array(reader["layer1"].get())
    assert reader["layer1"].sorting == "by_time"
    assert rows[:, 0].max() < 2 * 8 * 4  # samples, units, neurons
    assert rows[:, 1].max() < 2 * 120
    with xarray.open_datatree(finished, engine="h5netcdf") as tree:
        soma = tree["traces/layer1/soma"].values
        np.testing.assert_array_equal(tree["spikes/layer1/node_ids"], rows[:, 0])
        assert tree["spikes/layer1/timestamps"].attrs["units"] == "ms"
    # What is recorded as a rate is what the spikes say: counts over 10 ms, from the base rate.
    counts = np.zeros((2, 2, 12, 8))
    for node, time in rows:
        node, presentation = int(node), int(time + 1e-6) // 120
        moment = int(time + 1e-6) % 120 // 10
        counts[presentation, node // 32, moment, node % 32 // 4] += 1
    rates = (counts / (4 * 0.01) - 50) / 20
    np.testing.assert_allclose(soma[:, :, 1:], rates, atol=1e-9)


@pytest.mark.parametrize(
    ("protocol", "changes"),
    [
        ("multiplexing-digits", {"model.spiking.soma": "poisson"}),
        ("mixture-single-phase", {"model.layers": [6, 6, 6], "stages.0.phases.1.duration": None}),
        ("online-plasticity", {"model.layers": [6, 6, 6]}),
    ],
)
def test_every_family_and_plasticity_runs(protocol, changes, tmp_path):
    given = {key: value for key, value in (SMALL | changes).items() if value is not None}
    loaded = ns.load_protocol(protocol)
    for number in range(len(loaded.spec.stages[0].phases)):
        given[f"stages.0.phases.{number}.duration"] = "60 ms"
    if len(loaded.spec.stages[0].phases) == 1:
        given.pop("stages.0.phases.1.duration", None)
    if loaded.spec.model.layers[0] == 6:
        given["batch"] = 4
    run = ns.run(ns.load_protocol(protocol, given), out=tmp_path / "run.h5")
    with ns.open_trace(run.path) as trace:
        assert trace.attrs["status"] == "complete"
        assert np.isfinite(trace["metrics/loss"]).all()
        moved = trace["weights/W1"].values
        assert np.isfinite(moved).all()
        assert np.abs(moved[1] - moved[0]).max() > 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model.spiking.max_rate": "40 Hz"}, "not above the base rate of 50 Hz"),
        ({"spiking.dt": "2 ms"}, "too long for 150 Hz; expected at most"),
        ({"spiking.window": "1.5 ms"}, "not a multiple of spiking.dt"),
        ({"model.spiking.neuron": 5}, "did you mean 'neurons'"),
    ],
)
def test_what_spikes_cannot_do_is_refused(changes, message, tmp_path):
    with pytest.raises(ns.InputError, match=message):
        ns.load_protocol("quickstart", {"level": "spiking"} | changes)


# ---------------------------------------------------------------------------------- standalone


@compiled
def test_a_standalone_network_is_the_one_here(monkeypatch):
    """The rate equations, free and taught, read on the way; then broken off, and begun again."""
    dynamics, sizes = Multiplexing(tau_basal=0.01, tau_apical=0.02), (4, 5, 5, 3)
    network = Network(sizes, (Tanh(),) * 2 + (Linear(),), "inverse", Loss("half-squared", "linear"))
    rng = np.random.default_rng(0)
    W = forward_weights("orthogonal", sizes, 0.7, rng)
    b = tuple(0.1 * rng.standard_normal(n) for n in sizes[1:])
    weights = Weights(tuple(W), b, tuple(np.linalg.pinv(w) for w in W[1:]))
    x, taught = rng.standard_normal((3, 4)), 0.3 * rng.standard_normal((3, 3))

    def program(machine, seen, interrupted=False):
        machine.rest()
        machine.write_weights(weights)
        machine.drive(x @ W[0].T)
        for target in (None, taught):
            machine.teach(target)
            for _ in range(3):
                yield 15
                seen += [machine.array(i, "basal") for i in (1, 2, 3)]
                seen += [machine.apical(i) for i in (1, 2)]
                if interrupted:
                    signal.raise_signal(signal.SIGINT)

    here = Machine(dynamics, network, None, 1e-3, 3, target="numpy")
    there = Machine(dynamics, network, None, 1e-3, 3, target="standalone")
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
        there.array(1, "basal")
    main = there.brian._executable.folder / "main"
    with monkeypatch.context() as patched:
        patched.setattr(compiling, "_compile", fail)
        Machine(dynamics, network, None, 1e-3, 3, target="standalone")
    with monkeypatch.context() as patched:  # a cache that cannot be written; its folder goes away
        patched.setattr(compiling, "user_cache_path", lambda _: main / "nowhere")
        patched.setattr(compiling, "_compile", lambda folder, _: shutil.copy2(main, folder))
        machine = Machine(dynamics, network, None, 1e-3, 3, target="standalone")
        again.clear()
        machine.run(program(machine, again), 90)
        np.testing.assert_array_equal(np.hstack(again), np.hstack(found))
        folder = machine.brian._executable.folder
        assert folder != main.parent
        assert folder.exists()
        del machine
        assert not folder.exists()


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
    dynamics = FAMILIES["mixture"]
    network = Network((2, 2, 2), (Linear(),) * 2, "inverse", Loss("half-squared", "linear"))
    with pytest.raises(ns.NeurosimError, match=r"does not compile[^*]*out of order"):
        Machine(dynamics, network, None, 1e-3, 1, target="standalone")
    assert os.listdir(tmp_path) == ["wrong"]
    Machine(dynamics, network, None, 1e-3, 1, target="numpy").array(1, "soma")  # as if nothing was
