"""Predictive coding of digits by jpc, as its own example `discriminative_pc` does MNIST.

A network of Equinox layers, Adam, and `make_pc_step`, which is compiled, integrates the inference
by diffrax, and is called once a batch.
"""

from typing import Any

from racing import Predict, orders, race
from serving import Problem, needed

jpc = needed("jpc")


def learn(given: Problem) -> Predict:
    """Weights of 64-64-10 rectified units."""
    import equinox as eqx
    import jax
    import jax.numpy as jnp
    import numpy as np
    import optax

    nn = eqx.nn
    keys = jax.random.split(jax.random.PRNGKey(given["seed"]), 2)
    hidden = nn.Sequential([nn.Linear(64, 64, key=keys[0]), nn.Lambda(jax.nn.relu)])
    model: Any = [hidden, nn.Linear(64, 10, key=keys[1])]
    optim = optax.adam(given["eta"])
    state: Any = optim.init((eqx.filter(model, eqx.is_array), None))
    x_all, y_all = (np.asarray(given[name], np.float32) for name in ("x", "y"))
    for batch in orders(given, given["epochs"]).reshape(-1, given["batch"]):
        told = {"output": y_all[batch], "input": x_all[batch]}
        done = jpc.make_pc_step(model=model, optim=optim, opt_state=state, **told)
        model, state = done["model"], done["opt_state"]

    def predict(x: np.ndarray) -> np.ndarray:
        for layer in model:
            x = jax.vmap(layer)(jnp.asarray(x, jnp.float32))
        return np.asarray(x)

    return predict


race(learn)
