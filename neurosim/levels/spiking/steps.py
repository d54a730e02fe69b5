"""A circuit of spiking units in JAX, step by step.

One step does what one of Brian2's does (`groups.py`), in the same order: units tell their neurons
what to do and others what their spikes have said, from what was so at its start; sums of what
arrives; Euler's step of every state, with those; then neurons spike, which counts from the next
step on. The equations are those of the cells, as at the other JAX levels; only what spikes carry is
replaced in what is sent. All is written for one sample.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, Scalar

from neurosim.circuits.expressions import Expression
from neurosim.circuits.populations import Group, Synapses
from neurosim.circuits.variables import own
from neurosim.levels.spiking.carriers import Carriers
from neurosim.levels.spiking.generators import Cells, Generator
from neurosim.levels.spiking.neurons import counted
from neurosim.levels.spiking.transfer import kept
from neurosim.networks import vocabulary
from neurosim.networks.circuit import CircuitDynamics, CircuitWeights, Moment
from neurosim.networks.dynamics import Drive, State, Target
from neurosim.networks.network import Network
from neurosim.seeds import substream

Units = dict[str, Array]
"""What the units of a group are: states, filters, counts and sums, named as in Brian2."""


class Moving(NamedTuple):
    """Everything that moves. came: by projection and number, what synapses brought last."""

    units: dict[Group, Units]
    cells: dict[Group, Cells]
    came: dict[str, Float[Array, " n"]]


class Drawn(NamedTuple):
    """What is drawn for a step: by the neurons of a group, and as noise of its states."""

    neurons: dict[Group, Array]
    noise: dict[tuple[Group, str], Array]


class Steps(eqx.Module):
    """What a step does.

    generators: behind the units, by population, of those that spike. dt: step (s). tau: of what
    smooths spikes (s). smooths: whether that is sent. watched: by group, quantities that are summed
    over time. traced: whether those that follow at once are also smoothed, as spikes are.
    """

    dynamics: CircuitDynamics
    network: Network
    generators: dict[str, Generator]
    dt: Scalar
    tau: Scalar
    smooths: bool = eqx.field(static=True)
    watched: tuple[tuple[Group, tuple[str, ...]], ...] = eqx.field(static=True)
    traced: bool = eqx.field(static=True)

    @property
    def carriers(self) -> Carriers:
        """What spikes speak of."""
        return Carriers(self.dynamics.circuit, self.generators)

    def generator(self, group: Group) -> Generator | None:
        """The neurons behind the units of a group."""
        return self.generators.get(group.population)

    @property
    def noise(self) -> dict[tuple[Group, str], Any]:
        """Of every noisy state its deviation per √s, under Euler's steps."""
        at_rest = Moment(self.dynamics, self.network, {}, None, None)

        def per_unit(rate: Any) -> Any:
            return (rate * (2 - self.dt * rate)) ** 0.5

        found = {node: at_rest.deviation(*node, per_unit) for node in self.dynamics.circuit.moving}
        return {node: deviation for node, deviation in found.items() if deviation is not None}

    # --- where it starts --------------------------------------------------------------------

    def rest(self, dtype: Any) -> tuple[dict[Group, Units], dict[str, Array]]:
        """Units at rest, of one sample, and nothing that has come."""
        circuit = self.dynamics.circuit
        units = {group: self._resting(group, dtype) for group in circuit.groups}
        came = {
            _numbered(s): jnp.zeros(circuit.size(s.post), dtype)
            for s in circuit.sending
            if s.pre is not None
        }
        return units, came

    def _resting(self, group: Group, dtype: Any) -> Units:
        circuit, watched = self.dynamics.circuit, dict(self.watched).get(group, ())
        cell, generator = circuit.cell(group), self.generator(group)
        start: dict[str, Any] = dict.fromkeys(map(own, cell.states), 0.0)
        start |= {own(name): value for name, value in cell.start}
        start |= {f"{name}_sum": 0.0 for name in watched}
        start |= {f"{name}_trace": 0.0 for name in watched if self._smoothed(group, name)}
        if generator is not None:
            heard = ("events", "bursts") if generator.bursts else ("spikes",)
            start |= dict.fromkeys((*heard, *map(counted, heard)), 0.0)
            if self.smooths or self.traced:
                start[f"{_said(generator)}_smoothly"] = 0.0
            if generator.bursts:
                base = generator.base_in_h
                start |= {"event_trace": base, "burst_trace": base * generator.base_probability}
        size = circuit.size(group)
        return {name: jnp.full(size, value, dtype) for name, value in start.items()}

    def _smoothed(self, group: Group, name: str) -> bool:
        return self.traced and name not in self.dynamics.circuit.cell(group).states

    # --- one step ---------------------------------------------------------------------------

    def step(
        self,
        weights: CircuitWeights,
        drive: Drive,
        moving: Moving,
        drawn: Drawn,
        noise: Mapping[tuple[Group, str], Any],
        k: Int[Array, ""],
    ) -> tuple[Moving, dict[Group, Bool[Array, "n N"]]]:
        """What moves, after step k, and which neurons spiked in it. noise: see `noise`."""
        drive = self._following(drive, moving)
        before = _Before(self, weights, drive, moving)
        now = _Now(self, weights, drive, moving, before)
        units, cells, spiked = {}, {}, {}
        for group in self.dynamics.circuit.groups:
            moved = self._moved(group, moving.units[group], now, drawn, noise)
            generator = self.generator(group)
            if generator is not None:
                told = generator.told(*before.told(group))
                own_draws = drawn.neurons[group]
                cells[group], spiked[group], heard = generator.step(
                    moving.cells[group], told, own_draws, k
                )
                moved |= heard | {counted(n): moved[counted(n)] + c for n, c in heard.items()}
            units[group] = moved
        return Moving(units, cells, now.came), spiked

    def _following(self, drive: Drive, moving: Moving) -> Drive:
        """A target that follows the output is computed at the start of a step, and then held."""
        if drive.target.kind != "following":
            return drive
        value = drive.target(self.network, self.top(moving))
        return eqx.tree_at(lambda d: d.target, drive, Target("fixed", value=value))

    def top(self, moving: Moving) -> Float[Array, " n_L"]:
        """What the teacher sees of the output layer: a state, or what follows one, smoothed."""
        group, name = self.dynamics.circuit.readout
        units, state = moving.units[group], own(self.dynamics.circuit.cell(group).alias(name))
        return units[state] if state in units else units[f"{name}_trace"]

    def _moved(
        self,
        group: Group,
        units: Units,
        now: "_Now",
        drawn: Drawn,
        noise: Mapping[tuple[Group, str], Any],
    ) -> Units:
        """The units of a group after Euler's step."""
        circuit, dt, found = self.dynamics.circuit, self.dt, dict(units)
        population = circuit.population[group.population]
        for name in population.cell.states:
            index = population.layers.index(group.layer) + 1
            velocity = now.velocity(f"{group.population}.{name}", index)
            found[own(name)] = units[own(name)] + dt * velocity
            if (group, name) in noise:
                kick = noise[group, name] * jnp.sqrt(dt) * drawn.noise[group, name]
                found[own(name)] = found[own(name)] + kick
        for name in dict(self.watched).get(group, ()):
            value, trace = now.whole(group, name), f"{name}_trace"
            found[f"{name}_sum"] = units[f"{name}_sum"] + dt * value
            if trace in units:
                found[trace] = units[trace] + dt * ((value - units[trace]) / self.tau)
        generator = self.generator(group)
        if generator is not None:
            said, smooth = self.said(group, units), f"{_said(generator)}_smoothly"
            if smooth in units:
                found[smooth] = units[smooth] + dt * ((said - units[smooth]) / self.tau)
            for trace, heard in (("event_trace", "events"), ("burst_trace", "bursts")):
                if trace in units:
                    arrived = units[heard] * generator.per_spike
                    towards = (arrived - units[trace]) / generator.tau_burst
                    found[trace] = units[trace] + dt * towards
        return found

    # --- what spikes say --------------------------------------------------------------------

    def said(self, group: Group, units: Units) -> Float[Array, " n"]:
        """What the spikes, or events, of the last step say."""
        generator = self.generator(group)
        assert generator is not None, "only spiking groups have spikes"
        heard = units["events" if generator.bursts else "spikes"]
        return heard * generator.per_spike - generator.base_in_h

    def says(self, group: Group, units: Units) -> dict[str, Float[Array, " n"]]:
        """By what is carried, what others hear of it."""
        generator, carried = self.generator(group), self.carriers.carried(group)
        if generator is None or not carried:
            return {}
        smooth = f"{_said(generator)}_smoothly"
        found = {carried[0]: units[smooth] if self.smooths else self.said(group, units)}
        if generator.bursts:
            found[carried[1]] = generator.share(units["event_trace"], units["burst_trace"])
        return found

    # --- what is drawn ----------------------------------------------------------------------

    def drawn(
        self,
        key: Key[Array, ""],
        k: Int[Array, ""],
        copies: int,
        noise: Mapping[tuple[Group, str], Any],
        dtype: Any,
    ) -> Drawn:
        """The draws of step k of so many samples, from the streams of a presentation."""
        circuit = self.dynamics.circuit
        sizes = {
            group: (circuit.size(group), generator.count)
            for group in circuit.groups
            if (generator := self.generator(group)) is not None
        }
        neurons = {}
        if sizes:  # one kind of neurons stands behind all units
            every = next(iter(self.generators.values()))
            own_key = jax.random.fold_in(substream(key, "spikes"), k)
            total = sum(n * count for n, count in sizes.values())
            numbers, at = every.drawn(own_key, (copies, total), dtype), 0
            for group, (n, count) in sizes.items():
                part = jax.lax.slice_in_dim(numbers, at, at + n * count, axis=1)
                neurons[group], at = part.reshape(copies, n, count), at + n * count
        key = jax.random.fold_in(substream(key, "noise"), k)
        kicks = {
            (group, name): jax.random.normal(
                jax.random.fold_in(key, number), (copies, circuit.size(group)), dtype
            )
            for number, (group, name) in enumerate(noise)
        }
        return Drawn(neurons, kicks)


class _Spoken(Moment):
    """A moment of a circuit whose units spike."""

    def __init__(self, steps: Steps, weights: CircuitWeights, drive: Drive, moving: Moving) -> None:
        self.steps, self.moving = steps, moving
        circuit = steps.dynamics.circuit
        state: State = {
            f"{p.name}.{name}": tuple(
                moving.units[Group(p.name, layer)][own(name)] for layer in p.layers
            )
            for p in circuit.populations
            for name in p.cell.states
        }
        super().__init__(steps.dynamics, steps.network, weights, drive, state)

    def _value(self, text: Expression, group: Group, of: Any) -> Any:
        called = vocabulary.functions(self.circuit, self.network, group)
        if self.steps.generator(group) is not None:
            called = {**called, **self._undone(group)}
        return text({other: of(other) for other in sorted(text.names)}, called)

    def _undone(self, group: Group) -> dict[str, Any]:
        """The inverse of what spikes say, which may be outside of its domain."""
        activation = self.network.activations[
            vocabulary.layer(self.circuit, self.network, group) - 1
        ]

        def inverse(h: Array) -> Array:
            return activation.inverse(jnp.clip(h, *kept(activation)))

        if self.network.form == "autoencoder":
            return {"s_inv": inverse}
        return {"s_inv": inverse, "encode": lambda h, b: inverse(h) - b}


class _Before(_Spoken):
    """At the start of a step, before anything arrives: sums are still those of the last one."""

    def _came(self, synapses: Synapses) -> Array:
        if synapses.pre is None:
            return super()._came(synapses)
        return self.moving.came[_numbered(synapses)]

    def told(self, group: Group) -> tuple[Array, Array | None]:
        """What is carried by events, or all spikes, and by bursts."""
        events, *bursts = self.steps.carriers.carried(group)
        return self.whole(group, events), self.whole(group, bursts[0]) if bursts else None

    def sent(self, group: Group, name: str) -> Array:
        """A quantity with what is carried replaced by what spikes say of it."""
        said = self.steps.says(group, self.moving.units[group])
        return jnp.broadcast_to(self._through(group, name, said), (self.circuit.size(group),))

    def _through(self, group: Group, name: str, said: Mapping[str, Array]) -> Any:
        if name in said:
            return said[name]

        def of(other: str) -> Any:
            if self.steps.carriers.reach(group, other) & set(said):
                return self._through(group, other, said)
            return self(group, other)

        return self._evaluated(group, name, of)


class _Now(_Spoken):
    """In a step: what others send arrives. came: what synapses have brought, when it is asked."""

    def __init__(
        self,
        steps: Steps,
        weights: CircuitWeights,
        drive: Drive,
        moving: Moving,
        before: _Before,
    ) -> None:
        super().__init__(steps, weights, drive, moving)
        self._before, self._brought = before, dict[str, Array]()

    @property
    def came(self) -> dict[str, Array]:
        """What all synapses bring in this step."""
        return {_numbered(s): self._came(s) for s in self.circuit.sending if s.pre is not None}

    def _came(self, synapses: Synapses) -> Array:
        if synapses.pre is None:
            return super()._came(synapses)
        number = _numbered(synapses)
        if number not in self._brought:
            self._brought[number] = super()._came(synapses)
        return self._brought[number]

    def _sent(self, group: Group, name: str) -> Float[Array, " n"]:
        if self.steps.carriers.replaced(group, name):
            return self._before.sent(group, name)
        return super()._sent(group, name)


def _numbered(synapses: Synapses) -> str:
    return f"{synapses.projection}{synapses.number}"


def _said(generator: Generator) -> str:
    """What Brian2's text calls that which spikes, or events, say."""
    return "event_says" if generator.bursts else "spikes_say"
