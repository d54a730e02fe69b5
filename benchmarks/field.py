"""How close the vector fields come to the matrix products they consist of."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from measure import Row, as_in_runs, interleaved, ratio

from neurosim.building import assembly, ingredients
from neurosim.building.loading import load_model
from neurosim.levels.rate import Rate
from neurosim.levels.settling import Problem, Span
from neurosim.networks.circuit import CircuitDynamics
from neurosim.networks.dynamics import Target, field, rest
from neurosim.networks.network import Network
from neurosim.process import devices
from neurosim.specs import ModelSpec

EVALUATIONS = 40
REPEATS = 30
DT = 1e-3
MODELS = ("mixture-two-phase", "multiplexing")
SHAPES = ((256, 128), (256, 256), (512, 128), (512, 256))
"""Units of a layer, and samples of a batch; those for a GPU are in `gpu.py`."""

WANTED = (">=", 65.0)


def field_rates(device: str, small: bool = False) -> list[Row]:
    """The floating-point rate of four layers of n units, counting the matrix products only."""
    rows = []
    with jax.default_device(jax.devices(device)[0]), devices.numbers(x64=False):
        for name in MODELS:
            for n, batch in ((8, 4),) if small else SHAPES:
                four = Layers.made(*drawn(name, n))
                x = activities(n, batch)
                calls = {"products": four.products(x), "field": four.steps(x)}
                calls["solve"] = four.solved(x)
                taken = interleaved(calls, REPEATS)
                shape = f"{name} 4x{n} batch {batch}"
                rows += [
                    four.bare(shape, batch, taken["products"]),
                    ratio(f"{shape}: field", taken["products"], taken["field"], "%", WANTED),
                    ratio(f"{shape}: Heun solve", taken["products"], taken["solve"], "%", WANTED),
                ]
    return rows


def activities(n: int, batch: int) -> np.ndarray:
    """The input of every sample."""
    return np.random.default_rng(0).standard_normal((batch, n))


def drawn(name: str, n: int) -> tuple[ModelSpec, Any]:
    """A shipped model of four layers of n units, and weights for it in float64."""
    # The inverses that feedback starts from take minutes where layers are wide.
    model = load_model(name, {"layers": [n] * 5, "projections.Q.init": "xavier"})
    return model, ingredients.weights(model, 0, None, Path())


class Layers(NamedTuple):
    """Four layers of n units, in the precision that is on when they are made."""

    network: Network
    dynamics: CircuitDynamics
    weights: Any

    @classmethod
    def made(cls, model: ModelSpec, weights: Any) -> "Layers":
        """Of what was drawn."""
        return cls(assembly.network(model), assembly.dynamics(model), assembly.placed(weights))

    @property
    def matrices(self) -> tuple[jax.Array, ...]:
        """W_1 x stands still during a phase; the other layers and the apical ones move."""
        return *self.weights["W"][1:], *self.weights["Q"]

    def bare(self, shape: str, batch: int, seconds: np.ndarray) -> Row:
        """How fast the products alone are."""
        n = self.network.sizes[0]
        flops = 2 * batch * n * n * len(self.matrices) * EVALUATIONS / 1e9
        rate = flops / seconds
        what = f"{shape}: matrix products"
        return Row(what, float(np.median(rate)), "Gflop/s", float(rate.max()))

    def products(self, x: np.ndarray) -> Callable[[], Any]:
        """As many products as the field has, and nothing else."""

        @as_in_runs
        def products(matrices: Any, activities: Any) -> Any:
            def once(_: Any, activities: Any) -> Any:
                return tuple(h @ m.T for h, m in zip(activities, matrices, strict=True))

            return jax.lax.fori_loop(0, EVALUATIONS, once, activities)

        given = tuple(jax.numpy.asarray(x + k) for k in range(len(self.matrices)))
        return lambda: products(self.matrices, given)

    def steps(self, x: np.ndarray) -> Callable[[], Any]:
        """Euler's steps along the field, which are little beside it."""

        @as_in_runs
        def bare(weights: Any, x: Any) -> Any:
            def of_one(x: Any, state: Any) -> Any:
                return field(self.dynamics, self.network, weights, self._drive(weights, x), state)

            def once(_: Any, state: Any) -> Any:
                rates = jax.vmap(of_one)(x, state)
                return jax.tree.map(lambda v, r: v + DT * r, state, rates)

            start = jax.vmap(lambda x: rest(self.dynamics, self.network, x.dtype))(x)
            return jax.lax.fori_loop(0, EVALUATIONS, once, start)

        given = jax.numpy.asarray(x)
        return lambda: bare(self.weights, given)

    def solved(self, x: np.ndarray) -> Callable[[], Any]:
        """As many fields in steps of Heun's method, as runs have them."""
        level = Rate("heun", DT, adaptive=False, rtol=1e-6, atol=1e-9, tolerance=1e-3)

        @as_in_runs
        def solve(weights: Any, x: Any) -> Any:
            def one(x: Any) -> Any:
                drive = self._drive(weights, x)
                problem = Problem(self.dynamics, self.network, weights, drive, 0.1, x)
                start = rest(self.dynamics, self.network, x.dtype)
                return level.settle(problem, start, Span(EVALUATIONS // 2 * DT, stop=False))[0]

            return jax.vmap(one)(x)

        given = jax.numpy.asarray(x)
        return lambda: solve(self.weights, given)

    def _drive(self, weights: Any, x: Any) -> Any:
        return self.dynamics.drive(self.network, weights, x, Target("none"))
