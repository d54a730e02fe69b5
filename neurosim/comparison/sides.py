"""What a trace of a comparison has to say of one presentation: how its phases ended, and went."""

import json
import re
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from neurosim.circuits.description import Circuit
from neurosim.circuits.populations import Group
from neurosim.places import is_layer, layer_of
from neurosim.traces.scenes import Layer, Phase, Trace, finite
from neurosim.units import parse


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
            "tested_on": self.trace.tested_on,
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

    @cached_property
    def circuit(self) -> Circuit:
        """What reads it is imported when it is asked for, which takes a while."""
        from neurosim.models import circuitry
        from neurosim.specs import ModelSpec
        from neurosim.specs.validation import validate

        return circuitry.circuit(validate(ModelSpec, self.protocol["model"]))

    def group(self, layer: int) -> Group:
        """The cells that stand for a layer."""
        made = self.circuit
        return next(group for group in made.groups if made.place(group) == f"layer{layer}")

    @property
    def noisy(self) -> bool:
        """Whether compartments have noise, by σ or by their equations."""
        if any(self.protocol["model"].get("noise", {}).values()):
            return True
        made = self.circuit
        return any("xi" in made.cell(group).right(name).names for group, name in made.moving)

    def carrier(self, layer: int, variable: str) -> int | None:
        """Whether spikes, or events (0), or bursts (1) speak of a variable; None if nothing does.

        At every level, since of the same model others are held against what is counted.
        """
        return self.circuit.population[self.group(layer).population].carrier(variable)

    def aimed(self, layer: int, variable: str) -> bool:
        """Whether a variable follows the target at once, and no spikes speak of it."""
        roots = self.circuit.cell(self.group(layer)).roots(variable)
        return "target" in roots and self.carrier(layer, variable) is None

    def counted(self, layer: int, variable: str) -> bool:
        """Whether the spiking level knows it between two moments, and not at one."""
        states = self.circuit.cell(self.group(layer)).states
        return self.carrier(layer, variable) is not None or variable not in states

    def weights(self, kind: str, moment: tuple[str, int]) -> list[np.ndarray]:
        """W, b, Q or another projection of a moment, lowest first."""
        if moment[0] not in self.tree.children:
            return []
        group, row = self.tree[moment[0]], moment[1]
        found = [n for n in group.data_vars if re.fullmatch(rf"{re.escape(kind)}\d+", str(n))]
        names = sorted(found, key=lambda name: int(name.removeprefix(kind)))
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
            i: {
                str(n): finite(side._own(v.isel(presentation=self._row)))
                for n, v in groups[i].items()
            }
            for i in self.units
        }
        self.ends: dict[int, Layer] = {i: self._ends(i, codes) for i in self.units}

    def _ends(self, layer: int, codes: np.ndarray) -> Layer:
        if self.side.spikes and "estimates" in self.side.tree:
            group = self.side.tree[f"estimates/layer{layer}"]
            return {
                str(n): finite(self.side._own(v.isel(presentation=self._row)))[:, codes]
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
