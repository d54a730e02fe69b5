"""Traces as tables, NWB and Neo: the numbers that go out are those of the trace."""

import json
import re
import sys
import tomllib
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from command_line import call
from made_traces import (
    DURATION,
    NEURONS,
    PRESENTATIONS,
    SPIKES,
    SPIKING_EVERY,
    SPIKING_SAMPLES,
    UNITS,
    made,
    made_spiking,
)

import neurosim as ns


@pytest.fixture(scope="module")
def spiking(tmp_path_factory):
    return made_spiking(tmp_path_factory.mktemp("spiking") / "spiking.h5")


@pytest.fixture(scope="module")
def cell(tmp_path_factory):
    """A recording of two copies of a cell in three sweeps."""
    changes = {
        "duration": "60 ms",
        "stimuli.0.start": "5 ms",
        "stimuli.0.duration": "50 ms",
        "stimuli.0.amplitude": ["0 pA", "500 pA", "900 pA"],
        "copies": 2,
        "record.copies": 2,
        "record.every": "1 ms",
        "target": "numpy",
    }
    path = tmp_path_factory.mktemp("cell") / "cell.h5"
    return ns.record("current-clamp", changes, out=path)


@pytest.fixture
def ensemble(tmp_path):
    return made(tmp_path / "ensemble.h5", seeds=(3, 5))


# --- tables --------------------------------------------------------------------------------------


def test_tables_hold_every_number_at_its_coordinates(ensemble):
    table = ns.to_tables(ensemble)["traces/layer1"]
    dims = ["presentation", "seed", "sample", "time", "unit"]
    with h5py.File(ensemble) as file:
        values, times = file["traces/layer1/soma"][()], file["traces/time"][()]
    assert list(table.columns[:6]) == [*dims, "phase_at"]  # which has no dimensions of its own
    rows = table.set_index(dims)["soma"]
    assert len(rows) == values.size
    assert rows.loc[4, 5, 1, times[7], 6] == values[1, 1, 1, 7, 6]
    assert np.array_equal(rows.to_numpy(), values.ravel(), equal_nan=True)


def test_phases_stand_by_name_at_every_moment(spiking):
    table = ns.to_tables(spiking)["traces/layer1"]
    assert (table.phase_at == np.where(table.time <= 50, "free", "learning")).all()
    assert table[table["index"] == 45].presentation.unique().tolist() == [4]


def test_tables_are_named_by_group_and_dimensions(ensemble):
    tables = ns.to_tables(ensemble)
    assert set(tables) == {
        "metrics/effort", "metrics/loss", "evaluation", "phases", "signals",
        "traces/stopped", "traces/phase_at", "traces/layer1", "traces/layer2", "columns",
    }  # fmt: skip
    columns = tables["columns"].set_index(["table", "column"])
    assert columns.loc[("traces/layer1", "time"), "unit"] == "ms"
    assert columns.loc[("signals", "angle"), "unit"] == "degree"


def test_spikes_stand_with_their_trial_and_neuron(spiking):
    found = ns.to_tables(spiking)["spikes/layer1"]
    expected = {(*key, t) for key, times in SPIKES.items() for t in times}
    assert {tuple(row) for row in found.itertuples(index=False)} == expected
    assert list(found.columns) == ["presentation", "sample", "unit", "neuron", "time"]


def test_recordings_of_cells_become_tables(cell):
    tables = ns.to_tables(cell.path)
    rates = tables["measures/sweep"].set_index("sweep")["rate"]
    assert rates.tolist() == cell.sweeps["rate"]
    counts = tables["spikes/lif"].groupby("sweep").size()
    assert counts["2"] == 2 * cell.sweeps["spikes"][2] > 0
    assert tables["recording"].columns[:3].tolist() == ["sweep", "copy", "time"]


@pytest.mark.parametrize("to", ["csv", "parquet"])
def test_files_of_tables_are_read_back_exactly(spiking, tmp_path, to):
    folder = ns.export(spiking, to, tmp_path / "tables")
    exactly = partial(pd.read_csv, dtype=str, keep_default_na=False)
    read = {"csv": exactly, "parquet": pd.read_parquet}[to]
    for name, table in ns.to_tables(spiking).items():
        again = read(folder / f"{name.replace('/', '-')}.{to}")
        pd.testing.assert_frame_equal(again.astype(table.dtypes), table, check_exact=True)
    said = json.loads((folder / "provenance.json").read_text())
    assert said["protocol"]["name"] == "made" and said["attributes"]["seeds"] == "7"


# --- Neo -----------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:The 'copy' argument in Quantity")  # which Elephant gives
def test_elephant_finds_the_rates_and_intervals_that_spikes_have(spiking):
    statistics = pytest.importorskip("elephant.statistics")
    block = ns.to_neo(spiking)
    assert [s.name for s in block.segments] == [
        f"presentation {p}, sample {s}" for p in PRESENTATIONS for s in SPIKING_SAMPLES
    ]
    trains = {
        (s.annotations["presentation"], s.annotations["sample"], t.annotations["unit"],
         t.annotations["neuron"]): t
        for s in block.segments
        for t in s.spiketrains
    }  # fmt: skip
    assert len(trains) == len(PRESENTATIONS) * len(SPIKING_SAMPLES) * len(UNITS) * NEURONS
    for key, train in trains.items():
        assert train.rescale("ms").magnitude.tolist() == SPIKES.get(key, [])
    uneven, even = trains[0, 1, 2, 0], trains[4, 1, 2, 0]
    assert float(statistics.mean_firing_rate(uneven).rescale("Hz")) == pytest.approx(50)
    # Intervals 10 and 20, as often one as the other: 5 off their mean of 15.
    assert statistics.cv(statistics.isi(uneven)) == pytest.approx(1 / 3)
    assert statistics.cv(statistics.isi(even)) == pytest.approx(0, abs=1e-12)


def test_signals_and_phases_of_neo_are_those_of_the_trace(spiking):
    block = ns.to_neo(spiking)
    segment = block.segments[3]
    (signal,) = segment.analogsignals
    with h5py.File(spiking) as file:
        assert np.array_equal(signal.magnitude, file["traces/layer1/soma"][1, 1])
    assert signal.name == "layer1/soma" and signal.units.dimensionality.string == "dimensionless"
    assert signal.array_annotations["unit"].tolist() == UNITS
    assert signal.times.rescale("ms").magnitude == pytest.approx(np.arange(21) * SPIKING_EVERY)
    (phases,) = segment.epochs
    assert phases.labels.tolist() == ["free", "learning"]
    assert phases.times.rescale("ms").magnitude.tolist() == [0, 50]
    assert phases.durations.rescale("ms").magnitude.tolist() == [50, 50]
    assert segment.annotations["index"] == 45
    assert "[spiking]" in block.annotations["protocol"]


def test_cells_have_their_units_in_neo(cell, tmp_path):
    neo = pytest.importorskip("neo")
    path = ns.export(cell.path, "neo", tmp_path / "cell.nix")
    with neo.NixIO(str(path), "ro") as file:
        (block,) = file.read_all_blocks()
    assert [s.name for s in block.segments] == ["sweep 0", "sweep 1", "sweep 2"]
    signals = {s.name: s for s in block.segments[2].analogsignals}
    with h5py.File(cell.path) as trace:
        assert np.array_equal(signals["v"].magnitude, trace["recording/v"][2].T)
    assert signals["v"].units.dimensionality.string == "mV"
    assert signals["stimulus0"].units.dimensionality.string == "pA"
    assert signals["stimulus0"].rescale("nA").magnitude.max() == pytest.approx(0.9)
    counts = [len(train) for train in block.segments[2].spiketrains]
    assert counts == [cell.sweeps["spikes"][2]] * 2


# --- NWB -----------------------------------------------------------------------------------------


@pytest.fixture
def session(tmp_path, monkeypatch):
    """Opens what is exported to NWB, after the inspector has found nothing wrong in it."""
    pynwb = pytest.importorskip("pynwb")
    opened = []

    def of(trace):
        path = ns.export(trace, "nwb", tmp_path / "session.nwb")
        inspector = pytest.importorskip("nwbinspector")
        wrong = [
            found
            for found in inspector.inspect_nwbfile(nwbfile_path=path)
            if found.importance is not inspector.Importance.BEST_PRACTICE_SUGGESTION
        ]
        assert not wrong
        opened.append(pynwb.NWBHDF5IO(str(path), "r"))
        return opened[-1].read()

    yield of
    for file in opened:
        file.close()


def test_spikes_of_nwb_stand_in_their_trials(spiking, session):
    file = session(spiking)
    trials, units = file.trials.to_dataframe(), file.units.to_dataframe()
    assert trials["index"].tolist() == [40, 41, 44, 45]
    assert (trials.stop_time - trials.start_time).to_numpy() == pytest.approx(DURATION / 1e3)
    assert (np.diff(trials.start_time) > DURATION / 1e3).all()
    found = {}
    for row in units.itertuples():
        for trial in trials.itertuples():
            mine = (row.spike_times >= trial.start_time) & (row.spike_times <= trial.stop_time)
            if mine.any():
                key = trial.presentation, trial.sample, row.unit, row.neuron
                found[key] = 1e3 * (row.spike_times[mine] - trial.start_time)
    assert found.keys() == SPIKES.keys()
    for key, times in SPIKES.items():
        assert found[key] == pytest.approx(times, abs=1e-9)
    assert file.units.resolution == 0.5e-3


def test_signals_and_phases_of_nwb_are_those_of_the_trace(spiking, session):
    file = session(spiking)
    series, trials = file.acquisition["layer1_soma"], file.trials.to_dataframe()
    with h5py.File(spiking) as trace:
        soma = trace["traces/layer1/soma"][()].reshape(4, 21, 2)
    for trial, expected in zip(trials.itertuples(), soma, strict=True):
        first = round((trial.start_time - series.starting_time) * series.rate)
        assert np.array_equal(series.data[first : first + 21], expected)
    assert series.rate == pytest.approx(1e3 / SPIKING_EVERY)
    phases = file.intervals["phases"].to_dataframe()
    assert phases.phase.tolist() == ["free", "learning"] * 4
    assert phases.stop_time[4] - phases.start_time[4] == pytest.approx(0.05)
    assert "[spiking]" in file.source_script


def test_nwb_of_cells_has_volts_and_no_electrode(cell, session):
    file = session(cell.path)
    v, stimulus = file.acquisition["v"], file.stimulus["stimulus0"]
    assert (v.unit, v.conversion) == ("volts", 1e-3)
    assert (stimulus.unit, stimulus.conversion) == ("amperes", 1e-12)
    with h5py.File(cell.path) as trace:
        expected = np.swapaxes(trace["recording/v"][()], 1, 2).reshape(-1, 2)
    assert np.array_equal(v.data[()], expected)
    assert file.electrodes is None and not file.devices and not file.icephys_electrodes
    assert file.subject.species == "In silico"


def test_stages_of_other_lengths_are_cut_to_theirs(tmp_path):
    """The sleep of one phase is half as long as the waking of two."""
    stages = [(4, [("sleep.free", 0)]), (6, [("wake.free", 0), ("wake.learning", 1)])]
    path = made(tmp_path / "stages.h5", stages=stages, recorded=(0, 9))
    first, *_, last = ns.to_neo(path).segments
    assert [s.analogsignals[0].shape[0] for s in (first, last)] == [61, 121]
    for segment in (first, last):
        assert all(np.isfinite(signal.magnitude).all() for signal in segment.analogsignals)
    assert first.epochs[0].labels.tolist() == ["sleep.free"]


# --- mistakes ------------------------------------------------------------------------------------


def test_networks_at_rest_have_no_time(tmp_path):
    path = made(tmp_path / "rest.h5", level="equilibrium")
    with pytest.raises(ns.InputError, match=r"at rest.*expected a trace of the rate or spiking"):
        ns.export(path, "nwb")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["rest.h5"]
    assert (ns.export(path, "csv") / "traces-layer1.csv").exists()


def test_nothing_recorded_is_said(tmp_path):
    path = made(tmp_path / "bare.h5", recorded=())
    with pytest.raises(ns.InputError, match=r"no presentation was recorded.*presentations=5"):
        ns.to_neo(path)


@pytest.mark.parametrize(
    ("to", "module", "extra"),
    [("nwb", "pynwb", "nwb"), ("neo", "neo", "neo"), ("parquet", "pyarrow", "parquet")],
)
def test_a_library_that_is_missing_is_named_with_its_extra(
    spiking, tmp_path, monkeypatch, to, module, extra
):
    for name in [n for n in sys.modules if n.split(".")[0] == module]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    result = call(
        "export",
        spiking,
        "--to",
        to,
        "--out",
        tmp_path / f"x{'' if to == 'parquet' else {'nwb': '.nwb', 'neo': '.nix'}[to]}",
    )
    assert result.exit_code == 2 and module in result.stderr
    assert f"pip install 'neurosim[{extra}]'" in result.stderr
    assert not list(tmp_path.iterdir())


def test_every_extra_that_a_message_names_exists():
    """`pip install 'neurosim[nwb]'` is what messages advise."""
    root = Path(__file__).parents[1]
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    texts = [path.read_text(encoding="utf-8") for path in (root / "neurosim").rglob("*.py")]
    named = {name for text in texts for name in re.findall(r'needed\("(\w+)"', text)}
    assert {"nwb", "neo", "parquet"} <= named <= project["optional-dependencies"].keys()


def test_export_says_where_it_wrote(spiking, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = call("export", spiking, "--to", "csv", "--out", "tables", "--json")
    report = json.loads(result.stdout)
    assert report["path"] == "tables" and "tables/spikes-layer1.csv" in report["files"]
    assert all(Path(name).is_file() for name in report["files"])
    again = call("export", spiking, "--to", "csv", "--out", "tables")
    assert again.exit_code == 2
    assert again.stderr == "error: tables: exists; give --force to overwrite, or --out FILE\n"
    assert call("export", spiking, "--to", "csv", "--out", "tables", "--force").exit_code == 0


@pytest.mark.parametrize(
    ("to", "out", "words"),
    [
        ("excel", "a.xls", "unknown format 'excel' (allowed: csv, parquet, nwb, neo)"),
        ("nwb", "a.h5", "expected such as a.nwb"),
        (
            "csv",
            "a.csv",
            "is the folder of the tables, of which there are many; expected such as a",
        ),
        ("csv", "mine", "is a folder that neurosim has not written"),
        ("nwb", "mine.nwb", "mine.nwb: is a folder"),
        ("csv", "file", "is a file, where a folder is to be"),
    ],
)
def test_mistakes_of_export_are_said_and_change_nothing(
    spiking, tmp_path, monkeypatch, to, out, words
):
    monkeypatch.chdir(tmp_path)
    for folder in ("mine", "mine.nwb"):
        Path(folder).mkdir()
        Path(folder, "thesis.csv").write_text("precious")
    Path("file").write_text("precious")
    result = call("export", spiking, "--to", to, "--out", out, "--force")
    assert result.exit_code == 2 and words in result.stderr
    assert sorted(p.name for p in Path().iterdir()) == ["file", "mine", "mine.nwb"]
    assert Path("mine/thesis.csv").read_text() == Path("file").read_text() == "precious"
