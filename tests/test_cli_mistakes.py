"""What the command line says of mistakes and doubts."""

import json
import re
from pathlib import Path

import pytest
from command_line import call

from neurosim.building.shipped import bundled


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Every test in a folder of its own, as wide as a terminal without a size."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["quikstart"], "quikstart: no such protocol file, .* did you mean 'quickstart'"),
        (["quickstart", "--level", "rat"], "^--level: unknown level 'rat'; did you mean 'rate'"),
        (["quickstart", "--set", "level=rat"], "^--set level: unknown level 'rat'"),
        (["quickstart", "--set", "model.m=0.2"], "^--set model.m: unknown key 'm'"),
        (
            ["quickstart", "--set", "model.parameters.mu"],
            "'model.parameters.mu' is not an assignment; write key=value",
        ),
        (
            ["quickstart", "--set", "stages.0.phases.0.duration=20"],
            'a bare number has no unit; write "10 ms"',
        ),
        (
            ["quickstart", "--set", "model.parameters.tau_soma=20 mV"],
            "^--set model.parameters.tau_soma: '20 mV' has the wrong dimension; expected a time",
        ),
        (
            ["quickstart", "--set", "model.mu=0.2"],
            "^--set model.mu: is no key any more; what it said is now said by parameters.mu",
        ),
        (
            ["quickstart", "--set", "model.parameters.muu=0.2"],
            "^--set model.parameters.muu: nothing reads it: .* 'muu'; did you mean 'mu'?",
        ),
        (
            ["quickstart", "--set", "model.cells.pyramidal.parameters.tau=5"],
            "nothing reads it: unknown parameter 'tau'",
        ),
        (
            ["quickstart", "--set", "model.credit.dropout=0.5"],
            "^--set model.credit.dropout: model.credit.name: missing; expected text$",
        ),
        (["quickstart", "--set", "model.layers=[9,9,10]"], "does not fit the task, which has 64"),
        (["quickstart", "--seed", "1", "--seeds", "0:2"], "got both; expected one of them"),
        (["quickstart", "--seeds", "5"], "--seeds 5: expected A:B with A less than B"),
        (["quickstart", "--seeds", "5:5"], "--seeds 5:5: expected A:B with A less than B"),
        (["quickstart", "--seeds=-1:5"], "--seeds -1:5: expected A:B with A less than B"),
        (["quickstart", "--device", "abacus"], "--device abacus: there is no such device here"),
        (
            ["quickstart", "--set", "task={name='arrays',path='no.npz'}"],
            "no.npz: no such file",
        ),
    ],
)
@pytest.mark.parametrize("command", ["run", "check"])
def test_a_mistake_is_one_line_on_stderr_with_exit_code_2(command, arguments, message):
    result = call(command, *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    [line] = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert re.search(message, line.removeprefix("error: "))
    assert list(Path.cwd().iterdir()) == []


def test_a_mistake_in_a_file_is_placed_in_it():
    text = bundled("protocols")["quickstart"].read_text().replace("batch = 50", "bacth = 50")
    Path("mine.toml").write_text(text)
    line = text[: text.index("bacth")].count("\n") + 1
    result = call("check", "mine.toml")
    assert result.exit_code == 2
    first, second = result.stderr.splitlines()
    assert {first.startswith("error: "), second.startswith("error: ")} == {True}
    assert f"mine.toml:{line}: bacth: unknown key 'bacth'; did you mean 'batch'?" in result.stderr
    assert "batch: missing" in result.stderr


def test_mistakes_as_json():
    result = call("check", "quickstart", "--set", "model.m=0.2", "--set", "batch=0", "--json")
    report = json.loads(result.stdout)
    assert result.exit_code == report["exit_code"] == 2
    assert len(report["error"]) == 2
    assert result.stderr == ""


@pytest.mark.parametrize(
    "arguments",
    [["run"], ["run", "quickstart", "--levl", "rate"], ["check", "quickstart", "--seed", "-1"]],
)
def test_misuse_of_options_is_bad_input(arguments):
    result = call(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Usage: " in result.stderr


def test_warnings_are_one_line_and_said_once():
    arguments = ["check", "quickstart", "--set", "precision=float32"]
    arguments += ["--set", "model.layers=[64,64,64,64,64,10]", "--set", "model.target_step=0.1"]
    result = call(*arguments)
    [line] = [line for line in result.stderr.splitlines() if "precision" in line]
    assert line.startswith("warning: --set precision: float32 carries the learning signal")
    assert "UserWarning" not in result.stderr
    report = call(*arguments, "--json")
    assert line.removeprefix("warning: ") in json.loads(report.stdout)["warnings"]
    assert report.stderr == ""
