"""Online plasticity at the rate level: weights are part of the ODE and obey dW/dt all along.

The samples of a batch share their weights and are therefore one ODE. Each neuron keeps what it did
in an earlier phase as a slow memory, τ_m dm/dt = gate (v − m), whose gate is open in that phase;
rules read it where quasi-static ones read the state in which the phase had settled.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jaxtyping import Array, Bool, Float, Key, Scalar

from neurosim.levels.rate import Rate
from neurosim.levels.settling import Problem, Report, imbalance
from neurosim.networks.dynamics import Drive, Dynamics, State, field
from neurosim.networks.network import Network


class Plastic(NamedTuple):
    """All that moves in online plasticity. state and memory carry the batch first."""

    state: State
    memory: Any
    weights: Any


def integrate(
    level: Rate,
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
    keys: Key[Array, " batch"] | None,
    watch: tuple[Any, Callable[[Plastic], Any]] | None,
    constrain: Callable[[Any], Any],
    longer: Scalar | None,
) -> tuple[Plastic, Report, Any]:
    """One phase with plasticity, over its whole duration.

    level: says when neurons have settled. clock: steps both. drives: what holds for the batch under
    weights. velocity: dW/dt per second from
    (weights, batched readout, memory). remember: d memory/dt per second from (batched readout,
    memory). keys: one a sample, so that noise follows the sample and not its place in the batch.
    watch: times (s) and what is seen at them. constrain: what ties the weights to each other
    (exact inverses). longer: by how much more than the duration (s).
    """

    def vector_field(plastic: Plastic) -> Plastic:
        weights = constrain(plastic.weights)
        held = drives(weights)
        d_state = jax.vmap(lambda d, s: field(dynamics, network, weights, d, s))(
            held, plastic.state
        )
        readout = read_batch(dynamics, network, weights, held, plastic.state)
        d_memory = remember(readout, plastic.memory)
        return Plastic(d_state, d_memory, velocity(weights, readout, plastic.memory))

    noise = clock.noise(dynamics, network, start.state, keys)
    if noise is not None:
        quiet = jax.tree.map(lambda _: None, (start.memory, start.weights))
        noise = noise._replace(spread=Plastic(noise.spread, *quiet))
    end, watched, solution = clock.integrate(
        vector_field, start, duration, noise=noise, watch=watch, longer=longer
    )
    end = end._replace(weights=constrain(end.weights))

    def look(
        d: Drive, state: State, label: Float[Array, " n_L"]
    ) -> tuple[Float[Array, ""], Bool[Array, ""]]:
        problem = Problem(dynamics, network, end.weights, d, target_step, label)
        return imbalance(problem, state, level.tolerance)

    looked = jax.vmap(look)(drives(end.weights), end.state, label)
    return end, clock.report(solution, looked), watched


def read_batch(
    dynamics: Dynamics, network: Network, weights: Any, drives: Drive, states: State
) -> Any:
    """The readout of a batch, every array with the batch first."""
    return jax.vmap(lambda d, s: dynamics.read(network, weights, d, s))(drives, states)
