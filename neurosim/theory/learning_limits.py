"""Where the learning of a linear network ends [B theorems 2–10]: closed forms and first roots.

Networks with one input and one output come to rest at the first root of a polynomial
(`learning_courses`), which is theorems 2–5: no C_i is divided by, so that trivial channels need no
case of their own, and layers may have any size and number. The leading coefficient of P is
‖x‖²/(d+1), of A_{L−1} … A_1 = x τ^d + …, and its degree 2d + 1 is odd: a root exists in both
directions unless that product vanishes for all τ, which is the only way in which learning can go on
for ever.
"""

import math
from typing import NamedTuple

import numpy as np
from scipy.optimize import brentq

from neurosim.theory.learning_courses import PLACES, arrival, degree, first_root, moves
from neurosim.theory.learning_flows import Flow, Moments, product


class Limit(NamedTuple):
    """What is known of where learning ends.

    converges: whether it comes to rest; None where nobody knows. words: what is said, with its
    source. weights: A_1 … A_L there, if they are known. product: P there, if it is known.
    """

    converges: bool | None
    words: str
    weights: tuple[np.ndarray, ...] | None = None
    product: np.ndarray | None = None


def _rest(words: str, weights: tuple[np.ndarray, ...]) -> Limit:
    return Limit(True, words, weights, product(weights))


def limit(flow: Flow) -> Limit:
    """Where the weights of the flow end, as far as it is known."""
    if flow.depth == 1:
        return _rest("least squares, in the directions of the inputs", (_regression(flow),))
    if flow.sizes[0] == flow.sizes[-1] == 1:
        alone = max(flow.sizes) == 1 or flow.depth == 2
        if flow.C is not None:
            return _single(flow)
        if alone:
            return _gradient_chain(flow) if max(flow.sizes) == 1 else _gradient_expansive(flow)
    if flow.C is None:
        return _gradient(flow)
    if flow.depth == 2 and flow.sizes[1] == 1:
        found = _compressive(flow)
        if found is not None:
            return found
    return _partial(flow)


def _regression(flow: Flow) -> np.ndarray:
    """One layer: the start, with the solution in place of what it says of the inputs."""
    seen = np.linalg.pinv(flow.moments.II, hermitian=True) @ flow.moments.II
    return flow.moments.solution + flow.A[0] @ (np.eye(len(seen)) - seen)


# --- one input, one output ----------------------------------------------------------------------


def _single(flow: Flow) -> Limit:
    """One input and one output: the first root [B theorems 2–5]."""
    alpha, beta = flow.moments.TI.item(), flow.moments.II.item()
    *below, heard = moves(flow)
    if alpha == beta * flow.product.item() or not (heard or any(below)):
        return _rest("the start is a fixed point", flow.A)
    if not heard:
        moving = [f"A{i}" for i, moved in enumerate(below, start=1) if moved]
        return Limit(
            False,
            f"no fixed point: the output stays what it is while {', '.join(moving)} "
            f"grow{'' if len(moving) > 1 else 's'} without bound, as its layer cannot be heard",
        )
    power = degree(flow)
    kind = {None: "a polynomial", 1: "a line", 3: "a cubic"}.get(
        power, f"a polynomial of degree {power}"
    )
    words = f"the first root of {kind} on the way, P = α/β [B 31, 45–51, 57–63]"
    end = arrival(flow)
    if end is None:
        words += f", which lies beyond {PLACES} places of its series"
        return Limit(True, words, product=np.array([[alpha / beta]]))
    return _rest(words, end)


def _gradient_chain(flow: Flow) -> Limit:
    """Gradient flow of a chain, on the curve a_i² = u² + d_i through its smallest weight [B 54]."""
    a = np.array([layer.item() for layer in flow.A])
    wanted = flow.moments.TI.item() / flow.moments.II.item() if flow.moments.II.item() else 0.0
    least = int(np.argmin(np.abs(a)))
    squares = np.delete(a**2 - a[least] ** 2, least)
    sides = math.prod(np.sign(np.delete(a, least)))
    if np.count_nonzero(a == 0) > 1 or np.prod(a) == wanted or not flow.moments.II.item():
        return _rest("the start is a fixed point", flow.A)
    side = float(np.sign(wanted * sides))
    stuck = not squares.all() and side != np.sign(a[least])
    # u² solves u² Π (u² + d) = (α/β)², which grows with u²
    top = abs(wanted) ** (2 / len(a))
    square = 0.0
    if not stuck and wanted:
        square = brentq(lambda v: v * np.prod(v + squares) - wanted**2, 0, 2 * top, xtol=1e-300)
    u = side * math.sqrt(square)
    ends = np.sign(a) * np.sqrt(a**2 - a[least] ** 2 + square)
    ends[least] = u
    words = "P = α/β, on the hyperbolas that the start is on [B 52–54]"
    if stuck and wanted:
        words = "a saddle: weights of equal size cannot change the sign of P [B 54]"
    return _rest(words, tuple(np.array([[v]]) for v in ends))


def _gradient_expansive(flow: Flow) -> Limit:
    """Gradient flow of one hidden layer: a + b grows as e^τ, a − b shrinks, P = α/β."""
    alpha, beta = flow.moments.TI.item(), flow.moments.II.item()
    if alpha == beta * flow.product.item() or not beta:
        return _rest("the start is a fixed point", flow.A)
    a, b = flow.A[0][:, 0], flow.A[1][0]
    plus, minus, wanted = a + b, a - b, 4 * alpha / beta
    p, m = plus @ plus, minus @ minus
    # p x − m/x = 4α/β for x = e^{2τ}, without cancellation
    root = math.sqrt(wanted**2 + 4 * p * m)
    if not (p if wanted >= 0 else m):
        end = np.zeros_like(a)
        return _rest("a saddle, where a = ∓b has led", (end[:, None], end[None]))
    x = (wanted + root) / (2 * p) if wanted >= 0 else 2 * m / (root - wanted)
    grown, shrunk = plus * math.sqrt(x), minus / math.sqrt(x)
    ends = (grown + shrunk) / 2, (grown - shrunk) / 2
    words = "P = α/β, where e^τ has carried a + b and a − b"
    return _rest(words, (ends[0][:, None], ends[1][None]))


# --- one hidden unit ----------------------------------------------------------------------------


def _compressive(flow: Flow) -> Limit | None:
    """One hidden unit: A → V/σ, V = C Σ_TI Σ_II⁻¹, with σ³ − Kσ² − ½‖V‖² = 0 [B 66–79].

    σ = CB is ½‖A‖² + K all along. For every K the cubic has one positive root, by Descartes' rule
    of signs. A start on the line of V that the flow never leaves may end at a negative one, which
    attracts along the line alone. In a direction where no input points A stays what it is, and its
    square belongs to K.
    """
    assert flow.C is not None, "the gradient flow has no such form"
    (A, B), c, moments = flow.A, flow.C[0], flow.moments
    V, II = c @ moments.solution, moments.II
    seen = np.linalg.pinv(II, hermitian=True) @ II
    unseen = A - A @ seen
    K = (c @ B).item() - (A @ seen @ A.T).item() / 2
    square = (V @ V.T).item()
    if not c.any():
        return _rest("A stays, B follows by least squares", (A, _follows(A, B, moments)))
    if square <= 1e-24 * max(1.0, (c @ c.T).item()):
        return None
    words = "A → V/σ, V = C1 Σ_TI Σ_II⁻¹ and σ the positive root of σ³ − Kσ² = ½‖V‖² [B 66–79]"
    sigma = _only_positive(np.array([1.0, -K, 0.0, -square / 2]))
    along = (A @ V.T).item() / square
    invariant = np.allclose(V @ II, (V @ II @ V.T).item() / square * V, rtol=1e-12, atol=1e-14)
    if invariant and along < 0 and np.allclose(A @ seen, along * V, rtol=1e-12, atol=1e-14):

        def moves(h: float) -> float:
            return 1 - ((along + h) ** 2 * square / 2 + K) * (along + h)

        if moves(0.0) == 0:
            return _rest("the start is a fixed point", (A, _follows(A, B, moments)))
        candidates = np.roots([-square / 2, 0, -K, 1]) - along
        found = first_root(moves, candidates, math.copysign(1.0, moves(0.0)))
        assert found is not None, "a cubic with a negative leading coefficient"
        sigma = 1 / (along + found)
        if sigma < 0:
            words = "A → V/σ with σ < 0, a saddle: the start is on the line of V, which leads there"
    end = V / sigma + unseen
    return _rest(words, (end, _follows(end, B, moments)))


def _only_positive(cubic: np.ndarray) -> float:
    """The positive root of a polynomial that has one, to rounding."""
    high = 1 + np.abs(cubic[1:]).max()
    return brentq(lambda s: np.polyval(cubic, s), 0.0, high, xtol=1e-300, rtol=8.9e-16)


def _follows(A: np.ndarray, B: np.ndarray, moments: Moments) -> np.ndarray:
    """Where gradient descent of the upper layer ends under a lower one at rest."""
    power = (A @ moments.II @ A.T).item()
    return moments.TI @ A.T / power if power else B


# --- the rest -----------------------------------------------------------------------------------


def _partial(flow: Flow) -> Limit:
    """Any linear network with a random channel: what the lowest layer hears vanishes."""
    assert flow.C is not None, "a gradient flow hears with its weights"
    c = flow.C[0]
    full = np.linalg.matrix_rank(c) == flow.sizes[-1]
    reached: np.ndarray | None = flow.moments.solution
    if flow.depth > 2:
        words = "C1 (Σ_TI − P Σ_II) = 0 if it comes to rest, which nobody has proved [B 7.7]"
        return Limit(None, words, product=reached if full else None)
    words = "C1 P Σ_II → C1 Σ_TI [B theorem 8]"
    if full:
        words += ", and P → Σ_TI Σ_II⁻¹, as C1 has full rank"
        if not _sees_all(flow.moments):
            words += ", in the directions of the inputs"
            reached = None
    return Limit(True, words, product=reached if full else None)


def _sees_all(moments: Moments) -> bool:
    return bool(np.linalg.matrix_rank(moments.II, hermitian=True) == len(moments.II))


def _gradient(flow: Flow) -> Limit:
    """The best map through the narrowest layer [Baldi & Hornik 1989]."""
    rank = min(flow.sizes)
    words = f"from almost every start the best map of rank {rank} [Baldi & Hornik 1989]"
    if not _sees_all(flow.moments):
        return Limit(True, words)
    best = flow.moments.solution
    axes = np.linalg.eigh(best @ flow.moments.TI.T)[1][:, ::-1][:, :rank]
    return Limit(True, words, product=axes @ axes.T @ best)
