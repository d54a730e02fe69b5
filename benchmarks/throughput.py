"""How many samples a second every shipped protocol learns from, at every level it can run at.

After compiling, in batches and in the precision of the protocol, from the weights it starts from;
a sample is presented in all the phases of the first stage.
"""

import time

import jax
import numpy as np
from bench import Bench, protocol
from measure import Absent, Entry, Row

import neurosim as ns
from neurosim.building.shipped import bundled
from neurosim.runs.launch import computing

BATCHES = {"equilibrium": 5, "rate": 5, "spiking": 1}
"""So many are presented at a time, or as many as there are."""

REPEATS = {"equilibrium": 7, "rate": 7, "spiking": 5}


def throughput(device: str, small: bool = False) -> list[Entry]:
    """One row each. Brian2 is asked only for protocols that say `spiking` themselves."""
    rows: list[Entry] = []
    for name in ("quickstart",) if small else bundled("protocols"):
        for level in BATCHES:
            if level == "spiking" and (device != "cpu" or protocol_level(name) != level):
                continue
            what = f"samples learned from: {name}, {level}"
            try:
                rates = _rates(name, level, device, 1 if small else REPEATS[level])
                rows.append(Row(what, float(np.median(rates)), "1/s", max(rates), None, rates))
            except ns.InputError as error:
                rows.append(Absent(what, str(error).splitlines()[0]))
            jax.clear_caches()
    return rows


def protocol_level(name: str) -> str:
    """The level a shipped protocol says."""
    try:
        return protocol(name).spec.level
    except ns.InputError:  # whose data are not here
        return ""


def _rates(name: str, level: str, device: str, repeats: int) -> tuple[float, ...]:
    given = protocol(name, {"level": level})
    with computing(given.spec, device):
        bench = Bench(given, [given.spec.seed])
        count = min(BATCHES[level], bench.batches)
        arguments = bench.advance_arguments(count)
        seconds = []
        for _ in range(repeats + 1):
            began = time.perf_counter()
            jax.block_until_ready(bench.engine.advance(*arguments))
            seconds.append(time.perf_counter() - began)
    return tuple(count * given.spec.batch / taken for taken in seconds[1:])
