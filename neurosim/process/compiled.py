"""Functions that JAX compiles, of which a process keeps so many programs.

Every shape of a network makes programs of its own, each of some ten megabytes and many memory maps,
of which a process on Linux has 65530; a long script would run out of both. JAX keeps more of a
program than the program, and lets go of that only as a whole: so all are dropped at once when they
have become too many. Those still in use are found on disk again (`neurosim.runs.programs`).
"""

import ctypes
import gc
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from functools import cache, wraps
from inspect import signature
from typing import Any, ParamSpec, TypeVar

import equinox as eqx
import jax

from neurosim.process import devices, garbage
from neurosim.process.sharing import placed, shared_out

P = ParamSpec("P")
T = TypeVar("T")

KEPT = 24
"""Programs a process keeps: those of some six networks, with the four of a run each."""

_programs: dict[Any, Any] = {}


def compiled(function: Callable[P, T]) -> Callable[P, T]:
    """The function as programs: one for all arguments that differ only in the numbers of arrays.

    Whatever else stands in the arguments must be hashable, and what is returned hold arrays only.
    """
    return _as_programs(function, None)


def compiled_by_seed(
    whole: Callable[[Mapping[str, Any]], Collection[str]],
) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """The same of a function of many seeds, which are dealt out where devices share them.

    Where they share samples instead, all have all seeds, and the program says itself what is dealt.
    whole: of the arguments, by their names, those that every device needs whole. Seeds are the
    first axis of all arrays in the others, and of all that is returned.
    """
    return lambda function: _as_programs(function, whole)


def _as_programs(
    function: Callable[P, T], whole: Callable[[Mapping[str, Any]], Collection[str]] | None
) -> Callable[P, T]:
    @wraps(function)
    def call(*args: P.args, **more: P.kwargs) -> T:
        arrays, others = eqx.partition((args, more), eqx.is_array)
        leaves, structure = jax.tree.flatten(others)
        shapes = tuple((a.shape, str(a.dtype)) for a in jax.tree.leaves(arrays))
        inside = any(isinstance(a, jax.core.Tracer) for a in jax.tree.leaves(arrays))
        setting = jax.config.read("jax_enable_x64"), inside
        sharing, by_seed = devices.NOTHING, None
        if whole is not None and not inside and (sharing := devices.sharing()).devices:
            given = signature(function).bind(*args, **more).arguments
            none = set(given) if sharing.what == "samples" else whole(given)
            by_seed = _by_seed(args, more, given, none)
            arrays = placed(arrays, by_seed, sharing.devices)
        key = function, tuple(leaves), structure, shapes, setting, sharing
        if key not in _programs:

            def alone(arrays: Any) -> T:
                args, more = eqx.combine(arrays, others)
                return function(*args, **more)

            several = sharing.of("seeds")
            program = shared_out(alone, by_seed, several) if several else alone
            program.__name__ = program.__qualname__ = getattr(function, "__name__", "program")
            if len(_programs) >= KEPT:
                forget()
            # A part of another program is compiled with that, as that says.
            told = None if inside else options()
            _programs[key] = jax.jit(program, compiler_options=told)
            with garbage.unlooked():
                return _programs[key](arrays)
        return _programs[key](arrays)

    return call


def _by_seed(
    args: tuple, more: dict[str, Any], given: Mapping[str, Any], whole: Collection[str]
) -> tuple[tuple, dict[str, bool]]:
    """Of every argument, as they are given, whether its arrays have seeds first."""
    names = list(given)[: len(args)]
    return tuple(name not in whole for name in names), {name: name not in whole for name in more}


WANTED: dict[str, str | bool] = {
    # jaxlib 0.10.2 hands elementwise operations to the library YNN, and of batches of many samples
    # some results, other ones in every run, were then no numbers. Products of matrices may go
    # there: a fifth of a run at the rate level, as against none.
    "xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT",
    # Loops of elementwise operations go through another compiler within XLA by default, which
    # takes a third more time for programs that are no faster and give the same numbers.
    "xla_cpu_use_fusion_emitters": False,
}
"""What XLA is told of programs for a processor; versions that know an option no more go without."""


@cache
def options() -> dict[str, str | bool]:
    """What XLA is told beside a program."""
    return {name: value for name, value in WANTED.items() if _known({name: value})}


def _known(alone: dict[str, str | bool]) -> bool:
    try:
        jax.jit(lambda: 0, compiler_options=alone)()
    except jax.errors.JaxRuntimeError:
        return False
    return True


def forget() -> None:
    """Drop every compiled program of this process, and give its memory back to the system."""
    _programs.clear()
    jax.clear_caches()
    gc.collect()
    with suppress(OSError, AttributeError, TypeError):  # where there is no GNU C library
        ctypes.CDLL(None).malloc_trim(0)
