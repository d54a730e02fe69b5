"""What spike trains are like, how far two sets are apart, and what sampling alone gives."""

import json

import numpy as np
import pytest
from command_line import call
from made_traces import made
from scipy import stats

import neurosim as ns
from neurosim.comparison import hold, in_words
from neurosim.comparison.trains import BIN, Trains, distance, held_apart, trains

SECONDS = 2.0


def gathered(spikes, neurons, together=None):
    """Trains of lists of spike times, trial after trial."""
    who = np.repeat(np.arange(len(spikes)), [len(s) for s in spikes])
    trials, number = len(spikes) // neurons, np.arange(len(spikes))
    condition = number // neurons if together is None else 0 * number
    dealt = number if together is None else together
    return trains(np.concatenate(spikes), who, np.full(trials, SECONDS), neurons, condition, dealt)


def poisson(random, rates, shared=0.0):
    """Poisson spikes of neurons at rates (Hz), of which some come from a source of all."""
    common = random.uniform(0, SECONDS, random.poisson(shared * SECONDS))
    own = (random.uniform(0, SECONDS, random.poisson((r - shared) * SECONDS)) for r in rates)
    return [np.sort(np.concatenate([spikes, common])) for spikes in own]


def rows(a, b, quiet=False):
    return {row["of"]: row for row in held_apart("cells", a, b, quiet)}


def test_statistics_are_those_of_every_train():
    random = np.random.default_rng(0)
    spikes = [s for _ in range(3) for s in [*poisson(random, [5, 20, 40], 2.0), np.zeros(0)]]
    found = gathered(spikes, 4)
    np.testing.assert_allclose(found.rate, [len(s) / SECONDS for s in spikes])
    for train, cv in zip(spikes, found.interval_cv, strict=True):
        intervals = np.diff(train)
        exact = intervals.std() / intervals.mean() if len(intervals) >= 3 else np.nan
        np.testing.assert_allclose(cv, exact, atol=1e-8)
    bins = np.arange(0, SECONDS + BIN / 2, BIN)
    for trial in range(3):
        counts = [np.histogram(s, bins)[0] for s in spikes[4 * trial : 4 * trial + 3]]
        seen = found.correlations[trial]
        np.testing.assert_allclose(seen[:3, :3], np.corrcoef(counts), atol=1e-8)
        assert np.isnan(seen[3]).all()
    assert len(found.correlation) == 9


@pytest.mark.parametrize("sizes", [(1, 1), (7, 3), (200, 150)])
def test_the_distance_is_scipys(sizes):
    random = np.random.default_rng(1)
    a, b = (random.integers(0, 30, n) + shift for n, shift in zip(sizes, (0.0, 4.0), strict=True))
    assert distance(a, b) == pytest.approx(stats.ks_2samp(a, b).statistic)
    assert distance(a, np.append(b, np.nan)) == distance(a, b)
    assert distance(a, np.array([np.nan])) is None


@pytest.mark.parametrize("together", [False, True])
def test_what_sampling_gives_is_seldom_exceeded(together):
    """Sweeps at other rates, or neurons with a rate of their own: both sides of one law."""
    random = np.random.default_rng(2)
    beyond = {"rate": 0, "interval_cv": 0, "correlation": 0}
    share = dict(beyond)
    repeats, apart, neurons = 30, 0, 12
    for _ in range(repeats):
        sides = []
        for _ in range(2):
            own = random.gamma(4, 5, neurons)
            rates = [own, own] if together else [np.full(neurons, 20), np.full(neurons, 40)]
            spikes = [s for r in rates for s in poisson(random, r)]
            who = np.tile(np.arange(neurons), 2) if together else None
            sides.append(gathered(spikes, neurons, who))
        for name, row in rows(*sides).items():
            beyond[name] += row["distance"] > row["band"]
            share[name] += row["distance"] / row["band"] / repeats
            apart += row["verdict"] == "differ"
    most = stats.binom.ppf(1 - 1e-4, repeats, 0.05)
    assert all(count <= most for count in beyond.values()), beyond
    # Nor is the band wider than it must be: of Kolmogorov's law the mean is 0.64 of that quantile.
    for name, least in (("rate", 0.5), ("interval_cv", 0.5), ("correlation", 0.3)):
        assert least < share[name] < 0.8, share
    assert apart <= stats.binom.ppf(1 - 1e-4, 3 * repeats, 0.005)


def test_what_differs_is_found_by_its_statistic():
    random = np.random.default_rng(3)
    neurons = 60
    plain = gathered(poisson(random, [20.0] * neurons), neurons)
    faster = gathered(poisson(random, [25.0] * neurons), neurons)
    found = rows(plain, faster)
    counts = np.arange(200)
    law = np.abs(stats.poisson.cdf(counts, 40) - stats.poisson.cdf(counts, 50)).max()
    assert found["rate"]["distance"] == pytest.approx(law, abs=2 / np.sqrt(neurons))
    assert found["rate"]["verdict"] == "differ"
    assert found["correlation"]["verdict"] == "agree"

    def regular():
        return np.cumsum(random.gamma(4, 0.05 / 4, 200))

    paced = gathered([s[s < SECONDS] for s in (regular() for _ in range(neurons))], neurons)
    found = rows(plain, paced)
    assert found["interval_cv"]["mean_b"] == pytest.approx(0.5, abs=0.05)  # 1/√order
    assert found["interval_cv"]["verdict"] == "differ"
    shared = gathered(poisson(random, [20.0] * neurons, 8.0), neurons)
    found = rows(plain, shared)
    assert found["correlation"]["mean_b"] == pytest.approx(0.4, abs=0.12)  # the shared part
    assert found["correlation"]["verdict"] == "differ"


def test_distances_of_halves_are_scaled_to_those_of_sides():
    """Halves of 4 neurons have a pair each, no two alike: 1 apart, times √((¼ + ¼)/(½ + ½))."""
    upper = np.triu(np.arange(16.0).reshape(4, 4) / 20, 1)
    one, number = np.ones(4), np.arange(4)
    a, b = (
        Trains(one, one, number, number, (shift + upper + upper.T)[None]) for shift in (0, 0.01)
    )
    row = rows(a, b)["correlation"]
    assert row["band"] == row["allowed"] == pytest.approx(np.sqrt(1 / 2))


def test_where_nothing_is_drawn_any_difference_counts():
    one, other = ([np.arange(0.1, SECONDS, step)] for step in (0.1, 0.11))
    found = rows(gathered(one, 1), gathered(other, 1), quiet=True)
    assert set(found) == {"rate", "interval_cv"}  # there are no pairs
    assert found["rate"]["verdict"] == "differ"
    assert found["interval_cv"]["verdict"] == "agree"
    unsure = rows(gathered(one, 1), gathered(other, 1))["rate"]
    assert (unsure["band"], unsure["verdict"]) == (None, "unknown")


# --- recordings ----------------------------------------------------------------------------------


PASSIVE = {
    "duration": "100 ms",
    "dt": "0.5 ms",
    "model.equations": "dv/dt = (g*(rest - v) + current)/c",
    "model.threshold": "v > 1",
    "model.reset": "v = rest",
    "model.parameters": {"g": "10 nS", "rest": "-70 mV", "c": "200 pF"},
    "model.start": {"v": "-70 mV"},
    "model.name": "passive",
    "stimuli": [{"amplitude": ["10 pA", "20 pA"], "start": "0 ms"}],
}


def recorded(path, name, changes):
    return ns.record(name, {"target": "numpy"} | changes, out=path).path


@pytest.mark.long
@pytest.mark.seldom
def test_potentials_are_held_apart_as_they_are(tmp_path):
    """Two membranes that charge to other potentials: the difference is known."""
    one = recorded(tmp_path / "one.h5", "current-clamp", PASSIVE)
    changes = PASSIVE | {"model.parameters.g": "12 nS", "record.every": "1 ms"}
    other = recorded(tmp_path / "other.h5", "current-clamp", changes)
    report = ns.compare(one, other)
    t = np.arange(101.0)
    gaps = [
        current * (np.expm1(-t * 10 / 200) / 10 - np.expm1(-t * 12 / 200) / 12)
        for current in (10, 20)
    ]
    (row,) = report["potentials"]
    assert row["rmse"] == pytest.approx(np.sqrt(np.mean(np.square(gaps))), rel=1e-5)
    assert row["largest"] == pytest.approx(np.abs(gaps).max(), rel=1e-5)
    assert (row["variable"], row["unit"], row["sweep"]) == ("v", "mV", "1")
    assert report["measures"]["time_constant"]["a"] == pytest.approx(20, rel=1e-3)
    assert report["measures"]["time_constant"]["b"] == pytest.approx(200 / 12, rel=1e-3)
    assert [row["mean_a"] for row in report["spikes"]] == [0]  # rates of silent cells
    assert report["verdict"]["agree"] is False
    assert {r["key"] for r in report["differs"]} == {"model.parameters.g"}
    assert ns.compare(one, one)["verdict"]["agree"] is True


@pytest.mark.long
def test_recordings_of_chance_are_compared_by_their_spikes(tmp_path):
    poisson = {"duration": "2 s", "dt": "1 ms", "copies": 30, "record.every": "10 ms"}
    a, b = (recorded(tmp_path / f"{s}.h5", "spontaneous", poisson | {"seed": s}) for s in (0, 1))
    dead = poisson | {"model.parameters.dead_time": "20 ms", "model.name": "dead", "seed": 2}
    c = recorded(tmp_path / "2.h5", "spontaneous", dead)
    report = ns.compare(a, b)
    assert [row["of"] for row in report["spikes"]] == ["rate", "interval_cv", "correlation"]
    assert report["verdict"]["agree"] is True
    found = hold(a, c)
    assert {row["population"] for row in found.report["spikes"]} == {"poisson / dead"}
    assert found.report["spikes"][1]["verdict"] == "differ"
    words = in_words(found.report)
    assert "they differ by more than is expected of the same cell" in words
    assert "interval CV" in words
    said = call("compare", a, b, "--out", tmp_path / "both.png", "--json")
    assert said.exit_code == 0, said.output
    assert json.loads(said.stdout)["spikes"] == report["spikes"]
    assert (tmp_path / "both.png").stat().st_size > 10_000


def test_a_cell_and_a_network_have_nothing_in_common(tmp_path):
    cell = recorded(tmp_path / "cell.h5", "current-clamp", PASSIVE)
    network = made(tmp_path / "network.h5")
    for pair in ((cell, network), (network, cell)):
        with pytest.raises(ns.InputError, match=r"cell.h5: is a recording of a cell, and .* none"):
            ns.compare(*pair)
