"""What a trace holds over time, as a session of Neurodata Without Borders (NWB)."""

import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from os import PathLike
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_OID, uuid5

import numpy as np

from neurosim.exports import trials
from neurosim.exports.trials import Course, Trains, Trials
from neurosim.extras import needed
from neurosim.specs.toml import written
from neurosim.units import UNITS, parse, size_of

BASES = {
    "time": "seconds",
    "voltage": "volts",
    "rate": "hertz",
    "current": "amperes",
    "conductance": "siemens",
    "capacitance": "farads",
    "concentration": "moles per cubic meter",
    "temperature": "kelvins",
}
"""What NWB calls the base unit of a dimension."""

WITHOUT = "a.u."
"""What NWB calls no unit."""

NO_ANIMAL = {"species": "In silico", "sex": "O", "age": "P0D"}
"""What NWB asks of every subject, said of a simulation: its sex is "other", and it begins now."""

LABELS = {
    "presentation": "which presentation of the run, from 0",
    "seed": "which seed of the ensemble",
    "sample": "which sample of the batch",
    "index": "place of the sample in the training set",
    "sweep": "which sweep of the protocol",
    "unit": "which unit of the layer",
    "neuron": "which of the neurons behind the unit",
    "cell": "which cell of the group, or which copy of the cell",
}

SHOWN = {"input": "what the network was shown", "label": "what it was taught"}


def write(file: str | PathLike[str], path: Path) -> None:
    """Write what a trace holds over time to an NWB file.

    Trials stand one after the other, a step of the recording apart, as in an experiment, though
    networks and sweeps were computed side by side. There is a `TimeSeries` for every quantity (in
    `acquisition`, or in `stimulus` where stimuli bring it), the tables of trials and of phases, and
    in `units` the spike times of every neuron. Nothing stands for what was not there, as an
    electrode or a device; the subject says that it is a simulation.

    Raises:
        InputError: the trace holds nothing over time, or pynwb is not installed.
    """
    with needed("nwb", "NWB files"):
        from pynwb import NWBHDF5IO
    session = _session(trials.read(file))
    with NWBHDF5IO(str(path), "w") as out:
        out.write(session)


def _session(found: Trials) -> Any:
    from pynwb import NWBFile
    from pynwb.file import Subject

    about = found.about
    told = {key: about[key] for key in ("neurosim_version", "commit", "versions") if key in about}
    session = NWBFile(
        session_description=f"simulation: {found.title}; recorded trials one after the other",
        identifier=str(uuid5(NAMESPACE_OID, json.dumps(about, default=str, sort_keys=True))),
        session_start_time=datetime.fromisoformat(str(about["created"])),
        experiment_description=found.protocol.get("description") or found.title,
        keywords=["simulation", str(about["protocol"]), str(about["level"])],
        subject=Subject(
            subject_id=f"{about['protocol']}-simulation",
            description=f"no animal: the simulated {_what(found)}",
            **NO_ANIMAL,
        ),
        source_script=written(found.protocol),
        source_script_file_name=f"{about['protocol']}.toml",
        notes=f"computed by neurosim, no measurement: {json.dumps(told)}",
    )
    starts = _starts(found)
    _add_trials(session, found, starts)
    for course in found.courses:
        add = session.add_stimulus if course.brought else session.add_acquisition
        add(_series(found, course))
    for trains in found.trains:
        _add_units(session, found, trains, starts)
    if session.units is not None:
        session.units.resolution = _resolution(found.protocol)
    return session


def _resolution(protocol: Mapping[str, Any]) -> float:
    """The step of time in which spikes were computed (s)."""
    said = protocol["spiking"]["dt"] if "spiking" in protocol else protocol["dt"]
    return parse(said, "time")


def _what(found: Trials) -> str:
    """What was simulated: a model by its name, or cells and the synapses between them."""
    return str(found.about.get("model", "cells and synapses"))


def _starts(found: Trials) -> list[float]:
    """When each trial begins (s)."""
    before = np.cumsum([0, *(trial.moments for trial in found.trials)])[:-1]
    return [float(f"{n * found.step / 1e3:.12g}") for n in before]


def _series(found: Trials, course: Course) -> Any:
    from pynwb import TimeSeries

    unit, size = _unit(course.unit)
    numbers = ", ".join(map(str, course.channels))
    told = course.description or course.name
    return TimeSeries(
        name=course.name.replace("/", "_"),
        data=np.concatenate(course.values),
        unit=unit,
        conversion=size,
        starting_time=0.0,
        rate=float(f"{1e3 / found.step:.12g}"),
        description=f"{told}; columns are of {course.kind} {numbers}",
    )


def _unit(unit: str) -> tuple[str, float]:
    """What NWB calls the base unit, and how many of it ours has."""
    for dimension, units in UNITS.items():
        if unit in units:
            return BASES[dimension], size_of(unit)
    return (WITHOUT if unit == "1" else unit), 1.0


def _add_trials(session: Any, found: Trials, starts: list[float]) -> None:
    first = found.trials[0]
    for name in first.labels:
        session.add_trial_column(name, LABELS[name])
    for name in first.shown:
        session.add_trial_column(name, SHOWN[name])
    for trial, start in zip(found.trials, starts, strict=True):
        stop = _at(start, trial.duration)
        session.add_trial(start_time=start, stop_time=stop, **trial.labels, **trial.shown)
    if first.phases:
        session.add_time_intervals(_phases(found, starts))


def _phases(found: Trials, starts: list[float]) -> Any:
    from pynwb.epoch import TimeIntervals

    table = TimeIntervals(name="phases", description="phases of the presentations")
    table.add_column("phase", "its name")
    table.add_column("taught", "whether the output was taught")
    table.add_column("trial", "of which trial")
    for number, (trial, start) in enumerate(zip(found.trials, starts, strict=True)):
        for phase in trial.phases:
            table.add_row(
                start_time=_at(start, phase.begin),
                stop_time=_at(start, phase.end),
                phase=phase.name,
                taught=phase.taught,
                trial=number,
            )
    return table


def _at(start: float, milliseconds: float) -> float:
    return float(f"{start + milliseconds / 1e3:.12g}")


def _add_units(session: Any, found: Trials, trains: Trains, starts: list[float]) -> None:
    kept = [k for k, times in enumerate(trains.times) if times is not None]
    observed = [[starts[k], _at(starts[k], found.trials[k].duration)] for k in kept]
    if session.units is None:
        session.add_unit_column("population", "which population it belongs to")
        for kind in trains.neurons:
            session.add_unit_column(kind, LABELS[kind])
    for n, times in enumerate(_joined(trains, starts)):
        labels = {kind: int(numbers[n]) for kind, numbers in trains.neurons.items()}
        session.add_unit(
            spike_times=times, obs_intervals=observed, population=trains.name, **labels
        )


def _joined(trains: Trains, starts: list[float]) -> Iterator[np.ndarray]:
    """The spike times of every neuron over all trials (s)."""
    for n in range(len(next(iter(trains.neurons.values())))):
        yield np.concatenate(
            [
                start + times[n] / 1e3
                for start, times in zip(starts, trains.times, strict=True)
                if times is not None
            ]
        )
