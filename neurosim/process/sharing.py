"""One program on several devices, each of which has a part of the seeds.

Seeds know nothing of each other, so that devices neither: no loop of one waits for another's.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.extend.core import jaxpr_as_fun
from jax.sharding import Mesh, NamedSharding, PartitionSpec

Devices = tuple[jax.Device, ...]

DEALT, WHOLE = PartitionSpec("seed"), PartitionSpec()
"""Arrays whose first axis, the seeds, is dealt out; those that every device has."""


def shared_out(program: Callable[[Any], Any], by_seed: Any, devices: Devices) -> Callable:
    """The program with its seeds, the first axis of all that it returns, dealt out to devices.

    by_seed: of every array it takes, whether seeds are its first axis; a prefix of their tree.
    Where seeds do not come out even, the last one is computed several times and returned once.
    """

    def on_all(arrays: Any) -> Any:
        leaves, structure = jax.tree.flatten(arrays)
        dealt = _of_leaves(by_seed, arrays)
        seeds = _seeds(leaves, dealt)
        each = -(-seeds // len(devices))
        even = seeds == each * len(devices)
        every = np.minimum(np.arange(each * len(devices)), seeds - 1)
        # Traced where there is no mesh: with one, structures that lineax compares would differ.
        traced, shape = jax.make_jaxpr(
            lambda *parts: program(jax.tree.unflatten(structure, parts)), return_shape=True
        )(
            *(
                jax.ShapeDtypeStruct((each, *a.shape[1:]) if of_seeds else a.shape, a.dtype)
                for a, of_seeds in zip(leaves, dealt, strict=True)
            )
        )
        run = jax.shard_map(
            jaxpr_as_fun(traced),
            mesh=_mesh(devices),
            in_specs=tuple(DEALT if of_seeds else WHOLE for of_seeds in dealt),
            out_specs=DEALT,
            check_vma=False,
        )
        given = zip(leaves, dealt, strict=True)
        found = run(*(a if even or not of_seeds else a[every] for a, of_seeds in given))
        found = found if even else [a[:seeds] for a in found]
        return jax.tree.unflatten(jax.tree.structure(shape), found)

    return on_all


def placed(arrays: Any, by_seed: Any, devices: Devices) -> Any:
    """The arrays where `shared_out` wants them, unmoved if they are; arguments as there.

    A program would else be compiled once for every place that they come from. Arrays whose seeds do
    not come out even are on all devices, whole.
    """
    leaves, structure = jax.tree.flatten(arrays)
    dealt = _of_leaves(by_seed, arrays)
    even = not any(dealt) or _seeds(leaves, dealt) % len(devices) == 0
    specs = [DEALT if even and of_seeds else WHOLE for of_seeds in dealt]
    where = [NamedSharding(_mesh(devices), spec) for spec in specs]
    return jax.tree.unflatten(structure, jax.device_put(leaves, where))


def _mesh(devices: Devices) -> Mesh:
    return Mesh(np.array(devices), tuple(DEALT))


def _of_leaves(by_seed: Any, arrays: Any) -> list[bool]:
    flags = jax.tree.map(lambda flag, part: jax.tree.map(lambda _: flag, part), by_seed, arrays)
    return jax.tree.leaves(flags)


def _seeds(leaves: list[Any], dealt: list[bool]) -> int:
    return next(len(a) for a, of_seeds in zip(leaves, dealt, strict=True) if of_seeds)
