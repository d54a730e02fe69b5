"""Recordings of cells with synapses between them, and what their traces hold."""

from pathlib import Path

import numpy as np
import tomlkit

import neurosim as ns
from neurosim.traces.reader import Arrays

PASSIVE = {
    "equations": "dv/dt = (g*(rest - v) + current)/c",
    "parameters": {"g": "10 nS", "rest": "-70 mV", "c": "200 pF"},
    "start": {"v": "-70 mV"},
}
"""A membrane of 100 MOhm and 20 ms."""


class Recorded:
    """A recording and its trace: `found["stdp.weight"]` of shape (sweep, cell or synapse, time)."""

    def __init__(self, done):
        self.done = done
        with Arrays.of(done.path) as arrays:
            self.time = arrays["recording/time"] * 1e-3
            groups = set(arrays.members("recording")) - {"time"}
            self.values = {
                f"{owner}.{name}": arrays[f"recording/{owner}/{name}"]
                for owner in groups
                for name in arrays.members(f"recording/{owner}")
                if name not in ("cell", "synapse", "pre", "post")
            }
            self.spikes = {
                name: (
                    arrays[f"spikes/{name}/timestamps"] * 1e-3,
                    arrays[f"spikes/{name}/node_ids"],
                )
                for name in (arrays.members("spikes") if "spikes" in arrays else ())
            }

    def __getitem__(self, what):
        return self.values[what]

    def curve(self, what):
        return np.array(self.done.curve[what])


def recorder(folder):
    """Records a protocol, shipped or a table, with changes."""

    def record(protocol, changes=()):
        path = folder / f"{len(list(folder.iterdir()))}"
        if isinstance(protocol, dict):
            protocol = written(path, protocol)
        done = ns.record(protocol, {"target": "numpy", **dict(changes)}, out=f"{path}.h5")
        return Recorded(done)

    return record


def written(path, protocol):
    file = Path(f"{path}.toml")
    file.write_text(tomlkit.dumps({"duration": "200 ms", **protocol}), encoding="utf-8")
    return file


def made_to_spike(*times, **more):
    return {"spikes": {"kind": "list", "times": [f"{t} ms" for t in times]}, **more}


def by_recursion(times, U, f, tau_f, tau_d):
    """What every spike releases: of the equations' solution from spike to spike."""
    u, x, last, sent = U, 1.0, None, []
    for t in times:
        if last is not None:
            u = U + (u - U) * np.exp(-(t - last) / tau_f)
            x = 1 + (x - 1) * np.exp(-(t - last) / tau_d)
        sent.append(u * x)
        u, x, last = u + f * (1 - u), x - u * x, t
    return np.array(sent)
