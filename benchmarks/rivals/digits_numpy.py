"""Quickstart's learning as a straightforward loop in NumPy: the same equations, steps and rates."""

import numpy as np
from racing import Predict, orders, race
from serving import Problem

SLOPE, MU, TARGET_STEP, STEP, STEPS = 0.35, 0.1, 5.0, 0.5, 60
"""Of quickstart: leaky units, the apical weight, the nudge; steps of dt/tau, as many a phase."""

FORWARD, FEEDBACK, SIGMA, FINAL = 0.2, 0.05, 1.0, 0.1


def leaky(a: np.ndarray) -> np.ndarray:
    """Leaky rectification."""
    return np.where(a >= 0, a, np.float32(SLOPE) * a)


def phase(
    basal: np.ndarray,
    W2: np.ndarray,
    Q: np.ndarray,
    target: np.ndarray | None,
    h1: np.ndarray,
    h2: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Heun's steps of both layers."""

    def rates(h1: np.ndarray, h2: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
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


def learn(given: Problem) -> Predict:
    """The two phases and the updates after them, presentation by presentation."""
    rng = np.random.default_rng(given["seed"])
    x_all, y_all = (given[name].astype(np.float32) for name in ("x", "y"))
    W1, W2 = (orthogonal(rng, *shape) for shape in ((64, 64), (10, 64)))
    Q = np.linalg.pinv(W2)
    order = orders(given, given["epochs"]).reshape(-1, given["batch"])
    attenuation = MU / (1 - MU)
    for number, batch in enumerate(order):
        x, y = x_all[batch], y_all[batch]
        drive = x @ W1.T
        basal = leaky(drive)
        h1, h2 = (np.zeros((len(x), n), np.float32) for n in (64, 10))
        free1, free2 = phase(basal, W2, Q, None, h1, h2)
        odds = np.exp(free2 - free2.max(axis=1, keepdims=True))
        target = free2 - TARGET_STEP * (odds / odds.sum(axis=1, keepdims=True) - y)
        h1, h2 = phase(basal, W2, Q, target, free1, free2)
        factor = 1 - (1 - FINAL) * number / len(order)
        signal1 = (h1 - free1) / attenuation**2 * np.where(drive >= 0, 1, SLOPE)
        signal2 = (h2 - free2) / attenuation
        noise = (SIGMA * rng.standard_normal(h1.shape)).astype(np.float32)
        returned = noise @ W2.T
        missed = noise - returned @ Q.T
        W1 = W1 + np.float32(factor * FORWARD / len(x)) * (signal1.T @ x).astype(np.float32)
        W2 = W2 + np.float32(factor * FORWARD / len(x)) * (signal2.T @ h1)
        Q = Q + np.float32(factor * FEEDBACK / len(x)) * (missed.T @ returned)
    return lambda x: leaky(x @ W1.T) @ W2.T


def orthogonal(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    """Orthonormal rows or columns."""
    q, _ = np.linalg.qr(rng.standard_normal((max(rows, columns), min(rows, columns))))
    return (q if rows >= columns else q.T).astype(np.float32)


if __name__ == "__main__":
    race(learn)
