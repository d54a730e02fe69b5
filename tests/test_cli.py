"""The command line, and the library calls behind it: `run` and `inspect`."""

import ast
import json
import os
import re
import signal
import subprocess
import sys
import time
import tomllib
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from command_line import LIGHT, call

import neurosim as ns
from neurosim import wording
from neurosim.cli.commands import _summary
from neurosim.process import progression

CONSOLE = Path(sys.executable).parent / "neurosim"

CHANGES = {
    "stages.0.epochs": 1,
    "model.layers": [64, 16, 10],
    "model.projections.W.init": "file",
    "model.projections.W.file": "weights.npz",
    "record.samples": 50,
    "equilibrium.max_newton": 0,
}
"""Small, and the weights from a file: all runs of it share one compilation, also those that fail.

50 samples are the batch, as the search for a divergence looks at all of it.
"""
SMALL = ["quickstart", "--level", "equilibrium"]
SMALL += [word for key, value in CHANGES.items() for word in ("--set", f"{key}={value}")]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Every test in a folder of its own, as wide as a terminal without a size."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")


def with_weights(arguments, path, scale=1.0):
    """`arguments` with weights that stand in a file."""
    rng = np.random.default_rng(0)
    W1, W2 = (np.linalg.qr(rng.normal(size=shape))[0].T for shape in ((64, 16), (16, 10)))
    np.savez(path, W1=scale * W1, W2=W2)
    return [str(word).replace("weights.npz", str(path)) for word in arguments]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A small run: its arguments, its trace and what `run --json` said."""
    folder = tmp_path_factory.mktemp("finished")
    arguments = with_weights(SMALL, folder / "weights.npz")
    result = call("run", *arguments, "--out", folder / "small.h5", "--json")
    assert result.exit_code == 0, result.output
    return SimpleNamespace(arguments=arguments, path=folder / "small.h5", result=result)


# --- run -----------------------------------------------------------------------------------------


def test_run_says_one_json_object_and_where_its_files_are(finished):
    report = json.loads(finished.result.stdout)
    assert report["trace"] == str(finished.path)
    assert report["figures"] == [str(finished.path.with_suffix(".png"))]
    assert finished.path.exists() and finished.path.with_suffix(".png").exists()
    assert 0.0 < report["metrics"]["test_error"] < 0.5
    assert report["metrics"]["test_loss"] > 0
    assert report["diverged"] == [] and report["warnings"] == []
    assert set(report["settled"]) == set(report["residual"]) == {"free", "learning"}
    assert report["presentations"]["planned"] == report["presentations"]["asked"] > 0
    assert report["wall_s"] > 0


def test_run_ends_with_a_summary_in_words(finished):
    report = json.loads(finished.result.stdout)
    again = call("run", *finished.arguments)
    assert again.exit_code == 0
    lines = again.stdout.splitlines()
    assert lines[0] == "quickstart, equilibrium level: done"
    said = dict(re.split(r"\s{2,}", line.strip(), maxsplit=1) for line in lines[1:])
    assert said["test loss"] == f"{report['metrics']['test_loss']:.4g}"
    assert said["test error"] == wording.percent(report["metrics"]["test_error"])
    assert said["trace"] == "outputs/quickstart-equilibrium.h5"
    assert said["figure"] == "outputs/quickstart-equilibrium.png"
    assert set(said) == {"test loss", "test error", "settled", "wall time", "trace", "figure"}
    assert sorted(p.name for p in Path("outputs").iterdir()) == [
        "quickstart-equilibrium.h5",
        "quickstart-equilibrium.png",
    ]


def test_run_quiet_is_silent(finished):
    result = call("run", *finished.arguments, "--quiet")
    assert (result.exit_code, result.output) == (0, "")


def test_run_is_one_call_of_the_library(finished):
    report = json.loads(finished.result.stdout)
    weights = str(finished.path.parent / "weights.npz")
    protocol = ns.load_protocol("quickstart", CHANGES | {"model.projections.W.file": weights})
    done = ns.run(protocol, level="equilibrium", out="mine.h5")
    assert done.metrics == report["metrics"]
    assert done.summary.keys() | {"figures", "warnings"} == report.keys()


def test_run_never_overwrites_without_force(finished):
    before = finished.path.read_bytes()
    refused = call("run", *finished.arguments, "--out", finished.path, "--json")
    assert refused.exit_code == 2
    [message] = json.loads(refused.stdout)["error"]
    assert "exists; give --force to overwrite" in message
    assert finished.path.read_bytes() == before


def test_run_does_not_overwrite_a_figure_either(finished):
    Path("mine.png").write_text("precious")
    refused = call("run", *finished.arguments, "--out", "mine.h5")
    assert refused.exit_code == 2
    assert refused.stderr == "error: mine.png: exists; give --force to overwrite, or --out FILE\n"
    assert Path("mine.png").read_text() == "precious" and not Path("mine.h5").exists()


def test_run_with_force_overwrites(finished):
    Path("mine.h5").write_text("old")
    Path("mine.png").write_text("old")
    done = call("run", *finished.arguments, "--out", "mine.h5", "--force", "--json")
    assert json.loads(done.stdout)["metrics"] == json.loads(finished.result.stdout)["metrics"]
    assert ns.inspect("mine.h5")["status"] == "complete"
    assert Path("mine.png").read_bytes().startswith(b"\x89PNG")


def test_a_trace_cannot_be_called_like_a_picture():
    result = call("run", "quickstart", "--out", "mine.png")
    assert result.exit_code == 2
    assert "--out mine.png: is the trace, which is HDF5; expected such as mine.h5" in result.stderr


def test_a_run_that_diverges_says_where_and_keeps_its_trace(finished):
    arguments = with_weights(SMALL, Path("huge.npz"), scale=1e200)
    result = call("run", *arguments, "--out", "lost.h5", "--json")
    report = json.loads(result.stdout)
    assert result.exit_code == report["exit_code"] == 1
    assert report["metrics"]["test_loss"] is None
    assert report["trace"] == "lost.h5" and report["figures"] == []
    [entry] = report["diverged"]
    assert entry["seed"] == 0 and entry["presentation"] == 0
    assert "the weights W1 were out of all bounds when it began" in entry["message"]
    assert report["error"] == [f"{entry['message']}; lost.h5 holds all up to there"]
    assert ns.inspect("lost.h5")["status"] == "diverged"
    words = call("run", *arguments, "--out", "lost.h5", "--force")
    assert (words.exit_code, words.stdout) == (1, "")
    assert words.stderr.splitlines()[-1] == f"error: {report['error'][0]}"


def test_an_interrupted_run_says_where_its_trace_is(finished, monkeypatch):
    class Impatient(progression.Lines):
        def __call__(self, progress):
            raise KeyboardInterrupt

    monkeypatch.setattr(progression, "display", lambda name, quiet: Impatient(name, sys.stderr))
    result = call("run", *finished.arguments, "--out", "cut.h5")
    assert (result.exit_code, result.stdout) == (130, "")
    kept = "interrupted; cut.h5 holds all up to there; go on with: neurosim resume cut.h5"
    assert result.stderr == f"{kept}\n"
    report = ns.inspect("cut.h5")
    assert report["status"] == "interrupted"
    assert 0 < report["presentations"]["done"] < report["presentations"]["total"] == 28
    assert report["metrics_after"] == 0 and report["metrics"]["test_error"] > 0.5
    again = call("run", *finished.arguments, "--out", "cut.h5", "--force", "--json")
    report = json.loads(again.stdout)
    assert report["exit_code"] == again.exit_code == 130
    assert report["error"] == [kept]


def test_check_predicts_the_size_of_a_trace(finished):
    report = json.loads(call("check", *finished.arguments, "--json").stdout)
    # Arrays only: names, axes and indices come on top.
    assert report["trace_bytes"] < finished.path.stat().st_size < 1.25 * report["trace_bytes"]


def test_control_c_ends_a_real_process_with_130():
    # Whatever runs in the background of a shell ignores the signal, and passes that on.
    listening = (
        "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL);"
        "os.execv(sys.argv[1], sys.argv[1:])"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", listening, CONSOLE, "run", "quickstart", "--out", "cut.h5"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not Path("cut.h5").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert err.splitlines()[-1] == (
        "interrupted; cut.h5 holds all up to there; go on with: neurosim resume cut.h5"
    )
    assert ns.inspect("cut.h5")["status"] == "interrupted"


def test_sigterm_stops_a_run_with_75_and_resume_ends_it(finished, monkeypatch):
    class Terminated(progression.Lines):
        def __call__(self, progress):
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(progression, "display", lambda name, quiet: Terminated(name, sys.stderr))
        patch.setattr("neurosim.runs.loop.CHUNK_SECONDS", 0.0)
        result = call("run", *finished.arguments, "--out", "cut.h5")
    assert (result.exit_code, result.stdout) == (75, "")
    assert result.stderr.splitlines() == [
        "stopped after 1 of 28 presentations",
        "cut.h5 holds all up to there; go on with: neurosim resume cut.h5",
    ]
    refused = call("run", *finished.arguments, "--out", "cut.h5")
    assert refused.stderr == (
        "error: cut.h5: exists; give --force to overwrite, or --out FILE; "
        "neurosim resume cut.h5 goes on with it\n"
    )
    assert call("repair", "cut.h5").stdout == "cut.h5: nothing to repair\n"
    done = call("resume", "cut.h5", "--json")
    report, whole = json.loads(done.stdout), json.loads(finished.result.stdout)
    assert done.exit_code == 0
    assert report["metrics"] == whole["metrics"] and report["settled"] == whole["settled"]
    assert report["figures"] == ["cut.png"] and Path("cut.png").exists()
    again = call("resume", "cut.h5")
    assert again.exit_code == 2
    assert "cut.h5: cannot be resumed: it is complete; nothing is left to do" in again.stderr


def test_the_summary_names_the_seeds_that_diverged_and_what_did_not_settle():
    spec = ns.load_protocol("quickstart").spec
    report = {
        "trace": "a.h5",
        "figures": [],
        "metrics": {"test_loss": [0.5, None, 0.7], "test_error": [0.1, None, 0.2]},
        "diverged": [{"seed": 1, "message": "seed 1 diverged at presentation 3: phase 'free'"}],
        "settled": {"free": 0.98, "learning": 1.0},
        "residual": {"free": 0.02, "learning": 0.058},
        "shortened": {"presentations": 12, "first": 2, "step": 0.0025},
        "presentations": {"planned": 14, "asked": 840},
        "wall_s": 125.0,
    }
    assert _summary(spec, report).splitlines() == [
        "quickstart, rate level: done",
        "  test loss   0.6, mean of 2 seeds (0.5 to 0.7), 1 lost",
        "  test error  15.0 %, mean of 2 seeds (10.0 % to 20.0 %), 1 lost",
        "  diverged    seed 1 diverged at presentation 3: phase 'free'",
        "  shown       14 of the 840 presentations that its stages ask for, by",
        "              spiking.presentations",
        "  settled     free: 98.0 % of samples in the worst batch; a longer phase may",
        "              settle the rest",
        "  settled     learning: 100 % of samples, to rounding: float64 leaves up to 5.8",
        "              % of the expected signal",
        "  steps       cut in 12 of 14 presentations, from number 2 on, down to 2.5 ms; a",
        "              shorter rate.dt may take less time",
        "  wall time   2 min 5 s",
        "  trace       a.h5",
    ]


# --- inspect -------------------------------------------------------------------------------------


def test_inspect_tells_what_a_run_was(finished):
    report = json.loads(call("inspect", finished.path, "--json").stdout)
    run = json.loads(finished.result.stdout)
    assert report.pop("warnings") == []
    assert report == ns.inspect(finished.path)
    assert (report["protocol"], report["model"]) == ("quickstart", "mixture-two-phase")
    assert (report["level"], report["status"], report["seeds"]) == ("equilibrium", "complete", [0])
    assert report["presentations"] == {"done": 28, "total": 28}
    assert report["metrics"] == run["metrics"] and report["metrics_after"] == 28
    assert report["neurosim_version"] == version("neurosim")
    free, learning = report["phases"]
    assert (free["name"], free["taught"], free["plastic"]) == ("free", False, ["Q"])
    assert (learning["name"], learning["taught"], learning["plastic"]) == (
        "learning",
        True,
        ["W"],
    )
    assert free["settled_worst"] == run["settled"]["free"] <= free["settled_mean"]
    [soma] = [v for v in report["variables"] if v["name"] == "traces/layer1/soma"]
    assert soma["dims"] == ["presentation", "sample", "phase", "unit"]
    assert soma["shape"] == [6, 50, 2, 16]


@pytest.mark.parametrize("columns", [80, 120])
def test_inspect_in_words_fits_the_terminal(finished, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    text = call("inspect", finished.path).stdout
    lines = text.splitlines()
    assert "status      complete; 28 of 28 presentations" in text
    assert "two-phase mixture network on handwritten digits" in text
    assert re.search(r"traces/layer1/soma +presentation 6 × sample 50 × phase 2 × unit 16", text)
    assert max(map(len, lines[1:])) <= columns
    assert ("mean loss on the test samples" in text) == (columns == 120)


def test_inspect_prints_the_protocol_that_ran(finished):
    result = call("inspect", finished.path, "--protocol")
    Path("again.toml").write_text(result.stdout)
    weights = str(finished.path.parent / "weights.npz")
    changes = CHANGES | {"model.projections.W.file": weights, "level": "equilibrium"}
    assert ns.load_protocol("again.toml").spec == ns.load_protocol("quickstart", changes).spec
    report = json.loads(call("inspect", finished.path, "--protocol", "--json").stdout)
    assert report["protocol"] == tomllib.loads(result.stdout)


def test_inspect_draws(finished):
    result = call("inspect", finished.path, "--plot", "soma,apical_rate", "--out", "mine.png")
    assert (result.exit_code, result.stdout) == (0, "mine.png\n")
    assert Path("mine.png").read_bytes().startswith(b"\x89PNG")
    refused = call("inspect", finished.path, "--plot", "soma", "--out", "mine.png")
    assert refused.exit_code == 2
    assert "mine.png: exists; give --force" in refused.stderr
    options = ["--presentation", 27, "--sample", 3, "--out", "mine.png", "--force", "--json"]
    forced = call("inspect", finished.path, "--plot", "soma", *options)
    assert json.loads(forced.stdout)["figures"] == ["mine.png"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--plot", "somma"], "unknown variable 'somma'; did you mean 'soma'"),
        (["--plot", "soma", "--presentation", "3"], "presentation 3 was not recorded"),
    ],
)
def test_inspect_refuses_to_draw_what_is_not_there(finished, options, message):
    result = call("inspect", finished.path, *options, "--out", "mine.png")
    assert result.exit_code == 2
    assert message in result.stderr
    assert not Path("mine.png").exists()


def test_inspect_refuses_what_is_no_trace():
    Path("mine.h5").write_text("no")
    assert call("inspect", "mine.h5").stderr.startswith("error: mine.h5: is no trace")
    assert call("inspect", "none.h5").stderr == "error: none.h5: no such file\n"


# --- what is imported ----------------------------------------------------------------------------


def test_commands_that_compute_nothing_import_little(finished):
    """One after the other in one process: what is there after each."""
    trace = str(finished.path)
    commands = {
        ("list",): set(),
        ("check", "quickstart", "--level", "equilibrium"): set(),
        ("check", "quickstart", "--level", "spiking"): set(),
        ("check", "backprop-digits", "--set", "record.decomposition=true"): set(),
        ("inspect", trace): set(),
        ("repair", trace): set(),
        ("check", "quickstart"): {"scipy"},
        ("export", trace, "--to", "csv"): {"scipy", "xarray", "h5netcdf", "pandas"},
        ("compare", trace, trace): {"scipy", "matplotlib", "xarray", "h5netcdf", "pandas"},
    }
    command = [sys.executable, "-c", LIGHT, json.dumps(list(commands))]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = [set(ast.literal_eval(line)) for line in done.stderr.splitlines() if line[0] == "["]
    assert dict(zip(commands, found, strict=True)) == commands
