"""Learning of linear networks as an ODE of the weights [B 7]: the flow, and what it conserves.

Errors T − O reach layer i through C_i, straight from the output (SRBP), through products of
matrices of neighboring layers (RBP), or through the transposed forward weights (gradient flow).
Over a training set with Σ_TI = E(T Iᵀ) and Σ_II = E(I Iᵀ) the weights obey [B 81, 84]

    dA_i/dt = C_i (Σ_TI − P Σ_II) (A_{i−1} … A_1)ᵀ,   P = A_L … A_1,   C_L = 1.

B are equations of Baldi, Sadowski & Lu, *Learning in the machine: random backpropagation and the
deep learning channel*, 2018.
"""

from collections.abc import Sequence
from functools import reduce
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

Matrices = Sequence[np.ndarray]


class Moments(NamedTuple):
    """What a linear network learns of its training set: Σ_TI (n_L × n_0) and Σ_II (n_0 × n_0)."""

    TI: Float[np.ndarray, "n_L n_0"]
    II: Float[np.ndarray, "n_0 n_0"]

    @classmethod
    def of(cls, x: Float[np.ndarray, "s n_0"], y: Float[np.ndarray, "s n_L"]) -> "Moments":
        """Of inputs and targets."""
        return cls(y.T @ x / len(x), x.T @ x / len(x))

    @property
    def solution(self) -> Float[np.ndarray, "n_L n_0"]:
        """The map of least squares, Σ_TI Σ_II⁻¹; zero where inputs never point."""
        return self.TI @ np.linalg.pinv(self.II, hermitian=True)


class Flow(NamedTuple):
    """A learning linear network at one moment.

    A: A_1 … A_L, of shapes (n_i, n_{i−1}). C: C_1 … C_{L−1}, of shapes (n_i, n_L); None of the
    gradient flow.
    """

    A: tuple[np.ndarray, ...]
    C: tuple[np.ndarray, ...] | None
    moments: Moments

    @property
    def depth(self) -> int:
        """L."""
        return len(self.A)

    @property
    def sizes(self) -> tuple[int, ...]:
        """n_0 … n_L."""
        return (self.A[0].shape[1], *(a.shape[0] for a in self.A))

    @property
    def product(self) -> Float[np.ndarray, "n_L n_0"]:
        """P = A_L … A_1."""
        return product(self.A)

    @property
    def channel(self) -> tuple[np.ndarray, ...]:
        """C_1 … C_L, with C_L = 1; of the gradient flow (A_L … A_{i+1})ᵀ."""
        if self.C is not None:
            return (*self.C, np.eye(self.sizes[-1]))
        above = [np.eye(self.sizes[-1])]
        for a in reversed(self.A[1:]):
            above.insert(0, a.T @ above[0])
        return tuple(above)


def product(matrices: Matrices) -> np.ndarray:
    """M_n … M_1 of M_1 … M_n."""
    return reduce(lambda below, m: m @ below, matrices)


def skipped(neighboring: Matrices) -> tuple[np.ndarray, ...]:
    """RBP's channel as one of SRBP [B 87]: C_i = R_i R_{i+1} … R_{L−1}.

    neighboring: R_1 … R_{L−1}, of shapes (n_i, n_{i+1}).
    """
    found: list[np.ndarray] = []
    for r in reversed(neighboring):
        found.insert(0, r @ found[0] if found else r)
    return tuple(found)


def velocity(flow: Flow) -> tuple[np.ndarray, ...]:
    """dA_i/dt, at a rate of 1 per second [B 45, 57, 65, 81, 84]."""
    error = flow.moments.TI - flow.product @ flow.moments.II
    below, found = np.eye(flow.sizes[0]), []
    for a, c in zip(flow.A, flow.channel, strict=True):
        found.append(c @ error @ below.T)
        below = a @ below
    return tuple(found)


class Invariant(NamedTuple):
    """A quantity that learning does not change.

    name: what it is, with the numbers of the layers. value: the quantity. scale: the size of its
    largest term, to which rounding and the error of integration are relative.
    """

    name: str
    value: np.ndarray
    scale: float


def invariants(flow: Flow) -> list[Invariant]:
    """All that the couplings between neighboring layers, and directions without errors, conserve.

    Of the gradient flow A_{i+1}ᵀ A_{i+1} − A_i A_iᵀ [B 53–54, 85]. Of a random channel, with
    M C_{i+1} = C_i, the symmetric part of the coupling M dA_{i+1} = dA_i A_iᵀ [B 83, 89],

        M A_{i+1} + (M A_{i+1})ᵀ − A_i A_iᵀ,

    which is B 48 in a chain, a_{i+1} − c_{i+1} a_i²/(2c_i) times 2c_i/c_{i+1}, B 59 in an expansive
    network, B 66 in a compressive one and B 92 with one hidden layer; where layer i hears more of
    the error than layer i+1 does, M exists for part of its directions u, and uᵀ(…)u is conserved.
    In directions u to which the channel sends nothing, uᵀ C_i = 0, uᵀ A_i is: B 60 is of this kind.
    """
    if flow.C is None:
        pairs = zip(flow.A, flow.A[1:], strict=False)
        return [
            _invariant(f"A{i + 1}ᵀA{i + 1} − A{i}A{i}ᵀ", above.T @ above, -a @ a.T)
            for i, (a, above) in enumerate(pairs, start=1)
        ]
    found, channel = [], flow.channel
    for i, (a, c) in enumerate(zip(flow.A, channel, strict=True), start=1):
        deaf = _annihilators(c, float(np.abs(c).max()))
        if deaf.size:
            found.append(_invariant(f"uᵀA{i}, where uᵀC{i} = 0", deaf.T @ a))
        if i == flow.depth or not c.any():
            continue
        M = c @ np.linalg.pinv(channel[i])
        u = _annihilators(c - M @ channel[i], float(np.abs(c).max()))
        if c.shape[0] != u.shape[1]:
            name = f"uᵀ(M{i}A{i + 1} + (M{i}A{i + 1})ᵀ − A{i}A{i}ᵀ)u"
        else:
            name, u = f"M{i}A{i + 1} + (M{i}A{i + 1})ᵀ − A{i}A{i}ᵀ", np.eye(c.shape[0])
        if u.size:
            up = u.T @ M @ flow.A[i] @ u
            found.append(_invariant(name, up + up.T, -u.T @ a @ a.T @ u))
    return found


def _annihilators(matrix: np.ndarray, scale: float) -> np.ndarray:
    """An orthonormal basis of the u with uᵀ M = 0, up to rounding of numbers of this scale."""
    left, singular, _ = np.linalg.svd(matrix)
    rank = int(np.sum(singular > 1e-12 * scale))
    return left[:, rank:]


def _invariant(name: str, *terms: np.ndarray) -> Invariant:
    return Invariant(name, sum(terms[1:], terms[0]), max(float(np.abs(t).max()) for t in terms))


def drift(start: Flow, end: Flow) -> list[tuple[str, float]]:
    """By how much every invariant changed on the way."""
    return changes(invariants(start), invariants(end))


def changes(start: list[Invariant], end: list[Invariant]) -> list[tuple[str, float]]:
    """The same of invariants that are known, relative to the largest of their terms."""
    return [
        (a.name, float(np.abs(b.value - a.value).max() / (max(a.scale, b.scale) or 1.0)))
        for a, b in zip(start, end, strict=True)
    ]
