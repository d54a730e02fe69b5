"""How the command starts: at once, importing little, without a terminal."""

import ast
import json
import os
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from command_line import LIGHT, call

import neurosim as ns

CONSOLE = Path(sys.executable).parent / "neurosim"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Every test in a folder of its own, as wide as a terminal without a size."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")


def test_help_is_instant_and_needs_no_jax():
    code = (
        "import resource, sys\n"
        "from neurosim.cli import app\n"
        "sys.argv = ['neurosim', '--help']\n"
        "try:\n    app()\nexcept SystemExit:\n    pass\n"
        "heavy = {'jax', 'numpy', 'h5py', 'matplotlib', 'pydantic', 'rich'} & set(sys.modules)\n"
        "used = resource.getrusage(resource.RUSAGE_SELF)\n"
        "print(sorted(heavy), used.ru_utime + used.ru_stime, file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy, seconds = done.stderr.rsplit(maxsplit=1)
    assert heavy == "[]"
    assert float(seconds) < 0.4
    for command in ("run", "check", "inspect", "list"):
        assert re.search(rf"^  {command} +[A-Z].*\.$", done.stdout, re.MULTILINE)


def test_a_run_imports_nothing_of_other_levels(tmp_path):
    run = ["run", "backprop-digits", "--level", "equilibrium", "--set", "stages.0.epochs=1"]
    small = ["--set", "model.layers=[64,8,10]", "--set", "record.presentations=0", "--quiet"]
    cell = ["run", "input-resistance", "--set", "model.use=pyramidal", "--quiet"]
    command = [sys.executable, "-c", LIGHT, json.dumps([[*run, *small], cell])]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = set(ast.literal_eval(done.stderr.splitlines()[-1]))
    assert "jax" in found
    assert not {"brian2", "distributed", "sklearn", "rich"} & found


@pytest.mark.parametrize("begin", [[CONSOLE], [sys.executable, "-m", "neurosim"]])
def test_the_command_works_without_a_terminal(begin):
    environment = os.environ | {"NO_COLOR": "1"}
    command = [*begin, "check", "quickstart", "--set", "model.m=1"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: --set model.m: unknown key 'm'")


def test_version():
    assert call("--version").stdout == f"neurosim {version('neurosim')}\n"


def test_the_library_refuses_a_level_that_does_not_exist():
    protocol = ns.load_protocol("quickstart")
    with pytest.raises(ns.InputError, match="unknown level 'magic'"):
        ns.run(protocol, level="magic")
    assert list(Path.cwd().iterdir()) == []
