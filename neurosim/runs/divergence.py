"""What left the finite numbers, where and when."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float

from neurosim import wording
from neurosim.bounds import inside
from neurosim.building import assembly
from neurosim.levels.shortening import MOST
from neurosim.levels.simulator import Examined
from neurosim.levels.stability import longest_step
from neurosim.networks.circuit import CircuitDynamics
from neurosim.networks.dynamics import Target, rest
from neurosim.networks.network import Network
from neurosim.places import spelled
from neurosim.specs import ModelSpec, PhaseSpec, ProtocolSpec
from neurosim.theory.linearisation import System, modes
from neurosim.units import format_time, shorter_step


def exploded_weights(weights: Any, names: Sequence[str], s: int) -> str | None:
    """The first of the weights of seed number s that are out of bounds. names: of the leaves."""
    for name, array in zip(names, jax.tree.leaves(weights), strict=True):
        if not inside(array[s]).all():
            return name
    return None


def sound(weights: Any) -> np.ndarray:
    """Which seeds have all their weights in bounds."""
    groups = jax.tree.leaves(weights)
    return np.asarray(np.all([inside(a).reshape(len(a), -1).all(axis=1) for a in groups], axis=0))


class Place(NamedTuple):
    """Where a state left the bounds: in words, in which kind of phase, for which sample."""

    words: str
    teaching: str
    sample: int


def place(
    spec: ProtocolSpec,
    phases: Sequence[PhaseSpec],
    seen: Examined,
    times: Sequence[Sequence[float]],
    s: int,
) -> Place | None:
    """The phase, moment, variable and layer that seed number s left the bounds in first.

    seen: the presentation in detail, all samples of its batch. None if it was in bounds throughout.
    """
    for phase, trace, moments in zip(phases, seen.traces, times, strict=True):
        earliest: tuple[int, str, int] | None = None
        for where, variables in trace.items():
            for name, array in variables.items():
                bad = np.logical_not(inside(array[s]).all(axis=2))
                first = int(np.argmax(bad.any(axis=0)))
                if bad.any() and (earliest is None or first < earliest[0]):
                    what = f"{name} of {spelled(where)}"
                    earliest = first, what, int(np.argmax(bad[:, first]))
        if earliest is not None:
            at, variable, sample = earliest
            when = f" at {moments[at] * 1e3:.4g} ms" if spec.timed else ""
            words = f"phase {phase.name!r}{when}: {variable} left all bounds"
            return Place(words, phase.teaching, sample)
    return None


def stability(
    spec: ProtocolSpec,
    dynamics: CircuitDynamics,
    network: Network,
    weights: Any,
    x: Float[Array, " n_0"],
    y: Float[Array, " n_L"],
    teaching: str,
) -> str:
    """What the linearised phase of a sample says: does it grow, or only its solver?

    weights: of one seed. The state is that at which a presentation begins.
    """
    target = {
        "none": Target("none"),
        "following": Target("following", spec.model.target_step, y),
    }.get(teaching, Target("fixed", value=y))
    drive = dynamics.drive(network, weights, x, target)
    system = System(dynamics, network, weights, drive)
    found = modes(system, rest(dynamics, network, x.dtype))
    if not found.known:
        return (
            "where it began, the phase has no linearisation that is finite; another activation, "
            "such as model.activation = 'leaky-relu', or smaller weights may have one"
        )
    if not found.stable:
        return (
            f"linearised where it began, the phase is unstable: it grows e-fold in "
            f"{wording.duration(1 / found.abscissa)}, as feedback weights far from inverses make it"
            f"; {_steadying(spec.model, network, weights, drive, x.dtype)}"
        )
    text = (
        "linearised where it began, the phase is stable, with time constants of up to "
        f"{wording.duration(found.time_constant)}"
    )
    smaller = f"model.target_step = {spec.model.target_step / 2:g}"
    if spec.level != "rate" or spec.rate is None or spec.rate.adaptive:
        return f"{text}; smaller steps of learning, such as {smaller}, may keep it in bounds"
    shortest = spec.rate.dt / MOST
    longest = longest_step(spec.rate.scheme, found.eigenvalues, shortest)
    if longest == shortest:
        return f"{text}; steps down to {wording.duration(shortest)} were tried; {smaller} may help"
    return (
        f"{text}, but even steps cut to {wording.duration(shortest)} amplify it; "
        f"'{spec.rate.scheme}' needs a dt below {wording.duration(longest)}; "
        f"{_shorter(spec.rate.dt, longest)} does"
    )


def _steadying(
    model: ModelSpec, network: Network, weights: Any, drive: Any, dtype: np.dtype[Any]
) -> str:
    """What would make an unstable phase of these weights stable: a smaller mu, where one does."""
    mu = model.parameters.get("mu")
    for halvings in range(1, 7) if isinstance(mu, float | int) else ():
        less = mu / 2**halvings
        changed = model.model_copy(update={"parameters": dict(model.parameters) | {"mu": less}})
        dynamics = assembly.dynamics(changed)
        if modes(System(dynamics, network, weights, drive), rest(dynamics, network, dtype)).stable:
            return f"with model.parameters.mu = {less:g} it would be stable"
    inits = {name: given.init for name, given in model.projections.items()}
    if "W" in inits and "Q" in inits and inits["Q"] != "pinv(W[i+1])":
        return "model.projections.Q.init = 'pinv(W[i+1])' starts from inverses"
    return "a smaller gain of the feedback weights, or a lower rate of theirs, may steady it"


def _shorter(dt: float, longest: float) -> str:
    """A step below the longest, by key."""
    return f'rate.dt = "{format_time(shorter_step(dt, min(dt / 2, longest * (1 - 1e-6))))}"'


def domain(network: Network) -> str:
    """A hint where an inverse may have been asked for outside its domain."""
    if network.form != "inverse":
        return ""
    for i, activation in enumerate(network.activations[1:], start=2):
        low, high = activation.domain or (-math.inf, math.inf)
        if math.isfinite(low) or math.isfinite(high):
            return (
                f"; the inverse of layer {i}'s activation exists only on ({low:g}, {high:g}), "
                "which mixed or nudged activity can leave"
            )
    return ""
