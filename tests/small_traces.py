"""A small trace, and what its rows hold."""

import numpy as np

from neurosim.traces.layout import Axis, Variable
from neurosim.traces.writer import TraceWriter

TIMES = np.arange(5) * 0.5
ABOUT = {"Conventions": "CF-1.11", "neurosim_version": "0.1.0", "seed": 3, "mu": 0.25}
SOMA = "traces/layer1/soma"


def layout(rows=6, samples=2, units=3):
    axes = {
        "traces": [
            Axis("presentation", np.arange(rows)),
            Axis("time", TIMES, "ms", "time in the presentation"),
            Axis("sample", np.arange(samples)),
            Axis("rule", np.array(["backprop", "Δ target"])),
        ],
        "traces/layer1": [Axis("unit", np.arange(units))],
        "metrics": [Axis("phase", np.array([0, 1, 0]), flags=("free", "slow learning"))],
    }
    variables = [
        Variable(SOMA, ("presentation", "time", "sample", "unit"), "mV", "somatic potential"),
        Variable("traces/presented", ("presentation",), dtype="int32"),
        Variable("traces/angle", ("presentation", "rule"), "degree", dtype="float64"),
        Variable(
            "traces/phase_at",
            ("time",),
            dtype="int8",
            attributes={"flag_values": np.array([0, 1], np.int8), "flag_meanings": "free taught"},
        ),
        Variable("metrics/residual", ("phase",)),
        Variable("metrics/wall", (), "s"),
    ]
    return axes, variables


def writer(path, overwrite=False, texts=None, **sizes):
    return TraceWriter(path, *layout(**sizes), ABOUT, texts, overwrite)


def rows(n, samples=2, units=3):
    """What row n holds: the number n + 1 everywhere, so that nothing written is zero."""
    return np.full((len(TIMES), samples, units), n + 1.0, np.float32)


def cut(source, target, size):
    target.write_bytes(source.read_bytes()[:size])
