"""The passage from device arrays to the file of a trace."""

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np

from neurosim.building.loading import Protocol
from neurosim.levels.simulator import Examined, Metrics
from neurosim.levels.spiking.calibration import Curve
from neurosim.levels.spiking.pyramids import Calibration
from neurosim.runs.calibration import arrays
from neurosim.runs.contents import MS, Contents
from neurosim.runs.environment import commit, versions
from neurosim.traces.ledger import Ledger
from neurosim.traces.writer import TraceWriter


def provenance(
    protocol: Protocol, origin: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, str]]:
    """Attributes and documents that say where the numbers come from. origin: of `positions`."""
    spec = protocol.spec
    attributes = {
        "Conventions": "CF-1.11",
        "title": f"neurosim {spec.name}, {spec.level} level",
        "neurosim_version": version("neurosim"),
        "protocol": spec.name,
        "model": spec.model.name,
        "level": spec.level,
        "precision": spec.precision,
        "plasticity": spec.plasticity,
        "seeds": ",".join(map(str, origin["seeds"])),
        "folder": origin["folder"],
        "data": origin["data"],
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "versions": json.dumps(versions(spec.level)),
    }
    texts = {
        "protocol_json": spec.model_dump_json(exclude_none=True),
        "overrides": json.dumps({key: str(value) for key, value in protocol.overrides.items()}),
        "environment": json.dumps(origin["environment"]),
    }
    return attributes, texts


class Recorder:
    """Writes a run to its trace, chunk by chunk."""

    def __init__(self, writer: TraceWriter, contents: Contents) -> None:
        self.writer, self.contents = writer, contents

    @classmethod
    def create(
        cls,
        path: Path,
        protocol: Protocol,
        contents: Contents,
        origin: Mapping[str, Any],
        weights: Any,
        overwrite: bool,
    ) -> "Recorder":
        """For a new trace, with the weights it starts from."""
        attributes, texts = provenance(protocol, origin)
        writer = TraceWriter(
            path,
            contents.axes,
            contents.variables,
            attributes,
            texts,
            overwrite,
            contents.populations,
        )
        recorder = cls(writer, contents)
        recorder._write_phase_table()
        recorder.weights(0, weights)
        return recorder

    @classmethod
    def reopen(
        cls,
        path: Path,
        contents: Contents,
        ledger: Ledger,
        attributes: Mapping[str, str],
        force: bool,
    ) -> "Recorder":
        """For a trace that holds what the ledger says; see `TraceWriter.reopen`."""
        writer = TraceWriter.reopen(
            path, contents.axes, contents.variables, ledger, attributes, force
        )
        return cls(writer, contents)

    def _write_phase_table(self) -> None:
        for stage, slots in zip(self.contents.spec.stages, self.contents.slots, strict=True):
            for phase, k in zip(stage.phases, slots, strict=True):
                self.writer.write("phases/duration", k, np.float32((phase.duration or 0) * MS))
                self.writer.write(
                    "phases/teaching", k, np.int8(phase.teaching not in ("none", "held"))
                )
                opened = self.contents.opened(phase)
                for kind in self.contents.plastic:
                    self.writer.write(f"phases/{kind}", k, np.int8(kind in opened))

    def _own(self, array: Any) -> np.ndarray | np.generic:
        """Without the seed axis (the first) where there is one seed."""
        array = np.asarray(array)
        return array if self.contents.many else array[0]

    def weights(self, moment: int, weights: Any) -> None:
        """The weights at the start (0) or the end (1) of the run."""
        self._write_weights("weights", moment, weights)

    def snapshot(self, presentation: int, weights: Any) -> None:
        """The weights that a recorded presentation begins with, where they are asked for."""
        if self.contents.spec.record.weights:
            row = self.contents.plan.recorded.index(presentation)
            self._write_weights("snapshots", row, weights)

    def _course(self, row: int, phases: list[Any]) -> None:
        """The weights that flowed in the phases of a recorded presentation, one after another."""
        count = self.contents.moments

        def joined(*parts: Any) -> np.ndarray:
            rows = np.concatenate([np.asarray(part) for part in parts], axis=1)
            full = np.full((len(rows), count, *rows.shape[2:]), np.nan, rows.dtype)
            full[:, : rows.shape[1]] = rows
            return full

        self._write_weights("courses", row, jax.tree.map(joined, *phases))

    def _write_weights(self, group: str, row: int, weights: Any) -> None:
        for (name, _, _), array in zip(
            self.contents.weights, jax.tree.leaves(weights), strict=True
        ):
            self.writer.write(f"{group}/{name}", row, self._own(array))

    def calibration(self, curves: Curve | Calibration) -> None:
        """The curves of the neurons."""
        for name, values in arrays(curves).items():
            self.writer.write(f"calibration/{name}", slice(0, len(values)), values)

    def diverged(self, s: int, presentation: int) -> None:
        """Seed number s left the bounds in a presentation."""
        where = s if self.contents.many else ()
        self.writer.write("diverged_at", where, np.int32(presentation))

    def metrics(self, stage: int, first: int, metrics: Mapping[str, np.ndarray]) -> None:
        """Metrics (seed, presentations, …) of consecutive presentations from `first` on.

        A third axis is the phase of this stage, or the layer of what is diagnosed.
        """
        count = metrics["loss"].shape[1]
        where = slice(first, first + count)
        for name, values in self._recorded(metrics):
            values = np.asarray(values, float)
            if values.ndim == 2 or name in self.contents.diagnosed:
                block = np.moveaxis(values, 0, 1) if self.contents.many else values[0]
            else:
                full = np.full((*values.shape[:2], len(self.contents.names)), np.nan)
                full[..., self.contents.slots[stage]] = values
                block = np.moveaxis(full, 0, 1) if self.contents.many else full[0]
            self.writer.write(f"metrics/{name}", where, block)

    def _recorded(self, metrics: Mapping[str, np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
        """The metrics, with the step (ms) for the parts that it was cut into, if it is fixed."""
        for name, values in metrics.items():
            if name != "parts":
                yield name, values
            elif self.contents.step is not None:
                yield "step", self.contents.step * MS / values

    def evaluation(self, number: int, loss: Any, error: Any, settled: Any) -> None:
        """The test set after `plan.evaluations[number]` presentations."""
        for name, values in (("loss", loss), ("error", error), ("settled", settled)):
            self.writer.write(f"evaluation/{name}", number, self._own(np.asarray(values, float)))

    def signals(self, presentation: int, angles: Any, norms: Any) -> None:
        """How the change of a presentation compares with backprop's."""
        row = self.contents.plan.recorded.index(presentation)
        self.writer.write("signals/angle", row, self._own(np.asarray(angles, float)))
        self.writer.write("signals/norm", row, self._own(np.asarray(norms, float)))

    def shown(self, presentation: int, x: np.ndarray, y: np.ndarray, ids: np.ndarray) -> None:
        """What a recorded presentation shows: (seed, samples, …) of those seen in detail."""
        row = self.contents.plan.recorded.index(presentation)
        self.writer.write("traces/input", row, self._own(x))
        self.writer.write("traces/label", row, self._own(y))
        self.writer.write("traces/index", row, self._own(ids).astype(np.int32))

    def details(self, stage: int, presentation: int, seen: Examined) -> None:
        """A presentation in detail."""
        contents, samples = self.contents, self.contents.samples
        row = contents.plan.recorded.index(presentation)
        slots, times = contents.slots[stage], contents.times[stage]
        if contents.timed:
            phase_at = np.full(contents.moments, -1, np.int8)
            here = np.concatenate(
                [np.full(len(t), k, np.int8) for t, k in zip(times, slots, strict=True)]
            )
            phase_at[: len(here)] = here
            self.writer.write("traces/phase_at", row, phase_at)
        if contents.stops:
            stopped = np.asarray(seen.stopped, float)[..., samples] * MS
            full = np.full((stopped.shape[0], len(contents.names), stopped.shape[2]), np.nan)
            full[:, slots] = stopped
            self.writer.write("traces/stopped", row, self._own(full))
        if seen.courses is not None:
            self._course(row, seen.courses)
        for place, spikes in (seen.spikes or {}).items():
            if place in contents.populations:
                nodes = np.asarray(spikes.nodes)
                kept = contents.of_recorded(place, nodes)
                times_ms = (row * contents.duration + np.asarray(spikes.times)[kept]) * MS
                self.writer.append_spikes(place, times_ms, nodes[kept])
        for place, name in contents.recorded:
            parts = [np.asarray(phase[place][name]) for phase in seen.traces]
            rows = np.concatenate(parts, axis=2)
            at = np.arange(rows.shape[2]) if contents.timed else slots
            self._write_detail(f"traces/{place}/{name}", row, place, rows, at, contents.moments)
            if seen.estimates is not None:
                ends = np.stack([np.asarray(e[place][name]) for e in seen.estimates], axis=2)
                count = len(contents.names)
                self._write_detail(f"estimates/{place}/{name}", row, place, ends, slots, count)

    def _write_detail(
        self, path: str, row: int, place: str, values: np.ndarray, at: Any, count: int
    ) -> None:
        """(seed, samples, moments, units) at the places `at` of `count`: what is kept of it."""
        samples, units = self.contents.samples, self.contents.units[place]
        values = values[:, samples][..., units]
        full = np.full((*values.shape[:2], count, len(units)), np.nan, values.dtype)
        full[:, :, at] = values
        self.writer.write(path, row, self._own(full))


def host(metrics: Metrics, start: int, stop: int) -> dict[str, np.ndarray]:
    """The metrics of the presentations `start` … `stop`−1 of an epoch, on the host."""
    arrays = metrics._asdict()
    arrays |= arrays.pop("signals")
    return {name: np.asarray(m)[:, start:stop] for name, m in arrays.items()}
