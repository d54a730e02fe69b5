"""Where JAX computes and how: on which device, in which process, with which numbers."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import jax

from neurosim.errors import InputError
from neurosim.process import caller

_process: int | None = None
"""Number of the process that JAX computed in first, which a fork takes along."""


def on(device: str | None) -> AbstractContextManager[Any]:
    """In which JAX computes on a device (`cpu`, `gpu`, or its choice).

    Raises:
        InputError: there is none of that kind, or nothing that JAX was told to use; or this process
            was forked from one in which JAX had computed.
    """
    _refuse_forked()
    try:
        have = jax.devices()
    except (RuntimeError, AssertionError) as error:  # an assertion where a plugin is not installed
        reason = f": {str(error).splitlines()[0]}" if str(error) else ""
        config: Any = jax.config  # whose options no type checker sees
        raise InputError(
            f"JAX_PLATFORMS={config.jax_platforms}: JAX finds no such device here"
            f"{reason}; unset it, or set it to cpu; for a GPU install neurosim[cuda]"
        ) from None
    if device is None:
        return nullcontext()
    try:
        return jax.default_device(jax.devices(device)[0])
    except RuntimeError:
        raise InputError(
            f"{caller.option('device', device)}: there is no such device here; "
            f"JAX sees {', '.join(sorted({found.platform for found in have}))}"
            + ("; for a GPU install neurosim[cuda]" if device != "cpu" else "")
        ) from None


@contextmanager
def numbers(x64: bool) -> Iterator[None]:
    """In which a protocol decides what JAX computes, whatever the user's settings of JAX are.

    Draws are Threefry's, as JAX has them by default, without an offset of seeds. Products of
    matrices have the precision of their entries: by default a GPU rounds those of float32 to the
    ten bits of TF32, which learning signals as small differences do not survive.
    """
    config: Any = jax.config
    offset = config.jax_random_seed_offset
    config.update("jax_random_seed_offset", 0)
    try:
        with (
            jax.enable_x64(x64),
            jax.default_prng_impl("threefry2x32"),
            jax.threefry_partitionable(True),
            jax.default_matmul_precision("highest"),
        ):
            yield
    finally:
        config.update("jax_random_seed_offset", offset)


def _refuse_forked() -> None:
    """JAX's threads do not survive a fork: what waits for them waits for ever."""
    global _process
    if _process not in (None, os.getpid()):
        raise InputError(
            "this process was forked from one in which JAX has computed, and would hang; start it "
            "afresh: multiprocessing.get_context('spawn') in place of 'fork', or fork before the "
            "first run"
        )
    _process = os.getpid()
