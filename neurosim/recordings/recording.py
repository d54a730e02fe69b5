"""Recording a cell: its sweeps integrated, measured, and written to a trace."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from neurosim import wording
from neurosim.building.cells import CellProtocol
from neurosim.building.synapses import SynapticProtocol, load
from neurosim.errors import DivergedError, InputError
from neurosim.process import devices
from neurosim.recordings import synapses
from neurosim.recordings.measures import OF_CELL, UNITS, Measures, measure, plain
from neurosim.runs import programs
from neurosim.runs.environment import commit, versions
from neurosim.specs import CellProtocolSpec
from neurosim.stimuli import Stimulus
from neurosim.traces.layout import Axis, Variable
from neurosim.traces.naming import placed
from neurosim.traces.writer import TraceWriter, refuse_existing
from neurosim.units import format_time, shown_in, steps

FEW = 6
"""Sweeps that a summary tells of."""

SIZES = {"MOhm": 1e6}
"""Units that are none of files, in SI units."""


@dataclass(frozen=True, repr=False)
class Recording:
    """A finished recording.

    spec: what was done. sweeps: numbers of every sweep of current steps, as lists, by name.
    cell: of the cell as a whole. All in the units that `units` says, None where there is no such
    number.
    """

    path: Path
    spec: CellProtocolSpec
    sweeps: dict[str, list[float | None]]
    cell: dict[str, float | None]
    units: dict[str, str]
    wall_s: float

    @property
    def summary(self) -> dict[str, Any]:
        """The same as plain data."""
        return {
            "trace": str(self.path),
            "sweeps": self.sweeps,
            "cell": self.cell,
            "units": self.units,
            "wall_s": self.wall_s,
        }

    def __repr__(self) -> str:
        found = ", ".join(f"{label} {text}" for label, text in self.rows)
        return f"<Recording of {self.spec.model.name}, {self.spec.name}: {found}; {self.path}>"

    @property
    def rows(self) -> list[tuple[str, str]]:
        """What was measured, in words."""
        found = []
        for name, value in self.cell.items():
            if value is not None:
                unit = self.units[name].replace("MOhm", "MΩ")
                found.append((name.replace("_", " "), f"{value:.4g} {unit}".rstrip(" 1")))
        return found


def record(
    protocol: CellProtocol | SynapticProtocol | str | Path,
    overrides: Mapping[str, Any] | None = None,
    *,
    out: str | Path | None = None,
    force: bool = False,
) -> Recording | synapses.SynapticRecording:
    """Record a cell, or several with the synapses between them, and write all to a trace at once.

    protocol: a path, or the bare name of a shipped protocol of cells, with overrides by dotted
    key, such as {"model.use": "adex"}. out: the trace, `outputs/<protocol>-<neuron>.h5` if not
    given, `outputs/<protocol>.h5` of synapses. force: overwrite.

    Raises:
        InputError: the protocol is impossible, or of a network; the trace exists or cannot be
            there; nothing was computed.
        DivergedError: a cell left the finite numbers; nothing was written.
    """
    began = time.perf_counter()
    if not isinstance(protocol, CellProtocol | SynapticProtocol):
        loaded = load(protocol, overrides)
        if not isinstance(loaded, CellProtocol | SynapticProtocol):
            raise InputError(
                f"{protocol}: is a protocol of a network; run it: neurosim.run({str(protocol)!r})"
            )
        protocol = loaded
    if isinstance(protocol, SynapticProtocol):
        return synapses.record(protocol, out, force)
    spec = protocol.spec
    path = trace_path(spec, out)
    refuse_existing(path, force)
    stimuli, cell = protocol.stimuli(), protocol.cell
    every = spec.record.every or spec.dt
    times = np.arange(steps(spec.duration, every) + 1) * every
    wanted = tuple(dict.fromkeys(spec.record.variables or (*cell.states, cell.readout)))
    seen = [k for k in range(protocol.cells) if k % spec.copies < spec.record.copies]
    looked = tuple(dict.fromkeys((*wanted, cell.readout)))
    values, spikes = _moved(protocol, stimuli, times, looked, seen)
    _check_finite(protocol, values, times)
    taken = _measured(protocol, stimuli, times, values[cell.readout], spikes)
    amounts = [given(times[:, None], np.asarray(seen), np).T for given in stimuli]
    contents = _Contents(protocol, stimuli, times, wanted, taken)
    wall = time.perf_counter() - began
    done = Recording(path, spec, *contents.summary, contents.units, wall)
    _write(done, protocol, contents, values, amounts, spikes, force)
    return done


def trace_path(spec: CellProtocolSpec, out: str | Path | None) -> Path:
    """Where a trace goes: `out` if given.

    Raises:
        InputError: no trace can be called so, or no file can be there.
    """
    return placed(out or Path("outputs") / f"{spec.name}-{spec.model.name}.h5")


Spikes = tuple[np.ndarray, np.ndarray]


def _moved(
    protocol: CellProtocol,
    stimuli: list[Stimulus],
    times: np.ndarray,
    wanted: tuple[str, ...],
    seen: list[int],
) -> tuple[dict[str, np.ndarray], Spikes]:
    """The wanted quantities (cells seen, moments), and the spikes of all cells."""
    spec, cell = protocol.spec, protocol.cell
    if protocol.stepped:
        from neurosim.levels.spiking import cells as spiking

        more = spec.dt, times, wanted, seen, spec.seed, spec.target
        found, spikes = spiking.record(cell, stimuli, protocol.cells, *more)
        return {name: a.T for name, a in found.items()}, spikes
    from neurosim.levels import cells

    fine = np.arange(steps(spec.duration, spec.dt) + 1) * spec.dt
    with programs.kept(), devices.numbers(True):
        found, spikes = cells.record(cell, stimuli, protocol.cells, fine, wanted)
    stride = round((times[1] - times[0]) / spec.dt) if len(times) > 1 else 1
    return {name: a[::stride].T[seen] for name, a in found.items()}, spikes


def _check_finite(
    protocol: CellProtocol, values: Mapping[str, np.ndarray], times: np.ndarray
) -> None:
    for name, array in values.items():
        bad = ~np.isfinite(array)
        if bad.any():
            cell, moment = np.argwhere(bad)[bad.nonzero()[1].argmin()]
            sweep = int(cell) // protocol.spec.record.copies
            hint = (
                f"a dt below {format_time(protocol.spec.dt)} may do"
                if protocol.stepped
                else "its equations have no solution there, or none that steps can follow"
            )
            raise DivergedError(
                f"{name} of {protocol.spec.model.name} left the finite numbers in sweep {sweep} "
                f"at {format_time(float(f'{times[moment]:.6g}'))}; {hint}"
            )


def _measured(
    protocol: CellProtocol,
    stimuli: list[Stimulus],
    times: np.ndarray,
    readout: np.ndarray,
    spikes: Spikes,
) -> Measures | None:
    """What the first step of current into the cell shows; None if there is none."""
    spec, cell = protocol.spec, protocol.cell
    chosen = [
        s
        for s in stimuli
        if s.kind == "step" and s.reversal is None and cell.dimensions.get(s.into) == "current"
    ]
    if len(chosen) != 1:
        return None
    first = np.arange(protocol.sweeps) * spec.copies
    step = chosen[0]
    at, who = spikes
    own = [at[who == k] for k in range(protocol.cells)]
    volts = cell.dimensions.get(cell.readout) == "voltage"
    return measure(
        step.amplitude[first],
        step.start[first],
        np.minimum(step.stop[first], spec.duration),
        times,
        readout[:: spec.record.copies] if volts else None,
        [own[k * spec.copies : (k + 1) * spec.copies] for k in range(protocol.sweeps)],
    )


class _Contents:
    """What a trace holds of a recording, and in which units."""

    def __init__(
        self,
        protocol: CellProtocol,
        stimuli: list[Stimulus],
        times: np.ndarray,
        wanted: tuple[str, ...],
        taken: Measures | None,
    ) -> None:
        spec, cell = protocol.spec, protocol.cell
        self.wanted, self.taken = wanted, taken
        self.units = {name: unit for name, (unit, _) in (UNITS | OF_CELL).items()}
        self.units["amplitude"] = "pA"
        self.shown = {name: shown_in(cell.dimensions.get(name)) for name in wanted}
        names = spec.sweeps or [str(k) for k in range(protocol.sweeps)]
        self.axes = {
            "/": [
                Axis("sweep", np.array(names, "U"), description="sweeps of the stimuli"),
            ],
            "recording": [
                Axis("copy", np.arange(spec.record.copies), description="cells of a sweep"),
                Axis("time", times * 1e3, "ms", "since the start of the sweep"),
            ],
        }
        rights = {e.name: e for e in cell.cell.equations}
        self.variables = []
        for name in wanted:
            line = rights.get(name)
            left = f"d{name}/dt" if line is not None and line.moves else name
            text = "what stimuli bring" if line is None else f"{left} = {line.right.text}"
            self.variables.append(self._over_time(name, self.shown[name][0], text))
        self.stimuli = []
        for number, given in enumerate(spec.stimuli):
            dimension = getattr(given.amplitude[0], "dimension", None)
            unit, size = shown_in(dimension)
            name = f"stimulus{number}"
            self.stimuli.append((name, size))
            about = {"kind": given.kind, "into": given.into}
            text = f"{given.kind} into {given.into}"
            self.variables.append(self._over_time(name, unit, text, about))
        for name in taken.sweeps if taken else ():
            unit, text = self.units[name], UNITS[name][1]
            self.variables.append(Variable(f"measures/{name}", ("sweep",), unit, text, "float64"))
        for name in taken.cell if taken else ():
            unit, text = OF_CELL[name]
            self.variables.append(Variable(f"measures/{name}", (), unit, text, "float64"))

    @staticmethod
    def _over_time(
        name: str, unit: str, text: str, about: Mapping[str, str] | None = None
    ) -> Variable:
        dims = ("sweep", "copy", "time")
        return Variable(f"recording/{name}", dims, unit, text, "float64", about or {})

    def size(self, name: str) -> float:
        """The unit of a measure in SI units."""
        unit = self.units[name]
        from_files = {"mV": 1e-3, "ms": 1e-3, "pA": 1e-12, "Hz": 1.0, "1": 1.0}
        return SIZES.get(unit) or from_files[unit]

    @property
    def summary(self) -> tuple[dict[str, list[float | None]], dict[str, float | None]]:
        """What was measured, as plain numbers."""
        if self.taken is None:
            return {}, {}
        return (
            {
                name: [plain(v / self.size(name)) for v in values]
                for name, values in self.taken.sweeps.items()
            },
            {name: plain(value / self.size(name)) for name, value in self.taken.cell.items()},
        )


def _write(
    done: Recording,
    protocol: CellProtocol,
    contents: _Contents,
    values: Mapping[str, np.ndarray],
    amounts: list[np.ndarray],
    spikes: Spikes,
    force: bool,
) -> None:
    spec, cell = protocol.spec, protocol.cell
    level = "spiking" if protocol.stepped else "rate"
    attributes = {
        "Conventions": "CF-1.11",
        "title": f"neurosim {spec.name}, {spec.model.name}",
        "neurosim_version": version("neurosim"),
        "protocol": spec.name,
        "model": spec.model.name,
        "level": level,
        "readout": cell.readout,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "versions": json.dumps(versions(level)),
    }
    texts = {
        "protocol_json": spec.model_dump_json(exclude_none=True),
        "overrides": json.dumps({key: str(value) for key, value in protocol.overrides.items()}),
    }
    copies: dict[str, str | int] = {"copies": spec.copies, "layout": "node = sweep * copies + copy"}
    populations = {spec.model.name: copies} if cell.cell.firing is not None else {}
    shape = (protocol.sweeps, spec.record.copies, -1)
    with TraceWriter(
        done.path, contents.axes, contents.variables, attributes, texts, force, populations
    ) as writer:
        for name in contents.wanted:
            shown = values[name].reshape(shape) / contents.shown[name][1]
            writer.write(f"recording/{name}", slice(0, shape[0]), shown)
        for (name, size), array in zip(contents.stimuli, amounts, strict=True):
            writer.write(f"recording/{name}", slice(0, shape[0]), array.reshape(shape) / size)
        if contents.taken is not None:
            for name, many in contents.taken.sweeps.items():
                writer.write(f"measures/{name}", slice(0, shape[0]), many / contents.size(name))
            for name, one in contents.taken.cell.items():
                writer.write(f"measures/{name}", (), np.float64(one / contents.size(name)))
        if populations:
            writer.append_spikes(spec.model.name, spikes[0] * 1e3, spikes[1])
        writer.close("complete", {"summary": json.dumps(done.summary)})


def in_words(done: Recording, figures: list[str], width: int) -> str:
    """The end of a recording in words."""
    rows = [("measured", ", ".join(map(" ".join, done.rows)))] if done.rows else []
    pairs = list(zip(done.sweeps.get("amplitude", []), done.sweeps.get("rate", []), strict=True))
    fired = [f"{rate:.3g} Hz at {amplitude:.4g} pA" for amplitude, rate in pairs if rate]
    if fired:
        rows.append(("rates", ", ".join(_few(fired))))
    rows += [("wall time", wording.duration(done.wall_s)), ("trace", str(done.path))]
    rows += [("figure", figure) for figure in figures]
    return "\n".join(
        [f"{done.spec.name}, {done.spec.model.name}: done", *wording.labelled(rows, width)]
    )


def _few(texts: list[str]) -> list[str]:
    """All, or the first ones and the last one of many."""
    return texts if len(texts) <= FEW else [*texts[: FEW - 1], "…", texts[-1]]
