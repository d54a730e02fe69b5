"""The mixture network's vector field by hand in NumPy (Meulemans 2019, eqs. 6.1 and 6.23)."""

from collections.abc import Callable

import numpy as np
from serving import Problem

Layers = list[np.ndarray]


def field_of(given: Problem) -> Callable[[Layers], Layers]:
    """Rates of all layers, each (samples, n_i), of a free phase; what stands still is kept."""
    depth, mu, tau, slope = (given[name] for name in ("depth", "mu", "tau", "slope"))
    W = [given[f"W{i}"] for i in range(depth)]
    Q = [given[f"Q{i}"] for i in range(depth - 1)]

    def leaky(a: np.ndarray, slope: float) -> np.ndarray:
        return np.where(a >= 0, a, slope * a)

    basal = (1 - mu) * leaky(given["x"] @ W[0].T, slope)

    def field(h: Layers) -> Layers:
        rates = []
        for i in range(depth):
            drive = basal if i == 0 else (1 - mu) * (h[i - 1] @ W[i].T)
            if i == depth - 1:  # linear, and its apical dendrite is its soma
                rates.append((drive - (1 - mu) * h[i]) / tau)
                continue
            if i:
                drive = leaky(drive, slope)
            above = h[i + 1] if i == depth - 2 else leaky(h[i + 1], 1 / slope)
            rates.append((drive + mu * (above @ Q[i].T) - h[i]) / tau)
        return rates

    return field
