"""The compiled heart of a run: presentations of a batch, phase by phase, and what they change.

Pure functions of (weights, optimiser state, counters): one compiled loop serves chunks of any
length, so that neither recording nor chunking can change a number. Seeds are an axis around it.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from neurosim.credit import Credit
from neurosim.dynamics.base import Drive, Dynamics, Readout, State, Target, rest
from neurosim.levels import online
from neurosim.levels.equilibrium import Equilibrium
from neurosim.levels.online import Plastic, read_batch
from neurosim.levels.rate import Rate
from neurosim.levels.settling import Problem, Report, Span
from neurosim.network import Layers, Network, Weights, tie
from neurosim.plasticity.rules import bias
from neurosim.plasticity.signals import forward_signals

OPTIMIZERS: dict[str, Callable[[], optax.GradientTransformation]] = {
    "sgd": optax.identity,
    "momentum": lambda: optax.trace(0.9),
    "rmsprop": optax.scale_by_rms,
    "adam": optax.scale_by_adam,
}


class Phase(NamedTuple):
    """A phase as the engine sees it; duration in s, open plasticity as two switches."""

    name: str
    duration: float
    stop: bool
    teaching: str
    forward: bool
    feedback: bool


class Plasticity(NamedTuple):
    """Rules and rates. forward_rates, feedback_rates: one a layer, per presentation or second.

    probe: where apical synapses get their signals, None when they do not learn. tied: the
    initialiser that Q follows, or None. schedule: progress (0 … 1) → factor on all rates.
    """

    credit: Credit
    forward_rule: Callable
    forward_rates: tuple[float, ...]
    depth_compensation: bool
    feedback_rule: Callable
    probe: Callable | None
    feedback_rates: tuple[float, ...]
    decay: float
    noise: float
    tied: str | None
    tau_memory: float
    optimizers: tuple[str, str]
    schedule: Callable
    top_down: bool


class RunState(NamedTuple):
    """What a run is at a chunk boundary; nothing else matters to what comes after.

    presentation: how many are done, which also selects the random draws.
    """

    weights: Weights
    optimizer: Any
    presentation: Int[Array, ""]


class Batch(NamedTuple):
    """Samples shown together. ids: their place in the data set, which selects their noise."""

    x: Float[Array, "batch n_0"]
    y: Float[Array, "batch n_L"]
    ids: Int[Array, " batch"]


class Passed(NamedTuple):
    """What a phase left behind: the readout of the batch, the reports, what was watched."""

    readout: Readout
    report: Report
    watched: Any


class Metrics(NamedTuple):
    """Of one presentation: the loss and error before teaching, and how each phase ended."""

    loss: Float[Array, ""]
    error: Float[Array, ""]
    residual: Float[Array, " phases"]
    settled: Float[Array, " phases"]
    effort: Float[Array, " phases"]
    rescued: Float[Array, " phases"]


class Engine(eqx.Module):
    """A model under the phases of one stage of a protocol, at one of the JAX levels."""

    dynamics: Dynamics
    network: Network
    level: Equilibrium | Rate
    phases: tuple[Phase, ...] = eqx.field(static=True)
    plasticity: Plasticity = eqx.field(static=True)
    target_step: float = eqx.field(static=True)
    online: bool = eqx.field(static=True)
    presentations: int = eqx.field(static=True)
    noise_key: PRNGKeyArray

    # -------------------------------------------------------------------------- one batch

    def _target(self, phase: Phase, label, output) -> Target:
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
        gate: Float[Array, " L-1"],
        rate_factor: Float[Array, ""],
        watch: tuple[tuple[tuple[float, ...], ...], Callable] | None = None,
    ) -> tuple[Weights, list[Passed], Weights | None]:
        """All phases in turn: the weights online plasticity left, the phases, the quasi-static Δ.

        watch: (the times of every phase, function(state, readout) of one sample).
        """
        network, dynamics = self.network, self.dynamics
        dtype = weights.W[0].dtype
        state = jax.vmap(lambda _: rest(dynamics, network, dtype))(batch.ids)
        memory = tuple(jnp.zeros((len(batch.ids), n), dtype) for n in network.sizes[1:])
        output = jnp.zeros_like(batch.y)
        passed: list[Passed] = []
        free: Readout | None = None
        change: Weights | None = None
        for number, phase in enumerate(self.phases):
            phase_key = jax.random.fold_in(key, number)
            times = None if watch is None else watch[0][number]
            target = jax.vmap(lambda y, h, phase=phase: self._target(phase, y, h))(batch.y, output)
            if self.online:
                plastic, report, watched = self._online_phase(
                    phase, Plastic(state, memory, weights), batch, target, phase_key,
                    gate, rate_factor, times, watch,
                )  # fmt: skip
                state, memory, weights = plastic
            else:
                state, report, watched = self._settle_phase(
                    phase, weights, state, batch, target, phase_key, times, watch
                )
            drive = self._drives(weights, batch.x, target)
            readout = read_batch(dynamics, network, weights, drive, state)
            if phase.teaching == "none":
                free, output = readout, readout.rate[-1]
            if not self.online and (phase.forward or phase.feedback):
                this = self._change(weights, batch, readout, free, phase, phase_key, gate)
                change = this if change is None else jax.tree.map(jnp.add, change, this)
            passed.append(Passed(readout, report, watched))
        return weights, passed, change

    def _drives(self, weights, x, target):
        potential = jax.vmap(lambda x: self.network.potential(weights, 1, x))(x)
        return Drive(x, potential, target)

    def _settle_phase(self, phase, weights, state, batch, target, key, times, watch):
        """A phase under fixed weights: every sample on its own."""

        def one(drive, label, sample, state):
            def seen(state):
                return watch[1](
                    state, self.dynamics.read(self.network, weights, drive, state)
                )

            noisy = bool(self.dynamics.noise)
            span = Span(
                phase.duration,
                phase.stop,
                jax.random.fold_in(key, sample) if noisy else None,
                None if watch is None else (times, seen),
            )
            problem = Problem(
                self.dynamics, self.network, weights, drive, self.target_step, label
            )
            return self.level.settle(problem, state, span)

        drive = self._drives(weights, batch.x, target)
        return jax.vmap(one)(drive, batch.y, batch.ids, state)

    def _online_phase(
        self, phase, start, batch, target, key, gate, rate_factor, times, watch
    ):
        """A phase in which weights move too: the batch is one system."""

        def velocity(weights, readout, memory):
            free = readout._replace(teacher=memory)
            change = self._change(weights, batch, readout, free, phase, key, gate)
            return self._rated(change, rate_factor)

        def seen(plastic):
            drive = self._drives(plastic.weights, batch.x, target)
            readout = read_batch(
                self.dynamics, self.network, plastic.weights, drive, plastic.state
            )
            return jax.vmap(watch[1])(plastic.state, readout)

        span = Span(
            phase.duration, False, key, None if watch is None else (times, seen)
        )
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
            self.plasticity.tau_memory if phase.teaching == "none" else None,
            span,
            self._constrain,
        )
        if watched is not None:  # time first, as the solver saves it → batch first
            watched = jax.tree.map(lambda a: jnp.swapaxes(a, 0, 1), watched)
        return plastic, report, watched

    # ------------------------------------------------------------------------- plasticity

    def _constrain(self, weights: Weights) -> Weights:
        return tie(weights, self.plasticity.tied) if self.plasticity.tied else weights

    def _change(self, weights, batch, readout, free, phase, key, gate) -> Weights:
        """What the rules make of the signals of a phase, before rates; zero where closed."""
        rules, network = self.plasticity, self.network
        dW = tuple(jnp.zeros_like(w) for w in weights.W)
        db = tuple(jnp.zeros_like(b) for b in weights.b)
        dQ = tuple(jnp.zeros_like(q) for q in weights.Q)
        if phase.forward:
            teaching = self._teaching(weights, batch.y, readout, free)
            signals = forward_signals(batch.x, readout, teaching)
            dW = tuple(
                rules.forward_rule(s, w) for s, w in zip(signals, weights.W, strict=True)
            )
            if weights.b:
                db = tuple(
                    bias(rules.forward_rule, s, b)
                    for s, b in zip(signals, weights.b, strict=True)
                )
        if phase.feedback and rules.probe is not None:
            probes = rules.probe(network, weights, readout, rules.noise, key)
            dQ = tuple(
                g * rules.feedback_rule(s, q, rules.decay)
                for s, q, g in zip(probes, weights.Q, gate, strict=True)
            )
        return Weights(dW, db, dQ)

    def _teaching(self, weights, labels, readout, free) -> Layers:
        """The teaching signals of the batch, scaled up by depth where the model says so."""
        assign = self.plasticity.credit.assign
        network = self.network
        axes = (0, None if free is None else 0, 0)
        teaching = jax.vmap(
            lambda now, free, y: assign(network, weights, now, free, y), axes
        )(readout, free, labels)
        if not self.plasticity.depth_compensation:
            return teaching
        return tuple(
            t / self.dynamics.attenuation(network, i) for i, t in enumerate(teaching, start=1)
        )

    def _rated(self, change: Weights, factor) -> Weights:
        """Changes times their rates: per presentation, or per second when online."""
        forward, feedback = self.plasticity.forward_rates, self.plasticity.feedback_rates
        return Weights(
            tuple(factor * r * d for r, d in zip(forward, change.W, strict=True)),
            tuple(factor * r * d for r, d in zip(forward, change.b, strict=False)),
            tuple(factor * r * d for r, d in zip(feedback, change.Q, strict=True)),
        )

    def optimizers(self) -> tuple[optax.GradientTransformation, optax.GradientTransformation]:
        """Of the forward (W, b) and the feedback (Q) weights."""
        forward, feedback = self.plasticity.optimizers
        return OPTIMIZERS[forward](), OPTIMIZERS[feedback]()

    def begin(self, weights: Weights, presentation) -> RunState:
        """The state at the start of a stage."""
        forward, feedback = self.optimizers()
        state = (forward.init((weights.W, weights.b)), feedback.init(weights.Q))
        return RunState(weights, state, jnp.asarray(presentation, jnp.int32))

    def _present(
        self, state: RunState, batch: Batch, key: PRNGKeyArray, first: Int[Array, ""]
    ) -> tuple[RunState, Metrics]:
        """One presentation: all phases, then, quasi-statically, one step of the weights."""
        progress = (state.presentation - first) / self.presentations
        key, gate, factor = self._circumstances(state, key, progress)
        weights, passed, change = self._run_phases(state.weights, batch, key, gate, factor)
        optimizer = state.optimizer
        if change is not None:
            forward, feedback = self.optimizers()
            (W, b), forward_state = forward.update((change.W, change.b), optimizer[0])
            Q, feedback_state = feedback.update(change.Q, optimizer[1])
            optimizer = (forward_state, feedback_state)
            moved = jax.tree.map(jnp.add, weights, self._rated(Weights(W, b, Q), factor))
            weights = self._constrain(moved)
        state = RunState(weights, optimizer, state.presentation + 1)
        return state, self._metrics(batch, passed)

    def _circumstances(self, state, key, progress):
        """The key of this presentation, which feedback matrices may learn, the rates' factor."""
        count = self.network.depth - 1
        gate = jnp.ones(count)
        if self.plasticity.top_down:
            turn = count - 1 - jnp.floor(progress * count).astype(jnp.int32)
            gate = (jnp.arange(count) == turn).astype(gate.dtype)
        key = jax.random.fold_in(key, state.presentation)
        return key, gate, self.plasticity.schedule(progress)

    def _metrics(self, batch: Batch, passed: list[Passed]) -> Metrics:
        output = passed[0].readout.rate[-1]
        loss = jnp.mean(jax.vmap(self.network.loss)(output, batch.y))
        wrong = jnp.argmax(output, -1) != jnp.argmax(batch.y, -1)
        reports = [p.report for p in passed]
        return Metrics(
            loss,
            jnp.mean(wrong.astype(loss.dtype)),
            jnp.stack([jnp.max(r.residual) for r in reports]),
            jnp.stack([jnp.mean(r.settled.astype(loss.dtype)) for r in reports]),
            jnp.stack([jnp.mean(r.effort) for r in reports]),
            jnp.stack([jnp.mean(r.rescued.astype(loss.dtype)) for r in reports]),
        )

    # ------------------------------------------------------------- what the run loop calls

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
    ) -> tuple[RunState, Metrics]:
        """The presentations `start` … `stop`−1 of an epoch, for every seed at once.

        orders: which samples make the batches of this epoch. keys: one a seed. first: the
        presentation the stage began with. Metrics come with all batches of the epoch on their
        second axis; only those from `start` to `stop` are filled.
        """

        def one(state, data, order, key):
            def batch(p):
                ids = order[p]
                return Batch(data[0][ids], data[1][ids], ids)

            shapes = jax.eval_shape(lambda: self._present(state, batch(0), key, first)[1])
            empty = jax.tree.map(
                lambda s: jnp.full((order.shape[0], *s.shape), jnp.nan, s.dtype), shapes
            )

            def body(p, carry):
                state, metrics = carry
                state, new = self._present(state, batch(p), key, first)
                return state, jax.tree.map(lambda m, n: m.at[p].set(n), metrics, new)

            return jax.lax.fori_loop(start, stop, body, (state, empty))

        return jax.vmap(one, in_axes=(0, data_axis, 0, 0))(states, data, orders, keys)

    @eqx.filter_jit
    def evaluate(
        self, weights: Weights, data: tuple[Array, Array], data_axis: int | None
    ) -> tuple[Float[Array, " seed"], Float[Array, " seed"], Float[Array, " seed"]]:
        """Free phases on a data set, per seed: mean loss, fraction wrong, fraction settled."""
        phase = Phase("test", self.phases[0].duration, self.phases[0].stop, "none", False, False)

        def one(weights, x, y):
            def sample(xy):
                x, y, number = xy
                drive = Drive(x, self.network.potential(weights, 1, x), Target("none"))
                problem = Problem(
                    self.dynamics, self.network, weights, drive, self.target_step, y
                )
                key = jax.random.fold_in(self.noise_key, number) if self.dynamics.noise else None
                start = rest(self.dynamics, self.network, weights.W[0].dtype)
                state, report, _ = self.level.settle(
                    problem, start, Span(phase.duration, phase.stop, key)
                )
                h = self.dynamics.read(self.network, weights, drive, state).rate[-1]
                wrong = jnp.argmax(h) != jnp.argmax(y)
                return self.network.loss(h, y), wrong, report.settled

            numbers = jnp.arange(x.shape[0])
            results = jax.lax.map(sample, (x, y, numbers), batch_size=min(512, x.shape[0]))
            return tuple(jnp.mean(r.astype(x.dtype)) for r in results)

        return jax.vmap(one, in_axes=(0, data_axis, data_axis))(weights, *data)

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
    ) -> "Examined":
        """The presentation that comes next, seen in detail; it leaves no mark on the run.

        times: when to look in every phase (s). samples: of how many samples of the batch.
        """

        def one(state, data, ids, key):
            batch = Batch(data[0][ids], data[1][ids], ids)
            progress = (state.presentation - first) / self.presentations
            key, gate, factor = self._circumstances(state, key, progress)
            weights, passed, change = self._run_phases(state.weights, batch, key, gate, factor)
            if self.online:
                change = jax.tree.map(jnp.subtract, weights, state.weights)
            shown = batch if self.online else jax.tree.map(lambda a: a[:samples], batch)

            def watch(state: State, readout: Readout):
                return self.dynamics.observe(state, readout)

            _, seen, _ = self._run_phases(
                state.weights, shown, key, gate, factor, (times, watch)
            )
            traces = [jax.tree.map(lambda a: a[:samples], p.watched) for p in seen]
            stopped = jnp.stack([p.report.stopped[:samples] for p in seen])
            angles, norms = self._against_backprop(state.weights, batch, change)
            return Examined(traces, stopped, angles, norms)

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

    def _against_backprop(self, weights, batch, change):
        """Angles (degrees) between the changes of W and the negative gradients; their norms."""

        def loss(W):
            w = Weights(W, weights.b, weights.Q)
            outputs = jax.vmap(lambda x: self.network.forward_pass(w, x)[-1])(batch.x)
            return jnp.mean(jax.vmap(self.network.loss)(outputs, batch.y))

        gradient = jax.grad(loss)(weights.W)
        if change is None:
            nothing = jnp.full(self.network.depth, jnp.nan)
            return nothing, nothing
        angles, norms = [], []
        for d, g in zip(change.W, gradient, strict=True):
            size = jnp.linalg.norm(d)
            cosine = -jnp.vdot(d, g) / (size * jnp.linalg.norm(g))
            angles.append(jnp.degrees(jnp.arccos(jnp.clip(cosine, -1, 1))))
            norms.append(size)
        return jnp.stack(angles), jnp.stack(norms)


class Examined(NamedTuple):
    """A presentation in detail.

    traces: per phase, variable → layers of (samples, times, n_i). stopped: (phases, samples), s.
    angles: between ΔW_i and backprop's, degrees (L,). norms: ‖ΔW_i‖ (L,).
    """

    traces: list[dict[str, Layers]]
    stopped: Array
    angles: Array
    norms: Array
