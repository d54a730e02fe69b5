"""Phases on several devices, each of which settles its share of the samples."""

from typing import Any

import equinox as eqx
import jax

from neurosim.levels.settling import Problem, Report, Span
from neurosim.networks.dynamics import State
from neurosim.process import devices
from neurosim.process.sharing import shared_out


def settled(level: Any, problem: Problem, state: State, span: Span) -> tuple[State, Report, Any]:
    """What `level.settle` says, on devices each of which has a part of the samples, if they share
    these: samples know nothing of each other."""
    several = devices.sharing().of("samples")
    if not several:
        return level.settle(problem, state, span)
    axes = problem.axes
    given = level, problem._replace(axes=()), state, span.key, span._replace(key=None)
    arrays, others = eqx.partition(given, eqx.is_array)

    def settle(arrays: Any) -> Any:
        level, problem, state, key, span = eqx.combine(arrays, others)
        return level.settle(problem._replace(axes=axes), state, span._replace(key=key))

    samples = axes[-1]._replace(axes=())
    of_samples = jax.tree.map(
        lambda axis: axis is not None, samples, is_leaf=lambda axis: axis is None
    )
    dealt = False, of_samples, True, True, False
    return shared_out(settle, dealt, several, axis=1)(arrays)
