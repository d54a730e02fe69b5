"""How a network with exact inverses comes to rest: as a chain of single units does.

Where every g_i inverts f_{i+1}, the change of basis that carries each layer to the output through
the Jacobians of the layers above turns the linearised network into n copies of one chain: a network
of one linear unit a layer with unit weights. Its spectrum is that of any such network, n-fold; its
transients are theirs in these coordinates. So a few numbers, known before a run, say how long a
phase must be.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from neurosim.circuits.description import Circuit
from neurosim.circuits.expressions import Expression
from neurosim.circuits.populations import Group
from neurosim.circuits.tables import ATTENUATION, TEACHING
from neurosim.models import circuitry, parameters
from neurosim.models.initialisers import MATRICES
from neurosim.specs import ModelSpec

Affine = tuple[Float[np.ndarray, "m n"], Float[np.ndarray, " m"]]
"""A and b of A v + b."""

SMALL = 1e-9
"""What may be rounding, of a value."""

GAIN = 1.25
"""A slope other than 1, to see whether slopes cancel."""


class Chain(NamedTuple):
    """The chain in one phase, an affine system: dv/dt = A v + b, teaching moves R v.

    A (1/s): over the flat state. R: what the forward synapses of layer 1, 2, … learn from.
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
        """The time constant of its slowest mode (s); infinite where one does not decay."""
        eigenvalues = np.linalg.eigvals(self.A)
        slowest = float(eigenvalues.real.max())
        return -1 / slowest if slowest < -1e-12 * np.abs(eigenvalues).max() else np.inf

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


def chain(
    model: ModelSpec,
    teaching: str = "none",
    depth: int | None = None,
    changed: Mapping[str, float] | None = None,
) -> Chain | None:
    """A circuit with one linear unit a layer, unit weights, no biases, input 1 and label 0.

    teaching: `none`, `following`, `frozen` (at 1 − η̂), `clamped` or `held` (at 1). The softmax of a
    single unit is constant, so that a following target under it counts as no teaching: the slowest
    case. depth: of the layers 1 … depth alone, to the last of which nothing comes down: so move the
    directions of that layer that no layer above sees. changed: parameters that have other values in
    this phase.

    The state is flat in the order of `Circuit.moving`: layer by layer, in each in the order of its
    text. R: the `post` of W with all that it remembers at 0, without constants; where W has none,
    or one that is not linear, what W sends up and the readout.

    None where no such chain stands for the network: a layer has more than one population, there are
    projections beside W, from every layer to the next, and Q, from every layer to the one below,
    nothing moves in time, the values of a parameter are in a file, or the text is not linear in
    what it names, or has slopes of transfer functions that their inverses do not undo.
    """
    circuit = circuitry.circuit(model)
    read = any(given.mean is None for given in parameters.spreads(model).values())
    if read or not _in_layers(circuit):
        return None
    values = parameters.values(model) | dict(changed or {})
    phase = _Phase(circuit, depth or circuit.depth, values, *_taught(model, teaching))
    units, bent = _Units(phase, 1.0), _Units(phase, GAIN)
    if not units.moving:
        return None
    with np.errstate(all="ignore"):  # where numbers end, nothing is linear
        motion, other, learned = units.motion, bent.motion, units.learned
    if motion is None or other is None or learned is None:
        return None
    return Chain(*motion, learned[0]) if _same_spectrum(motion[0], other[0]) else None


def _in_layers(circuit: Circuit) -> bool:
    """Whether each layer is one population, which hears its neighbors alone, through W and Q."""
    back = circuit.projection.get("Q")
    falls = [] if back is None else [s.pre and s.pre.layer - s.post.layer for s in back.synapses]
    return (
        circuit.chain
        and set(circuit.projection) <= {"W", "Q"}
        and len(circuit.groups) == circuit.depth
        and (back is None or back.wire.dense)
        and all(fall == 1 for fall in falls)
    )


def _taught(model: ModelSpec, teaching: str) -> tuple[float, float, float]:
    """`teach`, and the target as a share of the output and a constant."""
    match teaching:
        case "none":
            return 0.0, 1.0, 0.0
        case "following":
            return 1.0, 1 - model.target_step * _curvature(model), 0.0
        case "frozen":
            return 1.0, 0.0, 1 - model.target_step
        case "held":
            return 1.0, 0.0, 1.0
        case _:
            return 1.0, 0.0, 0.0


class _Phase(NamedTuple):
    """Layers 1 … depth of a circuit in a phase; `teach`, and the target share·output + constant."""

    circuit: Circuit
    depth: int
    values: Mapping[str, float]
    teach: float
    share: float
    constant: float


class _Units:
    """One linear unit a layer, in many states at once, from which A and b of what is affine follow.

    gain: the slope of all transfer functions. Every quantity is computed once, when it is asked
    for: an array over the states, or one number for all.
    """

    def __init__(self, phase: _Phase, gain: float) -> None:
        self.phase, self.circuit = phase, phase.circuit
        self.moving = [(g, name) for g, name in self.circuit.moving if g.layer <= phase.depth]
        n = len(self.moving)
        others = 10 * np.random.default_rng(0).standard_normal((n, 4))
        self.states = np.hstack([np.zeros((n, 1)), np.eye(n), others])
        self._known: dict[tuple[Group, str], Any] = dict(zip(self.moving, self.states, strict=True))
        self._functions: dict[str, Callable[..., Any]] = MATRICES | {
            "s": lambda a: gain * a,
            "slope": lambda a: gain,
            "s_inv": lambda h: h / gain,
            "t": lambda a: a,
            "t_slope": lambda a: 1.0,
            "encode": lambda h, b: h / gain - b,
        }

    def __call__(self, group: Group, name: str) -> Any:
        """A quantity of a group, defined by its cell or given to it."""
        if (group, name) not in self._known:
            self._known[group, name] = self._found(group, name)
        return self._known[group, name]

    def _found(self, group: Group, name: str) -> Any:
        cell, phase = self.circuit.cell(group), self.phase
        if name in cell.defined:
            return self._value(cell.right(name), group)
        key = self.circuit.parameter(group.population, name)
        if key is not None:
            return np.float64(phase.values[key])  # by which dividing is no error if it is 0
        if name == "teach":
            return phase.teach
        if name == "target":
            return phase.share * self(*self.circuit.readout) + phase.constant
        arriving = self.circuit.arriving.get((group, name), ())  # nothing for `bias` and `xi`
        return sum(1.0 if s.pre is None else self._sent(s.pre, s.sent) for s in arriving)

    def _sent(self, group: Group, name: str) -> Any:
        return self(group, name) if group.layer <= self.phase.depth else 0.0

    def _value(
        self, text: Expression, group: Group, known: Mapping[str, float] | None = None
    ) -> Any:
        given = dict(known or {})
        named = {name: self(group, name) for name in sorted(text.names - given.keys())}
        return text(named | given, self._functions)

    @property
    def motion(self) -> Affine | None:
        """dv/dt of all states (1/s)."""
        cell = self.circuit.cell
        return self._affine(self._value(cell(g).right(name), g) for g, name in self.moving)

    @property
    def learned(self) -> Affine | None:
        """What the forward synapses learn from, layer 1 first."""
        forward = self.circuit.projection["W"]
        known = dict.fromkeys((name for name, _ in forward.remembered), 0.0) | {ATTENUATION: 1.0}
        layers, rule = forward.synapses[: self.phase.depth], forward.post
        if rule is not None and TEACHING not in rule.names:
            found = self._affine(self._value(rule, s.post, known) for s in layers)
            if found is not None:
                return found
        above = [(s.pre, s.sent) for s in forward.synapses if s.pre is not None]
        sent = [*above, self.circuit.readout][: self.phase.depth]
        return self._affine(self(group, name) for group, name in sent)

    def _affine(self, values: Iterable[Any]) -> Affine | None:
        """What quantities are of the state; None if some are not affine."""
        shape = self.states.shape[1:]
        found = np.array([np.broadcast_to(value, shape) for value in values])
        n = len(self.states)
        b = found[:, :1]
        A, others = found[:, 1 : n + 1] - b, self.states[:, n + 1 :]
        scale = np.abs(A) @ np.abs(others) + np.abs(b)
        straight = np.abs(A @ others + b - found[:, n + 1 :]) <= SMALL * scale
        return (A, b[:, 0]) if straight.all() else None


def _same_spectrum(A: Float[np.ndarray, "n n"], B: Float[np.ndarray, "n n"]) -> bool:
    """Whether two matrices have the same eigenvalues: the traces of all their powers say so."""
    scale = np.abs(A).sum(axis=1).max() or 1.0
    a = b = np.eye(len(A))
    for _ in range(len(A)):
        a, b = a @ A / scale, b @ B / scale
        if not abs(np.trace(a) - np.trace(b)) < SMALL:
            return False
    return True


def _curvature(model: ModelSpec) -> float:
    """The output error over the output, for one unit and label 0."""
    if model.output == "softmax" or model.loss == "cross-entropy":
        return 0.0
    return {"half-squared": 1.0, "squared": 2.0}[model.loss]
