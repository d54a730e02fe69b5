"""Fixed steps that are cut as a run goes on: when they are, what comes out, and what it hangs on.

The tiny protocol's neurons have τ = 20 ms and modes of λτ = −1 ± …; steps of 40 ms amplify them,
steps of 20 ms do not.
"""

from importlib import import_module

import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from chains import FEEDFORWARD, circuit, dynamics, forward
from tiny_runs import TINY, same

import neurosim as ns
from neurosim.functions.activations import Linear, Tanh
from neurosim.functions.losses import Loss
from neurosim.levels.rate import Rate
from neurosim.levels.schemes import SCHEMES
from neurosim.levels.settling import Problem, Span
from neurosim.levels.stability import MARGIN, amplification, too_long
from neurosim.networks.dynamics import Target, rest
from neurosim.networks.network import Network, Weights

pytestmark = pytest.mark.filterwarnings("ignore::neurosim.errors.NeurosimWarning")

LONG = {"rate.dt": "40 ms"}


@pytest.fixture(autouse=True, scope="module")
def double_precision():
    with jax.enable_x64(True):
        yield


@pytest.fixture
def run(tmp_path):
    (tmp_path / "tiny.toml").write_text(TINY)

    def go(name="tiny.h5", changes=LONG, **arguments):
        protocol = ns.load_protocol(tmp_path / "tiny.toml", changes)
        return ns.run(protocol, out=tmp_path / name, force=True, **arguments)

    return go


# ------------------------------------------------------------------------------ when they are cut


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_mode_of_a_motion_is_told_from_two_velocities(scheme):
    """Planes that turn and decay, or grow: the verdict against the stability function itself.

    None of the modes is nearer than 1e-3 to the bound.
    """
    grid = [a + 1j * b for a in (-4.1, -2.3, -1.7, -1.5, -0.9, -0.03, 0.4) for b in (0, 0.45, 1.3)]
    verdicts = []
    for z in grid:
        turn = np.array([[z.real, -z.imag], [z.imag, z.real]])
        first = turn @ np.array([0.3, -1.2])
        moves = jnp.asarray([first, first + turn @ first])
        free, verdict = too_long(scheme, jnp.array([0.3, -1.2]), moves)
        size = abs(amplification(scheme, np.array([MARGIN * z]))[0])
        assert abs(size - 1) > 1e-3
        assert bool(free) and bool(verdict) == bool(z.real < 0 and size > 1)
        verdicts.append(bool(verdict))
    assert any(verdicts) != SCHEMES[scheme].implicit  # which amplify nothing that decays


def test_what_rounding_moves_tells_nothing():
    state, noise = jnp.ones(5), 1e-15 * jnp.array([[1.0, -1, 2, 0, 1], [-9.0, 9, 3, 1, -8]])
    assert not too_long("heun", state, noise)[1] and too_long("heun", state, 1e6 * noise)[1]
    assert not too_long("heun", state, noise * jnp.nan)[0]


# ----------------------------------------------------------------------------- what comes out then


SIZES, TAU = (3, 4, 2), 0.02


def settle(level, activation, x, duration, noise=None, gain=1.0):
    """A phase of a feedforward network for a batch x, from rest: state, report."""
    rng = np.random.default_rng(0)
    W = tuple(jnp.asarray(gain * w) for w in forward("orthogonal", SIZES, 1.0, rng))
    own, target = circuit(Weights(W, (), ())), jnp.zeros(SIZES[-1])
    moving = dynamics(FEEDFORWARD, SIZES, tau_basal=TAU, **({"noise": noise} if noise else {}))
    network = Network(SIZES, (activation, Linear()), "inverse", Loss("half-squared", "linear"))

    @jax.jit
    def go(x):
        def one(x, sample):
            drive = moving.drive(network, own, x, Target("none"))
            key = jax.random.fold_in(jax.random.key(1), sample) if noise else None
            problem = Problem(moving, network, own, drive, 0.1, target)
            start = rest(moving, network, x.dtype)
            return level.settle(problem, start, Span(duration, False, key))[:2]

        return jax.vmap(one)(x, jnp.arange(len(x)))

    return go(x)


@pytest.mark.parametrize(("scheme", "dt", "parts"), [("heun", 0.05, 2), ("euler", 0.1, 4)])
def test_a_phase_is_gone_through_as_by_the_shorter_step(scheme, dt, parts):
    """Bit for bit: powers of two scale without rounding."""
    x = jnp.asarray(np.random.default_rng(3).standard_normal((2, 3)))
    found, report = settle(Rate(scheme, dt, False, 1e-6, 1e-9, 1e-6), Tanh(), x, 0.2)
    shorter = Rate(scheme, dt / parts, False, 1e-6, 1e-9, 1e-6)
    wanted, other = settle(shorter, Tanh(), x, 0.2)
    assert (report.parts == parts).all() and (other.parts == 1).all()
    np.testing.assert_array_equal(report.effort, other.effort)
    for one, same_one in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_array_equal(one, same_one)


def test_every_sample_has_its_own_steps():
    """Saturated cells are slow to be pushed further: one sample at rest already, one that moves."""
    x = jnp.asarray([[0.0, 0.0, 0.0], [1.0, -2.0, 0.5]])
    _, report = settle(Rate("heun", 0.05, False, 1e-6, 1e-9, 1e-6), Linear(), x, 0.2)
    np.testing.assert_array_equal(report.parts, [1, 2])


def test_noise_has_its_deviation_at_the_steps_that_are_taken():
    """Of a compartment alone, after steps of 10 τ that left the numbers and were cut to 1.25 τ.

    500 samples of 4 units: a standard error of 1.6 % of the deviation; four of them. In float32,
    whose numbers end after 24 such steps.
    """
    level = Rate("heun", 10 * TAU, False, 1e-6, 1e-9, 1e-3)
    with jax.enable_x64(False):
        x, noise = jnp.zeros((500, 3)), {"basal": 0.3}
        state, report = settle(level, Linear(), x, 40 * 10 * TAU, noise, gain=0.0)
    assert (report.parts == 8).all()
    deviation = float(jnp.std(jax.tree.leaves(state)[0]))
    assert deviation == pytest.approx(0.3, rel=0.064)


# ------------------------------------------------------------------------------------ whole runs


def test_it_hangs_on_nothing_but_the_presentation(run, tmp_path, monkeypatch):
    """Chunks, records, a stop and a resumption leave no mark; another seed beside one no more."""
    loop = import_module("neurosim.runs.loop")
    monkeypatch.setattr(loop, "CHUNK_SECONDS", 1e3)
    whole = run("whole.h5", seeds=[0, 1])
    assert whole.shortened == {"presentations": 10, "first": 0, "step": 0.02}
    assert "cut in 10 of 10 presentations, from number 0 on, down to 20 ms" in whole._repr_html_()
    monkeypatch.setattr(loop, "CHUNK_SECONDS", 0.0)

    def stop(progress):
        if progress.done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run("parts.h5", seeds=[0, 1], progress=stop)
    parts = ns.resume(tmp_path / "parts.h5")
    same(whole.path, parts.path)
    assert parts.shortened == whole.shortened == ns.inspect(parts.path)["shortened"]
    with h5py.File(whole.path) as file:
        step, settled = file["metrics/step"][()], file["metrics/settled"][()]
        weights = {name: file["weights"][name][1] for name in ("W1", "W2", "Q1")}
    assert set(np.unique(step)) == {20.0} and np.isfinite(settled).all()
    run("unrecorded.h5", LONG | {"record.presentations": 0}, seeds=[0, 1])
    with h5py.File(tmp_path / "unrecorded.h5") as file:
        for name, array in weights.items():
            np.testing.assert_array_equal(file["weights"][name][1], array)


@pytest.mark.long
@pytest.mark.parametrize(
    "plasticity", ["quasi-static", pytest.param("online", marks=pytest.mark.seldom)]
)
def test_a_run_whose_steps_are_all_cut_is_that_of_the_shorter_step(run, tmp_path, plasticity):
    """Also where weights flow; and what is seen in detail is seen at the same times."""
    changes = {"record.every": "40 ms", "plasticity": plasticity}
    if plasticity == "online":
        changes |= {
            "model.tau_memory": "50 ms",
            "model.projections.W.rate": "0.1 Hz",
            "model.projections.Q": {"init": "inv(W[i+1])", "rule": "tied"},
            "stages.0.phases.0.plastic": [],
        }
    cut = run("cut.h5", changes | LONG)
    assert cut.shortened["presentations"] == 10 and cut.shortened["step"] == 0.02
    short = run("short.h5", changes | {"rate.dt": "20 ms"})
    assert short.shortened == {}
    with h5py.File(cut.path) as one, h5py.File(short.path) as other:
        for name in ("weights/W1", "weights/W2", "traces/layer1/soma", "metrics/step"):
            np.testing.assert_allclose(one[name], other[name], rtol=1e-9, atol=1e-12)


def test_what_no_step_helps_is_left_as_it_was(run):
    """A network that oscillates by itself, within bounds, is no matter of its steps."""
    turning = {
        "model.activation": "tanh",
        "model.projections.Q": {"init": "normal", "gain": 8.0},
        "stages.0.phases.0.plastic": [],
        "stages.0.presentations": 1,
        "record.presentations": 0,
    }
    done = run(changes=turning)
    assert done.shortened == {} and done.diverged == [] and done.settled["free"] < 1


MINE = """
name = "mine"
precision = "float64"
batch = 50
[model]
use = "mixture-two-phase"
layers = [64, 32, 32, 10]
parameters.mu = 0.08
projections.W.rate = 5.0
[task]
name = "digits"
split_seed = 0
[[stages]]
name = "training"
epochs = 2
[[stages.phases]]
name = "free"
duration = "800 ms"
plastic = ["feedback"]
[[stages.phases]]
name = "learning"
duration = "800 ms"
teaching = "frozen"
plastic = ["forward"]
[record]
presentations = 0
[rate]
dt = "10 ms"
"""
"""The README's protocol, faster; its modes would have it diverge at steps of 25 ms."""


@pytest.mark.long
@pytest.mark.parametrize(("dt", "step"), [("10 ms", None), ("25 ms", 0.0125), ("40 ms", 0.02)])
def test_digits_are_learned_whatever_the_step(tmp_path, dt, step):
    (tmp_path / "mine.toml").write_text(MINE)
    protocol = ns.load_protocol(tmp_path / "mine.toml", {"rate.dt": dt})
    done = ns.run(protocol, seeds=range(3), out=tmp_path / "mine.h5")
    assert done.diverged == [] and max(done.metrics["test_error"]) < 0.08  # chance is 90 %
    assert done.shortened.get("step") == step
