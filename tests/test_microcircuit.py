"""The dendritic error microcircuit: closed forms of its self-predicting state and of its errors.

Sacramento, Costa, Bengio & Senn 2018.
"""

import signal
from importlib import import_module
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_circuits import settled
from tiny_runs import same

import neurosim as ns
from neurosim.building import assembly
from neurosim.building.loading import load_model
from neurosim.circuits.populations import Group
from neurosim.errors import StoppedError
from neurosim.networks.dynamics import Target

SIZES = [5, 6, 4, 3]
LAYERS = range(1, len(SIZES))
LABEL = jnp.asarray([2.0, 0.0, -1.0])
STRENGTHS = (1e-2, 1e-3, 1e-4)
"""Of nudging, λ: the share of the target in the output's soma."""


@pytest.fixture(
    params=["microcircuit", pytest.param("microcircuit-original", marks=pytest.mark.long)]
)
def made(request):
    """A model of either scale with small layers, its weights and conductances, and an input."""

    def of(**changes):
        spec = load_model(request.param, {"layers": SIZES} | changes)
        x = jnp.asarray(np.random.default_rng(0).standard_normal(SIZES[0]))
        return spec, assembly.weights(spec, 0, None, Path()), spec.parameters, x

    return of


@pytest.fixture
def double_precision():
    with jax.enable_x64(True):
        yield


def nudging(p, strength):
    """The conductance with which the target has this share of the output's soma."""
    return strength * (p["g_l"] + p["g_b"]) / (1 - strength)


def taught(spec, own, x, strength):
    """A look at the nudged state."""
    conductance = nudging(spec.parameters, strength)
    return settled(spec, own, x, Target("fixed", value=LABEL), nudging=conductance)[0]


def fall(deviations):
    """By how much the deviation shrinks when nudging does so tenfold."""
    assert deviations[0] < 0.1
    return np.divide(deviations[:-1], deviations[1:])


def apart(a, b):
    return float(jnp.linalg.norm(a - b) / jnp.linalg.norm(b))


@pytest.mark.usefixtures("double_precision")
def test_self_predicting_dendrites_are_silent(made):
    """Untaught: no apical potential, interneurons as the cells they mirror, a feed-forward pass."""
    spec, own, p, x = made()
    free, _ = settled(spec, own, x, Target("none"))
    soma, rate = [], x
    for layer in LAYERS:
        last = layer == LAYERS[-1]
        gain = p["g_b"] / (p["g_l"] + p["g_b"] + (0 if last else p["g_a"]))
        soma.append(gain * own["W"][layer - 1] @ rate)
        rate = jax.nn.softplus(soma[-1])
        place = Group("output" if last else "pyramidal", layer)
        np.testing.assert_allclose(free(place, "soma"), soma[-1], rtol=0, atol=1e-13)
        if not last:
            assert jnp.abs(free(place, "apical")).max() < 1e-13
        if layer > 1:
            mirror = free(Group("interneuron", layer - 1), "soma")
            np.testing.assert_allclose(mirror, soma[-1], rtol=0, atol=1e-13)


@pytest.mark.usefixtures("double_precision")
def test_nudged_dendrites_speak_the_error_of_the_layer_above(made):
    """B s'(v̂)(1 − λ_I)(u − v̂), v̂ the output's dendritic prediction; off by a part linear in λ."""
    spec, own, p, x = made()
    net, answer = assembly.network(spec), Group("output", LAYERS[-1])
    share, deviations = p["g_s"] / (p["g_l"] + p["g_d"] + p["g_s"]), []
    for strength in STRENGTHS:
        now = taught(spec, own, x, strength)
        predicted = p["g_b"] / (p["g_l"] + p["g_b"]) * now(answer, "basal")
        error = net.slope(LAYERS[-1], predicted) * (1 - share) * (now(answer, "soma") - predicted)
        apical = now(Group("pyramidal", LAYERS[-1] - 1), "apical")
        deviations.append(apart(apical, own["B"][-1] @ error))
    np.testing.assert_allclose(fall(deviations), 10, rtol=0.1)


@pytest.mark.usefixtures("double_precision")
def test_through_transposes_apical_potentials_are_gradients(made):
    """Of ½‖u_L − y‖², by the rates of every hidden layer, where the output is linear.

    A layer further down, another (1 − λ_I) λ_A stands before them.
    """
    tied = {"init": "transpose(W[i+1])*g_b/(g_l + g_b + g_a*int(i < L - 1))"}
    tied["wire"] = "rate[i+1] -> feedback[i]"
    spec, own, p, x = made(output_activation="linear", **{"projections.B": tied})
    gains = [p["g_b"] / (p["g_l"] + p["g_b"] + (p["g_a"] if k < 3 else 0)) for k in LAYERS]

    def loss(pushed):
        rate = x
        for k, (gain, W, push) in enumerate(zip(gains, own["W"], pushed, strict=True)):
            soma = gain * W @ rate
            rate = soma if k == 2 else jax.nn.softplus(soma) + push
        return 0.5 * jnp.sum((rate - LABEL) ** 2)

    gradient = jax.grad(loss)([jnp.zeros(n) for n in SIZES[1:]])
    unheard = 1 - p["g_s"] / (p["g_l"] + p["g_d"] + p["g_s"])
    down = p["g_a"] / (p["g_l"] + p["g_b"] + p["g_a"])
    for layer, factor in ((2, unheard), (1, unheard**2 * down)):
        deviations = []
        for strength in STRENGTHS:
            apical = taught(spec, own, x, strength)(Group("pyramidal", layer), "apical")
            deviations.append(apart(apical, -strength * factor * gradient[layer - 1]))
        np.testing.assert_allclose(fall(deviations), 10, rtol=0.1)


TEACHING = """
name = "teaching"
level = "equilibrium"
precision = "float64"
batch = 5
[model]
use = "microcircuit"
layers = [5, 6, 4, 3]
[task]
name = "student-teacher"
layers = [5, 4, 3]
train = 5
test = 5
[[stages]]
name = "training"
presentations = 1
[[stages.phases]]
name = "taught"
teaching = "clamped"
plastic = ["W", "I"]
[equilibrium]
tolerance = 1e-9
max_newton = 0
"""


@pytest.mark.long
def test_interneurons_move_as_the_layer_above_does(tmp_path):
    """With keep = 1, ΔI is what the closed form makes of ΔW, but for a part linear in λ."""
    (tmp_path / "teaching.toml").write_text(TEACHING)
    p = load_model("microcircuit").parameters

    def gaps(strength):
        """Of every layer of interneurons, after one presentation."""
        changes = {"model.parameters.nudging": f"{nudging(p, strength)} Hz"}
        protocol = ns.load_protocol(tmp_path / "teaching.toml", changes)
        run = ns.run(protocol, out=tmp_path / "run.h5", force=True)
        weights = ns.open_trace(run.path)["weights"]
        found = []
        for layer in (1, 2):
            g_a = p["g_a"] if layer == 1 else 0
            like = p["g_b"] * (p["g_l"] + p["g_d"]) / (p["g_d"] * (p["g_l"] + p["g_b"] + g_a))
            mirror, above = weights[f"I{layer}"].values, weights[f"W{layer + 1}"].values
            found.append(apart(mirror[1] - mirror[0], like * (above[1] - above[0])))
        return found

    small, smaller = gaps(1e-2), gaps(1e-3)
    assert max(small) < 0.05
    np.testing.assert_allclose(np.divide(small, smaller), 10, rtol=0.15)


@pytest.mark.long
@pytest.mark.seldom
def test_the_study_goes_on_with_what_was_killed_and_reads_what_is_complete(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "studies"))
    monkeypatch.setattr(import_module("neurosim.runs.loop"), "CHUNK_SECONDS", 0.0)
    final = import_module("microcircuit_learning").final
    given = {"record.presentations": 0, "stages.0.epochs": 2}
    protocol = ns.load_protocol("microcircuit-bars", given)

    def errors(name):
        return final("microcircuit-bars", given, range(2), tmp_path / name, "cpu", keep=True)

    def stop(progress):
        if progress.done >= 3:
            signal.raise_signal(signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        with pytest.raises(StoppedError):
            ns.run(protocol, seeds=range(2), out=tmp_path / "parts.h5", progress=stop)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert errors("parts.h5") == errors("whole.h5")
    same(tmp_path / "whole.h5", tmp_path / "parts.h5")
    written = (tmp_path / "whole.h5").stat().st_mtime_ns
    assert errors("whole.h5") == errors("parts.h5")
    assert (tmp_path / "whole.h5").stat().st_mtime_ns == written


@pytest.fixture
def study(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "studies"))
    found = import_module("microcircuit_learning")
    monkeypatch.setattr(found, "OUT", tmp_path)
    return found


@pytest.mark.long
@pytest.mark.seldom
@pytest.mark.usefixtures("optimized")
def test_digits_are_learned_by_local_rules_in_every_seed(study, tmp_path):
    """Over five seeds: none collapses, within a point of backprop, far above a frozen layer."""
    errors = {}
    for variant in ("local", "backprop", "frozen"):
        name, changes = study.VARIANTS[variant]
        found = study.run(name, changes, 5, tmp_path / f"{variant}.h5")
        errors[variant] = 100 * np.array(found, dtype=float)
    assert (errors["local"] < 4).all()
    assert errors["local"].mean() <= errors["backprop"].mean() + 1
    assert errors["local"].mean() < 0.5 * errors["frozen"].mean()


@pytest.mark.long
@pytest.mark.seldom
def test_spikes_are_from_rates_as_one_over_the_root_of_N_T(study):
    """Of five weight sets, over sixteen times the neurons, and as many for a fourth of the time.

    A root mean square over 8 samples of 28 units scatters by 1/sqrt(2·224) = 4.7 %, and a slope
    over a factor of sixteen by 0.024: bounds are four times that, and of the mean over weight sets
    twice that, as the curvature of softplus adds 0.012 at 10 neurons.
    """
    few, many = (np.array(study.scatter(n, 0.8, 5, "numpy")) for n in (10, 160))
    slopes = np.log(many / few) / np.log(16)
    assert (np.abs(slopes + 0.5) < 0.1).all() and abs(slopes.mean() + 0.5) < 0.05
    shorter = np.array(study.scatter(40, 0.2, 5, "numpy"))
    np.testing.assert_allclose((shorter / few).mean(), 1, rtol=0.1)
