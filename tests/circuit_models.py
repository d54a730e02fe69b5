"""Circuits as text that tests share: families of shipped models, and files of other circuits."""

from pathlib import Path

import h5py
import jax
import jax.numpy as jnp
import numpy as np
from tiny_networks import SIZES

from neurosim.building.loading import load_model
from neurosim.building.shipped import bundled
from neurosim.networks.dynamics import rest
from neurosim.specs import ModelSpec

MIXTURE = """
basal    = forward + bias                          # dendrites follow at once
apical   = feedback
f        = s(basal)
g        = t(apical)
dsoma/dt = ((1 - mu)*f + mu*g - soma)/tau_soma     # [T 6.1]
up       = soma
down     = encode(soma, bias)
"""
MULTIPLEXING = """
dbasal/dt  = (forward + bias - basal)/tau_basal    # [T 6.43]
dapical/dt = (feedback - apical)/tau_apical        # [T 6.44]
f          = s(basal)                              # event rate
g          = t(apical)                             # burst probability
up         = f
down       = encode(g, bias)
"""
RULE = "slope(basal)*({0} - {0}_free)"
TEXTS = {
    "mixture": "mixture-two-phase",
    "dendrites": "mixture-dendrites",
    "multiplexing": "multiplexing",
}
"""Family → the model that ships with its text."""

PARAMETERS = {"mu": 0.2, "tau_soma": 0.02, "tau_basal": 0.005, "tau_apical": 0.01}


def model(family: str, **changes) -> ModelSpec:
    """A shipped model with small layers, biases and parameters of its own."""
    given = load_model(TEXTS[family]).model_dump(mode="json", exclude_none=True)
    given["projections"]["W"] |= {"bias": True, "init": "xavier"}
    parameters = PARAMETERS
    if family == "multiplexing":
        parameters = parameters | {"tau_basal": 0.01, "tau_apical": 0.02}
    given |= {"layers": list(SIZES), "parameters": parameters}
    given |= {"output": "linear", "loss": "half-squared"}
    return ModelSpec.model_validate(given | changes)


def states(dynamics, net, seed=0):
    """A random state."""
    shape, rng = rest(dynamics, net, jnp.float64), np.random.default_rng(seed)
    return jax.tree.map(lambda v: jnp.asarray(rng.standard_normal(v.shape)), shape)


CIRCUITS = [
    *sorted((Path(__file__).parent / "circuits").glob("*.toml")),
    bundled("models")["microcircuit"],
    bundled("models")["segregated-dendrites"],
]

ASKS_FOR_FILES = {
    "segregated-dendrites-mnist",
    "convolution-cifar10",
    "difference-target-propagation-cifar10",
}
"""The shipped protocols whose images a user has."""

THREE = """
name = "three"
batch = 4
precision = "float64"
[model]
use = "{path}"
[model.spiking]
neurons = {neurons}
base_rate = "100 Hz"
max_rate = "400 Hz"
gain = "100 Hz"
[task]
name = "student-teacher"
layers = {layers}
train = 8
test = 4
[[stages]]
name = "training"
presentations = 1
[[stages.phases]]
name = "forward"
duration = "400 ms"
until = "duration"
[[stages.phases]]
name = "target"
duration = "400 ms"
until = "duration"
teaching = "clamped"
plastic = {plastic}
[record]
presentations = [0]
every = "200 ms"
[rate]
dt = "1 ms"
[equilibrium]
max_newton = 0  # the root solver takes longest to compile; it has tests of its own
[spiking]
target = "numpy"
window = "200 ms"
"""


def change(run, name):
    with h5py.File(run.path) as file:
        array = file[f"weights/{name}"][()]
    return array[1] - array[0]
