"""Transfer functions and losses against their formulas, number by number."""

from math import exp, inf, log

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from neurosim.functions.activations import ACTIVATIONS, Elementwise, Standardized, Tanh
from neurosim.functions.losses import Loss

pytestmark = pytest.mark.usefixtures("double_precision")

H, Y = np.array([0.5, -1.0, 2.0]), np.array([0.0, 1.0, 0.5])
P = np.exp(H) / np.exp(H).sum()
SOFTENED = np.diag(P) - np.outer(P, P)

LOSSES = {
    "half-squared of linear": (0.5 * 6.5, H - Y),
    "squared of linear": (6.5, 2 * (H - Y)),
    "half-squared of softmax": (0.5 * np.sum((P - Y) ** 2), SOFTENED @ (P - Y)),
    "squared of softmax": (np.sum((P - Y) ** 2), 2 * SOFTENED @ (P - Y)),
    "cross-entropy of softmax": (-np.sum(Y * np.log(P)), P * np.sum(Y) - Y),
}
"""ℓ and ∂ℓ/∂h, by hand: ∂p/∂h = diag(p) − p pᵀ."""


@pytest.mark.parametrize("auxiliary", [None, 2])
@pytest.mark.parametrize("case", LOSSES)
def test_losses_and_their_gradients(case, auxiliary):
    (value, gradient), (name, output) = LOSSES[case], case.split(" of ")
    loss = Loss(name, output) if auxiliary is None else Loss(name, output, auxiliary)
    unlabelled = auxiliary or 0
    h = jnp.array([*H, *[7.0] * unlabelled])
    assert loss.prediction(h).tolist() == H.tolist()
    assert loss(h, jnp.array(Y)) == pytest.approx(value, rel=1e-12)
    expected = [*gradient, *[0.0] * unlabelled]
    np.testing.assert_allclose(loss.error(h, jnp.array(Y)), expected, rtol=1e-12)


POTENTIALS = np.array([-2.0, -0.05, 0.0, 0.3, 1.5])
POINTS = np.array([-2.0, -0.05, 0.3, 1.5])

FORMULAS = {
    "linear": (lambda a: a, lambda a: 1.0, (-inf, inf)),
    "leaky-relu": (
        lambda a: a if a > 0 else 0.35 * a,
        lambda a: 1.0 if a > 0 else 0.35,
        (-inf, inf),
    ),
    "tanh": (np.tanh, lambda a: 1 / np.cosh(a) ** 2, (-1, 1)),
    "sigmoid": (lambda a: 1 / (1 + exp(-a)), lambda a: 0.25 / np.cosh(a / 2) ** 2, (0, 1)),
    "softplus": (lambda a: log(1 + exp(a)), lambda a: 1 / (1 + exp(-a)), (0, inf)),
    "power": (lambda a: a * abs(a), lambda a: 2 * abs(a), (-inf, inf)),
    "sign": (lambda a: 1.0 if a > 0 else 0.0, lambda a: 0.0, None),
    "bernoulli": (lambda a: 1 / (1 + exp(-a)), lambda a: 0.25 / np.cosh(a / 2) ** 2, None),
    "soft-threshold": (
        lambda a: np.sign(a) * max(abs(a) - 0.1, 0),
        lambda a: 1.0 if abs(a) > 0.1 else 0.0,
        None,
    ),
}
"""s, s' and the domain of s⁻¹, with the parameters that are given where a file gives none."""


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_functions_inverses_and_derivatives(name):
    function, derivative, domain = FORMULAS[name]
    s, a = ACTIVATIONS[name](), jnp.array(POTENTIALS)
    np.testing.assert_allclose(s(a), [function(x) for x in POTENTIALS], rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(s.derivative(a), [derivative(x) for x in POTENTIALS], rtol=1e-12)
    assert s.domain == domain
    if domain is None:
        with pytest.raises(TypeError, match="no inverse"):
            s.inverse(a)
    else:
        np.testing.assert_allclose(s.inverse(s(a)), POTENTIALS, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("exponent", [0.5, 3.0])
def test_powers_are_odd(exponent):
    s, a = ACTIVATIONS["power"](exponent), jnp.array(POINTS)
    expected = np.sign(POINTS) * np.abs(POINTS) ** exponent
    np.testing.assert_allclose(s(a), expected, rtol=1e-12)
    np.testing.assert_allclose(s.inverse(s(a)), POINTS, rtol=1e-9)
    slopes = jax.vmap(jax.grad(s))(a)
    np.testing.assert_allclose(s.derivative(a), slopes, rtol=1e-12)


def test_functions_of_a_script_and_behind_a_normalization():
    cube = Elementwise(lambda a: a**3, jnp.cbrt, (-inf, inf))
    a = jnp.array(POINTS)
    np.testing.assert_allclose(cube.derivative(a), 3 * POINTS**2, rtol=1e-12)
    np.testing.assert_allclose(cube.inverse(cube(a)), POINTS, rtol=1e-12)
    with pytest.raises(TypeError, match="was given without an inverse"):
        Elementwise(jnp.sin).inverse(a)

    mean, deviation = np.array([0.1, 0.2, -0.3, 0.4]), np.array([0.5, 2.0, 3.0, 0.25])
    s = Standardized(Tanh(), jnp.array(mean), jnp.array(deviation))
    assert s.domain == (-1, 1)
    np.testing.assert_allclose(s(a), (np.tanh(POINTS) - mean) / deviation, rtol=1e-12)
    np.testing.assert_allclose(s.inverse(s(a)), POINTS, rtol=1e-9)
    np.testing.assert_allclose(s.derivative(a), (1 - np.tanh(POINTS) ** 2) / deviation, rtol=1e-12)


def test_numbers_that_runs_vary_are_arguments_of_programs_and_all_else_is_not():
    leaves = {name: jax.tree.leaves(kind()) for name, kind in ACTIVATIONS.items()}
    assert leaves == {name: [] for name in ACTIVATIONS} | {"soft-threshold": [0.1]}
    assert jax.tree.leaves(Elementwise(jnp.sinh, jnp.arcsinh, (-inf, inf))) == []
    assert jax.tree.leaves(Loss("squared", "linear", 1)) == []


def test_draws_of_a_stochastic_unit():
    """1 where the number drawn lies below the probability, of which 0.5 is that at 0."""
    unit, drawn = ACTIVATIONS["bernoulli"](), jnp.array([0.0, 0.49, 0.5, 0.99])
    assert unit.sampled(jnp.zeros(4), drawn).tolist() == [1, 1, 0, 0]
