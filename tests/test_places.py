"""Where traces and figures go, what they may be called, and whose commit is recorded."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import call
from tiny_runs import same

import neurosim as ns
from neurosim.errors import InputError, StoppedError
from neurosim.figures import overview, variables
from neurosim.traces import naming


@pytest.fixture(autouse=True)
def home(tiny, tmp_path, monkeypatch):
    """A home directory beside the protocol."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    Path("home").mkdir()


def run(out, **arguments):
    return ns.run("tiny.toml", level="equilibrium", out=out, **arguments)


def stopped(out, **arguments):
    before = signal.signal(signal.SIGTERM, lambda *_: None)

    def stop(progress):
        if progress.done == 4:
            os.kill(os.getpid(), signal.SIGTERM)

    try:
        with pytest.raises(StoppedError):
            run(out, progress=stop, **arguments)
    finally:
        signal.signal(signal.SIGTERM, before)


# --- links, devices, pipes -----------------------------------------------------------------------


def test_a_link_stays_and_what_it_points_to_is_written(tmp_path):
    Path("disk").mkdir()
    Path("link.h5").symlink_to("disk/real.h5")
    stopped("link.h5")
    assert Path("link.h5").is_symlink() and sorted(os.listdir("disk")) == [
        "real.h5",
        "real.h5.checkpoint",
    ]
    with pytest.raises(InputError, match=r"real.h5: exists; give force=True to overwrite"):
        run("link.h5")
    ns.resume("link.h5")
    assert Path("link.h5").is_symlink() and os.listdir("disk") == ["real.h5"]
    run("whole.h5")
    same(tmp_path / "whole.h5", tmp_path / "disk" / "real.h5")
    run("link.h5", force=True)
    assert Path("link.h5").is_symlink() and ns.inspect("link.h5")["status"] == "complete"
    assert overview("link.h5") == (tmp_path / "disk" / "real.png").resolve()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs devices")
@pytest.mark.parametrize("look", [ns.open_trace, ns.inspect, ns.resume, ns.repair])
def test_devices_and_pipes_are_refused_at_once_and_kept(look):
    os.mkfifo("pipe.h5")
    for path in ("pipe.h5", "/dev/null", "/dev/zero", "/dev/full"):
        with pytest.raises(InputError, match=rf"{path}: is a device or a pipe; expected a file"):
            look(path)
        for force in (False, True):
            with pytest.raises(InputError, match=rf"{path}: is a device or a pipe"):
                run(path, force=force)
        with pytest.raises(InputError, match="is a device or a pipe"):
            ns.check("tiny.toml", out=path)
        assert os.path.exists(path) and not os.path.isfile(path)


def test_a_pipe_is_no_figure_and_no_archive():
    run("a.h5")
    os.mkfifo("pipe.png")
    os.mkfifo("pipe.npz")
    with pytest.raises(InputError, match=r"pipe.png: is a device or a pipe"):
        overview("a.h5", "pipe.png")
    with pytest.raises(InputError, match=r"pipe.npz: is a device or a pipe; expected an .npz file"):
        ns.check(ns.load_protocol("tiny.toml", {"task": {"name": "arrays", "path": "pipe.npz"}}))


# --- names ---------------------------------------------------------------------------------------


def test_a_tilde_is_the_home_directory_everywhere():
    shutil.copy("tiny.toml", "home/mine.toml")
    done = ns.run("~/mine.toml", level="equilibrium", out="~/a.h5")
    assert done.path == Path("home/a.h5").absolute()
    assert ns.inspect("~/a.h5")["status"] == ns.open_trace("~/a.h5").attrs["status"] == "complete"
    assert not ns.repair("~/a.h5")
    assert overview("~/a.h5") == Path("home/a.png").absolute()
    assert overview("~/a.h5", "~/b.png").exists()
    assert ns.check("~/mine.toml", out="~/c.h5")["trace"] == str(Path("home/c.h5").absolute())
    assert not Path("~").exists()


def test_names_with_points_keep_them_and_figures_are_told_apart():
    for mu in ("0.05", "0.1"):
        done = call("run", "tiny.toml", "--level", "equilibrium", "--out", f"mu-{mu}", "--quiet")
        assert done.exit_code == 0, done.output
    assert variables("mu-0.05", ["soma"]).name == "mu-0.05-soma.png"
    assert {"mu-0.05", "mu-0.05.png", "mu-0.1", "mu-0.1.png", "mu-0.05-soma.png"} <= set(
        os.listdir()
    )
    assert naming.beside("x/mu-0.05.h5", ".png") == Path("x/mu-0.05.png")
    assert naming.stem("a.b.nc") == "a.b"


@pytest.mark.parametrize("place", [".", "/", ""])
@pytest.mark.parametrize(
    "command",
    ["run tiny.toml --out", "run current-clamp --out", "run stdp-window --out", "resume",
     "inspect", "compare a.h5"],
)  # fmt: skip
def test_what_has_no_name_is_no_file(command, place):
    refused = call(*command.split(), place)
    assert refused.exit_code == 2
    assert f"{place or '.'}: is a folder; expected a file" in refused.stderr


@pytest.mark.parametrize("name", ["x.txt", "x.csv", "X.PNG", "mine.toml", "x.npz"])
def test_what_is_called_like_something_else_is_no_trace(name):
    with pytest.raises(InputError, match=rf"out='{name}': is the trace, which is HDF5; expected s"):
        run(name)
    refused = call("check", "tiny.toml", "--out", name)
    assert refused.exit_code == 2
    assert f"--out {name}: is the trace, which is HDF5; expected such as" in refused.stderr
    assert not Path(name).exists()


# --- figures under their usual names -------------------------------------------------------------


@pytest.mark.parametrize("options", [(), ("--json",), ("--quiet",)])
def test_what_neurosim_drew_under_the_usual_name_it_draws_again(options):
    words = ["analyze", "mixture", "--set", "layers=[3, 4, 4]", "--samples", 1, "--starts", 0]
    assert [call(*words, *options).exit_code for _ in range(2)] == [0, 0]
    figure = Path("outputs/mixture-analysis.png")
    assert figure.read_bytes().startswith(b"\x89PNG")
    named = call(*words, *options, "--out", figure)
    assert named.exit_code == 2 and "exists; give --force" in named.output
    figure.write_text("precious")
    other = call(*words, *options)
    assert other.exit_code == 2 and "exists; give --force" in other.output
    assert figure.read_text() == "precious"


@pytest.mark.long
@pytest.mark.seldom
def test_plots_and_comparisons_are_drawn_again_too():
    ns.run("tiny.toml", out="a.h5")
    shutil.copy("a.h5", "b.h5")
    for words in (("inspect", "a.h5", "--plot", "soma"), ("compare", "a.h5", "b.h5")):
        assert [call(*words).exit_code for _ in range(2)] == [0, 0], words
    assert Path("a-soma.png").exists() and Path("a-vs-b.png").exists()


# --- homes that cannot be written ----------------------------------------------------------------


def compiled_in(monkeypatch, cache):
    """Where Brian2 would keep what it compiles, if its own folder is none that can be written."""
    from neurosim.levels.spiking import runtime
    from neurosim.levels.spiking.brian import b2, get_cython_cache_dir

    monkeypatch.setenv("NEUROSIM_CACHE", str(cache))
    before = b2.prefs.codegen.runtime.cython.cache_dir
    b2.prefs.codegen.runtime.cython.cache_dir = "/dev/null/brian_extensions"
    runtime._extensions.cache_clear()
    try:
        kept = runtime._extensions()
        return kept, Path(get_cython_cache_dir())
    finally:
        runtime._extensions.cache_clear()
        b2.prefs.codegen.runtime.cython.cache_dir = before


def test_brian2_compiles_where_the_home_cannot_be_written(monkeypatch, tmp_path):
    assert compiled_in(monkeypatch, tmp_path / "mine")[1] == tmp_path / "mine" / "cython"
    for cache in ("off", "/dev/null/none"):
        passing, folder = compiled_in(monkeypatch, cache)
        assert os.access(folder, os.W_OK) and Path(passing.name) == folder
        passing.cleanup()
        assert not folder.exists()


# --- commits -------------------------------------------------------------------------------------


def git(*words):
    identity = ["-c", "user.name=n", "-c", "user.email=e"]
    subprocess.run(["git", *identity, *words], check=True, capture_output=True)


def told(folder):
    """The commit that a copy of neurosim in a folder names."""
    code = "from neurosim.runs.environment import commit; print(commit())"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


@pytest.fixture
def installed(tmp_path):
    """neurosim inside a repository of the user's, as in an environment there."""
    packages = tmp_path / "site-packages"
    here = Path(ns.__file__).parent
    shutil.copytree(here, packages / "neurosim", ignore=shutil.ignore_patterns("__pycache__"))
    git("init", "-q", ".")
    Path("mine.txt").write_text("1")
    git("add", "mine.txt")
    git("commit", "-qm", "mine")
    return packages


def test_the_commit_of_the_repository_around_is_not_that_of_neurosim(installed):
    assert told(installed) == ""
    git("add", "-f", ".")
    git("commit", "-qm", "all")
    assert told(installed) == ""


def test_the_commit_of_the_source_tree_is(installed, monkeypatch):
    monkeypatch.chdir(installed)
    git("init", "-q", ".")
    assert told(installed) == ""  # nothing of it is in there
    git("add", ".")
    git("commit", "-qm", "source")
    commit = told(installed)
    assert len(commit) == 12 and set(commit) <= set("0123456789abcdef")
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    assert told(installed) == commit
