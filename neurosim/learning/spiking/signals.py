"""From what spikes say to what the plasticity rules of the other levels ask for."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from neurosim.circuits.populations import Group
from neurosim.learning.engine import Engine
from neurosim.levels.simulator import Batch, Phase, RunState
from neurosim.networks.circuit import Signals
from neurosim.networks.dynamics import Drive, Target
from neurosim.plasticity.learning import nothing
from neurosim.process.compiled import compiled


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
    """The target for what the teacher sees of the output layer."""
    network = rules.network
    return jax.vmap(lambda t, h: t(network, h))(target, top)


@compiled
def look(
    rules: Engine,
    phase: Phase,
    weights: Any,
    x: Float[Array | np.ndarray, "batch n_0"],
    target: Target,
    known: Mapping[tuple[Group, str], Float[Array | np.ndarray, "batch n"]],
) -> dict[str, dict[str, Array]]:
    """The recordable variables of a batch, of which a part is known."""
    drives = rules.drives(weights, jnp.asarray(x), target, phase=phase)

    def one(drive: Drive, known: Any) -> dict[str, dict[str, Array]]:
        return rules.dynamics.look(rules.network, weights, drive, {}, known)

    return jax.vmap(one)(drives, known)


@compiled
def drawn(rules: Engine, weights: Any, key: PRNGKeyArray) -> Any:
    """The weights that a presentation begins with; key: of its first phase."""
    return rules.drawn(weights, key)


@compiled
def learn(
    rules: Engine,
    state: RunState,
    weights: Any,
    batch: Batch,
    passed: list[Signals],
    key: PRNGKeyArray,
    first: Int[Array, ""],
) -> Learned:
    """A presentation ends: quasi-static plasticity takes its step; online it has taken it.

    passed: what rules read of every phase.
    """
    moment = rules.moment(state.presentation, first, key)
    optimizer, change, left = state.optimizer, nothing(weights), []
    for number, (phase, estimates) in enumerate(zip(rules.phases, passed, strict=True)):
        left.append(estimates)
        if not rules.online and phase.plastic:
            phase_key = jax.random.fold_in(key, number)
            given = weights, batch, estimates, tuple(left), phase_key, moment
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
    now: Signals,
    batch: Batch,
    key: PRNGKeyArray,
    state: RunState,
    first: Int[Array, ""],
) -> tuple[Any, Any]:
    """Online plasticity over dt: the weights and the memories of the free phase move on."""
    moment = rules.moment(state.presentation, first)
    left = rules.learning.recalled(rules.phases, now, memory)
    change = rules.change(weights, batch, now, left, key, moment, phase=phase)
    velocity = rules.learning.rated(change, moment.factor)
    weights = jax.tree.map(lambda w, v: w + dt * v, weights, velocity)
    memory = rules.learning.after(phase, now, memory, dt)
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
