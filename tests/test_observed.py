"""What can be recorded of a circuit: every quantity of its cells, with the values they have."""

from pathlib import Path

import h5py
import numpy as np
import pytest
from small_spikes import arrays, compiled
from tiny_runs import TINY

import neurosim as ns
from neurosim.building.loading import load_model
from neurosim.building.shipped import bundled
from neurosim.circuits.reading import problems
from neurosim.circuits.variables import TAKEN
from neurosim.comparison import hold
from neurosim.figures import overview_figure
from neurosim.models import circuitry
from neurosim.specs import ModelSpec

CELL = """
basal       = forward + bias
apical      = feedback
basal_rate  = s(basal)
apical_rate = t(apical)
dsoma/dt    = ((1 - mu)*basal_rate + mu*apical_rate - soma)/tau_soma
up          = soma
down        = encode(soma, bias)
"""
MULTIPLEXING = """
dbasal/dt    = (forward + bias - basal)/tau
dapical/dt   = (feedback - apical)/tau
event_rate   = s(basal)
burst_signal = t(apical)
up           = event_rate
down         = encode(burst_signal, bias)
"""
SPIKING = {"neurons": 100, "base_rate": "100 Hz", "max_rate": "400 Hz", "gain": "100 Hz"}
RULE = "slope(basal)*(soma - soma_free)"


def cells(equations, taught, **spikes):
    """Pyramidal cells, and an output that is taught."""
    output = {"like": "pyramidal", "equations": taught}
    layers = {"pyramidal": "hidden", "output": "output"}
    return {
        "cells": {"pyramidal": {"equations": equations}, "output": output},
        "populations": {name: {"layers": where, **spikes} for name, where in layers.items()},
    }


MIXTURE = {
    "layers": [3, 4, 4],
    "output": "linear",
    "loss": "half-squared",
    "target_step": 0.1,
    "attenuation": "(mu/(1 - mu))**(L + 1 - i)",
    "projections": {
        "W": {
            "wire": "up[i-1] -> forward[i]",
            "post": RULE,
            "rate": "0.05*((1 - mu)/mu)**(L + 1 - i)",
            "bias": True,
        },
        "Q": {
            "wire": "down[i+1] -> feedback[i]",
            "init": "pinv(W[i+1])",
            "post": "t_slope(apical)*(soma - apical_rate)",
            "rate": 0.05,
        },
    },
    "parameters": {"mu": 0.2, "tau_soma": "20 ms"},
    "spiking": SPIKING,
    **cells(CELL, "apical_rate = teach*target + (1 - teach)*soma"),
}
BURSTING = MIXTURE | {
    "attenuation": "1",
    "projections": {
        "W": {"wire": "up[i-1] -> forward[i]", "init": "orthogonal", "gain": 0.5, "bias": True},
        "Q": {"wire": "down[i+1] -> feedback[i]", "init": "pinv(W[i+1])"},
    },
    "parameters": {"tau": "20 ms"},
    "spiking": SPIKING | {"base_rate": "15 Hz", "gain": "5 Hz", "max_rate": "35 Hz"},
    **cells(
        MULTIPLEXING,
        "burst_signal = teach*target + (1 - teach)*event_rate",
        spikes=["event_rate", "burst_signal"],
    ),
}
RUN = {
    "stages.0.presentations": 1,
    "record.presentations": [0],
    "record.samples": 16,
    "record.every": "100 ms",
    "spiking": {"target": "numpy", "window": "200 ms", "dt": "0.5 ms"},
}
CIRCUITS = {path.stem: path for path in (Path(__file__).parent / "circuits").glob("*.toml")}
CIRCUITS |= {name: bundled("models")[name] for name in ("microcircuit", "segregated-dendrites")}


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """The arrays of a run of a model, and its trace; what was run once is not run again."""
    folder, ran = tmp_path_factory.mktemp("recorded"), {}
    (folder / "run.toml").write_text(TINY)

    def run(model, level, **changes):
        own = {"level": level, "model": model, "stages.0.phases.0.plastic": ["Q"]}
        own |= {"stages.0.phases.1.plastic": ["W"]} if model is not BURSTING else {}
        own |= RUN | changes
        if model is BURSTING:
            own |= {f"stages.0.phases.{k}.plastic": [] for k in (0, 1)}
        asked = repr(own)
        if asked not in ran:
            path = folder / f"{len(ran)}.h5"
            ns.run(ns.load_protocol(folder / "run.toml", own), out=path)
            ran[asked] = arrays(path), path
        return ran[asked]

    return run


def leaky(a):
    """The transfer function of hidden layers."""
    return np.where(a > 0, a, 0.35 * a)


def observed(spec):
    made = circuitry.circuit(spec)
    found = {}
    for group, name in made.observed:
        found.setdefault(made.place(group), []).append(name)
    return found


# ---------------------------------------------------------------------------------- which


def test_all_that_cells_define_can_be_recorded():
    """In the order of the text, without second names and what is encoded to be sent."""
    everything = ["basal", "apical", "basal_rate", "apical_rate", "soma"]
    top = ["basal", "basal_rate", "soma", "apical_rate"]
    found = observed(ModelSpec.model_validate(MIXTURE))
    assert found["layer1"] == everything
    assert sorted(found["layer2"]) == sorted(top)
    found = observed(ModelSpec.model_validate(BURSTING))
    assert found == {
        "layer1": ["basal", "apical", "event_rate", "burst_signal"],
        "layer2": ["basal", "event_rate", "burst_signal"],
    }


def test_what_is_encoded_is_recorded_where_it_serves_more_than_being_sent():
    named = CELL + "felt = 2*down\n"
    answering = MIXTURE | {"readout": "output.down"}
    for changes in (cells(named, "apical_rate = soma"), {}):
        found = observed(ModelSpec.model_validate(MIXTURE | changes))
        assert ("down" in found["layer1"]) == bool(changes)
    model = ModelSpec.model_validate(answering)
    assert "down" in observed(model)["layer2"]
    assert "down" not in observed(model)["layer1"]


@pytest.mark.parametrize(
    ("name", "places"),
    [
        ("controller", {"layer3": ("rate",), "controller3": ("u",)}),
        ("microcircuit", {"layer1": ("rate",), "interneuron1": ("rate",)}),
        ("segregated-dendrites", {"layer1": ("rate",), "layer2": ("rate",)}),
    ],
)
def test_what_cells_say_or_answer_is_known(name, places):
    made = circuitry.circuit(load_model(CIRCUITS[name]))
    found = {made.place(group): made.activity(group) for group in made.groups}
    assert all(set(said) <= set(found[place]) for place, said in places.items())
    assert {(g, n) for g in made.groups for n in made.activity(g)} <= set(made.observed)


# --------------------------------------------------------------------------------- values


@pytest.mark.parametrize("level", ["equilibrium", "rate"])
def test_quantities_follow_each_other_as_the_equations_say(recorded, level):
    """Exactly, at every moment; and what the output is called for is its target while taught."""
    found, _ = recorded(MIXTURE, level)
    hidden, top = (
        {n.rpartition("/")[2]: v for n, v in found.items() if n.startswith(f"traces/layer{i}/")}
        for i in (1, 2)
    )
    np.testing.assert_array_equal(hidden["basal_rate"], leaky(hidden["basal"]))
    np.testing.assert_array_equal(hidden["apical_rate"], hidden["apical"])
    np.testing.assert_array_equal(top["basal_rate"], top["basal"])
    weights = {name: found[f"weights/{name}"][0] for name in ("W1", "b1", "Q1", "b2")}
    basal = found["traces/input"] @ weights["W1"].T + weights["b1"]
    np.testing.assert_allclose(hidden["basal"][:, :, -1], basal, rtol=1e-12)
    sent = top["soma"] - weights["b2"]  # the output is linear
    np.testing.assert_allclose(hidden["apical"], sent @ weights["Q1"].T, rtol=1e-11, atol=1e-14)
    free, taught = top["apical_rate"][:, :, 0], top["apical_rate"][:, :, -1]
    np.testing.assert_array_equal(free, top["soma"][:, :, 0])
    moment = list(found["traces/phase_at"][0]).index(1) - 1 if level == "rate" else 0
    free = top["soma"][:, :, moment]
    expected = free - 0.1 * (free - found["traces/label"])
    if level == "equilibrium":
        np.testing.assert_allclose(taught, expected, rtol=1e-6)
    assert np.abs(taught - free).max() > 1e-4


@pytest.mark.long
def test_weights_that_flow_are_seen_through_the_same_quantities(recorded):
    projections = {name: dict(given) for name, given in MIXTURE["projections"].items()}
    projections["W"]["rate"], projections["Q"]["rate"] = "0.2 Hz", "0.1 Hz"
    flowing = MIXTURE | {"projections": projections, "tau_memory": "50 ms"}
    found, _ = recorded(flowing, "rate", plasticity="online")
    hidden = {n: found[f"traces/layer1/{n}"] for n in ("basal", "basal_rate")}
    np.testing.assert_array_equal(hidden["basal_rate"], leaky(hidden["basal"]))
    fed = found["traces/input"][:, :, None] @ found["weights/W1"][0].T
    assert np.abs(hidden["basal"] - fed).max() > 1e-4


# --------------------------------------------------------------------------------- spikes


@pytest.mark.long
def test_spikes_bring_means_and_the_rest_follows_of_them(recorded):
    """Of the window, within what counting lets expect; estimates have what traces have.

    A unit of N neurons at rate r says h to within √(r/N T)/γ over T, and what comes in adds up so.
    """
    rates, _ = recorded(MIXTURE, "rate")
    found, _ = recorded(MIXTURE, "spiking")
    names = [name for name in found if name.startswith("traces/layer")]
    assert {n.replace("traces", "estimates") for n in names} <= found.keys()
    assert set(names) == {name for name in rates if name.startswith("traces/layer")}
    end = {n: found[f"estimates/layer1/{n}"] for n in ("basal", "basal_rate", "apical", "soma")}
    np.testing.assert_allclose(end["basal_rate"], leaky(end["basal"]), rtol=1e-12)
    ends = [k for k, code in enumerate(rates["traces/phase_at"][0]) if code == 0][-1], -1
    deviation = np.sqrt(100 / (100 * 0.2)) / 100
    gains = {"basal": found["weights/W2"][0], "apical": found["weights/Q1"][0]}
    for layer, name in ((2, "basal"), (1, "apical")):
        expected = rates[f"traces/layer{layer}/{name}"][:, :, ends]
        scattered = deviation * np.linalg.norm(gains[name], axis=1)
        error = found[f"estimates/layer{layer}/{name}"] - expected
        # the rates that scatter feed each other, which adds to the noise of counting alone
        assert 0.2 < np.sqrt(np.mean((error / scattered) ** 2)) < 3
    np.testing.assert_allclose(end["basal"][:, :, 0], rates["traces/layer1/basal"][:, :, ends[0]])
    time = found["traces/phase_at"][0]
    last = {n: found[f"traces/layer2/{n}"] for n in ("apical_rate", "soma")}
    np.testing.assert_array_equal(
        last["apical_rate"][:, :, time == 0], last["soma"][:, :, time == 0]
    )
    taught = last["apical_rate"][:, :, time == 1]
    assert np.ptp(taught, axis=2).max() == 0
    free = found["estimates/layer2/soma"][:, :, 0]
    target = free - 0.1 * (free - found["traces/label"])
    np.testing.assert_allclose(taught[:, :, -1], target, rtol=1e-6)


@pytest.mark.long
def test_the_mean_of_a_phase_is_that_of_its_parts(recorded):
    """Looked at every 100 ms: the window of 200 ms is the mean of the last two."""
    found, _ = recorded(MIXTURE, "spiking")
    for name in ("basal", "soma", "apical_rate"):
        parts = found[f"traces/layer1/{name}"][:, :, -2:].mean(axis=2)
        whole = found[f"estimates/layer1/{name}"][:, :, -1]
        np.testing.assert_allclose(whole, parts, rtol=1e-9, atol=1e-12, err_msg=name)


@pytest.mark.long
@pytest.mark.seldom
def test_bursting_cells_have_potentials_as_they_are_and_two_counts(recorded):
    """Estimates are means of potentials over the window; what spikes say is no function of them."""
    found, path = recorded(BURSTING, "spiking")
    with h5py.File(path) as file:
        assert set(file["estimates/layer1"]) == set(file["traces/layer1"])
        sent = {n: v.attrs.get("sent") for n, v in file["traces/layer1"].items() if n != "unit"}
        assert sent == {"basal": None, "apical": None, "event_rate": "up", "burst_signal": "down"}
    basal = found["estimates/layer1/basal"][:, :, -1]
    x, w = found["traces/input"], found["weights/W1"][0]
    np.testing.assert_allclose(basal, x @ w.T, rtol=1e-3, atol=1e-6)
    assert np.abs(found["traces/layer1/burst_signal"]).max() > 0
    counted = found["estimates/layer1/event_rate"][:, :, -1]
    apart = counted - leaky(basal)
    assert 0 < np.abs(apart).max() < 1.5


@pytest.mark.long
@pytest.mark.seldom
@compiled
def test_a_program_of_its_own_records_the_same(recorded):
    short = {"stages.0.phases.0.duration": "60 ms", "stages.0.phases.1.duration": "60 ms"}
    short |= {"record.every": "20 ms", "batch": 2, "record.samples": 2}
    spiking = {"window": "40 ms", "dt": "0.5 ms", "presentations": 1, "test": 2}
    one, other = (
        recorded(MIXTURE, "spiking", **short, spiking=spiking | {"target": target})[0]
        for target in ("numpy", "standalone")
    )
    assert {n for n in one if "layer1/basal" in n} == {
        f"{group}/layer1/{name}"
        for group in ("traces", "estimates")
        for name in ("basal", "basal_rate")
    }
    for name in one:
        if name.startswith(("traces", "estimates")):
            np.testing.assert_allclose(other[name], one[name], rtol=0, atol=1e-9, err_msg=name)


# ------------------------------------------------------------------------ names and pictures


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("basal_sum = 1", "the sum of basal over time"),
        ("basal_trace = 1", "basal as synapses smooth it"),
        ("soma_sum = 1", None),  # which spikes count
        ("soma_trace = 1", None),
        ("up_sent = 1", "up as spikes say it"),
        ("xi_soma = 1", "the noise of soma"),
        ("forward_of_W = 1", "what W brings"),
        ("spikes = 1\nspikes_of_cell = 2", "spikes itself"),
        ("basal_smoothly = 1", None),
        ("spikes_say_smoothly = 1", None),  # which is called otherwise there
    ],
)
def test_names_that_brian_needs_for_something_else_are_refused(line, message):
    model = MIXTURE | cells(CELL + line, "apical_rate = teach*target + (1 - teach)*soma")
    found = problems(circuitry.tables(ModelSpec.model_validate(model)))
    if message is None:
        assert found == []
        return
    name = line.split("\n")[-1].split(" ")[0]
    text = f"'{name}' is the name of {message} in Brian2; use another name"
    assert (("cells", "pyramidal", "equations"), text) in found


@pytest.mark.long
@pytest.mark.seldom
def test_names_of_spike_generators_may_be_quantities(recorded):
    """Of those that a cell could well have, all at once."""
    taken = sorted(TAKEN - {"inf", "weight"})
    more = "\n".join(f"{name} = s(basal) + {k}" for k, name in enumerate(taken))
    model = MIXTURE | cells(CELL + more, "apical_rate = teach*target + (1 - teach)*soma")
    found, _ = recorded(model, "spiking", **{"record.every": "400 ms"})
    for k, name in enumerate(taken):
        values = found[f"estimates/layer1/{name}"]
        np.testing.assert_allclose(values, found["estimates/layer1/basal_rate"] + k, rtol=1e-9)


@pytest.mark.seldom
@pytest.mark.long
def test_pictures_and_comparisons_show_what_neurons_send(recorded):
    """By whatever name; with spikes all that no target is made of is held apart too."""
    renamed = CELL.replace("soma", "h")
    taught = "apical_rate = teach*target + (1 - teach)*h"
    projections = {name: dict(given) for name, given in MIXTURE["projections"].items()}
    projections["W"]["post"] = "slope(basal)*(h - h_free)"
    projections["Q"]["post"] = "t_slope(apical)*(h - apical_rate)"
    model = MIXTURE | {"projections": projections, "parameters": {"mu": 0.2, "tau_h": "20 ms"}}
    model |= cells(renamed, taught)
    paths = {level: recorded(model, level)[1] for level in ("equilibrium", "rate", "spiking")}
    titles = [axes.get_title("left") for axes in overview_figure(paths["rate"]).axes]
    assert titles[0].split("  ")[1].startswith("H: presentation 0")
    names = {
        levels: {
            row["variable"] for row in hold(*(paths[level] for level in levels)).report["agreement"]
        }
        for levels in (("equilibrium", "rate"), ("rate", "spiking"))
    }
    assert names["equilibrium", "rate"] == {"basal", "apical", "basal_rate", "apical_rate", "h"}
    assert names["rate", "spiking"] == names["equilibrium", "rate"]
    report = hold(paths["rate"], paths["spiking"]).report
    for row in report["agreement"]:  # no spikes reach the basal dendrites of layer 1
        quiet = row["layer"] == 1 and row["variable"].startswith("basal")
        assert (row["expected"] > 0) != quiet
    with h5py.File(paths["rate"]) as file:
        said = {n: v.attrs["long_name"] for n, v in file["traces/layer1"].items() if n != "unit"}
    assert said["h"] == "layer 1: dh/dt = ((1 - mu)*basal_rate + mu*apical_rate - h)/tau_h"
    assert said["basal"] == "layer 1: basal potential, a"
