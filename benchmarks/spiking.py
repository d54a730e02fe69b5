"""The spiking level: how well spikes carry the rates of the rate model, and what they cost."""

import os
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from tempfile import TemporaryDirectory
from typing import Any

import handwritten
import jax
import jax.numpy as jnp
import numpy as np
from measure import Absent, Entry, Row, excess

from neurosim.building import assembly
from neurosim.building.loading import load_model
from neurosim.learning.spiking.curves import fi_curve
from neurosim.levels.rate import Rate
from neurosim.levels.spiking.calibration import calibrated
from neurosim.levels.spiking.machine import Machine
from neurosim.levels.spiking.neurons import Neurons
from neurosim.levels.spiking.standalone import Standalone
from neurosim.models.initialisers import drawn
from neurosim.networks.circuit import CircuitDynamics, CircuitWeights
from neurosim.networks.dynamics import Target, field, rest
from neurosim.networks.network import Network

DT, COPIES, SEEDS = 5e-4, 16, range(5)
BASE, GAIN = 1.0, 98.0
LIMITS = {
    ("poisson", 20): 0.045,
    ("poisson", 100): 0.02,
    ("poisson", 400): 0.01,
    ("lif", 20): 0.017,
    ("lif", 100): 0.009,
}


def network(sizes: tuple[int, ...]) -> tuple[CircuitDynamics, Network]:
    """Mixing somata of sigmoid units, with feedback in autoencoder form."""
    changes: dict[str, Any] = {"layers": list(sizes)}
    changes |= {"activation": "sigmoid", "output_activation": "sigmoid"}
    changes |= {"form": "autoencoder", "parameters.mu": 0.2, "output": "linear"}
    model = load_model("mixture-dendrites", changes | {"loss": "half-squared"})
    return assembly.dynamics(model), assembly.network(model)


def weights_of(sizes: tuple[int, ...], seed: int, copies: int) -> tuple[CircuitWeights, np.ndarray]:
    """Random weights and inputs."""
    rng, pairs = np.random.default_rng(seed), list(pairwise(sizes))
    W = [drawn("xavier", (n, below), rng) for below, n in pairs]
    Q = [drawn("normal", (below, n), rng) for below, n in pairs[1:]]
    weights = {"W": tuple(map(jnp.asarray, W)), "Q": tuple(map(jnp.asarray, Q))}
    return weights, rng.standard_normal((copies, sizes[0]))


def machine_of(sizes: tuple[int, ...], neurons: Neurons, copies: int, **more: Any) -> Machine:
    """Copies of the network side by side, each unit with such neurons."""
    of = dict.fromkeys(("pyramidal", "output"), neurons)
    return Machine(*network(sizes), of, DT, copies, **more)


def started(machine: Machine, weights: CircuitWeights, x: np.ndarray, seed: int) -> None:
    """A free phase begins."""
    machine.reseed(seed)
    machine.rest(np.random.default_rng(seed))
    machine.write_weights(weights)
    machine.drive(weights, x)
    machine.teach(None)


def spikes(machine: Machine) -> list[np.ndarray]:
    """How many there were so far, layer by layer."""
    tally = machine.tally()
    groups = machine.circuit.groups
    return [tally[at] for group in groups if (at := (group, "spike_count")) in tally]


def ensemble(kind: str, count: int) -> Neurons:
    """Neurons that code h in (0, 1) as 1 to 99 Hz."""
    neurons = Neurons(kind, count, BASE, GAIN, 100.0, DT)
    return calibrated(neurons, fi_curve(neurons)) if kind == "lif" else neurons


def spiking(device: str, small: bool = False) -> list[Row]:
    """Accuracy over five weight sets, and processor seconds per simulated second."""
    with jax.enable_x64(True):
        if small:
            return _cost(("poisson",), 4, (20, 40))
        return [*_accuracy(), *_cost(("poisson", "lif"), 32, (2000, 8000)), *_standalone()]


def _accuracy() -> list[Row]:
    sizes, rows, slopes = (6, 6, 6), [], []
    for (kind, count), limit in LIMITS.items():
        machine = machine_of(sizes, ensemble(kind, count), COPIES)
        errors: dict[float, list[np.ndarray]] = {0.25: [], 1.0: []}
        correlations = []
        for seed in SEEDS:
            weights, x = weights_of(sizes, seed, COPIES)
            expected = settled_rates(sizes, weights, x)
            tallies: list[list[np.ndarray]] = []

            def program(
                machine: Any = machine,
                weights: Any = weights,
                x: Any = x,
                seed: Any = seed,
                tallies: Any = tallies,
            ) -> Any:
                started(machine, weights, x, seed)
                for _ in range(5):
                    yield 500
                    tallies.append(spikes(machine))

            machine.run(program(), 2500)
            for window, last in ((0.25, 1), (1.0, 4)):
                found = np.concatenate(
                    [
                        ((b - a) / (count * window) - BASE) / GAIN
                        for a, b in zip(tallies[0], tallies[last], strict=True)
                    ],
                    axis=1,
                )
                errors[window].append(found - expected)
                if window == 1.0:
                    correlations.append(np.corrcoef(found.ravel(), expected.ravel())[0, 1])
        rmse = {w: float(np.sqrt(np.mean(np.square(e)))) for w, e in errors.items()}
        name = f"{kind} {count}"
        rows += [
            Row(f"{name}: rmse over 0.25 s", rmse[0.25], "h", None, ("<=", limit)),
            Row(f"{name}: bias", float(np.mean(errors[0.25])), "h"),
            Row(f"{name}: worst correlation over 1 s", min(correlations), "", None, (">=", 0.99)),
        ]
        if kind == "poisson":
            slopes += [(count * w, r) for w, r in rmse.items()]
    sizes_of, errors_of = np.log(np.array(slopes)).T
    slope = float(np.polyfit(sizes_of, errors_of, 1)[0])
    rows.append(Row("poisson: slope of the rmse over N T", slope, ""))
    return rows


def settled_rates(sizes: tuple[int, ...], weights: CircuitWeights, x: np.ndarray) -> np.ndarray:
    """The settled rates of the rate model, (copies, all units)."""
    dynamics, net = network(sizes)

    def solve(x: Any) -> Any:
        drive = dynamics.drive(net, weights, x, Target("none"))
        level = Rate("heun", 1e-3, False, 1e-6, 1e-9, 1e-3)
        state = rest(dynamics, net, jnp.float64)
        return level.integrate(lambda v: field(dynamics, net, weights, drive, v), state, 1.0)[0]

    state = jax.jit(jax.vmap(solve))(jnp.asarray(x))
    return np.concatenate([*state["pyramidal.soma"], *state["output.soma"]], axis=1)


def _cost(kinds: tuple[str, ...], copies: int, lengths: tuple[int, int]) -> list[Row]:
    """Of copies of 18 units of 20 neurons; starting a run apart. lengths: steps of two runs."""
    sizes, rows = (6, 6, 6, 6), []
    weights, x = weights_of(sizes, 0, copies)
    for kind in kinds:
        limit = ("<=", 0.4) if kind == "poisson" else None
        machine = machine_of(sizes, ensemble(kind, 20), copies)

        def program(steps: Any, machine: Any = machine) -> Any:
            started(machine, weights, x, 0)
            yield steps

        machine.run(program(200), 200)
        spent = []
        for steps in lengths:
            began = time.process_time()
            machine.run(program(steps), steps)
            spent.append(time.process_time() - began)
        second = (spent[1] - spent[0]) / ((lengths[1] - lengths[0]) * DT)
        rows += [
            Row(f"{kind}, {copies} x 18 x 20: processor s per s", second, "s", None, limit),
            Row(
                f"{kind}, {copies} x 18 x 20: starting a run",
                spent[0] - lengths[0] * DT * second,
                "s",
            ),
        ]
    return rows


def _standalone() -> list[Row]:
    """The same networks as programs of their own: compiling them, and against Cython by turns."""
    sizes, rows = (6, 6, 6, 6), []
    weights, x = weights_of(sizes, 0, 32)
    for kind in ("poisson", "lif"):
        neurons = ensemble(kind, 20)
        with TemporaryDirectory() as empty, _cache(empty):
            began = _processor()
            there = machine_of(sizes, neurons, 32, target="standalone")
            compiling = _processor() - began
            machines = {"cython": machine_of(sizes, neurons, 32), "standalone": there}
            spent: dict[str, list[float]] = {name: [] for name in machines}
            for _ in range(4):
                for name, machine in machines.items():
                    spent[name].append(_second(machine, weights, x))
        best = {name: min(seconds[1:]) for name, seconds in spent.items()}
        faster = best["cython"] / best["standalone"]
        rows += [
            Row(f"{kind}, standalone: processor s per s", best["standalone"], "s"),
            Row(f"{kind}, standalone: times faster than Cython", faster, "x"),
            Row(f"{kind}, standalone: processor s of compiling", compiling, "s"),
        ]
    return rows


@contextmanager
def _cache(folder: str) -> Iterator[None]:
    """In which the user's cache is this folder."""
    kept = os.environ.get("XDG_CACHE_HOME")
    os.environ["XDG_CACHE_HOME"] = folder
    try:
        yield
    finally:
        del os.environ["XDG_CACHE_HOME"]
        if kept is not None:
            os.environ["XDG_CACHE_HOME"] = kept


def _processor() -> float:
    """Processor seconds of this process and of the children that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def _second(machine: Machine, weights: CircuitWeights, x: np.ndarray) -> float:
    """Processor seconds of a simulated second, starting apart, here and in child processes."""

    def program(steps: Any) -> Any:
        started(machine, weights, x, 0)
        yield steps
        machine.tally()

    spent = []
    for steps in (2000, 6000):
        began = _processor()
        machine.run(program(steps), steps)
        if isinstance(machine.brian, Standalone):
            machine.brian.close()  # what a child took is known when it has ended
        spent.append(_processor() - began)
    return (spent[1] - spent[0]) / (4000 * DT)


def against_brian(device: str, small: bool = False) -> list[Entry]:
    """Against the same network and presentations written by hand in Brian2, run by turns.

    No learning. Both first have to spike at the same mean rate in the first layer, within 5 %.
    """
    del device
    sizes, phase, window = (6, 6, 6, 6), 0.5, 0.25
    copies, presentations, repeats = (4, 2, 1) if small else (32, 8, 5)
    with jax.enable_x64(True):
        weights, x = weights_of(sizes, 0, copies)
        machine = machine_of(sizes, ensemble("poisson", 20), copies)
    arrays = [[np.asarray(w) for w in matrices] for matrices in (weights["W"], weights["Q"])]
    targets = np.random.default_rng(1).random((presentations, copies, sizes[-1]))
    by_hand = handwritten.network(sizes, copies, 20, DT, phase, window)
    length, opening = round(phase / DT), round((phase - window) / DT)
    tallies: list[list[np.ndarray]] = []

    def program() -> Iterator[int]:
        for target in targets:
            started(machine, weights, x, 0)
            for taught in (None, target):
                machine.teach(taught)
                yield opening
                tallies.append(spikes(machine))
                yield length - opening
                tallies.append(spikes(machine))

    def ours() -> None:
        machine.run(program(), 2 * presentations * length)

    spent: dict[str, list[float]] = {"ours": [], "by hand": []}
    for turn in range(repeats + 1):
        for name, call in (("ours", ours), ("by hand", lambda: by_hand(*arrays, x, targets))):
            began = time.process_time()
            call()
            if turn:  # the first compiles
                spent[name].append(time.process_time() - began)
    rates = by_hand(*arrays, x, targets)
    ends = [
        (b[0] - a[0]) / (20 * window) for a, b in zip(tallies[0::2], tallies[1::2], strict=True)
    ]
    apart = float(np.mean([r[0].ravel() for r in rates]) / np.mean(ends))
    what = "poisson ensembles: processor time over a hand-written Brian2 script"
    if abs(apart - 1) > (0.2 if small else 0.05):
        return [Absent(what, f"mean rates differ: by hand {apart:.3f} times ours, 5 % allowed")]
    above, below = np.array(spent["ours"]), np.array(spent["by hand"])
    return [
        excess(what, above, below, ("<=", 10.0)),
        Row("poisson ensembles: mean rate by hand over ours", apart, ""),
    ]
