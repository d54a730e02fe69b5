"""Where JAX computes and how: on which device, in which process, with which numbers."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from contextvars import ContextVar
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
from jax.typing import ArrayLike
from threadpoolctl import threadpool_limits

from neurosim import wording
from neurosim.errors import InputError
from neurosim.process import caller

_process: int | None = None
"""Number of the process that JAX computed in first, which a fork takes along."""

SPLIT = "--xla_force_host_platform_device_count"
"""By which XLA takes a processor for several devices."""


Shared = Literal["seeds", "samples"]


class Sharing(NamedTuple):
    """What each of several devices has a part of."""

    devices: tuple[jax.Device, ...] = ()
    what: Shared = "seeds"

    def of(self, what: str) -> tuple[jax.Device, ...]:
        """The devices that share such; empty where one has them all."""
        return self.devices if self.what == what else ()


NOTHING = Sharing()
"""Where one device has all."""

_SHARING: ContextVar[Sharing] = ContextVar("what devices share", default=NOTHING)


@contextmanager
def on(device: str | None, count: int = 1, what: Shared = "seeds") -> Iterator[None]:
    """In which JAX computes on a device (`cpu`, `gpu`, or its choice), or so many of that kind.

    Of several each has a part of the seeds, wherever `compiled_by_seed` programs run, or of the
    samples of a batch, wherever they settle.

    Raises:
        InputError: there is none of that kind, or not so many, or nothing that JAX was told to use;
            or this process was forked from one in which JAX had computed.
    """
    _refuse_forked()
    if count > 1:
        _split_processor(count)
    found = _seen(device)
    if len(found) < count:
        there = f"{wording.plural(len(found), 'device')} of kind {found[0].platform!r}"
        advice = (
            f"make this the first run of the process, or start it with XLA_FLAGS={SPLIT}={count}"
            if found[0].platform == "cpu"
            else "give as many as there are, or fewer"
        )
        raise InputError(f"{caller.option('devices', count)}: JAX has {there} here; {advice}")
    before = _SHARING.set(Sharing(tuple(found[:count]), what) if count > 1 else NOTHING)
    try:
        with nullcontext() if device is None else jax.default_device(found[0]):
            yield
    finally:
        _SHARING.reset(before)


def copied(array: ArrayLike) -> jax.Array:
    """A copy where JAX computes, in its default precision.

    `jnp.asarray` compiles a program for every shape, and another one for what it has to round.
    """
    return jax.device_put(np.asarray(array, jax.dtypes.result_type(float)), may_alias=False)


def sharing() -> Sharing:
    """What the devices of a run share."""
    return _SHARING.get()


def _split_processor(count: int) -> None:
    """Let JAX take the processor for so many devices, unless it has begun or was told already."""
    config: Any = jax.config
    if SPLIT not in os.environ.get("XLA_FLAGS", ""):
        with suppress(RuntimeError):
            config.update("jax_num_cpu_devices", max(count, config.jax_num_cpu_devices))


def _seen(device: str | None) -> list[jax.Device]:
    """The devices of a kind.

    Raises:
        InputError: there are none.
    """
    try:
        have = jax.devices()
    except (RuntimeError, AssertionError) as error:  # an assertion where a plugin is not installed
        reason = f": {str(error).splitlines()[0]}" if str(error) else ""
        config: Any = jax.config  # whose options no type checker sees
        raise InputError(
            f"JAX_PLATFORMS={config.jax_platforms}: JAX finds no such device here"
            f"{reason}; unset it, or set it to cpu; for a GPU install neurosim[cuda]"
        ) from None
    try:
        return have if device is None else jax.devices(device)
    except RuntimeError:
        raise InputError(
            f"{caller.option('device', device or '')}: there is no such device here; "
            f"JAX sees {', '.join(sorted({found.platform for found in have}))}"
            + ("; for a GPU install neurosim[cuda]" if device != "cpu" else "")
        ) from None


@contextmanager
def numbers(x64: bool) -> Iterator[None]:
    """In which a protocol decides what JAX computes, whatever the user's settings of JAX are.

    Draws are Threefry's, as JAX has them by default, without an offset of seeds. NumPy, and JAX on
    a processor, factorize and invert on one thread: of several the number shows in the last digits
    of large matrices, such as weights that start orthogonal. Products of matrices have the
    precision of their entries: by default a GPU rounds those of float32 to the ten bits of TF32,
    which learning signals as small differences do not survive.
    """
    config: Any = jax.config
    offset = config.jax_random_seed_offset
    config.update("jax_random_seed_offset", 0)
    try:
        with (
            threadpool_limits(1, "blas"),
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
