"""Learning as an ODE: what linear networks conserve and where they end."""

import h5py
import numpy as np
import pytest
from flown_networks import drawn, flown, scalar, slowest

import neurosim as ns
from neurosim.theory.findings import in_words
from neurosim.theory.learning_flows import (
    Flow,
    Moments,
    drift,
    invariants,
    product,
    skipped,
    velocity,
)
from neurosim.theory.learning_limits import limit

CASES = {  # of theorems 2, 3, 4, 5 and 6, and of the same with several layers or outputs
    "theorem 2": (1, 1, 1),
    "theorem 3": (1, 1, 1, 1),
    "theorem 4": (1, 1, 1, 1, 1),
    "theorem 5": (1, 4, 1),
    "theorem 6, any data": (3, 1, 2),
    "deep and wide": (1, 3, 2, 1),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("seed", range(6))
def test_a_random_channel_ends_at_the_closed_form(case, seed):
    flow = drawn(CASES[case], np.random.default_rng([seed, len(case)]))
    known = limit(flow)
    assert known.converges
    assert known.weights is not None
    error = flow.moments.TI - known.product @ flow.moments.II
    heard = error if flow.sizes[-1] == 1 else flow.C[0] @ error
    assert np.abs(heard).max() < 1e-12, "a fixed point to rounding"
    rate = slowest(flow._replace(A=known.weights))
    end = flown(flow, until=2000 + 40 / rate)  # near misses of other roots hold it up for long
    assert max(change for _, change in drift(flow, end)) < 1e-8  # of a solver at 1e-11
    for a, b in zip(end.A, known.weights, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-7)


@pytest.mark.parametrize("sizes", [(1, 1, 1), (1, 1, 1, 1), (1, 4, 1)])
@pytest.mark.parametrize("seed", range(3))
def test_a_gradient_flow_ends_at_the_closed_form(sizes, seed):
    flow = drawn(sizes, np.random.default_rng(seed), gradient=True)
    end, known = flown(flow), limit(flow)
    assert max(change for _, change in drift(flow, end)) < 1e-8
    for a, b in zip(end.A, known.weights, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-7)


@pytest.mark.parametrize("wanted", [0.2, -0.2])
def test_a_gradient_flow_of_one_hidden_layer_that_mirrors_itself(wanted):
    """Layers that are equal, or opposite, stay so: a_i ∝ ±b_i. What is wanted is |a|², or 0."""
    a = np.array([[0.3], [0.4]])
    for sign in (1, -1):
        flow = Flow((a, sign * a.T), None, Moments(np.array([[wanted]]), np.eye(1)))
        end = a * np.sqrt(max(sign * wanted, 0)) / 0.5
        known = limit(flow)
        assert ("saddle" in known.words) == (sign * wanted < 0)
        np.testing.assert_allclose(known.weights[0], end, atol=1e-14)
        np.testing.assert_allclose(known.weights[1], sign * end.T, atol=1e-14)


def test_theorem_8_of_a_hidden_unit_that_hears_nothing_of_what_is_wanted():
    """C Σ_TI = 0: there is no V, and all that is known is C P → 0."""
    c, wanted = np.array([[1.0, 2.0]]), np.array([[2.0, 4.0, 6.0], [-1.0, -2.0, -3.0]])
    flow = drawn((3, 1, 2), np.random.default_rng(0))
    flow = Flow(flow.A, (c,), Moments(wanted, np.eye(3)))
    known = limit(flow)
    assert known.converges and known.weights is None and known.product is None
    assert known.words == "C1 P Σ_II → C1 Σ_TI [B theorem 8]"
    np.testing.assert_allclose(c @ flown(flow).product, 0, atol=1e-7)


def test_theorem_6_an_autoencoder_of_white_data():
    for seed in range(4):
        flow = drawn((3, 1, 3), np.random.default_rng(seed), identity=True)
        A, B = limit(flow).weights
        c = flow.C[0]
        beta = (A @ c.T).item() / (c @ c.T).item()
        K = (c @ flow.A[1]).item() - (flow.A[0] @ flow.A[0].T).item() / 2
        assert beta > 0
        np.testing.assert_allclose(A, beta * c, atol=1e-13)
        np.testing.assert_allclose(B, c.T / (beta * (c @ c.T).item()), rtol=1e-12)
        assert abs(1 - (beta**2 * (c @ c.T).item() / 2 + K) * beta) < 1e-12  # B 77
        np.testing.assert_allclose(flown(flow).A[0], A, atol=1e-7)


def test_theorem_6_does_not_hold_on_the_line_of_the_channel():
    c = np.array([[1.0, 0.5]])
    flow = Flow((-c, -6 * c.T), (c,), Moments(np.eye(2), np.eye(2)))
    known = limit(flow)
    assert (known.weights[0] @ c.T).item() < 0  # A = βC with a negative β
    np.testing.assert_allclose(flown(flow, 5.0).A[0], known.weights[0], atol=1e-7)
    aside = flow._replace(A=(flow.A[0] + 1e-3 * np.array([[0.5, -1.0]]), flow.A[1]))
    assert (limit(aside).weights[0] @ c.T).item() > 0
    np.testing.assert_allclose(flown(aside).A[0], limit(aside).weights[0], atol=1e-7)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("sizes", [(2, 3, 2), (3, 2, 2), (2, 1, 3), (2, 2, 2)])
def test_theorems_7_to_10_what_the_channel_hears_vanishes(sizes, seed):
    """And A_1, C_1 A_2 are at rest; V of B 109 falls all along."""
    flow = drawn(sizes, np.random.default_rng([sum(sizes), seed]), identity=sizes == (2, 2, 2))
    if sizes == (2, 2, 2):
        flow = flow._replace(C=(np.eye(2),))  # B 111
    V, times = [], (0, 0.5, 1, 2, 4, 8, 4000)  # an A_2 that ends nearly singular makes it slow
    for before, after in zip((0, *times), times, strict=False):
        flow = flown(flow, after - before) if after > before else flow
        c, (a, b) = flow.C[0], flow.A
        s = c @ flow.moments.solution
        V.append(np.trace(c @ b @ b.T @ c.T - a @ s.T - s @ a.T))
    assert (np.diff(V) < 1e-9).all()
    np.testing.assert_allclose(c @ flow.product @ flow.moments.II, c @ flow.moments.TI, atol=1e-7)
    still = velocity(flow)
    assert np.abs(still[0]).max() < 1e-7
    assert np.abs(c @ still[1]).max() < 1e-7


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("sizes", [(3, 2, 3), (2, 3, 2), (2, 2, 1, 2)])
def test_a_wide_gradient_flow_ends_at_the_best_map_of_its_rank(sizes, seed):
    """Also with several layers, where only that much is known."""
    flow = drawn(sizes, np.random.default_rng([seed, *sizes]), gradient=True)
    end, known = flown(flow, 4000), limit(flow)
    assert max(change for _, change in drift(flow, end)) < 1e-8
    assert known.weights is None
    error = flow.moments.TI - end.product @ flow.moments.II
    np.testing.assert_allclose(end.product, known.product, atol=1e-6)
    assert np.linalg.matrix_rank(known.product, tol=1e-10) == min(sizes)
    assert np.abs(product(end.A[1:]).T @ error).max() < 1e-6


def test_of_deep_wide_networks_only_what_rest_would_mean_is_known():
    flow = drawn((2, 3, 3, 2), np.random.default_rng(0))
    known = limit(flow)
    assert known.converges is None
    assert "if it comes to rest" in known.words
    end = flown(flow, 400)  # this one does
    np.testing.assert_allclose(end.product, known.product, atol=1e-6)


TRIVIAL = {  # weights, channel, α, β → limit
    "no input": ((0.4, -0.3), (1.0,), 0.0, 0.0, (0.4, -0.3)),
    "deaf below": ((0.5, 0.2), (0.0,), 1.0, 2.0, (0.5, 1.0)),  # a_2 = α/(β a_1)
    "deaf and silent below": ((0.0, 0.2), (0.0,), 1.0, 2.0, (0.0, 0.2)),
    "at rest": ((0.5, 1.0), (3.0,), 1.0, 2.0, (0.5, 1.0)),
    # a_1 = √2 on a_2 = a_1²/2, which goes through the origin: a_1³ = 2α/β
    "from the origin": ((0.0, 0.0), (1.0,), np.sqrt(2), 1.0, (np.sqrt(2), 1.0)),
    "the other way": ((0.0, 0.0), (-1.0,), np.sqrt(2), 1.0, (-np.sqrt(2), -1.0)),
    # a_1³ − 3a_1 + 2 = (a_1 − 1)² (a_1 + 2): the double root stops what comes from above
    "a double root": ((1.5, -3 / 2 + 1.5**2 / 2), (1.0,), -1.0, 1.0, (1.0, -1.0)),
}


@pytest.mark.parametrize("case", TRIVIAL)
def test_trivial_and_degenerate_cases(case):
    a, c, alpha, beta, expected = TRIVIAL[case]
    known = limit(scalar(a, c, alpha, beta))
    assert known.converges
    exact = 1e-7 if case == "a double root" else 1e-14  # whose place is known to √ε
    np.testing.assert_allclose(np.ravel(known.weights), expected, atol=exact)


def test_a_layer_that_cannot_be_heard_lets_those_below_run_away():
    """Theorem 3's trivial case c_2 = 0, which is no network of one hidden layer if a_2 = 0, too."""
    flow = scalar((0.3, 0.0, 0.7), (2.0, 0.0), 1.5, 1.0)
    known = limit(flow)
    assert known.converges is False
    assert "A1 grows without bound" in known.words
    end = flown(flow, 10.0)
    np.testing.assert_allclose(np.ravel(end.A), [0.3 + 2.0 * 1.5 * 10, 0, 0.7], rtol=1e-9)


def test_the_invariants_of_the_paper_are_among_them():
    rng = np.random.default_rng(4)
    a, c = rng.normal(size=4), rng.normal(size=3)
    chain = scalar(a, c, 1.0, 1.0)
    c = [*c, 1.0]
    for i, each in enumerate(invariants(chain)):  # B 48
        own = a[i + 1] - c[i + 1] * a[i] ** 2 / (2 * c[i])
        np.testing.assert_allclose(each.value.item(), 2 * c[i] / c[i + 1] * own)
    of_gradient = invariants(chain._replace(C=None))  # B 54
    assert [each.name for each in of_gradient] == [
        f"A{i + 1}ᵀA{i + 1} − A{i}A{i}ᵀ" for i in (1, 2, 3)
    ]
    np.testing.assert_allclose([each.value.item() for each in of_gradient], np.diff(a**2))
    flow = drawn((1, 3, 1), rng)
    horizontal, coupled = (each.value for each in invariants(flow))
    lower, upper, channel = flow.A[0][:, 0], flow.A[1][0], flow.C[0][:, 0]
    np.testing.assert_allclose(np.diag(coupled), 2 * channel * upper - lower**2)  # B 59
    across = lower - channel * (channel @ lower) / (channel @ channel)  # B 60
    np.testing.assert_allclose(np.linalg.norm(horizontal), np.linalg.norm(across))


def test_products_of_neighboring_matrices_are_a_direct_channel():
    rng = np.random.default_rng(0)
    one, two, three = (rng.normal(size=s) for s in ((2, 3), (3, 4), (4, 5)))
    expected = one @ two @ three, two @ three, three  # B 87
    for found, wanted in zip(skipped([one, two, three]), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-14)


@pytest.mark.parametrize(
    "credit", [pytest.param("srbp", marks=pytest.mark.long), "rbp", "backprop"]
)
def test_the_engine_flows_there(credit, tmp_path):
    """A[1, 1, 1, 1], several starts at once, to the accuracy that was asked of its steps."""
    given = {"model.layers": [1, 1, 1, 1], "model.credit": credit}
    given |= {"stages.0.phases.0.duration": "400 s", "record.every": "4 s"}
    path = tmp_path / "flow.h5"
    ns.run(ns.load_protocol("learning-flow", given), seeds=[3, 5], out=path)
    with h5py.File(path) as file:
        W = [file[f"courses/W{i}"][0] for i in (1, 2, 3)]
        ends = [file[f"weights/W{i}"][:] for i in (1, 2, 3)]
    for course, (start, end) in zip(W, ends, strict=True):
        np.testing.assert_array_equal(course[:, 0], start)
        np.testing.assert_allclose(course[:, -1], end, rtol=1e-12)
    for seed in (3, 5):
        found = ns.analyze(path, seed=seed, starts=0)
        flow = found.flow
        assert "learning as an ODE" in in_words(found)
        assert "reached     the weights are within" in in_words(found)
        assert flow.converges
        assert len(flow.invariants) == 2
        assert max(change for _, change in flow.invariants) < 1e-9
        assert flow.off < 1e-8


@pytest.mark.parametrize(
    "changes",
    [
        {"model.credit": {"name": "srbp", "error_bits": 3}},
        {"model.credit": {"name": "srbp", "update_bits": 3}},
        {
            "model.credit": {"name": "asrbp", "rate": "1 Hz"},
            "stages.0.phases.0.plastic": ["W", "Q"],
        },
        {"model.activation": "tanh"},
        {"batch": 32},
        {"plasticity": "quasi-static", "model.projections.W.rate": 0.1},
    ],
)
def test_nothing_is_said_of_learning_that_is_another(changes):
    assert ns.analyze("learning-flow", starts=0).flow is not None
    assert ns.analyze(ns.load_protocol("learning-flow", changes), starts=0).flow is None


def composed(flow, a1):
    """P of a chain in terms of a_1, by the parabolas on which neighboring weights lie [B 48]."""
    a = [layer.item() for layer in flow.A]
    c = [each.item() for each in flow.channel]
    upper = whole = a1
    for i in range(len(a) - 1):
        bend = c[i + 1] / (2 * c[i])
        upper = bend * upper**2 + a[i + 1] - bend * a[i] ** 2
        whole = whole * upper
    return whole


@pytest.mark.parametrize("seed", range(4))
def test_chains_of_twelve_layers_end_at_the_first_root(seed):
    """Of a polynomial of degree 4095: nothing on the way from the start is a fixed point."""
    rng = np.random.default_rng([12, seed])
    flow = scalar(rng.normal(size=12), rng.normal(size=11), rng.normal(), 1.3)
    known = limit(flow)
    assert "degree 4095" in known.words
    assert abs(flow.moments.TI - known.product * flow.moments.II).item() < 1e-13
    assert max(change for _, change in drift(flow, flow._replace(A=known.weights))) < 1e-13
    begin, end = flow.A[0].item(), known.weights[0].item()
    way = begin + (end - begin) * np.linspace(0, 1 - 1e-6, 200_001)
    error = flow.moments.TI.item() - 1.3 * composed(flow, way)
    assert (np.sign(error) == np.sign(error[0])).all()
    assert np.sign(end - begin) == np.sign(flow.C[0].item() * error[0])


def test_a_chain_of_twelve_layers_whose_weights_are_powers():
    """With c_{i+1} = 2 c_i and a_{i+1} = a_i² P is a_1^4095, which ends at α/β."""
    a = 0.9**2.0 ** np.arange(12)
    known = limit(scalar(a, 2.0 ** np.arange(-11, 0), 3.0, 1.5))
    expected = 2 ** (2.0 ** np.arange(12) / 4095)
    np.testing.assert_allclose(np.ravel(known.weights), expected, rtol=1e-13)
    far = limit(scalar(np.zeros(12), 2.0 ** np.arange(-11, 0), 3.0, 1.5))  # from the origin
    np.testing.assert_allclose(np.ravel(far.weights), expected, rtol=1e-12)


def test_deep_networks_are_flown_to_where_they_are_said_to_end():
    rng = np.random.default_rng(3)
    deaf = scalar(rng.normal(size=9), [0.4, 0.0, -1.2, 0.7, 0.0, 0.3, 1.1, -0.5], 1.0, 1.0)
    for flow in (drawn((1,) * 10, rng), drawn((1, 2, 3, 3, 2, 3, 2, 1), rng), deaf):
        known = limit(flow)
        end = flown(flow, 40 / slowest(flow._replace(A=known.weights)) + 100)
        for one, other in zip(end.A, known.weights, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-7)


@pytest.mark.long
@pytest.mark.seldom
def test_chains_of_any_length_are_analyzed():
    given = ns.load_protocol("learning-flow", {"model.layers": [1] * 13, "model.credit": "rbp"})
    found = ns.analyze(given, starts=0).flow
    assert len(found.invariants) == 11
    assert len(found.weights) == 12
