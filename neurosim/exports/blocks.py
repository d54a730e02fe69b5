"""What a trace holds over time, as a block of Neo."""

from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from neurosim.exports import trials
from neurosim.exports.trials import Course, Trains, Trial, Trials
from neurosim.extras import needed
from neurosim.specs.toml import written

if TYPE_CHECKING:
    import neo

NAMES = {"1": "dimensionless", "M": "mol/l", "mM": "mmol/l", "uM": "umol/l", "nM": "nmol/l"}
"""Units that the quantities of Neo call otherwise."""


WROTE = ("neurosim_version", "commit", "created")
"""Attributes that say what wrote a trace."""


def to_neo(file: str | PathLike[str]) -> "neo.Block":
    """What a trace holds over time, as a block of Neo, which Elephant and others take.

    A segment is a trial: one sample of one recorded presentation (of one seed), or a sweep of
    cells. It has an `AnalogSignal` for every recorded quantity, called `layer1/soma` or `v`, whose
    channels are units (or copies, cells, synapses; their numbers are array annotations); a
    `SpikeTrain` for every neuron, annotated with its population, unit and number; and an `Epoch` of
    the phases. Segments are annotated with what tells them apart, and with what the network was
    shown (`input`, `label`); the block with the resolved protocol, as TOML, and what wrote it. What
    is not over time, as weights and learning curves, is in tables (`to_tables`).

    file: a trace, of a network with time (the rate or spiking level) or of cells.

    Raises:
        InputError: it is no such trace, or Neo is not installed.
    """
    with needed("neo", "Neo objects"):
        from neo import Block, Segment
    found = trials.read(file)
    block = Block(
        name=found.title,
        file_origin=str(file),
        protocol=written(found.protocol),
        **{key: found.about[key] for key in WROTE if key in found.about},
    )
    for number, trial in enumerate(found.trials):
        shown = {name: values.tolist() for name, values in trial.shown.items()}
        segment = Segment(name=trial.name)
        segment.annotate(**trial.labels, **shown)
        for course in found.courses:
            segment.analogsignals.append(_signal(found, course, number))
        for trains in found.trains:
            for train in _trains(trains, trial, number):
                segment.spiketrains.append(train)
        if trial.phases:
            segment.epochs.append(_epoch(trial))
        block.segments.append(segment)
    return block


def write(file: str | PathLike[str], path: Path) -> None:
    """Write the block of a trace to a NIX file.

    Raises:
        InputError: as `to_neo` does.
    """
    with needed("neo", "Neo files"):
        from neo.io import NixIO
    block = to_neo(file)
    with NixIO(str(path), "ow") as out:
        out.write_block(block)


def _signal(found: Trials, course: Course, number: int) -> Any:
    from neo import AnalogSignal

    return AnalogSignal(
        course.values[number],
        units=NAMES.get(course.unit, course.unit),
        sampling_period=_milliseconds(found.step),
        t_start=_milliseconds(0.0),
        name=course.name,
        description=course.description,
        array_annotations={course.kind: np.asarray(course.channels)},
        stimulus=course.brought,
    )


def _trains(trains: Trains, trial: Trial, number: int) -> Iterator[Any]:
    from neo import SpikeTrain

    for n, times in enumerate(trains.times[number] or []):
        labels = {kind: int(numbers[n]) for kind, numbers in trains.neurons.items()}
        name = f"{trains.name}, {', '.join(f'{k} {v}' for k, v in labels.items())}"
        train = SpikeTrain(times, units="ms", t_start=0.0, t_stop=trial.duration, name=name)
        train.annotate(population=trains.name, **labels)
        yield train


def _epoch(trial: Trial) -> Any:
    from neo import Epoch

    return Epoch(
        times=_milliseconds([phase.begin for phase in trial.phases]),
        durations=_milliseconds([phase.end - phase.begin for phase in trial.phases]),
        labels=np.array([phase.name for phase in trial.phases]),
        name="phases",
        array_annotations={"taught": np.array([phase.taught for phase in trial.phases])},
    )


def _milliseconds(values: Any) -> Any:
    from quantities import ms

    return values * ms
