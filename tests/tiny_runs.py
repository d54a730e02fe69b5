"""A tiny protocol, and what makes two traces of it equal."""

import json

import h5py
import numpy as np

VOLATILE = {"created", "folder", "host", "pid", "process_began", "resumed", "summary"}
"""Attributes that say when and where, and so differ between equal runs; the summary's time too."""

TINY = """
name = "tiny"
level = "rate"
precision = "float64"
batch = 16
[model]
use = "mixture-two-phase"
layers = [3, 4, 4]
parameters.mu = 0.2
output = "linear"
loss = "squared"
projections.W.rate = 0.05
[task]
name = "student-teacher"
layers = [3, 4, 4]
train = 64
test = 16
[[stages]]
name = "training"
presentations = 10
[[stages.phases]]
name = "free"
duration = "400 ms"
until = "duration"
plastic = ["feedback"]
[[stages.phases]]
name = "learning"
duration = "400 ms"
until = "duration"
teaching = "frozen"
plastic = ["forward"]
[record]
presentations = [0, 6]
samples = 2
[rate]
scheme = "heun"
dt = "10 ms"
[equilibrium]
max_newton = 0  # the root solver takes longest to compile; it has tests of its own
"""
SLEEP = """
[[stages]]
name = "sleep"
presentations = 5
pace = 2.0
order = "top-down"
[[stages.phases]]
name = "free"
duration = "400 ms"
until = "duration"
plastic = ["feedback"]
"""


def contents(path):
    """Every dataset of a trace as bytes, and the attributes that are not volatile."""
    found = {}
    with h5py.File(path) as file:

        def visit(name, item):
            if isinstance(item, h5py.Dataset) and not item.dtype.hasobject:
                found[name] = item.dtype, item.shape, item[()].tobytes()
            elif isinstance(item, h5py.Dataset):
                found[name] = np.asarray(item[()]).tolist()

        file.visititems(visit)
        found |= {n: v for n, v in file.attrs.items() if n not in VOLATILE}
        summary = json.loads(file.attrs["summary"])
    kept = "metrics", "diverged", "settled", "residual", "shortened"
    return found | {key: summary[key] for key in kept}


def differing(one, other):
    """The names in which two traces differ."""
    a, b = contents(one), contents(other)
    return [name for name in a.keys() | b.keys() if name not in a or a[name] != b.get(name)]


def same(one, other):
    """Two traces must be equal."""
    found = differing(one, other)
    assert not found, found
