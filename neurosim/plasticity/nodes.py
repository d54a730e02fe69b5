"""Learning of nodes with local goals: whose turn it is, and what their weights make of it.

Kostadinov, Razeghi & Voloshynovskiy 2019 [K]. Weights solve problems of their node alone [K 16–19];
on line they move by A ← A + ρ ΔA, with ΔA = Â − A, or the negative gradient of the same problem.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, Scalar

from neurosim.credit.local_goals import Goals, Missed
from neurosim.functions.penalized_weights import (
    Penalties,
    backward_form,
    closed_form,
    restoring,
)
from neurosim.networks.dynamics import Readout
from neurosim.networks.network import Layers, Weights
from neurosim.seeds import substream


class Nodes(eqx.Module):
    """The hidden layers of a chain as nodes.

    solved: forward weights go towards the `solution` of their problem, or down its `gradient`; None
    where they know no penalties. active: the probability with which a node takes part in a
    presentation.
    """

    goals: Goals
    penalties: Penalties
    solved: str | None = eqx.field(static=True)
    active: Scalar | float

    def turns(self, key: PRNGKeyArray, depth: int) -> Float[Array, " L"]:
        """1 of every layer that takes part in the presentation of this key, 0 of others.

        The output, which reads the last node, always does.
        """
        drawn = jax.random.uniform(substream(key, "turns"), (depth - 1,)) < self.active
        return jnp.append(drawn.astype(float), 1.0)

    def forward(
        self, A: Float[Array, "n m"], made: Float[Array, "n m"], u: Float[Array, "batch m"]
    ) -> Float[Array, "n m"]:
        """ΔA of a node. made: ⟨w uᵀ⟩ − A ⟨u uᵀ⟩, what the data ask for. u: what it hears."""
        if self.solved is None:
            return made
        if self.solved == "gradient":
            return made + restoring(A, self.penalties)
        M = u.T @ u / len(u)
        return closed_form(M, made + A @ M, A, self.penalties) - A

    def backward(self, weights: Weights, now: Readout, found: Missed) -> Layers:
        """ΔB = B̂ − B of every node below another [K 19]. weights: with A as it has become."""
        changes = []
        for k, B in enumerate(weights.Q):
            y = now.potential[k] + found.deviation[k]
            sent = self.goals.from_above * found.error[k + 1]
            given = y, now.rate[k + 1], found.deviation[k], sent, weights.W[k + 1]
            changes.append(backward_form(*given, self.penalties.similarity) - B)
        return tuple(changes)
