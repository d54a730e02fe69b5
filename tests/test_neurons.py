"""Neurons of one's own: cells with a threshold, run by Brian2 as their text says."""

import jax
import numpy as np
import pytest
from small_spikes import compiled

import neurosim as ns
from neurosim.building import assembly
from neurosim.building.loading import load_model
from neurosim.circuits.populations import Group
from neurosim.errors import InputError
from neurosim.levels.spiking.machine import Machine
from neurosim.levels.spiking.neurons import Neurons


@pytest.fixture(autouse=True, scope="module")
def double_precision():
    with jax.enable_x64(True):
        yield


LEAKY = """
name = "leaky"
layers = [6, 6, 6]
activation = "linear"
loss = "half-squared"
readout = "output.trace"
[cells.neuron]
equations = '''
dv/dt  = (current - v)/tau_membrane   : 1 (unless refractory)
spikes = int(current > 1)/(tau_ref + tau_membrane*log(safe/(safe - 1)))
safe   = clip(current, 1.000001, 1e6)
'''
threshold  = "v > 1"
reset      = "v = 0"
refractory = "tau_ref"
[cells.output]
equations = "dtrace/dt = (forward - trace)/tau_trace"
[populations]
neuron = "hidden"
output = { layers = "output", spikes = false }
[projections.I]
wire = "input[0] => current[1]"
[projections.W]
wire = "spikes[i-1] => forward[i]"
[parameters]
tau_membrane = "20 ms"
tau_ref = "3 ms"
tau_trace = "100 ms"
"""
CURRENTS = np.array([0.8, 1.01, 1.2, 2.0, 3.0, 5.0])

ADAPTIVE = """
name = "adaptive"
layers = [8, 8, 2]
activation = "linear"
loss = "half-squared"
readout = "output.trace"
[cells.neuron]
equations = '''
dv/dt   = (g_l*(E_l - v) + g_l*D*exp((v - v_t)/D) - w + current + syn)/C
dw/dt   = (a*(v - E_l) - w)/tau_w
dsyn/dt = -syn/tau_s + kick
'''
threshold = "v > v_t + 5*D"
reset     = "v = v_r; w += b"
start     = { v = "-70 mV", w = "10 pA" }
[cells.output]
equations = "dtrace/dt = (forward - trace)/tau_s"
[populations]
neuron = "hidden"
output = { layers = "output", spikes = false }
[projections.I]
wire = "input[0] => current[1]"
[projections.J]
wire = "neuron.spikes[1] -> neuron.kick[1]"
init = "file"
file = "J.npz"
[projections.W]
wire = "neuron.spikes[1] -> output.forward[2]"
init = "ones"
[parameters]
C = "200 pF"
g_l = "10 nS"
E_l = "-70 mV"
v_t = "-50 mV"
v_r = "-58 mV"
D = "2 mV"
a = "2 nS"
b = "60 pA"
tau_w = "100 ms"
tau_s = "5 ms"
"""


def machine(text, tmp_path, x, dt, neurons=None, target="numpy"):
    """Brian2 with the input of every copy on, its weights, and the circuit."""
    path = tmp_path / "model.toml"
    path.write_text(text)
    spec = load_model(path)
    dynamics, network = assembly.dynamics(spec), assembly.network(spec)
    weights = assembly.weights(spec, 0, None, tmp_path)
    made = Machine(dynamics, network, neurons or {}, dt, len(x), target=target)
    return made, weights


def spikes(made, weights, x, steps, seed=0):
    """Of every place that spikes: steps and neurons."""

    def program():
        made.reseed(seed)
        made.rest(np.random.default_rng(seed))
        made.write_weights(weights)
        made.drive(weights, x)
        made.teach(None)
        yield steps

    with made.recording(len(x)) as recorded:
        made.run(program(), steps)
    return {place: (np.rint(t / made.dt).astype(int), ids) for place, (t, ids) in recorded.items()}


def test_integrate_and_fire_neurons_keep_their_closed_interval(tmp_path):
    """n steps of v ← v + (I − v) dt/τ lead over 1, and τ_ref more pass before they begin."""
    dt, steps = 1e-4, 4000
    made, weights = machine(LEAKY, tmp_path, CURRENTS[None], dt)
    at, ids = spikes(made, weights, CURRENTS[None], steps)["layer1"]
    assert not (ids == 0).any()  # too little current
    for unit, current in enumerate(CURRENTS[1:], start=1):
        climb = int(np.ceil(np.log(1 - 1 / current) / np.log(1 - dt / 20e-3)))
        intervals = np.diff(at[ids == unit])
        assert len(intervals) > 2
        np.testing.assert_array_equal(intervals, climb + round(3e-3 / dt))


def test_spikes_of_a_recurrent_adaptive_network_are_those_of_its_equations(tmp_path):
    """Euler's steps in NumPy, every pulse arriving at the step after its spike."""
    dt, steps, n = 1e-4, 3000, 8
    rng = np.random.default_rng(0)
    J = rng.normal(0, 40e-12, (n, n))
    np.savez(tmp_path / "J.npz", J1=J)
    x = rng.uniform(300e-12, 800e-12, (2, n))
    made, weights = machine(ADAPTIVE, tmp_path, x, dt)
    at, ids = spikes(made, weights, x, steps)["layer1"]

    C, g_l, E_l, v_t, v_r, D = 200e-12, 10e-9, -70e-3, -50e-3, -58e-3, 2e-3
    a, b, tau_w, tau_s = 2e-9, 60e-12, 100e-3, 5e-3
    v, w, syn = np.full((2, n), E_l), np.full((2, n), 10e-12), np.zeros((2, n))
    fired, found = np.zeros((2, n), bool), []
    for step in range(steps):
        kick = fired / dt @ J.T
        dv = (g_l * (E_l - v) + g_l * D * np.exp((v - v_t) / D) - w + x + syn) / C
        dw = (a * (v - E_l) - w) / tau_w
        v, w, syn = v + dt * dv, w + dt * dw, syn + dt * (-syn / tau_s + kick)
        fired = v > v_t + 5 * D
        v, w = np.where(fired, v_r, v), np.where(fired, w + b, w)
        found += [(step, k) for k in np.flatnonzero(fired.ravel())]
    assert len(found) > 100
    np.testing.assert_array_equal(np.stack([at, ids], 1), np.array(found))
    np.testing.assert_allclose(made.state(Group("neuron", 1), "v"), v, rtol=1e-9)


def test_conditions_and_chance(tmp_path):
    """A spike as v comes up, none while it is there; and as often as rand() says."""
    up = LEAKY.replace("dv/dt  = (current - v)", "dv/dt = (current + 3*sin(clock) - v)")
    up = up.replace("safe   =", "dclock/dt = omega\nsafe   =").replace(
        " : 1 (unless refractory)", ""
    )
    up = up.replace('reset      = "v = 0"', "").replace('"tau_ref"', '"v > 1"')
    up = up.replace("[parameters]", '[parameters]\nomega = "125.66370614359172 Hz"')  # 20 a second
    made, weights = machine(up, tmp_path, 0 * CURRENTS[None], 1e-4)
    at, ids = spikes(made, weights, 0 * CURRENTS[None], 10_000)["layer1"]
    assert set(np.bincount(ids)) == {20}
    assert np.ptp(np.diff(at[ids == 0])[2:]) <= 1

    chance = LEAKY.replace('"v > 1"', '"rand() < 40*current*dt"').replace('"tau_ref"', '"0 ms"')
    made, weights = machine(chance, tmp_path, np.tile(CURRENTS, (50, 1)), 1e-3)
    at, ids = spikes(made, weights, np.tile(CURRENTS, (50, 1)), 1000)["layer1"]
    counts = np.bincount(ids, minlength=300).reshape(50, 6)
    expected = 40 * CURRENTS
    deviation = np.sqrt(expected * (1 - expected * 1e-3))  # of a binomial count
    assert np.all(np.abs(counts.mean(0) - expected) < 4 * deviation / np.sqrt(50))
    assert np.all(np.abs(counts.std(0) / deviation - 1) < 0.4)  # 4/sqrt(2 n)


def rate(current):
    """1/(τ_ref + τ ln(I/(I−1))), in Hz."""
    safe = np.maximum(current, 1 + 1e-9)
    return np.where(current > 1, 1 / (3e-3 + 20e-3 * np.log(safe / (safe - 1))), 0.0)


def protocol(tmp_path, text, **overrides):
    (tmp_path / "model.toml").write_text(text)
    x = np.random.default_rng(1).uniform(0.5, 3.0, (8, 6))
    y = rate(x @ np.random.default_rng(2).uniform(0.05, 0.25, (6, 6)))  # of a teacher
    np.savez(tmp_path / "data.npz", x=x, y=y, x_test=x[:4], y_test=y[:4])
    (tmp_path / "protocol.toml").write_text(PROTOCOL)
    return ns.load_protocol(tmp_path / "protocol.toml", overrides)


PROTOCOL = """
name = "own"
level = "spiking"
precision = "float64"
batch = 4
[model]
use = "model.toml"
[task]
name = "arrays"
path = "data.npz"
[[stages]]
name = "look"
presentations = 1
[[stages.phases]]
name = "free"
duration = "600 ms"
until = "duration"
[record]
presentations = 1
samples = 4
every = "50 ms"
[rate]
scheme = "euler"
dt = "1 ms"
[spiking]
dt = "0.5 ms"
window = "500 ms"
test = 4
target = "numpy"
"""


@pytest.mark.long
@pytest.mark.seldom
def test_a_line_for_their_rate_serves_the_levels_without_spikes(tmp_path):
    """1/(τ_ref + τ ln(I/(I−1))): to a spike in the window of 0.5 s, and a step of an interval."""
    found = {}
    for level in ("spiking", "rate", "equilibrium"):
        given = {"level": level} | ({"record.every": "100 ms"} if level == "rate" else {})
        run = ns.run(protocol(tmp_path, LEAKY, **given), out=tmp_path / f"{level}.h5")
        trace = ns.open_trace(run.path)
        read = "estimates" if level == "spiking" else "traces"
        rates = trace[f"{read}/layer1"]["spikes"].values
        found[level] = rates[0, :, -1] if read == "estimates" else rates[0, :, -1, :]
        x = trace["traces"]["input"].values[0]
    expected = rate(x)
    np.testing.assert_allclose(found["rate"], expected, rtol=1e-4)
    np.testing.assert_allclose(found["equilibrium"], expected, rtol=1e-4)
    assert expected.max() > 80
    assert np.all(np.abs(found["spiking"] - expected) <= 2 + 5e-4 * expected**2)


LEARNING = """
name = "learning"
layers = [6, 6]
activation = "linear"
loss = "half-squared"
readout = "neuron.spikes"
[cells.neuron]
equations = '''
dv/dt  = (forward - v)/tau_membrane   (unless refractory)
spikes = int(forward > 1)/(tau_ref + tau_membrane*log(safe/(safe - 1)))
safe   = clip(forward, 1.000001, 1e6)
error  = target - spikes
'''
threshold  = "v > 1"
reset      = "v = 0"
refractory = "tau_ref"
[populations]
neuron = "output"
[projections.W]
wire = "input[i-1] -> forward[i]"
init = "ones"
gain = 0.15
post = "error"
rate = 0.001
[parameters]
tau_membrane = "20 ms"
tau_ref = "3 ms"
"""


@pytest.mark.parametrize("level", [pytest.param("spiking", marks=pytest.mark.long), "rate"])
def test_they_learn_to_spike_at_given_rates(tmp_path, level):
    """The delta rule on counted spikes, or on the line for their rate: a teacher's as targets."""
    phases = [
        {"name": "free", "duration": "300 ms", "until": "duration"},
        {"name": "taught", "duration": "300 ms", "until": "duration", "teaching": "clamped",
         "plastic": ["W"]},
    ]  # fmt: skip
    given = {"level": level, "stages.0.phases": phases, "stages.0.presentations": 40}
    spiking = {"spiking.window": "250 ms", "spiking.dt": "1 ms", "record.presentations": 0}
    run = ns.run(protocol(tmp_path, LEARNING, **given, **spiking), out=tmp_path / "learned.h5")
    loss = ns.open_trace(run.path)["evaluation"]["loss"].values
    assert loss[-1] < loss[0] / 20
    assert loss[-1] < 6 * 4**2 / 2  # a spike of the window, 4 Hz


WRONG = [
    ('threshold  = "v > 1"', 'threshold = "v + 1"', "cells.neuron.threshold: 'v + 1' is no cond"),
    ('threshold  = "v > 1"', 'threshold = "u > 1"', "cells.neuron.threshold: unknown name 'u'"),
    ('threshold  = "v > 1"', 'threshold = "v > exec(1)"', "'exec' is no function"),
    ('reset      = "v = 0"', 'reset = "v > 0"', "cells.neuron.reset: 'v > 0' resets nothing"),
    ('reset      = "v = 0"', 'reset = "safe = 0"', "cells.neuron.reset: unknown state 'safe'"),
    ('refractory = "tau_ref"', 'refractory = "tau_rf"', "did you mean 'tau_ref'"),
    ('refractory = "tau_ref"', 'refractory = "3 mV"', "cells.neuron.refractory: "),
    ('threshold  = "v > 1"', "", "cells.neuron.reset: of a cell without threshold"),
    ('neuron = "hidden"', 'neuron = { layers = "hidden", spikes = "v" }', "spikes by that"),
    ("safe   = clip(current, 1.000001, 1e6)", "safe = 2 (unless refractory)", "can be refractory"),
    ('reset      = "v = 0"', 'start = { u = 0.5 }', "cells.neuron.start.u: unknown state 'u'"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "other", "message"), WRONG, ids=[m for _, _, m in WRONG])
def test_what_cannot_be_is_said_with_its_key(tmp_path, line, other, message):
    assert line in LEAKY
    with pytest.raises(InputError) as error:
        protocol(tmp_path, LEAKY.replace(line, other))
    assert message in str(error.value)


@pytest.mark.parametrize("level", ["rate", "equilibrium"])
def test_a_threshold_alone_is_for_the_spiking_level(tmp_path, level):
    silent = "\n".join(line for line in LEAKY.splitlines() if not line.startswith("spikes ="))
    with pytest.raises(InputError) as error:
        protocol(tmp_path, silent, level=level)
    assert "neuron spikes by a threshold, and no line says at which rate" in str(error.value)
    assert protocol(tmp_path, silent).spec.level == "spiking"
    with pytest.raises(InputError, match="no line says at which rate"):
        ns.analyze(tmp_path / "model.toml")


def test_they_spike_in_brian2_alone(tmp_path):
    message = (
        r"spiking\.engine: 'jax' does not compute cells with a threshold of their own, as neuron"
    )
    with pytest.raises(InputError, match=message):
        protocol(tmp_path, LEAKY, **{"spiking.engine": "jax"})


def test_states_begin_where_the_file_says(tmp_path):
    """v = 3 decays to 0 with 20 ms; after 50 ms e^{-2.5} is left, or what Euler's steps leave."""
    text = LEAKY.replace('reset      = "v = 0"', "start = { v = 3 }").replace('"v > 1"', '"v > 9"')
    for level, left in {"rate": np.exp(-2.5), "spiking": (1 - 0.5 / 20) ** 100}.items():
        given = {"level": level, "rate.scheme": "heun", "rate.dt": "0.5 ms"}
        made = protocol(tmp_path, text.replace("current - v", "-v"), **given)
        run = ns.run(made, out=tmp_path / f"{level}.h5")
        v = ns.open_trace(run.path)["traces/layer1"]["v"].values[0, 0, :, 0]
        np.testing.assert_allclose(v[:2], [3.0, 3 * left], rtol=1e-3)


def test_they_are_shown(tmp_path):
    report = ns.check(protocol(tmp_path, LEAKY), latex="-")
    neuron = report["circuit"]["populations"][0]
    assert neuron["firing"] == {"threshold": "v > 1", "reset": ["v = 0"], "refractory": "tau_ref"}
    assert r"v_{1} > 1: \quad v_{1} &\leftarrow 0" in report["latex"]
    assert r"t_{k + 1} - t_k &\geq" in report["latex"]


MIXED = ADAPTIVE.replace(
    "[populations]", "[cells.relay]\nequations = 'h = forward/f_0'\n[populations]"
).replace(
    'neuron = "hidden"', 'relay = { layers = [2], size = 3, spikes = "h" }\nneuron = "hidden"'
)
MIXED = MIXED.replace(
    "[projections.J]",
    """[projections.R]
wire = "neuron.spikes[1] -> relay.forward[2]"
init = "ones"
[projections.J]""",
).replace("[parameters]", '[parameters]\nf_0 = "500 Hz"')


@pytest.mark.long
@compiled
def test_a_program_of_its_own_has_the_same_spikes(tmp_path):
    """Of neurons of one's own, and of ensembles beside them that they drive."""
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "J.npz", J1=rng.normal(0, 40e-12, (8, 8)))
    x = rng.uniform(300e-12, 800e-12, (2, 8))
    found = []
    for target in ("numpy", "standalone"):
        neurons = {"relay": Neurons("poisson", 20, 50.0, 20.0, 150.0, 1e-4)}
        made, weights = machine(MIXED, tmp_path, x, 1e-4, neurons=neurons, target=target)
        found.append(spikes(made, weights, x, 2000))
    assert list(found[0]) == ["layer1", "layer2"]
    for place, (at, ids) in found[0].items():
        assert len(at) > 50
        np.testing.assert_array_equal(at, found[1][place][0])
        np.testing.assert_array_equal(ids, found[1][place][1])
