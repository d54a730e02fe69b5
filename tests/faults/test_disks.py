"""A disk that fails at any call or loses power at any moment makes nobody believe wrong numbers."""

import random
import re
import shutil
from collections import Counter

import h5py
import numpy as np
import pytest
from disks import (
    EIO,
    FULL,
    MARK,
    ROWS,
    SAMPLES,
    SPIKES,
    UNITS,
    after_loss,
    events,
    failed,
    killed,
    library,
    work,
)
from small_traces import SOMA, TIMES

from neurosim.errors import InputError
from neurosim.traces.checkpoint import Checkpoint
from neurosim.traces.ledger import Ledger
from neurosim.traces.reader import describe, open_trace
from neurosim.traces.repairing import lengthen, repair

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")


OFTEN = [pytest.mark.long, pytest.mark.seldom]


@pytest.fixture(scope="module")
def disk(tmp_path_factory):
    return library(tmp_path_factory.mktemp("disk"))


@pytest.fixture(scope="module")
def sound(disk, tmp_path_factory):
    """A process whose disk is sound, and how often it calls it."""
    (found,) = failed(disk, tmp_path_factory.mktemp("sound"), [(0, 0, 0)])
    return found


class Unmarked:
    """A disk that takes no note."""

    @staticmethod
    def disk_mark(number):
        pass


def expected():
    return np.broadcast_to(
        np.arange(1.0, ROWS + 1)[:, None, None, None], (ROWS, len(TIMES), SAMPLES, UNITS)
    )


def believed(path, until=ROWS):
    """The status of a trace, whose rows so far must be right or not written."""
    with open_trace(path) as tree:
        soma = tree[SOMA][:until].values
    assert (np.isnan(soma) | (soma == expected()[:until])).all()
    return describe(path)["status"]


def whole(path):
    with h5py.File(path) as file:
        return bool(
            (file[SOMA][()] == expected()).all()
            and file["spikes/layer1/timestamps"].shape == (ROWS * SPIKES,)
            and file.attrs["status"] == "complete"
        )


def gone_on_with(path):
    """Go on from the checkpoint, where it vouches for what is there, to the whole trace."""
    saved = Checkpoint.load(path)  # which is always whole
    assert (saved.arrays[0] == saved.about["done"]).all()
    ledger = Ledger.from_plain(saved.about["ledger"])
    work(path, Unmarked, saved.about["done"], ledger)
    assert whole(path)


def test_a_sound_disk_has_all_of_it(sound):
    assert (sound.code, sound.words) == (0, "")
    assert whole(sound.folder / "a.h5")
    assert [path.name for path in sound.folder.iterdir()] == ["a.h5"]


@pytest.mark.parametrize(
    "number, good, step",
    [
        pytest.param(*EIO, 1, marks=OFTEN, id="an error at each call"),
        pytest.param(*FULL, 1, marks=OFTEN, id="full from each call on"),
        pytest.param(*EIO, 13, id="an error"),
        pytest.param(*FULL, 17, id="full"),
    ],
)
def test_a_disk_that_fails_at_any_call_is_said_and_leaves_nothing_half_written(
    disk, sound, tmp_path, number, good, step
):
    failures = [(call, number, good) for call in range(1, sound.calls + 1, step)]
    ends = Counter()
    for failure in failed(disk, tmp_path, failures):
        trace = failure.folder / "a.h5"
        ends[failure.code] += 1
        what = f"{failure.folder.parent.name}: {failure.words}"
        if failure.code == 0:  # of a call without which nothing is lost
            assert whole(trace), what
            continue
        assert failure.code in (1, 2), what
        assert re.search("cannot be (opened to be )?written", failure.words), what
        if trace.exists():
            if believed(trace) == "complete":
                repair(trace)
                assert whole(trace), what
                continue
            if Checkpoint.path(trace).exists():
                gone_on_with(trace)
        else:
            assert failure.code == 2, what
            assert not Checkpoint.path(trace).exists(), what
    assert ends[1] > len(failures) / 2, ends


@pytest.mark.parametrize("step", [19, pytest.param(1, marks=OFTEN)])
def test_a_kill_after_any_write_leaves_a_trace_that_can_be_read(sound, tmp_path, step):
    """Of which all is right that was flushed, and the rest is right or was not written."""
    history, path = events(sound.folder.parent / "notes"), tmp_path / "a.h5"
    (begun,) = (n for n, event in enumerate(history) if event.kind == MARK and event.at == 0)
    for end in range(begun, len(history) + 1, step):
        path.write_bytes(killed(history[:end], "a.h5"))
        believed(path)
        repair(path)
        with h5py.File(path) as file:
            assert file.attrs["status"] in ("interrupted", "complete")


@pytest.mark.parametrize("draws", [25, pytest.param(1500, marks=OFTEN)])
def test_what_a_loss_of_power_leaves_is_right_or_refused(sound, tmp_path, draws):
    history = events(sound.folder.parent / "notes")
    chance, counts = random.Random(draws), Counter()
    for _ in range(draws):
        mark = after_loss(history, chance.randint(1, len(history)), chance, tmp_path / "disk")
        trace = tmp_path / "disk" / "a.h5"
        if mark < 0:
            counts["before the first checkpoint"] += 1
            continue
        assert trace.exists()
        saved = Checkpoint.path(trace).exists()
        if mark >= ROWS:
            assert believed(trace) == "complete"
            repair(trace)
            assert whole(trace)
            counts["complete"] += 1
            continue
        assert saved
        done = Checkpoint.load(trace).about["done"]
        assert done >= mark
        try:
            lengthen(trace)
            believed(trace, done)
            gone_on_with(trace)
        except InputError as error:
            counts[str(error).partition(": ")[2][:60]] += 1
        else:
            counts["gone on with"] += 1
    assert counts["gone on with"] > 0.6 * draws, counts
