"""Networks with one sample, of which the theory says something."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from chains import circuit, dynamics, forward, state_of

from neurosim.building.loading import load_model
from neurosim.circuits.cells import with_lines
from neurosim.functions.activations import Linear
from neurosim.functions.losses import Loss
from neurosim.models.initialisers import feedback_weights
from neurosim.networks.dynamics import Target
from neurosim.networks.network import Network, Weights
from neurosim.plasticity.local import teaching
from neurosim.theory.linearisation import System

TAU, STEP = 0.02, 0.01
HALF = Loss("half-squared", "linear")


def mixture(mu, model="mixture-two-phase", **more):
    """Sizes → a mixture network, taught in two phases unless another model is named."""
    return partial(dynamics, model, mu=mu, tau_soma=TAU, **more)


def system(
    sizes,
    activation,
    family,
    target="none",
    seed=0,
    feedback="pseudo-inverse",
    noise=0.0,
    init="lecun",
):
    """A network with one sample; `noise`: of the inverses, relative."""
    rng = np.random.default_rng(seed)
    W = forward(init, sizes, 1.0, rng)
    Q = feedback_weights(feedback, W, 1.0, rng)
    Q = [q + noise * np.linalg.norm(q) / np.sqrt(q.size) * rng.standard_normal(q.shape) for q in Q]
    acts = (*[activation] * (len(sizes) - 2), Linear())
    network = Network(tuple(sizes), acts, "inverse", HALF)
    weights = circuit(Weights(tuple(map(jnp.asarray, W)), (), tuple(map(jnp.asarray, Q))))
    x, y = (jnp.asarray(rng.standard_normal(n)) for n in (sizes[0], sizes[-1]))
    targets = {
        "none": Target("none"),
        "following": Target("following", STEP, y),
        "clamped": Target("fixed", value=y),
    }
    moving = family(sizes)
    drive = moving.drive(network, weights, x, targets[target])
    return System(moving, network, weights, drive), y


def forward_state(found):
    """The state of a mixture network in which all somata are where the forward pass is."""
    h = found.network.forward_pass(found.dynamics.chain(found.weights), found.drive.x)
    return state_of(found.dynamics, soma=h)


def taught(found, now, free=None):
    """The teaching signals of one sample."""
    before = {} if free is None else {"free": free}
    one = jax.tree.map(lambda a: a[None], (now, before))
    signals = teaching(found.dynamics, found.network, found.weights, *one)
    return tuple(signal[0] for signal in signals)


def teacher(found, now):
    """What of the neurons the forward synapses of two phases compare."""
    return taught(found, now, jax.tree.map(jnp.zeros_like, now))


def unit_model(model, depth, loss, step=0.1, changes=None, **values):
    """A shipped model with one unit a layer."""
    given = {f"parameters.{name}": value for name, value in values.items()} | (changes or {})
    given |= {"layers": [1] * (depth + 1), "loss": loss.name, "output": loss.output}
    return load_model(model, given | {"target_step": step})


def with_prompt(line):
    """The changes by which one dendrite of two slow ones follows its input at once."""
    cell = load_model("mixture-dendrites").cells["pyramidal"]
    return {"cells.pyramidal.equations": with_lines(cell.equations, line)}


ONE_SLOW = {
    "basal": with_prompt("apical = feedback"),
    "apical": with_prompt("basal = forward + bias"),
}
