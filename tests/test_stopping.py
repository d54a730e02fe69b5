"""What SIGTERM and Ctrl-C do to a script that runs something, and to who else listens to them."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from tiny_runs import same

import neurosim as ns
from neurosim.errors import NeurosimWarning, StoppedError
from neurosim.process import stopping
from neurosim.runs.members import Member
from neurosim.traces.checkpoint import Checkpoint

LOOP = """
import os, signal, sys, time
import neurosim as ns
import neurosim.runs.loop
neurosim.runs.loop.CHUNK_SECONDS = 0.0

def stop(progress):
    if progress.done == 3:
        os.kill(os.getpid(), signal.SIGTERM)

{before}
for n in range(2):
    try:
        ns.run("tiny.toml", level="equilibrium", out=f"{{n}}.h5", progress=stop)
    except Exception as error:
        print("swallowed", type(error).__name__)
    print("went on", flush=True)
"""


pytestmark = pytest.mark.usefixtures("tiny")


@pytest.fixture
def handlers():
    """Those of this process, put back afterwards whatever a test did to them."""
    before = {number: signal.getsignal(number) for number in stopping.HEARD}
    signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs ignore it
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def run(out, progress=None):
    return ns.run("tiny.toml", level="equilibrium", out=out, progress=progress)


def sending(*numbers, at=3):
    """A progress display that sends this process signals."""

    def progress(progress):
        if progress.done == at:
            for number in numbers:
                os.kill(os.getpid(), number)

    return progress


def script(before=""):
    """Runs the loop in a process of its own."""
    text = LOOP.format(before=textwrap.dedent(before))
    environment = os.environ | {"JAX_DISABLE_MOST_OPTIMIZATIONS": "true"}
    return subprocess.run(
        [sys.executable, "-c", text], capture_output=True, text=True, timeout=120, env=environment
    )


# --- SIGTERM -------------------------------------------------------------------------------------


def test_sigterm_ends_a_script_that_catches_everything_and_its_run_can_be_resumed(tmp_path):
    ended = script()
    assert (ended.returncode, ended.stdout) == (-signal.SIGTERM, "")
    assert ended.stderr.splitlines()[-1] == (
        "stopped after 3 of 10 presentations; 0.h5 holds all up to there; "
        "go on with: neurosim resume 0.h5"
    )
    assert ns.inspect("0.h5")["status"] == "interrupted"
    assert ns.inspect("0.h5")["presentations"] == {"done": 3, "total": 10}
    assert not (tmp_path / "1.h5").exists()
    ns.resume("0.h5")
    run("whole.h5")
    same(tmp_path / "whole.h5", tmp_path / "0.h5")


@pytest.mark.long
def test_the_way_a_script_ends_on_sigterm_is_its_own():
    ended = script("signal.signal(signal.SIGTERM, lambda *_: sys.exit(9))")
    assert (ended.returncode, ended.stdout) == (9, "")
    assert ns.inspect("0.h5")["status"] == "interrupted"


@pytest.mark.long
@pytest.mark.seldom
def test_a_second_sigterm_ends_a_script_at_once():
    ended = script("""
        def stop(progress):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.5)
            os.kill(os.getpid(), signal.SIGTERM)
            print("not at once", flush=True)
    """)
    assert (ended.returncode, ended.stdout) == (-signal.SIGTERM, "")
    assert ns.inspect("0.h5")["status"] == "killed"
    assert ns.resume("0.h5").path.name == "0.h5"
    assert ns.inspect("0.h5")["status"] == "complete"


def test_sigterm_twice_within_a_moment_as_timeout_sends_it_still_ends_in_good_order(handlers):
    signal.signal(signal.SIGTERM, lambda *_: None)
    with pytest.raises(StoppedError, match="stopped after 3 of 10 presentations"):
        run("a.h5", sending(signal.SIGTERM, signal.SIGTERM))
    assert ns.inspect("a.h5")["status"] == "interrupted"


def test_a_handler_of_the_script_is_called_once_the_chunk_is_on_disk(handlers):
    seen = []

    def mine(number, frame):
        seen.append((number, ns.inspect("a.h5")["status"], Checkpoint.path(trace).exists()))

    trace = Path("a.h5")
    signal.signal(signal.SIGTERM, mine)
    with pytest.raises(StoppedError) as caught:
        run("a.h5", sending(signal.SIGTERM))
    assert seen == [(signal.SIGTERM, "interrupted", True)]
    assert caught.value.__notes__ == [
        "a.h5 holds all up to there; go on with: neurosim resume a.h5"
    ]
    assert signal.getsignal(signal.SIGTERM) is mine


def test_what_a_handler_raises_comes_out_of_the_run(handlers):
    class Enough(BaseException):
        pass

    def mine(number, frame):
        raise Enough

    signal.signal(signal.SIGTERM, mine)
    with pytest.raises(Enough):
        run("a.h5", sending(signal.SIGTERM))
    assert ns.resume("a.h5").metrics == run("b.h5").metrics


def test_a_signal_is_not_lost_where_the_run_fails(handlers):
    seen = []
    signal.signal(signal.SIGTERM, lambda *_: seen.append(1))

    def broken(progress):
        os.kill(os.getpid(), signal.SIGTERM)
        raise ValueError("a bug of the script")

    with pytest.raises(ValueError, match="a bug of the script"):
        run("a.h5", broken)
    assert seen == [1]


def test_a_signal_is_not_lost_where_it_comes_after_the_last_chunk(handlers, monkeypatch):
    seen, result = [], Member._result
    signal.signal(signal.SIGTERM, lambda *_: seen.append(1))

    def late(self):
        os.kill(os.getpid(), signal.SIGTERM)
        return result(self)

    monkeypatch.setattr(Member, "_result", late)
    assert np.isfinite(run("a.h5").metrics["test_loss"])
    assert seen == [1] and ns.inspect("a.h5")["status"] == "complete"


def test_a_process_that_the_system_spares_ends_too(handlers, monkeypatch):
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    monkeypatch.setattr(signal, "raise_signal", lambda number: None)
    with pytest.raises(SystemExit) as caught:
        run("a.h5", sending(signal.SIGTERM))
    assert caught.value.code == 128 + signal.SIGTERM


# --- Ctrl-C --------------------------------------------------------------------------------------


def test_control_c_stays_a_keyboard_interrupt_though_a_handler_returns(handlers):
    seen = []
    signal.signal(signal.SIGINT, lambda *_: seen.append(1))
    with pytest.warns(NeurosimWarning), pytest.raises(KeyboardInterrupt):
        run("a.h5", sending(signal.SIGINT))
    assert seen == [1]


def test_control_c_after_sigterm_interrupts_at_once(handlers):
    signal.signal(signal.SIGTERM, lambda *_: None)

    def impatient(progress):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(2 * stopping.TOGETHER)
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("not at once")

    with pytest.raises(KeyboardInterrupt):
        run("a.h5", impatient)
    assert ns.inspect("a.h5")["status"] == "interrupted"


# --- handlers ------------------------------------------------------------------------------------


def test_handlers_are_afterwards_what_they_were(handlers):
    for handler in (signal.SIG_DFL, signal.SIG_IGN, lambda *_: None):
        signal.signal(signal.SIGTERM, handler)
        run("a.h5" if handler is signal.SIG_DFL else f"{id(handler)}.h5")
        assert signal.getsignal(signal.SIGTERM) is handler
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_handler_that_the_script_installs_meanwhile_is_kept(handlers):
    def mine(number, frame):
        pass

    run("a.h5", lambda progress: signal.signal(signal.SIGTERM, mine))
    assert signal.getsignal(signal.SIGTERM) is mine


def test_a_handler_that_is_none_of_pythons_is_left_alone(handlers, monkeypatch):
    monkeypatch.setattr(signal, "getsignal", lambda number: None)
    installed = []
    monkeypatch.setattr(signal, "signal", lambda *given: installed.append(given))
    run("a.h5")
    monkeypatch.undo()
    assert installed == []


def test_nothing_is_installed_off_the_main_thread(handlers):
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    seen = []

    def look(progress):
        seen.append([signal.getsignal(number) for number in stopping.HEARD])

    thread = threading.Thread(target=run, args=("a.h5", look))
    thread.start()
    thread.join()
    assert len(seen) == 10
    assert all(found == [signal.default_int_handler, signal.SIG_DFL] for found in seen)
