"""A free phase of the mixture network by `scipy.integrate.solve_ivp`, all samples as one system."""

from itertools import pairwise

import numpy as np
from mixture import field_of
from serving import Problem, Solution, Solve, needed, serve

integrate = needed("scipy.integrate")


def make(given: Problem) -> Solve:
    """Explicit Runge–Kutta 5(4), or 8(5,3) where the problem asks for it."""
    field = field_of(given)
    sizes = [given[f"W{i}"].shape[0] for i in range(given["depth"])]
    edges, samples = np.cumsum([0, *sizes]), len(given["x"])

    def flat(t: float, y: np.ndarray) -> np.ndarray:
        y = y.reshape(-1, samples)
        states = [y[a:b].T for a, b in pairwise(edges)]
        return np.concatenate([rate.T for rate in field(states)]).ravel()

    def solve() -> Solution:
        found = integrate.solve_ivp(
            flat,
            (0.0, given["duration"]),
            np.zeros(edges[-1] * samples),
            method=given["method"],
            t_eval=[given["duration"]],
            rtol=given["rtol"],
            atol=given["atol"],
        )
        assert found.success, found.message
        y = found.y[:, -1].reshape(-1, samples)
        return {f"h{i}": y[a:b].T for i, (a, b) in enumerate(pairwise(edges))} | {
            "fields": found.nfev
        }

    return solve


serve(make)
