"""How a network with exact inverses comes to rest: as a chain of single units does.

Where every g_i inverts f_{i+1}, the change of basis that carries each layer to the output through
the Jacobians of the layers above turns the linearised network into n copies of one chain: a network
of one linear unit a layer with unit weights. Its spectrum is that of any such network, n-fold; its
transients are theirs in these coordinates. So a few numbers, known before a run, say how long a
phase must be.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from neurosim.families import FAMILIES


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
        from scipy.linalg import expm  # half of the time of importing all that `check` needs

        return np.abs(self.R @ expm(self.A * time) @ (start - self.rest))

    def until(
        self,
        start: Float[np.ndarray, " n"],
        small: Float[np.ndarray, " L"],
        precision: float = 1e-3,
    ) -> float:
        """When the transient of every layer is below `small` (s), to a relative `precision`."""

        def there(time: float) -> bool:
            return bool(np.all(self.transient(start, time) <= small))

        low, high = 0.0, self.slowest
        while not there(high):
            low, high = high, 2 * high
        while high - low > precision * high:
            middle = (low + high) / 2
            low, high = (low, middle) if there(middle) else (middle, high)
        return high


class Distance(NamedTuple):
    """What of a loss is felt in a chain: its name, and what the output layer sends."""

    name: str
    output: str


def chain(cell: Any, depth: int, loss: Any, teaching: str = "none", step: float = 0.0) -> Chain:
    """One linear unit a layer, unit weights, input 1 and label 0: activity and output error are 1.

    cell: a shipped dynamics, or its `neurosim.facts.Cell`. loss: of the network, or its `Distance`.
    teaching: `none`, `following`, `frozen` (at 1 − `step`) or `clamped`. The softmax of a single
    unit is constant, so that a following target under it counts as no teaching: the slowest case.

    The state is flat: compartments in the order of their names, layer 1 first.
    """
    family = FAMILIES[cell.family]
    taus = {name: getattr(cell, tau) for name, tau in sorted(family.compartments.items())}
    taus = {name: float(tau) for name, tau in taus.items() if tau is not None}
    counts = [depth - (name == "apical") for name in taus]
    units = np.eye(sum(counts) + 1)  # every unit as a sum over all of them and a constant
    ends = np.cumsum(counts)
    state = dict(zip(taus, np.split(units[:-1], ends[:-1]), strict=True))
    one = units[-1]

    def target(output: np.ndarray) -> np.ndarray:
        match teaching:
            case "none":
                return output
            case "following":
                return output - step * _curvature(loss) * output
            case "frozen":
                return (1 - step) * one
            case _:
                return 0 * one

    pulls, teacher = PULLS[cell.family](cell, state, one, target)
    motion = np.concatenate([(pulls[name] - state[name]) / taus[name] for name in taus])
    return Chain(motion[:, :-1], motion[:, -1], np.array(teacher)[:, :-1])


def _curvature(loss: Any) -> float:
    """The output error over the output, for one unit and label 0."""
    if loss.output == "softmax" or loss.name == "cross-entropy":
        return 0.0
    return {"half-squared": 1.0, "squared": 2.0}[loss.name]


def _mixture(
    cell: Any,
    state: dict[str, np.ndarray],
    one: np.ndarray,
    target: Callable[[np.ndarray], np.ndarray],
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    soma = state["soma"]
    basal_in, apical_in = np.vstack([one, soma[:-1]]), soma[1:]
    basal, apical = state.get("basal", basal_in), state.get("apical", apical_in)
    mu = float(cell.mu)
    mixed = (1 - mu) * basal + mu * np.vstack([apical, target(soma[-1])])
    return {"basal": basal_in, "apical": apical_in, "soma": mixed}, soma


def _multiplexing(
    cell: Any,
    state: dict[str, np.ndarray],
    one: np.ndarray,
    target: Callable[[np.ndarray], np.ndarray],
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    basal = state["basal"]
    bursts = np.vstack([state["apical"], target(basal[-1])])
    return {"basal": np.vstack([one, basal[:-1]]), "apical": bursts[1:]}, bursts


def _feedforward(
    cell: Any,
    state: dict[str, np.ndarray],
    one: np.ndarray,
    target: Callable[[np.ndarray], np.ndarray],
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    basal = state["basal"]
    return {"basal": np.vstack([one, basal[:-1]])}, basal


PULLS: dict[str, Callable] = {
    "mixture": _mixture,
    "multiplexing": _multiplexing,
    "feedforward": _feedforward,
}
"""(cell, state, 1, target) → what each compartment is drawn to, and the neurons' `teacher`.

The equations of `dynamics/` for linear units and unit weights, which a test holds equal to them.
"""
