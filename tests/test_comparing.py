"""Agreement of two traces: zero where they are one, what it is where it is known, else refused."""

import json

import jax
import numpy as np
import pytest
from typer.testing import CliRunner

import neurosim as ns
from neurosim.cli import app
from neurosim.comparing import TOLERANCE, in_words
from neurosim.figures import raster

SMALL = {
    "model.layers": [64, 8, 10],
    "model.tau_basal": "5 ms",
    "model.tau_apical": "5 ms",
    "model.spiking.neurons": 10,
    "model.spiking.soma": "poisson",
    "batch": 4,
    "stages.0.epochs": None,
    "stages.0.presentations": 3,
    "stages.0.phases.0.duration": "300 ms",
    "stages.0.phases.1.duration": "300 ms",
    "spiking.window": "200 ms",
    "spiking.test": 4,
    "spiking.target": "numpy",
    "rate.dt": "2 ms",
    "record.presentations": [0, 2],
    "record.every": "20 ms",
}


@pytest.fixture(scope="module")
def traces(tmp_path_factory):
    folder = tmp_path_factory.mktemp("traces")
    with jax.enable_x64(True):
        for level in ("equilibrium", "rate", "spiking"):
            protocol = ns.load_protocol("quickstart", SMALL | {"level": level})
            ns.run(protocol, out=folder / f"{level}.h5")
    return lambda level: folder / f"{level}.h5"


def test_a_trace_agrees_with_itself(traces):
    for level in ("equilibrium", "rate", "spiking"):
        report = ns.compare(traces(level), traces(level))
        assert report["first"] is None
        assert report["presentations"] == [0, 2]
        assert {(r["layer"], r["phase"]) for r in report["agreement"]} == {
            (i, phase) for i in (1, 2) for phase in ("free", "learning")
        }
        for row in report["agreement"]:
            assert row["rmse"] == row["bias"] == 0
            assert row["correlation"] == pytest.approx(1)
        for row in report["signals"]:
            assert row["cosine"] == pytest.approx(1)
            assert row["ratio"] == pytest.approx(1)


def test_levels_without_spikes_agree_in_the_learning_signal(traces):
    report = ns.compare(traces("equilibrium"), traces("rate"))
    assert report["first"] is None
    assert [row["presentations"] for row in report["learning"]] == [0, 3]
    for row in report["signals"]:
        assert row["cosine"] > 0.999
        assert row["ratio"] == pytest.approx(1, abs=0.01)
    assert all(row["expected"] is None for row in report["agreement"])


def test_spikes_differ_by_what_counting_them_causes(traces):
    report = ns.compare(traces("rate"), traces("spiking"))
    rows = [r for r in report["agreement"] if r["variable"] == "soma" and r["presentation"] == 0]
    assert len(rows) == 4
    for row in rows:
        with ns.open_trace(traces("spiking")) as trace:
            soma = trace[f"traces/layer{row['layer']}/soma"]
            window = soma.isel(presentation=0).values[:, -10:]
        # Poisson neurons at 50 Hz + 20 Hz h, ten of them, counted for 200 ms.
        poisson = np.sqrt((50 + 20 * window).mean() / (10 * 0.2)) / 20
        assert row["expected"] == pytest.approx(poisson, rel=0.05)
        assert 0.6 < row["rmse"] / row["expected"] < 1.6
        assert row["rmse"] < TOLERANCE * row["expected"]


def test_a_difference_is_found_where_it_begins(traces, tmp_path):
    import shutil

    import h5py

    other = tmp_path / "other.h5"
    shutil.copy(traces("rate"), other)
    with h5py.File(other, "r+") as file:
        soma = file["traces/layer2/soma"]
        time, phase = file["traces/time"][()], file["traces/phase_at"][0]
        late = np.flatnonzero((phase == 1) & (time > 400))
        values = soma[()]
        values[0, :, late] += 0.5
        soma[...] = values
    first = ns.compare(traces("rate"), other)["first"]
    assert (first["presentation"], first["phase"], first["layer"]) == (0, "learning", 2)
    assert first["variable"] == "soma"
    assert first["time_ms"] == pytest.approx(time[late[0]])
    assert first["rmse"] == pytest.approx(0.5)


def test_what_is_not_a_number_agrees_with_nothing(traces, tmp_path):
    import shutil

    import h5py

    other = tmp_path / "other.h5"
    shutil.copy(traces("rate"), other)
    with h5py.File(other, "r+") as file:
        values = file["traces/layer1/soma"][()]
        values[0, 0, -3:, 0] = np.nan
        file["traces/layer1/soma"][...] = values
    report = ns.compare(traces("rate"), other)
    assert report["first"]["layer"] == 1
    assert report["first"]["rmse"] is None
    assert "not a number" in in_words(report)
    json.dumps(report, allow_nan=False)


def test_other_protocols_are_refused_with_the_differences(traces, tmp_path):
    changes = SMALL | {"level": "equilibrium", "model.mu": 0.2, "task.name": "digits", "batch": 5}
    ns.run(ns.load_protocol("quickstart", changes), out=tmp_path / "other.h5")
    with pytest.raises(ns.InputError) as caught:
        ns.compare(traces("equilibrium"), tmp_path / "other.h5")
    lines = str(caught.value).splitlines()
    assert "different protocols" in lines[0]
    assert [line.split(":")[0].strip() for line in lines[1:]] == ["batch", "model.mu"]
    assert "0.1" in lines[2]
    assert "0.2" in lines[2]


def test_the_command_prints_a_table_or_json_and_draws(traces, tmp_path):
    runner, figure = CliRunner(), tmp_path / "both.png"
    arguments = ["compare", str(traces("rate")), str(traces("spiking")), "--out", str(figure)]
    words = runner.invoke(app, arguments)
    assert words.exit_code == 0, words.output
    assert "at the end of every phase" in words.output
    assert "teaching signals" in words.output
    assert figure.stat().st_size > 10_000
    again = runner.invoke(app, arguments)
    assert again.exit_code == 2
    assert "--force" in again.output
    report = json.loads(runner.invoke(app, [*arguments, "--force", "--json"]).output)
    assert report["figures"] == [str(figure)]
    assert in_words(report) == in_words(ns.compare(traces("rate"), traces("spiking")))


def test_rasters_need_spikes(traces, tmp_path):
    assert raster(traces("spiking"), tmp_path / "raster.png").stat().st_size > 10_000
    with pytest.raises(ns.InputError, match="holds no spikes"):
        raster(traces("rate"), tmp_path / "none.png")
