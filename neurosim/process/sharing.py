"""One program on several devices, each of which has a part of the seeds.

Seeds know nothing of each other, so that devices neither: no loop of one waits for another's.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.extend.core import jaxpr_as_fun
from jax.sharding import Mesh, NamedSharding, PartitionSpec

SEED = "seed"
"""The axis that devices share."""


def shared_out(
    program: Callable[[Any], Any], by_seed: Any, devices: tuple[jax.Device, ...]
) -> Callable[[Any], Any]:
    """The program with its seeds, the first axis of all that it returns, dealt out to devices.

    by_seed: of every array it takes, whether seeds are its first axis; a prefix of their tree.
    Where seeds do not come out even, the last one is computed several times and returned once.
    """
    mesh = Mesh(np.array(devices), (SEED,))

    def on_all(arrays: Any) -> Any:
        flags = jax.tree.map(lambda flag, part: jax.tree.map(lambda _: flag, part), by_seed, arrays)
        leaves, structure = jax.tree.flatten(arrays)
        dealt = jax.tree.leaves(flags)
        seeds = next(len(a) for a, flag in zip(leaves, dealt, strict=True) if flag)
        each = -(-seeds // len(devices))
        places = np.minimum(np.arange(each * len(devices)), seeds - 1)
        parts = [
            jax.ShapeDtypeStruct((each, *a.shape[1:]) if flag else a.shape, a.dtype)
            for a, flag in zip(leaves, dealt, strict=True)
        ]
        # Traced where there is no mesh: with one, the structures that lineax compares differ.
        traced, shape = jax.make_jaxpr(
            lambda *parts: program(jax.tree.unflatten(structure, parts)), return_shape=True
        )(*parts)
        run = jax.shard_map(
            jaxpr_as_fun(traced),
            mesh=mesh,
            in_specs=tuple(PartitionSpec(SEED) if flag else PartitionSpec() for flag in dealt),
            out_specs=PartitionSpec(SEED),
            check_vma=False,
        )
        even = len(places) == seeds
        found = run(
            *(a[places] if flag and not even else a for a, flag in zip(leaves, dealt, strict=True))
        )
        return jax.tree.unflatten(
            jax.tree.structure(shape), [a if even else a[:seeds] for a in found]
        )

    return on_all


def placed(array: jax.Array, by_seed: bool, devices: tuple[jax.Device, ...]) -> jax.Array:
    """The array where `shared_out` wants it, so that it is not moved with every call.

    by_seed: whether seeds are its first axis.
    """
    if not devices or (by_seed and len(array) % len(devices)):
        return array
    spec = PartitionSpec(SEED) if by_seed else PartitionSpec()
    return jax.device_put(array, NamedSharding(Mesh(np.array(devices), (SEED,)), spec))
