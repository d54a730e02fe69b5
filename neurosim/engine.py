"""The compiled heart of a run: presentations of a batch, phase by phase, and what they change.

Pure functions of (weights, optimiser state, counters): one compiled loop serves chunks of any
length, recorded or not, so that neither recording nor chunking can change a number. Seeds are the
first axis of everything; what has no loop inside is written for one seed and mapped over them.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import groupby
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray, Scalar

from neurosim.compiled import compiled
from neurosim.dynamics.base import Drive, Dynamics, Readout, State, Target, rest
from neurosim.levels import online
from neurosim.levels.equilibrium import Equilibrium
from neurosim.levels.online import Plastic, read_batch
from neurosim.levels.rate import Rate
from neurosim.levels.settling import Problem, Report, Span
from neurosim.network import Network, Weights, standardized
from neurosim.plasticity.iteration import Iteration, Shown, iterate
from neurosim.plasticity.learning import Learning, Moment, nothing
from neurosim.simulator import Batch, Examined, Metrics, Phase, RunState
from neurosim.theory.diagnosis import of_phases

TESTED_AT_ONCE = 512
"""Samples of a data set that settle side by side; more would only take memory."""


FREE = Phase("free", 0.0, False, "none", False, False)
FROZEN = FREE._replace(teaching="frozen")
"""What is taught in a phase, whatever else it is."""


class Passed(NamedTuple):
    """What a phase left behind: the readout of the batch, the reports, what was watched."""

    readout: Readout
    report: Report
    watched: Any


class Engine(eqx.Module):
    """A model under the phases of one stage of a protocol, at one of the JAX levels."""

    dynamics: Dynamics
    network: Network
    level: Equilibrium | Rate | None
    phases: tuple[Phase, ...] = eqx.field(static=True)
    learning: Learning
    target_step: Scalar | float
    online: bool = eqx.field(static=True)
    presentations: Scalar | int
    decompose: bool = eqx.field(static=True, default=False)

    def _each(self, function: Callable[..., Any], *args: Any) -> Any:
        """function(engine of one seed, its part of `args`) for every seed; args have it first."""
        network = eqx.if_array(0) if self.learning.credit.normalized else None

        def one(network, *args):
            return function(replace(self, network=network), *args)

        return eqx.filter_vmap(one, in_axes=(network, *[eqx.if_array(0)] * len(args)))(
            self.network, *args
        )

    # -------------------------------------------------------------------------- one batch

    def target(self, phase: Phase, label, output) -> Target:
        """The teaching of one sample; `output`: h_L at the end of the free phase."""
        match phase.teaching:
            case "none":
                return Target("none")
            case "following":
                return Target("following", self.target_step, label)
            case "clamped":
                return Target("fixed", value=label)
            case _:
                error = self.network.loss.error(output, label)
                return Target("fixed", value=output - self.target_step * error)

    def _targets(self, phase: Phase, labels: Array, outputs: Array) -> Target:
        """The same of every seed and sample."""
        return jax.vmap(jax.vmap(partial(self.target, phase)))(labels, outputs)

    def _run_phases(
        self,
        weights: Weights,
        batch: Batch,
        keys: PRNGKeyArray,
        moment: Moment,
        watch: tuple[tuple[float, ...], ...] | None = None,
    ) -> tuple[Weights, list[Passed], Weights | None]:
        """All phases in turn: the weights online plasticity left, the phases, the quasi-static Δ.

        Everything has the seed first. watch: the times (s) at which every phase is looked at.
        """
        numbers = jnp.arange(len(self.phases))
        phase_keys = jax.vmap(lambda k: jax.vmap(lambda key: jax.random.fold_in(key, k))(keys))(
            numbers
        )
        state = self._rest(weights, batch)
        if self.online:
            weights, passed = self._flow(weights, state, batch, phase_keys, moment, watch)
            return weights, passed, None
        passed = self._settle(weights, state, batch, phase_keys, watch)
        if self.learning.credit.own_channel:
            return weights, passed, None
        change, free = None, None
        for number, (phase, (readout, _, _)) in enumerate(zip(self.phases, passed, strict=True)):
            if phase.teaching == "none":
                free = readout
            if phase.forward or phase.feedback:
                change_of_phase = partial(Engine.change, phase=phase)
                signals = weights, batch, readout, free, phase_keys[number], moment
                this = self._each(change_of_phase, *signals)
                change = this if change is None else jax.tree.map(jnp.add, change, this)
        return weights, passed, change

    # ----------------------------------------------------------------- phases, weights at rest

    def _settle(self, weights, state, batch, keys, watch) -> list[Passed]:
        """All phases under fixed weights; every sample is on its own."""
        drive = self._each(Engine.drives, weights, batch.x, self._targets(FREE, batch.y, batch.y))
        output = jnp.zeros((*batch.ids.shape, self.network.sizes[-1]), batch.x.dtype)
        passed: list[Passed] = []
        for alike in _alike(self.phases):
            phases, first = self.phases[alike], alike.start
            times = () if watch is None else tuple(sorted({t for of in watch[alike] for t in of}))
            settle = partial(self._settle_phase, weights, batch, times)
            if len(phases) == 1:
                target = self._targets(phases[0], batch.y, output)
                state, ended = settle(phases[0], replace(drive, target=target), keys[first], state)
                if phases[0].teaching == "none":
                    output = ended.readout.rate[-1]
                every = [ended]
            else:  # one loop over phases that differ in their teaching only
                clamped = jnp.array([phase.teaching == "clamped" for phase in phases])
                on = jnp.array([phase.teaching != "none" for phase in phases])

                def one(carry, phase, settle=settle, like=phases[0]):
                    state, output = carry
                    on, clamped, keys = phase
                    frozen = self._targets(FROZEN, batch.y, output).value
                    value = jnp.where(clamped, batch.y, frozen)
                    on_all = jnp.broadcast_to(on, batch.ids.shape)
                    target = Target("switched", jnp.zeros_like(value), None, value, on_all)
                    state, ended = settle(like, replace(drive, target=target), keys, state)
                    output = jnp.where(on, output, ended.readout.rate[-1])
                    return (state, output), ended

                given = on, clamped, keys[alike]
                (state, output), stacked = jax.lax.scan(one, (state, output), given)
                every = [jax.tree.map(lambda a, k=k: a[k], stacked) for k in range(len(phases))]
            passed += every if watch is None else map(partial(_seen_at, times), watch[alike], every)
        return passed

    def _settle_phase(self, weights, batch, times, phase, drive, keys, state):
        """One phase; its end, and what it leaves behind."""
        problem = self._problem(weights, drive, batch.y)
        noise_keys = self._each(Engine._noise_keys, keys, batch.ids)
        watch = (times, self.observe) if times else None
        span = Span(phase.duration, phase.stop, noise_keys, watch)
        state, report, watched = self.level.settle(problem, state, span)
        readout = problem.each(lambda one, v: one.dynamics.read(*one[1:4], v), state)
        return state, Passed(readout, report, watched)

    def _problem(self, weights: Weights, drive: Drive, labels) -> Problem:
        """What settles, of every seed and sample."""
        lead = eqx.if_array(0)
        network = lead if self.learning.credit.normalized else None
        seeds = Problem(None, network, lead, lead, None, lead)  # type: ignore[arg-type]
        samples = Problem(None, None, None, lead, None, lead)  # type: ignore[arg-type]
        given = self.dynamics, self.network, weights, drive, self.target_step, labels
        return Problem(*given, (seeds, samples))

    def _noise_keys(self, key: PRNGKeyArray, ids: Int[Array, " batch"]) -> PRNGKeyArray | None:
        """A key for every sample, selected by its place in the data set; None without noise."""
        if not self.dynamics.noise:
            return None
        return jax.vmap(lambda sample: jax.random.fold_in(key, sample))(ids)

    def observe(self, problem: Problem, state: State) -> dict[str, Any]:
        """The recordable variables of one sample."""
        return self.dynamics.observe(state, self.dynamics.read(*problem[1:4], state))

    def drives(self, weights: Weights, x, target: Target) -> Drive:
        """What a phase holds fixed, for every sample of a batch of one seed."""
        potential = jax.vmap(lambda x: self.network.potential(weights, 1, x))(x)
        return Drive(x, potential, target)

    def read(self, weights: Weights, batch: Batch, target: Target, state: State) -> Readout:
        """What the states of a batch mean, of one seed."""
        drives = self.drives(weights, batch.x, target)
        return read_batch(self.dynamics, self.network, weights, drives, state)

    # ------------------------------------------------------------------- phases, weights flowing

    def _flow(self, weights, state, batch, keys, moment, watch) -> tuple[Weights, list[Passed]]:
        """All phases of online plasticity; the samples of a batch share the weights that move."""
        lead, dtype = batch.ids.shape, batch.x.dtype
        memory = tuple(jnp.zeros((*lead, n), dtype) for n in self.network.sizes[1:])
        output, passed = jnp.zeros_like(memory[-1]), []
        for number, phase in enumerate(self.phases):
            target = self._targets(phase, batch.y, output)
            times = None if watch is None else watch[number]
            flow = partial(Engine._online_phase, phase=phase, times=times)
            start = Plastic(state, memory, weights)
            given = batch, target, keys[number], moment
            plastic, report, watched = self._each(flow, start, *given)
            state, memory, weights = plastic
            readout = self._each(Engine.read, weights, batch, target, state)
            if phase.teaching == "none":
                output = readout.rate[-1]
            passed.append(Passed(readout, report, watched))
        return weights, passed

    def _rest(self, weights: Weights, batch: Batch) -> State:
        """The state of every seed and sample before anything is shown."""
        state = rest(self.dynamics, self.network, weights.W[0].dtype)
        return jax.tree.map(lambda v: jnp.broadcast_to(v, (*batch.ids.shape, *v.shape)), state)

    def _online_phase(self, start, batch, target, key, moment, *, phase, times):
        """A phase of one seed in which weights move too: the batch is one system."""

        def velocity(weights, readout, memory):
            free = readout._replace(teacher=memory)
            change = self.change(weights, batch, readout, free, key, moment, phase=phase)
            return self.learning.rated(change, moment.factor)

        def seen(plastic):
            weights = self.learning.constrain(plastic.weights)
            readout = self.read(weights, batch, target, plastic.state)
            return jax.vmap(self.dynamics.observe)(plastic.state, readout)

        noise_keys = self._noise_keys(key, batch.ids)
        watch = None if times is None else (times, seen)
        plastic, report, watched = online.integrate(
            self.level,
            self.dynamics,
            self.network,
            start,
            batch.x,
            batch.y,
            target,
            self.target_step,
            velocity,
            self.learning.tau_memory if phase.teaching == "none" else None,
            phase.duration,
            noise_keys,
            watch,
            self.learning.constrain,
        )
        if watched is not None:  # time first, as the solver saves it → batch first
            watched = jax.tree.map(lambda a: jnp.swapaxes(a, 0, 1), watched)
        return plastic, report, watched

    def change(self, weights, batch, readout, free, key, moment: Moment, *, phase) -> Weights:
        """What the open plasticity of a phase makes of its signals, before rates; of one seed."""
        change = nothing(weights)
        if self.learning.credit.own_channel:
            readout = self.learning.taught(self.dynamics, self.network, weights, batch.y, readout)
        if phase.forward:
            change = self.learning.forward_change(
                self.dynamics, self.network, weights, batch.x, batch.y, readout, free
            )
        if phase.feedback:
            feedback = self.learning.feedback_change(
                self.network, weights, readout, key, moment.turn
            )
            change = change._replace(Q=feedback.Q)
        return change

    # ------------------------------------------------------------------- one presentation

    def begin(self, weights: Weights, presentation: int) -> RunState:
        """The state of every seed at the start of a stage."""

        def one(weights):
            count = jnp.asarray(presentation, jnp.int32)
            return RunState(weights, self.learning.begin(weights), count)

        return jax.vmap(one)(weights)

    def moment(
        self, presentation: Int[Array, ""], first: Int[Array, ""], key: PRNGKeyArray | None = None
    ) -> Moment:
        """Where in its stage a run stands. key: of the presentation."""
        done = (presentation - first).astype(jnp.result_type(float))
        return self.learning.moment(done / self.presentations, key, presentation)

    def _present(
        self,
        states: RunState,
        batch: Batch,
        keys: PRNGKeyArray,
        first: Int[Array, ""],
    ) -> tuple[RunState, Metrics, Weights]:
        """One presentation: all phases, then, quasi-statically, one step of the weights.

        Also the change its signals asked for, before rates and optimiser; online, what was done.
        """
        keys, moment = self._moments(states, keys, first)
        weights, passed, change = self._run_phases(states.weights, batch, keys, moment)
        optimizer, iteration = states.optimizer, None
        readouts, reports = [p.readout for p in passed], [p.report for p in passed]
        if self.learning.credit.own_channel and not self.online:
            iteration = self._each(
                Engine._iterate, weights, batch, readouts[0], optimizer, keys, moment
            )
            weights, optimizer, change = iteration[:3]
        elif change is not None:
            weights, optimizer = jax.vmap(self.learning.step)(
                weights, change, optimizer, moment.factor
            )
        else:
            change = jax.tree.map(jnp.subtract, weights, states.weights)
        measured = states.weights, batch, readouts, iteration
        signals = self._each(Engine._signals, *measured)
        metrics = jax.vmap(self._metrics)(batch, readouts[0].rate[-1], reports, signals)
        return RunState(weights, optimizer, states.presentation + 1), metrics, change

    def _moments(self, states: RunState, keys: PRNGKeyArray, first) -> tuple[PRNGKeyArray, Moment]:
        """The keys of the presentation that comes next, and where it stands, of every seed."""
        keys = jax.vmap(jax.random.fold_in)(keys, states.presentation)
        moment = jax.vmap(lambda p, key: self.moment(p, first, key))(states.presentation, keys)
        return keys, moment

    def _iterate(self, weights, batch, readout, optimizer, key, moment) -> Iteration:
        """One step of a credit with a channel of its own, of one seed."""
        (phase,) = self.phases
        return iterate(
            self.learning,
            self.dynamics,
            self.network,
            weights,
            Shown(batch.x, batch.y, readout),
            optimizer,
            jax.random.fold_in(key, 0),
            moment,
            (phase.forward, phase.feedback),
        )

    def _signals(self, weights, batch, readouts, iteration: Iteration | None) -> dict[str, Array]:
        """What is measured of the learning of one presentation, of one seed."""
        model = self.learning.credit, self.dynamics, self.network, weights
        given = self.phases, readouts, batch.y, self.target_step
        found = of_phases(*model, *given, iteration) if self.decompose else {}
        if iteration is not None and self.learning.credit.exact:
            found["drift"] = iteration.drift
        return found

    def _metrics(self, batch: Batch, output: Array, reports: list[Report], signals) -> Metrics:
        """Of one seed."""
        residual = jnp.stack([jnp.max(r.residual) for r in reports])
        lost = jnp.where(jnp.isfinite(residual).all(), 0.0, jnp.nan)  # no metrics of no state
        loss = jnp.mean(jax.vmap(self.network.loss)(output, batch.y))
        wrong = jnp.argmax(self.network.loss.prediction(output), -1) != jnp.argmax(batch.y, -1)
        return Metrics(
            loss + lost,
            jnp.mean(wrong.astype(loss.dtype)) + lost,
            residual,
            jnp.stack([jnp.mean(r.settled.astype(loss.dtype)) for r in reports]),
            jnp.stack([jnp.mean(r.effort) for r in reports]),
            jnp.stack([jnp.mean(r.rescued.astype(loss.dtype)) for r in reports]),
            signals,
        )

    # ------------------------------------------------------------- what the run loop calls

    @property
    def curve(self) -> None:
        """The f–I curve of calibrated neurons, which only the spiking level has."""
        return None

    @compiled
    def advance(
        self,
        states: RunState,
        data: tuple[Array, Array],
        data_axis: int | None,
        orders: Int[Array, "seed batches batch"],
        keys: PRNGKeyArray,
        start: Int[Array, ""],
        stop: Int[Array, ""],
        first: Int[Array, ""],
    ) -> tuple[RunState, Metrics, Weights]:
        """The presentations `start` … `stop`−1 of an epoch, for every seed at once.

        Also the change that the signals of the last of them asked for.

        orders: which samples make the batches of this epoch. keys: one a seed. first: the
        presentation the stage began with. Metrics come with all batches of the epoch on their
        second axis; only those from `start` to `stop` are filled.
        """

        def present(states, p):
            engine, batch = self._shown(states.weights, data, data_axis, orders[:, p])
            return engine._present(states, batch, keys, first)

        shapes = jax.eval_shape(lambda: present(states, 0)[1])
        count = orders.shape[1]
        empty = jax.tree.map(
            lambda s: jnp.full((s.shape[0], count, *s.shape[1:]), jnp.nan, s.dtype), shapes
        )

        def body(p, carry):
            states, metrics, _ = carry
            states, new, change = present(states, p)
            return states, jax.tree.map(lambda m, n: m.at[:, p].set(n), metrics, new), change

        return jax.lax.fori_loop(start, stop, body, (states, empty, nothing(states.weights)))

    def _shown(self, weights: Weights, data, data_axis: int | None, ids) -> tuple["Engine", Batch]:
        """The samples of every seed at these places of the data, and the engine that sees them.

        ids: (seed, batch).
        """
        batch = jax.vmap(lambda data, ids: Batch(data[0][ids], data[1][ids], ids), (data_axis, 0))(
            data, ids
        )
        if not self.learning.credit.normalized:
            return self, batch
        network, x = eqx.filter_vmap(lambda w, x: standardized(self.network, w, x))(
            weights, batch.x
        )
        return replace(self, network=network), batch._replace(x=x)

    @compiled
    def evaluate(
        self,
        weights: Weights,
        data: tuple[Array, Array],
        data_axis: int | None,
        keys: PRNGKeyArray,
    ) -> tuple[Float[Array, " seed"], Float[Array, " seed"], Float[Array, " seed"]]:
        """Free phases on a data set, per seed: mean loss, fraction wrong, fraction settled.

        keys: one a seed, for the noise. A normalised network is so over the data set.
        """
        count = data[0].shape[-2]
        ids = jnp.broadcast_to(jnp.arange(count), (keys.shape[0], count))
        engine, all_samples = self._shown(weights, data, data_axis, ids)
        size = min(TESTED_AT_ONCE, count)
        rounds = -(-count // size)
        order = (jnp.arange(rounds * size) % count).reshape(rounds, size)  # the last ones twice

        def one_round(ids):
            batch = jax.tree.map(lambda a: a[:, ids], all_samples)
            target = self._targets(FREE, batch.y, batch.y)
            drive = engine._each(Engine.drives, weights, batch.x, target)
            start = self._rest(weights, batch)
            _, ended = engine._settle_phase(weights, batch, (), self.phases[0], drive, keys, start)
            return engine._scores(ended.readout.rate[-1], batch.y, ended.report)

        def mean(scores):
            return jnp.mean(jnp.moveaxis(scores, 0, 1).reshape(len(keys), -1)[:, :count], axis=1)

        loss, wrong, settled = jax.lax.map(one_round, order)
        return mean(loss), mean(wrong), mean(settled)

    def _scores(self, output: Array, labels: Array, report: Report) -> tuple[Array, Array, Array]:
        """Loss, error and whether it settled, of every seed and sample; NaN without an end."""
        lost = jnp.where(jnp.isfinite(report.residual), 0.0, jnp.nan)
        wrong = jnp.argmax(self.network.loss.prediction(output), -1) != jnp.argmax(labels, -1)
        loss = jax.vmap(jax.vmap(self.network.loss))(output, labels)
        return loss + lost, wrong.astype(loss.dtype) + lost, report.settled.astype(loss.dtype)

    @compiled
    def examine(
        self,
        states: RunState,
        data: tuple[Array, Array],
        data_axis: int | None,
        ids: Int[Array, "seed batch"],
        keys: PRNGKeyArray,
        first: Int[Array, ""],
        times: tuple[tuple[float, ...], ...],
        samples: int,
    ) -> Examined:
        """The presentation that comes next, seen in detail; it leaves no mark on the run.

        times: when to look in every phase (s). samples: of how many samples of the batch.
        """
        engine, batch = self._shown(states.weights, data, data_axis, ids)
        if not self.online:  # where samples share no moving weights, a few are enough
            batch = jax.tree.map(lambda a: a[:, :samples], batch)
        keys, moment = self._moments(states, keys, first)
        _, seen, _ = engine._run_phases(states.weights, batch, keys, moment, times)
        traces = [jax.tree.map(lambda a: a[:, :samples], p.watched) for p in seen]
        stopped = jnp.stack([p.report.stopped[:, :samples] for p in seen], axis=1)
        return Examined(traces, stopped)

    def observed_layers(self, weights: Weights) -> dict[str, int]:
        """How many layers, from layer 1 up, have each recordable variable."""

        def look():
            first = jax.tree.map(lambda w: w[0], weights)
            x = jnp.zeros(self.network.sizes[0], first.W[0].dtype)
            drive = Drive(x, self.network.potential(first, 1, x), Target("none"))
            state = rest(self.dynamics, self.network, x.dtype)
            readout = self.dynamics.read(self.network, first, drive, state)
            return self.dynamics.observe(state, readout)

        return {name: len(layers) for name, layers in jax.eval_shape(look).items()}

    @compiled
    def against_backprop(
        self,
        weights: Weights,
        change: Weights,
        data: tuple[Array, Array],
        data_axis: int | None,
        ids: Int[Array, "seed batch"],
    ) -> tuple[Float[Array, "seed L"], Float[Array, "seed L"]]:
        """Per layer, the angle (degrees) between ΔW_i and the negative gradient, and ‖ΔW_i‖."""

        engine, batch = self._shown(weights, data, data_axis, ids)
        return engine._each(Engine._against_backprop, weights, change, batch)

    def _against_backprop(self, weights, change, batch: Batch) -> tuple[Array, Array]:
        """Of one seed."""

        def loss(W):
            moved = weights._replace(W=W)
            outputs = jax.vmap(lambda x: self.network.forward_pass(moved, x)[-1])(batch.x)
            return jnp.mean(jax.vmap(self.network.loss)(outputs, batch.y))

        angles, norms = [], []
        for d, g in zip(change.W, jax.grad(loss)(weights.W), strict=True):
            norm = jnp.linalg.norm(d)
            cosine = -jnp.vdot(d, g) / (norm * jnp.linalg.norm(g))
            angles.append(jnp.degrees(jnp.arccos(jnp.clip(cosine, -1, 1))))
            norms.append(norm)
        return jnp.stack(angles), jnp.stack(norms)


def _seen_at(times: tuple[float, ...], own: tuple[float, ...], ended: Passed) -> Passed:
    """What was watched at some of the times."""
    rows = np.searchsorted(times, own)
    return ended._replace(watched=jax.tree.map(lambda a: a[:, :, rows], ended.watched))


def _alike(phases: tuple[Phase, ...]) -> list[slice]:
    """Runs of phases that differ only in whether and where to their target is fixed."""

    def program(phase: Phase):
        follows = phase.teaching == "following"
        return phase.duration, phase.stop, follows and phase

    runs, start = [], 0
    for _, group in groupby(phases, program):
        count = len(list(group))
        runs.append(slice(start, start + count))
        start += count
    return runs
