"""One program on several devices, each of which has a part of the seeds, or of the samples.

Neither knows anything of its like, so that devices neither: no loop of one waits for another's.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.extend.core import jaxpr_as_fun
from jax.sharding import Mesh, NamedSharding, PartitionSpec

Devices = tuple[jax.Device, ...]

WHOLE = PartitionSpec()
"""Arrays that every device has."""


def shared_out(
    program: Callable[[Any], Any], parted: Any, devices: Devices, axis: int = 0
) -> Callable:
    """The program with one axis of all that it returns dealt out to devices.

    parted: of every array it takes, whether it has that axis; a prefix of their tree. Where what
    stands on it does not come out even, the last one is computed several times and returned once.
    """
    dealt = _dealt(axis)

    def on_all(arrays: Any) -> Any:
        leaves, structure = jax.tree.flatten(arrays)
        has = _of_leaves(parted, arrays)
        count = _count(leaves, has, axis)
        each = -(-count // len(devices))
        even = count == each * len(devices)
        every = np.minimum(np.arange(each * len(devices)), count - 1)
        # Traced where there is no mesh: with one, structures that lineax compares would differ.
        traced, shape = jax.make_jaxpr(
            lambda *parts: program(jax.tree.unflatten(structure, parts)), return_shape=True
        )(
            *(
                jax.ShapeDtypeStruct((*a.shape[:axis], each, *a.shape[axis + 1 :]), a.dtype)
                if has_it
                else jax.ShapeDtypeStruct(a.shape, a.dtype)
                for a, has_it in zip(leaves, has, strict=True)
            )
        )
        run = jax.shard_map(
            jaxpr_as_fun(traced),
            mesh=_mesh(devices),
            in_specs=tuple(dealt if has_it else WHOLE for has_it in has),
            out_specs=dealt,
            check_vma=False,
        )
        given = zip(leaves, has, strict=True)
        found = run(*(a if even or not has_it else a.take(every, axis) for a, has_it in given))
        if not even:
            found = [jax.lax.slice_in_dim(a, 0, count, axis=axis) for a in found]
        return jax.tree.unflatten(jax.tree.structure(shape), found)

    return on_all


def placed(arrays: Any, parted: Any, devices: Devices) -> Any:
    """The arrays where `shared_out` wants them, by their first axis, unmoved if they are there.

    A program would else be compiled once for every place that they come from. Arrays that do not
    come out even are on all devices, whole. parted: as there.
    """
    leaves, structure = jax.tree.flatten(arrays)
    has = _of_leaves(parted, arrays)
    even = not any(has) or _count(leaves, has, 0) % len(devices) == 0
    specs = [_dealt(0) if even and has_it else WHOLE for has_it in has]
    where = [NamedSharding(_mesh(devices), spec) for spec in specs]
    return jax.tree.unflatten(structure, jax.device_put(leaves, where))


def _dealt(axis: int) -> PartitionSpec:
    """Of arrays whose axis of this number is dealt out."""
    return PartitionSpec(*[None] * axis, NAME)


NAME = "part"
"""Of the one axis of devices."""


def _mesh(devices: Devices) -> Mesh:
    return Mesh(np.array(devices), (NAME,))


def _of_leaves(flags: Any, arrays: Any) -> list[bool]:
    every = jax.tree.map(lambda flag, part: jax.tree.map(lambda _: flag, part), flags, arrays)
    return jax.tree.leaves(every)


def _count(leaves: list[Any], has: list[bool], axis: int) -> int:
    return next(a.shape[axis] for a, has_it in zip(leaves, has, strict=True) if has_it)
