"""The quickstart written by hand in plain JAX: what its arithmetic costs without neurosim."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from bench import Bench

from neurosim.networks.circuit import CircuitWeights
from neurosim.specs import ProtocolSpec


def plain_epoch(spec: ProtocolSpec, bench: Bench) -> Callable[[], CircuitWeights]:
    """One epoch of the two-phase mixture network for a single seed, Heun steps, on batches.

    Only what quickstart needs: two layers of neurons, leaky ReLU, softmax, frozen targets,
    dendrites without time constants, white-noise feedback plasticity, a linear schedule.
    """
    model: Any = spec.model  # whose numbers are there and alone: quickstart's
    rate: Any = spec.rate
    mu, tau = (model.parameters[name] for name in ("mu", "tau_soma"))
    step, dt = model.target_step, rate.dt / tau
    W, Q = (model.projections[name] for name in "WQ")
    forward = [W.rate.of_layer(i) for i in (1, 2)]
    feedback, sigma, forgetting = Q.rate.of_layer(1), Q.noise, Q.decay
    slope = model.activation.slope
    durations = [phase.duration or 0.0 for phase in spec.stages[0].phases]
    count = bench.batches * (spec.stages[0].epochs or 1)
    shared = bench.samples.axis is None  # else every seed has data of its own
    x_all, y_all = (a if shared else a[0] for a in bench.samples.train)
    order, key = bench.orders[0], bench.keys[0]

    def s(a: Any) -> Any:
        return jnp.where(a >= 0, a, slope * a)

    def d(a: Any) -> Any:
        return jnp.where(a >= 0, 1.0, slope)

    def phase(basal: Any, W2: Any, Q: Any, target: Any, state: Any, steps: Any) -> Any:
        def rates(state: Any) -> Any:
            h1, h2 = state
            top = h2 if target is None else target
            a = h1 @ W2.T
            return (
                dt * ((1 - mu) * s(basal) + mu * h2 @ Q.T - h1),
                dt * ((1 - mu) * a + mu * top - h2),
            )

        def heun(_: Any, state: Any) -> Any:
            k0 = rates(state)
            k1 = rates(tuple(v + k for v, k in zip(state, k0, strict=True)))
            return tuple(v + (a + b) / 2 for v, a, b in zip(state, k0, k1, strict=True))

        return jax.lax.fori_loop(0, steps, heun, state)

    def present(number: Any, weights: Any) -> Any:
        W1, W2, Q = weights
        x, y = x_all[order[number]], y_all[order[number]]
        factor = 1 - (1 - spec.schedule.final) * number / count
        basal = x @ W1.T
        steps = [round(t / rate.dt) for t in durations]
        rest = tuple(jnp.zeros((len(x), n), x.dtype) for n in (len(W1), len(W2)))
        free = phase(basal, W2, Q, None, rest, steps[0])
        target = free[1] - step * (jax.nn.softmax(free[1]) - y)
        h1, h2 = phase(basal, W2, Q, target, free, steps[1])
        decay = mu / (1 - mu)
        e1, e2 = (h1 - free[0]) / decay**2 * d(basal), (h2 - free[1]) / decay
        key_of_phase = jax.random.fold_in(jax.random.fold_in(key, number), 0)
        noise = sigma * jax.random.normal(jax.random.split(key_of_phase, 1)[0], h1.shape, x.dtype)
        returned = noise @ W2.T
        missed = noise - returned @ Q.T
        return (
            W1 + factor * forward[0] * e1.T @ x / len(x),
            W2 + factor * forward[1] * e2.T @ h1 / len(x),
            Q + factor * feedback * (missed.T @ returned / len(x) - forgetting * Q),
        )

    @jax.jit
    def epoch(weights: Any) -> Any:
        return jax.lax.fori_loop(0, len(order), present, weights)

    start = tuple(a[0] for a in (*bench.weights["W"], *bench.weights["Q"]))
    return lambda: _grouped(epoch(start))


def _grouped(arrays: Any) -> Any:
    W1, W2, Q = arrays
    return {"W": (W1, W2), "Q": (Q,)}
