"""Weights that a file holds: an .npz, a state dict of PyTorch, or a moment of a trace."""

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from neurosim.archives import read_arrays
from neurosim.errors import InputError, unknown
from neurosim.traces import state_dicts
from neurosim.traces.naming import ENDINGS
from neurosim.traces.reader import Arrays, interpreting, is_hdf5
from neurosim.traces.state_dicts import read_state_dict

ENDS = ("initial", "final")
"""Moments that every trace has; others are the numbers of recorded presentations."""


def weights_of(
    name: str | os.PathLike[str], folder: Path, seed: int, names: Mapping[str, str] | None = None
) -> dict[str, np.ndarray]:
    """W1 …, b1 …, Q1 … or those of a circuit, of one seed, as far as a file holds them.

    name: an .npz, a state dict of PyTorch, a trace, or a trace and a moment, as in
    `run.h5@initial`; the final one if none is given. Meant from `folder`. seed: which of a trace's,
    unless that has only one. names: what arrays are called in the file, by our names for them.

    Raises:
        InputError: there is no such file, moment or seed, or it is damaged, or lacks a name.
    """
    path, moment = located(name, folder)
    ending = path.suffix.lower()
    if is_hdf5(path) or ending in ENDINGS:
        only = len(seeds_of(path)) == 1
        found = of_moment(path, moment, None if only else seed)
    else:
        found = (read_state_dict if ending in state_dicts.ENDINGS else read_arrays)(path)
    return _renamed(found, names or {}, path)


def located(name: str | os.PathLike[str], folder: Path) -> tuple[Path, str]:
    """The file of such a name, and the moment that it says or means."""
    path = folder / os.path.expanduser(os.fspath(name))
    head, at, moment = str(path).rpartition("@")
    if at and not os.path.exists(path):
        return Path(head), moment
    return path, "final"


def _renamed(
    arrays: dict[str, np.ndarray], names: Mapping[str, str], path: Path
) -> dict[str, np.ndarray]:
    """Arrays by our names for them; those without one keep theirs."""
    held = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
    problems = [
        f"{path}: {theirs!r} is missing, which names.{ours} asks for; it holds {held}"
        for ours, theirs in names.items()
        if theirs not in arrays
    ]
    ours = {theirs: name for name, theirs in names.items()}
    if len(ours) < len(names):
        problems.append(f"{path}: names has one array twice; expected another for each")
    problems += [
        f"{path}: names.{name} is another array than the file's own {name}"
        for name, theirs in names.items()
        if name != theirs and name in arrays and name not in ours
    ]
    if problems:
        raise InputError(problems)
    return {ours.get(name, name): array for name, array in arrays.items()}


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
    for name, array in arrays.items():
        if name in allowed:
            continue
        hint = ""
        if re.fullmatch(r"b\d+", name):
            hint = "; biases need bias = true, such as model.projections.W.bias"
        elif where.endswith(state_dicts.ENDINGS):
            hint = f"; it has shape {array.shape}"
            if free := [place for place in allowed if place not in arrays]:
                key = f"model.projections.W.names.{free[0]}"
                hint += f", and {key} = {name!r} would say that it is {free[0]}"
        problems.append(f"{where}: {unknown('array', name, allowed)}{hint}")
    if problems:
        raise InputError(problems)
