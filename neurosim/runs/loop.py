"""The protocol loop: chunks of presentations, evaluations and records, from any chunk boundary on.

A `Position` is what the loop is at a chunk boundary. It determines all that follows, bit for bit,
whether the loop came there by itself or began there from a checkpoint.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Key, PRNGKeyArray

from neurosim.bounds import EXPLODED
from neurosim.building import assembly
from neurosim.errors import StoppedError
from neurosim.learning.engine import Engine
from neurosim.levels.simulator import Examined, Metrics, RunState
from neurosim.process.stopping import Request, listening
from neurosim.runs import divergence
from neurosim.runs.contents import Contents, Plan
from neurosim.runs.members import Member, Setting
from neurosim.runs.positions import Position
from neurosim.runs.recorder import Recorder, host
from neurosim.runs.results import Run
from neurosim.seeds import device_stream

CHUNK_SECONDS = 0.5
"""How long a chunk should take: how often progress moves, and how much a kill can cost."""

CHECKPOINT_SHARE = 0.02
"""At most this share of the time goes into checkpoints; large states are saved less often."""


class Loop:
    """Runs in progress: one, or several side by side that differ in numbers alone.

    The copies of a loop are the seeds of its first run, then those of the second, and so on: one
    array axis of the same programs. Every run has its own trace and is at its own place; those that
    are ahead, as after a kill, wait for the others.
    """

    def __init__(self, *settings: Setting, size: int = 1) -> None:
        """size: of how many runs the programs are, at least; places without a run stand idle."""
        self.setting, self.spec = settings[0], settings[0].protocol.spec
        self.seeds, self.samples = self.setting.seeds, self.setting.samples
        self.plan = Plan(self.spec, self.samples.size // self.spec.batch)
        self.members = [Member(setting, self.plan) for setting in settings]
        self.contents = self.members[0].contents
        for member in self.members if assembly.scripted(self.spec.model) else ():
            for engine in member.engines:
                engine.rehearse(member.setting.weights, self.samples.train, self.samples.axis)
        self.size = max(size, len(self.members))
        self.engines = self._engines()
        self.order_keys = jnp.stack([device_stream(seed, "order") for seed in self.seeds])
        self.keys = self._repeated([device_stream(seed, "noise") for seed in self.seeds])
        self.test_keys = self._repeated([device_stream(seed, "test-noise") for seed in self.seeds])
        self.length = 1
        self._order: tuple[int, jax.Array] | None = None

    def _engines(self) -> list[Any]:
        """Of every stage, for all copies."""
        if self.size == 1:
            return list(self.members[0].engines)
        members = [*self.members, *[self.members[0]] * (self.size - len(self.members))]
        every = zip(*(member.engines for member in members), strict=True)
        return [Engine.joined(engines, len(self.seeds)) for engines in every]

    def _repeated(self, of_seeds: list[Any]) -> jax.Array:
        """What is the same of a seed in every run, for all copies."""
        return jnp.stack(of_seeds * self.size)

    def joined(self, states: Sequence[Any]) -> Any:
        """The states of all copies. states: of the runs, place by place."""
        if self.size == 1:
            return states[0]
        return jax.tree.map(lambda *of: jnp.concatenate(of), *states)

    def _part(self, k: int, of_copies: Any) -> Any:
        """What of the copies belongs to run number k."""
        return of_copies if self.size == 1 else jax.tree.map(lambda a: a[self._rows(k)], of_copies)

    def _rows(self, k: int) -> slice:
        """Which copies are those of run number k."""
        return slice(k * len(self.seeds), (k + 1) * len(self.seeds))

    # --- from here to the end ------------------------------------------------------------------

    def start(self) -> list[Position]:
        """Before anything happened; of every run."""
        return [self._start(member.setting.weights) for member in self.members]

    def begun(self) -> RunState:
        """The states of all copies then."""
        every = [position.states for position in self.start()]
        return self.joined([*every, *[every[0]] * (self.size - len(every))])

    def _start(self, weights: Any) -> Position:
        unknown = [math.nan] * len(self.seeds)
        states = self.engines[0].begin(weights, 0, len(self.seeds))
        return Position(states, 0, 0, {}, (unknown, list(unknown)), {}, {}, {}, 0.0)

    def run(
        self,
        positions: Sequence[Position],
        records: Sequence[Callable[[Contents], Recorder]],
        request: Request,
    ) -> list[Run]:
        """Go on from positions to the end; write all of it.

        records: of every run, what opens its trace. request: takes up a signal that asks to stop.

        Raises:
            StoppedError: it was asked to stop; the checkpoints say where.
        """
        self._began = time.perf_counter()
        self._before = [position.wall_s for position in positions]
        with listening(request), ExitStack() as traces:
            for member, position, record in zip(self.members, positions, records, strict=True):
                member.position, member.recorder = position, record(member.contents)
                traces.enter_context(member.recorder.writer)
                traces.enter_context(_kept(member.setting.path))
            found = self._go_on(request)
        for member in self.members:
            member.remove_checkpoint()
        return found

    def _go_on(self, request: Request) -> list[Run]:
        self._save()
        while self._move():
            if time.perf_counter() >= self._next_save:
                self._save()
            if request.signal is not None:
                self._stop()
        took = self._took()
        return [member.finish(s) for member, s in zip(self.members, took, strict=True)]

    def _took(self) -> list[float]:
        """How long every run took so far: they share the time that they took together (s)."""
        share = (time.perf_counter() - self._began) / len(self.members)
        return [before + share for before in self._before]

    def _move(self) -> bool:
        """Evaluate or go through a chunk, whichever comes next; false at the end."""
        left = [member for member in self.members if not member.over]
        if not left:
            return False
        points, at = self.plan.evaluations, min(member.at for member in left)
        moving, (done, tests) = [member for member in left if member.at == at], at
        if tests < len(points) and points[tests] == done:
            self._evaluate(moving)
        else:
            self._chunk(moving, [member.position.done for member in left])
        return True

    def _places(self, moving: list[Member]) -> list[Member]:
        """Whose states stand in which place: those of the first where none moves."""
        idle = [moving[0]] * (self.size - len(self.members))
        return [*(m if m in moving else moving[0] for m in self.members), *idle]

    # --- checkpoints ---------------------------------------------------------------------------

    def _save(self) -> None:
        """Checkpoints; the next ones not before these are as old as what they cost allows."""
        began = time.perf_counter()
        for member, took in zip(self.members, self._took(), strict=True):
            member.save(took)
        now = time.perf_counter()
        self._next_save = now + (now - began) / CHECKPOINT_SHARE

    def _stop(self) -> None:
        """End in good order, as a signal asks."""
        self._save()
        for member in self.members:
            member.recorder.writer.close("interrupted")
        done = min(member.position.done for member in self.members)
        raise StoppedError(f"stopped after {done} of {self.plan.total} presentations")

    # --- chunks --------------------------------------------------------------------------------

    def orders(self, begin: int) -> jax.Array:
        """The order of the training set for every copy, new unless asked not to, in batches."""
        if self._order is None or self._order[0] != begin:
            given = self.samples.size, self.spec.batch, self.spec.shuffle
            order = _orders(self.order_keys, jnp.int32(begin), *given)
            self._order = begin, jnp.tile(order, (self.size, 1, 1)) if self.size > 1 else order
        return self._order[1]

    def _chunk(self, moving: list[Member], places: list[int]) -> None:
        """Some presentations of an epoch, up to where something is recorded, or somebody waits.

        places: of all that are not over, how many presentations they have done.
        """
        done = moving[0].position.done
        stage = sum(first <= done for first, _ in self.plan.stages) - 1
        engine, (first, count) = self.engines[stage], self.plan.stages[stage]
        before = self.joined([member.position.states for member in self._places(moving)])
        if done == first:
            before = engine.begin(before.weights, first, len(self.keys))
        begin = done - (done - first) % self.plan.batches
        orders, at = self.orders(begin), done - begin
        recorded = done in self.plan.recorded
        numbers = [(self.members.index(member), member) for member in moving]
        if recorded:  # a chunk of its own, so that what it changes can be looked at
            stop = at + 1
            seen = self.look(stage, before, orders[:, at])
            shown = self._shown(np.asarray(orders[: len(self.seeds), at]))
            for k, member in numbers:
                member.recorder.details(stage, done, self._part(k, seen))
                member.recorder.shown(done, *shown)
                member.recorder.snapshot(done, self._part(k, before.weights))
        else:
            upcoming = [p - begin for p in (*self.plan.recorded, *places) if p > done]
            size = min(self.plan.batches, first + count - begin)
            stop = min([at + self.length, size, *upcoming])
        began = time.perf_counter()
        states, metrics, change = self.advance(stage, before, orders, at, stop)
        every = host(metrics, at, stop)
        if not self.samples.classes:
            every["error"] = np.full_like(every["error"], np.nan)
        self._pace(time.perf_counter() - began, stop - at)
        chunks = [{name: a[self._rows(k)] for name, a in every.items()} for k, _ in numbers]
        for (_, member), chunk in zip(numbers, chunks, strict=True):
            member.recorder.metrics(stage, done, chunk)
        if recorded:
            signals = self.angles(stage, before.weights, change, orders[:, at])
            for k, member in numbers:
                member.recorder.signals(done, *self._part(k, signals))
        for member in moving:
            member.recorder.writer.flush()
        self._look_for_divergence(stage, moving, before, states, orders, at, every)
        for (k, member), chunk in zip(numbers, chunks, strict=True):
            member.note(stage, chunk)
            own = self._part(k, states)
            member.position = replace(member.position, states=own, done=begin + stop)
        for member, chunk in zip(moving, chunks, strict=True):
            member.report(chunk)

    def advance(
        self,
        stage: int,
        states: RunState,
        orders: Int[Array, "copies batches batch"],
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

    def look(self, stage: int, states: RunState, ids: Int[Array, "copies batch"]) -> Examined:
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
        self, stage: int, states: RunState, ids: Int[Array, "copies batch"], samples: int
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
        self, stage: int, weights: Any, change: Any, ids: Int[Array, "copies batch"]
    ) -> tuple[Any, Any]:
        """Of a change to the gradient; see `Engine.against_backprop`."""
        return self.engines[stage].against_backprop(
            weights, change, self.samples.train, self.samples.axis, ids
        )

    def _evaluate(self, moving: list[Member]) -> None:
        (done, number), places = moving[0].at, self._places(moving)
        # The test at the end of a stage belongs to that stage, not to the next.
        begun = [first for first, _ in self.plan.stages if first < done]
        weights = self.joined([member.position.states.weights for member in places])
        found = self.test(max(0, len(begun) - 1), weights)
        for member in moving:
            own = self._part(self.members.index(member), found)
            loss, error, settled = (np.asarray(values, float) for values in own)
            if not self.samples.classes:
                error = np.full_like(error, np.nan)
            member.recorder.evaluation(number, loss, error, settled)
            test = loss.tolist(), error.tolist()
            member.position = replace(member.position, test=test, evaluations=number + 1)

    def _pace(self, took: float, count: int) -> None:
        """Chunks as long as `CHUNK_SECONDS` allow, growing gently past the slow first one."""
        fitting = int(CHUNK_SECONDS / max(took / count, 1e-6))
        self.length = max(1, min(fitting, 8 * self.length))

    @property
    def _arrays(self) -> list[str]:
        """The names of all weights, in the order of their leaves."""
        return [name for name, _, _ in self.contents.weights]

    # --- ends ----------------------------------------------------------------------------------

    def _look_for_divergence(
        self,
        stage: int,
        moving: list[Member],
        before: RunState,
        states: RunState,
        orders: Int[Array, "copies batches batch"],
        at: int,
        chunk: Mapping[str, np.ndarray],
    ) -> None:
        """Note which copies left the bounds in this chunk, when and where."""
        finite = chunk["loss"] < EXPLODED
        sound = divergence.sound(states.weights)
        for c in np.flatnonzero(~(finite.all(1) & sound)):
            k, s = divmod(int(c), len(self.seeds))
            member = self.members[k] if k < len(self.members) else None
            if member not in moving or self.seeds[s] in member.position.diverged:
                continue
            offset = int(np.argmin(finite[c])) if not finite[c].all() else finite.shape[1]
            offset = self._first_unsound(stage, before, orders, at, offset, int(c))
            where = self._locate(stage, before, orders, at, offset, int(c))
            member.note_divergence(s, member.position.done + offset, where)

    def _first_unsound(
        self,
        stage: int,
        before: RunState,
        orders: Int[Array, "copies batches batch"],
        at: int,
        offset: int,
        c: int,
    ) -> int:
        """The first presentation of a chunk that left the weights of a copy out of bounds.

        At most `offset`, where its loss was; found by halving.
        """
        low, high = 0, offset
        while low < high:
            middle = (low + high) // 2
            states, _, _ = self.advance(stage, before, orders, at, at + middle + 1)
            if divergence.sound(states.weights)[c]:
                low = middle + 1
            else:
                high = middle
        return low

    def _locate(
        self,
        stage: int,
        before: RunState,
        orders: Int[Array, "copies batches batch"],
        at: int,
        offset: int,
        c: int,
    ) -> str:
        """Where in a presentation a state left the bounds, by going through it again."""
        (k, s), states = divmod(c, len(self.seeds)), before
        member = self.members[k]
        if offset:
            states, _, _ = self.advance(stage, before, orders, at, at + offset)
        pace = member.spec.stages[stage].pace
        slower = f"a lower plasticity rate, such as stages.{stage}.pace = {pace / 2:g}, may help"
        weights = divergence.exploded_weights(states.weights, self._arrays, c)
        if weights is not None:
            return f"the weights {weights} were out of all bounds when it began; {slower}"
        phases = member.spec.stages[stage].phases
        ids = orders[:, at + offset]
        seen = self.examine(stage, states, ids, self.spec.batch)
        found = divergence.place(member.spec, phases, seen, self.contents.times[stage], c)
        if found is None:
            after, _, _ = self.advance(stage, states, orders, at + offset, at + offset + 1)
            weights = divergence.exploded_weights(after.weights, self._arrays, c)
            if weights is not None:
                return f"the weights {weights} left all bounds at its end; {slower}"
            words = "the state was in bounds where it was looked at; the solver gave up between"
            found = divergence.Place(words, phases[-1].teaching, 0)
        engine, axis = member.engines[stage], self.samples.axis
        sample = ids[c, found.sample]
        shown = (sample,) if axis is None else (s, sample)
        x, y = (jnp.asarray(np.asarray(a[shown])) for a in self.samples.train)
        now = jax.tree.map(lambda a: jnp.asarray(np.asarray(a[c])), states.weights)
        cause = divergence.stability(
            member.spec, engine.dynamics, engine.network, now, x, y, found.teaching
        )
        return f"{found.words}{divergence.domain(engine.network)}; {cause}"


@partial(jax.jit, static_argnums=(2, 3, 4))
def _orders(
    keys: Key[Array, " seed"], begin: Int[Array, ""], size: int, batch: int, shuffle: bool
) -> Int[Array, "seed batches batch"]:
    """For every seed the order of so many samples in the epoch that begins there, in batches.

    One program: one by one, what draws it takes a quarter of a second to compile.
    """

    def one(key: PRNGKeyArray) -> Int[Array, "batches batch"]:
        key = jax.random.fold_in(key, begin)
        order = jax.random.permutation(key, size) if shuffle else jnp.arange(size)
        return order[: size // batch * batch].reshape(-1, batch)

    return jax.vmap(one)(keys)


@contextmanager
def _kept(path: Path) -> Iterator[None]:
    """Says of whatever stops a run, such as Ctrl-C, that the trace is kept and can be resumed."""
    try:
        yield
    except BaseException as error:
        error.add_note(f"{path} holds all up to there; go on with: neurosim resume {path}")
        raise
