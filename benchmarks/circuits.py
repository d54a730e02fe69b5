"""What a model written as a circuit costs: its field, its compiling by depth, its spikes."""

import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from measure import Row, as_in_runs, interleaved, ratio

from neurosim.building import assembly
from neurosim.building.loading import load_model, load_protocol
from neurosim.levels.spiking.machine import Machine
from neurosim.levels.spiking.neurons import Neurons
from neurosim.networks.dynamics import Target, field, rest
from neurosim.runs.launch import initial_weights, prepare

EVALUATIONS, REPEATS = 40, 30
MODEL = "mixture-two-phase"


def circuits(device: str, small: bool = False) -> list[Row]:
    """All of it."""
    rows = []
    with jax.default_device(jax.devices(device)[0]):
        with jax.enable_x64(False):
            for n in (8,) if small else (256, 512):
                rows += [_field(n, batch) for batch in ((4,) if small else (128, 256))]
        for level in ("rate",) if small else ("rate", "equilibrium"):
            rows.append(_depth(level, 3 if small else 10))
    return [*rows, *([_spikes()] if device == "cpu" else [])]


def _made(layers: list[int]) -> Any:
    spec = load_model(MODEL, {"layers": layers, "parameters.mu": 0.3})
    dynamics = assembly.dynamics(spec)
    return dynamics, assembly.network(spec), assembly.weights(spec, 0, None, Path())


def _field(n: int, batch: int) -> Row:
    """The field of four layers of n units against the matrix products in it."""
    dynamics, network, weights = _made([n] * 5)
    x = jax.random.normal(jax.random.key(0), (batch, n))
    matrices = (*weights["W"][1:], *weights["Q"])  # W_1 x stands still

    @as_in_runs
    def products(activities: Any) -> Any:
        def once(_: Any, activities: Any) -> Any:
            return tuple(h @ m.T for h, m in zip(activities, matrices, strict=True))

        return jax.lax.fori_loop(0, EVALUATIONS, once, activities)

    @as_in_runs
    def steps(x: Any) -> Any:
        def one(x: Any, state: Any) -> Any:
            drive = dynamics.drive(network, weights, x, Target("none"))
            return field(dynamics, network, weights, drive, state)

        def once(_: Any, state: Any) -> Any:
            return jax.tree.map(lambda v, r: v + 1e-3 * r, state, jax.vmap(one)(x, state))

        start = jax.vmap(lambda x: rest(dynamics, network, x.dtype))(x)
        return jax.lax.fori_loop(0, EVALUATIONS, once, start)

    activities = tuple(x + k for k in range(len(matrices)))
    calls = {"products": lambda: products(activities), "field": lambda: steps(x)}
    taken = interleaved(calls, REPEATS)
    what = f"circuit 4x{n} batch {batch}: field"
    return ratio(what, taken["products"], taken["field"], "%", (">=", 90.0))


def _depth(level: str, layers: int) -> Row:
    """Processor seconds to compile presentations of so many layers over those of two."""
    two, more = (_compiling(level, depth) for depth in (2, layers))
    what = f"circuit, {level} level: compiling {layers} layers over 2"
    return Row(what, more / two, "×", None, ("<=", 1.5))


def _compiling(level: str, depth: int) -> float:
    sizes = [16] * (depth + 1)
    task = {"name": "student-teacher", "layers": sizes, "train": 64, "test": 16}
    model = {"use": MODEL, "layers": sizes, "output": "linear", "loss": "squared"}
    given = {"model": model, "task": task, "batch": 16, "level": level}
    given |= {"stages.0.phases.0.duration": "2 s", "stages.0.phases.1.duration": "2 s"}
    protocol = load_protocol("quickstart", given)
    with jax.enable_x64(True):
        samples, drawn = prepare(protocol, [0])
        engine = assembly.engine(protocol.spec, protocol.spec.stages[0], 10)
        states = engine.begin(initial_weights(protocol, [0], drawn), 0)
        order, keys = jnp.arange(64).reshape(1, 4, 16), jax.random.key(0)[None]
        steps = (jnp.int32(k) for k in (0, 1, 0))
        began = time.process_time()
        done = engine.advance(states, samples.train, samples.axis, order, keys, *steps)
        jax.block_until_ready(done[0].weights)
        return time.process_time() - began


def _spikes() -> Row:
    """Processor seconds per simulated second of 32 copies of 18 units of 20 Poisson neurons."""
    dynamics, network, weights = _made([6, 6, 6, 6])
    neurons = Neurons("poisson", 20, 50.0, 20.0, 150.0, 5e-4)
    of = dict.fromkeys(("pyramidal", "output"), neurons)
    machine = Machine(dynamics, network, of, 5e-4, 32, tau_synapse=5e-3)
    x = np.random.default_rng(0).standard_normal((32, 6))

    def program() -> Any:
        machine.reseed(1)
        machine.rest(np.random.default_rng(0))
        machine.write_weights(weights)
        machine.drive(weights, x)
        machine.teach(None)
        yield 4000

    machine.run(program(), 4000)
    taken = []
    for _ in range(5):
        began = time.process_time()
        machine.run(program(), 4000)
        taken.append((time.process_time() - began) / 2)
    what = "circuit 32 × 18 × 20 Poisson neurons: CPU-s per simulated s"
    return Row(what, float(np.median(taken)), "s", min(taken), ("<=", 0.4))
