"""What must not change a number: batch-mates, recording, chunking, seeds in an array; and how fast
solvers approach the exact solution of a linear network."""

from importlib import import_module

import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from chains import circuit, forward, layers
from tiny_networks import DYNAMICS, STEP, network, present, samples, weights

import neurosim as ns
from neurosim.building import assembly
from neurosim.building.loading import load_protocol
from neurosim.learning.engine import Engine
from neurosim.levels.equilibrium import Equilibrium
from neurosim.levels.rate import Rate
from neurosim.levels.settling import Problem, Span
from neurosim.networks.dynamics import Target, rest
from neurosim.networks.network import Weights
from neurosim.runs.instants import phase_times

# How a phase is gone through: (level, its length in s, whether it stops once settled).
WAYS = {
    "fixed": (Rate("heun", 0.002, False, 1e-6, 1e-9, 1e-3), 0.06, False),
    "adaptive": (Rate("tsit5", 0.002, True, 1e-8, 1e-10, 1e-3), 0.06, False),
    "settled": (Rate("heun", 0.002, False, 1e-6, 1e-9, 1e-6), 1.5, True),
    "noisy": (Rate("heun", 0.002, False, 1e-6, 1e-9, 1e-3), 0.06, False),
    "equilibrium": (Equilibrium(1e-9, 400, 8), 0.0, False),
}
CASES = [
    ("mixture", "linear", "equilibrium"),
    ("mixture", "leaky", "fixed"),
    ("dendrites", "tanh", "adaptive"),
    ("dendrites", "tanh", "settled"),
    ("dendrites", "tanh", "noisy"),
    ("multiplexing", "leaky", "settled"),
    ("feedforward", "tanh", "adaptive"),
]
# Sums of products in another order: some ten units, of order one, over some hundred contracting
# steps. Of an adaptive solve the step sizes feel it too, and an error of 1e-8 is theirs to move.
ROUNDING = {"adaptive": 1e-10}


@pytest.fixture(autouse=True, scope="module")
def double_precision():
    with jax.enable_x64(True):
        yield


def ways(family: str, activation: str, way: str):
    level, duration, stop = WAYS[way]
    noise = {}
    if way == "noisy":
        states = DYNAMICS[family]().circuit.moving
        noise = dict.fromkeys((name for _, name in states), 0.1)
    return (level, DYNAMICS[family](noise=noise), network(activation)), (duration, stop)


def grid(way: str, until: float = 1.0):
    """Fifteen moments up to a fraction of the phase; between fixed steps there are none.

    An array for adaptive steps, so that all such moments make the same program.
    """
    level, duration, _ = WAYS[way]
    if way == "equilibrium":
        return (0.0,)
    times = until * duration * np.arange(1, 16) / 15
    if level.adaptive:
        return jnp.asarray(times)
    return tuple((level.dt * np.rint(times / level.dt)).tolist())


def rows(tree, index):
    return jax.tree.map(lambda a: a[index], tree)


def largest_difference(one, other) -> float:
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return max(float(jnp.max(jnp.abs(a * 1.0 - b))) for a, b in pairs)


# ------------------------------------------------------------------------------------ the batch


OFTEN = {("mixture", "linear", "equilibrium"), ("multiplexing", "leaky", "settled")}
"""Cases that the usual tests look at."""

SELDOM = [pytest.mark.long, pytest.mark.seldom]


@pytest.mark.parametrize(
    ("family", "activation", "way"),
    [pytest.param(*c, marks=[] if c in OFTEN else SELDOM) for c in CASES],
)
def test_a_sample_feels_neither_its_batch_nor_who_watches(family, activation, way):
    """Trajectory, final state and report of a sample.

    In another place of the batch, and alone and unwatched: to rounding. Watched at other moments:
    bitwise.
    """
    model, how = ways(family, activation, way)
    x, y = samples()
    ids, times = jnp.arange(6), grid(way)
    tolerance = ROUNDING.get(way, 1e-12)
    state, report, seen = present(*model, x, y, ids, *how, times)
    assert largest_difference(rows(state, 0), rows(state, 1)) > 1e-2  # samples do differ
    # Dense output ends where the solver does, to the rounding of its polynomial.
    assert largest_difference(rows(seen, (slice(None), -1)), state) < 1e-12

    order = np.array([3, 0, 5, 1, 4, 2])
    shuffled = present(*model, x[order], y[order], ids[order], *how, times)
    assert largest_difference(rows((state, report, seen), order), shuffled) < tolerance

    alone, its_report, nothing = present(*model, x[2:3], y[2:3], ids[2:3], *how)
    assert largest_difference(rows((state, report), slice(2, 3)), (alone, its_report)) < tolerance
    assert nothing is None

    earlier = present(*model, x, y, ids, *how, grid(way, until=0.7))
    assert largest_difference((state, report), earlier[:2]) == 0
    if way != "equilibrium":
        assert largest_difference(seen, earlier[2]) > 1e-5  # other moments


# -------------------------------------------------------------------------------------- a run

RUN = """
name = "tiny"
level = "rate"
precision = "float64"
batch = 4
[model]
use = "mixture-two-phase"
layers = [4, 4, 3]
output = "linear"
loss = "half-squared"
parameters = { mu = 0.3, tau_soma = "10 ms" }
noise = { soma = 0.01 }
[model.projections.W]
init = "xavier"
gain = 0.5
rate = 0.005
optimizer = "momentum"
[model.projections.Q]
rate = 0.01
optimizer = "adam"
[task]
name = "student-teacher"
layers = [4, 4, 3]
train = 20
test = 8
[[stages]]
name = "training"
epochs = 3
[[stages.phases]]
name = "free"
duration = "100 ms"
until = "duration"
teaching = "none"
plastic = ["feedback"]
[[stages.phases]]
name = "learning"
duration = "100 ms"
until = "duration"
teaching = "frozen"
plastic = ["forward"]
[record]
presentations = 0
[rate]
scheme = "heun"
dt = "2 ms"
"""


@pytest.fixture(scope="module")
def execute(tmp_path_factory):
    """Run the tiny protocol with overrides: (metrics, evaluation, final weights) as arrays."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "tiny.toml").write_text(RUN)

    def run(overrides=None, chunk_seconds=0.5, **arguments):
        path = folder / "trace.h5"
        protocol = load_protocol(folder / "tiny.toml", overrides)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(import_module("neurosim.runs.loop"), "CHUNK_SECONDS", chunk_seconds)
            ns.run(protocol, out=path, force=True, **arguments)
        found = {}
        with h5py.File(path) as file:
            for group in ("metrics", "evaluation", "weights"):
                for name, array in file[group].items():
                    if np.issubdtype(array.dtype, np.floating):
                        found[f"{group}/{name}"] = array[()]
        assert np.isfinite(found["evaluation/loss"]).all()
        return found

    return run


def test_recording_and_chunks_leave_a_run_bitwise_as_it_is(execute):
    """A noisy run with momentum: every metric, evaluation and weight."""
    bare = execute()
    moved = bare["weights/W1"][1] - bare["weights/W1"][0]
    assert np.abs(moved).max() > 1e-2
    assert (bare["metrics/settled"] == 0).all()  # noise keeps every sample from rest, and it shows
    others = {
        "recorded": execute(
            {"record.presentations": [0, 1, 7], "record.every": "4 ms", "record.samples": 1}
        ),
        "one presentation a chunk": execute(chunk_seconds=0.0),
        "one chunk an epoch": execute(chunk_seconds=1e3),
    }
    for how, found in others.items():
        for name, array in bare.items():
            np.testing.assert_array_equal(found[name], array, err_msg=f"{how}: {name}")


def test_an_ensemble_equals_its_seeds_one_at_a_time(execute):
    """Weights to 1e-10 relative after 15 presentations: rounding, which learning carries on.

    Metrics are written in float32. Residuals are left out: noise makes them large and rough.
    """
    together = execute(seeds=[3, 8])
    for place, seed in enumerate([3, 8]):
        alone = execute(seed=seed)
        del alone["metrics/residual"]
        for name, array in alone.items():
            own = np.moveaxis(together[name], 1, 0)[place] if array.ndim else together[name]
            rtol = 1e-10 if name.startswith("weights/") else 1e-5
            atol = rtol * np.nanmax(np.abs(array), initial=0.0)
            np.testing.assert_allclose(own, array, rtol, atol, err_msg=f"seed {seed}: {name}")


def test_the_noise_of_a_sample_follows_it_through_the_batch(tmp_path):
    """Engine level: the trace of sample 7 in another batch, in another place, by its number."""
    (tmp_path / "tiny.toml").write_text(RUN)
    free = {"name": "free", "duration": "40 ms", "until": "duration"}
    spec = load_protocol(tmp_path / "tiny.toml", {"stages.0.phases": [free]}).spec
    engine = assembly.engine(spec, spec.stages[0], 15)
    rng = np.random.default_rng(2)
    data = (jnp.asarray(rng.normal(size=(20, 4))), jnp.asarray(rng.normal(size=(20, 3))))
    W = forward("orthogonal", (4, 4, 3), 0.5, rng)
    start = circuit(Weights(tuple(map(jnp.asarray, W)), (), (jnp.asarray(np.linalg.pinv(W[1])),)))
    states = engine.begin(jax.tree.map(lambda w: w[None], start), 0, 1)
    keys = jax.random.key(0)[None]
    times = phase_times(spec, spec.stages[0].phases)

    def traces(ids):
        number = jnp.array([ids])
        first = jnp.int32(0)
        seen = Engine.examine(engine, states, data, None, number, keys, first, times, len(ids))
        return [
            array[0]
            for phase in seen.traces
            for place in phase.values()
            for array in place.values()
        ]

    for one, other in zip(traces([7, 3, 11]), traces([5, 9, 7]), strict=True):
        assert largest_difference(one[0], other[2]) < 1e-12
        assert largest_difference(one[0], other[1]) > 1e-3
    for one, other in zip(traces([7, 7, 11]), traces([7, 7, 11]), strict=True):
        assert largest_difference(one, other) == 0


@pytest.mark.parametrize(("milliseconds", "adaptive"), [(111, False), (112, True)])
def test_every_length_of_a_phase_can_be_recorded(tmp_path, milliseconds, adaptive):
    """k · (duration/50) may round to more than the duration: no time may lie after the end."""
    (tmp_path / "tiny.toml").write_text(RUN)
    changes = {f"stages.0.phases.{k}.duration": f"{milliseconds} ms" for k in (0, 1)}
    changes |= {"rate.dt": "1 ms", "rate.adaptive": adaptive, "model.noise.soma": 0.0}
    changes |= {"model.parameters.tau_soma": "2 ms"}
    spec = load_protocol(tmp_path / "tiny.toml", changes).spec
    times = phase_times(spec, spec.stages[0].phases)[0]
    level, dynamics = assembly.level(spec), assembly.dynamics(spec.model)
    net, own = (
        assembly.network(spec.model),
        {"W": (jnp.eye(4), jnp.eye(3, 4)), "Q": (jnp.eye(4, 3),)},
    )
    drive = dynamics.drive(net, own, jnp.ones(4), Target("none"))
    problem = Problem(dynamics, net, own, drive, STEP, jnp.ones(3))
    start = rest(dynamics, problem.network, jnp.float64)
    span = Span(spec.stages[0].phases[0].duration, False, None, (times, lambda _, state: state))
    state, _, seen = jax.jit(lambda v: level.settle(problem, v, span))(start)
    assert largest_difference(rows(seen, -1), state) < 1e-12


# -------------------------------------------------------------------------------- the residual


def s(activation, a):
    return {"linear": a, "leaky": np.where(a > 0, a, 0.35 * a), "tanh": np.tanh(a)}[activation]


def s_inverse(activation, h):
    if activation == "tanh":
        return np.arctanh(h)
    return h if activation == "linear" else np.where(h > 0, h, h / 0.35)


def residual_by_hand(family, activation, state, x, y):
    """Largest rms residual of a layer over its expected signal, from the equations in the book."""
    W, _, Q = weights()
    depth = len(W)
    names = {key.partition(".")[2] for key in state}
    v = {name: [None, *map(np.asarray, layers(state, name))] for name in names}
    kinds = [None, *[activation] * (depth - 1), "linear"]
    pulls = {}
    if family == "dendrites":
        h = [x, *v["soma"][1:]]
        target = h[depth] - STEP * (h[depth] - y)
        for i in range(1, depth + 1):
            pulls["basal", i] = W[i - 1] @ h[i - 1]
            if i < depth:
                pulls["apical", i] = Q[i - 1] @ s_inverse(kinds[i + 1], h[i + 1])
            g = target if i == depth else v["apical"][i]
            pulls["soma", i] = 0.8 * s(kinds[i], v["basal"][i]) + 0.2 * g
    else:
        h = [x] + [s(kinds[i], v["basal"][i]) for i in range(1, depth + 1)]
        target = h[depth] - STEP * (h[depth] - y)
        for i in range(1, depth + 1):
            pulls["basal", i] = W[i - 1] @ h[i - 1]
            if i < depth:
                burst = target if i + 1 == depth else v["apical"][i + 1]
                pulls["apical", i] = Q[i - 1] @ s_inverse(kinds[i + 1], burst)
    error = max(np.sqrt(np.mean((h[depth] - y) ** 2)), 1e-2)
    ratio = 0.25 if family == "dendrites" else 1.0  # μ/(1−μ)
    return max(
        np.sqrt(np.mean((p - v[name][i]) ** 2)) / (STEP * error * ratio ** (depth + 1 - i))
        for (name, i), p in pulls.items()
    )


@pytest.mark.parametrize("way", ["settled", "fixed"])
@pytest.mark.parametrize(
    ("family", "activation"), [("dendrites", "tanh"), ("multiplexing", "leaky")]
)
def test_settling_is_judged_by_the_vector_field_of_every_sample(family, activation, way):
    """Reported residuals equal those by hand; a phase cut short is reported unsettled.

    The tolerance is 1e-6 of the signal; residuals of 1e-6 by 1e-3 of order-one states carry
    rounding of 1e-16/1e-9.
    """
    model, how = ways(family, activation, way)
    x, y = samples()
    ids = jnp.arange(6)
    state, report, _ = present(*model, x, y, ids, *how, grid(way))
    level, duration = model[0], how[0]
    for k in range(6):
        expected = residual_by_hand(
            family, activation, rows(state, k), np.asarray(x[k]), np.asarray(y[k])
        )
        assert float(report.residual[k]) == pytest.approx(expected, rel=1e-5)
        assert bool(report.settled[k]) == (expected <= level.tolerance)
    if way == "settled":
        assert report.settled.all()
        assert (report.stopped < duration).all()
        assert len(set(report.stopped.tolist())) > 1  # each sample stops by itself
    else:
        assert not report.settled.any()
        np.testing.assert_allclose(report.stopped, duration)
