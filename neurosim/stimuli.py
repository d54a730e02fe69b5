"""What stimuli bring to cells: functions of time, one for every cell.

Cells are numbered sweep by sweep: copy c of sweep k is number k·copies + c. Everything is in SI
units.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from neurosim.archives import read_arrays
from neurosim.errors import InputError
from neurosim.seeds import host_stream
from neurosim.specs import StimulusSpec

NEEDED: dict[str, tuple[str, ...]] = {
    "step": (),
    "ramp": (),
    "sine": ("frequency",),
    "pulses": ("frequency", "width"),
    "ornstein-uhlenbeck": ("tau",),
    "file": ("file",),
}
"""What a kind of stimulus takes beside an amplitude, a start and a duration."""

SAMPLED = ("ornstein-uhlenbeck", "file")
"""Kinds that are known at steps only."""


@dataclass(frozen=True)
class Stimulus:
    """One stimulus of every cell.

    amplitude, start, stop, frequency: of every cell, shape (cells,). width: of pulses. dt: between
    the moments of samples. samples: of noise and files, at the moments k·dt of a run, shape
    (rows, moments), else none. row: which of them is whose. tau: of noise of which every cell
    draws its own on its way, else none.
    """

    kind: str
    into: str
    reversal: float | None
    amplitude: Float[np.ndarray, " cells"]
    start: Float[np.ndarray, " cells"]
    stop: Float[np.ndarray, " cells"]
    frequency: Float[np.ndarray, " cells"]
    width: float
    dt: float
    samples: Float[np.ndarray, "rows moments"] | None
    row: np.ndarray
    tau: float | None = None

    def __call__(self, t: Any, cell: Any, xp: Any) -> Any:
        """At times t, for the cells of these numbers; xp: numpy or, without samples, jax.numpy."""
        amplitude, start, stop, frequency = (
            xp.asarray(a)[cell] for a in (self.amplitude, self.start, self.stop, self.frequency)
        )
        since = t - start
        match self.kind:
            case "step":
                shape = 1.0
            case "ramp":
                shape = since / (stop - start)
            case "sine":
                shape = xp.sin(2 * np.pi * frequency * since)
            case "pulses":
                shape = 1.0 * (since * frequency % 1.0 < self.width * frequency)
            case _:
                assert self.samples is not None
                last = self.samples.shape[1] - 1
                moment = np.clip(np.floor(t / self.dt + 1e-6).astype(int), 0, last)
                shape = self.samples[self.row[cell], moment]
        return xp.where((t >= start) & (t < stop), amplitude * shape, 0.0)

    def held(self, count: int) -> tuple[Float[np.ndarray, "moments n"], np.ndarray]:
        """As cells that move in steps of dt have it: courses of so many steps, and each cell's.

        A course says for every step what is brought in its middle; samples are held for a step.
        Cells that are given the same share one.
        """
        numbers = self.amplitude, self.start, self.stop, self.frequency, self.row
        given = np.stack(numbers, axis=1)
        _, first, course = np.unique(given, axis=0, return_index=True, return_inverse=True)
        t = (np.arange(count)[:, None] + 0.5) * self.dt
        return self(t, first, np), course.ravel()

    @property
    def edges(self) -> Float[np.ndarray, "cells n"]:
        """When it jumps, for every cell; filled up with infinity."""
        ends = [self.start, self.stop]
        if self.kind == "pulses":
            most = int(np.ceil(((self.stop - self.start) * self.frequency).max()))
            begins = self.start[:, None] + np.arange(most) / self.frequency[:, None]
            inner = np.concatenate([begins, begins + self.width], axis=1)
            inner = np.where(inner < self.stop[:, None], inner, np.inf)
            return np.sort(np.concatenate([np.stack(ends, axis=1), inner], axis=1), axis=1)
        return np.stack(ends, axis=1)


def stimulus(
    spec: StimulusSpec,
    number: int,
    sweeps: int,
    copies: int,
    duration: float,
    dt: float,
    seed: int,
    folder: Path,
    drawn: bool = True,
) -> Stimulus:
    """The stimulus that a spec says, which was checked.

    number: which of the protocol's it is, as each has noise of its own. folder: where its file is
    looked for. drawn: whether noise is drawn beforehand, also where every cell has its own.

    Raises:
        InputError: its file does not fit; the message begins with the key.
    """

    def each(values: list[float]) -> np.ndarray:
        return np.repeat(np.broadcast_to(np.asarray(values, float), sweeps), copies)

    start = each(spec.start)
    stop = (
        np.full(sweeps * copies, np.inf) if spec.duration is None else start + each(spec.duration)
    )
    amplitude = each(list(spec.amplitude))
    if spec.units is not None:
        reached = np.isin(np.arange(copies), spec.units)
        amplitude = np.where(np.tile(reached, sweeps), amplitude, 0.0)
    moments = round(duration / dt) + 1
    samples, row, tau = None, np.zeros(sweeps * copies, int), None
    if spec.kind == "ornstein-uhlenbeck":
        assert spec.tau is not None
        rows = 1 if spec.shared else sweeps * copies
        if drawn or spec.shared:
            random = host_stream(seed, f"stimulus {number}")
            samples = _ornstein_uhlenbeck(random, (rows, moments), dt / spec.tau)
            row = np.arange(sweeps * copies) % rows
        else:
            tau = spec.tau
    elif spec.kind == "file":
        assert spec.file is not None
        samples = _file(folder / spec.file, sweeps, np.arange(moments) * dt)
        row = np.repeat(np.arange(sweeps), copies)
    return Stimulus(
        spec.kind,
        spec.into,
        spec.reversal,
        amplitude,
        start,
        np.minimum(stop, duration) if spec.kind == "ramp" else stop,
        each(spec.frequency or [1.0]),
        spec.width or 0.0,
        dt,
        samples,
        row,
        tau,
    )


def _ornstein_uhlenbeck(
    random: np.random.Generator, shape: tuple[int, int], step: float
) -> np.ndarray:
    """Stationary from the start, of variance 1; exact whatever the step, in correlation times."""
    from scipy.signal import lfilter

    kept = np.exp(-step)
    drawn = random.standard_normal(shape)
    drawn[:, 1:] *= np.sqrt(-np.expm1(-2 * step))
    return lfilter([1.0], [1.0, -kept], drawn, axis=1)


def _file(path: Path, sweeps: int, t: np.ndarray) -> np.ndarray:
    """What an archive says at times t, for every sweep."""
    arrays = read_arrays(path)
    if set(arrays) != {"t", "values"}:
        raise InputError(f"file: {path}: holds {', '.join(arrays)}; expected t and values")
    times, values = np.asarray(arrays["t"], float), np.asarray(arrays["values"], float)
    fits = values.shape in {(*times.shape,), (sweeps, *times.shape)}
    if times.ndim != 1 or not fits or len(times) < 2 or not (np.diff(times) > 0).all():
        raise InputError(
            f"file: {path}: t of shape {times.shape} and values of shape {values.shape}; expected "
            f"ascending moments t, and values at them for all sweeps or each of {sweeps}"
        )
    if not np.isfinite(values).all():
        raise InputError(f"file: {path}: values that are no finite numbers")
    if times[0] > t[0] or times[-1] < t[-1] - 1e-12:
        raise InputError(
            f"file: {path}: says what comes from {times[0]:g} s to {times[-1]:g} s; expected all "
            f"of the protocol, 0 s to {t[-1]:g} s"
        )
    rows = np.broadcast_to(values, (sweeps, len(times)))
    return np.stack([np.interp(t, times, row) for row in rows])
