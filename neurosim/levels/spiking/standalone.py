"""A network of Brian2 as a program of its own, in C++ from end to end.

Brian2's standalone device writes the program; beside its code stands `obey.cpp`, which at the start
of every time step does what this process asks for: read an array, write one, seed, go on. So it
runs the same programs as a network in this process, learns as it does, and is compiled once.
"""

import hashlib
import os
import platform
import shutil
import struct
import subprocess
import warnings
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from brian2.devices.device import reset_device
from platformdirs import user_cache_path

from neurosim.errors import InputError, NeurosimError
from neurosim.levels.spiking.groups import Groups, b2
from neurosim.levels.spiking.runtime import Program, Spikes

FOREVER = 2**39
"""Steps of a standalone network, which ends when it is no longer needed; Brian2 counts to 2⁴⁰."""

PRELUDE = """\
#include "objects.h"
#include "brianlib/common_math.h"
#include <climits>
#include <cmath>
#include <ctime>
#include <fstream>
#include <iostream>
#include <map>
#include <string>
#include <tuple>
"""
"""What Brian2's files begin with: compiled once for all of them."""

RULES = """
OPTIMISATIONS += -O3 -include prelude.h
$(OBJS): prelude.h.gch
prelude.h.gch: prelude.h
\t$(CXX) $(CXXFLAGS) -x c++-header prelude.h -o prelude.h.gch
"""


def compiler() -> str:
    """The C++ compiler.

    Raises:
        InputError: there is none, or no `make`.
    """
    chosen = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")
    if chosen is None or shutil.which(chosen) is None or shutil.which("make") is None:
        found = f"CXX = {chosen!r} is not there" if chosen else "there is neither g++ nor clang++"
        if chosen and shutil.which(chosen):
            found = "there is no make"
        raise InputError(
            f"spiking.target: 'standalone' needs a C++ compiler and make, but {found}; install "
            "them, or use 'auto', which runs without"
        )
    return chosen


OBEYING = """\
void obey();
network.objects.insert(network.objects.begin(), std::make_pair(&_clock, obey));
"""


class Standalone:
    """Groups that run in a process of their own; see `Runtime`, whose calls these are.

    Its random numbers are C++'s own: under the same seed, spikes differ from those of a `Runtime`.

    Args:
        made: makes the groups.

    Raises:
        InputError: there is no compiler.
        NeurosimError: it fails.
    """

    def __init__(self, made: Callable[[], Groups]) -> None:
        cxx = compiler()
        self._folder = TemporaryDirectory(prefix="neurosim-")
        groups, self._arrays = _write(made, Path(self._folder.name))
        self._home = _built(self._folder, cxx)
        self._dt = groups.dt
        self._cells = [cells.name for cells in groups.cells]
        self._recorded: list[list[tuple[np.ndarray, np.ndarray]]] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self.step = 0

    # --- the process ------------------------------------------------------------------------

    def _running(self) -> subprocess.Popen[bytes]:
        """The process, begun when it is first needed; Ctrl-C is not for it."""
        if self._process is None:
            self._process = subprocess.Popen(
                [self._home / "main"],
                cwd=self._home,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,
            )
            self._finalizer = weakref.finalize(self, _end, self._process)
        return self._process

    def close(self) -> None:
        """End the process; the next call begins another, in which nothing has happened yet."""
        if self._process is not None:
            self._finalizer()
        self._process, self.step = None, 0

    def _ask(self, what: str, argument: int, data: bytes = b"") -> None:
        stdin = self._running().stdin
        assert stdin is not None
        try:
            stdin.write(struct.pack("=3q", ord(what), argument, len(data)) + data)
            if what in "rg":
                stdin.flush()
        except BrokenPipeError:
            raise self._lost() from None

    def _lost(self) -> NeurosimError:
        assert self._process is not None
        return NeurosimError(
            f"the standalone simulation ended by itself (exit code {self._process.wait()})"
        )

    # --- the calls of a runtime -------------------------------------------------------------

    def holds(self, group: str, name: str) -> bool:
        """See `Runtime.holds`."""
        return (group, name) in self._arrays

    def read(self, group: str, name: str) -> np.ndarray:
        """See `Runtime.read`."""
        number, dtype, size = self._arrays[group, name]
        self._ask("r", number)
        stdout = self._running().stdout
        assert stdout is not None
        data = stdout.read(size * dtype.itemsize)
        if len(data) < size * dtype.itemsize:
            raise self._lost()
        return np.frombuffer(data, dtype).copy()

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
        try:
            passed = 0
            while passed < steps:
                some = next(program)
                self._go_on(some)
                passed += some
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
            for cells, layer in zip(self._cells, self._recorded, strict=True):
                space = self.read(cells, "_spikespace")  # who spiked, and at its end how many
                spiked = space[: space[-1]]
                layer.append((np.full(len(spiked), self.step * self._dt), spiked))
            self.step += 1

    @contextmanager
    def recording(self) -> Iterator[Spikes]:
        """See `Runtime.recording`; the neurons are looked at after every step."""
        start, spikes = self.step * self._dt, Spikes()
        layers = self._recorded = [[(np.zeros(0), np.zeros(0, int))] for _ in self._cells]
        try:
            yield spikes
        finally:
            self._recorded = None
            for layer in layers:
                times, nodes = (np.concatenate(parts) for parts in zip(*layer, strict=True))
                spikes.append((times - start, nodes))


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    for pipe in (process.stdin, process.stdout):
        assert pipe is not None
        with suppress(OSError):
            pipe.close()
    process.wait()


# --- making it ------------------------------------------------------------------------------------

Arrays = dict[tuple[str, str], tuple[int, np.dtype, int]]
"""By the names of group and variable: the number that `obey.cpp` knows it by, its kind and size."""


def _write(made: Callable[[], Groups], folder: Path) -> tuple[Groups, Arrays]:
    """The C++ code of groups, in a folder."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what Brian2 itself calls
        b2.set_device("cpp_standalone", build_on_run=False)
        device = b2.get_device()
        try:
            groups = made()
            device.insert_code("before_network_run", OBEYING)
            brian = b2.Network(*groups.all, name="network")
            brian.run(FOREVER * groups.dt * b2.second, namespace={})
            arrays: Arrays = {}
            entries = []
            for number, (name, variable) in enumerate(sorted(groups.arrays.items())):
                cpp = device.get_array_name(variable, access_data=False)
                dynamic = isinstance(variable, b2.core.variables.DynamicArrayVariable)
                size = len(variable.owner) if dynamic else variable.size
                arrays[name] = number, np.dtype(variable.dtype), size
                entries.append(f"held({cpp}{'.data()' if dynamic else ''}, {size}),\n")
            (folder / "arrays.inc").write_text("".join(entries))
            (folder / "prelude.h").write_text(PRELUDE)
            obey = files("neurosim.levels.spiking").joinpath("obey.cpp").read_text()
            (folder / "obey.cpp").write_text(obey)
            device.build(
                directory=str(folder),
                compile=False,
                run=False,
                additional_source_files=["obey.cpp"],
            )
        finally:
            device.reinit()
            reset_device()
    with open(folder / "makefile", "a") as makefile:
        makefile.write(RULES)
    return groups, arrays


def _built(folder: TemporaryDirectory, cxx: str) -> Path:
    """Where the program made of the code in a folder lies: in the cache, else in the folder.

    The cache is the user's own; a cache that cannot be written costs time, nothing else.
    """
    path = Path(folder.name)
    kept = user_cache_path("neurosim") / f"standalone-{_digest(path, cxx)[:16]}"
    if not (kept / "main").exists():
        _compile(path, cxx)
        part = kept.with_name(f".{kept.name}.{os.getpid()}")
        try:
            shutil.copytree(path / "static_arrays", part / "static_arrays")
            shutil.copy2(path / "main", part)
            os.replace(part, kept)
        except OSError:
            shutil.rmtree(part, ignore_errors=True)
    if not (kept / "main").exists():
        return path
    folder.cleanup()
    return kept


def _digest(folder: Path, cxx: str) -> str:
    """Of all that the program depends on; Brian2 compiles for the processor of this machine."""
    version = subprocess.run([cxx, "--version"], capture_output=True, check=False).stdout
    digest = hashlib.sha256(version + platform.node().encode())
    for file in sorted(file for file in folder.rglob("*") if file.is_file()):
        digest.update(str(file.relative_to(folder)).encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _compile(folder: Path, cxx: str) -> None:
    make = ["make", f"-j{os.cpu_count()}", f"CXX={cxx}", "DEPS="]
    done = subprocess.run(make, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        said = "\n".join(done.stderr.strip().splitlines()[-10:])
        raise NeurosimError(f"spiking.target: {cxx} does not compile the network:\n{said}")
