"""Trials of a trace: what moved in each, over time, and which spikes there were.

A trial of a network is one sample of one recorded presentation, of one seed; a trial of cells is a
sweep. Times are in milliseconds from the start of the trial.
"""

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from os import PathLike
from typing import Any, NamedTuple

import numpy as np

from neurosim.errors import InputError
from neurosim.exports.spikes import populations, spikes
from neurosim.process import caller
from neurosim.traces.reader import studying
from neurosim.traces.scenes import Phase

CALLED = {"copy": "cell"}
"""Kinds of channels and neurons whose names other programs have taken for something else."""


class Trial(NamedTuple):
    """One trial.

    labels: what tells it from others: `presentation`, `seed`, `sample` and the sample's `index`
    in the training set, or `sweep`. moments: at how many it was looked at, `step` apart. duration:
    of the trial (ms). phases: those of a presentation. shown: what a network was shown, `input`
    and `label`, as arrays.
    """

    labels: dict[str, int | str]
    moments: int
    duration: float
    phases: list[Phase]
    shown: dict[str, np.ndarray]

    @property
    def name(self) -> str:
        """`presentation 3, sample 0`."""
        told = {key: value for key, value in self.labels.items() if key != "index"}
        return ", ".join(f"{key} {value}" for key, value in told.items())


class Course(NamedTuple):
    """A quantity over time.

    name: with the place it is of, such as `layer1/soma`. unit: as traces have it, "1" for none.
    kind: what the channels are, such as `unit`. channels: their numbers. values: of every trial,
    shape (moments, channels). brought: whether stimuli bring it.
    """

    name: str
    unit: str
    description: str
    kind: str
    channels: np.ndarray
    values: list[np.ndarray]
    brought: bool = False


class Trains(NamedTuple):
    """Spikes of a population.

    neurons: the labels of every neuron, by kind. times: of every trial and neuron (ms); None of a
    trial whose spikes were not kept, as those of further seeds.
    """

    name: str
    neurons: dict[str, np.ndarray]
    times: list[list[np.ndarray] | None]


@dataclass(frozen=True)
class Trials:
    """What a trace holds over time.

    about: the attributes of its file. protocol: the resolved one. step: between two moments (ms).
    """

    about: dict[str, Any]
    protocol: dict[str, Any]
    step: float
    trials: list[Trial]
    courses: list[Course]
    trains: list[Trains]

    @property
    def title(self) -> str:
        """What it is, in a line."""
        return f"{self.about['protocol']}, {self.about['level']} level"


def read(path: str | PathLike[str]) -> Trials:
    """The trials of a trace, of a network or of cells.

    Raises:
        InputError: it is no trace, or holds nothing over time.
    """
    with studying(path) as tree:
        found = _of_cells(tree) if "recording" in tree.children else _of_network(path, tree)
        step = np.diff(found.axis)
        if not len(step):
            raise InputError(f"{path}: was looked at once only; nothing of it is over time")
        assert np.allclose(step, step[0]), "checked when the protocol was loaded"
        protocol = json.loads(str(tree["provenance/protocol_json"].values))
        about = {str(key): _plain(value) for key, value in tree.attrs.items()}
        # The mean over all moments is as exact as their last one.
        mean = float(found.axis[-1] - found.axis[0]) / len(step)
        parts = found.trials, found.courses, found.trains
        return Trials(about, protocol, float(f"{mean:.12g}"), *parts)


class _Found(NamedTuple):
    axis: np.ndarray
    trials: list[Trial]
    courses: list[Course]
    trains: list[Trains]


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


# ------------------------------------------------------------------------------------ networks


def _of_network(path: str | PathLike[str], tree: Any) -> _Found:
    hint = f"; {caller.override('record.presentations')}=5 records some"
    if "traces" not in tree.children:
        raise InputError(f"{path}: no presentation was recorded in detail{hint}")
    traces = tree["traces"]
    if "time" not in traces.sizes:
        raise InputError(
            f"{path}: holds networks at rest, whose states stand by phase and not over time; "
            "expected a trace of the rate or spiking level. Tables hold them: csv or parquet"
        )
    at, axis = traces["phase_at"].values, traces["time"].values.astype(float)
    rows = [row for row, codes in enumerate(at) if (codes >= 0).any()]
    if not rows:
        raise InputError(f"{path}: the run did not get to a recorded presentation{hint}")
    seeds = [int(seed) for seed in str(tree.attrs["seeds"]).split(",")]
    places = list(itertools.product(rows, range(len(seeds)), range(traces.sizes["sample"])))
    counts = [int((at[row] >= 0).sum()) for row, _, _ in places]
    trials = [
        Trial(
            _labels(traces, seeds, *place),
            count,
            float(axis[count - 1]),
            list(_phases(tree, at[place[0]], axis)),
            {name: _of(traces[name], *place) for name in ("input", "label") if name in traces},
        )
        for place, count in zip(places, counts, strict=True)
    ]
    courses = [
        Course(
            f"{where}/{name}",
            str(variable.attrs["units"]),
            str(variable.attrs.get("long_name", "")),
            "unit",
            variable["unit"].values,
            [_of(held, *p)[:n] for p, n in zip(places, counts, strict=True)],
        )
        for where, group in traces.children.items()
        for name, variable in group.data_vars.items()
        for held in [variable.load()]
    ]
    kept = [None if s else trial.labels for (_, s, _), trial in zip(places, trials, strict=True)]
    return _Found(axis, trials, courses, [_trains(tree, name, kept) for name in populations(tree)])


def _labels(traces: Any, seeds: list[int], row: int, s: int, k: int) -> dict[str, int | str]:
    found: dict[str, int | str] = {"presentation": int(traces["presentation"].values[row])}
    if len(seeds) > 1:
        found["seed"] = seeds[s]
    found["sample"] = int(traces["sample"].values[k])
    if "index" in traces:
        found["index"] = int(_of(traces["index"], row, s, k))
    return found


def _of(variable: Any, row: int, s: int, k: int) -> np.ndarray:
    """A variable over (presentation, seed, sample, …) of one trial."""
    where = {"presentation": row, "seed": s, "sample": k}
    return variable.isel({d: n for d, n in where.items() if d in variable.dims}).values


def _phases(tree: Any, codes: np.ndarray, axis: np.ndarray) -> Iterator[Phase]:
    flags = str(tree["phases/phase"].attrs["flag_meanings"]).split()
    taught, begin = tree["phases/teaching"].values, 0.0
    for code in dict.fromkeys(codes[codes >= 0].tolist()):
        end = float(axis[np.flatnonzero(codes == code)[-1]])
        yield Phase(flags[code], bool(taught[code]), begin, end)
        begin = end


# --------------------------------------------------------------------------------------- cells


def _of_cells(tree: Any) -> _Found:
    sweeps = [str(name) for name in tree["sweep"].values]
    axis = tree["recording/time"].values.astype(float)
    trials = [Trial({"sweep": name}, len(axis), float(axis[-1]), [], {}) for name in sweeps]
    groups = {"": tree["recording"], **tree["recording"].children}
    courses = [
        Course(
            f"{where}/{name}".lstrip("/"),
            str(variable.attrs["units"]),
            str(variable.attrs.get("long_name", "")),
            CALLED.get(str(variable.dims[1]), str(variable.dims[1])),
            variable[variable.dims[1]].values,
            list(np.swapaxes(variable.values, 1, 2)),
            "into" in variable.attrs,
        )
        for where, group in groups.items()
        for name, variable in group.data_vars.items()
    ]
    numbers: list[dict[str, Any] | None] = [{"sweep": k} for k in range(len(sweeps))]
    return _Found(
        axis, trials, courses, [_trains(tree, name, numbers) for name in populations(tree)]
    )


# -------------------------------------------------------------------------------------- spikes


def _trains(tree: Any, name: str, trials: list[dict[str, Any] | None]) -> Trains:
    """The spikes of a population by trial, of which there are the labels, and neuron."""
    found = spikes(tree, name)
    order = np.lexsort((found.time, *reversed(found.neuron.values())))
    labels = np.stack([found.neuron[kind][order] for kind in found.all])
    known = np.stack(list(found.all.values()))
    who = np.searchsorted(_joint(known, known), _joint(labels, known))
    times: list[list[np.ndarray] | None] = []
    for labelled in trials:
        if labelled is None:
            times.append(None)
            continue
        mine = np.ones(len(order), bool)
        for kind, numbers in found.trial.items():
            mine &= numbers[order] == labelled[kind]
        ends = np.searchsorted(who[mine], np.arange(1, known.shape[1]))
        times.append(np.split(found.time[order][mine], ends))
    neurons = {CALLED.get(kind, kind): numbers for kind, numbers in found.all.items()}
    return Trains(name, neurons, times)


def _joint(labels: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Several labels as one number, ascending as they are."""
    joint = np.zeros(labels.shape[1], np.int64)
    for row, all_of_it in zip(labels, known, strict=True):
        joint = joint * (int(all_of_it.max()) + 1) + row
    return joint
