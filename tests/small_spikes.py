"""What the tests of the spiking level share: families, a small run, whether there is a compiler."""

import shutil
from functools import partial

import h5py
import pytest
from chains import dynamics

import neurosim as ns

missing = [tool for tool in ("g++", "make") if shutil.which(tool) is None]
compiled = pytest.mark.skipif(bool(missing), reason=f"there is no {' and no '.join(missing)}")


SMALL = {
    "level": "spiking",
    "model.layers": [64, 8, 10],
    "model.spiking.neurons": 4,
    "model.spiking.soma": "poisson",
    "batch": 3,
    "stages.0.phases.0.duration": "60 ms",
    "stages.0.phases.1.duration": "60 ms",
    "spiking.window": "30 ms",
    "spiking.dt": "1 ms",
    "spiking.presentations": 3,
    "spiking.test": 6,
    "spiking.target": "numpy",
    "record.presentations": [0, 2],
    "record.samples": 2,
    "record.every": "10 ms",
    "equilibrium.max_newton": 0,
}


def small(out, changes=None, protocol="quickstart", **options):
    loaded = ns.load_protocol(protocol, SMALL | (changes or {}))
    return ns.run(loaded, out=out, force=True, **options)


def arrays(path):
    with h5py.File(path) as file:
        found = {}
        file.visititems(
            lambda name, item: (
                found.update({name: item[()]})
                if isinstance(item, h5py.Dataset) and not name.startswith("provenance")
                else None
            )
        )
    return found


FAMILIES = {
    "mixture": partial(dynamics, "mixture-two-phase", mu=0.2, tau_soma=0.02),
    "dendrites": partial(
        dynamics, "mixture-dendrites", mu=0.2, tau_soma=0.02, tau_basal=0.005, tau_apical=0.01
    ),
    "multiplexing": partial(dynamics, "multiplexing", tau_basal=0.01, tau_apical=0.02),
}
"""By name, of given sizes."""
