"""Interneurons that divide what others hear of the bursts of an ensemble.

Feed-forward inhibition (Naud & Sprekeler 2018): integrate-and-fire neurons hear the events of an
ensemble through the depressing synapses that all others hear them by, fire about `RATIO` times as
often, and divide by their own rate in place of the one that a line makes of the synapses.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from neurosim.levels.spiking.pyramids import Line

if TYPE_CHECKING:
    from neurosim.levels.spiking.neurons import Neurons

RATIO = 4.0
"""Spikes of an interneuron for an event of a cell."""

TAU = 5e-3
"""Over which they hear the events: that of AMPA currents (s)."""


@dataclass(frozen=True)
class Dividing:
    """The interneurons of every unit.

    neurons: integrate-and-fire, calibrated. line: the current into them over the rate of events
    (Hz); straight, as synapses add up, through two points of their f–I curve. heard: the rate of
    events over theirs, both in units of the activity; fitted, as that curve is not straight.
    """

    neurons: "Neurons"
    line: Line
    heard: Line

    @classmethod
    def of(cls, neurons: "Neurons") -> "Dividing":
        """Of calibrated neurons: through the rates of twice the gain about the base."""
        known = neurons.table_step * np.arange(len(neurons.current))
        around = neurons.base_rate + 2 * neurons.gain * np.linspace(-1.0, 1.0, 41)
        rates = np.clip(around, 0.1 * neurons.base_rate, neurons.max_rate)
        ends = rates[[0, -1]]
        currents = np.interp(ends, known, neurons.current)
        slope, offset = np.polyfit(ends, currents, 1)
        fired = np.interp(offset + slope * rates, neurons.current, known)
        heard, constant = np.polyfit(fired, rates, 1)
        line = Line(float(offset), float(RATIO * slope))
        return cls(neurons, line, Line(float(constant / neurons.gain), float(heard)))

    def lines(self, heard: str, fast: str, tau: str) -> list[str]:
        """Of the equations of units. heard: the pulses of events, in units of the activity, after
        which others tell their rate; fast: what `fast_trace` says of that rate, in Hz."""
        return [
            f"dfast_trace/dt = ({heard} - fast_trace)/({TAU!r} * second) : 1",
            f"inhibitory_drive = {self.line.text(fast)} : 1 (constant over dt)",
            "inhibitory_spikes : 1",
            f"dinhibition/dt = (inhibitory_spikes * {self.neurons.per_spike!r} - inhibition)"
            f"/{tau} : 1",
        ]

    def group(self, units: Any, clock: Any, name: str, b2: Any) -> Any:
        """The interneurons of a group of units."""
        neurons = self.neurons
        made = neurons.group(len(units) * neurons.count, clock, name, b2)
        unit = np.arange(len(made)) // neurons.count
        made.drive = b2.linked_var(units, "inhibitory_drive", index=unit)
        return made

    def tell(self, made: Any, units: Any, clock: Any, name: str, b2: Any) -> Any:
        """Every interneuron tells its unit of its spikes."""
        told = b2.Synapses(
            made, units, on_pre="inhibitory_spikes_post += 1", clock=clock, namespace={}, name=name
        )
        told.connect(i=np.arange(len(made)), j=np.arange(len(made)) // self.neurons.count)
        return told
