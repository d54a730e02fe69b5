"""What every level is to a run: the calls it answers, and the records they take and give."""

from collections.abc import Hashable
from itertools import groupby
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from neurosim.networks.circuit import CircuitDynamics
from neurosim.networks.network import Network


class Phase(NamedTuple):
    """A phase as the engine sees it; duration in s.

    plastic: the names of what learns in it. changed: parameters that have other values in it.
    longer: mean and shape of a time by which it lasts longer (s), drawn for every presentation.
    """

    name: str
    duration: float
    stop: bool
    teaching: str
    plastic: tuple[str, ...]
    changed: tuple[str, ...] = ()
    longer: tuple[float, float] | None = None

    def drawn(self, number: int, presentation: Int[Array, ""] | int) -> Float[Array, ""] | None:
        """By how much it lasts longer in a presentation, as phase `number`; None without `longer`.

        The same for all seeds, as an experiment has one course for all its animals, and in every
        precision.
        """
        if self.longer is None:
            return None
        mean, shape = self.longer
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(0), number), presentation)
        return shape * jax.random.wald(key, jnp.float32(mean / shape), dtype=jnp.float32)


def alike(phases: tuple[Phase, ...]) -> list[slice]:
    """Runs of phases that differ only in whether and where to their target is fixed."""

    def program(phase: Phase) -> Hashable:
        own = phase.teaching in ("following", "held")
        alone = own or phase.changed or phase.longer  # which may differ from phase to phase
        return phase.duration, phase.stop, alone and phase

    runs, start = [], 0
    for _, group in groupby(phases, program):
        count = len(list(group))
        runs.append(slice(start, start + count))
        start += count
    return runs


class RunState(NamedTuple):
    """What a run is at a chunk boundary; nothing else matters to what comes after.

    presentation: how many are done, which also selects the random draws.
    """

    weights: Any
    optimizer: Any
    presentation: Int[Array, ""]


class Batch(NamedTuple):
    """Samples shown together. ids: their place in the data set, which selects their noise."""

    x: Float[Array, "batch n_0"]
    y: Float[Array, "batch n_L"]
    ids: Int[Array, " batch"]


class Metrics(NamedTuple):
    """Of one presentation: the loss and error before teaching, and how each phase ended.

    parts: into how many steps had to be cut, at most. signals: what else is measured of its
    learning, scalars and one number a layer.
    """

    loss: Float[Array, ""]
    error: Float[Array, ""]
    residual: Float[Array, " phases"]
    settled: Float[Array, " phases"]
    effort: Float[Array, " phases"]
    rescued: Float[Array, " phases"]
    parts: Float[Array, " phases"]
    signals: dict[str, Array]


class Spikes(NamedTuple):
    """Spikes of one layer in the order in which they came.

    times: s from the start of the presentation. nodes: neuron k of unit u for sample s is number
    (s n_i + u) N + k.
    """

    times: Any
    nodes: Any


class Examined(NamedTuple):
    """A presentation in detail.

    traces: per phase, place → variable → (samples, times, n). stopped: (phases, samples), s.
    spikes: of the first seed, by place, if there are any; estimates: what plasticity reads of them
    at the end of every phase, place → variable → (samples, n). courses: per phase, the weights that
    flowed, every array with the times first; None where nobody asked for them.
    """

    traces: list[dict[str, dict[str, Any]]]
    stopped: Any
    spikes: dict[str, Spikes] | None = None
    estimates: list[dict[str, dict[str, Any]]] | None = None
    courses: list[Any] | None = None


class Simulator(Protocol):
    """What the run loop and the recorder ask of a level; `Engine` says what each call means."""

    @property
    def dynamics(self) -> CircuitDynamics: ...
    @property
    def network(self) -> Network: ...
    @property
    def curve(self) -> Any: ...
    def begin(self, *args: Any, **kw: Any) -> RunState: ...
    def advance(self, *args: Any, **kw: Any) -> tuple[RunState, Metrics, Any]: ...
    def evaluate(self, *args: Any, **kw: Any) -> tuple[Any, Any, Any]: ...
    def examine(self, *args: Any, **kw: Any) -> Examined: ...
    def against_backprop(self, *args: Any, **kw: Any) -> tuple[Any, Any]: ...
    def rehearse(self, *args: Any, **kw: Any) -> None: ...
