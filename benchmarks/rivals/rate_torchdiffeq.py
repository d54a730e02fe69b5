"""A free phase of the mixture network by torchdiffeq's `odeint`, all samples as one system."""

from typing import Any

import numpy as np
from serving import Problem, Solution, Solve, needed, serve

torch = needed("torch")
torchdiffeq = needed("torchdiffeq")


def make(given: Problem) -> Solve:
    """Dormand–Prince 5(4), the default of the library, without gradients.

    One tensor: of a tuple the library takes the largest norm, and needs a fifth more fields.
    """
    leaky = torch.nn.functional.leaky_relu
    depth, mu, tau, slope = (given[name] for name in ("depth", "mu", "tau", "slope"))
    W = [torch.from_numpy(given[f"W{i}"]) for i in range(depth)]
    Q = [torch.from_numpy(given[f"Q{i}"]) for i in range(depth - 1)]
    basal = (1 - mu) * leaky(torch.from_numpy(given["x"]) @ W[0].T, slope)

    count = 0

    def field(t: Any, h: Any) -> Any:
        nonlocal count
        count += 1
        h = h.split(sizes, dim=1)
        rates = []
        for i in range(depth):
            drive = basal if i == 0 else (1 - mu) * (h[i - 1] @ W[i].T)
            if i == depth - 1:
                rates.append((drive - (1 - mu) * h[i]) / tau)
                continue
            if i:
                drive = leaky(drive, slope)
            above = h[i + 1] if i == depth - 2 else leaky(h[i + 1], 1 / slope)
            rates.append((drive + mu * (above @ Q[i].T) - h[i]) / tau)
        return torch.cat(rates, dim=1)

    sizes = [len(w) for w in W]
    start = torch.zeros(len(given["x"]), sum(sizes), dtype=torch.float64)
    times = torch.tensor([0.0, given["duration"]], dtype=torch.float64)

    def solve() -> Solution:
        nonlocal count
        count = 0
        with torch.inference_mode():
            found = torchdiffeq.odeint(
                field, start, times, rtol=given["rtol"], atol=given["atol"], method="dopri5"
            )
        layers = found[-1].split(sizes, dim=1)
        return {f"h{i}": np.asarray(h) for i, h in enumerate(layers)} | {"fields": count}

    return solve


serve(make)
