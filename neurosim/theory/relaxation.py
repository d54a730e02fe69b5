"""How a network with exact inverses comes to rest: as a chain of single units does.

Where every g_i inverts f_{i+1}, the change of basis that carries each layer to the output through
the Jacobians of the layers above turns the linearised network into n copies of one chain: a network
of one linear unit a layer with unit weights. Its spectrum is that of any such network, n-fold; its
transients are theirs in these coordinates. So a few numbers, known before a run, say how long a
phase must be.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Float
from scipy.linalg import expm

from neurosim.activations import Linear
from neurosim.compiled import compiled
from neurosim.dynamics.base import Drive, Dynamics, Target, rest
from neurosim.losses import Loss
from neurosim.network import Network, Weights
from neurosim.theory.linearisation import System, flat_field


class Chain(NamedTuple):
    """The chain in one phase, an affine system: dv/dt = A v + b, teaching moves R v.

    A (1/s): over the flat state. R: the neurons' `teacher`, layer 1 first.
    """

    A: Float[np.ndarray, "n n"]
    b: Float[np.ndarray, " n"]
    R: Float[np.ndarray, "L n"]

    @property
    def rest(self) -> Float[np.ndarray, " n"]:
        """Where it settles."""
        return np.linalg.solve(self.A, -self.b)

    @property
    def slowest(self) -> float:
        """The time constant of its slowest mode (s)."""
        return -1 / float(np.linalg.eigvals(self.A).real.max())

    def transient(self, start: Float[np.ndarray, " n"], time: float) -> Float[np.ndarray, " L"]:
        """What is left of the way from `start` to rest after `time` (s), in every layer."""
        return np.abs(self.R @ expm(self.A * time) @ (start - self.rest))

    def until(
        self,
        start: Float[np.ndarray, " n"],
        small: Float[np.ndarray, " L"],
        precision: float = 1e-3,
    ) -> float:
        """When the transient of every layer is below `small` (s), to a relative `precision`."""

        def there(time):
            return np.all(self.transient(start, time) <= small)

        low, high = 0.0, self.slowest
        while not there(high):
            low, high = high, 2 * high
        while high - low > precision * high:
            middle = (low + high) / 2
            low, high = (low, middle) if there(middle) else (middle, high)
        return high


def chain(
    dynamics: Dynamics, depth: int, loss: Loss, teaching: str = "none", step: float = 0.0
) -> Chain:
    """One linear unit a layer, unit weights, input 1 and label 0: activity and output error are 1.

    teaching: `none`, `following`, `frozen` (at 1 − `step`) or `clamped`. The softmax of a single
    unit is constant, so that a following target under it counts as no teaching: the slowest case.
    """
    with jax.enable_x64(True):
        numbers = jax.tree.map(jnp.asarray, dynamics)
        values = {"frozen": 1 - step, "clamped": 0.0}
        kind = "fixed" if teaching in values else teaching
        target = Target(kind, jnp.asarray(step), jnp.zeros(1), jnp.full(1, values.get(teaching, 0)))
        found = _affine(numbers, depth, loss, target)
        return Chain(*map(np.asarray, found))


@compiled
def _affine(dynamics: Dynamics, depth: int, loss: Loss, target: Target):
    one = jnp.ones((1, 1))
    network = Network((1,) * (depth + 1), (Linear(),) * depth, "inverse", loss)
    weights = Weights((one,) * depth, (), (one,) * (depth - 1))
    system = System(dynamics, network, weights, Drive(jnp.ones(1), jnp.ones(1), target))
    state = rest(dynamics, network, jnp.float64)
    zero, unravel = ravel_pytree(state)
    velocity = flat_field(system, state)

    def teacher(v):
        return jnp.concatenate(dynamics.read(network, weights, system.drive, unravel(v)).teacher)

    return jax.jacfwd(velocity)(zero), velocity(zero), jax.jacfwd(teacher)(zero)
