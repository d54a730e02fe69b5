"""Spectra and stability of networks: in closed form, and what errors of inverses do to them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from theory_systems import HALF, ONE_SLOW, TAU, forward_state, mixture, system, unit_model

from neurosim.building import assembly
from neurosim.building.loading import load_model
from neurosim.functions.activations import LeakyReLU, Linear, Tanh
from neurosim.networks.dynamics import rest
from neurosim.specs import ModelSpec
from neurosim.theory import linearisation, stability
from neurosim.theory.closed_forms import (
    free_spectrum,
    kink_gain,
    slowest_time_constant,
    taught_spectrum,
)
from neurosim.theory.relaxation import chain

pytestmark = pytest.mark.usefixtures("double_precision")


def lone(mu):
    """One layer of a mixture network, which has no hidden ones."""
    model = load_model("mixture")
    return ModelSpec(
        cells=model.cells,
        populations={"output": "output"},
        projections={"W": {"wire": model.projections["W"].wire, "bias": False}},
        parameters={"mu": mu, "tau_soma": TAU},
        layers=[1, 1],
    )


# --- spectra ------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [1, 2, 3, 6])
@pytest.mark.parametrize("mu", [0.05, 0.2, 0.45])
def test_spectra_in_closed_form_are_those_of_the_scalar_matrix(mu, depth):
    """T1, T2 against the tridiagonal matrix they solve, written out; 1e-12."""
    matrix = -np.eye(depth) + np.diag(np.full(depth - 1, 1 - mu), -1)
    matrix += np.diag(np.full(depth - 1, mu), 1)
    np.testing.assert_allclose(
        np.sort(np.linalg.eigvals(matrix).real), np.sort(taught_spectrum(mu, depth)), atol=1e-12
    )
    matrix[-1, -1] = -(1 - mu)
    np.testing.assert_allclose(
        np.sort(np.linalg.eigvals(matrix).real), np.sort(free_spectrum(mu, depth)), atol=1e-12
    )
    assert slowest_time_constant(mu, depth) == pytest.approx(-1 / taught_spectrum(mu, depth)[0])
    units = unit_model("mixture", depth, HALF, mu=mu, tau_soma=TAU) if depth > 1 else lone(mu)
    for kind, spectrum in (("clamped", taught_spectrum), ("none", free_spectrum)):
        found = np.linalg.eigvals(TAU * chain(units, kind).A)
        np.testing.assert_allclose(np.sort(found.real), np.sort(spectrum(mu, depth)), atol=1e-12)


@pytest.mark.parametrize("activation", [Linear(), LeakyReLU(0.5), Tanh()], ids=lambda a: type(a))
@pytest.mark.parametrize(("kind", "law"), [("clamped", taught_spectrum), ("none", free_spectrum)])
def test_spectrum_of_any_network_with_exact_inverses_T1_T2(activation, kind, law):
    """To rounding: eps times the condition of the eigenvectors, which are n-fold copies.

    The state is the forward pass, at which forward and feedback sides have the same slopes.
    """
    n, depth, mu = 7, 4, 0.2
    found, _ = system((n,) * (depth + 1), activation, mixture(mu), kind, init="orthogonal")
    modes = linearisation.spectrum(linearisation.jacobian(found, forward_state(found)))
    assert modes.stable and modes.complete
    expected = np.repeat(law(mu, depth), n) / TAU
    np.testing.assert_allclose(modes.eigenvalues.real, expected, rtol=1e-11)
    assert np.abs(modes.eigenvalues.imag).max() < 1e-9 / TAU
    assert modes.time_constant == pytest.approx(-TAU / law(mu, depth)[0], rel=1e-11)


def test_contracting_layers_add_shorter_chains():
    """Directions that a pseudo-inverse does not carry up end a chain of their own; all stable."""
    sizes, mu = (9, 8, 6, 3), 0.3
    found, _ = system(sizes, LeakyReLU(0.3), mixture(mu), "none", init="orthogonal")
    modes = linearisation.spectrum(linearisation.jacobian(found, forward_state(found)))
    expected = [*np.repeat(free_spectrum(mu, 3), 3), *np.repeat(taught_spectrum(mu, 2), 3)]
    expected = np.sort([*expected, *np.repeat(taught_spectrum(mu, 1), 2)])[::-1] / TAU
    np.testing.assert_allclose(modes.eigenvalues.real, expected, rtol=1e-10)


def test_products_are_the_jacobian_and_arnoldi_finds_its_slowest_modes():

    def slow_basal(sizes):
        changes = {"parameters.mu": 0.3, "parameters.tau_soma": TAU, "parameters.tau_basal": 0.004}
        changes |= {"layers": list(sizes)} | ONE_SLOW["basal"]
        return assembly.dynamics(load_model("mixture-dendrites", changes))

    found, _ = system((8, 20, 20, 20), Tanh(), slow_basal, "clamped", noise=0.3)
    state = rest(found.dynamics, found.network, jnp.float64)
    state = jax.tree.map(lambda v: v + 0.1, state)
    J = np.asarray(linearisation.jacobian(found, state))
    v = jnp.asarray(np.random.default_rng(1).standard_normal(len(J)))
    assert len(J) == linearisation.flat_size(found.dynamics, found.network) == 120
    np.testing.assert_allclose(linearisation.product(found, state, v), J @ v, rtol=1e-11)
    np.testing.assert_allclose(
        linearisation.transposed_product(found, state, v), J.T @ v, rtol=1e-11, atol=1e-9
    )
    slow, all_of_them = linearisation.slowest(found, state, 4), linearisation.spectrum(J)
    assert not slow.complete
    np.testing.assert_allclose(slow.eigenvalues.real, all_of_them.eigenvalues.real[:4], rtol=1e-7)


def test_arnoldi_finds_modes_of_single_precision_and_none_of_what_is_not_finite():
    """Twenty-fold modes of four layers in closed form; weights that have left the numbers."""
    mu, wide = 0.2, (20, 20, 20, 20, 20)
    found, _ = system(wide, Linear(), mixture(mu), "clamped", init="orthogonal")
    state = forward_state(found)
    single = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), (found, state))
    modes = linearisation.slowest(*single)
    assert modes.abscissa == pytest.approx(taught_spectrum(mu, 4)[0] / TAU, rel=1e-5)
    for lost in (np.nan, np.inf):
        weights = jax.tree.map(lambda a, lost=lost: a * lost, found.weights)
        unknown = linearisation.slowest(found._replace(weights=weights), state)
        assert not unknown.known and not unknown.stable and np.isnan(unknown.time_constant)


@pytest.mark.long
@pytest.mark.seldom
def test_slowest_modes_of_a_large_network_without_its_matrix():
    """4 × 512 units, 2048 states, in closed form to 1e-7 relative."""
    mu = 0.1
    found, _ = system((64, 512, 512, 512, 512), LeakyReLU(0.35), mixture(mu), "clamped",
                      init="orthogonal")  # fmt: skip
    modes = linearisation.modes(found, forward_state(found))
    assert not modes.complete
    assert modes.abscissa == pytest.approx(taught_spectrum(mu, 4)[0] / TAU, rel=1e-7)


def test_modes_that_do_not_decay_or_are_unknown_have_no_time_constant():
    at_zero = linearisation.spectrum(np.diag([-1.0, 0.0]))
    assert at_zero.known and at_zero.abscissa == 0 and not at_zero.stable
    assert at_zero.time_constant == np.inf
    unknown = linearisation.spectrum(np.full((2, 2), np.nan))
    assert not unknown.known and not unknown.stable
    assert np.isnan([unknown.abscissa, unknown.time_constant]).all()


# --- stability ----------------------------------------------------------------------------------


def test_no_error_below_the_tolerated_one_makes_a_network_unstable():
    """And the worst error of just that size at the worst frequency is not far from doing so."""
    found, _ = system((6, 6, 6, 6), LeakyReLU(0.5), mixture(0.3), "clamped")
    state = forward_state(found)
    tolerated = stability.tolerated_error(found, state)
    assert 0.01 < tolerated < 10
    rng = np.random.default_rng(0)

    def abscissa(size):
        worst = -np.inf
        for _ in range(40):
            Q = []
            for q in found.weights["Q"]:
                error = rng.standard_normal((6, 6))
                Q.append(q + size * (error / np.linalg.norm(error, 2)) @ q)
            wrong = found._replace(weights=found.weights | {"Q": tuple(Q)})
            worst = max(
                worst, linearisation.spectrum(linearisation.jacobian(wrong, state)).abscissa
            )
        return worst

    assert abscissa(0.99 * tolerated) < 0 < abscissa(100 * tolerated)


@pytest.mark.parametrize("pairs", [[(1, 1), (1, 1)], [(1, -10), (1, 1)], [(1, -1000), (50, -20)]])
def test_the_error_that_two_layers_tolerate_in_closed_form(pairs):
    """Pairs of units with weights w up and q down: τJ = [[−1, μq], [(1−μ)w, −1]], τM its corner μq.

    With z = 1 + iωτ, ‖M (iω − J)⁻¹‖² = (μq)² ((1−μ)²w² + |z|²) / |z² − (1−μ)μwq|². It is largest
    where nothing changes, or where it oscillates: with s = (ωτ)², m = 1 − (1−μ)μwq and
    c = 1 + (1−μ)²w², where s² + 2cs = m² − 4c + 2cm.
    """
    mu = 0.3
    w, q = np.array(pairs, float).T
    found, _ = system((2, 2, 2), Linear(), mixture(mu), "clamped")
    given = {"W": (jnp.eye(2), jnp.diag(w)), "Q": (jnp.diag(q),)}
    found = found._replace(weights=found.weights | given)
    m, c = 1 - (1 - mu) * mu * w * q, 1 + ((1 - mu) * w) ** 2
    s = np.sqrt(np.maximum(c**2 + m**2 - 4 * c + 2 * c * m, 0)) - c
    s = np.where(q < 0, s, 0)
    assert ((s > 1) == (q < 0)).all()
    largest = np.sqrt((mu * q) ** 2 * (c + s) / ((m - s) ** 2 + 4 * s)).max()
    found = stability.tolerated_error(found, forward_state(found))
    assert found == pytest.approx(1 / largest, rel=1e-8)


def test_bearings_of_wrong_inverses_and_kinks():
    found, _ = system((4, 5, 5, 5), LeakyReLU(0.25), mixture(0.1), init="orthogonal")
    moving, network, weights, _ = found
    ways, state = moving.chain(weights), forward_state(found)

    def read(state):
        return moving.layers(network, moving.read(*found[1:], state))

    for bearing in stability.bearings(network, ways, read(state)):
        assert bearing.error < 1e-12 and bearing.straddling == 0
        assert bearing.gain == pytest.approx(1)
    doubled = ways._replace(Q=tuple(2 * q for q in ways.Q))
    for bearing in stability.bearings(network, doubled, read(state)):
        assert bearing.error == pytest.approx(1) and bearing.gain == pytest.approx(2)
    silent = ways._replace(W=tuple(0 * w for w in ways.W))
    for bearing in stability.bearings(network, silent, read(state)):
        assert bearing.error == bearing.gain == 0  # of directions that are kept there is none
    lower, upper = state["pyramidal.soma"]
    first = stability.bearings(network, ways, read(state | {"pyramidal.soma": (lower, -upper)}))[0]
    assert first.straddling == 5 and first.gain <= 1 / 0.25 + 1e-9


def test_kink_gain_is_where_a_chain_of_straddling_units_turns_unstable():
    """−I + (1−μ) F + μ G with loops of 1/α: the largest eigenvalue is √gain − 1, 0 at gain 1."""
    depth, slope = 5, 0.3
    for mu in (0.05, 0.08, 0.1, 0.2):
        matrix = -np.eye(depth) + np.diag(np.full(depth - 1, 1 - mu), -1)
        matrix += np.diag(np.full(depth - 1, mu / slope), 1)
        largest = np.linalg.eigvals(matrix).real.max()
        assert largest == pytest.approx(kink_gain(mu, slope, depth) ** 0.5 - 1, rel=1e-9)
