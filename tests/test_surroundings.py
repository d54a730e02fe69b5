"""What surrounds a process: matplotlib's and JAX's settings, standard output, forks."""

import json
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import jax
import matplotlib
import pytest
from command_line import call
from tiny_runs import same

import neurosim as ns
from neurosim.errors import InputError
from neurosim.process import caller, devices, progression

CONSOLE = Path(sys.executable).parent / "neurosim"

pytestmark = pytest.mark.usefixtures("tiny")


def run(out, **arguments):
    return ns.run("tiny.toml", level="equilibrium", out=out, **arguments)


def shell(command, **environment):
    """A line of a shell, in which `neurosim` is ours."""
    bare = {k: v for k, v in os.environ.items() if not k.startswith("JAX_")}
    line = command.replace("neurosim", str(CONSOLE))
    return subprocess.run(
        ["bash", "-c", line], capture_output=True, text=True, env=bare | environment, check=False
    )


# --- numbers -------------------------------------------------------------------------------------

SETTINGS = {
    "jax_default_prng_impl": "rbg",
    "jax_threefry_partitionable": False,
    "jax_random_seed_offset": 7,
    "jax_default_matmul_precision": "bfloat16",
    "jax_enable_x64": True,
}


@pytest.fixture
def told():
    """JAX told to compute otherwise."""
    before = {name: getattr(jax.config, name) for name in SETTINGS}
    assert not set(before.items()) & set(SETTINGS.items())

    def tell(settings):
        for name, value in settings.items():
            jax.config.update(name, value)

    yield lambda: tell(SETTINGS)
    assert {name: getattr(jax.config, name) for name in SETTINGS} == SETTINGS
    tell(before)


def test_settings_of_jax_decide_no_number(told):
    """The order of the data is drawn, and with it what the weights become."""
    run("plain.h5")
    told()
    run("other.h5")
    same("plain.h5", "other.h5")


def test_matrices_are_multiplied_in_their_own_precision(told):
    """Which only a GPU's numbers would show, so that what is asked of the compiler must."""
    told()
    with jax.default_matmul_precision("bfloat16"), devices.numbers(x64=False):
        entries = jax.numpy.ones((2, 2))
        text = jax.jit(lambda a: a @ a).lower(entries).as_text()
    assert entries.dtype == "float32"
    assert "precision = [HIGHEST, HIGHEST]" in text


# --- figures -------------------------------------------------------------------------------------


@pytest.fixture
def undrawable(monkeypatch):
    """Settings of a user's with which matplotlib cannot draw: text by LaTeX, which is not there."""
    monkeypatch.setitem(matplotlib.rcParams, "text.usetex", True)
    monkeypatch.setenv("PATH", "")


def test_no_result_is_lost_where_no_figure_can_be_drawn(undrawable):
    words = ["run", "tiny.toml", "--level", "equilibrium", "--out", "a.h5"]
    done = call(*words, "--json")
    report = json.loads(done.stdout)
    assert (done.exit_code, report["figures"]) == (0, [])
    assert report["metrics"] == ns.inspect("a.h5")["metrics"]
    [warning] = report["warnings"]
    assert warning.startswith("no figure: matplotlib cannot draw: RuntimeError: Failed to process ")
    assert warning.endswith("; its settings come from MPLBACKEND and matplotlibrc")
    compared = call("compare", "a.h5", "a.h5")
    assert compared.exit_code == 0 and "no figure: matplotlib cannot draw" in compared.stderr
    assert compared.stdout and "figure:" not in compared.stdout
    drawn = call("inspect", "a.h5", "--plot", "soma")
    assert (drawn.exit_code, drawn.stdout) == (2, "")
    assert drawn.stderr.startswith("error: matplotlib cannot draw: RuntimeError")


def test_a_backend_that_is_none_is_said_in_words():
    run("a.h5")
    done = shell("neurosim inspect a.h5 --plot soma", MPLBACKEND="nonsense")
    assert (done.returncode, done.stdout) == (2, "")
    [line] = done.stderr.splitlines()
    assert line.startswith("error: matplotlib cannot draw: ValueError: Key backend: 'nonsense' is")


@pytest.mark.parametrize("command", ["analyze tiny.toml", "compare a.h5 a.h5"])
def test_names_that_are_no_figures_are_refused_before_anything_is_computed(command, monkeypatch):
    run("a.h5")
    for name in ("reports.analysis.analyze", "comparison.compare"):
        monkeypatch.setattr(f"neurosim.{name}", None)
    done = call(*command.split(), "--out", "x.txt")
    assert done.exit_code == 2
    assert done.stderr == "error: x.txt: the name of a figure ends in .png, .svg or .pdf\n"


# --- devices -------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", [RuntimeError("Unable to initialize"), AssertionError()])
def test_devices_that_are_not_there_are_named_before_anything_runs(monkeypatch, reason):
    """As for JAX_PLATFORMS=cuda without a GPU, or without JAX's plugin for it."""

    def none(kind=None):
        raise reason

    monkeypatch.setattr(jax, "devices", none)
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    for command in ("run", "check"):
        done = call(command, "tiny.toml", "--level", "equilibrium", "--out", "a.h5")
        assert done.exit_code == 2 and not Path("a.h5").exists()
        said = f": {reason}" if str(reason) else ""
        assert f"JAX finds no such device here{said}; unset it, or set it to cpu" in done.stderr
    for device in (None, "cpu"):
        with pytest.raises(InputError, match="JAX finds no such device here"):
            run("a.h5", device=device)
    with pytest.raises(InputError, match="JAX finds no such device here"):
        ns.analyze("mixture", starts=0)


def test_a_platform_that_is_none_is_named_as_it_was_given():
    done = shell("neurosim check tiny.toml --level equilibrium", JAX_PLATFORMS="abacus")
    assert (done.returncode, done.stdout) == (2, "")
    [line] = done.stderr.splitlines()
    assert line.startswith("error: JAX_PLATFORMS=abacus: JAX finds no such device here: ")


# --- standard output and error -------------------------------------------------------------------


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs devices")
def test_an_output_that_is_full_is_an_error_in_words():
    for command in ("neurosim list", "neurosim list --json", "neurosim --help"):
        done = shell(f"{command} > /dev/full")
        assert done.returncode == 1
        assert done.stderr == (
            "error: standard output: cannot be written: No space left on device\n"
        )


def test_an_output_that_nobody_reads_ends_a_command_silently():
    done = shell("neurosim list | true; exit ${PIPESTATUS[0]}")
    assert (done.returncode, done.stderr) in [(0, ""), (1, "")]  # whoever is faster


@pytest.mark.parametrize("error", ["2> /dev/full", "2>&-"])
def test_mistakes_keep_their_exit_code_where_they_cannot_be_said(error):
    assert shell(f"neurosim check nothing {error}").returncode == 2
    done = shell(f"neurosim list solvers {error}")
    assert done.returncode == 0 and "heun" in done.stdout


def test_files_never_get_the_number_of_a_closed_output():
    """Else what libraries print would go into a trace."""
    code = """
import os, sys
from neurosim.cli import main
sys.argv = ["neurosim", "list"]
try:
    main()
except SystemExit:
    for stream in (sys.stdout, sys.stderr):
        stream.flush()  # as Brian2 does
    os._exit(open("first", "w").fileno())
"""
    Path("first.py").write_text(code)
    done = shell(f"{sys.executable} first.py <&- >&- 2>&-")
    assert done.returncode == 3


class Deaf:
    """A standard error that has gone, as of a terminal that was closed."""

    def write(self, text):
        raise OSError(5, "Input/output error")

    def flush(self):
        self.write("")

    def isatty(self):
        return False


@pytest.mark.parametrize("stderr", [None, Deaf()])
def test_a_run_goes_on_where_nothing_can_be_said(monkeypatch, stderr):
    monkeypatch.setattr(sys, "stderr", stderr)
    monkeypatch.setattr(progression, "PATIENCE", 0.0)
    caller.tell("nothing")
    assert run("a.h5", progress=True).settled["free"] == 1


# --- forks ---------------------------------------------------------------------------------------


def forked(child):
    """How a fork of this process ends that does nothing but call `child`, as `os.waitpid` says."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # JAX's, of what is tested here
        pid = os.fork()
    if pid == 0:
        try:
            child()
        finally:
            os._exit(0)
    return os.waitpid(pid, 0)[1]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs forks")
def test_a_fork_of_a_process_in_which_jax_has_computed_is_refused_and_does_not_hang():
    run("a.h5")

    def child():
        said = []
        for attempt in (lambda: run("b.h5"), lambda: ns.analyze("mixture", starts=0)):
            try:
                attempt()
            except InputError as error:
                said.append(str(error))
        Path("said").write_text("\n".join(said))

    assert forked(child) == 0
    first, second = Path("said").read_text().splitlines()
    assert first == second
    assert first.startswith("this process was forked from one in which JAX has computed, and would")
    assert "multiprocessing.get_context('spawn')" in first
    assert not Path("b.h5").exists()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs forks")
def test_a_fork_during_a_run_ends_by_a_signal_at_once():
    """As `Pool.terminate` expects; the run itself goes on."""
    ended = []

    def child():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)

    def fork(progress):
        if progress.done == 3:
            ended.append(forked(child))

    run("a.h5", progress=fork)
    [status] = ended
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGTERM
    assert ns.inspect("a.h5")["status"] == "complete"
