"""Rules of synapses against their closed forms."""

from pathlib import Path

import numpy as np
import pytest
from scipy.integrate import quad
from wired_recordings import PASSIVE, by_recursion, made_to_spike, recorder

from neurosim.recordings.populations import in_bins


@pytest.fixture
def recorded(tmp_path):
    return recorder(tmp_path)


def test_the_stdp_window_is_its_closed_form(recorded):
    found = recorded("stdp-window")
    lag = found.curve("cells.after.spikes.shift")
    exact = np.where(lag > 0, 0.005 * np.exp(-lag / 20), -0.00525 * np.exp(lag / 20))
    np.testing.assert_allclose(found.curve("stdp.weight"), exact, rtol=0, atol=1e-12)
    weights = found["stdp.weight"][:, 0]
    np.testing.assert_allclose(weights[:, -1] - weights[:, 0], exact, atol=1e-12)


def by_triplets(pre, post):
    """All pairs and triplets of spikes, one by one (Pfister & Gerstner 2006, equations 3 and 4)."""
    plus, minus, x, y = 16.8e-3, 33.7e-3, 101e-3, 125e-3

    def trace(spikes, t, tau):
        return sum(np.exp(-(t - s) / tau) for s in spikes if s < t - 1e-9)

    change = 0.0
    for t in post:
        change += trace(pre, t, plus) * (5e-10 + 6.2e-3 * trace(post, t, y))
    for t in pre:
        change -= trace(post, t, minus) * (7e-3 + 2.3e-4 * trace(pre, t, x))
    return change


def test_triplets_depend_on_the_frequency_as_their_sums_say(recorded):
    frequencies = ["10 Hz", "25 Hz", "50 Hz"]
    groups = ("before", "soon", "earlier")
    changes = {f"cells.{name}.spikes.frequency": frequencies for name in groups}
    found = recorded("triplet-frequency", changes | {"duration": "300 ms", "dt": "0.5 ms"})
    for post, name in (("soon", "causal"), ("earlier", "acausal")):
        exact = [
            by_triplets(
                *(at[who == sweep] for at, who in (found.spikes[g] for g in ("before", post)))
            )
            for sweep in range(3)
        ]
        np.testing.assert_allclose(found.curve(f"{name}.weight"), exact, rtol=1e-6)


def test_eligibility_moves_weights_by_itself_or_by_a_third_factor(recorded):
    """After one coincidence; the factor reaches one cell of two."""
    found = recorded(
        {
            "duration": "400 ms",
            "dt": "0.25 ms",
            "cells": {
                "pre": made_to_spike(20),
                "post": {
                    "equations": "dfactor/dt = (reward - factor)/tau_factor",
                    "inputs": ["reward"],
                    "parameters": {"tau_factor": "20 ms"},
                    "count": 2,
                    **made_to_spike(32),
                },
            },
            "synapses": {
                "alone": {"use": "hebbian", "pre": "pre", "post": "post"},
                "rewarded": {"use": "three-factor", "pre": "pre", "post": "post"},
            },
            "stimuli": [
                {
                    "into": "post.reward",
                    "amplitude": 3.0,
                    "units": [0],
                    "start": "100 ms",
                    "duration": "50 ms",
                }
            ],
            "record": {
                "synapses": 2,
                "variables": ["alone.eligible", "alone.weight", "rewarded.weight"],
            },
        }
    )
    eligible = 0.1 * np.exp(-12 / 20)
    since = found.time - 32e-3
    exact = np.where(since > -1e-9, eligible * np.exp(-since / 0.5), 0)
    np.testing.assert_allclose(found["alone.eligible"][0, 1], exact, atol=1e-12)
    moved = np.where(since > -1e-9, -eligible * 0.5 * np.expm1(-since / 0.5), 0)
    np.testing.assert_allclose(found["alone.weight"][0, 1] - 1, moved, atol=1e-12)

    def factor(t):
        risen = -3 * np.expm1(-np.clip(t - 0.1, 0, 0.05) / 20e-3)
        return risen * np.exp(-np.clip(t - 0.15, 0, None) / 20e-3)

    both, _ = quad(
        lambda t: eligible * np.exp(-(t - 32e-3) / 0.5) * factor(t), 32e-3, 0.4, points=[0.1, 0.15]
    )
    changed = found["rewarded.weight"][0, :, -1] - 1
    assert changed[0] == pytest.approx(both, rel=5e-3)  # of the first order in dt
    assert changed[1] == 0


def test_homeostasis_scales_all_weights_of_a_cell_alike(recorded):
    changes = {
        "duration": "500 ms",
        "cells.after.spikes.frequency": ["5 Hz", "40 Hz"],
        "synapses.weaker": {"use": "homeostatic-scaling", "pre": "before", "post": "after"},
        "synapses.weaker.weight": 0.2,
        "record.variables": ["scaled.weight", "weaker.weight"],
    }
    found = recorded("homeostatic-scaling", changes)
    at, who = found.spikes["after"]
    for sweep in range(2):
        counted = -np.expm1(-(0.5 - at[who == sweep]) / 0.5).sum()
        begun = -10 * 0.5 * np.expm1(-0.5 / 0.5)  # of the rate that it starts with
        exact = np.exp((0.5 - (counted + begun) / 10) / 10)
        assert found["scaled.weight"][sweep, 0, -1] == pytest.approx(exact, rel=1e-4)
    ratio = found["weaker.weight"] / found["scaled.weight"]
    np.testing.assert_allclose(ratio, 0.2, rtol=1e-12)


def by_threshold(pre, post, theta, tau_y, tau_theta):
    """The change by Bienenstock, Cooper & Munro, from spike to spike; presynaptic ones first."""
    spikes = sorted([(t, 0) for t in pre] + [(t, 1) for t in post])
    y = last = change = 0.0
    for t, postsynaptic in spikes:
        since, a, b = t - last, 2 / tau_y, 1 / tau_theta
        driven = b * y**2 / 10 * (np.exp(-a * since) - np.exp(-b * since)) / (b - a)
        theta = theta * np.exp(-b * since) + driven
        y, last = y * np.exp(-since / tau_y), t
        if postsynaptic:
            y += 1 / tau_y
        else:
            change += 1e-5 * y * (y - theta)
    return change


def test_the_threshold_of_bcm_parts_depression_from_potentiation_and_slides(recorded):
    """Weights spike by spike, of twenty synapses; the threshold where it settles."""
    changes = {
        "duration": "1.2 s",
        "cells.after.spikes.frequency": ["6 Hz", "14 Hz", "26 Hz"],
        "synapses.sliding": {"use": "bcm", "pre": "before", "post": "after"},
        "synapses.sliding.parameters": {"tau_theta": "100 ms", "tau_y": "90 ms"},
        "record.variables": ["sliding.theta_post"],
    }
    found = recorded("bcm-threshold", changes)
    pre, post = found.spikes["before"], found.spikes["after"]
    for name, given in {
        "quiet": (10, 0.2, 100),
        "busy": (20, 0.2, 100),
        "sliding": (10, 0.09, 0.1),
    }.items():
        changed = np.array(found.done.sweeps[f"{name}.weight_change"])
        for sweep in range(3):
            times = (
                np.round(pre[0][pre[1] // 20 == sweep], 9),
                np.round(post[0][post[1] == sweep], 9),
            )
            assert changed[sweep] * 20 == pytest.approx(by_threshold(*times, *given), rel=1e-6)
    assert (np.sign(found.curve("quiet.weight")) == [-1, 1, 1]).all()
    assert (np.sign(found.curve("busy.weight")) == [-1, -1, 1]).all()
    decay = np.exp(-1 / (26 * 0.09))
    highest = 1 / 0.09 / (1 - decay)  # y just after a spike
    mean = 26 * 0.045 * highest**2 * (1 - decay**2)  # of y²
    period = round(1 / 26 / 0.5e-3)
    assert found["sliding.theta_post"][2, 0, -period:].mean() == pytest.approx(mean / 10, rel=0.01)


def by_bursts(pre, post, averages, e_min=0.0, e_max=np.inf):
    """Payeur et al. 2021, spike by spike; the weight where nothing bounds it. Bounds in Hz."""
    weight, (events_so_far, bursts_so_far) = 0.5, averages
    firsts = [t for k, t in enumerate(pre) if k == 0 or t - pre[k - 1] > 16e-3]
    last, began = -1.0, False
    for t in firsts:  # what is missing, as of the events before
        events = sum(
            np.exp(-(t - s) / 5)
            for k, s in enumerate(post)
            if s < t and (k == 0 or s - post[k - 1] > 16e-3)
        )
        rate = (averages[0] * np.exp(-t / 5) + events) / 5
        weight += 3.5e-3 * max(0.0, e_min - rate)
    for t in post:
        decay = np.exp(-(t - max(last, 0)) / 5)
        events_so_far, bursts_so_far = events_so_far * decay, bursts_so_far * decay
        eligible = sum(np.exp(-(t - s) / 0.1) for s in firsts if s < t + 1e-9)
        if last < 0 or t - last > 16e-3:
            above = max(0.0, 1 - 5 * e_max / events_so_far)
            weight -= 3.5e-3 * (bursts_so_far / events_so_far + above) * eligible
            events_so_far, began = events_so_far + 1, True
        elif began:
            weight += 3.5e-3 * eligible
            bursts_so_far, began = bursts_so_far + 1, False
        last = t
    return weight


def test_bursts_potentiate_and_events_depress(recorded):
    """Spike by spike; and where as many events burst as usual, weights stay."""
    pre = (10, 18, 60, 100, 130, 170, 250)
    single, bursting = (40, 110, 180, 260), (40, 48, 56, 110, 118, 180, 190, 260, 268)
    found = recorded(
        {
            "duration": "300 ms",
            "dt": "0.5 ms",
            "cells": {
                "pre": made_to_spike(*pre),
                "single": made_to_spike(*single),
                "bursting": made_to_spike(*bursting),
            },
            "synapses": {
                f"to_{name}": {"use": "burst-dependent", "pre": "pre", "post": name}
                for name in ("single", "bursting")
            },
        }
    )
    for name, post in (("single", single), ("bursting", bursting)):
        exact = by_bursts(np.array(pre) * 1e-3, np.array(post) * 1e-3, (25, 7.5))
        assert found[f"to_{name}.weight"][0, 0, -1] == pytest.approx(exact, abs=1e-9)
    changed = [found.done.sweeps[f"to_{name}.weight_change"][0] for name in ("single", "bursting")]
    assert changed[0] < 0 < changed[1]


@pytest.mark.parametrize(
    "bounds", [(0, 4), (6, 1000), (5.02, 5.04)], ids=["above", "below", "both"]
)
def test_bounds_of_the_rate_of_events_move_weights_back(recorded, bounds):
    """Spike by spike, cells that fire events at 5 Hz on average being too busy, too quiet, or now
    the one and then the other; without bounds they move otherwise."""
    pre, post = (10, 60, 100, 130, 170, 250), (40, 48, 110, 180, 260, 268)
    low, high = bounds
    found = recorded(
        {
            "duration": "300 ms",
            "dt": "0.5 ms",
            "cells": {"pre": made_to_spike(*pre), "post": made_to_spike(*post)},
            "synapses": {
                "rule": {
                    "use": "burst-dependent",
                    "pre": "pre",
                    "post": "post",
                    "parameters": {"e_min": f"{low} Hz", "e_max": f"{high} Hz"},
                }
            },
        }
    )
    times = np.array(pre) * 1e-3, np.array(post) * 1e-3, (25, 7.5)
    exact = by_bursts(*times, low, high)
    assert found["rule.weight"][0, 0, -1] == pytest.approx(exact, abs=1e-9)
    assert abs(exact - by_bursts(*times)) > 1e-5


@pytest.mark.long
@pytest.mark.seldom
def test_weights_follow_the_dendritic_input_and_come_back(recorded):
    """A change of the burst probability by ΔP moves weights by η Ẽ E τ ΔP, as it becomes usual
    with the time constant τ; the way back is as long."""
    begun, ended = 4.0, 14.0
    drive = {
        "into": "after.apical_current",
        "start": f"{begun} s",
        "duration": f"{ended - begun} s",
    }
    settings = {
        "duration": "24 s",
        "synapses.plastic.parameters.tau_average": "2 s",
        "synapses.plastic.start": {"events_post": 12.5, "bursts_post": 3.4},
        "record.variables": ["plastic.weight"],
    }
    for amplitude, sign in (("100 pA", 1), ("-100 pA", -1)):
        stimuli = {f"stimuli.3.{key}": value for key, value in drive.items()}
        stimuli |= {"stimuli.3.amplitude": amplitude, "stimuli.4.amplitude": "0 pA"}
        stimuli |= {"stimuli.4.start": "0 s"}
        found = recorded("burst-plasticity", settings | stimuli)
        weight = found["plastic.weight"][0].mean(0)
        before, during, after = (weight[round(2 * t)] for t in (begun, ended, 24.0))
        assert sign * (during - before) > 0 > sign * (after - during)
        binned = in_bins(*found.spikes["after"], 1, 50, np.array([0, begun, ended]))
        share, events = binned["burst_probability"][0], binned["events"][0]
        changed = 3.5e-3 * (5 * 0.1) * events[1] * 2 * (share[1] - share[0])
        assert during - before == pytest.approx(changed, rel=0.3)


def test_parts_add_up_to_a_synapse_that_transmits_depresses_and_learns(recorded):
    """Jumps of the conductance are what is released times the weight of the moment."""
    found = recorded(
        {
            "duration": "120 ms",
            "dt": "0.5 ms",
            "cells": {"pre": made_to_spike(20, 40, 60), "post": PASSIVE | made_to_spike(25, 58)},
            "synapses": {
                "all_in_one": {
                    "use": ["ampa", "tsodyks-markram", "stdp"],
                    "pre": "pre",
                    "post": "post",
                    "parameters": {"U": 0.5, "f": 0.5, "a_plus": 0.1, "a_minus": 0.05},
                }
            },
            "record": {"variables": ["all_in_one.g_post", "all_in_one.weight"]},
        }
    )
    g, weight = found["all_in_one.g_post"][0, 0], found["all_in_one.weight"][0, 0]
    before = weight[[39, 79, 119]]
    jumps = [g[k] - g[k - 1] * np.exp(-0.1) for k in (40, 80, 120)]
    sent = by_recursion([0.02, 0.04, 0.06], 0.5, 0.5, 0.1, 0.1)
    np.testing.assert_allclose(jumps, before * sent, rtol=1e-5)
    first = 0.5 + 0.1 * np.exp(-5 / 20)
    second = first - 0.05 * np.exp(-15 / 20) + 0.1 * (np.exp(-38 / 20) + np.exp(-18 / 20))
    np.testing.assert_allclose(before, [0.5, first, second], rtol=1e-9)


def test_burst_dependent_weights_drift_as_expected_of_chance_before(recorded):
    """η E[Ẽ] Σ (burst - usual) over the postsynaptic events, of 400 Poisson trains at 10 Hz."""
    post = [
        time
        for k, bursts in enumerate((1, 0, 1, 1, 0, 1, 1, 1, 0, 1, 1, 0))
        for time in (150 + 70 * k, *([158 + 70 * k] if bursts else []))
    ]
    found = recorded(
        {
            "duration": "1 s",
            "dt": "1 ms",
            "cells": {
                "pre": {"spikes": {"kind": "poisson", "frequency": "10 Hz"}, "count": 400},
                "post": made_to_spike(*post),
            },
            "synapses": {"rule": {"use": "burst-dependent", "pre": "pre", "post": "post"}},
            "record": {"variables": []},
        }
    )
    factors, events_so_far, bursts_so_far, last = [], 25.0, 7.5, 0
    for time in post:
        decay = np.exp(-(time - last) / 5000)
        events_so_far, bursts_so_far = events_so_far * decay, bursts_so_far * decay
        second = time - last < 16
        factors.append(1.0 if second else -bursts_so_far / events_so_far)
        events_so_far, bursts_so_far = events_so_far + (not second), bursts_so_far + second
        last = time
    begins = 10 * 0.99**15  # events a second: no spike in the fifteen steps before
    eligible = begins * 0.1 * -np.expm1(-np.array(post) / 100)
    exact = 3.5e-3 * np.dot(factors, eligible)
    scatter = 3.5e-3 * np.sqrt(begins * 0.1 / 2 / 400) * np.abs(factors).sum()
    assert exact > 4 * scatter
    assert found.done.sweeps["rule.weight_change"][0] == pytest.approx(exact, abs=2 * scatter)


@pytest.mark.long
def test_curves_of_eligibility_are_those_of_their_formulas(recorded):
    found = recorded("eligibility-trace")
    lag = found.curve("cells.after.spikes.shift") * 1e-3
    left = -np.expm1(-(0.9 - lag) / 0.5)
    exact = np.where(lag > -1e-9, 0.1 * np.exp(-lag / 20e-3) * 0.5 * left, 0)  # pre comes first
    np.testing.assert_allclose(found.curve("hebbian.weight"), exact, atol=1e-9)
    rewarded = recorded("three-factor").curve("rewarded.weight")
    np.testing.assert_allclose(rewarded[1:] / rewarded[:-1], np.exp(-0.2 / 0.5), rtol=1e-6)


@pytest.mark.long
@pytest.mark.seldom
def test_the_curve_of_short_term_plasticity_is_its_recursion(recorded):
    found = recorded("short-term-plasticity")
    at, who = found.spikes["before"]
    for name, given in {
        "facilitating": (0.02, 0.1, 0.1, 0.1),
        "depressing": (0.9, 0.1, 1.0, 0.02),
    }.items():
        exact = [by_recursion(at[who == sweep], *given)[-1] for sweep in range(10)]
        np.testing.assert_allclose(found.curve(f"{name}.sent_pre"), exact, rtol=1e-6)


@pytest.mark.long
@pytest.mark.seldom
def test_the_burst_rule_follows_the_apical_input(recorded):
    """Depression below the probability that was usual, potentiation above: of two seeds."""
    for seed in range(2):
        amplitude = ["-300 pA", "0 pA", "300 pA"]
        found = recorded("burst-rule", {"seed": seed, "stimuli.3.amplitude": amplitude})
        changed = found.curve("plastic.weight")
        share = found.done.sweeps["after.burst_probability"]
        assert share[0] < share[1] < 0.3 < share[2]
        assert changed[0] < -0.002 and changed[1] < -0.002 and changed[2] > 0.002


@pytest.mark.long
@pytest.mark.seldom
def test_two_signals_go_through_one_population_and_are_read_by_synapses(tmp_path, monkeypatch):
    """The somatic one by events, the apical one by bursts; what was asked of a thousand cells."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "studies"))
    import burst_code

    monkeypatch.setattr(burst_code, "OUT", tmp_path)
    code = burst_code.recorded(0, 20.0, {}, force=True)
    found = burst_code.correlations(code)
    events, bursts = found["events with somatic"], found["bursts with apical"]
    assert events > 0.8
    assert bursts > 0.9
    assert abs(found["events, cross-talk"]) < 0.1
    assert abs(found["bursts, cross-talk"]) < 0.1
    assert found["read events with somatic"] > 0.85 * events
    assert found["read bursts with apical, a bin later"] > 0.85 * bursts
    scores = burst_code.models(code)
    assert 0.5 < scores["static"] < scores["adaptive"] < 1


@pytest.mark.long
@pytest.mark.seldom
def test_compiled_code_does_what_numpy_does(recorded):
    """Where there is no noise, whose numbers come in another order."""
    changes = {"duration": "200 ms", "synapses.quiet.use": ["bcm", "tsodyks-markram"]}
    one, other = (recorded("bcm-threshold", changes | {"target": t}) for t in ("numpy", "cython"))
    for what, values in one.values.items():
        np.testing.assert_allclose(values, other[what], rtol=1e-9)
    np.testing.assert_allclose(one.curve("busy.weight"), other.curve("busy.weight"), rtol=1e-9)
