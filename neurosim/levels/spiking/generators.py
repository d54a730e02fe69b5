"""The spike generators in JAX: what the neurons of a unit do in a step, as `cycles.py` says it.

Numbers are arrays, arguments of the programs that they are compiled into. Everything is of one
sample: of its n units, arrays of shape (n,), of their N neurons each (n, N).
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, Scalar, UInt32

from neurosim.levels.spiking.cycles import CYCLES, PROBABILITY, RATE, Cycle
from neurosim.levels.spiking.neurons import LONG_AGO, NUMBERS, STEPS, Neurons
from neurosim.networks.elementary import ELEMENTARY

Cells = dict[str, Array]
"""What neurons are, by name."""

LAST = "last_spike"
"""The step of a neuron's last spike."""

WORDS = 2.0**32
"""How many numbers a word of random bits stands for."""


class Told(NamedTuple):
    """What units tell their neurons: a probability a step, or a current; a burst probability."""

    drive: Float[Array, " n"]
    burst_probability: Float[Array, " n"] | None


class Lot:
    """A word of random bits of every neuron, as a number that is uniform between 0 and 1.

    It decides on several things, one after the other: what is below p is below q p with the
    probability q, so that each has its own, where whoever asks again got a yes before.
    """

    def __init__(self, bits: UInt32[Array, "n N"]) -> None:
        self._bits, self._part = bits, jnp.asarray(1.0)

    def __lt__(self, probability: Float[Array, "n 1"]) -> Bool[Array, "n N"]:
        """Whether it is below a probability, below 1, of those that said yes before."""
        self._part = self._part * probability
        return self._bits < (self._part * WORDS).astype(jnp.uint32)


class Generator(eqx.Module):
    """An ensemble of one unit; see `Neurons`, whose names and units these are.

    waits: refractory time in steps. current: by rate, in steps of `table_step`, which are rounded
    to so many `parts` before what lies between two is dropped.
    """

    kind: str = eqx.field(static=True)
    count: int = eqx.field(static=True)
    dt: Scalar
    base_rate: Scalar
    gain: Scalar
    max_rate: Scalar
    tau_membrane: Scalar
    membrane_noise: Scalar
    base_probability: Scalar
    probability_gain: Scalar
    tau_burst: Scalar
    per_spike: Scalar
    base_in_h: Scalar
    least_heard: Scalar
    dead_time: Scalar
    dead_steps: Int[Array, ""]
    interval_steps: Int[Array, ""]
    limit_steps: Int[Array, ""]
    waits: Int[Array, ""]
    current: Float[Array, " rates"]
    table_step: Scalar
    parts: Scalar

    @property
    def bursts(self) -> bool:
        """Whether these neurons multiplex."""
        return self.kind == "bursting"

    @property
    def cycle(self) -> Cycle:
        """What its neurons do in a step."""
        return CYCLES[self.kind]

    # --- what units tell their neurons ------------------------------------------------------

    def told(self, h: Float[Array, " n"], bursts: Float[Array, " n"] | None) -> Told:
        """From what is carried by events, or all spikes, and by bursts."""
        called = ELEMENTARY | {"fi_current": self._current}
        rate = RATE(self._numbers | {"h": h}, called)
        drive = self.cycle.drive(self._numbers | {"rate": rate}, called)
        if bursts is None:
            return Told(drive, None)
        return Told(drive, PROBABILITY(self._numbers | {"h": bursts}, called))

    def _current(self, rate: Float[Array, " n"]) -> Float[Array, " n"]:
        """At which the neurons fire at a rate, looked up as a `TimedArray` of Brian2's is."""
        entry = jnp.round(rate / self.table_step * self.parts) / self.parts
        last = self.current.shape[0] - 1
        return self.current[jnp.clip(entry.astype(jnp.int32), 0, last)]

    @property
    def _numbers(self) -> dict[str, Array]:
        """The numbers that a cycle names."""
        return {name: getattr(self, name) for name in (*NUMBERS, *STEPS)}

    # --- one step ---------------------------------------------------------------------------

    def drawn(self, key: Key[Array, ""], shape: tuple[int, ...], dtype: Any) -> Array:
        """What neurons draw in a step: words of random bits, or of a noisy membrane Gaussians."""
        if self.cycle.cell.noisy:
            return jax.random.normal(key, shape, dtype)
        return jax.random.bits(key, shape, jnp.uint32)

    def step(
        self, cells: Cells, told: Told, drawn: Array, k: Int[Array, ""]
    ) -> tuple[Cells, Bool[Array, "n N"], dict[str, Float[Array, " n"]]]:
        """Neurons after step k, which of them spiked in it, and what that tells their units."""
        cycle, lot = self.cycle, Lot(drawn)
        called = ELEMENTARY | {"rand": lambda: lot, "int": lambda yes: yes.astype(jnp.int8)}
        given = self._numbers | {"now": k}
        if cycle.cell.noisy:
            given["xi"] = drawn / jnp.sqrt(self.dt)
        given |= {n: v[:, None] for n, v in told._asdict().items() if v is not None}
        free = k - cells[LAST] >= self.waits if cycle.firing.refractory is not None else True
        before, moved = given | cells, dict(cells)
        for equation in cycle.cell.equations:
            state = cells[equation.name]
            after = state + self.dt * equation.right(before, called)
            moved[equation.name] = jnp.where(free, after, state) if equation.held else after
        spiked = cycle.firing.threshold(given | moved, called) & free
        heard = {
            name: jnp.sum(spiked * right(given | moved, called), axis=-1, dtype=self.dt.dtype)
            for name, right in cycle.heard.items()
        }
        left = dict(moved)
        for name, right in cycle.firing.reset:
            became = jnp.asarray(right(given | left, called), left[name].dtype)
            left[name] = jnp.where(spiked, became, left[name])
        if cycle.firing.refractory is not None:
            left[LAST] = jnp.where(spiked, k, left[LAST])
        return left, spiked, heard

    # --- what units hear --------------------------------------------------------------------

    def share(self, events: Float[Array, " n"], bursts: Float[Array, " n"]) -> Float[Array, " n"]:
        """What bursts say, from traces of events and bursts."""
        ratio = bursts / jnp.maximum(events, self.least_heard)
        return (ratio - self.base_probability) / self.probability_gain


FIELDS = *NUMBERS, "tau_burst", "per_spike", "base_in_h", "least_heard", "table_step"
"""The numbers of `Neurons` that are taken as they are."""


def generator(neurons: Neurons, dtype: Any) -> Generator:
    """The same neurons as arguments of programs."""

    def number(value: float) -> Array:
        return jnp.asarray(value, dtype)

    def steps(value: int) -> Array:
        return jnp.asarray(value, jnp.int32)

    return Generator(
        kind=neurons.kind,
        count=neurons.count,
        waits=steps(round(neurons.refractory / neurons.dt)),
        current=jnp.asarray(neurons.current, dtype),
        parts=number(neurons.table_parts),
        **{name: number(getattr(neurons, name)) for name in FIELDS},
        **{name: steps(getattr(neurons, name)) for name in STEPS},
    )


def begun(start: dict[str, np.ndarray], shape: tuple[int, ...], dtype: Any) -> Cells:
    """Neurons where `Neurons.start` has put them at step 0."""
    kinds = {"v": dtype, LAST: np.int32} | CYCLES["bursting"].kept
    given = dict(start)
    if "lastspike" in given:
        given[LAST] = np.full(len(given.pop("lastspike")), LONG_AGO)
    return {
        name: jnp.asarray(values.reshape(shape), kinds[name])
        for name, values in given.items()
        if name in kinds
    }
