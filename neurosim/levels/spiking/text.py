"""The equations of a circuit in the language of Brian2, in which they nearly stand already.

Time is in seconds and every number in SI units, so that quantities carry no units. A noiseless
circuit sends its quantities themselves. Where a population spikes, what its spikes carry is
replaced in all that it sends by what they say of it; everything else in the cell stays. That is the
only difference between the levels. Cells with a threshold are neurons as they stand; their `spikes`
are the train of them.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

from neurosim.circuits.cells import SPIKES, STEP
from neurosim.circuits.populations import Group
from neurosim.circuits.variables import came, own
from neurosim.levels.spiking.carriers import Carriers
from neurosim.levels.spiking.neurons import Neurons
from neurosim.levels.spiking.transfer import derivative, inverse, transfer, within
from neurosim.networks.circuit import CircuitDynamics, Moment
from neurosim.networks.network import Network

SIGNAL = {"target": "aim : 1", "teach": "teach : 1", "bias": "bias : 1 (constant)"}
"""By what a cell names, what is written into it while it runs."""

COUNTED = ("spike_count", "event_count", "burst_count")
"""What units count of the spikes of their neurons."""

DEFAULT_TAU = 5e-3
"""Of traces, where synapses do not smooth (s)."""


class Simulated(NamedTuple):
    """What is simulated.

    dynamics, network: as at the other levels. neurons: the spike generators, by population, of
    those that have one. dt: step (s). copies: how many, side by side. changed: parameters that
    phases change. watched: by group, the quantities whose mean over a while is wanted. traced:
    whether those that follow at once are also wanted at any moment, smoothed as spikes are.
    tau_synapse: of what smooths spikes (s).
    """

    dynamics: CircuitDynamics
    network: Network
    neurons: Mapping[str, Neurons]
    dt: float
    copies: int
    changed: frozenset[str]
    watched: Mapping[Group, tuple[str, ...]]
    traced: bool
    tau_synapse: float


class Text:
    """What is written for the groups of a circuit."""

    def __init__(self, of: Simulated) -> None:
        self.dt, self.traced = of.dt, of.traced
        self.dynamics, self.circuit, self.network = of.dynamics, of.dynamics.circuit, of.network
        self.neurons, self.changed, self.watched = of.neurons, of.changed, of.watched
        self.tau_synapse = of.tau_synapse
        self.carriers = Carriers(self.circuit, self.neurons)

    @property
    def _tau(self) -> str:
        """The time constant of what smooths spikes."""
        return f"({_number(self.tau_synapse or DEFAULT_TAU)} * second)"

    def spikes(self, group: Group) -> Neurons | None:
        """The neurons behind the units of a group."""
        return self.neurons.get(group.population)

    def units(self, group: Group) -> str:
        """The equations of the units of a group."""
        cell = self.circuit.cell(group)
        lines = []
        for equation in cell.equations:
            name, right = own(equation.name), self._written(group, equation.name)
            if cell.firing is not None and equation.name == SPIKES:
                lines += [f"{SPIKES} : 1", f"{name} = {SPIKES} * {1 / self.dt!r} : 1"]
            elif equation.moves:
                noise = self._noise(group, equation.name)
                held = " (unless refractory)" if equation.held else ""
                lines.append(f"d{name}/dt = ({right})/second{noise} : 1{held}")
            else:
                lines.append(f"{name} = {right} : 1{self._once(group, equation.name)}")
        lines += self._given(group)
        neurons = self.spikes(group)
        if neurons is not None:
            lines += self._spiking(group, neurons)
        for name in self.watched.get(group, ()):
            lines.append(f"d{name}_sum/dt = {own(name)}/second : 1")
            if self.traced and name not in cell.states:
                trace = f"{name}_trace"
                lines.append(f"d{trace}/dt = ({own(name)} - {trace})/{self._tau} : 1")
        return "\n".join(lines)

    def sent(self, group: Group, quantity: str) -> str:
        """The variable that a group sends for a quantity."""
        return f"{quantity}_sent" if self.carriers.replaced(group, quantity) else own(quantity)

    def firing(self, group: Group) -> dict[str, Any]:
        """How the units of a group spike by themselves, as Brian2 is told; empty if they do not."""
        firing = self.circuit.cell(group).firing
        if firing is None:
            return {}
        names, called = self._names(group) | {STEP: repr(self.dt)}, self._functions(group)
        resets = [f"{own(name)} = {right.written(names, called)}" for name, right in firing.reset]
        waits: str | bool = False
        if firing.refractory is not None:
            waits = firing.refractory.written(names, called)
            if not firing.refractory.compares:
                # A spike falls on the end of its step, and Brian2 counts from the beginning.
                waits = f"({waits} + {self.dt!r})*second"
        return {
            "threshold": firing.threshold.written(names, called),
            "reset": "\n".join([*resets, f"{SPIKES} = 1"]),
            "refractory": waits,
        }

    # --- what a cell is given ---------------------------------------------------------------

    def _given(self, group: Group) -> list[str]:
        cell, circuit = self.circuit.cell(group), self.circuit
        names = set(cell.names)
        if "target" in names:  # what the cell answers itself where nothing is taught [T 6.29]
            names |= {"teach"}
        lines = [text for name, text in SIGNAL.items() if name in names]
        if "target" in names:
            answer = own(cell.alias(circuit.readout[1]))
            lines.append(f"target = teach * aim + (1 - teach) * {answer} : 1")
        for name in sorted(circuit.inputs[group.population] & names):
            arriving = circuit.arriving.get((group, name), ())
            lines += [f"{came(synapses)} : 1" for synapses in arriving]
            lines.append(f"{own(name)} = {' + '.join(map(came, arriving)) or '0'} : 1")
        for name in sorted(names):
            key = circuit.parameter(group.population, name)
            if f"{group.population}.{name}" in circuit.values:
                lines.append(f"{own(name)} : 1 (constant)")
            elif key in self.changed:
                lines.append(f"{own(name)} : 1 (shared)")
        return lines

    def _names(self, group: Group) -> dict[str, str]:
        """What stands in Brian2 for the names of a cell: numbers for parameters that stay."""
        cell, found = self.circuit.cell(group), {}
        for name in cell.names:
            key = self.circuit.parameter(group.population, name)
            varies = f"{group.population}.{name}" in self.circuit.values
            if key is not None and key not in self.changed and not varies:
                found[name] = _number(float(self.dynamics.parameters[key]))
            elif own(name) != name:
                found[name] = own(name)
        return found

    def _functions(self, group: Group) -> dict[str, Callable[..., str]]:
        i = group.layer + self.circuit.population[group.population].mirrors
        activation = self.network.activations[min(max(i, 1), self.network.depth) - 1]
        autoencoder = self.network.form == "autoencoder"
        spiking = self.spikes(group) is not None

        def undone(h: str) -> str:
            return inverse(activation, within(activation, h) if spiking else h)

        return {
            "s": partial(transfer, activation),
            "slope": partial(derivative, activation),
            "s_inv": undone,
            "t": partial(transfer, activation) if autoencoder else str,
            "t_slope": partial(derivative, activation) if autoencoder else lambda a: "1",
            "encode": lambda h, b: h if autoencoder else f"({undone(h)}) - {b}",
        }

    def _written(self, group: Group, name: str, replaced: Mapping[str, str] | None = None) -> str:
        names = self._names(group) | {"xi": "0"} | dict(replaced or {})
        return self.circuit.cell(group).right(name).written(names, self._functions(group))

    def _noise(self, group: Group, name: str) -> str:
        """The noise of a state, which the neurons of an ensemble share, under Euler's steps."""

        def per_unit(rate: Any) -> Any:
            return (rate * (2 - self.dt * rate)) ** 0.5

        at_rest = Moment(self.dynamics, self.network, {}, None, None)
        deviation = at_rest.deviation(group, name, per_unit)
        if deviation is None:
            return ""
        return f" + {_number(float(deviation))}*xi_{name}*second**-0.5"

    def _once(self, group: Group, name: str) -> str:
        """Whether a sent quantity can be settled once a step, at its start, from states alone."""
        sends = any(s.sent == name for s in self.carriers.sending(group))
        if not sends or self.carriers.replaced(group, name) or self._waits(group, name):
            return ""
        return " (constant over dt)"

    def _waits(self, group: Group, name: str) -> bool:
        """Whether a quantity follows at once what synapses bring."""
        cell, circuit = self.circuit.cell(group), self.circuit
        roots = cell.roots(name)
        if "target" in roots:  # where nothing is taught, what the cell answers itself
            roots |= cell.roots(cell.alias(circuit.readout[1]))
        return bool(roots & self.circuit.inputs[group.population])

    # --- spikes -----------------------------------------------------------------------------

    def _spiking(self, group: Group, neurons: Neurons) -> list[str]:
        """What drives the neurons of a unit, and what their spikes say."""
        events, *bursts = self.carriers.carried(group)
        said = {events: self._filtered("event_says" if bursts else "spikes_say")}
        lines = [neurons.drive(own(events))]
        if bursts:
            lines += self._bursting(neurons, own(bursts[0]))
            said[bursts[0]] = "burst_says"
        else:
            lines += [
                "spikes : 1",
                "spike_count : 1",
                f"spikes_say = spikes * {neurons.per_spike!r} - {neurons.base_in_h!r} : 1",
                *self._filter("spikes_say"),
            ]
        for name in sorted({s.sent for s in self.carriers.sending(group)}):
            if self.carriers.replaced(group, name):
                lines.append(f"{name}_sent = {self._through(group, name, said)} : 1")
                lines[-1] += " (constant over dt)"
        return lines

    def _bursting(self, neurons: Neurons, bursts: str) -> list[str]:
        """Events and bursts, the fraction of the one that is the other being what bursts say."""
        tau = f"({neurons.tau_burst!r} * second)"
        events = neurons.events_heard.text(f"events * {neurons.per_spike!r}")
        heard = neurons.events_heard.text("event_trace")
        divided, more = heard, []
        if neurons.dividing is not None:
            fast = f"({neurons.events_heard.text('fast_trace')}) * {neurons.gain!r}"
            pulses = f"events * {neurons.per_spike!r}"
            divided = neurons.dividing.heard.text("inhibition")
            more = neurons.dividing.lines(pulses, fast, tau)
        ratio = f"burst_trace / clip({divided}, {neurons.least_heard!r}, inf)"
        return [
            neurons.burst_drive(bursts),
            *(f"{name} : 1" for name in ("events", "bursts", "event_count", "burst_count")),
            f"event_says = {events} - {neurons.base_in_h!r} : 1",
            *self._filter("event_says"),
            f"devent_trace/dt = (events * {neurons.per_spike!r} - event_trace)/{tau} : 1",
            f"dburst_trace/dt = (bursts * {neurons.per_spike!r} - burst_trace)/{tau} : 1",
            f"burst_says = ({neurons.share_heard.text(ratio)} - {neurons.base_probability!r})"
            f" / {neurons.probability_gain!r} : 1",
            *more,
        ]

    def _filter(self, said: str) -> list[str]:
        """Synapses smooth what spikes say."""
        if not (self.tau_synapse or self.traced):
            return []
        return [f"d{said}_smoothly/dt = ({said} - {said}_smoothly)/{self._tau} : 1"]

    def _filtered(self, said: str) -> str:
        return f"{said}_smoothly" if self.tau_synapse else said

    def _through(self, group: Group, name: str, said: Mapping[str, str]) -> str:
        """A quantity with what is carried replaced by what spikes say of it."""
        if name in said:
            return said[name]
        cell = self.circuit.cell(group)
        right = cell.right(name)
        replaced = {
            other: f"({self._through(group, other, said)})"
            for other in right.names
            if self.carriers.reach(group, other) & set(said)
        }
        return self._written(group, name, replaced)


def _number(value: float) -> str:
    """In brackets where it is negative, so that it can stand anywhere."""
    return repr(value) if value >= 0 else f"({value!r})"
