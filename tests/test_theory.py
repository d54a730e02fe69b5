"""The theory against closed forms, against the levels that run the network, and against itself."""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from chains import FEEDFORWARD, circuit, dynamics, forward, state_of
from jax.flatten_util import ravel_pytree

import neurosim as ns
from neurosim.building import assembly
from neurosim.building.loading import load_model
from neurosim.circuits.cells import with_lines
from neurosim.functions.activations import LeakyReLU, Linear, Tanh
from neurosim.functions.losses import Loss
from neurosim.levels.rate import Rate
from neurosim.levels.settling import Problem, Span
from neurosim.models.initialisers import feedback_weights
from neurosim.networks.dynamics import Target, field, rest
from neurosim.networks.network import Network, Weights
from neurosim.plasticity.local import teaching
from neurosim.specs import ModelSpec
from neurosim.theory import fixed_points, linearisation, signal_to_noise, stability
from neurosim.theory.closed_forms import (
    free_spectrum,
    frozen_shares,
    kink_gain,
    slowest_time_constant,
    taught_spectrum,
)
from neurosim.theory.decomposition import attribution
from neurosim.theory.diagnosis import angle
from neurosim.theory.linearisation import System
from neurosim.theory.measures import measured
from neurosim.theory.relaxation import chain

TAU, STEP = 0.02, 0.01
HALF = Loss("half-squared", "linear")


@pytest.fixture(autouse=True)
def double_precision():
    with jax.enable_x64(True):
        yield


def mixture(mu, model="mixture-two-phase", **more):
    """Sizes → a mixture network, taught in two phases unless another model is named."""
    return partial(dynamics, model, mu=mu, tau_soma=TAU, **more)


def system(
    sizes,
    activation,
    family,
    target="none",
    seed=0,
    feedback="pseudo-inverse",
    noise=0.0,
    init="lecun",
):
    """A network with one sample; `noise`: of the inverses, relative."""
    rng = np.random.default_rng(seed)
    W = forward(init, sizes, 1.0, rng)
    Q = feedback_weights(feedback, W, 1.0, rng)
    Q = [q + noise * np.linalg.norm(q) / np.sqrt(q.size) * rng.standard_normal(q.shape) for q in Q]
    acts = (*[activation] * (len(sizes) - 2), Linear())
    network = Network(tuple(sizes), acts, "inverse", HALF)
    weights = circuit(Weights(tuple(map(jnp.asarray, W)), (), tuple(map(jnp.asarray, Q))))
    x, y = (jnp.asarray(rng.standard_normal(n)) for n in (sizes[0], sizes[-1]))
    targets = {
        "none": Target("none"),
        "following": Target("following", STEP, y),
        "clamped": Target("fixed", value=y),
    }
    moving = family(sizes)
    drive = moving.drive(network, weights, x, targets[target])
    return System(moving, network, weights, drive), y


def forward_state(found):
    """The state of a mixture network in which all somata are where the forward pass is."""
    h = found.network.forward_pass(found.dynamics.chain(found.weights), found.drive.x)
    return state_of(found.dynamics, soma=h)


def taught(found, now, free=None):
    """The teaching signals of one sample."""
    before = {} if free is None else {"free": free}
    one = jax.tree.map(lambda a: a[None], (now, before))
    signals = teaching(found.dynamics, found.network, found.weights, *one)
    return tuple(signal[0] for signal in signals)


def teacher(found, now):
    """What of the neurons the forward synapses of two phases compare."""
    return taught(found, now, jax.tree.map(jnp.zeros_like, now))


def unit_model(model, depth, loss, step=0.1, changes=None, **values):
    """A shipped model with one unit a layer."""
    given = {f"parameters.{name}": value for name, value in values.items()} | (changes or {})
    given |= {"layers": [1] * (depth + 1), "loss": loss.name, "output": loss.output}
    return load_model(model, given | {"target_step": step})


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


def with_prompt(line):
    """The changes by which one dendrite of two slow ones follows its input at once."""
    cell = load_model("mixture-dendrites").cells["pyramidal"]
    return {"cells.pyramidal.equations": with_lines(cell.equations, line)}


ONE_SLOW = {
    "basal": with_prompt("apical = feedback"),
    "apical": with_prompt("basal = forward + bias"),
}


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


def test_slowest_modes_of_a_large_network_without_its_matrix():
    """4 × 512 units, 2048 states, in closed form to 1e-7 relative."""
    mu = 0.1
    found, _ = system((64, 512, 512, 512, 512), LeakyReLU(0.35), mixture(mu), "clamped",
                      init="orthogonal")  # fmt: skip
    modes = linearisation.modes(found, forward_state(found))
    assert not modes.complete
    assert modes.abscissa == pytest.approx(taught_spectrum(mu, 4)[0] / TAU, rel=1e-7)


# --- relaxation ---------------------------------------------------------------------------------


SLOW = {"tau_basal": 0.005, "tau_apical": 0.01}
UNITS = {
    "prompt": partial(unit_model, "mixture-two-phase", mu=0.2, tau_soma=TAU),
    "one phase": partial(unit_model, "mixture", mu=0.2, tau_soma=TAU),
    "basal": partial(
        unit_model, "mixture-dendrites", changes=ONE_SLOW["basal"], mu=0.2, tau_soma=TAU, **SLOW
    ),
    "apical": partial(
        unit_model, "mixture-dendrites", changes=ONE_SLOW["apical"], mu=0.2, tau_soma=TAU, **SLOW
    ),
    "dendrites": partial(unit_model, "mixture-dendrites", mu=0.2, tau_soma=TAU, **SLOW),
    "multiplexing": partial(unit_model, "multiplexing", tau_basal=TAU, tau_apical=0.01),
    "feedforward": partial(unit_model, FEEDFORWARD, tau_basal=TAU),
}


def units(family, depth, loss, target, step=0.1):
    """The description of linear units with weights of one, and the system they make."""
    spec = UNITS[family](depth, loss, step)
    moving = assembly.dynamics(spec).with_layers()
    network = Network((1,) * (depth + 1), (Linear(),) * depth, "inverse", loss)
    one = jnp.ones((1, 1))
    weights = circuit(Weights((one,) * depth, (), (one,) * (depth - 1)))
    drive = moving.drive(network, weights, jnp.ones(1), target)
    return spec, System(moving, network, weights, drive)


@pytest.mark.parametrize("family", ["prompt", "dendrites", "multiplexing"])
def test_chain_tells_what_a_transient_leaves(family):
    """Linear network, weights of one: what its simulation leaves is what the chain says, 1e-6."""
    depth, duration = 3, 0.1
    spec, found = units(family, depth, HALF, Target("none"))
    start = rest(found.dynamics, found.network, jnp.float64)
    level = Rate("tsit5", 1e-3, True, 1e-10, 1e-12, 1e-9)
    problem = Problem(*found, STEP, jnp.zeros(1))
    state, _, _ = level.settle(problem, start, Span(duration, False))
    readout = found.dynamics.read(*found[1:], state)
    way = chain(spec)
    left = np.abs(1 - np.concatenate(teacher(found, readout)))  # at rest everything is 1
    np.testing.assert_allclose(way.transient(np.zeros_like(way.b), duration), left, rtol=1e-6)
    until = way.until(np.zeros_like(way.b), left.max() * np.ones(depth))
    assert until == pytest.approx(duration, rel=2e-3)


@pytest.mark.parametrize("teaching", ["none", "following", "frozen", "clamped"])
@pytest.mark.parametrize(
    "loss",
    [HALF, Loss("squared", "linear"), Loss("squared", "softmax"), Loss("cross-entropy", "softmax")],
    ids=lambda loss: f"{loss.name}-{loss.output}",
)
@pytest.mark.parametrize("family", UNITS)
def test_chain_is_the_vector_field_of_units_with_unit_weights(family, loss, teaching):
    """Its matrices against the derivatives of the equations of a circuit; to rounding."""
    depth, step = 3, 0.3
    values = {"frozen": 1 - step, "clamped": 0.0}
    kind = "fixed" if teaching in values else teaching
    target = Target(kind, step, jnp.zeros(1), jnp.full(1, values.get(teaching, 0.0)))
    spec, system = units(family, depth, loss, target, step)
    places = [(f"{g.population}.{name}", system.dynamics._index(g))
              for g, name in system.dynamics.circuit.moving]  # fmt: skip

    def whole(v):
        """The state whose flat form a chain has, layer by layer."""
        found = {name: {} for name, _ in places}
        for (name, index), value in zip(places, v, strict=True):
            found[name][index] = value[None]
        return {name: tuple(layers[k] for k in sorted(layers)) for name, layers in found.items()}

    def velocity(v):
        moved = field(*system, whole(v))
        return jnp.concatenate([moved[name][index - 1] for name, index in places])

    def learned(v):
        now = system.dynamics.read(*system[1:], whole(v))
        if family == "feedforward":
            return jnp.concatenate(system.dynamics.layers(system.network, now).rate)
        return jnp.concatenate(teacher(system, now))

    found, zero = chain(spec, teaching), jnp.zeros(len(places))
    for matrix, expected in zip(
        found, (jax.jacfwd(velocity)(zero), velocity(zero), jax.jacfwd(learned)(zero)), strict=True
    ):
        np.testing.assert_allclose(matrix, expected, rtol=1e-12, atol=1e-12)


def test_chain_of_a_frozen_target_ends_where_the_law_says():
    mu, depth, step = 0.1, 4, 0.5
    model = unit_model("mixture", depth, HALF, step, mu=mu, tau_soma=TAU)
    free, frozen = chain(model), chain(model, "frozen")
    np.testing.assert_allclose(frozen.rest - free.rest, -step * frozen_shares(mu, depth), rtol=1e-9)


# --- fixed points -------------------------------------------------------------------------------


def test_many_starts_find_every_fixed_point_of_a_bistable_unit():
    """h = (1−μ) tanh(w x) + μ q artanh(h): three fixed points where the inverse is steep enough."""
    network = Network((1, 1, 1), (Linear(), Tanh()), "inverse", HALF)
    one = jnp.ones((1, 1))
    weights = circuit(Weights((one, one), (), (0.0 * one,)))
    zero, moving = jnp.zeros(1), mixture(0.4)((1, 1, 1))
    # The output: h_2 = (1−μ) tanh(h_1) + μ t with the target t = 0 − 4 (h_2 − 0): one point only.
    found = System(moving, network, weights, moving.drive(network, weights, zero, Target("none")))
    starts = jnp.asarray(np.random.default_rng(0).uniform(-0.9, 0.9, (20, 2)))
    single = fixed_points.search(found, starts)
    assert len(single.states) == 1 and single.counts == (20,)
    # h_1 = μ q artanh(h_2), h_2 = tanh(h_1) in the free phase: h_1 (1 − μ q) = 0, or all of a line.
    bent = weights | {"Q": (6.0 * one,)}
    target = Target("fixed", value=zero)
    found = System(moving, network, bent, moving.drive(network, bent, zero, target))
    several = fixed_points.search(found, starts)

    def balance(h2):  # the two equations with h_1 eliminated
        return 0.6 * np.tanh(0.4 * 6.0 * np.arctanh(h2)) - h2

    grid = np.linspace(-0.999, 0.999, 200001)
    crossings = int(np.sum(np.diff(np.sign(balance(grid[1:-1]))) != 0))
    assert crossings == 3 == len(several.states)
    np.testing.assert_allclose([balance(s[0]) for s in several.states], 0, atol=1e-9)


def test_phases_settle_where_the_equations_say():
    found, y = system((4, 6, 6, 6), LeakyReLU(0.5), mixture(0.1), noise=0.02)
    kinds = ["following", "frozen", "clamped"]
    rests = eqx.filter_jit(fixed_points.phases)(found, STEP, y, kinds)
    for kind, (drive, place) in rests.items():
        assert bool(place.settled), kind
        velocity = field(found.dynamics, found.network, found.weights, drive, place.state)
        assert float(jnp.abs(ravel_pytree(velocity)[0]).max()) < 1e-11 / TAU
    drive, place = rests["clamped"]
    (output,), (free,) = (rests[kind][1].state["output.soma"] for kind in ("clamped", "none"))
    assert float(jnp.abs(output - free).max()) > 1e-3
    # From other starts too, by another method.
    drive = found._replace(drive=drive)
    starts = fixed_points.starts(drive, 8, 2.0, jax.random.key(0))
    again = fixed_points.search(drive, starts)
    assert again.counts == (8,)
    np.testing.assert_allclose(again.states[0], ravel_pytree(place.state)[0], atol=1e-10)


# --- signals ------------------------------------------------------------------------------------


def signals(found, y, phases):
    """The learning signal of a sample, and the readouts it comes from."""
    kind = "following" if phases == 1 else "frozen"
    rests = eqx.filter_jit(fixed_points.phases)(found, STEP, y, [kind])
    moving, network, weights, _ = found
    free, now = (
        moving.read(network, weights, rests[k][0], rests[k][1].state) for k in ("none", kind)
    )
    free = None if phases == 1 else free
    return taught(found, now, free), now, free


def parts_of(found, y, now, free=None):
    """What the signals of these readouts are made of."""
    moving, network, weights, _ = found
    now, free = (None if of is None else moving.layers(network, of) for of in (now, free))
    return attribution(moving, network, moving.chain(weights), now, free, y, STEP)


def multiplexing_in_one_phase(sizes):
    """Plain target propagation: bursts against events [T 6.57]."""
    post = "slope(basal)*(burst_signal - event_rate)"
    changes = {"layers": list(sizes), "projections.W.post": post}
    changes |= {"parameters.tau_basal": TAU, "parameters.tau_apical": TAU}
    return assembly.dynamics(load_model("multiplexing", changes)).with_layers()


@pytest.mark.parametrize(
    "family", [mixture(0.1, "mixture"), multiplexing_in_one_phase], ids=["mix", "mux"]
)
def test_parts_of_a_linear_single_phase_signal_are_exact(family):
    """T 6.22 and 6.57 without higher orders: target propagation and reconstruction are all of it.

    Feedback with 10 % noise. Where signals multiplex, e^rec is that of plain target propagation.
    """
    found, y = system((5, 5, 5, 5, 5), Linear(), family, noise=0.1, init="orthogonal")
    signal, now, _ = signals(found, y, 1)
    parts = parts_of(found, y, now)
    for i, (whole, tp, rec) in enumerate(zip(signal, parts["tp"], parts["rec"], strict=True)):
        left = float(jnp.linalg.norm(whole - tp - rec))
        assert left < 1e-10 * float(jnp.linalg.norm(whole))
        if i < 3:
            assert float(jnp.linalg.norm(rec)) > 0.1 * float(jnp.linalg.norm(tp))
    np.testing.assert_allclose(parts["tp"][-1], parts["gn"][-1], rtol=1e-12)
    np.testing.assert_allclose(parts["tp"][-1], parts["bp"][-1], rtol=1e-12)


def test_parts_with_exact_inverses_are_gauss_newton():
    """e^TP = e^GN and no reconstruction error, for leaky units; the error law in other words."""
    one_phase = mixture(0.1, "mixture")
    found, y = system((5, 5, 5, 5), LeakyReLU(0.5), one_phase, init="orthogonal")
    signal, now, _ = signals(found, y, 1)
    parts = parts_of(found, y, now)
    law = -STEP * HALF.error(now.rate[-1], y)
    slope = found.dynamics.layers(found.network, now).slope
    for i in (3, 2, 1):
        scale = (0.1 / 0.9) ** (4 - i)
        for other in (signal, parts["tp"], parts["gn"]):
            np.testing.assert_allclose(other[i - 1], scale * law, rtol=1e-7, atol=1e-16)
        assert float(jnp.linalg.norm(parts["rec"][i - 1])) < 1e-15
        law = jnp.linalg.solve(found.weights["W"][i - 1], law / slope[i - 1])


def test_reconstruction_errors_of_two_phases_cancel():
    found, y = system((5, 5, 5, 5), LeakyReLU(0.5), mixture(0.1), noise=0.1)
    signal, now, free = signals(found, y, 2)
    parts, single = parts_of(found, y, now, free), parts_of(found, y, now)
    for both, one in zip(parts["rec"][:-1], single["rec"][:-1], strict=True):
        assert float(jnp.linalg.norm(both)) < 0.02 * float(jnp.linalg.norm(one))
    assert float(angle(signal[0], parts["tp"][0])) < 20


def test_small_angles_are_told_apart():
    a, b = jnp.array([1.0, 0.0]), jnp.array([1.0, 1e-9])
    assert float(angle(a, b)) == pytest.approx(np.degrees(1e-9))
    assert float(angle(a, -a)) == 180 and np.isnan(angle(a, 0 * a))


# --- noise --------------------------------------------------------------------------------------


def test_covariance_of_a_lone_compartment_is_that_of_its_process():
    """One layer, to which nothing comes back: σ² I; the mean over a window in closed form."""
    noisy = partial(dynamics, FEEDFORWARD, tau_basal=TAU, noise={"basal": 0.3})
    found, _ = system((3, 4), Linear(), noisy, "clamped")
    state = rest(found.dynamics, found.network, jnp.float64)
    P = signal_to_noise.covariance(found, state)
    np.testing.assert_allclose(P, 0.09 * np.eye(4), atol=1e-12)
    window, J = 0.1, np.asarray(linearisation.jacobian(found, state))
    x = window / TAU  # of an Ornstein–Uhlenbeck process: 2σ²(x − 1 + e^{−x})/x²
    expected = 2 * 0.09 * (x - 1 + np.exp(-x)) / x**2
    np.testing.assert_allclose(
        signal_to_noise.averaged(J, P, window), expected * np.eye(4), atol=1e-12
    )


@pytest.mark.parametrize("model", ["mixture", "mixture-two-phase"])
def test_noise_of_the_learning_signal_is_what_simulations_show(model):
    """Linear mixture, noisy somata: deviation over 4000 samples within 5 % of Lyapunov's."""
    noisy = mixture(0.2, model, noise={"soma": 0.05})
    found, y = system((3, 3, 3), Linear(), noisy, init="orthogonal")
    signal, now, free = signals(found, y, 1 if model == "mixture" else 2)
    kind = "following" if free is None else "frozen"
    rests = eqx.filter_jit(fixed_points.phases)(found, STEP, y, [kind])
    kinds = [kind] if free is None else ["none", kind]
    phases = [(found._replace(drive=rests[k][0]), rests[k][1].state) for k in kinds]
    before = {} if free is None else {"free": free}
    names = [None] if free is None else ["free", None]
    readings = [signal_to_noise.OfPhases(name, now, before) for name in names]
    read = [(*phase, reading) for phase, reading in zip(phases, readings, strict=True)]
    ratios = signal_to_noise.learning_signal(read, signal)
    level = Rate("heun", TAU / 20, False, 1e-6, 1e-9, 1e-3)

    @jax.jit
    def sample(key):
        seen = []
        for k, (phase, start) in enumerate(phases):
            problem = Problem(*phase, STEP, y)
            span = Span(5 * TAU, False, jax.random.fold_in(key, k))
            state, _, _ = level.settle(problem, start, span)
            seen.append(found.dynamics.read(*phase[1:], state))
        return taught(found, seen[-1], None if free is None else seen[0])

    drawn = jax.vmap(sample)(jax.random.split(jax.random.key(1), 4000))
    for layer, ratio in zip(drawn, ratios, strict=True):
        deviation = np.sqrt(np.sum(np.var(np.asarray(layer), axis=0)))
        assert deviation == pytest.approx(ratio.noise, rel=0.05)
    assert [r.snr for r in ratios] == pytest.approx(
        [float(jnp.linalg.norm(s) / r.noise) ** 2 for s, r in zip(signal, ratios, strict=True)]
    )


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
    lower, upper = state["pyramidal.soma"]
    first = stability.bearings(network, ways, read(state | {"pyramidal.soma": (lower, -upper)}))[0]
    assert first.straddling == 5 and first.gain <= 1 / 0.25 + 1e-9


def test_kink_gain_is_where_a_chain_of_straddling_units_turns_unstable():
    """−I + (1−μ) F + μ G with loop gains 1/α: the largest eigenvalue crosses zero at gain 1."""
    depth, slope = 5, 0.3
    for mu in (0.05, 0.08, 0.1, 0.2):
        matrix = -np.eye(depth) + np.diag(np.full(depth - 1, 1 - mu), -1)
        matrix += np.diag(np.full(depth - 1, mu / slope), 1)
        unstable = np.linalg.eigvals(matrix).real.max() > 0
        assert unstable == (kink_gain(mu, slope, depth) > 1)


# --- recorded -----------------------------------------------------------------------------------


def test_signals_of_phases_are_taken_apart_in_every_presentation(tmp_path):
    """What a run records of its first presentation is what the decomposition says of its batch."""
    small = {"task.train": 64, "task.test": 10, "stages.0.epochs": 1, "record.decomposition": True}
    small |= {"record.presentations": 0, "equilibrium.tolerance": 1e-9}
    found = {}
    for name in ("student-teacher", "mixture-single-phase"):
        protocol = ns.load_protocol(name, small)
        run = ns.run(protocol, level="equilibrium", out=tmp_path / f"{name}.h5")
        trace = ns.open_trace(run.path)
        found[name] = {key: trace[f"metrics/{key}"].values for key in measured(True)}
        assert trace["metrics/cosine_tp"].shape == (2, 2)
    both, single = found.values()
    for parts in found.values():
        assert all(np.isfinite(values).all() for values in parts.values())
        np.testing.assert_allclose(parts["norm_gn"][0], parts["norm_tp"][0], rtol=1e-6)
        np.testing.assert_allclose(parts["cosine_gn"][0], parts["cosine_tp"][0], rtol=1e-6)
        np.testing.assert_allclose(parts["norm_rec"][:, 1], 0, atol=1e-12)
    # Tied inverses stay exact, so that one phase keeps clean; learned ones do not, two phases do.
    np.testing.assert_allclose(single["cosine_tp"], 1, atol=1e-6)
    assert single["norm_rec"].max() < 1e-9 < both["norm_rec"][1, 0]
    assert both["cosine_tp"].min() > 0.99
    analysis = ns.analyze(ns.load_protocol("student-teacher", small), starts=0)
    assert analysis.signals[0].to_tp < 1


def test_spikes_and_online_plasticity_have_no_fixed_points_to_take_apart():
    with pytest.raises(ns.InputError, match=r"decomposition: takes signals apart at the fixed"):
        ns.load_protocol("online-plasticity", {"record.decomposition": True})
