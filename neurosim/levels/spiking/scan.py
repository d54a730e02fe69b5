"""A circuit of spiking units in JAX: parallel copies of it, driven from phase to phase.

The same calls as those of a network in Brian2 (`machine.py`). Between two moments at which a
program acts all steps are one loop of one compiled program, on JAX's device; how many they are, and
all numbers, are its arguments.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Key, UInt8

from neurosim.circuits.populations import Group
from neurosim.circuits.variables import own
from neurosim.levels.spiking.generators import begun, generator
from neurosim.levels.spiking.neurons import Neurons
from neurosim.levels.spiking.steps import Moving, Steps, Units
from neurosim.levels.spiking.text import COUNTED, DEFAULT_TAU
from neurosim.networks.circuit import CircuitDynamics, CircuitWeights
from neurosim.networks.dynamics import Drive, Target
from neurosim.networks.network import Network
from neurosim.process.compiled import compiled

BLOCK = 64
"""Steps at once, while spikes are recorded: as many are kept on the device."""


class Scan:
    """Copies of a circuit that run side by side under the same weights; see `Machine`."""

    def __init__(
        self,
        dynamics: CircuitDynamics,
        network: Network,
        neurons: Mapping[str, Neurons],
        dt: float,
        copies: int,
        *,
        changed: frozenset[str] = frozenset(),
        watched: Mapping[Group, tuple[str, ...]] | None = None,
        traced: bool = False,
        tau_synapse: float = 0.0,
    ) -> None:
        self.circuit, self.neurons, self.dt, self.copies = dynamics.circuit, neurons, dt, copies
        self._dtype = jnp.result_type(float)
        self._steps = Steps(
            dynamics=dynamics,
            network=network,
            generators={name: generator(each, self._dtype) for name, each in neurons.items()},
            dt=jnp.asarray(dt, self._dtype),
            tau=jnp.asarray(tau_synapse or DEFAULT_TAU, self._dtype),
            smooths=tau_synapse > 0,
            watched=tuple((watched or {}).items()),
            traced=traced,
        )
        self._rest = jax.device_get(resting(self._steps, copies))
        self._changed, self._now = changed, dict[str, Array]()
        self._weights: CircuitWeights = {}
        self._x = self._placed(np.zeros((copies, network.sizes[0])))
        self._brought: dict[str, Array] = {}
        self._recorded: list[tuple[int, dict[Group, np.ndarray]]] | None = None
        self._moving: Any = None
        self._step, self._ran = 0, 0
        self.teach(None)
        self.reseed(0)
        self.rest(np.random.default_rng(0))

    # --- running ----------------------------------------------------------------------------

    def run(self, program: Iterator[int], steps: int) -> None:
        """Let a program act for so many steps, the sum of what it yields."""
        for count in program:
            self._go_on(count)

    def _go_on(self, count: int) -> None:
        given = self._steps, self._weights, self._drive, self._key
        if self._recorded is None:
            span = jnp.int32(self._step), jnp.int32(self._step + count)
            self._moving = advance(*given, self._moving, *span)
        else:
            for begin in range(0, count, BLOCK):
                span = self._step + begin, self._step + min(begin + BLOCK, count)
                self._moving, spikes = recorded(*given, self._moving, *map(jnp.int32, span))
                self._keep(spikes, span[1] - span[0], self._ran + begin)
        self._step, self._ran = self._step + count, self._ran + count

    def _keep(self, packed: Mapping[Group, Array], count: int, at: int) -> None:
        """Spikes of some steps, the first of which is number `at` since recording began."""
        assert self._recorded is not None
        found = {}
        for group, bits in packed.items():
            width = self.copies * self.circuit.size(group) * self.neurons[group.population].count
            found[group] = np.unpackbits(np.asarray(bits)[:count], axis=1, count=width)
        self._recorded.append((at, found))

    @contextmanager
    def recording(self, copies: int) -> Iterator[dict[str, tuple[np.ndarray, np.ndarray]]]:
        """Runs within record the spikes of some copies: by place, times (s from now), neurons."""
        recorded: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        self._recorded, self._ran = [], 0
        try:
            yield recorded
        finally:
            blocks, self._recorded = self._recorded, None
        none = np.zeros(0, int)
        for group in self._ensembles:
            of_copy = self.circuit.size(group) * self.neurons[group.population].count
            steps, nodes = [none], [none]
            for at, found in blocks:
                rows, columns = np.nonzero(found[group][:, : copies * of_copy])
                steps.append(rows + at)
                nodes.append(columns)
            place = self.circuit.place(group)
            recorded[place] = np.concatenate(steps) * self.dt, np.concatenate(nodes)

    @property
    def _ensembles(self) -> list[Group]:
        return [g for g in self.circuit.groups if g.population in self.neurons]

    # --- acting on it -----------------------------------------------------------------------

    def reseed(self, seed: int) -> None:
        """The spikes to come are drawn from this seed, an integer of 32 bits."""
        self._key = jax.random.key(np.uint32(seed))

    def rest(self, rng: np.random.Generator | None = None) -> None:
        """Everything at rest, at step 0; neurons somewhere in their cycle at the base rate."""
        units, came = self._rest
        cells = {}
        for group in self._ensembles:
            assert rng is not None, "neurons start somewhere in their cycle"
            neurons = self.neurons[group.population]
            shape = self.copies, self.circuit.size(group), neurons.count
            start = neurons.start(rng, int(np.prod(shape)), 0)
            cells[group] = begun(start, shape, self._dtype)
        self._moving, self._step = Moving(units, cells, came), 0

    def write_weights(self, weights: CircuitWeights) -> None:
        """The weights of all projections, and the biases."""
        self._weights = self._placed(weights)

    def drive(self, weights: CircuitWeights, x: np.ndarray) -> None:
        """The input of every copy, shape (copies, n_0), through the weights of its projections."""
        self._x = self._placed(x)
        self._brought = brought(self._steps, self._placed(weights), self._x)

    def teach(self, target: np.ndarray | None) -> None:
        """The target of every copy, shape (copies, n_L); None where nothing is taught."""
        held = np.zeros((self.copies, self.circuit.size(self.circuit.readout[0])), self._dtype)
        if target is not None:
            held[:] = target
        on = jnp.asarray(np.full(self.copies, target is not None))
        step = self._placed(np.zeros(self.copies))
        self._target = Target("switched", step, None, self._placed(held), on)

    def follow(self, target: Target) -> None:
        """A target that follows the output step by step, of every copy."""
        self._target = self._placed(target)

    def change(self, parameters: Mapping[str, float]) -> None:
        """The values of the parameters that phases change."""
        self._now = {
            key: self._placed(np.full(self.copies, parameters[key])) for key in self._changed
        }

    @property
    def _drive(self) -> Drive:
        return Drive(self._x, self._brought, self._target, self._now)

    def _placed(self, arrays: Any) -> Any:
        return jax.tree.map(lambda a: jnp.asarray(a, self._dtype), arrays)

    # --- looking at it ----------------------------------------------------------------------

    def has(self, group: Group, name: str) -> bool:
        """Whether the units of a group hold such a variable."""
        return name in self._moving.units[group]

    def state(self, group: Group, name: str) -> np.ndarray | None:
        """A quantity of the cells of a group as it is now; None where none is kept."""
        return self.array(group, own(name)) if self.has(group, own(name)) else None

    def array(self, group: Group, name: str) -> np.ndarray:
        """A variable of the units of a group as it is now, shape (copies, n)."""
        return np.asarray(self._moving.units[group][name])

    def tally(self) -> dict[tuple[Group, str], np.ndarray]:
        """What was counted and summed so far."""
        watched = dict(self._steps.watched)
        return jax.device_get(
            {
                (group, name): units[name]
                for group, units in self._moving.units.items()
                for name in (*COUNTED, *(f"{n}_sum" for n in watched.get(group, ())))
                if name in units
            }
        )


@compiled
def resting(steps: Steps, copies: int) -> tuple[dict[Group, Units], dict[str, Array]]:
    """All copies at rest, but for the neurons; see `Steps.rest`."""
    one = steps.rest(steps.dt.dtype)
    return jax.tree.map(lambda a: jnp.broadcast_to(a, (copies, *a.shape)), one)


@compiled
def brought(steps: Steps, weights: CircuitWeights, x: Array) -> dict[str, Array]:
    """What the input brings to every copy."""
    none = Target("none")
    return jax.vmap(lambda x: steps.dynamics.drive(steps.network, weights, x, none).basal)(x)


@compiled
def advance(
    steps: Steps,
    weights: CircuitWeights,
    drive: Drive,
    key: Key[Array, ""],
    moving: Moving,
    start: Int[Array, ""],
    stop: Int[Array, ""],
) -> Moving:
    """The steps from `start` to `stop` of all copies."""
    step = _of_all(steps, weights, drive, key)
    return jax.lax.fori_loop(start, stop, lambda k, moving: step(k, moving)[0], moving)


@compiled
def recorded(
    steps: Steps,
    weights: CircuitWeights,
    drive: Drive,
    key: Key[Array, ""],
    moving: Moving,
    start: Int[Array, ""],
    stop: Int[Array, ""],
) -> tuple[Moving, dict[Group, UInt8[Array, "steps bytes"]]]:
    """The same of a few steps, and bit by bit which neurons spiked in each."""
    step = _of_all(steps, weights, drive, key)

    def packed(k: Array, moving: Moving) -> tuple[Moving, dict[Group, Array]]:
        moving, spiked = step(k, moving)
        return moving, jax.tree.map(lambda s: jnp.packbits(s.reshape(-1)), spiked)

    none = jax.tree.map(
        lambda s: jnp.zeros((BLOCK, *s.shape), s.dtype), jax.eval_shape(packed, start, moving)[1]
    )

    def body(k: Array, carry: tuple[Moving, Any]) -> tuple[Moving, Any]:
        moving, rows = carry
        moving, now = packed(k, moving)
        return moving, jax.tree.map(lambda row, bits: row.at[k - start].set(bits), rows, now)

    return jax.lax.fori_loop(start, stop, body, (moving, none))


def _of_all(steps: Steps, weights: CircuitWeights, drive: Drive, key: Key[Array, ""]) -> Any:
    """(k, what moves) → what moves after step k and which neurons spiked, of all copies."""
    noise, dtype, copies = steps.noise, drive.x.dtype, drive.x.shape[0]

    def step(k: Array, moving: Moving) -> tuple[Moving, dict[Group, Array]]:
        drawn = steps.drawn(key, k, copies, noise, dtype)
        one = partial(steps.step, weights)
        return jax.vmap(one, in_axes=(0, 0, 0, None, None))(drive, moving, drawn, noise, k)

    return step
