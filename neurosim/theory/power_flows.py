"""Learning as an ODE of A[1, 1, 1] with a power as transfer function, O = a_2 s(a_1 I) [B 7.9].

With s(a) = sign(a) |a|^μ and e = T − O the weights obey, at a rate of 1 per second [B 113–119],

    da_1/dt = c_1 E(e s'(a_1 I) I), or without the slope c_1 E(e I),   da_2/dt = E(e s(a_1 I)),

and c_1 = a_2 of the gradient flow. As s(a_1 I) = s(a_1) s(I), four moments of the data are enough.
With the slope the weights stay on a curve a_2(a_1) and end where it first meets a_2 s(a_1) = α/β;
without it there is no fixed point in general, and one of them runs away. The source has positive
weights and inputs; inputs of any sign do, and networks with a_1 < 0 are those with a_1 > 0 in a
mirror. B: see `learning_flows`.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.optimize import brentq

from neurosim.theory.learning_flows import Flow, Invariant, Moments
from neurosim.theory.learning_limits import Limit
from neurosim.theory.learning_limits import limit as linear_limit


class PowerMoments(NamedTuple):
    """α = E(T s(I)), β = E(s(I)²), γ = E(T I), δ = E(s(I) I) [B 113]."""

    alpha: float
    beta: float
    gamma: float
    delta: float

    @classmethod
    def of(
        cls, x: Float[np.ndarray, " s"], y: Float[np.ndarray, " s"], mu: float
    ) -> "PowerMoments":
        """Of inputs and targets."""
        power = signed_power(x, mu)
        means = y * power, power**2, y * x, x * power
        return cls(*(float(np.mean(each)) for each in means))


def signed_power(a, mu: float):  # type: ignore[no-untyped-def]
    """s(a), of a number or an array."""
    return np.sign(a) * np.abs(a) ** mu


class PowerFlow(NamedTuple):
    """The learning network at one moment.

    c1: the weight of its channel; None of the gradient flow. slope: whether the hidden unit hears
    the error times its slope.
    """

    a1: float
    a2: float
    c1: float | None
    mu: float
    slope: bool
    moments: PowerMoments

    @property
    def A(self) -> tuple[np.ndarray, ...]:
        """The weights as the matrices of a network."""
        return tuple(np.array([[a]]) for a in (self.a1, self.a2))

    @property
    def product(self) -> Float[np.ndarray, "1 1"]:
        """What the output is of s(I): a_2 s(a_1)."""
        return np.array([[self.a2 * signed_power(self.a1, self.mu)]])

    @property
    def mirrored(self) -> "PowerFlow":
        """The same network with the signs of its hidden unit and of what it hears turned."""
        channel = None if self.c1 is None else -self.c1
        return self._replace(a1=-self.a1, a2=-self.a2, c1=channel)

    @property
    def proportional(self) -> bool:
        """Whether γ/δ = α/β, so that both weights rest where the output is best."""
        m = self.moments
        return math.isclose(m.gamma * m.beta, m.delta * m.alpha, rel_tol=1e-12, abs_tol=0.0)


def velocity(flow: PowerFlow) -> tuple[float, float]:
    """da_1/dt and da_2/dt, at a rate of 1 per second [B 113, 114, 119]."""
    m, power = flow.moments, signed_power(flow.a1, flow.mu)
    error = m.alpha - m.beta * flow.a2 * power
    hears = flow.a2 if flow.c1 is None else flow.c1
    if flow.slope:
        return hears * flow.mu * abs(flow.a1) ** (flow.mu - 1) * error, power * error
    return hears * (m.gamma - m.delta * flow.a2 * power), power * error


def drift_without_slope(c1: float, moments: PowerMoments) -> float:
    """da_1/dt, per unit of rate, where it runs away without the slope: c_1 (γ − δ α/β).

    Once |a_1| is large a_2 follows it so fast that a_2 s(a_1) stays at α/β, where the output is
    best; then a_1 hears c_1 (γ − δ α/β) for ever, and a fixed point needs γ/δ = α/β [B 113].
    """
    return c1 * (moments.gamma - moments.delta * moments.alpha / moments.beta)


# --- what is conserved --------------------------------------------------------------------------


def _curve(flow: PowerFlow) -> tuple[float, float] | None:
    """κ and q of a_2 = κ |a_1|^q + K, on which the weights stay; None where they stay on none."""
    m = flow.moments
    if not flow.c1 or not m.beta:
        return None
    if flow.slope:
        return 1 / (2 * flow.c1 * flow.mu), 2.0
    if not flow.proportional:
        return None
    return m.beta / (flow.c1 * m.delta * (flow.mu + 1)), flow.mu + 1


def invariants(flow: PowerFlow) -> list[Invariant]:
    """What learning conserves.

    With the slope a_2 − a_1²/(2 c_1 μ) [B 115], of the gradient flow a_1² − μ a_2² [B 119];
    without the slope a_2 − β |a_1|^(μ+1)/(c_1 δ (μ+1)) if γ/δ = α/β, and else nothing. A hidden
    unit that hears nothing keeps a_1.
    """
    if flow.c1 is None:
        terms = flow.a1**2, -flow.mu * flow.a2**2
        return [_of("a1² − μ a2²", *terms)] if flow.slope else []
    if flow.c1 == 0:
        return [_of("a1", flow.a1)]
    curve = _curve(flow)
    if curve is None:
        return []
    name = "a2 − a1²/(2 c1 μ)" if flow.slope else "a2 − β |a1|^(μ+1)/(c1 δ (μ+1))"
    return [_of(name, flow.a2, -curve[0] * abs(flow.a1) ** curve[1])]


def _of(name: str, *terms: float) -> Invariant:
    return Invariant(name, np.array([[sum(terms)]]), max(map(abs, terms)))


# --- where it ends ------------------------------------------------------------------------------


_OPEN = Limit(
    None,
    "a1 reaches 0 in finite time, where the slope of a power below 2 is so steep a function of a1 "
    "that what follows is open",
)


def limit(flow: PowerFlow) -> Limit:
    """Where the weights end, as far as it is known [B 116, 117, theorem 12]."""
    m = flow.moments
    if flow.mu == 1:
        moments = Moments(np.array([[m.alpha]]), np.array([[m.beta]]))
        channel = None if flow.c1 is None else (np.array([[flow.c1]]),)
        return linear_limit(Flow(flow.A, channel, moments))
    if flow.c1 and not flow.slope and m.beta and not flow.proportional and any(velocity(flow)):
        return _runaway(flow)
    if flow.a1 < 0:
        return _turned(limit(flow.mirrored))
    if flow.a1 == 0 and flow.slope and flow.mu < 1 and m.beta:
        return Limit(None, "a1 is 0, where a power below 1 has no slope")
    if not m.beta or not any(velocity(flow)):
        return _rest(flow, flow.a1, flow.a2, "the start is a fixed point")
    if flow.c1 is None:
        return _gradient(flow) if flow.slope else Limit(None, "no gradient without the slope")
    if flow.c1 == 0:
        end = m.alpha / m.beta / flow.a1**flow.mu
        return _rest(flow, flow.a1, end, "a1 stays, a2 follows by least squares")
    curve = _curve(flow)
    assert curve is not None, "all others run away"
    return _on_curve(flow, *curve)


def _turned(found: Limit) -> Limit:
    weights = None if found.weights is None else tuple(-a for a in found.weights)
    return found._replace(weights=weights)


def _rest(flow: PowerFlow, a1: float, a2: float, words: str) -> Limit:
    end = flow._replace(a1=a1, a2=a2)
    return Limit(True, words, end.A, end.product)


def _runaway(flow: PowerFlow) -> Limit:
    """Without the slope and a fixed point [B 113].

    A bounded course would circle a fixed point, as the weights are two. So either a_1 runs away and
    a_2 s(a_1) → α/β, or a_2 does, a_1 → 0 and a_2 s(a_1) → γ/δ, where the hidden unit hears
    nothing; then d(a_2²)/dt → 2 (γ/δ) (α − β γ/δ), which must be positive. As a_1 passes 0 with the
    sign of c_1 γ alone, it cannot leave the side on which the second happens.
    """
    m, c1 = flow.moments, flow.c1
    assert c1 is not None, "with a channel"
    if m.gamma == 0:
        return Limit(None, "no fixed point but those with a1 = 0, as E(T I) = 0")
    silent = m.gamma / m.delta
    pushed = 2 * silent * (m.alpha - m.beta * silent)
    words = "no fixed point, as γ/δ is not α/β [B 113]: "
    if pushed <= 0:
        speed = drift_without_slope(c1, m)
        words += "a2 s(a1) → α/β, which is best, while a1 runs away, in the long run by "
        words += f"c1 (γ − δ α/β) = {speed:.6g} per unit of rate and time"
        return Limit(False, words, product=np.array([[m.alpha / m.beta]]))
    if flow.a1 * c1 * m.gamma >= 0:
        words += "a2 s(a1) → γ/δ, a1 → 0, while a2 runs away, its square in the long run by "
        words += f"2 (γ/δ) (α − β γ/δ) = {pushed:.6g} per unit of rate and time"
        return Limit(False, words, product=np.array([[silent]]))
    words += "a1 runs away and a2 s(a1) → α/β, or a1 changes its sign, and a2 runs away"
    return Limit(False, words)


def _on_curve(flow: PowerFlow, kappa: float, q: float) -> Limit:
    """The first meeting of a_2 = κ a_1^q + K with a_2 a_1^μ = α/β, for a_1 ≥ 0.

    (κ t^q + K) t^μ turns at most once for t > 0, so that there is at most one root on either side
    of that place; on the way up, c_1 times it falls until then, and no root is before. B 117 is
    q = 2; with κ, α, β > 0 it has one positive root, not several, as both
    factors grow where the left side is positive.
    """
    m, mu = flow.moments, flow.mu
    K, wanted = flow.a2 - kappa * flow.a1**q, m.alpha / m.beta

    def error(t: float) -> float:
        return (kappa * t**q + K) * t**mu - wanted

    assert flow.c1 is not None, "with a channel"
    up = flow.c1 * error(flow.a1) < 0
    place = -mu * K / ((q + mu) * kappa)
    turn = place ** (1 / q) if place > 0 else 0.0
    words = "the first root of (κ a1^q + K) a1^μ = α/β on the way"
    if flow.slope:
        words = "the first root of (a1²/(2 c1 μ) + K) a1^μ = α/β on the way [B 117]"
    marks = [math.inf] if up else [turn, 0.0] if turn < flow.a1 else [0.0]
    end = _crossed(error, flow.a1, marks)
    if end is not None:
        return _rest(flow, end, kappa * end**q + K, words)
    if not flow.slope:  # a_1 passes 0 as if nothing were there
        return limit(flow._replace(a1=-math.ulp(0.0), a2=K))
    return _OPEN if mu < 2 else _rest(flow, 0.0, K, "a1 → 0, where the power is flat")


def _crossed(error: Callable[[float], float], start: float, marks: list[float]) -> float | None:
    """The first root on the way from start by monotone pieces, to rounding; None without one."""
    sign, reached = math.copysign(1.0, error(start)), start
    for mark in marks:
        if mark == math.inf:
            mark = max(1.0, 2 * reached)
            while sign * error(mark) > 0:
                mark *= 2
        if sign * error(mark) <= 0:
            low, high = sorted((reached, mark))
            return brentq(error, low, high, xtol=1e-300, rtol=8.9e-16)
        reached = mark
    return None


def _gradient(flow: PowerFlow) -> Limit:
    """Gradient flow from a_1 > 0, on a_1² − μ a_2² = K [B 119].

    a_2 a_1^μ moves to α/β, and passes 0 only where a_2 does; where |a_2| cannot vanish, K < 0, a_1
    does instead.
    """
    m, mu = flow.moments, flow.mu
    K, wanted = flow.a1**2 - mu * flow.a2**2, m.alpha / m.beta
    if K <= 0 and wanted * flow.a2 <= 0:
        if mu < 2:
            return _OPEN
        end = math.copysign(math.sqrt(-K / mu), flow.a2)
        return _rest(flow, 0.0, end, "a1 → 0, as a2 cannot change its sign [B 119]")

    def error(t: float) -> float:  # grows for t² > K
        return (t**2 - K) * t ** (2 * mu) - mu * wanted**2

    found = math.sqrt(max(K, 0.0))
    if wanted:
        root = _crossed(error, found, [math.inf])
        assert root is not None, "it grows without bound"
        found = root
    words = "a2 s(a1) = α/β, on the hyperbola that the start is on [B 119]"
    return _rest(flow, found, wanted / found**mu, words)
