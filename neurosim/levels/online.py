"""Online plasticity at the rate level: weights are part of the ODE and obey dW/dt all along.

The samples of a batch share their weights and are therefore one ODE. Each neuron keeps what it did
in the free phase as a slow memory, τ_m dm/dt = gate (teacher − m), whose gate is open in phases
without teaching; two-phase rules read it where quasi-static ones read the settled free phase.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray, Scalar

from neurosim.dynamics.base import Drive, Dynamics, Readout, State, Target, field
from neurosim.levels.rate import Rate, noise_of
from neurosim.levels.settling import Problem, Report, imbalance
from neurosim.network import Layers, Network, Weights


class Plastic(NamedTuple):
    """All that moves in online plasticity. state and memory carry the batch first."""

    state: State
    memory: Layers
    weights: Weights


def integrate(
    level: Rate,
    dynamics: Dynamics,
    network: Network,
    start: Plastic,
    x,
    label,
    target: Target,
    target_step,
    velocity: Callable[[Weights, Readout, Layers], Weights],
    tau_memory: Scalar | float | None,
    duration: float,
    keys: PRNGKeyArray | None,
    watch: tuple[Any, Callable[[Plastic], Any]] | None,
    constrain: Callable[[Weights], Weights],
) -> tuple[Plastic, Report, Any]:
    """One phase with plasticity, over its whole duration.

    velocity: dW/dt per second from (weights, batched readout, memory). tau_memory: None where the
    memory is closed. keys: one a sample, so that noise follows the sample and not its place in the
    batch. watch: times (s) and what is seen at them. constrain: what ties the weights to each other
    (exact inverses).
    """

    def drives(weights):
        return jax.vmap(lambda x, t: Drive(x, network.potential(weights, 1, x), t))(x, target)

    def vector_field(plastic: Plastic) -> Plastic:
        weights = constrain(plastic.weights)
        drive = drives(weights)
        d_state = jax.vmap(lambda d, s: field(dynamics, network, weights, d, s))(
            drive, plastic.state
        )
        readout = read_batch(dynamics, network, weights, drive, plastic.state)
        gate = 0.0 if tau_memory is None else 1 / tau_memory
        d_memory = tuple(
            gate * (t - m) for t, m in zip(readout.teacher, plastic.memory, strict=True)
        )
        return Plastic(d_state, d_memory, velocity(weights, readout, plastic.memory))

    noise = noise_of(dynamics, start.state, keys)
    if noise is not None:
        quiet = jax.tree.map(lambda _: None, (start.memory, start.weights))
        noise = noise._replace(spread=Plastic(noise.spread, *quiet))
    end, watched, solution = level.integrate(
        vector_field, start, duration, noise=noise, watch=watch
    )
    end = end._replace(weights=constrain(end.weights))

    def look(d, state, label):
        problem = Problem(dynamics, network, end.weights, d, target_step, label)
        return imbalance(problem, state, level.tolerance)

    worst, settled = jax.vmap(look)(drives(end.weights), end.state, label)
    every = jnp.ones_like(worst)
    report = Report(
        jnp.where(solution.done, worst, jnp.nan),
        settled & solution.done,
        solution.steps * every,
        solution.stopped * every,
        jnp.zeros_like(settled),
    )
    return end, report, watched


def read_batch(dynamics, network, weights, drives, states) -> Readout:
    """The readout of a batch, every array with the batch first."""
    return jax.vmap(lambda d, s: dynamics.read(network, weights, d, s))(drives, states)
