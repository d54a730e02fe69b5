"""What a GPU is for: four questions, each in a process and within a time of its own.

    python benchmarks/run.py --device gpu --only gpu

Ten minutes at the most: a question whose time is over is ended, and what it had found is kept. No
row without a gate: what is timed gives what a processor gives in float64 or, of spikes, what the
rate model says. A processor is only asked whether everything runs (`--small`).
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import bounds
import jax
import numpy as np
from bench import Bench, protocol
from contests import Contestant, GateError
from field import MODELS, Layers, activities, drawn
from history import reread, written
from measure import Absent, Entry, Row, interleaved, ratio
from spiking import BASE, DT, GAIN, LIMITS, ensemble, network, settled_rates, weights_of

from neurosim.levels.spiking.scan import Scan
from neurosim.process import devices
from neurosim.runs.launch import computing

Asked = Callable[[str, bool], Iterator[Entry]]
"""A question: of which device, whether in its smallest size."""

REPEATS = 10


def on_gpu(device: str, small: bool = False) -> list[Entry]:
    """All questions, one after the other."""
    if device == "cpu" and not small:
        return [Absent("gpu", "no question for a processor; give --device gpu")]
    entries: list[Entry] = []
    for name, (ask, limit) in QUESTIONS.items():
        entries += ask(device, True) if small else within(limit, name, device)
    return entries


def within(limit: float, name: str, device: str, *size: str) -> list[Entry]:
    """What a process found that asked one question for so many seconds at most.

    size: `small` for the smallest.
    """
    command = [sys.executable, __file__, name, device, *size]
    # One that takes the memory of the device at its start would leave none to those beside it.
    surroundings = {**os.environ, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as complaints:
        given: dict[str, Any] = {"env": surroundings, "start_new_session": True}
        process = subprocess.Popen(command, stdout=out, stderr=complaints, text=True, **given)
        why = ""
        try:
            if process.wait(timeout=limit):
                complaints.seek(0)
                why = complaints.read().strip().splitlines()[-1]
        except subprocess.TimeoutExpired:
            why = f"did not end within {limit:g} s"
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)  # with those that it started
                process.wait()
        out.seek(0)
        found = [reread(json.loads(line)) for line in out if line.endswith("\n")]
    return [*found, Absent(f"{name}: all that is missing", why)] if why else found


# --- how near to bare products of matrices -------------------------------------------------------

FIELDS = (("mixture-two-phase", "float32"), ("multiplexing", "float32"), (MODELS[0], "float64"))
FEW = 4
"""Samples of which the processor finds the same."""


def products(device: str, small: bool = False) -> Iterator[Entry]:
    """The field of four layers of 1024 units, a batch of 1024, over its products alone."""
    n, batch = (8, 4) if small else (1024, 1024)
    x = activities(n, batch)
    for name, precision in FIELDS[: 1 if small else None]:
        told, shape = drawn(name, n), f"{name} 4x{n} batch {batch}, {precision}"
        with jax.default_device(jax.devices("cpu")[0]), devices.numbers(x64=True):
            four = Layers.made(*told)
            calls = four.products(x[:FEW]), four.steps(x[:FEW])
            expected = [jax.tree.map(np.asarray, call()) for call in calls]
        with here(device, precision):
            four = Layers.made(*told)
            timed = {"products": four.products(x), "field": four.steps(x)}
            began = time.perf_counter()
            try:
                for (what, call), true in zip(timed.items(), expected, strict=True):
                    agree(f"{shape}: {what}", call(), true, precision)
            except GateError as error:
                yield Absent(shape, str(error))
                continue
            yield Row(f"{shape}: both compiled and run once", time.perf_counter() - began, "s")
            taken = interleaved(timed, REPEATS)
        yield four.bare(shape, batch, taken["products"])
        limit = (">=", 70.0)
        yield ratio(f"{shape}: field", taken["products"], taken["field"], "%", limit)


def here(device: str, precision: str) -> ExitStack:
    """In which JAX computes on a device in a precision."""
    stack = ExitStack()
    stack.enter_context(jax.default_device(jax.devices(device)[0]))
    stack.enter_context(devices.numbers(x64=precision == "float64"))
    return stack


def agree(what: str, found: Any, true: Any, precision: str) -> None:
    """Raises GateError where some of `found`, whose first samples `true` are, is far off.

    In float32 by more than 1e-4 of the root mean square: sums over a thousand units are some 1e-6
    off, and 1e-3 where a GPU rounds to the ten bits of TF32.
    """
    allowed = {"float32": 1e-4, "float64": 1e-10}[precision]
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(true), strict=True):
        size = max(float(np.sqrt(np.mean(np.square(b)))), 1e-30)
        off = float(np.abs(np.asarray(a)[: len(b)] - b).max()) / size
        if not off <= allowed:
            raise GateError(f"{what}: {off:.1e} off what a processor finds; allowed: {allowed:g}")


# --- several ensembles on one device -------------------------------------------------------------

TOGETHER = (1, 10, 100, 400)
"""Networks of one program."""

PROCESSES = (1, 2, 4)
"""With an ensemble of EACH networks, all at the same time."""

EACH, ROUNDS = 100, 5


def ensembles(device: str, small: bool = False) -> Iterator[Entry]:
    """Epochs of quickstart at the equilibrium level, float64, of many networks at a time.

    Gate: the first network learns what it learns alone on a processor.
    """
    shown = "backprop-digits" if small else "quickstart"
    given = protocol(shown, {"level": "equilibrium", "precision": "float64"})
    with computing(given.spec, "cpu"):
        alone = jax.tree.map(np.asarray, Bench(given, [0]).epoch()()[0].weights)
    sizes, calls = (1, 2) if small else TOGETHER, {}
    with computing(given.spec, device):
        for size in sizes:
            call = Bench(given, list(range(size))).epoch()
            try:
                agree("an epoch", call()[0].weights, alone, "float64")
            except GateError as error:
                yield Absent(f"ensembles: {size} networks", str(error))
            else:
                calls[str(size)] = call
        taken = interleaved(calls, 1 if small else REPEATS)
    for name, seconds in taken.items():
        rates = int(name) / seconds
        what = f"{name} networks in one program: epochs of a network a second"
        yield Row(what, float(np.median(rates)), "1/s", float(rates.max()), repeats=tuple(rates))
        if name != "1" and "1" in taken:
            yield ratio(f"{name} networks in one program: time over one", seconds, taken["1"])
    jax.clear_caches()
    chosen = (2, (1, 2), 1) if small else (EACH, PROCESSES, ROUNDS)
    yield from _beside(device, shown, *chosen)


def _beside(
    device: str, shown: str, each: int, processes: Sequence[int], rounds: int
) -> Iterator[Row]:
    """Processes at the same time, in turns with fewer of them."""
    most = max(processes)
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(most) as pool:
        told = Path(folder) / "problem.npz"
        np.savez(told, device=device, protocol=shown, networks=each)
        with ExitStack() as stack:
            there = list(pool.map(lambda _: Contestant("epochs_ensemble", told), range(most)))
            for contestant in there:
                stack.enter_context(contestant)
            taken: dict[int, list[float]] = {count: [] for count in processes}
            for turn in range(rounds + 1):
                for count in processes:
                    began = time.perf_counter()
                    list(pool.map(lambda contestant: contestant.run(), there[:count]))
                    if turn:  # the first time compiles
                        taken[count].append(time.perf_counter() - began)
    one = np.array(taken[min(processes)])
    for count in processes:
        if count > 1:
            what = f"{count} processes of {each} networks: networks a second over one process"
            yield ratio(what, count * one, np.array(taken[count]))


# --- spikes --------------------------------------------------------------------------------------

SPIKING = (((6, 6, 6, 6), 32), ((64, 64, 64, 10), 256), ((64, 64, 64, 10), 2048))
"""Sizes of layers, and copies; 20 neurons a unit."""

COUNT, WINDOW, WINDOWS = 20, 500, 5
"""Neurons of a unit; steps that spikes are counted over; how often, after the first to settle."""


def spiking(device: str, small: bool = False) -> Iterator[Entry]:
    """Neurons x steps a second of a free phase, in float32.

    Gate: the rates of all units are those of the rate model, as far as spikes of so many neurons
    in 250 ms can tell (the limits of `--only spiking`). Bursting neurons: `--only engines`.
    """
    shapes = (((6, 6, 6), 8),) if small else SPIKING
    for kind in ("poisson",) if small else ("poisson", "lif"):
        neurons = ensemble(kind, COUNT)
        for sizes, copies in shapes:
            units = sum(sizes[1:])
            what = f"spikes: {kind}, {copies} x {units} x {COUNT}"
            with here(device, "float64"):
                weights, x = weights_of(sizes, 0, copies)
                expected = settled_rates(sizes, weights, x)
            with here(device, "float32"):
                of = dict.fromkeys(("pyramidal", "output"), neurons)
                scan = Scan(*network(sizes), of, DT, copies)
                found, seconds = _counted(scan, weights, x)
            rates = (np.array(found) / (COUNT * WINDOW * DT) - BASE) / GAIN
            error, limit = float(np.sqrt(np.mean((rates - expected) ** 2))), LIMITS[kind, COUNT]
            if not error <= limit:
                yield Absent(what, f"rates are {error:.3f} off the rate model; allowed: {limit}")
                continue
            yield Row(f"{what}: rmse", error, "h", None, ("<=", limit))
            speed = copies * units * COUNT * WINDOW / 1e6 / np.array(seconds)
            said = f"{what}: million neurons x steps a second"
            yield Row(said, float(np.median(speed)), "", float(speed.max()), repeats=tuple(speed))


def _counted(scan: Scan, weights: Any, x: np.ndarray) -> tuple[list[np.ndarray], list[float]]:
    """Spikes of all units in every window, (copies, units), and the seconds it took."""
    tallies, moments = [], []

    def program() -> Iterator[int]:
        scan.reseed(0)
        scan.rest(np.random.default_rng(0))
        scan.write_weights(weights)
        scan.drive(weights, x)
        scan.teach(None)
        for _ in range(WINDOWS + 1):
            yield WINDOW
            tally = scan.tally()  # waits for the device
            moments.append(time.perf_counter())
            groups = (group for group in scan.circuit.groups if (group, "spike_count") in tally)
            every = [tally[group, "spike_count"] for group in groups]
            tallies.append(np.concatenate(every, axis=1).astype(np.float64))

    scan.run(program(), (WINDOWS + 1) * WINDOW)
    return list(np.diff(tallies, axis=0)), list(np.diff(moments))


QUESTIONS: dict[str, tuple[Asked, float]] = {
    "products": (products, 180.0),
    "bounds": (bounds.bounds, 90.0),
    "ensembles": (ensembles, 190.0),
    "spikes": (spiking, 120.0),
}
"""Each with its seconds; together less than ten minutes."""


def main(name: str, device: str, size: str = "") -> None:
    """Ask one question, and print every row as it is found."""
    for row in QUESTIONS[name][0](device, size == "small"):
        print(json.dumps(written(row)), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
