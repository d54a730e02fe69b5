"""What synapses between cells transmit: receptors, gap junctions, short-term plasticity."""

import numpy as np
import pytest
from scipy.integrate import solve_ivp
from wired_recordings import PASSIVE, by_recursion, made_to_spike, recorder


@pytest.fixture
def recorded(tmp_path):
    return recorder(tmp_path)


# --- receptors -----------------------------------------------------------------------------------


def test_conductances_move_potentials_as_scipy_says_and_delays_are_whole_steps(recorded):
    """AMPA, NMDA and GABA, each onto a passive cell of its own, 3.7 ms after two spikes."""
    receptors = ("ampa", "nmda", "gaba")
    found = recorded(
        {
            "duration": "60 ms",
            "cells": {
                "pre": made_to_spike(20, 40),
                **{f"on_{name}": PASSIVE for name in receptors},
            },
            "synapses": {
                name: {
                    "use": name,
                    "pre": "pre",
                    "post": f"on_{name}",
                    "delay": "3.7 ms",
                    "weight": 5,
                }
                for name in receptors
            },
            "record": {
                "variables": [f"on_{name}.v" for name in receptors]
                + [f"{name}.g_post" for name in receptors]
            },
        }
    )
    arrivals = np.array([23.7e-3, 43.7e-3])

    def traces(t, tau):
        since = t - arrivals
        return np.where(since >= -1e-9, np.exp(-since / tau), 0).sum()

    ratio = 2 / 100
    peak = ratio ** (2 / 98) - ratio ** (100 / 98)
    g = {
        "ampa": lambda t: 5e-9 * traces(t, 5e-3),
        "gaba": lambda t: 5e-9 * traces(t, 10e-3),
        "nmda": lambda t: 5 * (traces(t, 100e-3) - traces(t, 2e-3)) / peak,
    }
    reversal = {"ampa": 0.0, "nmda": 0.0, "gaba": -80e-3}
    for name in receptors:
        seen = found[f"{name}.g_post"][0, 0] * (1 if name == "nmda" else 1e-9)
        assert np.flatnonzero(seen)[0] == (237 if name != "nmda" else 238)  # NMDA rises from 0
        exact = [g[name](t) for t in found.time]
        np.testing.assert_allclose(seen, exact, rtol=0, atol=1e-6 * max(exact))

        def velocity(t, v, name=name):
            open_now = 1 / (1 + 1 / 3.57 * np.exp(-v / 16.13e-3)) * 1e-9 if name == "nmda" else 1
            current = g[name](t) * open_now * (reversal[name] - v)
            return (10e-9 * (-70e-3 - v) + current) / 200e-12

        v = [np.array([-70e-3])]
        for begin, end in ((0, 23.7e-3), (23.7e-3, 43.7e-3), (43.7e-3, 60e-3)):
            inside = found.time[(found.time > begin + 1e-9) & (found.time < end - 1e-9)]
            # What jumps at the end belongs to what comes after it.
            at = np.append(inside, end - 1e-12)
            tight = {"t_eval": at, "rtol": 1e-9, "atol": 1e-12, "method": "LSODA"}
            v.append(solve_ivp(velocity, (begin, at[-1]), v[-1][-1:], **tight).y[0])
        exact = np.concatenate(v) * 1e3
        np.testing.assert_allclose(found[f"on_{name}.v"][0, 0], exact, rtol=0, atol=2e-5)


def test_magnesium_blocks_as_jahr_and_stevens_say(recorded):
    """The ratio of currents over driving forces at any two potentials."""
    changes = {"stimuli.0.amplitude": ["-80 mV", "-20 mV", "40 mV"], "duration": "30 ms"}
    found = recorded("nmda-block", changes)
    v = found["held.v"][:, 0, -1]
    opened = found.curve("nmda.current_post") / (0 - v)
    exact = 1 / (1 + np.exp(-v / 16.13) / 3.57)
    np.testing.assert_allclose(opened / opened[-1], exact / exact[-1], rtol=1e-9)
    np.testing.assert_allclose(v, [-80, -20, 40], atol=0.1)


def test_gap_junctions_divide_voltages(recorded):
    """Current into one cell: the other follows by g_gap/(g + g_gap)."""
    found = recorded(
        {
            "duration": "400 ms",
            "cells": {"cell": PASSIVE | {"count": 2}},
            "synapses": {
                "gap": {"use": "gap-junction", "pre": "cell", "post": "cell", "weight": 5}
            },
            "stimuli": [{"into": "cell.current", "amplitude": "50 pA", "units": [0]}],
            "record": {"cells": 2, "every": "100 ms"},
        },
    )
    first, second = found["cell.v"][0, :, -1] + 70
    exact = np.linalg.solve([[15, -5], [-5, 15]], [50, 0])
    np.testing.assert_allclose([first, second], exact, rtol=1e-6)


# --- short-term plasticity -----------------------------------------------------------------------


def test_short_term_plasticity_is_its_recursion_and_comes_to_its_fixed_point(recorded):
    """Facilitating, depressing, and with f = U the model of 1998."""
    constants = {
        "facilitating": (0.02, 0.1, 0.1, 0.1),
        "depressing": (0.9, 0.1, 1.0, 0.02),
        "classical": (0.3, 0.3, 0.05, 0.1),
    }
    found = recorded(
        {
            "duration": "600 ms",
            "dt": "0.5 ms",
            "cells": {
                "pre": {"spikes": {"start": "20 ms", "frequency": ["10 Hz", "50 Hz"]}},
                "post": made_to_spike(1),
            },
            "synapses": {
                name: {
                    "use": "tsodyks-markram",
                    "pre": "pre",
                    "post": "post",
                    "parameters": {"U": U, "f": f, "tau_f": f"{tau_f} s", "tau_d": f"{tau_d} s"},
                }
                for name, (U, f, tau_f, tau_d) in constants.items()
            },
            "record": {"variables": [f"{name}.sent_pre" for name in constants]},
        }
    )
    at, who = found.spikes["pre"]
    for sweep, interval in enumerate((0.1, 0.02)):
        times = at[who == sweep]
        steps = np.rint(times / 0.5e-3).astype(int)
        for name, given in constants.items():
            sent = found[f"{name}.sent_pre"][sweep, 0, steps]
            np.testing.assert_allclose(sent, by_recursion(times, *given), rtol=1e-7)
        U, _, tau_f, tau_d = constants["classical"]
        # Tsodyks, Pawelzik & Markram 1998: u just after the jump, x just before the spike.
        decay_f, decay_d = np.exp(-interval / tau_f), np.exp(-interval / tau_d)
        u = U / (1 - (1 - U) * decay_f)
        x = (1 - decay_d) / (1 - (1 - u) * decay_d)
        if sweep == 1:
            assert sent[-1] == pytest.approx(u * x, rel=1e-3)


def test_a_receptor_opens_by_what_is_released_and_recovers(recorded):
    """Two spikes and one much later: jumps of the conductance, with a delay."""
    found = recorded(
        {
            "duration": "700 ms",
            "dt": "0.5 ms",
            "cells": {"pre": made_to_spike(20, 40, 640), "post": PASSIVE},
            "synapses": {
                "tm": {
                    "use": ["ampa", "tsodyks-markram"],
                    "pre": "pre",
                    "post": "post",
                    "delay": "2.5 ms",
                    "parameters": {"U": 0.5, "f": 0.5},
                }
            },
            "record": {"variables": ["tm.g_post", "tm.x_pre"]},
        }
    )
    g = found["tm.g_post"][0, 0]
    jumps = [g[k] - g[k - 1] * np.exp(-0.1) for k in (45, 85, 1285)]
    exact = by_recursion([0.02, 0.04, 0.64], 0.5, 0.5, 0.1, 0.1)
    np.testing.assert_allclose(jumps, exact, rtol=1e-6)
    recovered = found["tm.x_pre"][0, 0, 1284]  # what is left of depression after 600 ms
    after = by_after([0.02, 0.04], 0.5, 0.5, 0.1, 0.1)
    assert 1 - recovered == pytest.approx((1 - after) * np.exp(-0.5995 / 0.1), rel=1e-5)


def by_after(times, U, f, tau_f, tau_d):
    """The resources just after the last spike."""
    u, x = U, 1.0
    for before, t in zip([None, *times], times, strict=False):
        if before is not None:
            u = U + (u - U) * np.exp(-(t - before) / tau_f)
            x = 1 + (x - 1) * np.exp(-(t - before) / tau_d)
        u, x = u + f * (1 - u), x - u * x
    return x


def test_events_and_bursts_are_told_apart(recorded):
    """A single spike, a burst of three, a pair that is too slow: 16 ms decide."""
    times = (20, 60, 66, 80, 130, 147)
    found = recorded(
        {
            "dt": "0.5 ms",
            "cells": {"pre": made_to_spike(*times), "post": PASSIVE},
            "synapses": {
                name: {"use": ["ampa", f"{name}-selective"], "pre": "pre", "post": "post"}
                for name in ("event", "burst")
            },
            "record": {"variables": ["event.g_post", "burst.g_post"]},
        }
    )
    for name, heard in {"event": [20, 60, 130, 147], "burst": [66]}.items():
        g = found[f"{name}.g_post"][0, 0]
        jumps = np.flatnonzero(np.diff(g) > 0) + 1
        assert (jumps * 0.5).tolist() == heard
    assert found.done.sweeps["pre.burst_probability"] == [0.25]
