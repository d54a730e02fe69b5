"""Runs side by side on one axis are what they are alone, and lose nothing to each other."""

import shutil
import tomllib
from pathlib import Path

import jax
import numpy as np
import pytest
from tiny_runs import TINY, same

import neurosim as ns
from neurosim.building.loading import load_model
from neurosim.runs.launch import computing, initial_weights, prepare
from neurosim.runs.loop import Loop
from neurosim.runs.members import Setting
from neurosim.runs.together import Beside, together
from neurosim.sweeps import work
from neurosim.sweeps.groups import WORK, groups
from neurosim.sweeps.plan import Point, plan
from neurosim.sweeps.sending import ATTEMPTS, Sweeping
from neurosim.sweeps.work import Job, Part

MU, RATE = "model.parameters.mu", "model.projections.W.rate"
SEEDS, SIZE = [0, 1], 4
SOMA = load_model("mixture-two-phase").cells["pyramidal"]

OBSERVED = "mixed = (1 - mu)*basal_rate + mu*apical_rate\n"
"""What is recorded of a cell by a number that copies have of their own."""


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """What runs beside others, by name and changes of the tiny protocol, in chunks of one."""
    monkeypatch.setattr("neurosim.runs.loop.CHUNK_SECONDS", 0.0)
    monkeypatch.setattr("neurosim.runs.loop.CHECKPOINT_SHARE", 1e9)
    file = tmp_path / "tiny.toml"
    file.write_text(TINY)

    def made(name, progress=None, **changes):
        level = {
            "level": "equilibrium",
            MU: changes.get("mu", 0.2),
            RATE: changes.get("rate", 0.05),
            "model.cells.pyramidal.equations": SOMA.equations + OBSERVED,
        }
        return Beside(ns.load_protocol(file, level), tmp_path / name, progress or (lambda _: None))

    return made


def test_each_is_what_it_is_alone(runs):
    """Traces to the bit, those of models that diverge too; one place of four stands idle."""
    given = [runs("a.h5", mu=0.1), runs("b.h5", rate=1e9), runs("c.h5", mu=0.3, rate=0.1)]
    found = together(given, SEEDS, SIZE, None)
    assert [len(run.diverged) for run in found] == [0, 2, 0]
    for run, beside in zip(found, given, strict=True):
        alone = beside.path.with_name(f"alone-{beside.path.name}")
        try:
            other = ns.run(beside.protocol, seeds=SEEDS, out=alone)
        except ns.DivergedError as error:
            other = error.run
        assert other.diverged == run.diverged
        same(alone, beside.path)
    with ns.open_trace(given[0].path) as trace:
        hidden = trace["traces/layer1"]
        basal, apical, mixed = (hidden[name] for name in ("basal_rate", "apical_rate", "mixed"))
        np.testing.assert_allclose(mixed, 0.9 * basal + 0.1 * apical, rtol=1e-14, atol=1e-14)


def test_those_that_are_ahead_wait_for_the_others(runs, tmp_path):
    """Two that were cut at different places go on to the same bytes, as does one alone."""

    def cut(at):
        def tell(progress):
            if progress.done == at:
                raise KeyboardInterrupt

        return tell

    whole = [runs("a.h5", mu=0.1), runs("b.h5", mu=0.3)]
    together(whole, SEEDS, SIZE, None)
    parts = [runs("c.h5", mu=0.1), runs("d.h5", mu=0.3)]
    for at, ended in ((3, parts), (6, parts[1:])):
        with pytest.raises(KeyboardInterrupt):
            together([part._replace(progress=cut(at)) for part in ended], SEEDS, SIZE, None)
    shutil.copy(tmp_path / "c.h5", tmp_path / "e.h5")
    shutil.copy(tmp_path / "c.h5.checkpoint", tmp_path / "e.h5.checkpoint")
    told = []
    given = [part._replace(progress=lambda p: told.append(p.done)) for part in parts]
    together(given, SEEDS, SIZE, None)
    assert told == [3, 4, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10]
    ns.resume(tmp_path / "e.h5")
    for one, other in (("a.h5", "c.h5"), ("b.h5", "d.h5"), ("a.h5", "e.h5")):
        same(tmp_path / one, tmp_path / other)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    file = tmp_path_factory.mktemp("together") / "tiny.toml"
    file.write_text(TINY)
    return file


# --- of every model ------------------------------------------------------------------------------

SHIPPED = Path(__file__).parents[1] / "protocols"


def of_every_model():
    """A shipped protocol of every model at a level of JAX, and some others of another course."""
    found = {}
    for file in sorted(SHIPPED.glob("*.toml")):
        told = tomllib.loads(file.read_text())
        if told["level"] != "spiking" and "cifar10" not in file.stem:
            found.setdefault(told["model"]["use"], file.stem)
    return sorted({*found.values(), "local-goals-n4g4", "quickstart", "sleep"})


ALONE = "feedback-control-single-phase", "microcircuit-online"
"""Noise at fixed steps."""

SPECIAL = {
    # At its end the flow is at rest, where the pace no longer matters.
    "learning-flow": {"stages.0.phases.0.duration": "2 s"},
    # Steps about kinks, where units change sides, are taken or not by rounding: after 2 s weights
    # are as near as the tolerance of steps asks, 1e-6 at one of 1e-6 and 6e-9 at one of 1e-10.
    "local-goals-flow": {"stages.0.phases.0.duration": "100 ms"},
}


def two_points(protocol, seeds, **changes):
    """The first and the last point of a sweep over the pace and two parameters of the model."""
    changes |= {"precision": "float64", "equilibrium.max_newton": 0}
    spec = ns.load_protocol(protocol, changes).spec
    over = {"stages.0.pace": [spec.stages[0].pace, 0.1 * spec.stages[0].pace]}
    given = spec.model.parameters.items()
    numbers = {f"model.parameters.{k}": v for k, v in given if isinstance(v, float) and v}
    for key in {*list(numbers)[:1], *list(numbers)[-1:]}:
        over[key] = [numbers[key], 1.05 * numbers[key]]
    made = plan(protocol, over, seeds, overrides=changes).points
    return made[0], made[-1]


def presented(points, seeds):
    """Of a few presentations: weights and metrics, and a test, of all copies."""
    with computing(points[0].protocol.spec, "cpu"):
        samples, drawn = prepare(points[0].protocol, seeds)
        given = [
            Setting(p, seeds, Path("none"), samples, initial_weights(p, seeds, drawn), {})
            for p in (point.protocol for point in points)
        ]
        loop = Loop(*given)
        orders = loop.orders(0)
        count = min(3, orders.shape[1])
        states, metrics, _ = loop.advance(0, loop.begun(), orders, 0, count)
        tested = loop.test(0, states.weights)
        metrics = metrics._replace(signals={})
        measured = [np.asarray(a)[:, :count] for a in jax.tree.leaves(metrics)]
        return jax.tree.map(np.asarray, (jax.tree.leaves(states.weights), [*measured, *tested]))


def agree(protocol, seeds, **changes):
    """Two points beside each other are what they are alone, to rounding.

    Loops turn for all copies at once and kernels add up in another order, so that sums of numbers
    near one differ by some 1e-15, which a phase that is followed in time makes some 1e-14.
    Residuals are such differences over the expected learning signal, which is some 1e-4.
    """
    points = two_points(protocol, seeds, **changes)
    assert points[0].alike == points[1].alike
    alone = [presented([point], seeds) for point in points]
    beside = presented(points, seeds)
    count = len(seeds)
    for k, (weights, measured) in enumerate(alone):
        rows = slice(k * count, (k + 1) * count)
        for a, b in zip(weights, beside[0], strict=True):
            np.testing.assert_allclose(b[rows], a, rtol=0, atol=1e-12)
        for a, b in zip(measured, beside[1], strict=True):
            np.testing.assert_allclose(b[rows], a, rtol=1e-9, atol=1e-10)
    apart = [np.abs(a - b).max() for a, b in zip(alone[0][0], alone[1][0], strict=True)]
    assert max(apart) > 1e-6  # they are two


@pytest.mark.seldom
@pytest.mark.long
def test_one_seed_of_each_at_the_rate_level(tiny):
    agree(tiny, [0], level="rate")


@pytest.mark.long
@pytest.mark.seldom
@pytest.mark.parametrize("name", of_every_model())
def test_two_points_of_every_model(name):
    if name in ALONE:
        one, other = two_points(name, SEEDS)
        assert one.alike != other.alike
    else:
        agree(name, SEEDS, **SPECIAL.get(name, {}))


# --- which they are ------------------------------------------------------------------------------


def alike(file, over, **changes):
    changes = {"level": "equilibrium"} | {k.replace("__", "."): v for k, v in changes.items()}
    made = plan(file, over, SEEDS, overrides=changes)
    return [point.alike for point in made.points]


def test_points_that_differ_in_what_a_copy_may_have_of_its_own_are_alike(tiny):
    assert alike(tiny, {MU: [0.1, 0.2], RATE: [0.01, 0.02]}) == [0] * 4
    assert alike(tiny, {"model.target_step": [0.1, 0.2], "stages.0.pace": [1, 2]}) == [0] * 4


@pytest.mark.parametrize(
    ("key", "values", "changes"),
    [
        ("equilibrium.tolerance", [1e-3, 1e-4], {}),  # one loop has one
        ("stages.0.presentations", [5, 10], {}),
        ("shuffle", [True, False], {}),
        ("task.gain", [1.0, 0.9], {}),
        (MU, [0.1, 0.2], {"level": "rate", "model__noise": {"soma": 0.1}}),
        (MU, [0.1, 0.2], {"level": "spiking", "record__every": "100 ms"}),
    ],
)
def test_points_that_differ_in_more_are_not(tiny, key, values, changes):
    assert alike(tiny, {key: values}, **changes) == [0, 1]


def points(count, work, kind=0):
    return [Point((k,), None, f"{kind}-{k}", 0, kind, work, 10, 1) for k in range(count)]


def test_groups_are_as_large_as_they_pay_and_shared_by_workers():
    few = points(25, WORK // 30)
    assert [(len(g.points), g.size) for g in groups(few, few, 2)] == [(13, 13), (12, 13)]
    assert [len(g.points) for g in groups(few, few, 1)] == [25]
    assert [len(g.points) for g in groups(few, few, None)] == [25]
    larger = points(10, WORK // 4)
    assert [len(g.points) for g in groups(larger, larger, 1)] == [4, 4, 2]
    large = points(3, WORK)
    assert [g.size for g in groups(large, large, 1)] == [1, 1, 1]
    mixed = points(2, 1) + points(2, 1, kind=1)
    assert [[p.alike for p in g.points] for g in groups(mixed, mixed, 1)] == [[0, 0], [1, 1]]


def test_what_is_left_finds_the_programs_of_the_whole():
    few = points(25, WORK // 30)
    assert [(len(g.points), g.size) for g in groups(few[20:], few, 2)] == [(5, 13)]


# --- where one of them cannot be run -------------------------------------------------------------


def test_a_point_that_cannot_be_run_takes_no_other_with_it(monkeypatch):
    def carried_out(job, tell):
        if "bad" in [part.digest for part in job.parts]:
            raise ns.InputError("no such number")
        return {part.digest: {"state": "finished", "size": job.size} for part in job.parts}

    monkeypatch.setattr(work, "_carried_out", carried_out)
    parts = [Part(name, None, "x") for name in ("good", "bad", "other")]
    found = work.carry_out(Job(parts, 3, SEEDS, None, "1"), None)
    assert {name: record["state"] for name, record in found.items()} == {
        "good": "finished",
        "bad": "lost",
        "other": "finished",
    }
    assert found["good"]["size"] == 1
    assert found["bad"]["reason"] == "no such number"


def test_a_group_that_kills_its_workers_is_taken_apart():
    class Nobody:
        dropped = ()

        def drop(self, name):
            self.dropped += (name,)

    few = points(2, 1)
    sweeping, workers = Sweeping(groups(few, few, 1), SEEDS, None, measured=True), Nobody()
    for _ in range(ATTEMPTS):
        assert sweeping._dispatch.next("a") == 0
        sweeping._bury(workers, [])
    assert workers.dropped == ("0-0",) * ATTEMPTS
    assert not sweeping.records
    assert sweeping._dispatch.next("b") == 1
    sweeping._dispatch.ended(1)
    assert sweeping._dispatch.next("b") == 2
    assert [group.size for group in sweeping.groups[1:]] == [1, 1]
