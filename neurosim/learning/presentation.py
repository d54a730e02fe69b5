"""How a batch goes through the phases of a presentation, with weights at rest or flowing.

Seeds are the first axis of everything, samples the second; what has no loop inside is written for
one seed and mapped over them.
"""

from collections.abc import Callable, Hashable
from dataclasses import replace
from functools import partial
from itertools import groupby
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, PRNGKeyArray, Scalar

from neurosim.learning.draws import of_a_sign
from neurosim.levels import flow, online
from neurosim.levels.equilibrium import Equilibrium
from neurosim.levels.online import Plastic, read_batch
from neurosim.levels.rate import Rate
from neurosim.levels.settling import Problem, Report, Span, where
from neurosim.levels.shares import settled
from neurosim.levels.shortening import shortened
from neurosim.levels.simulator import Batch, Phase
from neurosim.networks.circuit import CircuitDynamics
from neurosim.networks.dynamics import Drive, State, Target, rest
from neurosim.networks.network import Network
from neurosim.networks.vocabulary import DRAWN, drawing
from neurosim.plasticity.channel import ChannelLearning
from neurosim.plasticity.learning import Moment
from neurosim.plasticity.local import LocalLearning
from neurosim.seeds import substream

FREE = Phase("free", 0.0, False, "none", ())
FROZEN = FREE._replace(teaching="frozen")
"""What is taught in a phase, whatever else it is."""


class Passed(NamedTuple):
    """What a phase left behind: the readout of the batch, the reports, what was watched.

    course: the weights that flowed meanwhile, at the times of what was watched, if asked for.
    """

    readout: Any
    report: Report
    watched: Any
    course: Any = None


class Course(eqx.Module):
    """A model under the phases of one stage of a protocol, at one of the JAX levels.

    changes: of every phase, the values of the parameters that it changes. draws: of every phase,
    mean and spread of those of which every cell draws a value for each sample.

    Abstract: `neurosim.learning.engine.Engine` says what becomes of it.
    """

    dynamics: CircuitDynamics
    network: Network
    level: Equilibrium | Rate | None
    phases: tuple[Phase, ...] = eqx.field(static=True)
    changes: tuple[dict[str, Scalar | float], ...]
    draws: tuple[dict[str, tuple[Scalar | float, Scalar | float]], ...]
    learning: ChannelLearning | LocalLearning
    target_step: Scalar | float
    online: bool = eqx.field(static=True)
    clock: Rate | None

    def _each(self, function: Callable[..., Any], *args: Any) -> Any:
        """function(engine of one seed, its part of `args`) for every seed; args have it first."""
        network = eqx.if_array(0) if self.learning.credit.normalized else None

        def one(network: Network, *args: Any) -> Any:
            return function(replace(self, network=network), *args)

        return eqx.filter_vmap(one, in_axes=(network, *[eqx.if_array(0)] * len(args)))(
            self.network, *args
        )

    # -------------------------------------------------------------------------- one batch

    def target(
        self, phase: Phase, label: Float[Array, " n"], output: Float[Array, " n_L"]
    ) -> Target:
        """The teaching of one sample; `output`: h_L at the end of the free phase."""
        match phase.teaching:
            case "none":
                return Target("none")
            case "following":
                return Target("following", self.target_step, label)
            case "clamped":
                return Target("fixed", value=label)
            case "held":
                return Target("fixed", value=output)
            case _:
                error = self.network.loss.error(output, label)
                return Target("fixed", value=output - self.target_step * error)

    def _targets(self, phase: Phase, labels: Array, outputs: Array) -> Target:
        """The same of every seed and sample."""
        return jax.vmap(jax.vmap(partial(self.target, phase)))(labels, outputs)

    def _run_phases(
        self,
        weights: Any,
        batch: Batch,
        keys: Key[Array, " seed"],
        moment: Moment,
        watch: tuple[tuple[float, ...], ...] | None = None,
        courses: bool = False,
    ) -> tuple[Any, list[Passed], Any]:
        """All phases in turn: the weights online plasticity left, the phases, the quasi-static Δ.

        Everything has the seed first. watch: the times (s) at which every phase is looked at.
        courses: whether the weights that flow are looked at then, too.
        """
        numbers = jnp.arange(len(self.phases))
        phase_keys = jax.vmap(lambda k: jax.vmap(lambda key: jax.random.fold_in(key, k))(keys))(
            numbers
        )
        state = self._rest(weights, batch)
        weights = self._each(Course.drawn, weights, phase_keys[0])
        if self.online:
            given = phase_keys, moment, watch, courses
            weights, passed = self._flow(weights, state, batch, *given)
            return weights, passed, None
        drawn = self._longer(moment)
        passed = self._settle(weights, state, batch, phase_keys, drawn, watch)
        if self.learning.credit.own_channel:
            return weights, passed, None
        change = None
        for number, (phase, ended) in enumerate(zip(self.phases, passed, strict=True)):
            if phase.plastic:
                left = tuple(ended.readout for ended in passed[: number + 1])
                change_of_phase = partial(Course.change, phase=phase)
                signals = weights, batch, ended.readout, left, phase_keys[number], moment
                this = self._each(change_of_phase, *signals)
                change = this if change is None else jax.tree.map(jnp.add, change, this)
        return weights, passed, change

    def _longer(self, moment: Moment) -> list[Scalar | None]:
        """By how much every phase lasts longer (s); moment: of every seed."""
        presentation = moment.presentation[0]  # the same of all
        return [phase.drawn(number, presentation) for number, phase in enumerate(self.phases)]

    # ----------------------------------------------------------------- phases, weights at rest

    def _settle(
        self,
        weights: Any,
        state: State,
        batch: Batch,
        keys: Key[Array, "phase seed"],
        drawn: list[Scalar | None],
        watch: tuple[tuple[float, ...], ...] | None,
    ) -> list[Passed]:
        """All phases under fixed weights; every sample is on its own."""
        free = self._targets(FREE, batch.y, batch.y)
        output = jnp.zeros((*batch.ids.shape, self.network.sizes[-1]), batch.x.dtype)
        passed: list[Passed] = []
        for alike in _alike(self.phases):
            phases, first = self.phases[alike], alike.start
            times = () if watch is None else tuple(sorted({t for of in watch[alike] for t in of}))
            settle = partial(self._settle_phase, weights, batch, times, drawn[first])
            held = partial(Course.drives, phase=phases[0])
            drive = self._each(held, weights, batch.x, free)
            drive = self._each(Course.sampled, drive, keys[0], batch.ids)
            if len(phases) == 1:
                target = self._targets(phases[0], batch.y, output)
                state, ended = settle(phases[0], replace(drive, target=target), keys[first], state)
                if phases[0].teaching == "none":
                    output = ended.readout.rate[-1]
                every = [ended]
            else:
                given = settle, drive, batch.y, keys[alike]
                (state, output), every = self._settle_alike(phases, *given, (state, output))
            passed += every if watch is None else map(partial(_seen_at, times), watch[alike], every)
        return passed

    def _settle_alike(
        self,
        phases: tuple[Phase, ...],
        settle: Callable[..., tuple[State, Passed]],
        drive: Drive,
        labels: Float[Array, "seed batch n_L"],
        keys: Key[Array, "phase seed"],
        start: tuple[State, Array],
    ) -> tuple[tuple[State, Array], list[Passed]]:
        """Phases that differ only in whether and where to their target is fixed, as one loop.

        start: the state, and h_L at the end of the last free phase; what comes out first, too.
        """
        clamps = [phase.teaching == "clamped" for phase in phases]

        def one(
            carry: tuple[State, Array], phase: tuple[Array, Array, Key[Array, " seed"]]
        ) -> tuple[tuple[State, Array], Passed]:
            state, output = carry
            on, clamped, keys = phase
            value: Any = self._targets(FROZEN, labels, output).value
            if any(clamps):
                value = jnp.where(clamped, labels, value)
            on_all = jnp.broadcast_to(on, labels.shape[:2])
            target = Target("switched", jnp.zeros_like(value), None, value, on_all)
            state, ended = settle(phases[0], replace(drive, target=target), keys, state)
            return (state, jnp.where(on, output, ended.readout.rate[-1])), ended

        on = jnp.array([phase.teaching != "none" for phase in phases])
        carry, stacked = jax.lax.scan(one, start, (on, jnp.array(clamps), keys))
        every = range(len(phases))
        return carry, [jax.tree.map(lambda a, k=k: a[k], stacked) for k in every]

    def _settle_phase(
        self,
        weights: Any,
        batch: Batch,
        times: tuple[float, ...],
        longer: Scalar | None,
        phase: Phase,
        drive: Drive,
        keys: Key[Array, " seed"],
        state: State,
    ) -> tuple[State, Passed]:
        """One phase; its end, and what it leaves behind."""
        assert self.level is not None, "spikes do not settle"
        if self.draws[self.phases.index(phase)]:
            drive = self._each(partial(Course._drawn, phase=phase), drive, keys, batch.ids)
        problem = self._problem(weights, drive, batch.y)
        noise_keys = self._each(Course._noise_keys, keys, batch.ids)
        watch = (times, self.observe) if times else None
        span = Span(phase.duration, phase.stop, noise_keys, watch, longer)
        state, report, watched = settled(self.level, problem, state, span)
        readout = problem.each(lambda one, v: one.dynamics.read(*one[1:4], v), state)
        return state, Passed(readout, report, watched)

    def _problem(
        self, weights: Any, drive: Drive, labels: Float[Array, "seed batch n_L"]
    ) -> Problem:
        """What settles, of every seed and sample."""
        lead = eqx.if_array(0)
        network = lead if self.learning.credit.normalized else None
        seeds = Problem(None, network, lead, lead, None, lead)  # type: ignore[arg-type]
        samples = Problem(None, None, None, lead, None, lead)  # type: ignore[arg-type]
        given = self.dynamics, self.network, weights, drive, self.target_step, labels
        return Problem(*given, (seeds, samples))

    def _noise_keys(
        self, key: PRNGKeyArray, ids: Int[Array, " batch"]
    ) -> Key[Array, " batch"] | None:
        """A key for every sample, selected by its place in the data set; None without noise."""
        if not self.dynamics.noise:
            return None
        return jax.vmap(lambda sample: jax.random.fold_in(key, sample))(ids)

    def _drawn(
        self, drive: Drive, key: PRNGKeyArray, ids: Int[Array, " batch"], *, phase: Phase
    ) -> Drive:
        """The drives of one seed with what the cells draw in a phase, of each sample its own."""
        draws = self.draws[self.phases.index(phase)]
        key, dtype = jax.random.fold_in(key, 0xD4A3), drive.x.dtype
        keys = jax.vmap(lambda sample: jax.random.fold_in(key, sample))(ids)
        circuit, found = self.dynamics.circuit, dict(drive.changed)
        for number, (group, name) in enumerate(circuit.naming(tuple(draws))):
            mean, spread = draws[circuit.parameter(group.population, name) or name]
            own = jax.vmap(lambda k, number=number: jax.random.fold_in(k, number))(keys)
            size = (circuit.size(group),)
            found[f"{circuit.place(group)}.{name}"] = jax.vmap(
                lambda k, m=mean, s=spread, n=size: of_a_sign(k, m, s, n, dtype)
            )(own)
        return replace(drive, changed=found)

    def sampled(self, drive: Drive, key: PRNGKeyArray, ids: Int[Array, " batch"]) -> Drive:
        """The drives of one seed with what stochastic units draw, of each sample its own.

        key: of the first phase, so that a unit keeps its draw all through a presentation and phases
        differ by what is taught alone.
        """
        circuit, found = self.dynamics.circuit, dict(drive.changed)
        key = substream(key, "units")
        keys = jax.vmap(lambda sample: jax.random.fold_in(key, sample))(ids)
        for number, group in enumerate(drawing(circuit, self.network)):
            own = jax.vmap(lambda k, number=number: jax.random.fold_in(k, number))(keys)
            shape, dtype = (circuit.size(group),), drive.x.dtype
            found[f"{circuit.place(group)}.{DRAWN}"] = jax.vmap(
                lambda k, shape=shape, dtype=dtype: jax.random.uniform(k, shape, dtype)
            )(own)
        return replace(drive, changed=found)

    def observe(self, problem: Problem, state: State) -> dict[str, Any]:
        """The recordable variables of one sample."""
        return self.dynamics.look(*problem[1:4], state)

    def drive(
        self, weights: Any, x: Float[Array, " n_0"], target: Target, *, phase: Phase
    ) -> Drive:
        """What a phase holds fixed for one sample."""
        drive = self.dynamics.drive(self.network, weights, x, target)
        changed = {name: jnp.asarray(v, x.dtype) for name, v in self.changed(phase).items()}
        return replace(drive, changed=changed)

    def changed(self, phase: Phase) -> dict[str, Scalar | float]:
        """The parameters that a phase changes, and their values in it."""
        return self.changes[self.phases.index(phase)] if phase.changed else {}

    def drives(
        self, weights: Any, x: Float[Array, "batch n_0"], target: Target, *, phase: Phase
    ) -> Drive:
        """The same for every sample of a batch of one seed."""
        return jax.vmap(lambda x, t: self.drive(weights, x, t, phase=phase))(x, target)

    def read(
        self, weights: Any, batch: Batch, target: Target, state: State, *, phase: Phase
    ) -> Any:
        """What the states of a batch mean, of one seed."""
        drives = self.drives(weights, batch.x, target, phase=phase)
        return read_batch(self.dynamics, self.network, weights, drives, state)

    # ------------------------------------------------------------------- phases, weights flowing

    def _flow(
        self,
        weights: Any,
        state: State,
        batch: Batch,
        keys: Key[Array, "phase seed"],
        moment: Moment,
        watch: tuple[tuple[float, ...], ...] | None,
        courses: bool,
    ) -> tuple[Any, list[Passed]]:
        """All phases of online plasticity; the samples of a batch share the weights that move."""
        lead, dtype = batch.ids.shape, batch.x.dtype
        memory = self.learning.blank(self.network, lead, dtype)
        output, passed = jnp.zeros((*lead, self.network.sizes[-1]), dtype), []
        drawn = self._longer(moment)
        for number, phase in enumerate(self.phases):
            target = self._targets(phase, batch.y, output)
            times = None if watch is None else watch[number]
            kept: dict[str, Any] = {"times": times, "course": courses, "longer": drawn[number]}
            flow = partial(Course._online_phase, phase=phase, **kept)
            start = Plastic(state, memory, weights)
            given = batch, target, keys[number], moment
            if isinstance(self.level, Rate) and self.clock is not None and not self.clock.adaptive:
                by = partial(self._flow_by, flow, phase, start, given)
                plastic, report, watched = shortened(by, lead[:1])
            else:
                plastic, report, watched = self._each(flow, start, *given)
            state, memory, weights = plastic
            readout = self._each(partial(Course.read, phase=phase), weights, batch, target, state)
            if phase.teaching == "none":
                output = readout.rate[-1]
            passed.append(Passed(readout, report, *(watched or (None, None))))
        return weights, passed

    def _flow_by(
        self,
        flow: Callable[..., tuple[Plastic, Report, Any]],
        phase: Phase,
        start: Plastic,
        given: tuple[Batch, Target, Key[Array, " seed"], Moment],
        parts: Int[Array, ""],
        wanted: Bool[Array, " seed"],
    ) -> tuple[tuple[Plastic, Report, Any], Bool[Array, " seed"]]:
        """A phase of online plasticity by steps cut into so many parts; who needs shorter ones.

        A seed, whose samples are one system, needs them if one of them does.
        """
        assert self.clock is not None, "weights that flow are timed"
        clock, batch = replace(self.clock, parts=parts), given[0]
        end, report, watched = replace(self, clock=clock)._each(flow, start, *given)
        gone = ~jnp.isfinite(report.residual).all(axis=1)
        weights = where(gone, start.weights, end.weights)
        drive = self._each(partial(Course.drives, phase=phase), weights, batch.x, given[1])
        problem = self._problem(weights, drive, batch.y)
        every = jnp.broadcast_to(wanted[:, None], report.residual.shape)
        failed = clock.failed(problem, start.state, end.state, report, every)
        return (end, report, watched), failed.any(axis=1)

    def _rest(self, weights: Any, batch: Batch) -> State:
        """The state of every seed and sample before anything is shown."""
        state = rest(self.dynamics, self.network, batch.x.dtype)
        return jax.tree.map(lambda v: jnp.broadcast_to(v, (*batch.ids.shape, *v.shape)), state)

    def _online_phase(
        self,
        start: Plastic,
        batch: Batch,
        target: Target,
        key: PRNGKeyArray,
        moment: Moment,
        *,
        phase: Phase,
        times: tuple[float, ...] | None,
        course: bool,
        longer: Scalar | None,
    ) -> tuple[Plastic, Report, Any]:
        """A phase of one seed in which weights move too: the batch is one system.

        What was watched comes as the variables, batch first, and the weights, times first; of
        these nothing unless their `course` is asked for.
        """

        def velocity(weights: Any, readout: Any, memory: Any) -> Any:
            left = self.learning.recalled(self.phases, readout, memory)
            change = self.change(weights, batch, readout, left, key, moment, phase=phase)
            return self.learning.rated(change, moment.factor)

        def seen(plastic: Plastic) -> tuple[dict[str, dict[str, Array]], Any]:
            weights = self.learning.constrain(plastic.weights)
            drives = self.drives(weights, batch.x, target, phase=phase)
            look = partial(self.dynamics.look, self.network, weights)
            return jax.vmap(look)(drives, plastic.state), weights if course else None

        noise_keys = self._noise_keys(key, batch.ids)
        watch = None if times is None else (times, seen)
        drives = partial(self.drives, x=batch.x, target=target, phase=phase)
        integrate: Any = flow.integrate if isinstance(self.level, Equilibrium) else online.integrate
        plastic, report, watched = integrate(
            self.level,
            self.clock,
            self.dynamics,
            self.network,
            start,
            batch.y,
            drives,
            self.target_step,
            velocity,
            partial(self.learning.remember, phase),
            phase.duration,
            noise_keys,
            watch,
            self.learning.constrain,
            longer,
        )
        if watched is not None:  # time first, as the solver saves it → batch first
            looks = jax.tree.map(lambda a: jnp.swapaxes(a, 0, 1), watched[0])
            watched = looks, watched[1]
        return plastic, report, watched

    def change(
        self,
        weights: Any,
        batch: Batch,
        readout: Any,
        left: tuple[Any, ...],
        key: PRNGKeyArray,
        moment: Moment,
        *,
        phase: Phase,
    ) -> Any:
        """What the open plasticity of a phase makes of its signals, before rates; of one seed.

        left: the readouts of the phases up to this one, in their order.
        """
        earlier = tuple(zip(self.phases, left, strict=False))
        learning: Any = self.learning
        model = self.dynamics, self.network, weights
        given = batch.x, batch.y, readout, earlier, key, moment, phase, self.changed(phase)
        ids = (batch.ids,) if learning.credit.own_channel else ()
        return learning.change(*model, *given, *ids)

    def drawn(self, weights: Any, key: PRNGKeyArray) -> Any:
        """The weights that a presentation begins with, of one seed; key: of its first phase."""
        learning: Any = self.learning
        return (
            learning.drawn(self.dynamics, weights, key) if learning.credit.own_channel else weights
        )


def _seen_at(times: tuple[float, ...], own: tuple[float, ...], ended: Passed) -> Passed:
    """What was watched at some of the times."""
    rows = np.searchsorted(times, own)
    return ended._replace(watched=jax.tree.map(lambda a: a[:, :, rows], ended.watched))


def _alike(phases: tuple[Phase, ...]) -> list[slice]:
    """Runs of phases that differ only in whether and where to their target is fixed."""

    def program(phase: Phase) -> Hashable:
        own = phase.teaching in ("following", "held")
        alone = own or phase.changed or phase.longer  # which may differ from phase to phase
        return phase.duration, phase.stop, alone and phase

    runs, start = [], 0
    for _, group in groupby(phases, program):
        count = len(list(group))
        runs.append(slice(start, start + count))
        start += count
    return runs
