"""The commands that run nothing: `check` and `list`."""

import itertools
import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from circuit_models import ASKS_FOR_FILES
from command_line import call

import neurosim as ns
from neurosim.building.shipped import bundled

PROTOCOLS = sorted(bundled("protocols"))


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Every test in a folder of its own, as wide as a terminal without a size."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")


# --- list ----------------------------------------------------------------------------------------


def test_list_is_one_line_each():
    result = call("list", "protocols")
    heading, *lines = result.stdout.splitlines()
    assert heading == "protocols"
    assert [line.split()[0] for line in lines] == PROTOCOLS
    assert "two-phase mixture network on handwritten digits" in result.stdout


def test_list_tells_all():
    report = json.loads(call("list", "--json").stdout)
    kinds = [
        "models",
        "protocols",
        "neurons",
        "synapses",
        "recordings",
        "tasks",
        "rules",
        "activations",
        "solvers",
    ]
    assert list(report) == [*kinds, "warnings"]
    for kind in kinds:
        assert report[kind] == ns.catalog(kind)
        assert all(entry["what"] for entry in report[kind])
    for kind in ("models", "protocols", "tasks"):
        assert all(entry["source"] for entry in report[kind])


NAMED = [entry for entry in ns.catalog() if entry["key"]]


@pytest.mark.parametrize("entry", NAMED, ids=lambda e: f"{e['key']}={e['name']}")
def test_every_name_listed_is_one_that_its_key_takes(entry):
    taught = entry["key"].startswith("model.credit") or entry["name"].startswith(
        ("delta", "penalized")
    )
    protocol = "target-propagation" if taught else "quickstart"
    protocol = "current-clamp" if entry["kind"] == "neurons" else protocol
    of_synapses = entry["kind"] == "synapses"
    protocol = "stdp-window" if of_synapses else protocol
    key = entry["key"].replace("NAME", "stdp")
    refused = "no such" if of_synapses else "unknown"
    arguments = ["check", protocol, "--set", f"{key}={entry['name']}"]
    assert refused not in call(*arguments).stderr  # though it may not fit the rest
    wrong = call(*arguments[:-1], f"{key}=nonsense")
    assert wrong.exit_code == 2
    assert re.search("unknown|no such|is not allowed|no shipped", wrong.stderr)


def test_list_refuses_an_unknown_kind():
    result = call("list", "modles")
    assert result.exit_code == 2
    assert "unknown kind 'modles'; did you mean 'models'?" in result.stderr


# --- check ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted({*PROTOCOLS} - ASKS_FOR_FILES))
def test_what_check_prints_is_the_same_protocol_and_writes_nothing(name):
    result = call("check", name)
    assert result.exit_code == 0
    assert list(Path.cwd().iterdir()) == []
    Path("again.toml").write_text(result.stdout)
    assert ns.load_protocol("again.toml").spec == ns.load_protocol(name).spec


def headers():
    """Options that the first lines of shipped protocols say one can add, a block each."""
    for name, path in sorted(bundled("protocols").items()):
        head = itertools.takewhile(lambda line: line.startswith("#"), path.read_text().splitlines())
        for kind, lines in itertools.groupby(head, lambda line: line.startswith("#   --")):
            if kind:
                options = " ".join(line.removeprefix("#") for line in lines)
                yield pytest.param(name, shlex.split(options, comments=True), id=f"{name}{options}")


@pytest.mark.parametrize(("name", "options"), list(headers()))
def test_what_a_protocol_says_can_be_added_is_taken(name, options):
    result = call("check", name, *options)
    assert (result.exit_code, result.stderr) == (0, "")


def test_a_list_that_lost_its_quotes_in_a_shell_is_shown_with_them():
    result = call("check", "quickstart", "--set", "stages.0.phases.1.plastic=[W, Y]")
    assert result.exit_code == 2
    assert result.stderr.split("error: ")[1].strip() == (
        "--set stages.0.phases.1.plastic: '[W, Y]' has the wrong type; expected a list of texts, "
        'such as ["W", "Y"] (for a shell within single quotes, or it takes the others)'
    )


def test_check_takes_the_options_of_run():
    options = ["--level", "equilibrium", "--seeds", "3:6", "--out", "mine.h5"]
    result = call("check", "quickstart", *options, "--set", "model.parameters.mu=0.2", "--json")
    report = json.loads(result.stdout)
    assert report["seeds"] == [3, 4, 5]
    assert report["trace"] == "mine.h5"
    assert report["protocol"]["level"] == "equilibrium"
    assert report["protocol"]["model"]["parameters"]["mu"] == 0.2
    assert report["simulated_s"] is None and report["slowest_s"] is None


def test_check_predicts_what_a_run_takes():
    report = ns.check("quickstart")
    assert report["presentations"] == 30 * (1438 // 50)
    assert report["simulated_s"] == pytest.approx(840 * 1.2)
    # η̂ (μ/(1−μ))^(L+1−i), and the short-circuited free phase of two layers: eigenvalues of
    # [[−1, μ], [1−μ, −(1−μ)]] over τ = 20 ms.
    assert report["signal"] == pytest.approx([5 / 81, 5 / 9])
    assert report["slowest_s"] == pytest.approx(0.02 / ((1.9 - 0.37**0.5) / 2))
    comments = [line for line in call("check", "quickstart").stdout.splitlines() if "#" in line]
    assert "# simulated time: 16 min 48 s at the most" in comments
    assert "# slowest time constant: 31 ms" in comments


def test_check_resolves_paths_so_that_its_output_can_move():
    Path("here").mkdir()
    np.savez("here/mine.npz", x=np.ones((20, 4)) * np.arange(4), y=np.arange(20) % 2)
    text = bundled("protocols")["quickstart"].read_text()
    text = text.replace('name = "digits"', 'name = "arrays"\npath = "mine.npz"')
    text = text.replace("[64, 64, 10]", "[4, 4, 2]").replace("batch = 50", "batch = 5")
    Path("here/mine.toml").write_text(text)
    result = call("check", "here/mine.toml")
    Path("there.toml").write_text(result.stdout)
    assert ns.check("there.toml")["samples"] == ns.check("here/mine.toml")["samples"]


def test_file_names_given_as_options_are_meant_from_the_working_directory():
    np.savez("mine.npz", x=np.ones((70, 64)) * np.arange(64), y=np.arange(70) % 10)
    for change in ("task={name='arrays',path='mine.npz'}", "task.path=mine.npz"):
        options = ["--set", "task={name='arrays',path='x'}", "--set", change, "--set", "batch=5"]
        report = json.loads(call("check", "quickstart", *options, "--json").stdout)
        assert report["protocol"]["task"]["path"] == str(Path("mine.npz").absolute())


def test_check_warns_of_a_trace_that_exists():
    Path("mine.h5").touch()
    result = call("check", "quickstart", "--out", "mine.h5")
    assert result.exit_code == 0
    assert result.stderr.startswith("warning: mine.h5: exists; run will ask for --force")
    assert call("check", "quickstart", "--out", "mine.h5", "--force").stderr == ""


def test_check_quiet_says_by_its_exit_code():
    result = call("check", "quickstart", "--quiet")
    assert (result.exit_code, result.output) == (0, "")
