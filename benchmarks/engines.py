"""The engines of the spiking level: neurons x steps a second in Brian2 and in JAX, in turns.

Of processor seconds, those of all threads: Brian2 has one, JAX as many as there are cores.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from measure import Row
from spiking import DT, ensemble, network, weights_of

from neurosim.building import assembly
from neurosim.building.loading import load_model
from neurosim.levels.spiking.copies import Copies
from neurosim.levels.spiking.machine import Machine
from neurosim.levels.spiking.neurons import Neurons
from neurosim.levels.spiking.scan import Scan
from neurosim.networks.circuit import CircuitDynamics
from neurosim.networks.network import Network

SHAPES = {
    "32 x 18 x 20": ((6, 6, 6, 6), 32, 20, 1000),
    "16 x 138 x 20": ((64, 64, 64, 10), 16, 20, 400),
}
"""Copies x units x neurons: sizes of layers, copies, neurons a unit, and how many steps."""

FEW = 50
"""Steps that are run before, to take starting a run apart."""

TURNS = 4


def engines(device: str, small: bool = False) -> list[Row]:
    """Of every kind of neuron and shape: both engines, taken in turns, and that they agree.

    JAX computes in float32, as protocols do that say nothing, and Brian2 in float64.
    """
    rows: list[Row] = []
    for kind in ("poisson",) if small else ("poisson", "lif", "bursting"):
        for name, shape in list(SHAPES.items())[: 1 if small else None]:
            rows += _turns(f"{kind}, {name}", kind, *shape)
    return rows


def _turns(
    name: str, kind: str, sizes: tuple[int, ...], copies: int, count: int, many: int
) -> Iterator[Row]:
    dynamics, net, neurons = _model(kind, sizes, count)
    weights, x = weights_of(sizes, 0, copies)
    of = dict.fromkeys(dynamics.circuit.ensembles, neurons)
    given: Any = dynamics, net, of, DT, copies
    machines: dict[str, Copies] = {
        "Brian2 (Cython)": Machine(*given, target="cython"),
        "JAX": Scan(*given),
    }
    spent: dict[str, list[float]] = {engine: [] for engine in machines}
    counts: dict[str, float] = {}
    for turn in range(TURNS + 1):
        for engine, machine in machines.items():
            seconds = []
            for steps in (FEW, FEW + many):
                began = time.process_time()
                machine.run(_free(machine, weights, x, turn, steps, counts, engine)(), steps)
                seconds.append(time.process_time() - began)
            if turn:  # the first time compiles
                spent[engine].append(seconds[1] - seconds[0])
    apart = counts["JAX"] / counts["Brian2 (Cython)"]
    if abs(apart - 1) > 0.02:
        raise RuntimeError(f"{name}: the spikes of JAX are {apart:.3f} times those of Brian2")
    work = copies * sum(sizes[1:]) * count * many / 1e6
    for engine, seconds in spent.items():
        rate = work / np.array(seconds)
        what = f"{name}: {engine}, million neurons x steps a second"
        yield Row(what, float(np.median(rate)), "", repeats=tuple(rate))
    ratios = np.array(spent["Brian2 (Cython)"]) / np.array(spent["JAX"])
    yield Row(f"{name}: JAX over Brian2", float(np.median(ratios)), "x", repeats=tuple(ratios))
    yield Row(f"{name}: spikes of JAX over those of Brian2", apart, "")


def _free(
    machine: Copies,
    weights: Any,
    x: np.ndarray,
    seed: int,
    steps: int,
    counts: dict[str, float],
    engine: str,
) -> Callable[[], Iterator[int]]:
    """A free phase of so many steps, whose spikes are added up."""

    def program() -> Iterator[int]:
        machine.reseed(seed)
        machine.rest(np.random.default_rng(seed))
        machine.write_weights(weights)
        machine.drive(weights, x)
        machine.teach(None)
        yield steps
        found = sum(v.sum() for (_, name), v in machine.tally().items() if name.endswith("count"))
        counts[engine] = counts.get(engine, 0.0) + float(found)

    return program


def _model(
    kind: str, sizes: tuple[int, ...], count: int
) -> tuple[CircuitDynamics, Network, Neurons]:
    if kind != "bursting":
        return *network(sizes), ensemble(kind, count)
    model = load_model("multiplexing", {"layers": list(sizes)})
    neurons = Neurons(kind, count, 15.0, 5.0, 35.0, DT, probability_gain=0.15)
    with jax.enable_x64(False):
        return assembly.dynamics(model), assembly.network(model), neurons
