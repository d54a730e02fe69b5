"""Our Heun against diffrax's own, of which it writes the stages out."""

import diffrax as dfx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest

from neurosim.levels.heun import Heun


def pulled(t, y, args):
    return [jnp.tanh(y[1].sum()) - y[0], jnp.sin(t) * y[0].sum() - y[1]]


@pytest.fixture(autouse=True)
def double_precision():
    with jax.enable_x64(True):
        yield


@pytest.mark.parametrize(
    "kind", ["fixed", "adaptive", pytest.param("noisy", marks=pytest.mark.long)]
)
def test_it_is_heun(kind):
    """Ends, dense output and steps taken; sums of two numbers round in either of two ways."""
    terms = dfx.ODETerm(pulled)
    if kind == "noisy":
        shapes = [jax.ShapeDtypeStruct((3,), jnp.float64), jax.ShapeDtypeStruct((2,), jnp.float64)]
        path = dfx.VirtualBrownianTree(0.0, 4.0, 1e-3, shapes, jax.random.key(1))
        spread = [jnp.full(3, 0.2), jnp.full(2, 0.1)]
        noise = dfx.ControlTerm(lambda t, y, args: lx.DiagonalLinearOperator(spread), path)
        terms = dfx.MultiTerm(terms, noise)
    adaptive = {"stepsize_controller": dfx.PIDController(rtol=1e-3, atol=1e-4)}
    how = adaptive if kind == "adaptive" else {}

    def solved(solver):
        saved = dfx.SaveAt(ts=jnp.linspace(0.1, 3.9, 7))
        start = [jnp.array([1.0, -2.0, 0.5]), jnp.array([0.3, 2.0])]
        return dfx.diffeqsolve(terms, solver, 0.0, 4.0, 0.125, start, saveat=saved, **how)

    ours, theirs = (jax.jit(lambda s=s: solved(s))() for s in (Heun(), dfx.Heun()))
    assert ours.stats["num_steps"] == theirs.stats["num_steps"]
    assert ours.stats["num_rejected_steps"] == theirs.stats["num_rejected_steps"]
    for a, b in zip(ours.ys, theirs.ys, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-13, atol=1e-13)
