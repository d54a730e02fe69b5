"""From what spikes say to what the plasticity rules of the other levels ask for."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from neurosim.compiled import compiled
from neurosim.dynamics import Multiplexing
from neurosim.dynamics.base import Dynamics, State, Target
from neurosim.dynamics.circuit import Signals
from neurosim.engine import Engine
from neurosim.levels.online import read_batch
from neurosim.plasticity.learning import nothing
from neurosim.simulator import Batch, Phase, RunState


class Estimates(NamedTuple):
    """What spikes say of a while, by layer, each (batch, n_i).

    rate: h_i from spike (or event) counts. burst: ĥ_i from the fraction of events that were
    bursts; empty without bursts. basal, apical: mean dendritic potentials.
    """

    rate: tuple[Any, ...]
    burst: tuple[Any, ...]
    basal: tuple[Any, ...]
    apical: tuple[Any, ...]


class Learned(NamedTuple):
    """What a presentation left behind."""

    state: RunState
    change: Any
    loss: Array
    error: Array


@compiled
def targets(
    rules: Engine,
    phase: Phase,
    y: Float[Array | np.ndarray, "batch n_L"],
    output: Float[Array | np.ndarray, "batch n_L"],
) -> Target:
    """The teaching of every sample in a phase; `output`: h_L at the end of the free phase."""
    return jax.vmap(lambda y, h: rules.target(phase, y, h))(y, output)


@compiled
def taught(
    rules: Engine, target: Target, top: Float[Array | np.ndarray, "batch n_L"]
) -> Float[Array, "batch n_L"]:
    """h_L^trgt for what the teacher sees of the output layer: its somata, or basal potentials."""
    network = rules.network
    if isinstance(rules.dynamics, Multiplexing):
        top = network.s(network.depth, jnp.asarray(top))
    return jax.vmap(lambda t, h: t(network, h))(target, top)


def sender(dynamics: Dynamics) -> str:
    """The compartment that what a neuron sends is made of."""
    return "basal" if isinstance(dynamics, Multiplexing) else "soma"


def _read(
    rules: Engine, weights: Any, x: Float[Array, "batch n_0"], target: Target, estimates: Any
) -> tuple[Any, Any]:
    """(states, readouts) of a batch: the equations' own reading, of what spikes say.

    What a circuit's spikes say is the readout itself.
    """
    if isinstance(estimates, Signals):
        return None, estimates
    state: State = {"basal": estimates.basal, "apical": estimates.apical}
    if not isinstance(rules.dynamics, Multiplexing):
        state[sender(rules.dynamics)] = estimates.rate
    drive = rules.drives(weights, x, target, phase=rules.phases[0])
    readout = read_batch(rules.dynamics, rules.network, weights, drive, state)
    if isinstance(rules.dynamics, Multiplexing):
        rate, burst = estimates.rate, estimates.burst
        readout = readout._replace(
            rate=rate, basal=rate, apical=burst, teacher=burst, downward=burst
        )
    return state, readout


@compiled
def observe(
    rules: Engine,
    weights: Any,
    x: Float[Array | np.ndarray, "batch n_0"],
    target: Target,
    estimates: Any,
) -> dict[str, dict[str, Array]]:
    """The recordable variables of a batch."""
    state, readout = _read(rules, weights, jnp.asarray(x), target, estimates)
    return jax.vmap(rules.dynamics.observe)(state, readout)


@compiled
def learn(
    rules: Engine,
    state: RunState,
    weights: Any,
    batch: Batch,
    passed: list[Any],
    targets: list[Target],
    key: PRNGKeyArray,
    first: Int[Array, ""],
) -> Learned:
    """A presentation ends: quasi-static plasticity takes its step; online it has taken it."""
    moment = rules.moment(state.presentation, first)
    optimizer, change, left = state.optimizer, nothing(weights), []
    for number, (phase, estimates, target) in enumerate(
        zip(rules.phases, passed, targets, strict=True)
    ):
        _, readout = _read(rules, weights, batch.x, target, estimates)
        left.append(readout)
        if not rules.online and phase.plastic:
            phase_key = jax.random.fold_in(key, number)
            given = weights, batch, readout, tuple(left), phase_key, moment
            this = rules.change(*given, phase=phase)
            change = jax.tree.map(jnp.add, change, this)
    if rules.online:
        change = jax.tree.map(jnp.subtract, weights, state.weights)
    elif any(phase.plastic for phase in rules.phases):
        weights, optimizer = rules.learning.step(weights, change, optimizer, moment.factor)
    loss, error = score(rules, passed[0].rate[-1], batch.y)
    return Learned(RunState(weights, optimizer, state.presentation + 1), change, loss, error)


@compiled
def drift(
    rules: Engine,
    phase: Phase,
    dt: float,
    weights: Any,
    memory: Any,
    now: Any,
    batch: Batch,
    target: Target,
    key: PRNGKeyArray,
    state: RunState,
    first: Int[Array, ""],
) -> tuple[Any, Any]:
    """Online plasticity over dt: the weights and the memories of the free phase move on."""
    moment = rules.moment(state.presentation, first)
    _, readout = _read(rules, weights, batch.x, target, now)
    left = rules.learning.recalled(rules.phases, readout, memory)
    change = rules.change(weights, batch, readout, left, key, moment, phase=phase)
    velocity = rules.learning.rated(change, moment.factor)
    weights = jax.tree.map(lambda w, v: w + dt * v, weights, velocity)
    memory = rules.learning.after(phase, readout, memory, dt)
    return rules.learning.constrain(weights), memory


@compiled
def score(
    rules: Engine,
    output: Float[Array | np.ndarray, "batch n_L"],
    y: Float[Array | np.ndarray, "batch n"],
) -> tuple[Array, Array]:
    """Mean loss and fraction classified wrongly."""
    output, y = jnp.asarray(output), jnp.asarray(y)
    wrong = jnp.argmax(output, -1) != jnp.argmax(y, -1)
    return jnp.mean(jax.vmap(rules.network.loss)(output, y)), jnp.mean(wrong.astype(output.dtype))
