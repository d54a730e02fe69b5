"""Processes killed at random moments; `killing.py` does the same hundreds of times."""

import random
import re

import pytest
from killing import Case, kill_writers
from tiny_runs import differing

from neurosim.traces.reader import describe


@pytest.mark.seldom
@pytest.mark.long
def test_blocks_before_the_checkpoint_survive_every_kill(tmp_path):
    """36 kills of a process that does nothing but write; every block is verified."""
    counts = kill_writers(36, random.Random(0), tmp_path)
    assert counts["kills"] == 36 and counts["verified"] > 18, counts
    assert counts["unreadable"] == counts["wrong blocks"] == 0, counts


LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
"""


@pytest.mark.seldom
@pytest.mark.long
def test_a_disk_that_is_full_stops_a_run_in_words_and_it_goes_on_when_there_is_room(tmp_path):
    everything = {"stages.0.presentations": 100, "record.presentations": 100, "record.samples": 16}
    case = Case("noise", tmp_path, everything)
    case.run_whole()
    limit = case.whole.stat().st_size // 2
    process = case.start(case.trace, False, LIMITED, str(limit))
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 1 and "Traceback" not in errors
    words = r"error: .*killed\.h5.*: cannot be written any more: file too large"
    assert re.search(words, errors, re.I), errors
    assert describe(case.trace)["status"] == "killed"
    again = case.start(case.trace, True)
    _, errors = again.communicate(timeout=600)
    assert again.returncode == 0, errors
    assert differing(case.whole, case.trace) == []


@pytest.mark.parametrize(
    "name, kills", [pytest.param("equilibrium", 3, marks=pytest.mark.seldom), ("noise", 1)]
)
@pytest.mark.long
def test_runs_killed_again_and_again_lose_nothing(tmp_path, name, kills):
    case = Case(name, tmp_path)
    case.run_whole()
    rng = random.Random(1)
    done = 0
    while done < kills:
        done += case.chain(rng, kills - done)
    assert case.counts["SIGKILL"] >= kills / 2
    for failure in (
        "chunks lost",
        "wrong blocks",
        "unreadable",
        "not identical",
        "files left behind",
    ):
        assert case.counts[failure] == 0, case.counts
