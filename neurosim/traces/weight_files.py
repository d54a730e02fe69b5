"""Weights that a file holds: arrays in an .npz, or those of a moment of a trace."""

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from neurosim.archives import read_arrays
from neurosim.errors import InputError, unknown
from neurosim.traces.naming import ENDINGS
from neurosim.traces.reader import Arrays, interpreting, is_hdf5

ENDS = ("initial", "final")
"""Moments that every trace has; others are the numbers of recorded presentations."""


def weights_of(name: str | os.PathLike[str], folder: Path, seed: int) -> dict[str, np.ndarray]:
    """W1 …, b1 …, Q1 … or those of a circuit, of one seed, as far as a file holds them.

    name: an .npz, a trace, or a trace and a moment, as in `run.h5@initial`; the final one if none
    is given. Meant from `folder`. seed: which of a trace's, unless that has only one.

    Raises:
        InputError: there is no such file, moment or seed, or it is damaged.
    """
    path = folder / os.path.expanduser(os.fspath(name))
    head, at, moment = str(path).rpartition("@")
    if at and not os.path.exists(path):
        path = Path(head)
    if is_hdf5(path) or path.suffix.lower() in ENDINGS:
        only = len(seeds_of(path)) == 1
        return of_moment(path, moment if str(path) == head else "final", None if only else seed)
    return read_arrays(path)


def seeds_of(path: Path) -> list[int]:
    """The seeds of a trace."""
    with interpreting(path), Arrays.of(path) as arrays:
        return [int(seed) for seed in arrays.attributes["seeds"].split(",")]


def of_moment(path: Path, moment: str, seed: int | None) -> dict[str, np.ndarray]:
    """The weights of one seed of a trace at a moment; the first seed if none is given.

    Raises:
        InputError: it is no trace, or has no such moment or seed, or they were not written.
    """
    seeds = seeds_of(path)
    with interpreting(path), Arrays.of(path) as arrays:
        seed = seeds[0] if seed is None else seed
        if seed not in seeds:
            raise InputError(f"{path}: seed {seed} was not run; there are: {seeds}")
        kept = arrays["snapshots/presentation"].tolist() if "snapshots" in arrays else []
        places = {name: ("weights", row) for row, name in enumerate(ENDS)}
        places |= {str(number): ("snapshots", row) for row, number in enumerate(kept)}
        if moment not in places:
            hint = "" if kept else "; record.weights = true keeps those of recorded presentations"
            raise InputError(
                f"{path}: no weights at {moment!r}; expected one of {', '.join(places)}{hint}"
            )
        group, row = places[moment]
        found = {}
        for name in arrays.members(group):
            if len(arrays.dims(f"{group}/{name}")) > 1:  # else it is an axis
                array = arrays[f"{group}/{name}"][row]
                several = "seed" in arrays.dims(f"{group}/{name}")
                found[name] = array[seeds.index(seed)] if several else array
    if not all(np.isfinite(array).all() for array in found.values()):
        others = ", ".join(str(place) for place in places if place != moment)
        raise InputError(
            f"{path}: the {moment} weights were not written or are not finite; expected those of "
            f"another moment: {others}"
        )
    return found


def refuse_others(arrays: Mapping[str, np.ndarray], allowed: Iterable[str], where: str) -> None:
    """Refuse arrays that a network has no place for.

    Raises:
        InputError: there are some.
    """
    allowed = list(allowed)
    problems = []
    for name in arrays:
        if name not in allowed:
            hint = (
                "; biases need bias = true, such as model.projections.W.bias"
                if re.fullmatch(r"b\d+", name)
                else ""
            )
            problems.append(f"{where}: {unknown('array', name, allowed)}{hint}")
    if problems:
        raise InputError(problems)
