"""Networks of two-compartment cells that burst: what drives them, and what is heard of them."""

from dataclasses import replace

import numpy as np
import pytest
from chains import dynamics
from small_spikes import arrays
from wired_recordings import by_recursion

import neurosim as ns
from neurosim.building.ingredients import neurons as neurons_of
from neurosim.errors import InputError
from neurosim.functions.activations import Linear
from neurosim.functions.losses import Loss
from neurosim.levels.spiking import pyramid_cells
from neurosim.levels.spiking.interneurons import RATIO, Dividing
from neurosim.levels.spiking.machine import Machine
from neurosim.levels.spiking.pyramid_curves import Fluctuations
from neurosim.levels.spiking.pyramids import (
    COLUMNS,
    DEPRESSING,
    FACILITATING,
    KEPT,
    PATHWAYS,
    Calibration,
    Line,
    Measured,
    Working,
)
from neurosim.networks.network import Network
from neurosim.recordings.populations import in_bins

DT = 1e-3
PYRAMIDAL = {
    "model.spiking.soma": "bursting-pyramidal",
    "model.spiking.base_rate": "7 Hz",
    "model.spiking.gain": "2 Hz",
    "model.spiking.max_rate": "12 Hz",
    "model.spiking.base_probability": 0.4,
    "model.spiking.probability_gain": 0.12,
}


pytestmark = pytest.mark.usefixtures("double_throughout", "own_cache")


@pytest.fixture
def few(monkeypatch):
    """Curves of a few cells, which are not measured for long."""
    times = {"SETTLING": 0.1, "WINDOW": 0.1, "DURATION": 0.5}
    for name, value in {"CELLS": 8, "CYCLES": 20, **times}.items():
        monkeypatch.setattr(pyramid_cells, name, value)


def cells(**changes):
    """Such neurons, as the protocol of event/burst neurons would have them."""
    protocol = ns.load_protocol("spiking-multiplexing", PYRAMIDAL)
    return replace(neurons_of(protocol.spec), dt=DT, **changes)


@pytest.mark.parametrize("pathway", PATHWAYS, ids=[p.mark for p in PATHWAYS])
def test_what_synapses_pass_is_the_recursion_of_tsodyks_and_markram(pathway):
    """From spike to spike, as the text of `tsodyks-markram` does step by step (see there)."""
    times = np.cumsum([0.1, 0.008, 0.07, 0.012, 0.009, 0.2, 0.05])
    names = {"exp": np.exp, **dict(zip(pathway.kept, (pathway.U, 1.0), strict=True))}
    passed = []
    for gap in (1e9, *np.diff(times)):
        names["gap"] = gap
        exec("\n".join((*pathway.passed(), *pathway.left)), {}, names)
        passed.append(names[f"passed_{pathway.mark}"])
    exact = by_recursion(times, pathway.U, pathway.f, pathway.tau_f, pathway.tau_d)
    np.testing.assert_allclose(passed, exact, rtol=1e-12)


def test_single_spikes_are_heard_by_one_pathway_and_second_spikes_by_the_other():
    """Of a spike after long rest the depressing one passes U, the facilitating one nothing."""
    for pathway, first, second in ((DEPRESSING, 0.99, 0.01), (FACILITATING, 0.0, np.exp(-0.8))):
        sent = by_recursion([0.0, 8e-3], pathway.U, pathway.f, pathway.tau_f, pathway.tau_d)
        assert sent[0] == pytest.approx(first)
        rest = 0.99 * 0.99 * (1 - np.exp(-8 / 50)) if pathway is DEPRESSING else 0.0
        assert sent[1] == pytest.approx(second * (pathway is FACILITATING) + rest, abs=0.01)


# ------------------------------------------------------------------------ driven and heard


def told(neurons):
    """Cells of a hand-made working point: 450 pA at 7 Hz and 120 pA more a hertz; all at rest."""
    assert neurons.cell is not None
    states = {f"of_{name}": np.array([value]) for name, value in neurons.cell.start.items()}
    memory = {name: np.zeros(1) for name in (*KEPT, "stimulus_0", "stimulus_1")}
    memory |= {DEPRESSING.kept[0]: np.array([0.99]), "last_spike": np.array([-1000])}
    memory |= {pathway.kept[1]: np.ones(1) for pathway in PATHWAYS}
    rates, shares = np.linspace(0, 12, 13), np.linspace(0, 1, 11)
    return replace(
        neurons,
        working=Working(
            (450e-12, 0.0),
            np.tile((rates - 7)[:, None] * 120e-12 + 450e-12, COLUMNS),
            1.0,
            np.tile((shares - 0.4)[:, None] * 600e-12, COLUMNS),
            0.1,
            Line(0.0, 1.2),
            Line(0.0, 1.3),
            states | memory,
        ),
    )


def test_what_units_hear_and_count_is_what_their_spikes_say():
    """Against the recorded spikes: counts of events and bursts, and both kinds of synapses summed
    over an ensemble and smoothed, to rounding."""
    network = Network((1, 1, 1), (Linear(),) * 2, "inverse", Loss("half-squared", "linear"))
    circuit = dynamics("multiplexing", network.sizes, tau_basal=0.02, tau_apical=0.02)
    neurons = told(cells(count=12))
    copies, steps = 2, 400
    machine = Machine(
        circuit, network, dict.fromkeys(circuit.circuit.population, neurons), DT, copies,
        target="numpy",
    )  # fmt: skip
    weights = {"W": (np.eye(1), np.eye(1)), "Q": (np.eye(1),)}
    traces, tallies = [], []
    group = circuit.circuit.groups[0]

    def program():
        machine.reseed(3)
        machine.rest(np.random.default_rng(0))
        machine.write_weights(weights)
        machine.drive(weights, np.array([[2.0], [4.0]]))
        machine.teach(np.array([[3.0], [3.0]]))
        for _ in range(steps):
            traces.append([machine.array(group, f"{k}_trace") for k in ("event", "burst")])
            yield 1
        tallies.append(machine.tally())

    with machine.recording(copies) as recorded:
        machine.run(program(), steps)
    times, nodes = recorded[circuit.circuit.place(group)]
    at = np.round(times / DT) * DT
    binned = in_bins(at, nodes, copies, 12, np.array([-DT / 2, 1.0]))
    events = binned["events"][:, 0] * 12 * (1 + DT / 2)
    assert events.min() > 20
    np.testing.assert_allclose(tallies[0][group, "event_count"][:, 0], events)
    bursts = binned["burst_probability"][:, 0] * events
    assert bursts.min() > 3
    np.testing.assert_allclose(tallies[0][group, "burst_count"][:, 0], bursts)

    for number, pathway in enumerate(PATHWAYS):
        passed = np.zeros((copies, steps + 1))
        for node in range(copies * 12):
            own = at[nodes == node]
            sent = by_recursion(own, pathway.U, pathway.f, pathway.tau_f, pathway.tau_d)
            passed[node // 12, np.round(own / DT).astype(int) + 1] += sent
        heard = np.array(traces)[:, number, :, 0].T
        smooth = heard[:, :1]
        for k in range(steps - 1):
            pulse = passed[:, k : k + 1] * neurons.per_spike  # of the step before
            smooth = np.hstack([smooth, smooth[:, -1:] + DT / 0.02 * (pulse - smooth[:, -1:])])
        np.testing.assert_allclose(heard, smooth, rtol=1e-9, atol=1e-12)


def test_interneurons_divide_by_the_events_that_they_hear():
    """Without noise their rate over their currents is in closed form: the line into them goes
    through two of its points, and the events told of them are right in the mean between these. What
    divides is their spikes, smoothed, to rounding."""
    neurons = told(cells(count=40, interneurons=30, membrane_noise=0.0))
    inhibitory = neurons.inhibitory
    rates = inhibitory.table_step * np.arange(round(inhibitory.max_rate / inhibitory.table_step))
    currents = [inhibitory.noiseless_current(max(rate, 1e-3)) for rate in rates]
    dividing = Dividing.of(replace(inhibitory, current=np.array(currents)))
    for rate in (3.0, 11.0):
        exact = inhibitory.noiseless_current(RATIO * rate)
        assert dividing.line(rate) == pytest.approx(exact, rel=1e-3)
    between = np.linspace(3.0, 11.0, 41)[1:-1]
    free = -inhibitory.tau_membrane * np.log1p(-1 / dividing.line(between))
    fired = 1 / (free + inhibitory.refractory) / inhibitory.gain
    assert np.mean(2 * dividing.heard(fired) - between) == pytest.approx(0, abs=0.1)
    neurons = replace(neurons, dividing=dividing)
    network = Network((1, 1, 1), (Linear(),) * 2, "inverse", Loss("half-squared", "linear"))
    circuit = dynamics("multiplexing", network.sizes, tau_basal=0.02, tau_apical=0.02)
    populations = dict.fromkeys(circuit.circuit.population, neurons)
    machine = Machine(circuit, network, populations, DT, 2, target="numpy")
    group, seen = circuit.circuit.groups[0], []

    def program():
        machine.reseed(3)
        machine.rest(np.random.default_rng(0))
        weights = {"W": (np.eye(1), np.eye(1)), "Q": (np.eye(1),)}
        machine.write_weights(weights)
        machine.drive(weights, np.array([[0.0], [1.0]]))
        machine.teach(None)
        for _ in range(300):
            seen.append([machine.array(group, n) for n in ("inhibitory_spikes", "inhibition")])
            yield 1

    machine.run(program(), 300)
    spikes, inhibition = np.moveaxis(np.array(seen)[..., 0], 1, 0)
    assert (spikes.sum(0) > 100).all()
    moved = DT / neurons.tau_burst * (spikes * inhibitory.per_spike - inhibition)
    np.testing.assert_allclose(np.diff(inhibition, axis=0), moved[:-1], rtol=1e-9, atol=1e-12)


def test_interneurons_divide_what_bursting_cells_say_alone():
    expected = r"interneurons: divide what is heard of the bursts of 'bursting-pyramidal' cells"
    with pytest.raises(InputError, match=expected):
        ns.load_protocol("spiking-multiplexing", {"model.spiking.interneurons": 5})


def curves():
    """Measured as if by closed forms that do not mix, of rates in Hz, probabilities and lines."""
    somatic, apical = np.meshgrid(
        pyramid_cells.SOMATIC * 1e12, pyramid_cells.APICAL * 1e12, indexing="ij"
    )
    events = (1 + 0.015 * somatic) ** 2 / 6 + 0 * apical
    share = (0.1 + 0.7 * (apical + 400) / 900) ** 2
    return Measured(events, share * events, events / 1.2, share / 1.5 * events)


@pytest.mark.parametrize("currents", ["joint", "separate"])
def test_units_drive_and_hear_cells_by_curves_read_backwards(few, currents):
    """To half a step between the currents that are tried, 2.5 pA."""
    found = pyramid_cells.working(cells(count=12, currents=currents), curves())
    assert found.drive.shape[1] == found.apical_drive.shape[1] == COLUMNS
    rates = np.arange(1, 12, 0.5)
    entries = np.round(rates / found.rate_step).astype(int)
    exact = (np.sqrt(6 * entries * found.rate_step) - 1) / 0.015
    for driven in found.drive[entries, 4:37].T:  # of all probabilities that the cells can have
        np.testing.assert_allclose(driven * 1e12, exact, atol=3)
    shares = np.arange(0.05, 0.6, 0.05)
    entries = np.round(shares / found.share_step).astype(int)
    exact = (np.sqrt(entries * found.share_step) - 0.1) * 900 / 0.7 - 400
    for driven in found.apical_drive[entries, 4:].T:
        np.testing.assert_allclose(driven * 1e12, exact, atol=3)
    assert (found.events.offset, found.events.slope) == pytest.approx((0, 1.2), abs=1e-6)
    assert (found.share.offset, found.share.slope) == pytest.approx((0, 1.5), abs=1e-6)
    assert found.share.inverse(found.share(0.3)) == pytest.approx(0.3)


def test_currents_of_both_compartments_take_account_of_each_other(few):
    """Cells whose events a dendritic current takes away are driven the more, jointly, and as at
    the base, separately."""
    measured = curves()
    lost = 1 - 0.5 * (pyramid_cells.APICAL * 1e12 + 400) / 900
    measured = Measured(*(rates * lost for rates in measured))
    joint, separate = (
        pyramid_cells.working(cells(count=12, currents=how), measured)
        for how in ("joint", "separate")
    )
    rate = round(7 / joint.rate_step)
    share = np.array([0.2, 0.4, 0.6])
    columns = np.round(share * (COLUMNS - 1)).astype(int)
    share = columns / (COLUMNS - 1)
    apical = (np.sqrt(share) - 0.1) * 900 / 0.7 - 400
    asked = 7 / (1 - 0.5 * (apical + 400) / 900)
    exact = (np.sqrt(6 * asked) - 1) / 0.015
    np.testing.assert_allclose(joint.drive[rate, columns] * 1e12, exact, atol=6)
    at_base = (np.sqrt(6 * 7 / (1 - 0.5 * (np.sqrt(0.4) - 0.1) / 0.7)) - 1) / 0.015
    np.testing.assert_allclose(separate.drive[rate, columns] * 1e12, at_base, atol=6)


def test_what_is_counted_and_heard_scatters_as_the_counts_of_cells_do():
    """Poisson's events, bursts by chance: r/(N γ²) and p (1 − p)/(N r γ_p²). Synapses that pass
    every event and every burst alike say no other. To what lies between two points of the grid."""
    measured = curves()
    events, bursts = measured.events, measured.bursts
    covariance = np.array([[events, bursts], [bursts, bursts]])
    passed = np.array([[1, 0], [0, 1], [1 / 1.2, 0], [0, 1 / 1.5]])
    of_counts = np.einsum("ia,abxy,jb->xyij", passed, covariance, passed)
    neurons = cells(count=12)
    law = Fluctuations(neurons, Calibration(measured, of_counts))
    rate, share = np.array([3.0, 7.0, 11.0]), np.array([0.2, 0.3, 0.5])
    asked = (rate - 7) / neurons.gain, (share - 0.4) / neurons.probability_gain
    exact = rate / neurons.gain**2, share * (1 - share) / rate / neurons.probability_gain**2
    for carrier, expected in enumerate(exact):
        for found in law.intensities(carrier, *asked):
            np.testing.assert_allclose(12 * found, expected, rtol=0.03)
    # What passes of events is the same whatever bursts there are, and so tells of these nothing.
    heard = neurons.base_rate + neurons.gain * law.heard_of_events(*asked)
    np.testing.assert_allclose(heard, rate, rtol=0.03)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"base_rate": 60.0, "max_rate": 70.0}, r"model.spiking.base_rate: 60 Hz; bursting-pyr"),
        ({"max_rate": 70.0}, r"max_rate: 70 Hz; .* fire events at 0.17 to 43 Hz where 0.4 of them"),
        ({"base_probability": 0.9}, r"base_probability: 0.9; of the events .* 0.01 to 0.64 are"),
    ],
)
def test_what_cells_cannot_do_is_refused(few, changes, expected):
    with pytest.raises(InputError, match=expected):
        pyramid_cells.working(cells(count=12, **changes), curves())


def test_cells_of_two_signals_are_refused_where_spikes_carry_one():
    with pytest.raises(InputError, match="soma: 'bursting-pyramidal' speaks of two quantities"):
        ns.load_protocol("spiking-student-teacher", {"model.spiking.soma": "bursting-pyramidal"})


# -------------------------------------------------------------------------------------- in runs

TINY = {
    "model.layers": [2, 2, 2],
    "model.spiking.neurons": 5,
    "stages.0.presentations": 3,
    "stages.0.phases.0.duration": "60 ms",
    "stages.0.phases.1.duration": "60 ms",
    "spiking.window": "40 ms",
    "spiking.target": "numpy",
    "record.presentations": [0, 2],
    "record.every": "30 ms",
}


@pytest.mark.seldom
@pytest.mark.long
def test_a_run_is_the_same_however_it_is_looked_at(few, tmp_path):
    """Every presentation begins with cells in their cycle, whatever was before: one that is
    recorded, or comes after a resumption, is what it would be. The curves are in the trace, and
    with them what `compare` expects of spikes."""
    paths = [tmp_path / f"{k}.h5" for k in range(2)]
    for path, changes in zip(paths, ({}, {"record.presentations": 0}), strict=True):
        ns.run(ns.load_protocol("bursting-xor", TINY | changes), out=path, progress=False)
    seen, unseen = map(arrays, paths)
    losses = seen["metrics/loss"]
    assert np.isfinite(losses).all() and np.ptp(losses) > 0
    np.testing.assert_array_equal(losses, unseen["metrics/loss"])
    for name in ("W1", "W2", "Q1"):
        changed = seen[f"weights/{name}"]
        np.testing.assert_array_equal(changed, unseen[f"weights/{name}"])
        assert np.abs(changed[1] - changed[0]).max() > 0
    counted = len(seen["spikes/layer1/timestamps"])
    rate = counted / (2 * 0.12 * 4 * 2 * 5)  # presentations, seconds, samples, units, cells
    assert 3 < rate < 30  # 7 Hz of events, of which 0.4 are bursts of two to four
    found = ns.compare(paths[0], paths[0])
    # Of potentials there is no law in a phase around whose end the loop is unstable.
    carried = [r for r in found["agreement"] if r["variable"] in ("event_rate", "burst_signal")]
    assert carried and all(row["expected"] > 0 for row in carried)
    assert seen["calibration/rate"].shape == (11, 10, 4)
    assert seen["calibration/covariance"].shape == (11, 10, 4, 4)
    assert ns.figures.calibration(paths[0]).stat().st_size > 10_000


@pytest.mark.long
@pytest.mark.seldom
def test_feedback_of_bursting_cells_learns_to_be_the_transpose(few, tmp_path):
    """By what their spikes say: synapses of both directions read the same events and bursts, so
    that what sets them apart only shrinks, by 1 − ηλ in a presentation (Kolen & Pollack)."""
    path, rate, decay = tmp_path / "learned.h5", 0.5, 0.1
    learned = {
        "model.use": "burstprop-learned",
        "model.projections.W.rate": rate,
        "model.projections.Y.rate": rate,
        **{f"model.projections.{name}.decay": decay for name in "WY"},
        "model.parameters.tau_basal": "50 ms",
        "model.parameters.tau_apical": "50 ms",
        "stages.0.phases.1.plastic": ["W", "Y"],
    }
    ns.run(ns.load_protocol("burstprop-xor", TINY | learned | PYRAMIDAL), out=path, progress=False)
    found = arrays(path)
    weights, feedback = (found[f"weights/{name}"] for name in ("W2", "Y1"))
    apart = feedback - np.swapaxes(weights, -1, -2)
    shrunk = (1 - rate * decay) ** TINY["stages.0.presentations"]
    np.testing.assert_allclose(apart[1], shrunk * apart[0], rtol=1e-9)
    assert np.abs(weights[1] - shrunk * weights[0]).max() > 1e-4  # it learned besides


@pytest.mark.long
@pytest.mark.seldom
def test_cells_fire_and_burst_as_their_units_ask():
    """Rates to 0.35 Hz and probabilities to 0.04 over the range of both, as far as either curve can
    be read: 150 cells at every point of the grid for 3 s, and currents 2.5 pA apart. Ensembles of
    thirty scatter about their means as the calibration says of N T: 1200 leave a deviation
    uncertain by 2 %, and either curve by as much; five of those."""
    neurons = cells(count=300, max_rate=12.0)
    assert neurons.cell is not None
    calibration = pyramid_cells.measure(neurons)
    found = pyramid_cells.working(neurons, calibration.rates)
    rates, shares = (each.ravel() for each in np.meshgrid([4, 6, 8, 10], [0.25, 0.4, 0.55]))
    at_rate = np.round(rates / found.rate_step).astype(int)
    at_share = np.round(shares / found.share_step).astype(int)
    columns = np.round(shares * (COLUMNS - 1)).astype(int)
    rows = np.round(rates / 12 * (COLUMNS - 1)).astype(int)
    driven = found.drive[at_rate, columns], found.apical_drive[at_share, rows]
    counted, _ = pyramid_cells._counted(neurons, *driven, 300, 3.0)
    events, bursts, *passed = counted.sum((2, 3))
    np.testing.assert_allclose(events / 900, rates, atol=0.35)
    np.testing.assert_allclose(bursts / events, shares, atol=0.04)
    heard = found.events(passed[0] / 900)
    assert np.corrcoef(heard, rates)[0, 1] > 0.95
    assert np.corrcoef(passed[1] / passed[0], shares)[0, 1] > 0.8

    law = Fluctuations(replace(neurons, count=30), calibration)
    asked = (rates - neurons.base_rate) / neurons.gain, (shares - 0.4) / neurons.probability_gain
    events, bursts, *_ = counted.reshape(4, 12, 10, 30, 10).sum(3)
    said = events / (30 * pyramid_cells.WINDOW * neurons.gain)
    told = bursts / events / neurons.probability_gain
    for carrier, values in enumerate((said, told)):
        expected = law.intensities(carrier, *asked).counted / pyramid_cells.WINDOW
        variance = values.reshape(12, -1).var(1, ddof=1)
        assert np.sqrt(variance.mean() / expected.mean()) == pytest.approx(1, abs=0.15)
