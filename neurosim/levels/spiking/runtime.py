"""A network of Brian2 that runs in this process, compiled with Cython or as plain numpy."""

import functools
import gc
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from neurosim.errors import NeurosimWarning
from neurosim.levels.spiking.brian import auto_target, b2, get_cython_cache_dir
from neurosim.process import cache

if TYPE_CHECKING:
    from neurosim.levels.spiking.groups import Groups

# A network is some thirty programs, each compiled when it is first needed: a third faster than with
# -O3, for a few percent of the speed they then have.
b2.prefs.codegen.cpp.extra_compile_args_gcc = [
    "-O1" if flag == "-O3" else flag for flag in b2.prefs.codegen.cpp.extra_compile_args_gcc
]

Program = Iterator[int]
"""What happens to a network: it acts on it, then yields for how many steps (≥ 1) to let it run."""

Spikes = dict[str, tuple[np.ndarray, np.ndarray]]
"""By the name of who spikes: the steps of spikes, and the neurons they are of."""


def _writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK)


@functools.cache
def _extensions() -> tempfile.TemporaryDirectory[str] | None:
    """Have Brian2 keep what it compiles where that can be written, as a home sometimes cannot.

    Its own folder, else one in neurosim's cache, else one that goes with this process.
    """
    root = cache.folder()
    own = Path(get_cython_cache_dir())
    for folder in [own] if root is None else [own, root / "cython"]:
        if _writable(folder):
            b2.prefs.codegen.runtime.cython.cache_dir = str(folder)
            return None
    passing = tempfile.TemporaryDirectory(prefix="neurosim-", ignore_cleanup_errors=True)
    b2.prefs.codegen.runtime.cython.cache_dir = passing.name
    return passing


@functools.cache
def _compiled() -> str:
    """Cython where it can be had; else numpy, which is said once."""
    chosen: str = auto_target().class_name
    if chosen != "cython":
        warnings.warn(
            "Brian2 cannot compile here, for want of a C++ compiler or for what it says above, and "
            "runs in plain numpy, ten times slower; install one, or write spiking.target = 'numpy' "
            "to say that this is meant",
            NeurosimWarning,
            stacklevel=2,
        )
    return chosen


def use(target: str) -> str:
    """What Brian2 compiles to from now on: `cython`, `numpy`, or for `auto` what can be had."""
    if target != "numpy":
        _extensions()
    b2.prefs.codegen.target = _compiled() if target == "auto" else target
    return str(b2.prefs.codegen.target)


class Runtime:
    """Groups that run here, their arrays in this process's memory.

    Args:
        made: makes the groups.
        target: `cython`, `numpy`, or `auto`: Cython where there is a compiler.
    """

    def __init__(self, made: "Callable[[], Groups]", target: str) -> None:
        self._target = use(target)
        groups = made()
        self._clock, self._dt, self._arrays = groups.clock, groups.dt, groups.arrays
        self._program: Program = iter(())
        self._left = 0
        act = b2.NetworkOperation(
            self._act, clock=self._clock, when="before_start", order=-1, name="program"
        )
        self._monitors = {who.name: self._monitor(who) for who in groups.spiking}
        self._brian = b2.Network(act, *groups.all, *self._monitors.values())

    def _monitor(self, who: b2.NeuronGroup) -> b2.SpikeMonitor:
        monitor = b2.SpikeMonitor(who, name=f"spikes_of_{who.name}")
        monitor.active = False
        return monitor

    @property
    def step(self) -> int:
        """The number of the time step that comes next."""
        return int(self._clock.variables["timestep"].get_value().item())

    def holds(self, group: str, name: str) -> bool:
        """Whether a group holds such a variable in memory."""
        return (group, name) in self._arrays

    def read(self, group: str, name: str) -> np.ndarray:
        """The values of a variable, one for each unit, neuron or synapse of the group."""
        return np.array(self._arrays[group, name].get_value())

    def write(self, group: str, name: str, values: np.ndarray) -> None:
        """New values of a variable: all of them, or a part of them that repeats."""
        self._arrays[group, name].get_value().reshape(-1, values.size)[:] = values.ravel()

    def reseed(self, seed: int) -> None:
        """What is random from now on is drawn from this seed, an integer of 32 bits."""
        b2.seed(seed)

    def run(self, program: Program, steps: int) -> None:
        """Let a program act for so many steps, the sum of what it yields."""
        kept = np.random.get_state()
        b2.prefs.codegen.target = self._target
        # Every run of Brian2 begins with a garbage collection, a third of a second where JAX is
        # loaded: it shall only go through what has come up since.
        gc.freeze()
        try:
            self._program, self._left = program, 0
            self._brian.run(steps * self._dt * b2.second, namespace={})
            next(program, None)
        finally:
            gc.unfreeze()
            np.random.set_state(kept)

    def _act(self) -> None:
        if self._left == 0:
            self._left = next(self._program)
        self._left -= 1

    @contextmanager
    def recording(self) -> Iterator[Spikes]:
        """Runs within record spikes; they are in what this gives at the end, in steps from now."""
        start = self._clock.variables["t"].get_value().item()
        recorded: Spikes = {}
        already = {name: monitor.num_spikes for name, monitor in self._monitors.items()}
        for monitor in self._monitors.values():
            monitor.active = True
        try:
            yield recorded
        finally:
            for name, monitor in self._monitors.items():
                monitor.active, n = False, already[name]
                steps = np.rint((np.asarray(monitor.t_[n:]) - start) / self._dt).astype(int)
                recorded[name] = steps, np.asarray(monitor.i[n:])
