"""When a network has come to rest: the residual measured against the expected learning signal.

Learning signals are differences of nearly equal states. In layer i they are about

    expected_i = η̂ ‖e_L‖ attenuation_i,

so a residual is small only if it is small against that. The criterion looks at the vector field,
per sample and per layer, never at the change of the state.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, Scalar

from neurosim.networks.dynamics import Drive, Dynamics, State, residual
from neurosim.networks.network import Network

ERROR_FLOOR = 1e-2
"""Samples whose output error is smaller than this need no better absolute accuracy than it asks."""

ROUNDING = 16
"""Roundings, in units of eps·|state|, below which a residual cannot be told from zero."""

FEW = 16
"""Numbers that are added up one by one."""


class Problem(NamedTuple):
    """One phase of one sample: what moves, under which weights, driven by what.

    target_step: η̂. label: y. Both only set the scale of the expected signal here.

    Or of many samples at once, whose arrays have leading axes; then so have their states. axes:
    for every leading axis, outermost first, where the other fields have it, as `in_axes` of
    `equinox.filter_vmap` say it. Loops over such a problem turn once for all samples, and hold
    those still that have ended: to `vmap` a loop instead would compile several times as long.
    """

    dynamics: Dynamics
    network: Network
    weights: Any
    drive: Drive
    target_step: Scalar | float
    label: Float[Array, "... n_L"]
    axes: tuple["Problem", ...] = ()

    def each(self, function: Callable[..., Any], *arrays: Any) -> Any:
        """function(problem of one sample, its part of `arrays`) of all samples."""
        for axes in reversed(self.axes):
            function = eqx.filter_vmap(function, in_axes=(axes, *[eqx.if_array(0)] * len(arrays)))
        return function(self._replace(axes=()), *arrays)

    def at(self, place: tuple[Int[Array, ""], ...]) -> "Problem":
        """The problem of one sample. place: its number on every leading axis, outermost first."""

        def taken(axis: Any, arrays: Any, number: Int[Array, ""]) -> Any:
            def leaf(a: Any) -> Any:
                where = axis(a) if callable(axis) else axis
                return a if where is None else jnp.take(a, number, where)

            return jax.tree.map(leaf, arrays)

        one = self._replace(axes=())
        for axes, number in zip(self.axes, place, strict=True):
            of = partial(taken, number=number)
            one = jax.tree.map(of, axes, one, is_leaf=lambda axis: axis is None)
        return one


Watch = tuple[Any, Callable[[Problem, State], Any]]
"""Times (s) and what is seen at them of one sample."""


class Span(NamedTuple):
    """How long a phase may last and what is to be seen of it.

    duration: in s. stop: whether it ends as soon as it has settled. key: of the noise, one a
    sample. watch: what `settle` also returns, with the times behind the leading axes. longer: by
    how much more than the duration (s), of which levels with time take whole steps.
    """

    duration: float
    stop: bool
    key: Key[Array, "..."] | None = None
    watch: Watch | None = None
    longer: Scalar | None = None


class Report(NamedTuple):
    """How a phase ended, for every sample.

    residual: the largest |p(v) − v| over layers, as a fraction of the expected learning signal.
    settled: whether that is below the tolerance, or below what rounding lets one see.
    effort: sweeps or steps taken. stopped: the time it ended at (s); 0 where there is no time.
    rescued: whether sweeps stalled and the root solver had to finish. parts: into how many equal
    ones its steps had to be cut.
    """

    residual: Float[Array, "..."]
    settled: Bool[Array, "..."]
    effort: Float[Array, "..."]
    stopped: Float[Array, "..."]
    rescued: Bool[Array, "..."]
    parts: Float[Array, "..."]


Looked = tuple[Float[Array, "..."], Bool[Array, "..."]]
"""Of every sample, how far it is from rest, and whether that counts as settled; see `imbalance`."""


def where(chosen: Bool[Array, "..."], there: Any, here: Any) -> Any:
    """`there` for the samples that are chosen, `here` for the others; samples lead."""

    def of_leaf(a: Array, b: Array) -> Array:
        return jnp.where(chosen.reshape(chosen.shape + (1,) * (a.ndim - chosen.ndim)), a, b)

    return jax.tree.map(of_leaf, there, here)


def rms(v: Float[Array, " n"]) -> Float[Array, ""]:
    """Root mean square of the units of a layer.

    Halves are added to each other until few numbers are left: of more than 32 XLA makes a sum on a
    processor in two passes, neither of which becomes one with what squares them.
    """
    squares = v * v
    while squares.size > FEW:
        half = squares.size // 2
        odd = squares[2 * half :]
        squares = jnp.concatenate([squares[:half] + squares[half : 2 * half], odd])
    return jnp.sqrt(jnp.sum(squares) / v.size)


def imbalance(
    problem: Problem, state: State, tolerance: Scalar | float
) -> tuple[Float[Array, ""], Bool[Array, ""]]:
    """The residual of a state relative to the expected signal, and whether it counts as settled.

    Of one sample.
    """
    dynamics, network, weights, drive, target_step, label = problem[:6]
    output = dynamics.read(network, weights, drive, state).rate[-1]
    error = jnp.maximum(rms(network.loss.error(output, label)), ERROR_FLOOR)
    eps = jnp.finfo(output.dtype).eps
    worst, settled = jnp.zeros((), output.dtype), jnp.array(True)
    pulls = residual(dynamics, network, weights, drive, state)
    for name, layers in pulls.items():
        for i, (r, v) in enumerate(zip(layers, state[name], strict=True), start=1):
            expected = target_step * error * dynamics.expected(network, name, i)
            relative = rms(r) / expected
            floor = ROUNDING * eps * rms(v) / expected
            worst = jnp.maximum(worst, relative)
            settled &= relative <= jnp.maximum(tolerance, floor)
    return worst, settled
