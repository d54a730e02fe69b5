"""What a run writes down: the layout of a trace, and the passage from device arrays to its file."""

import itertools
import json
import math
import platform
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from neurosim.engine import Engine, Examined, Metrics
from neurosim.loading import Protocol
from neurosim.network import Weights
from neurosim.spec import PhaseSpec, ProtocolSpec
from neurosim.store import Axis, TraceWriter, Variable
from neurosim.units import steps

MS = 1e3


class Plan:
    """The presentations of a run: stages, epochs in them, and which are recorded in detail.

    stages: (first presentation, presentations, batches an epoch) of each. recorded: the numbers of
    the presentations seen in detail, ascending.
    """

    def __init__(self, spec: ProtocolSpec, batches: int) -> None:
        self.batches = batches
        self.stages: list[tuple[int, int]] = []
        total = 0
        for stage in spec.stages:
            count = stage.presentations or (stage.epochs or 0) * batches
            self.stages.append((total, count))
            total += count
        self.total = total
        wanted = spec.record.presentations
        if isinstance(wanted, int):
            wanted = np.linspace(0, total - 1, min(wanted, total)).round().astype(int).tolist()
        self.recorded = sorted({p for p in wanted if p < total})

    @property
    def evaluations(self) -> list[int]:
        """After how many presentations the test set is shown: at first and at every epoch's end."""
        points = [0]
        for first, count in self.stages:
            points += [first + min(n, count) for n in range(self.batches, count, self.batches)]
            points.append(first + count)
        return points


def phase_times(spec: ProtocolSpec, phases: list[PhaseSpec]) -> tuple[tuple[float, ...], ...]:
    """When each phase is looked at (s from its start): the first one also at its very start."""
    if spec.level == "equilibrium":
        return tuple((0.0,) for _ in phases)
    every = spec.record.every or default_interval(spec)
    times = []
    for number, phase in enumerate(phases):
        assert phase.duration is not None, "checked at load"
        count = steps(phase.duration, every)
        first = 0 if number == 0 else 1
        times.append(tuple(min(k * every, phase.duration) for k in range(first, count + 1)))
    return tuple(times)


def default_interval(spec: ProtocolSpec) -> float:
    """The recording interval of a protocol that names none: a step that fits all its phases.

    The largest that divides every phase and still gives the longest presentation 100 points, in
    whole time steps (whole microseconds where steps adapt).
    """
    assert spec.rate is not None, "checked at load"
    unit = 1e-6 if spec.rate.adaptive else spec.rate.dt
    durations = [[round((p.duration or 0) / unit) for p in stage.phases] for stage in spec.stages]
    common = math.gcd(*itertools.chain(*durations))
    wanted = max(map(sum, durations)) / 100
    fitting = [d for d in _divisors(common) if d <= wanted]
    return max(fitting, default=1) * unit


def _divisors(n: int) -> list[int]:
    small = [d for d in range(1, math.isqrt(n) + 1) if n % d == 0]
    return [*small, *(n // d for d in small)]


def provenance(protocol: Protocol, seeds: list[int]) -> tuple[dict[str, Any], dict[str, str]]:
    """Attributes and documents that say where the numbers come from."""
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
        "seeds": ",".join(map(str, seeds)),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "versions": json.dumps(
            {"python": platform.python_version()}
            | {name: version(name) for name in ("jax", "diffrax", "numpy", "h5py")}
        ),
    }
    texts = {
        "protocol_json": spec.model_dump_json(exclude_none=True),
        "overrides": json.dumps({key: str(value) for key, value in protocol.overrides.items()}),
    }
    return attributes, texts


def _commit() -> str:
    """The commit of the source tree neurosim is run from; empty for an installed one."""
    try:
        return subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


class Recorder:
    """Writes a run to its trace, chunk by chunk."""

    def __init__(
        self,
        path: Path,
        protocol: Protocol,
        engines: list[Engine],
        plan: Plan,
        seeds: list[int],
        weights: Weights,
        overwrite: bool,
    ) -> None:
        self.spec = protocol.spec
        self.plan = plan
        self.engine = engines[0]
        self.many = len(seeds) > 1
        self.names, self.slots = _phase_names(self.spec)
        self.times = [phase_times(self.spec, stage.phases) for stage in self.spec.stages]
        record = self.spec.record
        self.layers = record.layers or list(range(1, self.spec.model.depth + 1))
        self.variables = list(record.variables or self.engine.dynamics.observed)
        self.heights = self.engine.observed_layers(weights)
        attributes, texts = provenance(protocol, seeds)
        self.writer = TraceWriter(
            path,
            self._axes(seeds, weights),
            [*self._metric_variables(), *self._trace_variables(), *self._weight_variables(weights)],
            attributes,
            texts,
            overwrite,
        )
        self._write_phase_table()

    # --- layout ------------------------------------------------------------------------------

    def _dims(self, *dims: str) -> tuple[str, ...]:
        """With the seed in second place, where there is more than one."""
        return (dims[0], "seed", *dims[1:]) if self.many else dims

    def _has(self, variable: str, layer: int) -> bool:
        """Whether this variable exists in this layer."""
        return layer <= self.heights[variable]

    def _axes(self, seeds, weights: Weights) -> dict[str, list[Axis]]:
        spec, plan = self.spec, self.plan
        phase = Axis(
            "phase", np.arange(len(self.names), dtype=np.int8), None, "phase", tuple(self.names)
        )
        depth = np.arange(1, spec.model.depth + 1)
        axes = {
            "": [Axis("seed", np.array(seeds), None, "random seed")] if self.many else [],
            "metrics": [
                Axis("presentation", np.arange(plan.total), None, "presentation, from 0"),
                phase,
            ],
            "evaluation": [
                Axis("presentation", np.array(plan.evaluations), None, "presentations done before")
            ],
            "phases": [phase],
            "weights": [
                Axis("moment", np.array([0, 1]), None, "", ("initial", "final")),
                *[
                    Axis(f"unit{i}", np.arange(n), None, f"unit of layer {i}")
                    for i, n in enumerate(spec.model.layers)
                ],
            ],
        }
        if not plan.recorded:
            return axes
        recorded = Axis("presentation", np.array(plan.recorded), None, "presentation, from 0")
        axes["signals"] = [recorded, Axis("layer", depth, None, "layer, 1 first")]
        axes["traces"] = [
            recorded,
            Axis("sample", np.arange(spec.record.samples), None, "sample of the batch"),
            phase,
        ]
        if spec.level == "rate":
            longest = max(self.times, key=lambda t: sum(map(len, t)))
            axes["traces"].append(
                Axis("time", _joined(self.spec, longest) * MS, "ms", "time in the presentation")
            )
        for i in self.layers:
            axes[f"traces/layer{i}"] = [
                Axis("unit", np.arange(spec.model.layers[i]), None, f"unit of layer {i}")
            ]
        return axes

    def _metric_variables(self) -> list[Variable]:
        dims, by_phase = self._dims("presentation"), self._dims("presentation", "phase")
        described = {
            "residual": "largest residual of a sample, as a fraction of the expected signal",
            "settled": "fraction of samples that settled",
            "effort": "steps or sweeps, mean over samples",
            "rescued": "fraction of samples the root solver had to finish",
        }
        return [
            Variable("metrics/loss", dims, "1", "training loss before teaching, batch mean"),
            Variable("metrics/error", dims, "1", "fraction of the batch classified wrongly"),
            *[Variable(f"metrics/{n}", by_phase, "1", text) for n, text in described.items()],
            Variable("evaluation/loss", dims, "1", "mean loss on the test set, free phase"),
            Variable("evaluation/error", dims, "1", "fraction of the test set wrong"),
            Variable("evaluation/settled", dims, "1", "fraction of test samples that settled"),
            Variable("phases/duration", ("phase",), "ms", "longest duration"),
            Variable("phases/teaching", ("phase",), "1", "whether the output is taught", "int8"),
            Variable("phases/forward", ("phase",), "1", "forward plasticity open", "int8"),
            Variable("phases/feedback", ("phase",), "1", "feedback plasticity open", "int8"),
        ]

    def _trace_variables(self) -> list[Variable]:
        if not self.plan.recorded:
            return []
        by_layer = self._dims("presentation", "layer")
        moment = "time" if self.spec.level == "rate" else "phase"
        dims = self._dims("presentation", "sample", moment, "unit")
        dtype = self.spec.precision
        variables = [
            Variable("signals/angle", by_layer, "degree", "between ΔW_i and backprop's"),
            Variable("signals/norm", by_layer, "1", "Frobenius norm of ΔW_i before its rate"),
        ]
        if self.spec.level == "rate":
            variables.append(
                Variable(
                    "traces/stopped",
                    self._dims("presentation", "phase", "sample"),
                    "ms",
                    "when the phase had settled, from its start",
                )
            )
            variables.append(
                Variable(
                    "traces/phase_at",
                    ("presentation", "time"),
                    "1",
                    "phase going on",
                    "int8",
                    {
                        "flag_values": np.arange(len(self.names), dtype=np.int8),
                        "flag_meanings": " ".join(self.names),
                    },
                )
            )
        for i in self.layers:
            for name in self.variables:
                if self._has(name, i):
                    text = f"{name.replace('_', ' ')} of layer {i}"
                    variables.append(Variable(f"traces/layer{i}/{name}", dims, "1", text, dtype))
        return variables

    def _weight_variables(self, weights: Weights) -> list[Variable]:
        dtype = self.spec.precision
        seed = ("seed",) if self.many else ()
        variables = []
        for i in range(1, len(weights.W) + 1):
            dims = ("moment", *seed, f"unit{i}", f"unit{i - 1}")
            variables.append(Variable(f"weights/W{i}", dims, "1", "forward weights", dtype))
        for i in range(1, len(weights.b) + 1):
            variables.append(
                Variable(f"weights/b{i}", ("moment", *seed, f"unit{i}"), "1", "biases", dtype)
            )
        for i in range(1, len(weights.Q) + 1):
            dims = ("moment", *seed, f"unit{i}", f"unit{i + 1}")
            variables.append(Variable(f"weights/Q{i}", dims, "1", "feedback weights", dtype))
        return variables

    def _write_phase_table(self) -> None:
        for stage, slots in zip(self.spec.stages, self.slots, strict=True):
            for phase, k in zip(stage.phases, slots, strict=True):
                self.writer.write("phases/duration", k, np.float32((phase.duration or 0) * MS))
                self.writer.write("phases/teaching", k, np.int8(phase.teaching != "none"))
                for kind in ("forward", "feedback"):
                    self.writer.write(f"phases/{kind}", k, np.int8(kind in phase.plastic))

    # --- writing -----------------------------------------------------------------------------

    def _own(self, array: Any) -> np.ndarray:
        """Without the seed axis (the first) where there is one seed."""
        array = np.asarray(array)
        return array if self.many else array[0]

    def weights(self, moment: int, weights: Weights) -> None:
        """The weights at the start (0) or the end (1) of the run."""
        for letter, arrays in (("W", weights.W), ("b", weights.b), ("Q", weights.Q)):
            for i, array in enumerate(arrays, start=1):
                self.writer.write(f"weights/{letter}{i}", moment, self._own(array))

    def metrics(self, stage: int, first: int, metrics: Mapping[str, np.ndarray]) -> None:
        """Metrics (seed, presentations, …) of consecutive presentations from `first` on."""
        count = metrics["loss"].shape[1]
        where = slice(first, first + count)
        for name, values in metrics.items():
            values = np.asarray(values, float)
            if values.ndim == 2:
                block = np.moveaxis(values, 0, 1) if self.many else values[0]
            else:
                full = np.full((*values.shape[:2], len(self.names)), np.nan)
                full[..., self.slots[stage]] = values
                block = np.moveaxis(full, 0, 1) if self.many else full[0]
            self.writer.write(f"metrics/{name}", where, block)

    def evaluation(self, number: int, loss, error, settled) -> None:
        """The test set after `plan.evaluations[number]` presentations."""
        for name, values in (("loss", loss), ("error", error), ("settled", settled)):
            self.writer.write(f"evaluation/{name}", number, self._own(np.asarray(values, float)))

    def signals(self, presentation: int, angles, norms) -> None:
        """How the change of a presentation compares with backprop's."""
        row = self.plan.recorded.index(presentation)
        self.writer.write("signals/angle", row, self._own(np.asarray(angles, float)))
        self.writer.write("signals/norm", row, self._own(np.asarray(norms, float)))

    def details(self, stage: int, presentation: int, seen: Examined) -> None:
        """A presentation in detail."""
        row = self.plan.recorded.index(presentation)
        slots = self.slots[stage]
        rate = self.spec.level == "rate"
        if rate:
            stopped = np.asarray(seen.stopped, float) * MS
            full = np.full((stopped.shape[0], len(self.names), stopped.shape[2]), np.nan)
            full[:, slots] = stopped
            self.writer.write("traces/stopped", row, self._own(full))
            length = sum(map(len, max(self.times, key=lambda t: sum(map(len, t)))))
            phase_at = np.full(length, -1, np.int8)
            phase_at[: sum(map(len, self.times[stage]))] = np.concatenate(
                [np.full(len(t), k, np.int8) for t, k in zip(self.times[stage], slots, strict=True)]
            )
            self.writer.write("traces/phase_at", row, phase_at)
        for i in self.layers:
            for name in self.variables:
                if not self._has(name, i):
                    continue
                parts = [np.asarray(phase[name][i - 1]) for phase in seen.traces]
                if rate:
                    rows = np.concatenate(parts, axis=2)
                    values = np.full((*rows.shape[:2], length, rows.shape[3]), np.nan, rows.dtype)
                    values[:, :, : rows.shape[2]] = rows
                else:
                    shape = parts[0].shape
                    values = np.full(
                        (*shape[:2], len(self.names), shape[3]), np.nan, parts[0].dtype
                    )
                    for part, k in zip(parts, slots, strict=True):
                        values[:, :, k] = part[:, :, 0]
                self.writer.write(f"traces/layer{i}/{name}", row, self._own(values))


def _phase_names(spec: ProtocolSpec) -> tuple[list[str], list[list[int]]]:
    """All phase names of a protocol, and for every stage where its phases stand among them.

    Phases of several stages are told apart by their stage: `sleep.free`, `training.free`.
    """
    names: list[str] = []
    slots: list[list[int]] = []
    single = len(spec.stages) == 1
    for stage in spec.stages:
        slots.append(list(range(len(names), len(names) + len(stage.phases))))
        names += [p.name if single else f"{stage.name}.{p.name}" for p in stage.phases]
    return names, slots


def _joined(spec: ProtocolSpec, times: tuple[tuple[float, ...], ...]) -> np.ndarray:
    """Times of the phases of a stage, one after the other (s from the start)."""
    joined: list[float] = []
    offset = 0.0
    for phase in times:
        joined += [offset + t for t in phase]
        offset += phase[-1]
    return np.array(joined)


def host(metrics: Metrics, start: int, stop: int) -> dict[str, np.ndarray]:
    """The metrics of the presentations `start` … `stop`−1 of an epoch, on the host."""
    return {name: np.asarray(m)[:, start:stop] for name, m in metrics._asdict().items()}
