"""Quickstart's learning as a straightforward loop in PyTorch: the same equations, steps, rates."""

from typing import Any

import numpy as np
from digits_numpy import (
    FEEDBACK,
    FINAL,
    FORWARD,
    MU,
    SIGMA,
    SLOPE,
    STEP,
    STEPS,
    TARGET_STEP,
    orthogonal,
)
from racing import Predict, orders, race
from serving import Problem, needed

torch = needed("torch")


def phase(basal: Any, W2: Any, Q: Any, target: Any, h1: Any, h2: Any) -> tuple[Any, Any]:
    """Heun's steps of both layers."""

    def rates(h1: Any, h2: Any) -> tuple[Any, Any]:
        top = h2 if target is None else target
        return (
            (1 - MU) * basal + MU * (h2 @ Q.T) - h1,
            (1 - MU) * (h1 @ W2.T) + MU * top - h2,
        )

    for _ in range(STEPS):
        a1, a2 = rates(h1, h2)
        b1, b2 = rates(h1 + STEP * a1, h2 + STEP * a2)
        h1, h2 = h1 + STEP / 2 * (a1 + b1), h2 + STEP / 2 * (a2 + b2)
    return h1, h2


@torch.inference_mode()
def learn(given: Problem) -> Predict:
    """The two phases and the updates after them, presentation by presentation."""
    rng = np.random.default_rng(given["seed"])
    generator = torch.Generator().manual_seed(given["seed"])
    leaky = torch.nn.functional.leaky_relu
    x_all, y_all = (torch.from_numpy(given[name]).float() for name in ("x", "y"))
    W1, W2 = (torch.from_numpy(orthogonal(rng, *s)) for s in ((64, 64), (10, 64)))
    Q = torch.linalg.pinv(W2)
    order = torch.from_numpy(orders(given, given["epochs"]).reshape(-1, given["batch"]))
    attenuation = MU / (1 - MU)
    for number, batch in enumerate(order):
        x, y = x_all[batch], y_all[batch]
        drive = x @ W1.T
        basal = leaky(drive, SLOPE)
        rest = (torch.zeros(len(x), n) for n in (64, 10))
        free1, free2 = phase(basal, W2, Q, None, *rest)
        target = free2 - TARGET_STEP * (torch.softmax(free2, 1) - y)
        h1, h2 = phase(basal, W2, Q, target, free1, free2)
        factor = 1 - (1 - FINAL) * number / len(order)
        signal1 = (h1 - free1) / attenuation**2 * torch.where(drive >= 0, 1.0, SLOPE)
        signal2 = (h2 - free2) / attenuation
        returned = (noise := SIGMA * torch.randn(h1.shape, generator=generator)) @ W2.T
        missed = noise - returned @ Q.T
        W1 = W1 + factor * FORWARD / len(x) * signal1.T @ x
        W2 = W2 + factor * FORWARD / len(x) * signal2.T @ h1
        Q = Q + factor * FEEDBACK / len(x) * missed.T @ returned
    return lambda x: (leaky(torch.from_numpy(x).float() @ W1.T, SLOPE) @ W2.T).numpy()


race(learn)
