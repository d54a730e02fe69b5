"""Weights that flow while neurons are at rest: learning as an ODE.

At every moment the neurons of all samples stand at the fixed point that the weights of the moment
give them, and dW/dt is what the rules make of it. The weights, and what cells remember, are stepped
by the solvers of the rate level.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Scalar

from neurosim.levels.equilibrium import Equilibrium
from neurosim.levels.online import Plastic, read_batch
from neurosim.levels.rate import Rate
from neurosim.levels.settling import Problem, Report, Span
from neurosim.networks.dynamics import Drive, Dynamics, State
from neurosim.networks.network import Network


class Flowing(NamedTuple):
    """What moves. memory carries the batch first."""

    memory: Any
    weights: Any


def integrate(
    level: Equilibrium,
    clock: Rate,
    dynamics: Dynamics,
    network: Network,
    start: Plastic,
    label: Any,
    drives: Callable[[Any], Drive],
    target_step: Any,
    velocity: Callable[[Any, Any, Any], Any],
    remember: Callable[[Any, Any], Any],
    duration: float,
    keys: None,
    watch: tuple[Any, Callable[[Plastic], Any]] | None,
    constrain: Callable[[Any], Any],
    longer: Scalar | None,
) -> tuple[Plastic, Report, Any]:
    """One phase, over its whole duration; see `online.integrate`.

    level: finds the neurons. clock: steps the weights. keys: none, since nothing at rest is noisy.
    Neurons are sought from where they were at the start of the phase.
    """
    every = Problem(None, None, None, eqx.if_array(0), None, eqx.if_array(0))  # type: ignore[arg-type]

    def found(weights: Any) -> tuple[State, Report]:
        problem = Problem(dynamics, network, weights, drives(weights), target_step, label, (every,))
        state, report, _ = level.settle(problem, start.state, Span(0.0, True))
        return state, report

    def vector_field(flowing: Flowing) -> Flowing:
        weights = constrain(flowing.weights)
        state, _ = found(weights)
        readout = read_batch(dynamics, network, weights, drives(weights), state)
        moved = velocity(weights, readout, flowing.memory)
        return Flowing(remember(readout, flowing.memory), moved)

    def seen(flowing: Flowing) -> Any:
        assert watch is not None, "only what is watched is seen"
        return watch[1](Plastic(found(constrain(flowing.weights))[0], *flowing))

    end, watched, ended = clock.integrate(
        vector_field,
        Flowing(start.memory, start.weights),
        duration,
        watch=None if watch is None else (watch[0], seen),
        longer=longer,
    )
    weights = constrain(end.weights)
    state, report = found(weights)
    lost = jnp.where(ended.done, 0.0, jnp.nan)
    report = report._replace(
        residual=report.residual + lost,
        stopped=jnp.broadcast_to(ended.stopped, report.residual.shape),
        parts=clock.parts * report.parts,
    )
    state = jax.tree.map(lambda v: v + lost.astype(v.dtype), state)
    return Plastic(state, end.memory, weights), report, watched
