"""What the trace of a run holds: which presentations, axes and variables, before any is written."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from neurosim.building import ingredients
from neurosim.credit import named
from neurosim.levels.spiking.neurons import PYRAMIDAL
from neurosim.models import circuitry
from neurosim.places import layer_of, spelled
from neurosim.runs import calibration
from neurosim.runs.arrays import ends, weights
from neurosim.runs.instants import phase_times
from neurosim.runs.meanings import MEANINGS, described
from neurosim.specs import ModelSpec, PhaseSpec, ProtocolSpec
from neurosim.tasks.data import tested_on
from neurosim.theory.measures import measured
from neurosim.traces.layout import Axis, Variable, size
from neurosim.traces.weight_files import ENDS

MS = 1e3


SAMPLES = 4
"""Of a batch, seen in detail where a protocol does not say how many."""


class Plan:
    """The presentations of a run: stages, epochs in them, and which are recorded in detail.

    stages: (first presentation, presentations) of each. asked: how many presentations the stages
    ask for; of them the spiking level may do fewer, in `total`. recorded: the numbers of the
    presentations seen in detail, ascending.
    """

    def __init__(self, spec: ProtocolSpec, batches: int) -> None:
        self.batches = batches
        self.stages: list[tuple[int, int]] = []
        total = self.asked = 0
        for stage in spec.stages:
            count = stage.presentations or (stage.epochs or 0) * batches
            self.asked += count
            if spec.level == "spiking" and spec.spiking.presentations is not None:
                count = min(count, spec.spiking.presentations)
            self.stages.append((total, count))
            total += count
        self.total = total
        wanted = spec.record.presentations
        if isinstance(wanted, int):
            wanted = np.linspace(0, total - 1, min(wanted, total)).round().astype(int).tolist()
        self.recorded = sorted({p for p in wanted if p < total})

    @cached_property
    def evaluations(self) -> list[int]:
        """After how many presentations the network is tested: at first and at every epoch's end."""
        points = [0]
        for first, count in self.stages:
            points += [first + min(n, count) for n in range(self.batches, count, self.batches)]
            points.append(first + count)
        return points


class Contents:
    """Axes and variables of a trace.

    observed: given, of every place its variables, and of how many units. tests: how many samples
    the test set shows. samples, units: of the batch and of every place, the numbers of those seen
    in detail. names: of all phases of all stages. slots: for every stage, where its phases stand
    among them. times: for every stage, when each phase is looked at (s from its start). recorded:
    (place, variable) of everything seen in detail. timed: whether it is seen over time, at
    `moments` of it; if not, once a phase. duration: of the longest presentation (s). populations:
    whose spikes are kept, with their attributes. stops: whether phases may end early. weights:
    every array of them. courses: whether the times of a presentation have them, too.
    plastic: what can learn. neurons: behind every unit, at the spiking level.
    diagnosed: the measures of the teaching signals that every presentation has for each layer, with
    what they are. step: of fixed steps through which neurons move (s), else None.
    """

    def __init__(
        self,
        spec: ProtocolSpec,
        plan: Plan,
        observed: Mapping[str, Mapping[str, int]],
        seeds: Sequence[int],
        tests: int,
    ) -> None:
        self.spec, self.plan = spec, plan
        few = spec.spiking.test if spec.level == "spiking" else None
        self.tests = tests if few is None else min(few, tests)
        self.many = len(seeds) > 1
        self.timed, self.stops = spec.timed, spec.level == "rate"
        moving = spec.rate if spec.level == "rate" else None
        self.step = None if moving is None or moving.adaptive else moving.dt
        self.names, self.slots = _phase_names(spec)
        self.times = [phase_times(spec, stage.phases) for stage in spec.stages]
        self.longest = max(self.times, key=lambda times: sum(map(len, times)))
        self.duration = sum(phase[-1] for phase in self.longest)
        self.moments = sum(map(len, self.longest)) if self.timed else len(self.names)
        layers = spec.record.layers or range(1, spec.model.depth + 1)
        sizes = {place: next(iter(variables.values())) for place, variables in observed.items()}
        units = {
            place: _chosen(spec.record.units, size)
            for place, size in sizes.items()
            if layer_of(place) in layers
        }
        self.units = {place: chosen for place, chosen in units.items() if len(chosen)}
        self.sizes = sizes
        self.recorded = [
            (place, name)
            for place in self.units
            for name in spec.record.variables or observed[place]
            if name in observed[place]
        ]
        self.samples = _chosen(spec.record.samples or SAMPLES, spec.batch)
        self.populations = self._populations() if spec.level == "spiking" else {}
        self.neurons = ingredients.neurons(spec) if spec.level == "spiking" else None
        self.credit = named(spec.model.credit)
        self.weights = weights(spec.model)
        flows = spec.plasticity == "online" and spec.level != "spiking"
        self.courses = bool(spec.record.weights and self.plan.recorded and flows)
        self.plastic = tuple(circuitry.learning(spec.model))
        targets = self.credit.form is not None or not self.credit.own_channel
        self.diagnosed = measured(targets) if spec.record.decomposition else {}
        self.axes = self._axes(seeds)
        self.variables = [
            *self._metric_variables(),
            *self._trace_variables(),
            *self._weight_variables(),
        ]

    def opened(self, phase: PhaseSpec) -> tuple[str, ...]:
        """What learns in a phase."""
        return circuitry.opened(self.spec.model, phase.plastic)

    def _populations(self) -> dict[str, dict[str, Any]]:
        """Whose spikes are kept, by place, and the numbers behind their node ids."""
        if not self.plan.recorded:
            return {}
        return {
            place: {
                "long_name": "recorded presentations one after the other; neuron k of unit u of "
                "sample s is node (s units + u) neurons + k",
                "neurons": neurons,
                "units": self.sizes[place],
                "copies": self.spec.batch,
            }
            for place, neurons in spiking(self.spec.model).items()
            if place in self.units
        }

    def of_recorded(self, place: str, nodes: np.ndarray) -> np.ndarray:
        """Which spikes of a place are those of samples and units seen in detail."""
        ids, size = nodes // self.populations[place]["neurons"], self.sizes[place]
        return np.isin(ids // size, self.samples) & np.isin(ids % size, self.units[place])

    @property
    def outputs(self) -> int:
        """How many output units have a label."""
        return self.spec.model.layers[-1] - self.spec.model.auxiliary

    @property
    def calibrated(self) -> bool:
        """Whether the neurons have curves by which they are calibrated."""
        ensembles = circuitry.circuit(self.spec.model).ensembles
        kinds = ("lif", PYRAMIDAL)
        return self.neurons is not None and self.neurons.kind in kinds and bool(ensembles)

    @property
    def bytes(self) -> int:
        """How large the arrays are, with spikes as many as at the base rate."""
        return size(self.axes, self.variables) + self._spike_bytes()

    def _spike_bytes(self) -> int:
        if not self.populations:
            return 0
        neurons, model = self.spec.model.spiking, self.spec.model
        rate = neurons.base_rate
        if model.bursting:
            rate *= 1 + neurons.base_probability
        cells = sum(len(self.units[p]) * of["neurons"] for p, of in self.populations.items())
        seconds = self.duration * len(self.samples) * len(self.plan.recorded)
        return round(16 * rate * cells * seconds)

    def _dims(self, *dims: str) -> tuple[str, ...]:
        """With the seed in second place, where there is more than one."""
        return (dims[0], "seed", *dims[1:]) if self.many else dims

    def _axes(self, seeds: Sequence[int]) -> dict[str, list[Axis]]:
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
                Axis("moment", np.array(ENDS)),
                *[
                    Axis(name, np.arange(n), None, text)
                    for name, (n, text) in ends(spec.model).items()
                ],
            ],
        }
        if self.calibrated:
            assert self.neurons is not None
            axes["calibration"] = calibration.axes(self.neurons)
        if self.diagnosed:
            axes["metrics"].append(Axis("layer", depth, None, "layer, 1 first"))
        if not plan.recorded:
            return axes
        recorded = Axis("presentation", np.array(plan.recorded), None, "presentation, from 0")
        if spec.record.weights:
            axes["snapshots"] = [recorded, *axes["weights"][1:]]
        if self.courses:
            axes["courses"] = [*axes["snapshots"], self._time()]
        axes["signals"] = [recorded, Axis("layer", depth, None, "layer, 1 first")]
        axes["traces"] = [
            recorded,
            Axis("sample", self.samples, None, "sample of the batch"),
            phase,
            Axis("feature", np.arange(spec.model.layers[0]), None, "unit of the input"),
            Axis("output", np.arange(self.outputs), None, "output unit that has a label"),
        ]
        if self.neurons is not None:
            axes["estimates"] = axes["traces"][:3]
        if self.timed:
            axes["traces"].append(self._time())
        for place, chosen in self.units.items():
            text = f"unit of {spelled(place)}"
            axes[f"traces/{place}"] = [Axis("unit", chosen, None, text)]
            if self.neurons is not None:
                axes[f"estimates/{place}"] = axes[f"traces/{place}"]
        return axes

    def _time(self) -> Axis:
        return Axis("time", _joined(self.longest) * MS, "ms", "time in the presentation")

    def _metric_variables(self) -> list[Variable]:
        dims, by_phase = self._dims("presentation"), self._dims("presentation", "phase")
        described = {
            "residual": "largest residual of a sample, as a fraction of the expected signal",
            "settled": "fraction of samples that settled, to the tolerance or to rounding",
            "effort": "steps or sweeps, mean over samples",
            "rescued": "fraction of samples the root solver had to finish",
        }
        tested = tested_on(self.spec.task)
        drift = Variable("metrics/drift", dims, "1", "largest ‖W W⁻¹ − I‖, where it was looked at")
        return [
            Variable(
                "diverged_at",
                ("seed",) if self.many else (),
                "1",
                "presentation in which the seed diverged; -1 if it did not",
                "int32",
            ),
            *([drift] if self.credit.exact else []),
            *[
                Variable(f"metrics/{name}", self._dims("presentation", "layer"), "1", text)
                for name, text in self.diagnosed.items()
            ],
            Variable("metrics/loss", dims, "1", "training loss before teaching, batch mean"),
            Variable("metrics/error", dims, "1", "fraction of the batch classified wrongly"),
            *[Variable(f"metrics/{n}", by_phase, "1", text) for n, text in described.items()],
            *(
                [Variable("metrics/step", by_phase, "ms", "shortest step that a sample took",
                          attributes={"dt": self.step * MS})]
                if self.step is not None
                else []
            ),
            Variable("evaluation/loss", dims, "1", f"mean loss on the {tested} samples, free phase",
                     attributes={"tested_on": tested}),
            Variable("evaluation/error", dims, "1", f"fraction of the {tested} samples wrong",
                     attributes={"samples": self.tests}),
            Variable("evaluation/settled", dims, "1", f"fraction of {tested} samples that settled"),
            Variable("phases/duration", ("phase",), "ms", "longest duration"),
            Variable("phases/teaching", ("phase",), "1", "whether the output is taught", "int8"),
            *[
                Variable(f"phases/{name}", ("phase",), "1", f"{name} plasticity open", "int8")
                for name in self.plastic
            ],
            *(
                calibration.variables(self.neurons)
                if self.neurons is not None and self.calibrated
                else []
            ),
        ]  # fmt: skip

    def _trace_variables(self) -> list[Variable]:
        if not self.plan.recorded:
            return []
        by_layer = self._dims("presentation", "layer")
        moment = "time" if self.timed else "phase"
        dims = self._dims("presentation", "sample", moment, "unit")
        dtype, meanings = self.spec.precision, described(self.spec.model)
        variables = [
            Variable("signals/angle", by_layer, "degree",
                     "between ΔW_i and backprop's in the feed-forward network; NaN without one"),
            Variable("signals/norm", by_layer, "1",
                     "Frobenius norm of ΔW_i before its rate; online, of what was changed"),
            Variable("traces/input", self._dims("presentation", "sample", "feature"), "1",
                     "what the sample shows", dtype),
            Variable("traces/label", self._dims("presentation", "sample", "output"), "1",
                     "what the sample is taught", dtype),
            Variable("traces/index", self._dims("presentation", "sample"), "1",
                     "place of the sample in the training set", "int32"),
        ]  # fmt: skip
        if self.stops:
            variables.append(
                Variable(
                    "traces/stopped",
                    self._dims("presentation", "phase", "sample"),
                    "ms",
                    "when the phase had settled, from its start",
                )
            )
        if self.timed:
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
        for place, name in self.recorded:
            meaning, about = meanings.get((place, name), (MEANINGS.get(name, name), {}))
            text = f"{spelled(place)}: {meaning}"
            variables.append(Variable(f"traces/{place}/{name}", dims, "1", text, dtype, about))
            if self.neurons is not None:
                ends = self._dims("presentation", "sample", "phase", "unit")
                text += ": what plasticity reads of the window at the end of the phase"
                variables.append(Variable(f"estimates/{place}/{name}", ends, "1", text, dtype))
        return variables

    def _weight_variables(self) -> list[Variable]:
        """Those of the start and the end, and of the recorded presentations where asked for."""
        kept: list[tuple[str, tuple[str, ...]]] = [("weights", ("moment",))]
        if self.spec.record.weights and self.plan.recorded:
            kept.append(("snapshots", ("presentation",)))
        if self.courses:
            kept.append(("courses", ("presentation", "time")))
        return [
            Variable(
                f"{group}/{name}",
                (*self._dims(*when[:1]), *when[1:], *dims),
                "1",
                text,
                self.spec.precision,
            )
            for group, when in kept
            for name, dims, text in self.weights
        ]


def spiking(model: ModelSpec) -> dict[str, int]:
    """Every place with spikes, and how many neurons stand behind each of its units."""
    made = circuitry.circuit(model)
    ensembles = {
        made.place(group): model.spiking.neurons
        for group in made.groups
        if group.population in made.ensembles
    }
    alone = {made.place(g): 1 for g in made.groups if made.cell(g).firing is not None}
    return ensembles | alone


def _chosen(wanted: int | list[int] | None, count: int) -> np.ndarray:
    """The numbers of the first so many of `count`, of those in a list, or of all."""
    if isinstance(wanted, list):
        return np.array(sorted({n for n in wanted if n < count}), int)
    return np.arange(count if wanted is None else min(wanted, count))


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


def _joined(times: tuple[tuple[float, ...], ...]) -> np.ndarray:
    """Times of the phases of a stage, one after the other (s from the start)."""
    joined: list[float] = []
    offset = 0.0
    for phase in times:
        joined += [offset + t for t in phase]
        offset += phase[-1]
    return np.array(joined)
