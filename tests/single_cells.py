"""Recordings of cells alone, of those that ship and of one's own, and what their traces hold."""

import neurosim as ns
from neurosim.traces.reader import Arrays

PLAIN = {"target": "numpy"}


def recorder(folder):
    """Records a shipped protocol with changes; returns the recording and its arrays."""

    def record(name, changes):
        path = folder / f"{len(list(folder.iterdir()))}.h5"
        done = ns.record(name, PLAIN | changes, out=path)
        with Arrays.of(path) as arrays:
            groups = [g for g in ("recording", "parameters") if g in arrays]
            found = {v: arrays[f"{g}/{v}"] for g in groups for v in arrays.members(g)}
            populations = arrays.members("spikes") if "spikes" in arrays else []
            for population in populations:
                for part in ("timestamps", "node_ids"):
                    found[part] = arrays[f"spikes/{population}/{part}"]
        return done, found

    return record


def own(model):
    """A cell of one's own in place of the protocol's."""
    return {f"model.{key}": value for key, value in model.items()} | {"model.name": "mine"}
