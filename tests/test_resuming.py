"""A run that was stopped and resumed equals the run without a break, bit for bit."""

import json
import os
import signal
import time
from importlib import import_module

import h5py
import numpy as np
import pytest
from tiny_runs import SLEEP, TINY, same

import neurosim as ns
from neurosim.building.loading import load_protocol
from neurosim.errors import InputError, NeurosimWarning, StoppedError
from neurosim.process.stopping import TOGETHER
from neurosim.traces.amending import amend
from neurosim.traces.checkpoint import Checkpoint

RECONSTRUCT = {
    "model.projections.Q": {
        "init": "normal",
        "post": "t_slope(apical)*(soma - apical_rate)",
        "rate": 0.01,
    }
}
CASES = {
    "equilibrium": ({"level": "equilibrium"}, ""),
    "fixed steps, momentum": ({"model.projections.W.optimizer": "momentum"}, ""),
    "adaptive steps, adam": (
        {"rate.adaptive": True, "rate.scheme": "tsit5", "model.projections.W.optimizer": "adam"},
        "",
    ),
    "noise, float32": ({"model.noise": {"soma": 0.05}, "precision": "float32"}, ""),
    "two stages with sleep": ({"level": "equilibrium", "schedule.kind": "linear"}, SLEEP),
    "online": (
        {
            "plasticity": "online",
            "model.tau_memory": "20 ms",
            "model.projections.W.rate": "0.1 Hz",
            "model.projections.Q": {"init": "inv(W[i+1])", "rule": "tied"},
            "stages.0.phases.0.plastic": [],
        },
        "",
    ),
    "two ways of feedback, events and bursts": (
        {
            "level": "spiking",
            "model.use": "burst-ccn",
            "model.layers": [3, 4, 4],
            "model.spiking.neurons": 3,
            "spiking.target": "numpy",
            "spiking.dt": "1 ms",
            "spiking.window": "20 ms",
            "stages.0.phases.0.duration": "40 ms",
            "stages.0.phases.0.plastic": ["Q"],
            "stages.0.phases.1.duration": "40 ms",
            "stages.0.phases.1.plastic": ["W"],
            "record.every": "10 ms",
        },
        "",
    ),
    "a channel redrawn and with gaps": (
        {
            "model.use": "backprop",
            "model.layers": [3, 5, 4, 4],
            "model.output": "linear",
            "model.loss": "squared",
            "level": "equilibrium",
            "model.credit": {"name": "rbp", "redrawn": True, "dropout": 0.3},
            "model.projections.W.rate": 0.005,
            "stages.0.phases": [{"name": "learning", "plastic": ["forward"]}],
        },
        "",
    ),
    "goals of nodes, by turns": (
        {
            "model.use": "local-goals",
            "model.layers": [4, 5, 5, 5, 3],
            "task": {"name": "yin-yang", "train": 64, "test": 16},
            "level": "equilibrium",
            "model.credit": {
                "name": "local-goals",
                "rule": "penalized",
                "rate": 0.5,
                "nodes": {"active": 0.5, "goals": [2]},
            },
            "stages.0.phases": [{"name": "learning", "plastic": ["forward", "feedback"]}],
        },
        "",
    ),
    "bursts against a phase before": (
        {
            "level": "equilibrium",
            "model.use": "burstprop-learned",
            "model.layers": [3, 4, 4],
            "stages.0.phases.0.name": "prediction",
            "stages.0.phases.0.plastic": [],
            "stages.0.phases.1.plastic": ["W", "Y"],
        },
        "",
    ),
    "spiking": (
        {
            "level": "spiking",
            "model.spiking.neurons": 3,
            "spiking.target": "numpy",
            "spiking.dt": "1 ms",
            "spiking.window": "20 ms",
            "stages.0.phases.0.duration": "40 ms",
            "stages.0.phases.1.duration": "40 ms",
            "record.every": "10 ms",
        },
        "",
    ),
    "spikes in JAX": (
        {
            "level": "spiking",
            "precision": "float32",
            "model.spiking.neurons": 3,
            "model.spiking.soma": "poisson",
            "spiking.engine": "jax",
            "spiking.dt": "1 ms",
            "spiking.window": "20 ms",
            "stages.0.phases.0.duration": "40 ms",
            "stages.0.phases.1.duration": "40 ms",
            "record.every": "10 ms",
        },
        "",
    ),
}


class Runner:
    """Runs one protocol in short chunks, with a stop after some presentations if asked."""

    def __init__(self, folder, changes, more=""):
        self.folder, self.changes = folder, changes
        self.file = folder / "tiny.toml"
        self.file.write_text(TINY.replace("[record]", more + "[record]"))

    def run(self, name, stop=None, number=signal.SIGTERM, **arguments):
        path = self.folder / name
        protocol = load_protocol(self.file, self.changes)
        return ns.run(protocol, out=path, force=True, progress=stopper(stop, number), **arguments)


def stopper(stop, number=signal.SIGTERM):
    """A progress display that sends this process a signal."""

    def progress(progress):
        if stop is not None and progress.done >= stop:
            os.kill(os.getpid(), number)

    return progress


@pytest.fixture(autouse=True)
def short_chunks(monkeypatch):
    monkeypatch.setattr(import_module("neurosim.runs.loop"), "CHUNK_SECONDS", 0.0)


@pytest.fixture(autouse=True)
def heeding():
    """A script that hears of SIGTERM and goes on, as pytest has to."""
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def tiny(tmp_path):
    return Runner(tmp_path, {"level": "equilibrium"})


LONG = {"online", "spiking", "spikes in JAX"}
SELDOM = {
    "adaptive steps, adam", "noise, float32", "bursts against a phase before",
    "two ways of feedback, events and bursts",
}  # fmt: skip
"""Cases that take longest."""


def marks(case):
    return [pytest.mark.long] * (case in LONG | SELDOM) + [pytest.mark.seldom] * (case in SELDOM)


@pytest.mark.parametrize("case", [pytest.param(c, marks=marks(c)) for c in CASES])
def test_a_resumed_run_equals_the_run_without_a_break(tmp_path, case):
    """Stopped twice: in the middle of an epoch, and between a recorded presentation and the end."""
    changes, more = CASES[case]
    if more:
        changes = changes | RECONSTRUCT
    runner = Runner(tmp_path, changes, more)
    seeds = {"seeds": [0, 1]} if case in ("equilibrium", "online", "spiking") else {}
    whole = runner.run("whole.h5", **seeds)
    assert np.isfinite(whole.metrics["test_loss"]).all()
    with pytest.raises(StoppedError, match=r"stopped after 3 of 1\d presentations"):
        runner.run("parts.h5", stop=3, **seeds)
    trace = tmp_path / "parts.h5"
    assert ns.inspect(trace)["status"] == "interrupted"
    assert ns.inspect(trace)["presentations"]["done"] == 3
    with pytest.raises(StoppedError):
        ns.resume(trace, progress=stopper(7))
    parts = ns.resume(trace)
    assert parts.metrics == whole.metrics and parts.settled == whole.settled
    same(tmp_path / "whole.h5", trace)
    assert not Checkpoint.path(trace).exists()
    with h5py.File(trace) as file:
        resumed = json.loads(file.attrs["resumed"])
    assert [entry["presentation"] for entry in resumed] == [3, 7]


def test_equal_runs_have_equal_bytes(tiny, tmp_path):
    tiny.run("a.h5")
    tiny.run("b.h5")
    same(tmp_path / "a.h5", tmp_path / "b.h5")


def test_a_run_that_died_before_its_first_test_equals_the_whole_too(tiny, tmp_path, monkeypatch):
    tiny.run("whole.h5")

    class Died(BaseException):
        pass

    def die(self, stage, weights):
        raise Died

    with monkeypatch.context() as patch:
        patch.setattr("neurosim.runs.loop.Loop.test", die)
        with pytest.raises(Died):
            tiny.run("cut.h5")
    ns.resume(tmp_path / "cut.h5")
    same(tmp_path / "whole.h5", tmp_path / "cut.h5")


# --- what is refused ---------------------------------------------------------------------------


@pytest.fixture
def stopped(tiny):
    with pytest.raises(StoppedError):
        tiny.run("cut.h5", stop=3)
    return tiny.folder / "cut.h5"


def test_a_changed_protocol_is_refused_unless_forced(tiny, stopped):
    text = tiny.file.read_text()
    tiny.file.write_text(text.replace("W.rate = 0.05", "W.rate = 0.04"))
    changed = r"model.projections.W.rate: was 0.05, is 0.04"
    with pytest.raises(InputError, match=rf"is not what it began as; undo this(.|\n)*\n{changed}"):
        ns.resume(stopped)
    with pytest.warns(NeurosimWarning, match=f"goes on with something else: {changed}"):
        ns.resume(stopped, force=True)
    with h5py.File(stopped) as file:
        [entry] = json.loads(file.attrs["resumed"])
    assert entry["differing"] == [changed]


def test_a_trace_that_another_host_wrote_is_resumed_if_forced(tiny, stopped, tmp_path):
    with open(stopped, "r+b") as raw:
        amend(raw, {"status": "running", "host": "elsewhere"})
    wrote = r"process \d+ of host elsewhere wrote it; .* give force=True if it does not"
    with pytest.raises(InputError, match=wrote):
        ns.resume(stopped)
    assert ns.inspect(stopped)["status"] == "running"
    ns.resume(stopped, force=True)
    tiny.run("whole.h5")
    same(tmp_path / "whole.h5", stopped)
    with h5py.File(stopped) as file:
        [entry] = json.loads(file.attrs["resumed"])
        pid = file.attrs["pid"]
    assert entry["differing"] == [f"process {pid} of host elsewhere was taken to have ended"]


def test_a_trace_that_a_process_writes_is_not_resumed_even_if_forced(stopped):
    with open(stopped, "r+b") as raw:
        amend(raw, {"status": "running"})  # by this very process
    with pytest.raises(InputError, match=rf"process {os.getpid()} is writing it; stop that first"):
        ns.resume(stopped, force=True)


def test_a_changed_layout_is_refused_even_if_forced(tiny, stopped):
    text = tiny.file.read_text()
    tiny.file.write_text(text.replace("presentations = 10", "presentations = 12"))
    with (
        pytest.warns(NeurosimWarning, match="stages"),
        pytest.raises(InputError, match="the axis metrics/presentation is another"),
    ):
        ns.resume(stopped, force=True)
    tiny.file.write_text(text.replace("[3, 4, 4]", "[3, 4, 5, 4]"))
    with (
        pytest.warns(NeurosimWarning),
        pytest.raises(InputError, match="a state of another network or run"),
    ):
        ns.resume(stopped, force=True)


def test_a_changed_version_or_machine_is_refused(stopped, monkeypatch):
    module = import_module("neurosim.runs.resumption")
    there = module.environment
    monkeypatch.setattr(module, "environment", lambda level: there(level) | {"jax": "0.0.1"})
    with pytest.raises(InputError, match=r"jax: was '[\d.]+', is '0\.0\.1'"):
        ns.resume(stopped)


def test_other_cores_or_flags_of_the_compiler_are_refused_and_in_the_trace(stopped, monkeypatch):
    """Sums are split among cores; what they round to differs in the last digits."""
    with ns.open_trace(stopped) as trace:
        found = json.loads(str(trace["provenance/environment"].values))
    usable = len(os.sched_getaffinity(0))
    assert found["cores"] == str(usable)
    flags = os.environ.get("XLA_FLAGS", "")
    assert found["XLA_FLAGS"] == flags
    monkeypatch.setenv("XLA_FLAGS", f"{flags} --xla_cpu_enable_fast_math=true")
    with pytest.raises(InputError, match=r"XLA_FLAGS: was '.*', is '.*fast_math=true'"):
        ns.resume(stopped)
    monkeypatch.undo()
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(usable + 1))
    with pytest.raises(InputError, match=f"cores: was '{usable}', is '{usable + 1}'"):
        ns.resume(stopped)


def test_a_protocol_whose_file_is_gone_is_known_from_the_checkpoint(tiny, stopped, tmp_path):
    tiny.run("whole.h5")
    tiny.file.unlink()
    ns.resume(stopped)
    same(tmp_path / "whole.h5", stopped)


def test_objects_of_a_script_must_be_given_again(tmp_path):
    def strongest(post, pre, W):
        return post("slope(basal)*(soma - soma_free)").T @ pre("up") / pre("up").shape[0]

    runner = Runner(tmp_path, {"level": "equilibrium", "model.projections.W.rule": strongest})
    runner.run("whole.h5")
    with pytest.raises(StoppedError):
        runner.run("cut.h5", stop=3)
    with pytest.raises(InputError, match="objects of a script; resume it there"):
        ns.resume(tmp_path / "cut.h5")
    ns.resume(tmp_path / "cut.h5", load_protocol(runner.file, runner.changes))
    same(tmp_path / "whole.h5", tmp_path / "cut.h5")


def test_what_has_ended_is_not_resumed(tiny):
    """What a kill after the end may leave beside the trace goes."""
    tiny.run("whole.h5")
    before = set(tiny.folder.iterdir())
    for left in ("whole.h5.checkpoint", ".whole.h5.checkpoint.part"):
        (tiny.folder / left).write_bytes(b"")
    with pytest.raises(InputError, match="it is complete; nothing is left to do"):
        ns.resume(tiny.folder / "whole.h5")
    assert set(tiny.folder.iterdir()) == before


def test_without_its_checkpoint_a_run_is_not_resumed(stopped):
    Checkpoint.path(stopped).unlink()
    with pytest.raises(InputError, match=r"cut.h5.checkpoint: no such file"):
        ns.resume(stopped)


@pytest.mark.parametrize("cut", [0.1, 0.5, 0.99])
def test_a_damaged_checkpoint_is_refused(stopped, cut):
    """At the end an archive has its list of names, times of day, and the like."""
    path = Checkpoint.path(stopped)
    content = path.read_bytes()
    path.write_bytes(content[: int(cut * len(content))])
    with pytest.raises(InputError, match=r"cut.h5.checkpoint: cannot be read"):
        ns.resume(stopped)
    flipped = bytearray(content)
    flipped[int(cut * len(content)) if cut < 0.9 else content.rindex(b".npy")] ^= 0xFF
    path.write_bytes(flipped)
    before = stopped.read_bytes()
    with pytest.raises(InputError, match=r"cut.h5.checkpoint: "):
        ns.resume(stopped)
    assert stopped.read_bytes() == before


def test_a_trace_that_does_not_hold_what_was_written_is_refused(stopped):
    with h5py.File(stopped, "r+") as file:
        file["metrics/loss"][1] += 1
    with pytest.raises(InputError, match="metrics/loss: its first 3 rows are not those that were"):
        ns.resume(stopped)


# --- Ctrl-C ------------------------------------------------------------------------------------


@pytest.fixture
def heard():
    """Ctrl-C is heard, as it is not in a background job."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_control_c_finishes_the_chunk_and_twice_stops_at_once(heard, tiny, tmp_path):
    with (
        pytest.warns(NeurosimWarning, match="stopping at the end of this chunk; Ctrl-C again"),
        pytest.raises(KeyboardInterrupt) as caught,
    ):
        tiny.run("cut.h5", stop=3, number=signal.SIGINT)
    trace = tmp_path / "cut.h5"
    assert caught.value.__notes__ == [
        f"{trace} holds all up to there; go on with: neurosim resume {trace}"
    ]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler

    def impatient(progress):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(2 * TOGETHER)
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("not at once")

    with pytest.warns(NeurosimWarning), pytest.raises(KeyboardInterrupt):
        ns.resume(trace, progress=impatient)
    tiny.run("whole.h5")
    ns.resume(trace)
    same(tmp_path / "whole.h5", trace)


@pytest.mark.long
def test_a_run_out_of_memory_keeps_what_it_had_and_goes_on_when_there_is_more(tiny, monkeypatch):
    from neurosim.runs.loop import Loop

    whole, cut = (tiny.folder / name for name in ("whole.h5", "cut.h5"))
    ns.run(tiny.file, level="equilibrium", out=whole)
    advance, calls = Loop.advance, []

    def short(self, *given):
        calls.append(1)
        if len(calls) == 5:
            raise MemoryError("Unable to allocate 9.00 TiB")
        return advance(self, *given)

    monkeypatch.setattr(Loop, "advance", short)
    words = r"does not fit into memory: Unable to allocate 9\.00 TiB; make layers"
    with pytest.raises(InputError, match=words) as said:
        ns.run(tiny.file, level="equilibrium", out=cut)
    assert said.value.exit_code == 2
    assert said.value.__notes__ == [
        f"{cut} holds all up to there; go on with: neurosim resume {cut}"
    ]
    assert ns.inspect(cut)["presentations"]["done"] == 4
    ns.resume(cut)
    same(whole, cut)
