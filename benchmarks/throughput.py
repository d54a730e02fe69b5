"""How many samples a second shipped models learn from, at every level they can run at.

After compiling, in batches and in the precision of the protocol, from the weights it starts from;
a sample is presented in all the phases of the first stage.
"""

import time
from collections.abc import Mapping

import jax
import numpy as np
from bench import Bench, protocol
from contests import GateError
from measure import Absent, Entry, Row

import neurosim as ns
from neurosim.runs.launch import computing

COMPUTED = (
    "backprop-digits",
    "broadcast-alignment-digits",
    "burst-ccn-digits",
    "burstprop-digits",
    "convolution-digits",
    "denoising-autoencoder-digits",
    "difference-target-propagation-digits",
    "discrete-transmission-digits",
    "equilibrium-propagation-digits",
    "feedback-control-digits",
    "feedback-control-single-phase",
    "least-control-digits",
    "local-goals-n4g4",
    "microcircuit-digits",
    "microcircuit-online",
    "mixture-single-phase",
    "multiplexing-digits",
    "predictive-coding-digits",
    "quickstart",
    "segregated-dendrites-digits",
    "stochastic-binary-digits",
    "target-propagation",
)
"""A protocol of every model, which the equilibrium and the rate level are asked for."""

SPIKING = ("burstprop-xor", "spiking-multiplexing", "spiking-student-teacher")
"""Protocols that spike in Brian2."""

PRESENTED = {"equilibrium": 20, "rate": 5, "spiking": 1}
"""So many batches at a time, or as many as there are."""

SETTLED = 0.99
"""The fraction of samples that are to be at rest where a phase lasts until they are."""

REPEATS = 5


def throughput(device: str, small: bool = False) -> list[Entry]:
    """One row each."""
    names = ("backprop-digits",) if small else COMPUTED
    asked = [(name, level) for name in names for level in ("equilibrium", "rate")]
    if device == "cpu" and not small:
        asked += [(name, "spiking") for name in SPIKING]
    rows: list[Entry] = []
    for name, level in asked:
        what = f"samples learned from: {name}, {level}"
        try:
            rates = _rates(name, level, device, 1 if small else REPEATS)
            rows.append(Row(what, float(np.median(rates)), "1/s", max(rates), None, rates))
        except (ns.InputError, GateError) as error:
            rows.append(Absent(what, str(error).splitlines()[0]))
        jax.clear_caches()
    return rows


def _rates(name: str, level: str, device: str, repeats: int) -> tuple[float, ...]:
    given = protocol(name, {"level": level})
    with computing(given.spec, device):
        bench = Bench(given, [given.spec.seed])
        count = min(PRESENTED[level], bench.batches)
        call = bench.presenting(count)
        _sound(bench.metrics(call(), count), [phase.until for phase in given.spec.stages[0].phases])
        seconds = []
        for _ in range(repeats):
            began = time.perf_counter()
            jax.block_until_ready(call())
            seconds.append(time.perf_counter() - began)
    return tuple(count * given.spec.batch / taken for taken in seconds)


def _sound(metrics: Mapping[str, np.ndarray], until: list[str]) -> None:
    """Raises GateError where a loss is no number, or a phase did not settle that was to."""
    if not np.isfinite(metrics["loss"]).all():
        raise GateError("some losses are no numbers")
    for number, ends in enumerate(until):
        settled = metrics["settled"][..., number]
        if ends == "settled" and settled.mean() < SETTLED:  # of spikes it is no number
            raise GateError(f"phase {number}: {settled.mean():.1%} settled, {SETTLED:.0%} wanted")
