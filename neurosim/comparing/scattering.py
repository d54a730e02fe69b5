"""What spikes and noise scatter near the fixed points of a recorded network."""

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Scalar

from neurosim import build, devices, ingredients
from neurosim.comparing.sides import COUNTED, Shown, Side
from neurosim.compiled import compiled
from neurosim.dynamics.base import Drive, Dynamics, Target
from neurosim.errors import InputError
from neurosim.levels.spiking.neurons import Neurons
from neurosim.network import Network, Weights
from neurosim.spec import ProtocolSpec
from neurosim.theory import fixed_points
from neurosim.theory.linearisation import System, flat_size
from neurosim.theory.spike_noise import Scatter
from neurosim.validation import validate

LARGEST = 600
"""States up to which the scatter of a network is computed: seconds; it grows with the cube."""


class Scattering:
    """Of a side with spikes or noise: the standard deviation of everything it recorded."""

    def __init__(self, side: Side) -> None:
        self.side = side
        self._found: dict[tuple[tuple[str, int], str], Scatter | None] = {}

    @cached_property
    def spec(self) -> ProtocolSpec:
        return validate(ProtocolSpec, self.side.protocol)

    @cached_property
    def neurons(self) -> Neurons:
        return ingredients.neurons(self.spec)

    def deviation(
        self, shown: Shown, layer: int, variable: str, phase: int, level: np.ndarray, window: float
    ) -> np.ndarray:
        """Of a mean over `window` (s) near `level` (…, units); NaN where no law is known."""
        counts = COUNTED.get(variable) if self.side.spikes else None
        own = self._counting(counts, level, window) if counts else None
        scatter = self._scatter(shown.number, phase)
        if scatter is None:
            return np.full_like(level, np.nan) if own is None else own
        units = shown.units[layer]
        found = scatter.deviation(variable, layer, window, counts)[units]
        if own is None or counts is None:
            return np.broadcast_to(found, level.shape)
        # Of one sample; others count at rates of their own.
        alone = np.sqrt(scatter.q[getattr(scatter, counts)[layer - 1]] / window)[units]
        return own * np.divide(found, alone, out=np.ones_like(found), where=alone > 0)

    def _counting(self, counts: str, level: np.ndarray, window: float) -> np.ndarray:
        """Of a count alone; over less than an interval or two all spikes are as irregular."""
        short = counts == "up" and window < self.side.window
        scale = self.irregularity if short else 1.0
        return np.sqrt(self._intensity(counts, level) / scale / window)

    def _intensity(self, counts: str, level: np.ndarray) -> np.ndarray:
        """Of the noise of a rate or probability near `level` that spikes carry (h² s).

        Of spikes as regular as those recorded, and of bursts at the base rate of events.
        """
        neurons = self.neurons
        if counts == "up":
            rate = np.clip(neurons.base_rate + neurons.gain * level, 0, neurons.max_rate)
            return self.irregularity * rate / (neurons.count * neurons.gain**2)
        gain = neurons.probability_gain
        p = np.clip(neurons.base_probability + gain * level, 0, 1)
        return p * (1 - p) / (neurons.count * neurons.base_rate * gain**2)

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

    def _scatter(self, number: int, phase: int) -> Scatter | None:
        """Near the fixed point of the first recorded sample; None where that cannot be had.

        Between the start and the end of a run no weights are kept: those nearer in time are taken.
        """
        if self.spec.model.circuit:  # of which only the counting is known
            return None
        try:
            kind = self._teaching(number)[phase]
        except InputError:  # objects of a script, which a trace cannot hold
            return None
        return self._at(self.side.moment(number), kind, number)

    def _at(self, moment: tuple[str, int], kind: str, number: int) -> Scatter | None:
        if (moment, kind) not in self._found:
            with devices.numbers(x64=True):
                self._found[moment, kind] = self._near(moment, kind, number)
        return self._found[moment, kind]

    def _teaching(self, number: int) -> list[str]:
        trace = self.side.trace
        flags = [trace.flags[code] for code in np.flatnonzero(trace.done[number])]
        several = len(self.spec.stages) > 1
        of = {
            f"{stage.name}.{phase.name}" if several else phase.name: phase.teaching
            for stage in self.spec.stages
            for phase in stage.phases
        }
        return [of[flag] for flag in flags]

    @cached_property
    def dynamics(self) -> Dynamics:
        moving = build.dynamics(self.spec.model)
        if not self.side.spikes:
            return moving
        return build.with_synapses(moving, self.spec.model.spiking.tau_synapse)

    @cached_property
    def network(self) -> Network:
        return build.network(self.spec.model)

    def _near(self, moment: tuple[str, int], kind: str, number: int) -> Scatter | None:
        shown = self.side.shown(number)
        if shown is None or flat_size(self.dynamics, self.network) > LARGEST:
            return None
        x, y = (jnp.asarray(array[0], float) for array in shown)
        weights = Weights(
            *(tuple(map(jnp.asarray, self.side.weights(letter, moment))) for letter in "WbQ")
        )
        weights = jax.tree.map(lambda a: jnp.asarray(a, float), weights)
        step = self.spec.model.target_step
        found = _rests(self.dynamics, self.network, weights, x, y, step, (kind,))[kind]
        system = System(self.dynamics, self.network, weights, found[0])
        up, down = self._sent(system, found[1].state)
        try:
            return Scatter(system, found[1].state, up, down, self._aim(kind, moment, number))
        except (ValueError, KeyError):  # unstable, or without the dendrites that synapses move
            return None

    def _aim(self, kind: str, moment: tuple[str, int], number: int) -> np.ndarray | None:
        """How far a target scatters that was read from the spikes of the free phase."""
        free = self._at(moment, "none", number) if kind == "frozen" and self.side.spikes else None
        if free is None:
            return None
        output = "event_rate" if self.neurons.bursts else "soma"
        return free.deviation(output, self.network.depth, self.side.window, "up")

    def _sent(self, system: System, state: Any) -> tuple[list[np.ndarray], list[np.ndarray] | None]:
        readout = self.dynamics.read(*system[1:], state)
        rates = [np.asarray(h) for h in readout.rate]
        if not self.side.spikes:
            return [np.zeros_like(h) for h in rates], None
        up = [self._intensity("up", h) for h in rates]
        if not self.neurons.bursts:
            return up, None
        return up, [self._intensity("down", np.asarray(h)) for h in readout.teacher]


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
    dynamics: Dynamics,
    network: Network,
    weights: Weights,
    x: Float[Array, " n_0"],
    y: Float[Array, " n_L"],
    step: Scalar | float,
    kinds: tuple[str, ...],
) -> dict[str, Any]:
    drive = Drive(x, network.potential(weights, 1, x), Target("none"))
    system = System(dynamics, network, weights, drive)
    return fixed_points.phases(system, step, y, kinds)
