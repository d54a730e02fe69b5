"""A network of Brian2 that runs as a program of its own, in C++ from end to end.

At the start of every time step that program does what this process asks for: read an array, write
one, seed, go on (`obey.cpp`). So whatever acts on a network here can act on one there.
"""

import struct
import subprocess
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import numpy as np

from neurosim.errors import NeurosimError
from neurosim.levels.spiking.compiling import executable
from neurosim.levels.spiking.groups import Groups
from neurosim.levels.spiking.runtime import Program, Spikes

Recorded = list[tuple[np.ndarray, np.ndarray]]
"""Step by step: its number, once for every neuron that spiked; those neurons."""


class Standalone:
    """Groups that run in a process of their own; see `Runtime`, whose calls these are.

    After an error or Ctrl-C everything in it is as it was before anything happened.

    Args:
        made: makes the groups.

    Raises:
        InputError: there is no compiler.
        NeurosimError: it fails, or the process ends by itself.
    """

    def __init__(self, made: Callable[[], Groups]) -> None:
        self._executable = executable(made)
        self._arrays = self._executable.arrays
        self._spiking = [group for group, name in self._arrays if name == "_spikespace"]
        self._recorded: dict[str, Recorded] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self.step = 0

    # --- the calls of a runtime -------------------------------------------------------------

    def holds(self, group: str, name: str) -> bool:
        """See `Runtime.holds`."""
        return (group, name) in self._arrays

    def read(self, group: str, name: str) -> np.ndarray:
        """See `Runtime.read`."""
        number, dtype, size = self._arrays[group, name]
        return np.frombuffer(self._ask("r", number, answer=size * dtype.itemsize), dtype).copy()

    def write(self, group: str, name: str, values: np.ndarray) -> None:
        """See `Runtime.write`."""
        number, dtype, size = self._arrays[group, name]
        assert size % values.size == 0
        self._ask("w", number, np.ascontiguousarray(values, dtype).tobytes())

    def reseed(self, seed: int) -> None:
        """See `Runtime.reseed`."""
        self._ask("s", seed)

    def run(self, program: Program, steps: int) -> None:
        """See `Runtime.run`."""
        end = self.step + steps
        try:
            while self.step < end:
                self._go_on(next(program))
            next(program, None)
        except BaseException:
            self.close()
            raise

    def _go_on(self, steps: int) -> None:
        if self._recorded is None:
            self._ask("g", steps)
            self.step += steps
            return
        for _ in range(steps):
            self._ask("g", 1)
            for cells, recorded in self._recorded.items():
                space = self.read(cells, "_spikespace")  # who spiked, and at its end how many
                spiked = space[: space[-1]]
                recorded.append((np.full(len(spiked), self.step), spiked))
            self.step += 1

    @contextmanager
    def recording(self) -> Iterator[Spikes]:
        """See `Runtime.recording`; the neurons are looked at after every step."""
        start, spikes = self.step, Spikes()
        none = np.zeros(0, int)
        found: dict[str, Recorded] = {who: [(none, none)] for who in self._spiking}
        self._recorded = found
        try:
            yield spikes
        finally:
            self._recorded = None
            for who, parts in found.items():
                steps, nodes = (np.concatenate(part) for part in zip(*parts, strict=True))
                spikes[who] = steps - start, nodes

    # --- the process ------------------------------------------------------------------------

    def close(self) -> None:
        """End the process; the next call begins another, in which nothing has happened yet."""
        if self._process is not None:
            self._ended()
        self._process, self.step = None, 0

    def _ask(self, what: str, argument: int, data: bytes = b"", answer: int = 0) -> bytes:
        """Send one command of `obey.cpp`; its answer, of so many bytes."""
        process = self._process or self._begin()
        assert process.stdin is not None and process.stdout is not None
        try:
            process.stdin.write(struct.pack("=3q", ord(what), argument, len(data)) + data)
            if what in "gr":
                process.stdin.flush()
            answered = process.stdout.read(answer)
        except BrokenPipeError:
            answered = None
        if answered is None or len(answered) < answer:
            raise NeurosimError(
                f"the standalone simulation ended by itself, with exit code {process.wait()}"
            )
        return answered

    def _begin(self) -> subprocess.Popen[bytes]:
        self._process = process = subprocess.Popen(
            [self._executable.folder / "main"],
            cwd=self._executable.folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for this process alone
        )
        self._ended = weakref.finalize(self, _end, process)
        return process


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    for pipe in (process.stdin, process.stdout):
        with suppress(OSError):
            pipe.close()  # type: ignore[union-attr]
    process.wait()
