"""What a run is at a chunk boundary, and how it is written down."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from neurosim.engine import RunState
from neurosim.environment import environment
from neurosim.loading import Protocol
from neurosim.store import Checkpoint, Ledger


@dataclass
class Position:
    """What a run is at a chunk boundary.

    states: of all seeds; at the first presentation of a stage only its weights matter. done:
    presentations. evaluations: how many are done. diverged: by seed, when and where. test: the last
    test loss and error of every seed. settled: of each phase the smallest fraction so far. wall_s:
    how long it took to come here.
    """

    states: RunState
    done: int
    evaluations: int
    diverged: dict[int, dict[str, Any]]
    test: tuple[list[float], list[float]]
    settled: dict[str, float]
    wall_s: float


def origin(protocol: Protocol, seeds: list[int], data: int) -> dict[str, Any]:
    """Where a run comes from: what its checkpoint must know to build it again.

    data: the fingerprint of its data.
    """
    sources = protocol.sources.sources
    overrides: Any = dict(protocol.overrides)
    try:
        json.dumps(overrides)
    except TypeError:  # objects of a script
        overrides = None
    return {
        "protocol": protocol.spec.model_dump(mode="json", exclude_none=True),
        "file": str(sources[0].document.path.absolute()) if sources else None,
        "folder": str(protocol.folder.absolute()),
        "overrides": overrides,
        "seeds": seeds,
        "data": data,
        "environment": environment(protocol.spec.level),
    }


def checkpoint(position: Position, origin: Mapping[str, Any], ledger: Ledger) -> Checkpoint:
    """A position as it goes to disk."""
    about = {
        "done": position.done,
        "evaluations": position.evaluations,
        "diverged": list(position.diverged.values()),
        "test": position.test,
        "settled": position.settled,
        "wall_s": position.wall_s,
        "ledger": ledger,
        "origin": origin,
    }
    return Checkpoint(about, [np.asarray(leaf) for leaf in jax.tree.leaves(position.states)])


def position_from(saved: Checkpoint, template: RunState) -> Position | None:
    """The position of a checkpoint; None if its arrays are not those of the template."""
    leaves, tree = jax.tree.flatten(template)
    shapes = [(leaf.shape, leaf.dtype) for leaf in leaves]
    if shapes != [(array.shape, array.dtype) for array in saved.arrays]:
        return None
    about = saved.about
    loss, error = about["test"]
    return Position(
        jax.tree.unflatten(tree, [jnp.asarray(array) for array in saved.arrays]),
        about["done"],
        about["evaluations"],
        {entry["seed"]: entry for entry in about["diverged"]},
        (loss, error),
        about["settled"],
        about["wall_s"],
    )
