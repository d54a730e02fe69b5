"""The f–I curves of integrate-and-fire neurons, kept in the user's cache.

A curve depends on nothing but the neurons' parameters and the time step, and takes a while to
measure.
"""

import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from neurosim.levels.spiking.calibration import (
    CELLS,
    CURRENTS,
    DURATION,
    SETTLING,
    Curve,
    measure,
)
from neurosim.levels.spiking.neurons import Neurons
from neurosim.process import cache


def fi_curve(neurons: Neurons) -> Curve:
    """The f–I curve of these neurons, measured once and then read from the cache."""
    path = _cached(neurons)
    if path is None:
        return measure(neurons)
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as kept:
            return Curve(kept["current"], kept["rate"])
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        curve = measure(neurons)
    part = path.with_name(f".{path.name}.{os.getpid()}.npz")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(part, current=curve.current, rate=curve.rate)
        os.replace(part, path)
    except OSError:  # a cache that cannot be written costs time, nothing else
        with suppress(OSError):
            part.unlink()
    return curve


def _cached(neurons: Neurons) -> Path | None:
    parameters = {
        "dt": neurons.dt,
        "tau_membrane": neurons.tau_membrane,
        "refractory": neurons.refractory,
        "membrane_noise": neurons.membrane_noise,
        "max_rate": neurons.max_rate,
        "measured": [CURRENTS, CELLS, SETTLING, DURATION],
    }
    digest = hashlib.sha256(json.dumps(parameters, sort_keys=True).encode()).hexdigest()
    folder = cache.folder()
    return folder / f"fi-{digest[:16]}.npz" if folder else None
