"""Cells alone: their sweeps against closed forms and scipy, what is measured, what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
from command_line import call
from scipy import constants, stats
from scipy.integrate import solve_ivp
from scipy.optimize import brentq

import neurosim as ns
from neurosim.building.cells import load_cell_protocol
from neurosim.building.shipped import bundled
from neurosim.recordings import measures
from neurosim.recordings.measures import OF_POTENTIAL, Steps, measure
from neurosim.recordings.recording import in_words
from neurosim.traces.reader import Arrays

PLAIN = {"target": "numpy"}
STEP = {"kind": "step", "start": "20 ms", "duration": "150 ms"}
PASSIVE = {
    "equations": "dv/dt = (g*(rest - v) + current)/c",
    "parameters": {"g": "10 nS", "rest": "-70 mV", "c": "200 pF"},
    "start": {"v": "-70 mV"},
}
"""A membrane of 100 MOhm and 20 ms."""


@pytest.fixture
def recorded(tmp_path):
    """Records a shipped protocol with changes; returns the recording and its arrays."""

    def record(name, changes):
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.h5"
        done = ns.record(name, PLAIN | changes, out=path)
        with Arrays.of(path) as arrays:
            groups = [g for g in ("recording", "parameters") if g in arrays]
            found = {v: arrays[f"{g}/{v}"] for g in groups for v in arrays.members(g)}
            populations = arrays.members("spikes") if "spikes" in arrays else []
            for population in populations:
                for part in ("timestamps", "node_ids"):
                    found[part] = arrays[f"spikes/{population}/{part}"]
        return done, found

    return record


def own(model):
    """A cell of one's own in place of the protocol's."""
    return {f"model.{key}": value for key, value in model.items()} | {"model.name": "mine"}


# --- closed forms --------------------------------------------------------------------------------


def test_a_passive_membrane_charges_as_it_must(recorded):
    """Whatever integrates it: diffrax, or Brian2 where a threshold that is never met resets it."""
    amplitude, tau = np.array([-100e-12, 50e-12]), 20e-3
    stimulus = STEP | {"amplitude": ["-100 pA", "50 pA"]}
    fires = {"threshold": "v > 1", "reset": "v = rest"}
    for model in (PASSIVE, PASSIVE | fires):
        done, found = recorded("current-clamp", own(model) | {"stimuli": [stimulus]})
        t = found["time"] * 1e-3
        charged = -np.expm1(-np.clip(t - 0.02, 0, 0.15) / tau)
        left = np.exp(-np.clip(t - 0.17, 0, None) / tau)
        exact = -70 + 1e3 * amplitude[:, None] / 10e-9 * charged * left
        np.testing.assert_allclose(found["v"][:, 0], exact, rtol=0, atol=1e-5)
        assert done.cell["resting_potential"] == pytest.approx(-70)
        assert done.cell["time_constant"] == pytest.approx(20, rel=1e-4)
        late = -np.expm1(-np.linspace(0.135, 0.15, 151) / tau).mean()
        assert done.cell["input_resistance"] == pytest.approx(100 * late, rel=1e-3)


def test_leaky_integrate_and_fire_neurons_have_the_rate_of_their_closed_form(recorded):
    """An interval is what the closed form says, in whole steps of dt."""
    amplitude = np.array([210, 250, 400, 800]) * 1e-12
    stimulus = STEP | {"amplitude": [f"{a * 1e12:g} pA" for a in amplitude]}
    done, _ = recorded("current-clamp", {"model.use": "lif", "stimuli": [stimulus]})
    free = 20e-3 * np.log((amplitude / 10e-9 - 10e-3) / (amplitude / 10e-9 - 20e-3))
    interval = np.array(done.sweeps["last_interval"])
    assert (interval >= 1e3 * (2e-3 + free) - 1e-6).all()
    assert (interval <= 1e3 * (2e-3 + free) + 0.2).all()
    assert done.cell["rheobase"] == 210


def test_the_rheobase_of_an_exponential_neuron_is_its_closed_form(recorded):
    """g (V_T - E - Δ), below which a fixed point is left."""
    exact = 10e-9 * (-59.9e-3 + 65e-3 - 3.48e-3) * 1e12
    amplitude = {"from": f"{exact - 2} pA", "to": f"{exact + 2} pA", "count": 2}
    changes = {"model.use": "eif", "duration": "1.5 s", "record.every": "10 ms"}
    stimulus = {"kind": "step", "amplitude": amplitude, "start": "100 ms"}
    done, _ = recorded("current-clamp", changes | {"stimuli": [stimulus]})
    assert np.sign(done.sweeps["spikes"]).tolist() == [0, 1]
    assert done.cell["silent_below"] == pytest.approx(exact - 2)


def test_a_conductance_pulls_towards_its_reversal(recorded):
    """To (g E + g_s E_s)/(g + g_s), by voltage division."""
    stimulus = STEP | {"amplitude": "30 nS", "reversal": "-10 mV"}
    for model in (PASSIVE, PASSIVE | {"threshold": "v > 1", "reset": "v = rest"}):
        _, found = recorded("current-clamp", own(model) | {"stimuli": [stimulus]})
        at = np.searchsorted(found["time"], 169)
        assert found["v"][0, 0, at] == pytest.approx((10 * -70 + 30 * -10) / 40, abs=1e-5)


def test_a_conductance_drives_the_compartment_that_it_opens_in(recorded):
    """Both potentials by the division of voltages, as one node hangs on the other."""
    leaks = "(g*(rest - {0}) + g_between*({1} - {0}) + {2})/c"
    model = PASSIVE | {
        "equations": f"dsoma/dt = {leaks.format('soma', 'apical', 'current')}\n"
        f"dapical/dt = {leaks.format('apical', 'soma', 'apical_current')}",
        "inputs": ["current", "apical_current"],
        "start": {"soma": "-70 mV", "apical": "-70 mV"},
        "parameters": PASSIVE["parameters"] | {"g_between": "5 nS"},
    }
    given = {"into": "apical_current", "amplitude": "30 nS", "reversal": "-10 mV"}
    _, found = recorded("current-clamp", own(model) | {"stimuli": [given]})
    soma, apical = np.linalg.solve([[15, -5], [-5, 45]], [10 * -70, 10 * -70 + 30 * -10])
    assert found["soma"][0, 0, -1] == pytest.approx(soma, abs=1e-5)
    assert found["apical"][0, 0, -1] == pytest.approx(apical, abs=1e-5)


def test_a_sine_is_filtered_by_the_impedance(recorded):
    frequency, tau = 25.0, 20e-3
    given = {"kind": "sine", "amplitude": "50 pA", "frequency": "25 Hz"}
    _, found = recorded("current-clamp", own(PASSIVE) | {"stimuli": [given]})
    last = found["v"][0, 0, found["time"] >= 400] + 70
    gain = 5.0 / np.hypot(1, 2 * np.pi * frequency * tau)
    assert np.abs(last).max() == pytest.approx(gain, rel=1e-3)


def test_noise_has_its_standard_deviation_and_every_copy_its_own(recorded):
    given = {"kind": "ornstein-uhlenbeck", "amplitude": "40 pA", "tau": "5 ms"}
    changes = {"stimuli": [given], "copies": 100, "record.copies": 100, "record.every": "5 ms"}
    _, one = recorded("current-clamp", own(PASSIVE) | changes)
    current = one["stimulus0"][0]
    assert current.std() == pytest.approx(40, rel=0.02)
    lag = np.mean(current[:, 1:] * current[:, :-1]) / current.var()
    assert lag == pytest.approx(np.exp(-1), abs=0.02)
    assert abs(np.corrcoef(current)[0, 1:]).mean() < 0.15
    _, again = recorded("current-clamp", own(PASSIVE) | changes)
    np.testing.assert_array_equal(one["v"], again["v"])
    _, other = recorded("current-clamp", own(PASSIVE) | changes | {"seed": 1})
    assert (one["v"] != other["v"]).any()


def test_white_noise_scatters_as_its_process(recorded):
    """σ of an Ornstein–Uhlenbeck process; two states have noise of their own."""
    lines = "dv/dt = -v/tau + sigma*sqrt(2/tau)*xi\ndw/dt = -w/tau + sigma*sqrt(2/tau)*xi"
    model = {"equations": lines, "parameters": {"tau": "10 ms", "sigma": 2.0}, "inputs": []}
    changes = {"stimuli": [], "copies": 400, "record.copies": 400, "record.every": "50 ms"}
    _, found = recorded("current-clamp", own(model) | changes)
    v, w = found["v"][0, :, 2:], found["w"][0, :, 2:]
    assert v.std() == pytest.approx(2, rel=0.05)
    assert abs(np.mean(v * w)) < 0.3


SURE = 1 - 1e-6
"""Of every bound on what is drawn."""


@pytest.mark.parametrize(("dead", "steps"), [("0 ms", 0), ("10 ms", 10)])
def test_poisson_neurons_spike_by_their_laws(recorded, dead, steps):
    """With p = rate·dt in each step that is not dead: intervals are geometric."""
    p, cells, length = 0.02, 200, 10_000
    changes = {"copies": cells, "duration": "10 s", "dt": "1 ms", "record.every": "1 s"}
    done, found = recorded("spontaneous", changes | {"model.parameters.dead_time": dead})
    counts = np.bincount(found["node_ids"].astype(int), minlength=cells)
    live = cells * length - steps * counts.sum()
    low, high = stats.binom.interval(SURE, live, p)
    assert low <= counts.sum() <= high
    order = np.lexsort((found["timestamps"], found["node_ids"]))
    at, who = np.round(found["timestamps"][order]), found["node_ids"][order]
    intervals = np.diff(at)[np.diff(who) == 0]
    assert intervals.min() == steps + 1
    cv = np.sqrt(1 - p) / (1 + steps * p)
    fourth = 2.0 / np.sqrt(len(intervals))  # of an exponential's deviation, whose kurtosis is 9
    assert intervals.std() / intervals.mean() == pytest.approx(cv, abs=5 * fourth)
    spread = stats.chi2.interval(SURE, cells - 1)
    fano = counts.var(ddof=1) / counts.mean()
    # A long count of a renewal process has the Fano factor CV².
    assert spread[0] <= (cells - 1) * fano / cv**2 <= spread[1]
    assert done.sweeps["fano_factor"][0] == pytest.approx(fano)
    assert done.sweeps["rate"][0] == pytest.approx(counts.mean() / 10)
    assert done.cell == done.omitted == {}


def test_an_inhomogeneous_poisson_neuron_follows_its_stimulus(recorded):
    drive = {"kind": "sine", "into": "drive", "amplitude": "20 Hz", "frequency": "2 Hz"}
    changes = {"model.use": "inhomogeneous-poisson", "copies": 1000, "dt": "1 ms"}
    more = {"duration": "500 ms", "record.every": "1 ms", "stimuli": [drive]}
    _, found = recorded("current-clamp", changes | more)
    middle = (np.arange(500) + 0.5) * 1e-3
    chance = 1e-3 * (20 + 20 * np.sin(2 * np.pi * 2 * middle))
    expected = 1000 * chance.reshape(25, 20).sum(1)
    seen, _ = np.histogram(found["timestamps"] - 0.5, np.arange(0, 501, 20))
    fit = ((seen - expected) ** 2 / (expected * (1 - chance.reshape(25, 20).mean(1)))).sum()
    low, high = stats.chi2.interval(SURE, 25)
    assert low <= fit <= high
    shown = found["intensity"][0, 0, :-1]
    np.testing.assert_allclose(shown, 1e3 * chance, rtol=0, atol=0.2)  # seen at steps' beginnings


def test_what_has_no_membrane_is_given_no_resistance(recorded):
    changes = {"dt": "1 ms", "record.every": "1 ms", "model.use": "inhomogeneous-poisson"}
    done, _ = recorded("f-i-curve", changes)
    told = " ".join(in_words(done, [], 80).split())
    assert "resistance, time constant, as intensity is no membrane potential" in told
    assert "rheobase, silent below, as it spikes by chance" in told
    assert "measured" not in told


def test_copies_differ_in_what_they_draw(recorded):
    """Each has its own resistance, the same in every sweep, whatever integrates it."""
    steps = STEP | {"amplitude": ["-20 pA", "-10 pA"], "duration": "400 ms"}
    changes = {"stimuli": [steps], "copies": 60, "record.copies": 60, "dt": "1 ms"}
    changes |= {"duration": "450 ms"}
    apart = {"g": {"mean": "10 nS", "spread": "2 nS"}}
    drawn = PASSIVE | {"parameters": PASSIVE["parameters"] | apart}
    fires = {"threshold": "v > 1", "reset": "v = rest"}
    found = {}
    for kind, model in (("diffrax", drawn), ("Brian2", drawn | fires)):
        done, found[kind] = recorded("current-clamp", own(model) | changes)
        g, end = found[kind]["g"], found[kind]["v"][:, :, 400]
        exact = -70 + np.outer([-20, -10], -np.expm1(-380 * g / 200) / g)
        np.testing.assert_allclose(end, exact, rtol=0, atol=1e-4)
        assert done.cell["input_resistance"] == pytest.approx(np.mean(1e3 / g), rel=1e-3)
        spread = np.std(1e3 / g, ddof=1)
        assert done.cell["input_resistance_spread"] == pytest.approx(spread, rel=1e-3)
        assert done.cell["time_constant"] == pytest.approx(np.mean(200 / g), rel=1e-2)
    np.testing.assert_array_equal(found["diffrax"]["g"], found["Brian2"]["g"])
    assert abs(g.mean() - 10) < 5 * 2 / np.sqrt(60)
    low, high = np.sqrt(stats.chi2.interval(SURE, 59))
    assert low <= np.sqrt(59) * g.std(ddof=1) / 2 <= high
    other = load_cell_protocol("current-clamp", own(drawn) | changes | {"seed": 1}).cell
    assert (other.parameters["g"][:60] * 1e9 != g).all()


# --- scipy ---------------------------------------------------------------------------------------


def hodgkin_huxley(t, state, current, e_na=50.0, e_k=-77.0, e_leak=-54.387, pace=1.0):
    """As textbooks write it, in mV, ms, µA/cm²."""
    v, m, h, n = state
    am, bm = 0.1 * (v + 40) / (1 - np.exp(-(v + 40) / 10)), 4 * np.exp(-(v + 65) / 18)
    ah, bh = 0.07 * np.exp(-(v + 65) / 20), 1 / (1 + np.exp(-(v + 35) / 10))
    an, bn = 0.01 * (v + 55) / (1 - np.exp(-(v + 55) / 10)), 0.125 * np.exp(-(v + 65) / 80)
    ionic = 120 * m**3 * h * (v - e_na) + 36 * n**4 * (v - e_k) + 0.3 * (v - e_leak)
    gates = am * (1 - m) - bm * m, ah * (1 - h) - bh * h, an * (1 - n) - bn * n
    return [current - ionic, *(pace * gate for gate in gates)]


def spikes_of_hodgkin_huxley(until, start, *given):
    """When scipy lets the potential pass 0 mV upwards (ms)."""

    def above(t, state, *given):
        return state[0]

    above.direction = 1
    tight = {"events": above, "rtol": 1e-10, "atol": 1e-10}
    return solve_ivp(hodgkin_huxley, (0, until), start, "DOP853", args=given, **tight).t_events[0]


def test_hodgkin_huxley_spikes_when_scipy_says(recorded, optimized):
    """Within 0.05 ms; 1 nA into 0.01 mm² is 10 µA/cm²."""
    given = {"kind": "step", "amplitude": "1 nA"}
    changes = {"model.use": "hodgkin-huxley", "duration": "120 ms", "stimuli": [given]}
    _, found = recorded("current-clamp", changes)
    start = [-65, 0.05293248525724957, 0.5961207535084603, 0.3176769140606974]
    exact = spikes_of_hodgkin_huxley(120, start, 10.0)
    assert len(exact) == 9
    np.testing.assert_allclose(found["timestamps"], exact, rtol=0, atol=1e-3)


TABLE = {
    "k": (100, 5, 1, -80),
    "na": (15, 150, 1, 62),
    "ca": (2e-4, 2, 2, 123),
    "cl": (13, 150, -1, -65),
}
"""Of the thesis (2.1): mM inside and outside, valence, and mV at 37 °C."""

PERMEABLE = {"k": 1, "na": 0.04, "cl": 0.45}


def nernst(ion, kelvin):
    """The potential (mV) of an ion of the table."""
    inside, outside, valence, _ = TABLE[ion]
    thermal = constants.k * kelvin / constants.e
    return 1e3 * thermal / valence * np.log(outside / inside)


def goldman(kelvin):
    """The potential (mV) at which no current flows, by each ion's flux in a constant field."""

    def current(v):
        total = 0.0
        for ion, permeability in PERMEABLE.items():
            inside, outside, z, _ = TABLE[ion]
            u = z * 1e-3 * v * constants.e / (constants.k * kelvin)
            total += permeability * z * u * (inside - outside * np.exp(-u)) / -np.expm1(-u)
        return total

    return brentq(current, -100, -1, xtol=1e-10)


IONS = {
    "equations": "dv/dt = (g*(rest - v) + current)/c\n"
    "rest = nernst(1, p_k*k_in + p_na*na_in + p_cl*cl_out, p_k*k_out + p_na*na_out + p_cl*cl_in,"
    " warmth)\n" + "\n".join(f"e_{i} = nernst(z_{i}, {i}_in, {i}_out, warmth)" for i in TABLE),
    "parameters": {"g": "10 nS", "c": "200 pF", "warmth": "310.15 K"}
    | {f"{ion}_in": f"{row[0]} mM" for ion, row in TABLE.items()}
    | {f"{ion}_out": f"{row[1]} mM" for ion, row in TABLE.items()}
    | {f"z_{ion}": row[2] for ion, row in TABLE.items()}
    | {f"p_{ion}": share for ion, share in PERMEABLE.items()},
    "start": {"v": "-65 mV"},
}
"""A passive membrane between the ions of the table."""


def test_a_membrane_rests_where_its_ions_put_it(recorded):
    """By constants of scipy's and fluxes; the potentials are those of the table, to its digits."""
    sampled = {"kind": "ornstein-uhlenbeck", "amplitude": "0 pA", "tau": "1 ms"}
    wanted = ["v", *(f"e_{ion}" for ion in TABLE)]
    for stimuli in ([], [sampled]):  # by diffrax, by Brian2
        changes = {"stimuli": stimuli, "duration": "500 ms", "dt": "1 ms"}
        changes |= {"record.variables": wanted}
        _, found = recorded("current-clamp", own(IONS) | changes)
        assert found["v"][0, 0, -1] == pytest.approx(goldman(310.15), abs=1e-6)
        for ion, (*_, printed) in TABLE.items():
            assert found[f"e_{ion}"][0, 0, 0] == pytest.approx(nernst(ion, 310.15), abs=1e-9)
            assert round(nernst(ion, 310.15)) == printed


def test_hodgkin_huxley_between_the_ions_of_a_neuron(recorded, optimized):
    """At 16.3 °C, where gates are three times as fast as measured, as scipy has it."""
    given = {"kind": "step", "amplitude": "2 nA", "start": "5 ms"}
    changes = {"model.use": "hodgkin-huxley-ions", "duration": "60 ms", "stimuli": [given]}
    protocol = load_cell_protocol("current-clamp", changes)
    start = [1e3 * protocol.cell.start["v"], *(protocol.cell.start[gate] for gate in "mhn")]

    def before(kelvin, pace):
        """The ions, and what has become of the start when the step begins."""
        ions = nernst("na", kelvin), nernst("k", kelvin), goldman(kelvin), pace
        tight = {"rtol": 1e-10, "atol": 1e-10}
        whole = solve_ivp(hodgkin_huxley, (0, 5), start, "DOP853", args=(0.0, *ions), **tight)
        return ions, whole.y[:, -1]

    cold = protocol.cell.parameters["temperature"]
    np.testing.assert_allclose(before(cold, 1.0)[1], start, rtol=0, atol=1e-4)  # it rests
    ions, began = before(cold + 10, 3.0)
    _, found = recorded("current-clamp", changes | {"model.parameters.temperature": "289.45 K"})
    exact = 5 + spikes_of_hodgkin_huxley(55, began, 20.0, *ions)
    assert len(exact) == 12
    np.testing.assert_allclose(found["timestamps"], exact, rtol=0, atol=1e-3)


def by_scipy(protocol, until):
    """Spikes of the first sweep of a cell with a reset, between which scipy integrates its text."""
    cell = protocol.cell
    rights = {equation.name: equation.right for equation in cell.cell.equations}
    functions = {"exp": np.exp, "clip": np.clip, "int": float, "sqrt": np.sqrt}
    stimuli = protocol.stimuli()

    def of(t, state):
        known = cell.parameters | dict(zip(cell.states, state, strict=True))
        for name in cell.inputs:
            known[name] = sum(float(s(t, 0, np)) for s in stimuli if s.into == name)

        def value(text):
            for name in text.names - known.keys():
                known[name] = value(rights[name])
            return text(known, functions)

        return value

    def velocity(t, state):
        return [of(t, state)(rights[name]) for name in cell.states]

    def excess(t, state):
        return of(t, state)(cell.cell.firing.threshold.excess)

    excess.terminal, excess.direction = True, 1
    edges = sorted({*(e for s in stimuli for e in s.edges[0] if 0 < e < until), until})
    t, state, spikes = 0.0, [cell.start[name] for name in cell.states], []
    while t < until:
        end = next(edge for edge in edges if edge > t)
        if "since" in cell.states and spikes:  # the pulse that goes back ends
            end = min(end, next((e for e in [spikes[-1] + 2e-3] if e > t + 1e-12), end))
        done = solve_ivp(velocity, (t, end), state, "LSODA", events=excess, rtol=1e-9, atol=1e-14)
        t, state = done.t[-1], done.y[:, -1]
        if done.t_events[0].size:
            spikes.append(t)
            for name, right in cell.cell.firing.reset:
                k = cell.states.index(name)
                state[k] = of(t, state)(right)
    return np.array(spikes)


@pytest.mark.parametrize(
    ("use", "amplitude", "count"),
    [
        ("lif", "400 pA", 9),
        ("adex", "1 nA", 5),
        pytest.param("izhikevich", "300 pA", 5, marks=[pytest.mark.long, pytest.mark.seldom]),
        pytest.param("bursting-pyramidal", "800 pA", 3, marks=pytest.mark.long),
    ],
)
def test_spikes_are_those_of_scipy_as_the_step_shrinks(recorded, use, amplitude, count):
    """Of the first order in dt, since a spike waits for the end of its step."""
    stimulus = {"kind": "step", "amplitude": amplitude, "start": "10 ms"}
    changes = {"model.use": use, "stimuli": [stimulus], "duration": "100 ms"}
    changes |= {"model.parameters.tau_refractory": "0 ms"} if use == "lif" else {}
    exact = by_scipy(load_cell_protocol("current-clamp", PLAIN | changes), 0.1) * 1e3
    assert len(exact) >= count
    late = []
    for dt in ("0.1 ms", "0.025 ms"):
        _, found = recorded("current-clamp", changes | {"dt": dt})
        late.append(np.abs(found["timestamps"][:count] - exact[:count]).max())
    assert late[0] < 0.2 * count
    assert late[1] < 0.45 * late[0] + 0.02


def test_compartments_move_as_scipy_says(recorded):
    """The pyramidal cell, whose dendrites open by themselves."""
    changes = {"model.use": "pyramidal", "duration": "200 ms"}
    given = STEP | {"into": "apical_current", "amplitude": "400 pA", "duration": "100 ms"}
    cell = load_cell_protocol("current-clamp", PLAIN | changes).cell
    rights = {equation.name: equation.right for equation in cell.cell.equations}

    def velocity(t, state, current):
        known = cell.parameters | dict(zip(cell.states, state, strict=True))
        known |= {"current": 0.0, "basal_current": 0.0, "apical_current": current}
        for name in ("open_basal", "open_apical"):
            known[name] = rights[name](known, {"exp": np.exp})
        return [rights[name](known, {}) for name in cell.states]

    _, found = recorded("current-clamp", changes | {"stimuli": [given]})
    t, exact = found["time"] * 1e-3, [np.full((3, 1), -0.07)]
    tight = {"method": "DOP853", "rtol": 1e-10, "atol": 1e-13}
    for begin, end, current in ((0, 0.02, 0), (0.02, 0.12, 4e-10), (0.12, 0.2, 0)):
        at = np.minimum(t[(t > begin + 1e-9) & (t < end + 1e-9)], end)
        more = {"t_eval": at, "args": (current,)}
        exact.append(solve_ivp(velocity, (begin, end), exact[-1][:, -1], **tight, **more).y)
    exact = np.concatenate(exact, axis=1) * 1e3
    seen = np.stack([found[name][0, 0] for name in cell.states])
    np.testing.assert_allclose(seen, exact, rtol=0, atol=1e-4)


# --- what is measured ----------------------------------------------------------------------------


def test_four_panels_show_bursts_where_both_inputs_meet(recorded):
    """One spike, none, a burst, a burst: Larkum's experiment."""
    done, found = recorded("four-panels", {})
    counts = np.bincount(found["node_ids"].astype(int), minlength=4)
    assert counts.tolist() == [1, 0, 3, 3]
    for sweep in (2, 3):
        intervals = np.diff(found["timestamps"][found["node_ids"] == sweep])
        assert (intervals < 16).all()  # ms: what makes a burst
    assert done.sweeps["spikes"] == counts.tolist() and "latency" not in done.sweeps
    words = " ".join(in_words(done, [], 80).split())
    assert "spikes soma alone 1, apical alone 0, both 3, strong apical 3 wall time" in words


def test_the_spread_of_copies_is_said_where_there_is_one():
    cell = {"rheobase": 2.0, "rheobase_spread": 0.25, "rest": -70.0, "rest_spread": 1e-13}
    words = measures.in_words(cell | {"tau": None}, {"rheobase": "nA", "rest": "mV", "tau": "ms"})
    assert list(words) == [("rheobase", "2 ± 0.25 nA"), ("rest", "-70 mV")]


def test_measures_are_those_of_the_spikes():
    t = np.linspace(0, 1, 1001)
    spikes = [np.array([0.05, 0.2, 0.3, 0.5, 0.9]), np.array([0.15]), np.array([])]
    steps = Steps(np.full(3, 0.1), np.full(3, 0.6), np.array([1.0, 2.0, -1.0]))
    no_potential = dict.fromkeys(OF_POTENTIAL, "")
    found = measure(steps, t, None, [[s] for s in spikes], no_potential)
    assert found.sweeps["spikes"].tolist() == [3, 1, 0]
    np.testing.assert_allclose(found.sweeps["rate"], [6, 2, 0])
    np.testing.assert_allclose(found.sweeps["latency"], [0.1, 0.05, np.nan])
    np.testing.assert_allclose(found.sweeps["adaptation"], [1 / 3, np.nan, np.nan])
    np.testing.assert_allclose(found.sweeps["interval_cv"], [1 / 3, np.nan, np.nan])
    assert found.cell == {"rheobase": 1.0, "silent_below": -1.0}
    two = measure(steps, t, None, [[s, np.array([0.5])] for s in spikes], no_potential)
    assert two.sweeps["spikes"].tolist() == [2, 1, 0.5]
    np.testing.assert_allclose(two.sweep_spreads["spikes"], np.sqrt([2, 0, 0.5]))
    np.testing.assert_allclose(two.sweeps["fano_factor"], [1, 0, 1])
    np.testing.assert_allclose(two.sweeps["adaptation"], found.sweeps["adaptation"])
    assert two.cell["rheobase"] == 0.0  # the other copy spikes at all steps


# --- files, commands -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(bundled("neurons")))
def test_every_neuron_is_checked_and_cited(name):
    protocol = load_cell_protocol("current-clamp", {"model.use": name, "stimuli": []})
    assert protocol.spec.model.name == name
    assert protocol.spec.model.source
    kind = "rate" if name.endswith("poisson") else "voltage"
    assert protocol.cell.dimensions[protocol.cell.readout] == kind


def test_a_recording_is_drawn_inspected_and_never_mistaken(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["run", "current-clamp", "--set", "target=numpy", "--set", "copies=2"]
    report = json.loads(said(*words, "--json"))
    trace = Path(report["trace"])
    assert report["cell"]["input_resistance"] == pytest.approx(100, rel=1e-3)
    assert [Path(figure).suffix for figure in report["figures"]] == [".png"]
    assert "exists; give --force" in said(*words, code=2)
    shown = json.loads(said("inspect", trace, "--json"))
    assert shown["measures"]["cell"] == report["cell"]
    assert shown["status"] == "complete"
    assert "input resistance 100 MΩ" in " ".join(said("inspect", trace).split())
    assert "is a recording of a cell" in said("analyze", trace, code=2)
    with ns.open_trace(trace) as tree:
        assert dict(tree["recording/v"].sizes) == {"sweep": 5, "copy": 1, "time": 7001}
        assert tree["recording/v"].attrs["units"] == "mV"
        assert tree["spikes/lif"].attrs["copies"] == 2
    assert "Brian2" in said("check", "current-clamp")
    assert "neurosim.run('quickstart')" in str(error_of(ns.record, "quickstart"))
    assert "neurosim.record('current-clamp')" in str(error_of(ns.run, "current-clamp"))


def said(*arguments, code=0):
    """What a command says, on standard output, or on the other one if it fails."""
    done = call(*arguments)
    assert done.exit_code == code, done.output
    return done.stdout if code == 0 else done.stderr


def error_of(function, *given):
    with pytest.raises(ns.InputError) as caught:
        function(*given)
    return caught.value


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model.use": "adx"}, "did you mean 'adex'"),
        ({"stimuli.0.into": "curent"}, "did you mean 'current'"),
        ({"stimuli.0.amplitude": "10 mV"}, "current unit V"),
        ({"stimuli.0.amplitude": ["1 pA", "2 pA"], "stimuli.0.start": ["1 ms"] * 3}, "3 sweeps"),
        ({"stimuli.0.kind": "sine"}, "stimuli.0.frequency: missing; sine needs it"),
        ({"stimuli.0.tau": "5 ms"}, "it belongs to ornstein-uhlenbeck"),
        ({"stimuli.0.amplitude": {"from": "1 pA", "to": "2 mV", "count": 3}}, "different units"),
        ({"stimuli.0.amplitude": {"from": "1 pA", "to": "2 pA", "count": 1}}, "at least 2"),
        ({"stimuli.0.amplitude": {"low": "1 pA"}}, "a range has the keys"),
        ({"stimuli.0.reversal": "0 mV"}, "that of a conductance"),
        (
            {
                "stimuli.0": {"amplitude": "1 nS", "reversal": "0 mV", "into": "shared"},
                "model.equations": "da/dt = (g*(rest - a) + shared)/c\n"
                "db/dt = (g*(rest - b) + shared)/c",
                "model.parameters": PASSIVE["parameters"],
                "model.inputs": ["shared"],
            },
            "the one potential that shared moves; here that is a, b",
        ),
        ({"stimuli.0.units": [3]}, "there is no copy 3"),
        ({"stimuli.0.start": "2 s"}, "after the end of the protocol"),
        ({"model.parameters.g_leek": "3 nS"}, "did you mean 'g_leak'"),
        ({"model.parameters.g_leak": {"file": "g.npz"}}, "expected mean and spread"),
        ({"model.parameters.g_leak": {"mean": "3 nS", "spread": 0.3}}, 'such as "3 nS"'),
        ({"model.parameters.g_leak": {"mean": "3 nS", "spread": "1 mV"}}, 'such as "3 nS"'),
        ({"model.use": "poisson"}, "the cell has no inputs"),
        ({"model.equations": "", "model.inputs": [], "stimuli": []}, "a line such as dv/dt"),
        ({"model.threshold": "u > v_threshold"}, "unknown name 'u'"),
        ({"model.equations": "dv/dt = (e_leak - u)/tau"}, "unknown name"),
        ({"model.readout": "u"}, "unknown quantity 'u'"),
        ({"record.variables": ["u"]}, "unknown quantity 'u'"),
        ({"record.copies": 2}, "there are 1"),
        ({"record.every": "0.15 ms"}, "not a multiple of dt"),
        ({"sweeps": ["a"]}, "1 names for 5 sweeps"),
        ({"copies": 0}, "at least 1"),
    ],
)
def test_mistakes_are_said_at_load(changes, said):
    assert said in str(error_of(load_cell_protocol, "current-clamp", changes))


def test_a_cell_that_leaves_the_numbers_writes_nothing(tmp_path):
    model = {"equations": "dv/dt = v*v*v", "inputs": [], "start": {"v": 1.0}}
    with pytest.raises(ns.DivergedError, match="left the finite numbers in sweep 0"):
        ns.record(
            "current-clamp", own(model) | {"stimuli": [], "duration": "1 s"}, out=tmp_path / "x.h5"
        )
    assert not list(tmp_path.iterdir())


def test_a_stimulus_is_read_from_a_file(recorded, tmp_path):
    t = np.array([0, 0.1, 0.2, 0.7])
    np.savez(tmp_path / "i.npz", t=t, values=[[0, 1, 1, 0], [0, -1, -1, 0]])
    given = {"kind": "file", "file": str(tmp_path / "i.npz"), "amplitude": ["10 pA", "20 pA"]}
    _, found = recorded("current-clamp", own(PASSIVE) | {"stimuli": [given]})
    exact = np.outer([10, -20], np.interp(found["time"] * 1e-3, t, [0, 1, 1, 0]))  # at whole steps
    np.testing.assert_allclose(found["stimulus0"][:, 0], exact, atol=1e-9)
    np.savez(tmp_path / "i.npz", t=t[:3], values=np.zeros(3))
    message = str(error_of(load_cell_protocol, "current-clamp", {"stimuli": [given]}))
    assert "expected all of the protocol" in message
    assert "stimuli" in message
