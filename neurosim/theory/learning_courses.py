"""The course of the weights of networks with one input and one output, however deep and wide.

With dτ = (α − βP) dt the weights are polynomials in τ, dA_i/dτ = C_i (A_{i−1} … A_1)ᵀ, of degrees
1, 2, 4, … in a chain [B 49], and so is P; learning stops at the first root of α − βP(τ) on the way.
As a polynomial of degree 2^L − 1 is soon past what can be written down, the weights go on from
place to place by their Taylor series, which hold to rounding so far as bounds of the weights say:
the series of |A_i| and |C_i| majorizes that of A_i, and what lies below a layer bounds it.
"""

import math
from collections.abc import Callable

import numpy as np
from scipy.optimize import brentq

from neurosim.theory.learning_flows import Flow, product

TERMS = 56
"""Of a series. Half of where weights have at most doubled, 2^−56 of them is left out."""

PLACES = 4000
"""From which the weights go on, at most."""


def moves(flow: Flow) -> list[bool]:
    """Which layers move at all, and at last whether the output ever hears those below it."""
    below, silent, found = np.eye(TERMS, 1)[:, :, None], False, []
    for a, c in zip(flow.A, flow.channel, strict=True):
        moving = bool(c.any()) and not silent
        found.append(moving)
        below = _times(_layer(a, c, below, 1.0), below)
        silent = silent or not (moving or below.any())  # the highest powers of a moving layer stay
    return found


def arrival(flow: Flow) -> tuple[np.ndarray, ...] | None:
    """The weights at the first root of α − βP; None if that is further than `PLACES`.

    flow: with a random channel, not at rest, whose output hears the layers below.
    """
    alpha, beta = flow.moments.TI.item(), flow.moments.II.item()
    first = alpha - beta * flow.product.item()
    direction, natural = math.copysign(1.0, first), abs(alpha / beta) ** (1 / flow.depth)
    for _ in range(PLACES):
        series = _expanded(flow, direction * _reach(flow, natural))

        def weights(s: float, series: list[np.ndarray] = series) -> tuple[np.ndarray, ...]:
            powers = s ** np.arange(TERMS)
            return tuple(np.tensordot(powers, layer, 1) for layer in series)

        def error(s: float, weights: Callable = weights) -> float:
            return alpha - beta * product(weights(s)).item()

        whole = product_of(series)[:, 0, 0]
        whole[0] -= alpha / beta
        whole[np.abs(whole) < 1e-20 * np.abs(whole).max()] = 0  # which no root within 1 can tell
        crossing = np.roots(whole[::-1])
        crossing = crossing[np.abs(crossing.imag) < 1e-2]
        end = first_root(error, crossing, 1.0, within=1.0, size=abs(first))
        if end is not None:
            return weights(end)
        flow = flow._replace(A=weights(1.0))
    return None


def _reach(flow: Flow, natural: float) -> float:
    """How far in τ the series of a place hold: half of where every layer has at most doubled.

    natural: the size of weights that are at rest, which counts for those that are smaller.
    """
    sizes = [2 * max(float(np.abs(a).max()), natural) for a in flow.A]

    def bounded(tau: float) -> bool:
        below = np.ones((1, 1))
        for a, c, size in zip(flow.A, flow.channel, sizes, strict=True):
            layer = np.abs(a) + tau * np.abs(c) @ below.T
            if layer.max() > size:
                return False
            below = layer @ below
        return True

    tau = 1.0
    while bounded(tau):
        tau *= 2
    while not bounded(tau):
        tau /= 2
    return tau / 2


def _expanded(flow: Flow, step: float) -> list[np.ndarray]:
    """A_1 … A_L around a place as series in τ/step, coefficients of lower powers first."""
    below, found = np.eye(TERMS, 1)[:, :, None], []
    for a, c in zip(flow.A, flow.channel, strict=True):
        found.append(_layer(a, c, below, step))
        below = _times(found[-1], below)
    return found


def _layer(a: np.ndarray, c: np.ndarray, below: np.ndarray, step: float) -> np.ndarray:
    """A_i over what the layers below pass on: A_i(0) + C_i ∫ (A_{i−1} … A_1)ᵀ."""
    found = np.zeros((TERMS, *a.shape))
    found[0] = a
    powers = np.arange(1, TERMS)[:, None, None]
    found[1:] = step * c @ np.swapaxes(below, 1, 2)[:-1] / powers
    return found


def _times(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    found = np.zeros((TERMS, p.shape[1], q.shape[2]))
    for k in np.flatnonzero(p.any(axis=(1, 2))):
        found[k:] += p[k] @ q[: TERMS - k]
    return found


def product_of(series: list[np.ndarray]) -> np.ndarray:
    """P of A_1 … A_L."""
    found = series[0]
    for layer in series[1:]:
        found = _times(layer, found)
    return found


def degree(flow: Flow) -> int | None:
    """The degree of P in τ, 2^L − 1 of a chain; None where a layer at rest lowers it.

    A_i of a layer that moves has the highest power C_i xᵀ τ^(d+1)/(d+1), of x τ^d the highest that
    comes from below, and passes on C_i ‖x‖²: nothing cancels.
    """
    power, highest = 0, np.ones((1, 1))
    for a, c in zip(flow.A, flow.channel, strict=True):
        if c.any():
            power, highest = 2 * power + 1, c / np.abs(c).max()
        else:
            highest = a @ highest
            if not highest.any():
                return None
            highest = highest / np.abs(highest).max()
    return power


def first_root(
    function: Callable[[float], float],
    roots: np.ndarray,
    direction: float,
    within: float = math.inf,
    size: float | None = None,
) -> float | None:
    """The first root that comes after 0 in a direction (±1), to rounding; None without one.

    function: not zero at 0. roots: candidates, complex ones for near misses. within: how far to
    look. size: of what the function says, to which a double root is zero; |function(0)| without.
    """
    began = function(0.0)
    size = abs(began) if size is None else size
    if abs(began) < 1e-14 * size:
        return 0.0

    def ahead(t: float) -> float:
        return math.copysign(1.0, began) * function(direction * t)

    marks = np.unique(direction * roots.real)
    marks = marks[(marks > 0) & (marks < within)]
    between = (marks[:-1] + marks[1:]) / 2
    beyond = 2 * marks[-1] + 1 if len(marks) else 1.0
    reached = 0.0
    for t in np.sort(np.concatenate([marks, between, [min(within, beyond)]])):
        if ahead(t) <= 0:
            return direction * brentq(ahead, reached, t, xtol=1e-300, rtol=8.9e-16)
        if ahead(t) < 1e-14 * size:  # a double root, where the flow stops without crossing
            return direction * t
        reached = t
    return None
