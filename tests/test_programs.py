"""Compiled programs are kept from process to process, and never in the way of a run."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from jax.experimental.compilation_cache import compilation_cache
from tiny_runs import TINY, same

import neurosim as ns
from neurosim.process import cache
from neurosim.runs import programs

SHORT = {
    "equilibrium.max_newton": 0,
    "stages.0.presentations": 3,
    "record.presentations": [1],
    "task.train": 16,
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The cache's folder, empty; JAX as one finds it who has asked it for nothing."""
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", None)
    compilation_cache.reset_cache()
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr(programs, "WORTHWHILE", 0.0)
    yield tmp_path / "cache"
    jax.config.update("jax_compilation_cache_dir", before)
    compilation_cache.reset_cache()


def kept(folder):
    """The programs in the cache, with what they hold."""
    return {path.name: path.read_bytes() for path in folder.glob("programs-*/*-cache")}


def compiled(number):
    """A program of its own for every number, compiled or read; what it says of 2."""

    def power(x):
        return jnp.sin(x) ** number

    jax.clear_caches()
    return float(jax.jit(power)(2.0))


@pytest.fixture
def hits():
    """How many programs were read from the cache, as JAX counts them."""
    found = []

    def note(event, **_):
        if event == "/jax/compilation_cache/cache_hits":
            found.append(event)

    jax.monitoring.register_event_listener(note)
    yield found
    jax.monitoring.unregister_event_listener(note)


# --- what is kept ---------------------------------------------------------------------------------


@pytest.mark.long
def test_numbers_are_the_same_with_and_without_the_cache(folder, tmp_path, monkeypatch, hits):
    (tmp_path / "tiny.toml").write_text(TINY)
    protocol = ns.load_protocol(tmp_path / "tiny.toml", SHORT | {"level": "equilibrium"})

    def traced(name):
        jax.clear_caches()
        return ns.run(protocol, out=tmp_path / name).path

    cold = traced("cold.h5")
    first = kept(folder)
    assert {"jit_advance", "jit_evaluate", "jit_examine"} <= {n.partition("-")[0] for n in first}
    before = len(hits)
    warm = traced("warm.h5")
    assert len(hits) - before >= len(first)
    assert kept(folder) == first
    monkeypatch.setenv(cache.VARIABLE, "off")
    off = traced("off.h5")
    assert kept(folder) == first
    same(cold, warm)
    same(cold, off)


def test_a_process_compiles_once_for_all_its_runs(folder):
    requests = []

    def note(event, **_):
        if event == "/jax/compilation_cache/compile_requests_use_cache":
            requests.append(event)

    function = jax.jit(lambda x: jnp.cos(x) ** 7)
    jax.monitoring.register_event_listener(note)
    try:
        with programs.kept():
            function(2.0)
        compiled_at_first = len(requests)
        with programs.kept():
            function(2.0)
        assert len(requests) == compiled_at_first > 0
    finally:
        jax.monitoring.unregister_event_listener(note)


def test_processors_do_not_share_programs(folder, monkeypatch, hits):
    with programs.kept():
        value = compiled(2)
    monkeypatch.setattr(programs, "features", lambda: "another processor")
    hits.clear()
    with programs.kept():
        assert compiled(2) == value
    assert not hits
    assert len(list(folder.glob("programs-*"))) == 2


def test_the_size_is_bounded(folder, monkeypatch):
    with programs.kept():
        compiled(2)
    [first] = kept(folder)
    monkeypatch.setattr(programs, "SIZE", sum(map(len, kept(folder).values())) + 100)
    with programs.kept():
        compiled(3)
    [left] = kept(folder)
    assert left != first


def test_short_compilations_are_not_kept(folder, monkeypatch):
    monkeypatch.setattr(programs, "WORTHWHILE", 1e3)
    with programs.kept():
        compiled(2)
    assert kept(folder) == {}


# --- who decides ----------------------------------------------------------------------------------


def test_jax_is_afterwards_as_it_was(folder):
    names = [name for name in dir(jax.config) if "cache" in name]
    before = {name: getattr(jax.config, name) for name in names}
    assert "jax_compilation_cache_max_size" in before
    with programs.kept():
        assert jax.config.jax_compilation_cache_dir.startswith(str(folder))
        compiled(2)
    assert {name: getattr(jax.config, name) for name in names} == before
    there = kept(folder)
    compiled(3)
    assert kept(folder) == there


def test_a_cache_that_a_script_has_set_is_used(folder, tmp_path):
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "own"))
    with programs.kept():
        assert jax.config.jax_compilation_cache_dir == str(tmp_path / "own")
    assert not folder.exists()


def test_it_can_be_switched_off(folder, monkeypatch):
    monkeypatch.setenv(cache.VARIABLE, "off")
    with programs.kept():
        compiled(2)
        assert jax.config.jax_compilation_cache_dir is None
    assert not folder.exists()


def test_it_lies_with_the_user_where_nothing_else_is_said(monkeypatch, tmp_path):
    monkeypatch.delenv(cache.VARIABLE, raising=False)
    assert cache.folder().name == "neurosim"
    monkeypatch.setenv(cache.VARIABLE, "~/scratch")
    assert cache.folder() == Path.home() / "scratch"


# --- what goes wrong; every warning is an error here --------------------------------------------


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b"no" + b])
def test_a_damaged_program_is_compiled_again_and_replaced(folder, damage, hits):
    with programs.kept():
        value = compiled(2)
    [path] = folder.glob("programs-*/*-cache")
    path.write_bytes(damage(path.read_bytes()))
    with programs.kept():
        assert compiled(2) == value
        hits.clear()
        assert compiled(2) == value
    assert hits


def test_what_a_kill_leaves_is_removed(folder):
    """JAX writes when a program was last used after the program; it stumbles over one without."""
    with programs.kept():
        compiled(2)
    [note] = folder.glob("programs-*/*-atime")
    note.unlink()
    with programs.kept():
        assert kept(folder) == {}
        compiled(3)
        assert len(kept(folder)) == 1


@pytest.mark.parametrize("place", ["a-file/cache", "a-file", "x" * 300])
def test_a_place_that_can_hold_nothing_is_no_reason_to_stop(folder, tmp_path, monkeypatch, place):
    (tmp_path / "a-file").write_text("")
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / place))
    with programs.kept():
        assert jax.config.jax_compilation_cache_dir is None
        compiled(2)


def test_a_full_disk_is_no_reason_to_stop(folder, monkeypatch):
    write = Path.write_bytes

    def full(path, data):
        if path.suffix or not path.name.endswith("-cache"):
            return write(path, data)
        write(path, data[:100])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with programs.kept(), monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", full)
        value = compiled(2)
        assert compiled(2) == value
        compiled(3)
    assert all(len(content) == 100 for content in kept(folder).values())
    with programs.kept():
        assert compiled(2) == value
    assert [len(content) > 100 for content in kept(folder).values()] == [True]


def test_other_warnings_are_heard(folder):
    import warnings

    with pytest.warns(UserWarning, match="something else"), programs.kept():
        warnings.warn("something else", UserWarning, stacklevel=1)


RACE = """
import jax, jax.numpy as jnp
from neurosim.runs import programs
programs.WORTHWHILE = 0.0
with programs.kept():
    print([float(jax.jit(lambda x, n=n: jnp.sin(x) ** n)(2.0)) for n in range(2, 40)])
"""


def test_processes_share_it_at_once(folder):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("JAX_")}
    command = [sys.executable, "-W", "error", "-c", RACE]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    started = [subprocess.Popen(command, env=environment, text=True, **pipes) for _ in range(3)]
    said = {process.communicate() for process in started}
    assert [process.returncode for process in started] == [0, 0, 0]
    [(numbers, errors)] = said
    assert errors == ""
    assert len(numbers.split(",")) == 38
    assert len(kept(folder)) >= 38
    assert len(list(folder.glob("programs-*/*-atime"))) == len(kept(folder))


RUNS = """
import sys
import neurosim as ns
from neurosim.runs import programs
programs.WORTHWHILE = 0.0
changes = {"equilibrium.max_newton": 0, "stages.0.epochs": None, "stages.0.presentations": 2,
           "record.presentations": 1}
for name, more in {
    "student-teacher": {"level": "rate"},
    "multiplexing-digits": {"level": "equilibrium", "model.layers": [64, 4, 10]},
}.items():
    ns.run(ns.load_protocol(name, changes | more), out=f"{sys.argv[1]}-{name}.h5")
"""


@pytest.mark.seldom
@pytest.mark.long
def test_processes_that_hash_otherwise_find_the_same_programs(tmp_path):
    """Sets of names are gone through in another order there, which no program may show."""
    found = []
    for seed in ("1", "2"):
        own = {"PYTHONHASHSEED": seed, cache.VARIABLE: str(tmp_path / "cache")}
        environment = {k: v for k, v in os.environ.items() if not k.startswith("JAX_COMPILATION")}
        command = [sys.executable, "-c", RUNS, seed]
        subprocess.run(command, cwd=tmp_path, env=environment | own, check=True)
        found.append(kept(tmp_path / "cache"))
    assert len(found[0]) > 10
    assert found[0].keys() == found[1].keys()
    for trace in tmp_path.glob("1-*.h5"):
        same(trace, trace.with_name(f"2{trace.name[1:]}"))
