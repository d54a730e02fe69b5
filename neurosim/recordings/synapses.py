"""Recording cells and the synapses between them: computed, measured, and written to a trace."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from neurosim import wording
from neurosim.building.synapses import SynapticProtocol
from neurosim.circuits.synapses import WEIGHT, side
from neurosim.errors import DivergedError
from neurosim.recordings.keeping import Keeping
from neurosim.recordings.measures import plain
from neurosim.recordings.populations import UNITS, in_bins
from neurosim.recordings.provenance import provenance
from neurosim.specs import SynapticProtocolSpec
from neurosim.traces.layout import Axis, Variable
from neurosim.traces.naming import placed
from neurosim.traces.writer import TraceWriter
from neurosim.units import format_time, shown_in, size_of, steps

if TYPE_CHECKING:
    from neurosim.levels.spiking.synapses import Found

LEVEL = "spiking"


@dataclass(frozen=True, repr=False)
class SynapticRecording:
    """A finished recording of cells and synapses.

    spec: what was done. sweeps: numbers of every sweep, as lists, by `owner.quantity`: rates of
    groups, and the mean change of weights. curve: what the sweeps differ in, by the key that says
    it, and the quantities that the protocol asks for. All in the units that `units` says, None
    where there is no such number.
    """

    path: Path
    spec: SynapticProtocolSpec
    sweeps: dict[str, list[float | None]]
    curve: dict[str, list[float | None]]
    units: dict[str, str]
    wall_s: float

    @property
    def summary(self) -> dict[str, Any]:
        """The same as plain data."""
        return {
            "trace": str(self.path),
            "sweeps": self.sweeps,
            "curve": self.curve,
            "units": self.units,
            "wall_s": self.wall_s,
        }

    def __repr__(self) -> str:
        found = ", ".join(f"{label} {text}" for label, text in self.rows)
        return f"<SynapticRecording of {self.spec.name}: {found}; {self.path}>"

    def _repr_html_(self) -> str:
        """A table, which notebooks show."""
        about = [("recording", self.spec.name), *self.rows]
        about += [("wall time", wording.duration(self.wall_s)), ("trace", str(self.path))]
        return wording.tabled(about)

    @property
    def rows(self) -> list[tuple[str, str]]:
        """What was measured, in words: from the lowest to the highest value over the sweeps."""
        ends = {"rates": ".rate", "events": ".events", "bursts": ".burst_probability"}
        found = [(label, self._told(self.sweeps, end)) for label, end in ends.items()]
        found.append(("changes", self._told(self.sweeps, f".{WEIGHT}_change")))
        found.append(("curve", self._told(self.curve, "")))
        return [(label, text) for label, text in found if text]

    def _told(self, numbers: Mapping[str, list[float | None]], end: str) -> str:
        """The numbers whose names end so."""
        found = []
        for name, values in numbers.items():
            known = [value for value in values if value is not None]
            if name.endswith(end) and known:
                low, high = f"{min(known):.4g}", f"{max(known):.4g}"
                told = low if low == high else f"{low} to {high}"
                found.append(
                    f"{name.removesuffix(end)} {told} {self.units[name]}".removesuffix(" 1")
                )
        return ", ".join(found)


def trace_path(spec: SynapticProtocolSpec, out: str | Path | None) -> Path:
    """Where a trace goes: `out` if given.

    Raises:
        InputError: no trace can be called so, or no file can be there.
    """
    return placed(out or Path("outputs") / f"{spec.name}.h5")


def record(protocol: SynapticProtocol, keep: Keeping, overwrite: bool) -> SynapticRecording:
    """Record cells and synapses, and write all of it to a trace in the end.

    Raises:
        DivergedError: something left the finite numbers; nothing was written.
        StoppedError: a signal stopped it; the trace holds all up to there.
    """
    from neurosim.levels.spiking.synapses import Course  # which imports Brian2
    from neurosim.levels.spiking.synapses import record as computed

    spec = protocol.spec
    contents = _Contents(protocol)
    every = spec.record.every or spec.dt
    times = np.arange(steps(spec.duration, every) + 1) * every
    course = Course(protocol.sweeps, spec.dt, times, spec.seed, spec.target)
    found = computed(
        protocol.wired,
        protocol.stimuli(),
        protocol.trains(),
        course,
        contents.seen,
        contents.whole,
        keep,
    )
    if not keep.stopped:
        _check_finite(protocol, found, times)
        contents.measure(found)
    contents.lay_out(times)
    done = SynapticRecording(keep.path, spec, *contents.summary, contents.units, keep.wall_s)
    contents.write(done, found, keep, overwrite)
    if keep.stopped:
        raise keep.stop(spec.duration)
    return done


def _check_finite(protocol: SynapticProtocol, found: "Found", times: np.ndarray) -> None:
    for what, values in {**found.after, **found.recorded}.items():
        bad = ~np.isfinite(values)
        if bad.any():
            moment = times[np.argwhere(bad)[:, -1].min()] if values.ndim > 1 else times[-1]
            raise DivergedError(
                f"{what} left the finite numbers at {format_time(float(f'{moment:.6g}'))}; "
                f"a dt below {format_time(protocol.spec.dt)} may do"
            )


class _Contents:
    """What a trace holds, and in which units.

    seen: by quantity, the numbers of the cells or synapses that are recorded. whole: quantities of
    which the means over all are wanted.
    """

    def __init__(self, protocol: SynapticProtocol) -> None:
        self._protocol = protocol
        spec, wired = protocol.spec, protocol.wired
        self._pairs = {name: wired.pairs(name, spec.seed) for name in wired.synapses}
        wanted = spec.record.variables
        wanted = self._usual() if wanted is None else wanted
        self.seen = {what: self._numbers(what) for what in dict.fromkeys(wanted)}
        self._plastic = [
            f"{name}.{WEIGHT}" for name, synapse in wired.synapses.items() if synapse.plastic
        ]
        curved = [] if spec.curve is None else spec.curve.of
        self.whole = tuple(dict.fromkeys([*self._plastic, *curved]))
        self.units: dict[str, str] = {}
        self._sweeps: dict[str, np.ndarray] = {}
        self._curve: dict[str, np.ndarray] = {}
        self._binned: dict[str, np.ndarray] = {}
        self._variables: list[Variable] = []
        self._axes: dict[str, list[Axis]] = {}

    def _usual(self) -> list[str]:
        wired = self._protocol.wired
        found = [
            f"{name}.{group.cell.readout}"
            for name, group in wired.groups.items()
            if group.cell is not None
        ]
        return found + [f"{n}.{s}" for n, each in wired.synapses.items() for s in each.states
                        if s in each.quantities]  # fmt: skip

    def _members(self, what: str) -> int:
        """How many cells or synapses a sweep has of a quantity."""
        owner, name = what.split(".")
        wired = self._protocol.wired
        if owner in wired.groups:
            return wired.groups[owner].count
        at = side(name)
        if at is None:
            return len(self._pairs[owner][0])
        return wired.groups[wired.synapses[owner].group(at)].count

    def _shown(self, what: str) -> int:
        """How many of them are recorded."""
        owner, name = what.split(".")
        asked = self._protocol.spec.record
        of_cells = owner in self._protocol.wired.groups or side(name) is not None
        return min(asked.cells if of_cells else asked.synapses, self._members(what))

    def _numbers(self, what: str) -> list[int]:
        members, shown = self._members(what), self._shown(what)
        return [k * members + n for k in range(self._protocol.sweeps) for n in range(shown)]

    def _dimension(self, what: str) -> str | None:
        owner, name = what.split(".")
        wired = self._protocol.wired
        if owner in wired.synapses:
            return wired.synapses[owner].units.get(name)
        cell = wired.groups[owner].cell
        return None if cell is None else cell.dimensions.get(name)

    # --- what is measured

    def measure(self, found: "Found") -> None:
        """What the whole of it shows."""
        protocol = self._protocol
        spec, wired, sweeps = protocol.spec, protocol.wired, protocol.sweeps
        for name, (at, who) in found.spikes.items():
            whole = np.array([0.0, spec.duration])
            cells = wired.groups[name].count
            for what, values in in_bins(at, who, sweeps, cells, whole).items():
                self._sweeps[f"{name}.{what}"] = values[:, 0]
                self.units[f"{name}.{what}"] = UNITS[what][0]
            if spec.record.bin is not None:
                bins = steps(spec.duration, spec.dt) // steps(spec.record.bin, spec.dt)
                edges = np.arange(bins + 1) * spec.record.bin
                for what, values in in_bins(at, who, sweeps, cells, edges).items():
                    self._binned[f"{name}.{what}"] = values
        for what in self._plastic:
            self._sweeps[f"{what}_change"] = self._mean(what, found.after) - self._mean(
                what, found.before
            )
            self.units[f"{what}_change"] = shown_in(self._dimension(what))[0]
        if spec.curve is not None:
            numbers, dimension = protocol.against
            self._curve[spec.curve.against] = np.array(numbers)
            self.units[spec.curve.against] = shown_in(dimension)[0]
            for what in spec.curve.of:
                value = self._mean(what, found.after)
                if spec.curve.take == "change":
                    value = value - self._mean(what, found.before)
                self._curve[what] = value
                self.units[what] = shown_in(self._dimension(what))[0]

    def _mean(self, what: str, values: Mapping[str, np.ndarray]) -> np.ndarray:
        """Over all cells or synapses of every sweep."""
        return values[what].reshape(self._protocol.sweeps, -1).mean(axis=1)

    @property
    def summary(self) -> tuple[dict[str, list[float | None]], dict[str, list[float | None]]]:
        """What was measured, as plain numbers."""
        sweeps, curve = (
            {
                name: [plain(v / size_of(self.units[name])) for v in values]
                for name, values in many.items()
            }
            for many in (self._sweeps, self._curve)
        )
        return sweeps, curve

    # --- what is written

    def lay_out(self, times: np.ndarray) -> None:
        """What will be written, once it is measured."""
        spec, wired = self._protocol.spec, self._protocol.wired
        names = spec.sweeps or [str(k) for k in range(self._protocol.sweeps)]
        axes = {"/": [Axis("sweep", np.array(names, "U"), description="sweeps of the protocol")]}
        axes["recording"] = [Axis("time", times * 1e3, "ms", "since the start of the sweep")]
        for what in self.seen:
            owner, name = what.split(".")
            unit = shown_in(self._dimension(what))[0]
            dims = ("sweep", self._axis(what), "time")
            path, text = f"recording/{owner}/{name}", self._line(what)
            self._variables.append(Variable(path, dims, unit, text, "float64"))
            own = axes.setdefault(f"recording/{owner}", [])
            if not any(axis.name == dims[1] for axis in own):
                numbers = np.arange(self._shown(what))
                own.append(Axis(dims[1], numbers, description="in every sweep"))
        for what in self._plastic:
            owner = what.split(".")[0]
            members = np.arange(self._members(what))
            number = Axis("synapse", members, description="in every sweep")
            axes[f"weights/{owner}"] = [number]
            unit = shown_in(self._dimension(what))[0]
            for when in ("before", "after"):
                path = f"weights/{owner}/{when}"
                own_dims = ("sweep", "synapse")
                self._variables.append(Variable(path, own_dims, unit, "weights", "float64"))
            for end in ("pre", "post"):
                path, text = f"weights/{owner}/{end}", f"the {end}synaptic cell, of the sweep"
                self._variables.append(Variable(path, ("synapse",), "1", text, "int64"))
        if self._binned:
            assert spec.record.bin is not None
            count = next(iter(self._binned.values())).shape[1]
            begins = np.arange(count) * spec.record.bin * 1e3
            axes["populations"] = [Axis("bin", begins, "ms", "when it begins")]
        for name in self._binned:
            unit, text = UNITS[name.split(".")[1]]
            path = f"populations/{name.replace('.', '/')}"
            self._variables.append(Variable(path, ("sweep", "bin"), unit, text, "float64"))
        for name in self._sweeps:
            path = f"measures/{name.replace('.', '/')}"
            self._variables.append(Variable(path, ("sweep",), self.units[name], "", "float64"))
        for name, path in self._curve_paths.items():
            text = name if path.endswith("against") else f"{spec.curve and spec.curve.take}"
            self._variables.append(Variable(path, ("sweep",), self.units[name], text, "float64"))
        self._axes = axes
        self._populations: dict[str, dict[str, str | int]] = {
            name: {"cells": group.count, "layout": "node = sweep * cells + cell"}
            for name, group in wired.groups.items()
            if group.spikes
        }

    @property
    def _curve_paths(self) -> dict[str, str]:
        against, *others = self._curve or ("",)
        paths = {name: f"curve/{name.replace('.', '/')}" for name in others}
        return ({against: "curve/against"} if against else {}) | paths

    def _axis(self, what: str) -> str:
        """What the members of a quantity are: cells, synapses, or cells on a side of these."""
        owner, name = what.split(".")
        if owner in self._protocol.wired.groups:
            return "cell"
        return side(name) or "synapse"

    def _line(self, what: str) -> str:
        """The equation of a quantity."""
        owner, name = what.split(".")
        wired = self._protocol.wired
        if owner in wired.synapses:
            line = wired.synapses[owner].by_name.get(name)
            if line is None or line.right is None:
                return "changes at spikes"
            return f"{f'd{name}/dt' if line.moves else name} = {line.right.text}"
        cell = wired.groups[owner].cell
        assert cell is not None
        if name in cell.inputs:
            return "what stimuli and synapses bring"
        left = f"d{name}/dt" if name in cell.states else name
        return f"{left} = {cell.cell.right(name).text}"

    def write(
        self, done: SynapticRecording, found: "Found", keep: Keeping, overwrite: bool
    ) -> None:
        """Write all of it to a trace."""
        protocol, spec = self._protocol, self._protocol.spec
        sweeps = protocol.sweeps
        attributes, texts = provenance(protocol, LEVEL, spec.name)
        attributes |= keep.attributes
        every = slice(0, sweeps)
        with TraceWriter(
            done.path, self._axes, self._variables, attributes, texts, overwrite, self._populations
        ) as writer:
            for what, values in found.recorded.items():
                size = shown_in(self._dimension(what))[1]
                shape = (sweeps, self._shown(what), -1)
                path = f"recording/{what.replace('.', '/')}"
                writer.write(path, every, values.reshape(shape) / size)
            for what in self._plastic:
                owner, size = what.split(".")[0], shown_in(self._dimension(what))[1]
                for when, whole in (("before", found.before), ("after", found.after)):
                    shown = whole[what].reshape(sweeps, -1) / size
                    writer.write(f"weights/{owner}/{when}", every, shown)
                for end, cells in zip(("pre", "post"), self._pairs[owner], strict=True):
                    writer.write(f"weights/{owner}/{end}", slice(0, len(cells)), cells)
            for name, values in self._binned.items():
                writer.write(f"populations/{name.replace('.', '/')}", every, values)
            for name, values in self._sweeps.items():
                path = f"measures/{name.replace('.', '/')}"
                writer.write(path, every, values / size_of(self.units[name]))
            for name, path in self._curve_paths.items():
                writer.write(path, every, self._curve[name] / size_of(self.units[name]))
            for name in self._populations:
                at, who = found.spikes[name]
                writer.append_spikes(name, at * 1e3, who)
            writer.close(keep.status, {"summary": json.dumps(done.summary)})


def in_words(done: SynapticRecording, figures: list[str], width: int) -> str:
    """The end of a recording in words."""
    rows = [*done.rows, ("wall time", wording.duration(done.wall_s)), ("trace", str(done.path))]
    rows += [("figure", figure) for figure in figures]
    return "\n".join([f"{done.spec.name}: done", *wording.labelled(rows, width)])
