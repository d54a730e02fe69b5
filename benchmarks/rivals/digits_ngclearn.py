"""Predictive coding of digits by ngc-learn, as its museum builds the network (`pc_discrim`).

Rate cells, Gaussian error cells and Hebbian synapses with Adam, T steps of inference a
presentation. Either as the museum runs it, one call of a compiled process a step; or with these
processes scanned over steps and over an epoch, the fastest way we found.
"""

import contextlib
import io
from typing import Any

import numpy as np
from racing import Predict, orders, race
from serving import Problem, needed

jax = needed("jax")
with contextlib.redirect_stdout(io.StringIO()):
    ngclearn = needed("ngclearn")

T, TAU = 20, 20.0
"""Of the museum's script."""

State = dict[str, Any]
"""Compartments by name."""


def learn(given: Problem) -> Predict:
    """Weights of 64-64-10 sigmoid units."""
    from jax import numpy as jnp
    from jax import random
    from ngclearn.components import GaussianErrorCell, HebbianSynapse, RateCell, StaticSynapse
    from ngclearn.utils.distribution_generator import DistributionGenerator as dist
    from ngcsimlib.global_state import stateManager

    batch, act = given["batch"], given["act"]
    keys = random.split(random.PRNGKey(given["seed"]), 6)
    adam = {"eta": given["eta"], "w_bound": 0.0, "optim_type": "adam", "sign_value": -1.0}
    start = {"bias_init": dist.constant(0.0), "batch_size": batch}
    cell = {"batch_size": batch}
    with ngclearn.Context("circuit"):
        z0 = RateCell("z0", n_units=64, tau_m=0.0, act_fx="identity", key=keys[0], **cell)
        z1 = RateCell("z1", n_units=64, tau_m=TAU, act_fx=act, key=keys[1], **cell)
        z2 = RateCell("z2", n_units=10, tau_m=0.0, act_fx="identity", key=keys[2], **cell)
        e1 = GaussianErrorCell("e1", n_units=64, **cell)
        e2 = GaussianErrorCell("e2", n_units=10, **cell)
        uniform = dist.uniform(-0.3, 0.3)
        W1 = HebbianSynapse("W1", (64, 64), weight_init=uniform, key=keys[3], **adam, **start)
        W2 = HebbianSynapse("W2", (64, 10), weight_init=uniform, key=keys[4], **adam, **start)
        E2 = StaticSynapse("E2", (10, 64), weight_init=uniform, key=keys[5], batch_size=batch)
        z0.zF >> W1.inputs
        W1.outputs >> e1.mu
        z1.z >> e1.target
        z1.zF >> W2.inputs
        W2.outputs >> e2.mu
        z2.z >> e2.target
        e2.dmu >> E2.inputs
        E2.outputs >> z1.j
        e1.dtarget >> z1.j_td
        z0.zF >> W1.pre
        e1.dmu >> W1.post
        z1.zF >> W2.pre
        e2.dmu >> W2.post
        advance = ngclearn.MethodProcess("advance")
        for part in (E2, z0, z1, z2, W1, W2, e1, e2):
            advance >> part.advance_state
        evolve = ngclearn.MethodProcess("evolve")
        evolve >> W1.evolve >> W2.evolve

    def values(process: Any) -> Any:
        return jnp.array(process.pack_keywords(t=0.0, dt=1.0))

    def forward(state: State, x: Any) -> tuple[Any, Any, Any]:
        a = x @ state[W1.weights.target] + state[W1.biases.target]
        h = z1.fx(a)
        return a, h, h @ state[W2.weights.target] + state[W2.biases.target]

    def begun(state: State, x: Any, y: Any) -> State:
        a, h, out = forward(state, x)
        error = y - out
        told = [
            (z0.j, x), (z0.zF, x), (z1.z, a), (z1.zF, h), (z2.j, y), (z2.z, y), (z2.zF, y),
            (E2.weights, state[W2.weights.target].T),
            (e1.dmu, 0 * a), (e1.dtarget, 0 * a), (e2.dmu, error), (e2.dtarget, -error),
        ]  # fmt: skip
        return state | {compartment.target: value for compartment, value in told}

    begin = jax.jit(begun)

    def present(state: State, shown: tuple[Any, Any]) -> tuple[State, None]:
        x, y = shown

        def step(state: State, _: None) -> tuple[State, None]:
            held = state | {z0.j.target: x, z2.j.target: y}
            return advance.run.compiled(held, values(advance))[0], None

        state, _ = jax.lax.scan(step, begun(state, x, y), None, length=T)
        return evolve.run.compiled(state, values(evolve))[0], None

    def step_by_step(state: State, x: Any, y: Any) -> State:
        state = begin(state, x, y)
        for _ in range(T):
            held = state | {z0.j.target: x, z2.j.target: y}
            state, _ = advance.run(state=held, t=0.0, dt=1.0, update=False)
        return evolve.run(state=state, t=0.0, dt=1.0, update=False)[0]

    @jax.jit
    def epoch(state: State, order: Any) -> State:
        return jax.lax.scan(present, state, (x_all[order], y_all[order]))[0]

    x_all, y_all = (jnp.asarray(given[name], jnp.float32) for name in ("x", "y"))
    y_all = jnp.clip(y_all, 0.001, 0.999)
    state = dict(stateManager.state)
    for W in (W1, W2):  # of one shape before and after learning, as scans want it
        state[W.dBiases.target] = jnp.zeros_like(W.biases.get())
    for order in orders(given, given["epochs"]):
        if given["scanned"]:
            state = epoch(state, jnp.asarray(order))
            continue
        for batch in order:
            state = step_by_step(state, x_all[batch], y_all[batch])
    return lambda x: np.asarray(forward(state, jnp.asarray(x, jnp.float32))[2])


race(learn)
