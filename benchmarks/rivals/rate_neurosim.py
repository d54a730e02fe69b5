"""A free phase of the mixture network by neurosim's rate level."""

from serving import Problem, Solution, needed, serve

jax = needed("jax")


def make(given: Problem):
    """The whole batch as one compiled program, as runs have it."""
    import jax.numpy as jnp
    import numpy as np

    from neurosim.building import assembly
    from neurosim.building.loading import load_model
    from neurosim.levels.rate import Rate
    from neurosim.levels.settling import Problem, Span
    from neurosim.networks.dynamics import Target, rest
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
    fixed = given["method"] == "heun"
    level = Rate(
        given["method"] if fixed else "tsit5",
        given["dt"],
        adaptive=not fixed,
        rtol=given["rtol"],
        atol=given["atol"],
        tolerance=1e-3,
    )

    def one(weights, x):
        drive = dynamics.drive(network, weights, x, Target("none"))
        problem = Problem(dynamics, network, weights, drive, 0.1, x[: layers[-1]])
        span = Span(given["duration"], stop=False)
        return level.settle(problem, rest(dynamics, network, x.dtype), span)[0]

    program = jax.jit(jax.vmap(one, (None, 0)), compiler_options=options())
    x = jnp.asarray(given["x"])

    def solve() -> Solution:
        end = jax.block_until_ready(program(weights, x))
        somata = [*end["pyramidal.soma"], *end["output.soma"]]
        return {f"h{i}": np.asarray(h) for i, h in enumerate(somata)}

    return solve


serve(make)
