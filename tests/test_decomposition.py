"""Learning signals taken apart, and their noise; against closed forms and simulations."""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from chains import FEEDFORWARD, dynamics
from theory_systems import (
    HALF,
    STEP,
    TAU,
    mixture,
    system,
    taught,
)

import neurosim as ns
from neurosim.building import assembly
from neurosim.building.loading import load_model
from neurosim.functions.activations import LeakyReLU, Linear
from neurosim.levels.rate import Rate
from neurosim.levels.settling import Problem, Span
from neurosim.networks.dynamics import rest
from neurosim.theory import fixed_points, linearisation, signal_to_noise
from neurosim.theory.decomposition import attribution
from neurosim.theory.diagnosis import angle
from neurosim.theory.measures import measured

pytestmark = pytest.mark.usefixtures("double_precision")


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


@pytest.mark.parametrize(
    "model",
    ["mixture", pytest.param("mixture-two-phase", marks=[pytest.mark.long, pytest.mark.seldom])],
)
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


# --- recorded -----------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.seldom
def test_signals_of_phases_are_taken_apart_in_every_presentation(tmp_path):
    """What a run records of its first presentation is what the decomposition says of its batch."""
    small = {"task.train": 64, "task.test": 10, "stages.0.epochs": 1, "record.decomposition": True}
    small |= {"record.presentations": 0, "equilibrium.tolerance": 1e-9}
    small |= {"equilibrium.max_newton": 0}
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
