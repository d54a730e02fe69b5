"""A network near a state: the Jacobian of its vector field, its spectrum and its slowest modes."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Complex, Float
from scipy.sparse.linalg import ArpackError, ArpackNoConvergence, LinearOperator, eigs

from neurosim.networks.circuit import CircuitDynamics
from neurosim.networks.dynamics import Drive, Dynamics, State, field
from neurosim.networks.network import Network
from neurosim.process.compiled import compiled

DENSE = 1536
"""States up to which the full spectrum is computed: seconds; it grows with the third power."""


class System(NamedTuple):
    """One phase of one sample: what moves, under which weights, driven by what."""

    dynamics: CircuitDynamics
    network: Network
    weights: Any
    drive: Drive


class Modes(NamedTuple):
    """Eigenvalues of a Jacobian (1/s), the slowest first. complete: whether these are all.

    None are known where the Jacobian is not finite or Arnoldi's method did not converge.
    time_constant: at which the slowest mode decays (s); infinite where one grows.
    """

    eigenvalues: Complex[np.ndarray, " k"]
    complete: bool

    @property
    def abscissa(self) -> float:
        """The largest real part (1/s): negative where the state is stable; NaN where unknown."""
        return float(self.eigenvalues[0].real) if self.known else np.nan

    @property
    def known(self) -> bool:
        """Whether there is any."""
        return len(self.eigenvalues) > 0

    @property
    def stable(self) -> bool:
        """Whether every mode decays; false where that is unknown."""
        return self.abscissa < 0

    @property
    def time_constant(self) -> float:
        """Of the slowest mode (s)."""
        return -1 / self.abscissa if self.stable else np.inf if self.known else np.nan


def flat_field(system: System, like: State) -> Callable[[Float[Array, " n"]], Float[Array, " n"]]:
    """dv/dt (1/s) as a function of the flat state, compartment by compartment, layer 1 first."""
    unravel = ravel_pytree(like)[1]
    return lambda v: ravel_pytree(field(*system, unravel(v)))[0]


@compiled
def product(system: System, state: State, v: Float[Array, " n"]) -> Float[Array, " n"]:
    """J v without forming J; v is flat."""
    return jax.jvp(flat_field(system, state), (ravel_pytree(state)[0],), (v,))[1]


@compiled
def transposed_product(system: System, state: State, v: Float[Array, " n"]) -> Float[Array, " n"]:
    """Jᵀ v without forming J; v is flat."""
    pull = jax.vjp(flat_field(system, state), ravel_pytree(state)[0])[1]
    return pull(v)[0]


@compiled
def jacobian(system: System, state: State) -> Float[Array, "n n"]:
    """J = ∂(dv/dt)/∂v (1/s) at a state [T 6.40]."""
    return jax.jacfwd(flat_field(system, state))(ravel_pytree(state)[0])


def spectrum(matrix: Float[Array | np.ndarray, "n n"]) -> Modes:
    """All eigenvalues of a Jacobian; none of one that is not finite."""
    matrix = np.asarray(matrix, np.float64)
    if not np.isfinite(matrix).all():
        return Modes(np.zeros(0, complex), False)
    eigenvalues = np.linalg.eigvals(matrix).astype(complex)
    return Modes(eigenvalues[np.argsort(-eigenvalues.real)], True)


def slowest(system: System, state: State, count: int = 6, tolerance: float = 1e-8) -> Modes:
    """The `count` eigenvalues of largest real part, by Arnoldi's method on products J v.

    tolerance: relative, of the eigenvalues. Of an eigenvalue met several times (exact inverses have
    n-fold ones) rounding decides how many copies are found. None are found of products that are
    not finite.
    """
    flat = ravel_pytree(state)[0]

    def times(v: np.ndarray) -> np.ndarray:
        """J v in double precision, as Arnoldi's method fails on n-fold eigenvalues in single."""
        return np.asarray(product(system, state, jnp.asarray(v, flat.dtype)), np.float64)

    operator = LinearOperator((flat.size, flat.size), times, dtype=np.float64)
    start = np.random.default_rng(0).standard_normal(flat.size)  # ARPACK's own is not repeatable
    most = max(4 * count, 40)
    try:
        found = eigs(
            operator,
            count,
            which="LR",
            v0=start,
            ncv=min(most, flat.size),
            tol=tolerance,
            return_eigenvectors=False,
        )
    except ArpackNoConvergence as partial:
        found = partial.eigenvalues
    except ArpackError:  # products that are not finite
        found = np.zeros(0, complex)
    return Modes(found[np.argsort(-found.real)], False)


def modes(system: System, state: State, count: int = 6) -> Modes:
    """The full spectrum up to `DENSE` states, the slowest modes of larger networks."""
    if ravel_pytree(state)[0].size <= DENSE:
        return spectrum(jacobian(system, state))
    return slowest(system, state, count)


def flat_size(dynamics: Dynamics, network: Network) -> int:
    """How many states a network has."""
    return sum(sum(sizes) for sizes in dynamics.shapes(network).values())
