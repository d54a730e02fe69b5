"""What is drawn for every seed before a run, by NumPy: its data and its first weights."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from neurosim.building import ingredients
from neurosim.building.loading import Protocol
from neurosim.building.samples import draw, refuse
from neurosim.errors import InputError, NeurosimWarning
from neurosim.runs.contents import Plan
from neurosim.specs import ProtocolSpec
from neurosim.specs.toml import split_key
from neurosim.tasks.data import Data

OWN = ("arrays", "table", "images")
"""Tasks of a user's own samples."""

UNSCALED = 5.0
"""Root mean square of inputs from which on nobody can have scaled them."""


def data(protocol: Protocol, seeds: list[int]) -> tuple[bool, list[Data]]:
    """Whether all seeds see the same data, and those of every seed, checked against the model.

    Raises:
        InputError: the task refuses its parameters, or does not fit the model.
    """
    shared, drawn = draw(protocol, seeds)
    refuse(protocol, drawn[0])
    return shared, drawn


def weights(protocol: Protocol, seeds: list[int], drawn: list[Data]) -> Iterator[Any]:
    """The weights of every seed before it learns."""
    model, folder = protocol.spec.model, protocol.folder
    for seed, each in zip(seeds, drawn, strict=True):
        with protocol.placing("model"):
            found = ingredients.weights(model, seed, each, folder)
        yield found


def warn_of(protocol: Protocol, data: Data) -> None:
    """Warn of what is given and never used, and of one's own data on a scale of its own."""
    spec, samples = protocol.spec, len(data.x_train)
    found = {}
    rest = samples % spec.batch
    if rest and not spec.shuffle:
        found["batch"] = (
            f"{spec.batch} does not divide the {samples} samples to train on, of which the last "
            f"{rest} are never shown; shuffle = true leaves out others in every epoch"
        )
    total, wanted = Plan(spec, samples // spec.batch).total, spec.record.presentations
    beyond = [p for p in wanted if p >= total] if isinstance(wanted, list) else []
    if beyond:
        found["record.presentations"] = (
            f"{', '.join(map(str, beyond))} past the end; the run has the presentations 0 to "
            f"{total - 1}"
        )
    size = float(np.sqrt(np.mean(data.x_train**2)))
    if size > UNSCALED and isinstance(spec.task, dict) and spec.task["name"] in OWN:
        found["task"] = (
            f"inputs have a root mean square of {size:.3g}, and weights start for one near 1; "
            "standardise = true scales them"
        )
    if spec.sweep is not None:
        found["sweep"] = "is gone over by neurosim sweep alone; this is the protocol without it"
    for key, message in found.items():
        place = protocol.where(split_key(key))
        warnings.warn(f"{place}: {message}", NeurosimWarning, stacklevel=3)


@contextmanager
def fitting(spec: ProtocolSpec) -> Iterator[None]:
    """In which a lack of memory is bad input.

    Raises:
        InputError: memory is too small.
    """
    try:
        yield
    except MemoryError as error:
        raise too_large(spec, error) from error


def too_large(spec: ProtocolSpec, error: Exception) -> InputError:
    """What is said where memory is too small."""
    found = InputError(
        f"{spec.name}: does not fit into memory: {error or 'too many presentations'}; make "
        "layers, batch, data, seeds or presentations smaller"
    )
    for note in getattr(error, "__notes__", []):  # such as what is kept of a run
        found.add_note(note)
    return found
