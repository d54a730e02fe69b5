"""Made-up traces of every kind of model, in the layout that runs write."""

import json

import numpy as np

from neurosim.building.loading import load_model
from neurosim.traces import scenes
from neurosim.traces.layout import Axis, Variable
from neurosim.traces.writer import TraceWriter

SIZES = (5, 8, 4)
TWO_PHASE = [(10, [("free", 0), ("learning", 1)])]
SAMPLES, SETTLED, PHASE, EVERY = 2, 150.0, 600.0, 10.0
"""Samples recorded; when they settle in a phase, how long it may last, between two moments (ms)."""


def made(
    path,
    protocol="quickstart",
    model="mixture-two-phase",
    level="rate",
    loss="cross-entropy",
    stages=TWO_PHASE,
    variables=("soma", "basal", "apical", "basal_rate", "apical_rate"),
    sizes=SIZES,
    layers=None,
    seeds=(0,),
    recorded=(0, 4, 9),
    until=None,
    lost=(),
    status="complete",
    look=None,
):
    """A trace of made-up numbers.

    stages: presentations, and phases with whether they are taught. until: how many presentations
    the run got to. lost: the seeds that diverge at presentation 6. look: called with the trace
    before it is closed.
    """
    random, many, timed = np.random.default_rng(7), len(seeds) > 1, level == "rate"
    flags = tuple(name for _, phases in stages for name, _ in phases)
    taught = [t for _, phases in stages for _, t in phases]
    total = sum(count for count, _ in stages)
    until = total if until is None else until
    tests = np.arange(0, total + 1, 5)
    longest = max(len(phases) for _, phases in stages)
    time = np.arange(longest * PHASE / EVERY + 1) * EVERY
    shown = layers or range(1, len(sizes))
    moment = "time" if timed else "phase"

    def dims(*names):
        return (names[0], "seed", *names[1:]) if many else names

    phase = Axis("phase", np.arange(len(flags), dtype=np.int8), flags=flags)
    presentation = Axis("presentation", np.array(recorded))
    axes = {
        "": [Axis("seed", np.array(seeds))] if many else [],
        "metrics": [Axis("presentation", np.arange(total)), phase],
        "evaluation": [Axis("presentation", tests)],
        "phases": [phase],
    }
    held = [
        Variable("metrics/loss", dims("presentation")),
        Variable("metrics/effort", dims("presentation", "phase")),
        Variable("evaluation/loss", dims("presentation"), attributes={"tested_on": "test"}),
        Variable("evaluation/error", dims("presentation")),
        Variable("phases/teaching", ("phase",), dtype="int8"),
    ]
    if recorded:
        axes["signals"] = [presentation, Axis("layer", np.arange(1, len(sizes)))]
        axes["traces"] = [presentation, Axis("sample", np.arange(SAMPLES)), phase]
        axes["traces"] += [Axis("time", time, "ms")] if timed else []
        axes |= {f"traces/layer{i}": [Axis("unit", np.arange(sizes[i]))] for i in shown}
        held += [
            Variable("signals/angle", dims("presentation", "layer"), "degree"),
            Variable("traces/stopped", dims("presentation", "phase", "sample"), "ms"),
        ]
        held += [Variable("traces/phase_at", ("presentation", "time"), dtype="int8")] * timed
        held += [
            Variable(f"traces/layer{i}/{name}", dims("presentation", "sample", moment, "unit"))
            for i in shown
            for name in variables
            if name != "apical" or i < len(sizes) - 1  # of the output it is the target
        ]
    attributes = {
        "neurosim_version": "0",
        "protocol": protocol,
        "model": model,
        "level": level,
        "seeds": ",".join(map(str, seeds)),
    }
    output = "softmax" if loss == "cross-entropy" else "linear"
    said = load_model(model, {"layers": list(sizes), "loss": loss, "output": output})
    settings = {"model": said.model_dump(mode="json", exclude_none=True)}
    writer = TraceWriter(path, axes, held, attributes, {"protocol_json": json.dumps(settings)})

    def write(name, where, values):
        """Values have the seed first."""
        writer.write(name, where, values if many else values[0])

    def relaxing(k, name, i, begin):
        """Every unit relaxes to a rate of its own, and to slightly another when it is taught."""
        shape = (len(seeds), SAMPLES, 1, sizes[i])
        goal = random.normal(size=shape) if k == 0 else begin
        if k and taught[k] and name in scenes.TEACHERS:
            goal = goal + 0.1 ** (len(sizes) - i) * random.normal(size=shape)
        after = np.minimum(time[: int(PHASE / EVERY) + 1], SETTLED)[:, None]
        way = begin + (goal - begin) * (1 - np.exp(-after / 30)) if timed else goal
        return way[:, :, 1 if k else 0 :] if timed else way

    def details(p, slots):
        row = recorded.index(p)
        trained = any("free" not in flags[k] for k in slots)
        angles = random.uniform(5, 80, (len(seeds), len(sizes) - 1)) if trained else np.nan
        write("signals/angle", row, np.broadcast_to(angles, (len(seeds), len(sizes) - 1)))
        for k in slots:
            stopped = np.full((len(seeds), SAMPLES), SETTLED if timed else 0.0)
            for s in range(len(seeds)):
                where = (row, s, k) if many else (row, k)
                writer.write("traces/stopped", where, stopped[s])
        if timed:
            at = np.repeat(slots, [int(PHASE / EVERY) + (n == 0) for n in range(len(slots))])
            where = (row, slice(0, len(at)))
            writer.write("traces/phase_at", where, at.astype(np.int8))
        for name in {v.path for v in held if v.path.startswith("traces/layer")}:
            group, variable = name.removeprefix("traces/layer").split("/")
            parts = []
            for n in range(len(slots)):
                begin = parts[-1][:, :, -1:] if parts else 0.0
                parts.append(relaxing(n, variable, int(group), begin))
            joined = np.concatenate(parts, axis=2)
            for s in range(len(seeds)):
                for sample in range(SAMPLES):
                    span = slice(0, joined.shape[2]) if timed else slice(slots[0], slots[-1] + 1)
                    where = (row, s, sample, span) if many else (row, sample, span)
                    writer.write(name, where, joined[s, sample])

    writer.write("phases/teaching", slice(0, len(flags)), np.array(taught, np.int8))
    gone, slot, first = np.isin(seeds, lost), 0, 0
    for count, phases in stages:
        slots = list(range(slot, slot + len(phases)))
        for p in range(first, min(first + count, until)):
            dead = gone & (p >= 6)
            noise = np.exp(0.2 * random.normal(size=len(seeds)))
            write("metrics/loss", p, np.where(dead, np.nan, 2 * np.exp(-p / 4) * noise))
            for k in slots:
                for s in range(len(seeds)):
                    writer.write("metrics/effort", (p, s, k) if many else (p, k), np.float32(1))
            if p in recorded:
                details(p, slots)
        slot, first = slots[-1] + 1, first + count
    for row, p in enumerate(tests[tests <= until] if until else []):
        noise = random.uniform(0.9, 1.1, len(seeds))
        dead = gone & (p >= 6)  # whose error is a number still, as in a run
        write("evaluation/loss", row, np.where(dead, np.nan, 2.5 * np.exp(-p / 4) * noise))
        write("evaluation/error", row, np.exp(-p / 3) * noise)
    if look is not None:
        writer.flush()
        look(path)
    found = {"test_loss": 0.1} | ({"test_error": 0.1} if loss == "cross-entropy" else {})
    diverged = [{"seed": seed, "presentation": 6, "message": ""} for seed in lost]
    summary = json.dumps({"metrics": found, "diverged": diverged})
    writer.close(status, {} if status == "interrupted" else {"summary": summary})
    return path


MULTIPLEXING = {
    "model": "multiplexing",
    "variables": ("basal", "apical", "event_rate", "burst_signal"),
}
DEEP = {"sizes": (4, 8, 7, 6, 5, 4, 4, 4, 3)}
LONG = "a-protocol-of-a-rather-long-name-that-somebody-may-well-give-it"
KINDS = {
    "two-phase": {},
    "equilibrium": {"level": "equilibrium"},
    "ensemble": {"seeds": (3, 5, 8), "lost": (3,)},
    "multiplexing": MULTIPLEXING,
    "multiplexing at equilibrium": MULTIPLEXING
    | {"level": "equilibrium", "seeds": (11, 12), "protocol": LONG},
    "single-phase": {"model": "mixture", "loss": "squared", "stages": [(10, [("mixed", 1)])]},
    "backprop": {
        "model": "backprop",
        "level": "equilibrium",
        "variables": ("basal", "rate"),
        "stages": [(10, [("learning", 0)])],
    },
    "deep": DEEP,
    "deep at equilibrium": DEEP | {"level": "equilibrium"},
    "stages": {"stages": [(4, [("sleep.free", 0)]), (6, [("wake.free", 0), ("wake.learning", 1)])]},
    "no detail": {"recorded": ()},
    "one variable": {"variables": ("basal",), "layers": (2,)},
    "early": {"until": 1, "status": "interrupted"},
    "diverged": {"lost": (0,), "status": "diverged"},
}

SPIKES = {  # (presentation, sample, unit, neuron): times since the presentation began (ms)
    (0, 1, 2, 0): [10.0, 20.0, 40.0, 50.0, 70.0],  # intervals 10, 20, 10, 20
    (0, 1, 2, 1): [0.0],
    (0, 3, 0, 1): [99.5],
    (4, 1, 2, 0): [0.0, 25.0, 50.0, 75.0],
}
DURATION, SPIKING_EVERY, NEURONS, SIZE = 100.0, 5.0, 2, 5
"""Of a presentation, between two moments (ms); neurons of a unit, units of the layer."""
PRESENTATIONS, SPIKING_SAMPLES, UNITS = [0, 4], [1, 3], [0, 2]


def made_spiking(path, spikes=SPIKES):
    """A trace of the spiking level whose every spike is known; its states are made up."""
    moments = int(DURATION / SPIKING_EVERY) + 1
    phase = Axis("phase", np.array([0, 1]), flags=("free", "learning"))
    axes = {
        "phases": [phase],
        "traces": [
            Axis("presentation", np.array(PRESENTATIONS)),
            Axis("sample", np.array(SPIKING_SAMPLES)),
            Axis("time", np.arange(moments) * SPIKING_EVERY, "ms"),
            phase,
        ],
        "traces/layer1": [Axis("unit", np.array(UNITS))],
    }
    flags = {"flag_values": np.arange(2, dtype=np.int8), "flag_meanings": "free learning"}
    variables = [
        Variable("phases/teaching", ("phase",), dtype="int8"),
        Variable("traces/index", ("presentation", "sample"), dtype="int32"),
        Variable("traces/phase_at", ("presentation", "time"), "1", "", "int8", flags),
        Variable("traces/layer1/soma", ("presentation", "sample", "time", "unit"), "1", "h"),
    ]
    about = {"neurosim_version": "0", "protocol": "made", "model": "none", "level": "spiking"}
    about |= {"seeds": "7", "created": "2026-01-01T00:00:00+00:00", "commit": ""}
    texts = {"protocol_json": json.dumps({"name": "made", "spiking": {"dt": "0.5 ms"}})}
    populations = {"layer1": {"neurons": NEURONS, "units": SIZE, "copies": 6}}
    random = np.random.default_rng(0)
    with TraceWriter(path, axes, variables, about, texts, populations=populations) as writer:
        writer.write("phases/teaching", slice(0, 2), np.array([0, 1], np.int8))
        for row, number in enumerate(PRESENTATIONS):
            codes = np.repeat([0, 1], [11, moments - 11]).astype(np.int8)
            writer.write("traces/phase_at", row, codes)
            writer.write("traces/index", row, np.array([40, 41], np.int32) + number)
            soma = random.normal(size=(2, moments, 2)).astype("f4")
            writer.write("traces/layer1/soma", row, soma)
            found = sorted(
                (row * DURATION + t, (sample * SIZE + unit) * NEURONS + neuron)
                for (of, sample, unit, neuron), times in spikes.items()
                for t in times
                if of == number
            )
            if found:
                writer.append_spikes("layer1", *map(np.array, zip(*found, strict=True)))
    return path
