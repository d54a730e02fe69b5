"""From a network of Brian2 to a program in C++.

Brian2's standalone device writes the code; `obey.cpp` is added to it, called at the start of every
time step. Programs are kept in the user's cache, under a digest of all they depend on.
"""

import hashlib
import os
import platform
import re
import shlex
import shutil
import subprocess
import warnings
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from pathlib import Path
from tempfile import mkdtemp

import numpy as np

from neurosim.errors import InputError, NeurosimError
from neurosim.levels.spiking.brian import b2, reset_device
from neurosim.levels.spiking.groups import Groups
from neurosim.process import cache

FOREVER = 2**39
"""Steps of a program, which ends when it is no longer needed; Brian2 counts to 2⁴⁰."""

OBEYING = """\
void obey();
network.objects.insert(network.objects.begin(), std::make_pair(&_clock, obey));
"""

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
"""What Brian2's files begin with: compiled once for all of them, which halves the time it takes."""

RULES = """
OPTIMISATIONS += -O3 -include prelude.h
$(OBJS): prelude.h.gch
prelude.h.gch: prelude.h
\t$(CXX) $(CXXFLAGS) -x c++-header prelude.h -o prelude.h.gch
"""

NUMBERED = re.compile(rb"(_\d+)?_codeobject(_\d+)?")
"""Names that Brian2 numbers by what else exists in this process, which means nothing."""

Arrays = dict[tuple[str, str], tuple[int, np.dtype, int]]
"""By the names of group and variable: the number that `obey.cpp` knows it by, its kind and size."""


@dataclass(frozen=True)
class Executable:
    """A compiled network.

    folder: where its file `main` lies, and is to be run. arrays: what it holds in memory.
    """

    folder: Path
    arrays: Arrays


def compiler() -> str:
    """The C++ compiler: `CXX` of the environment, else g++, else clang++.

    Raises:
        InputError: there is none, or no `make`.
    """
    chosen = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")
    if chosen is None:
        missing = "neither g++ nor clang++ is there"
    elif shutil.which(shlex.split(chosen)[0]) is None:
        missing = f"CXX is {chosen!r}, which is not there"
    elif shutil.which("make") is None:
        missing = "there is no make"
    else:
        return chosen
    raise InputError(
        f"spiking.target: 'standalone' needs a C++ compiler and make, and {missing}; install them, "
        "or use 'auto', which does without"
    )


def executable(made: Callable[[], Groups]) -> Executable:
    """The groups that `made` makes, compiled unless the cache has them.

    Raises:
        InputError: there is no compiler.
        NeurosimError: it fails.
    """
    cxx = compiler()
    folder = Path(mkdtemp(prefix="neurosim-"))
    away = partial(shutil.rmtree, folder, ignore_errors=True)
    try:
        arrays = _write(made, folder)
        root = cache.folder()
        kept = root / f"standalone-{_digest(folder, cxx)[:16]}" if root else folder
        if not (kept / "main").exists():
            _compile(folder, cxx)
            if root:
                _keep(folder, kept)
    except BaseException:
        away()
        raise
    if kept != folder and (kept / "main").exists():
        away()
        return Executable(kept, arrays)
    found = Executable(folder, arrays)
    weakref.finalize(found, away)
    return found


def _write(made: Callable[[], Groups], folder: Path) -> Arrays:
    """Write the code; Brian2 is afterwards as it was before."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what Brian2 itself calls
        b2.set_device("cpp_standalone", build_on_run=False)
        device = b2.get_device()
        try:
            groups = made()
            device.insert_code("before_network_run", OBEYING)
            network = b2.Network(*groups.all, name="network")
            network.run(FOREVER * groups.dt * b2.second, namespace={})
            variables = list(groups.arrays.items())
            names = [device.get_array_name(v, access_data=False) for _, v in variables]
            sizes = [_size(v) for _, v in variables]
            device.build(
                directory=str(folder),
                compile=False,
                run=False,
                additional_source_files=["obey.cpp"],
            )
        finally:
            device.reinit()
            reset_device()
    own = files("neurosim.levels.spiking").joinpath("obey.cpp").read_text()
    entries = [f"held(&{name}[0], {n}),\n" for name, n in zip(names, sizes, strict=True)]
    (folder / "obey.cpp").write_text(own)
    (folder / "arrays.inc").write_text("".join(entries))
    (folder / "prelude.h").write_text(PRELUDE)
    with open(folder / "makefile", "a") as makefile:
        makefile.write(RULES)
    return {
        name: (number, np.dtype(variable.dtype), size)
        for number, ((name, variable), size) in enumerate(zip(variables, sizes, strict=True))
    }


def _size(variable: b2.core.variables.ArrayVariable) -> int:
    """How many numbers; arrays of synapses have no size of their own yet."""
    dynamic = isinstance(variable, b2.core.variables.DynamicArrayVariable)
    return len(variable.owner) if dynamic else variable.size


def _digest(folder: Path, cxx: str) -> str:
    """Of the code, the compiler and this machine, whose processor Brian2 compiles for."""
    version = subprocess.run(
        [*shlex.split(cxx), "--version"], capture_output=True, check=False
    ).stdout
    digest = hashlib.sha256(version + platform.node().encode())
    for file in sorted(file for file in folder.rglob("*") if file.is_file()):
        for text in (str(file.relative_to(folder)).encode(), file.read_bytes()):
            digest.update(NUMBERED.sub(b"_codeobject", text))
    return digest.hexdigest()


def _compile(folder: Path, cxx: str) -> None:
    make = ["make", f"-j{os.cpu_count()}", f"CXX={cxx}", "DEPS=", "main"]
    done = subprocess.run(make, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        said = "\n".join(done.stderr.strip().splitlines()[-10:])
        raise NeurosimError(f"spiking.target: {cxx} does not compile the network:\n{said}")


def _keep(folder: Path, kept: Path) -> None:
    """Put a program into the cache at once or, where that cannot be written, not at all."""
    part = kept.with_name(f".{kept.name}.{os.getpid()}")
    try:
        shutil.copytree(folder / "static_arrays", part / "static_arrays")
        shutil.copy2(folder / "main", part)
        os.replace(part, kept)
    except OSError:
        shutil.rmtree(part, ignore_errors=True)
