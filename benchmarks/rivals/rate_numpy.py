"""A free phase of the mixture network as a loop of Heun's steps in NumPy."""

from mixture import field_of
from serving import Problem, Solution, Solve, serve


def make(given: Problem) -> Solve:
    """Steps of dt, two fields each."""
    import numpy as np

    field, dt = field_of(given), given["dt"]
    sizes = [given[f"W{i}"].shape[0] for i in range(given["depth"])]

    def solve() -> Solution:
        h = [np.zeros((len(given["x"]), n)) for n in sizes]
        for _ in range(round(given["duration"] / dt)):
            first = field(h)
            second = field([v + dt * k for v, k in zip(h, first, strict=True)])
            h = [v + dt / 2 * (a + b) for v, a, b in zip(h, first, second, strict=True)]
        return {f"h{i}": v for i, v in enumerate(h)} | {"fields": 2 * round(given["duration"] / dt)}

    return solve


serve(make)
