"""The protocol loop: chunks of presentations, evaluations and records, from any chunk boundary on.

A `Position` is what the loop is at a chunk boundary. It determines all that follows, bit for bit,
whether the loop came there by itself or began there from a checkpoint.
"""

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, PRNGKeyArray

from neurosim.bounds import EXPLODED
from neurosim.building import assembly, facts
from neurosim.building.loading import Protocol
from neurosim.errors import DivergedError, StoppedError
from neurosim.levels.simulator import Examined, Metrics, RunState
from neurosim.process.progression import Progress
from neurosim.process.stopping import Request, listening
from neurosim.runs import divergence
from neurosim.runs.contents import Contents, Plan
from neurosim.runs.positions import Position, checkpoint
from neurosim.runs.recorder import Recorder, host
from neurosim.runs.results import Run
from neurosim.seeds import device_stream
from neurosim.tasks.data import tested_on
from neurosim.traces.checkpoint import Checkpoint

CHUNK_SECONDS = 0.5
"""How long a chunk should take: how often progress moves, and how much a kill can cost."""

CHECKPOINT_SHARE = 0.02
"""At most this share of the time goes into checkpoints; large states are saved less often."""


class Samples(NamedTuple):
    """A data set on the device; axis 0 of the arrays is the seed where the data differ by seed."""

    train: tuple[jax.Array, jax.Array]
    test: tuple[jax.Array, jax.Array]
    axis: int | None
    size: int
    classes: bool


@dataclass(frozen=True)
class Setting:
    """What does not change while a run goes on.

    origin: what the checkpoint says of where the run comes from.
    """

    protocol: Protocol
    seeds: list[int]
    path: Path
    samples: Samples
    weights: Any
    origin: Mapping[str, Any]
    progress: Callable[[Progress], None] | None = None


class Loop:
    """One run in progress."""

    def __init__(self, setting: Setting) -> None:
        self.setting, self.spec = setting, setting.protocol.spec
        self.seeds, self.samples = setting.seeds, setting.samples
        self.plan = Plan(self.spec, self.samples.size // self.spec.batch)
        self.engines = [
            assembly.engine(self.spec, stage, count)
            for stage, (_, count) in zip(self.spec.stages, self.plan.stages, strict=True)
        ]
        if assembly.scripted(self.spec.model):
            for engine in self.engines:
                engine.rehearse(setting.weights, self.samples.train, self.samples.axis)
        observed = facts.observed(self.spec.model)
        tests = setting.samples.test[0].shape[-2]
        self.contents = Contents(self.spec, self.plan, observed, self.seeds, tests)
        self.order_keys = jnp.stack([device_stream(seed, "order") for seed in self.seeds])
        self.keys = jnp.stack([device_stream(seed, "noise") for seed in self.seeds])
        self.test_keys = jnp.stack([device_stream(seed, "test-noise") for seed in self.seeds])
        self.length = 1
        self._order: tuple[int, jax.Array] | None = None

    # --- from here to the end ------------------------------------------------------------------

    def start(self) -> Position:
        """Before anything happened."""
        unknown = [math.nan] * len(self.seeds)
        states = self.engines[0].begin(self.setting.weights, 0, len(self.seeds))
        return Position(states, 0, 0, {}, (unknown, list(unknown)), {}, {}, {}, 0.0)

    def run(
        self, position: Position, record: Callable[[Contents], Recorder], request: Request
    ) -> Run:
        """Go on from a position to the end; write all of it.

        record: opens the trace. request: takes up a signal that asks to stop.

        Raises:
            DivergedError: every seed diverged.
            StoppedError: it was asked to stop; the checkpoint says where.
        """
        self.position = position
        self._began = time.perf_counter() - position.wall_s
        with listening(request):
            self.recorder = record(self.contents)
            with self.recorder.writer, _kept(self.setting.path):
                result = self._go_on(request)
        Checkpoint.remove(self.setting.path)
        if self._lost():
            first = result.diverged[0]
            raise DivergedError(
                f"{first['message']}; {self.setting.path} holds all up to there", result
            )
        return result

    def _go_on(self, request: Request) -> Run:
        self._save()
        while self._move():
            self._save_in_time()
            if request.signal is not None:
                self._stop()
        self.recorder.weights(1, self.position.states.weights)
        result = self._result()
        self.recorder.writer.close(
            "diverged" if self._lost() else "complete",
            {"summary": json.dumps(result.summary)},
        )
        return result

    def _move(self) -> bool:
        """Evaluate or go through a chunk, whichever comes next; false at the end."""
        points, at = self.plan.evaluations, self.position
        if self._lost():
            return False
        if at.evaluations < len(points) and points[at.evaluations] == at.done:
            self._evaluate()
        elif at.done < self.plan.total:
            self._chunk()
        else:
            return False
        return True

    def _lost(self) -> bool:
        """Whether every seed diverged."""
        return len(self.position.diverged) == len(self.seeds)

    # --- checkpoints ---------------------------------------------------------------------------

    def _save_in_time(self) -> None:
        """A checkpoint, unless the last one is too young for what it cost."""
        if time.perf_counter() >= self._next_save:
            self._save()

    def _save(self) -> None:
        began = time.perf_counter()
        self.recorder.writer.secure()
        self.position.wall_s = began - self._began
        saved = checkpoint(self.position, self.setting.origin, self.recorder.writer.ledger)
        saved.save(self.setting.path)
        now = time.perf_counter()
        self._next_save = now + (now - began) / CHECKPOINT_SHARE

    def _stop(self) -> None:
        """End in good order, as a signal asks."""
        self._save()
        self.recorder.writer.close("interrupted")
        raise StoppedError(f"stopped after {self.position.done} of {self.plan.total} presentations")

    # --- chunks --------------------------------------------------------------------------------

    def _stage(self) -> int:
        """Which stage goes on, or ended last."""
        done = self.position.done
        begun = [first for first, _ in self.plan.stages if first <= done]
        return min(len(begun), len(self.plan.stages)) - 1

    def orders(self, begin: int) -> jax.Array:
        """The order of the training set for every seed, new unless asked not to, in batches."""
        if self._order is None or self._order[0] != begin:
            n, batch = self.samples.size, self.spec.batch

            def one(key: PRNGKeyArray) -> Int[Array, "batches batch"]:
                key = jax.random.fold_in(key, begin)
                order = jax.random.permutation(key, n) if self.spec.shuffle else jnp.arange(n)
                return order[: n // batch * batch].reshape(-1, batch)

            self._order = begin, jax.vmap(one)(self.order_keys)
        return self._order[1]

    def _chunk(self) -> None:
        """Some presentations of an epoch, up to where something is recorded."""
        done, stage = self.position.done, self._stage()
        engine, (first, count) = self.engines[stage], self.plan.stages[stage]
        before = self.position.states
        if done == first:
            before = engine.begin(before.weights, first, len(self.seeds))
        begin = done - (done - first) % self.plan.batches
        orders, at = self.orders(begin), done - begin
        recorded = done in self.plan.recorded
        if recorded:  # a chunk of its own, so that what it changes can be looked at
            stop = at + 1
            seen = self.look(stage, before, orders[:, at])
            self.recorder.details(stage, done, seen)
            self.recorder.shown(done, *self._shown(np.asarray(orders[:, at])))
            self.recorder.snapshot(done, before.weights)
        else:
            upcoming = [p - begin for p in self.plan.recorded if p > done]
            size = min(self.plan.batches, first + count - begin)
            stop = min([at + self.length, size, *upcoming])
        began = time.perf_counter()
        states, metrics, change = self.advance(stage, before, orders, at, stop)
        chunk = host(metrics, at, stop)
        if not self.samples.classes:
            chunk["error"] = np.full_like(chunk["error"], np.nan)
        self._pace(time.perf_counter() - began, stop - at)
        self.recorder.metrics(stage, done, chunk)
        if recorded:
            angles, norms = self.angles(stage, before.weights, change, orders[:, at])
            self.recorder.signals(done, angles, norms)
        self.recorder.writer.flush()
        self._look_for_divergence(stage, before, states, orders, at, chunk)
        self._note_settling(stage, done, chunk)
        self._note_steps(done, chunk)
        self.position = replace(self.position, states=states, done=begin + stop)
        self._report(chunk)

    def advance(
        self,
        stage: int,
        states: RunState,
        orders: Int[Array, "seed batches batch"],
        at: int,
        stop: int,
    ) -> tuple[RunState, Metrics, Any]:
        """Presentations of an epoch; see `Engine.advance`."""
        return self.engines[stage].advance(
            states,
            self.samples.train,
            self.samples.axis,
            orders,
            self.keys,
            jnp.int32(at),
            jnp.int32(stop),
            jnp.int32(self.plan.stages[stage][0]),
        )

    def look(self, stage: int, states: RunState, ids: Int[Array, "seed batch"]) -> Examined:
        """As much of the next presentation as is recorded in detail."""
        return self.examine(stage, states, ids, int(self.contents.samples[-1]) + 1)

    def _shown(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Inputs, labels and places in the training set of the samples seen in detail."""
        ids = ids[:, self.contents.samples]
        seeds = np.arange(len(ids))[:, None]
        where = ids if self.samples.axis is None else (seeds, ids)
        x, y = (np.asarray(a[where]) for a in self.samples.train)
        return x, y, ids

    def examine(
        self, stage: int, states: RunState, ids: Int[Array, "seed batch"], samples: int
    ) -> Examined:
        """The next presentation in detail; see `Engine.examine`."""
        return self.engines[stage].examine(
            states,
            self.samples.train,
            self.samples.axis,
            ids,
            self.keys,
            jnp.int32(self.plan.stages[stage][0]),
            self.contents.times[stage],
            samples,
            *((True,) if self.contents.courses else ()),
        )

    def test(self, stage: int, weights: Any) -> tuple[Any, Any, Any]:
        """Loss, fraction wrong and fraction settled on the test set; see `Engine.evaluate`."""
        return self.engines[stage].evaluate(
            weights, self.samples.test, self.samples.axis, self.test_keys
        )

    def angles(
        self, stage: int, weights: Any, change: Any, ids: Int[Array, "seed batch"]
    ) -> tuple[Any, Any]:
        """Of a change to the gradient; see `Engine.against_backprop`."""
        return self.engines[stage].against_backprop(
            weights, change, self.samples.train, self.samples.axis, ids
        )

    def _evaluate(self) -> None:
        at = self.position
        # The test at the end of a stage belongs to that stage, not to the next.
        begun = [first for first, _ in self.plan.stages if first < at.done]
        loss, wrong, settled = self.test(max(0, len(begun) - 1), at.states.weights)
        error = np.asarray(wrong, float)
        if not self.samples.classes:
            error = np.full_like(error, np.nan)
        self.recorder.evaluation(at.evaluations, loss, error, settled)
        test = np.asarray(loss, float).tolist(), error.tolist()
        self.position = replace(at, test=test, evaluations=at.evaluations + 1)

    def _pace(self, took: float, count: int) -> None:
        """Chunks as long as `CHUNK_SECONDS` allow, growing gently past the slow first one."""
        fitting = int(CHUNK_SECONDS / max(took / count, 1e-6))
        self.length = max(1, min(fitting, 8 * self.length))

    @property
    def _arrays(self) -> list[str]:
        """The names of all weights, in the order of their leaves."""
        return [name for name, _, _ in self.contents.weights]

    def _living(self) -> np.ndarray:
        """Which seeds have not diverged."""
        return ~np.isin(self.seeds, list(self.position.diverged))

    def _note_settling(self, stage: int, done: int, chunk: Mapping[str, np.ndarray]) -> None:
        """The smallest fractions and largest residuals so far, of every seed until it diverges."""
        living = self._lived(done, chunk)
        for k, slot in enumerate(self.contents.slots[stage]):
            name = self.contents.names[slot]
            worst = float(np.min(chunk["settled"][:, :, k], initial=1.0, where=living))
            if not math.isnan(worst):  # spikes never settle
                self.position.settled[name] = min(worst, self.position.settled.get(name, 1.0))
                left = float(np.max(chunk["residual"][:, :, k], initial=0.0, where=living))
                self.position.residual[name] = max(left, self.position.residual.get(name, 0.0))

    def _note_steps(self, done: int, chunk: Mapping[str, np.ndarray]) -> None:
        """In how many presentations fixed steps were cut, of a living seed, and how short."""
        living = self._lived(done, chunk)
        most = np.max(chunk["parts"], axis=2, initial=1.0, where=living[:, :, None]).max(axis=0)
        cut = np.flatnonzero(most > 1)
        if self.contents.step is None or not cut.size:
            return
        so_far, step = self.position.shortened, self.contents.step / float(most.max())
        self.position.shortened = {
            "presentations": so_far.get("presentations", 0) + len(cut),
            "first": so_far.get("first", done + int(cut[0])),
            "step": min(step, so_far.get("step", step)),
        }

    def _lived(self, done: int, chunk: Mapping[str, np.ndarray]) -> np.ndarray:
        """Of every seed and presentation of a chunk, whether that was before it diverged."""
        ends = [self.position.diverged.get(s, {}).get("presentation", math.inf) for s in self.seeds]
        numbers = done + np.arange(chunk["settled"].shape[1])
        return numbers < np.array(ends)[:, None]

    def _report(self, chunk: Mapping[str, np.ndarray]) -> None:
        if self.setting.progress is None:
            return
        living = slice(None) if self._lost() else self._living()
        error = np.asarray(self.position.test[1])[living]
        self.setting.progress(
            Progress(
                self.position.done,
                self.plan.total,
                float(np.mean(chunk["loss"][living, -1])),
                float(np.mean(error)) if self.samples.classes else None,
                tested_on(self.spec.task),
                int(self.position.shortened.get("presentations", 0)),
            )
        )

    # --- ends ----------------------------------------------------------------------------------

    def _look_for_divergence(
        self,
        stage: int,
        before: RunState,
        states: RunState,
        orders: Int[Array, "seed batches batch"],
        at: int,
        chunk: Mapping[str, np.ndarray],
    ) -> None:
        """Note which seeds left the bounds in this chunk, when and where."""
        finite = chunk["loss"] < EXPLODED
        sound = divergence.sound(states.weights)
        for s in np.flatnonzero(~(finite.all(1) & sound)):
            seed = self.seeds[s]
            if seed in self.position.diverged:
                continue
            offset = int(np.argmin(finite[s])) if not finite[s].all() else finite.shape[1]
            offset = self._first_unsound(stage, before, orders, at, offset, int(s))
            number = self.position.done + offset
            where = self._locate(stage, before, orders, at, offset, int(s))
            self.position.diverged[seed] = {
                "seed": seed,
                "presentation": number,
                "message": f"seed {seed} diverged at presentation {number}: {where}",
            }
            self.recorder.diverged(int(s), number)

    def _first_unsound(
        self,
        stage: int,
        before: RunState,
        orders: Int[Array, "seed batches batch"],
        at: int,
        offset: int,
        s: int,
    ) -> int:
        """The first presentation of a chunk that left a seed's weights out of bounds.

        At most `offset`, where its loss was; found by halving.
        """
        low, high = 0, offset
        while low < high:
            middle = (low + high) // 2
            states, _, _ = self.advance(stage, before, orders, at, at + middle + 1)
            if divergence.sound(states.weights)[s]:
                low = middle + 1
            else:
                high = middle
        return low

    def _locate(
        self,
        stage: int,
        before: RunState,
        orders: Int[Array, "seed batches batch"],
        at: int,
        offset: int,
        s: int,
    ) -> str:
        """Where in a presentation a state left the bounds, by going through it again."""
        states = before
        if offset:
            states, _, _ = self.advance(stage, before, orders, at, at + offset)
        pace = self.spec.stages[stage].pace
        slower = f"a lower plasticity rate, such as stages.{stage}.pace = {pace / 2:g}, may help"
        weights = divergence.exploded_weights(states.weights, self._arrays, s)
        if weights is not None:
            return f"the weights {weights} were out of all bounds when it began; {slower}"
        phases = self.spec.stages[stage].phases
        ids = orders[:, at + offset]
        seen = self.examine(stage, states, ids, self.spec.batch)
        found = divergence.place(self.spec, phases, seen, self.contents.times[stage], s)
        if found is None:
            after, _, _ = self.advance(stage, states, orders, at + offset, at + offset + 1)
            weights = divergence.exploded_weights(after.weights, self._arrays, s)
            if weights is not None:
                return f"the weights {weights} left all bounds at its end; {slower}"
            words = "the state was in bounds where it was looked at; the solver gave up between"
            found = divergence.Place(words, phases[-1].teaching, 0)
        engine, axis = self.engines[stage], self.samples.axis
        sample = ids[s, found.sample]
        shown = (sample,) if axis is None else (s, sample)
        x, y = (jnp.asarray(np.asarray(a[shown])) for a in self.samples.train)
        now = jax.tree.map(lambda a: jnp.asarray(np.asarray(a[s])), states.weights)
        cause = divergence.stability(
            self.spec, engine.dynamics, engine.network, now, x, y, found.teaching
        )
        return f"{found.words}{divergence.domain(engine.network)}; {cause}"

    def _result(self) -> Run:
        loss, error = self.position.test
        living = self._living()

        def of_seeds(values: Any) -> list[float] | float:
            values = np.where(living, values, np.nan)
            return values.tolist() if len(self.seeds) > 1 else float(values[0])

        tested = tested_on(self.spec.task)
        metrics = {f"{tested}_loss": of_seeds(loss)}
        if self.samples.classes:
            metrics[f"{tested}_error"] = of_seeds(error)
        return Run(
            self.setting.path,
            self.spec,
            metrics,
            sorted(self.position.diverged.values(), key=lambda entry: entry["seed"]),
            time.perf_counter() - self._began,
            self.position.settled,
            self.position.residual,
            self.position.shortened,
            (self.plan.total, self.plan.asked),
        )


@contextmanager
def _kept(path: Path) -> Iterator[None]:
    """Says of whatever stops a run, such as Ctrl-C, that the trace is kept and can be resumed."""
    try:
        yield
    except BaseException as error:
        error.add_note(f"{path} holds all up to there; go on with: neurosim resume {path}")
        raise
