"""Spiking runs: repeatable, written as SONATA, refused where they cannot be."""

import signal

import h5py
import jax
import libsonata
import numpy as np
import pytest
import xarray
from small_spikes import FAMILIES, SMALL, arrays, small

import neurosim as ns
from neurosim.building import ingredients
from neurosim.functions.activations import Linear
from neurosim.functions.losses import Loss
from neurosim.levels.spiking.machine import Machine
from neurosim.networks.network import Network
from neurosim.runs import draws

pytestmark = pytest.mark.usefixtures("double_throughout", "own_cache")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "small.h5"
    with jax.enable_x64(True):
        small(path)
    return path


def test_a_run_is_the_same_again_whatever_is_recorded_and_however_it_is_cut(
    finished, tmp_path, monkeypatch
):
    monkeypatch.setattr("neurosim.runs.loop.CHUNK_SECONDS", 1e3)
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


@pytest.mark.long
def test_an_ensemble_is_its_seeds_one_at_a_time(finished, tmp_path):
    small(tmp_path / "both.h5", seeds=[1, 0])
    one, both = arrays(finished), arrays(tmp_path / "both.h5")
    np.testing.assert_array_equal(one["metrics/loss"], both["metrics/loss"][:, 1])
    np.testing.assert_array_equal(one["weights/W2"], both["weights/W2"][:, 1])
    assert not np.array_equal(both["metrics/loss"][:, 0], both["metrics/loss"][:, 1])


def test_control_c_is_not_taken_for_the_end():
    """A run that is broken off raises; its program does not go on as if the time had passed."""
    dynamics, passed = FAMILIES["mixture"]((2, 2, 2)), []
    network = Network((2, 2, 2), (Linear(),) * 2, "inverse", Loss("half-squared", "linear"))
    machine = Machine(dynamics, network, {}, 1e-3, 1, target="numpy")

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
    with h5py.File(finished) as file:
        about = file["spikes/layer1"].attrs
        assert (about["neurons"], about["units"], about["copies"]) == (4, 8, 3)
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
        pytest.param(
            "multiplexing-digits", {"model.spiking.soma": "poisson"}, marks=pytest.mark.long
        ),
        pytest.param(
            "mixture-single-phase",
            {"model.layers": [6, 6, 6], "stages.0.phases.1.duration": None},
            marks=pytest.mark.long,
        ),
        pytest.param("online-plasticity", {"model.layers": [6, 6, 6]}, marks=pytest.mark.long),
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


LIF = {"model.spiking.soma": "lif", "model.spiking.base_rate": "20 Hz"} | {
    "model.spiking.refractory": "1 ms"
}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model.spiking.max_rate": "40 Hz"}, "not above the base rate of 50 Hz"),
        ({"spiking.dt": "2 ms"}, "too long for 150 Hz; expected at most"),
        ({"spiking.window": "1.5 ms"}, "not a multiple of spiking.dt"),
        ({"model.spiking.neuron": 5}, "did you mean 'neurons'"),
        (
            {"spiking.dt": "4 ms", "model.spiking.max_rate": "50 Hz"} | LIF,
            r"refractory: 1 ms is less than half a step of spiking\.dt = 4 ms",
        ),
        (
            {"model.spiking.tau_synapse": "0.4 ms"},
            r"tau_synapse: 400 us, which decays within a step, .* steps of spiking\.dt = 1 ms",
        ),
        (
            {"model.parameters.tau_soma": "0.5 ms"},
            r"tau_soma: 500 us, which decays within a step, .* steps of spiking\.dt = 1 ms",
        ),
        (
            {"model.spiking.tau_membrane": "0.6 ms"} | LIF,
            r"tau_membrane: 600 us, which decays within a step, .* of spiking\.dt = 1 ms",
        ),
    ],
)
def test_what_spikes_cannot_do_is_refused(changes, message, tmp_path):
    with pytest.raises(ns.InputError, match=message):
        ns.load_protocol("quickstart", {"level": "spiking"} | changes)


def test_bursts_that_steps_round_together_are_refused_and_others_named():
    """At 4 ms, 5 ms are one step and 16 ms four; 9 and 9.5 ms are two each."""
    given = {"level": "spiking", "spiking.dt": "4 ms", "model.spiking.max_rate": "30 Hz"}
    given |= dict.fromkeys(("spiking.window", "stages.0.phases.0.duration"), "352 ms")
    given |= dict.fromkeys(("spiking.plasticity_every", "record.every"), "4 ms")
    given |= {"stages.0.phases.1.duration": "352 ms", "model.spiking.base_rate": "15 Hz"}
    with pytest.warns(ns.NeurosimWarning) as said:
        loaded = ns.load_protocol("spiking-multiplexing", given)
    messages = "".join(str(warning.message) for warning in said)
    assert "burst_interval: 5 ms is no multiple of spiking.dt = 4 ms and is taken as 4 ms" in (
        messages
    )
    assert "burst_limit" not in messages
    made = ingredients.neurons(loaded.spec)
    assert (made.interval_steps, made.limit_steps, round(made.dead_time / made.dt)) == (1, 4, 6)
    close = {"model.spiking.burst_interval": "9 ms", "model.spiking.burst_limit": "9.5 ms"}
    message = "must be shorter than burst_limit in steps of 4 ms, and is 2 against 2"
    with pytest.raises(ns.InputError, match=message):
        ns.load_protocol("spiking-multiplexing", given | close)


def test_chosen_samples_and_units_are_those_of_a_whole_recording(finished, tmp_path):
    chosen = {"record.samples": [1], "record.units": [0, 9]}
    path = small(tmp_path / "chosen.h5", chosen).path
    whole, part = arrays(finished), arrays(path)
    for group in ("traces", "estimates"):
        for layer, units in ((1, [0]), (2, [0, 9])):
            name = f"{group}/layer{layer}/soma"
            assert part[f"{group}/layer{layer}/unit"].tolist() == units
            np.testing.assert_array_equal(part[name], whole[name][:, [1]][..., units])
    assert part["traces/sample"].tolist() == [1]
    for name in ("input", "label", "index"):
        np.testing.assert_array_equal(part[f"traces/{name}"], whole[f"traces/{name}"][:, [1]])
    for layer, size, units in ((1, 8, [0]), (2, 10, [0, 9])):
        nodes = whole[f"spikes/layer{layer}/node_ids"].astype(int)
        kept = (nodes // 4 // size == 1) & np.isin(nodes // 4 % size, units)
        np.testing.assert_array_equal(part[f"spikes/layer{layer}/node_ids"], nodes[kept])
    data = draws.data(ns.load_protocol("quickstart", SMALL), [0])[1][0]
    np.testing.assert_allclose(part["traces/input"], data.x_train[part["traces/index"]], rtol=1e-6)
    np.testing.assert_array_equal(part["traces/label"], data.y_train[part["traces/index"]])


def test_estimates_are_what_is_counted_in_the_window(finished):
    """30 ms of 60 are three recorded moments of 10 ms, whose mean they are."""
    whole = arrays(finished)
    counted = whole["traces/layer1/soma"]
    for phase, end in enumerate((7, 13)):
        mean = counted[:, :, end - 3 : end].mean(2)
        np.testing.assert_allclose(whole["estimates/layer1/soma"][:, :, phase], mean, atol=1e-6)
