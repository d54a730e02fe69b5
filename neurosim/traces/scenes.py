"""What a trace has to show: its curves over presentations, and one presentation as a scene."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any, NamedTuple

import numpy as np

from neurosim.bounds import inside
from neurosim.errors import InputError
from neurosim.places import is_layer, layer_of
from neurosim.process import caller

TEACHERS = {"soma": "basal_rate", "burst_signal": "event_rate"}
"""What the teaching moves, and what it is compared with where there is no free phase."""

SENT = {"soma": "up", "event_rate": "up", "burst_signal": "down", "rate": "graded"}
"""What neurons send or answer, where a trace does not mark it: what spikes (or events) say goes
`up`, what bursts say `down`; what no spikes carry is `graded`."""

Layer = dict[str, np.ndarray]
"""Variable → (…, moments, units)."""


class Phase(NamedTuple):
    """A phase of a presentation and the times (ms) between which it goes on."""

    name: str
    taught: bool
    begin: float
    end: float


@dataclass(frozen=True)
class Scene:
    """One sample of one recorded presentation.

    settled: when the sample had in every phase (ms); up to the end of the phase the trace holds
    its state. place: in which phase every moment is. time: of every moment (ms); None at the
    equilibrium level, where the moments are the phases. layers: those recorded, of `depth`. units:
    of the variables. sent: those that the neurons of a layer send. estimates: of spikes, (phases,
    units): what plasticity read of every phase.
    """

    title: str
    phases: list[Phase]
    settled: np.ndarray
    place: np.ndarray
    time: np.ndarray | None
    layers: dict[int, Layer]
    units: dict[str, str]
    depth: int
    sent: dict[int, tuple[str, ...]]
    estimates: dict[int, Layer] | None = None


class Lesson(NamedTuple):
    """What the teaching moves: the variable, what minus what, in which phase, by how much."""

    variable: str
    between: str
    phase: int
    difference: np.ndarray


def lesson(layer: Layer, place: np.ndarray, phases: Sequence[Phase]) -> Lesson | None:
    """The teaching signal in a layer.

    In the first taught phase after one without: the difference since the end of that one. Where
    there is none: in the last phase, from what the neuron itself predicts.
    """
    name = next((name for name in TEACHERS if name in layer), None)
    if name is None:
        return None
    for k in range(1, len(phases)):
        if phases[k].taught and not phases[k - 1].taught:
            free = layer[name][..., place == k - 1, :][..., -1:, :]
            words = f"{phases[k].name} − {phases[k - 1].name}"
            return Lesson(name, words, k, layer[name][..., place == k, :] - free)
    if TEACHERS[name] not in layer:
        return None
    last, difference = len(phases) - 1, layer[name] - layer[TEACHERS[name]]
    words = f"{name} − {TEACHERS[name]}".replace("_", " ")
    return Lesson(name, words, last, difference[..., place == last, :])


class Trace:
    """What the pictures ask of an open trace (an xarray DataTree, at `path`).

    lost: of every seed the first presentation without a finite loss. What a network says after it
    has diverged is no result: a state of NaN may still be read as some class or as zero.
    done: which phases every presentation went through. classes: whether the task has any, so that
    errors mean something. tested_on: which samples, "test" or "validation".
    """

    def __init__(self, path: str | PathLike[str], tree: Any) -> None:
        self.path, self.tree = path, tree
        self.summary = json.loads(tree.attrs.get("summary", "{}"))
        self.protocol = json.loads(str(tree["provenance/protocol_json"].values))
        self.model = self.protocol["model"]
        self.seeds = [int(s) for s in str(tree.attrs["seeds"]).split(",")]
        self.flags = tree["phases/phase"].attrs["flag_meanings"].split()
        self.tested_on = str(tree["evaluation/loss"].attrs["tested_on"])
        self.lost = np.full(len(self.seeds), np.inf)
        self.lost = np.logical_and.accumulate(np.isfinite(self.series("metrics/loss")[1])).sum(0)
        self.done = np.isfinite(self.series("metrics/effort")[1]).any(1)
        self.classes = self.model["loss"] == "cross-entropy"
        if self.summary:
            self.classes = f"{self.tested_on}_error" in self.summary["metrics"]

    def series(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Presentations, and a variable over (presentation, seed, …): NaN where there is none."""
        variable = self.tree[name]
        values = variable.values if "seed" in variable.dims else variable.values[:, None]
        presentations, values = variable["presentation"].values, finite(values)
        values[np.greater.outer(presentations, self.lost)] = np.nan
        return presentations, values

    def stages(self) -> dict[str, int]:
        """The first presentation of every stage but the first one."""
        firsts = [int(np.argmax(done)) for done in self.done.T]
        names = [flag.partition(".")[0] for flag in self.flags]
        return {name: first for name, first in zip(names, firsts, strict=True) if first}

    def recorded(self) -> list[int]:
        """The presentations seen in detail."""
        planned = self.tree["traces/presentation"].values if "traces" in self.tree else []
        return [int(p) for p in planned if self.done[p].any()]

    def sent(self, layer: int) -> dict[str, str]:
        """What the neurons of a layer send or answer, of what was recorded, and how (`SENT`)."""
        group = self.tree["traces"].children.get(f"layer{layer}")
        held = {} if group is None else {str(n): v.attrs for n, v in group.data_vars.items()}
        marked = {name: str(about["sent"]) for name, about in held.items() if "sent" in about}
        if not marked:
            return {name: way for name, way in SENT.items() if name in held}
        ways = list(SENT.values())
        return {name: marked[name] for name in sorted(marked, key=lambda n: ways.index(marked[n]))}

    @property
    def samples(self) -> list[int]:
        """The samples of a batch that are seen in detail, by their place in it."""
        return self.tree["traces/sample"].values.tolist()

    def first(self, sample: int | None) -> int | None:
        """A sample, or the first one seen in detail where none is named."""
        return self.samples[0] if sample is None and self.recorded() else sample

    def scene(
        self, presentation: int | None = None, sample: int | None = None, seed: int | None = None
    ) -> Scene:
        """A recorded presentation: by default the last, the sample taught most, a seed that lives.

        Raises:
            InputError: what is asked for was not recorded.
        """
        known = self.recorded()
        if not known:
            raise InputError(
                f"{self.path}: no presentation was recorded in detail, or the run did not get to "
                f"it; ask for some with {caller.override('record.presentations')}=5"
            )
        number = max(known) if presentation is None else presentation
        seed = self.seeds[int(np.argmax(self.lost))] if seed is None else seed
        self.check("presentation", number, known)
        self.check("seed", seed, self.seeds)
        traces, codes = self.tree["traces"], np.flatnonzero(self.done[number])
        where = {"presentation": traces["presentation"].values.tolist().index(number)}
        if len(self.seeds) > 1:
            where["seed"] = self.seeds.index(seed)
        moments, time = codes, None
        if "time" in traces.sizes:
            codes = traces["phase_at"].isel(presentation=where["presentation"]).values
            moments = np.flatnonzero(codes >= 0)
            codes, time = codes[moments], traces["time"].values[moments].astype(float)
        used, place = np.unique(codes, return_inverse=True)
        at = place * 0.0 if time is None else time
        ends = [float(at[place == k][-1]) for k in range(len(used))]
        names = [self.flags[code].rpartition(".")[2] for code in used]
        taught = self.tree["phases/teaching"].values[used].astype(bool)
        phases = list(map(Phase, names, taught, [0.0, *ends[:-1]], ends))
        places = filter(is_layer, traces.children)
        groups = sorted((layer_of(place), traces[place]) for place in places)
        layers = {
            i: {str(n): finite(v.isel(where).values[:, moments]) for n, v in g.data_vars.items()}
            for i, g in groups
        }
        if sample is None:
            signal = lesson(layers[max(layers)], place, phases)
            sizes = 0 if signal is None else np.nan_to_num(rms(signal.difference[:, -1]))
            sample = self.samples[int(np.argmax(sizes))]
        self.check("sample", sample, self.samples)
        k = self.samples.index(sample)
        settled = np.array(ends)
        if "stopped" in traces:
            stopped = traces["stopped"].isel(where).values[used, k]
            settled = np.fmin(ends, [p.begin for p in phases] + stopped)
        title = f"presentation {number}, sample {sample}"
        title += f", seed {seed}" if len(self.seeds) > 1 else ""
        chosen = {i: {n: v[k] for n, v in layer.items()} for i, layer in layers.items()}
        units = {str(n): str(v.attrs["units"]) for _, g in groups for n, v in g.data_vars.items()}
        units = {name: "a.u." if unit == "1" else unit for name, unit in units.items()}
        depth = len(self.model["layers"]) - 1
        estimates = None
        if "estimates" in self.tree.children:
            done = np.flatnonzero(self.done[number])
            read = ((i, self.tree[f"estimates/layer{i}"]) for i in chosen)
            estimates = {
                i: {str(n): finite(v.isel(where).values[k][done]) for n, v in g.data_vars.items()}
                for i, g in read
            }
        sent = {i: tuple(self.sent(i)) for i in chosen}
        return Scene(title, phases, settled, place, time, chosen, units, depth, sent, estimates)

    def check(self, kind: str, wanted: int, known: Iterable[int]) -> None:
        """Raise an `InputError` where `wanted` is not `known`."""
        if wanted not in known:
            there = ", ".join(map(str, known))
            raise InputError(f"{self.path}: {kind} {wanted} was not recorded; there are: {there}")


def finite(values: np.ndarray) -> np.ndarray:
    """With NaN for what has left all bounds: sums of squares of it need not exist."""
    return np.where(inside(values), values, np.nan)


def rms(values: np.ndarray) -> np.ndarray:
    """Root mean square over the last axis."""
    return np.sqrt(np.mean(values**2, axis=-1))
