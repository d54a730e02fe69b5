"""What the task of a protocol draws for every seed, and what of it the protocol cannot use."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

from neurosim.building import ingredients
from neurosim.building.consistency import misfits
from neurosim.credit import CREDITS, named
from neurosim.errors import InputError
from neurosim.models.conditions import Problem
from neurosim.seeds import host_stream
from neurosim.specs import ProtocolSpec
from neurosim.specs.toml import KeyPath
from neurosim.tasks.data import Data

if TYPE_CHECKING:
    from neurosim.building.loading import Protocol


def draw(protocol: Protocol, seeds: list[int]) -> tuple[bool, list[Data]]:
    """Whether all seeds see the same data, and those of every seed, whatever the model is.

    Raises:
        InputError: the task refuses its parameters, or its files.
    """
    try:
        return _drawn(protocol, seeds)
    except InputError as error:
        raise InputError([*error.messages, *_unread(protocol, ())]) from None


def _drawn(protocol: Protocol, seeds: list[int]) -> tuple[bool, list[Data]]:
    spec = protocol.spec
    with protocol.placing("task", spec.task.get("name") if isinstance(spec.task, dict) else None):
        task = ingredients.task(spec, protocol.folder)
        if task.shared:
            drawn = [task.draw(host_stream(0, "task"))] * len(seeds)
        else:
            drawn = [task.draw(host_stream(seed, "task")) for seed in seeds]
    return task.shared, drawn


def problems(spec: ProtocolSpec, data: Data) -> Iterator[Problem]:
    """What the model or the batch of a protocol cannot have of its data."""
    yield from misfits(spec.model, data.inputs, data.outputs)
    if spec.batch > len(data.x_train):
        yield (
            ("batch",),
            f"{spec.batch} samples a batch, but the task has only {len(data.x_train)} to train on",
        )
    if spec.model.loss == "cross-entropy" and not data.classes:
        yield ("model", "loss"), "the cross-entropy needs a task of classes"
    credit = spec.model.credit
    unknown = credit is not None and isinstance(credit.name, str) and credit.name not in CREDITS
    if not unknown and named(credit).nodes and not data.classes:
        yield (
            ("model", "credit"),
            "goals keep classes apart, and the task has none; expected one of classes, such as "
            "digits",
        )


def refuse(protocol: Protocol, data: Data) -> None:
    """Refuse data that the model or the batch of the protocol cannot have."""
    found = dict(problems(protocol.spec, data))
    if wrong := [f"{protocol.where(key)}: {what}" for key, what in found.items()]:
        raise InputError([*wrong, *_unread(protocol, found)])


def also(protocol: Protocol, known: Collection[KeyPath]) -> list[str]:
    """What is wrong with the files of a protocol too, of which other keys are known to be wrong.

    So a user hears of everything at once. Nothing is said of a task, or of weights, where what is
    known to be wrong may be the cause.
    """
    return [*_undrawn(protocol, known), *_unread(protocol, known)]


def _undrawn(protocol: Protocol, known: Collection[KeyPath]) -> list[str]:
    """What is wrong with the samples, unless something of the task is known to be wrong."""
    if any(key[:1] == ("task",) for key in known):
        return []
    try:
        _, (data, *_) = _drawn(protocol, [protocol.spec.seed])
    except InputError as error:
        return list(error.messages)
    found = problems(protocol.spec, data)
    return [f"{protocol.where(key)}: {what}" for key, what in found if key not in known]


def _unread(protocol: Protocol, known: Collection[KeyPath]) -> list[str]:
    """What is wrong with files of weights, unless something of the model is known to be wrong."""
    spec = protocol.spec
    if any(key[:1] == ("model",) for key in known):
        return []
    try:
        with protocol.placing("model"):
            ingredients.from_files(spec.model, spec.seed, protocol.folder)
    except InputError as error:
        return list(error.messages)
    return []
