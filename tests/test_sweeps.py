"""Sweeps: what they go over, who runs what, and that their points are runs as any other."""

import contextlib
import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import xarray
from command_line import call
from tiny_runs import TINY, same

import neurosim as ns
from neurosim.sweeps import axes as sweep_axes
from neurosim.sweeps import results
from neurosim.sweeps.dispatch import ATTEMPTS, Dispatch
from neurosim.sweeps.forecast import forecast
from neurosim.sweeps.ledger import Ledger
from neurosim.sweeps.plan import plan
from neurosim.tasks.data import Data
from neurosim.traces.checkpoint import Checkpoint
from neurosim.traces.reader import describe

MU, RATE = "model.parameters.mu", "model.projections.W.rate"
EQUILIBRIUM = {"level": "equilibrium", "record.presentations": 0}
CONSOLE = Path(sys.executable).parent / "neurosim"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the tiny protocol."""
    path = tmp_path_factory.mktemp("sweeps")
    (path / "tiny.toml").write_text(TINY)
    return path


# --- axes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("a.b=0.05,0.1,0.2", [0.05, 0.1, 0.2]),
        ("a.b=[64,32,10],[64,64,10]", [[64, 32, 10], [64, 64, 10]]),
        ("a.b=mixture, multiplexing", ["mixture", "multiplexing"]),
        ("a.b='x,y',20 ms", ["x,y", "20 ms"]),
        ("a.b={ name = 'digits', x = 1 },true", [{"name": "digits", "x": 1}, True]),
    ],
)
def test_values_are_told_apart_by_commas_outside_of_brackets_and_quotes(text, values):
    assert sweep_axes.parse_axis(text) == ("a.b", values)


def test_axes_are_called_by_the_shortest_ends_that_tell_them_apart():
    keys = [MU, RATE, "model.projections.Q.rate", "stages.0.epochs", "task.seed"]
    found = sweep_axes.axes({key: [1, 2] for key in keys})
    assert [axis.name for axis in found] == ["mu", "W.rate", "Q.rate", "epochs", "task.seed"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "tiny: no axis; give --over, or a table such as [sweep.over]"),
        (["--over", "model.paramters.mu=1"], "unknown key 'paramters'; did you mean 'parameters'?"),
        (["--over", MU], f"--over '{MU}': expected KEY=VALUE,VALUE"),
        (["--over", f"{MU}=0.1,"], f"--over {MU}: has an empty value"),
        (["--over", f"{MU}=0.1,0.1"], f"--over {MU}: has 0.1 twice"),
        (["--over", f"{MU}=0.1", "--over", f"{MU}=0.2"], f"--over {MU}: is given twice"),
        (["--over", "seed=0,1"], "--over seed: seeds are an axis of their own; give --seeds"),
        (["--over", "name=a,b"], "--over name: changes no number of a run"),
        (["--over", f"{MU}=0.1", "--set", f"{MU}=0.2"], f"--over {MU}: {MU} is set as well"),
        (["--over", f"{MU}=0.1", "--over", "model.parameters={}"], "overlaps with"),
        (["--over", f"{MU}=0.1,-1"], "expected a share of more than 0 and at most 1 (at mu=-1)"),
        (["--over", "batch=16,500"], "--over batch: 500 samples a batch, but the task has only 64"),
        (["--over", f"{MU}=0.1", "--out", "."], "holds tiny.toml and no sweep; give another --out"),
        (["--over", f"{MU}=0.1", "--workers", "2", "--cluster", "x"], "got both; expected one"),
    ],
)
def test_mistakes_are_said_before_anything_runs(folder, monkeypatch, arguments, message):
    monkeypatch.chdir(folder)
    done = call("sweep", "tiny.toml", *arguments)
    assert done.exit_code == 2
    assert message in done.stderr
    assert done.stderr.startswith("error: ")
    assert not Path("outputs").exists()


def test_a_script_is_told_of_what_it_gave(folder):
    with pytest.raises(ns.InputError, match=r"^over batch: 500 samples a batch"):
        ns.sweep(folder / "tiny.toml", {"batch": [500]})
    with pytest.raises(ns.InputError, match=r"^workers: got 0; expected how many processes"):
        ns.sweep(folder / "tiny.toml", {MU: [0.1]}, workers=0, out=folder / "none")
    with pytest.raises(ns.InputError, match=r"^over: got 3; expected values by key"):
        ns.sweep(folder / "tiny.toml", 3)


# --- the plan ------------------------------------------------------------------------------------


def test_points_that_differ_in_numbers_share_programs(folder):
    over = {MU: [0.1, 0.2], "model.layers": [[3, 4, 4], [3, 5, 4]], RATE: [0.01, [0.01, 0.02]]}
    made = plan(folder / "tiny.toml", over, overrides=EQUILIBRIUM)
    by_layers = {}
    for point in made.points:
        by_layers.setdefault(point.place[1], set()).add(point.program)
    assert len(made.points) == 8
    assert by_layers == {0: {0}, 1: {1}}


def test_a_point_is_known_by_what_decides_its_numbers(folder):
    def digest(seeds=(0, 1), file="tiny.toml", **changes):
        changes = {key.replace("__", "."): value for key, value in changes.items()}
        made = plan(folder / file, {MU: [0.1]}, seeds, overrides=EQUILIBRIUM | changes)
        return made.points[0].digest

    (folder / "called.toml").write_text(TINY.replace('name = "tiny"', 'name = "other"'))
    plain = digest()
    assert digest() == digest(file="called.toml") == digest(seed=5) == plain
    loaded = ns.load_protocol(folder / "tiny.toml", EQUILIBRIUM)
    assert plan(loaded, {MU: [0.1]}, (0, 1)).points[0].digest == plain
    others = [digest(range(3)), digest(task__train=48), digest(precision="float32")]
    others += [digest(model__projections__W__post="2*slope(basal)*(soma - soma_free)")]
    for number in (0, 1):  # the same file, with other data in it
        np.savez(folder / "mine.npz", x=np.full((40, 3), number), y=np.full((40, 4), 1.0))
        task = {"name": "arrays", "path": str(folder / "mine.npz")}
        others.append(digest(task=task))
    assert len({plain, *others}) == 7


def test_a_protocol_may_say_its_sweep(folder):
    table = "\n[sweep]\nseeds = [3, 5]\n[sweep.over]\nmodel.parameters.mu = [0.1, 0.2]\n"
    (folder / "own-sweep.toml").write_text(TINY + table)
    made = plan(folder / "own-sweep.toml", overrides=EQUILIBRIUM)
    assert [axis.key for axis in made.axes] == [MU]
    assert made.seeds == [3, 5]
    assert all(point.protocol.spec.sweep is None for point in made.points)
    without = plan(folder / "tiny.toml", {MU: [0.1, 0.2]}, [3, 5], overrides=EQUILIBRIUM)
    assert [p.digest for p in made.points] == [p.digest for p in without.points]
    with pytest.warns(ns.NeurosimWarning, match=r"sweep: is gone over by neurosim sweep alone"):
        report = ns.check(folder / "own-sweep.toml", level="equilibrium")
    assert "sweep" not in report["protocol"]


def test_an_object_of_a_script_is_known_by_its_name(folder):
    class Square:
        shared = True

        def draw(self, rng):
            x = rng.standard_normal((64, 3))
            return Data(x, x[:, [0, 1, 2, 0]], x, x[:, [0, 1, 2, 0]], classes=False)

    with pytest.warns(ns.NeurosimWarning, match="task: an object of a script is known by its name"):
        plan(folder / "tiny.toml", {MU: [0.1]}, overrides=EQUILIBRIUM | {"task": Square()})


# --- who runs what -------------------------------------------------------------------------------


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_a_program_is_compiled_once_and_then_shared_where_that_is_worth_it():
    clock = Clock()
    dispatch = Dispatch([0] * 20, clock)
    assert dispatch.next("a") == 0
    assert dispatch.next("b") is None  # while a compiles
    clock.now = 10
    dispatch.moved(0)
    assert dispatch.next("b") is None  # nobody knows yet how long a point takes
    clock.now = 11
    dispatch.ended(0)
    assert dispatch.next("b") == 1  # 19 s are left, more than it takes to begin
    assert dispatch.next("a") == 2


def test_short_points_are_left_to_who_has_their_programs():
    clock = Clock()
    dispatch = Dispatch([0] * 4, clock)
    dispatch.next("a")
    clock.now = 10
    dispatch.moved(0)
    clock.now = 10.5
    dispatch.ended(0)
    assert dispatch.next("b") is None  # 1.5 s are left, and to begin takes longer
    assert [dispatch.next("a"), dispatch.next("b")] == [1, None]


def test_workers_take_different_programs_first():
    dispatch = Dispatch([0, 0, 1, 1])
    assert [dispatch.next("a"), dispatch.next("b")] == [0, 2]
    for point in (0, 2):
        dispatch.ended(point)
    assert [dispatch.next("b"), dispatch.next("a")] == [3, 1]


def test_a_point_that_loses_its_workers_is_given_up_in_the_end():
    dispatch = Dispatch([0, 0])
    for attempt in range(1, ATTEMPTS + 1):
        worker = f"worker {attempt}"
        assert dispatch.next(worker) == 0
        again, lost = dispatch.died([])
        assert (again, lost) == (([0], []) if attempt < ATTEMPTS else ([], [0]))
    assert dispatch.next("another") == 1
    dispatch.ended(1)
    assert dispatch.over


IMPORTED = """
import signal, threading
before = signal.getsignal(signal.SIGINT)
def go():
    from neurosim.levels.spiking.brian import b2
    print(b2.ms)
thread = threading.Thread(target=go)
thread.start()
thread.join()
print(signal.getsignal(signal.SIGINT) is before)
"""


def test_brian_is_imported_by_the_thread_of_a_worker(folder):
    command = [sys.executable, "-c", IMPORTED]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["ms", "True"], done.stderr


# --- a small sweep -------------------------------------------------------------------------------

OVER = {MU: [0.1, 0.2], RATE: [0.05, 1e9]}
"""At the second rate everything diverges."""


@pytest.fixture(scope="module")
def swept(folder):
    """A sweep by two workers; what it returned, what it warned of, and its folder."""
    out, heard = folder / "swept", []
    with pytest.warns(ns.NeurosimWarning) as warned:
        found = ns.sweep(folder / "tiny.toml", OVER, seeds=range(2), overrides=EQUILIBRIUM,
                         out=out, workers=2, progress=heard.append)  # fmt: skip
    return found, [str(w.message) for w in warned], heard, out


def test_points_are_what_single_runs_are(swept, folder):
    found, _, heard, _ = swept
    point = found.sel({"mu": 0.2, "rate": 0.05})
    changes = EQUILIBRIUM | {MU: 0.2, RATE: 0.05}
    alone = ns.run(ns.load_protocol(folder / "tiny.toml", changes), seeds=range(2),
                   out=folder / "alone.h5")  # fmt: skip
    assert point["test_loss"].values.tolist() == alone.metrics["test_loss"]
    trace = ns.open_trace(alone.path)
    assert np.array_equal(point["loss"].values.T, trace["evaluation/loss"].values)
    assert found["presentation"].values.tolist() == trace["evaluation/presentation"].values.tolist()
    assert found["mu"].attrs["key"] == MU
    assert heard[-1].done == heard[-1].total == 40
    assert heard[-1].numbers == "2 of 4 points finished, 2 failed"


def test_models_that_fail_are_recorded_and_said(swept):
    found, warned, _, _ = swept
    assert found["state"].values.tolist() == [["finished", "failed"], ["finished", "failed"]]
    lost = found.sel(rate=1e9)
    assert lost["diverged"].values.all()
    assert np.isnan(lost["test_loss"].values).all()
    assert all("diverged at presentation" in str(reason) for reason in lost["reason"].values)
    assert [w.partition(" failed")[0] for w in warned] == ["mu=0.1, rate=1e+09:",
                                                           "mu=0.2, rate=1e+09:"]  # fmt: skip


def test_what_is_done_is_not_done_again(swept, folder, monkeypatch):
    """Also of points that failed; no worker is started for it."""
    _, _, _, out = swept
    before = {path: path.stat().st_mtime_ns for path in out.glob("points/*.h5")}
    monkeypatch.setattr("neurosim.sweeps.sending.cluster", None)
    monkeypatch.chdir(folder)
    arguments = ["sweep", "tiny.toml", "--over", f"{MU}=0.1,0.2", "--over", f"{RATE}=0.05,1e9"]
    arguments += ["--seeds", "0:2", "--out", out, "--level", "equilibrium"]
    arguments += ["--set", "record.presentations=0", "--workers", "2"]
    done = call(*arguments)
    assert done.exit_code == 1, done.output  # a model failed, and nothing is left to do
    assert "points      0 to run; before: 2 done, 2 failed" in done.stderr
    assert "tiny: 2 failed, 2 finished; mean of 2 seeds" in done.stdout
    assert re.search(r"0\.1 +1e\+09 +failed", done.stdout)
    report = json.loads(call(*arguments, "--json", "--dry-run").stdout)
    assert (report["points"], report["done"], report["failed"]) == (4, 2, 2)
    assert report["wall_s"] is None
    assert {path: path.stat().st_mtime_ns for path in out.glob("points/*.h5")} == before


def test_results_lie_beside_the_traces(swept):
    found, _, _, out = swept
    with xarray.open_dataset(out / "sweep.nc", engine="h5netcdf") as written:
        assert np.array_equal(written["test_loss"], found["test_loss"], equal_nan=True)
    with open(out / "sweep.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8
    first = rows[0]
    assert (first[MU], first[RATE], first["seed"], first["state"]) == (
        "0.1",
        "0.05",
        "0",
        "finished",
    )
    assert float(first["test_loss"]) == found["test_loss"].values[0, 0, 0]
    assert len(list(out.glob("points/*.h5"))) == len(list(out.glob("points/*.json"))) == 4
    assert ns.figures.sweep(found, out / "drawn.png").stat().st_size > 10_000
    assert "Registered to" in (out / "workers.log").read_text()


def test_one_process_sweeps_in_a_folder(swept):
    ledger = Ledger(swept[3])
    about = json.loads((swept[3] / "sweep.json").read_text())
    refused = pytest.raises(ns.InputError, match="another process sweeps there")
    with ledger.kept(about), refused, Ledger(swept[3]).kept(about):
        pass


def test_a_record_without_its_trace_counts_for_nothing(swept, tmp_path):
    ledger = Ledger(tmp_path)
    with ledger.kept({}):
        ledger.note("x", {"state": "finished"})
        assert ledger.record("x") is None
        ledger.trace("x").write_bytes(b"")
        assert ledger.record("x") == {"state": "finished"}
        ledger.note("x", {"state": "lost"})
        assert ledger.record("x") is None


@pytest.mark.long
def test_what_a_sweep_costs_is_measured_and_points_may_have_other_lengths(folder):
    over = {"stages.0.presentations": [4, 8], MU: [0.1]}
    made = plan(folder / "tiny.toml", over, overrides=EQUILIBRIUM)
    out = folder / "lengths"
    cost = forecast(made, out=out, workers=1)
    assert (cost["points"], cost["programs"], cost["measured_programs"]) == (2, 1, 1)
    assert cost["wall_s"] >= cost["compile_s"] > 0
    assert cost["memory_bytes"] > 1e8
    assert not out.exists()  # workers that measure write nothing
    assert results.gather(made, Ledger(out), {})["state"].values.tolist() == [["missing"]] * 2
    found = ns.sweep(folder / "tiny.toml", over, overrides=EQUILIBRIUM, out=out, workers=1)
    tested = found["presentation"].sel(mu=0.1).values
    assert np.array_equal(tested, [[0, 4, np.nan], [0, 4, 8]], equal_nan=True)
    assert np.array_equal(np.isnan(found["loss"].values[:, 0, 0]), np.isnan(tested))
    short, long = found["loss"].sel(mu=0.1, seed=0).values
    assert short[1] == long[1]


# --- workers that die, and signals ---------------------------------------------------------------

LONG = ["--set", "stages.0.presentations=2000", "--set", "level=equilibrium"]
LONG += ["--set", "record.presentations=0"]
SLOW = ["sweep", "tiny.toml", "--over", f"{MU}=0.1,0.2,0.3,0.4", "--seeds", "0:2", *LONG]


def begun(out, besides=()):
    """The process that writes a point, not one of those besides, once it has done something."""
    until = time.monotonic() + 120
    while time.monotonic() < until:
        for trace in out.glob("points/*.h5"):
            with contextlib.suppress(ns.InputError):
                found = describe(trace)
                pid = int(found["attributes"]["pid"])
                moved = found["status"] == "running" and Checkpoint.load(trace).about["done"]
                if moved and pid not in besides:
                    return pid
        time.sleep(0.1)
    raise AssertionError("nothing began")


@contextlib.contextmanager
def started(folder, *arguments):
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    command = [CONSOLE, *map(str, arguments)]
    with subprocess.Popen(command, cwd=folder, text=True, **pipes) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.long
def test_a_killed_worker_costs_nothing_and_ctrl_c_leaves_all_to_go_on_with(folder):
    with started(folder, *SLOW, "--out", "whole", "--workers", "1", "--quiet") as whole:
        _, said = whole.communicate(timeout=170)
        assert whole.returncode == 0, said
    arguments, out = [*SLOW, "--out", "cut", "--workers", "1"], folder / "cut"
    with started(folder, *arguments) as first:
        pid = begun(out)
        os.kill(pid, signal.SIGKILL)
        begun(out, {pid})
        assert first.poll() is None, "it has ended before Ctrl-C could come"
        first.send_signal(signal.SIGINT)
        _, said = first.communicate(timeout=60)
    assert first.returncode == 130, said
    assert "the same sweep goes on where it was" in said
    assert "Traceback" not in said
    assert "distributed" not in said
    with started(folder, *arguments, "--json") as second:
        report, said = second.communicate(timeout=120)
    assert second.returncode == 0, said
    assert json.loads(report)["states"] == {"finished": 4}
    for trace in (folder / "whole" / "points").glob("*.h5"):
        same(trace, out / "points" / trace.name)
    found = [describe(path)["attributes"] for path in out.glob("points/*.h5")]
    assert max(len(json.loads(of.get("resumed", "[]"))) for of in found) == 2
    assert not list(out.glob("points/*.checkpoint"))


class Deadly:
    """A task that kills whoever works on it."""

    shared = True

    def draw(self, rng):
        if "dask_worker" in sys.argv[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        x = rng.standard_normal((64, 3))
        return Data(x, x[:, [0, 1, 2, 0]], x, x[:, [0, 1, 2, 0]], classes=False)


@pytest.mark.long
def test_a_point_that_kills_its_workers_is_lost_and_the_sweep_incomplete(folder):
    changes = EQUILIBRIUM | {"task": Deadly()}
    known = pytest.warns(ns.NeurosimWarning, match="known by its name")
    with known, pytest.raises(ns.IncompleteError) as error:
        ns.sweep(folder / "tiny.toml", {MU: [0.1]}, overrides=changes, out=folder / "deadly",
                 workers=1)  # fmt: skip
    assert error.value.exit_code == 3
    first, second = str(error.value).splitlines()
    assert first == "1 point of 1 missing; the same sweep takes them up again:"
    assert second == f"mu=0.1: its worker died {ATTEMPTS} times; it may need more memory"
    assert error.value.results["state"].values.tolist() == ["lost"]
