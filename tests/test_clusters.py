"""Sweeps on a cluster of Dask that somebody else has started, or that is none."""

import json
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from distributed.core import Status
from tiny_runs import TINY

import neurosim as ns
from neurosim.sweeps.cluster import cluster

MU = "model.parameters.mu"
EQUILIBRIUM = {"level": "equilibrium", "record.presentations": 0}
CONSOLE = Path(sys.executable).parent / "neurosim"


@pytest.fixture
def folder(tmp_path):
    """A folder with the tiny protocol."""
    (tmp_path / "tiny.toml").write_text(TINY)
    return tmp_path


SCHEDULER = "is not the file of a scheduler, which names its address"


@pytest.mark.filterwarnings("error")  # of a client of Dask that is given up
@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("node1", "no scheduler of Dask answers there: missing port number"),
        ("http://node1:8786", "no scheduler of Dask answers there: unknown address scheme 'http'"),
        ("scheduler.json", "no such file; expected the one that a scheduler writes"),
        ("folder/scheduler", "no such file; expected the one that a scheduler writes"),
        ("half.json", SCHEDULER),
        ("empty.json", SCHEDULER),
        ("list.json", SCHEDULER),
        (5, "got 5; expected the address of a scheduler, the file that it writes, or"),
    ],
)
def test_a_cluster_that_is_none_is_refused(folder, monkeypatch, given, message):
    monkeypatch.chdir(folder)
    for name, text in (("half", '{"address":'), ("empty", "{}"), ("list", "[]")):
        Path(f"{name}.json").write_text(text)
    with pytest.raises(ns.InputError) as error, cluster(given, 1, 1, Path("log")):
        pass
    said = f"cluster: {message}" if given == 5 else f"cluster {given}: {message}"
    assert str(error.value).startswith(said)


def test_a_server_that_is_no_scheduler_is_not_waited_for(folder, monkeypatch):
    monkeypatch.setattr("neurosim.sweeps.cluster.CONNECTING", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(ns.InputError, match="no scheduler of Dask answers there: TimeoutError"):
            ns.sweep(
                folder / "tiny.toml",
                {MU: [0.1]},
                overrides=EQUILIBRIUM,
                out=folder / "swept",
                cluster=address,
            )


def test_a_launcher_that_was_closed_is_refused():
    closed = SimpleNamespace(scheduler_address="tcp://127.0.0.1:1", loop=None, status=Status.closed)
    said = "no scheduler of Dask answers there: Trying to connect to an already closed"
    with pytest.raises(ns.InputError, match=said), cluster(closed, 1, 1, Path("log")):
        pass


@pytest.mark.seldom
@pytest.mark.long
def test_a_cluster_that_somebody_started_is_used(folder):
    """Its workers have two threads, which take turns; one joins late."""
    file = folder / "scheduler.json"
    scheduler = subprocess.Popen(
        [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port",
         "0", "--no-dashboard", "--scheduler-file", file], stderr=subprocess.DEVNULL
    )  # fmt: skip
    processes = [scheduler]
    try:
        while not (file.exists() and file.read_text().endswith("}")):
            time.sleep(0.1)
        address = json.loads(file.read_text())["address"]
        worker = [sys.executable, "-m", "distributed.cli.dask_worker", address, "--nthreads", "2"]
        worker += ["--no-dashboard", "--local-directory", folder / "scratch"]
        processes.append(subprocess.Popen(worker, stderr=subprocess.DEVNULL))
        arguments = ["tiny.toml", "--over", f"{MU}=0.1,0.2", "--seeds", "0:2", "--level",
                     "equilibrium", "--set", "record.presentations=0", "--json"]  # fmt: skip
        for place, out in ((address, "by-address"), (file, "by-file")):
            given = [*arguments, "--cluster", place, "--out", out]
            done = subprocess.run([CONSOLE, "sweep", *map(str, given)], cwd=folder, text=True,
                                  capture_output=True, timeout=100)  # fmt: skip
            assert done.returncode == 0, done.stderr
            assert json.loads(done.stdout)["states"] == {"finished": 2}
        assert all(process.poll() is None for process in processes)
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(20)
