"""What an epoch costs in joules, where the processor counts them (Linux's powercap, RAPL)."""

from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from bench import Bench, protocol
from measure import Absent, Entry, Row

from neurosim.runs.launch import computing

COUNTERS = Path("/sys/class/powercap")
EPOCHS, REPEATS = 20, 7


def energy(device: str, small: bool = False) -> list[Entry]:
    """Of quickstart, compiled, at two levels; everything else that runs is counted with it."""
    rows: list[Entry] = []
    for level in ("equilibrium",) if small else ("equilibrium", "rate"):
        what = f"energy of an epoch of quickstart, {level}"
        packages = _packages()
        if not packages:
            return [Absent(what, f"no readable counter (RAPL) in {COUNTERS}")]
        given = protocol("quickstart", {"level": level})
        with computing(given.spec, device):
            epoch = Bench(given, [0]).epoch()
            jax.block_until_ready(epoch())
            joules = tuple(spent(epoch, packages) / EPOCHS for _ in range(REPEATS))
        rows.append(Row(what, float(np.median(joules)), "J", min(joules), None, joules))
    return rows


def spent(call: Callable[[], tuple], packages: list[Path]) -> float:
    """Joules of all packages over EPOCHS calls; the counters overflow at a known number."""
    before = [_count(package / "energy_uj") for package in packages]
    for _ in range(EPOCHS):
        jax.block_until_ready(call())
    after = [_count(package / "energy_uj") for package in packages]
    wraps = [_count(package / "max_energy_range_uj") for package in packages]
    moved = [(b - a) % (wrap + 1) for a, b, wrap in zip(before, after, wraps, strict=True)]
    return sum(moved) * 1e-6


def _packages() -> list[Path]:
    """Folders of whole processor packages whose counters may be read."""
    found = sorted(COUNTERS.glob("intel-rapl:[0-9]"))
    try:
        for package in found:
            _count(package / "energy_uj")
    except OSError:
        return []
    return found


def _count(path: Path) -> int:
    return int(path.read_text())
