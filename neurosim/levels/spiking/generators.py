"""The spike generators in JAX: what the neurons of a unit do in a step, as in `neurons.py`.

Numbers are arrays, arguments of the programs that they are compiled into. Everything is of one
sample: of its n units, arrays of shape (n,), of their N neurons each (n, N).
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, Scalar, UInt32

from neurosim.levels.spiking.neurons import LONG_AGO, Neurons

Cells = dict[str, Array]
"""What neurons are, by name."""

WORDS = 2.0**32
"""How many numbers a word of random bits stands for."""


class Told(NamedTuple):
    """What units tell their neurons: a probability a step, or a current; a burst probability."""

    drive: Float[Array, " n"]
    burst_probability: Float[Array, " n"] | None


class Generator(eqx.Module):
    """An ensemble of one unit; see `Neurons`, whose names and units these are.

    dead, interval, limit, waits: dead time after an event, within a burst and up to which spikes
    make one, and refractory time, in whole steps. current: by rate, in steps of `table_step`, which
    are rounded to so many `parts` before what lies between two is dropped.
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
    dead: Int[Array, ""]
    interval: Int[Array, ""]
    limit: Int[Array, ""]
    waits: Int[Array, ""]
    current: Float[Array, " rates"]
    table_step: Scalar
    parts: Scalar

    @property
    def bursts(self) -> bool:
        """Whether these neurons multiplex."""
        return self.kind == "bursting"

    # --- what units tell their neurons ------------------------------------------------------

    def told(self, h: Float[Array, " n"], bursts: Float[Array, " n"] | None) -> Told:
        """From what is carried by events, or all spikes, and by bursts."""
        rate = jnp.clip(self.base_rate + self.gain * h, 0, self.max_rate)
        if self.kind == "lif":
            return Told(self._current(rate), None)
        if not self.bursts:
            return Told(rate * self.dt, None)
        assert bursts is not None, "bursts speak of something"
        hazard = rate * self.dt / (1 - rate * ((self.dead - 1) * self.dt))
        p = jnp.clip(self.base_probability + self.probability_gain * bursts, 0, 1)
        return Told(hazard, p)

    def _current(self, rate: Float[Array, " n"]) -> Float[Array, " n"]:
        """At which the neurons fire at a rate, looked up as a `TimedArray` of Brian2's is."""
        entry = jnp.round(rate / self.table_step * self.parts) / self.parts
        last = self.current.shape[0] - 1
        return self.current[jnp.clip(entry.astype(jnp.int32), 0, last)]

    # --- one step ---------------------------------------------------------------------------

    def drawn(self, key: Key[Array, ""], shape: tuple[int, ...], dtype: Any) -> Array:
        """What neurons draw in a step: words of random bits, or of a noisy membrane Gaussians."""
        if self.kind == "lif":
            return jax.random.normal(key, shape, dtype)
        return jax.random.bits(key, shape, jnp.uint32)

    def step(
        self, cells: Cells, told: Told, drawn: Array, k: Int[Array, ""]
    ) -> tuple[Cells, Bool[Array, "n N"], dict[str, Float[Array, " n"]]]:
        """Neurons after step k, which of them spiked in it, and what that tells their units."""
        match self.kind:
            case "lif":
                return self._integrate_and_fire(cells, told, drawn, k)
            case "bursting":
                return self._burst(cells, told, drawn, k)
            case _:
                spiked = drawn < _words(told.drive)
                return cells, spiked, {"spikes": _count(spiked, told.drive.dtype)}

    def _integrate_and_fire(
        self, cells: Cells, told: Told, drawn: Float[Array, "n N"], k: Int[Array, ""]
    ) -> tuple[Cells, Bool[Array, "n N"], dict[str, Float[Array, " n"]]]:
        """Euler's step of dv/dt = (I − v)/τ + σ √(2/τ) ξ; from 1 to 0, where a while it stays."""
        v, last = cells["v"], cells["last_spike"]
        free = k - last >= self.waits
        noise = self.membrane_noise * jnp.sqrt(2 / self.tau_membrane) * jnp.sqrt(self.dt) * drawn
        moved = v + self.dt * ((told.drive[:, None] - v) / self.tau_membrane) + noise
        v = jnp.where(free, moved, v)
        spiked = (v > 1) & free
        after = {"v": jnp.where(spiked, 0, v), "last_spike": jnp.where(spiked, k, last)}
        return after, spiked, {"spikes": _count(spiked, v.dtype)}

    def _burst(
        self, cells: Cells, told: Told, drawn: UInt32[Array, "n N"], k: Int[Array, ""]
    ) -> tuple[Cells, Bool[Array, "n N"], dict[str, Float[Array, " n"]]]:
        """Events by chance, some of which a second spike follows.

        One number decides on both: below the hazard it makes an event, and below the burst
        probability's part of that a burst, so that each has its own probability.
        Bursts are detected from inter-spike intervals alone.
        """
        last, pending = cells["last_spike"], cells["pending"]
        begins = ~pending & (k >= cells["free_at"]) & (drawn < _words(told.drive))
        spiked = begins | (pending & (k >= last + self.interval))
        close = spiked & (k - last < self.limit)
        assert told.burst_probability is not None, "bursts speak of something"
        doubled = begins & (drawn < _words(told.drive * told.burst_probability))
        dtype = told.drive.dtype
        heard = {
            "events": _count(spiked & ~close, dtype),
            "bursts": _count(close & ~cells["in_burst"], dtype),
        }
        after = {
            "free_at": jnp.where(begins, k + self.dead, cells["free_at"]),
            "pending": jnp.where(spiked, doubled, pending),
            "last_spike": jnp.where(spiked, k, last),
            "in_burst": jnp.where(spiked, close, cells["in_burst"]),
        }
        return after, spiked, heard

    # --- what units hear --------------------------------------------------------------------

    def share(self, events: Float[Array, " n"], bursts: Float[Array, " n"]) -> Float[Array, " n"]:
        """What bursts say, from traces of events and bursts."""
        ratio = bursts / jnp.maximum(events, self.least_heard)
        return (ratio - self.base_probability) / self.probability_gain


FIELDS = (
    *("dt", "base_rate", "gain", "max_rate", "tau_membrane", "membrane_noise"),
    *("base_probability", "probability_gain", "tau_burst"),
    *("per_spike", "base_in_h", "least_heard", "table_step"),
)
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
        dead=steps(round(neurons.dead_time / neurons.dt)),
        interval=steps(neurons.interval_steps),
        limit=steps(neurons.limit_steps),
        waits=steps(round(neurons.refractory / neurons.dt)),
        current=jnp.asarray(neurons.current, dtype),
        parts=number(neurons.table_parts),
        **{name: number(getattr(neurons, name)) for name in FIELDS},
    )


def begun(start: dict[str, np.ndarray], shape: tuple[int, ...], dtype: Any) -> Cells:
    """Neurons where `Neurons.start` has put them at step 0."""
    kinds = {"v": dtype, "pending": jnp.bool, "in_burst": jnp.bool}
    kinds |= {"free_at": jnp.int32, "last_spike": jnp.int32}
    given = dict(start)
    if "lastspike" in given:
        given["last_spike"] = np.full(len(given.pop("lastspike")), LONG_AGO)
    return {
        name: jnp.asarray(values.reshape(shape), kinds[name])
        for name, values in given.items()
        if name in kinds
    }


def _words(probability: Float[Array, " n"]) -> UInt32[Array, "n 1"]:
    """Below which word random bits are with such probabilities, below 1; a unit its neurons."""
    return (probability * WORDS).astype(jnp.uint32)[:, None]


def _count(spiked: Bool[Array, "n N"], dtype: Any) -> Float[Array, " n"]:
    return jnp.sum(spiked, axis=-1, dtype=dtype)
