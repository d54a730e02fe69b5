"""What bounds small networks on a device: what a launch takes, and how fast memory is.

A step of a small network is some dozen operations, each of which is launched when the one before
has ended, and moves a few bytes. So two bounds are measured bare: operations in a chain, and the
copy of a large array. Steps of quickstart's network, one and side by side, are held against both.
"""

import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from bench import protocol
from contests import GateError
from measure import Absent, Entry, Row, as_in_runs, duration, interleaved

from neurosim.building import assembly, ingredients
from neurosim.networks.dynamics import Target, field, rest
from neurosim.process import devices

COPIED = {"gpu": 2**30, "cpu": 2**22}
"""Bytes of the array that is copied."""

LINKS, TURNS = (1, 11), 1000
"""Operations in a turn of a loop, each on what the one before made; how many turns."""

NETWORKS, BATCH, DT = (1, 30, 1000), 50, 1e-3
"""Side by side; samples of each; Euler's steps (s), as many as turns."""

REPEATS = 10
NOTHING = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while", "call"}
"""What is in the text of a compiled program and not launched itself."""


def bounds(device: str, small: bool = False) -> Iterator[Entry]:
    """Float32; gate: products, copies and states are what a processor finds in float64."""
    turns = 10 if small else TURNS
    with jax.default_device(jax.devices(device)[0]), devices.numbers(x64=False):
        copying = _copying(COPIED[device])
        yield Row("copy of a large array", copying / 1e9, "GB/s")
        _, looking = _chain(False, turns)
        launch, turning = _chain(True, turns)
        yield Row("a product of 32 x 32 that waits for another", launch * 1e6, "us")
        yield Row("a turn of a loop of known length, beside its products", turning * 1e6, "us")
        yield Row("a turn that looks whether it is the last, the same", looking * 1e6, "us")
        for count in (1, 2) if small else NETWORKS:
            yield from _steps(count, turns, copying, launch, turning)


def _copying(size: int) -> float:
    """Bytes a second, read and written."""
    array, copy = jnp.ones(size // 4, jnp.float32), as_in_runs(lambda a: a + 1)
    if not bool((copy(array) == 2).all()):
        raise GateError("a copied array is another one")
    taken = interleaved({"copy": lambda: copy(array)}, REPEATS)["copy"]
    return 2 * size / float(np.median(taken))


def _chain(known: bool, turns: int) -> tuple[float, float]:
    """Seconds of one more product in every turn of a loop, and of a turn without any; the best."""
    rng = np.random.default_rng(0)
    matrix = np.linalg.qr(rng.standard_normal((32, 32)))[0]
    given = jnp.asarray(matrix), jnp.eye(32)
    calls: dict[str, Callable[[], Any]] = {}
    for links in LINKS:
        calls[str(links)] = partial(_linked(links, turns, known), *given)
        true = np.linalg.matrix_power(matrix, links * turns)
        off = float(np.abs(np.asarray(calls[str(links)]()) - true).max())
        if not off < 1e-2:  # of 11 000 products, each of which rounds
            raise GateError(f"a chain of products is {off:.1e} off")
    taken = interleaved(calls, REPEATS)
    few, many = (float(taken[str(links)].min()) / turns for links in LINKS)
    link = (many - few) / (LINKS[1] - LINKS[0])
    return link, few - LINKS[0] * link


def _linked(links: int, turns: int, known: bool) -> Callable[..., Any]:
    """A loop of so many turns; whether it is known before how many they are."""

    @as_in_runs
    def chain(m: Any, v: Any) -> Any:
        def once(v: Any) -> Any:
            for _ in range(links):
                v = m @ v
            return v

        if known:
            return jax.lax.fori_loop(0, turns, lambda _, v: once(v), v)

        def on(carry: Any) -> Any:
            return (carry[0] < turns) & jnp.isfinite(carry[1]).all()

        return jax.lax.while_loop(on, lambda carry: (carry[0] + 1, once(carry[1])), (0, v))[1]

    return chain


def _steps(
    count: int, turns: int, copying: float, launch: float, turn: float
) -> Iterator[Row | Absent]:
    """Of so many networks side by side, beside both bounds."""
    step, programs = f"a step of {count} networks", Side(count, turns)
    try:
        programs.gate()
    except GateError as error:
        yield Absent(step, str(error))
        return
    seconds = interleaved({"steps": programs.steps}, REPEATS)["steps"] / turns
    launched, moved = programs.counted()
    yield duration(step, seconds, "us")
    yield Row(f"{step}: operations launched", launched, "")
    yield Row(f"{step}: moved", moved / 1e6, "MB")
    for what, bound in (
        ("launches alone", launched * launch + turn),
        ("copying as much alone", moved / copying),
    ):
        share = 100 * bound / seconds
        best = float(100 * bound / seconds.min())
        yield Row(f"{step}: {what}", float(np.median(share)), "%", best, repeats=tuple(share))


class Side:
    """Quickstart's networks side by side, 64-64-10, stepped along their vector field."""

    def __init__(self, count: int, turns: int) -> None:
        self.model = protocol("quickstart").spec.model
        every = [ingredients.weights(self.model, seed, None, Path()) for seed in range(count)]
        self.drawn = jax.tree.map(lambda *of: np.stack(of), *every)
        self.x = np.random.default_rng(0).standard_normal((BATCH, 64))
        self.turns = turns
        self.given = self._given(self.drawn)
        self._loop = as_in_runs(self._stepped)

    def steps(self) -> Any:
        """All steps from rest; the states at their end."""
        return self._loop(*self.given)

    def gate(self) -> None:
        """Raises GateError where the last network is not where it is on a processor."""
        last = jax.tree.map(lambda a: a[-1:], self.drawn)
        with jax.default_device(jax.devices("cpu")[0]), devices.numbers(x64=True):
            true = jax.jit(self._stepped)(*self._given(last))
        for a, b in zip(jax.tree.leaves(self.steps()), jax.tree.leaves(true), strict=True):
            off = float(np.abs(np.asarray(a)[-1:] - np.asarray(b)).max())
            if not off < 1e-4:
                raise GateError(f"states are {off:.1e} off those of a processor; allowed: 1e-4")

    def counted(self) -> tuple[int, float]:
        """Operations that a step launches, and bytes that they move, as XLA counts them."""
        step: Any = as_in_runs(self._step)
        program = step.lower(*self.given).compile()
        return launches(program.as_text()), float(program.cost_analysis()["bytes accessed"])

    def _given(self, drawn: Any) -> tuple[Any, Any, Any]:
        """Weights, what drives every sample, and states at rest, of all networks."""
        self.network, self.dynamics = assembly.network(self.model), assembly.dynamics(self.model)
        weights = assembly.placed(drawn)

        def begun(weights: Any, x: Any) -> Any:
            drive = self.dynamics.drive(self.network, weights, x, Target("none"))
            return drive, rest(self.dynamics, self.network, x.dtype)

        of_all = jax.jit(jax.vmap(jax.vmap(begun, (None, 0)), (0, None)))
        return weights, *of_all(weights, jnp.asarray(self.x))

    def _step(self, weights: Any, drive: Any, state: Any) -> Any:
        def one(weights: Any, drive: Any, state: Any) -> Any:
            rates = field(self.dynamics, self.network, weights, drive, state)
            return jax.tree.map(lambda v, r: v + DT * r, state, rates)

        return jax.vmap(jax.vmap(one, (None, 0, 0)))(weights, drive, state)

    def _stepped(self, weights: Any, drive: Any, state: Any) -> Any:
        def once(_: Any, state: Any) -> Any:
            return self._step(weights, drive, state)

        return jax.lax.fori_loop(0, self.turns, once, state)


OPERATION = re.compile(r"^\s+(?:ROOT )?%?[\w.-]+ = .*? ([a-z][\w-]*)\(")
"""A line of a compiled program: a name, its shape, and what it does."""


def launches(text: str) -> int:
    """How many operations of a compiled program are launched one by one.

    Those of its entry, and of what a GPU is handed as a whole to be launched in order.
    """
    found, inside = 0, False
    for line in text.splitlines():
        if line and not line.startswith((" ", "}")):
            inside = line.startswith("ENTRY") or "command_buffer" in line
        elif inside and (operation := OPERATION.match(line)):
            found += operation[1] not in NOTHING
    return found
