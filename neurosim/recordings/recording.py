"""Recording a cell: its sweeps integrated, measured, and written to a trace."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from neurosim import wording
from neurosim.building.cells import CellProtocol
from neurosim.building.synapses import SynapticProtocol, load
from neurosim.circuits.lone_cells import LoneCell
from neurosim.errors import DivergedError, InputError
from neurosim.process import devices
from neurosim.recordings import measures, synapses
from neurosim.recordings.keeping import Keeping, keeping, refuse_begun
from neurosim.recordings.measures import (
    OF_CELL,
    OF_POTENTIAL,
    OF_THRESHOLD,
    SPREAD,
    UNITS,
    Measures,
    Steps,
    measure,
    plain,
)
from neurosim.recordings.provenance import provenance
from neurosim.runs import programs
from neurosim.specs import CellProtocolSpec
from neurosim.stimuli import Stimulus
from neurosim.traces.checkpoint import Checkpoint
from neurosim.traces.layout import Axis, Variable
from neurosim.traces.naming import placed
from neurosim.traces.writer import TraceWriter
from neurosim.units import format_time, shown_in, size_of, steps

FEW = 6
"""Sweeps that a summary tells of."""

SIZES = {"MOhm": 1e6}
"""Units that are none of files, in SI units."""


@dataclass(frozen=True, repr=False)
class Recording:
    """A finished recording.

    spec: what was done. sweeps: numbers of every sweep of current steps, as lists, by name.
    cell: of the cell as a whole. All are means over copies, where there are several with the
    standard deviation beside them (`rate_spread`), in the units that `units` says; None where there
    is no such number. omitted: what has no meaning for such a cell, and why.
    """

    path: Path
    spec: CellProtocolSpec
    sweeps: dict[str, list[float | None]]
    cell: dict[str, float | None]
    units: dict[str, str]
    omitted: dict[str, str]
    wall_s: float

    @property
    def summary(self) -> dict[str, Any]:
        """The same as plain data."""
        return {
            "trace": str(self.path),
            "sweeps": self.sweeps,
            "cell": self.cell,
            "units": self.units,
            "omitted": self.omitted,
            "wall_s": self.wall_s,
        }

    def __repr__(self) -> str:
        found = ", ".join(f"{label} {text}" for label, text in self.rows)
        return f"<Recording of {self.spec.model.name}, {self.spec.name}: {found}; {self.path}>"

    def _repr_html_(self) -> str:
        """A table, which notebooks show."""
        about = [("recording", f"{self.spec.model.name}, {self.spec.name}"), *self.rows]
        about += [("wall time", wording.duration(self.wall_s)), ("trace", str(self.path))]
        return wording.tabled(about)

    @property
    def rows(self) -> list[tuple[str, str]]:
        """What was measured, in words."""
        return list(measures.in_words(self.cell, self.units))


def record(
    protocol: CellProtocol | SynapticProtocol | str | Path,
    overrides: Mapping[str, Any] | None = None,
    *,
    out: str | Path | None = None,
    force: bool = False,
) -> Recording | synapses.SynapticRecording:
    """Record a cell, or several with the synapses between them, and write all to a trace in the
    end. What is computed is kept on the way, so that `resume` goes on after a kill.

    protocol: a path, or the bare name of a shipped protocol of cells, with overrides by dotted
    key, such as {"model.use": "adex"}. out: the trace, `outputs/<protocol>-<neuron>.h5` if not
    given, `outputs/<protocol>.h5` of synapses. force: overwrite.

    Raises:
        InputError: the protocol is impossible, or of a network; the trace exists or cannot be
            there; nothing was computed.
        DivergedError: a cell left the finite numbers; nothing was written.
        StoppedError: SIGTERM came, as `run` has it; the trace holds all up to there.
    """
    if not isinstance(protocol, CellProtocol | SynapticProtocol):
        loaded = load(protocol, overrides)
        if not isinstance(loaded, CellProtocol | SynapticProtocol):
            raise InputError(
                f"{protocol}: is a protocol of a network; run it: neurosim.run({str(protocol)!r})"
            )
        protocol = loaded
    if isinstance(protocol, SynapticProtocol):
        path = synapses.trace_path(protocol.spec, out)
    else:
        path = trace_path(protocol.spec, out)
    refuse_begun(path, force)
    return taken(protocol, path, overwrite=force)


def taken(
    protocol: CellProtocol | SynapticProtocol,
    path: Path,
    saved: Checkpoint | None = None,
    differing: Sequence[str] = (),
    overwrite: bool = True,
) -> Recording | synapses.SynapticRecording:
    """A recording from its beginning, or from where it was left.

    differing: what is no longer what it was then, in words.

    Raises:
        DivergedError, StoppedError: as `record` does.
    """
    with keeping(protocol, level_of(protocol), path, saved, differing) as keep:
        if isinstance(protocol, SynapticProtocol):
            return synapses.record(protocol, keep, overwrite)
        return _of_cell(protocol, keep, overwrite)


def level_of(protocol: CellProtocol | SynapticProtocol) -> str:
    """At which level it is computed."""
    if isinstance(protocol, SynapticProtocol):
        return synapses.LEVEL
    return "spiking" if protocol.stepped else "rate"


def _of_cell(protocol: CellProtocol, keep: Keeping, overwrite: bool) -> Recording:
    spec, path = protocol.spec, keep.path
    stimuli, cell = protocol.stimuli(), protocol.cell
    every = spec.record.every or spec.dt
    times = np.arange(steps(spec.duration, every) + 1) * every
    wanted = tuple(dict.fromkeys(spec.record.variables or (*cell.states, cell.readout)))
    seen = [k for k in range(protocol.cells) if k % spec.copies < spec.record.copies]
    looked = tuple(dict.fromkeys((*wanted, cell.readout)))
    values, spikes = _moved(protocol, stimuli, times, looked, seen, keep)
    found = None
    if not keep.stopped:
        _check_finite(protocol, values, times)
        found = _measured(protocol, stimuli, times, values[cell.readout], spikes)
    amounts = [given(times[:, None], np.asarray(seen), np).T for given in stimuli]
    contents = _Contents(protocol, stimuli, times, wanted, found)
    omitted = found.omitted if found else {}
    done = Recording(path, spec, *contents.summary, contents.units, omitted, keep.wall_s)
    _write(done, protocol, contents, values, amounts, spikes, keep, overwrite)
    if keep.stopped:
        raise keep.stop(spec.duration)
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
    keep: Keeping,
) -> tuple[dict[str, np.ndarray], Spikes]:
    """The wanted quantities (cells seen, moments), and the spikes of all cells."""
    spec, cell = protocol.spec, protocol.cell
    if protocol.stepped:
        from neurosim.levels.spiking import cells as spiking

        more = spec.dt, times, wanted, seen, spec.seed, spec.target, keep
        found, spikes = spiking.record(cell, stimuli, protocol.cells, *more)
        return {name: a.T for name, a in found.items()}, spikes
    from neurosim.levels import cells

    fine = np.arange(steps(spec.duration, spec.dt) + 1) * spec.dt
    with programs.kept(), devices.numbers(True):
        found, spikes = cells.record(cell, stimuli, protocol.cells, fine, wanted, keep)
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
    """What a step of current into the cell shows; of other cells that spike, or that nothing
    reaches, what whole sweeps do; None of any other."""
    spec, cell = protocol.spec, protocol.cell
    at, who = spikes
    by_cell = np.argsort(who, kind="stable")
    ends = np.searchsorted(who[by_cell], np.arange(1, protocol.cells))
    own = np.split(at[by_cell], ends)
    each = [own[k * spec.copies : (k + 1) * spec.copies] for k in range(protocol.sweeps)]
    chosen = [
        s
        for s in stimuli
        if s.kind == "step" and s.reversal is None and cell.dimensions.get(s.into) == "current"
    ]
    if len(chosen) != 1:
        if cell.cell.firing is None:
            return None
        whole = np.zeros(protocol.sweeps), np.full(protocol.sweeps, spec.duration)
        return measure(Steps(*whole, None), times, None, each, {})
    first = np.arange(protocol.sweeps) * spec.copies
    step = chosen[0]
    stop = np.minimum(step.stop[first], spec.duration)
    omitted = _omitted(cell)
    volts = readout.reshape(protocol.sweeps, spec.record.copies, len(times))
    return measure(
        Steps(step.start[first], stop, step.amplitude[first]),
        times,
        None if OF_POTENTIAL[0] in omitted else volts,
        each,
        omitted,
    )


def _omitted(cell: LoneCell) -> dict[str, str]:
    """What has no meaning for a cell, and why."""
    found: dict[str, str] = {}
    if cell.dimensions.get(cell.readout) != "voltage":
        found |= dict.fromkeys(OF_POTENTIAL, f"{cell.readout} is no membrane potential")
    if cell.cell.firing is not None and cell.cell.firing.draws:
        found |= dict.fromkeys(OF_THRESHOLD, "it spikes by chance")
    return found


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
        self.wanted = wanted
        self.units = {name: unit for name, (unit, _) in (UNITS | OF_CELL).items()}
        self.units["amplitude"] = "pA"
        self.sweeps, self.cell = (taken.sweeps, taken.cell) if taken else ({}, {})
        if taken and spec.copies > 1:
            self.units |= {name + SPREAD: unit for name, unit in self.units.items()}
            self.sweeps = self.sweeps | {n + SPREAD: v for n, v in taken.sweep_spreads.items()}
            self.cell = self.cell | {n + SPREAD: v for n, v in taken.cell_spreads.items()}
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
        self.drawn: dict[str, float] = {}
        if cell.spreads:
            copies = Axis("copy", np.arange(spec.copies), description="cells of every sweep")
            self.axes["parameters"] = [copies]
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
        for name in (*self.sweeps, *self.cell):
            told, unit = _told(name), self.units[name]
            dims = ("sweep",) if name in self.sweeps else ()
            self.variables.append(Variable(f"measures/{name}", dims, unit, told, "float64"))
        for name in cell.spreads:
            unit, self.drawn[name] = shown_in(cell.units.get(name))
            where, told = f"parameters/{name}", "what each copy has drawn"
            self.variables.append(Variable(where, ("copy",), unit, told, "float64"))

    @staticmethod
    def _over_time(
        name: str, unit: str, text: str, about: Mapping[str, str] | None = None
    ) -> Variable:
        dims = ("sweep", "copy", "time")
        return Variable(f"recording/{name}", dims, unit, text, "float64", about or {})

    def size(self, name: str) -> float:
        """The unit of a measure in SI units."""
        unit = self.units[name]
        return SIZES[unit] if unit in SIZES else size_of(unit)

    @property
    def summary(self) -> tuple[dict[str, list[float | None]], dict[str, float | None]]:
        """What was measured, as plain numbers."""
        return (
            {
                name: [plain(v / self.size(name)) for v in values]
                for name, values in self.sweeps.items()
            },
            {name: plain(value / self.size(name)) for name, value in self.cell.items()},
        )


def _told(name: str) -> str:
    """What a measure is."""
    known = UNITS | OF_CELL
    if name in known:
        return known[name][1]
    return f"standard deviation over copies: {known[name.removesuffix(SPREAD)][1]}"


def _write(
    done: Recording,
    protocol: CellProtocol,
    contents: _Contents,
    values: Mapping[str, np.ndarray],
    amounts: list[np.ndarray],
    spikes: Spikes,
    keep: Keeping,
    overwrite: bool,
) -> None:
    spec, cell = protocol.spec, protocol.cell
    attributes, texts = provenance(protocol, level_of(protocol), f"{spec.name}, {spec.model.name}")
    attributes |= {"model": spec.model.name, "readout": cell.readout} | keep.attributes
    copies: dict[str, str | int] = {"copies": spec.copies, "layout": "node = sweep * copies + copy"}
    populations = {spec.model.name: copies} if cell.cell.firing is not None else {}
    shape = (protocol.sweeps, spec.record.copies, -1)
    with TraceWriter(
        done.path, contents.axes, contents.variables, attributes, texts, overwrite, populations
    ) as writer:
        for name in contents.wanted:
            shown = values[name].reshape(shape) / contents.shown[name][1]
            writer.write(f"recording/{name}", slice(0, shape[0]), shown)
        for (name, size), array in zip(contents.stimuli, amounts, strict=True):
            writer.write(f"recording/{name}", slice(0, shape[0]), array.reshape(shape) / size)
        for name, many in contents.sweeps.items():
            writer.write(f"measures/{name}", slice(0, shape[0]), many / contents.size(name))
        for name, one in contents.cell.items():
            writer.write(f"measures/{name}", (), np.float64(one / contents.size(name)))
        for name, size in contents.drawn.items():
            drawn = cell.parameters[name][: spec.copies] / size
            writer.write(f"parameters/{name}", slice(0, spec.copies), drawn)
        if populations:
            writer.append_spikes(spec.model.name, spikes[0] * 1e3, spikes[1])
        writer.close(keep.status, {"summary": json.dumps(done.summary)})


def in_words(done: Recording, figures: list[str], width: int) -> str:
    """The end of a recording in words."""
    rows = [("measured", ", ".join(map(" ".join, done.rows)))] if done.rows else []
    if done.sweeps and done.spec.copies > 1:
        seen = f"{done.spec.copies}, of which {done.spec.record.copies} recorded"
        rows.append(("copies", f"{seen}; ± is the deviation over copies"))
    if done.omitted:
        rows.append(("left out", _left_out(done.omitted)))
    if "rate" in done.sweeps and "amplitude" not in done.sweeps:
        rows += _counted(done) if done.spec.stimuli else _alone(done)
    amplitudes = done.sweeps.get("amplitude", [])
    pairs = zip(amplitudes, done.sweeps.get("rate", []), strict=False)
    fired = [f"{rate:.3g} Hz at {amplitude:.4g} pA" for amplitude, rate in pairs if rate]
    if fired:
        rows.append(("rates", ", ".join(_few(fired))))
    pairs = zip(amplitudes, done.sweeps.get("adaptation", []), strict=False)
    adapted = [f"{v:z.2f} at {amplitude:.4g} pA" for amplitude, v in pairs if v is not None]
    if adapted:
        rows.append(("adaptation", ", ".join(_few(adapted))))
    rows += [("wall time", wording.duration(done.wall_s)), ("trace", str(done.path))]
    rows += [("figure", figure) for figure in figures]
    return "\n".join(
        [f"{done.spec.name}, {done.spec.model.name}: done", *wording.labelled(rows, width)]
    )


def _left_out(omitted: Mapping[str, str]) -> str:
    """What has no meaning for a cell, and why."""
    reasons = dict.fromkeys(omitted.values())
    named = {why: [n.replace("_", " ") for n in omitted if omitted[n] == why] for why in reasons}
    return "; ".join(f"{', '.join(names)}, as {why}" for why, names in named.items())


def _alone(done: Recording) -> Iterator[tuple[str, str]]:
    """What cells do that nothing reaches."""
    for name in ("rate", "interval_cv", "fano_factor"):
        for sweep, value in enumerate(done.sweeps.get(name, [])):
            found = {n: done.sweeps[n][sweep] for n in (name, name + SPREAD) if n in done.sweeps}
            yield from measures.in_words(found, done.units) if value is not None else ()


def _counted(done: Recording) -> Iterator[tuple[str, str]]:
    """How often cells spiked in sweeps of stimuli that are no single step."""
    names = done.spec.sweeps or [f"sweep {k}" for k in range(len(done.sweeps["spikes"]))]
    pairs = zip(names, done.sweeps["spikes"], strict=True)
    told = [f"{name} {spikes:.4g}" for name, spikes in pairs if spikes is not None]
    yield "spikes", ", ".join(_few(told))


def _few(texts: list[str]) -> list[str]:
    """All, or the first ones and the last one of many."""
    return texts if len(texts) <= FEW else [*texts[: FEW - 1], "…", texts[-1]]
