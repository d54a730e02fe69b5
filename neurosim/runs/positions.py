"""What a run is at a chunk boundary, and how it is written down."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
from pydantic import BaseModel, Field, ValidationError

from neurosim.building.loaded import Loaded
from neurosim.building.loading import Protocol
from neurosim.errors import InputError
from neurosim.levels.simulator import RunState
from neurosim.runs.contents import Plan
from neurosim.runs.environment import environment
from neurosim.traces.checkpoint import Checkpoint
from neurosim.traces.ledger import Ledger


@dataclass
class Position:
    """What a run is at a chunk boundary.

    states: of all seeds; at the first presentation of a stage only its weights matter. done:
    presentations. evaluations: how many are done. diverged: by seed, when and where. test: the last
    test loss and error of every seed. settled: of each phase the smallest fraction so far.
    residual: of each the largest of a sample. shortened: see `Run`. wall_s: how long it took to
    come here.
    """

    states: RunState
    done: int
    evaluations: int
    diverged: dict[int, dict[str, Any]]
    test: tuple[list[float], list[float]]
    settled: dict[str, float]
    residual: dict[str, float]
    shortened: dict[str, float]
    wall_s: float


def origin(protocol: Protocol, seeds: list[int], data: int) -> dict[str, Any]:
    """Where a run comes from: what its checkpoint must know to build it again.

    data: the fingerprint of its data.
    """
    return beginning(protocol, protocol.spec.level) | {"seeds": seeds, "data": data}


def beginning(protocol: Loaded[Any], level: str) -> dict[str, Any]:
    """What began: a protocol at a level, in the surroundings of now."""
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
        "environment": environment(level),
    }


def checkpoint(position: Position, origin: Mapping[str, Any], ledger: Ledger) -> Checkpoint:
    """A position as it goes to disk."""
    about = {
        "done": position.done,
        "evaluations": position.evaluations,
        "diverged": list(position.diverged.values()),
        "test": position.test,
        "settled": position.settled,
        "residual": position.residual,
        "shortened": position.shortened,
        "wall_s": position.wall_s,
        "ledger": ledger,
        "origin": origin,
    }
    return Checkpoint(about, [np.asarray(leaf) for leaf in jax.tree.leaves(position.states)])


class _Origin(BaseModel):
    """What a checkpoint must say of where its run comes from."""

    protocol: dict[str, Any]
    file: str | None
    folder: str
    overrides: dict[str, Any] | None
    seeds: Annotated[list[int], Field(min_length=1)]
    data: int
    environment: dict[str, str]


class _Diverged(BaseModel):
    seed: int
    presentation: int
    message: str


class _Facts(BaseModel):
    """What a checkpoint must say besides its arrays."""

    done: Annotated[int, Field(ge=0)]
    evaluations: Annotated[int, Field(ge=0)]
    diverged: list[_Diverged]
    test: tuple[list[float], list[float]]
    settled: dict[str, float]
    residual: dict[str, float]
    shortened: dict[str, float]
    wall_s: float
    ledger: dict[str, tuple[int, int] | None]
    origin: _Origin


def load(trace: Path) -> Checkpoint:
    """The checkpoint of a trace, with everything that a run needs in it.

    Raises:
        InputError: there is none, or it is damaged or of something else.
    """
    saved = Checkpoint.load(trace)
    try:
        _Facts.model_validate(saved.about)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"])) or "it"
        raise InputError(
            f"{Checkpoint.path(trace)}: is no checkpoint of a run: {key}: {first['msg']}"
        ) from None
    return saved


def position_from(saved: Checkpoint, template: RunState, plan: Plan) -> Position | None:
    """The position of a checkpoint; None if it is none of this template and plan."""
    leaves, tree = jax.tree.flatten(template)
    shapes = [(leaf.shape, leaf.dtype) for leaf in leaves]
    if shapes != [(array.shape, array.dtype) for array in saved.arrays]:
        return None
    about, seeds = saved.about, len(leaves[0])
    states: RunState = jax.tree.unflatten(tree, [jnp.asarray(array) for array in saved.arrays])
    done, evaluations = about["done"], about["evaluations"]
    behind = sum(point < done for point in plan.evaluations)
    due = sum(point <= done for point in plan.evaluations)
    if not (behind <= evaluations <= due) or not (np.asarray(states.presentation) == done).all():
        return None
    written = about["ledger"].get("metrics/loss") or [0]
    if written[0] != done or any(len(values) != seeds for values in about["test"]):
        return None
    return Position(
        states,
        done,
        evaluations,
        {entry["seed"]: entry for entry in about["diverged"]},
        (about["test"][0], about["test"][1]),
        about["settled"],
        about["residual"],
        about["shortened"],
        about["wall_s"],
    )
