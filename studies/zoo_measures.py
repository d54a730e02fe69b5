"""What the zoo measures of models that have learned: costs, levels, spikes, and machines that read.

Traces of what is run for it go to a folder, `into`, and may go once it is measured.
"""

import time
from pathlib import Path
from typing import Any

import numpy as np
from local_goals import COSTS, forward_weights, passed, read, soft
from zoo_models import CHOOSING, PACES, PROBLEMS, TESTING, Model, loaded, sized

import neurosim as ns
from neurosim.building import ingredients
from neurosim.models import circuitry
from neurosim.seeds import host_stream

SPIKING_TEST = 100
"""Test samples that spiking networks see, the first ones of every seed."""


def cost(model: Model, into: Path) -> float:
    """Seconds of processor time that all of learning digits takes, tests too, once compiled."""
    protocol = loaded(PROBLEMS["digits"], model, PACES[0], False, True)
    for _ in range(2):
        began = time.process_time()
        ns.run(protocol, seeds=CHOOSING, out=into / "cost.h5", force=True, progress=False)
    return time.process_time() - began


def sweeps(path: Path) -> float:
    """Of a presentation, all of its phases: how often the layers are gone through to find rest."""
    with ns.open_trace(path) as trace:
        effort = np.asarray(trace["metrics/effort"])
    return float(np.nanmean(np.nansum(effort, axis=-1)))


def single(model: Model) -> dict[str, Any]:
    """The changes that leave one presentation of digits, for levels in time too."""
    plain = ns.load_protocol(model.protocol, model.changes).spec
    changes = model.changes | {
        **sized(model, PROBLEMS["digits"].layers),
        "task": PROBLEMS["digits"].task | ({"standardise": False} if model.pixels else {}),
        "model.projections.W.rate": model.W,
    }
    for k in range(len(plain.stages)):
        changes |= {f"stages.{k}.epochs": None, f"stages.{k}.presentations": 1}
    return changes | ({} if plain.rate else {"stages.0.phases.0.duration": "600 ms"})


def at_levels(model: Model, into: Path) -> dict[str, Any]:
    """How far ΔW of one presentation of digits is from that at rest, relative; at the rate level.

    In float64. With spiking: whether the level takes the model.
    """
    changes = single(model) | {"precision": "float64", "record.presentations": 0}
    timed = {} if ns.load_protocol(model.protocol, changes).spec.rate else {"rate.dt": "5 ms"}
    moved = {}
    for level, more in (("equilibrium", {}), ("rate", timed)):
        path = into / f"level-{level}.h5"
        protocol = ns.load_protocol(model.protocol, changes | more | {"level": level})
        ns.run(protocol, out=path, force=True, progress=False)
        with ns.open_trace(path) as trace:
            ends = [np.asarray(trace[f"weights/W{i}"]) for i in (1, 2)]
        moved[level] = np.concatenate([(W[-1] - W[0]).ravel() for W in ends])
    off = np.linalg.norm(moved["rate"] - moved["equilibrium"])
    try:
        ns.load_protocol(model.protocol, changes | {"level": "spiking"})
        spiking = True
    except ns.InputError:
        spiking = False
    return {"rate": float(off / np.linalg.norm(moved["equilibrium"])), "spiking": spiking}


def as_spikes(model: Model, weights: Path, into: Path, seeds: list[int]) -> dict[str, Any]:
    """Networks that have learned digits at rest, as spikes: their test errors, and how far off.

    weights: the trace of the test. seeds: that lived in it. Neurons, windows and time step are
    those of the protocol.
    """
    changes = single(model) | model.untaught
    changes |= {"record.presentations": 1, "spiking.test": SPIKING_TEST}
    traces = []
    for level in ("equilibrium", "spiking"):
        traces.append(into / f"spikes-{level}-{weights.stem}.h5")
        at: dict[str, Any] = {"level": level}
        if level == "spiking":
            at |= {"spiking.presentations": 1, "spiking.engine": engine(model, changes)}
        protocol = ns.load_protocol(model.protocol, changes | at)
        given = {"seeds": seeds, "start": weights, "out": traces[-1]}
        ns.run(protocol, **given, force=True, progress=False)
    with ns.open_trace(traces[-1]) as trace:
        errors = trace["evaluation/error"].values[0].tolist()
    neurons = protocol.spec.model.spiking.neurons
    return {
        "errors": errors,
        "distance": distance(protocol.spec, *traces),
        "neurons": neurons,
        "window": protocol.spec.spiking.window,
        "engine": protocol.spec.spiking.engine,
    }


def distance(spec: Any, rest: Path, spiking: Path) -> float | None:
    """How far what spikes (or events) say is from rest, over what their scatter lets expect.

    By root mean squares at the end of the first phase of one batch, in the first seed (`neurosim
    compare`); of all layers the largest. None where no law is known.
    """
    first = spec.stages[0].phases[0].name
    populations = circuitry.circuit(spec.model).population.values()
    ratios = [
        row["rmse"] / row["expected"]
        for row in ns.compare(rest, spiking)["agreement"]
        if row["phase"] == first
        and row["expected"]
        and any(row["layer"] in p.layers and p.carrier(row["variable"]) == 0 for p in populations)
    ]
    return max(ratios, default=None)


def engine(model: Model, changes: dict[str, Any]) -> str:
    """JAX, where it takes the model."""
    at = {"level": "spiking", "spiking.engine": "jax"}
    try:
        ns.load_protocol(model.protocol, changes | at)
    except ns.InputError:
        return "brian2"
    return "jax"


def machines(protocol: Any, path: Path) -> dict[str, list[float]]:
    """Test errors of linear support vector machines that read the last node of local goals.

    Before and after it learned, by seed. protocol: of the test. path: its trace.
    """
    task = ingredients.task(protocol.spec, protocol.folder)
    threshold = protocol.spec.model.activation.threshold
    found: dict[str, list[float]] = {}
    with ns.open_trace(path) as trace:
        data = [task.draw(host_stream(seed, "task")) for seed in TESTING]
        for moment in ("initial", "final"):
            found[moment] = []
            for k, of in enumerate(data):
                A = forward_weights(trace, moment, k)
                u, v = (
                    soft(passed(A, x, threshold)[-1], threshold) for x in (of.x_train, of.x_test)
                )
                found[moment].append(read(u, of.y_train, v, of.y_test, COSTS)[0] / 100)
    return found
