"""How close the vector fields come to the matrix products they consist of."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from measure import Row, as_in_runs, interleaved, ratio

from neurosim.building import assembly
from neurosim.building.loading import load_model
from neurosim.levels.rate import Rate
from neurosim.levels.settling import Problem, Span
from neurosim.networks.dynamics import Target, field, rest
from neurosim.process import devices

EVALUATIONS = 40
REPEATS = 30
SHAPES = {
    "cpu": ((256, 128), (256, 256), (512, 128), (512, 256)),
    "gpu": ((1024, 1024),),
}
"""Units of a layer, and samples of a batch."""

WANTED = {"cpu": (">=", 65.0), "gpu": (">=", 70.0)}


def field_rates(device: str, small: bool = False) -> list[Row]:
    """The floating-point rate of four layers of n units, counting the matrix products only."""
    rows = []
    with jax.default_device(jax.devices(device)[0]), devices.numbers(x64=False):
        for name in ("mixture-two-phase", "multiplexing"):
            for n, batch in ((8, 4),) if small else SHAPES[device]:
                rows += _one(name, n, batch, WANTED[device])
    return rows


def _one(name: str, n: int, batch: int, wanted: tuple[str, float]) -> list[Row]:
    # The inverses that feedback starts from take minutes where layers are wide.
    model = load_model(name, {"layers": [n] * 5, "projections.Q.init": "xavier"})
    network, dynamics = assembly.network(model), assembly.dynamics(model)
    weights = assembly.weights(model, 0, None, Path())
    x = jax.random.normal(jax.random.key(0), (batch, n))
    dt = 1e-3
    level = Rate("heun", dt, adaptive=False, rtol=1e-6, atol=1e-9, tolerance=1e-3)
    # W_1 x stands still during a phase; the other layers and the apical ones move.
    matrices = (*weights["W"][1:], *weights["Q"])

    def drive(weights: Any, x: Any) -> Any:
        return dynamics.drive(network, weights, x, Target("none"))

    @as_in_runs
    def products(matrices: Any, activities: Any) -> Any:
        def once(_: Any, activities: Any) -> Any:
            return tuple(h @ m.T for h, m in zip(activities, matrices, strict=True))

        return jax.lax.fori_loop(0, EVALUATIONS, once, activities)

    @as_in_runs
    def bare(weights: Any, x: Any) -> Any:
        def once(_: Any, state: Any) -> Any:
            rates = jax.vmap(lambda x, s: field(dynamics, network, weights, drive(weights, x), s))
            return jax.tree.map(lambda v, r: v + dt * r, state, rates(x, state))

        start = jax.vmap(lambda x: rest(dynamics, network, x.dtype))(x)
        return jax.lax.fori_loop(0, EVALUATIONS, once, start)

    @as_in_runs
    def solve(weights: Any, x: Any) -> Any:
        def one(x: Any) -> Any:
            problem = Problem(dynamics, network, weights, drive(weights, x), 0.1, x)
            start = rest(dynamics, network, x.dtype)
            return level.settle(problem, start, Span(EVALUATIONS // 2 * dt, stop=False))[0]

        return jax.vmap(one)(x)

    activities = tuple(x + k for k in range(len(matrices)))
    taken = interleaved(
        {
            "products": lambda: products(matrices, activities),
            "field": lambda: bare(weights, x),
            "solve": lambda: solve(weights, x),
        },
        REPEATS,
    )
    flops = 2 * batch * n * n * len(matrices) * EVALUATIONS
    shape = f"{name} 4x{n} batch {batch}"
    return [
        Row(
            f"{shape}: matrix products",
            flops / float(jnp.median(taken["products"])) / 1e9,
            "Gflop/s",
            flops / taken["products"].min() / 1e9,
        ),
        ratio(f"{shape}: field", taken["products"], taken["field"], "%", wanted),
        ratio(f"{shape}: Heun solve", taken["products"], taken["solve"], "%", wanted),
    ]
