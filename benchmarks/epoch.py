"""How long an epoch of digits takes once compiled, beside backprop and beside plain JAX."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from bench import Bench, protocol
from measure import Row, duration, interleaved, ratio
from plain import plain_epoch

from neurosim.building.loading import Protocol
from neurosim.process import devices
from neurosim.runs.launch import computing

REPEATS = 20
WANTED = {"equilibrium": ("<=", 8.0), "rate": ("<=", 45.0)}
MANY = {5: None, 15: ("<=", 3.0), 100: ("<=", 12.0)}
"""Seeds that run side by side, and what they may cost over one."""

SHARED = 2
"""Devices that share the seeds of an ensemble, of a processor parts of it."""

SHOWN = ("quickstart", "multiplexing-digits", "backprop-digits")


def epochs(device: str, small: bool = False) -> list[Row]:
    """28 presentations of 50 samples, 64-64-10, from the weights that two epochs left.

    Quickstart has the limits; float64 is what it ships with.
    """
    rows, shown = [], SHOWN[::2] if small else SHOWN
    for precision in ("float64",) if small else ("float64", "float32"):
        for level in ("equilibrium",) if small else ("equilibrium", "rate"):
            given = [
                protocol(name, {"level": level, "precision": precision, "stages.0.epochs": 30})
                for name in shown
            ]
            taken = timed(given, device, 1 if small else REPEATS)
            for name, seconds in zip(shown, taken, strict=True):
                limit = WANTED[level] if name == "quickstart" else None
                rows.append(duration(f"{name}, {level}, {precision}", seconds, limit=limit))
            for name, seconds in zip(shown[:-1], taken, strict=False):
                rows.append(
                    ratio(f"{name} over backprop, {level}, {precision}", seconds, taken[-1])
                )
    return rows


def timed(protocols: list[Protocol], device: str, repeats: int) -> list[np.ndarray]:
    """Seconds an epoch of each, interleaved; all in the precision of the first."""
    with computing(protocols[0].spec, device):
        benches = [Bench(p, [0]) for p in protocols]
        for bench in benches:
            bench.learn(2)
        calls = {str(k): bench.epoch() for k, bench in enumerate(benches)}
        return list(interleaved(calls, repeats).values())


def overhead(device: str, small: bool = False) -> list[Row]:
    """An epoch at the rate level against the same steps written by hand in JAX.

    Both phases last their full 60 steps here, so that both do the same work; that they end with
    the same weights is checked. The plain version keeps no metrics and looks
    neither at residuals nor for settling.
    """
    rows = []
    for precision in ("float64",) if small else ("float64", "float32"):
        whole = {f"stages.0.phases.{k}.until": "duration" for k in (0, 1)}
        given = protocol("quickstart", {"precision": precision} | whole)
        with computing(given.spec, device):
            bench = Bench(given, [0])
            plain = plain_epoch(given.spec, bench)
            ours, theirs = bench.epoch()()[0].weights, plain()
            tolerance = 1e-8 if precision == "float64" else 1e-3
            for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
                np.testing.assert_allclose(a[0], b, rtol=0, atol=tolerance)
            calls = {"ours": bench.epoch(), "plain": plain}
            taken = interleaved(calls, 1 if small else REPEATS)
        rows += [
            duration(f"quickstart, 2 x 60 steps, {precision}", taken["ours"]),
            duration(f"the same in plain JAX, {precision}", taken["plain"]),
            ratio(f"neurosim over plain JAX, {precision}", taken["ours"], taken["plain"]),
        ]
    return rows


def seeds(device: str, small: bool = False) -> list[Row]:
    """Several seeds as one array axis against one, on one device and shared out to several."""
    rows = []
    several = len(jax.devices(device)) >= SHARED
    many: dict[int, Any] = {2: None} if small else MANY
    for level in ("equilibrium",) if small else ("equilibrium", "rate"):
        given = protocol("backprop-digits" if small else "quickstart", {"level": level})
        with computing(given.spec, device):
            benches = {count: Bench(given, list(range(count))) for count in (1, *many)}
            for bench in benches.values():
                bench.learn(2)
            calls = {str(count): bench.epoch() for count, bench in benches.items()}
            if several:
                calls |= {f"{n} shared": _shared(calls[str(n)], device) for n in many}
            taken = interleaved(calls, 1 if small else REPEATS // 2)
        rows.append(duration(f"epoch of 1 seed, {level}", taken["1"]))
        for count, limit in many.items():
            what = f"{count} seeds over 1, {level}"
            rows.append(ratio(what, taken[str(count)], taken["1"], limit=limit))
            if several:
                what = f"{count} seeds on {SHARED} devices over 1, {level}"
                rows.append(ratio(what, taken[f"{count} shared"], taken["1"], limit=limit))
    return rows


def _shared(call: Callable[[], tuple], device: str) -> Callable[[], tuple]:
    """The same, of which every device has a part of the seeds."""

    def on_several() -> tuple:
        with devices.on(device, SHARED):
            return call()

    return on_several
