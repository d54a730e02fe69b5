"""What decides the last digits of a run besides its protocol: versions, machine, data."""

import os
import platform
import subprocess
from collections.abc import Iterable
from functools import cache
from importlib.metadata import version
from pathlib import Path

import jax

from neurosim.process import devices
from neurosim.tasks.data import Data
from neurosim.traces.ledger import crc

LIBRARIES = ("jax", "jaxlib", "diffrax", "equinox", "optax", "optimistix", "numpy", "scipy", "h5py")


def versions(level: str) -> dict[str, str]:
    """Of Python and the libraries that a level computes with."""
    names = (*LIBRARIES, "brian2") if level == "spiking" else LIBRARIES
    return {"python": platform.python_version()} | {name: version(name) for name in names}


@cache
def commit() -> str:
    """The commit of the source tree neurosim is run from; empty for an installed one.

    An installed one may lie inside a repository of the user's, whose commits say nothing of it.
    """
    source = Path(__file__).resolve().parents[2]
    try:
        if Path(_git(source, "rev-parse", "--show-toplevel")).resolve() != source:
            return ""
        _git(source, "ls-files", "--error-unmatch", str(Path(__file__).resolve()))
        return _git(source, "describe", "--always", "--dirty", "--abbrev=12")
    except (OSError, subprocess.CalledProcessError):
        return ""


def _git(folder: Path, *words: str) -> str:
    """What git says in a folder, whatever repository the environment names, as in a hook."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    done = subprocess.run(
        ["git", *words], cwd=folder, env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def environment(level: str) -> dict[str, str]:
    """Everything that must stay the same for a run to go on bit for bit.

    Settings of JAX are not among it: `devices.numbers` fixes those that decide numbers.
    """
    (device,) = jax.numpy.zeros(()).devices()
    shared = devices.sharing().devices
    return {
        "neurosim": version("neurosim"),
        "commit": commit(),
        **versions(level),
        "device": device.device_kind,
        "processor": processor(),
        "cores": str(cores()),
        "XLA_FLAGS": os.environ.get("XLA_FLAGS", ""),
    } | ({"devices": str(len(shared))} if shared else {})


def processor() -> str:
    """The model of the processor, for which JAX compiles."""
    return _told("model name") or platform.processor() or platform.machine()


def cores() -> int:
    """How many cores the process may use: sums are split among them, and round differently."""
    usable = getattr(os, "sched_getaffinity", lambda _: range(os.cpu_count() or 1))
    return len(usable(0))


def features() -> str:
    """What a compiled program depends on beside its text: processor, instructions, cores."""
    known = _told("flags") or _told("Features")  # as x86 and ARM call them
    return "\n".join([platform.machine(), processor(), known, str(cores())])


@cache
def _told(key: str) -> str:
    """What Linux says of the first processor under a key; empty elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    told = [line.partition(":")[2].strip() for line in lines if line.startswith(key)]
    return told[0] if told else ""


def fingerprint(drawn: Iterable[Data]) -> int:
    """A checksum of the data that a run learns from."""
    total = 0
    for data in {id(data): data for data in drawn}.values():
        for array in (data.x_train, data.y_train, data.x_test, data.y_test):
            total = crc(array, total)
    return total
