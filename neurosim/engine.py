"""The compiled heart of a run: presentations of a batch, phase by phase, and what they change.

Pure functions of (weights, optimiser state, counters): one compiled loop serves chunks of any
length, so that neither recording nor chunking can change a number. Seeds are an axis around it.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

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
    target_step: float = eqx.field(static=True)
    online: bool = eqx.field(static=True)
    presentations: int = eqx.field(static=True)
    decompose: bool = eqx.field(static=True, default=False)

    def seeing(self, weights: Weights, x: Float[Array, "batch n_0"]) -> tuple["Engine", Array]:
        """The engine and the input for a batch, whose samples a normalised network compares."""
        if not self.learning.credit.normalized:
            return self, x
        network, x = standardized(self.network, weights, x)
        return replace(self, network=network), x

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

    def _run_phases(
        self,
        weights: Weights,
        batch: Batch,
        key: PRNGKeyArray,
        moment: Moment,
        watch: tuple[tuple[tuple[float, ...], ...], Callable] | None = None,
    ) -> tuple[Weights, list[Passed], Weights | None]:
        """All phases in turn: the weights online plasticity left, the phases, the quasi-static Δ.

        watch: (the times of every phase, function(state, readout) of one sample).
        """
        network, dynamics = self.network, self.dynamics
        dtype = weights.W[0].dtype
        state = jax.vmap(lambda _: rest(dynamics, network, dtype))(batch.ids)
        memory = tuple(jnp.zeros((len(batch.ids), n), dtype) for n in network.sizes[1:])
        output = jnp.zeros((len(batch.ids), network.sizes[-1]), dtype)
        passed: list[Passed] = []
        free: Readout | None = None
        change: Weights | None = None
        summed = not self.online and not self.learning.credit.own_channel
        for number, phase in enumerate(self.phases):
            phase_key = jax.random.fold_in(key, number)
            times = None if watch is None else watch[0][number]
            target = jax.vmap(lambda y, h, phase=phase: self.target(phase, y, h))(batch.y, output)
            if self.online:
                start = Plastic(state, memory, weights)
                plastic, report, watched = self._online_phase(
                    phase, start, batch, target, phase_key, moment, times, watch
                )
                state, memory, weights = plastic
            else:
                state, report, watched = self._settle_phase(
                    phase, weights, state, batch, target, phase_key, times, watch
                )
            drive = self.drives(weights, batch.x, target)
            readout = read_batch(dynamics, network, weights, drive, state)
            if phase.teaching == "none":
                free, output = readout, readout.rate[-1]
            if summed and (phase.forward or phase.feedback):
                this = self.change(weights, batch, readout, free, phase, phase_key, moment)
                change = this if change is None else jax.tree.map(jnp.add, change, this)
            passed.append(Passed(readout, report, watched))
        return weights, passed, change

    def drives(self, weights: Weights, x, target: Target) -> Drive:
        """What a phase holds fixed, for every sample of a batch."""
        potential = jax.vmap(lambda x: self.network.potential(weights, 1, x))(x)
        return Drive(x, potential, target)

    def _settle_phase(self, phase, weights, state, batch, target, key, times, watch):
        """A phase under fixed weights: every sample on its own."""

        def one(drive, label, noise_key, state):
            def seen(state):
                return watch[1](state, self.dynamics.read(self.network, weights, drive, state))

            watched = None if watch is None else (times, seen)
            span = Span(phase.duration, phase.stop, noise_key, watched)
            problem = Problem(self.dynamics, self.network, weights, drive, self.target_step, label)
            return self.level.settle(problem, state, span)

        drive = self.drives(weights, batch.x, target)
        return jax.vmap(one)(drive, batch.y, self._noise_keys(key, batch.ids), state)

    def _noise_keys(self, key: PRNGKeyArray, ids: Int[Array, " batch"]) -> PRNGKeyArray | None:
        """A key for every sample, selected by its place in the data set; None without noise."""
        if not self.dynamics.noise:
            return None
        return jax.vmap(lambda sample: jax.random.fold_in(key, sample))(ids)

    def _online_phase(self, phase, start, batch, target, key, moment, times, watch):
        """A phase in which weights move too: the batch is one system."""

        def velocity(weights, readout, memory):
            free = readout._replace(teacher=memory)
            change = self.change(weights, batch, readout, free, phase, key, moment)
            return self.learning.rated(change, moment.factor)

        def seen(plastic):
            weights = self.learning.constrain(plastic.weights)
            drive = self.drives(weights, batch.x, target)
            readout = read_batch(self.dynamics, self.network, weights, drive, plastic.state)
            return jax.vmap(watch[1])(plastic.state, readout)

        noise_keys = self._noise_keys(key, batch.ids)
        span = Span(phase.duration, False, noise_keys, None if watch is None else (times, seen))
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
            (self.learning.tau_memory or None) if phase.teaching == "none" else None,
            span,
            self.learning.constrain,
        )
        if watched is not None:  # time first, as the solver saves it → batch first
            watched = jax.tree.map(lambda a: jnp.swapaxes(a, 0, 1), watched)
        return plastic, report, watched

    def change(self, weights, batch, readout, free, phase, key, moment: Moment) -> Weights:
        """What the open plasticity of a phase makes of its signals, before rates."""
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
        self, state: RunState, first: Int[Array, ""], key: PRNGKeyArray | None = None
    ) -> Moment:
        """Where in its stage a run stands. key: of the presentation."""
        done = (state.presentation - first).astype(jnp.result_type(float))
        return self.learning.moment(done / self.presentations, key, state.presentation)

    def _present(
        self, state: RunState, batch: Batch, key: PRNGKeyArray, first: Int[Array, ""]
    ) -> tuple[RunState, Metrics, Weights]:
        """One presentation: all phases, then, quasi-statically, one step of the weights.

        Also the change its signals asked for, before rates and optimiser; online, what was done.
        """
        key = jax.random.fold_in(key, state.presentation)
        moment = self.moment(state, first, key)
        weights, passed, change = self._run_phases(state.weights, batch, key, moment)
        optimizer, iteration = state.optimizer, None
        if self.learning.credit.own_channel and not self.online:
            (phase,), (rest,) = self.phases, passed
            iteration = iterate(
                self.learning,
                self.dynamics,
                self.network,
                weights,
                Shown(batch.x, batch.y, rest.readout),
                optimizer,
                jax.random.fold_in(key, 0),
                moment,
                (phase.forward, phase.feedback),
            )
            weights, optimizer, change = iteration[:3]
        elif change is not None:
            weights, optimizer = self.learning.step(weights, change, optimizer, moment.factor)
        else:
            change = jax.tree.map(jnp.subtract, weights, state.weights)
        signals = self._signals(state.weights, batch, passed, iteration)
        state = RunState(weights, optimizer, state.presentation + 1)
        return state, self._metrics(batch, passed, signals), change

    def _signals(self, weights, batch, passed, iteration: Iteration | None) -> dict[str, Array]:
        """What is measured of the learning of one presentation."""
        model = self.learning.credit, self.dynamics, self.network, weights
        given = self.phases, [p.readout for p in passed], batch.y, self.target_step
        found = of_phases(*model, *given, iteration) if self.decompose else {}
        if iteration is not None and self.learning.credit.exact:
            found["drift"] = iteration.drift
        return found

    def _metrics(self, batch: Batch, passed: list[Passed], signals: dict[str, Array]) -> Metrics:
        output = passed[0].readout.rate[-1]
        reports = [p.report for p in passed]
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

    @eqx.filter_jit
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

        def one(state, data, order, key):
            def present(state, p):
                ids = order[p]
                engine, x = self.seeing(state.weights, data[0][ids])
                return engine._present(state, Batch(x, data[1][ids], ids), key, first)

            shapes = jax.eval_shape(lambda: present(state, 0)[1])
            empty = jax.tree.map(
                lambda s: jnp.full((order.shape[0], *s.shape), jnp.nan, s.dtype), shapes
            )

            def body(p, carry):
                state, metrics, _ = carry
                state, new, change = present(state, p)
                return state, jax.tree.map(lambda m, n: m.at[p].set(n), metrics, new), change

            return jax.lax.fori_loop(start, stop, body, (state, empty, nothing(state.weights)))

        return jax.vmap(one, in_axes=(0, data_axis, 0, 0))(states, data, orders, keys)

    @eqx.filter_jit
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
        phase = Phase("test", self.phases[0].duration, self.phases[0].stop, "none", False, False)

        def one(weights, x, y, noise):
            engine, x = self.seeing(weights, x)
            network = engine.network

            def sample(xy):
                x, y, number = xy
                drive = Drive(x, network.potential(weights, 1, x), Target("none"))
                problem = Problem(self.dynamics, network, weights, drive, self.target_step, y)
                key = jax.random.fold_in(noise, number) if self.dynamics.noise else None
                start = rest(self.dynamics, network, weights.W[0].dtype)
                state, report, _ = self.level.settle(
                    problem, start, Span(phase.duration, phase.stop, key)
                )
                h = self.dynamics.read(network, weights, drive, state).rate[-1]
                wrong = jnp.argmax(network.loss.prediction(h)) != jnp.argmax(y)
                lost = jnp.where(jnp.isfinite(report.residual), 0.0, jnp.nan)
                return network.loss(h, y) + lost, wrong.astype(h.dtype) + lost, report.settled

            numbers = jnp.arange(x.shape[0])
            results = jax.lax.map(sample, (x, y, numbers), batch_size=min(512, x.shape[0]))
            return tuple(jnp.mean(r.astype(x.dtype)) for r in results)

        return jax.vmap(one, in_axes=(0, data_axis, data_axis, 0))(weights, *data, keys)

    @eqx.filter_jit
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

        def one(state, data, ids, key):
            engine, x = self.seeing(state.weights, data[0][ids])
            batch = Batch(x, data[1][ids], ids)
            if not self.online:  # where samples share no moving weights, a few are enough
                batch = jax.tree.map(lambda a: a[:samples], batch)

            def watch(state: State, readout: Readout):
                return self.dynamics.observe(state, readout)

            key = jax.random.fold_in(key, state.presentation)
            moment = self.moment(state, first, key)
            _, seen, _ = engine._run_phases(state.weights, batch, key, moment, (times, watch))
            traces = [jax.tree.map(lambda a: a[:samples], p.watched) for p in seen]
            stopped = jnp.stack([p.report.stopped[:samples] for p in seen])
            return Examined(traces, stopped)

        return jax.vmap(one, in_axes=(0, data_axis, 0, 0))(states, data, ids, keys)

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

    @eqx.filter_jit
    def against_backprop(
        self,
        weights: Weights,
        change: Weights,
        data: tuple[Array, Array],
        data_axis: int | None,
        ids: Int[Array, "seed batch"],
    ) -> tuple[Float[Array, "seed L"], Float[Array, "seed L"]]:
        """Per layer, the angle (degrees) between ΔW_i and the negative gradient, and ‖ΔW_i‖."""

        def one(weights, change, data, ids):
            engine, x = self.seeing(weights, data[0][ids])

            def loss(W):
                moved = weights._replace(W=W)
                outputs = jax.vmap(lambda x: engine.network.forward_pass(moved, x)[-1])(x)
                return jnp.mean(jax.vmap(self.network.loss)(outputs, data[1][ids]))

            angles, norms = [], []
            for d, g in zip(change.W, jax.grad(loss)(weights.W), strict=True):
                norm = jnp.linalg.norm(d)
                cosine = -jnp.vdot(d, g) / (norm * jnp.linalg.norm(g))
                angles.append(jnp.degrees(jnp.arccos(jnp.clip(cosine, -1, 1))))
                norms.append(norm)
            return jnp.stack(angles), jnp.stack(norms)

        return jax.vmap(one, in_axes=(0, 0, data_axis, 0))(weights, change, data, ids)
