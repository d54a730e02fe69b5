"""Trains of spikes that cells are made to fire: regular, Poisson, or a list of times.

Cells are numbered sweep by sweep, as for stimuli. Spikes fall on whole steps, the nearest ones.
"""

import numpy as np

from neurosim.errors import InputError
from neurosim.seeds import host_stream
from neurosim.specs.synapses import SpikesSpec
from neurosim.units import format_time

Train = tuple[np.ndarray, np.ndarray]
"""When (s), ascending, and the numbers of the cells."""

NEEDED = {"regular": (), "poisson": ("frequency",), "list": ("times",)}
"""What a kind of train takes beside when it starts."""

OPTIONAL = {"regular": ("frequency", "count", "stop"), "poisson": ("stop",), "list": ()}
"""What it may take as well."""


def train(
    spec: SpikesSpec, name: str, sweeps: int, count: int, duration: float, dt: float, seed: int
) -> Train:
    """The spikes of all cells of a group, by time and, at one time, by cell.

    name: of the group, as every one has chance of its own. What would come after the end does not.

    Raises:
        InputError: a spike would come before the first step, or two of a cell in one; the message
            begins with the key.
    """
    at, who = [np.zeros(0)], [np.zeros(0, int)]
    random = host_stream(seed, f"spikes {name}")

    def each(values: list[float]) -> list[float]:
        return values if len(values) == sweeps else values * sweeps

    frequency = each(spec.frequency or [0.0])
    end = duration if spec.stop is None else min(spec.stop, duration)
    for sweep, (start, rate, shift) in enumerate(
        zip(each(spec.start), frequency, each(spec.shift), strict=True)
    ):
        cells = np.arange(sweep * count, (sweep + 1) * count)
        if spec.kind == "poisson":
            times, own = _poisson(random, rate, start, end, dt, cells)
        else:
            one = np.array(spec.times) if spec.times else _regular(spec, rate, start, end)
            times, own = np.tile(one, count), np.repeat(cells, len(one))
        at.append(np.rint((times + shift) / dt) * dt)
        who.append(own)
    times, cells = np.concatenate(at), np.concatenate(who)
    if len(times) and times.min() < 0.5 * dt:
        raise InputError(
            f"shift: a spike at {format_time(float(f'{times.min():.6g}'))}; expected all of them "
            f"after the start, from {format_time(dt)} on"
        )
    within = times <= duration + 0.5 * dt
    times, cells = times[within], cells[within]
    once = np.unique(np.stack([cells, np.rint(times / dt)]), axis=1).shape[1]
    if once < len(times):
        key = "times" if spec.kind == "list" else "frequency"
        raise InputError(f"{key}: two spikes in one step; expected one every {format_time(dt)}")
    order = np.lexsort((cells, times))
    return times[order], cells[order]


def _regular(spec: SpikesSpec, frequency: float, start: float, end: float) -> np.ndarray:
    """From the start on; one spike where there is no frequency."""
    if frequency == 0:
        return np.array([start])
    most = int((end - start) * frequency + 1e-9) + 1
    return start + np.arange(min(spec.count or most, most)) / frequency


def _poisson(
    random: np.random.Generator, rate: float, start: float, end: float, dt: float, cells: np.ndarray
) -> Train:
    """A spike in every step with the chance rate·dt, at its end."""
    steps = round((end - start) / dt)
    number = random.binomial(steps, min(rate * dt, 1.0), len(cells))
    at = [random.choice(steps, n, replace=False) + 1 for n in number]
    return start + dt * np.concatenate(at), np.repeat(cells, number)
