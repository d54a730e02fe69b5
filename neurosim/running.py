"""The protocol loop: chunks of presentations, evaluations, records, and how a run ends."""

import json
import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from neurosim import build
from neurosim.contents import Contents, Plan
from neurosim.engine import RunState, Simulator
from neurosim.errors import DivergedError, InputError
from neurosim.loading import Protocol, load_protocol
from neurosim.recording import Recorder, host
from neurosim.seeds import device_stream, host_stream
from neurosim.spec import ProtocolSpec
from neurosim.tasks.data import Data

CHUNK_SECONDS = 0.5
"""How long a chunk should take: how often progress moves, and how much a kill can cost."""

EXPLODED = 1e12
"""Activity, weights and losses beyond this have diverged, finite or not."""


class Progress(NamedTuple):
    """What a progress display is told after every chunk.

    loss, test_error: of the last batch and of the last test, means over the seeds that live.
    """

    done: int
    total: int
    loss: float
    test_error: float | None


@dataclass(frozen=True)
class Run:
    """A finished run.

    metrics: `test_loss`, and `test_error` as a fraction where the task has classes; lists over
    seeds where there are several. diverged: the seeds that did, and where.
    """

    path: Path
    metrics: dict[str, Any]
    diverged: list[dict[str, Any]]
    wall_s: float
    settled: dict[str, float]

    @property
    def summary(self) -> dict[str, Any]:
        """The same as plain data, with None for what is not a number."""
        return _plain(
            {
                "trace": str(self.path),
                "metrics": self.metrics,
                "diverged": self.diverged,
                "settled": self.settled,
                "wall_s": self.wall_s,
            }
        )


def run(
    protocol: Protocol | str | Path,
    *,
    level: str | None = None,
    seed: int | None = None,
    seeds: Iterable[int] | None = None,
    out: str | Path | None = None,
    force: bool = False,
    device: str | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Run:
    """Run a protocol and write its trace.

    protocol: from `load_protocol`, or a path or bare name for it. level, seed: in place of the
    protocol's own. seeds: an ensemble, run as one array axis. out: the trace file,
    `outputs/<protocol>-<level>.h5` if not given. force: overwrite. device: `cpu` or `gpu`.

    Raises:
        InputError: something given is impossible; nothing was written.
        DivergedError: every seed diverged; the trace holds all up to there.
    """
    protocol, chosen, path = resolve(protocol, level, seed, seeds, out)
    with computing(protocol.spec, device):
        return _Loop(protocol, chosen, path, force, progress).run()


def resolve(
    protocol: Protocol | str | Path,
    level: str | None,
    seed: int | None,
    seeds: Iterable[int] | None,
    out: str | Path | None,
) -> tuple[Protocol, list[int], Path]:
    """What `run` was given: the checked protocol, its seeds and where its trace goes."""
    given = {k: v for k, v in (("level", level), ("seed", seed)) if v is not None}
    if isinstance(protocol, Protocol):
        protocol = protocol.changed(**given)
    else:
        protocol = load_protocol(protocol, given)
    if seed is not None and seeds is not None:
        raise InputError("seed and seeds: got both; expected one of them")
    chosen = list(seeds) if seeds is not None else [protocol.spec.seed]
    if not chosen or len(set(chosen)) < len(chosen) or min(chosen) < 0:
        raise InputError(f"seeds {chosen}: expected distinct whole numbers of at least 0")
    return protocol, chosen, trace_path(protocol.spec, out)


def trace_path(spec: ProtocolSpec, out: str | Path | None) -> Path:
    """Where a trace goes: `out` if given."""
    return Path(out) if out else Path("outputs") / f"{spec.name}-{spec.level}.h5"


@contextmanager
def computing(spec: ProtocolSpec, device: str | None) -> Iterator[None]:
    """In which JAX computes in the protocol's precision, on a device (`cpu`, `gpu` or its choice).

    Raises:
        InputError: there is none of that kind.
    """
    with jax.enable_x64(spec.precision == "float64"), _on(device):
        yield


def _on(device: str | None):
    if device is None:
        return nullcontext()
    try:
        return jax.default_device(jax.devices(device)[0])
    except RuntimeError:
        have = sorted({d.platform for d in jax.devices()})
        raise InputError(
            f"--device {device}: there is no such device here; JAX sees {', '.join(have)}"
            + ("; for a GPU install neurosim[cuda]" if device != "cpu" else "")
        ) from None


class Samples(NamedTuple):
    """A data set on the device; axis 0 of the arrays is the seed where the data differ by seed."""

    train: tuple[jax.Array, jax.Array]
    test: tuple[jax.Array, jax.Array]
    axis: int | None
    size: int
    classes: bool


def prepare(protocol: Protocol, seeds: list[int]) -> tuple[Samples, list[Data]]:
    """The data of every seed, checked against the model."""
    spec = protocol.spec
    task = build.task(spec, protocol.folder)
    if task.shared:
        drawn = [task.draw(host_stream(0, "task"))] * len(seeds)
    else:
        drawn = [task.draw(host_stream(seed, "task")) for seed in seeds]
    data = drawn[0]
    sizes = spec.model.layers
    n_in, n_out = data.x_train.shape[1], data.y_train.shape[1]
    wrong = []
    if (sizes[0], sizes[-1] - spec.model.auxiliary) != (n_in, n_out):
        wrong.append(
            f"{protocol.where(('model', 'layers'))}: {sizes} does not fit the task, which has "
            f"{n_in} inputs and {n_out} outputs"
            + (f" beside {spec.model.auxiliary} auxiliary ones" if spec.model.auxiliary else "")
        )
    if spec.batch > len(data.x_train):
        wrong.append(
            f"{protocol.where(('batch',))}: {spec.batch} samples a batch, but the task has only "
            f"{len(data.x_train)} to train on"
        )
    if spec.model.loss == "cross-entropy" and not data.classes:
        wrong.append(
            f"{protocol.where(('model', 'loss'))}: the cross-entropy needs a task of classes"
        )
    if wrong:
        raise InputError(wrong)

    def place(name: str) -> jax.Array:
        arrays = [getattr(d, name) for d in drawn]
        stacked = arrays[0] if task.shared else np.stack(arrays)
        return jnp.asarray(stacked, jnp.result_type(float))

    samples = Samples(
        (place("x_train"), place("y_train")),
        (place("x_test"), place("y_test")),
        None if task.shared else 0,
        len(data.x_train),
        data.classes,
    )
    return samples, drawn


class _Loop:
    """One run in progress."""

    def __init__(self, protocol: Protocol, seeds: list[int], path: Path, force: bool, progress):
        self.protocol, self.spec, self.seeds, self.path = protocol, protocol.spec, seeds, path
        self.progress, self.force = progress, force
        self.samples, drawn = prepare(protocol, seeds)
        self.plan = Plan(self.spec, self.samples.size // self.spec.batch)
        self.engines = [
            build.engine(self.spec, stage, count)
            for stage, (_, count) in zip(self.spec.stages, self.plan.stages, strict=True)
        ]
        self.weights = build.stack(
            [
                build.weights(self.spec.model, seed, data, protocol.folder)
                for seed, data in zip(seeds, drawn, strict=True)
            ]
        )
        self.order_keys = jnp.stack([device_stream(seed, "order") for seed in seeds])
        self.keys = jnp.stack([device_stream(seed, "noise") for seed in seeds])
        self.test_keys = jnp.stack([device_stream(seed, "test-noise") for seed in seeds])
        self.failed: dict[int, dict[str, Any]] = {}
        self.test: tuple[np.ndarray, np.ndarray] = (np.full(len(seeds), np.nan),) * 2
        self.settled: dict[str, float] = {}
        self.length = 1

    def run(self) -> Run:
        began = time.perf_counter()
        contents = Contents(self.spec, self.plan, self.engines[0], self.seeds, self.weights)
        recorder = Recorder(self.path, self.protocol, contents, self.seeds, self.force)
        with recorder.writer as writer, _kept(self.path):
            self.recorder, self.contents = recorder, contents
            recorder.weights(0, self.weights)
            if contents.calibrated:
                recorder.calibration(self.engines[0].curve.rate)
            self.evaluations = 0
            weights = self.weights
            self._evaluate(self.engines[0], weights)
            for stage in range(len(self.engines)):
                weights = self._stage(stage, weights)
                if len(self.failed) == len(self.seeds):
                    break
            recorder.weights(1, weights)
            result = self._result(time.perf_counter() - began)
            writer.close(
                "diverged" if len(self.failed) == len(self.seeds) else "complete",
                {"summary": json.dumps(result.summary)},
            )
        if len(self.failed) == len(self.seeds):
            first = self.failed[min(self.failed)]
            raise DivergedError(f"{first['message']}; {self.path} holds all up to there", result)
        return result

    # --- stages ------------------------------------------------------------------------------

    def _stage(self, stage: int, weights) -> Any:
        engine, (first, count) = self.engines[stage], self.plan.stages[stage]
        states = engine.begin(weights, first)
        for epoch, begin in enumerate(range(0, count, self.plan.batches)):
            size = min(self.plan.batches, count - begin)
            orders = self._orders(first + begin, epoch)
            states = self._epoch(stage, states, orders, first + begin, size)
            if len(self.failed) == len(self.seeds):
                break
            self._evaluate(engine, states.weights)
        return states.weights

    def _orders(self, presentation: int, epoch: int) -> jax.Array:
        """The order of the training set for every seed, new unless asked not to, in batches."""
        n, batch = self.samples.size, self.spec.batch
        if not self.spec.shuffle:
            order = jnp.arange(n // batch * batch).reshape(-1, batch)
            return jnp.broadcast_to(order, (len(self.seeds), *order.shape))

        def one(key):
            key = jax.random.fold_in(key, presentation)
            return jax.random.permutation(key, n)[: n // batch * batch].reshape(-1, batch)

        return jax.vmap(one)(self.order_keys)

    def _epoch(self, stage: int, states: RunState, orders, begin: int, size: int) -> RunState:
        """`size` presentations from number `begin` on, cut where something is recorded."""
        recorded = [p - begin for p in self.plan.recorded if begin <= p < begin + size]
        at = 0
        while at < size:
            upcoming = [p for p in recorded if p > at]
            stop = min([at + self.length, size, *upcoming])
            before = states
            if at in recorded:  # a chunk of its own, so that what it changes can be looked at
                seen = self._examine(stage, states, orders[:, at], self.spec.record.samples)
                self.recorder.details(stage, begin + at, seen)
                self.recorder.snapshot(begin + at, states.weights)
                stop = at + 1
            states, change = self._chunk(stage, before, orders, begin, at, stop)
            if at in recorded:
                angles, norms = self.engines[stage].against_backprop(
                    before.weights, change, self.samples.train, self.samples.axis, orders[:, at]
                )
                self.recorder.signals(begin + at, angles, norms)
            at = stop
            if len(self.failed) == len(self.seeds):
                break
        return states

    def _advance(self, stage: int, states: RunState, orders, at: int, stop: int):
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

    def _chunk(self, stage, states, orders, begin: int, at: int, stop: int):
        """The presentations `at` … `stop`−1 of the epoch: the new states, and the last change."""
        before, began = states, time.perf_counter()
        states, metrics, change = self._advance(stage, states, orders, at, stop)
        chunk = host(metrics, at, stop)
        if not self.samples.classes:
            chunk["error"] = np.full_like(chunk["error"], np.nan)
        took = time.perf_counter() - began
        self._pace(took, stop - at)
        self.recorder.metrics(stage, begin + at, chunk)
        self.recorder.writer.flush()
        self._check(stage, before, orders, chunk, begin, at)
        self._note_settling(stage, chunk)
        if self.progress:
            living = self._living() if len(self.failed) < len(self.seeds) else slice(None)
            loss, error = chunk["loss"][living, -1], self.test[1][living]
            self.progress(
                Progress(
                    begin + stop,
                    self.plan.total,
                    float(np.mean(loss)),
                    float(np.mean(error)) if self.samples.classes else None,
                )
            )
        return states, change

    def _living(self) -> np.ndarray:
        """Which seeds have not diverged."""
        return ~np.isin(self.seeds, list(self.failed))

    def _pace(self, took: float, count: int) -> None:
        """Chunks as long as `CHUNK_SECONDS` allow, growing gently past the slow first one."""
        fitting = int(CHUNK_SECONDS / max(took / count, 1e-6))
        self.length = max(1, min(fitting, 8 * self.length))

    def _note_settling(self, stage: int, chunk) -> None:
        for k, slot in enumerate(self.contents.slots[stage]):
            name = self.contents.names[slot]
            worst = float(np.min(chunk["settled"][self._living(), :, k], initial=1.0))
            if not math.isnan(worst):  # spikes never settle
                self.settled[name] = min(worst, self.settled.get(name, 1.0))

    def _examine(self, stage: int, states, ids, samples: int):
        return self.engines[stage].examine(
            states,
            self.samples.train,
            self.samples.axis,
            ids,
            self.keys,
            jnp.int32(self.plan.stages[stage][0]),
            self.contents.times[stage],
            samples,
        )

    def _evaluate(self, engine: Simulator, weights) -> None:
        loss, wrong, settled = engine.evaluate(
            weights, self.samples.test, self.samples.axis, self.test_keys
        )
        error = np.asarray(wrong, float)
        if not self.samples.classes:
            error = np.full_like(error, np.nan)
        self.recorder.evaluation(self.evaluations, loss, error, settled)
        self.test = (np.asarray(loss, float), error)
        self.evaluations += 1

    # --- ends --------------------------------------------------------------------------------

    def _check(self, stage, before: RunState, orders, chunk, begin: int, at: int) -> None:
        """Note which seeds left the finite numbers in this chunk, when and where."""
        finite = chunk["loss"] < EXPLODED
        for s in np.flatnonzero(~finite.all(1)):
            if self.seeds[s] in self.failed:
                continue
            offset = int(np.argmin(finite[s]))
            where = self._locate(stage, before, orders, at, offset, int(s))
            number = begin + at + offset
            message = f"seed {self.seeds[s]} diverged at presentation {number}: {where}"
            self.failed[self.seeds[s]] = {
                "seed": self.seeds[s],
                "presentation": number,
                "message": message,
            }

    def _locate(self, stage: int, before: RunState, orders, at: int, offset: int, s: int) -> str:
        """Where in a presentation a state left the finite numbers, by going through it again."""
        states = before
        if offset:
            states, _, _ = self._advance(stage, before, orders, at, at + offset)
        for letter, arrays in (("W", states.weights.W), ("Q", states.weights.Q)):
            for i, array in enumerate(arrays, start=1):
                if not (np.abs(np.asarray(array[s])) < EXPLODED).all():
                    return (
                        f"the weights {letter}{i} were out of all bounds when it began; a lower "
                        "plasticity rate may keep them in"
                    )
        seen = self._examine(stage, states, orders[:, at + offset], self.spec.batch)
        for phase, trace, times in zip(
            self.spec.stages[stage].phases, seen.traces, self.contents.times[stage], strict=True
        ):
            earliest: tuple[int, str] | None = None
            for name, layers in trace.items():
                for i, layer in enumerate(layers, start=1):
                    inside = np.abs(np.asarray(layer[s])) < EXPLODED  # also false for NaN
                    bad = ~inside.all(axis=(0, 2))
                    if bad.any() and (earliest is None or np.argmax(bad) < earliest[0]):
                        earliest = int(np.argmax(bad)), f"{name} of layer {i}"
            if earliest is not None:
                when = f" at {times[earliest[0]] * 1e3:.4g} ms" if self.spec.level == "rate" else ""
                return f"phase {phase.name!r}{when}: {earliest[1]} left all bounds{self._domain()}"
        return "the state was in bounds where it was looked at; the solver gave up between"

    def _domain(self) -> str:
        """A hint where an inverse may have been asked for outside its domain."""
        network = self.engines[0].network
        if network.form != "inverse":
            return ""
        for i, activation in enumerate(network.activations[1:], start=2):
            low, high = activation.domain or (-math.inf, math.inf)
            if math.isfinite(low) or math.isfinite(high):
                return (
                    f"; the inverse of layer {i}'s activation exists only on ({low:g}, {high:g}), "
                    "which mixed or nudged activity can leave"
                )
        return ""

    def _result(self, wall_s: float) -> Run:
        loss, error = self.test

        def of_seeds(values):
            values = np.where(self._living(), values, np.nan)
            return values.tolist() if len(self.seeds) > 1 else float(values[0])

        metrics = {"test_loss": of_seeds(loss)}
        if self.samples.classes:
            metrics["test_error"] = of_seeds(error)
        return Run(self.path, metrics, list(self.failed.values()), wall_s, self.settled)


@contextmanager
def _kept(path: Path) -> Iterator[None]:
    """Says of whatever stops a run, such as Ctrl-C, that the trace is kept."""
    try:
        yield
    except BaseException as error:
        error.add_note(f"{path} holds all up to there")
        raise


def _plain(value: Any) -> Any:
    """Plain data for JSON, with null for what is not a number."""
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_plain(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
