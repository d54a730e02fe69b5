"""Spike trains of networks that learn: of the presentations that two traces saw in detail."""

from collections.abc import Iterator

import numpy as np

from neurosim.comparison.alignment import Alignment
from neurosim.comparison.trains import Trains, trains


def populations(found: Alignment) -> Iterator[tuple[str, Trains, Trains]]:
    """Every population whose spikes both traces hold, and the trains of both."""
    timed = all(side.timed for shown in found.shown.values() for side in shown)
    if not (found.shown and timed and all("spikes" in side.tree for side in found.sides)):
        return
    held = [side.tree["spikes"].children for side in found.sides]
    for name in held[0]:
        if name in held[1]:
            same = _same(found, name)
            one, other = (_trains(found, side, name, same) for side in (0, 1))
            yield name, one, other


def _same(found: Alignment, name: str) -> bool:
    """Whether units of a population are the same units in both, and saw the same."""
    units = [side.tree[f"traces/{name}/unit"].values for side in found.sides]
    samples = [side.trace.samples for side in found.sides]
    shown = [found.common[n] for n in found.presentations]
    seen = all(c is not None and len(c.samples[0]) == len(samples[0]) for c in shown)
    return found.same_network and samples[0] == samples[1] and seen and np.array_equal(*units)


def _trains(found: Alignment, s: int, name: str, same: bool) -> Trains:
    """A neuron's spikes in one sample of one presentation are a train.

    Where units are the same in both, those of one unit can stand for each other while it sees the
    same; else whole units can.
    """
    side = found.sides[s]
    group = side.tree[f"spikes/{name}"]
    neurons, size = int(group.attrs["neurons"]), int(group.attrs["units"])
    times, nodes = group["timestamps"].values, group["node_ids"].values.astype(np.int64)
    units, samples = side.tree[f"traces/{name}/unit"].values, np.array(side.trace.samples)
    of_sample, own = nodes // (size * neurons), nodes % (size * neurons)
    place = np.searchsorted(units, own // neurons) * neurons + own % neurons
    trial = np.searchsorted(samples, of_sample)
    longest = float(side.tree["traces/time"].values[-1])
    rows = side.tree["traces/presentation"].values.tolist()
    at, who, durations = [], [], []
    for k, presentation in enumerate(found.presentations):
        end = found.shown[presentation][s].phases[-1].end
        since = times - rows.index(presentation) * longest
        mine = (since >= 0) & (since < end)
        at.append(since[mine] / 1e3)
        who.append((k * len(samples) + trial[mine]) * len(units) * neurons + place[mine])
        durations += [end / 1e3] * len(samples)
    count = len(durations) * len(units) * neurons
    number = np.arange(count)
    unit = number // neurons % len(units)
    condition = number // neurons if same else np.zeros(count, int)
    return trains(
        np.concatenate(at),
        np.concatenate(who),
        np.array(durations),
        len(units) * neurons,
        condition,
        number if same else unit,
    )
