"""A run as spikes: the engine of the spiking level, with the calls of the other levels' engine.

Brian2, or a program of JAX, runs the network, phase after phase, in Brian2 in one run a chunk;
between phases this module reads what its spikes say and writes what is taught. The plasticity rules
are those of the other levels: they are handed signals that were counted instead of computed.

Seeds run one after the other, so that each is what it would be alone. Every presentation draws its
spikes from a stream of its own, so that chunks and recordings change no number.
"""

from collections.abc import Generator
from dataclasses import replace
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Key, PRNGKeyArray

from neurosim.learning.engine import Engine
from neurosim.learning.spiking.curves import fi_curve, pyramidal, pyramidal_curves
from neurosim.learning.spiking.readings import Readings
from neurosim.learning.spiking.signals import Learned, drawn, drift, learn, score, targets, taught
from neurosim.learning.spiking.watch import Watch
from neurosim.levels.equilibrium import Equilibrium
from neurosim.levels.simulator import Batch, Examined, Metrics, Phase, RunState, Spikes
from neurosim.levels.spiking.calibration import Curve, calibrated
from neurosim.levels.spiking.copies import Copies
from neurosim.levels.spiking.neurons import Neurons
from neurosim.levels.spiking.pyramids import Calibration
from neurosim.networks.dynamics import Target
from neurosim.plasticity.learning import nothing
from neurosim.specs import SpikingSpec


class SpikingEngine:
    """A model under the phases of one stage of a protocol, as spikes.

    Args:
        rules: the same as an engine of the other levels; its equations read the estimates, its
            learning changes the weights.
        neurons: behind every unit.
        tau_synapse: of what smooths spikes (s).
        settings: of the simulation.
        copies: samples that run side by side, the batch.

    Raises:
        InputError: Brian2's target is `standalone`, and there is no compiler.
    """

    def __init__(
        self,
        rules: Engine,
        neurons: Neurons,
        tau_synapse: float,
        settings: SpikingSpec,
        copies: int,
    ) -> None:
        self.rules, self.neurons, self.tau_synapse = rules, neurons, tau_synapse
        self.settings, self.copies = settings, copies
        if settings.engine == "brian2" and settings.target == "standalone":
            from neurosim.levels.spiking.compiling import compiler

            compiler()
        self.window = round(settings.window / settings.dt)
        self.every = round(settings.plasticity_every / settings.dt)
        self.dynamics, self.network, self.phases = rules.dynamics, rules.network, rules.phases
        self.readings = Readings(rules, neurons, settings.dt, copies)
        self._built: Copies | None = None

    @cached_property
    def curve(self) -> Curve | Calibration | None:
        """What calibrates neurons that spikes of their own membranes make."""
        if not self.dynamics.circuit.ensembles:
            return None
        match self.neurons.kind:
            case "lif":
                return fi_curve(self.neurons)
            case "bursting-pyramidal":
                return pyramidal_curves(self.neurons)
        return None

    @cached_property
    def calibrated(self) -> Neurons:
        """The neurons with what turns rates and probabilities into currents, where they need it.

        Raises:
            InputError: their cells cannot do what units would ask of them.
        """
        match self.curve:
            case Calibration(rates=measured):
                return pyramidal(self.neurons, measured)
            case Curve() as curve:
                return calibrated(self.neurons, curve)
        return self.neurons

    @property
    def machine(self) -> Copies:
        """The network in Brian2 or JAX, calibrated and built when it is first needed."""
        if self._built is None:
            self._built = self._made(self.calibrated)
        return self._built

    def _made(self, neurons: Neurons) -> Copies:
        """The machine of calibrated neurons."""
        given: Any = (
            self.dynamics,
            self.network,
            dict.fromkeys(self.dynamics.circuit.ensembles, neurons),
            self.settings.dt,
            self.copies,
        )
        options: Any = {
            "changed": frozenset(name for phase in self.phases for name in phase.changed),
            "watched": self.readings.watched,
            "traced": self.rules.online or any(p.teaching == "following" for p in self.phases),
            "tau_synapse": self.tau_synapse,
        }
        # Each is a heavy import, of which a run needs one.
        if self.settings.engine == "jax":
            from neurosim.levels.spiking.scan import Scan

            return Scan(*given, **options)
        from neurosim.levels.spiking.machine import Machine

        return Machine(*given, **options, target=self.settings.target)

    # --- one presentation -------------------------------------------------------------------

    def _steps(self, phase: Phase) -> int:
        return round(phase.duration / self.settings.dt)

    def _lengths(self, presentation: int) -> list[int]:
        """How many steps every phase of a presentation takes."""
        drawn = [phase.drawn(k, presentation) for k, phase in enumerate(self.phases)]
        more = [0 if d is None else int(jnp.floor(d / self.settings.dt)) for d in drawn]
        return [self._steps(phase) + m for phase, m in zip(self.phases, more, strict=True)]

    def _begin(self, weights: Any, x: np.ndarray, seed: int) -> None:
        """A presentation begins: everything at rest, the input on, spikes from their own stream."""
        self.machine.reseed(seed)
        self.machine.rest(np.random.default_rng(seed))
        self._write(weights, x)

    def _write(self, weights: Any, x: np.ndarray) -> None:
        self.machine.write_weights(weights)
        self.machine.drive(weights, x)

    def _present(
        self,
        state: RunState,
        batch: Batch,
        key: PRNGKeyArray,
        first: Int[Array, ""],
        watch: "Watch | None" = None,
    ) -> Generator[int, None, Learned]:
        """All phases in turn, as a program of the machine; returns what it left behind."""
        x, y = np.asarray(batch.x), np.asarray(batch.y)
        key = jax.random.fold_in(key, state.presentation)
        weights = drawn(self.rules, state.weights, jax.random.fold_in(key, 0))
        self._begin(weights, x, _seed(key))
        memory = self.rules.learning.blank(self.network, (self.copies,), jnp.result_type(float))
        output = np.zeros_like(y)
        passed: list[Any] = []
        lengths = self._lengths(int(state.presentation))
        for number, phase in enumerate(self.phases):
            target = targets(self.rules, phase, y, output)
            self._open(phase)
            self._teach(phase, target)
            length = lengths[number]
            opening = max(0, length - self.window)
            stops = {0, opening, length}
            led = phase.teaching == "following" and self.machine.follow is None
            if led:
                stops |= set(range(length))
            if self.rules.online:
                stops |= set(range(0, length, self.every))
            if watch is not None:
                stops |= set(watch.steps[number])
            at, before = 0, self.machine.tally()
            for stop in sorted(stops):
                if stop > at:
                    yield stop - at
                due = stop - at
                at = stop
                if watch is not None and stop in watch.steps[number]:
                    watch.look(self, number, weights, x, target)
                if stop == opening:
                    before = self.machine.tally()
                if led and stop < length:
                    self._teach(phase, target)
                if self.rules.online and due and stop % self.every == 0:
                    now = self.readings.now(self.machine)
                    weights, memory = drift(
                        self.rules,
                        phase,
                        self.every * self.settings.dt,
                        weights,
                        memory,
                        now,
                        batch,
                        jax.random.fold_in(key, number),
                        state,
                        first,
                    )
                    self._write(weights, x)
            after = self.machine.tally()
            estimates = self.readings.estimates(before, after, length - opening)
            if watch is not None:
                given = before, after, length - opening, weights, x, target, phase
                watch.end(self.readings.ended(*given))
            passed.append(estimates)
            if phase.teaching == "none":
                output = np.asarray(estimates.rate[-1])
        return learn(self.rules, state, weights, batch, passed, key, first)

    def _open(self, phase: Phase) -> None:
        """A phase begins: the parameters that some phase changes take the values of this one."""
        values = {name: float(v) for name, v in self.dynamics.parameters.items()}
        changed = {name: float(v) for name, v in self.rules.changed(phase).items()}
        self.machine.change(values | changed)

    def _teach(self, phase: Phase, target: Target) -> None:
        """Sets the target for what the teacher sees of the output layer now."""
        if phase.teaching == "none":
            self.machine.teach(None)
            return
        if phase.teaching == "following" and self.machine.follow is not None:
            self.machine.follow(target)
            return
        top = self.readings.top(self.machine)
        self.machine.teach(np.asarray(taught(self.rules, target, top)))

    # --- what the run loop calls ------------------------------------------------------------

    def begin(self, weights: Any, presentation: int, seeds: int | None = None) -> RunState:
        """See `Engine.begin`."""
        return self.rules.begin(weights, presentation, seeds)

    def advance(
        self,
        states: RunState,
        data: tuple[Array, Array],
        data_axis: int | None,
        orders: Int[Array, "seed batches batch"],
        keys: Key[Array, " seed"],
        start: Int[Array, ""] | int,
        stop: Int[Array, ""] | int,
        first: Int[Array, ""],
    ) -> tuple[RunState, Metrics, Any]:
        """The presentations `start` … `stop`−1 of an epoch; see `Engine.advance`."""
        start, stop = int(start), int(stop)
        ended, metrics, changes = [], [], []
        for s in range(orders.shape[0]):
            state = jax.tree.map(lambda a, s=s: a[s], states)
            state, filled, change = self._advance_seed(
                state, _of_seed(data, data_axis, s), orders[s], keys[s], start, stop, first
            )
            ended.append(state)
            metrics.append(filled)
            changes.append(change)
        return _stacked(ended), _stacked(metrics), _stacked(changes)

    def _advance_seed(
        self,
        state: RunState,
        data: tuple[Array, Array],
        order: Int[Array, "batches batch"],
        key: PRNGKeyArray,
        start: int,
        stop: int,
        first: Int[Array, ""],
    ) -> tuple[RunState, Metrics, Any]:
        count, phases = order.shape[0], len(self.phases)
        lengths = [self._lengths(int(state.presentation) + k) for k in range(stop - start)]
        unknown: Any = np.full((count, phases), np.nan)
        effort: Any = unknown.copy()
        losses, errors = (np.full(count, np.nan) for _ in range(2))
        metrics = Metrics(
            losses,  # type: ignore[arg-type]
            errors,  # type: ignore[arg-type]
            unknown,
            unknown,
            effort,
            unknown,
            unknown,
            {},
        )
        change = nothing(state.weights)

        def program() -> Generator[int, None, None]:
            nonlocal state, change
            for p in range(start, stop):
                batch = Batch(data[0][order[p]], data[1][order[p]], order[p])
                learned = yield from self._present(state, batch, key, first)
                state, change = learned.state, learned.change
                losses[p], errors[p] = float(learned.loss), float(learned.error)
                effort[p] = lengths[p - start]

        if stop > start:
            self.machine.run(program(), sum(map(sum, lengths)))
        return state, metrics, change

    def evaluate(
        self,
        weights: Any,
        data: tuple[Array, Array],
        data_axis: int | None,
        keys: Key[Array, " seed"],
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Free phases on a data set; see `Engine.evaluate`. Whether they settled is not known."""
        results = []
        for s in range(len(keys)):
            own = jax.tree.map(lambda a, s=s: np.asarray(a[s]), weights)
            x, y = (np.asarray(a)[: self.settings.test] for a in _of_seed(data, data_axis, s))
            output = self._outputs(own, x, _seed(keys[s]))
            results.append(score(self.rules, output, y))
        loss, wrong = (np.array([float(r[k]) for r in results]) for k in (0, 1))
        return loss, wrong, np.full_like(loss, np.nan)

    def _outputs(self, weights: Any, x: np.ndarray, seed: int) -> np.ndarray:
        """h_L at the end of a free phase for every sample, a batch at a time."""
        length = self._steps(self.phases[0])
        opening = max(0, length - self.window)
        rounds = -(-len(x) // self.copies)
        outputs = []

        def program() -> Generator[int, None, None]:
            for k in range(rounds):
                ids = np.arange(k * self.copies, (k + 1) * self.copies) % len(x)
                self._begin(weights, x[ids], (seed + k) % 2**32)
                self.machine.teach(None)
                if opening:
                    yield opening
                before = self.machine.tally()
                yield length - opening
                after = self.machine.tally()
                estimates = self.readings.estimates(before, after, length - opening)
                outputs.append(estimates.rate[-1])

        self.machine.run(program(), rounds * length)
        return np.concatenate(outputs)[: len(x)]

    def examine(
        self,
        states: RunState,
        data: tuple[Array, Array],
        data_axis: int | None,
        ids: Int[Array, "seed batch"],
        keys: Key[Array, " seed"],
        first: Int[Array, ""],
        times: tuple[tuple[float, ...], ...],
        samples: int,
    ) -> Examined:
        """The presentation that comes next in detail; see `Engine.examine`.

        Rates are means since the moment before. Spikes are those of the first seed.
        """
        seen: list[Any] = []
        ends: list[Any] = []
        spikes: dict[str, Spikes] = {}
        for s in range(len(keys)):
            state = jax.tree.map(lambda a, s=s: a[s], states)
            own = _of_seed(data, data_axis, s)
            batch = Batch(own[0][ids[s]], own[1][ids[s]], ids[s])
            steps = [[round(t / self.settings.dt) for t in phase] for phase in times]
            lengths = self._lengths(int(state.presentation))
            watch = Watch(steps, lengths, self.machine.tally(), samples)

            def program(
                state: RunState = state,
                batch: Batch = batch,
                key: PRNGKeyArray = keys[s],
                watch: Watch = watch,
            ) -> Generator[int, None, None]:
                yield from self._present(state, batch, key, first, watch)

            with self.machine.recording(samples) as recorded:
                self.machine.run(program(), sum(lengths))
            seen.append(watch.traces())
            ends.append(watch.ends)
            spikes = spikes or {p: self._placed(lengths, *of) for p, of in recorded.items()}
        stopped = np.array([[n * self.settings.dt] * samples for n in lengths])
        return Examined(_stacked(seen), np.stack([stopped] * len(keys)), spikes, _stacked(ends))

    def _placed(self, lengths: list[int], times: np.ndarray, nodes: np.ndarray) -> Spikes:
        """Spikes on the time axis of the trace, on which every phase lasts its least duration."""
        kept, moved, began, least = np.zeros(len(times), bool), times.copy(), 0, 0
        step = np.rint(times / self.settings.dt).astype(int)
        for phase, length in zip(self.phases, lengths, strict=True):
            here = (step >= began) & (step < began + self._steps(phase))
            kept |= here
            moved[here] -= (began - least) * self.settings.dt
            began, least = began + length, least + self._steps(phase)
        return Spikes(moved[kept], nodes[kept])

    def against_backprop(
        self,
        weights: Any,
        change: Any,
        data: tuple[Array, Array],
        data_axis: int | None,
        ids: Int[Array, "seed batch"],
    ) -> tuple[Any, Any]:
        """See `Engine.against_backprop`."""
        return self.rules.against_backprop(weights, change, data, data_axis, ids)

    def rehearse(self, weights: Any, data: tuple[Array, Array], data_axis: int | None) -> None:
        """See `Engine.rehearse`: what rules are handed here is of the same shape."""
        level = Equilibrium(1e-3, 1, 0)
        replace(self.rules, level=level, online=False).rehearse(weights, data, data_axis)


def _seed(key: PRNGKeyArray) -> int:
    """A seed for the machine."""
    return int(jax.random.bits(key, dtype=jnp.uint32))


def _of_seed(data: tuple[Array, Array], axis: int | None, s: int) -> tuple[Array, Array]:
    """The data of one seed."""
    return data if axis is None else (data[0][s], data[1][s])


def _stacked(trees: list[Any]) -> Any:
    """Seeds as the first axis."""
    return jax.tree.map(lambda *leaves: np.stack([np.asarray(v) for v in leaves]), *trees)
