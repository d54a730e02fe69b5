"""Linear networks that learn as an ODE, and where scipy's own solvers bring them."""

from itertools import pairwise

import numpy as np
from scipy.integrate import solve_ivp

from neurosim.theory.learning_flows import Flow, Moments, velocity


def drawn(sizes, rng, gradient=False, identity=False):
    """A random network and random moments, or those of an autoencoder of white data."""
    A = tuple(rng.normal(size=(n, m)) for m, n in pairwise(sizes))
    C = tuple(rng.normal(size=(n, sizes[-1])) for n in sizes[1:-1])
    x = rng.normal(size=(40, sizes[0]))
    y = x @ rng.normal(size=(sizes[0], sizes[-1])) + 0.1 * rng.normal(size=(40, sizes[-1]))
    moments = Moments(np.eye(sizes[0]), np.eye(sizes[0])) if identity else Moments.of(x, y)
    return Flow(A, None if gradient else C, moments)


def scalar(a, c, alpha, beta):
    """A chain of given weights."""

    def of(values):
        return tuple(np.array([[float(v)]]) for v in values)

    return Flow(of(a), None if c is None else of(c), Moments(*of([alpha, beta])))


def flown(flow, until=200.0):
    """Where scipy's own solver brings the weights."""
    sizes = [a.size for a in flow.A]

    def packed(weights):
        return np.concatenate([w.ravel() for w in weights])

    def given(z):
        parts = np.split(z, np.cumsum(sizes)[:-1])
        return flow._replace(
            A=tuple(p.reshape(a.shape) for p, a in zip(parts, flow.A, strict=True))
        )

    solved = solve_ivp(
        lambda _, z: packed(velocity(given(z))),
        (0, until),
        packed(flow.A),
        method="LSODA",
        rtol=1e-11,
        atol=1e-13,
    )
    assert solved.success, solved.message
    return given(solved.y[:, -1])


def slowest(flow):
    """The slowest decay at a fixed point, of directions that decay."""
    shapes = [a.shape for a in flow.A]
    z = np.concatenate([a.ravel() for a in flow.A])

    def field(z):
        parts = np.split(z, np.cumsum([n * m for n, m in shapes])[:-1])
        A = tuple(p.reshape(s) for p, s in zip(parts, shapes, strict=True))
        return np.concatenate([v.ravel() for v in velocity(flow._replace(A=A))])

    steps = 1e-6 * np.eye(len(z))
    J = np.stack([(field(z + h) - field(z - h)) / 2e-6 for h in steps], axis=1)
    decays = -np.linalg.eigvals(J).real
    assert decays.min() > -1e-6, "what is reached is stable"
    return decays[decays > 1e-6].min()
