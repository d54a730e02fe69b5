"""What a trace of a comparison has to say of one presentation: how its phases ended, and went."""

import json
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from neurosim.places import is_layer, layer_of
from neurosim.scenes import Layer, Phase, Trace
from neurosim.units import parse

COUNTED = {"soma": "up", "event_rate": "up", "burst_signal": "down"}
"""Variables that the spiking level counts between two moments, and where their spikes are sent."""


class Means(NamedTuple):
    """Means between moments: (samples, moments, units), and how far they may be off."""

    values: np.ndarray
    slack: np.ndarray


class Grid(NamedTuple):
    """Moments of a phase (ms since it began) and a variable there: (samples, moments, units)."""

    time: np.ndarray
    values: np.ndarray

    def at(self, times: np.ndarray) -> np.ndarray:
        """The values at some of the moments."""
        return self.values[:, np.searchsorted(self.time, times - 1e-4)]

    def means(self, times: np.ndarray, counted: bool) -> Means:
        """Means between times, of what was counted since the moment before or of a state.

        A state is taken to run straight from one moment to the next. If it does not turn between
        them, its mean lies between both values: at most half their difference off, evenly spread.
        """
        values = self.values[:, 1:]
        slack = np.zeros_like(values)
        if not counted:
            values = (values + self.values[:, :-1]) / 2
            slack = np.abs(np.diff(self.values, axis=1)) / np.sqrt(12)
        steps, widths = np.diff(self.time)[:, None], np.diff(times)[:, None]

        def between(rates: np.ndarray) -> np.ndarray:
            summed = np.concatenate([0 * rates[:, :1], np.cumsum(rates * steps, axis=1)], axis=1)
            return np.diff(Grid(self.time, summed).at(times), axis=1) / widths

        return Means(between(values), between(slack))


class Side:
    """One of the two traces; of an ensemble the first seed that lives."""

    def __init__(self, trace: Trace) -> None:
        self.trace, self.tree = trace, trace.tree
        self.level = str(trace.tree.attrs["level"])
        self.spikes = self.level == "spiking"
        self.protocol: dict[str, Any] = json.loads(
            str(trace.tree["provenance/protocol_json"].values)
        )
        self.number = int(np.argmax(trace.lost))
        self.seed = trace.seeds[self.number]

    @property
    def about(self) -> dict[str, Any]:
        """What it is, as plain data."""
        attributes = self.tree.attrs
        return {
            "path": str(self.trace.path),
            "protocol": str(attributes["protocol"]),
            "model": str(attributes["model"]),
            "level": self.level,
            "seed": self.seed,
            "seeds": self.trace.seeds,
        }

    @cached_property
    def window(self) -> float:
        """Over how long plasticity averages at the end of a phase (s); 0 without spikes."""
        return parse(self.protocol["spiking"]["window"], "time") if self.spikes else 0.0

    def _own(self, variable: Any) -> np.ndarray:
        """Of the compared seed."""
        return (variable.isel(seed=self.number) if "seed" in variable.dims else variable).values

    def moment(self, number: int) -> tuple[str, int]:
        """Where the weights stand that are nearest in time to a presentation: group and row."""
        if "snapshots" in self.tree:
            kept = self.tree["snapshots/presentation"].values.tolist()
            if number in kept:
                return "snapshots", kept.index(number)
        late = 2 * number > len(self.trace.done) and self.tree.attrs["status"] == "complete"
        return "weights", int(late)

    def weights(self, letter: str, moment: tuple[str, int]) -> list[np.ndarray]:
        """W, b or Q of a moment, lowest first."""
        if moment[0] not in self.tree.children:
            return []
        group, row = self.tree[moment[0]], moment[1]
        names = sorted((n for n in group.data_vars if n[0] == letter), key=lambda n: int(n[1:]))
        return [self._own(group[name])[row] for name in names]

    def shown(self, number: int) -> tuple[np.ndarray, np.ndarray] | None:
        """Inputs and labels of a recorded presentation's samples; None where they are not known."""
        if "input" not in self.tree["traces"]:
            return None
        traces, row = self.tree["traces"], self._row(number)
        return self._own(traces["input"])[row], self._own(traces["label"])[row]

    def _row(self, number: int) -> int:
        return self.tree["traces/presentation"].values.tolist().index(number)

    def presentation(self, number: int) -> "Shown":
        """A recorded presentation."""
        return Shown(self, number)


class Shown:
    """A recorded presentation of one side.

    phases: those it went through. units: the numbers of the recorded units, by layer. ends: layer →
    variable → (samples, phases, units): what plasticity had of every phase at its end.
    """

    def __init__(self, side: Side, number: int) -> None:
        self.side, self.number = side, number
        trace, traces = side.trace, side.tree["traces"]
        self._row = side._row(number)
        codes = np.flatnonzero(trace.done[number])
        self.timed = "time" in traces.sizes
        if self.timed:
            self._codes = traces["phase_at"].values[self._row]
            self._time = traces["time"].values.astype(float)
            moments = [np.flatnonzero(self._codes == code) for code in codes]
            ends = [float(self._time[m[-1]]) for m in moments]
        else:
            moments, ends = [np.array([code]) for code in codes], [0.0] * len(codes)
        self._moments = moments
        taught = side.tree["phases/teaching"].values[codes].astype(bool)
        names = [trace.flags[code].rpartition(".")[2] for code in codes]
        begins = [0.0, *ends[:-1]]
        self.phases = [
            Phase(n, bool(t), b, e) for n, t, b, e in zip(names, taught, begins, ends, strict=True)
        ]
        groups = {layer_of(p): traces[p] for p in filter(is_layer, traces.children)}
        self.units = {i: groups[i]["unit"].values for i in sorted(groups)}
        self._values: dict[int, Layer] = {
            i: {str(n): side._own(v.isel(presentation=self._row)) for n, v in groups[i].items()}
            for i in self.units
        }
        self.ends: dict[int, Layer] = {i: self._ends(i, codes) for i in self.units}

    def _ends(self, layer: int, codes: np.ndarray) -> Layer:
        if self.side.spikes and "estimates" in self.side.tree:
            group = self.side.tree[f"estimates/layer{layer}"]
            return {
                str(n): self.side._own(v.isel(presentation=self._row))[:, codes]
                for n, v in group.data_vars.items()
            }
        last = [moments[-1] for moments in self._moments]
        return {name: values[:, last] for name, values in self._values[layer].items()}

    def grid(self, layer: int, variable: str, phase: int) -> Grid:
        """A variable over a phase; its first moment is where the phase before ended."""
        moments = self._moments[phase]
        moments = moments if phase == 0 else np.append(moments[0] - 1, moments)
        time = self._time[moments] - self.phases[phase].begin
        return Grid(time, self._values[layer][variable][:, moments])

    def means(self, layer: int, variable: str, phase: int, times: np.ndarray) -> Means:
        """Of a variable that one side counts, between times from the start of the phase on."""
        return self.grid(layer, variable, phase).means(times, self.side.spikes)
