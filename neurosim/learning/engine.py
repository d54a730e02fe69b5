"""The compiled heart of a run: presentations of a batch, phase by phase, and what they change.

Pure functions of (weights, optimiser state, counters): one compiled loop serves chunks of any
length, recorded or not, so that neither recording nor chunking can change a number. Seeds are the
first axis of everything.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, PRNGKeyArray

from neurosim.learning.presentation import FREE, NUMBERS, Course
from neurosim.levels.rate import Rate
from neurosim.levels.settling import Report
from neurosim.levels.simulator import Batch, Examined, Metrics, RunState
from neurosim.networks.network import Layers, standardized
from neurosim.plasticity.channel import Iteration, Shown
from neurosim.plasticity.learning import Moment, nothing
from neurosim.process.compiled import compiled_by_seed
from neurosim.theory.diagnosis import of_phases

TESTED_AT_ONCE = 512
"""Samples of a data set that settle side by side; more would only take memory."""


def _whole(given: Mapping[str, Any]) -> set[str]:
    """Which of the arguments of an engine's programs are not one for every seed."""
    own = {"self", "start", "stop", "first"}
    return own | {"data"} if given["data_axis"] is None else own


class Engine(Course):
    """What a run does with a model: presentations that change it, and looks that do not."""

    test_draws: int = eqx.field(static=True, default=1)
    decompose: bool = eqx.field(static=True, default=False)

    @classmethod
    def joined(cls, engines: Sequence["Engine"], seeds: int) -> "Engine":
        """One engine of so many seeds of each, one after the other.

        They differ in numbers alone, and not in those that they have in `common`.
        """

        def stacked(*of: Any) -> Any:
            return jnp.repeat(jnp.stack(of), seeds, axis=0) if eqx.is_array(of[0]) else of[0]

        given = [{name: getattr(engine, name) for name in NUMBERS} for engine in engines]
        return replace(engines[0], own=True, **jax.tree.map(stacked, *given))

    @property
    def joins(self) -> bool:
        """Whether it can be joined: fixed steps draw the noise of all copies with one spread."""
        fixed = isinstance(self.level, Rate) and not self.level.adaptive
        return not (fixed and self.dynamics.noise)

    @property
    def common(self) -> list[Array]:
        """The numbers that copies cannot have of their own."""
        return jax.tree.leaves(eqx.filter((self.level, self.clock), eqx.is_array))

    # ------------------------------------------------------------------- one presentation

    def begin(self, weights: Any, presentation: int, seeds: int | None = None) -> RunState:
        """The state of every seed at the start of a stage; their number, where nothing weighs."""

        def one(weights: Any) -> RunState:
            count = jax.device_put(np.int32(presentation))
            return RunState(weights, self.learning.begin(weights), count)

        return jax.vmap(one, axis_size=seeds)(weights)

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
        keys: Key[Array, " seed"],
        first: Int[Array, ""],
    ) -> tuple[RunState, Metrics, Any]:
        """One presentation: all phases, then, quasi-statically, one step of the weights.

        Also the change its signals asked for, before rates and optimiser; online, what was done.
        """
        keys, moment = self._moments(states, keys, first)
        available = self._available(states, moment)
        weights, passed, change = self._run_phases(available, batch, keys, moment)
        optimizer, iteration = states.optimizer, None
        readouts, reports = [p.readout for p in passed], [p.report for p in passed]
        if self.learning.credit.own_channel and not self.online:
            # With what was drawn for this presentation; a node that sat out moves from its own.
            begun = states.weights if self.learning.credit.nodes else weights
            given = begun, batch, readouts[0], optimizer, keys, moment
            iteration = self._each(Engine._iterate, *given)
            weights, optimizer, change = iteration[:3]
        elif change is not None:
            step = weights, change, optimizer, moment.factor
            weights, optimizer = self._each(lambda one, *of: one.learning.step(*of), *step)
        else:
            change = jax.tree.map(jnp.subtract, weights, states.weights)
        measured = states.weights, batch, readouts, iteration
        signals = self._each(Engine._signals, *measured)
        metrics = jax.vmap(self._metrics)(batch, readouts[0].rate[-1], reports, signals)
        return RunState(weights, optimizer, states.presentation + 1), metrics, change

    def _moments(
        self, states: RunState, keys: Key[Array, " seed"], first: Int[Array, ""]
    ) -> tuple[Key[Array, " seed"], Moment]:
        """The keys of the presentation that comes next, and where it stands, of every seed."""
        keys = jax.vmap(jax.random.fold_in)(keys, states.presentation)
        moment = self._each(
            lambda one, p, key: one.moment(p, first, key), states.presentation, keys
        )
        return keys, moment

    def _available(self, states: RunState, moment: Moment) -> Any:
        """The weights that the batch of a presentation goes through."""
        if not self.learning.credit.nodes or self.online:
            return states.weights
        given = states.weights, states.optimizer, moment
        return self._each(lambda one, *of: one.learning.available(*of), *given)

    def _iterate(
        self,
        weights: Any,
        batch: Batch,
        readout: Any,
        optimizer: Any,
        key: PRNGKeyArray,
        moment: Moment,
    ) -> Iteration:
        """One step of a credit with a channel of its own, of one seed."""
        (phase,) = self.phases
        learning: Any = self.learning
        return learning.iterate(
            self.dynamics,
            self.network,
            weights,
            Shown(batch.x, batch.y, readout, batch.ids),
            optimizer,
            jax.random.fold_in(key, 0),
            moment,
            phase.plastic,
            self.changed(phase),
        )

    def _signals(
        self, weights: Any, batch: Batch, readouts: list[Any], iteration: Iteration | None
    ) -> dict[str, Array]:
        """What is measured of the learning of one presentation, of one seed."""
        model = self.learning, self.dynamics, self.network, weights
        given = self.phases, readouts, batch.y, self.target_step
        found = of_phases(*model, *given, iteration) if self.decompose else {}
        if iteration is not None and self.learning.credit.exact:
            found["drift"] = iteration.drift
        return found

    def _metrics(
        self, batch: Batch, output: Array, reports: list[Report], signals: dict[str, Array]
    ) -> Metrics:
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
            jnp.stack([jnp.max(r.parts) for r in reports]),
            signals,
        )

    # ------------------------------------------------------------- what the run loop calls

    @property
    def curve(self) -> None:
        """The f–I curve of calibrated neurons, which only the spiking level has."""
        return None

    @compiled_by_seed(_whole)
    def advance(
        self,
        states: RunState,
        data: tuple[Array, Array],
        data_axis: int | None,
        orders: Int[Array, "seed batches batch"],
        keys: Key[Array, " seed"],
        start: Int[Array, ""],
        stop: Int[Array, ""],
        first: Int[Array, ""],
    ) -> tuple[RunState, Metrics, Any]:
        """The presentations `start` … `stop`−1 of an epoch, for every seed at once.

        Also the change that the signals of the last of them asked for.

        orders: which samples make the batches of this epoch. keys: one a seed. first: the
        presentation the stage began with. Metrics come with all batches of the epoch on their
        second axis; only those from `start` to `stop` are filled.
        """

        @partial(jax.jit, inline=True)  # traced once, for its shapes and for the loop
        def present(states: RunState, p: Int[Array, ""]) -> tuple[RunState, Metrics, Any]:
            engine, batch = self._shown(states.weights, data, data_axis, orders[:, p])
            return engine._present(states, batch, keys, first)

        shapes = jax.eval_shape(present, states, start)[1]
        count = orders.shape[1]
        empty = jax.tree.map(
            lambda s: jnp.full((s.shape[0], count, *s.shape[1:]), jnp.nan, s.dtype), shapes
        )

        def body(
            p: Int[Array, ""], carry: tuple[RunState, Metrics, Any]
        ) -> tuple[RunState, Metrics, Any]:
            states, metrics, _ = carry
            states, new, change = present(states, p)
            return states, jax.tree.map(lambda m, n: m.at[:, p].set(n), metrics, new), change

        return jax.lax.fori_loop(start, stop, body, (states, empty, nothing(states.weights)))

    def _shown(
        self,
        weights: Any,
        data: tuple[Array, Array],
        data_axis: int | None,
        ids: Int[Array, "seed batch"],
    ) -> tuple["Engine", Batch]:
        """The samples of every seed at these places of the data, and the engine that sees them.

        ids: (seed, batch). Several models see the data of their seeds, which are there once.
        """
        look = jax.vmap(lambda data, ids: Batch(data[0][ids], data[1][ids], ids), (data_axis, 0))
        if data_axis is None or len(ids) == len(data[0]):
            batch = look(data, ids)
        else:
            of_models = ids.reshape(-1, len(data[0]), *ids.shape[1:])
            found = jax.vmap(look, (None, 0))(data, of_models)
            batch = jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), found)
        if not self.learning.credit.normalized:
            return self, batch
        lead = eqx.if_array(0)
        chain, own = jax.vmap(self.dynamics.chain)(weights), lead if self.own else None
        by_seed = eqx.filter_vmap(standardized, in_axes=(own, lead, lead))
        network, x = by_seed(self.network, chain, batch.x)
        return replace(self, network=network), batch._replace(x=x)

    @compiled_by_seed(_whole)
    def evaluate(
        self,
        weights: Any,
        data: tuple[Array, Array],
        data_axis: int | None,
        keys: Key[Array, " seed"],
    ) -> tuple[Float[Array, " seed"], Float[Array, " seed"], Float[Array, " seed"]]:
        """Free phases on a data set, per seed: mean loss, fraction wrong, fraction settled.

        keys: one a seed, for the noise. A normalised network is so over the data set. The answers
        of stochastic units are averaged over `test_draws`, as probabilities where they are such.
        """
        count = data[0].shape[-2]
        ids = jnp.broadcast_to(jnp.arange(count), (keys.shape[0], count))
        engine, all_samples = self._shown(weights, data, data_axis, ids)
        size = min(TESTED_AT_ONCE, count)
        rounds = -(-count // size)
        order = (jnp.arange(rounds * size) % count).reshape(rounds, size)  # the last ones twice

        def one_round(ids: Int[Array, " size"]) -> tuple[Array, Array, Array]:
            batch = jax.tree.map(lambda a: a[:, ids], all_samples)
            target = self._targets(FREE, batch.y, batch.y)
            held = partial(Course.drives, phase=self.phases[0])
            drive = engine._each(held, weights, batch.x, target)
            start = self._rest(weights, batch)

            def answered(keys: Key[Array, " seed"]) -> tuple[Array, Report]:
                drawn = engine._each(Course.sampled, drive, keys, batch.ids)
                given = (), None, self.phases[0], drawn, keys, start
                _, ended = engine._settle_phase(weights, batch, *given)
                return ended.readout.rate[-1], ended.report

            output, report = engine._averaged(answered, keys)
            return engine._scores(output, batch.y, report)

        def mean(scores: Float[Array, "rounds seed size"]) -> Float[Array, " seed"]:
            return jnp.mean(jnp.moveaxis(scores, 0, 1).reshape(len(keys), -1)[:, :count], axis=1)

        loss, wrong, settled = jax.lax.map(one_round, order)
        return mean(loss), mean(wrong), mean(settled)

    def _averaged(
        self,
        answered: Callable[[Key[Array, " seed"]], tuple[Array, Report]],
        keys: Key[Array, " seed"],
    ) -> tuple[Array, Report]:
        """The answer of the network, averaged over so many draws as are asked for.

        Of a softmax probabilities are averaged [Lee et al. 2015, section 3.3], and said again by
        their logarithms.
        """
        if self.test_draws == 1:
            return answered(keys)
        softmax = self.network.loss.output == "softmax"
        split = jax.vmap(lambda key: jax.random.split(key, self.test_draws), out_axes=1)(keys)

        def one(total: Array, keys: Key[Array, " seed"]) -> tuple[Array, Report]:
            output, report = answered(keys)
            return total + (jax.nn.softmax(output) if softmax else output), report

        empty = jnp.zeros_like(jax.eval_shape(lambda: answered(keys)[0]))
        total, reports = jax.lax.scan(one, empty, split)
        mean = total / self.test_draws
        return jnp.log(mean) if softmax else mean, jax.tree.map(lambda a: a[-1], reports)

    def _scores(self, output: Array, labels: Array, report: Report) -> tuple[Array, Array, Array]:
        """Loss, error and whether it settled, of every seed and sample; NaN without an end."""
        lost = jnp.where(jnp.isfinite(report.residual), 0.0, jnp.nan)
        wrong = jnp.argmax(self.network.loss.prediction(output), -1) != jnp.argmax(labels, -1)
        loss = jax.vmap(jax.vmap(self.network.loss))(output, labels)
        return loss + lost, wrong.astype(loss.dtype) + lost, report.settled.astype(loss.dtype)

    @compiled_by_seed(_whole)
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
        courses: bool = False,
    ) -> Examined:
        """The presentation that comes next, seen in detail; it leaves no mark on the run.

        times: when to look in every phase (s). samples: of how many samples of the batch.
        courses: whether at weights that flow, too.
        """
        engine, batch = self._shown(states.weights, data, data_axis, ids)
        if not self.online:  # where samples share no moving weights, a few are enough
            batch = jax.tree.map(lambda a: a[:, :samples], batch)
        keys, moment = self._moments(states, keys, first)
        available = self._available(states, moment)
        _, seen, _ = engine._run_phases(available, batch, keys, moment, times, courses)
        traces = [jax.tree.map(lambda a: a[:, :samples], p.watched) for p in seen]
        stopped = jnp.stack([p.report.stopped[:, :samples] for p in seen], axis=1)
        return Examined(traces, stopped, courses=[p.course for p in seen] if courses else None)

    def rehearse(self, weights: Any, data: tuple[Array, Array], data_axis: int | None) -> None:
        """Goes through a presentation without computing it.

        Rules of a script that cannot work fail so before anything is written.

        Raises:
            InputError: one does.
        """
        own = [array.shape[0] for array in jax.tree.leaves(weights)]  # none of a network without
        seeds, batch = (own or [1 if data_axis is None else data[0].shape[0]])[0], 2
        states = self.begin(weights, 0, seeds)
        keys = jax.random.split(jax.random.key(0), seeds)

        def present(states: RunState) -> Any:
            ids = jnp.zeros((seeds, batch), jnp.int32)
            engine, shown = self._shown(states.weights, data, data_axis, ids)
            return engine._present(states, shown, keys, jnp.int32(0))[1]

        jax.eval_shape(present, states)

    @compiled_by_seed(_whole)
    def against_backprop(
        self,
        weights: Any,
        change: Any,
        data: tuple[Array, Array],
        data_axis: int | None,
        ids: Int[Array, "seed batch"],
    ) -> tuple[Float[Array, "seed L"], Float[Array, "seed L"]]:
        """Per layer, the angle (degrees) between ΔW_i and the negative gradient, and ‖ΔW_i‖.

        The gradient is that of the feed-forward network (`CircuitDynamics.forward_pass`). Not a
        number in circuits that are no chain of layers, and where one of the two is zero.
        """

        engine, batch = self._shown(weights, data, data_axis, ids)
        return engine._each(Engine._against_backprop, weights, change, batch)

    def _against_backprop(self, weights: Any, change: Any, batch: Batch) -> tuple[Array, Array]:
        """Of one seed."""

        chain, moves = self.dynamics.chain(weights), self.dynamics.chain(change)
        if chain is None or moves is None:
            unknown = jnp.full(self.network.depth, jnp.nan)
            return unknown, unknown

        def loss(W: Layers) -> Float[Array, ""]:
            def one(x: Float[Array, " n_0"], y: Float[Array, " n_L"]) -> Float[Array, ""]:
                passed = self.dynamics.forward_pass(self.network, weights | {"W": W}, x)
                unknown = jnp.asarray(jnp.nan)
                return unknown if passed is None else self.network.loss(passed[-1], y)

            return jnp.mean(jax.vmap(one)(batch.x, batch.y))

        angles, norms = [], []
        for d, g in zip(moves.W, jax.grad(loss)(chain.W), strict=True):
            norm = jnp.linalg.norm(d)
            cosine = -jnp.vdot(d, g) / (norm * jnp.linalg.norm(g))
            angles.append(jnp.degrees(jnp.arccos(jnp.clip(cosine, -1, 1))))
            norms.append(norm)
        return jnp.stack(angles), jnp.stack(norms)
