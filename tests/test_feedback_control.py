"""Deep feedback control (Meulemans et al. 2021): where it rests, its stability, what Q learns."""

import itertools
from pathlib import Path

import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import solve_continuous_lyapunov
from test_circuits import settled

import neurosim as ns
from neurosim.building import assembly
from neurosim.building.loading import load_model
from neurosim.circuits.populations import Group
from neurosim.networks.dynamics import Target
from neurosim.theory.linearisation import System, jacobian

SIZES = [6, 5, 4, 3]
HIDDEN = [Group("pyramidal", 1), Group("pyramidal", 2)]
OUTPUT, CONTROLLER = Group("output", 3), Group("controller", 3)
GIVEN = {
    "layers": SIZES,
    "output": "linear",
    "loss": "half-squared",
    "projections.Q": {"init": "normal", "gain": 0.5, "rate": 1.0},
    "projections.D.rate": 1.0,
}


@pytest.fixture(autouse=True)
def double_precision():
    with jax.enable_x64(True):
        yield


def net(activation, feedback=None, **parameters):
    """(spec, weights, input, J as a function of what is added to all somata), at a free phase.

    feedback: J → Q of all layers, one below the other.
    """
    changes = GIVEN | {"activation": activation}
    changes |= {f"parameters.{name}": value for name, value in parameters.items()}
    spec = load_model("feedback-control", changes)
    own = assembly.weights(spec, 0, None, Path())
    W, s = own["W"], assembly.network(spec).s
    x = jnp.asarray(np.random.default_rng(0).standard_normal(SIZES[0]))

    def answer(pushed):
        h = s(1, W[0] @ x + pushed[:5])
        h = s(2, W[1] @ h + pushed[5:9])
        return W[2] @ h + pushed[9:]

    J = jax.jacobian(answer)(jnp.zeros(12))
    if feedback is not None:
        Q = feedback(J)
        own = own | {"Q": (Q[:5], Q[5:9]), "D": (Q[9:],)}
    return spec, own, x, answer(jnp.zeros(12)), J


def whole(own):
    """Q of all layers, one below the other."""
    return jnp.concatenate([*own["Q"], *own["D"]])


def controlled(spec, own, x, target):
    """(u*, v^A of all layers, what was found) at rest."""
    # The residual of u is that of the error over the leak, and so is what rounding leaves of it.
    tolerance = max(1e-13, 1e-14 / spec.parameters["leak"])
    now, report = settled(spec, own, x, Target("fixed", value=target), tolerance)
    apical = jnp.concatenate([now(group, "apical") for group in (*HIDDEN, OUTPUT)])
    return now(CONTROLLER, "u"), apical, now, report


def off(found, expected):
    return float(jnp.linalg.norm(found - expected) / jnp.linalg.norm(expected))


DELTA = jnp.asarray([0.3, -0.2, 0.5])

# ------------------------------------------------------------------------------------- at rest


@pytest.mark.parametrize("proportion", [0.0, 0.5])
def test_a_linear_network_rests_where_the_theory_says(proportion):
    """u* = (J Q + αI)⁻¹ δ and Δv = Q u* for any target; k_p moves neither."""
    spec, own, x, free, J = net("linear", leak=0.1, proportion=proportion)
    u, apical, now, report = controlled(spec, own, x, free + 5 * DELTA)
    Q = whole(own)
    expected = jnp.linalg.solve(J @ Q + 0.1 * jnp.eye(3), 5 * DELTA)
    np.testing.assert_allclose(u, expected, rtol=1e-10)
    np.testing.assert_allclose(apical, Q @ expected, rtol=1e-10)
    np.testing.assert_allclose(now(OUTPUT, "rate"), free + 5 * DELTA - 0.1 * u, rtol=1e-10)
    # Newton finds the integral; what is in proportion lags a step: the error falls by about α k_p.
    assert report.effort <= (2 if proportion == 0 else 16)


def test_of_tanh_it_is_so_to_first_order_in_the_target():
    spec, own, x, free, J = net("tanh", leak=0.1)
    Q, deviations = whole(own), []
    for size in (1e-2, 1e-3, 1e-4):
        u, apical, _, _ = controlled(spec, own, x, free + size * DELTA)
        expected = jnp.linalg.solve(J @ Q + 0.1 * jnp.eye(3), size * DELTA)
        deviations.append(max(off(u, expected), off(apical, Q @ expected)))
    assert deviations[0] < 0.05
    np.testing.assert_allclose(np.divide(deviations[:-1], deviations[1:]), 10, rtol=0.1)


def test_without_a_target_the_controller_is_silent():
    """The network is then its forward pass, to rounding, whatever Q and k_p are."""
    spec, own, x, free, _ = net("tanh")
    now, _ = settled(spec, own, x, Target("none"))
    assert all(jnp.abs(now(group, "apical")).max() == 0 for group in (*HIDDEN, OUTPUT))
    np.testing.assert_allclose(now(OUTPUT, "rate"), free, rtol=1e-14)


def test_feedback_in_the_row_space_of_J_makes_gauss_newton_steps():
    """Q = Jᵀ M: Δv → J^† δ as α → 0, from which it is off by the order of α, and else not."""
    M = jnp.asarray(np.random.default_rng(1).standard_normal((3, 3))) + 2 * jnp.eye(3)
    deviations = []
    for leak in (1e-3, 1e-4, 1e-5):
        spec, own, x, free, J = net("linear", lambda J: J.T @ M, leak=leak)
        assert np.linalg.eigvals(J @ J.T @ M).real.min() > 0
        _, apical, _, _ = controlled(spec, own, x, free + DELTA)
        deviations.append(off(apical, jnp.linalg.pinv(J) @ DELTA))
    assert deviations[-1] < 1e-4
    np.testing.assert_allclose(np.divide(deviations[:-1], deviations[1:]), 10, rtol=0.05)
    spec, own, x, free, J = net("linear", leak=1e-5)  # a Q at random reaches the target otherwise
    _, apical, now, _ = controlled(spec, own, x, free + DELTA)
    np.testing.assert_allclose(now(OUTPUT, "rate"), free + DELTA, atol=1e-4)
    assert off(apical, jnp.linalg.pinv(J) @ DELTA) > 0.1


def test_of_tanh_gauss_newton_is_the_limit_of_small_targets():
    spec, own, x, free, J = net("tanh", lambda J: J.T, leak=1e-6)
    deviations = [
        off(
            controlled(spec, own, x, free + size * DELTA)[1],
            size * jnp.linalg.pinv(J) @ DELTA,
        )
        for size in (1e-2, 1e-3)
    ]
    assert deviations[0] < 0.05
    assert deviations[0] / deviations[1] == pytest.approx(10, rel=0.1)


# ----------------------------------------------------------------------------------- stability


def turned(angle):
    """A rotation by an angle in a plane of controllers."""
    c, s = np.cos(angle), np.sin(angle)
    return jnp.asarray([[c, -s, 0], [s, c, 0], [0, 0, 1]])


@pytest.mark.parametrize("activation", ["linear", "tanh"])
@pytest.mark.parametrize("angle", [0.3, 1.4, 1.7, 2.5])
def test_stability_follows_the_eigenvalues_of_JQ_and_the_leak(activation, angle):
    """Slow modes are −(J Q + αI)/τ_u, to first order in the time constants of neurons over τ_u.

    Q = J^† R with a rotation R: the eigenvalues are e^{±iφ} + α and 1 + α, on both sides of 0.
    """
    deviations = []
    for tau in (10.0, 100.0):
        times = {"tau_soma": 0.01, "tau_apical": 0.01, "tau_control": tau}
        given = times | {"leak": 0.1, "proportion": 0.0}
        made = net(activation, lambda J: jnp.linalg.pinv(J) @ turned(angle), **given)
        spec, own, x, free, J = made
        dynamics, network = assembly.dynamics(spec), assembly.network(spec)
        target = Target("fixed", value=free)
        now, _ = settled(spec, own, x, target)
        system = System(dynamics, network, own, dynamics.drive(network, own, x, target))
        found = np.linalg.eigvals(jacobian(system, now.state))
        slow = np.sort_complex(found[np.argsort(np.abs(found))[:3]] * tau)
        expected = np.sort_complex(-np.linalg.eigvals(J @ whole(own) + 0.1 * np.eye(3)))
        deviations.append(np.abs(slow - expected).max())
        assert (found.real.max() < 0) == (expected.real.max() < 0) == (np.cos(angle) > -0.1)
    assert deviations[0] < 0.01
    assert deviations[0] / deviations[1] == pytest.approx(10, rel=0.2)


# ------------------------------------------------------------------------- feedback that learns

PROTOCOL = """
name = "noise"
level = "equilibrium"
precision = "float64"
batch = 2000
[model]
use = "feedback-control"
layers = [6, 5, 4, 3]
activation = "linear"
output = "linear"
loss = "half-squared"
parameters.leak = 0.3
projections.Q = { init = "normal", gain = 0.5, rate = 1.0, decay = 0.0 }
projections.D = { rate = 1.0, decay = 0.0 }
[task]
name = "student-teacher"
layers = [6, 5, 4, 3]
train = 2000
test = 10
[[stages]]
name = "training"
presentations = 1
[[stages.phases]]
name = "free"
duration = "1 s"
[[stages.phases]]
name = "noise"
duration = "1 s"
teaching = "held"
plastic = ["Q", "D"]
parameters.draw = { mean = 0.0, spread = 1.0 }
[record]
presentations = [0]
samples = 200
[rate]
dt = "5 ms"
[equilibrium]
max_newton = 0  # the root solver takes longest to compile; it has tests of its own
"""


@pytest.fixture
def noisy(tmp_path):
    def made(**changes):
        (tmp_path / "noise.toml").write_text(PROTOCOL, encoding="utf-8")
        return ns.load_protocol(tmp_path / "noise.toml", changes)

    return made


def weights(run, moment):
    """(J, Q of all layers) of a linear network."""
    with h5py.File(run.path) as file:
        of = {name: file[f"weights/{name}"][moment] for name in file["weights"] if name[1:] > ""}
    J = np.concatenate([of["W3"] @ of["W2"], of["W3"], np.eye(3)], axis=1)
    return J, np.concatenate([of["Q1"], of["Q2"], of["D3"]])


@pytest.mark.long
@pytest.mark.seldom
def test_what_Q_learns_is_what_the_theory_expects(noisy, tmp_path):
    """⟨−v^A uᵀ⟩/σ² = (I − Q A⁻¹ J) Jᵀ A⁻ᵀ with A = J Q + αI, to the scatter of 2000 samples.

    Of v^A = Q u + σξ and u = −A⁻¹ J σξ, the controller working against what noise does.
    """
    run = ns.run(noisy(), out=tmp_path / "noise.h5")
    (J, before), (_, after) = weights(run, 0), weights(run, -1)
    A = J @ before + 0.3 * np.eye(3)
    back = np.linalg.solve(A, J)
    expected = (np.eye(12) - before @ back) @ back.T
    learned = after - before
    scatter = np.sqrt(np.trace(np.eye(12)) * np.trace(back @ back.T) / 2000)
    assert np.linalg.norm(learned - expected) < 3 * scatter < np.linalg.norm(expected) / 2


def noise(run):
    """What cells of layer 1 drew, over σ: (presentation, sample, unit)."""
    with h5py.File(run.path) as file:
        free, drawn = np.moveaxis(file["traces/layer1/noise"][()], 2, 0)
    assert np.abs(free).max() == 0
    return drawn / 0.1


@pytest.mark.long
@pytest.mark.seldom
def test_every_cell_and_sample_draws_for_itself(noisy, tmp_path):
    """Standard normal numbers, of every presentation others."""
    given = {"stages.0.presentations": 2, "record.presentations": [0, 1], "shuffle": False}
    values = noise(ns.run(noisy(**given), out=tmp_path / "draws.h5"))
    assert values.shape == (2, 200, 5)
    assert len(np.unique(values)) == values.size
    assert values.mean() == pytest.approx(0, abs=4 / np.sqrt(values.size))
    assert values.std() == pytest.approx(1, abs=4 / np.sqrt(2 * values.size))


@pytest.mark.seldom
@pytest.mark.long
def test_draws_are_those_of_the_sample_and_held_in_time(noisy, tmp_path):
    """Whatever its batch-mates; as rates the same all through the phase."""
    given = {"shuffle": False, "record.every": "100 ms", "level": "rate"}
    one = ns.run(noisy(**given), out=tmp_path / "one.h5")
    other = ns.run(noisy(**given | {"batch": 500}), out=tmp_path / "other.h5")
    with h5py.File(one.path) as file, h5py.File(other.path) as half:
        drawn = file["traces/layer1/noise"][0][:, file["traces/phase_at"][0] == 1][:, 1:]
        np.testing.assert_array_equal(drawn, drawn[:, :1].repeat(drawn.shape[1], 1))
        assert drawn.shape[1] > 1
        np.testing.assert_array_equal(half["traces/layer1/noise"][0, :, -1], drawn[:, -1])


@pytest.mark.parametrize(("mean", "spread"), [(0.5, 1.0), (-0.5, 1.0), (2.0, 0.0)])
@pytest.mark.long
def test_draws_are_of_the_sign_of_their_mean(noisy, tmp_path, mean, spread):
    draws = {"stages.0.phases.1.parameters.draw": {"mean": mean, "spread": spread}}
    run = ns.run(noisy(**draws), out=tmp_path / "signs.h5")
    values = noise(run)
    assert (np.sign(values) == np.sign(mean)).all()
    if not spread:
        np.testing.assert_allclose(values, mean, rtol=1e-14)


@pytest.mark.long
@pytest.mark.seldom
def test_feedback_of_nothing_learns_the_row_space_of_J(noisy, tmp_path):
    """From Q = 0, by noise alone: Q = Jᵀ M, so that control makes Gauss–Newton steps."""
    given = {"stages.0.presentations": 100, "record.presentations": 0, "batch": 200}
    learns = {"init": "zeros", "rate": 0.1, "decay": 0.3}
    given |= {"model.projections.Q": learns, "model.projections.D": learns | {"init": "identity"}}
    run = ns.run(noisy(**given), out=tmp_path / "learned.h5")
    J, Q = weights(run, -1)
    outside = Q - np.linalg.pinv(J) @ J @ Q
    assert np.linalg.norm(outside) < 0.1 * np.linalg.norm(Q)
    assert np.linalg.eigvals(J @ Q).real.min() > 0
    at_first = weights(run, 0)[1]  # the output alone is reached
    outside = at_first - np.linalg.pinv(J) @ J @ at_first
    assert np.linalg.norm(outside) > 0.3 * np.linalg.norm(at_first)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"level": "spiking"}, "not to spikes; give one number"),
        (
            {"plasticity": "online", "model.projections.W.rate": "0.1 Hz"},
            "not to weights that flow; give one number",
        ),
        (
            {"model.projections.Q.post": "-apical*draw"},
            "the rule of Q, which is open, names it, but sees no draws",
        ),
        (
            {
                "stages.0.phases": [
                    {"name": "free"},
                    {"name": "noise", "parameters": {"draw": {"file": "a.npz"}}},
                ]
            },
            "a phase draws values; expected mean and spread",
        ),
        (
            {"stages.0.phases.0.teaching": "held"},
            "'held' holds the output at the end of a free phase .*; put one before",
        ),
    ],
)
def test_draws_and_held_outputs_that_cannot_be_are_refused(noisy, changes, said):
    with pytest.raises(ns.InputError, match=said):
        noisy(**changes)


# ------------------------------------------------------------------------------ in a single phase

SINGLE = """
name = "single"
level = "rate"
precision = "float64"
plasticity = "online"
batch = 400
[model]
use = "feedback-control-single-phase"
layers = [6, 5, 4, 3]
activation = "linear"
parameters = { leak = 0.3, proportion = 0.5, sigma = 0.3 }
projections.W = { rate = "0 Hz", gain = 0.7 }
projections.Q = { init = "normal", gain = 0.3, rate = "1e-6 Hz", decay = 0.0 }
projections.D = { rate = "1e-6 Hz", decay = 0.0 }
[task]
name = "student-teacher"
layers = [6, 5, 4, 3]
train = 400
test = 10
[[stages]]
name = "training"
presentations = 1
[[stages.phases]]
name = "onset"
duration = "3 s"
until = "duration"
teaching = "clamped"
[[stages.phases]]
name = "controlled"
duration = "2 s"
until = "duration"
teaching = "clamped"
plastic = ["Q", "D"]
[record]
presentations = [0]
samples = 1
every = "1 s"
[rate]
scheme = "heun"
dt = "1 ms"
"""


@pytest.mark.long
@pytest.mark.seldom
def test_in_a_single_phase_feedback_learns_from_the_covariance_of_noise(tmp_path):
    """dQ/dt = −⟨v^A (u − ū)ᵀ⟩/σ², the covariance that a Lyapunov equation gives, whatever u is."""
    (tmp_path / "single.toml").write_text(SINGLE, encoding="utf-8")
    run = ns.run(ns.load_protocol(tmp_path / "single.toml"), out=tmp_path / "single.h5")
    with h5py.File(run.path) as file:
        of = {name: array[()] for name, array in file["weights"].items()}
    W, Q = ([of[f"W{i}"][0] for i in (1, 2, 3)], [of["Q1"][0], of["Q2"][0], of["D3"][0]])
    sizes = (5, 4, 3, 5, 4, 3, 3, 3)  # apical, soma of all layers, integral, slow
    ends = np.cumsum((0, *sizes))
    a1, a2, a3, v1, v2, v3, integral, slow = (
        np.eye(sum(sizes))[begin:end] for begin, end in itertools.pairwise(ends)
    )
    u = integral - 0.5 * v3  # of deviations: e = −v_L
    rows = [(q @ u - a) / 0.01 for q, a in zip(Q, (a1, a2, a3), strict=True)]
    rows += [(a1 - v1) / 0.01, (W[1] @ v1 + a2 - v2) / 0.01, (W[2] @ v2 + a3 - v3) / 0.01]
    rows += [(-v3 - 0.3 * u) / 0.1, (u - slow) / 0.02]
    system, spread = np.concatenate(rows), np.zeros(sum(sizes))
    spread[:12] = 2 * 0.3**2 / 0.01
    assert np.linalg.eigvals(system).real.max() < 0
    covariance = solve_continuous_lyapunov(system, -np.diag(spread))
    drift = -np.concatenate([a1, a2, a3]) @ covariance @ (u - slow).T / 0.3**2
    learned = np.concatenate([of[n][-1] - of[n][0] for n in ("Q1", "Q2", "D3")]) / 2e-6
    assert np.linalg.norm(learned - drift) < 0.05 * np.linalg.norm(drift)
