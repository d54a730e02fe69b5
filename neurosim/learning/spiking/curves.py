"""Curves of neurons, kept in the user's cache.

They depend on nothing but the neurons' parameters and the time step, and take a while to measure.
"""

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from neurosim.levels.spiking.calibration import (
    CELLS,
    CURRENTS,
    DURATION,
    SETTLING,
    Curve,
    calibrated,
    measure,
)
from neurosim.levels.spiking.interneurons import Dividing
from neurosim.levels.spiking.neurons import Neurons
from neurosim.levels.spiking.pyramids import Calibration, Measured
from neurosim.process import cache

Arrays = dict[str, np.ndarray]


def fi_curve(neurons: Neurons) -> Curve:
    """The f–I curve of integrate-and-fire neurons, measured once and then read from the cache."""
    return Curve(**_kept(_cached(neurons), lambda: measure(neurons)._asdict()))


def pyramidal_curves(neurons: Neurons) -> Calibration:
    """What two-compartment cells do over a grid of currents, measured once and then read."""
    from neurosim.levels.spiking import pyramid_cells

    assert neurons.cell is not None
    parameters = {
        "dt": neurons.dt,
        "burst_limit": neurons.burst_limit,
        "cell": repr(neurons.cell),
        "passed": neurons.on_spike,
        "measured": repr(pyramid_cells.SETTINGS),
    }

    def measured() -> Arrays:
        found = pyramid_cells.measure(neurons)
        return {"rates": np.stack(found.rates), "covariance": found.covariance}

    kept = _kept(_file("pyramids", parameters), measured)
    return Calibration(Measured(*kept["rates"]), kept["covariance"])


def pyramidal(neurons: Neurons, measured: Measured) -> Neurons:
    """The same cells of these curves with how they are driven and heard.

    Raises:
        InputError: they cannot do what units would ask of them.
    """
    from neurosim.levels.spiking import pyramid_cells

    found = replace(neurons, working=pyramid_cells.working(neurons, measured))
    if not neurons.interneurons:
        return found
    inhibitory = neurons.inhibitory
    return replace(found, dividing=Dividing.of(calibrated(inhibitory, fi_curve(inhibitory))))


def _kept(path: Path | None, measured: Callable[[], Arrays]) -> Arrays:
    """Arrays from the cache, or as they are measured now, which are then kept there."""
    if path is None:
        return measured()
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as kept:
            return {name: kept[name] for name in kept.files}
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        arrays = measured()
    part = path.with_name(f".{path.name}.{os.getpid()}.npz")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(part, allow_pickle=False, **arrays)
        os.replace(part, path)
    except OSError:  # a cache that cannot be written costs time, nothing else
        with suppress(OSError):
            part.unlink()
    return arrays


def _cached(neurons: Neurons) -> Path | None:
    parameters = {
        "dt": neurons.dt,
        "tau_membrane": neurons.tau_membrane,
        "refractory": neurons.refractory,
        "membrane_noise": neurons.membrane_noise,
        "max_rate": neurons.max_rate,
        "measured": [CURRENTS, CELLS, SETTLING, DURATION],
    }
    return _file("fi", parameters)


def _file(kind: str, parameters: Mapping[str, Any]) -> Path | None:
    digest = hashlib.sha256(json.dumps(parameters, sort_keys=True).encode()).hexdigest()
    folder = cache.folder()
    return folder / f"{kind}-{digest[:16]}.npz" if folder else None
