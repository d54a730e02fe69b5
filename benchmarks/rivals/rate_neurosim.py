"""A free phase of the mixture network by neurosim's rate level."""

from typing import Any

from serving import Problem, Solution, Solve, needed, serve

jax = needed("jax")

STAGES = {"dopri5": 6, "heun": 2}
"""Fields a step of the schemes."""


def make(given: Problem) -> Solve:
    """The whole batch as one compiled program.

    apart: every sample by itself, with steps of its own, as runs have it; or all of them as one
    system with one error norm, by the same level's `integrate`, as the rivals have it.
    """
    import jax.numpy as jnp
    import numpy as np

    from neurosim.building import assembly
    from neurosim.building.loading import load_model
    from neurosim.levels.rate import Rate
    from neurosim.levels.settling import Problem, Span
    from neurosim.networks.dynamics import Target, field, rest
    from neurosim.process.compiled import options

    jax.config.update("jax_enable_x64", True)
    depth = given["depth"]
    layers = [given["x"].shape[1], *[given[f"W{i}"].shape[0] for i in range(depth)]]
    spec = load_model("mixture-two-phase", {"layers": layers, "projections.Q.init": "xavier"})
    network, dynamics = assembly.network(spec), assembly.dynamics(spec)
    weights = {
        "W": tuple(jnp.asarray(given[f"W{i}"]) for i in range(depth)),
        "Q": tuple(jnp.asarray(given[f"Q{i}"]) for i in range(depth - 1)),
    }
    scheme, x = given["scheme"], jnp.asarray(given["x"])
    tolerances = {"rtol": given["rtol"], "atol": given["atol"], "tolerance": 1e-3}
    level = Rate(scheme, given["dt"], adaptive=scheme != "heun", **tolerances)

    def drive(weights: Any, x: Any) -> Any:
        return dynamics.drive(network, weights, x, Target("none"))

    def alone(weights: Any, x: Any) -> Any:
        told = Problem(dynamics, network, weights, drive(weights, x), 0.1, x[: layers[-1]])
        span = Span(given["duration"], stop=False)
        end, report, _ = level.settle(told, rest(dynamics, network, x.dtype), span)
        return end, report.effort

    def together(weights: Any, x: Any) -> Any:
        drives = jax.vmap(drive, (None, 0))(weights, x)

        def rates(state: Any) -> Any:
            return jax.vmap(lambda d, v: field(dynamics, network, weights, d, v))(drives, state)

        start = jax.vmap(lambda x: rest(dynamics, network, x.dtype))(x)
        end, _, ended = level.integrate(rates, start, given["duration"])
        return end, ended.steps

    way = jax.vmap(alone, (None, 0)) if given["apart"] else together
    program = jax.jit(way, compiler_options=options())

    def solve() -> Solution:
        end, steps = jax.block_until_ready(program(weights, x))
        somata = [*end["pyramidal.soma"], *end["output.soma"]]
        fields = STAGES[scheme] * np.max(steps)
        return {f"h{i}": np.asarray(h) for i, h in enumerate(somata)} | {"fields": fields}

    return solve


serve(make)
