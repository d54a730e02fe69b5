"""Where a network can rest: the fixed point it settles at, and all that many starts find."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, PRNGKeyArray, Scalar

from neurosim.levels.equilibrium import Equilibrium
from neurosim.levels.settling import Problem, Span
from neurosim.networks.dynamics import Drive, State, Target, residual, rest
from neurosim.process.compiled import compiled
from neurosim.theory.linearisation import System

SWEEPS = Equilibrium(tolerance=1e-13, max_sweeps=2000, max_newton=0)
"""Sweeps down to what rounding lets one see."""

RESCUED = Equilibrium(tolerance=1e-13, max_sweeps=2000, max_newton=20)
"""The same with Newton steps where sweeps stall or run away; they cost time to compile."""

CLOSE = 1e-6
"""Fixed points nearer than this, relative to the size of their states, count as one."""


class Rest(NamedTuple):
    """Where a network settles. residual: ‖p(v) − v‖, in units of the state.

    settled: whether that is what rounding leaves.
    """

    state: State
    residual: Float[Array, ""]
    settled: Bool[Array, ""]


class Found(NamedTuple):
    """Distinct fixed points of many starts, the one met most often first.

    states: flat, one a row. counts: how many starts led to each. residuals: ‖p(v) − v‖.
    failed: starts that led to none.
    """

    states: Float[np.ndarray, "points n"]
    counts: tuple[int, ...]
    residuals: tuple[float, ...]
    failed: int


def imbalance(system: System, state: State) -> Float[Array, ""]:
    """‖p(v) − v‖, in units of the state; a sum, since XLA's maxima may pass over NaN."""
    return jnp.linalg.norm(ravel_pytree(residual(*system, state))[0])


def settle(
    system: System,
    step: Scalar | float,
    label: Float[Array, " n_L"],
    start: State | None = None,
    how: Equilibrium = SWEEPS,
) -> Rest:
    """The fixed point that sweeps reach from `start` (from rest if not given).

    step: η̂. label: y. Both set the scale of the expected signal, against which a residual is small.
    """
    dynamics, network, _, drive = system
    state = rest(dynamics, network, drive.x.dtype) if start is None else start
    state, report, _ = how.settle(Problem(*system, step, label), state, Span(0.0, True))
    return Rest(state, imbalance(system, state), report.settled)


def phases(
    system: System,
    step: Scalar | float,
    label: Float[Array, " n_L"],
    kinds: Iterable[str],
    how: Equilibrium = SWEEPS,
    free_parameters: Mapping[str, Array] | None = None,
) -> dict[str, tuple[Drive, Rest]]:
    """The fixed points of one sample under these kinds of teaching, each with its own drive.

    free_parameters: those that the phase without teaching changes; the drive's if not given.

    none (always there): h_L^trgt = h_L. following: h_L^trgt = h_L − η̂ e_L(h_L) all along. frozen:
    the same, held at the free fixed point. clamped: h_L^trgt = y. held: the free answer itself.
    Taught ones start from the free.
    """
    dynamics, network, weights, drive = system

    def under(drive: Drive, start: State | None = None) -> tuple[Drive, Rest]:
        return drive, settle(system._replace(drive=drive), step, label, start, how)

    changed = drive.changed if free_parameters is None else dict(free_parameters)
    free_drive, free = under(replace(drive, target=Target("none"), changed=changed))
    output = dynamics.read(network, weights, free_drive, free.state).rate[-1]
    targets = {
        "following": Target("following", step, label),
        "frozen": Target("fixed", value=output - step * network.loss.error(output, label)),
        "clamped": Target("fixed", value=label),
        "held": Target("fixed", value=output),
    }
    found = {"none": (free_drive, free)}
    return found | {
        kind: under(replace(drive, target=targets[kind]), free.state)
        for kind in kinds
        if kind != "none"
    }


@compiled
def _roots(
    system: System, starts: Float[Array, "k n"], like: State, steps: int
) -> tuple[Float[Array, "k n"], Float[Array, " k"]]:
    unravel = ravel_pytree(like)[1]

    def unbalanced(v: Float[Array, " n"], _: None) -> Float[Array, " n"]:
        return ravel_pytree(residual(*system, unravel(v)))[0]

    def one(start: Float[Array, " n"]) -> tuple[Float[Array, " n"], Float[Array, ""]]:
        eps = float(jnp.finfo(start.dtype).eps)
        solver: Any = optx.LevenbergMarquardt(rtol=1e-10, atol=100 * eps)
        point = optx.least_squares(unbalanced, solver, start, max_steps=steps, throw=False).value
        return point, imbalance(system, unravel(point))

    return jax.lax.map(one, starts, batch_size=16)


def search(
    system: System, starts: Float[Array, "k n"], tolerance: float = 1e-9, steps: int = 256
) -> Found:
    """All fixed points, stable or not, that Levenberg–Marquardt steps find from flat starts.

    tolerance: residual allowed, relative to the size of the states. The Jacobian is formed: for up
    to some hundreds of states.
    """
    like = rest(system.dynamics, system.network, system.drive.x.dtype)
    points, errors = map(np.asarray, _roots(system, starts, like, steps))
    scale = 1 + np.max(np.abs(points), axis=1)
    good = np.isfinite(errors) & (errors <= tolerance * scale)
    return distinct(points[good], errors[good], int(np.sum(~good)))


def distinct(
    points: Float[np.ndarray, "k n"], residuals: Float[np.ndarray, " k"], failed: int = 0
) -> Found:
    """The points with near ones counted together, each represented by its smallest residual."""
    groups: list[list[int]] = []
    for k in np.argsort(residuals):
        for group in groups:
            first = points[group[0]]
            if np.max(np.abs(points[k] - first)) <= CLOSE * (1 + np.max(np.abs(first))):
                group.append(int(k))
                break
        else:
            groups.append([int(k)])
    groups.sort(key=len, reverse=True)
    return Found(
        points[[group[0] for group in groups]],
        tuple(len(group) for group in groups),
        tuple(float(residuals[group[0]]) for group in groups),
        failed,
    )


def starts(system: System, count: int, spread: float, key: PRNGKeyArray) -> Float[Array, "count n"]:
    """Flat Gaussian starts around rest, `spread` times as wide as the forward pass is large.

    Or as the input is, in networks that are no chain of layers.
    """
    dynamics, network, weights, drive = system
    like = rest(dynamics, network, drive.x.dtype)
    chain = dynamics.chain(weights)
    activity = drive.x if chain is None else jnp.concatenate(network.forward_pass(chain, drive.x))
    width = spread * jnp.sqrt(jnp.mean(activity**2))
    flat = ravel_pytree(like)[0]
    return width * jax.random.normal(key, (count, flat.size), flat.dtype)
