"""What spikes and noise scatter near the fixed points of a recorded network."""

from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Scalar

from neurosim.building import assembly, ingredients
from neurosim.circuits.description import Circuit
from neurosim.circuits.populations import Group
from neurosim.comparison.expectations import Place
from neurosim.comparison.sides import Side
from neurosim.errors import InputError
from neurosim.levels.spiking.neurons import PYRAMIDAL, Neurons
from neurosim.levels.spiking.pyramid_curves import Fluctuations, Intensities
from neurosim.levels.spiking.pyramids import Calibration, Measured
from neurosim.networks.circuit import CircuitDynamics
from neurosim.networks.dynamics import State, Target
from neurosim.networks.network import Network
from neurosim.process import devices
from neurosim.process.compiled import compiled
from neurosim.specs import PhaseSpec, ProtocolSpec
from neurosim.specs.validation import validate
from neurosim.theory import fixed_points
from neurosim.theory.linearisation import System, flat_size
from neurosim.theory.spike_noise import Scatter, smoothing

LARGEST = 600
"""States up to which the scatter of a network is computed: seconds; it grows with the cube."""

FEWEST = 1e-3
"""Events a second that bursts are told of."""


class Taught(NamedTuple):
    """How a phase teaches, and the parameters changed in it and in the free phase before it."""

    kind: str
    changed: tuple[tuple[str, float], ...]
    free: tuple[tuple[str, float], ...]


class Scattering:
    """Of a side with spikes or noise: the standard deviation of everything it recorded."""

    def __init__(self, side: Side) -> None:
        self.side = side
        self._found: dict[tuple[tuple[str, int], Taught], Any] = {}

    @cached_property
    def spec(self) -> ProtocolSpec:
        return validate(ProtocolSpec, self.side.protocol)

    @cached_property
    def neurons(self) -> Neurons:
        return ingredients.neurons(self.spec)

    def deviation(
        self, place: Place, variable: str, level: np.ndarray, window: float
    ) -> np.ndarray:
        """Of a mean over `window` (s) near `level` (samples, …, units); NaN without a law."""
        shown, layer = place.shown, place.layer
        carrier = self.side.carrier(layer, variable) if self.side.spikes else None
        own = None if carrier is None else self._counting(place, carrier, level, window)
        scatter = self._scatter(shown.number, place.phase)
        if scatter is None:
            return np.full_like(level, np.nan) if own is None else own
        where, units = f"layer{layer}", shown.units[layer]
        if self.side.spikes and not self._averaged(layer, variable):
            window = 0.0
        found = scatter.deviation(where, variable, window)[units]
        if own is None:
            return np.broadcast_to(found, level.shape)
        # Of one sample; others count at rates of their own.
        alone = scatter.counting(where, variable, window)[units]
        return own * np.divide(found, alone, out=np.ones_like(found), where=alone > 0)

    def _averaged(self, layer: int, variable: str) -> bool:
        """Whether spiking runs have a mean of it: where it is counted, or rules look at it."""
        looked_at = (*self.dynamics.looked_at, self.circuit.readout)
        return self.side.counted(layer, variable) or (self.side.group(layer), variable) in looked_at

    def _counting(self, place: Place, carrier: int, level: np.ndarray, window: float) -> np.ndarray:
        """Of a count alone; over less than an interval or two all spikes are as irregular."""
        other = self._other(place, carrier, level)
        intensity = self._intensities(carrier, level, other, window < self.side.window).counted
        return np.sqrt(intensity / window)

    def _other(self, place: Place, carrier: int, level: np.ndarray) -> np.ndarray:
        """What the same spikes carry beside it, as the phase ended with it; 0 if nothing."""
        carried = self.circuit.population[self.side.group(place.layer).population].carried or ()
        if len(carried) < 2:
            return np.zeros_like(level)
        other = place.shown.ends[place.layer][carried[1 - carrier]][place.samples, place.phase]
        return np.broadcast_to(other.reshape(len(other), *(1,) * (level.ndim - 2), -1), level.shape)

    def _intensities(
        self, carrier: int, level: np.ndarray, other: np.ndarray, short: bool = False
    ) -> Intensities:
        """Of the noise of a rate (0) or probability (1) near `level` that spikes carry (h² s).

        other: what else they carry. Of spikes as regular as those recorded, or over a `short` while
        as Poisson's; of events as regular as their dead time makes them, and of bursts at the rate
        of events; of two-compartment cells as their calibration had it.
        """
        neurons = self.neurons
        if neurons.kind == PYRAMIDAL:
            if not self._calibrated:
                return Intensities(*3 * (np.full_like(level, np.nan),))
            signals = (level, other) if carrier == 0 else (other, level)
            return self.fluctuations.intensities(carrier, *signals)
        event = level if carrier == 0 else other
        rate = np.clip(neurons.base_rate + neurons.gain * event, 0, neurons.max_rate)
        if carrier == 0:
            regular = (1 - rate * neurons.dead_time) ** 2 if neurons.bursts else self.irregularity
            found = (1.0 if short else regular) * rate / (neurons.count * neurons.gain**2)
        else:
            gain = neurons.probability_gain
            p = np.clip(neurons.base_probability + gain * level, 0, 1)
            found = p * (1 - p) / (neurons.count * np.maximum(rate, FEWEST) * gain**2)
        return Intensities(found, found, found)

    @property
    def _calibrated(self) -> bool:
        return "calibration" in self.side.tree.children

    @cached_property
    def fluctuations(self) -> Fluctuations:
        """Of two-compartment cells, by the calibration that the trace holds."""
        kept = self.side.tree["calibration"]
        rates = Measured(*np.moveaxis(kept["rate"].values, -1, 0))
        return Fluctuations(self.neurons, Calibration(rates, kept["covariance"].values))

    @cached_property
    def irregularity(self) -> float:
        """The squared coefficient of variation of intervals: 1 of Poisson spikes, and if unknown.

        Of integrate-and-fire neurons it is that of the recorded spikes in the windows that
        plasticity reads: counts of renewal processes scatter by as much less.
        """
        if self.neurons.kind != "lif" or "spikes" not in self.side.tree.children:
            return 1.0
        return float(np.mean(list(_variations(self.side)) or [1.0]))

    # --- the network around its fixed point ---------------------------------------------------

    def _scatter(self, number: int, phase: int) -> Any:
        """Near the fixed point of the first recorded sample; None where that cannot be had.

        Between the start and the end of a run no weights are kept: those nearer in time are taken.
        """
        if self.side.spikes and any(p.cell.firing for p in self.circuit.populations):
            return None  # no law is known of how regularly neurons of one's own spike
        try:
            passed = self._passed(number)[: phase + 1]
        except InputError:  # objects of a script, which a trace cannot hold
            return None
        free = [changes(p) for p in passed if p.teaching == "none"]
        changed = changes(passed[-1])
        taught = Taught(passed[-1].teaching, changed, free[-1] if free else changed)
        return self._at(self.side.moment(number), taught, number)

    def _passed(self, number: int) -> list[PhaseSpec]:
        """The phases that a presentation went through."""
        trace = self.side.trace
        flags = [trace.flags[code] for code in np.flatnonzero(trace.done[number])]
        several = len(self.spec.stages) > 1
        of = {
            f"{stage.name}.{phase.name}" if several else phase.name: phase
            for stage in self.spec.stages
            for phase in stage.phases
        }
        return [of[flag] for flag in flags]

    def _at(self, moment: tuple[str, int], taught: Taught, number: int) -> Any:
        if (moment, taught) not in self._found:
            with devices.numbers(x64=True):
                self._found[moment, taught] = self._near(moment, taught, number)
        return self._found[moment, taught]

    @cached_property
    def dynamics(self) -> CircuitDynamics:
        return assembly.dynamics(self.spec.model)

    @cached_property
    def circuit(self) -> Circuit:
        return self.dynamics.circuit

    @cached_property
    def network(self) -> Network:
        return assembly.network(self.spec.model)

    def _weights(self, moment: tuple[str, int]) -> Any:
        """Of all projections, biases, and parameters that every cell has its own of."""
        biased = ["b"] if self.circuit.biased is not None else []
        weighed = [p.name for p in self.circuit.projections if p.weighed]
        kinds = (*weighed, *biased, *self.circuit.values)
        return {kind: tuple(self.side.weights(kind, moment)) for kind in kinds}

    def _near(self, moment: tuple[str, int], taught: Taught, number: int) -> Any:
        shown = self.side.shown(number)
        if shown is None or self._size() > LARGEST:
            return None
        x, y = (jnp.asarray(array[0], float) for array in shown)
        weights = jax.tree.map(lambda a: jnp.asarray(a, float), self._weights(moment))
        changed, free = (
            {name: jnp.asarray(value, float) for name, value in given}
            for given in (taught.changed, taught.free)
        )
        step, kinds = self.spec.model.target_step, (taught.kind,)
        found = _rests(self.dynamics, self.network, weights, x, y, step, kinds, changed, free)
        drive, rest = found[taught.kind]
        system = System(self.dynamics, self.network, weights, drive)
        try:
            return self._scattered(system, rest.state, self._aim(taught, moment, number))
        except ValueError:  # unstable
            return None

    def _aim(self, taught: Taught, moment: tuple[str, int], number: int) -> np.ndarray | None:
        """How far a target scatters that was read from the spikes of the free phase."""
        if taught.kind != "frozen" or not self.side.spikes:
            return None
        before = self._at(moment, Taught("none", taught.free, taught.free), number)
        return None if before is None else self._answer(before)

    # --- what is asked of a circuit -----------------------------------------------------------

    def _carried(self) -> list[tuple[Group, str, int]]:
        """All that spikes, or events (0), and bursts (1) speak of."""
        if not self.side.spikes:
            return []
        return [
            (group, name, carrier)
            for group in self.circuit.groups
            for carrier, name in enumerate(self.circuit.population[group.population].carried or ())
        ]

    @property
    def _taus(self) -> tuple[float, float]:
        """Of what smooths single spikes or events, and bursts (s)."""
        given = self.spec.model.spiking
        return given.tau_synapse, given.tau_burst

    def _size(self) -> int:
        """How many states there are, with those of synapses that smooth."""
        nodes = {(group, name): None for group, name, _ in self._carried()}
        smooth = smoothing(self.circuit, nodes, self._taus)
        own = flat_size(self.dynamics, self.network)
        return own + sum(self.circuit.size(group) for group, _ in smooth)

    def _scattered(self, system: System, state: State, aim: np.ndarray | None) -> Scatter:
        now = self.dynamics.at(*system[1:], state)
        counted, heard, mixed = {}, {}, {}
        for group, name, carrier in self._carried():
            own = np.asarray(now.whole(group, name))
            carried = self.circuit.population[group.population].carried or ()
            more = np.asarray(now.whole(group, carried[1 - carrier])) if carried[1:] else 0 * own
            found = self._intensities(carrier, own, more)
            counted[group, name] = found.counted
            heard[group, name] = found.heard, found.both
            if self.neurons.kind == PYRAMIDAL and self._calibrated:
                signals = (own, more) if carrier == 0 else (more, own)
                slopes = self.fluctuations.mixed(carrier, *signals)
                mixed[group, name] = dict(zip(carried, slopes, strict=True))
        return Scatter(system, state, counted, self._taus, aim, heard, mixed)

    def _answer(self, free: Scatter) -> np.ndarray:
        """How far what the network answers scatters in the window that it is read in."""
        group, name = self.circuit.readout
        alias = self.circuit.cell(group).alias(name)
        return free.deviation(self.circuit.place(group), alias, self.side.window)


def changes(phase: PhaseSpec) -> tuple[tuple[str, float], ...]:
    """The parameters that a phase changes."""
    return tuple(sorted(phase.values.items()))


def _variations(side: Side) -> Iterator[float]:
    """The same of every recorded neuron, in every window that plasticity reads."""
    longest = float(side.tree["traces/time"].values[-1])
    windows = []
    for row, number in enumerate(side.trace.recorded()):
        for phase in side.presentation(number).phases:
            windows.append((row * longest + phase.end, 1e3 * side.window))
    for group in side.tree["spikes"].children.values():
        times, nodes = group["timestamps"].values, group["node_ids"].values
        for end, width in windows:
            here = slice(*np.searchsorted(times, [end - width, end]))
            yield from variations(times[here], nodes[here])


def variations(times: np.ndarray, nodes: np.ndarray) -> Iterator[float]:
    """CV² of the intervals of every neuron that has five of them or more."""
    order = np.lexsort((times, nodes))
    for train in np.split(times[order], np.flatnonzero(np.diff(nodes[order])) + 1):
        if len(train) > 5:
            intervals = np.diff(train)
            yield intervals.var(ddof=1) / intervals.mean() ** 2


@compiled
def _rests(
    dynamics: CircuitDynamics,
    network: Network,
    weights: Any,
    x: Float[Array, " n_0"],
    y: Float[Array, " n_L"],
    step: Scalar | float,
    kinds: tuple[str, ...],
    changed: dict[str, Array],
    free: dict[str, Array],
) -> dict[str, Any]:
    drive = replace(dynamics.drive(network, weights, x, Target("none")), changed=changed)
    system = System(dynamics, network, weights, drive)
    return fixed_points.phases(system, step, y, kinds, free_parameters=free)
